//! What the tests of the test broker ask of its engine.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use bateau::api::{Broker, ProduceRefused, ProduceRequest, TopicReference};
use bateau::offsets::OffsetQuery;
use bateau_core::consumer_group::{
    CommitPartition, CommitTopic, GroupRequest, GroupResponse, Heartbeat, HeartbeatError,
    JoinGroup, OffsetCommit, OffsetFetch, Protocol, SyncGroup,
};
use bateau_core::controller::{CreateTopics, NewTopic};
use bateau_protocol::ids::TopicId;
use bateau_protocol::record::{BatchBuilder, NewRecord};
use bateau_testing::TestBroker;
use bytes::Bytes;
use std::time::Duration;

pub const TOPIC: &str = "orders";

pub fn engine(broker: &TestBroker) -> Broker {
    broker.engine().expect("the broker runs")
}

/// Appends one record of the broker's present time; returns its offset.
pub async fn produce(broker: &TestBroker, value: &[u8]) -> Result<u64, ProduceRefused> {
    produce_at(&engine(broker), value).await
}

/// The same at one of several nodes.
pub async fn produce_at(engine: &Broker, value: &[u8]) -> Result<u64, ProduceRefused> {
    let timestamp = i64::try_from(engine.clock().wall_ms()).expect("it is not that late");
    let mut batch = BatchBuilder::new();
    let record = NewRecord { timestamp, value: Some(value), ..NewRecord::default() };
    batch.push(&record).expect("it fits");
    let request = ProduceRequest {
        topic: &TopicReference::Name(TOPIC.to_owned()),
        partition: 0,
        records: batch.build().expect("there is a record"),
        wants_ack: true,
        timeout: Duration::from_secs(20),
        zstd_allowed: true,
    };
    let ack = engine.produce(request).await.wait().await.expect("an ack is wanted");
    ack.map(|ack| ack.base_offset.get())
}

/// Where an offset query leads, and the leader's epoch.
pub async fn offset(broker: &TestBroker, query: OffsetQuery) -> (u64, i32) {
    let topic = TopicReference::Name(TOPIC.to_owned());
    let found = engine(broker).find_offset(&topic, 0, -1, query).await;
    let found = found.expect("the partition is here").expect("such an offset is there");
    (found.offset.get(), found.leader_epoch)
}

pub async fn create_with(broker: &TestBroker, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned())));
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        partition_count: 1,
        replication_factor: -1,
        configs: configs.collect(),
        ..NewTopic::default()
    };
    let request =
        CreateTopics { topics: vec![topic], timeout_ms: 10_000, ..CreateTopics::default() };
    let made = engine(broker).create_topics(request).await.expect("the controller answers");
    made[0].result.as_ref().expect("the topic is new");
}

/// A member of the group `billing`.
#[derive(Clone, Debug)]
pub struct Member {
    pub generation: i32,
    pub id: String,
}

/// Joins the group and hands in assignments for those who are in it.
pub async fn join(broker: &TestBroker, id: &str, session_ms: i32) -> Member {
    let protocol = Protocol { name: "range".into(), metadata: Bytes::from_static(b"orders") };
    let request = JoinGroup {
        group_id: "billing".into(),
        member_id: id.into(),
        group_instance_id: None,
        client_id: "test".into(),
        client_host: "/127.0.0.1".into(),
        member_uuid: engine(broker).entropy().bytes(),
        member_id_required: false,
        can_skip_assignment: false,
        session_timeout_ms: session_ms,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
    };
    let answer = engine(broker).group(GroupRequest::JoinGroup(request)).await;
    let Some(GroupResponse::JoinGroup(Ok(joined))) = answer else { panic!("{answer:?}") };
    let member = Member { generation: joined.generation, id: joined.member_id.to_string() };
    if joined.leader == joined.member_id {
        let request = SyncGroup {
            group_id: "billing".into(),
            generation: member.generation,
            member_id: joined.member_id,
            group_instance_id: None,
            protocol_type: None,
            protocol_name: None,
            assignments: Vec::new(),
        };
        let answer = engine(broker).group(GroupRequest::SyncGroup(request)).await;
        assert!(matches!(answer, Some(GroupResponse::SyncGroup(Ok(_)))), "{answer:?}");
    }
    member
}

pub async fn heartbeat(broker: &TestBroker, member: &Member) -> Result<(), HeartbeatError> {
    let request = Heartbeat {
        group_id: "billing".into(),
        generation: member.generation,
        member_id: member.id.as_str().into(),
        group_instance_id: None,
    };
    match engine(broker).group(GroupRequest::Heartbeat(request)).await {
        Some(GroupResponse::Heartbeat(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

/// Commits an offset as a member does.
pub async fn commit(broker: &TestBroker, member: &Member, offset: i64) {
    let position = CommitPartition { partition: 0, offset, leader_epoch: -1, metadata: "".into() };
    let topic =
        CommitTopic { name: TOPIC.into(), topic_id: TopicId::ZERO, partitions: vec![position] };
    let request = OffsetCommit {
        group_id: "billing".into(),
        generation: member.generation,
        member_id: member.id.as_str().into(),
        group_instance_id: None,
        retention_ms: None,
        topics: vec![topic],
    };
    let answer = engine(broker).group(GroupRequest::OffsetCommit(request)).await;
    let Some(GroupResponse::OffsetCommit(Ok(topics))) = answer else { panic!("{answer:?}") };
    assert_eq!(topics[0].partitions[0], (0, Ok(())));
}

/// The group's position, if it has one.
pub async fn committed(broker: &TestBroker) -> Option<i64> {
    let request = OffsetFetch { group_id: "billing".into(), topics: None, require_stable: false };
    let answer = engine(broker).group(GroupRequest::OffsetFetch(request)).await;
    let Some(GroupResponse::OffsetFetch(Ok(topics))) = answer else { panic!("{answer:?}") };
    let first = topics.first()?.partitions.first()?;
    first.1.as_ref().map(|found| found.offset)
}
