//! Commands and snapshots as bytes: round trips, truncation, and bytes that lie.

use bateau_protocol::ids::{Incarnation, ReplicaId};

use super::*;
use crate::codec::{DecodeError, DecodeProblem};
use crate::command_frame::CommandError;

fn pinned() -> NodeRegistration {
    let mut node = registration(1, Some("rack-a"));
    node.directory = [0xf0; 16];
    node.listeners[0].pin = Some([0x91; 32]);
    node
}

/// One command of every type, with every optional part.
pub(super) fn one_of_each() -> Vec<MetadataCommand> {
    let configs: ConfigOverrides = [("retention.ms".into(), "1000".into())].into();
    vec![
        MetadataCommand::Found {
            cluster_id: ClusterId([0xc1; 16]),
            feature_level: 1,
            founders: [(1, 0xf0), (2, 0xf2)]
                .map(|(node, id)| Founder {
                    node: NodeId::new(node),
                    founding_id: [id; 16],
                    peers_address: "127.0.0.1:9644".into(),
                })
                .to_vec(),
        },
        MetadataCommand::RegisterNode(pinned()),
        MetadataCommand::CreateTopic(Topic {
            name: "orders".into(),
            id: TopicId([0x10; 16]),
            internal: false,
            configs: configs.clone(),
            partitions: vec![Partition::born(
                Incarnation::new(0x1122_3344_5566_7788),
                vec![replica(0, 1), replica(1, 2)],
            )],
        }),
        MetadataCommand::DeleteTopic { topic: TopicId([0x10; 16]) },
        MetadataCommand::SetTopicConfigs { topic: TopicId([0x10; 16]), configs },
        MetadataCommand::AllocateProducerIds { node: NodeId::new(1), count: 1_000 },
        MetadataCommand::ConfirmRemoved {
            node: NodeId::new(1),
            incarnations: vec![Incarnation::new(0x1122_3344_5566_7788)],
        },
        MetadataCommand::CreatePartitions {
            topic: TopicId([0x10; 16]),
            partition_count_before: 1,
            partitions: vec![Partition::born(
                Incarnation::new(0x1122_3344_5566_7799),
                vec![replica(2, 2)],
            )],
        },
        MetadataCommand::AssignReplicas {
            incarnation: Incarnation::new(0x1122_3344_5566_7788),
            replicas: vec![replica(0, 1), replica(3, 3)],
        },
        MetadataCommand::SettleReplicas {
            incarnation: Incarnation::new(0x1122_3344_5566_7788),
            assignment: 1,
        },
        MetadataCommand::PermitNode { node: NodeId::new(4), permit: Permit::Join },
        MetadataCommand::PermitNode { node: NodeId::new(2), permit: Permit::Replace },
        MetadataCommand::WithdrawPermit { node: NodeId::new(2) },
        MetadataCommand::AdmitNode {
            founder: Founder {
                node: NodeId::new(4),
                founding_id: [0xf4; 16],
                peers_address: "127.0.0.1:9647".into(),
            },
            replica: ReplicaId::new((1 << 32) + 4),
        },
        MetadataCommand::SetStanding { node: NodeId::new(4), standing: Standing::Draining },
        MetadataCommand::RemoveNode { node: NodeId::new(4) },
        MetadataCommand::AssignQuorum {
            voters: vec![Replica { id: ReplicaId::new(1), node: NodeId::new(1) }],
            learners: vec![replica(4, 4)],
        },
    ]
}

fn replica(number: u64, node: u64) -> Replica {
    Replica { id: ReplicaId::new((1 << 32) + number), node: NodeId::new(node) }
}

#[test]
fn every_command_survives_a_round_trip() {
    for command in one_of_each() {
        let commands = vec![command];
        assert_eq!(decode_commands(&encode_commands(&commands)), Ok(commands));
    }
    let all = one_of_each();
    assert_eq!(decode_commands(&encode_commands(&all)), Ok(all));
}

#[test]
fn every_truncation_of_every_command_is_an_error() {
    for command in one_of_each() {
        let whole = encode_commands(std::slice::from_ref(&command));
        for length in 0..whole.len() {
            let found = decode_commands(&whole[..length]);
            assert!(found.is_err(), "{length} of {} bytes of {command:?}", whole.len());
        }
    }
}

#[test]
fn every_truncation_of_a_body_under_an_honest_length_is_an_error() {
    for command in one_of_each() {
        let whole = encode_commands(std::slice::from_ref(&command));
        for length in 8..whole.len() {
            let mut shorter = whole[..length].to_vec();
            shorter[4..8].copy_from_slice(&((length - 8) as u32).to_le_bytes());
            let found = decode_commands(&shorter);
            assert!(matches!(found, Err(CommandError::Field { .. })), "{length}: {command:?}");
        }
    }
}

