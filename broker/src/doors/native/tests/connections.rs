//! How connections begin, go on and end, and that their streams do not wait for each other.

use super::super::NativeSettings;
use super::node::{Client, Stream, TestNode, batch, bytes, produce, within};
use crate::controls::Api;
use bateau_protocol::native::{
    CloseCode, FetchRequest, Frame, GroupProtocol, HeartbeatRequest, Hello, JoinRequest, Kind,
    Reply, StatusRequest, StreamRole, SubscribeRequest, Unsubscribe,
};
use bateau_protocol::record::{BatchBuilder, NewRecord};
use bateau_protocol::wire::ErrorCode;
use std::net::UdpSocket;

#[tokio::test]
async fn a_bulk_stream_that_nobody_reads_holds_up_neither_produces_nor_heartbeats() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    let large = batch(&[&vec![7; 900_000]]);
    for _ in 0..12 {
        data.call(produce(topic, large.clone())).await;
    }
    // Every bulk stream that there may be, each asked for more than its window, and none read.
    let mut stalled = Vec::new();
    for _ in 0..6 {
        let mut bulk = client.open(StreamRole::Bulk).await;
        let bytes_max = 8 << 20;
        for number in 0..20 {
            let fetch = FetchRequest { topic_id: topic, bytes_max, ..FetchRequest::default() };
            bulk.say(number, fetch).await;
        }
        let credit_bytes = 1 << 20;
        let request =
            SubscribeRequest { topic_id: topic, credit_bytes, ..SubscribeRequest::default() };
        bulk.say(100, request).await;
        stalled.push(bulk);
    }
    for _ in 0..200 {
        data.call(produce(topic, batch(&[&[7; 10_000]]))).await;
        client.call(StatusRequest {}).await;
    }
    // Whoever reads on has lost nothing.
    let mut reader = stalled.remove(0);
    let mut fetched = 0;
    while fetched < 20 {
        let (_, reply) = reader.reply().await;
        fetched += usize::from(matches!(reply, Reply::Fetch(_)));
    }
    // Those that stay stalled would be waited for.
    client.connection.close(0_u32.into(), b"");
    node.stop().await;
}

#[tokio::test]
async fn clients_and_brokers_of_different_age_understand_each_other() {
    let node = TestNode::start(&[]).await;
    // A new client, this broker.
    let (mut client, welcome) = Client::of_versions(node.address, node.pin, (1, 9)).await;
    assert_eq!((welcome.version, welcome.node_id), (1, 1));
    assert!(!welcome.cluster_id.is_empty());
    client.call(StatusRequest {}).await;
    // An old client, a new broker.
    let newer = node.second_door(NativeSettings { versions: (1, 7), ..<_>::default() });
    let (mut client, welcome) = Client::of_versions(newer.address, newer.pin, (1, 1)).await;
    assert_eq!(welcome.version, 1);
    client.call(StatusRequest {}).await;
    newer.stop().await;
    // A broker that has forgotten what the client speaks, and a client that lies about it.
    let newest = node.second_door(NativeSettings { versions: (3, 7), ..<_>::default() });
    for (version_min, version_max) in [(1, 2), (9, 1)] {
        let mut client = Client::silent(newest.address, newest.pin).await;
        let hello = Hello { version_min, version_max, ..Hello::default() };
        let refused = client.control.try_call(hello).await.expect_err("no common version");
        assert_eq!(refused.code, ErrorCode::UNSUPPORTED_VERSION);
        assert!(refused.message.as_str().contains("versions 3 to 7"), "{refused:?}");
        assert_eq!(client.closed().await, CloseCode::VERSION);
    }
    newest.stop().await;
    node.stop().await;
}

