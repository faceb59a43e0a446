//! The set of doors of one node: bound together, opened together, drained together.
//!
//! A door to come needs a field in [`Doors`], and a line in each of its functions.
//!
//! The HTTP door is none of them: it lives as long as the node, restarts included (see `node`).
//!
//! Invariants: every address is bound before any door answers.
//!
//! Absent on purpose: what a door says.

use super::{NodeControl, NodeSettings};
use crate::api::Broker;
use crate::config::{Advertised, Config, Listener, voter_parts};
use crate::controls::Controls;
use crate::doors::Capacity;
use crate::doors::http::HttpDoor;
use crate::doors::kafka::KafkaDoor;
use crate::doors::native::{NativeDoor, NativeSettings};
use crate::exit::{Exit, Failure};
use crate::peers::{Mailbox, PeersDoor, Transport};
use crate::tls::Tls;
use bateau_core::controller::ListenerAddress;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Where a node listens. `None`: the door is off, or this build lacks it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Addresses {
    /// Kafka's protocol over TCP.
    pub kafka: Option<SocketAddr>,
    /// Bateau's own over QUIC.
    pub native: Option<SocketAddr>,
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// Other nodes.
    pub peers: Option<SocketAddr>,
}

/// What a door works with.
#[derive(Clone)]
pub struct DoorContext {
    /// Who is asked.
    pub broker: Broker,
    /// What a test does to requests; `None` outside of tests.
    pub controls: Option<Arc<Controls>>,
    /// The node as its keeper sees it.
    pub node: NodeControl,
    /// What the native door encrypts with, where it is open.
    pub native_tls: Option<Tls>,
}

/// Doors that are bound and do not answer yet.
#[derive(Debug)]
pub(super) struct Doors {
    kafka: Option<KafkaDoor>,
    native: Option<NativeDoor>,
    peers: Option<PeersDoor>,
    /// What other nodes are told to dial.
    peers_advertised: Option<(String, u16)>,
}

/// What a configured port is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ports {
    /// Where the node listens, or it does not start.
    Given,
    /// Where it listens unless somebody else does; then any port that is free.
    Wished,
}

impl Ports {
    /// Binds a listener, or one beside it where that is allowed.
    fn bind<T>(
        self,
        key: &str,
        listener: &Listener,
        bind: impl Fn(&Listener) -> io::Result<T>,
    ) -> Result<T, Failure> {
        let mut bound = bind(listener);
        if let Err(error) = &bound
            && self == Self::Wished
            && error.kind() == io::ErrorKind::AddrInUse
        {
            let mut beside = *listener;
            beside.address.set_port(0);
            bound = bind(&beside);
        }
        bound.map_err(|error| not_bound(key, listener.address, &error))
    }
}

impl Doors {
    /// Binds what the configuration names, so that a taken port is known before anything is
    /// opened.
    ///
    /// - `tls`: of `[tls]`.
    pub fn bind(config: &Config, tls: Option<&Tls>, ports: Ports) -> Result<Self, Failure> {
        let capacity = Capacity::new(&config.limits);
        let listeners = &config.listeners;
        let kafka = listeners.kafka.as_ref().map(|listener| {
            let bind = |listener: &_| KafkaDoor::bind(listener, config, tls, capacity.clone());
            ports.bind("listeners.kafka", listener, bind)
        });
        let native = listeners.native.as_ref().map(|listener| {
            let settings = NativeSettings::default;
            let bind =
                |listener: &_| NativeDoor::bind(listener, config, capacity.clone(), settings());
            ports.bind("listeners.native", listener, bind)
        });
        let peers = listeners.peers.as_ref().map(|listener| {
            let is_encrypted = tls.is_some_and(|tls| tls.nodes().is_some());
            assert_eq!(is_encrypted, tls.is_some(), "I-TLS-1: an open door without its TLS");
            let bind = |listener: &_| PeersDoor::bind(listener, transport(tls));
            ports.bind("listeners.peers", listener, bind)
        });
        let (kafka, native, peers) = (kafka.transpose()?, native.transpose()?, peers.transpose()?);
        let peers_advertised = peers.as_ref().map(|door| peers_advertised(config, door));
        Ok(Self { kafka, native, peers, peers_advertised })
    }

    /// Shows the peers listener to the other nodes of this process, where there are any.
    pub fn find_company(&mut self, settings: &NodeSettings) {
        if let (Some(door), Some(company)) = (&mut self.peers, &settings.company) {
            door.use_wires(settings.config.node.id, company.wires().clone());
        }
    }

    pub fn addresses(&self) -> Addresses {
        let kafka = self.kafka.as_ref().map(KafkaDoor::local_address);
        let native = self.native.as_ref().map(NativeDoor::local_address);
        let peers = self.peers.as_ref().map(PeersDoor::local_address);
        Addresses { kafka, native, peers, ..Addresses::default() }
    }

    /// The addresses that the node registers, sorted by listener name.
    pub fn registered(&self) -> Vec<ListenerAddress> {
        let listener = |name: &str, (host, port): (String, u16)| ListenerAddress {
            name: name.into(),
            host: host.into(),
            port,
            pin: None,
        };
        let kafka = self.kafka.as_ref().map(|door| listener("kafka", door.advertised()));
        let native = self.native.as_ref().map(|door| listener("native", door.advertised()));
        let peers = self.peers_advertised.clone().map(|address| listener("peers", address));
        kafka.into_iter().chain(native).chain(peers).collect()
    }

