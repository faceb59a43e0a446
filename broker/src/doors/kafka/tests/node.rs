//! A whole node in a test: engine over a temporary directory, Kafka door, raw client.

use super::super::KafkaDoor;
use super::super::connection::Parts;
use crate::api::Broker;
use crate::config::{Config, Mode, Sources, Start, load};
use crate::controls::Controls;
use crate::doors::Capacity;
use crate::node::{DirectoryStore, Node, NodeSettings};
use bateau_log::RealDiskOptions;
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

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running node.
pub struct TestNode {
    pub address: SocketAddr,
    node: Node,
    _data: TempDir,
}

fn config(flags: &[&str]) -> Config {
    let mut sources = Sources::default();
    let own = ["listeners.kafka=localhost:0", "listeners.native=off", "listeners.http=off"];
    sources.add_flags(&own.map(str::to_owned));
    sources.add_flags(&flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>());
    load(Start::of(Mode::Dev), &sources).expect("the test's settings are valid").config
}

impl TestNode {
    /// A node of its own, with settings as `-X` takes them.
    pub async fn start(flags: &[&str]) -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let options = RealDiskOptions { exclusive: false, ephemeral: true };
        let path = data.path().to_owned();
        let mut settings = NodeSettings::of(config(flags));
        settings.store = Arc::new(DirectoryStore { path, options });
        settings.controls = Some(Controls::new(settings.config.node.id, settings.clock.clone()));
        let node = within(Node::start(settings)).await.expect("a fresh node starts");
        let address = node.addresses().kafka.expect("the door is open");
        Self { address, node, _data: data }
    }

    /// What a connection over something else than a socket needs.
    pub fn parts(&self) -> Parts {
        let config = config(&[]);
        let listener = config.listeners.kafka.expect("the door is open");
        let capacity = Capacity::new(&config.limits);
        let budget = capacity.budget.clone();
        let door = KafkaDoor::bind(&listener, &config, None, capacity);
        let door = door.expect("there is a free port");
        door.parts(self.address, self.address, (self.broker().clone(), None), &budget)
    }

    /// A fresh connection.
    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// What a test does to requests.
    pub fn controls(&self) -> Arc<Controls> {
        self.node.settings().controls.clone().expect("they were given")
    }

    /// What doors ask.
    pub fn broker(&self) -> &Broker {
        self.node.broker().expect("the node runs")
    }

    /// Lets what runs end, and stops the node.
    pub async fn stop(mut self) {
        within(self.node.drain(PATIENCE)).await;
        within(self.node.stop()).await.expect("the node stops in peace");
    }

    /// Runs `during` while the doors drain.
    pub async fn drain_during(&mut self, during: impl Future<Output = ()>) {
        tokio::join!(within(self.node.drain(PATIENCE)), during);
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