#[tokio::test]
async fn frames_may_be_cut_anywhere_also_into_single_bytes() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let frames = [bytes(7, StatusRequest {}), bytes(8, StatusRequest {})].concat();
    for byte in &frames {
        client.control.bytes(&[*byte]).await;
        // Each byte in a packet of its own, as far as QUIC likes.
        tokio::task::yield_now().await;
    }
    for expected in [7, 8] {
        let (correlation, reply) = client.control.reply().await;
        assert!(correlation == expected && matches!(reply, Reply::Status(_)));
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_whose_port_changes_in_mid_stream_goes_on() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    let mut bulk = client.open(StreamRole::Bulk).await;
    let credit_bytes = 1 << 20;
    let request = SubscribeRequest { topic_id: topic, credit_bytes, ..SubscribeRequest::default() };
    bulk.call(request).await;
    for round in 0..3 {
        let before = client.endpoint.local_addr().expect("it is bound");
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        client.endpoint.rebind(socket).expect("the endpoint takes it");
        assert_ne!(client.endpoint.local_addr().expect("it is bound"), before);
        let ack = data.call(produce(topic, batch(&[b"one"]))).await;
        assert_eq!(ack.base_offset, round);
        let (_, reply) = bulk.reply().await;
        assert!(matches!(reply, Reply::Records(_)), "{reply:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_says_so_answers_what_runs_and_closes() {
    let mut node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut bulk = client.open(StreamRole::Bulk).await;
    let credit_bytes = 1 << 20;
    let request = SubscribeRequest { topic_id: topic, credit_bytes, ..SubscribeRequest::default() };
    bulk.call(request).await;
    bulk.say(50, parked(topic)).await;
    client.control.say(51, join("group")).await;
    // A join that waits: its answer with the member id comes first.
    let (51, Reply::Error(required)) = client.control.reply().await else { panic!("no id") };
    assert_eq!(required.code, ErrorCode::MEMBER_ID_REQUIRED);
    let listening = async {
        let (0, Reply::GoAway(_)) = client.control.reply().await else { panic!("no GoAway") };
        let mut heard = Vec::new();
        while let Some(frame) = bulk.try_frame().await {
            heard.push((frame.correlation, code_of(frame)));
        }
        heard.sort_unstable();
        let away = ErrorCode::GOING_AWAY.0;
        assert_eq!(heard, [(2, away), (50, away)]);
        assert_eq!(client.closed().await, CloseCode::GOING_AWAY);
    };
    let grace = std::time::Duration::from_secs(20);
    within(async { tokio::join!(node.node.drain(grace), listening) }).await;
    node.stop().await;
}

fn parked(topic_id: bateau_protocol::ids::TopicId) -> FetchRequest {
    let (bytes_max, bytes_min, wait_ms) = (1_000, 1, i32::MAX);
    FetchRequest { topic_id, bytes_max, bytes_min, wait_ms, ..FetchRequest::default() }
}

fn join(group: &'static str) -> JoinRequest {
    JoinRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![GroupProtocol { name: "range".into(), ..GroupProtocol::default() }],
        ..JoinRequest::default()
    }
}

fn code_of(frame: Frame) -> i16 {
    match Reply::decode(frame, 1).expect("replies are sound") {
        Reply::Error(refusal) => refusal.code.0,
        Reply::SubscriptionEnded(ended) => ended.code.0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stream_that_its_client_finishes_is_finished_and_its_place_is_free() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    for round in 0..20 {
        let mut data = client.open(StreamRole::Data).await;
        data.say(5, produce(topic, batch(&[b"one"]))).await;
        data.send.finish().expect("it is open");
        let (5, Reply::Produce(ack)) = data.reply().await else { panic!("no ack") };
        assert_eq!(ack.base_offset, round);
        assert!(data.try_frame().await.is_none());
    }
    client.control.send.finish().expect("it is open");
    assert_eq!(client.closed().await, CloseCode::DONE);
    node.stop().await;
}

#[tokio::test]
async fn a_request_on_a_stream_of_another_role_is_refused_there() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let mut data = client.open(StreamRole::Data).await;
    for stream in [&mut data, &mut client.control] {
        let refused = stream.try_call(FetchRequest::default()).await.expect_err("not here");
        assert_eq!(refused.code, ErrorCode::WRONG_STREAM);
    }
    let refused = data.try_call(HeartbeatRequest::default()).await.expect_err("not here");
    assert_eq!(refused.code, ErrorCode::WRONG_STREAM);
    let unknown = bateau_protocol::native::frame::encode(Kind(0x3ffe), 9, 1, &StatusRequest {});
    data.bytes(&unknown.expect("it fits").to_bytes()).await;
    let (9, Reply::Error(refused)) = data.reply().await else { panic!("no answer") };
    assert_eq!(refused.code, ErrorCode::UNKNOWN_KIND);
    client.call(StatusRequest {}).await;
    node.stop().await;
}

#[tokio::test]
async fn both_loopback_addresses_lead_to_the_door() {
    let node = TestNode::start(&[]).await;
    let six = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, node.address.port()));
    if UdpSocket::bind("[::1]:0").is_ok() {
        let settings = bateau_quic::Settings::default();
        let here = "[::1]:0".parse().expect("an address");
        let (socket, _) = bateau_quic::bind(here, &settings).expect("a free port");
        let endpoint = bateau_quic::endpoint(socket, None, &settings).expect("it can be driven");
        let trust = bateau_quic::Trust::Pin(node.pin);
        let config = bateau_quic::client_config(trust, &settings).expect("a pin is one");
        let connecting = endpoint.connect_with(config, six, "localhost").expect("a name");
        let connection = within(connecting).await.expect("the pin is right");
        let mut control = Stream::open(&connection).await;
        control.call(Hello { version_min: 1, version_max: 1, ..Hello::default() }).await;
        connection.close(0_u32.into(), b"");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_was_killed_says_no_farewell_and_the_next_start_tells_its_clients() {
    let mut node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    client.topic("orders").await;
    node.kill().await;
    let silence = std::time::Duration::from_millis(300);
    let told = tokio::time::timeout(silence, client.connection.closed()).await;
    assert!(told.is_err(), "a dead node said {told:?}");
    node.restart().await;
    // What the client says now reaches a node that knows nothing of it.
    let _ = client.control.send.write_all(b"?").await;
    let told = within(client.connection.closed()).await;
    assert!(matches!(told, quinn::ConnectionError::Reset), "{told:?}");
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_starts_again_has_its_port_and_its_key_again() {
    let mut node = TestNode::start(&[]).await;
    for _ in 0..2 {
        let mut client = node.connect().await;
        let topic = client.topic("orders").await;
        let mut data = client.open(StreamRole::Data).await;
        data.call(produce(topic, batch(&[b"one"]))).await;
        node.restart().await;
        assert_eq!(client.closed().await, CloseCode::GOING_AWAY);
        assert_eq!(node.node.addresses().native, Some(node.address));
    }
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    assert_eq!(data.call(produce(topic, batch(&[b"three"]))).await.base_offset, 2);
    node.stop().await;
}

#[tokio::test]
async fn a_test_may_refuse_requests_and_lose_acks() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    let controls = node.controls();
    let refusal = ErrorCode::NOT_LEADER_OR_FOLLOWER;
    for api in [Api::Produce, Api::Status] {
        controls.fail_next(api, refusal, 1).expect("there is room for a plan");
    }
    let refused = data.try_call(produce(topic, batch(&[b"one"]))).await;
    assert_eq!(refused.expect_err("as it was planned").code, refusal);
    let refused = client.control.try_call(StatusRequest {}).await;
    assert_eq!(refused.expect_err("as it was planned").code, refusal);
    controls.drop_next_ack();
    let mut damaged = batch(&[b"one"]).to_vec();
    *damaged.last_mut().expect("a batch has bytes") ^= 1;
    let refused = data.try_call(produce(topic, damaged.into())).await;
    assert_eq!(refused.expect_err("it is damaged").code, ErrorCode::CORRUPT_MESSAGE);
    data.request(produce(topic, batch(&[b"two"]))).await;
    within(client.connection.closed()).await;
    let mut client = node.connect().await;
    let mut data = client.open(StreamRole::Data).await;
    assert_eq!(data.call(produce(topic, batch(&[b"three"]))).await.base_offset, 1);
    client.call(StatusRequest {}).await;
    let seen = controls.requests();
    let produces = seen.iter().filter(|request| request.api == Api::Produce);
    assert!(produces.clone().all(|request| request.subject.topic.as_deref() == Some("orders")));
    assert_eq!(produces.count(), 4);
    node.stop().await;
}

#[tokio::test]
async fn a_delayed_subscription_begins_when_the_clock_has_moved_that_far() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let topic = client.topic("orders").await;
    let mut data = client.open(StreamRole::Data).await;
    // Of today, or the advance would find that its retention is over.
    let now = node.node.broker().expect("it runs").clock().wall_ms();
    let timestamp = i64::try_from(now).expect("it is not that late");
    let mut young = BatchBuilder::default();
    let record = NewRecord { timestamp, value: Some(b"one"), ..NewRecord::default() };
    young.push(&record).expect("it fits");
    data.call(produce(topic, young.build().expect("there is a record"))).await;
    let mut bulk = client.open(StreamRole::Bulk).await;
    for _ in 0..2 {
        let hour = std::time::Duration::from_hours(1);
        node.controls().delay_next(Api::Subscribe, hour).expect("there is room");
    }
    let (credit_bytes, topic_id) = (1 << 10, topic);
    let request = SubscribeRequest { topic_id, credit_bytes, ..SubscribeRequest::default() };
    bulk.say(7, request.clone()).await;
    bulk.say(8, request.clone()).await;
    bulk.say(8, Unsubscribe {}).await;
    // One that nobody delays is answered first, and so is the end of one that has not begun.
    bulk.say(9, request).await;
    let mut first = Vec::new();
    for _ in 0..3 {
        let (correlation, reply) = bulk.reply().await;
        first.push((correlation, reply.kind().0));
    }
    first.sort_unstable();
    assert_eq!(first, [(8, 0x4032), (9, 0x4031), (9, 0x8031)]);
    let broker = node.node.broker().expect("it runs");
    broker.advance(std::time::Duration::from_hours(1)).await.expect("it runs");
    let mut later = Vec::new();
    for _ in 0..3 {
        let (correlation, reply) = bulk.reply().await;
        later.push((correlation, reply.kind().0));
    }
    later.sort_unstable();
    assert_eq!(later, [(7, 0x4031), (7, 0x8031), (8, 0xffff)]);
    node.stop().await;
}
