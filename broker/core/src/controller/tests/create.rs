//! CreateTopics and auto-creation, rule by rule (kafka.md G11, G15 to G17).

use super::*;

fn error_of(world: &mut World, new: NewTopic) -> CreateTopicError {
    world.create_one(new).unwrap_err()
}

#[test]
fn a_topic_is_created_with_ids_placement_and_all_its_configs() {
    let mut world = World::founded(1);
    let created = world.create_one(with_config("orders", "retention.ms", "1000")).unwrap();
    assert_eq!((created.partition_count, created.replication_factor), (1, 1));
    assert_eq!(created.configs.len(), TOPIC_KEYS.len());
    let set = created.configs.iter().find(|entry| entry.name == "retention.ms").unwrap();
    assert_eq!(set.source, ConfigSource::DynamicTopicConfig);
    let stored = world.metadata().topic("orders").unwrap();
    assert_eq!(stored.id, created.id);
    assert_ne!(stored.id, TopicId::ZERO);
    assert_eq!(world.metadata().topic_by_id(stored.id), Some(stored));
    let partition = stored.partition(0).unwrap();
    assert_eq!(partition.replicas[0].node, NodeId::new(1));
    assert!(partition.replicas[0].id.get() >= 1 << 32);
    let (owner, number) = world.metadata().partition_of(partition.incarnation).unwrap();
    assert_eq!((&*owner.name, number), ("orders", 0));
    let MetadataEvent::PartitionCreated(placement) = &world.events[0] else { panic!() };
    assert_eq!(placement.incarnation, partition.incarnation);
    assert_eq!(placement.config.retention_ms, Some(1_000));
    assert_eq!(placement.replica_on(NodeId::new(1)), Some(partition.replicas[0]));
    assert_eq!(placement.replica_on(NodeId::new(2)), None);
}

#[test]
fn the_answer_leaves_after_the_command_is_applied_and_its_logs_are_ordered() {
    let mut world = World::founded(1);
    let ticket = world.ask(create_request(vec![topic("a", 2, 1)]));
    assert_eq!(world.answer(ticket), None);
    assert_eq!(world.order, Vec::<String>::new());
    assert!(world.metadata().topic("a").is_none(), "not visible before it is committed");
    world.commit();
    assert_eq!(world.order, ["event", "event", &format!("reply {}", ticket.0)]);
}

#[test]
fn a_create_without_numbers_takes_the_defaults() {
    let settings = BrokerSettings { partitions_default: 4, ..BrokerSettings::default() };
    let mut world = World::with_settings(settings);
    let created = world.create_one(topic("a", -1, -1)).unwrap();
    assert_eq!((created.partition_count, created.replication_factor), (4, 1));
}

#[test]
fn more_replicas_than_nodes_is_an_invalid_replication_factor() {
    let mut world = World::founded(1);
    for found in [2, 3, 0, -2] {
        let error = error_of(&mut world, topic("a", 1, found));
        let found = found.into();
        assert_eq!(error, CreateTopicError::InvalidReplicationFactor { found, limit: 1 });
    }
}

#[test]
fn a_topic_that_is_made_while_its_cluster_starts_has_all_its_replicas() {
    let plan = FoundingPlan { nodes: vec![registration(2, None)], ..founding_plan(3) };
    let mut world = World::with_plan(plan, BrokerSettings::default(), 7);
    world.lead();
    world.commit();
    assert_eq!(world.metadata().nodes().len(), 1, "the others have not registered yet");
    let created = world.create_one(topic("a", 1, -1)).unwrap();
    assert_eq!(created.replication_factor, 3);
    let error = error_of(&mut world, topic("b", 1, 4));
    assert_eq!(error, CreateTopicError::InvalidReplicationFactor { found: 4, limit: 3 });
}

#[test]
fn an_even_replication_factor_works() {
    let mut world = World::founded(4);
    for factor in [2, 4] {
        let created = world.create_one(topic(&format!("a{factor}"), 3, factor)).unwrap();
        assert_eq!(created.replication_factor, factor as u16);
    }
}

#[test]
fn no_partition_is_an_invalid_number_of_partitions() {
    let mut world = World::founded(1);
    for count in [0, -2, i32::MIN] {
        let error = error_of(&mut world, topic("a", count, 1));
        assert!(matches!(error, CreateTopicError::InvalidPartitions { found, .. }
            if found == i64::from(count)));
    }
}

