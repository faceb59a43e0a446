//! Metadata, watch, status, administration and groups.

use super::node::{Client, TestNode, batch, produce, within};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    AlterTopicRequest, ClusterChanged, CommitRequest, CommittedPosition, CommittedRequest,
    ConfigValue, CoordinatorRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DescribeGroupsRequest, DescribeTopicRequest, GroupProtocol, HeartbeatRequest, JoinRequest,
    LeaveRequest, LeavingMember, ListGroupsRequest, MemberAssignment, MetadataRequest, NewTopic,
    Reply, StatusRequest, StreamRole, SyncRequest, TopicName, TopicPartition, UnwatchRequest,
    WatchRequest,
};
use bateau_protocol::wire::{ErrorCode, Text};
use bytes::Bytes;

fn named(name: &'static str) -> TopicName {
    TopicName { name: name.into(), id: TopicId::ZERO }
}

#[tokio::test]
async fn metadata_names_this_node_and_makes_topics_only_where_it_may() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let asked = MetadataRequest { topics: Some(vec![named("orders")]), auto_create: false };
    let absent = client.call(asked.clone()).await;
    assert_eq!(absent.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let [this] = &absent.nodes[..] else { panic!("{absent:?}") };
    assert_eq!((this.node_id, this.host.as_str()), (1, "127.0.0.1"));
    assert_eq!(this.port, i32::from(node.address.port()));
    let made = client.call(MetadataRequest { auto_create: true, ..asked }).await;
    let partition = &made.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::NONE, 1));
    let by_id = TopicName { name: Text::EMPTY, id: made.topics[0].id };
    let topics = Some(vec![by_id, TopicName { name: Text::EMPTY, id: TopicId([9; 16]) }]);
    let found = client.call(MetadataRequest { topics, auto_create: true }).await.topics;
    assert_eq!(found[0], made.topics[0]);
    assert_eq!(found[1].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    let all = client.call(MetadataRequest::default()).await;
    assert_eq!(all.topics, made.topics);
    node.stop().await;
}

