//! A node as a process: signals, the ready line, the end of stdin.
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
use crate::controls::Controls;
use crate::entropy::Entropy;
use crate::exit::{Exit, Failure};
use crate::node::{Addresses, Node, NodeSettings};
use crate::ready::{self, Started};
use crate::tls::{Published, publish};
use bateau_quic::contexts::config_directory;
use std::io::Read;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// The variable whose value, hexadecimal, is the seed of a node under test control.
const SEED_VARIABLE: &str = "BATEAU_SEED";

/// Starts a node, announces it (`ready::announce`), waits for its end and stops it.
///
/// - `started`: when the process began, for `ready_ms`.
///
/// Errors: a start that failed, with nothing announced; or what stopped a running node.
pub fn run(config: &Config, started: Instant) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::new(Exit::Failed, format!("the runtime cannot be started: {error}"))
    })?;
    runtime.block_on(serve(config, started))
}

async fn serve(config: &Config, started: Instant) -> Result<(), Failure> {
    let mut stops = Stops::listen(config.exit_on_stdin_close)?;
    let mut settings = NodeSettings::of(config.clone());
    settings.controls = config.test_control.then(|| Controls::new(settings.clock.clone()));
    if config.test_control {
        let seed = seed()?;
        eprintln!("{SEED_VARIABLE}={seed:x} repeats the ids of this run");
        settings.entropy = Entropy::seeded(seed);
    }
    let mut node = tokio::select! {
        opened = Node::open(settings) => opened?,
        // Nothing votes or answers yet, so there is nothing to bring to an end.
        () = stops.next() => return Ok(()),
    };
    tokio::select! {
        ready = node.until_ready() => ready?,
        () = stops.next() => return node.stop().await,
    }
    let _published = introduce(config, &node);
    ready::announce(config, Started { addresses: node.addresses(), took: started.elapsed() });
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

/// Tells how the native door is known: a node for development to this user's clients, by the file
/// of contexts; a server to its log, where it made its certificate itself.
fn introduce(config: &Config, node: &Node) -> Option<Published> {
    let addresses = node.addresses();
    let (native, pin) = (addresses.native?, node.native_pin()?);
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
