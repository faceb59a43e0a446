//! Commands and snapshots as bytes.

use super::*;
use crate::codec::DecodeProblem;
use crate::consumer_group::command::{
    AssignmentsStored, GenerationStarted, GroupRemoved, OffsetsCommitted, OffsetsExpired,
    StaticMemberReplaced, TopicDeleted,
};
use crate::consumer_group::member::Member;

fn member() -> Member {
    Member {
        id: "app-1".into(),
        instance_id: Some("A".into()),
        client_id: "app".into(),
        client_host: "::1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocols: vec![protocol("range", "m"), protocol("sticky", "")],
        assignment: Bytes::new(),
    }
}

fn commands() -> Vec<Command> {
    vec![
        Command::GenerationStarted(GenerationStarted {
            group_id: "g".into(),
            revision: 7,
            generation: 3,
            protocol_type: "consumer".into(),
            protocol: "range".into(),
            leader: "app-1".into(),
            wall_ms: 5,
            members: vec![member(), Member { instance_id: None, ..member() }],
        }),
        Command::AssignmentsStored(AssignmentsStored {
            group_id: "g".into(),
            revision: 8,
            generation: 3,
            assignments: vec![Assignment { member_id: "app-1".into(), assignment: "p".into() }],
        }),
        Command::StaticMemberReplaced(StaticMemberReplaced {
            group_id: "g".into(),
            revision: 9,
            old_member_id: "app-0".into(),
            member: member(),
        }),
        Command::GroupRemoved(GroupRemoved {
            group_id: "g".into(),
            revision: 10,
            with_offsets: true,
        }),
        Command::OffsetsCommitted(OffsetsCommitted {
            group_id: "g".into(),
            generation: -1,
            member_id: "".into(),
            wall_ms: 6,
            expires_wall_ms: Some(99),
            topics: vec![commit_topic("orders", &[(0, -1), (9, i64::MIN)])],
        }),
        Command::OffsetsExpired(OffsetsExpired {
            group_id: "g".into(),
            revision: 10,
            offsets: vec![("orders".into(), 9, LogIndex::new(4))],
        }),
        Command::TopicDeleted(TopicDeleted { topic: "orders".into(), topic_id: TopicId([1; 16]) }),
    ]
}

#[test]
fn every_command_comes_back_as_it_was_and_several_share_a_payload() {
    let mut payload = Vec::new();
    for command in commands() {
        let bytes = command.to_payload();
        assert_eq!(Command::decode_all(&bytes).unwrap(), std::slice::from_ref(&command));
        payload.extend_from_slice(&bytes);
    }
    assert_eq!(Command::decode_all(&payload).unwrap(), commands());
}

/// A member as it is stored: ids, client, timeouts, protocols.
const MEMBER: &str = "050000006170702d31 01 0100000041 03000000617070 030000003a3a31 \
    10270000 60ea0000 02000000 0500000072616e6765 010000006d 06000000737469636b79 00000000";

/// The bytes of [`commands`], as they lie on disks: a change here is a new version of a command.
fn golden_commands() -> [String; 7] {
    [
        format!(
            "01000100 c0000000 0100000067 0700000000000000 03000000 08000000636f6e73756d6572 \
             0500000072616e6765 050000006170702d31 0500000000000000 02000000 {MEMBER} {}",
            MEMBER.replace("01 0100000041", "00")
        ),
        "02000100 23000000 0100000067 0800000000000000 03000000 01000000 050000006170702d31 \
         0100000070"
            .to_owned(),
        format!("03000100 5b000000 0100000067 0900000000000000 050000006170702d30 {MEMBER}"),
        "04000100 0e000000 0100000067 0a00000000000000 01".to_owned(),
        "05000100 68000000 0100000067 ffffffff 00000000 0600000000000000 01 6300000000000000 \
         01000000 060000006f7264657273 07070707070707070707070707070707 02000000 \
         00000000 ffffffffffffffff 03000000 00000000 \
         09000000 0000000000000080 03000000 00000000"
            .to_owned(),
        "06000100 27000000 0100000067 0a00000000000000 01000000 060000006f7264657273 09000000 \
         0400000000000000"
            .to_owned(),
        "07000100 1a000000 060000006f7264657273 01010101010101010101010101010101".to_owned(),
    ]
}

fn assert_bytes(found: &[u8], golden: &str) {
    let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, golden.replace(' ', ""));
}

#[test]
fn the_bytes_of_a_command_never_change() {
    for (command, golden) in commands().iter().zip(golden_commands()) {
        assert_bytes(&command.to_payload(), &golden);
    }
}

