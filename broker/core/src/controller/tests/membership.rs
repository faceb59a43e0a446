//! Members: who may come, who may go, and which replicas are renewed.

use super::*;
use bateau_protocol::ids::ReplicaId;

fn told(world: &mut World, request: MembershipRequest) -> MembershipResponse {
    match world.call(ControllerRequest::Membership { request, timeout_ms: 1_000 }) {
        Ok(ControllerResponse::Membership(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn node(id: u64) -> NodeId {
    NodeId::new(id)
}

fn permit(world: &mut World, id: u64, permit: Permit) -> Result<(), NodeError> {
    match told(world, MembershipRequest::Permit { node: node(id), permit }) {
        MembershipResponse::Permitted(result) => result,
        other => panic!("{other:?}"),
    }
}

fn admit(
    world: &mut World,
    (id, directory): (u64, u8),
    former: Option<[u8; 16]>,
) -> Result<ReplicaId, NodeError> {
    let peers_address = format!("node{id}:9644").into();
    let founder = Founder { node: node(id), founding_id: [directory; 16], peers_address };
    match told(world, MembershipRequest::Admit { founder, former }) {
        MembershipResponse::Admitted(result) => result,
        other => panic!("{other:?}"),
    }
}

fn stand(world: &mut World, id: u64, standing: Standing) -> Result<(), NodeError> {
    match told(world, MembershipRequest::SetStanding { node: node(id), standing }) {
        MembershipResponse::Standing(result) => result,
        other => panic!("{other:?}"),
    }
}

/// A cluster of three of which these are alive.
fn trio(live: &[u64]) -> World {
    let mut world = World::founded(3);
    world.live(live);
    world
}

fn orders(world: &World) -> Partition {
    world.metadata().topic("orders").unwrap().partition(0).unwrap().clone()
}

fn ids(partition: &Partition) -> Vec<u64> {
    partition.replicas.iter().map(|one| one.id.get()).collect()
}

#[test]
fn a_stranger_comes_by_a_permit_and_gets_a_replica_id_that_nobody_had() {
    let mut world = trio(&[1, 2, 3]);
    let refused = admit(&mut world, (4, 4), None);
    assert_eq!(refused, Err(NodeError::NotPermitted { node: node(4) }));
    permit(&mut world, 4, Permit::Join).unwrap();
    let replica = admit(&mut world, (4, 4), None).unwrap();
    assert!(replica.get() > 3, "{replica}");
    assert_eq!(admit(&mut world, (4, 4), None), Ok(replica), "asked again, the same answer");
    assert_eq!(world.metadata().permit_of(node(4)), None, "a permit lets in once");
    let other = admit(&mut world, (4, 44), None);
    assert_eq!(
        other,
        Err(NodeError::NotPermitted { node: node(4) }),
        "another directory is not it"
    );
}

#[test]
fn permits_for_a_member_for_a_stranger_and_for_who_is_alive_are_refused() {
    let mut world = trio(&[1, 2]);
    let taken = permit(&mut world, 3, Permit::Join);
    assert_eq!(taken, Err(NodeError::MemberExists { node: node(3) }));
    let unknown = permit(&mut world, 9, Permit::Replace);
    assert_eq!(unknown, Err(NodeError::NotMember { node: node(9) }));
    let alive = permit(&mut world, 2, Permit::Replace);
    assert_eq!(alive, Err(NodeError::Alive { node: node(2) }));
    permit(&mut world, 3, Permit::Replace).unwrap();
}

#[test]
fn a_permit_replaces_nobody_who_is_back_and_lets_no_replaced_directory_in() {
    let mut world = trio(&[1, 2]);
    permit(&mut world, 3, Permit::Replace).unwrap();
    world.live(&[1, 2, 3]);
    assert_eq!(admit(&mut world, (3, 33), None), Err(NodeError::Alive { node: node(3) }));
    world.live(&[1, 2]);
    let replica = admit(&mut world, (3, 33), None).unwrap();
    assert_eq!(world.metadata().former_member(node(3)), Some([3; 16]));
    // The operator has asked twice, and a greeting of the lost directory comes late.
    permit(&mut world, 3, Permit::Replace).unwrap();
    assert_eq!(admit(&mut world, (3, 3), None), Err(NodeError::NotPermitted { node: node(3) }));
    assert_eq!(admit(&mut world, (3, 33), None), Ok(replica), "it stays who it is");
    admit(&mut world, (3, 35), None).unwrap();
    assert_eq!(world.metadata().former_member(node(3)), Some([33; 16]));
}

#[test]
fn who_has_lost_its_votes_is_taken_back_without_a_permit_and_all_that_it_had_is_void() {
    let mut world = trio(&[1, 2]);
    world.create_one(topic("orders", 1, 3)).unwrap();
    let before = world.metadata().quorum().replica_on(node(3)).unwrap();
    let replica = admit(&mut world, (3, 33), Some([3; 16])).unwrap();
    assert!(replica > before.id);
    let lost = orders(&world).replicas.into_iter().find(|one| one.node == node(3)).unwrap();
    assert!(world.metadata().is_lost(&lost) || lost.id > replica, "{lost:?}");
    assert_eq!(world.metadata().member(node(3)).unwrap().founder.founding_id, [33; 16]);
}

#[test]
fn who_shows_what_it_was_is_not_taken_while_that_one_lives_or_was_another() {
    let mut world = trio(&[1, 2, 3]);
    let alive = admit(&mut world, (3, 33), Some([3; 16]));
    assert_eq!(alive, Err(NodeError::Alive { node: node(3) }), "it may have been copied");
    world.live(&[1, 2]);
    let liar = admit(&mut world, (3, 33), Some([2; 16]));
    assert_eq!(liar, Err(NodeError::NotPermitted { node: node(3) }));
}

#[test]
fn the_only_node_and_one_without_which_no_majority_lives_stay() {
    let mut world = World::founded(1);
    world.live(&[1]);
    let last = stand(&mut world, 1, Standing::Leaving);
    assert_eq!(last, Err(NodeError::LastMember { node: node(1) }));
    let mut world = trio(&[1, 2]);
    world.create_one(topic("orders", 1, 3)).unwrap();
    let refused = stand(&mut world, 2, Standing::Leaving);
    assert!(matches!(refused, Err(NodeError::MajorityLost { .. })), "{refused:?}");
    assert_eq!(world.metadata().member(node(2)).unwrap().standing, Standing::Serving);
}

#[test]
fn a_dead_node_with_the_only_copy_of_something_stays() {
    let mut world = trio(&[1, 2, 3]);
    world.create_one(assigned("orders", &[(0, &[3])])).unwrap();
    world.live(&[1, 2]);
    match stand(&mut world, 3, Standing::Leaving) {
        Err(NodeError::OnlyCopies { partitions: 1, example, .. }) => {
            assert_eq!(example, "orders/0")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_node_that_has_not_come_yet_loses_its_permit_when_it_is_removed() {
    let mut world = trio(&[1, 2, 3]);
    permit(&mut world, 4, Permit::Join).unwrap();
    stand(&mut world, 4, Standing::Leaving).unwrap();
    assert_eq!(world.metadata().permit_of(node(4)), None);
    let unknown = stand(&mut world, 4, Standing::Draining);
    assert_eq!(unknown, Err(NodeError::NotMember { node: node(4) }));
}

#[test]
fn a_lost_replica_gets_a_successor_on_its_node_and_a_second_one_waits_for_it() {
    let mut world = trio(&[1, 2, 3]);
    world.create_one(topic("orders", 1, 3)).unwrap();
    let before = orders(&world);
    let lost: Vec<_> = before.replicas.iter().map(|one| (before.incarnation, one.id)).collect();
    told(&mut world, MembershipRequest::Renew(vec![lost[0], lost[1]]));
    let after = orders(&world);
    let nodes = |partition: &Partition| -> Vec<NodeId> {
        partition.replicas.iter().map(|one| one.node).collect()
    };
    assert_eq!(nodes(&after), nodes(&before), "where they were");
    let [first, second, third] = ids(&after)[..] else { panic!("{after:?}") };
    assert!(first > ids(&before)[2], "a fresh id: {after:?}");
    assert_eq!([second, third], ids(&before)[1..], "without both nobody would be a majority");
    told(&mut world, MembershipRequest::Renew(vec![lost[0]]));
    assert_eq!(orders(&world), after, "said again, it changes nothing");
}

#[test]
fn a_replica_whose_loss_takes_the_majority_is_not_renewed() {
    let mut world = trio(&[1, 2, 3]);
    world.create_one(topic("orders", 1, 2)).unwrap();
    let before = orders(&world);
    let one = (before.incarnation, before.replicas[0].id);
    told(&mut world, MembershipRequest::Renew(vec![one]));
    assert_eq!(orders(&world), before);
}
