//! Clients that break the rules of the native protocol, against the real binary: each gets the
//! answer or the close code of `docs/formats/native.md`, a client beside them loses neither its
//! connection nor a record, and the broker's memory stays bounded.
//!
//! ```text
//!   bateau dev ◄── bystander: produces and reads its own records, in lockstep, on one connection
//!        ▲
//!        └──────── peers of the table, one connection each
//! ```
//!
//! Absent on purpose: floods of handshakes and datagrams, which the benches measure.

#[allow(dead_code, reason = "it belongs to the tests of the command line")]
#[path = "command_line_client/node.rs"]
mod node;

use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    Auth, Call, CloseCode, Credit, ErrorReply, FetchRequest, Frame, Hello, MetadataRequest,
    OpenStream, ProduceRequest, Reply, Request, Split, StatusRequest, StreamRole, SubscribeRequest,
    TopicName, VERSION_MAX, VERSION_MIN, WatchRequest, frame,
};
use bateau_protocol::record::{BatchBuilder, NewRecord};
use bateau_protocol::wire::{Chain, ErrorCode};
use bateau_quic::contexts::Contexts;
use bateau_quic::{Settings, SpkiPin, Trust};
use bytes::BytesMut;
use node::Node;
use quinn::{ConnectionError, RecvStream, SendStream};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// Where the node is, and its key.
#[derive(Clone, Copy)]
struct Door {
    address: SocketAddr,
    pin: SpkiPin,
}

impl Door {
    fn of(node: &Node) -> Self {
        let address = node.native.parse().expect("the ready line has addresses");
        let contexts = Contexts::load(&node.work().join("../config")).expect("the node wrote it");
        Self { address, pin: contexts.loopback_pin(address).expect("it has a key") }
    }

    /// A connection that has said nothing.
    async fn silent(self) -> Peer {
        let settings = Settings::default();
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let (socket, _) = bateau_quic::bind(here, &settings).expect("loopback has free ports");
        let endpoint = bateau_quic::endpoint(socket, None, &settings).expect("it can be driven");
        let trust = Trust::Pin(self.pin);
        let config = bateau_quic::client_config(trust, &settings).expect("a pin is one");
        let connecting = endpoint.connect_with(config, self.address, "localhost").expect("a name");
        let connection = within(connecting).await.expect("the pin is right");
        let control = Stream::open(&connection).await;
        Peer { endpoint, connection, control }
    }

    /// A connection that has been welcomed.
    async fn welcomed(self) -> Peer {
        let mut peer = self.silent().await;
        let _ = peer.control.call(hello(VERSION_MIN, VERSION_MAX)).await;
        peer
    }
}

struct Peer {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    control: Stream,
}

impl Peer {
    async fn open(&self, role: StreamRole) -> Stream {
        let mut stream = Stream::open(&self.connection).await;
        stream.call(OpenStream { role: role.number() }).await;
        stream
    }

    async fn topic(&mut self, name: &'static str) -> TopicId {
        let topics = Some(vec![TopicName { name: name.into(), id: TopicId::ZERO }]);
        let made = self.control.call(MetadataRequest { topics, auto_create: true }).await;
        assert!(made.topics[0].error_code.is_none(), "{made:?}");
        made.topics[0].id
    }

    async fn closed(&self) -> CloseCode {
        match within(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                CloseCode(u32::try_from(close.error_code.into_inner()).expect("codes are small"))
            }
            other => panic!("closed for another reason: {other}"),
        }
    }

    /// It is still served.
    async fn works(&mut self) {
        self.control.call(StatusRequest {}).await;
    }
}

/// Both halves of a stream.
struct Stream {
    send: SendStream,
    recv: RecvStream,
    buffer: BytesMut,
}

impl Stream {
    async fn open(connection: &quinn::Connection) -> Self {
        let (send, recv) = within(connection.open_bi()).await.expect("there is room for it");
        Self { send, recv, buffer: BytesMut::new() }
    }

    async fn say(&mut self, bytes: &[u8]) {
        within(self.send.write_all(bytes)).await.expect("the broker reads");
    }