    /// Opens the peers listener, where there is one: nodes meet before anything else is ready.
    pub fn open_peers(&mut self, events: Mailbox) -> Option<DoorTask> {
        let door = self.peers.take()?;
        Some(DoorTask::spawn("peers", |stop| door.run(events, stop)))
    }

    /// Opens them: each is a task from now on.
    pub fn open(self, context: &DoorContext) -> Vec<DoorTask> {
        let mut tasks = Vec::new();
        if let Some(door) = self.kafka {
            let (broker, controls) = (context.broker.clone(), context.controls.clone());
            let run = |stop| door.run(broker, controls, stop);
            tasks.push(DoorTask::spawn("kafka", run));
        }
        if let (Some(door), Some(tls)) = (self.native, context.native_tls.clone()) {
            let (broker, controls) = (context.broker.clone(), context.controls.clone());
            let run = |stop| door.run(broker, controls, tls, stop);
            tasks.push(DoorTask::spawn("native", run));
        }
        tasks
    }
}

/// What links to other nodes run over, where there are any.
///
/// - `tls`: of `[tls]`. Its authority of nodes is there wherever the peers listener is open, which
///   the configuration has seen to.
pub(super) fn transport(tls: Option<&Tls>) -> Transport {
    tls.and_then(Tls::nodes).into()
}

impl Addresses {
    /// Writes the ports that were found into the configuration, so that a restart has the same.
    pub(super) fn keep_in(self, config: &mut Config) {
        let listeners = &mut config.listeners;
        let doors = [
            (&mut listeners.kafka, self.kafka),
            (&mut listeners.native, self.native),
            (&mut listeners.http, self.http),
            (&mut listeners.peers, self.peers),
        ];
        for (listener, bound) in doors {
            if let (Some(listener), Some(bound)) = (listener, bound) {
                listener.address.set_port(bound.port());
            }
        }
    }
}

/// `peers_advertised`, or what `cluster.voters` says of this node, or where it listens.
fn peers_advertised(config: &Config, door: &PeersDoor) -> (String, u16) {
    if let Advertised::At { host, port } = &config.listeners.peers_advertised {
        return (host.clone(), *port);
    }
    let own = config.cluster.voters.iter().filter_map(|entry| voter_parts(entry));
    let own = own.filter(|(id, _)| *id == config.node.id.get()).map(|(_, address)| address).next();
    match own.map(str::parse) {
        Some(Ok(Advertised::At { host, port })) => (host, port),
        _ => (door.local_address().ip().to_string(), door.local_address().port()),
    }
}

/// Binds the HTTP door, where it is on.
pub(super) fn bind_http(
    config: &Config,
    tls: Option<&Tls>,
    ports: Ports,
) -> Result<Option<HttpDoor>, Failure> {
    assert_eq!(tls.is_some(), config.tls.is_some(), "I-TLS-1: an open door without its TLS");
    let listener = config.listeners.http.as_ref();
    let bind = |listener: &_| HttpDoor::bind(listener, tls);
    listener.map(|listener| ports.bind("listeners.http", listener, bind)).transpose()
}

fn not_bound(key: &str, address: SocketAddr, error: &io::Error) -> Failure {
    let held = error.kind() == io::ErrorKind::AddrInUse;
    let exit = if held { Exit::NotFoundOrHeld } else { Exit::Failed };
    Failure::new(exit, format!("{key}: {address} cannot be bound: {error}"))
}

/// An open door.
#[derive(Debug)]
pub struct DoorTask {
    name: &'static str,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl DoorTask {
    /// Runs a door. To be called inside of a runtime.
    ///
    /// - `run`: makes the door's future. What it is given becomes true when the door is to accept
    ///   nothing more and to finish what runs; the future ends once that is done. Dropping the
    ///   future closes every connection at once.
    pub fn spawn<F>(name: &'static str, run: impl FnOnce(watch::Receiver<bool>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (shutdown, asked) = watch::channel(false);
        Self { name, shutdown, task: tokio::spawn(run(asked)) }
    }

    /// Accepts nothing more from now on.
    pub(super) fn close(&self) {
        self.shutdown.send_replace(true);
    }

    /// Lets what runs come to its end, until `deadline`; then cuts it.
    pub(super) async fn drain(&mut self, deadline: tokio::time::Instant) {
        if tokio::time::timeout_at(deadline, &mut self.task).await.is_err() {
            tracing::warn!(
                door = self.name,
                "connections were cut: they did not end within the grace"
            );
            self.cut().await;
        }
    }

    /// Closes every connection at once, and waits until that is done.
    pub(super) async fn cut(&mut self) {
        self.task.abort();
        if !self.task.is_finished() {
            // An abort is no failure.
            let _ = (&mut self.task).await;
        }
    }
}

/// The moment at which a grace that begins now is over.
pub(super) fn end_of(grace: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + grace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_only_wished_for_gives_way_and_one_that_was_given_does_not() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = taken.local_addr().expect("it is bound");
        let listener = Listener { address, pair_loopback: false };
        let bind = |listener: &Listener| {
            let bound = std::net::TcpListener::bind(listener.address)?;
            Ok(bound.local_addr()?.port())
        };
        let port = Ports::Wished.bind("listeners.kafka", &listener, bind).expect("another one");
        assert_ne!(port, address.port());
        let refused = Ports::Given.bind("listeners.kafka", &listener, bind).expect_err("taken");
        assert_eq!(refused.exit, Exit::NotFoundOrHeld);
        assert!(refused.message.contains(&address.to_string()), "{refused}");
    }
}
