//! Random requests, commits, losses and restarts: the log alone makes the state.

use std::collections::BTreeMap;

use super::*;

const NAMES: [&str; 8] = ["a", "b", "a.b", "a_b", "c", "orders", "bad name", "__consumer_offsets"];

fn random_topic(random: &mut Random) -> NewTopic {
    let name = NAMES[random.below(NAMES.len())];
    match random.below(6) {
        0 => with_config(name, "retention.ms", &random.below(5_000).to_string()),
        1 => with_config(name, "cleanup.policy", "compact"),
        2 => assigned(name, &[(0, &[1, 2]), (1, &[2, 3])]),
        _ => topic(name, random.below(5) as i32 - 1, random.below(5) as i16 - 1),
    }
}

fn random_request(random: &mut Random, metadata: &Metadata) -> ControllerRequest {
    let timeout_ms = [5, 50, 5_000][random.below(3)];
    let name = NAMES[random.below(NAMES.len())];
    match random.below(10) {
        0..=2 => ControllerRequest::CreateTopics(CreateTopics {
            topics: (0..=random.below(3)).map(|_| random_topic(random)).collect(),
            validate_only: random.below(5) == 0,
            timeout_ms,
        }),
        3 => ControllerRequest::AutoCreateTopics {
            names: vec![name.into(), NAMES[random.below(NAMES.len())].into()],
            timeout_ms,
        },
        4 => {
            let by_id_or_name = match metadata.topic(name) {
                Some(topic) if random.below(2) == 0 => by_id(topic.id),
                _ => by_name(name),
            };
            ControllerRequest::DeleteTopics {
                topics: vec![by_id_or_name, by_name(NAMES[random.below(NAMES.len())])],
                timeout_ms,
            }
        }
        5 => ControllerRequest::AlterTopicConfigs(AlterTopicConfigs {
            topic: name.into(),
            changes: vec![("segment.ms".into(), Some(random.below(4).to_string()))],
            validate_only: false,
            timeout_ms,
        }),
        6 => ControllerRequest::CreatePartitions(CreatePartitions {
            topic: name.into(),
            partition_count: random.below(7) as i32,
            validate_only: random.below(5) == 0,
            timeout_ms,
        }),
        7 => ControllerRequest::AllocateProducerIds { node: NodeId::new(1), timeout_ms },
        8 => ControllerRequest::RegisterNode {
            registration: NodeRegistration {
                boot: BootEpoch { epoch: random.below(4) as u64, start_id: 1 },
                ..registration(1 + random.below(4) as u64, None)
            },
            timeout_ms,
        },
        _ => ControllerRequest::ConfirmRemoved {
            node: NodeId::new(1 + random.below(3) as u64),
            incarnations: metadata.tombstones.keys().copied().take(2).collect(),
            timeout_ms,
        },
    }
}

/// A node that keeps logs by what it is told.
#[derive(Default)]
struct Disk {
    logs: BTreeMap<u64, PartitionPlacement>,
}

impl Disk {
    fn follow(&mut self, event: MetadataEvent) {
        match event {
            MetadataEvent::PartitionCreated(placement) => {
                let id = placement.incarnation.get();
                assert!(self.logs.insert(id, placement).is_none(), "created twice");
            }
            MetadataEvent::PartitionDeleted { incarnation, .. } => {
                assert!(self.logs.remove(&incarnation.get()).is_some(), "never created");
            }
            MetadataEvent::TopicConfigChanged { incarnations, config, .. } => {
                for incarnation in incarnations {
                    self.logs.get_mut(&incarnation.get()).unwrap().config = config.clone();
                }
            }
            MetadataEvent::PartitionAssigned(placement) => {
                let id = placement.incarnation.get();
                assert!(self.logs.insert(id, placement).is_some(), "never created");
            }
            MetadataEvent::ClusterFounded { .. }
            | MetadataEvent::NodeRegistered { .. }
            | MetadataEvent::ReplicaRemoved { .. }
            | MetadataEvent::QuorumAssigned
            | MetadataEvent::NodeAdmitted { .. }
            | MetadataEvent::NodeRemoved { .. }
            | MetadataEvent::TopicDeleted { .. } => {}
        }
    }
}

fn run(seed: u64) -> World {
    let mut random = Random::new(seed);
    let mut world = World::unfounded(3, BrokerSettings::default(), seed);
    let mut disk = Disk::default();
    let mut asked = 0;
    let mut halfway = None;
    world.lead();
    for step in 0..300 {
        match random.below(20) {
            0..=9 => {
                let request = random_request(&mut random, world.controller.metadata());
                world.ask(request);
                asked += 1;
            }
            10..=16 => {
                world.commit_one();
            }
            17 => world.advance(random.below(30) as u64),
            18 if !world.pending.is_empty() => {
                let place = random.below(world.pending.len());
                world.drop_one(place);
            }
            19 if random.below(4) == 0 => {
                world.resign();
                // The next leader's no-op decides how much of the tail survives.
                let survives = random.below(world.pending.len() + 1);
                world.pending.truncate(survives);
                world.commit();
                world.lead();
            }
            _ => {}
        }
        world.events.drain(..).for_each(|event| disk.follow(event));
        if step == 150 {
            halfway = Some((world.log.len(), world.metadata().snapshot()));
        }
    }
    world.advance(200);
    world.commit();
    world.resign();
    world.events.drain(..).for_each(|event| disk.follow(event));
    assert_eq!(world.answers.len(), asked, "every ticket has one answer");
    same_after_a_restart(&world, &disk, &halfway.unwrap());
    world
}

fn same_after_a_restart(world: &World, disk: &Disk, halfway: &(usize, Bytes)) {
    assert_eq!(world.replayed(), *world.metadata());
    let mut restored = Metadata::restore(&halfway.1).unwrap();
    for (index, payload) in (1..).zip(&world.log) {
        let outcomes = restored.apply(LogIndex::new(index), payload, &mut Vec::new()).unwrap();
        assert_eq!(outcomes.is_empty(), index <= halfway.0 as u64, "applied once");
    }
    assert_eq!(restored, *world.metadata());
    let mut events = Vec::new();
    restored.replay_events(&mut events);
    let mut again = Disk::default();
    for event in events {
        match event {
            MetadataEvent::PartitionDeleted { incarnation, .. } => {
                assert!(restored.is_tombstone(incarnation));
            }
            other => again.follow(other),
        }
    }
    assert_eq!(again.logs, disk.logs, "a node that starts again knows the same logs");
}

#[test]
fn replaying_the_commands_gives_the_live_state() {
    let mut topics = 0;
    for seed in 0..300 {
        topics += run(seed).metadata().topics().count();
    }
    assert!(topics > 300, "the runs do something: {topics} topics are left");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (first, second) = (run(42), run(42));
    assert_eq!(first.log, second.log);
    assert_eq!(first.answers, second.answers);
    assert_ne!(first.log, run(43).log);
}

#[test]
fn a_snapshot_restores_the_very_state_and_its_very_bytes() {
    for seed in 0..50 {
        let world = run(seed);
        let snapshot = world.metadata().snapshot();
        let restored = Metadata::restore(&snapshot).unwrap();
        assert_eq!(restored, *world.metadata());
        assert_eq!(restored.snapshot(), snapshot);
    }
    let empty = Metadata::new();
    assert_eq!(Metadata::restore(&empty.snapshot()), Ok(empty));
}
