//! The sockets of the native door: binding, handshakes, stopping.
//!
//! Invariants
//! - A connection that panics ends alone.
//! - A sender that has not proved its address costs little: beyond a number of them each is asked
//!   for a proof first, and beyond a larger one all are refused.
//! - Who is not let in is told so, by a close with `TOO_MANY_CONNECTIONS`.
//!
//! Absent on purpose: certificates (they come from outside), and addresses of other nodes (they
//! register their own).

use super::connection::{Connection, Deadlines};
use super::dispatch::{Context, Endpoint};
use super::feed::Feed;
use super::session::{Session, SessionLimits, SessionSettings};
use crate::api::Broker;
use crate::config::{Advertised, Config, Limits, Listener};
use crate::controls::{Controls, Door};
use crate::doors::admission::Admitted;
use crate::doors::sockets::bind_twins;
use crate::doors::words::wire_node;
use crate::doors::{Capacity, note_end, told_ip};
use crate::tls::Tls;
use bateau_protocol::limits;
use bateau_protocol::native::{CloseCode, VERSION_MAX, VERSION_MIN, Welcome};
use bateau_protocol::wire::Text;
use bateau_quic::{
    Admission, HANDSHAKE_MS_MAX, HandshakeGate, Settings, lasting_endpoint, release,
};
use quinn::{Incoming, VarInt};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// `Hello` has to come so soon after the handshake.
const HELLO: Duration = Duration::from_millis(5_000);
/// How long a closing door waits until its clients have been told.
const LAST_PACKETS: Duration = Duration::from_millis(100);
/// How long the port is kept for closing packets that have to leave.
const CLOSING_PACKETS: Duration = Duration::from_millis(20);

/// What the native door adds to the configuration: settings that only tests change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NativeSettings {
    /// Versions that are spoken, lowest and highest.
    pub versions: (i16, i16),
    /// Of QUIC.
    pub quic: Settings,
    /// How long `Hello` may take.
    pub hello: Duration,
}

impl Default for NativeSettings {
    fn default() -> Self {
        Self { versions: (VERSION_MIN, VERSION_MAX), quic: Settings::default(), hello: HELLO }
    }
}

/// The open door: bound, and not yet answering.
#[derive(Debug)]
pub struct NativeDoor {
    socket: UdpSocket,
    /// The same port of `[::1]`, where the listener is for `localhost`.
    twin: Option<UdpSocket>,
    terms: Terms,
}

/// What connections are served by.
#[derive(Clone, Debug)]
struct Terms {
    local_address: SocketAddr,
    advertised: Advertised,
    limits: Limits,
    capacity: Capacity,
    settings: NativeSettings,
}

impl NativeDoor {
    /// Binds the door's sockets. Clients may connect from now on and wait until [`Self::run`]
    /// answers them.
    ///
    /// - `listener`: `config.listeners.native`, where it is not off.
    /// - `capacity`: what it shares with the node's other doors.
    ///
    /// Errors: the address is taken or is none of this machine.
    pub fn bind(
        listener: &Listener,
        config: &Config,
        capacity: Capacity,
        settings: NativeSettings,
    ) -> io::Result<Self> {
        let quic = &settings.quic;
        let (socket, twin, local_address) = bind_twins(listener, |address| bind(address, quic))?;
        let terms = Terms {
            local_address,
            advertised: config.listeners.native_advertised.clone(),
            limits: config.limits.clone(),
            capacity,
            settings,
        };
        Ok(Self { socket, twin, terms })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.terms.local_address
    }

    /// Host and port under which this node is known to others: what `native_advertised` says, or
    /// where it listens.
    #[must_use]
    pub fn advertised(&self) -> (String, u16) {
        let Terms { advertised, local_address, .. } = &self.terms;
        match advertised {
            Advertised::At { host, port } => (host.clone(), *port),
            Advertised::Auto => (local_address.ip().to_string(), local_address.port()),
        }
    }

