//! The door behind TLS: both versions, certificates of clients, and who is shut out.

use super::super::connection::Connection;
use super::super::stream::Transport;
use super::connections::works;
use super::node::{Client, TestNode, within};
use super::records::{auto_create, batch, fetch, only, produce, produced};
use crate::config::TlsSettings;
use crate::tls::Tls;
use crate::tls::tests::authority::{Authority, Identity, Version, write_authority};
use bateau_protocol::kafka::api::fetch::{Fetch, FetchRequest};
use bateau_protocol::kafka::api::produce::Produce;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A node behind TLS, and what its clients need.
struct Encrypted {
    node: TestNode,
    authority: Authority,
    settings: TlsSettings,
    place: TempDir,
}

impl Encrypted {
    async fn start(demands_certificates: bool) -> Self {
        let place = TempDir::new().expect("a temporary directory");
        let authority = Authority::new("node's");
        let mut settings = authority.node().write(place.path());
        let mut flags = vec![
            format!("tls.cert={}", settings.cert.display()),
            format!("tls.key={}", settings.key.display()),
        ];
        if demands_certificates {
            let path = write_authority(&authority, place.path());
            flags.push(format!("tls.client_ca={}", path.display()));
            settings.client_ca = Some(path);
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let node = TestNode::start(&flags).await;
        Self { node, authority, settings, place }
    }

    async fn client(&self, version: Version) -> Client {
        let config = self.authority.trusting(version, None);
        Client::over(self.dial(config).await.expect("the handshake ends well"))
    }

    async fn dial(&self, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
        let socket = within(TcpStream::connect(self.node.address)).await?;
        Self::shake(socket, config).await
    }

    async fn shake(
        socket: TcpStream,
        config: Arc<ClientConfig>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").expect("it is a name");
        within(TlsConnector::from(config).connect(name, socket)).await
    }
}

/// What comes before the node closes the connection, orderly or not.
async fn until_closed(socket: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = within(socket.read_to_end(&mut said)).await;
    said
}

#[tokio::test]
async fn large_records_pass_both_versions_in_both_directions() {
    let encrypted = Encrypted::start(false).await;
    for version in [Version::Tls12, Version::Tls13] {
        let topic = match version {
            Version::Tls12 => "orders-12",
            Version::Tls13 => "orders-13",
        };
        let mut client = encrypted.client(version).await;
        auto_create(&mut client, topic).await;
        let large = vec![7; 900_000];
        let mut sent = Vec::new();
        for _ in 0..6 {
            let request = produce(topic, Some(batch(&[&large])));
            sent.push(client.request::<Produce>(9, &request).await);
        }
        for (offset, id) in (0..).zip(sent) {
            let (answered, response) = client.response::<Produce>(9).await;
            assert_eq!(answered, id);
            assert_eq!(response.responses[0].partition_responses[0].base_offset, offset);
        }
        let mut everything = fetch(topic, 0);
        everything.max_bytes = 8 << 20;
        everything.topics[0].partitions[0].partition_max_bytes = 8 << 20;
        let data = only(client.call::<Fetch>(11, &everything).await);
        let records = data.records.expect("never null").to_bytes();
        assert_eq!(records.len() % batch(&[&large]).len(), 0, "whole batches");
        assert!(records.len() > 5 * large.len(), "{} bytes", records.len());
    }
    encrypted.node.stop().await;
}

impl Transport for tokio_rustls::server::TlsStream<DuplexStream> {
    const HOLDS_BYTES: bool = true;

