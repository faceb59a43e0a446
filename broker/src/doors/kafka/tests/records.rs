//! Records in and out, and what is refused of them.

use super::node::{Client, TestNode};
use bateau_protocol::kafka::api::fetch::{
    Fetch, FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData,
};
use bateau_protocol::kafka::api::metadata::{
    Metadata, MetadataRequest, MetadataRequestTopic, MetadataResponse,
};
use bateau_protocol::kafka::api::produce::{
    PartitionProduceData, PartitionProduceResponse, Produce, ProduceRequest, TopicProduceData,
};
use bateau_protocol::kafka::{Chain, ErrorCode, Text};
use bateau_protocol::record::{BatchBuilder, NewRecord};
use bytes::Bytes;

/// Makes a topic by asking for it.
pub async fn auto_create(client: &mut Client, name: &'static str) -> MetadataResponse {
    let topic = MetadataRequestTopic {
        name: Some(Text::from_static(name)),
        ..MetadataRequestTopic::default()
    };
    let topics = Some(vec![topic]);
    client.call::<Metadata>(9, &MetadataRequest { topics, ..MetadataRequest::default() }).await
}

pub fn batch(values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(&NewRecord { value: Some(value), ..NewRecord::default() }).expect("it fits");
    }
    builder.build().expect("there are records")
}

pub fn produce(name: &'static str, records: Option<Bytes>) -> ProduceRequest {
    let records = records.map(Chain::from);
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: Text::from_static(name),
            partition_data: vec![PartitionProduceData { index: 0, records }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

pub async fn produced(client: &mut Client, request: &ProduceRequest) -> PartitionProduceResponse {
    let mut response = client.call::<Produce>(9, request).await;
    response.responses.remove(0).partition_responses.remove(0)
}

pub fn fetch(name: &'static str, fetch_offset: i64) -> FetchRequest {
    FetchRequest {
        replica_id: -1,
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic: Text::from_static(name),
            partitions: vec![FetchPartition {
                fetch_offset,
                partition_max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

pub fn only(mut response: FetchResponse) -> PartitionData {
    response.responses.remove(0).partitions.remove(0)
}

#[tokio::test]
async fn what_is_acknowledged_is_fetched_as_it_was_sent() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let metadata = auto_create(&mut client, "orders").await;
    assert_eq!(metadata.topics[0].error_code, ErrorCode::NONE);
    assert_eq!(metadata.topics[0].partitions[0].leader_id, 1);
    for (expected, values) in [(0, &[&b"one"[..], b"two"][..]), (2, &[&b"three"[..]])] {
        let answer = produced(&mut client, &produce("orders", Some(batch(values)))).await;
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, expected));
        assert_eq!((answer.log_append_time_ms, answer.log_start_offset), (-1, 0));
    }
    for version in 4..=12 {
        let data = only(client.call::<Fetch>(version, &fetch("orders", 1)).await);
        assert_eq!(data.error_code, ErrorCode::NONE, "version {version}");
        assert_eq!((data.high_watermark, data.last_stable_offset), (3, 3));
        assert_eq!((data.aborted_transactions, data.preferred_read_replica), (None, -1));
        let records = data.records.expect("never null").to_bytes();
        let (first, second) = (batch(&[b"one", b"two"]), batch(&[b"three"]));
        assert_eq!(records.len(), first.len() + second.len(), "the batch that holds offset 1");
        // Base offset and leader epoch are the broker's; the rest is the client's.
        assert_eq!(records[16..first.len()], first[16..]);
        assert_eq!(records[first.len() + 16..], second[16..]);
        assert_eq!(records[first.len()..first.len() + 8], 2_i64.to_be_bytes());
    }
    node.stop().await;
}

#[tokio::test]
async fn the_end_of_the_log_is_empty_and_beyond_it_is_out_of_range() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    produced(&mut client, &produce("orders", Some(batch(&[b"one"])))).await;
    let committed = FetchRequest { isolation_level: 1, ..fetch("orders", 1) };
    let data = only(client.call::<Fetch>(11, &committed).await);
    assert_eq!((data.error_code, data.high_watermark), (ErrorCode::NONE, 1));
    assert_eq!(data.records, Some(Chain::default()), "empty, not null");
    assert_eq!(data.aborted_transactions, Some(Vec::new()));
    for offset in [2, -1, i64::MAX, i64::MIN] {
        let data = only(client.call::<Fetch>(11, &fetch("orders", offset)).await);
        assert_eq!(data.error_code, ErrorCode::OFFSET_OUT_OF_RANGE, "{offset}");
        assert_eq!((data.high_watermark, data.log_start_offset), (-1, -1));
    }
    node.stop().await;
}

#[tokio::test]
async fn batches_that_may_not_be_appended_are_refused_with_kafkas_codes() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    let good = batch(&[b"one"]);
    let changed = |at: usize, to: u8| {
        let mut bytes = good.to_vec();
        bytes[at] = to;
        Some(Bytes::from(bytes))
    };
    let large = batch(&[&vec![0; 2 << 20]]);
    for (what, records, code) in [
        ("null", None, ErrorCode::INVALID_RECORD),
        ("nothing", Some(Bytes::new()), ErrorCode::INVALID_RECORD),
        ("a cut batch", Some(good.slice(..good.len() - 1)), ErrorCode::INVALID_RECORD),
        ("magic 0", changed(16, 0), ErrorCode::INVALID_RECORD),
        ("magic 1", changed(16, 1), ErrorCode::INVALID_RECORD),
        ("a flipped bit", changed(good.len() - 1, 1), ErrorCode::CORRUPT_MESSAGE),
        ("two batches", Some([&good[..], &good[..]].concat().into()), ErrorCode::INVALID_RECORD),
        ("a large batch", Some(large), ErrorCode::MESSAGE_TOO_LARGE),
    ] {
        let answer = produced(&mut client, &produce("orders", records)).await;
        assert_eq!((answer.error_code, answer.base_offset), (code, -1), "{what}");
        assert!(answer.error_message.is_some(), "{what}");
    }
    for acks in [2, -2, i16::MAX] {
        let request = ProduceRequest { acks, ..produce("orders", Some(good.clone())) };
        let answer = produced(&mut client, &request).await;
        assert_eq!(answer.error_code, ErrorCode::INVALID_REQUIRED_ACKS, "acks {acks}");
    }
    let answer = produced(&mut client, &produce("nowhere", Some(good.clone()))).await;
    assert_eq!(answer.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let mut builder = BatchBuilder::default().producer(1, 0, 0).transactional(true);
    builder.push(&NewRecord { value: Some(b"one"), ..NewRecord::default() }).expect("it fits");
    let transactional = builder.build().expect("there is a record");
    let answer = produced(&mut client, &produce("orders", Some(transactional))).await;
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let answer = produced(&mut client, &produce("orders", Some(good))).await;
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0), "none got in");
    node.stop().await;
}
