//! The sockets of the Kafka door: binding, accepting, stopping.
//!
//! Invariants
//! - A connection that panics ends alone.
//! - Whoever is not let in is closed at once, so that the limits hold without a queue.
//!
//! Absent on purpose: addresses of other nodes (they register their own).

use super::admission::{Admission, Refused};
use super::budget::Budget;
use super::connection::{Connection, Deadlines, Parts};
use super::dispatch::{Context, Endpoint};
use super::session::{KafkaSession, SessionLimits};
use super::stream::{HANDSHAKES_MAX, handshake};
use crate::api::Broker;
use crate::config::{Advertised, Config, Limits, Listener};
use crate::controls::{Controls, Door};
use crate::doors::sockets::bind_both;
use crate::tls::Tls;
use rustls::ServerConfig;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

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
}

impl KafkaDoor {
    /// Binds the door's sockets. Clients may connect from now on and wait until [`Self::run`]
    /// answers them. To be called inside of a runtime.
    ///
    /// - `listener`: `config.listeners.kafka`, where it is not off.
    /// - `tls`: what `config.tls` asks for.
    ///
    /// Errors: the address is taken or is none of this machine.
    pub fn bind(listener: &Listener, config: &Config, tls: Option<&Tls>) -> io::Result<Self> {
        assert_eq!(tls.is_some(), config.tls.is_some(), "I-TLS-1: an open door without its TLS");
        let (socket, twin, local_address) = bind_both(listener)?;
        Ok(Self {
            listener: socket,
            twin,
            local_address,
            advertised: config.listeners.kafka_advertised.clone(),
            limits: config.limits.clone(),
            tls: tls.cloned(),
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
        let limits = &self.limits;
        let budget = Budget::new(limits.request_memory_bytes_max);
        let admission = Arc::new(Mutex::new(Admission::new(limits, Instant::now())));
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
            let admitted = match Admitted::enter(&admission, peer.ip()) {
                Ok(admitted) => admitted,
                Err(refused) => {
                    tracing::debug!(%peer, %refused, "a connection was refused");
                    continue;
                }
            };
            let context = (broker.clone(), controls.clone());
            let parts = match self.parts(&stream, peer, context, &budget) {
                Ok(parts) => parts,
                Err(error) => {
                    tracing::debug!(%peer, %error, "a connection was gone at once");
                    continue;
                }
            };
            let stop = connection_stop.clone();
            let counted = broker.connected(Door::Kafka);
            match self.tls.as_ref().map(|tls| (tls.kafka(), handshakes.clone().try_acquire_owned()))
            {
                None => {
                    let served = Connection::new(stream, parts).serve(stop);
                    connections.spawn(async move {
                        let ended = served.await;
                        tracing::debug!(%peer, %ended, "a connection has ended");
                        drop((admitted, counted));
                    });
                }
                Some((tls, Ok(permit))) => {
                    let served = serve_encrypted(stream, peer, parts, tls, permit, stop);
                    connections.spawn(async move {
                        served.await;
                        drop((admitted, counted));
                    });
                }
                Some((_, Err(_))) => {
                    tracing::debug!(%peer, "a connection was refused: too many TLS handshakes");
                }
            }
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

    fn parts(
        &self,
        stream: &TcpStream,
        peer: SocketAddr,
        (broker, controls): (Broker, Option<Arc<Controls>>),
        budget: &Budget,
    ) -> io::Result<Parts> {
        // Answers leave as soon as they are made; they are gathered before, not by the kernel.
        stream.set_nodelay(true)?;
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
            endpoint: self.endpoint(stream.local_addr()?),
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
        Ok(Parts { session, context: Arc::new(context), share: budget.share(), deadlines })
    }

    /// What a client that came to `local` is told of this node.
    fn endpoint(&self, local: SocketAddr) -> Endpoint {
        let (host, port) = match &self.advertised {
            Advertised::At { host, port } => (host.clone(), *port),
            Advertised::Auto => {
                let host = advertised_ip(local.ip(), self.local_address.ip());
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

/// One node has one name: a client of this machine is told `127.0.0.1` wherever that is bound,
/// also when it came over `::1`.
fn advertised_ip(local: IpAddr, bound: IpAddr) -> IpAddr {
    let local = local.to_canonical();
    let four = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let is_four_bound = bound == four || bound.is_unspecified();
    if local.is_loopback() && is_four_bound { four } else { local }
}

/// A place among the open connections, given back when dropped.
struct Admitted {
    admission: Arc<Mutex<Admission>>,
    peer: IpAddr,
}

impl Admitted {
    fn enter(admission: &Arc<Mutex<Admission>>, peer: IpAddr) -> Result<Self, Refused> {
        let mut counts = admission.lock().unwrap_or_else(PoisonError::into_inner);
        counts.admit(peer, Instant::now())?;
        Ok(Self { admission: Arc::clone(admission), peer })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner).leave(self.peer);
    }
}

fn note_end(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection was closed by a fault in this program");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_of_this_machine_is_told_ipv4_wherever_that_is_bound() {
        for (local, bound, told) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
            ("::1", "127.0.0.1", "127.0.0.1"),
            ("127.0.0.1", "0.0.0.0", "127.0.0.1"),
            ("::ffff:127.0.0.1", "::", "127.0.0.1"),
            ("::1", "::", "127.0.0.1"),
            ("::1", "::1", "::1"),
            ("192.0.2.7", "0.0.0.0", "192.0.2.7"),
            ("::ffff:192.0.2.7", "::", "192.0.2.7"),
        ] {
            let address = |text: &str| text.parse::<IpAddr>().expect("a literal address");
            let found = advertised_ip(address(local), address(bound));
            assert_eq!(found, address(told), "through {local} to {bound}");
        }
    }
}
