//! Static members (KIP-345, KIP-814).

use super::*;

/// Metadata of a consumer that subscribes to topics and owns partitions.
fn subscription(topics: &[&str], owned: &str) -> Protocol {
    let mut bytes = vec![0, 1];
    bytes.extend_from_slice(&(topics.len() as u32).to_be_bytes());
    for topic in topics {
        bytes.extend_from_slice(&(topic.len() as u16).to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
    }
    bytes.extend_from_slice(owned.as_bytes());
    Protocol { name: "range".into(), metadata: bytes.into() }
}

fn join_static(world: &mut World, instance_id: &str, protocols: Vec<Protocol>) -> Ticket {
    let request = world.join_request("g", "app");
    world.send_join(JoinGroup {
        group_instance_id: Some(instance_id.into()),
        session_timeout_ms: 30_000,
        protocols,
        ..request
    })
}

/// One static member `A`, stable and assigned.
fn one(world: &mut World) -> Name {
    let ticket = join_static(world, "A", vec![subscription(&["t"], "")]);
    let joined = world.joined(ticket).unwrap();
    assert_eq!(joined.generation, 1);
    assert!(joined.member_id.starts_with("A-"), "{}", joined.member_id);
    world.send_sync("g", 1, &joined.member_id, &[(&joined.member_id, "all")]);
    joined.member_id
}

#[test]
fn a_static_member_joins_without_a_second_request() {
    let mut world = World::new();
    one(&mut world);
    assert_eq!(world.state("g"), Some(GroupState::Stable));
}

#[test]
fn a_static_member_that_restarts_gets_a_new_id_and_no_rebalance() {
    let mut world = World::new();
    let old = one(&mut world);
    let ticket = join_static(&mut world, "A", vec![subscription(&["t"], "owns t-0")]);
    let joined = world.joined(ticket).unwrap();
    assert_ne!(joined.member_id, old);
    assert_eq!((joined.generation, joined.skip_assignment), (1, false));
    assert_eq!(joined.leader, old, "an old client is not told that it leads");
    assert!(joined.members.is_empty());
    let sync = world.send_sync("g", 1, &joined.member_id, &[]);
    assert_eq!(world.synced(sync).unwrap(), "all");
    assert_eq!(world.state("g"), Some(GroupState::Stable));
}

#[test]
fn a_leader_that_restarts_is_told_to_keep_the_assignments() {
    let mut world = World::new();
    one(&mut world);
    let request = world.join_request("g", "app");
    let ticket = world.send_join(JoinGroup {
        group_instance_id: Some("A".into()),
        can_skip_assignment: true,
        protocols: vec![subscription(&["t"], "")],
        ..request
    });
    let joined = world.joined(ticket).unwrap();
    assert!(joined.skip_assignment);
    assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
}

#[test]
fn the_id_before_the_restart_is_fenced_everywhere() {
    let mut world = World::new();
    let old = one(&mut world);
    join_static(&mut world, "A", vec![subscription(&["t"], "")]);
    let beat = world.heartbeat_as("g", 1, &old, Some("A"));
    assert_eq!(beat, Err(HeartbeatError::FencedInstanceId));
    assert_eq!(world.heartbeat("g", 1, &old), Err(HeartbeatError::UnknownMemberId));
    let sync = world.send(GroupRequest::SyncGroup(SyncGroup {
        group_id: "g".into(),
        generation: 1,
        member_id: old.clone(),
        group_instance_id: Some("A".into()),
        protocol_type: None,
        protocol_name: None,
        assignments: vec![],
    }));
    assert_eq!(world.synced(sync), Err(SyncGroupError::FencedInstanceId));
    let GroupRequest::OffsetCommit(commit) = commit_request("g", 1, &old, 5) else {
        unreachable!("commit_request makes commits")
    };
    let group_instance_id = Some("A".into());
    let commit =
        world.send(GroupRequest::OffsetCommit(OffsetCommit { group_instance_id, ..commit }));
    assert_eq!(world.committed(commit), Err(OffsetCommitError::FencedInstanceId));
    let request = world.join_request("g", "app");
    let join = world.send_join(JoinGroup {
        member_id: old.clone(),
        group_instance_id: Some("A".into()),
        ..request
    });
    assert_eq!(world.joined(join), Err(JoinGroupError::FencedInstanceId));
    assert_eq!(world.leave("g", &[(&old, Some("A"))]), [Err(LeaveMemberError::FencedInstanceId)]);
}

#[test]
fn a_restart_with_other_topics_starts_a_rebalance() {
    let mut world = World::new();
    one(&mut world);
    let ticket = join_static(&mut world, "A", vec![subscription(&["t", "u"], "")]);
    assert_eq!(world.joined(ticket).unwrap().generation, 2);
    assert_eq!(world.joined(ticket).unwrap().members.len(), 1);
}

#[test]
fn a_restart_that_changes_the_vote_starts_a_rebalance() {
    let mut world = World::new();
    let both = || vec![protocol("sticky", "s"), subscription(&["t"], "")];
    let first = join_static(&mut world, "A", both());
    let joined = world.joined(first).unwrap();
    assert_eq!(&*joined.protocol_name, "sticky");
    world.send_sync("g", 1, &joined.member_id, &[]);
    let ticket = join_static(&mut world, "A", vec![subscription(&["t"], "")]);
    let joined = world.joined(ticket).unwrap();
    assert_eq!((joined.generation, &*joined.protocol_name), (2, "range"));
}

#[test]
fn a_waiting_request_of_the_replaced_member_is_fenced() {
    let mut world = World::new();
    let first = one(&mut world);
    let waiting = join_static(&mut world, "B", vec![subscription(&["t"], "")]);
    assert!(world.is_waiting(waiting));
    let again = join_static(&mut world, "B", vec![subscription(&["t"], "")]);
    assert_eq!(world.joined(waiting), Err(JoinGroupError::FencedInstanceId));
    let request = world.join_request("g", "app");
    world.send_join(JoinGroup {
        member_id: first,
        group_instance_id: Some("A".into()),
        protocols: vec![subscription(&["t"], "")],
        ..request
    });
    assert_eq!(world.joined(again).unwrap().generation, 2);
    let id = world.joined(again).unwrap().member_id;
    let sync = world.send_sync("g", 2, &id, &[]);
    assert!(world.is_waiting(sync));
    let third = join_static(&mut world, "B", vec![subscription(&["t"], "")]);
    assert_eq!(world.synced(sync), Err(SyncGroupError::FencedInstanceId));
    assert!(world.is_waiting(third), "the generation had no assignments yet: all join again");
}

#[test]
fn a_static_member_that_is_away_keeps_its_place_through_a_rebalance() {
    let mut world = World::new();
    let away = one(&mut world);
    world.pass(1_000);
    let other = join_static(&mut world, "B", vec![subscription(&["t"], "")]);
    // 30 s session, 60 s to rebalance: the session decides.
    world.pass(28_999);
    assert!(world.is_waiting(other));
    world.pass(1);
    let joined = world.joined(other).unwrap();
    assert_eq!((joined.generation, joined.members.len()), (2, 1));
    assert_eq!(world.heartbeat_as("g", 2, &away, Some("A")), Err(HeartbeatError::UnknownMemberId));
}

#[test]
fn an_absent_static_member_stays_in_the_generation_until_its_session_ends() {
    let mut world = World::new();
    let request = world.join_request("g", "app");
    let first = world.send_join(JoinGroup {
        group_instance_id: Some("A".into()),
        session_timeout_ms: 600_000,
        rebalance_timeout_ms: 5_000,
        ..request
    });
    let away = world.joined(first).unwrap().member_id;
    world.send_sync("g", 1, &away, &[(&away, "all")]);
    let request = world.join_request("g", "app");
    let request =
        JoinGroup { group_instance_id: Some("B".into()), rebalance_timeout_ms: 5_000, ..request };
    let second = world.send_join(request);
    world.pass(5_000);
    let joined = world.joined(second).unwrap();
    assert_eq!((joined.members.len(), &joined.leader), (2, &joined.member_id));
    let sync =
        world.send_sync("g", 2, &joined.member_id, &[(&away, "0"), (&joined.member_id, "1")]);
    assert_eq!(world.synced(sync).unwrap(), "1");
    for _ in 0..20 {
        world.pass(5_000);
        assert_eq!(world.heartbeat_as("g", 2, &joined.member_id, Some("B")), Ok(()));
    }
    let back = join_static(&mut world, "A", vec![protocol("range", "app")]);
    let back = world.joined(back).unwrap();
    assert_eq!(back.generation, 2);
    let sync = world.send_sync("g", 2, &back.member_id, &[]);
    assert_eq!(world.synced(sync).unwrap(), "0");
}

#[test]
fn an_administrator_removes_static_members_by_instance() {
    let mut world = World::new();
    one(&mut world);
    let unknown = Err(LeaveMemberError::UnknownMemberId);
    assert_eq!(world.leave("g", &[("", Some("B")), ("", Some("A"))]), [unknown, Ok(())]);
    assert_eq!(world.state("g"), Some(GroupState::Empty));
}

#[test]
fn a_handed_out_id_is_no_static_members() {
    let mut world = World::new();
    let request = world.join_request("g", "app");
    let ticket = world.send_join(request.clone());
    let Err(JoinGroupError::MemberIdRequired { member_id }) = world.joined(ticket) else {
        panic!("no id")
    };
    let group_instance_id = Some("A".into());
    let ticket = world.send_join(JoinGroup { member_id, group_instance_id, ..request });
    assert_eq!(world.joined(ticket), Err(JoinGroupError::UnknownMemberId));
}

#[test]
fn a_static_answer_waits_until_the_new_id_is_durable() {
    let mut world = World::new();
    let old = one(&mut world);
    world.is_prompt = false;
    let ticket = join_static(&mut world, "A", vec![subscription(&["t"], "")]);
    assert!(world.is_waiting(ticket));
    assert!(world.apply_one());
    let id = world.joined(ticket).unwrap().member_id;
    world.crash(world.log.len());
    assert_eq!(world.heartbeat_as("g", 1, &id, Some("A")), Ok(()));
    let fenced = world.heartbeat_as("g", 1, &old, Some("A"));
    assert_eq!(fenced, Err(HeartbeatError::FencedInstanceId));
}
