//! The sockets of the Kafka door: binding, accepting, stopping.
//!
//! Invariants
//! - A connection that panics ends alone.
//! - Whoever is not let in is closed at once, so that the limits hold without a queue.
//!
//! Absent on purpose: addresses of other nodes (they register their own).

use super::connection::{Connection, Deadlines, Parts};
use super::dispatch::{Context, Endpoint};
use super::session::{KafkaSession, SessionLimits};
use super::stream::{HANDSHAKES_MAX, handshake};
use crate::api::Broker;
use crate::config::{Advertised, Config, Limits, Listener};
use crate::controls::{Controls, Door};
use crate::doors::admission::Admitted;
use crate::doors::budget::Budget;
use crate::doors::sockets::bind_both;
use crate::doors::{Capacity, note_end, told_ip};
use crate::tls::Tls;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The open door: bound, and not yet answering.
#[derive(Debug)]
pub struct KafkaDoor {
    listener: TcpListener,
    /// The same port of `[::1]`, where the listener is for `localhost`.
    twin: Option<TcpListener>,
    local_address: SocketAddr,
    advertised: Advertised,
    limits: Limits,
    /// What connections are encrypted with; `None` for plaintext.
    tls: Option<Tls>,
    capacity: Capacity,
}

impl KafkaDoor {
    /// Binds the door's sockets. Clients may connect from now on and wait until [`Self::run`]
    /// answers them. To be called inside of a runtime.
    ///
    /// - `listener`: `config.listeners.kafka`, where it is not off.
    /// - `tls`: what `config.tls` asks for.
    /// - `capacity`: what it shares with the node's other doors.
    ///
    /// Errors: the address is taken or is none of this machine.
    pub fn bind(
        listener: &Listener,
        config: &Config,
        tls: Option<&Tls>,
        capacity: Capacity,
    ) -> io::Result<Self> {
        assert_eq!(tls.is_some(), config.tls.is_some(), "I-TLS-1: an open door without its TLS");
        let (socket, twin, local_address) = bind_both(listener)?;
        Ok(Self {
            listener: socket,
            twin,
            local_address,
            advertised: config.listeners.kafka_advertised.clone(),
            limits: config.limits.clone(),
            tls: tls.cloned(),
            capacity,
        })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.local_address
    }

    /// Host and port under which this node is known to others: what `kafka_advertised` says, or
    /// where it listens.
    #[must_use]
    pub fn advertised(&self) -> (String, u16) {
        match &self.advertised {
            Advertised::At { host, port } => (host.clone(), *port),
            Advertised::Auto => (self.local_address.ip().to_string(), self.local_address.port()),
        }
    }

    /// Answers clients until `stop` becomes true, then finishes what runs. Dropping the future
    /// closes every connection at once.
    ///
    /// - `controls`: what a test does to requests.
    pub async fn run(
        self,
        broker: Broker,
        controls: Option<Arc<Controls>>,
        mut stop: watch::Receiver<bool>,
    ) {
        let Capacity { budget, admission } = &self.capacity;
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let mut connections = JoinSet::new();
        let connection_stop = stop.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next() => {
                    note_end(ended);
                    continue;
                }
                accepted = self.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let admitted = match Admitted::enter(admission, peer.ip()) {
                Ok(admitted) => admitted,
                Err(refused) => {
                    tracing::debug!(%peer, %refused, "a connection was refused");
                    continue;
                }
            };
            // Answers leave as soon as they are made; they are gathered before, not by the kernel.
            let local = stream.set_nodelay(true).and_then(|()| stream.local_addr());
            let parts = match local {
                Ok(local) => self.parts(local, peer, (broker.clone(), controls.clone()), budget),
                Err(error) => {
                    tracing::debug!(%peer, %error, "a connection was gone at once");
                    continue;
                }
            };
            let held = (admitted, broker.connected(Door::Kafka));
            let stop = connection_stop.clone();
            let Some(tls) = &self.tls else {
                connections.spawn(async move {
                    let ended = Connection::new(stream, parts).serve(stop).await;
                    tracing::debug!(%peer, %ended, "a connection has ended");
                    drop(held);
                });
                continue;
            };
            let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
                tracing::debug!(%peer, "a connection was refused: too many TLS handshakes");
                continue;
            };
            let tls = tls.kafka();
            connections.spawn(async move {
                serve_encrypted(stream, peer, parts, tls, permit, stop).await;
                drop(held);
            });
        }
        // Who connects from now on is refused by the kernel.
        drop((self.listener, self.twin));
        while let Some(ended) = connections.join_next().await {
            note_end(ended);
        }
    }

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let Some(twin) = &self.twin else { return self.listener.accept().await };
        tokio::select! {
            accepted = self.listener.accept() => accepted,
            accepted = twin.accept() => accepted,
        }
    }

    /// What a connection from `peer` to `local` needs.
    pub(super) fn parts(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
        (broker, controls): (Broker, Option<Arc<Controls>>),
        budget: &Budget,
    ) -> Parts {
        let limits = &self.limits;
        let session = KafkaSession::new(SessionLimits {
            frame_bytes_max: limits.kafka_frame_bytes_max,
            requests_inflight_max: limits.kafka_requests_inflight_max,
            inflight_bytes_max: limits.connection_inflight_bytes_max,
            reply_bytes_max: limits.connection_reply_bytes_max,
        });
        let context = Context {
            broker,
            controls,
            endpoint: self.endpoint(local),
            // As Kafka's own tools show it.
            client_host: format!("/{}", peer.ip().to_canonical()).into(),
            fetch_reply_bytes_max: limits.fetch_reply_bytes_max,
        };
        let window_ms = limits.stall_window_ms;
        let deadlines = Deadlines {
            idle: Duration::from_millis(limits.connection_idle_ms),
            stall_window: Duration::from_millis(window_ms),
            stall_bytes_min: limits.stall_bytes_per_second_min.saturating_mul(window_ms) / 1_000,
        };
        Parts { session, context: Arc::new(context), share: budget.share(), deadlines }
    }

    /// What a client that came to `local` is told of this node.
    fn endpoint(&self, local: SocketAddr) -> Endpoint {
        let (host, port) = match &self.advertised {
            Advertised::At { host, port } => (host.clone(), *port),
            Advertised::Auto => {
                let host = told_ip(local.ip(), self.local_address.ip());
                (host.to_string(), local.port())
            }
        };
        Endpoint { host: host.into(), port: i32::from(port) }
    }
}

/// Gives a connection its TLS, and serves it.
///
/// - `permit`: to be in a handshake.
async fn serve_encrypted(
    socket: TcpStream,
    peer: SocketAddr,
    parts: Parts,
    tls: Arc<ServerConfig>,
    permit: OwnedSemaphorePermit,
    mut stop: watch::Receiver<bool>,
) {
    let shaken = handshake(socket, tls, &mut stop).await;
    drop(permit);
    match shaken {
        Ok(stream) => {
            let ended = Connection::new(stream, parts).serve(stop).await;
            tracing::debug!(%peer, %ended, "a connection has ended");
        }
        Err(error) => tracing::debug!(%peer, %error, "a connection was closed"),
    }
}
