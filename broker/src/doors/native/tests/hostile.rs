//! Clients that do not follow the rules: each ends at most its own connection, and what they cost
//! is bounded.

use super::super::NativeSettings;
use super::node::{Client, Stream, TestNode, batch, produce, within};
use bateau_protocol::native::{
    CloseCode, FetchRequest, Hello, OpenStream, StatusRequest, StreamRole,
};
use std::net::UdpSocket;
use std::time::Duration;

/// Somebody else is served as ever.
async fn others_are_served(node: &TestNode) {
    let mut client = node.connect().await;
    let topic = client.topic("of-others").await;
    let mut data = client.open(StreamRole::Data).await;
    data.call(produce(topic, batch(&[b"one"]))).await;
}

#[tokio::test]
async fn a_length_beyond_the_limit_closes_the_connection_whatever_follows_it() {
    let node = TestNode::start(&[]).await;
    for (length, code) in [
        (u32::MAX, CloseCode::FRAME_TOO_LONG),
        ((16 << 20) + (64 << 10) + 1, CloseCode::FRAME_TOO_LONG),
        (5, CloseCode::PROTOCOL),
    ] {
        let mut client = node.connect().await;
        client.control.bytes(&length.to_le_bytes()).await;
        assert_eq!(client.closed().await, code);
    }
    // Before Welcome 64 KiB is all that is believed.
    let mut client = Client::silent(node.address, node.pin).await;
    client.control.bytes(&((64_u32 << 10) + 1).to_le_bytes()).await;
    assert_eq!(client.closed().await, CloseCode::FRAME_TOO_LONG);
    others_are_served(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn who_does_not_begin_with_hello_is_closed() {
    let node = TestNode::start(&[]).await;
    let mut client = Client::silent(node.address, node.pin).await;
    client.control.request(StatusRequest {}).await;
    assert_eq!(client.closed().await, CloseCode::PROTOCOL);
    let mut client = Client::silent(node.address, node.pin).await;
    client.control.bytes(&[1]).await;
    let mut second = Stream::open(&client.connection).await;
    second.bytes(&[1]).await;
    assert_eq!(client.closed().await, CloseCode::PROTOCOL);
    others_are_served(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_closed_in_time() {
    let node = TestNode::start(&[]).await;
    let hasty = NativeSettings { hello: Duration::from_millis(30), ..NativeSettings::default() };
    let hasty = node.second_door(hasty);
    let client = Client::silent(hasty.address, hasty.pin).await;
    assert_eq!(client.closed().await, CloseCode::TOO_SLOW);
    let mut client = Client::silent(hasty.address, hasty.pin).await;
    client.control.bytes(&[40, 0, 0, 0, 1]).await;
    assert_eq!(client.closed().await, CloseCode::TOO_SLOW);
    hasty.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn a_frame_that_does_not_come_on_is_not_waited_for() {
    let flags = ["limits.stall_window_ms=1000", "limits.stall_bytes_per_second_min=1024"];
    let node = TestNode::start(&flags).await;
    let client = node.connect().await;
    let mut data = client.open(StreamRole::Data).await;
    data.bytes(&1_000_000_u32.to_le_bytes()).await;
    assert_eq!(client.closed().await, CloseCode::TOO_SLOW);
    others_are_served(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn streams_opened_and_abandoned_leave_nothing_behind() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    for round in 0..300_u32 {
        let mut stream = Stream::open(&client.connection).await;
        let role = if round % 2 == 0 { StreamRole::Data } else { StreamRole::Bulk };
        stream.request(OpenStream { role: role.number() }).await;
        match round % 3 {
            0 => stream.bytes(&[200, 1, 0, 0, 7]).await,
            1 if role == StreamRole::Data => {
                stream.request(produce(topic, batch(&[&[7; 1_000]]))).await;
            }
            _ => {}
        }
        // What was reset or stopped before it was read is gone without an answer.
        let _ = stream.send.reset(7_u32.into());
        let _ = stream.recv.stop(7_u32.into());
        if round % 8 == 7 {
            client.call(StatusRequest {}).await;
        }
    }
    let mut data = client.open(StreamRole::Data).await;
    data.call(produce(topic, batch(&[b"one"]))).await;
    node.stop().await;
}

#[tokio::test]
async fn more_streams_than_there_may_be_close_the_connection() {
    let node = TestNode::start(&[]).await;
    let client = node.connect().await;
    let mut streams = Vec::new();
    for _ in 0..7 {
        let mut stream = Stream::open(&client.connection).await;
        stream.request(OpenStream { role: StreamRole::Bulk.number() }).await;
        streams.push(stream);
    }
    assert_eq!(client.closed().await, CloseCode::TOO_MANY_STREAMS);
    let client = node.connect().await;
    for _ in 0..15 {
        let mut stream = Stream::open(&client.connection).await;
        stream.bytes(&[0]).await;
        streams.push(stream);
    }
    assert_eq!(client.closed().await, CloseCode::TOO_MANY_STREAMS);
    others_are_served(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_read_no_further_and_hurts_nobody() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    data.call(produce(topic, batch(&[&vec![7; 1_000_000]]))).await;
    let mut bulk = client.open(StreamRole::Bulk).await;
    let fetch = FetchRequest { topic_id: topic, bytes_max: 1 << 20, ..FetchRequest::default() };
    let frame = super::node::bytes(7, fetch);
    let all = frame.repeat(100_000);
    // Far more than is ever answered; the broker stops reading once replies wait.
    let writing = bulk.send.write_all(&all);
    tokio::select! {
        written = writing => panic!("all was read: {written:?}"),
        () = async {
            for _ in 0..20 {
                others_are_served(&node).await;
            }
        } => {}
    }
    let before = node.node.broker().expect("it runs").status().connections.native;
    assert!(before >= 1);
    client.connection.close(0_u32.into(), b"");
    drop((client, data, bulk));
    others_are_served(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn garbage_at_the_port_disturbs_nobody() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let mut state = 7_u64;
    for size in 0..2_000_usize {
        let mut datagram = vec![0; size % 1_300];
        for byte in &mut datagram {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        // A full socket drops it, which is as good.
        let _ = socket.send_to(&datagram, node.address);
        if size % 100 == 0 {
            client.call(StatusRequest {}).await;
        }
    }
    client.call(StatusRequest {}).await;
    others_are_served(&node).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_has_so_many_connections_and_says_so() {
    let node = TestNode::start(&["limits.connections_max=2"]).await;
    let (first, _second) = (node.connect().await, node.connect().await);
    let third = Client::silent(node.address, node.pin).await;
    assert_eq!(third.closed().await, CloseCode::TOO_MANY_CONNECTIONS);
    first.connection.close(0_u32.into(), b"");
    // Its place is free once the broker has heard of it.
    within(async {
        loop {
            let mut client = Client::silent(node.address, node.pin).await;
            let hello = Hello { version_min: 1, version_max: 1, ..Hello::default() };
            client.control.request(hello).await;
            if client.control.try_frame().await.is_some() {
                return;
            }
        }
    })
    .await;
    node.stop().await;
}