#[test]
fn the_bytes_of_a_snapshot_never_change() {
    let mut tables = Tables::default();
    let commit = commands().swap_remove(4);
    assert_eq!(tables.apply(LogIndex::new(1), commit), tables::Outcome::Applied);
    let generation = Command::GenerationStarted(GenerationStarted {
        group_id: "g".into(),
        revision: 0,
        generation: 1,
        protocol_type: "consumer".into(),
        protocol: "range".into(),
        leader: "app-1".into(),
        wall_ms: 5,
        members: vec![member()],
    });
    assert_eq!(tables.apply(LogIndex::new(2), generation), tables::Outcome::Applied);
    let golden = format!(
        "42544753 0100 0000 0900000000000000 0501000000000000 ea5ad9c7 \
         01000000 0100000067 0100000000000000 01000000 00 08000000636f6e73756d6572 \
         0500000072616e6765 050000006170702d31 0500000000000000 01000000 {MEMBER} 00000000 \
         01000000 060000006f7264657273 07070707070707070707070707070707 02000000 \
         00000000 ffffffffffffffff 03000000 00000000 0100000000000000 0600000000000000 \
         01 6300000000000000 \
         09000000 0000000000000080 03000000 00000000 0100000000000000 0600000000000000 \
         01 6300000000000000"
    );
    assert_bytes(&snapshot::encode(&tables, LogIndex::new(9)), &golden);
}

fn problem<T: std::fmt::Debug>(outcome: Result<T, CommandError>) -> DecodeProblem {
    match outcome.unwrap_err() {
        CommandError::Field { source, .. } => source.problem,
        other => panic!("{other}"),
    }
}

#[test]
fn every_truncation_and_every_surplus_is_refused() {
    for command in commands() {
        let bytes = command.to_payload();
        for length in 0..bytes.len() {
            let outcome = Command::decode_all(&bytes[..length]);
            assert!(outcome.is_err(), "{length} of {} bytes of {command:?}", bytes.len());
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        let length = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) + 1;
        longer[4..8].copy_from_slice(&length.to_le_bytes());
        let outcome = Command::decode_all(&longer);
        assert_eq!(problem(outcome), DecodeProblem::Trailing { found: 1 });
    }
}

#[test]
fn damaged_commands_never_panic_and_never_ask_for_much() {
    let mut state = 1_u64;
    for command in commands() {
        let bytes = command.to_payload();
        for _ in 0..20_000 {
            let mut damaged = bytes.to_vec();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let position = (state >> 33) as usize % damaged.len();
                damaged[position] = (state >> 17) as u8;
            }
            let _ = Command::decode_all(&damaged);
        }
    }
}

#[test]
fn an_unknown_command_names_itself() {
    let outcome = Command::decode_all(&[42, 0, 1, 0, 0, 0, 0, 0]);
    assert_eq!(outcome, Err(CommandError::UnknownType { found: 42 }));
    let outcome = Command::decode_all(&[4, 0, 2, 0, 0, 0, 0, 0]);
    assert_eq!(outcome, Err(CommandError::UnknownVersion { command: 4, found: 2 }));
    assert_eq!(Command::decode_all(&[]), Err(CommandError::Empty));
}

#[test]
fn a_damaged_command_stops_the_caller_and_changes_nothing() {
    let mut world = World::new();
    world.commit("g", -1, "", 1).unwrap();
    let before = world.coordinator.tables.clone();
    let [good, mut bad] = [0, 1].map(|_| commands()[4].to_payload().to_vec());
    bad.truncate(bad.len() - 1);
    let payload = [good, bad].concat();
    let mut effects = GroupEffects::default();
    let index = LogIndex::new(2);
    let outcome = world.coordinator.apply(world.now, index, &payload, None, &mut effects);
    let problem = problem(outcome);
    assert!(matches!(problem, DecodeProblem::Truncated { .. }), "{problem}");
    assert_eq!(world.coordinator.tables, before);
}

