//! DeleteTopics, tombstones, and changes of configs.

use bateau_protocol::ids::Incarnation;

use super::*;

fn incarnations_of(world: &World, name: &str) -> Vec<Incarnation> {
    let topic = world.metadata().topic(name).unwrap();
    topic.partitions.iter().map(|partition| partition.incarnation).collect()
}

#[test]
fn a_topic_is_deleted_by_name_or_by_id() {
    let mut world = World::founded(1);
    let first = world.create_one(topic("a", 1, 1)).unwrap().id;
    let second = world.create_one(topic("b", 1, 1)).unwrap().id;
    let results = world.delete(vec![by_name("a"), by_id(second)]);
    let told: Vec<_> =
        results.iter().map(|each| (each.name.as_deref(), each.id, each.result)).collect();
    assert_eq!(told, [(Some("a"), first, Ok(())), (Some("b"), second, Ok(()))]);
    assert_eq!(world.metadata().topics().count(), 0);
    assert_eq!(world.metadata().topic_by_id(first), None);
}

#[test]
fn a_deletion_leaves_a_tombstone_for_each_incarnation() {
    let mut world = World::founded(3);
    let topic_id = world.create_one(topic("a", 2, 3)).unwrap().id;
    let incarnations = incarnations_of(&world, "a");
    assert!(!world.metadata().is_tombstone(incarnations[0]));
    world.events.clear();
    world.delete(vec![by_name("a")]);
    let nodes: Vec<_> = [1, 2, 3].map(NodeId::new).into();
    let mut expected: Vec<_> = incarnations
        .iter()
        .map(|each| MetadataEvent::PartitionDeleted { incarnation: *each, nodes: nodes.clone() })
        .collect();
    expected.push(MetadataEvent::TopicDeleted { topic: "a".into(), topic_id });
    assert_eq!(world.events, expected);
    assert!(incarnations.iter().all(|each| world.metadata().is_tombstone(*each)));
    assert_eq!(world.metadata().partition_of(incarnations[0]), None);
}

#[test]
fn an_unknown_incarnation_is_no_tombstone() {
    let world = World::founded(1);
    assert!(!world.metadata().is_tombstone(Incarnation::new(12_345)));
}

#[test]
fn a_tombstone_goes_when_every_node_has_confirmed() {
    let mut world = World::founded(2);
    world.create_one(topic("a", 1, 2)).unwrap();
    let incarnations = incarnations_of(&world, "a");
    world.delete(vec![by_name("a")]);
    let confirm = |node| ControllerRequest::ConfirmRemoved {
        node: NodeId::new(node),
        incarnations: incarnations.clone(),
        timeout_ms: 1_000,
    };
    assert_eq!(world.call(confirm(1)), Ok(ControllerResponse::RemovalConfirmed));
    assert!(world.metadata().is_tombstone(incarnations[0]));
    let frames = world.log.len();
    world.call(confirm(1)).unwrap();
    assert_eq!(world.log.len(), frames, "confirmed before: no command");
    world.call(confirm(2)).unwrap();
    assert_eq!(world.metadata().tombstones().count(), 0);
}

#[test]
fn a_topic_that_is_not_there_is_named_so() {
    let mut world = World::founded(1);
    let id = TopicId([9; 16]);
    let results = world.delete(vec![by_name("a"), by_id(id), by_name(GROUP_TOPIC)]);
    let told: Vec<_> = results.iter().map(|each| each.result).collect();
    let unknown = Err(DeleteTopicError::UnknownName);
    assert_eq!(told, [unknown, Err(DeleteTopicError::UnknownId), unknown]);
    assert_eq!((results[0].name.as_deref(), results[1].id), (Some("a"), id));
}

#[test]
fn the_internal_topic_can_neither_be_seen_nor_deleted() {
    let mut world = World::founded(1);
    let id = world.metadata().group_topic().unwrap().id;
    assert_eq!(world.delete(vec![by_id(id)])[0].result, Err(DeleteTopicError::UnknownId));
    assert_eq!(world.metadata().topic(GROUP_TOPIC), None);
    assert_eq!(world.metadata().topics().count(), 0);
    assert_eq!(world.metadata().group_topic().unwrap().partition_count(), 16);
}

