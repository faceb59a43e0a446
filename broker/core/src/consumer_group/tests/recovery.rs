//! kill -9, loss of leadership, lost proposals.

use super::*;

#[test]
fn no_answer_leaves_before_what_it_rests_on_is_applied() {
    let mut world = World::new();
    world.is_prompt = false;
    let (id, join) = world.enter("g", "a");
    assert!(world.is_waiting(join));
    world.settle();
    assert_eq!(world.joined(join).unwrap().generation, 1);
    let sync = world.send_sync("g", 1, &id, &[(&id, "all")]);
    let again = world.send_sync("g", 1, &id, &[]);
    assert!(world.is_waiting(sync) && world.is_waiting(again));
    world.settle();
    assert_eq!(
        (world.synced(sync).unwrap(), world.synced(again).unwrap()),
        ("all".into(), "all".into())
    );
    let leave = world.send_leave("g", &[(&id, None)]);
    assert!(world.is_waiting(leave), "the group became empty, and that is a generation");
    world.settle();
    assert!(!world.is_waiting(leave));
}

#[test]
fn a_crash_between_join_and_sync_keeps_the_generation_and_its_members() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a"]);
    let (second, ticket) = world.enter("g", "b");
    world.rejoin("g", "a", &ids[0]);
    let generation = world.joined(ticket).unwrap().generation;
    for snapshot_at in [0, 2, world.log.len()] {
        world.crash(snapshot_at);
        assert_eq!(world.state("g"), Some(GroupState::CompletingRebalance));
        assert_eq!(world.heartbeat("g", generation, &second), Ok(()));
    }
    let follower = world.send_sync("g", generation, &second, &[]);
    let leader = world.send_sync("g", generation, &ids[0], &[(&second, "p1")]);
    assert_eq!((world.synced(leader), world.synced(follower)), (Ok("".into()), Ok("p1".into())));
}

#[test]
fn a_crash_after_the_sync_keeps_the_assignments_and_needs_no_rebalance() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    world.commit("g", generation, &ids[1], 17).unwrap();
    world.crash(1);
    for id in &ids {
        assert_eq!(world.heartbeat("g", generation, id), Ok(()));
        let sync = world.send_sync("g", generation, id, &[]);
        assert_eq!(world.synced(sync).unwrap(), &**id);
    }
    assert_eq!(world.position("g"), Some(17));
    assert_eq!(world.commit("g", generation, &ids[1], 18), Ok(()));
}

#[test]
fn after_a_restart_sessions_start_in_full() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    world.pass(9_000);
    world.crash(0);
    world.pass(9_999);
    assert_eq!(world.heartbeat("g", generation, &ids[0]), Ok(()));
    world.pass(10_000);
    assert_eq!(world.state("g"), Some(GroupState::Empty));
}

#[test]
fn a_group_that_never_syncs_after_a_crash_is_dissolved() {
    let mut world = World::new();
    world.enter("g", "a");
    world.crash(0);
    world.pass(60_000);
    assert_eq!(world.state("g"), Some(GroupState::Empty));
    assert_eq!(world.coordinator.describe("g").unwrap().generation, 2);
}

#[test]
fn whoever_resigns_answers_everybody() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a", "b"]);
    world.is_prompt = false;
    let commit = world.send(commit_request("g", generation, &ids[0], 1));
    let (_, join) = world.enter("g", "c");
    let (_, other) = world.enter("h", "d");
    world.call(|coordinator, _, effects| coordinator.resign(effects));
    let error = CoordinatorError::NotCoordinator;
    assert_eq!(world.joined(join), Err(error.into()));
    assert_eq!(world.joined(other), Err(error.into()));
    assert_eq!(world.committed(commit), Err(error.into()));
    assert_eq!(world.coordinator.totals().parked_count, 0);
    assert_eq!(world.coordinator.next_deadline(), None);
    // The log may still take them; nobody waits any more.
    world.settle();
    assert_eq!(world.tickets, world.replies.len() as u64);
    world.call(|coordinator, now, effects| coordinator.become_leader(now, effects));
    assert_eq!(world.position("g"), Some(1));
    assert_eq!(world.coordinator.describe("h").unwrap().generation, 1);
}

