//! Nodes that meet, over a network that delivers what is sent when a story says so.

mod forwarding;
mod greetings;

use super::*;
use crate::controller::tests::{World, by_name, topic};
use crate::controller::{
    BootEpoch, CreateTopics, MembershipRequest, MembershipResponse, NodeError,
};
use bateau_protocol::ids::Term;
use bateau_protocol::peer::{Leadership, Leaderships, RefusalReason};

fn at(ms: u64) -> Now {
    Now { monotonic_ms: ms, service_ms: ms, wall_ms: ms }
}

fn voters(ids: &[u64]) -> Vec<Voter> {
    let voter = |id: &u64| Voter { node: NodeId::new(*id), address: format!("host{id}:1").into() };
    ids.iter().map(voter).collect()
}

fn settings(id: u64, ids: &[u64]) -> NodeSettings {
    NodeSettings {
        node_id: NodeId::new(id),
        founding_id: [u8::try_from(id).unwrap(); 16],
        former_founding_id: None,
        boot: BootEpoch { epoch: 1, start_id: id },
        cluster_id: None,
        peer_boots: BTreeMap::new(),
        members: Vec::new(),
        is_founder: false,
        voters: voters(ids),
        peers_address: format!("node{id}:9644").into(),
    }
}

/// Who asks to be let in, what it was and what it is.
fn admission(request: &ControllerRequest) -> Option<(u64, Option<u8>, u8)> {
    let ControllerRequest::Membership { request, .. } = request else { return None };
    let MembershipRequest::Admit { founder, former } = request else { return None };
    Some((founder.node.get(), former.map(|id| id[0]), founder.founding_id[0]))
}

fn is_admission(request: &ControllerRequest) -> bool {
    let ControllerRequest::Membership { request, .. } = request else { return false };
    matches!(request, MembershipRequest::Admit { .. })
}

/// Nodes that run, and what became of them.
#[derive(Default)]
struct Meeting {
    nodes: BTreeMap<NodeId, Node>,
    now_ms: u64,
    /// Who stored which founders, in this order.
    founded: Vec<(u64, Vec<Founder>)>,
    /// Who joined as which replica, and whom it stored.
    joined: Vec<(u64, u64, Vec<Founder>)>,
    stopped: Vec<(u64, StartRefusal)>,
    /// Whose start who has stored.
    noted: BTreeMap<(NodeId, NodeId), PeerBoot>,
    lost: Vec<(u64, u64)>,
    /// Who hears that these replicas of whom have stopped.
    peer_stopped: Vec<(u64, u64, Vec<u64>)>,
    /// Requests on their way: from whom, to whom, their number.
    asked: Vec<(u64, u64, u64)>,
    replies: Vec<(u64, Result<ControllerResponse, ControllerError>)>,
    /// Links that were dialled: who dialled, and the hello.
    dialled: Vec<(NodeId, NodeId, Hello)>,
    signs: Vec<(NodeId, Liveness)>,
    announced: Vec<(NodeId, NodeId, Leaderships)>,
    /// Who says that whom leads what in which term.
    elsewhere: BTreeMap<(u64, u64), Option<(u64, u64)>>,
    /// Who was told that these give way.
    giving_way: Vec<(u64, Vec<u64>)>,
    /// Whom the controller was asked to take back, with what it was and is.
    former: Vec<(u64, Option<u8>, u8)>,
    /// Who waits for the answer to its hello.
    answering: Option<NodeId>,
}

impl Meeting {
    fn of(ids: &[u64]) -> Self {
        let mut meeting = Self::default();
        for id in ids {
            meeting.join(settings(*id, ids));
        }
        meeting
    }