#[test]
fn a_command_made_for_another_revision_changes_nothing() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    let ticket = world.rejoin("g", "a", &ids[0]);
    assert_eq!(world.joined(ticket).unwrap().generation, generation + 1);
    let stale = |revision| {
        let group_id = Name::from("g");
        let assignment = Assignment { member_id: ids[0].clone(), assignment: "stale".into() };
        [
            Command::AssignmentsStored(AssignmentsStored {
                group_id: group_id.clone(),
                revision,
                generation: generation + 1,
                assignments: vec![assignment],
            }),
            Command::StaticMemberReplaced(StaticMemberReplaced {
                group_id: group_id.clone(),
                revision,
                old_member_id: ids[0].clone(),
                member: member(),
            }),
            Command::GenerationStarted(GenerationStarted {
                group_id: group_id.clone(),
                revision,
                generation: generation + 2,
                protocol_type: "consumer".into(),
                protocol: "range".into(),
                leader: "".into(),
                wall_ms: 0,
                members: vec![],
            }),
            Command::GroupRemoved(GroupRemoved { group_id, revision, with_offsets: true }),
        ]
    };
    let revision = world.coordinator.tables.groups["g"].revision;
    for command in stale(revision - 1).into_iter().chain(stale(revision + 1)) {
        let mut tables = world.coordinator.tables.clone();
        let outcome = tables.apply(LogIndex::new(99), command.clone());
        assert!(matches!(outcome, tables::Outcome::Refused(_)), "{command:?}");
        assert_eq!(tables, world.coordinator.tables);
    }
}

#[test]
fn a_generation_takes_assignments_once() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    let mut tables = world.coordinator.tables.clone();
    let second = Command::AssignmentsStored(AssignmentsStored {
        group_id: "g".into(),
        revision: tables.groups["g"].revision,
        generation,
        assignments: vec![],
    });
    let outcome = tables.apply(LogIndex::new(99), second);
    assert!(matches!(outcome, tables::Outcome::Refused(_)), "{outcome:?}");
    assert_eq!(tables.groups["g"].members[&ids[0]].assignment, &*ids[0]);
}

#[test]
fn a_group_with_members_or_with_offsets_is_not_removed_by_the_way() {
    let mut world = World::new();
    world.stable("full", &["a"]);
    world.commit("offsets", -1, "", 1).unwrap();
    for (group_id, with_offsets) in [("full", true), ("offsets", false)] {
        let mut tables = world.coordinator.tables.clone();
        let revision = tables.groups[group_id].revision;
        let group_id = group_id.into();
        let command = Command::GroupRemoved(GroupRemoved { group_id, revision, with_offsets });
        let outcome = tables.apply(LogIndex::new(99), command);
        assert_eq!(outcome, tables::Outcome::Refused(tables::Refusal::NotEmpty));
        assert_eq!(tables, world.coordinator.tables);
    }
}

#[test]
fn a_snapshot_restores_to_itself() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    world.commit("g", generation, &ids[0], 4).unwrap();
    world.commit("simple", -1, "", 5).unwrap();
    let bytes = world.coordinator.snapshot(LogIndex::new(50));
    let settings = GroupSettings::default();
    let (restored, applied) = GroupCoordinator::restore(settings, &bytes).unwrap();
    assert_eq!(applied, LogIndex::new(50));
    assert_eq!(restored.tables, world.coordinator.tables);
    assert_eq!(restored.snapshot(applied), bytes);
    assert_eq!(restored.role(), CoordinatorRole::Follower);
}

#[test]
fn a_snapshot_that_is_cut_or_flipped_is_refused() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    world.commit("g", generation, &ids[0], 4).unwrap();
    let bytes = world.coordinator.snapshot(LogIndex::new(50));
    let restore = |bytes: &[u8]| GroupCoordinator::restore(GroupSettings::default(), bytes);
    for length in 0..bytes.len() {
        let error = restore(&bytes[..length]).map(|_| ()).unwrap_err();
        assert!(matches!(error, SnapshotError::Length { .. }), "{error}");
    }
    for position in 0..bytes.len() {
        let mut flipped = bytes.to_vec();
        flipped[position] ^= 0x40;
        assert!(restore(&flipped).is_err(), "byte {position}");
    }
    let mut other = bytes.to_vec();
    other[4] = 2;
    let error = restore(&other).map(|_| ()).unwrap_err();
    assert!(matches!(error, SnapshotError::NotASnapshot { found: 2, expected: 1, .. }), "{error}");
}

#[test]
fn a_snapshot_whose_body_lies_is_refused_without_a_panic() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    world.commit("g", generation, &ids[0], 4).unwrap();
    let bytes = world.coordinator.snapshot(LogIndex::new(50));
    let mut state = 7_u64;
    for _ in 0..20_000 {
        let mut damaged = bytes.to_vec();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let position = 28 + (state >> 33) as usize % (damaged.len() - 28);
        damaged[position] = (state >> 17) as u8;
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&damaged[..24]), &damaged[28..]);
        damaged[24..28].copy_from_slice(&checksum.to_le_bytes());
        let _ = GroupCoordinator::restore(GroupSettings::default(), &damaged);
    }
}