#[test]
fn each_role_answers_in_its_own_way() {
    let mut world = World::new();
    type Change = fn(&mut GroupCoordinator, &mut GroupEffects);
    let changes: [(Change, CoordinatorError); 3] = [
        (GroupCoordinator::resign, CoordinatorError::NotCoordinator),
        (GroupCoordinator::become_loading, CoordinatorError::LoadInProgress),
        (GroupCoordinator::quarantine, CoordinatorError::NotAvailable),
    ];
    for (change, error) in changes {
        world.call(|coordinator, _, effects| change(coordinator, effects));
        assert_eq!(world.heartbeat("g", 1, &"m".into()), Err(error.into()));
        assert_eq!(world.commit("g", -1, "", 1), Err(error.into()));
        let request = world.join_request("g", "a");
        let join = world.send_join(request);
        assert_eq!(world.joined(join), Err(error.into()));
        let sync = world.send_sync("g", 1, &"m".into(), &[]);
        assert_eq!(world.synced(sync), Err(error.into()));
        let leave = world.send_leave("g", &[("m", None)]);
        assert_eq!(world.replies[&leave], GroupResponse::LeaveGroup(Err(error.into())));
        let group_id = Name::from("g");
        let request = OffsetFetch { group_id, topics: None, require_stable: false };
        let fetch = world.send(GroupRequest::OffsetFetch(request));
        assert_eq!(world.replies[&fetch], GroupResponse::OffsetFetch(Err(error.into())));
        let delete = world.send(GroupRequest::DeleteGroup(DeleteGroup { group_id: "g".into() }));
        assert_eq!(world.replies[&delete], GroupResponse::DeleteGroup(Err(error.into())));
    }
}

#[test]
fn a_slow_log_costs_nobody_its_membership() {
    let mut world = World::new();
    world.is_prompt = false;
    let (id, join) = world.enter("g", "a");
    world.pass(129_999);
    assert!(world.is_waiting(join));
    world.settle();
    world.pass(9_999);
    assert_eq!(world.joined(join).unwrap().generation, 1);
    let sync = world.send_sync("g", 1, &id, &[(&id, "all")]);
    world.pass(129_999);
    world.settle();
    world.pass(9_999);
    assert_eq!(world.synced(sync).unwrap(), "all");
    assert_eq!(world.heartbeat("g", 1, &id), Ok(()));
    world.pass(20_000);
    world.settle();
    assert_eq!(world.state("g"), Some(GroupState::Empty), "silence of its own counts again");
}

#[test]
fn a_dropped_generation_is_refused_and_the_group_is_what_the_log_says() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    world.is_prompt = false;
    let (_, join) = world.enter("g", "b");
    let leader = world.rejoin("g", "a", &ids[0]);
    world.drop_one();
    let error = Err(CoordinatorError::NotCoordinator.into());
    assert_eq!((world.joined(join), world.joined(leader)), (error.clone(), error));
    assert_eq!(world.heartbeat("g", generation, &ids[0]), Ok(()));
    assert_eq!(world.state("g"), Some(GroupState::Stable));
}

#[test]
fn a_command_that_follows_a_dropped_one_falls_flat() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    world.is_prompt = false;
    let leader = world.rejoin("g", "a", &ids[0]);
    // An impatient leader hands in assignments before it was told the generation.
    let sync = world.send_sync("g", generation + 1, &ids[0], &[(&ids[0], "new")]);
    let commit = world.send(commit_request("g", generation + 1, &ids[0], 5));
    world.drop_one();
    assert_eq!(world.joined(leader), Err(CoordinatorError::NotCoordinator.into()));
    world.settle();
    assert_eq!(world.synced(sync), Err(CoordinatorError::NotCoordinator.into()));
    let found = generation + 1;
    assert_eq!(world.committed(commit), Err(OffsetCommitError::IllegalGeneration { found }));
    assert_eq!(world.position("g"), None);
    let sync = world.send_sync("g", generation, &ids[0], &[]);
    assert_eq!(world.synced(sync).unwrap(), &*ids[0]);
}

#[test]
fn a_foreign_command_under_our_lead_makes_us_look_again() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    let revision = world.coordinator.tables.groups["g"].revision;
    let command = Command::GenerationStarted(super::command::GenerationStarted {
        group_id: "g".into(),
        revision,
        generation: generation + 1,
        protocol_type: "consumer".into(),
        protocol: "".into(),
        leader: "".into(),
        wall_ms: 0,
        members: vec![],
    });
    world.proposed.push_back(Proposal { token: ProposalToken(999), payload: command.to_payload() });
    world.settle();
    assert_eq!(world.state("g"), Some(GroupState::Empty));
    assert_eq!(world.heartbeat("g", generation, &ids[0]), Err(HeartbeatError::UnknownMemberId));
}