    /// Answers clients until `stop` becomes true, then finishes what runs. Dropping the future
    /// closes every connection at once.
    ///
    /// - `controls`: what a test does to requests.
    /// - `tls`: what is encrypted with; certificates may change meanwhile.
    pub async fn run(
        self,
        broker: Broker,
        controls: Option<Arc<Controls>>,
        tls: Tls,
        mut stop: watch::Receiver<bool>,
    ) {
        let terms = Arc::new(self.terms);
        let (quic, told) = (&terms.settings.quic, controls.clone());
        let door = match OpenDoor::new(self.socket, self.twin, quic, &tls, told) {
            Ok(door) => door,
            Err(error) => {
                tracing::error!(%error, "the native door cannot be opened");
                return;
            }
        };
        let gate = HandshakeGate::new();
        let mut connections = JoinSet::new();
        let guest = Guest { terms, broker, controls, stop: stop.clone() };
        loop {
            let incoming = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next() => {
                    note_end(ended);
                    continue;
                }
                incoming = door.accept() => incoming,
            };
            let Some(incoming) = incoming else { break };
            let peer = incoming.remote_address();
            match gate.admit(incoming) {
                Admission::Begun(connecting, permit) => {
                    let guest = guest.clone();
                    connections.spawn(async move {
                        let handshake = Duration::from_millis(HANDSHAKE_MS_MAX);
                        let connected = timeout(handshake, connecting).await;
                        drop(permit);
                        match connected {
                            Ok(Ok(connection)) => guest.serve(connection).await,
                            Ok(Err(error)) => tracing::debug!(%peer, %error, "no handshake"),
                            Err(_) => tracing::debug!(%peer, "a handshake did not end in time"),
                        }
                    });
                }
                Admission::Retried => {}
                Admission::Refused => tracing::debug!(%peer, "too many handshakes at once"),
                Admission::Failed(error) => tracing::debug!(%peer, %error, "no handshake"),
            }
        }
        door.refuse_newcomers();
        while let Some(ended) = connections.join_next().await {
            note_end(ended);
        }
        door.close().await;
    }
}

/// The endpoints of a door that answers.
struct OpenDoor {
    endpoint: quinn::Endpoint,
    twin: Option<quinn::Endpoint>,
    /// What a test does to the node.
    controls: Option<Arc<Controls>>,
}

impl OpenDoor {
    fn new(
        socket: UdpSocket,
        twin: Option<UdpSocket>,
        settings: &Settings,
        tls: &Tls,
        controls: Option<Arc<Controls>>,
    ) -> io::Result<Self> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
        let server = tls.quic(settings).map_err(invalid)?;
        let secret = tls.endpoint_secret();
        let open = |socket: UdpSocket| lasting_endpoint(socket, server.clone(), settings, &secret);
        Ok(Self { endpoint: open(socket)?, twin: twin.map(open).transpose()?, controls })
    }

    async fn accept(&self) -> Option<Incoming> {
        let Some(twin) = &self.twin else { return self.endpoint.accept().await };
        tokio::select! {
            incoming = self.endpoint.accept() => incoming,
            incoming = twin.accept() => incoming,
        }
    }

    fn endpoints(&self) -> impl Iterator<Item = &quinn::Endpoint> {
        [&self.endpoint].into_iter().chain(&self.twin)
    }

    /// Who connects from now on is refused.
    fn refuse_newcomers(&self) {
        self.endpoints().for_each(|endpoint| endpoint.set_server_config(None));
    }

    /// Waits until clients have been told that their connections are closed.
    async fn close(&self) {
        let stopped = VarInt::from_u32(CloseCode::GOING_AWAY.0);
        self.endpoints().for_each(|endpoint| endpoint.close(stopped, b"the broker stops"));
        for endpoint in self.endpoints() {
            // Whoever does not answer is forgotten.
            let _ = timeout(LAST_PACKETS, endpoint.wait_idle()).await;
        }
    }
}

impl Drop for OpenDoor {
    fn drop(&mut self) {
        let stopped = VarInt::from_u32(CloseCode::GOING_AWAY.0);
        let is_dead = self.controls.as_ref().is_some_and(|controls| controls.is_dead());
        for endpoint in self.endpoints() {
            if is_dead {
                // What is said from elsewhere reaches nobody.
                release(endpoint);
            }
            endpoint.close(stopped, b"the broker stops");
            // Outside of a runtime everything ends with this, the socket too.
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(leave(endpoint.clone()));
            }
        }
    }
}

/// Lets the closing packets leave, then makes room for whoever takes the port next: this node, if
/// it starts again.
async fn leave(endpoint: quinn::Endpoint) {
    let _ = timeout(CLOSING_PACKETS, endpoint.wait_idle()).await;
    release(&endpoint);
}