#[test]
fn bytes_behind_a_body_are_an_error() {
    for command in one_of_each() {
        let mut longer = encode_commands(&[command]).to_vec();
        longer.push(0);
        let length = (longer.len() - 8) as u32;
        longer[4..8].copy_from_slice(&length.to_le_bytes());
        let error = decode_commands(&longer).unwrap_err();
        assert!(
            matches!(
                &error,
                &CommandError::Field {
                    source: DecodeError { problem: DecodeProblem::Trailing { found: 1 }, .. },
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn an_empty_payload_is_an_error() {
    assert_eq!(decode_commands(&[]), Err(CommandError::Empty));
}

#[test]
fn an_unknown_type_or_version_stops_the_replica() {
    let mut payload = encode_commands(&[MetadataCommand::DeleteTopic { topic: TopicId::ZERO }]);
    let mut newer = payload.to_vec();
    newer[2] = 2;
    let error = CommandError::UnknownVersion { command: 4, found: 2 };
    assert_eq!(decode_commands(&newer), Err(error.clone()));
    for unknown in [0, 17, u16::MAX] {
        let mut newer = payload.to_vec();
        newer[..2].copy_from_slice(&unknown.to_le_bytes());
        let error = CommandError::UnknownType { found: unknown };
        assert_eq!(decode_commands(&newer), Err(error));
    }
    payload = newer.into();
    let mut world = World::founded(1);
    let before = world.metadata().clone();
    let mut effects = Vec::new();
    let applied = world.controller.apply(LogIndex::new(99), None, &payload, &mut effects);
    assert_eq!(applied, Err(error));
    assert_eq!((world.metadata(), effects), (&before, vec![]), "nothing was applied");
}

#[test]
fn a_payload_that_is_wrong_in_part_is_applied_in_no_part() {
    let mut world = World::founded(1);
    let id = world.create_one(topic("a", 1, 1)).unwrap().id;
    let mut payload = encode_commands(&[MetadataCommand::DeleteTopic { topic: id }]).to_vec();
    payload.extend([17, 0, 1, 0, 0, 0, 0, 0]);
    let mut effects = Vec::new();
    world.controller.apply(LogIndex::new(99), None, &payload, &mut effects).unwrap_err();
    assert!(world.metadata().topic("a").is_some());
}

#[test]
fn random_damage_never_panics() {
    let mut random = Random::new(1);
    let payload = encode_commands(&one_of_each());
    let mut world = World::founded(2);
    world.create_one(topic("a", 3, 2)).unwrap();
    let snapshot = world.metadata().snapshot();
    for _ in 0..20_000 {
        for original in [&payload, &snapshot] {
            let mut damaged = original.to_vec();
            for _ in 0..=random.below(3) {
                let place = random.below(damaged.len());
                damaged[place] = random.next_u64() as u8;
            }
            let _ = decode_commands(&damaged);
            if let Ok(restored) = Metadata::restore(&damaged) {
                restored.check_invariants();
            }
        }
    }
}

#[test]
fn every_truncation_of_a_snapshot_is_an_error() {
    let mut world = World::founded(2);
    world.create_one(topic("a", 2, 2)).unwrap();
    world.create_one(topic("b", 1, 1)).unwrap();
    world.delete(vec![by_name("b")]);
    let snapshot = world.metadata().snapshot();
    for length in 0..snapshot.len() {
        let found = Metadata::restore(&snapshot[..length]);
        assert!(matches!(found, Err(SnapshotError::Field(_))), "{length}: {found:?}");
    }
    let mut longer = snapshot.to_vec();
    longer.push(0);
    assert!(matches!(Metadata::restore(&longer), Err(SnapshotError::Field(_))));
}

#[test]
fn a_newer_snapshot_is_refused() {
    let mut snapshot = Metadata::new().snapshot().to_vec();
    snapshot[0] = 3;
    assert_eq!(Metadata::restore(&snapshot), Err(SnapshotError::Version { found: 3 }));
}

#[test]
fn a_snapshot_that_contradicts_itself_is_refused() {
    let mut world = World::founded(1);
    world.create_one(topic("a", 2, 1)).unwrap();
    let incarnations: Vec<_> = world
        .metadata()
        .topic("a")
        .unwrap()
        .partitions
        .iter()
        .map(|partition| partition.incarnation.get().to_le_bytes())
        .collect();
    let mut snapshot = world.metadata().snapshot().to_vec();
    let place = snapshot.windows(8).position(|bytes| bytes == incarnations[1]).unwrap();
    snapshot[place..place + 8].copy_from_slice(&incarnations[0]);
    let twice = SnapshotError::Contradiction { invariant: "I-META-2" };
    assert_eq!(Metadata::restore(&snapshot), Err(twice.clone()));
    snapshot[place..place + 8].copy_from_slice(&1_u64.to_le_bytes());
    assert_eq!(Metadata::restore(&snapshot), Err(twice));
    snapshot[place..place + 8].copy_from_slice(&incarnations[1]);
    assert!(Metadata::restore(&snapshot).is_ok());
    let next = world.metadata().next_replica_id - 1;
    let place = snapshot.windows(8).position(|bytes| bytes == next.to_le_bytes()).unwrap();
    snapshot[place..place + 8].copy_from_slice(&5_u64.to_le_bytes());
    let foreign = SnapshotError::Contradiction { invariant: "I-META-3" };
    assert_eq!(Metadata::restore(&snapshot), Err(foreign));
}