    fn is_led_by(&mut self, id: u64) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.tell(node, NodeInput::Controller(Some(NodeId::new(id))));
        }
    }

    /// Node 2 hears who leads the metadata.
    fn controller(&mut self, node: Option<u64>) {
        self.tell(NodeId::new(2), NodeInput::Controller(node.map(NodeId::new)));
    }

    fn join(&mut self, settings: NodeSettings) {
        self.nodes.insert(settings.node_id, Node::new(settings));
    }

    fn tell(&mut self, id: NodeId, input: NodeInput) {
        self.step(id, vec![input]);
    }

    fn step(&mut self, id: NodeId, inputs: Vec<NodeInput>) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let effects: Vec<_> = node.step(at(self.now_ms), inputs.into_iter()).collect();
        for effect in effects {
            match effect {
                NodeEffect::Dial { node, hello, .. } => self.dialled.push((id, node, *hello)),
                NodeEffect::Found { founders } => {
                    self.founded.push((id.get(), founders));
                    self.tell(id, NodeInput::Founded);
                }
                NodeEffect::NotePeer { node, start } => {
                    self.noted.insert((id, node), start);
                    self.tell(id, NodeInput::PeerNoted { node, start });
                }
                NodeEffect::Join { members, replica_id, .. } => {
                    self.joined.push((id.get(), replica_id.get(), members));
                    self.tell(id, NodeInput::Founded);
                }
                NodeEffect::Lives(_) => {}
                NodeEffect::GiveWay(nodes) => {
                    let nodes = nodes.iter().map(|node| node.get()).collect();
                    self.giving_way.push((id.get(), nodes));
                }
                NodeEffect::Stop(refusal) => {
                    self.stopped.push((id.get(), refusal));
                    self.nodes.remove(&id);
                }
                NodeEffect::Answer { answer, .. } => self.answer(id, answer),
                NodeEffect::Send { node, liveness } => self.signs.push((node, liveness)),
                NodeEffect::Lost { node } => self.lost.push((id.get(), node.get())),
                NodeEffect::Decide { number, request }
                | NodeEffect::Request { number, request, .. }
                    if is_admission(&request) =>
                {
                    self.former.extend(admission(&request));
                    let not_let_in = NodeError::NotPermitted { node: NodeId::ZERO };
                    let response = MembershipResponse::Admitted(Err(not_let_in));
                    let response = Ok(ControllerResponse::Membership(response));
                    self.tell(id, NodeInput::Answered { number, response });
                }
                NodeEffect::Decide { number, .. } => self.asked.push((id.get(), id.get(), number)),
                NodeEffect::Request { node, number, .. } => {
                    self.asked.push((id.get(), node.get(), number));
                }
                NodeEffect::Reply { ticket, response } => self.replies.push((ticket.0, response)),
                NodeEffect::Announce { node, leaderships } => {
                    self.announced.push((id, node, leaderships));
                }
                NodeEffect::LeaderElsewhere { incarnation, leader } => {
                    let leader = leader.map(|(node, term)| (node.get(), term.get()));
                    self.elsewhere.insert((id.get(), incarnation.get()), leader);
                }
                NodeEffect::PeerStopped { node, stopped } => {
                    let stopped = stopped.iter().map(|replica| replica.get()).collect();
                    self.peer_stopped.push((id.get(), node.get(), stopped));
                }
                NodeEffect::HangUp { .. } | NodeEffect::Close { .. } => {}
            }
        }
    }

    /// The answer goes to whoever is being let in: the last one that dialled `by`.
    fn answer(&mut self, by: NodeId, answer: HelloAnswer) {
        let dialler = self.answering.take().expect("somebody has dialled");
        let input = match answer {
            HelloAnswer::Welcome(welcome) => NodeInput::Welcomed { node: by, welcome },
            HelloAnswer::Refused(refusal) => NodeInput::Refused { node: by, refusal },
        };
        self.tell(dialler, input);
    }

    /// Delivers every hello and sign of life among those that run; hellos to others fail.
    fn settle(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.step(id, Vec::new());
        }
        while let Some((from, to, hello)) = self.dialled.pop() {
            if self.nodes.contains_key(&to) {
                self.answering = Some(from);
                self.tell(to, NodeInput::Hello { link: 1, hello });
            } else {
                self.tell(from, NodeInput::LinkDown { node: to });
            }
        }
        for (to, sign) in std::mem::take(&mut self.signs) {
            self.tell(to, NodeInput::Liveness(sign));
        }
        for (from, to, leaderships) in std::mem::take(&mut self.announced) {
            self.tell(to, NodeInput::Leaderships { node: from, leaderships });
        }
    }

    fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while self.now_ms < end_ms {
            self.now_ms += 50;
            self.settle();
        }
    }
}

