//! The door of a whole node, asked by a client that may send anything.

mod nodes;

use super::{BODY_BYTES_MAX, CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADERS_MAX};
use crate::config::{Mode, Sources, Start, load};
use crate::controls::Controls;
use crate::entropy::Entropy;
use crate::node::{DirectoryStore, Node, NodeSettings, Store};
use crate::tls::tests::authority::{Authority, Version};
use bateau_log::sim_disk::SimDisk;
use bateau_log::{Disk, RealDiskOptions};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// What a test gives a node that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that serves, and what ends it.
struct Served {
    http: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
    _data: TempDir,
}

fn settings(data: &TempDir, has_controls: bool) -> NodeSettings {
    with_flags(data, has_controls, &[])
}

fn with_flags(data: &TempDir, has_controls: bool, flags: &[String]) -> NodeSettings {
    let mut sources = Sources::default();
    for door in ["kafka", "native", "http"] {
        sources.add_flags(&[format!("listeners.{door}=127.0.0.1:0")]);
    }
    sources.add_flags(flags);
    let start = Start { ephemeral: true, ..Start::of(Mode::Dev) };
    let config = load(start, &sources).expect("the settings are valid").config;
    let options = RealDiskOptions { exclusive: false, ephemeral: true };
    let store = Arc::new(DirectoryStore { path: data.path().to_owned(), options });
    let mut settings = NodeSettings { store, ..NodeSettings::of(config) };
    settings.controls =
        has_controls.then(|| Controls::new(settings.config.node.id, settings.clock.clone()));
    settings
}

impl Served {
    async fn start(has_controls: bool) -> Self {
        let data = TempDir::new().expect("a temporary directory");
        let mut settings = settings(&data, has_controls);
        settings.entropy = Entropy::seeded(0x8f31);
        let mut node = Node::start(settings).await.expect("it starts");
        let http = node.addresses().http.expect("the door is open");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            tokio::select! {
                failure = node.serve() => panic!("{}", failure.message),
                _ = stopped => node.stop().await.expect("it stops"),
            }
        });
        Self { http, stop, task, _data: data }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        tokio::time::timeout(PATIENCE, self.task).await.expect("in time").expect("no panic");
    }

    async fn ask(&self, method: &str, target: &str) -> (u16, String) {
        ask(self.http, method, target).await
    }

    async fn post(&self, target: &str, body: &Value) -> (u16, Value) {
        post(self.http, target, body).await
    }
}

async fn ask(http: SocketAddr, method: &str, target: &str) -> (u16, String) {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    Client::connect(http).await.ask(head.as_bytes()).await
}

async fn post(http: SocketAddr, target: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let (status, body) = Client::connect(http).await.ask(head.as_bytes()).await;
    (status, serde_json::from_str(&body).expect("it is JSON"))
}

/// A connection.
struct Client(TcpStream);

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.expect("the door accepts"))
    }

    /// Sends bytes as they are and reads one answer: its status and its body.
    async fn ask(&mut self, request: &[u8]) -> (u16, String) {
        // A door that refuses may close before it has read all.
        let _ = self.0.write_all(request).await;
        let answer = tokio::time::timeout(PATIENCE, self.read_answer()).await;
        answer.expect("an answer in time")
    }

    async fn read_answer(&mut self) -> (u16, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("the head is whole"));
        }
        let head = String::from_utf8(head).expect("a head is text");
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok());
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |text| text.parse().expect("a number"));
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.expect("the body is whole");
        (status.expect("a status"), String::from_utf8(body).expect("a body is text"))
    }

    /// Waits until the door closes the connection, and drops what it still says.
    async fn until_closed(&mut self) {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        // A reset is an end, too.
        drop(closed.expect("it is closed in time"));
    }
}

fn code(body: &str) -> String {
    let body: Value = serde_json::from_str(body).expect("it is JSON");
    body["error"].as_str().expect("an error has a code").to_owned()
}

