//! Refusals that depend on the request alone, and limits.

use super::*;

#[test]
fn a_session_timeout_outside_the_range_is_refused() {
    let mut world = World::new();
    for asked in [5_999, 1_800_001, -1, 0, i32::MIN, i32::MAX] {
        let request = world.join_request("g", "a");
        let ticket = world.send_join(JoinGroup { session_timeout_ms: asked, ..request });
        let refused = JoinGroupError::InvalidSessionTimeout {
            found_ms: asked.into(),
            min_ms: 6_000,
            max_ms: 1_800_000,
        };
        assert_eq!(world.joined(ticket), Err(refused));
    }
    for asked in [6_000, 1_800_000] {
        let request = world.join_request("g", "a");
        let ticket = world.send_join(JoinGroup { session_timeout_ms: asked, ..request });
        assert!(matches!(world.joined(ticket), Err(JoinGroupError::MemberIdRequired { .. })));
    }
}

#[test]
fn an_empty_or_endless_group_id_is_refused() {
    let mut world = World::new();
    for group in [String::new(), "g".repeat(NAME_BYTES_MAX + 1)] {
        let request = world.join_request(&group, "a");
        let ticket = world.send_join(request);
        assert_eq!(world.joined(ticket), Err(JoinGroupError::InvalidGroupId));
        let sync = world.send_sync(&group, 1, &"m".into(), &[]);
        assert_eq!(world.synced(sync), Err(SyncGroupError::InvalidGroupId));
        let beat = world.heartbeat(&group, 1, &"m".into());
        assert_eq!(beat, Err(HeartbeatError::InvalidGroupId));
        let leave = world.send_leave(&group, &[("m", None)]);
        let refused = GroupResponse::LeaveGroup(Err(LeaveGroupError::InvalidGroupId));
        assert_eq!(world.replies[&leave], refused);
    }
    let endless = "g".repeat(NAME_BYTES_MAX + 1);
    assert_eq!(world.commit(&endless, -1, "", 1), Err(OffsetCommitError::InvalidGroupId));
    assert_eq!(world.commit("", -1, "", 1), Ok(()), "offsets need no name, as in Kafka");
    assert_eq!(world.position(""), Some(1));
}

#[test]
fn a_stranger_cannot_join_under_an_id_of_its_own() {
    let mut world = World::new();
    let unknown = Err(JoinGroupError::UnknownMemberId);
    let ticket = world.rejoin("g", "a", &"mine".into());
    assert_eq!(world.joined(ticket), unknown);
    world.stable("g", &["a"]);
    let ticket = world.rejoin("g", "a", &"mine".into());
    assert_eq!(world.joined(ticket), unknown);
}

#[test]
fn a_full_group_takes_nobody_but_its_members() {
    let settings = GroupSettings { members_per_group_max: 2, ..GroupSettings::default() };
    let mut world = World::with(settings);
    let (generation, ids) = world.stable("g", &["a", "b"]);
    let request = world.join_request("g", "c");
    let ticket = world.send_join(request);
    let refused = JoinGroupError::GroupMaxSizeReached { what: "members", found: 2, max: 2 };
    assert_eq!(world.joined(ticket), Err(refused));
    let ticket = world.rejoin("g", "b", &ids[1]);
    assert_eq!(world.joined(ticket).unwrap().generation, generation);
}

#[test]
fn handed_out_ids_are_limited() {
    let mut world = World::new();
    let mut request = world.join_request("g", "a");
    for id in 0..PENDING_MEMBERS_PER_GROUP_MAX {
        request.member_uuid[..8].copy_from_slice(&(id as u64).to_le_bytes());
        let ticket = world.send_join(request.clone());
        assert!(matches!(world.joined(ticket), Err(JoinGroupError::MemberIdRequired { .. })));
    }
    let request = world.join_request("g", "a");
    let ticket = world.send_join(request);
    let max = PENDING_MEMBERS_PER_GROUP_MAX;
    let refused = JoinGroupError::GroupMaxSizeReached { what: "pending members", found: max, max };
    assert_eq!(world.joined(ticket), Err(refused));
}

#[test]
fn an_id_is_never_handed_out_twice() {
    let mut world = World::new();
    let request = world.join_request("g", "a");
    world.send_join(request.clone());
    let ticket = world.send_join(request);
    assert_eq!(world.joined(ticket), Err(CoordinatorError::NotAvailable.into()));
}

#[test]
fn names_protocols_and_metadata_are_limited() {
    let mut world = World::new();
    let long: Name = "x".repeat(NAME_BYTES_MAX + 1).into();
    let base = world.join_request("g", "a");
    let many = vec![protocol("p", ""); PROTOCOLS_PER_MEMBER_MAX + 1];
    let large = vec![protocol("p", &"x".repeat(MEMBER_METADATA_BYTES_MAX))];
    let requests = [
        JoinGroup { client_id: long.clone(), ..base.clone() },
        JoinGroup { client_host: long.clone(), ..base.clone() },
        JoinGroup { member_id: long.clone(), ..base.clone() },
        JoinGroup { protocol_type: long.clone(), ..base.clone() },
        JoinGroup { group_instance_id: Some(long.clone()), ..base.clone() },
        JoinGroup { protocols: vec![protocol(&long, "")], ..base.clone() },
        JoinGroup { protocols: many, ..base.clone() },
        JoinGroup { protocols: large, ..base.clone() },
    ];
    for request in requests {
        let ticket = world.send_join(request);
        let outcome = world.joined(ticket);
        assert!(matches!(outcome, Err(JoinGroupError::InvalidRequest { .. })), "{outcome:?}");
    }
}

