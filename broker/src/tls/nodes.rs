//! TLS between nodes: both sides show a certificate, and each one's names the node that it is.
//!
//! ```text
//!   dialler ── certificate of node 1 ──> acceptor: an authority of client_ca signed it, and it
//!           <── certificate of node 2 ──           names the node that the Hello names
//!   an authority of client_ca signed it, and it names the node that was dialled
//! ```
//!
//! A certificate is a node's by the DNS name `node-ID.bateau.internal` among its alternative names
//! (RFC 5280 §4.2.1.6), beside any others; `.internal` belongs to nobody, so no public authority
//! signs it.
//!
//! Invariants
//! - `I-TLS-2` Whoever speaks on an encrypted link holds the key of a certificate that an authority
//!   of `client_ca` has signed for just that node.
//!
//! Absent on purpose: the cluster's id, which the `Hello` shows, and a certificate for whatever
//! node: a name with a wildcard counts for none.

use super::live::{Authorities, Live};
use super::{TlsError, tcp_config};
use bateau_protocol::ids::NodeId;
use bateau_quic::crypto_provider;
use rustls::client::{Resumption, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, OtherError, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// What both sides of a link must want to speak, so that a certificate is no use at another port.
const ALPN: &[u8] = b"bateau-peer/1";
/// The domain of nodes' names.
const DOMAIN: &str = "bateau.internal";
/// How long whoever is refused may take to read why.
const FAREWELL: Duration = Duration::from_millis(500);

/// What links between nodes are encrypted with. Clones share it, and see its changes together.
#[derive(Clone, Debug)]
pub struct NodeTls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// A certificate without the name of the node that shows it.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("the certificate does not name {}", name_of(self.node))]
pub struct NotNamed {
    /// The node.
    pub node: NodeId,
}

/// A certificate with a wildcard.
#[derive(Clone, PartialEq, Eq, Error)]
#[error("the certificate names every node by a wildcard")]
struct NamesEveryNode;

impl fmt::Debug for NamesEveryNode {
    /// Of a verifier's own errors rustls tells only this form, so it is the sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl NodeTls {
    /// What the material allows; `None` where it has no authority of nodes.
    pub(super) fn of(live: &Arc<Live>) -> Option<Self> {
        let nodes = live.node_verifier()?;
        let mut server = tcp_config(live, &[&TLS13], live.verifier());
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&TLS13])
            .expect("the provider has the suites of TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(nodes)
            .with_client_cert_resolver(live.client_resolver());
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_early_data = false;
        client.resumption = Resumption::disabled();
        client.cert_compressors = Vec::new();
        client.cert_decompressors = Vec::new();
        Some(Self { server: Arc::new(server), client: Arc::new(client) })
    }

    /// The acceptor's half of the handshake: some node of ours has dialled. Which one, only its
    /// `Hello` says; [`is_of`] compares.
    ///
    /// Errors: whoever it is has no certificate of a node. It has been told so.
    pub async fn accept(
        &self,
        socket: TcpStream,
    ) -> io::Result<(server::TlsStream<TcpStream>, CertificateDer<'static>)> {
        let accepting = TlsAcceptor::from(Arc::clone(&self.server)).accept(socket).into_fallible();
        let stream = match accepting.await {
            Ok(stream) => stream,
            Err((error, socket)) => {
                // What came behind the handshake and is not read would cut the alert off.
                let _ = tokio::time::timeout(FAREWELL, say_goodbye(socket)).await;
                return Err(error);
            }
        };
        let session = stream.get_ref().1;
        speaks_alpn(session.alpn_protocol())?;
        let shown = session.peer_certificates().and_then(<[_]>::first).cloned();
        let shown = shown.ok_or_else(|| io::Error::other("no certificate was shown"))?;
        Ok((stream, shown))
    }

    /// The dialler's half: `node` is there, and nobody else.
    ///
    /// Errors: it has no certificate of that node, or does not speak TLS.
    pub async fn dial(
        &self,
        node: NodeId,
        socket: TcpStream,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let connector = TlsConnector::from(Arc::clone(&self.client));
        let stream = connector.connect(server_name(&name_of(node)), socket).await?;
        speaks_alpn(stream.get_ref().1.alpn_protocol())?;
        Ok(stream)
    }
}

async fn say_goodbye(mut socket: TcpStream) -> io::Result<()> {
    socket.shutdown().await?;
    let mut unread = [0; 1_024];
    while socket.read(&mut unread).await? > 0 {}
    Ok(())
}

fn speaks_alpn(agreed: Option<&[u8]>) -> io::Result<()> {
    if agreed == Some(ALPN) {
        return Ok(());
    }
    let text = "the other side does not speak as a node of Bateau (ALPN)";
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

/// The DNS name by which a certificate is a node's.
#[must_use]
pub fn name_of(node: NodeId) -> String {
    format!("node-{node}.{DOMAIN}")
}

fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("letters, digits, dots and a hyphen are a name")
}

/// Whether a certificate, whose signatures have been checked, is this node's.
///
/// Errors: it does not name the node, or a wildcard in it names every node.
pub fn is_of(certificate: &CertificateDer<'_>, node: NodeId) -> Result<(), NotNamed> {
    if names(certificate, &name_of(node)) && refuse_wildcard(certificate).is_ok() {
        Ok(())
    } else {
        Err(NotNamed { node })
    }
}

/// A name that no node has is only named by a wildcard, or by who should not be.
pub(super) fn refuse_wildcard(certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
    if names(certificate, &format!("any.{DOMAIN}")) {
        return Err(CertificateError::Other(OtherError(Arc::new(NamesEveryNode))).into());
    }
    Ok(())
}

fn names(certificate: &CertificateDer<'_>, name: &str) -> bool {
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| verify_server_name(&parsed, &server_name(name)).is_ok())
}

/// Whether the other nodes will believe this one, before any of them is asked.
///
/// Errors: what they would say.
pub(super) fn check_own(
    certified: &CertifiedKey,
    authorities: &Authorities,
    node: NodeId,
    path: &Path,
    now: UnixTime,
) -> Result<(), TlsError> {
    let unfit = |reason: String| TlsError::UnfitForPeers { path: path.to_owned(), reason };
    let Some((own, chain)) = certified.cert.split_first() else { return Ok(()) };
    is_of(own, node).map_err(|_| {
        let name = name_of(node);
        unfit(format!("has no alternative name DNS:{name}, without a wildcard"))
    })?;
    let name = server_name(&name_of(node));
    let as_server = authorities.nodes.verify_server_cert(own, chain, &name, &[], now);
    as_server.map_err(|error| unfit(format!("dialled by one: {error}")))?;
    let as_client = authorities.clients.verify_client_cert(own, chain, now);
    as_client.map(drop).map_err(|error| unfit(format!("dialling one: {error}")))
}