#[tokio::test]
async fn a_node_that_serves_is_alive_started_and_ready() {
    let node = Served::start(false).await;
    for path in ["/livez", "/readyz", "/startupz"] {
        assert_eq!(node.ask("GET", path).await, (200, "ok\n".to_owned()), "{path}");
    }
    let (status, body) = node.ask("GET", "/readyz?verbose").await;
    let body: Value = serde_json::from_str(&body).expect("it is JSON");
    let names: Vec<_> = body["checks"].as_array().expect("a list").iter().collect();
    let names: Vec<_> = names.iter().map(|check| check["name"].as_str()).collect();
    assert_eq!((status, &body["status"]), (200, &json!("ok")));
    assert_eq!(names, [Some("listeners"), Some("partitions"), Some("disk")]);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_starts_is_alive_and_not_ready() {
    let data = TempDir::new().expect("a temporary directory");
    let settings = settings(&data, false);
    let recovery = Arc::clone(&settings.recovery);
    let mut node = Node::open(settings).await.expect("it opens");
    let http = node.addresses().http.expect("the door is open");
    let ask = async |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Client::connect(http).await.ask(head.as_bytes()).await
    };
    assert_eq!(ask("/livez").await.0, 200);
    // It has nothing to recover. That a recovery counts is tested where it walks the logs.
    for (segments, reason, line) in [
        ((0, 0), "0 %: no log has been found yet", "recovering, 0 %; ?verbose says more\n"),
        ((2, 8), "25 %: 2 of 8 segments are recovered", "recovering, 25 %; ?verbose says more\n"),
        (
            (8, 8),
            "100 %: all 8 segments; partitions get their leaders",
            "recovering, 100 %; ?verbose says more\n",
        ),
    ] {
        recovery.begin(segments.1);
        recovery.add(segments.0);
        assert_eq!(ask("/startupz").await, (503, line.to_owned()));
        let (status, body) = ask("/startupz?verbose").await;
        let body: Value = serde_json::from_str(&body).expect("it is JSON");
        let expected = json!({ "name": "recovery", "ok": false, "reason": reason });
        assert_eq!((status, &body["checks"]), (503, &json!([expected])));
    }
    assert_eq!(ask("/readyz").await, (503, "failing; ?verbose says why\n".to_owned()));
    node.until_ready().await.expect("it starts");
    assert_eq!(ask("/startupz").await.0, 200);
    assert_eq!(ask("/readyz").await.0, 200);
    node.stop().await.expect("it stops");
}

/// A store that opens when it is told to, and hears that only while the runtime turns.
#[derive(Debug)]
struct SlowStore {
    inner: DirectoryStore,
    told: Mutex<mpsc::Receiver<()>>,
}

impl Store for SlowStore {
    fn open(&self) -> Result<Arc<dyn Disk>, String> {
        let told = self.told.lock().expect("one start at a time");
        told.recv_timeout(PATIENCE).map_err(|_| "the runtime stood still".to_owned())?;
        self.inner.open()
    }

    fn cut_power(&self) -> Result<(), String> {
        self.inner.cut_power()
    }
}

#[tokio::test]
async fn the_recovery_holds_up_nobody_else() {
    let data = TempDir::new().expect("a temporary directory");
    let (tell, told) = mpsc::channel();
    let options = RealDiskOptions { exclusive: false, ephemeral: true };
    let inner = DirectoryStore { path: data.path().to_owned(), options };
    let store = Arc::new(SlowStore { inner, told: Mutex::new(told) });
    let settings = NodeSettings { store, ..settings(&data, false) };
    // The other task of this thread has its turn while the store is being opened.
    let (node, ()) = tokio::join!(Node::start(settings), async {
        tell.send(()).expect("it waits");
    });
    node.expect("it starts").stop().await.expect("it stops");
}

/// A disk in memory, whose power a test cuts.
#[derive(Debug)]
struct Powered(SimDisk);

impl Store for Powered {
    fn open(&self) -> Result<Arc<dyn Disk>, String> {
        Ok(Arc::new(self.0.clone()))
    }

    fn cut_power(&self) -> Result<(), String> {
        Err("it is cut by hand".to_owned())
    }
}