#[test]
fn a_generation_always_fits_one_command() {
    let mut world = World::with(super::joining::delayed(3_000));
    let large = vec![protocol("p", &"x".repeat(MEMBER_METADATA_BYTES_MAX - 9))];
    let mut tickets = Vec::new();
    loop {
        let request = world.join_request("g", "a");
        let protocols = large.clone();
        let request = JoinGroup { protocols, member_id_required: false, ..request };
        let ticket = world.send_join(request);
        if !world.is_waiting(ticket) {
            let outcome = world.joined(ticket);
            let Err(JoinGroupError::GroupMaxSizeReached { what, .. }) = outcome else {
                panic!("{outcome:?}")
            };
            assert_eq!(what, "metadata bytes");
            break;
        }
        tickets.push(ticket);
    }
    assert_eq!(tickets.len(), 11);
    world.pass(6_000);
    let leader = world.joined(tickets[0]).unwrap();
    assert!(world.log.iter().all(|payload| payload.len() <= COMMAND_BYTES_MAX));
    let too_large = "x".repeat(GROUP_ASSIGNMENT_BYTES_MAX);
    let plan = [(&leader.leader, &*too_large)];
    let sync = world.send_sync("g", 1, &leader.leader, &plan);
    assert!(matches!(world.synced(sync), Err(SyncGroupError::MessageTooLarge { .. })));
}

#[test]
fn groups_of_a_partition_are_limited() {
    let mut world = World::new();
    for group in 0..GROUPS_PER_PARTITION_MAX {
        // Straight into the tables: the harness checks too much for ten thousand calls.
        let stored = super::tables::StoredGroup::default();
        world.coordinator.tables.groups.insert(format!("g{group}").into(), stored);
    }
    let request = world.join_request("one too many", "a");
    let ticket = world.send_join(request);
    let max = GROUPS_PER_PARTITION_MAX;
    let refused = JoinGroupError::GroupMaxSizeReached { what: "groups", found: max, max };
    assert_eq!(world.joined(ticket), Err(refused));
    let refused = OffsetCommitError::InvalidCommitOffsetSize { what: "groups", found: max, max };
    assert_eq!(world.commit("one too many", -1, "", 1), Err(refused));
    assert_eq!(world.commit("g0", -1, "", 1), Ok(()));
}

#[test]
fn waiting_requests_are_limited_and_heartbeats_go_on() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    let parked = std::mem::replace(&mut world.coordinator.live.parked, PARKED_REQUESTS_MAX);
    let ticket = Ticket(1_000_000);
    world.tickets = ticket.0;
    let request = commit_request("g", generation, &ids[0], 1);
    let mut effects = GroupEffects::default();
    world.coordinator.handle(world.now, request, ticket, &mut effects);
    let refused = GroupResponse::OffsetCommit(Err(CoordinatorError::NotAvailable.into()));
    assert_eq!(effects.replies, [(ticket, refused)]);
    world.coordinator.live.parked = parked;
    assert_eq!(world.heartbeat("g", generation, &ids[0]), Ok(()));
}

#[test]
fn a_group_lives_in_the_partition_of_its_checksum() {
    // CRC-32C's check value is that of "123456789": 0xe3069283.
    assert_eq!(partition_of("123456789"), 0xe306_9283 % 16);
    assert_eq!(partition_of(""), 0);
}

#[test]
fn a_description_shows_members_and_hides_what_is_not_settled() {
    let mut world = World::new();
    assert_eq!(world.coordinator.describe("g"), None);
    let (_, ids) = world.stable("g", &["a"]);
    let description = world.coordinator.describe("g").unwrap();
    assert_eq!(&*description.protocol_name, "range");
    assert_eq!(description.members[0].metadata, "a");
    assert_eq!(description.members[0].assignment, &*ids[0]);
    assert_eq!(&*description.members[0].client_host, "127.0.0.1");
    world.enter("g", "b");
    let description = world.coordinator.describe("g").unwrap();
    assert_eq!(description.state.name(), "PreparingRebalance");
    assert_eq!((&*description.protocol_name, description.members.len()), ("", 2));
    assert!(description.members.iter().all(|member| member.metadata.is_empty()));
    world.commit("simple", -1, "", 1).unwrap();
    let listed: Vec<_> = world.coordinator.groups();
    assert_eq!(listed.len(), 2);
    assert_eq!((&*listed[1].group_id, &*listed[1].protocol_type), ("simple", ""));
    let totals = world.coordinator.totals();
    assert_eq!((totals.group_count, totals.offset_count, totals.parked_count), (2, 1, 1));
}
