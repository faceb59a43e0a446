//! What connections may do, how they end, and that they end alone.

use super::node::{Client, TestNode, frame, within};
use super::records::{auto_create, batch, fetch, only, produce, produced};
use bateau_protocol::kafka::ErrorCode;
use bateau_protocol::kafka::api::fetch::{Fetch, FetchRequest};
use bateau_protocol::kafka::api::heartbeat::HeartbeatRequest;
use bateau_protocol::kafka::api::metadata::{Metadata, MetadataRequest};
use bateau_protocol::kafka::api::produce::{Produce, ProduceRequest};
use std::net::SocketAddr;

/// A request that any node answers.
pub async fn works(client: &mut Client) {
    let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
    assert_eq!(client.call::<Metadata>(9, &request).await.brokers.len(), 1);
}

#[tokio::test]
async fn pipelined_produces_are_appended_and_answered_in_their_order() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    let mut sent = Vec::new();
    for number in 0..100_u8 {
        let request = produce("orders", Some(batch(&[&[number]])));
        sent.push(client.request::<Produce>(9, &request).await);
    }
    for (number, id) in (0..).zip(sent) {
        let (answered, response) = client.response::<Produce>(9).await;
        assert_eq!(answered, id);
        assert_eq!(response.responses[0].partition_responses[0].base_offset, number);
    }
    let records = only(client.call::<Fetch>(9, &fetch("orders", 0)).await).records;
    let records = records.expect("never null").to_bytes();
    let size = batch(&[&[0]]).len();
    let values: Vec<u8> = records.chunks(size).map(|batch| batch[size - 2]).collect();
    assert_eq!(values, (0..100).collect::<Vec<u8>>());
    node.stop().await;
}

#[tokio::test]
async fn a_fetch_waits_for_the_first_record_and_for_no_longer() {
    let node = TestNode::start(&[]).await;
    let (mut reader, mut writer) = (node.connect().await, node.connect().await);
    auto_create(&mut writer, "orders").await;
    let patient = FetchRequest { max_wait_ms: i32::MAX, ..fetch("orders", 0) };
    reader.request::<Fetch>(11, &patient).await;
    // What is pipelined behind it is answered behind it.
    let behind = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
    let behind = reader.request::<Metadata>(9, &behind).await;
    produced(&mut writer, &produce("orders", Some(batch(&[b"one"])))).await;
    let data = only(reader.response::<Fetch>(11).await.1);
    assert_eq!((data.error_code, data.high_watermark), (ErrorCode::NONE, 1));
    assert!(!data.records.expect("never null").is_empty());
    assert_eq!(reader.response::<Metadata>(9).await.0, behind);
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_reads_late_gets_every_answer_all_the_same() {
    let node = TestNode::start(&["limits.connection_reply_bytes_max=1MiB"]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    let large = batch(&[&vec![7; 1_000_000]]);
    produced(&mut client, &produce("orders", Some(large.clone()))).await;
    let mut sent = Vec::new();
    for _ in 0..50 {
        sent.push(client.request::<Fetch>(11, &fetch("orders", 0)).await);
    }
    for id in sent {
        let (answered, response) = client.response::<Fetch>(11).await;
        assert_eq!(answered, id);
        let records = only(response).records.expect("never null");
        assert_eq!(records.to_bytes()[16..], large[16..]);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_refusal_that_cannot_be_told_closes_the_connection() {
    let node = TestNode::start(&[]).await;
    let mut bystander = node.connect().await;
    auto_create(&mut bystander, "orders").await;
    let silent = |topic| ProduceRequest { acks: 0, ..produce(topic, Some(batch(&[b"one"]))) };
    let mut client = node.connect().await;
    client.request::<Produce>(9, &silent("orders")).await;
    works(&mut client).await;
    client.request::<Produce>(9, &silent("nowhere")).await;
    assert_eq!(client.frame().await, None);
    // What was to be appended, silently, has been.
    let data = only(bystander.call::<Fetch>(11, &fetch("orders", 0)).await);
    assert_eq!(data.high_watermark, 1);
    node.stop().await;
}

#[tokio::test]
async fn what_nobody_serves_closes_one_connection_and_no_other() {
    let node = TestNode::start(&[]).await;
    let mut bystander = node.connect().await;
    let mut unknown = frame(4, 1, &HeartbeatRequest::default()).to_vec();
    unknown[4..6].copy_from_slice(&9_999_i16.to_be_bytes());
    for bytes in [&unknown[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 8]] {
        let mut client = node.connect().await;
        client.send(bytes).await;
        assert_eq!(client.frame().await, None);
        works(&mut bystander).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn a_sender_that_stalls_inside_a_frame_is_cut_and_one_between_frames_is_not() {
    let node =
        TestNode::start(&["limits.stall_window_ms=200", "limits.stall_bytes_per_second_min=10"])
            .await;
    let (mut stalled, mut quiet) = (node.connect().await, node.connect().await);
    let request = frame(9, 1, &MetadataRequest::default());
    stalled.send(&request[..5]).await;
    assert_eq!(stalled.frame().await, None, "5 bytes came, and no more");
    // Between frames there is no pace to keep.
    works(&mut quiet).await;
    node.stop().await;
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let node = TestNode::start(&["limits.connection_idle_ms=1000"]).await;
    let mut client = node.connect().await;
    works(&mut client).await;
    assert_eq!(client.frame().await, None);
    node.stop().await;
}

#[tokio::test]
async fn whoever_comes_beyond_the_limit_is_closed_until_somebody_leaves() {
    let node = TestNode::start(&["limits.connections_max=2"]).await;
    let (mut first, mut second) = (node.connect().await, node.connect().await);
    works(&mut first).await;
    works(&mut second).await;
    assert_eq!(node.connect().await.frame().await, None);
    drop(first);
    // The node learns of the end in its own time; until then it refuses.
    within(async {
        loop {
            let mut next = node.connect().await;
            next.send(&frame(9, 1, &MetadataRequest::default())).await;
            if next.frame().await.is_some() {
                break;
            }
        }
    })
    .await;
    works(&mut second).await;
    node.stop().await;
}

#[tokio::test]
async fn a_door_that_stops_answers_produces_and_leaves_those_who_wait() {
    let mut node = TestNode::start(&[]).await;
    let (mut waiting, mut writer) = (node.connect().await, node.connect().await);
    auto_create(&mut writer, "orders").await;
    let patient = FetchRequest { max_wait_ms: i32::MAX, ..fetch("orders", 0) };
    waiting.request::<Fetch>(11, &patient).await;
    let mut idle = node.connect().await;
    works(&mut idle).await;
    let told = async {
        assert_eq!(waiting.frame().await, None);
        assert_eq!(idle.frame().await, None);
    };
    node.drain_during(told).await;
    node.stop().await;
}

#[tokio::test]
async fn a_client_of_ipv6_is_told_the_same_name_as_any_other() {
    let node = TestNode::start(&[]).await;
    let six = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, node.address.port()));
    let mut clients = vec![node.connect().await];
    // A machine without IPv6 has only the one.
    if tokio::net::TcpListener::bind("[::1]:0").await.is_ok() {
        clients.push(Client::connect(six).await);
    }
    for mut client in clients {
        let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
        let metadata = client.call::<Metadata>(9, &request).await;
        let broker = &metadata.brokers[0];
        assert_eq!((broker.node_id, &*broker.host), (1, "127.0.0.1"));
        assert_eq!(broker.port, i32::from(node.address.port()));
        assert_eq!((metadata.controller_id, &broker.rack), (1, &None));
        assert!(metadata.cluster_id.is_some());
    }
    node.stop().await;
}
