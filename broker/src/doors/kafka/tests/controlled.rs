//! Faults that a test plans, as a client of Kafka's protocol meets them.

use super::node::{Client, TestNode};
use super::records::{auto_create, batch, fetch, only, produce, produced};
use crate::controls::{Api, Controls, Door, Fault};
use bateau_protocol::kafka::api;
use bateau_protocol::kafka::api::fetch::Fetch;
use bateau_protocol::kafka::api::metadata::{
    Metadata, MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use bateau_protocol::kafka::api::offset_commit::{
    OffsetCommit, OffsetCommitPartition, OffsetCommitRequest, OffsetCommitTopic,
};
use bateau_protocol::kafka::api::produce::{Produce, ProduceRequest};
use bateau_protocol::wire::{ErrorCode, Text};
use std::time::Duration;

const CODE: ErrorCode = ErrorCode::NOT_LEADER_OR_FOLLOWER;

#[tokio::test]
async fn a_refused_produce_has_its_code_and_leaves_nothing_behind() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    node.controls().fail_next(Api::Produce, CODE, 1).expect("there is room for plans");
    let request = produce("orders", Some(batch(&[b"one"])));
    assert_eq!(produced(&mut client, &request).await.error_code, CODE);
    let again = produced(&mut client, &request).await;
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 0));
    node.stop().await;
}

#[tokio::test]
async fn a_lost_ack_takes_the_connection_and_leaves_the_record() {
    let node = TestNode::start(&[]).await;
    let (mut client, mut other) = (node.connect().await, node.connect().await);
    auto_create(&mut client, "orders").await;
    node.controls().drop_next_ack();
    let silent = ProduceRequest { acks: 0, ..produce("orders", Some(batch(&[b"zero"]))) };
    client.request::<Produce>(9, &silent).await;
    client.request::<Produce>(9, &produce("orders", Some(batch(&[b"one"])))).await;
    assert_eq!(client.frame().await, None, "the ack is lost");
    let data = only(other.call::<Fetch>(9, &fetch("orders", 0)).await);
    assert_eq!(data.high_watermark, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_refused_produce_does_not_use_up_the_loss_of_an_ack() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    node.controls().drop_next_ack();
    let mut damaged = batch(&[b"one"]).to_vec();
    *damaged.last_mut().expect("a batch has bytes") ^= 1;
    let refused = produced(&mut client, &produce("orders", Some(damaged.into()))).await;
    assert_eq!(refused.error_code, ErrorCode::CORRUPT_MESSAGE);
    client.request::<Produce>(9, &produce("orders", Some(batch(&[b"one"])))).await;
    assert_eq!(client.frame().await, None, "this one is appended, and its ack is lost");
    let faults = node.controls().requests().into_iter().filter(|seen| seen.api == Api::Produce);
    let faults: Vec<_> = faults.map(|seen| seen.fault).collect();
    assert_eq!(faults, [None, Some(Fault::AckDropped)]);
    node.stop().await;
}

#[tokio::test]
async fn a_delayed_answer_comes_when_the_clock_has_moved_that_far() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    node.controls().delay_next(Api::Produce, Duration::from_hours(1)).expect("room");
    client.request::<Produce>(9, &produce("orders", Some(batch(&[b"one"])))).await;
    let mut other = node.connect().await;
    let data = only(other.call::<Fetch>(9, &fetch("orders", 0)).await);
    assert_eq!(data.high_watermark, 1, "only the answer waits");
    node.broker().advance(Duration::from_hours(1)).await.expect("the node runs");
    let (_, response) = client.response::<Produce>(9).await;
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 0);
    node.stop().await;
}

#[tokio::test]
async fn what_the_broker_saw_can_be_asked_for() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    node.controls().fail_next(Api::Fetch, CODE, 1).expect("room");
    assert_eq!(only(client.call::<Fetch>(9, &fetch("orders", 0)).await).error_code, CODE);
    let seen = node.controls().requests();
    let [metadata, fetched] = &seen[..] else { panic!("two requests, not {seen:?}") };
    assert_eq!((metadata.api, metadata.fault), (Api::Metadata, None));
    assert_eq!((fetched.door, fetched.api), (Door::Kafka, Api::Fetch));
    assert_eq!(fetched.subject.topic.as_deref(), Some("orders"));
    assert_eq!(fetched.subject.client.as_deref(), Some("test"));
    assert_eq!(fetched.fault, Some(Fault::Refused(CODE)));
    node.stop().await;
}