#[test]
fn the_replication_factor_is_looked_at_before_the_partitions() {
    let mut world = World::founded(1);
    let error = error_of(&mut world, topic("a", 0, 0));
    assert!(matches!(error, CreateTopicError::InvalidReplicationFactor { .. }));
}

#[test]
fn an_invalid_name_is_refused() {
    let mut world = World::founded(1);
    for name in ["", ".", "..", "bad name", "@groups", &"x".repeat(250)] {
        let error = error_of(&mut world, topic(name, 1, 1));
        assert!(matches!(error, CreateTopicError::InvalidName(_)), "{name}: {error}");
    }
    assert!(world.create_one(topic(&"x".repeat(249), 1, 1)).is_ok());
}

#[test]
fn kafkas_internal_names_are_reserved() {
    let mut world = World::founded(1);
    let name = "__consumer_offsets".to_owned();
    let error = error_of(&mut world, topic(&name, 1, 1));
    assert_eq!(error, CreateTopicError::ReservedName { name: name.clone() });
    let error = world.auto_create(&name).unwrap_err();
    assert_eq!(error, AutoCreateTopicError::Refused(CreateTopicError::ReservedName { name }));
}

#[test]
fn a_name_that_exists_is_refused_whatever_else_is_wrong() {
    let mut world = World::founded(1);
    world.create_one(topic("a", 1, 1)).unwrap();
    for new in [topic("a", 1, 1), topic("a", 1, 9), with_config("a", "nope", "1")] {
        let error = error_of(&mut world, new);
        assert_eq!(error, CreateTopicError::AlreadyExists { name: "a".into() });
    }
}

#[test]
fn names_that_differ_in_dot_and_underscore_collide() {
    let mut world = World::founded(1);
    world.create_one(topic("a.b_c", 1, 1)).unwrap();
    for name in ["a_b_c", "a.b.c", "a_b.c"] {
        let error = error_of(&mut world, topic(name, 1, 1));
        let existing = "a.b_c".into();
        assert_eq!(error, CreateTopicError::NameCollides { name: name.into(), existing });
    }
    assert!(world.create_one(topic("a-b_c", 1, 1)).is_ok());
    world.delete(vec![by_name("a.b_c")]);
    assert!(world.create_one(topic("a_b_c", 1, 1)).is_ok());
}

#[test]
fn names_that_collide_within_a_request_are_decided_in_order() {
    let mut world = World::founded(1);
    let results = world.create(vec![topic("c.d", 1, 1), topic("c_d", 1, 1)]);
    assert!(results[0].result.is_ok());
    assert!(matches!(results[1].result, Err(CreateTopicError::NameCollides { .. })));
}