impl Terms {
    fn session_limits(&self) -> SessionLimits {
        SessionLimits {
            frame_bytes_max: limits::NATIVE_FRAME_BYTES_MAX,
            hello_bytes_max: limits::NATIVE_HELLO_BYTES_MAX,
            requests_inflight_max: limits::NATIVE_REQUESTS_INFLIGHT_MAX,
            inflight_bytes_max: self.limits.connection_inflight_bytes_max,
            reply_bytes_max: self.limits.connection_reply_bytes_max,
            data_streams_max: limits::NATIVE_DATA_STREAMS_MAX,
            bulk_streams_max: limits::NATIVE_BULK_STREAMS_MAX,
            subscriptions_max: limits::NATIVE_SUBSCRIPTIONS_MAX,
            credit_bytes_max: limits::NATIVE_CREDIT_BYTES_MAX as u64,
            fetch_bytes_max: self.limits.fetch_reply_bytes_max,
        }
    }

    /// What a client that came to `local` is told of this node.
    fn told(&self, local: Option<IpAddr>) -> Endpoint {
        let (host, port) = match &self.advertised {
            Advertised::At { host, port } => (host.clone(), *port),
            Advertised::Auto => {
                let bound = self.local_address.ip();
                (told_ip(local.unwrap_or(bound), bound).to_string(), self.local_address.port())
            }
        };
        Endpoint { host: host.into(), port: i32::from(port) }
    }
}

/// What a new connection is served with.
#[derive(Clone)]
struct Guest {
    terms: Arc<Terms>,
    broker: Broker,
    controls: Option<Arc<Controls>>,
    stop: watch::Receiver<bool>,
}

impl Guest {
    async fn serve(self, quic: quinn::Connection) {
        let peer = quic.remote_address();
        let admitted = match Admitted::enter(&self.terms.capacity.admission, peer.ip()) {
            Ok(admitted) => admitted,
            Err(refused) => {
                tracing::debug!(%peer, %refused, "a connection was refused");
                let code = VarInt::from_u32(CloseCode::TOO_MANY_CONNECTIONS.0);
                quic.close(code, refused.to_string().as_bytes());
                return;
            }
        };
        let counted = self.broker.connected(Door::Native);
        let stop = self.stop.clone();
        let ended = self.connection(quic).serve(stop).await;
        tracing::debug!(%peer, ended, "a connection has ended");
        drop((admitted, counted));
    }

    fn connection(self, quic: quinn::Connection) -> Connection {
        let terms = &self.terms;
        let limits = terms.session_limits();
        let node = self.broker.node();
        let cluster_id = super::convert::cluster::cluster_id(&self.broker.directory());
        let session = Session::new(SessionSettings {
            versions: terms.settings.versions,
            limits,
            welcome: Welcome {
                cluster_id,
                node_id: wire_node(node.node_id),
                broker_version: Text::from_static(env!("CARGO_PKG_VERSION")),
                durability: Text::from_static(node.durability.word()),
                ..Welcome::default()
            },
        });
        let feed =
            Feed::new(self.broker.clone(), limits.subscriptions_max, limits.credit_bytes_max);
        let window_ms = terms.limits.stall_window_ms;
        let deadlines = Deadlines {
            hello: terms.settings.hello,
            stall_window: Duration::from_millis(window_ms),
            stall_bytes_min: terms.limits.stall_bytes_per_second_min.saturating_mul(window_ms)
                / 1_000,
        };
        let context = Context {
            // As Kafka's own tools show it.
            client_host: format!("/{}", quic.remote_address().ip().to_canonical()).into(),
            endpoint: terms.told(quic.local_ip()),
            fetch_bytes_max: limits.fetch_bytes_max,
            stopping: self.stop,
            broker: self.broker,
            controls: self.controls,
        };
        let share = terms.capacity.budget.share();
        Connection::new(quic, session, context, feed, share, deadlines)
    }
}

fn bind(address: SocketAddr, settings: &Settings) -> io::Result<(UdpSocket, SocketAddr)> {
    let (socket, buffers) = bateau_quic::bind(address, settings)?;
    if buffers.is_short() {
        tracing::warn!("{buffers}");
    }
    let local = socket.local_addr()?;
    Ok((socket, local))
}
