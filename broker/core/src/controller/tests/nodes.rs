//! The founding, registration of nodes, and producer ids.

use super::*;

fn register(world: &mut World, registration: NodeRegistration) -> Result<(), RegisterNodeError> {
    let request = ControllerRequest::RegisterNode { registration, timeout_ms: 1_000 };
    match world.call(request) {
        Ok(ControllerResponse::NodeRegistered(result)) => result,
        other => panic!("{other:?}"),
    }
}

fn allocate(world: &mut World) -> Result<ProducerIdBlock, ProducerIdsError> {
    let request =
        ControllerRequest::AllocateProducerIds { node: NodeId::new(1), timeout_ms: 1_000 };
    match world.call(request) {
        Ok(ControllerResponse::ProducerIdsAllocated(result)) => result,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_leader_founds_the_cluster_in_one_frame() {
    let mut world = World::unfounded(3, BrokerSettings::default(), 1);
    world.lead();
    assert_eq!(world.pending.len(), 1);
    assert_eq!(world.metadata().cluster_id(), None);
    world.commit();
    let founding = world.metadata().founding().unwrap();
    assert_eq!(founding.cluster_id.to_string().len(), 22);
    assert_eq!(founding.feature_level, FEATURE_LEVEL);
    assert_eq!(founding.founders, founding_plan(3).founders);
    assert_eq!(world.metadata().nodes().len(), 3);
    let groups = world.metadata().group_topic().unwrap();
    assert!(groups.internal);
    assert_eq!((groups.partition_count(), groups.replication_factor()), (16, 3));
    assert!(matches!(world.events[0], MetadataEvent::ClusterFounded { .. }));
    assert!(matches!(&world.events[5], MetadataEvent::PartitionCreated(placement)
        if placement.internal && placement.config.retention_ms.is_none()));
}

#[test]
fn the_group_partitions_are_spread_over_the_founders() {
    let world = World::founded(4);
    let leaders: Vec<_> =
        (1..=4).map(|node| world.metadata().load_of(NodeId::new(node)).preferred).collect();
    assert_eq!(leaders, [4, 4, 4, 4]);
}

#[test]
fn a_later_leader_founds_nothing() {
    let mut world = World::founded(1);
    let cluster_id = world.metadata().cluster_id();
    world.resign();
    world.lead();
    assert!(world.pending.is_empty());
    world.advance(10_000);
    assert!(world.pending.is_empty());
    assert_eq!(world.metadata().cluster_id(), cluster_id);
}

#[test]
fn a_founding_that_is_dropped_is_proposed_again() {
    let mut world = World::unfounded(1, BrokerSettings::default(), 1);
    world.lead();
    world.drop_one(0);
    assert!(world.pending.is_empty());
    let refused = world.ask(auto_create_request(&["a"]));
    assert_eq!(world.answer(refused), Some(Err(ControllerError::NotController)));
    let retry_ms = world.controller.next_deadline_ms().unwrap();
    world.advance(retry_ms);
    world.commit();
    assert!(world.metadata().cluster_id().is_some());
    world.advance(0);
    assert_eq!(world.controller.next_deadline_ms(), None);
}

#[test]
fn a_request_may_ride_behind_the_founding() {
    let mut world = World::unfounded(1, BrokerSettings::default(), 1);
    world.lead();
    let ticket = world.ask(auto_create_request(&["a"]));
    assert_eq!(world.pending.len(), 2);
    world.commit();
    assert!(matches!(world.answer(ticket), Some(Ok(_))));
}

#[test]
fn a_second_founding_is_refused_when_applied() {
    let mut world = World::founded(1);
    let before = world.metadata().cluster_id();
    let payload = world.log[0].clone();
    world.apply(None, payload);
    assert_eq!(world.metadata().cluster_id(), before);
    assert_eq!(world.events, [MetadataEvent::NodeRegistered { node: NodeId::new(1) }]);
}

#[test]
fn nothing_comes_before_the_founding() {
    let mut metadata = Metadata::new();
    let command = MetadataCommand::AllocateProducerIds { node: NodeId::new(1), count: 1 };
    let payload = encode_commands(&[command]);
    let outcomes = metadata.apply(LogIndex::new(1), &payload, &mut Vec::new()).unwrap();
    assert_eq!(outcomes, [CommandOutcome::Refused(Refusal::NotFounded)]);
}

#[test]
fn a_node_registers_addresses_and_rack_and_may_change_them() {
    let mut world = World::founded(2);
    register(&mut world, registration(2, Some("b"))).unwrap();
    assert_eq!(world.metadata().node(NodeId::new(2)).unwrap().rack.as_deref(), Some("b"));
    let frames = world.log.len();
    register(&mut world, registration(2, Some("b"))).unwrap();
    assert_eq!(world.log.len(), frames, "nothing new: no command");
    let mut moved = registration(2, None);
    moved.boot.epoch = 2;
    moved.listeners[0].port = 19_092;
    register(&mut world, moved).unwrap();
    let node = world.metadata().node(NodeId::new(2)).unwrap();
    assert_eq!(node.listener("kafka").unwrap().port, 19_092);
    assert_eq!(node.listener("native"), None);
    let registered = MetadataEvent::NodeRegistered { node: NodeId::new(2) };
    assert_eq!(world.events, [registered.clone(), registered]);
}

#[test]
fn an_old_copy_of_a_disk_is_refused() {
    let mut world = World::founded(1);
    let start = |epoch, start_id| NodeRegistration {
        boot: BootEpoch { epoch, start_id },
        ..registration(1, None)
    };
    register(&mut world, start(5, 50)).unwrap();
    register(&mut world, start(5, 50)).unwrap();
    let stale = |found| Err(RegisterNodeError::StaleBoot { found, registered: 5 });
    assert_eq!(register(&mut world, start(5, 51)), stale(5));
    assert_eq!(register(&mut world, start(4, 50)), stale(4));
    register(&mut world, start(6, 60)).unwrap();
}

#[test]
fn a_registration_that_is_not_usable_is_refused() {
    let mut world = World::founded(1);
    let kafka = registration(2, None).listeners.remove(0);
    let with = |listener: ListenerAddress| NodeRegistration {
        listeners: vec![listener],
        ..registration(2, None)
    };
    for unusable in [
        with(ListenerAddress { port: 0, ..kafka.clone() }),
        with(ListenerAddress { host: "".into(), ..kafka.clone() }),
        with(ListenerAddress { name: "".into(), ..kafka.clone() }),
        registration(2, Some("")),
        registration(1 << 31, None),
        NodeRegistration { listeners: vec![kafka.clone(), kafka], ..registration(2, None) },
    ] {
        let refused = register(&mut world, unusable);
        assert!(matches!(refused, Err(RegisterNodeError::Malformed { .. })), "{refused:?}");
    }
}

#[test]
fn producer_ids_come_in_blocks_that_never_meet() {
    let mut world = World::founded(1);
    assert_eq!(allocate(&mut world), Ok(ProducerIdBlock { first: 0, count: 1_000 }));
    assert_eq!(allocate(&mut world), Ok(ProducerIdBlock { first: 1_000, count: 1_000 }));
    let request =
        ControllerRequest::AllocateProducerIds { node: NodeId::new(1), timeout_ms: 1_000 };
    let tickets = [world.ask(request.clone()), world.ask(request)];
    world.commit();
    let firsts = tickets.map(|ticket| match world.answer(ticket) {
        Some(Ok(ControllerResponse::ProducerIdsAllocated(Ok(block)))) => block.first,
        other => panic!("{other:?}"),
    });
    assert_eq!(firsts, [2_000, 3_000]);
}

#[test]
fn the_last_producer_id_is_given_once() {
    let mut world = World::founded(1);
    let mut metadata = world.metadata().clone();
    metadata.next_producer_id = i64::MAX as u64 - 1_500;
    world.controller = Controller::new(
        metadata,
        BrokerSettings::default(),
        founding_plan(1),
        Box::new(Random::new(1)),
    );
    world.lead();
    assert!(allocate(&mut world).is_ok());
    assert_eq!(allocate(&mut world), Err(ProducerIdsError::Exhausted));
}
