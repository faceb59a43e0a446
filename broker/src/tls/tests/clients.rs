//! Who is admitted where `tls.client_ca` demands certificates of clients: one table, both doors.

use super::authority::{Authority, Identity, Version, write_authority};
use crate::config::{Mode, Sources, Start, load};
use crate::node::{DirectoryStore, Node, NodeSettings};
use bateau_client::{Client, ConnectError};
use bateau_log::RealDiskOptions;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

/// A node with both doors that admits clients of `authority` alone.
async fn strict_node(place: &TempDir, authority: &Authority) -> Node {
    let files = authority.node().write(place.path());
    let clients = write_authority(authority, place.path());
    let mut sources = Sources::default();
    sources.add_flags(&[
        "listeners.native=127.0.0.1:0".to_owned(),
        "listeners.kafka=127.0.0.1:0".to_owned(),
        "listeners.http=off".to_owned(),
        format!("tls.cert={}", files.cert.display()),
        format!("tls.key={}", files.key.display()),
        format!("tls.client_ca={}", clients.display()),
    ]);
    let config = load(Start::of(Mode::Dev), &sources).expect("valid settings").config;
    let mut settings = NodeSettings::of(config);
    let options = RealDiskOptions { exclusive: false, ephemeral: true };
    let path = place.path().join("data");
    settings.store = Arc::new(DirectoryStore { path, options });
    within(Node::start(settings)).await.expect("a fresh node starts")
}

/// What our own client gets: an offset, or why it has no connection.
async fn native(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&Identity>,
) -> Result<i64, ConnectError> {
    let mut builder = Client::builder().address(address.to_string());
    builder = builder.authorities_pem(authority.pem());
    if let Some(Identity { certificate, key }) = identity {
        builder = builder.identity_pem(certificate.as_str(), key.as_str());
    }
    let client = within(builder.connect()).await?;
    let ack = within(client.producer("orders").send("paid")).await.expect("it is written");
    client.close().await.expect("all was sent");
    Ok(ack.offset)
}

/// What a Kafka client gets: the correlation of an answer, or what TLS says.
///
/// - `speaks`: whether it asks something.
async fn kafka(
    address: SocketAddr,
    authority: &Authority,
    identity: Option<&Identity>,
    speaks: bool,
) -> Result<[u8; 4], String> {
    // ApiVersions, version 0, correlation 7, no client id.
    const REQUEST: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let said = |error: std::io::Error| error.to_string();
    let socket = TcpStream::connect(address).await.map_err(said)?;
    let name = ServerName::try_from("localhost").expect("it is a name");
    let config = authority.trusting(Version::Tls13, identity);
    let connecting = TlsConnector::from(config).connect(name, socket);
    let mut stream = within(connecting).await.map_err(said)?;
    let mut first = [0; 8];
    if !speaks {
        // What nobody reads would cut the alert off.
        let refused = within(stream.read_exact(&mut first)).await;
        return Err(refused.expect_err("nothing was asked").to_string());
    }
    stream.write_all(&REQUEST).await.map_err(said)?;
    within(stream.read_exact(&mut first)).await.map_err(said)?;
    Ok([first[4], first[5], first[6], first[7]])
}

#[tokio::test]
async fn only_a_valid_certificate_for_clients_of_the_named_authority_is_admitted() {
    let place = TempDir::new().expect("a temporary directory");
    let authority = Authority::new("ours");
    let node = strict_node(&place, &authority).await;
    let (at_native, at_kafka) = (node.addresses().native, node.addresses().kafka);
    let (at_native, at_kafka) = (at_native.expect("it is on"), at_kafka.expect("it is on"));
    let usage =
        |usage| move |params: &mut CertificateParams| params.extended_key_usages = vec![usage];
    let ended = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 2, 29);
    let early = |params: &mut CertificateParams| params.not_before = date_time_ymd(3020, 1, 1);
    let stranger = Authority::new("theirs").client();
    let refusals = [
        (None, "demands a certificate of its clients", "CertificateRequired"),
        (Some(stranger), "no authority of the broker's `tls.client_ca`", "UnknownCA"),
        (Some(authority.sign(ended)), "its time is over, or has not come", "CertificateExpired"),
        (Some(authority.sign(early)), "its time is over, or has not come", "CertificateExpired"),
        (
            Some(authority.sign(usage(ExtendedKeyUsagePurpose::ServerAuth))),
            "must have clientAuth",
            "UnsupportedCertificate",
        ),
    ];
    for (identity, told, alert) in &refusals {
        let refused = native(at_native, &authority, identity.as_ref()).await;
        let error = refused.expect_err(told);
        assert!(matches!(error, ConnectError::IdentityRefused { .. }), "{error:?}");
        assert!(error.to_string().contains(told), "{error}");
        let refused = kafka(at_kafka, &authority, identity.as_ref(), false).await.expect_err(alert);
        assert!(refused.contains(alert), "{refused}, expected {alert}");
    }
    let admitted = [authority.client(), authority.node()];
    for (offset, identity) in (0..).zip(&admitted) {
        assert_eq!(native(at_native, &authority, Some(identity)).await, Ok(offset));
        assert_eq!(kafka(at_kafka, &authority, Some(identity), true).await, Ok([0, 0, 0, 7]));
    }
    within(node.stop()).await.expect("the node stops in peace");
}

#[tokio::test]
async fn an_identity_that_cannot_be_used_is_told_before_anything_is_sent() {
    let authority = Authority::new("ours");
    let (one, other) = (authority.client(), authority.client());
    let builder = || Client::builder().address("127.0.0.1:1").authorities_pem(authority.pem());
    let mixed = builder().identity_pem(one.certificate.as_str(), other.key.as_str());
    for (builder, told) in [
        (mixed, "the key is not the one of the first certificate"),
        (builder().identity_pem("", one.key.as_str()), "there is no certificate in the PEM"),
        (builder().identity_files("/none.crt", "/none.key"), "/none.crt: cannot be read"),
    ] {
        let error = within(builder.connect()).await.expect_err(told);
        assert!(matches!(error, ConnectError::Identity { .. }), "{error:?}");
        assert!(error.to_string().contains(told), "{error}");
    }
}
