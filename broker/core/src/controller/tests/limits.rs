//! Every limit says no at its number and not before.

use super::super::limits::*;
use super::*;

/// A world whose applied state was changed by hand.
fn world_with(nodes: u64, change: impl FnOnce(&mut Metadata)) -> World {
    let mut world = World::founded(nodes);
    let mut metadata = world.metadata().clone();
    change(&mut metadata);
    metadata.check_invariants();
    world.controller = Controller::new(
        metadata,
        BrokerSettings::default(),
        founding_plan(nodes),
        Box::new(Random::new(3)),
    );
    world.lead();
    world
}

/// Makes topics of one partition without asking anybody.
fn add_topics(metadata: &mut Metadata, count: usize) {
    for number in 0..count as u64 {
        let replica = Replica {
            id: bateau_protocol::ids::ReplicaId::new(metadata.next_replica_id),
            node: NodeId::new(1 + number % 2),
        };
        let created = metadata.execute(
            MetadataCommand::CreateTopic(Topic {
                name: format!("filler-{number}").into(),
                id: TopicId((number as u128 + 1).to_be_bytes()),
                internal: false,
                configs: ConfigOverrides::new(),
                partitions: vec![Partition::born(
                    bateau_protocol::ids::Incarnation::new(number + 2),
                    vec![replica],
                )],
            }),
            &mut Vec::new(),
        );
        assert_eq!(created, CommandOutcome::Done);
    }
}

