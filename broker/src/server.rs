//! The node as a process: from a checked configuration to a stopped process.
//!
//! ```text
//!   bind ─> Engine::open ─> until ready ─> announce ─> serve ─(signal, stdin)─> drain ─> close
//! ```
//!
//! Invariants
//! - Listeners are bound before anything is recovered, and accept only once the node is ready.
//! - A stop lets requests that run end, within the grace; then the closing flush is made.
//! - What stops the engine stops the process, with its reason on one line.
//!
//! Absent on purpose: a second shard's thread. One current-thread runtime carries everything but
//! the disk thread and the read thread.

use crate::api::Broker;
use crate::clock;
use crate::config::Config;
use crate::doors::Capacity;
use crate::doors::kafka::KafkaDoor;
use crate::engine::{Engine, EngineSettings, RunningEngine};
use crate::exit::{Exit, Failure};
use crate::ready::{self, Started};
use bateau_core::consumer_group::GroupSettings;
use bateau_core::controller::{BrokerSettings, ListenerAddress};
use bateau_log::{DataDirOptions, Disk, RealDisk, RealDiskOptions};
use std::future::Future;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

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
    let door = bind(config)?;
    let address = door.as_ref().map(KafkaDoor::local_address);
    let options =
        RealDiskOptions { exclusive: config.node.data_dir_exclusive, ephemeral: config.ephemeral };
    let place = &config.node.data_dir;
    let disk = RealDisk::open(place, options).map_err(|error| {
        Failure::new(Exit::Failed, format!("{}: cannot be opened: {error}", place.display()))
    })?;
    let mut settings = engine_settings(config, door.as_ref());
    settings.data_dir.soft_free_bytes = soft_free_bytes(config, &disk);
    let engine = Engine::open(Arc::new(disk), settings)?;
    let (running, starting) = engine.into_parts();
    let mut engine = EngineTask::spawn(running);
    tokio::select! {
        ready = starting.until_ready() => ready?,
        failure = engine.failed() => return Err(failure),
        () = stops.next() => return engine.stop().await,
    }
    let door = door.map(|door| DoorTask::spawn(door, starting.broker.clone()));
    ready::announce(config, Started { kafka: address, took: started.elapsed() });
    tokio::select! {
        failure = engine.failed() => return Err(failure),
        () = stops.next() => {}
    }
    tracing::info!("stopping");
    let grace = Duration::from_millis(config.node.shutdown_grace_ms);
    if let Some(door) = door {
        tokio::select! {
            () = door.drain(grace) => {}
            () = stops.next() => tracing::warn!("stopping at once"),
        }
    }
    drop(starting);
    engine.stop().await
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

/// The engine's loop as a task.
struct EngineTask {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), String>>,
}

impl EngineTask {
    fn spawn(running: RunningEngine) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(running.run(stopped)) }
    }

    /// Resolves only when the engine fails.
    async fn failed(&mut self) -> Failure {
        failure((&mut self.task).await)
    }

    async fn stop(self) -> Result<(), Failure> {
        let _ = self.stop.send(());
        match self.task.await {
            Ok(Ok(())) => Ok(()),
            ended => Err(failure(ended)),
        }
    }
}

fn failure(ended: Result<Result<(), String>, tokio::task::JoinError>) -> Failure {
    let reason = match ended {
        Ok(Err(reason)) => reason,
        Ok(Ok(())) => "the engine ended unasked".to_owned(),
        Err(error) => format!("the engine panicked: {error}"),
    };
    Failure::new(Exit::Failed, reason)
}

