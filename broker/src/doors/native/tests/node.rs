//! A whole node in a test: engine over a temporary directory, native door, raw client.

use super::super::{NativeDoor, NativeSettings};
use crate::config::{Mode, Sources, Start, load};
use crate::controls::Controls;
use crate::doors::Capacity;
use crate::node::{ControlError, DirectoryStore, MortalStore, Node, NodeControl, NodeSettings};
use crate::tls::Tls;
use bateau_log::RealDiskOptions;
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    Call, CloseCode, ErrorReply, Frame, Hello, MetadataRequest, OpenStream, ProduceRequest, Reply,
    Request, Split, StreamRole, TopicName, Welcome, frame,
};
use bateau_protocol::record::{BatchBuilder, NewRecord};
use bateau_protocol::wire::Chain;
use bateau_quic::{Settings, SpkiPin, Trust};
use bytes::{Bytes, BytesMut};
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what has to come.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// A running node.
pub struct TestNode {
    pub address: SocketAddr,
    pub pin: SpkiPin,
    pub node: Node,
    _data: TempDir,
}

impl TestNode {
    /// A node of its own, with settings as `-X` takes them.
    pub async fn start(flags: &[&str]) -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let options = RealDiskOptions { exclusive: false, ephemeral: true };
        let path = data.path().to_owned();
        let mut sources = Sources::default();
        let doors = ["listeners.native=localhost:0", "listeners.kafka=off", "listeners.http=off"];
        let flags = doors.iter().chain(flags).map(|flag| (*flag).to_owned());
        sources.add_flags(&flags.collect::<Vec<_>>());
        let config = load(Start::of(Mode::Dev), &sources).expect("valid settings").config;
        let mut settings = NodeSettings::of(config);
        settings.store = Arc::new(MortalStore::new(Arc::new(DirectoryStore { path, options })));
        settings.controls = Some(Controls::new(settings.config.node.id, settings.clock.clone()));
        let node = within(Node::start(settings)).await.expect("a fresh node starts");
        let address = node.addresses().native.expect("the door is open");
        let pin = node.native_pin().expect("the door has a key");
        Self { address, pin, node, _data: data }
    }

    /// A connection that has been welcomed.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address, self.pin).await
    }

    /// Lets what runs end, and stops the node.
    pub async fn stop(mut self) {
        within(self.node.drain(PATIENCE)).await;
        within(self.node.stop()).await.expect("the node stops in peace");
    }

    /// What a test does to requests.
    pub fn controls(&self) -> Arc<Controls> {
        self.node.settings().controls.clone().expect("they were given")
    }

    /// Restarts the node, on the same ports.
    pub async fn restart(&mut self) {
        self.order(async |control| control.restart().await).await;
    }

    /// Ends the node as `kill -9` does.
    pub async fn kill(&mut self) {
        self.order(async |control| control.kill().await).await;
    }

    async fn order(&mut self, order: impl AsyncFnOnce(NodeControl) -> Result<(), ControlError>) {
        let control = self.node.control();
        tokio::select! {
            done = within(order(control)) => done.expect("it is carried out"),
            failure = self.node.serve() => panic!("the node failed: {}", failure.message),
        }
    }

    /// Another door before the same broker, with other settings.
    pub fn second_door(&self, settings: NativeSettings) -> SecondDoor {
        let config = &self.node.settings().config;
        let listener = "127.0.0.1:0".parse().expect("it is a listener");
        let capacity = Capacity::new(&config.limits);
        let door = NativeDoor::bind(&listener, config, capacity, settings).expect("a free port");
        let (address, tls) = (door.local_address(), Tls::in_memory());
        let pin = tls.pin();
        let (stop, stopped) = watch::channel(false);
        let broker = self.node.broker().expect("the node runs").clone();
        let task = tokio::spawn(door.run(broker, None, tls, stopped));
        SecondDoor { address, pin, stop, task }
    }
}

/// A door of its own.
pub struct SecondDoor {
    pub address: SocketAddr,
    pub pin: SpkiPin,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl SecondDoor {
    pub async fn stop(self) {
        self.stop.send_replace(true);
        within(self.task).await.expect("the door ends in peace");
    }
}

/// A client that sends what it is told.
pub struct Client {
    pub endpoint: quinn::Endpoint,
    pub connection: Connection,
    pub control: Stream,
}

/// One stream, both halves.
pub struct Stream {
    pub send: SendStream,
    pub recv: RecvStream,
    buffer: BytesMut,
    correlation: u32,
}

impl Client {
    /// Connects, and says nothing.
    pub async fn silent(address: SocketAddr, pin: SpkiPin) -> Self {
        let settings = Settings::default();
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let (socket, _) = bateau_quic::bind(here, &settings).expect("loopback has free ports");
        let endpoint = bateau_quic::endpoint(socket, None, &settings).expect("it can be driven");
        let config = bateau_quic::client_config(Trust::Pin(pin), &settings).expect("a pin is one");
        let connecting = endpoint.connect_with(config, address, "localhost").expect("a name");
        let connection = within(connecting).await.expect("the pin is right");
        let control = Stream::open(&connection).await;
        Self { endpoint, connection, control }
    }

