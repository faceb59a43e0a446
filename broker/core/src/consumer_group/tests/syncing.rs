//! SyncGroup, Heartbeat and LeaveGroup.

use super::*;

#[test]
fn followers_wait_for_the_leaders_assignment() {
    let mut world = World::new();
    let (generation, ids, _) = completing(&mut world);
    let follower = world.send_sync("g", generation, &ids[1], &[]);
    assert!(world.is_waiting(follower));
    let plan = [(&ids[0], "p0"), (&ids[1], "p1")];
    let leader = world.send_sync("g", generation, &ids[0], &plan);
    assert_eq!(world.synced(follower).unwrap(), "p1");
    assert_eq!(world.synced(leader).unwrap(), "p0");
    assert_eq!(world.state("g"), Some(GroupState::Stable));
}

#[test]
fn a_member_that_the_leader_left_out_gets_an_empty_assignment() {
    let mut world = World::new();
    let (generation, ids, _) = completing(&mut world);
    let follower = world.send_sync("g", generation, &ids[1], &[]);
    let stranger = Name::from("stranger");
    world.send_sync("g", generation, &ids[0], &[(&ids[0], "all"), (&stranger, "none")]);
    assert_eq!(world.synced(follower).unwrap(), "");
}

#[test]
fn a_late_follower_gets_its_assignment_from_the_stable_group() {
    let mut world = World::new();
    let (generation, ids, _) = completing(&mut world);
    world.send_sync("g", generation, &ids[0], &[(&ids[1], "p1")]);
    for _ in 0..2 {
        let follower = world.send_sync("g", generation, &ids[1], &[(&ids[1], "mine!")]);
        assert_eq!(world.synced(follower).unwrap(), "p1");
    }
}

#[test]
fn a_second_plan_of_the_leader_changes_nothing() {
    let mut world = World::new();
    let (generation, ids, _) = completing(&mut world);
    world.send_sync("g", generation, &ids[0], &[(&ids[0], "p0")]);
    let again = world.send_sync("g", generation, &ids[0], &[(&ids[0], "other")]);
    assert_eq!(world.synced(again).unwrap(), "p0");
}

#[test]
fn an_assignment_of_an_earlier_generation_is_not_handed_out() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    world.rejoin("g", "a", &ids[0]);
    world.rejoin("g", "b", &ids[1]);
    let follower = world.send_sync("g", generation + 1, &ids[1], &[]);
    assert!(world.is_waiting(follower));
    let leader = world.send_sync("g", generation + 1, &ids[0], &[]);
    assert_eq!(
        (world.synced(follower), world.synced(leader)),
        (Ok(Bytes::new()), Ok(Bytes::new()))
    );
}

#[test]
fn a_sync_of_another_generation_or_protocol_is_refused() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    let old = world.send_sync("g", generation - 1, &ids[0], &[]);
    let found = generation - 1;
    assert_eq!(world.synced(old), Err(SyncGroupError::IllegalGeneration { found }));
    for (protocol_type, protocol_name) in
        [(Some("connect"), None), (None, Some("sticky")), (Some("consumer"), Some("sticky"))]
    {
        let ticket = world.send(GroupRequest::SyncGroup(SyncGroup {
            group_id: "g".into(),
            generation,
            member_id: ids[0].clone(),
            group_instance_id: None,
            protocol_type: protocol_type.map(Name::from),
            protocol_name: protocol_name.map(Name::from),
            assignments: vec![],
        }));
        assert_eq!(world.synced(ticket), Err(SyncGroupError::InconsistentGroupProtocol));
    }
}

#[test]
fn a_waiting_sync_is_told_of_a_new_rebalance() {
    let mut world = World::new();
    let (generation, ids, _) = completing(&mut world);
    let follower = world.send_sync("g", generation, &ids[1], &[]);
    world.enter("g", "c");
    assert_eq!(world.synced(follower), Err(SyncGroupError::RebalanceInProgress));
    let late = world.send_sync("g", generation, &ids[0], &[]);
    assert_eq!(world.synced(late), Err(SyncGroupError::RebalanceInProgress));
}

#[test]
fn a_second_sync_of_a_waiting_member_replaces_the_first() {
    let mut world = World::new();
    let (generation, ids, _) = completing(&mut world);
    let first = world.send_sync("g", generation, &ids[1], &[]);
    let second = world.send_sync("g", generation, &ids[1], &[]);
    assert_eq!(world.synced(first), Err(SyncGroupError::RebalanceInProgress));
    world.send_sync("g", generation, &ids[0], &[(&ids[1], "p1")]);
    assert_eq!(world.synced(second).unwrap(), "p1");
}

#[test]
fn a_leader_whose_sync_never_comes_is_dropped() {
    let mut world = World::new();
    let (generation, ids, _) = completing(&mut world);
    let follower = world.send_sync("g", generation, &ids[1], &[]);
    for _ in 0..12 {
        assert!(world.is_waiting(follower));
        assert_eq!(world.heartbeat("g", generation, &ids[0]), Ok(()), "it is alive, but stuck");
        world.pass(5_000);
    }
    assert_eq!(world.synced(follower), Err(SyncGroupError::RebalanceInProgress));
    let ticket = world.rejoin("g", "b", &ids[1]);
    assert_eq!(world.joined(ticket).unwrap().leader, ids[1]);
    let gone = world.heartbeat("g", generation, &ids[0]);
    assert_eq!(gone, Err(HeartbeatError::UnknownMemberId));
}