#[tokio::test]
async fn metadata_without_a_place_for_a_code_loses_its_connection() {
    let node = TestNode::start(&[]).await;
    let (mut old, mut new) = (node.connect().await, node.connect().await);
    node.controls().fail_next(Api::Metadata, CODE, 3).expect("room");
    let name = Some(Text::from_static("orders"));
    let topic = MetadataRequestTopic { name, ..MetadataRequestTopic::default() };
    let one = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let answer: MetadataResponse = new.call::<Metadata>(9, &one).await;
    assert_eq!((answer.topics[0].error_code, answer.brokers.len()), (CODE, 1));
    assert_eq!(new.call::<Metadata>(13, &all).await.error_code, CODE);
    old.request::<Metadata>(9, &all).await;
    assert_eq!(old.frame().await, None);
    node.stop().await;
}

#[tokio::test]
async fn a_refused_commit_names_every_partition() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    node.controls().fail_next(Api::OffsetCommit, ErrorCode::NOT_COORDINATOR, 1).expect("room");
    let partition = |partition_index| OffsetCommitPartition {
        partition_index,
        ..OffsetCommitPartition::default()
    };
    let name = Text::from_static("orders");
    let partitions = vec![partition(0), partition(1)];
    let topics = vec![OffsetCommitTopic { name, partitions, ..OffsetCommitTopic::default() }];
    let request = OffsetCommitRequest { topics, ..OffsetCommitRequest::default() };
    let answer = client.call::<OffsetCommit>(8, &request).await;
    let codes = answer.topics[0].partitions.iter().map(|one| one.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [ErrorCode::NOT_COORDINATOR; 2]);
    node.stop().await;
}

/// An API's refusal, at every version that is served, is an answer of that version.
async fn refuses<A: api::Api>(client: &mut Client, controls: &Controls, asked: Api) {
    for version in A::INFO.served_min..=A::INFO.version_max {
        controls.fail_next(asked, CODE, 1).expect("there is room for plans");
        let _ = client.call::<A>(version, &A::PlainRequest::default()).await;
        let met = controls.requests().pop().and_then(|seen| seen.fault);
        assert_eq!(met, Some(Fault::Refused(CODE)), "{asked} version {version}");
    }
}

#[tokio::test]
async fn every_api_can_be_refused_at_every_version() {
    let node = TestNode::start(&[]).await;
    let (mut client, controls) = (node.connect().await, node.controls());
    let client = &mut client;
    refuses::<api::list_offsets::ListOffsets>(client, &controls, Api::ListOffsets).await;
    refuses::<api::offset_commit::OffsetCommit>(client, &controls, Api::OffsetCommit).await;
    refuses::<api::offset_fetch::OffsetFetch>(client, &controls, Api::OffsetFetch).await;
    refuses::<api::find_coordinator::FindCoordinator>(client, &controls, Api::FindCoordinator)
        .await;
    refuses::<api::join_group::JoinGroup>(client, &controls, Api::JoinGroup).await;
    refuses::<api::heartbeat::Heartbeat>(client, &controls, Api::Heartbeat).await;
    refuses::<api::leave_group::LeaveGroup>(client, &controls, Api::LeaveGroup).await;
    refuses::<api::sync_group::SyncGroup>(client, &controls, Api::SyncGroup).await;
    refuses::<api::api_versions::ApiVersions>(client, &controls, Api::ApiVersions).await;
    refuses::<api::create_topics::CreateTopics>(client, &controls, Api::CreateTopics).await;
    refuses::<api::delete_topics::DeleteTopics>(client, &controls, Api::DeleteTopics).await;
    refuses::<api::init_producer_id::InitProducerId>(client, &controls, Api::InitProducerId).await;
    refuses::<api::offset_for_leader_epoch::OffsetForLeaderEpoch>(
        client,
        &controls,
        Api::OffsetForLeaderEpoch,
    )
    .await;
    refuses::<api::describe_configs::DescribeConfigs>(client, &controls, Api::DescribeConfigs)
        .await;
    refuses::<api::describe_cluster::DescribeCluster>(client, &controls, Api::DescribeCluster)
        .await;
    node.stop().await;
}