    /// Connects and says Hello.
    pub async fn connect(address: SocketAddr, pin: SpkiPin) -> Self {
        Self::of_versions(address, pin, (1, 1)).await.0
    }

    pub async fn of_versions(
        address: SocketAddr,
        pin: SpkiPin,
        (version_min, version_max): (i16, i16),
    ) -> (Self, Welcome) {
        let mut client = Self::silent(address, pin).await;
        let hello = Hello { version_min, version_max, ..Hello::default() };
        let welcome = client.call(hello).await;
        (client, welcome)
    }

    /// Asks on the control stream.
    pub async fn call<C: Call>(&mut self, request: C) -> C::Answer {
        self.control.call(request).await
    }

    /// A stream of this role.
    pub async fn open(&self, role: StreamRole) -> Stream {
        let mut stream = Stream::open(&self.connection).await;
        stream.call(OpenStream { role: role.number() }).await;
        stream
    }

    /// A topic that was made for it, with so many partitions.
    pub async fn topic(&mut self, name: &'static str) -> TopicId {
        let topics = Some(vec![TopicName { name: name.into(), id: TopicId::ZERO }]);
        let made = self.call(MetadataRequest { topics, auto_create: true }).await;
        assert!(made.topics[0].error_code.is_none(), "{made:?}");
        made.topics[0].id
    }

    /// The code with which the broker closes the connection.
    pub async fn closed(&self) -> CloseCode {
        match within(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => {
                CloseCode(u32::try_from(close.error_code.into_inner()).expect("codes are small"))
            }
            other => panic!("closed for another reason: {other}"),
        }
    }
}

impl Stream {
    /// A stream that has not said what it is for.
    pub async fn open(connection: &Connection) -> Self {
        let (send, recv) = within(connection.open_bi()).await.expect("there is room for it");
        Self { send, recv, buffer: BytesMut::new(), correlation: 0 }
    }

    /// Sends bytes as they are.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        within(self.send.write_all(bytes)).await.expect("the broker reads");
    }

    /// Sends a message under a correlation.
    pub async fn say(&mut self, correlation: u32, request: impl Into<Request>) {
        let bytes = bytes(correlation, request);
        self.bytes(&bytes).await;
    }

    /// Sends a request; returns its correlation.
    pub async fn request(&mut self, request: impl Into<Request>) -> u32 {
        self.correlation += 1;
        self.say(self.correlation, request).await;
        self.correlation
    }

    /// Asks and waits for the answer.
    pub async fn call<C: Call>(&mut self, request: C) -> C::Answer {
        match self.try_call(request).await {
            Ok(answer) => answer,
            Err(refusal) => panic!("refused: {refusal:?}"),
        }
    }

    /// Asks and waits for the answer, or the error.
    pub async fn try_call<C: Call>(&mut self, request: C) -> Result<C::Answer, ErrorReply> {
        let sent = self.request(request).await;
        let answer = self.frame().await;
        assert_eq!(answer.correlation, sent);
        if answer.kind == C::KIND.answer() {
            return Ok(frame::decode(answer.body, 1).expect("answers are sound"));
        }
        match Reply::decode(answer, 1).expect("answers are sound") {
            Reply::Error(refusal) => Err(refusal),
            other => panic!("the answer of another request: {other:?}"),
        }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Frame {
        self.try_frame().await.expect("the stream stays open")
    }

    /// The next frame; `None` when the stream or connection has ended instead.
    pub async fn try_frame(&mut self) -> Option<Frame> {
        loop {
            match Frame::split(&mut self.buffer, usize::MAX).expect("answers are frames") {
                Split::Frame(frame) => return Some(frame),
                Split::Incomplete { .. } => {}
            }
            let chunk = within(self.recv.read_chunk(usize::MAX, true)).await.ok()??;
            self.buffer.extend_from_slice(&chunk.bytes);
        }
    }

    /// The next reply, with its correlation.
    pub async fn reply(&mut self) -> (u32, Reply) {
        let frame = self.frame().await;
        (frame.correlation, Reply::decode(frame, 1).expect("replies are sound"))
    }
}

/// A message as bytes.
pub fn bytes(correlation: u32, request: impl Into<Request>) -> Bytes {
    request.into().encode(correlation, 1).expect("version 1 says it all").to_bytes()
}

pub fn batch(values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::default();
    for value in values {
        builder.push(&NewRecord { value: Some(value), ..NewRecord::default() }).expect("it fits");
    }
    builder.build().expect("there are records")
}

pub fn produce(topic_id: TopicId, records: Bytes) -> ProduceRequest {
    let records = Chain::from(records);
    ProduceRequest { topic_id, partition: 0, timeout_ms: 10_000, records }
}
