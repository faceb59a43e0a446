//! The client: one handle for producers, consumers and administration.
//!
//! ```text
//!   Client ──> Cluster ──> one Connection per broker ──> streams
//!     ├─ Producer      share the connections and
//!     ├─ Consumer      the knowledge of topics and
//!     └─ Admin         leaders
//! ```
//!
//! Absent on purpose: a pool. QUIC carries all that one client does on one connection per broker.

use crate::address::Address;
use crate::admin::Admin;
use crate::breaker::BreakerLimits;
use crate::cluster::Cluster;
use crate::consumer::ConsumerBuilder;
use crate::error::{ConnectError, Unsent};
use crate::producer::{Producer, Producers};
use crate::record::Durability;
use crate::retry::RetryLimits;
use bateau_quic::{IdentitySource, Settings, SpkiPin};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A client of one cluster. Cloning is cheap, and clones share everything.
///
/// The last clone that is dropped, with the producers and consumers made from it, closes the
/// connections at once. [`Client::close`] sends first what waits.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cluster: Arc<Cluster>,
    producers: Producers,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.cluster.shut_down();
    }
}

/// What the broker that was reached first says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct BrokerInfo {
    /// The cluster.
    pub cluster_id: String,
    /// The node in it.
    pub node_id: i32,
    /// Its release.
    pub version: String,
    /// What its acknowledgements promise.
    pub durability: Durability,
    /// The version of the protocol that was agreed on.
    pub protocol_version: i16,
}

impl Client {
    /// Connects to a broker at `quic://host:port?pin=sha256:…`, with defaults for all else.
    ///
    /// Scheme and port may be left out (the port is then 9443). Without a pin the broker must be
    /// on a loopback address and have its entry in the user's context file, as `bateau dev` writes
    /// it; use [`Client::builder`] to trust an authority.
    ///
    /// # Errors
    /// [`ConnectError`]; it gives up after 10 s.
    ///
    /// Cancel-safe: dropping the future leaves nothing behind.
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        Self::builder().address(address).connect().await
    }

    /// A client with options.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A producer for one topic; its methods set options until the first record is sent. It costs
    /// nothing before.
    #[must_use]
    pub fn producer(&self, topic: impl Into<String>) -> Producer {
        Producer::new(self.clone(), topic.into())
    }

    /// A consumer that shares its topics with the other members of `group`, Kafka's clients among
    /// them.
    pub fn consumer(&self, group: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), Some(group.into()))
    }

    /// A consumer without a group: it reads the topics or partitions that it names, all of them.
    pub fn reader(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), None)
    }

    /// Topics, groups, offsets, status.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.clone())
    }

    /// The broker that was reached last.
    #[must_use]
    pub fn broker(&self) -> BrokerInfo {
        self.inner.cluster.broker_info()
    }

    /// Sends what all producers of this client have waiting, then closes them and the connections.
    ///
    /// # Errors
    /// [`Unsent`]: what was not acknowledged within the producers' own deadlines. The client is
    /// closed all the same.
    ///
    /// Not cancel-safe: dropping the future abandons what was not sent yet.
    pub async fn close(self) -> Result<(), Unsent> {
        let outcome = self.inner.producers.close_all().await;
        self.inner.cluster.close().await;
        outcome
    }

    /// Continues on a new local UDP port, as a client does whose network changes.
    #[doc(hidden)]
    pub fn rebind(&self) -> std::io::Result<()> {
        self.inner.cluster.rebind()
    }

    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.inner.cluster
    }

    pub(crate) fn producers(&self) -> &Producers {
        &self.inner.producers
    }
}

/// Options of a client. Every method sets one choice.
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `connect`"]
pub struct ClientBuilder {
    pub(crate) addresses: Vec<String>,
    pub(crate) name: String,
    pub(crate) pin: Option<SpkiPin>,
    pub(crate) authorities_pem: Option<Vec<u8>>,
    pub(crate) identity: Option<IdentitySource>,
    pub(crate) token: Option<Vec<u8>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) timeout: Duration,
    pub(crate) silence: Duration,
    pub(crate) quic: Settings,
    pub(crate) retry: RetryLimits,
    pub(crate) breaker: BreakerLimits,
    pub(crate) versions: (i16, i16),
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            name: "bateau-client".to_owned(),
            pin: None,
            authorities_pem: None,
            identity: None,
            token: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            silence: Duration::from_secs(3),
            quic: Settings::default(),
            retry: RetryLimits::default(),
            breaker: BreakerLimits::default(),
            versions: (bateau_protocol::native::VERSION_MIN, bateau_protocol::native::VERSION_MAX),
        }
    }
}

impl ClientBuilder {
    /// A broker to begin with, `quic://host:port?pin=sha256:…`. Several are tried one after the
    /// other; the rest of the cluster is learnt from the one that answers.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// What the client calls itself: in the broker's logs, and as the client id of group members.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The key that every broker must show, where an address has no pin of its own.
    pub const fn pin(mut self, pin: SpkiPin) -> Self {
        self.pin = Some(pin);
        self
    }

    /// Certificates of authorities in PEM: a broker is trusted for one of theirs with its name.
    pub fn authorities_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.authorities_pem = Some(pem.into());
        self
    }

    /// A certificate chain, the client's own first, and its private key, each in PEM: shown to
    /// brokers that demand certificates (`tls.client_ca`), and to no others.
    pub fn identity_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.identity = Some(IdentitySource::Pem { chain: chain.into(), key: key.into() });
        self
    }

    /// The same from two files, read for every connection that is made: one that is renewed holds
    /// for the next. Nobody but its owner and its group may read the key.
    pub fn identity_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        let (certificate, key) = (certificate.into(), key.into());
        self.identity = Some(IdentitySource::Files { certificate, key });
        self
    }

    /// Who the client is, for brokers that ask.
    pub fn token(mut self, token: impl Into<Vec<u8>>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// How long [`ClientBuilder::connect`] tries. Default 10 s.
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The deadline of requests, all of their retries included. Default 30 s. Producers have
    /// their own.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// A broker that owes an acknowledgement of packets and sends nothing for so long is taken for
    /// dead, and connected to anew. Default 3 s.
    pub const fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Windows, timers and the longest datagram.
    pub const fn quic(mut self, settings: Settings) -> Self {
        self.quic = settings;
        self
    }

    /// Delays between attempts.
    pub const fn retry(mut self, limits: RetryLimits) -> Self {
        self.retry = limits;
        self
    }

    /// When a broker that does not answer is left alone, and for how long.
    pub const fn breaker(mut self, limits: BreakerLimits) -> Self {
        self.breaker = limits;
        self
    }

    /// The versions of the protocol that the client says it speaks.
    #[doc(hidden)]
    pub fn versions(mut self, versions: RangeInclusive<i16>) -> Self {
        self.versions = (*versions.start(), *versions.end());
        self
    }

    /// Connects. Must be called inside a tokio runtime, on which the client's tasks then run.
    ///
    /// # Errors
    /// [`ConnectError`]: of the last attempt, where several were made.
    ///
    /// Cancel-safe: dropping the future leaves nothing behind.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let addresses: Result<Vec<_>, _> =
            self.addresses.iter().map(|address| Address::parse(address)).collect();
        let addresses = addresses?;
        if addresses.is_empty() {
            let reason = "no address was given".to_owned();
            return Err(ConnectError::Address { address: String::new(), reason });
        }
        let cluster = Cluster::connect(self, addresses).await?;
        Ok(Client { inner: Arc::new(Inner { cluster, producers: Producers::default() }) })
    }
}
