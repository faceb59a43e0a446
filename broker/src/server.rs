//! A node as a process: signals, the ready line, the end of stdin. Several nodes of one process
//! are announced and stopped together.
//!
//! ```text
//!   Node::open ─> until ready ─> announce ─> serve ─(signal, stdin)─> drain ─> stop
//! ```
//!
//! Invariants
//! - A stop lets requests that run end, within the grace; then the closing flush is made.
//! - What stops the node stops the process, with its reason on one line.
//!
//! Absent on purpose: everything that a node is without a process around it.

use crate::config::{Config, Mode};
use crate::entropy::Entropy;
use crate::exit::{Exit, Failure};
use crate::local_cluster::{self, LocalCluster};
use crate::node::{Addresses, Node, NodeSettings};
use crate::ready::{self, Started};
use crate::tls::{Published, publish};
use bateau_quic::SpkiPin;
use bateau_quic::contexts::config_directory;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// The variable whose value, hexadecimal, is the seed of a node under test control.
const SEED_VARIABLE: &str = "BATEAU_SEED";

/// Starts a node, or several that make a cluster, announces it (`ready::announce`), waits for its
/// end and stops it.
///
/// - `configs`: of [`configs`](local_cluster::configs).
/// - `started`: when the process began, for `ready_ms`.
///
/// Errors: a start that failed, with nothing announced; or what stopped a running node.
pub fn run(configs: &[Config], started: Instant) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Failed, format!("the runtime cannot be started: {error}"))
    })?;
    runtime.block_on(serve(configs, started))
}

async fn serve(configs: &[Config], started: Instant) -> Result<(), Failure> {
    let Some(config) = configs.first() else { return Ok(()) };
    let stops = Stops::listen(config.exit_on_stdin_close)?;
    let mut settings = local_cluster::settings(configs);
    if config.test_control {
        let seed = seed()?;
        eprintln!("{SEED_VARIABLE}={seed:x} repeats the ids of this run");
        local_cluster::control(&mut settings, seed);
    }
    match <[NodeSettings; 1]>::try_from(settings) {
        Ok([settings]) => serve_one(config, settings, stops, started).await,
        Err(several) => serve_several(configs, several, stops, started).await,
    }
}

async fn serve_one(
    config: &Config,
    settings: NodeSettings,
    mut stops: Stops,
    started: Instant,
) -> Result<(), Failure> {
    let mut node = tokio::select! {
        opened = Node::open(settings) => opened?,
        // Nothing votes or answers yet, so there is nothing to bring to an end.
        () = stops.next() => return Ok(()),
    };
    tokio::select! {
        ready = node.until_ready() => ready?,
        () = stops.next() => return node.stop().await,
    }
    let _published = introduce(config, node.addresses(), node.native_pin());
    let announced = Started { addresses: node.addresses(), took: started.elapsed() };
    ready::announce(&[(config, announced)]);
    tokio::select! {
        failure = node.serve() => return Err(failure),
        () = stops.next() => {}
    }
    tracing::info!("stopping");
    let grace = Duration::from_millis(config.node.shutdown_grace_ms);
    tokio::select! {
        () = node.drain(grace) => {}
        () = stops.next() => tracing::warn!("stopping at once"),
    }
    node.stop().await
}

async fn serve_several(
    configs: &[Config],
    settings: Vec<NodeSettings>,
    mut stops: Stops,
    started: Instant,
) -> Result<(), Failure> {
    let (fail, mut failures) = mpsc::unbounded_channel();
    let on_failure = Arc::new(move |failure| drop(fail.send(failure)));
    let cluster = tokio::select! {
        cluster = LocalCluster::start(settings, on_failure) => cluster?,
        () = stops.next() => return Ok(()),
    };
    let took = started.elapsed();
    let nodes = cluster.nodes();
    let started = nodes.iter().map(|node| Started { addresses: node.addresses(), took });
    let announced: Vec<_> = configs.iter().zip(started).collect();
    let first = announced.first().zip(cluster.native_pins().next());
    let _published = first.and_then(|((config, Started { addresses, .. }), pin)| {
        // Clients learn the keys of the other nodes from the first one.
        introduce(config, *addresses, pin)
    });
    ready::announce(&announced);
    tokio::select! {
        Some(failure) = failures.recv() => return Err(failure),
        () = stops.next() => {}
    }
    tracing::info!("stopping");
    let grace = configs.first().map_or(0, |config| config.node.shutdown_grace_ms);
    tokio::select! {
        () = cluster.drain(Duration::from_millis(grace)) => {}
        () = stops.next() => tracing::warn!("stopping at once"),
    }
    cluster.stop()
}

/// Tells how the native door is known: a node for development to this user's clients, by the file
/// of contexts; a server to its log, where it made its certificate itself.
fn introduce(config: &Config, addresses: Addresses, pin: Option<SpkiPin>) -> Option<Published> {
    let (native, pin) = (addresses.native?, pin?);
    if config.mode == Mode::Serve {
        if config.tls.is_none() {
            tracing::info!(%pin, "clients of the native door need this pin, for there is no [tls]");
        }
        return None;
    }
    let Some(directory) = config_directory() else {
        tracing::info!(%pin, "no home for the file of contexts; clients need this pin by hand");
        return None;
    };
    let is_port_chosen = config.listeners.native.is_some_and(|door| door.address.port() != 0);
    let is_lasting = is_port_chosen && !config.ephemeral;
    let Addresses { kafka, http, .. } = addresses;
    match publish(&directory, native, kafka, http, pin, is_lasting) {
        Ok(published) => Some(published),
        Err(error) => {
            tracing::warn!(%error, %pin, "clients on this machine need the pin by hand");
            None
        }
    }
}

/// The seed of a run under test control: what the variable says, or a random one of 32 bits, which
/// is short to type.
fn seed() -> Result<u64, Failure> {
    let Ok(text) = std::env::var(SEED_VARIABLE) else {
        return Ok(Entropy::system().number() >> 32);
    };
    let digits = text.strip_prefix("0x").unwrap_or(&text);
    u64::from_str_radix(digits, 16).map_err(|_| {
        let message = format!("{SEED_VARIABLE} is {text:?}; expected hexadecimal, such as 8f31");
        Failure::new(Exit::Usage, message)
    })
}

/// What asks the node to stop.
struct Stops {
    asked: mpsc::Receiver<()>,
}

impl Stops {
    /// SIGTERM, SIGINT and, where it was asked for, the end of stdin.
    fn listen(on_stdin_close: bool) -> Result<Self, Failure> {
        let (ask, asked) = mpsc::channel(4);
        for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
            let mut signals = signal(kind).map_err(|error| {
                Failure::new(Exit::Failed, format!("signals cannot be received: {error}"))
            })?;
            let ask = ask.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    // A full channel has been asked to stop already.
                    let _ = ask.try_send(());
                }
            });
        }
        if on_stdin_close {
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut std::io::stdin().lock().by_ref(), &mut std::io::sink());
                let _ = ask.blocking_send(());
            });
        }
        Ok(Self { asked })
    }

    async fn next(&mut self) {
        // Signal tasks keep the channel open.
        let _ = self.asked.recv().await;
    }
}