/// The Kafka door as a task.
struct DoorTask {
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl DoorTask {
    fn spawn(door: KafkaDoor, broker: Broker) -> Self {
        let (shutdown, asked) = watch::channel(false);
        Self { shutdown, task: tokio::spawn(door.run(broker, asked)) }
    }

    /// Accepts nothing more and lets what runs come to its end.
    fn drain(self, grace: Duration) -> impl Future<Output = ()> {
        self.shutdown.send_replace(true);
        async move {
            if tokio::time::timeout(grace, self.task).await.is_err() {
                tracing::warn!("connections were cut: they did not end within the grace");
            }
        }
    }
}

/// Binds what the configuration names, so that a taken port is known before anything is opened.
fn bind(config: &Config) -> Result<Option<KafkaDoor>, Failure> {
    let Some(listener) = &config.listeners.kafka else { return Ok(None) };
    let bound = KafkaDoor::bind(listener, config, Capacity::new(&config.limits)).map_err(|error| {
        let held = error.kind() == std::io::ErrorKind::AddrInUse;
        let exit = if held { Exit::NotFoundOrHeld } else { Exit::Failed };
        let address = listener.address;
        Failure::new(exit, format!("listeners.kafka: {address} cannot be bound: {error}"))
    })?;
    Ok(Some(bound))
}

fn engine_settings(config: &Config, kafka: Option<&KafkaDoor>) -> EngineSettings {
    let listeners: Vec<ListenerAddress> = kafka.into_iter().map(registered).collect();
    let broker = broker_settings(config, &listeners);
    let voter = config.cluster.voters.first();
    let peers_address = voter.and_then(|voter| voter.split_once('@')).map_or("", |(_, at)| at);
    EngineSettings {
        node_id: config.node.id,
        rack: config.node.rack.as_deref().map(Arc::from),
        listeners,
        peers_address: peers_address.into(),
        broker,
        durability: config.durability(),
        groups: group_settings(config),
        data_dir: DataDirOptions {
            hard_free_bytes: config.limits.disk_free_hard_bytes,
            ballast_bytes: config.limits.disk_ballast_bytes,
            wall_ms: clock::wall_ms(),
            ..DataDirOptions::default()
        },
        retention_check: Duration::from_millis(config.limits.retention_check_ms),
    }
}

/// The larger of the two limits that an operator gives; a filesystem that does not tell its size
/// has only the one in bytes.
fn soft_free_bytes(config: &Config, disk: &RealDisk) -> u64 {
    let percent = config.limits.disk_free_soft_percent;
    let of_total = disk.space().map_or(0, |space| space.total / 100 * percent);
    config.limits.disk_free_soft_bytes.max(of_total)
}

/// The address that the node registers for its Kafka door.
fn registered(door: &KafkaDoor) -> ListenerAddress {
    let (host, port) = door.advertised();
    ListenerAddress { name: "kafka".into(), host: host.into(), port }
}

fn broker_settings(config: &Config, listeners: &[ListenerAddress]) -> BrokerSettings {
    let shown = |listener: &ListenerAddress| {
        let (host, port) = (&listener.host, listener.port);
        if host.contains(':') {
            format!("PLAINTEXT://[{host}]:{port}")
        } else {
            format!("PLAINTEXT://{host}:{port}")
        }
    };
    let advertised: Vec<String> = listeners.iter().map(shown).collect();
    BrokerSettings {
        node: config.node.id,
        rack: config.node.rack.clone(),
        advertised_listeners: advertised.join(","),
        auto_create: config.topics.auto_create,
        partitions_default: config.topics.partitions_default,
        replication_factor_default: config.topics.replication_factor_default,
        min_insync_replicas: config.topics.min_insync_replicas.map(u32::from),
        initial_rebalance_delay_ms: whole(config.groups.initial_rebalance_delay_ms),
        offsets_retention_minutes: whole(config.groups.offsets_retention_minutes),
        session_timeout_ms_min: whole(config.groups.session_timeout_min_ms),
        session_timeout_ms_max: whole(config.groups.session_timeout_max_ms),
    }
}

fn whole(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn group_settings(config: &Config) -> GroupSettings {
    GroupSettings {
        session_timeout_min_ms: config.groups.session_timeout_min_ms,
        session_timeout_max_ms: config.groups.session_timeout_max_ms,
        initial_rebalance_delay_ms: config.groups.initial_rebalance_delay_ms,
        offsets_retention_ms: config.groups.offsets_retention_minutes.saturating_mul(60_000),
        members_per_group_max: config.limits.group_members_max,
        offset_metadata_bytes_max: config.limits.offset_metadata_bytes_max,
    }
}
