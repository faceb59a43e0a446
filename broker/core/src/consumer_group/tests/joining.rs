//! JoinGroup and rebalances of dynamic members.

use super::*;

#[test]
fn a_new_member_is_given_an_id_and_joins_with_it() {
    let mut world = World::new();
    let request = world.join_request("g", "app");
    let ticket = world.send_join(request);
    let Err(JoinGroupError::MemberIdRequired { member_id }) = world.joined(ticket) else {
        panic!("no id")
    };
    assert_eq!(&*member_id, "app-01010101-0101-0101-0101-010101010101");
    let ticket = world.rejoin("g", "app", &member_id);
    let joined = world.joined(ticket).unwrap();
    assert_eq!((joined.generation, &joined.leader), (1, &member_id));
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].metadata, "app");
}

#[test]
fn a_member_of_an_old_client_joins_at_once() {
    let mut world = World::new();
    let request = world.join_request("g", "old");
    let ticket = world.send_join(JoinGroup { member_id_required: false, ..request });
    assert_eq!(world.joined(ticket).unwrap().generation, 1);
}

#[test]
fn an_id_that_is_not_used_lapses_with_the_session_timeout() {
    let mut world = World::new();
    let request = world.join_request("g", "app");
    world.send_join(request.clone());
    let member_id = Name::from("app-01010101-0101-0101-0101-010101010101");
    world.pass(9_999);
    assert_eq!(world.coordinator.groups().len(), 1);
    world.pass(1);
    assert_eq!(world.coordinator.groups().len(), 0);
    let ticket = world.send_join(JoinGroup { member_id, ..request });
    assert_eq!(world.joined(ticket), Err(JoinGroupError::UnknownMemberId));
    assert!(world.log.is_empty(), "nothing that ended before a generation is written");
}

#[test]
fn only_the_leader_is_told_the_members() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a"]);
    let (second, ticket) = world.enter("g", "b");
    assert!(world.is_waiting(ticket), "the group waits for its first member");
    let leader = world.rejoin("g", "a", &ids[0]);
    let (leader, follower) = (world.joined(leader).unwrap(), world.joined(ticket).unwrap());
    assert_eq!((leader.generation, follower.generation), (2, 2));
    assert_eq!(leader.members.len(), 2);
    assert!(follower.members.is_empty());
    assert_eq!((&follower.leader, &follower.member_id), (&ids[0], &second));
}

#[test]
fn the_protocol_that_most_members_prefer_wins_among_those_that_all_have() {
    let mut world = World::with(delayed(3_000));
    let offers: [&[&str]; 3] =
        [&["only-a", "range", "sticky"], &["sticky", "range"], &["sticky", "range"]];
    let mut tickets = Vec::new();
    for (client, names) in ["a", "b", "c"].iter().zip(offers) {
        let request = world.join_request("g", client);
        let protocols = names.iter().map(|name| protocol(name, client)).collect();
        let request = JoinGroup { protocols, member_id_required: false, ..request };
        tickets.push(world.send_join(request));
    }
    world.pass(60_000);
    let joined = world.joined(tickets[0]).unwrap();
    assert_eq!(&*joined.protocol_name, "sticky");
    assert_eq!(
        joined.members.iter().map(|m| &m.metadata[..]).collect::<Vec<_>>(),
        [b"a", b"b", b"c"]
    );
}

#[test]
fn a_tie_goes_to_what_the_leader_prefers() {
    let mut world = World::with(delayed(3_000));
    let mut tickets = Vec::new();
    for (client, names) in [("z", ["zeta", "alpha"]), ("a", ["alpha", "zeta"])] {
        let request = world.join_request("g", client);
        let protocols = names.iter().map(|name| protocol(name, client)).collect();
        let request = JoinGroup { protocols, member_id_required: false, ..request };
        tickets.push(world.send_join(request));
    }
    world.pass(60_000);
    assert_eq!(&*world.joined(tickets[1]).unwrap().protocol_name, "zeta");
}

#[test]
fn members_without_a_common_protocol_or_type_are_refused() {
    let mut world = World::new();
    world.stable("g", &["a"]);
    let request = world.join_request("g", "b");
    let refused = Err(JoinGroupError::InconsistentGroupProtocol);
    for (protocol_type, protocols) in [
        ("consumer", vec![protocol("sticky", "")]),
        ("connect", vec![protocol("range", "")]),
        ("", vec![protocol("range", "")]),
        ("consumer", vec![]),
    ] {
        let protocol_type = protocol_type.into();
        let ticket = world.send_join(JoinGroup { protocol_type, protocols, ..request.clone() });
        assert_eq!(world.joined(ticket), refused);
    }
    let ticket =
        world.send_join(JoinGroup { group_id: "new".into(), protocols: vec![], ..request });
    assert_eq!(world.joined(ticket), refused);
}

