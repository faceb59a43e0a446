//! OffsetCommit and OffsetFetch.

use super::*;

#[test]
fn a_commit_is_answered_when_it_is_applied_and_read_only_then() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    world.is_prompt = false;
    let ticket = world.send(commit_request("g", generation, &ids[0], 42));
    assert!(world.is_waiting(ticket));
    assert_eq!(world.position("g"), None);
    world.settle();
    assert_eq!(world.committed(ticket), Ok(()));
    assert_eq!(world.position("g"), Some(42));
}

#[test]
fn commits_come_back_with_epoch_and_metadata_byte_for_byte() {
    let mut world = World::new();
    let metadata = "ö".repeat(2_048);
    let mut topic = commit_topic("orders", &[(3, 9), (1, i64::MAX)]);
    topic.partitions[0].metadata = metadata.as_str().into();
    world.send(GroupRequest::OffsetCommit(OffsetCommit {
        group_id: "g".into(),
        generation: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_ms: None,
        topics: vec![topic],
    }));
    let fetched = world.fetch("g", None);
    assert_eq!(fetched.len(), 1);
    assert_eq!((&*fetched[0].name, fetched[0].topic_id), ("orders", TopicId([7; 16])));
    let last = FetchedOffset { offset: i64::MAX, leader_epoch: 3, metadata: "".into() };
    let first = FetchedOffset { offset: 9, leader_epoch: 3, metadata: metadata.as_str().into() };
    assert_eq!(fetched[0].partitions, [(1, Some(last)), (3, Some(first))]);
}

#[test]
fn what_was_never_committed_is_unknown_and_no_error() {
    let mut world = World::new();
    assert_eq!(world.fetch("nobody", None), []);
    let fetched = world.fetch("nobody", Some(vec![("t".into(), vec![0, 5])]));
    assert_eq!(fetched[0].partitions, [(0, None), (5, None)]);
    world.commit("g", -1, "", 7).unwrap();
    let wanted = vec![("orders".into(), vec![9, 0]), ("other".into(), vec![1])];
    let fetched = world.fetch("g", Some(wanted));
    assert_eq!(fetched[0].partitions[0], (9, None));
    assert_eq!(fetched[0].partitions[1].1.as_ref().map(|offset| offset.offset), Some(7));
    assert_eq!(fetched[1].partitions, [(1, None)]);
}

#[test]
fn metadata_that_is_too_long_is_refused_for_its_partition_alone() {
    let mut world = World::new();
    let mut topic = commit_topic("orders", &[(0, 1), (1, 2)]);
    topic.partitions[0].metadata = "x".repeat(4_097).into();
    topic.partitions[1].metadata = "x".repeat(4_096).into();
    let ticket = world.send(GroupRequest::OffsetCommit(OffsetCommit {
        group_id: "g".into(),
        generation: -1,
        member_id: "".into(),
        group_instance_id: None,
        retention_ms: None,
        topics: vec![topic],
    }));
    let Some(GroupResponse::OffsetCommit(Ok(topics))) = world.replies.get(&ticket) else {
        panic!("refused as a whole")
    };
    let too_large = OffsetPartitionError::OffsetMetadataTooLarge { found: 4_097, max: 4_096 };
    assert_eq!(topics[0].partitions, [(0, Err(too_large)), (1, Ok(()))]);
    let fetched = world.fetch("g", None);
    assert_eq!(fetched[0].partitions.len(), 1);
}

#[test]
fn only_members_of_the_generation_commit_while_there_are_members() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    assert_eq!(world.commit("g", generation, &ids[0], 1), Ok(()));
    let unknown = Err(OffsetCommitError::UnknownMemberId);
    assert_eq!(world.commit("g", -1, "", 2), unknown);
    assert_eq!(world.commit("g", generation, "x", 2), unknown);
    for found in [generation - 1, generation + 1, -1] {
        let outcome = world.commit("g", found, &ids[0], 2);
        assert_eq!(outcome, Err(OffsetCommitError::IllegalGeneration { found }));
    }
    assert_eq!(world.position("g"), Some(1));
    world.leave("g", &[(&ids[0], None)]);
    assert_eq!(world.commit("g", -1, "", 0), Ok(()), "an operator may reset an empty group");
    assert_eq!(world.position("g"), Some(0));
    assert_eq!(world.commit("g", generation, &ids[0], 2), unknown);
}

#[test]
fn a_commit_of_a_generation_to_an_unknown_group_says_so() {
    let mut world = World::new();
    let outcome = world.commit("g", 5, "m", 1);
    assert_eq!(outcome, Err(OffsetCommitError::GroupIdNotFound { found: 5 }));
    assert!(world.coordinator.groups().is_empty());
}

#[test]
fn a_commit_is_refused_while_the_generation_waits_for_its_assignments() {
    let mut world = World::new();
    let (id, ticket) = world.enter("g", "a");
    let generation = world.joined(ticket).unwrap().generation;
    let outcome = world.commit("g", generation, &id, 1);
    assert_eq!(outcome, Err(OffsetCommitError::RebalanceInProgress));
    world.send_sync("g", generation, &id, &[]);
    assert_eq!(world.commit("g", generation, &id, 1), Ok(()));
}

#[test]
fn a_member_may_commit_while_others_are_gathered() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    world.enter("g", "b");
    assert_eq!(world.state("g"), Some(GroupState::PreparingRebalance));
    assert_eq!(world.commit("g", generation, &ids[0], 8), Ok(()));
}