fn founding_ids(founders: &[Founder]) -> Vec<(u64, u8)> {
    founders.iter().map(|founder| (founder.node.get(), founder.founding_id[0])).collect()
}

#[test]
fn a_lone_voter_founds_at_once() {
    let mut meeting = Meeting::of(&[7]);
    meeting.settle();
    assert_eq!(meeting.founded.len(), 1);
    assert!(meeting.nodes[&NodeId::new(7)].is_founded());
}

#[test]
fn nobody_founds_before_all_voters_have_met() {
    let mut meeting = Meeting::default();
    meeting.join(settings(3, &[1, 2, 3]));
    meeting.pass(5_000);
    meeting.join(settings(1, &[1, 2, 3]));
    meeting.pass(5_000);
    assert_eq!(meeting.founded, []);
    meeting.join(settings(2, &[3, 2, 1]));
    meeting.pass(2_000);
    let mut founded = meeting.founded;
    founded.sort_unstable_by_key(|(id, _)| *id);
    let nodes = [1, 2, 3];
    assert_eq!(founded.iter().map(|(id, _)| *id).collect::<Vec<_>>(), nodes);
    for (_, founders) in &founded {
        let listed: Vec<u64> = founders.iter().map(|founder| founder.node.get()).collect();
        assert_eq!(listed, nodes, "one order, so that all write one first frame");
    }
    assert!(founded.iter().any(|(_, list)| founding_ids(list) == [(1, 1), (2, 2), (3, 3)]));
}

#[test]
fn voters_with_unequal_lists_stop_and_name_both() {
    let mut meeting = Meeting::default();
    meeting.join(settings(1, &[1, 2, 3]));
    meeting.join(settings(2, &[1, 2, 4]));
    meeting.settle();
    let texts: Vec<String> =
        meeting.stopped.iter().map(|(_, refusal)| refusal.to_string()).collect();
    assert!(!texts.is_empty());
    for text in texts {
        assert!(text.contains("1@host1:1, 2@host2:1, 3@host3:1"), "{text}");
        assert!(text.contains("1@host1:1, 2@host2:1, 4@host4:1"), "{text}");
    }
    assert_eq!(meeting.founded, []);
}

fn founded_trio() -> Meeting {
    let mut meeting = Meeting::of(&[1, 2, 3]);
    meeting.pass(1_000);
    assert_eq!(meeting.founded.len(), 3);
    meeting
}

/// The settings of a node that was founded and starts again.
fn started_again(meeting: &Meeting, id: u64, boot_epoch: u64) -> NodeSettings {
    let (_, founders) = meeting.founded.iter().find(|(node, _)| *node == id).unwrap();
    let boot = BootEpoch { epoch: boot_epoch, start_id: 100 * boot_epoch };
    NodeSettings { members: founders.clone(), is_founder: true, boot, ..settings(id, &[1, 2, 3]) }
}

#[test]
fn a_founder_that_has_not_stored_it_joins_when_it_comes_back() {
    let mut meeting = founded_trio();
    meeting.nodes.remove(&NodeId::new(3));
    meeting.founded.retain(|(id, _)| *id != 3);
    meeting.pass(2_000);
    let boot = BootEpoch { epoch: 2, start_id: 33 };
    meeting.join(NodeSettings { boot, ..settings(3, &[1, 2, 3]) });
    meeting.pass(2_000);
    let (_, founders) = meeting.founded.iter().find(|(id, _)| *id == 3).expect("it joins");
    assert_eq!(founding_ids(founders), [(1, 1), (2, 2), (3, 3)], "it knows whom to believe");
    assert_eq!(meeting.stopped, []);
}

