//! The node without its doors: data directory, recovery, shard, disk thread.
//!
//! ```text
//!   Engine::open ─ lock, IDENTITY, recovery ─> Shard::start ─> Engine::run ─> Broker answers
//! ```
//!
//! Invariants
//! - Nothing is voted or acknowledged before recovery has flushed what it found.
//! - The metadata log exists and is flushed before `IDENTITY` says "founded" (decision 16).
//! - The same engine runs on the real disk and, in tests, on a simulated one.
//!
//! Absent on purpose: listeners, signals, the ready line.

use crate::api::{Broker, Durability, NodeInfo};
use crate::clock::Clock;
use crate::disk_worker::{self, Report};
use crate::entropy::Entropy;
use crate::exit::{Exit, Failure};
use crate::partition::PartitionView;
use crate::readers::{ColdReader, ReadThread};
use crate::router::Router;
use crate::shard::{Ask, Ended, INBOX_ASKS_MAX, ShardLoop};
use crate::telemetry;
use crate::trash::Trash;
use bateau_core::consumer_group::GroupSettings;
use bateau_core::controller::{BootEpoch, BrokerSettings, Founder, FoundingPlan};
use bateau_core::controller::{ListenerAddress, NodeRegistration};
use bateau_core::replica::MetadataStart;
use bateau_core::shard::{Effects, LogBirth, RecoveredLog, Shard, ShardSettings};
use bateau_log::{
    CommitCycle, DataDir, DataDirOptions, Disk, Done, Identity, OpenError, RecoveryProgress,
    RecoveryReport, Work,
};
use bateau_protocol::ids::{Incarnation, NodeId};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// What an engine is told.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// This node.
    pub node_id: NodeId,
    /// Its rack.
    pub rack: Option<Arc<str>>,
    /// The addresses that it registers, sorted by listener name.
    pub listeners: Vec<ListenerAddress>,
    /// Where its voter entry says that peers find it.
    pub peers_address: Arc<str>,
    /// What requests are decided by, and what its broker configs say.
    pub broker: BrokerSettings,
    /// What an acknowledgement promises on this disk.
    pub durability: Durability,
    /// Consumer groups.
    pub groups: GroupSettings,
    /// The data directory.
    pub data_dir: DataDirOptions,
    /// Between two looks at what retention allows to go.
    pub retention_check: Duration,
    /// This node's time.
    pub clock: Clock,
    /// Where its ids come from.
    pub entropy: Entropy,
}

/// An open node.
pub struct Engine {
    /// What the doors ask.
    pub broker: Broker,
    /// What recovery found.
    pub report: RecoveryReport,
    router: Arc<Router>,
    registration: NodeRegistration,
    shard_loop: ShardLoop,
    asks: mpsc::Receiver<Ask>,
    disk_reports: mpsc::UnboundedReceiver<Report>,
    disk_thread: JoinHandle<()>,
    read_thread: ReadThread,
}

impl Engine {
    /// Opens the data directory behind `disk` and everything in it.
    ///
    /// Errors: [`Failure`] with the exit code of its cause; the directory is as it was, apart from
    /// what recovery itself may do.
    pub fn open(disk: Arc<dyn Disk>, settings: EngineSettings) -> Result<Self, Failure> {
        Self::open_watched(disk, settings, &RecoveryProgress::default())
    }

    /// The same, and says meanwhile how far the recovery is.
    ///
    /// Errors: as of [`Self::open`].
    pub fn open_watched(
        disk: Arc<dyn Disk>,
        settings: EngineSettings,
        progress: &RecoveryProgress,
    ) -> Result<Self, Failure> {
        let data_dir =
            DataDir::lock(Arc::clone(&disk), std::process::id()).map_err(open_failure)?;
        let founding_id = settings.entropy.bytes();
        let identity = identity(&data_dir, settings.node_id, founding_id)?;
        let opened = data_dir.open_watched(&identity, settings.data_dir, progress);
        let opened = opened.map_err(open_failure)?;
        let (mut cycle, mut report) = (opened.cycle, opened.report);
        let (mut views, mut recovered) = taken_up(opened.logs, &mut report);
        // Before anything can be refused: what was found is needed most then.
        telemetry::report_recovery(&report);
        refuse_damaged_metadata(&report)?;
        let founder = founder(&settings, identity.founding_id);
        if !identity.founded {
            let birth = LogBirth::of_metadata(settings.node_id, &[settings.node_id]);
            views.extend(make_log(&mut cycle, birth.clone())?);
            let founded =
                Identity { founded: true, founders: vec![founder_entry(&founder)], ..identity };
            data_dir.store_identity(&founded).map_err(open_failure)?;
            recovered.push(birth.into_recovered());
        }
        let registration = registration(&settings, report.boot_epoch);
        let mut effects = Effects::default();
        let shard = start_shard(&settings, &registration, founder, recovered, &mut effects)?;
        refuse_foreign_metadata(&shard, settings.node_id, identity.founding_id)?;
        let (sender, disk_reports) = mpsc::unbounded_channel();
        // A directory may be short of room from the start on; later changes are reported.
        let space = vec![Done::Space(cycle.space())];
        let _ = sender.send(Report::Done(space));
        let report_done = move |report| drop(sender.send(report));
        let (disk_queue, disk_thread) =
            disk_worker::spawn(cycle, report_done).map_err(thread_failure)?;
        let (cold, read_thread) = ColdReader::spawn().map_err(thread_failure)?;
        let router = Arc::new(Router::default());
        let (ask, asks) = mpsc::channel(INBOX_ASKS_MAX);
        let (node_id, durability) = (settings.node_id, settings.durability);
        let node = NodeInfo { node_id, settings: settings.broker, durability };
        let (clock, entropy) = (settings.clock, settings.entropy);
        let broker =
            Broker::new(node, Arc::clone(&router), ask, cold, clock.clone(), entropy, disk);
        let shard_loop = ShardLoop::new(
            shard,
            effects,
            views,
            Arc::clone(&router),
            disk_queue,
            Trash::new(settings.node_id),
            settings.retention_check,
            clock,
        );
        Ok(Self {
            broker,
            report,
            router,
            registration,
            shard_loop,
            asks,
            disk_reports,
            disk_thread,
            read_thread,
        })
    }