#[test]
fn a_commit_keeps_its_member_alive() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    for offset in 0..20 {
        world.pass(9_000);
        assert_eq!(world.commit("g", generation, &ids[0], offset), Ok(()));
    }
    assert_eq!(world.heartbeat("g", generation, &ids[0]), Ok(()));
}

#[test]
fn a_commit_that_a_new_generation_overtook_is_refused_where_it_takes_effect() {
    let mut world = World::new();
    let (generation, ids) = world.stable("g", &["a"]);
    // By hand, as a leader that lost its office might have left it in the log.
    let late = Command::OffsetsCommitted(super::command::OffsetsCommitted {
        group_id: "g".into(),
        generation: generation - 1,
        member_id: ids[0].clone(),
        wall_ms: 0,
        expires_wall_ms: None,
        topics: vec![commit_topic("orders", &[(0, 99)])],
    });
    world.proposed.push_back(Proposal { token: ProposalToken(999), payload: late.to_payload() });
    world.settle();
    assert_eq!(world.position("g"), None);
    assert_eq!(world.heartbeat("g", generation, &ids[0]), Ok(()));
}

#[test]
fn a_deleted_topic_takes_its_offsets_along_but_not_its_successors() {
    let mut world = World::new();
    world.commit("g", -1, "", 1).unwrap();
    world.commit("h", -1, "", 2).unwrap();
    let other = |topic_id, offset| {
        let mut topic = commit_topic("orders", &[(0, offset)]);
        topic.topic_id = topic_id;
        GroupRequest::OffsetCommit(OffsetCommit {
            group_id: "h".into(),
            generation: -1,
            member_id: "".into(),
            group_instance_id: None,
            retention_ms: None,
            topics: vec![topic],
        })
    };
    // h has already committed to a new topic of the same name.
    world.send(other(TopicId([8; 16]), 3));
    world.call(|coordinator, now, effects| {
        coordinator.topic_deleted(now, "orders", TopicId([7; 16]), effects);
    });
    assert_eq!((world.position("g"), world.position("h")), (None, Some(3)));
}

#[test]
fn a_topic_made_again_does_not_inherit_offsets() {
    let mut world = World::new();
    let mut topic = commit_topic("orders", &[(0, 1), (1, 1)]);
    let commit = |topic: &CommitTopic| {
        GroupRequest::OffsetCommit(OffsetCommit {
            group_id: "g".into(),
            generation: -1,
            member_id: "".into(),
            group_instance_id: None,
            retention_ms: None,
            topics: vec![topic.clone()],
        })
    };
    world.send(commit(&topic));
    topic.topic_id = TopicId([9; 16]);
    topic.partitions.truncate(1);
    world.send(commit(&topic));
    assert_eq!(world.fetch("g", None)[0].partitions.len(), 1, "partition 1 is of the old topic");
}

#[test]
fn a_group_is_deleted_with_its_offsets_once_it_is_empty() {
    let mut world = World::new();
    let (_, ids) = world.stable("g", &["a"]);
    let delete = || GroupRequest::DeleteGroup(DeleteGroup { group_id: "g".into() });
    let ticket = world.send(delete());
    let refused = GroupResponse::DeleteGroup(Err(DeleteGroupError::NonEmptyGroup));
    assert_eq!(world.replies.get(&ticket), Some(&refused));
    world.leave("g", &[(&ids[0], None)]);
    world.commit("g", -1, "", 5).unwrap();
    world.is_prompt = false;
    let ticket = world.send(delete());
    assert!(world.is_waiting(ticket));
    // Who comes before the removal is applied meets a group that never was.
    let (_, join) = world.enter("g", "b");
    world.settle();
    assert_eq!(world.replies.get(&ticket), Some(&GroupResponse::DeleteGroup(Ok(()))));
    assert_eq!(world.joined(join).unwrap().generation, 1);
    assert_eq!(world.position("g"), None);
    let request = DeleteGroup { group_id: "nobody".into() };
    let ticket = world.send(GroupRequest::DeleteGroup(request));
    let unknown = GroupResponse::DeleteGroup(Err(DeleteGroupError::GroupIdNotFound));
    assert_eq!(world.replies.get(&ticket), Some(&unknown));
}

#[test]
fn a_full_group_refuses_new_partitions_and_takes_known_ones() {
    let mut world = World::new();
    let request = |first: i32, count: i32| {
        let positions: Vec<_> = (first..first + count).map(|partition| (partition, 1)).collect();
        GroupRequest::OffsetCommit(OffsetCommit {
            group_id: "g".into(),
            generation: -1,
            member_id: "".into(),
            group_instance_id: None,
            retention_ms: None,
            topics: vec![commit_topic("orders", &positions)],
        })
    };
    let max = i32::try_from(OFFSETS_PER_GROUP_MAX).unwrap();
    let ticket = world.send(request(0, max));
    assert_eq!(world.committed(ticket), Ok(()));
    let ticket = world.send(request(max, 1));
    let refused = OffsetCommitError::InvalidCommitOffsetSize {
        what: "offsets of the group",
        found: OFFSETS_PER_GROUP_MAX + 1,
        max: OFFSETS_PER_GROUP_MAX,
    };
    assert_eq!(world.committed(ticket), Err(refused));
    let ticket = world.send(request(max - 1, 1));
    assert_eq!(world.committed(ticket), Ok(()));
}