#[test]
fn an_empty_directory_does_not_take_a_founders_place() {
    let mut meeting = founded_trio();
    meeting.is_led_by(1);
    meeting.nodes.remove(&NodeId::new(3));
    let wiped = NodeSettings { founding_id: [99; 16], ..settings(3, &[1, 2, 3]) };
    meeting.join(wiped);
    meeting.pass(2_000);
    let (id, refusal) = &meeting.stopped[0];
    assert_eq!(*id, 3);
    assert!(refusal.to_string().contains("bateau node replace 3"), "{refusal}");
}

/// The settings of a node that has lost its votes.
fn without_votes(id: u64) -> NodeSettings {
    let (founding_id, former_founding_id) = ([90; 16], Some([u8::try_from(id).unwrap(); 16]));
    NodeSettings { founding_id, former_founding_id, ..settings(id, &[1, 2, 3]) }
}

#[test]
fn who_has_lost_its_votes_shows_the_controller_what_it_was() {
    let mut meeting = founded_trio();
    meeting.is_led_by(1);
    meeting.nodes.remove(&NodeId::new(3));
    meeting.join(without_votes(3));
    meeting.settle();
    meeting.settle();
    assert_eq!(meeting.former.first(), Some(&(3, Some(3), 90)));
}

#[test]
fn nobody_founds_with_who_has_lost_its_votes() {
    let mut meeting = Meeting::default();
    (1..=3).for_each(|id| meeting.join(without_votes(id)));
    meeting.pass(5_000);
    assert_eq!(meeting.founded, [], "not even all of them together");
    let mut meeting = Meeting::default();
    meeting.join(settings(1, &[1, 2, 3]));
    meeting.join(settings(2, &[1, 2, 3]));
    meeting.join(without_votes(3));
    meeting.pass(5_000);
    assert_eq!(meeting.founded, []);
    assert_eq!(meeting.stopped, [], "they wait: the cluster may come yet");
}

#[test]
fn a_stranger_is_told_how_to_be_let_in() {
    let mut meeting = founded_trio();
    meeting.is_led_by(1);
    meeting.join(settings(4, &[1, 2, 3, 4]));
    meeting.pass(2_000);
    let (id, refusal) = &meeting.stopped[0];
    assert_eq!(*id, 4);
    let text = refusal.to_string();
    assert!(text.contains("bateau node add 4") && text.contains("bateau node replace 4"), "{text}");
    assert_eq!(meeting.nodes.len(), 3, "nobody else is disturbed");
}

#[test]
fn an_old_copy_of_a_disk_is_refused_by_its_boot_epoch() {
    let mut meeting = founded_trio();
    let again = started_again(&meeting, 3, 5);
    meeting.nodes.remove(&NodeId::new(3));
    meeting.join(again);
    meeting.pass(2_000);
    assert_eq!(meeting.stopped, []);
    let copy = started_again(&meeting, 3, 5);
    let boot = BootEpoch { epoch: 5, start_id: 4_711 };
    meeting.nodes.remove(&NodeId::new(3));
    meeting.join(NodeSettings { boot, ..copy });
    meeting.pass(2_000);
    let (id, refusal) = &meeting.stopped[0];
    assert_eq!(*id, 3);
    assert!(refusal.to_string().contains("old copy"), "{refusal}");
}

#[test]
fn an_old_copy_is_refused_by_who_has_started_again_meanwhile() {
    let mut meeting = founded_trio();
    meeting.nodes.remove(&NodeId::new(3));
    meeting.join(started_again(&meeting, 3, 5));
    meeting.pass(2_000);
    meeting.nodes.clear();
    for id in [1, 2] {
        let met = meeting.noted.iter().filter(|((by, _), _)| by.get() == id);
        let peer_boots = met.map(|((_, node), boot)| (*node, *boot)).collect();
        meeting.join(NodeSettings { peer_boots, ..started_again(&meeting, id, 2) });
    }
    meeting.join(started_again(&meeting, 3, 4));
    meeting.pass(2_000);
    let (id, refusal) = &meeting.stopped[0];
    assert_eq!(*id, 3);
    assert!(refusal.to_string().contains("old copy"), "{refusal}");
}