    /// Splits into the loop, to be run, and what waits for the node to be ready.
    #[must_use]
    pub fn into_parts(self) -> (RunningEngine, Starting) {
        let starting =
            Starting { broker: self.broker, router: self.router, registration: self.registration };
        let running = RunningEngine {
            shard_loop: self.shard_loop,
            asks: self.asks,
            disk_reports: self.disk_reports,
            disk_thread: self.disk_thread,
            read_thread: self.read_thread,
        };
        (running, starting)
    }
}

/// The loop of an open node.
pub struct RunningEngine {
    shard_loop: ShardLoop,
    asks: mpsc::Receiver<Ask>,
    disk_reports: mpsc::UnboundedReceiver<Report>,
    disk_thread: JoinHandle<()>,
    read_thread: ReadThread,
}

impl RunningEngine {
    /// Runs until `stop` says so or something fails that stops the node, then makes the closing
    /// flush and waits for it and for the node's threads.
    ///
    /// Errors: what failed, in the operator's words.
    pub async fn run(self, stop: oneshot::Receiver<()>) -> Result<(), String> {
        let ended = self.shard_loop.run(self.asks, self.disk_reports, stop).await;
        // The loop held the last handle of the disk's queue: the thread closes and ends.
        let read_thread = self.read_thread.end().await;
        let closed = tokio::task::spawn_blocking(move || {
            // What a reader panicked at, its caller has been told.
            let _ = read_thread.join();
            self.disk_thread.join()
        });
        let closed = closed.await;
        match (ended, closed) {
            (Ended::Failed(reason), _) => Err(reason),
            (Ended::Stopped, Ok(Ok(()))) => Ok(()),
            (Ended::Stopped, _) => Err("the disk thread panicked".to_owned()),
        }
    }
}

/// A node that is on its way to being ready.
pub struct Starting {
    /// What the doors ask.
    pub broker: Broker,
    router: Arc<Router>,
    registration: NodeRegistration,
}

impl Starting {
    /// Waits until the cluster is founded, this node registered in it, and every partition that
    /// the metadata places here is led or known to be damaged.
    ///
    /// Errors: the cluster refuses this node (exit code 4).
    pub async fn until_ready(&self) -> Result<(), Failure> {
        self.router
            .until(|directory| {
                let controller = directory.view(Incarnation::METADATA);
                directory.metadata.founding().is_some()
                    && controller.is_some_and(|view| view.is_settled())
            })
            .await;
        let registered = self.broker.register(self.registration.clone()).await;
        registered.map_err(|reason| Failure::new(Exit::Refused, reason))?;
        let node_id = self.registration.node;
        self.router
            .until(|directory| {
                let placed = directory.metadata.logs_on(node_id);
                placed.into_iter().chain([Incarnation::METADATA]).all(|incarnation| {
                    directory.view(incarnation).is_some_and(|view| view.is_settled())
                })
            })
            .await;
        Ok(())
    }
}

/// The directory's identity; a new one is stored before anything else is.
fn identity(data_dir: &DataDir, node: NodeId, founding_id: [u8; 16]) -> Result<Identity, Failure> {
    if let Some(identity) = data_dir.identity(node).map_err(open_failure)? {
        return Ok(identity);
    }
    let (founders, cluster_id) = (Vec::new(), None);
    let identity = Identity { node, founding_id, founded: false, founders, cluster_id };
    data_dir.store_identity(&identity).map_err(open_failure)?;
    Ok(identity)
}