#[test]
fn a_follower_whose_sync_never_comes_is_dropped_from_the_stable_group() {
    let mut world = World::new();
    let (generation, ids, _) = completing(&mut world);
    world.send_sync("g", generation, &ids[0], &[]);
    for _ in 0..12 {
        assert_eq!(world.heartbeat("g", generation, &ids[0]), Ok(()));
        assert_eq!(world.heartbeat("g", generation, &ids[1]), Ok(()));
        world.pass(5_000);
    }
    let gone = world.heartbeat("g", generation, &ids[1]);
    assert_eq!(gone, Err(HeartbeatError::UnknownMemberId));
    let beat = world.heartbeat("g", generation, &ids[0]);
    assert_eq!(beat, Err(HeartbeatError::RebalanceInProgress));
}

#[test]
fn a_heartbeat_is_fine_while_the_assignments_are_made() {
    let mut world = World::new();
    let (generation, ids, _) = completing(&mut world);
    assert_eq!(world.heartbeat("g", generation, &ids[1]), Ok(()));
}

#[test]
fn a_heartbeat_of_a_stranger_or_another_generation_is_refused() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    let unknown = Err(HeartbeatError::UnknownMemberId);
    assert_eq!(world.heartbeat("g", generation, &"x".into()), unknown);
    assert_eq!(world.heartbeat("h", generation, &ids[0]), unknown);
    for found in [generation - 1, generation + 1, -1] {
        let outcome = world.heartbeat("g", found, &ids[0]);
        assert_eq!(outcome, Err(HeartbeatError::IllegalGeneration { found }));
    }
}

#[test]
fn members_that_keep_up_see_no_extra_rebalance() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b", "c"]);
    let written = world.log.len();
    for _ in 0..1_000 {
        for id in &ids {
            assert_eq!(world.heartbeat("g", generation, id), Ok(()));
        }
        world.pass(3_000);
    }
    assert_eq!(world.log.len(), written, "heartbeats are never written");
}

#[test]
fn a_cooperative_group_rebalances_twice_and_then_rests() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a", "b"]);
    // The plan takes a partition from b, so b joins again with what it still owns.
    let owned = world.rejoin("g", "b, owning 1", &ids[1]);
    world.rejoin("g", "a", &ids[0]);
    let generation = world.joined(owned).unwrap().generation;
    let plan = [(&ids[0], "0 2"), (&ids[1], "1")];
    let leader = world.send_sync("g", generation, &ids[0], &plan);
    let follower = world.send_sync("g", generation, &ids[1], &[]);
    assert_eq!(world.synced(leader).unwrap(), "0 2");
    assert_eq!(world.synced(follower).unwrap(), "1");
    let same = world.rejoin("g", "b, owning 1", &ids[1]);
    assert_eq!(world.joined(same).unwrap().generation, generation);
    for id in &ids {
        assert_eq!(world.heartbeat("g", generation, id), Ok(()));
    }
}

#[test]
fn a_pending_member_may_leave() {
    let mut world = World::new();
    let request = world.join_request("g", "a");
    let ticket = world.send_join(request);
    let Err(JoinGroupError::MemberIdRequired { member_id }) = world.joined(ticket) else {
        panic!("no id")
    };
    assert_eq!(world.heartbeat("g", 0, &member_id), Err(HeartbeatError::UnknownMemberId));
    assert_eq!(world.leave("g", &[(&member_id, None)]), [Ok(())]);
    assert!(world.coordinator.groups().is_empty());
}

#[test]
fn whoever_is_not_a_member_cannot_leave() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a"]);
    let unknown = Err(LeaveMemberError::UnknownMemberId);
    assert_eq!(world.leave("h", &[("x", None), ("", Some("i"))]), [unknown, unknown]);
    let outcomes = world.leave("g", &[("x", None), (&ids[0], Some("i")), ("", None)]);
    assert_eq!(outcomes, [unknown, unknown, unknown]);
    assert_eq!(world.state("g"), Some(GroupState::Stable));
}

#[test]
fn a_member_that_leaves_twice_is_unknown_the_second_time() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a", "b"]);
    let outcomes = world.leave("g", &[(&ids[0], None), (&ids[0], None)]);
    assert_eq!(outcomes, [Ok(()), Err(LeaveMemberError::UnknownMemberId)]);
}

/// A group of two that waits for its leader's assignments.
fn completing(world: &mut World) -> (i32, Vec<Name>, Ticket) {
    let (_, mut ids) = world.stable("g", &["a"]);
    let (second, ticket) = world.enter("g", "b");
    world.rejoin("g", "a", &ids[0]);
    ids.push(second);
    let generation = world.joined(ticket).unwrap().generation;
    assert_eq!(world.state("g"), Some(GroupState::CompletingRebalance));
    (generation, ids, ticket)
}