    fn poll_readable(&mut self, _task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// TLS takes the whole reply, the pipe below it 64 bytes: the rest leaves although no reply is
/// behind it.
#[tokio::test]
async fn the_last_bytes_of_a_reply_reach_a_client_with_little_room() {
    let encrypted = Encrypted::start(false).await;
    let tls = Tls::from_files(&encrypted.settings, None).expect("the files are right").kafka();
    let config = encrypted.authority.trusting(Version::Tls13, None);
    let (near, far) = tokio::io::duplex(64);
    let name = ServerName::try_from("localhost").expect("it is a name");
    let shaken = async {
        tokio::join!(
            TlsConnector::from(config).connect(name, near),
            TlsAcceptor::from(tls).accept(far)
        )
    };
    let (near, far) = within(shaken).await;
    let (stop, stopped) = watch::channel(false);
    let far = far.expect("the handshake ends well");
    let served = tokio::spawn(Connection::new(far, encrypted.node.parts()).serve(stopped));
    let mut client = Client::over(near.expect("the handshake ends well"));
    works(&mut client).await;
    stop.send_replace(true);
    assert_eq!(client.rest().await.expect("a TLS goodbye, not a cut"), b"");
    within(served).await.expect("the connection ends in peace");
    encrypted.node.stop().await;
}

/// One record of TLS has two requests, and the first read of the node takes exactly one of them.
#[tokio::test]
async fn a_request_that_is_decrypted_and_not_read_is_answered() {
    const REQUEST_BYTES: i32 = 8_192;
    let encrypted = Encrypted::start(false).await;
    let config = encrypted.authority.trusting(Version::Tls13, None);
    let mut stream = encrypted.dial(config).await.expect("the handshake ends well");
    let mut both = Vec::new();
    for correlation_id in [1_i32, 2] {
        both.extend((REQUEST_BYTES - 4).to_be_bytes());
        // ApiVersions, version 0.
        both.extend([0, 18, 0, 0]);
        both.extend(correlation_id.to_be_bytes());
        let client_id = vec![b'x'; 8_192 - 14];
        both.extend(u16::try_from(client_id.len()).expect("it is short").to_be_bytes());
        both.extend(client_id);
    }
    stream.write_all(&both).await.expect("it is taken");
    stream.flush().await.expect("it is sent");
    for expected in [1_i32, 2] {
        let mut head = [0; 8];
        within(stream.read_exact(&mut head)).await.expect("an answer");
        assert_eq!(head[4..], expected.to_be_bytes());
        let length = i32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let mut rest = vec![0; usize::try_from(length - 4).expect("it is positive")];
        within(stream.read_exact(&mut rest)).await.expect("all of it");
    }
    encrypted.node.stop().await;
}

#[tokio::test]
async fn a_fetch_that_waits_is_answered_although_nothing_else_moves() {
    let encrypted = Encrypted::start(false).await;
    let mut reader = encrypted.client(Version::Tls13).await;
    let mut writer = encrypted.client(Version::Tls13).await;
    auto_create(&mut writer, "orders").await;
    let patient = FetchRequest { max_wait_ms: i32::MAX, ..fetch("orders", 0) };
    reader.request::<Fetch>(11, &patient).await;
    produced(&mut writer, &produce("orders", Some(batch(&[b"one"])))).await;
    assert!(!only(reader.response::<Fetch>(11).await.1).records.expect("there").is_empty());
    encrypted.node.stop().await;
}

#[tokio::test]
async fn a_client_of_another_authority_does_not_believe_the_node() {
    let encrypted = Encrypted::start(false).await;
    let stranger = Authority::new("somebody else's").trusting(Version::Tls13, None);
    let error = encrypted.dial(stranger).await.expect_err("it trusts somebody else");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    works(&mut encrypted.client(Version::Tls12).await).await;
    encrypted.node.stop().await;
}

#[tokio::test]
async fn plaintext_on_an_encrypted_port_is_closed_and_disturbs_nobody() {
    let encrypted = Encrypted::start(false).await;
    let mut bystander = encrypted.client(Version::Tls13).await;
    for said in
        [&b"\x00\x00\x00\x10\x00\x03\x00\x09\x00\x00\x00\x01"[..], b"GET / HTTP/1.1\r\n\r\n"]
    {
        let mut plain = TcpStream::connect(encrypted.node.address).await.expect("it listens");
        plain.write_all(said).await.expect("it is taken");
        let answer = until_closed(&mut plain).await;
        assert!(answer.len() <= 7, "at most an alert: {answer:?}");
        works(&mut bystander).await;
    }
    encrypted.node.stop().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_cut_and_delays_nobody() {
    let encrypted = Encrypted::start(false).await;
    let mut silent = TcpStream::connect(encrypted.node.address).await.expect("it listens");
    // The first bytes of a TLS hello.
    silent.write_all(&[0x16, 3, 1, 2, 0, 1]).await.expect("it is taken");
    works(&mut encrypted.client(Version::Tls13).await).await;
    assert_eq!(until_closed(&mut silent).await, b"");
    encrypted.node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_says_goodbye_to_clients_and_to_handshakes() {
    let encrypted = Encrypted::start(false).await;
    let mut silent = TcpStream::connect(encrypted.node.address).await.expect("it listens");
    let mut idle = encrypted.client(Version::Tls13).await;
    works(&mut idle).await;
    encrypted.node.stop().await;
    assert_eq!(idle.rest().await.expect("a TLS goodbye, not a cut"), b"");
    assert_eq!(until_closed(&mut silent).await, b"");
}

#[tokio::test]
async fn clients_without_a_certificate_of_the_named_authority_are_shut_out() {
    let encrypted = Encrypted::start(true).await;
    let (own, other) = (encrypted.authority.client(), Authority::new("another").client());
    let call = async |version, identity: Option<&Identity>| {
        let config = encrypted.authority.trusting(version, identity);
        // A client of TLS 1.3 believes to be connected before it has been judged.
        let mut stream = encrypted.dial(config).await?;
        stream.write_all(&[0, 0, 0, 0]).await?;
        stream.flush().await?;
        let mut byte = [0];
        within(stream.read(&mut byte)).await
    };
    for version in [Version::Tls12, Version::Tls13] {
        let told = call(version, None).await.expect_err("no certificate").to_string();
        assert!(
            told.contains("CertificateRequired") || told.contains("HandshakeFailure"),
            "{told}"
        );
        let told = call(version, Some(&other)).await.expect_err("a stranger").to_string();
        assert!(told.contains("alert") || told.contains("reset"), "{told}");
        let config = encrypted.authority.trusting(version, Some(&own));
        works(&mut Client::over(encrypted.dial(config).await.expect("it is known"))).await;
    }
    assert!(encrypted.settings.client_ca.is_some() && encrypted.place.path().exists());
    encrypted.node.stop().await;
}
