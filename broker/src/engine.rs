//! The node without its doors: data directory, recovery, shard, disk thread.
//!
//! ```text
//!   Opened::open ─ lock, IDENTITY, recovery ─> founded? ──no──> meet the other founders ─┐
//!                                                 └─yes─> Engine::start ─> run <─────────┘
//! ```
//!
//! Invariants
//! - Nothing is voted or acknowledged before recovery has flushed what it found.
//! - The same engine runs on the real disk and, in tests, on a simulated one.
//!
//! Absent on purpose: listeners, signals, the ready line.

mod meeting;
mod opening;

pub use meeting::meet;
pub(crate) use meeting::refused;
pub use opening::Opened;
pub(crate) use opening::failure_of_open;

use crate::api::{Broker, Durability, NodeInfo};
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::disk_worker::{self, Report};
use crate::entropy::Entropy;
use crate::exit::{Exit, Failure};
use crate::follower_reads::FollowerReads;
use crate::peers::Transport;
use crate::readers::{ColdReader, ReadThread};
use crate::router::{Directory, Router};
use crate::scrub::{Scrub, ScrubSettings};
use crate::shard::{Ask, Ended, INBOX_ASKS_MAX, ShardLoop, ShardParts};
use crate::trash::Trash;
use bateau_core::consumer_group::GroupSettings;
use bateau_core::controller::{BrokerSettings, Founder, FoundingPlan};
use bateau_core::controller::{ListenerAddress, NodeRegistration};
use bateau_core::node::{NodeEffect, NodeInput, Voter};
use bateau_core::replica::MetadataStart;
use bateau_core::shard::{Effects, REST_TICKS, RecoveredLog, Shard, ShardSettings};
use bateau_log::{DataDirOptions, Disk, Done, Identity, RecoveryProgress, RecoveryReport};
use bateau_protocol::ids::{Incarnation, NodeId};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A partition that has lost its majority must not keep a node from serving the others.
const LED_WAIT_MAX: Duration = Duration::from_secs(10);

/// What an engine is told.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// This node.
    pub node_id: NodeId,
    /// Its rack.
    pub rack: Option<Arc<str>>,
    /// The addresses that it registers, sorted by listener name.
    pub listeners: Vec<ListenerAddress>,
    /// The configured voters, this node among them.
    pub voters: Vec<Voter>,
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
    /// How everything is read once more; `None` where nobody does.
    pub scrub: Option<ScrubSettings>,
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
    scrub: Option<Scrub>,
    /// Behind everything that gives them work: without it they end.
    threads: Threads,
}

/// The threads of an engine. Dropped before they run, it waits for their end.
struct Threads(Option<(JoinHandle<()>, ReadThread)>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some((disk_thread, read_thread)) = self.0.take() {
            // Whoever began this start has given it up, so nobody is left to be told.
            let _ = (read_thread.join(), disk_thread.join());
        }
    }
}

impl Engine {
    /// Opens a node that is a cluster of its own, or a member of one already.
    ///
    /// Errors: [`Failure`] with the exit code of its cause; the directory is as it was, apart from
    /// what recovery itself may do.
    pub fn open(disk: Arc<dyn Disk>, settings: EngineSettings) -> Result<Self, Failure> {
        let mut opened = Opened::open(disk, settings, &RecoveryProgress::default())?;
        let mut cluster = opened.cluster(Transport::Plain);
        let now = opened.now();
        for effect in cluster.step(now) {
            if let NodeEffect::Found { founders } = effect {
                opened.found(founders)?;
                cluster.tell(NodeInput::Founded);
            }
        }
        cluster.step(now);
        Self::start(opened, cluster)
    }

    /// Starts what is open and founded: from here on it votes.
    ///
    /// Errors: the metadata cannot be used (exit code 4), or the system refuses a thread.
    pub fn start(opened: Opened, cluster: Cluster) -> Result<Self, Failure> {
        let Opened { disk, settings, cycle, identity, report, views, recovered, .. } = opened;
        let registration = opened.registration;
        let founders = opened.members;
        let mut effects = Effects::default();
        let shard = start_shard(&settings, &registration, founders, recovered, &mut effects)?;
        refuse_foreign_metadata(&shard, &identity)?;
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
        let reads = FollowerReads::new(cold.clone());
        let broker =
            Broker::new(node, Arc::clone(&router), ask, cold, clock.clone(), entropy, disk);
        let damage = Arc::clone(&broker.gauges().damage);
        let scrub = settings.scrub;
        let scrub = scrub.map(|settings| Scrub::spawn(settings, &router, Arc::clone(&damage)));
        let scrub = scrub.transpose().map_err(thread_failure)?;
        let shard_loop = ShardLoop::new(ShardParts {
            node_id,
            shard,
            effects,
            opened: views,
            cluster,
            router: Arc::clone(&router),
            disk: disk_queue,
            reads,
            trash: Trash::default(),
            damage,
            retention_check: settings.retention_check,
            clock,
        });
        Ok(Self {
            broker,
            report,
            router,
            registration,
            shard_loop,
            asks,
            disk_reports,
            scrub,
            threads: Threads(Some((disk_thread, read_thread))),
        })
    }

