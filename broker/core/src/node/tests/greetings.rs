//! Greetings judged by a record: as what somebody is let in, and on which link it is heard.

use super::*;

#[test]
fn greetings_of_members_do_not_make_an_empty_directory_a_founder() {
    let founded = founded_trio();
    let mut wiped = Node::new(NodeSettings { founding_id: [99; 16], ..settings(3, &[1, 2, 3]) });
    for id in [1, 2] {
        let hello = founded.nodes[&NodeId::new(id)].hello_to(NodeId::new(3));
        let told = [NodeInput::Hello { link: id, hello }];
        let effects: Vec<_> = wiped.step(at(10_000), told.into_iter()).collect();
        let founds = |effect: &NodeEffect| matches!(effect, NodeEffect::Found { .. });
        assert!(!effects.iter().any(founds), "it may not be on their record");
    }
    assert!(!wiped.is_founded());
}

/// Node 1 of three, as its record says who the others are: node 3 by this directory.
fn with_on_record(directory: [u8; 16]) -> Node {
    let member = |id: u64| Founder {
        node: NodeId::new(id),
        founding_id: if id == 3 { directory } else { [u8::try_from(id).unwrap(); 16] },
        peers_address: format!("node{id}:9644").into(),
    };
    let members = (1..=3).map(member).collect();
    Node::new(NodeSettings { members, is_founder: true, ..settings(1, &[1, 2, 3]) })
}

#[test]
fn a_node_that_has_nothing_yet_learns_its_cluster_from_who_is_on_its_record() {
    let mut node = with_on_record([3; 16]);
    let of_cluster = |hello: Hello| Hello {
        is_founded: true,
        cluster_id: Some([1; 16]),
        metadata_index: LogIndex::new(50),
        ..hello
    };
    let is_welcome = |node: &mut Node, from: NodeSettings| {
        let start = PeerBoot { directory: from.founding_id, boot: from.boot };
        let noted = NodeInput::PeerNoted { node: from.node_id, start };
        let hello = of_cluster(Node::new(from).hello_to(NodeId::new(1)));
        let inputs = [NodeInput::Hello { link: 1, hello }, noted];
        let is_welcome = |effect: NodeEffect| {
            matches!(effect, NodeEffect::Answer { answer: HelloAnswer::Welcome(_), .. })
        };
        node.step(at(1), inputs.into_iter()).any(is_welcome)
    };
    let replaced = NodeSettings { founding_id: [33; 16], ..settings(3, &[1, 2, 3]) };
    assert!(!is_welcome(&mut node, replaced.clone()), "of what cluster is it?");
    assert!(is_welcome(&mut node, settings(2, &[1, 2, 3])));
    assert!(is_welcome(&mut node, replaced), "it is of this cluster, and knows more of it");
}

#[test]
fn who_has_joined_and_has_nothing_yet_lets_nobody_in_as_a_founder() {
    let three =
        NodeSettings { boot: BootEpoch { epoch: 2, start_id: 3 }, ..settings(3, &[1, 2, 3]) };
    let start = PeerBoot { directory: three.founding_id, boot: three.boot };
    let noted = || NodeInput::PeerNoted { node: three.node_id, start };
    let answer = |node: &mut Node| {
        let hello = Node::new(three.clone()).hello_to(NodeId::new(1));
        let inputs = [NodeInput::Hello { link: 1, hello }, noted()];
        let answer = |effect: NodeEffect| match effect {
            NodeEffect::Answer { answer: HelloAnswer::Welcome(welcome), .. } => {
                Ok(welcome.replica_id)
            }
            NodeEffect::Answer { answer: HelloAnswer::Refused(refusal), .. } => Err(refusal.reason),
            _ => Err(RefusalReason::Other(0)),
        };
        let effects: Vec<_> = node.step(at(1), inputs.into_iter()).collect();
        let is_answer = |effect: &NodeEffect| matches!(effect, NodeEffect::Answer { .. });
        answer(effects.into_iter().find(is_answer).expect("it is answered"))
    };
    let mut founder = with_on_record([3; 16]);
    assert_eq!(answer(&mut founder), Ok(None), "its start ended inside of the founding");
    let mut joined = Node { is_founder: false, ..with_on_record([3; 16]) };
    assert_eq!(answer(&mut joined), Err(RefusalReason::NotReady));
}