#[test]
fn a_group_may_be_of_any_protocol_type() {
    let mut world = World::new();
    let request = world.join_request("connect-cluster", "worker");
    let ticket = world.send_join(JoinGroup {
        protocol_type: "connect".into(),
        protocols: vec![protocol("sessioned", "w")],
        member_id_required: false,
        ..request
    });
    let joined = world.joined(ticket).unwrap();
    assert_eq!((&*joined.protocol_type, &*joined.protocol_name), ("connect", "sessioned"));
    let sync = world.send_sync("connect-cluster", 1, &joined.member_id, &[]);
    assert_eq!(world.synced(sync), Ok(Bytes::new()));
    assert_eq!(world.heartbeat("connect-cluster", 1, &joined.member_id), Ok(()));
}

#[test]
fn a_group_left_empty_may_change_its_protocol_type() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a"]);
    world.leave("g", &[(&ids[0], None)]);
    let request = world.join_request("g", "b");
    let protocol_type = "sr".into();
    let request = JoinGroup { protocol_type, member_id_required: false, ..request };
    let ticket = world.send_join(request);
    assert_eq!(world.joined(ticket).unwrap().generation, 3);
}

#[test]
fn a_follower_that_joins_again_unchanged_gets_the_running_generation() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    let ticket = world.rejoin("g", "b", &ids[1]);
    let joined = world.joined(ticket).unwrap();
    assert_eq!((joined.generation, &joined.leader), (generation, &ids[0]));
    assert_eq!(world.state("g"), Some(GroupState::Stable));
    let sync = world.send_sync("g", generation, &ids[1], &[]);
    assert_eq!(world.synced(sync).unwrap(), &*ids[1]);
}

#[test]
fn a_follower_that_joins_again_changed_starts_a_rebalance() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    let changed = world.rejoin("g", "b2", &ids[1]);
    assert!(world.is_waiting(changed));
    assert_eq!(world.heartbeat("g", generation, &ids[0]), Err(HeartbeatError::RebalanceInProgress));
    let leader = world.rejoin("g", "a", &ids[0]);
    let told = world.joined(leader).unwrap().members;
    assert!(told.iter().any(|member| member.metadata == "b2"));
    assert_eq!(world.joined(changed).unwrap().generation, generation + 1);
}

#[test]
fn a_leader_that_joins_again_starts_a_rebalance() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    let leader = world.rejoin("g", "a", &ids[0]);
    assert!(world.is_waiting(leader));
    world.rejoin("g", "b", &ids[1]);
    assert_eq!(world.joined(leader).unwrap().generation, generation + 1);
}

#[test]
fn a_lost_join_answer_is_given_again() {
    let mut world = World::new();
    let (id, first) = world.enter("g", "a");
    let again = world.rejoin("g", "a", &id);
    assert_eq!(world.joined(first), world.joined(again));
    assert_eq!(world.state("g"), Some(GroupState::CompletingRebalance));
}

#[test]
fn a_second_join_of_a_waiting_member_replaces_the_first() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a"]);
    let (id, first) = world.enter("g", "b");
    let second = world.rejoin("g", "b", &id);
    assert_eq!(world.joined(first), Err(JoinGroupError::RebalanceInProgress));
    world.rejoin("g", "a", &ids[0]);
    assert_eq!(world.joined(second).unwrap().member_id, id);
}

#[test]
fn a_member_that_does_not_join_in_time_is_left_behind() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    let (_, ticket) = world.enter("g", "c");
    let again = world.rejoin("g", "b", &ids[1]);
    for _ in 0..12 {
        assert!(world.is_waiting(ticket));
        let beat = world.heartbeat("g", generation, &ids[0]);
        assert_eq!(beat, Err(HeartbeatError::RebalanceInProgress));
        world.pass(5_000);
    }
    let joined = world.joined(again).unwrap();
    assert_eq!((joined.generation, joined.leader != ids[0]), (generation + 1, true));
    let late = world.heartbeat("g", generation, &ids[0]);
    assert_eq!(late, Err(HeartbeatError::UnknownMemberId));
}

#[test]
fn the_longest_rebalance_timeout_counts() {
    let mut world = World::new();
    let request = world.join_request("g", "slow");
    let request = JoinGroup { rebalance_timeout_ms: 90_000, member_id_required: false, ..request };
    let first = world.send_join(request);
    let id = world.joined(first).unwrap().member_id;
    world.send_sync("g", 1, &id, &[]);
    let (_, ticket) = world.enter("g", "quick");
    for _ in 0..17 {
        let _ = world.heartbeat("g", 1, &id);
        world.pass(5_000);
    }
    assert!(world.is_waiting(ticket), "85 s are below the slow member's 90");
    world.pass(5_000);
    assert_eq!(world.joined(ticket).unwrap().generation, 2);
}