#[test]
fn a_topic_is_meant_by_exactly_one_of_name_and_id() {
    let mut world = World::founded(1);
    let id = world.create_one(topic("a", 1, 1)).unwrap().id;
    let both = TopicReference { name: Some("a".into()), id };
    let results = world.delete(vec![both, TopicReference::default()]);
    assert!(results.iter().all(|each| each.result == Err(DeleteTopicError::NotOneReference)));
    assert!(world.metadata().topic("a").is_some());
}

#[test]
fn a_topic_that_comes_twice_stays() {
    let mut world = World::founded(1);
    let id = world.create_one(topic("a", 1, 1)).unwrap().id;
    world.create_one(topic("b", 1, 1)).unwrap();
    let results =
        world.delete(vec![by_name("a"), by_id(id), by_name("b"), by_name("b"), by_name("c")]);
    let told: Vec<_> = results.iter().map(|each| each.result).collect();
    let twice = Err(DeleteTopicError::Duplicate);
    assert_eq!(told, [twice, twice, twice, Err(DeleteTopicError::UnknownName)]);
    assert_eq!(world.metadata().topics().count(), 2);
}

#[test]
fn a_name_that_is_created_again_is_another_topic() {
    let mut world = World::founded(1);
    let old = world.create_one(topic("a", 1, 1)).unwrap().id;
    let old_incarnation = incarnations_of(&world, "a")[0];
    world.delete(vec![by_name("a")]);
    let new = world.create_one(topic("a", 2, 1)).unwrap().id;
    assert_ne!(old, new);
    assert!(!incarnations_of(&world, "a").contains(&old_incarnation));
    assert!(world.metadata().is_tombstone(old_incarnation));
    let ids: Vec<u64> = world
        .metadata()
        .topic("a")
        .unwrap()
        .partitions
        .iter()
        .map(|partition| partition.replicas[0].id.get())
        .collect();
    assert_eq!(ids, [(1 << 32) + 17, (1 << 32) + 18], "behind 16 group partitions and the old one");
}

fn alter(name: &str, changes: &[(&str, Option<&str>)]) -> AlterTopicConfigs {
    AlterTopicConfigs {
        topic: name.into(),
        changes: changes
            .iter()
            .map(|(key, value)| ((*key).into(), value.map(Into::into)))
            .collect(),
        validate_only: false,
        timeout_ms: 1_000,
    }
}

fn altered(world: &mut World, request: AlterTopicConfigs) -> Result<(), AlterTopicConfigsError> {
    match world.call(ControllerRequest::AlterTopicConfigs(request)) {
        Ok(ControllerResponse::TopicConfigsAltered(result)) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_config_is_set_and_returned_to_its_default() {
    let mut world = World::founded(1);
    world.create_one(with_config("a", "segment.ms", "5")).unwrap();
    world.events.clear();
    altered(&mut world, alter("a", &[("retention.ms", Some("7")), ("segment.ms", None)])).unwrap();
    let [MetadataEvent::TopicConfigChanged { config, incarnations, .. }] = &world.events[..] else {
        panic!("{:?}", world.events)
    };
    assert_eq!((config.retention_ms, config.segment_ms), (Some(7), 604_800_000));
    assert_eq!(incarnations.len(), 1);
    let stored = &world.metadata().topic("a").unwrap().configs;
    assert_eq!(stored.len(), 1);
}

#[test]
fn a_config_that_is_refused_changes_nothing() {
    let mut world = World::founded(1);
    world.create_one(topic("a", 1, 1)).unwrap();
    let frames = world.log.len();
    for (key, value) in [("nope", None), ("nope", Some("1")), ("cleanup.policy", Some("compact"))] {
        let request = alter("a", &[("retention.ms", Some("7")), (key, value)]);
        let error = altered(&mut world, request).unwrap_err();
        assert!(matches!(error, AlterTopicConfigsError::InvalidConfig(_)), "{key}");
    }
    let unknown = altered(&mut world, alter("b", &[])).unwrap_err();
    assert_eq!(unknown, AlterTopicConfigsError::UnknownTopic);
    let only =
        AlterTopicConfigs { validate_only: true, ..alter("a", &[("retention.ms", Some("7"))]) };
    assert_eq!(altered(&mut world, only), Ok(()));
    assert_eq!(altered(&mut world, alter("a", &[("retention.ms", None)])), Ok(()));
    assert_eq!(world.log.len(), frames);
}