#[tokio::test]
async fn a_node_whose_loop_has_ended_is_not_alive() {
    let data = TempDir::new().expect("a temporary directory");
    let disk = SimDisk::new(1, 256 << 20);
    let store = Arc::new(Powered(disk.clone()));
    let mut node = Node::start(NodeSettings { store, ..settings(&data, false) }).await.unwrap();
    let http = node.addresses().http.expect("the door is open");
    let control = node.control();
    disk.cut_power();
    let made = tokio::spawn(async move { control.seed_topic("orders", 1).await });
    let failure = node.serve().await;
    assert!(!failure.message.is_empty());
    made.await.expect("no panic").expect_err("nothing is made without power");
    let request = b"GET /livez?verbose HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (status, body) = Client::connect(http).await.ask(request).await;
    assert_eq!(status, 503);
    assert!(body.contains(r#""name":"shard_loop","ok":false,"reason":"it has ended""#), "{body}");
    node.stop().await.expect_err("it had failed");
}

#[tokio::test]
async fn a_node_without_room_is_alive_and_not_ready() {
    let data = TempDir::new().expect("a temporary directory");
    let flags = ["limits.disk_free_soft_bytes=1TiB".to_owned()];
    let disk = SimDisk::new(1, 256 << 20);
    let settings =
        NodeSettings { store: Arc::new(Powered(disk)), ..with_flags(&data, false, &flags) };
    let node = Node::start(settings).await.expect("it starts");
    let http = node.addresses().http.expect("the door is open");
    let ask = async |path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        Client::connect(http).await.ask(head.as_bytes()).await
    };
    let (status, body) = ask("/readyz?verbose").await;
    assert_eq!(status, 503);
    assert!(body.contains("below the soft limit"), "{body}");
    assert_eq!(ask("/livez").await.0, 200, "whoever restarts it makes no room");
    node.stop().await.expect("it stops");
}

#[tokio::test]
async fn with_tls_the_door_speaks_nothing_else() {
    let data = TempDir::new().expect("a temporary directory");
    let authority = Authority::new("node's");
    let files = authority.node().write(data.path());
    let key = |name: &str, path: &Path| format!("tls.{name}={}", path.display());
    let flags = [key("cert", &files.cert), key("key", &files.key)];
    let node = Node::start(with_flags(&data, false, &flags)).await.expect("it starts");
    let http = node.addresses().http.expect("the door is open");
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let socket = TcpStream::connect(http).await.expect("the door accepts");
    let connector = TlsConnector::from(authority.trusting(Version::Tls13, None));
    let name = ServerName::try_from("localhost").expect("it is a name");
    let mut stream = connector.connect(name, socket).await.expect("the handshake ends well");
    stream.write_all(request).await.expect("it is sent");
    let mut said = String::new();
    stream.read_to_string(&mut said).await.expect("it is text");
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && said.ends_with("\r\n\r\nok\n"), "{said}");
    let mut plain = TcpStream::connect(http).await.expect("the door accepts");
    plain.write_all(request).await.expect("it is sent");
    let mut said = Vec::new();
    // A reset is an end, too.
    let _ = plain.read_to_end(&mut said).await;
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    node.stop().await.expect("it stops");
}

#[tokio::test]
async fn what_is_not_there_and_what_is_asked_wrongly_has_a_code() {
    let node = Served::start(false).await;
    let (status, body) = node.ask("GET", "/test/v1/requests").await;
    assert_eq!((status, code(&body).as_str()), (404, "E1301"));
    let (status, body) = node.ask("DELETE", "/livez").await;
    assert_eq!((status, code(&body).as_str()), (405, "E1302"));
    let evil = b"GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let (status, body) = Client::connect(node.http).await.ask(evil).await;
    assert_eq!((status, code(&body).as_str()), (403, "E1303"));
    let nobody = b"GET /livez HTTP/1.1\r\n\r\n";
    let (status, body) = Client::connect(node.http).await.ask(nobody).await;
    assert_eq!((status, code(&body).as_str()), (400, "E1304"));
    let (status, _) = Client::connect(node.http).await.ask(b"\x16\x03\x01 no HTTP\r\n\r\n").await;
    assert_eq!(status, 400);
    node.stop().await;
}

#[tokio::test]
async fn one_connection_serves_many_requests_until_the_node_stops() {
    let node = Served::start(false).await;
    let mut client = Client::connect(node.http).await;
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..3 {
        assert_eq!(client.ask(request).await.0, 200);
    }
    // One that has not said anything yet does not hold the node up either.
    let mut silent = Client::connect(node.http).await;
    assert_eq!(node.ask("GET", "/livez").await.0, 200);
    node.stop().await;
    client.until_closed().await;
    silent.until_closed().await;
}

