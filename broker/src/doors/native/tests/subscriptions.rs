//! Subscriptions: what is pushed, within which credit, and how they end.

use super::node::{Client, Stream, TestNode, batch, produce};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    CloseCode, Credit, DeleteTopicsRequest, Records, Reply, StreamRole, SubscribeRequest,
    SubscriptionEnded, Unsubscribe,
};
use bateau_protocol::wire::ErrorCode;

fn subscribe(topic_id: TopicId, credit_bytes: u64) -> SubscribeRequest {
    SubscribeRequest { topic_id, credit_bytes, ..SubscribeRequest::default() }
}

async fn records(stream: &mut Stream) -> (u32, Records) {
    match stream.reply().await {
        (correlation, Reply::Records(records)) => (correlation, records),
        other => panic!("{other:?}"),
    }
}

async fn ended(stream: &mut Stream) -> (u32, SubscriptionEnded) {
    match stream.reply().await {
        (correlation, Reply::SubscriptionEnded(ended)) => (correlation, ended),
        other => panic!("{other:?}"),
    }
}

/// The numbers in the batches of one record of one byte.
fn values(records: &Records) -> Vec<u8> {
    let size = batch(&[&[0]]).len();
    let bytes = records.records.to_bytes();
    bytes.chunks(size).map(|batch| batch[size - 2]).collect()
}

async fn opened(client: &Client, topic: TopicId, credit: u64) -> (Stream, u32) {
    let mut bulk = client.open(StreamRole::Bulk).await;
    let correlation = bulk.request(subscribe(topic, credit)).await;
    let (answered, reply) = bulk.reply().await;
    assert!(answered == correlation && matches!(reply, Reply::Subscribe(_)), "{reply:?}");
    (bulk, correlation)
}

#[tokio::test]
async fn batches_are_pushed_as_they_commit_each_once_and_in_order() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    data.call(produce(topic, batch(&[&[0]]))).await;
    let (mut bulk, correlation) = opened(&client, topic, 1 << 20).await;
    let mut found = values(&records(&mut bulk).await.1);
    for number in 1..100 {
        data.say(u32::from(number), produce(topic, batch(&[&[number]]))).await;
    }
    while found.len() < 100 {
        let (answered, pushed) = records(&mut bulk).await;
        assert_eq!(answered, correlation);
        found.extend(values(&pushed));
    }
    assert_eq!(found, (0..100).collect::<Vec<u8>>());
    node.stop().await;
}

#[tokio::test]
async fn nothing_beyond_the_credit_is_pushed_but_a_batch_that_is_larger_alone() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    let small = batch(&[&[7; 100]]);
    for _ in 0..3 {
        data.call(produce(topic, small.clone())).await;
    }
    data.call(produce(topic, batch(&[&vec![7; 500_000]]))).await;
    data.call(produce(topic, small.clone())).await;
    let credit = 2 * small.len() as u64;
    let (mut bulk, correlation) = opened(&client, topic, credit).await;
    assert_eq!(records(&mut bulk).await.1.records.len(), 2 * small.len());
    // Whatever was pushed beyond the credit would come before this answer.
    let mark = opened_on(&mut bulk, topic, 0).await;
    let credit = credit + small.len() as u64;
    bulk.say(correlation, Credit { credit_bytes: credit }).await;
    let (answered, third) = records(&mut bulk).await;
    assert_eq!((answered, third.high_watermark, third.log_start), (correlation, 5, 0));
    // Offset and epoch are the broker's, everything behind them the producer's.
    assert_eq!(third.records.to_bytes()[16..], small[16..]);
    bulk.say(correlation, Credit { credit_bytes: credit + 1 }).await;
    let (_, large) = records(&mut bulk).await;
    assert!(large.records.len() > 500_000);
    bulk.say(mark, Unsubscribe {}).await;
    assert_eq!(ended(&mut bulk).await, (mark, SubscriptionEnded::default()));
    let received = credit + large.records.len() as u64;
    bulk.say(correlation, Credit { credit_bytes: received + 1_000 }).await;
    assert_eq!(records(&mut bulk).await.1.records.len(), small.len());
    node.stop().await;
}

async fn opened_on(bulk: &mut Stream, topic: TopicId, credit: u64) -> u32 {
    let correlation = bulk.request(subscribe(topic, credit)).await;
    let (answered, reply) = bulk.reply().await;
    assert!(answered == correlation && matches!(reply, Reply::Subscribe(_)), "{reply:?}");
    correlation
}

#[tokio::test]
async fn a_subscription_ends_as_its_client_wishes_or_with_its_topic_or_its_offset() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let (mut bulk, first) = opened(&client, topic, 1_000).await;
    bulk.say(first, Unsubscribe {}).await;
    assert_eq!(ended(&mut bulk).await, (first, SubscriptionEnded::default()));
    bulk.say(first, Unsubscribe {}).await;
    assert_eq!(ended(&mut bulk).await.1.code, ErrorCode::UNKNOWN_SUBSCRIPTION);
    // It crossed the end: nobody minds.
    bulk.say(first, Credit { credit_bytes: u64::MAX }).await;
    let beyond = SubscribeRequest { offset: 9, ..subscribe(topic, 1_000) };
    let refused = bulk.try_call(beyond).await.expect_err("there are no records");
    assert_eq!((refused.code, refused.high_watermark), (ErrorCode::OFFSET_OUT_OF_RANGE, 0));
    let unknown = bulk.try_call(subscribe(TopicId([9; 16]), 1)).await;
    assert_eq!(unknown.expect_err("no such topic").code, ErrorCode::UNKNOWN_TOPIC_ID);
    let second = opened_on(&mut bulk, topic, 1_000).await;
    let names = vec!["orders".into()];
    client.call(DeleteTopicsRequest { names, timeout_ms: 10_000 }).await;
    let (correlation, reason) = ended(&mut bulk).await;
    assert_eq!((correlation, reason.code), (second, ErrorCode::UNKNOWN_TOPIC_ID));
    // Also one that has something to read, and too little credit for it.
    let topic = client.topic("payments").await;
    let mut data = client.open(StreamRole::Data).await;
    data.call(produce(topic, batch(&[b"one"]))).await;
    let third = opened_on(&mut bulk, topic, 1).await;
    assert_eq!(records(&mut bulk).await.0, third);
    data.call(produce(topic, batch(&[b"two"]))).await;
    let names = vec!["payments".into()];
    client.call(DeleteTopicsRequest { names, timeout_ms: 10_000 }).await;
    assert_eq!(ended(&mut bulk).await.0, third);
    node.stop().await;
}

#[tokio::test]
async fn who_grants_more_than_a_connection_may_have_outstanding_is_closed() {
    let node = TestNode::start(&[]).await;
    for by_subscribing in [true, false] {
        let mut client = node.connect().await;
        let topic = client.topic("orders").await;
        let limit = 6 << 20;
        let (mut bulk, first) = opened(&client, topic, limit - 5).await;
        opened_on(&mut bulk, topic, 5).await;
        if by_subscribing {
            bulk.request(subscribe(topic, 1)).await;
        } else {
            bulk.say(first, Credit { credit_bytes: limit - 4 }).await;
        }
        assert_eq!(client.closed().await, CloseCode::CREDIT_OVERDRAWN);
    }
    node.stop().await;
}