#[test]
fn a_silent_member_is_dropped_and_the_others_rebalance() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    for _ in 0..3 {
        world.pass(4_000);
        let _ = world.heartbeat("g", generation, &ids[0]);
    }
    let beat = world.heartbeat("g", generation, &ids[0]);
    assert_eq!(beat, Err(HeartbeatError::RebalanceInProgress));
    let ticket = world.rejoin("g", "a", &ids[0]);
    assert_eq!(world.joined(ticket).unwrap().members.len(), 1);
}

#[test]
fn a_waiting_member_does_not_run_out_of_session() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    let waiting = world.rejoin("g", "b2", &ids[1]);
    for _ in 0..6 {
        world.pass(8_000);
        let _ = world.heartbeat("g", generation, &ids[0]);
    }
    assert!(world.is_waiting(waiting));
    world.rejoin("g", "a", &ids[0]);
    assert_eq!(world.joined(waiting).unwrap().generation, generation + 1);
    world.pass(9_999);
    assert_eq!(world.heartbeat("g", generation + 1, &ids[1]), Ok(()));
}

#[test]
fn a_new_member_whose_client_gave_up_is_dropped_after_five_minutes() {
    let mut world = World::new();
    let request = world.join_request("g", "slow");
    let request = JoinGroup { rebalance_timeout_ms: 900_000, member_id_required: false, ..request };
    let first = world.send_join(request);
    let id = world.joined(first).unwrap().member_id;
    world.send_sync("g", 1, &id, &[]);
    let (_, ticket) = world.enter("g", "ghost");
    for _ in 0..60 {
        assert!(world.is_waiting(ticket));
        let _ = world.heartbeat("g", 1, &id);
        world.pass(5_000);
    }
    assert_eq!(world.joined(ticket), Err(JoinGroupError::UnknownMemberId));
}

#[test]
fn the_initial_delay_gathers_members_and_is_prolonged_by_newcomers() {
    let mut world = World::with(delayed(3_000));
    let (_, first) = world.enter("g", "a");
    world.pass(2_000);
    let (_, second) = world.enter("g", "b");
    world.pass(2_000);
    assert!(world.is_waiting(first), "a newcomer prolonged the delay");
    world.pass(2_000);
    assert_eq!(world.joined(first).unwrap().generation, 1);
    assert_eq!(world.joined(second).unwrap().generation, 1);
}

#[test]
fn the_initial_delay_ends_at_the_rebalance_timeout() {
    let mut world = World::with(delayed(20_000));
    let (_, first) = world.enter("g", "a");
    for name in ["b", "c", "d", "e", "f"] {
        world.pass(11_000);
        world.enter("g", name);
    }
    assert!(world.is_waiting(first));
    world.pass(5_000);
    assert_eq!(world.joined(first).unwrap().generation, 1);
}

#[test]
fn a_first_member_that_leaves_during_the_delay_leaves_nothing_behind() {
    let mut world = World::with(delayed(3_000));
    let (id, ticket) = world.enter("g", "a");
    assert_eq!(world.leave("g", &[(&id, None)]), [Ok(())]);
    assert_eq!(world.joined(ticket), Err(JoinGroupError::UnknownMemberId));
    world.pass(3_000);
    assert!(world.coordinator.groups().is_empty() && world.log.is_empty());
}

#[test]
fn a_member_that_leaves_starts_a_rebalance_and_the_last_one_empties_the_group() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    assert_eq!(world.leave("g", &[(&ids[0], None)]), [Ok(())]);
    let beat = world.heartbeat("g", generation, &ids[1]);
    assert_eq!(beat, Err(HeartbeatError::RebalanceInProgress));
    let ticket = world.rejoin("g", "b", &ids[1]);
    let joined = world.joined(ticket).unwrap();
    assert_eq!((joined.generation, &joined.leader), (generation + 1, &ids[1]));
    world.leave("g", &[(&ids[1], None)]);
    let description = world.coordinator.describe("g").unwrap();
    assert_eq!((description.state, description.generation), (GroupState::Empty, generation + 2));
}

#[test]
fn a_pending_member_holds_the_rebalance_until_its_id_lapses() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a"]);
    let request = world.join_request("g", "b");
    world.send_join(request);
    let leader = world.rejoin("g", "a", &ids[0]);
    assert!(world.is_waiting(leader), "somebody is about to come");
    world.pass(10_000);
    assert_eq!(world.joined(leader).unwrap().members.len(), 1);
}

#[test]
fn a_join_changes_the_time_that_a_member_asks_for() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    let request = world.join_request("g", "a");
    let member_id = ids[0].clone();
    let ticket = world.send_join(JoinGroup { session_timeout_ms: 30_000, member_id, ..request });
    let generation = world.joined(ticket).map(|joined| joined.generation).unwrap_or(generation);
    world.send_sync("g", generation, &ids[0], &[]);
    world.pass(29_999);
    assert_eq!(world.heartbeat("g", generation, &ids[0]), Ok(()));
}

pub(super) fn delayed(initial_rebalance_delay_ms: u64) -> GroupSettings {
    GroupSettings { initial_rebalance_delay_ms, ..GroupSettings::default() }
}