#[tokio::test]
async fn heads_and_bodies_have_limits() {
    let node = Served::start(true).await;
    let long = "x".repeat(HEADER_BYTES_MAX);
    let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nLong: {long}\r\n\r\n");
    assert_eq!(Client::connect(node.http).await.ask(request.as_bytes()).await.0, 431);
    let many = "a: b\r\n".repeat(HEADERS_MAX);
    let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{many}\r\n");
    assert_eq!(Client::connect(node.http).await.ask(request.as_bytes()).await.0, 431);
    let head = "POST /test/v1/advance HTTP/1.1\r\nHost: localhost\r\n";
    let length = BODY_BYTES_MAX + 1;
    let request = format!("{head}Content-Length: {length}\r\n\r\n");
    let (status, body) = Client::connect(node.http).await.ask(request.as_bytes()).await;
    assert_eq!((status, code(&body).as_str()), (413, "E1305"), "before it is sent");
    let chunk = format!("{length:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(length));
    let request = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}");
    assert_eq!(Client::connect(node.http).await.ask(request.as_bytes()).await.0, 413);
    node.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_is_not_waited_for() {
    let node = Served::start(false).await;
    let mut client = Client::connect(node.http).await;
    client.0.write_all(b"GET /livez HTTP/1.1\r\nHost: local").await.expect("it is sent");
    client.until_closed().await;
    assert_eq!(node.ask("GET", "/livez").await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn so_many_connections_and_no_more() {
    let node = Served::start(false).await;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        clients.push(Client::connect(node.http).await);
    }
    Client::connect(node.http).await.until_closed().await;
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut first = clients.swap_remove(0);
    assert_eq!(first.ask(request).await.0, 200, "who is in is served");
    node.stop().await;
}

#[tokio::test]
async fn a_test_plans_faults_and_sees_what_was_asked() {
    let node = Served::start(true).await;
    let (status, body) =
        node.post("/test/v1/seed_topic", &json!({"topic": "orders", "partitions": 3})).await;
    assert_eq!((status, body), (200, json!({})));
    let (status, body) = node.post("/test/v1/seed_topic", &json!({"topic": "orders"})).await;
    assert_eq!((status, &body["error"]), (409, &json!("E2004")));
    let plan = json!({"api": "Produce", "error": "NOT_LEADER_OR_FOLLOWER", "times": 2});
    assert_eq!(node.post("/test/v1/fail_next", &plan).await.0, 200);
    let plan = json!({"api": "Fetch", "ms": 500});
    assert_eq!(node.post("/test/v1/delay_next", &plan).await.0, 200);
    for path in ["/test/v1/drop_next_ack", "/test/v1/clear"] {
        assert_eq!(node.ask("POST", path).await, (200, "{}\n".to_owned()), "{path}");
    }
    let (status, body) = node.post("/test/v1/advance", &json!({"ms": 46_000})).await;
    assert_eq!((status, &body["advanced_ms"]), (200, &json!(46_000)));
    let (status, body) = node.ask("GET", "/test/v1/requests?api=Produce").await;
    assert_eq!((status, body.as_str()), (200, "{\"counts\":{},\"requests\":[]}\n"));
    let (status, body) = node.ask("GET", "/test/v1/seed").await;
    assert_eq!((status, body.as_str()), (200, "{\"seed\":\"8f31\"}\n"));
    node.stop().await;
}

#[tokio::test]
async fn a_plan_that_cannot_be_is_named() {
    let node = Served::start(true).await;
    for (path, body, part) in [
        ("/test/v1/fail_next", json!({"api": "Prodce", "error": "UNKNOWN_SERVER_ERROR"}), "Prodce"),
        ("/test/v1/fail_next", json!({"api": "Produce", "error": "OOPS"}), "OOPS"),
        ("/test/v1/fail_next", json!({"api": "Produce"}), "error"),
        ("/test/v1/advance", json!({"ms": 1, "seconds": 2}), "seconds"),
        ("/test/v1/advance", json!({"ms": -1}), "u64"),
    ] {
        let (status, found) = node.post(path, &body).await;
        assert_eq!((status, &found["error"]), (400, &json!("E1307")), "{body}");
        let message = found["message"].as_str().expect("text");
        assert!(message.contains(part), "{message}");
    }
    let plain = b"POST /test/v1/advance HTTP/1.1\r\nHost: localhost\r\n\
                  Content-Type: text/plain\r\nContent-Length: 8\r\n\r\n{\"ms\":1}";
    let (status, body) = Client::connect(node.http).await.ask(plain).await;
    assert_eq!((status, code(&body).as_str()), (415, "E1307"));
    let lured = b"POST /test/v1/restart HTTP/1.1\r\nHost: localhost\r\n\
                  Origin: https://evil.example\r\n\r\n";
    let (status, body) = Client::connect(node.http).await.ask(lured).await;
    assert_eq!((status, code(&body).as_str()), (403, "E1303"));
    node.stop().await;
}

#[tokio::test]
async fn a_node_is_restarted_and_the_door_stays_open() {
    let node = Served::start(true).await;
    assert_eq!(node.post("/test/v1/seed_topic", &json!({"topic": "orders"})).await.0, 200);
    let mut client = Client::connect(node.http).await;
    let request = b"POST /test/v1/restart HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(client.ask(request).await, (200, "{}\n".to_owned()));
    let request = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(client.ask(request).await.0, 200, "on the same connection");
    let (status, _) = node.post("/test/v1/seed_topic", &json!({"topic": "orders"})).await;
    assert_eq!(status, 409, "the topic has survived");
    // A directory of the operating system cannot lose what was not flushed on purpose.
    let (status, body) = node.ask("POST", "/test/v1/crash").await;
    assert_eq!((status, code(&body).as_str()), (409, "E2004"));
    assert_eq!(node.ask("GET", "/readyz").await.0, 200, "it goes on");
    node.stop().await;
}