#[test]
fn a_peers_start_is_stored_before_it_is_heard_and_once() {
    let mut meeting = founded_trio();
    let (one, two) = (NodeId::new(1), NodeId::new(2));
    let again = Node::new(started_again(&meeting, 2, 7));
    let hello = again.hello_to(one);
    let node = meeting.nodes.get_mut(&one).unwrap();
    let boot = BootEpoch { epoch: 7, start_id: 700 };
    let greet = |hello: &Hello| NodeInput::Hello { link: 9, hello: hello.clone() };
    let start = PeerBoot { directory: hello.founding_id, boot };
    let note = NodeEffect::NotePeer { node: two, start };
    let effects: Vec<_> = node.step(at(1_000), [greet(&hello)].into_iter()).collect();
    assert_eq!(effects.iter().filter(|effect| **effect == note).count(), 1);
    let is_answer = |effect: &NodeEffect| matches!(effect, NodeEffect::Answer { .. });
    assert!(!effects.iter().any(is_answer));
    let copy = Hello { start_id: 4_711, ..hello.clone() };
    let effects: Vec<_> = node.step(at(1_000), [greet(&copy)].into_iter()).collect();
    let refused = |effect: &NodeEffect| match effect {
        NodeEffect::Answer { answer: HelloAnswer::Refused(refusal), .. } => {
            refusal.reason == RefusalReason::OlderBoot
        }
        _ => false,
    };
    assert!(effects.iter().any(refused), "two of one epoch: the first one counts");
    let noted = NodeInput::PeerNoted { node: two, start };
    let effects: Vec<_> = node.step(at(1_000), [noted].into_iter()).collect();
    assert_eq!(effects.iter().filter(|effect| is_answer(effect)).count(), 1);
    let effects: Vec<_> = node.step(at(1_000), [greet(&hello)].into_iter()).collect();
    assert!(effects.iter().any(is_answer), "it is stored already");
    assert!(!effects.contains(&note));
}

#[test]
fn who_dials_us_is_dialled_at_once() {
    let mut meeting = founded_trio();
    let (one, three) = (NodeId::new(1), NodeId::new(3));
    let gone = meeting.nodes.remove(&three).unwrap();
    meeting.tell(one, NodeInput::LinkDown { node: three });
    meeting.pass(5_000);
    let hello = gone.hello_to(one);
    let node = meeting.nodes.get_mut(&one).unwrap();
    let dials = |effects: Vec<NodeEffect>| {
        let to =
            |effect: &NodeEffect| matches!(effect, NodeEffect::Dial { node, .. } if *node == three);
        effects.iter().any(to)
    };
    let now = at(meeting.now_ms + 1);
    assert!(!dials(node.step(now, std::iter::empty()).collect()), "its next attempt is far off");
    let hello = NodeInput::Hello { link: 1, hello };
    assert!(dials(node.step(now, std::iter::once(hello)).collect()));
}

#[test]
fn whoever_is_asked_knows_who_leads_by_the_highest_term() {
    let mut meeting = founded_trio();
    let log = Incarnation::new(77);
    let leads = |meeting: &mut Meeting, id, term: Option<u64>| {
        let term = term.map(Term::new);
        meeting.tell(NodeId::new(id), NodeInput::Leads { incarnation: log, term });
        meeting.settle();
    };
    leads(&mut meeting, 1, Some(4));
    assert_eq!(meeting.elsewhere[&(3, 77)], Some((1, 4)));
    leads(&mut meeting, 2, Some(5));
    leads(&mut meeting, 1, None);
    assert_eq!(meeting.elsewhere[&(3, 77)], Some((2, 5)), "the later term");
    assert_eq!(meeting.elsewhere[&(1, 77)], Some((2, 5)));
    meeting.nodes.remove(&NodeId::new(3));
    meeting.elsewhere.clear();
    meeting.join(started_again(&meeting, 3, 2));
    meeting.tell(NodeId::new(1), NodeInput::LinkDown { node: NodeId::new(3) });
    meeting.tell(NodeId::new(2), NodeInput::LinkDown { node: NodeId::new(3) });
    meeting.pass(2_000);
    assert_eq!(meeting.elsewhere[&(3, 77)], Some((2, 5)), "it is told all on a new link");
    meeting.nodes.remove(&NodeId::new(2));
    meeting.join(started_again(&meeting, 2, 2));
    meeting.tell(NodeId::new(2), NodeInput::LinkDown { node: NodeId::new(3) });
    meeting.pass(2_000);
    assert_eq!(meeting.elsewhere[&(3, 77)], None, "it began anew and leads nothing");
}

