//! Produce, fetch, offsets and producer ids.

use super::node::{TestNode, batch, produce};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    CreateTopicsRequest, FetchRequest, FindOffsetsRequest, NewTopic, Position, ProduceRequest,
    ProducerIdRequest, Reply, StreamRole,
};
use bateau_protocol::wire::ErrorCode;

fn fetch(topic_id: TopicId, offset: i64) -> FetchRequest {
    let (bytes_max, bytes_min) = (1 << 20, 1);
    FetchRequest { topic_id, offset, bytes_max, bytes_min, ..FetchRequest::default() }
}

#[tokio::test]
async fn what_is_produced_is_fetched_as_it_was_and_the_ack_says_what_it_promises() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    let mut bulk = client.open(StreamRole::Bulk).await;
    let sent = batch(&[b"one", b"two"]);
    let ack = data.call(produce(topic, sent.clone())).await;
    assert_eq!((ack.base_offset, ack.is_duplicate, ack.replicas), (0, false, 1));
    let durability = node.node.broker().expect("it runs").node().durability.word();
    assert_eq!(ack.durability.as_str(), durability);
    let fetched = bulk.call(fetch(topic, 0)).await;
    assert_eq!((fetched.high_watermark, fetched.log_start), (2, 0));
    // Offset and epoch are the broker's, everything behind them the producer's.
    assert_eq!(fetched.records.to_bytes()[16..], sent[16..]);
    let ask = |timestamp| Position { topic_id: topic, partition: 0, timestamp };
    let positions = vec![ask(-1), ask(-2), ask(-7), Position::default()];
    let found = client.call(FindOffsetsRequest { positions }).await.offsets;
    let found: Vec<_> = found.iter().map(|found| (found.offset, found.error_code)).collect();
    assert_eq!(
        found,
        [
            (2, ErrorCode::NONE),
            (0, ErrorCode::NONE),
            (-1, ErrorCode::INVALID_REQUEST),
            (-1, ErrorCode::UNKNOWN_TOPIC_ID),
        ]
    );
    node.stop().await;
}

#[tokio::test]
async fn pipelined_batches_are_appended_and_acknowledged_in_the_order_of_their_partition() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let new = NewTopic { name: "orders".into(), partitions: 3, ..NewTopic::default() };
    let request = CreateTopicsRequest { topics: vec![new], timeout_ms: 10_000, ..<_>::default() };
    let topic = client.call(request).await.topics[0].id;
    let mut data = client.open(StreamRole::Data).await;
    for number in 0..240_u8 {
        let partition = i32::from(number % 3);
        let request = produce(topic, batch(&[&[number]]));
        data.say(u32::from(number), ProduceRequest { partition, ..request }).await;
    }
    let mut acked = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..240 {
        let (correlation, reply) = data.reply().await;
        let Reply::Produce(ack) = reply else { panic!("{reply:?}") };
        acked[correlation as usize % 3].push((correlation / 3, ack.base_offset));
    }
    for acks in acked {
        assert_eq!(acks, (0..80).map(|number| (number, i64::from(number))).collect::<Vec<_>>());
    }
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_says_whether_to_try_again_and_whether_anything_was_written() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    let mut bulk = client.open(StreamRole::Bulk).await;
    let unknown = data.try_call(produce(TopicId([9; 16]), batch(&[b"x"]))).await;
    let unknown = unknown.expect_err("there is no such topic");
    assert_eq!(unknown.code, ErrorCode::UNKNOWN_TOPIC_ID);
    assert!(unknown.is_retriable && !unknown.possibly_written);
    let mut broken = batch(&[b"x"]).to_vec();
    *broken.last_mut().expect("it is not empty") ^= 1;
    let broken = data.try_call(produce(topic, broken.into())).await;
    assert_eq!(broken.expect_err("its checksum is wrong").code, ErrorCode::CORRUPT_MESSAGE);
    let beyond = bulk.try_call(fetch(topic, 7)).await.expect_err("there are no records");
    assert_eq!(beyond.code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!((beyond.log_start, beyond.high_watermark), (0, 0));
    node.stop().await;
}

#[tokio::test]
async fn a_fetch_waits_for_the_first_record_and_holds_up_nothing_behind_it() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    let mut bulk = client.open(StreamRole::Bulk).await;
    bulk.say(1, FetchRequest { wait_ms: i32::MAX, ..fetch(topic, 0) }).await;
    bulk.say(2, FetchRequest { bytes_min: 0, ..fetch(topic, 0) }).await;
    assert_eq!(bulk.reply().await.0, 2);
    data.call(produce(topic, batch(&[b"one"]))).await;
    let (correlation, reply) = bulk.reply().await;
    let Reply::Fetch(fetched) = reply else { panic!("{reply:?}") };
    assert_eq!((correlation, fetched.high_watermark), (1, 1));
    node.stop().await;
}

#[tokio::test]
async fn every_producer_gets_an_id_of_its_own() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let first = client.call(ProducerIdRequest {}).await;
    let second = client.call(ProducerIdRequest {}).await;
    assert_ne!(first.producer_id, second.producer_id);
    assert_eq!((first.producer_epoch, second.producer_epoch), (0, 0));
    node.stop().await;
}
