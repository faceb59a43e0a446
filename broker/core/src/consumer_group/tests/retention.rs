//! Expiry of offsets and groups (G51).

use super::*;

const DAY_MS: u64 = 24 * 3_600 * 1_000;

#[test]
fn offsets_of_a_group_without_members_ever_go_one_retention_after_the_commit() {
    let mut world = World::new();
    world.commit("g", -1, "", 1).unwrap();
    world.pass(6 * DAY_MS);
    world.commit("g", -1, "", 2).unwrap();
    world.pass(7 * DAY_MS - 1);
    assert_eq!(world.position("g"), Some(2));
    world.pass(1);
    assert_eq!(world.position("g"), None);
    world.pass(1);
    assert!(world.coordinator.groups().is_empty(), "the group goes with its last offset");
    assert_eq!(world.coordinator.next_deadline(), None);
}

#[test]
fn offsets_of_a_live_group_stay_however_old() {
    let mut world = World::new();
    let (mut generation, ids) = world.stable("g", &["a"]);
    world.commit("g", generation, &ids[0], 5).unwrap();
    let request = world.join_request("g", "a");
    let request = JoinGroup { session_timeout_ms: 1_800_000, member_id: ids[0].clone(), ..request };
    let ticket = world.send_join(request);
    generation = world.joined(ticket).unwrap().generation;
    world.send_sync("g", generation, &ids[0], &[]);
    for _ in 0..30 * 24 * 4 {
        world.pass(900_000);
        assert_eq!(world.heartbeat("g", generation, &ids[0]), Ok(()));
    }
    assert_eq!(world.position("g"), Some(5));
    world.leave("g", &[(&ids[0], None)]);
    world.pass(7 * DAY_MS - 1);
    assert_eq!(world.position("g"), Some(5), "the retention counts from the last member");
    world.pass(2);
    assert_eq!(world.position("g"), None);
}

#[test]
fn a_commit_to_an_empty_group_lives_one_retention_longer() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a"]);
    world.leave("g", &[(&ids[0], None)]);
    world.pass(300_000);
    world.commit("g", -1, "", 3).unwrap();
    world.pass(7 * DAY_MS - 1);
    assert_eq!(world.position("g"), Some(3));
    world.pass(1);
    assert_eq!(world.position("g"), None);
}

#[test]
fn a_retention_asked_for_by_the_client_counts_for_its_offsets() {
    let mut world = World::new();
    let commit = |partition, retention_ms| {
        GroupRequest::OffsetCommit(OffsetCommit {
            group_id: "g".into(),
            generation: -1,
            member_id: "".into(),
            group_instance_id: None,
            retention_ms,
            topics: vec![commit_topic("orders", &[(partition, 1)])],
        })
    };
    world.send(commit(0, Some(60_000)));
    world.send(commit(1, Some(30 * DAY_MS)));
    world.send(commit(2, None));
    let count = |world: &mut World| -> usize {
        world.fetch("g", None).iter().map(|topic| topic.partitions.len()).sum()
    };
    world.pass(59_999);
    assert_eq!(count(&mut world), 3);
    world.pass(1);
    assert_eq!(count(&mut world), 2);
    world.pass(7 * DAY_MS);
    assert_eq!(count(&mut world), 1);
    world.pass(30 * DAY_MS);
    assert_eq!(count(&mut world), 0);
}

#[test]
fn an_offset_committed_again_while_its_expiry_is_in_flight_stays() {
    let mut world = World::new();
    world.commit("g", -1, "", 1).unwrap();
    world.is_prompt = false;
    let ticket = {
        world.pass(7 * DAY_MS - 1);
        world.send(commit_request("g", -1, "", 2))
    };
    world.pass(1);
    assert_eq!(world.proposed.len(), 2, "a commit, and the expiry of what was there before it");
    world.settle();
    assert_eq!(world.committed(ticket), Ok(()));
    assert_eq!(world.position("g"), Some(2));
}

#[test]
fn an_expiry_that_was_lost_is_tried_again() {
    let mut world = World::new();
    world.commit("g", -1, "", 1).unwrap();
    world.is_prompt = false;
    world.pass(7 * DAY_MS);
    world.drop_one();
    world.pass(59_999);
    assert!(world.proposed.is_empty());
    world.pass(1);
    world.settle();
    assert_eq!(world.position("g"), None);
}

#[test]
fn an_empty_group_without_offsets_goes_after_ten_minutes() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a"]);
    world.leave("g", &[(&ids[0], None)]);
    world.pass(EMPTY_GROUP_LINGER_MS - 1);
    assert_eq!(world.state("g"), Some(GroupState::Empty));
    world.is_prompt = false;
    world.pass(1);
    // Whoever comes while the removal is in flight starts from nothing.
    let (_, ticket) = world.enter("g", "b");
    world.settle();
    assert_eq!(world.joined(ticket).unwrap().generation, 1);
}

#[test]
fn retention_survives_a_restart() {
    let mut world = World::new();
    world.commit("g", -1, "", 1).unwrap();
    world.pass(4 * DAY_MS);
    world.crash(1);
    world.pass(3 * DAY_MS - 1);
    assert_eq!(world.position("g"), Some(1));
    world.pass(1);
    assert_eq!(world.position("g"), None);
}

#[test]
fn a_wall_clock_that_jumps_back_expires_nothing_early() {
    let mut world = World::new();
    world.commit("g", -1, "", 1).unwrap();
    world.now.wall_ms -= 3 * DAY_MS;
    world.pass(7 * DAY_MS);
    assert_eq!(world.position("g"), Some(1));
    world.pass(3 * DAY_MS);
    assert_eq!(world.position("g"), None);
}

#[test]
fn many_offsets_expire_in_several_commands() {
    let mut world = World::new();
    let positions: Vec<_> = (0..25_000).map(|partition| (partition, 1)).collect();
    world.send(GroupRequest::OffsetCommit(OffsetCommit {
        group_id: "g".into(),
        generation: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_ms: Some(1_000),
        topics: vec![commit_topic("orders", &positions)],
    }));
    let written = world.log.len();
    world.pass(EMPTY_GROUP_LINGER_MS);
    assert!(world.coordinator.groups().is_empty());
    assert_eq!(world.log.len() - written, 4, "three expiries and the removal");
}