fn limit_of(result: Result<CreatedTopic, CreateTopicError>) -> LimitError {
    match result {
        Err(CreateTopicError::Limit(limit)) => limit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn topics_of_the_cluster() {
    // One place is taken by the internal topic, two are left.
    let mut world = world_with(2, |metadata| add_topics(metadata, TOPICS_MAX - 3));
    assert!(world.create_one(topic("last-but-one", 1, 1)).is_ok());
    assert!(world.auto_create("last").is_ok());
    assert_eq!(limit_of(world.create_one(topic("one-too-many", 1, 1))), LimitError::Topics);
    let refused = AutoCreateTopicError::Refused(LimitError::Topics.into());
    assert_eq!(world.auto_create("one-too-many"), Err(refused));
    world.delete(vec![by_name("last")]);
    assert!(world.create_one(topic("again", 1, 1)).is_ok());
}

#[test]
fn partitions_of_a_topic() {
    let mut world = World::founded(1);
    let most = PARTITIONS_PER_TOPIC_MAX as i32;
    for count in [most + 1, i32::MAX] {
        let refused = world.create_one(topic("a", count, 1));
        assert_eq!(limit_of(refused), LimitError::PartitionsPerTopic);
    }
    assert_eq!(world.create_one(topic("a", most, 1)).unwrap().partition_count as i32, most);
}

#[test]
fn partitions_of_a_request_over_all_of_its_topics() {
    let mut world = World::founded(1);
    let most = PARTITIONS_PER_REQUEST_MAX as i32;
    let mut results = world.create(vec![
        topic("a", most - 1, 1),
        topic("b", 2, 1),
        topic("c", 1, 1),
        topic("d", 1, 1),
    ]);
    assert_eq!(limit_of(results.remove(3).result), LimitError::PartitionsPerRequest);
    assert!(results.remove(2).result.is_ok());
    assert_eq!(limit_of(results.remove(1).result), LimitError::PartitionsPerRequest);
    assert!(results.remove(0).result.is_ok());
    assert!(world.create_one(topic("d", 1, 1)).is_ok(), "another request");
}

#[test]
fn replicas_of_a_node() {
    let mut world = World::founded(1);
    let held = world.metadata().load_of(NodeId::new(1)).replicas;
    let left = REPLICAS_PER_NODE_MAX - held;
    world.create_one(topic("a", 10_000, 1)).unwrap();
    let refused = world.create_one(topic("b", (left - 10_000 + 1) as i32, 1));
    assert_eq!(limit_of(refused), LimitError::ReplicasPerNode);
    world.create_one(topic("b", (left - 10_000) as i32, 1)).unwrap();
    assert_eq!(world.metadata().load_of(NodeId::new(1)).replicas, REPLICAS_PER_NODE_MAX);
    assert_eq!(limit_of(world.create_one(topic("c", 1, 1))), LimitError::ReplicasPerNode);
    let assigned = world.create_one(assigned("c", &[(0, &[1])]));
    assert_eq!(limit_of(assigned), LimitError::ReplicasPerNode);
}

#[test]
fn replicas_of_a_partition() {
    let nodes = u64::from(REPLICATION_FACTOR_MAX) + 1;
    let mut world = World::founded(nodes);
    let most = REPLICATION_FACTOR_MAX as i16;
    let refused = CreateTopicError::InvalidReplicationFactor {
        found: (most + 1).into(),
        limit: REPLICATION_FACTOR_MAX.into(),
    };
    assert_eq!(world.create_one(topic("a", 1, most + 1)), Err(refused.clone()));
    let all: Vec<i32> = (1..=nodes as i32).collect();
    assert_eq!(world.create_one(assigned("a", &[(0, &all)])), Err(refused));
    assert!(world.create_one(topic("a", 1, most)).is_ok());
    assert!(world.create_one(assigned("b", &[(0, &all[1..])])).is_ok());
}

#[test]
fn config_bytes_of_a_topic() {
    let mut world = World::founded(1);
    let padded = |bytes: usize| {
        let value = format!("{:>width$}", 1, width = bytes - "retention.ms".len());
        with_config("a", "retention.ms", &value)
    };
    let refused = world.create_one(padded(TOPIC_CONFIG_BYTES_MAX + 1)).unwrap_err();
    assert!(matches!(
        refused,
        CreateTopicError::InvalidConfig(TopicConfigError::TooLarge { found })
            if found == TOPIC_CONFIG_BYTES_MAX + 1
    ));
    assert!(world.create_one(padded(TOPIC_CONFIG_BYTES_MAX)).is_ok());
    let grown = ControllerRequest::AlterTopicConfigs(AlterTopicConfigs {
        topic: "a".into(),
        changes: vec![("segment.ms".into(), Some("1".into()))],
        ..AlterTopicConfigs::default()
    });
    assert!(matches!(
        world.call(grown),
        Ok(ControllerResponse::TopicConfigsAltered(Err(AlterTopicConfigsError::InvalidConfig(
            TopicConfigError::TooLarge { .. }
        ))))
    ));
}

#[test]
fn bytes_of_what_one_request_proposes() {
    let mut world = World::founded(1);
    let configs = vec![("retention.ms".to_owned(), Some(format!("{:>4000}", 1)))];
    let each = 4_000 + 100;
    let topics: Vec<NewTopic> = (0..PROPOSAL_BYTES_MAX / each + 50)
        .map(|number| NewTopic { configs: configs.clone(), ..topic(&format!("t{number}"), 1, 1) })
        .collect();
    let results = world.create(topics);
    let created = results.iter().take_while(|result| result.result.is_ok()).count();
    assert!(created > PROPOSAL_BYTES_MAX / (each + 100), "{created}");
    for refused in results.into_iter().skip(created) {
        assert_eq!(limit_of(refused.result), LimitError::RequestBytes);
    }
    assert!(world.log.last().unwrap().len() <= PROPOSAL_BYTES_MAX);
    assert_eq!(world.metadata().topics().count(), created);
    assert_eq!(world.replayed(), *world.metadata());
}

#[test]
fn nodes_of_the_cluster_and_what_they_say() {
    let mut world = world_with(1, |metadata| {
        for node in 2..NODES_MAX as u64 {
            metadata
                .execute(MetadataCommand::RegisterNode(registration(node, None)), &mut Vec::new());
        }
    });
    let mut register = |registration| {
        let request = ControllerRequest::RegisterNode { registration, timeout_ms: 1_000 };
        match world.call(request) {
            Ok(ControllerResponse::NodeRegistered(result)) => result,
            other => panic!("{other:?}"),
        }
    };
    let listener = |number: usize| ListenerAddress {
        name: format!("listener-{number}").into(),
        ..registration(1, None).listeners.remove(0)
    };
    let listeners = |count| NodeRegistration {
        listeners: (0..count).map(listener).collect(),
        ..registration(1, None)
    };
    assert!(register(listeners(LISTENERS_PER_NODE_MAX)).is_ok());
    let malformed = Err(RegisterNodeError::Malformed { field: "the number of listeners".into() });
    assert_eq!(register(listeners(LISTENERS_PER_NODE_MAX + 1)), malformed);
    let rack = "r".repeat(NODE_TEXT_BYTES_MAX + 1);
    let malformed = Err(RegisterNodeError::Malformed { field: "the rack".into() });
    assert_eq!(register(registration(1, Some(&rack))), malformed);
    assert!(register(registration(1, Some(&rack[1..]))).is_ok());
    let stranger = Err(RegisterNodeError::NotMember { node: NodeId::new(5_000) });
    assert_eq!(register(registration(5_000, None)), stranger);
}

#[test]
fn deleted_partitions_that_are_still_on_disks() {
    let mut world = world_with(1, |metadata| {
        let node = NodeId::new(1);
        metadata.tombstones = (0..TOMBSTONES_MAX as u64 - 2)
            .map(|number| (bateau_protocol::ids::Incarnation::new(number + 2), [node].into()))
            .collect();
    });
    world.create_one(topic("a", 1, 1)).unwrap();
    world.create_one(topic("b", 2, 1)).unwrap();
    assert_eq!(world.delete(vec![by_name("a")])[0].result, Ok(()));
    let refused = world.delete(vec![by_name("b")])[0].result;
    assert_eq!(refused, Err(DeleteTopicError::Limit(LimitError::Tombstones)));
    world
        .call(ControllerRequest::ConfirmRemoved {
            node: NodeId::new(1),
            incarnations: vec![bateau_protocol::ids::Incarnation::new(2)],
            timeout_ms: 1_000,
        })
        .unwrap();
    assert_eq!(world.delete(vec![by_name("b")])[0].result, Ok(()));
    assert_eq!(world.metadata().tombstones().count(), TOMBSTONES_MAX);
}

#[test]
fn requests_that_wait() {
    let mut world = World::founded(1);
    let request =
        ControllerRequest::AllocateProducerIds { node: NodeId::new(1), timeout_ms: 1_000 };
    for _ in 0..PENDING_REQUESTS_MAX {
        world.ask(request.clone());
    }
    assert!(world.answers.is_empty());
    let refused = world.ask(request.clone());
    assert_eq!(world.answer(refused), Some(Err(ControllerError::Busy)));
    world.commit();
    assert_eq!(world.answers.len(), PENDING_REQUESTS_MAX);
    assert!(world.call(request).is_ok());
}