    async fn reply(&mut self) -> Reply {
        loop {
            let split = Frame::split(&mut self.buffer, usize::MAX);
            if let Split::Frame(frame) = split.expect("answers are frames") {
                return Reply::decode(frame, VERSION_MAX).expect("answers are sound");
            }
            let chunk = within(self.recv.read_chunk(usize::MAX, true)).await;
            let chunk = chunk.expect("the stream stays open").expect("and does not end");
            self.buffer.extend_from_slice(&chunk.bytes);
        }
    }

    async fn call<C: Call>(&mut self, request: C) -> C::Answer {
        self.say(&message(request)).await;
        loop {
            let split = Frame::split(&mut self.buffer, usize::MAX);
            if let Split::Frame(answer) = split.expect("answers are frames") {
                assert_eq!(answer.kind, C::KIND.answer());
                return frame::decode(answer.body, VERSION_MAX).expect("answers are sound");
            }
            let chunk = within(self.recv.read_chunk(usize::MAX, true)).await;
            let chunk = chunk.expect("the stream stays open").expect("and does not end");
            self.buffer.extend_from_slice(&chunk.bytes);
        }
    }
}

fn hello(version_min: i16, version_max: i16) -> Hello {
    Hello { version_min, version_max, ..Hello::default() }
}

/// A message as bytes.
fn message(request: impl Into<Request>) -> Vec<u8> {
    let frame = request.into().encode(7, VERSION_MAX).expect("this version says it all");
    frame.to_bytes().to_vec()
}

/// A header with this length and kind, and what follows it.
fn raw(length: u32, kind: u16, body: &[u8]) -> Vec<u8> {
    let header = [&length.to_le_bytes()[..], &kind.to_le_bytes(), &7_u32.to_le_bytes()];
    [&header.concat(), body].concat()
}

fn produce(topic_id: TopicId, value: &[u8]) -> ProduceRequest {
    let mut builder = BatchBuilder::default();
    builder.push(&NewRecord { value: Some(value), ..NewRecord::default() }).expect("it fits");
    let records = Chain::from(builder.build().expect("there is a record"));
    ProduceRequest { topic_id, partition: 0, timeout_ms: 10_000, records }
}

/// A client that follows the rules, and what it has seen of its own records.
struct Bystander {
    task: JoinHandle<u64>,
    rounds: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
}

impl Bystander {
    async fn start(door: Door) -> Self {
        let mut peer = door.welcomed().await;
        let topic_id = peer.topic("of-the-bystander").await;
        let mut data = peer.open(StreamRole::Data).await;
        let mut bulk = peer.open(StreamRole::Bulk).await;
        let credit_bytes = 1 << 20;
        bulk.call(SubscribeRequest { topic_id, credit_bytes, ..SubscribeRequest::default() }).await;
        let (counted, rounds) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let (mut round, mut received) = (0_u64, 0);
            while !*stopped.borrow() {
                let ack = data.call(produce(topic_id, &round.to_be_bytes())).await;
                assert_eq!(u64::try_from(ack.base_offset), Ok(round), "each record once");
                let Reply::Records(records) = bulk.reply().await else { panic!("no records") };
                let bytes = records.records.to_bytes();
                assert_eq!(bytes[..8], round.to_be_bytes(), "no gap");
                received += bytes.len() as u64;
                // The same correlation names the subscription.
                bulk.say(&message(Credit { credit_bytes: received + (1 << 20) })).await;
                peer.works().await;
                round += 1;
                counted.send_replace(round);
            }
            assert!(peer.connection.close_reason().is_none(), "its first connection still stands");
            round
        });
        Self { task, rounds, stop }
    }

    /// Waits until it has gone so many rounds more.
    async fn goes_on(&mut self, rounds: u64) {
        let goal = *self.rounds.borrow() + rounds;
        let reached = within(self.rounds.wait_for(|round| *round >= goal)).await;
        assert!(reached.is_ok(), "the bystander has failed");
    }

    async fn end(self) {
        self.stop.send_replace(true);
        assert!(within(self.task).await.expect("it was served to the end") > 0);
    }
}

