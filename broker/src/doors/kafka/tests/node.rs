//! A whole node in a test: engine over a temporary directory, Kafka door, raw client.

use super::super::KafkaDoor;
use super::super::budget::Budget;
use super::super::connection::Parts;
use crate::api::Broker;
use crate::config::{Announce, Config, Mode, Sources, Start, load};
use crate::engine::{Engine, EngineSettings};
use crate::tls::Tls;
use bateau_core::consumer_group::GroupSettings;
use bateau_core::controller::{BrokerSettings, ListenerAddress};
use bateau_log::{DataDirOptions, RealDisk, RealDiskOptions};
use bateau_protocol::kafka::api::{Api, Message};
use bateau_protocol::kafka::{
    Framing, RequestHeader, Split, Text, decode_response, encode_request,
};
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running node.
pub struct TestNode {
    pub address: SocketAddr,
    broker: Broker,
    stop_door: watch::Sender<bool>,
    door: JoinHandle<()>,
    stop_engine: oneshot::Sender<()>,
    engine: JoinHandle<Result<(), String>>,
    _data: TempDir,
}

fn config(flags: &[&str]) -> Config {
    let mut sources = Sources::default();
    sources.add_flags(&["listeners.kafka=localhost:0".to_owned()]);
    sources.add_flags(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
    let start = Start {
        mode: Mode::Dev,
        ephemeral: false,
        exit_on_stdin_close: false,
        announce: Announce::ReadyLine,
    };
    load(start, &sources).expect("the test's settings are valid").config
}

fn engine_settings(config: &Config, address: SocketAddr) -> EngineSettings {
    let host = Arc::from(address.ip().to_string());
    let name = Arc::from("kafka");
    EngineSettings {
        node_id: config.node.id,
        rack: None,
        listeners: vec![ListenerAddress { name, host, port: address.port() }],
        peers_address: Arc::from("127.0.0.1:9644"),
        broker: BrokerSettings {
            auto_create: config.topics.auto_create,
            partitions_default: config.topics.partitions_default,
            ..BrokerSettings::default()
        },
        groups: GroupSettings::default(),
        data_dir: DataDirOptions::default(),
        retention_check: Duration::from_hours(1),
    }
}

impl TestNode {
    /// A node of its own, with settings as `-X` takes them.
    pub async fn start(flags: &[&str]) -> Self {
        let config = config(flags);
        let listener = config.listeners.kafka.expect("the door is open");
        let tls = Tls::of_config(&config).expect("the files are right");
        let door = KafkaDoor::bind(&listener, &config, tls.as_ref());
        let door = door.expect("there is a free port");
        let address = door.local_address();
        let data = TempDir::new().expect("a temporary directory");
        let options = RealDiskOptions { exclusive: false, ephemeral: true };
        let disk = RealDisk::open(data.path(), options).expect("the directory is ours");
        let engine = Engine::open(Arc::new(disk), engine_settings(&config, address));
        let (running, starting) = engine.expect("an empty directory opens").into_parts();
        let (stop_engine, engine_stop) = oneshot::channel();
        let engine = tokio::spawn(running.run(engine_stop));
        let ready = tokio::time::timeout(PATIENCE, starting.until_ready()).await;
        ready.expect("a node is ready in time").expect("nobody refuses it");
        let (stop_door, door_stop) = watch::channel(false);
        let door = tokio::spawn(door.run(starting.broker.clone(), door_stop));
        let broker = starting.broker.clone();
        Self { address, broker, stop_door, door, stop_engine, engine, _data: data }
    }

    /// What a connection over something else than a socket needs.
    pub fn parts(&self) -> Parts {
        let config = config(&[]);
        let listener = config.listeners.kafka.expect("the door is open");
        let door = KafkaDoor::bind(&listener, &config, None).expect("there is a free port");
        let budget = Budget::new(config.limits.request_memory_bytes_max);
        door.parts(self.address, self.address, &self.broker, &budget)
    }

    /// A fresh connection.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Stops the door, then the engine.
    pub async fn stop(self) {
        self.stop_door();
        within(self.door).await.expect("the door ends in peace");
        // An engine that nobody can ask any more may have ended by itself.
        let _ = self.stop_engine.send(());
        within(self.engine).await.expect("the engine does not panic").expect("nor fail");
    }

    /// Tells the door to stop.
    pub fn stop_door(&self) {
        self.stop_door.send_replace(true);
    }
}

/// Waits for what has to come.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// A socket, or TLS over one.
pub trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A client that sends what it is told.
pub struct Client {
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    correlation_id: i32,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(within(TcpStream::connect(address)).await.expect("the node listens"))
    }

    pub fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: BytesMut::new(), correlation_id: 0 }
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.expect("the node reads");
        within(self.stream.flush()).await.expect("the node reads");
    }

    /// Sends a request without waiting for its answer; returns its correlation id.
    pub async fn request<A: Api>(&mut self, version: i16, request: &A::PlainRequest) -> i32 {
        self.correlation_id += 1;
        let frame = frame(version, self.correlation_id, request);
        self.send(&frame).await;
        self.correlation_id
    }

    /// Sends a request and waits for its answer.
    pub async fn call<A: Api>(&mut self, version: i16, request: &A::PlainRequest) -> A::Response {
        let sent = self.request::<A>(version, request).await;
        let (answered, response) = self.response::<A>(version).await;
        assert_eq!(answered, sent);
        response
    }

    /// The next answer.
    pub async fn response<A: Api>(&mut self, version: i16) -> (i32, A::Response) {
        let frame = self.frame().await.expect("the connection stays open");
        decode_response(frame, version).expect("the answer is of this version")
    }

    /// What comes before the node ends the connection; an error where it only cuts it.
    pub async fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        within(self.stream.read_to_end(&mut rest)).await?;
        Ok(rest)
    }

    /// The next frame; `None` when the connection is closed instead.
    pub async fn frame(&mut self) -> Option<Bytes> {
        loop {
            match Framing::new(1 << 30).split(&mut self.buffer).expect("answers are frames") {
                Split::Frame(frame) => return Some(frame),
                Split::Incomplete { .. } => {}
            }
            match within(self.stream.read_buf(&mut self.buffer)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}

/// A request as bytes, its length included.
pub fn frame<M: Message>(api_version: i16, correlation_id: i32, request: &M) -> Bytes {
    let client_id = Some(Text::from_static("test"));
    let header = RequestHeader { api_key: 0, api_version, correlation_id, client_id };
    encode_request(&header, request).expect("the version has the request").to_bytes()
}
