//! Topics that get more partitions.

use super::super::limits::*;
use super::*;

fn grow(world: &mut World, name: &str, count: i32) -> Result<GrownTopic, CreatePartitionsError> {
    match world.call(request(name, count, false)) {
        Ok(ControllerResponse::PartitionsCreated(result)) => result,
        other => panic!("{other:?}"),
    }
}

fn request(name: &str, partition_count: i32, validate_only: bool) -> ControllerRequest {
    ControllerRequest::CreatePartitions(CreatePartitions {
        topic: name.to_owned(),
        partition_count,
        validate_only,
        timeout_ms: 1_000,
    })
}

fn leaders(world: &World, name: &str) -> Vec<u64> {
    let topic = world.metadata().topic(name).expect("it was made");
    topic.partitions.iter().map(|each| each.replicas[0].node.get()).collect()
}

#[test]
fn new_partitions_are_numbered_on_and_the_old_ones_stay() {
    let mut world = World::founded(1);
    let id = world.create_one(topic("a", 2, 1)).unwrap().id;
    let before = world.metadata().topic("a").unwrap().partitions.clone();
    world.events.clear();
    let grown = grow(&mut world, "a", 5);
    assert_eq!(grown, Ok(GrownTopic { id, partition_count_before: 2, partition_count: 5 }));
    let after = world.metadata().topic("a").unwrap().partitions.clone();
    assert_eq!((&after[..2], after.len()), (&before[..], 5));
    let made: Vec<u32> = world
        .events
        .iter()
        .map(|event| match event {
            MetadataEvent::PartitionCreated(placement) => placement.partition,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(made, [2, 3, 4]);
    for (number, partition) in (0..).zip(&after) {
        let found = world.metadata().partition_of(partition.incarnation);
        assert_eq!(found.map(|(topic, number)| (topic.id, number)), Some((id, number)));
    }
    assert_eq!(world.replayed(), *world.metadata());
    let restored = Metadata::restore(&world.metadata().snapshot());
    assert_eq!(restored.as_ref(), Ok(world.metadata()));
}

#[test]
fn the_leaders_of_a_grown_topic_are_spread_as_if_it_had_been_made_so() {
    let mut world = World::founded(3);
    world.create_one(topic("a", 2, 2)).unwrap();
    grow(&mut world, "a", 6).unwrap();
    let mut found = leaders(&world, "a");
    found.sort_unstable();
    assert_eq!(found, [1, 1, 2, 2, 3, 3]);
    let topic = world.metadata().topic("a").unwrap();
    assert!(topic.partitions.iter().all(|each| each.replicas.len() == 2));
}

#[test]
fn a_topic_never_loses_partitions() {
    let mut world = World::founded(1);
    world.create_one(topic("a", 3, 1)).unwrap();
    for found in [3, 2, 0, -1, i32::MIN] {
        let refused = CreatePartitionsError::NotMore { found, current: 3 };
        assert_eq!(grow(&mut world, "a", found), Err(refused));
    }
    assert_eq!(leaders(&world, "a").len(), 3);
}

#[test]
fn what_clients_do_not_see_does_not_grow() {
    let mut world = World::founded(1);
    for name in ["nothing", GROUP_TOPIC] {
        assert_eq!(grow(&mut world, name, 99), Err(CreatePartitionsError::UnknownTopic));
    }
}

#[test]
fn a_question_changes_nothing() {
    let mut world = World::founded(1);
    let id = world.create_one(topic("a", 1, 1)).unwrap().id;
    let before = world.metadata().clone();
    let answer = world.call(request("a", 4, true));
    let would = GrownTopic { id, partition_count_before: 1, partition_count: 4 };
    assert_eq!(answer, Ok(ControllerResponse::PartitionsCreated(Ok(would))));
    assert_eq!(*world.metadata(), before);
    let refused = CreatePartitionsError::NotMore { found: 1, current: 1 };
    let answer = world.call(request("a", 1, true));
    assert_eq!(answer, Ok(ControllerResponse::PartitionsCreated(Err(refused))));
}

#[test]
fn a_grown_topic_stays_within_the_limits() {
    let mut world = World::founded(1);
    world.create_one(topic("a", 1, 1)).unwrap();
    let most = PARTITIONS_PER_TOPIC_MAX as i32;
    let limit = CreatePartitionsError::Limit(LimitError::PartitionsPerTopic);
    assert_eq!(grow(&mut world, "a", most + 1), Err(limit));
    let held = world.metadata().load_of(NodeId::new(1)).replicas;
    let left = (REPLICAS_PER_NODE_MAX - held) as i32;
    world.create_one(topic("filler", most, 1)).unwrap();
    let room = left - most;
    let full = CreatePartitionsError::Limit(LimitError::ReplicasPerNode);
    assert_eq!(grow(&mut world, "a", 1 + room + 1), Err(full));
    assert!(grow(&mut world, "a", 1 + room).is_ok());
    assert_eq!(world.metadata().load_of(NodeId::new(1)).replicas, REPLICAS_PER_NODE_MAX);
}

#[test]
fn a_command_that_was_made_for_fewer_partitions_changes_nothing() {
    let mut world = World::founded(1);
    world.create_one(topic("a", 1, 1)).unwrap();
    world.ask(request("a", 2, false));
    let (_, late) = world.pending.pop_front().expect("it was proposed");
    world.resign();
    world.lead();
    grow(&mut world, "a", 3).unwrap();
    let before = world.metadata().topic("a").cloned();
    world.apply(None, late);
    assert_eq!(world.metadata().topic("a").cloned(), before);
}

#[test]
fn a_deleted_topic_takes_its_new_partitions_with_it() {
    let mut world = World::founded(1);
    world.create_one(topic("a", 1, 1)).unwrap();
    grow(&mut world, "a", 3).unwrap();
    world.delete(vec![by_name("a")]);
    assert_eq!(world.metadata().tombstones().count(), 3);
    assert_eq!(world.replayed(), *world.metadata());
}