#[test]
fn nobody_leads_what_has_been_deleted() {
    let mut world = World::founded(3);
    world.create_one(topic("a", 1, 1)).unwrap();
    let log = world.metadata().topic("a").unwrap().partitions[0].incarnation;
    let mut node = Node::new(settings(1, &[1, 2, 3]));
    let mut tell = |input| node.step(at(1), std::iter::once(input)).collect::<Vec<_>>();
    tell(NodeInput::Metadata(Arc::new(world.metadata().clone())));
    let leads = vec![Leadership { incarnation: log, term: Term::new(4) }];
    let leaderships = Leaderships { is_anew: true, leads };
    let elsewhere = |leader| NodeEffect::LeaderElsewhere { incarnation: log, leader };
    let two = NodeId::new(2);
    let heard = tell(NodeInput::Leaderships { node: two, leaderships });
    assert!(heard.contains(&elsewhere(Some((two, Term::new(4))))), "{heard:?}");
    world.delete(vec![by_name("a")]);
    let metadata = Arc::new(world.metadata().clone());
    let heard = tell(NodeInput::Metadata(Arc::clone(&metadata)));
    assert!(heard.contains(&elsewhere(None)), "{heard:?}");
    let heard = tell(NodeInput::Metadata(metadata));
    assert!(!heard.contains(&elsewhere(None)), "once: {heard:?}");
}

#[test]
fn a_lost_replica_is_reported_once_another_one_leads() {
    let mut world = World::founded(3);
    world.create_one(topic("a", 1, 3)).unwrap();
    let partition = &world.metadata().topic("a").unwrap().partitions[0];
    let mut replicas = partition.replicas.iter();
    let replica = replicas.find(|replica| replica.node == NodeId::new(2)).unwrap().id;
    let incarnation = partition.incarnation;
    let mut meeting = founded_trio();
    meeting.tell(NodeId::new(2), NodeInput::Metadata(Arc::new(world.metadata().clone())));
    meeting.controller(Some(1));
    meeting.tell(NodeId::new(2), NodeInput::Stopped { incarnation, replica, is_lost: true });
    meeting.pass(3_000);
    assert_eq!(meeting.asked, [], "the others may have lost theirs, too");
    let term = Some(Term::new(4));
    meeting.tell(NodeId::new(1), NodeInput::Leads { incarnation, term });
    meeting.settle();
    meeting.pass(1_000);
    assert!(matches!(meeting.asked[..], [(2, 1, _), ..]), "{:?}", meeting.asked);
}

#[test]
fn who_gives_way_says_so_to_every_peer_and_takes_it_back() {
    let mut meeting = founded_trio();
    meeting.tell(NodeId::new(2), NodeInput::GivesWay(true));
    meeting.pass(3 * LIVENESS_MS);
    meeting.giving_way.sort_unstable();
    assert_eq!(meeting.giving_way, [(1, vec![2]), (3, vec![2])], "once");
    meeting.giving_way.clear();
    meeting.tell(NodeId::new(2), NodeInput::GivesWay(false));
    meeting.pass(3 * LIVENESS_MS);
    meeting.giving_way.sort_unstable();
    assert_eq!(meeting.giving_way, [(1, vec![]), (3, vec![])]);
    assert_eq!(meeting.lost, [], "it lives all the while");
}