fn start_shard(
    settings: &EngineSettings,
    registration: &NodeRegistration,
    founder: Founder,
    recovered: Vec<RecoveredLog>,
    effects: &mut Effects,
) -> Result<Shard, Failure> {
    let founding = FoundingPlan { founders: vec![founder], nodes: vec![registration.clone()] };
    let metadata = MetadataStart {
        settings: settings.broker.clone(),
        founding,
        entropy: Box::new({
            let entropy = settings.entropy.clone();
            move || entropy.number()
        }),
    };
    let shard_settings = ShardSettings {
        node_id: settings.node_id,
        boot_epoch: registration.boot.epoch,
        groups: settings.groups.clone(),
        metadata,
        min_insync_replicas: settings.broker.min_insync_replicas,
    };
    Shard::start(shard_settings, recovered, settings.clock.now(), effects)
        .map_err(|error| Failure::new(Exit::Refused, error.to_string()))
}

/// The views of recovered logs, and the logs as the shard takes them; what turns out to be
/// unreadable goes to the report.
fn taken_up(
    logs: Vec<bateau_log::RecoveredLog>,
    report: &mut RecoveryReport,
) -> (Vec<PartitionView>, Vec<RecoveredLog>) {
    let mut views = Vec::new();
    let mut recovered = Vec::new();
    for log in logs {
        views.push(PartitionView::new(log.incarnation, log.reader.clone()));
        let (log, unreadable) = bateau_storage::recovered(&log);
        report.corrupt.extend(unreadable.map(|range| (log.incarnation, range)));
        recovered.push(log);
    }
    (views, recovered)
}

/// Without its metadata a node knows nothing, so it does not start (decision 24).
fn refuse_damaged_metadata(report: &RecoveryReport) -> Result<(), Failure> {
    let damaged = report.corrupt.iter().find(|(log, _)| *log == Incarnation::METADATA);
    let Some((_, range)) = damaged else { return Ok(()) };
    let (first, last) = (range.first_index, range.last_index);
    let (segment, position) = (range.segment, range.position);
    let (reason, proof) = (&range.reason, &range.proof);
    let message = format!(
        "the metadata partition is damaged from index {first} to {last}, in segment {segment} at \
         byte {position}: {reason}; it was durable by {proof}"
    );
    Err(Failure::new(Exit::Refused, message))
}

/// The founding names every founder's id, and `IDENTITY` this node's: they part where files of
/// two clusters were mixed.
fn refuse_foreign_metadata(
    shard: &Shard,
    node: NodeId,
    founding_id: [u8; 16],
) -> Result<(), Failure> {
    let founding = shard.metadata().and_then(|metadata| metadata.founding());
    let recorded = founding.and_then(|founding| {
        founding.founders.iter().find(|founder| founder.node == node).map(|one| one.founding_id)
    });
    if recorded.is_none_or(|recorded| recorded == founding_id) {
        return Ok(());
    }
    let message = "the data directory holds the metadata of another cluster than its IDENTITY";
    Err(Failure::new(Exit::Refused, message))
}

fn make_log(cycle: &mut CommitCycle, birth: LogBirth) -> Result<Option<PartitionView>, Failure> {
    let failed = |reason: String| Failure::new(Exit::Failed, reason);
    let mut done = Vec::new();
    let mut work = vec![Work::Create(bateau_storage::birth(birth))];
    cycle.run(&mut work, &mut done).map_err(|error| failed(error.to_string()))?;
    for answer in done {
        match answer {
            Done::Created { incarnation, reader, .. } => {
                return Ok(Some(PartitionView::new(incarnation, reader)));
            }
            Done::CreateFailed { error, .. } => {
                return Err(failed(format!("the metadata log cannot be made: {error}")));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn founder(settings: &EngineSettings, founding_id: [u8; 16]) -> Founder {
    let peers_address = Arc::clone(&settings.peers_address);
    Founder { node: settings.node_id, founding_id, peers_address }
}

fn founder_entry(founder: &Founder) -> bateau_log::Founder {
    bateau_log::Founder {
        node: founder.node,
        address: founder.peers_address.to_string(),
        founding_id: founder.founding_id,
    }
}

fn registration(settings: &EngineSettings, boot_epoch: u64) -> NodeRegistration {
    NodeRegistration {
        node: settings.node_id,
        boot: BootEpoch { epoch: boot_epoch, start_id: settings.entropy.number() },
        rack: settings.rack.clone(),
        listeners: settings.listeners.clone(),
    }
}

fn open_failure(error: OpenError) -> Failure {
    let exit = match &error {
        OpenError::Locked { .. } => Exit::NotFoundOrHeld,
        OpenError::OtherNode { .. }
        | OpenError::NewerFormat { .. }
        | OpenError::Corrupt { .. }
        | OpenError::MetaLogLost => Exit::Refused,
        OpenError::Io { .. } => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

fn thread_failure(error: std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("a thread cannot be started: {error}"))
}