/// Node 3 greets, with this directory, and has applied the metadata so far. Returns what became of
/// links that were open, and whether it is welcome.
fn greet(node: &mut Node, link: u64, directory: [u8; 16], metadata_index: u64) -> (Vec<u64>, bool) {
    let three = NodeId::new(3);
    let boot = BootEpoch { epoch: 1, start_id: u64::from(directory[0]) };
    let greeting =
        Node::new(NodeSettings { founding_id: directory, boot, ..settings(3, &[1, 2, 3]) });
    let metadata_index = LogIndex::new(metadata_index);
    let cluster_id = node.cluster_id.map(|id| id.0);
    let hello = greeting.hello_to(NodeId::new(1));
    let hello = Hello { is_founded: true, metadata_index, cluster_id, ..hello };
    let start = PeerBoot { directory, boot };
    let inputs = [NodeInput::Hello { link, hello }, NodeInput::PeerNoted { node: three, start }];
    let effects: Vec<_> = node.step(at(1), inputs.into_iter()).collect();
    let is_welcome = |effect: &NodeEffect| {
        matches!(effect, NodeEffect::Answer { answer: HelloAnswer::Welcome(_), .. })
    };
    (closed(&effects), effects.iter().any(is_welcome))
}

fn closed(effects: &[NodeEffect]) -> Vec<u64> {
    let link = |effect: &NodeEffect| match effect {
        NodeEffect::Close { link } => Some(*link),
        _ => None,
    };
    effects.iter().filter_map(link).collect()
}

#[test]
fn a_peer_is_heard_on_the_link_that_was_welcomed_last() {
    let (three, old, new) = (NodeId::new(3), [3; 16], [33; 16]);
    let mut node = with_on_record(old);
    node.cluster_id = Some(ClusterId([1; 16]));
    assert_eq!(greet(&mut node, 1, new, 50), (vec![], true), "it knows more of this cluster");
    assert!(node.hears(three, 1));
    // A greeting was on its way for long, or an old copy still runs: the record has not changed.
    assert_eq!(greet(&mut node, 2, old, 0), (vec![1], true));
    assert!(!node.hears(three, 1) && node.hears(three, 2));
    assert_eq!(greet(&mut node, 3, new, 50), (vec![2], true), "it has dialled anew");
    let boot = BootEpoch { epoch: 1, start_id: 33 };
    let sign = Liveness {
        node_id: three,
        boot_epoch: boot.epoch,
        start_id: boot.start_id,
        ..Liveness::default()
    };
    node.step(at(60_000), std::iter::once(NodeInput::Liveness(sign))).for_each(drop);
    assert!(node.lives(three));
}

#[test]
fn whoever_has_given_way_by_the_record_is_parted_with() {
    let world = World::founded(3);
    let metadata = Arc::new(world.metadata().clone());
    let applied = metadata.applied().get();
    let (three, former, ahead) = (NodeId::new(3), [77; 16], [78; 16]);
    let learn = |node: &mut Node| {
        let inputs = [NodeInput::Metadata(Arc::clone(&metadata))];
        node.step(at(2), inputs.into_iter()).collect::<Vec<_>>()
    };
    let mut node = with_on_record(former);
    node.cluster_id = metadata.founding().map(|founding| founding.cluster_id);
    node.step(at(0), std::iter::empty()).for_each(drop);
    let boot = BootEpoch { epoch: 1, start_id: 77 };
    assert_eq!(greet(&mut node, 1, former, 1), (vec![], true));
    let welcome = Welcome {
        node_id: three,
        founding_id: former,
        boot_epoch: boot.epoch,
        start_id: boot.start_id,
        is_founded: true,
        ..Welcome::default()
    };
    node.step(at(1), std::iter::once(NodeInput::Welcomed { node: three, welcome })).for_each(drop);
    let effects = learn(&mut node);
    assert_eq!(closed(&effects), [1]);
    assert!(effects.contains(&NodeEffect::HangUp { node: three }), "nor is anything sent to it");
    assert!(!node.hears(three, 1));
    assert_eq!(greet(&mut node, 2, former, 1), (vec![], false), "it is judged by the record");

    let mut node = with_on_record(ahead);
    node.cluster_id = metadata.founding().map(|founding| founding.cluster_id);
    assert_eq!(greet(&mut node, 1, ahead, applied + 1), (vec![], true));
    assert_eq!(closed(&learn(&mut node)), [], "whoever knows more may be on a later record");
}