#[tokio::test]
async fn a_watch_tells_at_once_and_then_of_changes_of_what_it_watches() {
    let node = TestNode::start(&[]).await;
    let (mut watcher, mut other) = (node.connect().await, node.connect().await);
    let topics = Some(vec![named("orders")]);
    watcher.control.say(40, WatchRequest { topics }).await;
    let (40, first) = changed(&mut watcher.control).await else { panic!("another watch") };
    assert_eq!(first.cluster.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    // What is not watched is not told of.
    other.topic("of-others").await;
    let orders = other.topic("orders").await;
    let last = within(async {
        loop {
            let (40, change) = changed(&mut watcher.control).await else { panic!("another") };
            let topic = change.cluster.topics[0].clone();
            assert_eq!(topic.name.as_str(), "orders");
            if topic.error_code.is_none() && topic.partitions[0].leader_id == 1 {
                break topic;
            }
        }
    })
    .await;
    assert_eq!(last.id, orders);
    watcher.control.say(40, UnwatchRequest {}).await;
    watcher.call(StatusRequest {}).await;
    other.topic("another").await;
    watcher.call(StatusRequest {}).await;
    node.stop().await;
}

async fn changed(stream: &mut super::node::Stream) -> (u32, ClusterChanged) {
    match stream.reply().await {
        (correlation, Reply::ClusterChanged(change)) => (correlation, change),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn topics_are_made_altered_described_and_counted() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let retention = |value: &'static str| ConfigValue {
        name: "retention.ms".into(),
        value: Some(value.into()),
    };
    let new = NewTopic {
        name: "orders".into(),
        partitions: 2,
        configs: vec![retention("1000")],
        ..NewTopic::default()
    };
    let topics = vec![new.clone(), NewTopic { name: "../etc".into(), ..new }];
    let request = CreateTopicsRequest { topics, timeout_ms: 10_000, ..<_>::default() };
    let made = client.call(request).await.topics;
    assert_eq!((made[0].error_code, made[0].partitions), (ErrorCode::NONE, 2));
    assert_eq!(made[1].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert!(!made[1].message.is_empty());
    let alter = AlterTopicRequest {
        name: "orders".into(),
        configs: vec![retention("2000")],
        partitions: 5,
        timeout_ms: 10_000,
        ..AlterTopicRequest::default()
    };
    client.call(alter.clone()).await;
    let fewer = AlterTopicRequest { partitions: 3, configs: vec![retention("3000")], ..alter };
    let refused = client.control.try_call(fewer).await.expect_err("a topic never shrinks");
    assert_eq!(refused.code, ErrorCode::INVALID_PARTITIONS);
    let described = client.call(DescribeTopicRequest { name: "orders".into() }).await;
    assert_eq!(described.partitions.len(), 5);
    assert!(described.partitions.iter().all(|partition| partition.leader_id == 1));
    let config = described.configs.iter().find(|config| config.name.as_str() == "retention.ms");
    let config = config.expect("every topic has it");
    assert_eq!((config.value.as_deref(), config.source.as_str()), (Some("2000"), "topic"));
    let absent = client.control.try_call(DescribeTopicRequest { name: "none".into() }).await;
    let absent = absent.expect_err("there is no such topic");
    assert_eq!(absent.code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let status = client.call(StatusRequest {}).await;
    assert_eq!((status.topics, status.partitions, status.nodes), (1, 5, 1));
    assert_eq!((status.leaderless_partitions, status.disk_state.as_str()), (0, "ok"));
    node.stop().await;
}

fn join(member_id: Text) -> JoinRequest {
    let metadata = Bytes::from_static(b"what a member wants");
    JoinRequest {
        group_id: "group".into(),
        member_id,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![GroupProtocol { name: "range".into(), metadata }],
        ..JoinRequest::default()
    }
}

fn group_id() -> Text {
    Text::from_static("group")
}

/// The only member of a new group, in its first generation.
async fn joined(client: &mut Client) -> Text {
    assert_eq!(client.call(CoordinatorRequest { group_id: group_id() }).await.node_id, 1);
    let required = client.control.try_call(join(Text::EMPTY)).await.expect_err("an id first");
    assert_eq!(required.code, ErrorCode::MEMBER_ID_REQUIRED);
    let member_id = required.member_id;
    let joined = client.call(join(member_id.clone())).await;
    assert_eq!((joined.generation, &joined.leader), (1, &member_id));
    assert_eq!(joined.members[0].metadata, &b"what a member wants"[..]);
    let assignment = Bytes::from_static(b"all of it");
    let mine = MemberAssignment { member_id: member_id.clone(), assignment: assignment.clone() };
    let sync = SyncRequest {
        group_id: group_id(),
        generation: 1,
        member_id: member_id.clone(),
        protocol_type: "consumer".into(),
        protocol_name: "range".into(),
        assignments: vec![mine],
        ..SyncRequest::default()
    };
    assert_eq!(client.call(sync).await.assignment, assignment);
    member_id
}

#[tokio::test]
async fn a_member_stays_one_by_heartbeats_of_its_generation() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let member_id = joined(&mut client).await;
    let heartbeat = |generation| HeartbeatRequest {
        group_id: group_id(),
        generation,
        member_id: member_id.clone(),
        ..HeartbeatRequest::default()
    };
    client.call(heartbeat(1)).await;
    let fenced = client.control.try_call(heartbeat(7)).await.expect_err("another generation");
    assert_eq!(fenced.code, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(fenced.member_id, member_id);
    node.stop().await;
}

#[tokio::test]
async fn a_member_commits_and_leaves_and_its_group_is_described_and_deleted() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic_id = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    data.call(produce(topic_id, batch(&[b"one", b"two", b"three"]))).await;
    let member_id = joined(&mut client).await;
    let at = |topic_id, partition, offset| CommittedPosition {
        topic_id,
        partition,
        offset,
        metadata: "note".into(),
        ..CommittedPosition::default()
    };
    let positions = vec![at(TopicId([9; 16]), 0, 1), at(topic_id, 0, 2), at(topic_id, 3, 1)];
    let commit = CommitRequest {
        group_id: group_id(),
        generation: 1,
        member_id: member_id.clone(),
        positions,
        ..CommitRequest::default()
    };
    let (unknown, no_partition) =
        (ErrorCode::UNKNOWN_TOPIC_ID, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let codes = client.call(commit).await.error_codes;
    assert_eq!(codes, [unknown, ErrorCode::NONE, no_partition]);
    let partitions = vec![
        TopicPartition { topic_id: TopicId([9; 16]), partition: 0 },
        TopicPartition { topic_id, partition: 0 },
    ];
    let asked = CommittedRequest { group_id: group_id(), partitions: Some(partitions) };
    let stored = client.call(asked).await.positions;
    assert_eq!((stored[0].error_code, stored[0].offset), (unknown, -1));
    assert_eq!((stored[1].offset, stored[1].metadata.as_str()), (2, "note"));
    let all = client.call(CommittedRequest { group_id: group_id(), partitions: None }).await;
    assert_eq!(all.positions, stored[1..]);
    let listed = client.call(ListGroupsRequest {}).await.groups;
    assert_eq!((listed[0].group_id.as_str(), listed[0].state.as_str()), ("group", "Stable"));
    let asked = DescribeGroupsRequest { group_ids: vec![group_id(), "none".into()] };
    let described = client.call(asked).await.groups;
    let lag = &described[0].lags[0];
    assert_eq!((lag.committed, lag.high_watermark), (2, 3));
    assert_eq!(described[0].members[0].member_id, member_id);
    assert_eq!(described[1].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    let delete = DeleteGroupsRequest { group_ids: vec![group_id()] };
    let codes = client.call(delete.clone()).await.error_codes;
    assert_eq!(codes, [ErrorCode::NON_EMPTY_GROUP]);
    let leaving = vec![LeavingMember { member_id, group_instance_id: None }];
    let left = client.call(LeaveRequest { group_id: group_id(), members: leaving }).await;
    assert_eq!(left.error_codes, [ErrorCode::NONE]);
    assert_eq!(client.call(delete).await.error_codes, [ErrorCode::NONE]);
    node.stop().await;
}
