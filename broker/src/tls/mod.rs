//! TLS of all doors: certificates from files or made for this node, and their change while it runs.
//!
//! ```text
//!   [tls] cert, key, client_ca ─ files ──┐          ┌─> kafka()  TLS 1.3 and 1.2 over TCP
//!                ▲ watch: every 3 s ─────┼─> Live ──┼─> http()   TLS 1.3 over TCP
//!   no [tls]: generated (native door) ───┘  (swap)  ├─> quic()   TLS 1.3 inside of QUIC
//!                                                   └─> nodes()  TLS 1.3 over TCP, both ways
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | `files` | PEM files, and everything that can be wrong with them |
//! | `live` | the material in use, exchanged under running doors |
//! | `nodes` | which certificate is which node's |
//! | `watch` | that files have changed |
//! | `generated` | the certificate that a node makes for itself |
//! | `publish` | the user's file of contexts, where clients find that certificate's pin |
//!
//! Invariants
//! - `I-TLS-1` Where `[tls]` is given, every open door is encrypted, that for peers included.
//! - A handshake sees one certificate, its own key and its own authorities, never a mixture.
//! - A change that cannot be read changes nothing.
//! - Sessions are not resumed, so a new certificate or authority holds for every new connection.
//!
//! Absent on purpose: revocation lists, and several certificates by name.

mod files;
mod generated;
mod live;
mod nodes;
mod publish;
#[cfg(test)]
pub(crate) mod tests;
mod watch;

pub use files::TlsError;
pub use generated::{IDENTITY_FILE, IdentityError};
pub use nodes::{NodeTls, NotNamed, is_of, name_of};
pub use publish::{Published, publish};
pub use watch::Watch;

use crate::config::{Config, TlsSettings};
use bateau_protocol::ids::NodeId;
use bateau_quic::{EndpointSecret, Settings, SettingsError, SpkiPin, crypto_provider};
use live::Live;
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::UnixTime;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at the files of `[tls]`.
const WATCH_PERIOD: Duration = Duration::from_secs(3);

/// What doors encrypt with. Clones share the material, and see its changes together.
#[derive(Clone, Debug)]
pub struct Tls {
    live: Arc<Live>,
    kafka: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    nodes: Option<NodeTls>,
}

impl Tls {
    /// What the configuration asks for; `None` without `[tls]`.
    ///
    /// Errors: a file is missing, broken, expired or readable by others.
    pub fn of_config(config: &Config) -> Result<Option<Self>, TlsError> {
        let peer = peer_of(config);
        config.tls.as_ref().map(|settings| Self::from_files(settings, peer)).transpose()
    }

    /// The certificate, key and authorities of files.
    ///
    /// - `peer`: which node this is, where other nodes speak with it.
    ///
    /// Errors: a file is missing, broken, expired or readable by others; or the other nodes would
    /// not take the certificate for this node's.
    pub fn from_files(settings: &TlsSettings, peer: Option<NodeId>) -> Result<Self, TlsError> {
        Ok(Self::new(Live::new(files::read(settings, peer, UnixTime::now())?)))
    }

    /// The certificate that this node made for itself, in the data directory; made now where there
    /// is none. Clients know it by its pin. Costs two flushes when it is made.
    ///
    /// - `data_dir`: exists, and is ours (locked).
    ///
    /// Errors: the file cannot be read or written, or is not what this build writes.
    pub fn generated(data_dir: &Path) -> Result<Self, IdentityError> {
        Ok(Self::new(Live::new(generated::in_directory(data_dir)?)))
    }

    /// A certificate that lasts as long as the process, for a node without a directory.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::new(Live::new(generated::in_memory()))
    }

    fn new(live: Live) -> Self {
        let live = Arc::new(live);
        let kafka = Arc::new(tcp_config(&live, &[&TLS13, &TLS12], live.verifier()));
        // Probes and browsers have no certificate of ours, and this door has no records to give.
        let mut http = tcp_config(&live, &[&TLS13], None);
        http.alpn_protocols = vec![b"http/1.1".to_vec()];
        let nodes = NodeTls::of(&live);
        Self { live, kafka, http: Arc::new(http), nodes }
    }

    /// For the Kafka door: TLS 1.3 and 1.2, with certificates of clients where `tls.client_ca`
    /// names their authority.
    #[must_use]
    pub fn kafka(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.kafka)
    }

    /// For the HTTP door: TLS 1.3 and HTTP/1.1, without certificates of clients.
    #[must_use]
    pub fn http(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.http)
    }

    /// For links to other nodes and from them: TLS 1.3, each side with a certificate of its node.
    /// `None` where `tls.client_ca` names no authority.
    #[must_use]
    pub fn nodes(&self) -> Option<NodeTls> {
        self.nodes.clone()
    }

    /// For the native door: QUIC, with certificates of clients where `tls.client_ca` names their
    /// authority.
    ///
    /// Errors: a setting outside of its range.
    pub fn quic(&self, settings: &Settings) -> Result<quinn::ServerConfig, SettingsError> {
        bateau_quic::server_config(self.live.resolver(), self.live.verifier(), settings)
    }

    /// What the native door's endpoints keep over restarts, as long as the key stays the same.
    #[must_use]
    pub fn endpoint_secret(&self) -> EndpointSecret {
        self.live.material().secret.clone()
    }

    /// The pin of the key that is served now.
    #[must_use]
    pub fn pin(&self) -> SpkiPin {
        self.live.material().pin
    }

    /// Looks at the files from time to time, and exchanges what has changed, until the returned
    /// guard is dropped. Without files there is nothing to look at, and no thread.
    #[must_use]
    pub fn watch(&self, config: &Config) -> Watch {
        let live = Arc::clone(&self.live);
        Watch::begin(live, config.tls.as_ref(), peer_of(config), WATCH_PERIOD)
    }
}

/// Which node other nodes will find here, if any will come.
fn peer_of(config: &Config) -> Option<NodeId> {
    config.listeners.peers.as_ref().map(|_| config.node.id)
}

fn tcp_config(
    live: &Arc<Live>,
    versions: &[&'static SupportedProtocolVersion],
    clients: Option<Arc<dyn ClientCertVerifier>>,
) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(crypto_provider())
        .with_protocol_versions(versions)
        .expect("the provider has suites of TLS 1.3 and 1.2");
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(live.resolver());
    config.max_early_data_size = 0;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.cert_compressors = Vec::new();
    config.cert_decompressors = Vec::new();
    config
}