/// Where a peer says something.
#[derive(Clone, Copy)]
enum On {
    /// The first stream, before Hello.
    Fresh,
    /// The control stream.
    Control,
    /// A second stream, before it has a role.
    Second,
    /// A stream with a role.
    Role(StreamRole),
}

/// What a peer is told.
#[derive(Clone, Copy)]
enum Told {
    /// An answer on the stream; the connection goes on.
    Error(ErrorCode),
    /// The end of the connection.
    Close(CloseCode),
    /// Both.
    ErrorAndClose(ErrorCode, CloseCode),
}

type Row = (&'static str, On, Vec<u8>, Told);

/// Beginnings of connections and streams.
fn beginnings() -> Vec<Row> {
    use Told::{Close, ErrorAndClose};
    let version = ErrorAndClose(ErrorCode::UNSUPPORTED_VERSION, CloseCode::VERSION);
    let protocol = Close(CloseCode::PROTOCOL);
    let credentials = Auth { mechanism: "magic".into(), ..Auth::default() };
    let stranger = Hello { auth: credentials, ..hello(VERSION_MIN, VERSION_MAX) };
    let unknown = ErrorCode::UNSUPPORTED_SASL_MECHANISM;
    let too_long = Close(CloseCode::FRAME_TOO_LONG);
    vec![
        ("a request before Hello", On::Fresh, message(StatusRequest {}), protocol),
        ("a stream's role before Hello", On::Fresh, message(OpenStream { role: 1 }), protocol),
        ("an unknown kind before Hello", On::Fresh, raw(6, 0x3ffe, b""), protocol),
        ("a Hello cut short", On::Fresh, raw(7, 1, b"\0"), protocol),
        ("a Hello of 64 KiB and more", On::Fresh, raw(65_537, 1, b""), too_long),
        ("only newer versions", On::Fresh, message(hello(VERSION_MAX + 1, i16::MAX)), version),
        ("only older versions", On::Fresh, message(hello(i16::MIN, VERSION_MIN - 1)), version),
        ("versions upside down", On::Fresh, message(hello(VERSION_MAX, VERSION_MIN - 1)), version),
        (
            "an unknown proof of who it is",
            On::Fresh,
            message(stranger),
            ErrorAndClose(unknown, CloseCode::UNAUTHENTICATED),
        ),
        ("a stream without a role", On::Second, message(StatusRequest {}), protocol),
        ("a stream of no role", On::Second, message(OpenStream { role: 9 }), protocol),
        ("a second control stream", On::Second, message(hello(1, 1)), protocol),
    ]
}

/// What comes later.
fn requests(topic_id: TopicId) -> Vec<Row> {
    use Told::{Close, Error};
    let (data, bulk) = (On::Role(StreamRole::Data), On::Role(StreamRole::Bulk));
    let too_long = Close(CloseCode::FRAME_TOO_LONG);
    let (invalid, wrong) = (Error(ErrorCode::INVALID_REQUEST), Error(ErrorCode::WRONG_STREAM));
    let subscribe = |credit_bytes| {
        message(SubscribeRequest { topic_id, credit_bytes, ..SubscribeRequest::default() })
    };
    let overdrawn = Close(CloseCode::CREDIT_OVERDRAWN);
    let raised = [subscribe(1), message(Credit { credit_bytes: u64::MAX })].concat();
    vec![
        ("a second Hello", On::Control, message(hello(1, 1)), invalid),
        ("a second role", data, message(OpenStream { role: 2 }), invalid),
        ("an unknown kind", On::Control, raw(9, 0x3ffe, b"???"), Error(ErrorCode::UNKNOWN_KIND)),
        ("an answer", data, raw(6, 0x8020, b""), Error(ErrorCode::UNKNOWN_KIND)),
        ("a push", bulk, raw(6, 0x4031, b""), Error(ErrorCode::UNKNOWN_KIND)),
        ("a body that is none", On::Control, raw(6 + 4, 0x10, b"\xff\xff\xff\xff"), invalid),
        ("a fetch among produces", data, message(FetchRequest::default()), wrong),
        ("a produce among fetches", bulk, message(produce(topic_id, b"x")), wrong),
        ("a produce on the control stream", On::Control, message(produce(topic_id, b"x")), wrong),
        ("a watch among produces", data, message(WatchRequest::default()), wrong),
        ("a length of 5", data, raw(5, 0x20, b""), Close(CloseCode::PROTOCOL)),
        ("a length of 0", On::Control, raw(0, 0, b""), Close(CloseCode::PROTOCOL)),
        ("a length beyond the limit", bulk, raw((16 << 20) + (64 << 10) + 1, 0x30, b""), too_long),
        ("the longest length", data, raw(u32::MAX, 0x20, b""), too_long),
        ("credit beyond the limit", bulk, subscribe((6 << 20) + 1), overdrawn),
        ("credit raised beyond the limit", bulk, raised, overdrawn),
    ]
}

async fn meets(door: Door, (name, on, bytes, told): Row) {
    let mut peer = match on {
        On::Fresh => door.silent().await,
        _ => door.welcomed().await,
    };
    let mut stream = match on {
        On::Fresh | On::Control => None,
        On::Second => Some(Stream::open(&peer.connection).await),
        On::Role(role) => Some(peer.open(role).await),
    };
    let stream_in_use = stream.as_mut().unwrap_or(&mut peer.control);
    stream_in_use.say(&bytes).await;
    if let Told::Error(code) | Told::ErrorAndClose(code, _) = told {
        let reply = stream_in_use.reply().await;
        let Reply::Error(ErrorReply { code: found, .. }) = reply else {
            panic!("{name}: {reply:?}")
        };
        assert_eq!(found, code, "{name}");
    }
    match told {
        Told::Error(_) => peer.works().await,
        Told::Close(code) | Told::ErrorAndClose(_, code) => {
            assert_eq!(peer.closed().await, code, "{name}");
        }
    }
}

#[tokio::test]
async fn every_broken_rule_has_its_answer_and_its_close_code() {
    let node = Node::start();
    let door = Door::of(&node);
    let mut bystander = Bystander::start(door).await;
    let topic_id = door.welcomed().await.topic("orders").await;
    for row in beginnings().into_iter().chain(requests(topic_id)) {
        meets(door, row).await;
    }
    bystander.goes_on(1).await;
    bystander.end().await;
}

#[tokio::test]
async fn frames_cut_at_any_place_are_never_taken_for_whole_ones() {
    let node = Node::start();
    let door = Door::of(&node);
    let bystander = Bystander::start(door).await;
    let mut peer = door.welcomed().await;
    let topic_id = peer.topic("orders").await;
    let whole = message(produce(topic_id, b"never"));
    for cut in 0..whole.len() {
        let mut data = peer.open(StreamRole::Data).await;
        data.say(&whole[..cut]).await;
        match cut % 2 {
            0 => data.send.finish().expect("it is open"),
            _ => data.send.reset(7_u32.into()).expect("it is open"),
        }
        let rest = within(data.recv.read_to_end(64)).await.unwrap_or_default();
        assert!(rest.is_empty(), "cut at {cut}: {rest:?}");
    }
    // Cut, and called whole.
    let mut data = peer.open(StreamRole::Data).await;
    for cut in 10..whole.len() {
        let length = u32::try_from(cut - 4).expect("it is short");
        data.say(&[&length.to_le_bytes()[..], &whole[4..cut]].concat()).await;
        let reply = data.reply().await;
        assert!(matches!(reply, Reply::Error(_)), "cut at {cut}: {reply:?}");
    }
    peer.works().await;
    // In the middle of a Hello, of a request, and of a frame's length, by the connection's end.
    for (greets, bytes) in [(false, message(hello(1, 1))), (true, whole.clone())] {
        for cut in [1, 4, 9, bytes.len() - 1] {
            let mut peer = if greets { door.welcomed().await } else { door.silent().await };
            peer.control.say(&bytes[..cut]).await;
            peer.connection.close(0_u32.into(), b"");
        }
    }
    let ack = data.call(produce(topic_id, b"the only one")).await;
    assert_eq!(ack.base_offset, 0, "nothing of the others is in the log");
    // The end of the control stream is the end of the connection.
    peer.control.say(&whole[..5]).await;
    peer.control.send.finish().expect("it is open");
    assert_eq!(peer.closed().await, CloseCode::DONE);
    bystander.end().await;
}

/// Memory of the node's process that is in use now, in MiB.
fn resident_mib(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id()));
    let status = status.expect("the node runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux has it");
    let kib: u64 =
        line.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("a number");
    kib / 1_024
}

