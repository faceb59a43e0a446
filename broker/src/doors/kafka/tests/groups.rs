//! A consumer group's life over the wire, at the oldest and the newest versions.

use super::node::{Client, TestNode};
use super::records::auto_create;
use bateau_protocol::kafka::api::find_coordinator::{FindCoordinator, FindCoordinatorRequest};
use bateau_protocol::kafka::api::heartbeat::{Heartbeat, HeartbeatRequest};
use bateau_protocol::kafka::api::join_group::{
    JoinGroup, JoinGroupProtocol, JoinGroupRequest, JoinGroupResponse,
};
use bateau_protocol::kafka::api::leave_group::{LeaveGroup, LeaveGroupMember, LeaveGroupRequest};
use bateau_protocol::kafka::api::offset_commit::{
    OffsetCommit, OffsetCommitPartition, OffsetCommitRequest, OffsetCommitTopic,
};
use bateau_protocol::kafka::api::offset_fetch::{
    OffsetFetch, OffsetFetchGroup, OffsetFetchRequest, OffsetFetchTopic, OffsetFetchTopics,
};
use bateau_protocol::kafka::api::sync_group::{SyncGroup, SyncGroupAssignment, SyncGroupRequest};
use bateau_protocol::kafka::{ErrorCode, Text};
use bytes::Bytes;

fn text(text: &'static str) -> Text {
    Text::from_static(text)
}

fn join(member_id: Text) -> JoinGroupRequest {
    let metadata = Bytes::from_static(b"subscription");
    JoinGroupRequest {
        group_id: text("readers"),
        session_timeout_ms: 10_000,
        member_id,
        protocol_type: text("consumer"),
        protocols: vec![JoinGroupProtocol { name: text("range"), metadata }],
        ..JoinGroupRequest::default()
    }
}

/// Joins as often as the version wants it.
async fn joined(client: &mut Client, version: i16) -> JoinGroupResponse {
    let first = client.call::<JoinGroup>(version, &join(Text::EMPTY)).await;
    if version < 4 {
        return first;
    }
    assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    client.call::<JoinGroup>(version, &join(first.member_id)).await
}

#[tokio::test]
async fn a_member_joins_gets_its_assignment_and_leaves() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    for (join_version, sync_version, leave_version) in [(0, 0, 0), (3, 3, 2), (5, 4, 3), (9, 5, 5)]
    {
        let joined = joined(&mut client, join_version).await;
        assert_eq!(joined.error_code, ErrorCode::NONE);
        assert_eq!((&joined.leader, joined.members.len()), (&joined.member_id, 1));
        assert_eq!(joined.protocol_name.as_deref(), Some("range"));
        let (generation_id, member_id) = (joined.generation_id, joined.member_id);
        let assignment = Bytes::from_static(b"partition 0");
        let given = SyncGroupAssignment { member_id: member_id.clone(), assignment };
        let is_named = sync_version >= 5;
        let request = SyncGroupRequest {
            group_id: text("readers"),
            generation_id,
            member_id: member_id.clone(),
            protocol_type: is_named.then_some(text("consumer")),
            protocol_name: is_named.then_some(text("range")),
            assignments: vec![given],
            ..SyncGroupRequest::default()
        };
        let synced = client.call::<SyncGroup>(sync_version, &request).await;
        assert_eq!(
            (synced.error_code, &*synced.assignment),
            (ErrorCode::NONE, &b"partition 0"[..])
        );
        let beat = HeartbeatRequest {
            group_id: text("readers"),
            generation_id,
            member_id: member_id.clone(),
            ..HeartbeatRequest::default()
        };
        assert_eq!(client.call::<Heartbeat>(3, &beat).await.error_code, ErrorCode::NONE);
        let old = HeartbeatRequest { generation_id: generation_id - 1, ..beat };
        let answer = client.call::<Heartbeat>(3, &old).await;
        assert_eq!(answer.error_code, ErrorCode::ILLEGAL_GENERATION);
        assert_eq!(leave(&mut client, leave_version, member_id).await, ErrorCode::NONE);
        let stranger = leave(&mut client, leave_version, text("stranger")).await;
        assert_eq!(stranger, ErrorCode::UNKNOWN_MEMBER_ID);
    }
    node.stop().await;
}

async fn leave(client: &mut Client, version: i16, member_id: Text) -> ErrorCode {
    let group_id = text("readers");
    if version < 3 {
        let request = LeaveGroupRequest { group_id, member_id, ..LeaveGroupRequest::default() };
        return client.call::<LeaveGroup>(version, &request).await.error_code;
    }
    let members = vec![LeaveGroupMember { member_id, ..LeaveGroupMember::default() }];
    let request = LeaveGroupRequest { group_id, members, ..LeaveGroupRequest::default() };
    let answer = client.call::<LeaveGroup>(version, &request).await;
    assert_eq!(answer.error_code, ErrorCode::NONE, "one member's error is not the request's");
    answer.members[0].error_code
}

#[tokio::test]
async fn version_5_of_sync_group_must_name_the_protocol() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let joined = joined(&mut client, 9).await;
    let request = SyncGroupRequest {
        group_id: text("readers"),
        generation_id: joined.generation_id,
        member_id: joined.member_id,
        protocol_type: Some(text("consumer")),
        ..SyncGroupRequest::default()
    };
    let answer = client.call::<SyncGroup>(5, &request).await;
    assert_eq!(answer.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    node.stop().await;
}