#[test]
fn a_name_that_comes_twice_in_a_request_has_one_refusal_and_harms_nobody() {
    let mut world = World::founded(1);
    let results = world.create(vec![topic("a", 1, 1), topic("b", 1, 1), topic("a", 2, 1)]);
    let names: Vec<_> = results.iter().map(|result| result.name.as_str()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(results[0].result, Err(CreateTopicError::Duplicate));
    assert!(results[1].result.is_ok());
    assert!(world.metadata().topic("a").is_none());
}

#[test]
fn one_request_may_mix_good_and_bad_topics() {
    let mut world = World::founded(1);
    let results = world.create(vec![
        topic("good", 1, 1),
        topic("bad name", 1, 1),
        topic("many", 1, 5),
        with_config("strange", "nope", "1"),
        topic("fine", 3, -1),
    ]);
    let good: Vec<_> = results.iter().map(|result| result.result.is_ok()).collect();
    assert_eq!(good, [true, false, false, false, true]);
    assert_eq!(world.log.len(), 2, "the founding, and one frame for all of them");
}

#[test]
fn an_unknown_or_unsupported_config_is_named() {
    let mut world = World::founded(1);
    let error = error_of(&mut world, with_config("a", "nope", "1"));
    assert_eq!(error.to_string(), "Unknown topic config name: nope");
    let error = error_of(&mut world, with_config("a", "cleanup.policy", "compact"));
    assert!(error.to_string().contains("Value compact for configuration cleanup.policy"));
    let null = NewTopic { configs: vec![("retention.ms".into(), None)], ..topic("a", 1, 1) };
    assert!(matches!(error_of(&mut world, null), CreateTopicError::InvalidConfig(_)));
}

#[test]
fn a_config_that_comes_twice_has_its_last_value() {
    let mut world = World::founded(1);
    let mut new = with_config("a", "retention.ms", "1");
    new.configs.push(("retention.ms".into(), Some(" 2 ".into())));
    world.create_one(new).unwrap();
    let stored = &world.metadata().topic("a").unwrap().configs;
    assert_eq!(&*stored["retention.ms"], " 2 ", "as the client wrote it");
    assert_eq!(TopicConfig::from_overrides(stored).retention_ms, Some(2));
}

#[test]
fn validate_only_says_what_would_happen_and_does_nothing() {
    let mut world = World::founded(1);
    let ticket = world.ask(ControllerRequest::CreateTopics(CreateTopics {
        topics: vec![topic("a", 3, -1), topic("b", 1, 2), topic("a.b", 1, 1), topic("a_b", 1, 1)],
        validate_only: true,
        timeout_ms: 0,
    }));
    assert!(world.pending.is_empty());
    let Some(Ok(ControllerResponse::TopicsCreated(results))) = world.answer(ticket) else {
        panic!("answered at once")
    };
    let created = results[0].result.as_ref().unwrap();
    assert_eq!((created.id, created.partition_count), (TopicId::ZERO, 3));
    let refused: Vec<_> = results.iter().map(|result| result.result.is_err()).collect();
    assert_eq!(refused, [false, true, false, true]);
    assert!(world.metadata().topic("a").is_none());
    assert!(world.create_one(topic("a", 1, 1)).is_ok(), "nor does the look-ahead know it");
}

#[test]
fn a_manual_assignment_is_followed() {
    let mut world = World::founded(3);
    let new = assigned("a", &[(1, &[2, 1]), (0, &[3, 2])]);
    let created = world.create_one(new).unwrap();
    assert_eq!((created.partition_count, created.replication_factor), (2, 2));
    let stored = world.metadata().topic("a").unwrap();
    let nodes: Vec<Vec<u64>> = stored
        .partitions
        .iter()
        .map(|partition| partition.replicas.iter().map(|each| each.node.get()).collect())
        .collect();
    assert_eq!(nodes, [[3, 2], [2, 1]]);
}

#[test]
fn an_assignment_that_cannot_be_is_refused() {
    let mut world = World::founded(3);
    let unknown = |node| AssignmentError::UnknownNode { node };
    for (partitions, expected) in [
        (&[(0, &[1][..]), (2, &[1])][..], AssignmentError::NotConsecutive { missing: 1 }),
        (&[(1, &[1])], AssignmentError::NotConsecutive { missing: 0 }),
        (&[(0, &[1]), (0, &[2])], AssignmentError::NotConsecutive { missing: 1 }),
        (&[(-1, &[1])], AssignmentError::NotConsecutive { missing: 0 }),
        (&[(0, &[9])], unknown(9)),
        (&[(0, &[-1])], unknown(-1)),
        (&[(0, &[])], AssignmentError::NoReplica { partition: 0 }),
        (&[(0, &[1, 1])], AssignmentError::RepeatedNode { node: NodeId::new(1) }),
        (
            &[(0, &[1]), (1, &[1, 2])],
            AssignmentError::UnequalReplicas { partition: 1, found: 2, expected: 1 },
        ),
    ] {
        let error = error_of(&mut world, assigned("a", partitions));
        assert_eq!(error, CreateTopicError::InvalidAssignment(expected));
    }
}

#[test]
fn an_assignment_excludes_numbers() {
    let mut world = World::founded(1);
    for (partition_count, replication_factor) in [(1, -1), (-1, 1)] {
        let new = NewTopic { partition_count, replication_factor, ..assigned("a", &[(0, &[1])]) };
        assert_eq!(error_of(&mut world, new), CreateTopicError::AssignmentAndCounts);
    }
}

#[test]
fn a_topic_that_is_asked_for_is_created_and_then_found() {
    let mut world = World::founded(1);
    let id = world.auto_create("orders").unwrap();
    assert_eq!(world.metadata().topic("orders").unwrap().id, id);
    let frames = world.log.len();
    assert_eq!(world.auto_create("orders"), Ok(id));
    assert_eq!(world.log.len(), frames);
    let error = world.auto_create("bad name").unwrap_err();
    let invalid = CreateTopicError::InvalidName(check_topic_name("bad name").unwrap_err());
    assert_eq!(error, AutoCreateTopicError::Refused(invalid));
}

#[test]
fn a_cluster_without_auto_creation_only_finds() {
    let settings = BrokerSettings { auto_create: false, ..BrokerSettings::default() };
    let mut world = World::with_settings(settings);
    assert_eq!(world.auto_create("a"), Err(AutoCreateTopicError::Disabled));
    let id = world.create_one(topic("a", 1, 1)).unwrap().id;
    assert_eq!(world.auto_create("a"), Ok(id));
}

#[test]
fn two_creations_at_once_make_one_topic_and_both_answers_wait() {
    let mut world = World::founded(1);
    let first = world.ask(create_request(vec![topic("a", 1, 1)]));
    let second = world.ask(create_request(vec![topic("a", 2, 1), topic("b", 1, 1)]));
    let third = world.ask(create_request(vec![topic("a", 1, 1)]));
    assert!(world.answers.is_empty());
    assert_eq!(world.pending.len(), 2, "the third needs no command");
    world.commit_one();
    assert!(matches!(world.answer(first), Some(Ok(_))));
    assert_eq!((world.answer(second), world.answer(third)), (None, None));
    world.commit_one();
    let exists = CreateTopicError::AlreadyExists { name: "a".into() };
    for ticket in [second, third] {
        let Some(Ok(ControllerResponse::TopicsCreated(results))) = world.answer(ticket) else {
            panic!("answered by now")
        };
        assert_eq!(results[0].result, Err(exists.clone()));
    }
    assert_eq!(world.metadata().topic("a").unwrap().partition_count(), 1);
}

#[test]
fn two_consumers_that_ask_for_a_new_topic_get_the_same_one() {
    let mut world = World::founded(1);
    let first = world.ask(auto_create_request(&["a"]));
    let second = world.ask(auto_create_request(&["a"]));
    assert_eq!(world.pending.len(), 1);
    world.commit();
    let answers = (world.answer(first).unwrap(), world.answer(second).unwrap());
    assert_eq!(answers.0, answers.1);
}

#[test]
fn a_deletion_right_behind_a_creation_finds_the_topic() {
    let mut world = World::founded(1);
    world.ask(create_request(vec![topic("a", 1, 1)]));
    let deleting = world
        .ask(ControllerRequest::DeleteTopics { topics: vec![by_name("a")], timeout_ms: 1_000 });
    let again = world.ask(create_request(vec![topic("a", 3, 1)]));
    world.commit();
    assert!(matches!(world.answer(deleting),
        Some(Ok(ControllerResponse::TopicsDeleted(results))) if results[0].result.is_ok()));
    assert!(matches!(world.answer(again),
        Some(Ok(ControllerResponse::TopicsCreated(results))) if results[0].result.is_ok()));
    assert_eq!(world.metadata().topic("a").unwrap().partition_count(), 3);
}

#[test]
fn a_source_of_ids_that_is_stuck_refuses_the_topic() {
    let mut controller = World::founded(1).controller;
    let metadata = controller.metadata().clone();
    controller =
        Controller::new(metadata, BrokerSettings::default(), founding_plan(1), Box::new(|| 0));
    let mut effects = Vec::new();
    controller.lead(Now::default(), &mut effects);
    let request = create_request(vec![topic("a", 1, 1)]);
    controller.handle(Now::default(), request, Ticket(1), &mut effects);
    let [ControllerEffect::Reply { response: Ok(response), .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    let ControllerResponse::TopicsCreated(results) = response else { panic!() };
    assert_eq!(results[0].result, Err(CreateTopicError::NoFreeId));
}

#[test]
fn an_incarnation_that_is_taken_is_drawn_again() {
    let world = World::founded(1);
    let taken = *world.metadata().incarnations.keys().next().unwrap();
    let (entropy, script) = scripted(vec![11, 12, 0, 1, taken.get(), 77, 77, 78]);
    let metadata = world.metadata().clone();
    let settings = BrokerSettings::default();
    let mut controller = Controller::new(metadata, settings, founding_plan(1), entropy);
    let mut effects = Vec::new();
    controller.lead(Now::default(), &mut effects);
    let request = create_request(vec![topic("a", 2, 1)]);
    controller.handle(Now::default(), request, Ticket(1), &mut effects);
    assert!(script.lock().unwrap().is_empty());
    let ControllerEffect::Propose { payload, .. } = &effects[0] else { panic!() };
    let commands = decode_commands(payload).unwrap();
    let [MetadataCommand::CreateTopic(topic)] = &commands[..] else { panic!() };
    let drawn: Vec<_> = topic.partitions.iter().map(|each| each.incarnation.get()).collect();
    assert_eq!(drawn, [77, 78]);
}