/// Asks the same on and on. The other half stays open and unread.
async fn flood(stream: Stream, request: Vec<u8>) {
    let Stream { mut send, recv, .. } = stream;
    let many = request.repeat(100);
    while send.write_all(&many).await.is_ok() {}
    drop(recv);
}

/// A peer that asks for records and topics on and on, on every stream that answers with more than
/// it is sent, and reads nothing.
async fn never_reads(
    door: Door,
    topic_id: TopicId,
) -> (quinn::Endpoint, quinn::Connection, Vec<JoinHandle<()>>) {
    let peer = door.welcomed().await;
    let fetch = FetchRequest { topic_id, bytes_max: 8 << 20, ..FetchRequest::default() };
    let mut floods = Vec::new();
    for _ in 0..6 {
        let bulk = peer.open(StreamRole::Bulk).await;
        floods.push(tokio::spawn(flood(bulk, message(fetch.clone()))));
    }
    let Peer { endpoint, connection, control } = peer;
    let every = message(MetadataRequest { topics: None, auto_create: false });
    floods.push(tokio::spawn(flood(control, every)));
    (endpoint, connection, floods)
}

#[tokio::test]
async fn peers_that_never_read_or_abandon_streams_cost_a_bounded_memory() {
    const PEERS: u64 = 12;
    /// Unread replies, requests in flight, and what QUIC has sent and not had confirmed.
    const MIB_PER_PEER_MAX: u64 = 24;
    let node = Node::start();
    let door = Door::of(&node);
    let mut bystander = Bystander::start(door).await;
    let mut first = door.welcomed().await;
    let topic_id = first.topic("orders").await;
    let mut data = first.open(StreamRole::Data).await;
    for _ in 0..8 {
        data.call(produce(topic_id, &vec![7; 900_000])).await;
    }
    let before = resident_mib(&node);
    let mut stalled = Vec::new();
    for _ in 0..PEERS {
        stalled.push(never_reads(door, topic_id).await);
    }
    bystander.goes_on(100).await;
    let with_them = resident_mib(&node);
    assert!(with_them <= before + PEERS * MIB_PER_PEER_MAX, "{before} MiB, then {with_them} MiB");
    for (_endpoint, connection, floods) in stalled {
        assert!(connection.close_reason().is_none(), "it is not read, and not closed for it");
        connection.close(0_u32.into(), b"");
        for flood in floods {
            within(flood).await.expect("it ends with its connection");
        }
    }
    // Streams opened with half a frame of a megabyte, and abandoned.
    for _ in 0..20 {
        let peer = door.welcomed().await;
        for round in 0..14_u8 {
            let role = if round < 8 { StreamRole::Data } else { StreamRole::Bulk };
            let mut stream = peer.open(role).await;
            stream.say(&raw(16 << 20, 0x20, &[7; 10_000])).await;
            let _ = stream.send.reset(7_u32.into());
            let _ = stream.recv.stop(7_u32.into());
        }
        let _ = Stream::open(&peer.connection).await;
    }
    bystander.goes_on(10).await;
    let after = resident_mib(&node);
    assert!(after <= with_them + MIB_PER_PEER_MAX, "{with_them} MiB, then {after} MiB");
    bystander.end().await;
}