fn position(partition_index: i32, committed_offset: i64) -> OffsetCommitPartition {
    OffsetCommitPartition {
        partition_index,
        committed_offset,
        committed_leader_epoch: 0,
        committed_metadata: Some(text("noted")),
    }
}

#[tokio::test]
async fn positions_are_given_back_as_they_were_stored() {
    let node = TestNode::start(&["topics.partitions_default=2"]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    let topic = |name, partitions| OffsetCommitTopic {
        name: text(name),
        partitions,
        ..OffsetCommitTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: text("readers"),
        topics: vec![
            topic("nowhere", vec![position(0, 1)]),
            topic("orders", vec![position(1, 7), position(2, 8), position(-1, 9)]),
        ],
        ..OffsetCommitRequest::default()
    };
    let answer = client.call::<OffsetCommit>(8, &request).await;
    let codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let codes: Vec<ErrorCode> = codes.map(|partition| partition.error_code).collect();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, [unknown, ErrorCode::NONE, unknown, unknown]);
    for version in [1, 5, 7] {
        let wanted = OffsetFetchTopic { name: text("orders"), partition_indexes: vec![0, 1] };
        let topics = Some(vec![wanted]);
        let group_id = text("readers");
        let request = OffsetFetchRequest { group_id, topics, ..OffsetFetchRequest::default() };
        let answer = client.call::<OffsetFetch>(version, &request).await;
        let found = &answer.topics[0].partitions;
        assert_eq!((found[0].committed_offset, found[0].metadata.as_deref()), (-1, Some("")));
        assert_eq!((found[1].committed_offset, found[1].metadata.as_deref()), (7, Some("noted")));
        assert!(found.iter().all(|partition| partition.error_code.is_none()));
    }
    let all = |group_id| OffsetFetchGroup { group_id, topics: None, ..OffsetFetchGroup::default() };
    let groups = vec![all(text("readers")), all(text("strangers"))];
    let request = OffsetFetchRequest { groups, ..OffsetFetchRequest::default() };
    let answer = client.call::<OffsetFetch>(8, &request).await;
    assert_eq!(answer.groups[0].topics[0].partitions[0].committed_offset, 7);
    assert_eq!(answer.groups[1].topics, []);
    node.stop().await;
}

#[tokio::test]
async fn positions_go_by_topic_id_from_version_10_on() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    let topic_id = super::cluster::topic_id(&mut client, "orders").await;
    let unknown_id = bateau_protocol::ids::TopicId([7; 16]);
    let by_id = |topic_id| OffsetCommitTopic {
        topic_id,
        partitions: vec![position(0, 7)],
        ..OffsetCommitTopic::default()
    };
    let request = OffsetCommitRequest {
        group_id: text("readers"),
        topics: vec![by_id(topic_id), by_id(unknown_id)],
        ..OffsetCommitRequest::default()
    };
    let answer = client.call::<OffsetCommit>(10, &request).await;
    let codes: Vec<ErrorCode> =
        answer.topics.iter().map(|topic| topic.partitions[0].error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_ID]);
    let wanted = |topic_id| OffsetFetchTopics {
        topic_id,
        partition_indexes: vec![0],
        ..OffsetFetchTopics::default()
    };
    for topics in [None, Some(vec![wanted(unknown_id), wanted(topic_id)])] {
        let asked = topics.is_some();
        let group_id = text("readers");
        let groups = vec![OffsetFetchGroup { group_id, topics, ..OffsetFetchGroup::default() }];
        let request = OffsetFetchRequest { groups, ..OffsetFetchRequest::default() };
        let answer = client.call::<OffsetFetch>(10, &request).await;
        let found = &answer.groups[0].topics;
        assert_eq!(found.len(), 1 + usize::from(asked));
        assert_eq!((found[0].topic_id, found[0].partitions[0].committed_offset), (topic_id, 7));
        let unknown = found.get(1).map(|topic| topic.partitions[0].error_code);
        assert_eq!(unknown, asked.then_some(ErrorCode::UNKNOWN_TOPIC_ID));
    }
    node.stop().await;
}

#[tokio::test]
async fn groups_are_coordinated_here_and_transactions_nowhere() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    for (key_type, code) in [
        (0, ErrorCode::NONE),
        (1, ErrorCode::UNSUPPORTED_VERSION),
        (2, ErrorCode::INVALID_REQUEST),
        (-1, ErrorCode::INVALID_REQUEST),
    ] {
        let key = text("readers");
        let keys = vec![text("a"), text("b")];
        let old = FindCoordinatorRequest { key, key_type, ..FindCoordinatorRequest::default() };
        let new = FindCoordinatorRequest {
            coordinator_keys: keys,
            key_type,
            ..FindCoordinatorRequest::default()
        };
        let old = client.call::<FindCoordinator>(2, &old).await;
        let new = client.call::<FindCoordinator>(4, &new).await;
        assert_eq!((old.error_code, old.error_code.is_retriable()), (code, false));
        assert_eq!(new.coordinators.len(), 2);
        for found in &new.coordinators {
            assert_eq!((found.error_code, found.node_id), (code, old.node_id));
            assert_eq!((&found.host, found.port), (&old.host, old.port));
        }
        assert_eq!(old.node_id, if code.is_none() { 1 } else { -1 });
    }
    node.stop().await;
}