    /// Splits into the loop, to be run, and what waits for the node to be ready.
    #[must_use]
    pub fn into_parts(mut self) -> (RunningEngine, Starting) {
        let threads = self.threads.0.take();
        let (disk_thread, read_thread) = threads.expect("they are taken here and nowhere else");
        let starting =
            Starting { broker: self.broker, router: self.router, registration: self.registration };
        let running = RunningEngine {
            shard_loop: self.shard_loop,
            asks: self.asks,
            disk_reports: self.disk_reports,
            scrub: self.scrub,
            disk_thread,
            read_thread,
        };
        (running, starting)
    }
}

/// The loop of an open node.
pub struct RunningEngine {
    shard_loop: ShardLoop,
    asks: mpsc::Receiver<Ask>,
    disk_reports: mpsc::UnboundedReceiver<Report>,
    scrub: Option<Scrub>,
    disk_thread: JoinHandle<()>,
    read_thread: ReadThread,
}

impl RunningEngine {
    /// Runs until `stop` says so or something fails that stops the node, then makes the closing
    /// flush and waits for it and for the node's threads.
    ///
    /// Errors: what failed, in the operator's words, with its exit code.
    pub async fn run(self, stop: oneshot::Receiver<()>) -> Result<(), Failure> {
        let ended = self.shard_loop.run(self.asks, self.disk_reports, stop).await;
        // The loop held the last handle of the disk's queue: the thread closes and ends.
        let read_thread = self.read_thread.end().await;
        let closed = tokio::task::spawn_blocking(move || {
            drop(self.scrub);
            // What a reader panicked at, its caller has been told.
            let _ = read_thread.join();
            self.disk_thread.join()
        });
        let closed = closed.await;
        match (ended, closed) {
            (Ended::Failed(failure), _) => Err(failure),
            (Ended::Stopped, Ok(Ok(()))) => Ok(()),
            (Ended::Stopped, _) => Err(Failure::new(Exit::Failed, "the disk thread panicked")),
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
    /// the metadata places here is led or known to be damaged; for these ten seconds at most.
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
        let all_led = self.router.until(|directory| self.unled(directory).is_empty());
        if tokio::time::timeout(LED_WAIT_MAX, all_led).await.is_err() {
            let unled = self.unled(&self.router.directory());
            let (count, first) = (unled.len(), unled.first().map_or(0, |log| log.get()));
            tracing::warn!("{count} partitions here have no leader, {first:016x} for one");
        }
        Ok(())
    }

    /// Partitions that the metadata places here of which nobody knows yet how they are served.
    fn unled(&self, directory: &Directory) -> Vec<Incarnation> {
        let is_settled = |log| directory.view(log).is_some_and(|view| view.is_settled());
        let placed = directory.metadata.logs_on(self.registration.node);
        placed.filter(|log| !is_settled(*log)).collect()
    }
}

fn start_shard(
    settings: &EngineSettings,
    registration: &NodeRegistration,
    founders: Vec<Founder>,
    recovered: Vec<RecoveredLog>,
    effects: &mut Effects,
) -> Result<Shard, Failure> {
    let founding = FoundingPlan { founders, nodes: vec![registration.clone()] };
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
        rest_ticks: REST_TICKS,
    };
    Shard::start(shard_settings, recovered, settings.clock.now(), effects)
        .map_err(|error| Failure::new(Exit::Refused, error.to_string()))
}

fn refuse_foreign_metadata(shard: &Shard, identity: &Identity) -> Result<(), Failure> {
    if bateau_storage::is_of_directory(shard.metadata(), identity) {
        return Ok(());
    }
    let message = "the data directory holds the metadata of another cluster than its IDENTITY";
    Err(Failure::new(Exit::Refused, message))
}

fn thread_failure(error: std::io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("a thread cannot be started: {error}"))
}