#[test]
fn a_replica_that_stops_is_named_to_every_peer_until_nothing_of_it_is_left() {
    let mut meeting = founded_trio();
    let (incarnation, replica) = (Incarnation::new(77), ReplicaId::new(5));
    meeting.tell(NodeId::new(2), NodeInput::Stopped { incarnation, replica, is_lost: false });
    meeting.pass(3 * LIVENESS_MS);
    meeting.peer_stopped.sort_unstable();
    assert_eq!(meeting.peer_stopped, [(1, 2, vec![5]), (3, 2, vec![5])], "once");
    meeting.tell(NodeId::new(2), NodeInput::NothingLeft { incarnation });
    meeting.pass(2 * LIVENESS_MS);
    assert_eq!(meeting.peer_stopped[2..].len(), 2);
    assert!(meeting.peer_stopped[2..].iter().all(|(_, node, now)| (*node, now.len()) == (2, 0)));
}

#[test]
fn who_starts_anew_is_lost_even_if_it_was_never_silent() {
    let mut meeting = founded_trio();
    let again = started_again(&meeting, 2, 7);
    meeting.nodes.insert(NodeId::new(2), Node::new(again));
    meeting.lost.clear();
    meeting.settle();
    meeting.settle();
    assert!(meeting.lost.contains(&(1, 2)), "{:?}", meeting.lost);
    assert!(meeting.nodes[&NodeId::new(1)].lives(NodeId::new(2)));
}

#[test]
fn who_is_silent_is_lost_and_who_speaks_again_lives() {
    let mut meeting = founded_trio();
    let two = NodeId::new(2);
    assert!(meeting.nodes[&NodeId::new(1)].lives(two));
    let silent = meeting.nodes.remove(&two).unwrap();
    meeting.pass(2 * SILENCE_MS);
    assert!(meeting.lost.contains(&(1, 2)));
    assert!(!meeting.nodes[&NodeId::new(1)].lives(two));
    meeting.nodes.insert(two, silent);
    meeting.pass(2 * LIVENESS_MS);
    assert!(meeting.nodes[&NodeId::new(1)].lives(two));
}

#[test]
fn who_hears_nobody_though_its_links_are_open_dials_anew() {
    let mut meeting = founded_trio();
    let (one, others) = (NodeId::new(1), [2, 3].map(NodeId::new));
    others.iter().for_each(|other| drop(meeting.nodes.remove(other)));
    for _ in 0..2 {
        meeting.now_ms += SILENCE_MS;
        meeting.step(one, Vec::new());
    }
    let dialled: Vec<NodeId> = meeting.dialled.iter().map(|(_, to, _)| *to).collect();
    assert_eq!(dialled, others);
}

#[test]
fn a_hello_to_somebody_else_and_a_version_from_the_future_are_refused() {
    let mut meeting = founded_trio();
    let one = NodeId::new(1);
    let hello = meeting.nodes[&NodeId::new(2)].hello_to(one);
    let other = Hello { expected_node_id: NodeId::new(9), ..hello.clone() };
    let future = Hello { version_min: 900, version_max: 901, ..hello.clone() };
    let foreign = Hello { cluster_id: Some([5; 16]), ..hello };
    let node = meeting.nodes.get_mut(&one).unwrap();
    node.cluster_id = Some(ClusterId([4; 16]));
    let mut refused = |hello| {
        let effects = node.step(at(10_000), [NodeInput::Hello { link: 5, hello }].into_iter());
        let mut answers = effects.filter_map(|effect| match effect {
            NodeEffect::Answer { link: 5, answer: HelloAnswer::Refused(refusal) } => Some(refusal),
            _ => None,
        });
        answers.next().map(|refusal| refusal.reason)
    };
    assert_eq!(refused(other), Some(RefusalReason::WrongNode));
    assert_eq!(refused(future), Some(RefusalReason::VersionMismatch));
    assert_eq!(refused(foreign), Some(RefusalReason::WrongCluster));
}
