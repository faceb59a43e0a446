//! A node as a value: started, restarted and stopped in whatever process it lives.
//!
//! ```text
//!   open ─ bind, Engine::open ─> until_ready ─> serve ─(NodeControl: restart)─> drain ─> stop
//! ```
//!
//! Nothing here touches signals, the standard streams or the process's exit, and nothing is
//! global: any number of nodes live side by side.
//!
//! Invariants
//! - Listeners are bound before anything is recovered, and accept only once the node is ready. The
//!   HTTP door alone answers from then on until the node has stopped: somebody must say how it is.
//! - A restart keeps clock, controls, ports and identity; a crash loses what was not flushed.
//! - After [`Node::stop`] no thread, no socket and no lock of the node is left.
//!
//! Absent on purpose: a second shard's thread. One current-thread runtime carries everything but
//! the disk thread and the read thread.

mod control;
mod doors;
mod drain;
mod engine_task;
mod mortal;
mod settings;
mod store;

pub use control::{ControlError, NodeControl, NodeState};
pub use doors::{Addresses, DoorContext, DoorTask, Ports};
pub use drain::DrainedRecord;
pub(crate) use drain::drain;
pub use mortal::MortalStore;
pub(crate) use settings::data_dir_options;
pub use store::{DirectoryStore, Store};

use crate::api::Broker;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::controls::Controls;
use crate::doors::http::HttpDoor;
use crate::engine::{Engine, Opened, Starting, meet};
use crate::entropy::Entropy;
use crate::exit::{Exit, Failure};
use crate::local_cluster::ClusterControl;
use crate::peers::{Transport, Wires};
use crate::router::Directory;
use crate::tls::{Tls, Watch};
use bateau_log::{RealDiskOptions, RecoveryProgress};
use bateau_quic::SpkiPin;
use control::{Command, Keeper};
use doors::{Doors, bind_http, end_of, transport};
use engine_task::EngineTask;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a node that leads nothing any more goes on telling its clients so: whoever is told goes
/// on elsewhere at once, whoever loses its connection waits before it asks again.
const LEFT_GRACE: Duration = Duration::from_millis(300);
/// How long the HTTP door may go on answering when everything else has stopped.
const HTTP_GRACE: Duration = Duration::from_millis(500);
/// How long a restart waits for the ports that it has just left.
const PORTS_FREE: Duration = Duration::from_secs(5);
/// Between two looks at them.
const PORTS_PAUSE: Duration = Duration::from_millis(5);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The checked configuration.
    pub config: Config,
    /// Where its data lives.
    pub store: Arc<dyn Store>,
    /// Its time.
    pub clock: Clock,
    /// Where its ids come from.
    pub entropy: Entropy,
    /// What a test may do to it; `None` outside of tests.
    pub controls: Option<Arc<Controls>>,
    /// How far its recovery is.
    pub recovery: Arc<RecoveryProgress>,
    /// Whether it may listen on other ports than the configured ones.
    pub ports: Ports,
    /// The nodes of this process that it makes a cluster with; `None` where it has no such company.
    pub company: Option<ClusterControl>,
}

impl NodeSettings {
    /// A node of a process of its own: the configured directory, real time, no controls.
    #[must_use]
    pub fn of(config: Config) -> Self {
        let path = config.node.data_dir.clone();
        let (exclusive, ephemeral) = (config.node.data_dir_exclusive, config.ephemeral);
        let options = RealDiskOptions { exclusive, ephemeral };
        let store = Arc::new(DirectoryStore { path, options });
        let (clock, entropy) = (Clock::new(), Entropy::system());
        let recovery = Arc::default();
        let (controls, ports, company) = (None, Ports::Given, None);
        Self { config, store, clock, entropy, controls, recovery, ports, company }
    }
}

/// A node.
#[derive(Debug)]
pub struct Node {
    settings: NodeSettings,
    addresses: Addresses,
    keeper: Keeper,
    /// Between the binding and the start.
    bound: Option<Doors>,
    running: Option<Running>,
    /// It has been killed, and waits to be started again.
    is_killed: bool,
    http: Option<DoorTask>,
    encryption: Option<Encryption>,
    /// Without `[tls]`, what the native door encrypts with.
    identity: Option<Tls>,
}

/// What `[tls]` gives the doors, over all restarts.
struct Encryption {
    tls: Tls,
    /// Held, for it ends when it is dropped.
    _watch: Watch,
}

struct Running {
    engine: EngineTask,
    starting: Starting,
    bound: Option<Doors>,
    doors: Vec<DoorTask>,
    /// The cluster began with this start.
    is_founding: bool,
    /// Open from before the founding until the node has stopped.
    peers: Option<DoorTask>,
}

impl Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("doors", &self.doors).finish_non_exhaustive()
    }
}

impl Node {
    /// Opens a node and waits until it answers. To be called inside of a current-thread runtime
    /// with time and sockets; its tasks live there.
    ///
    /// Errors: a port that is taken (exit code 3), a directory that is held (3) or refused (4),
    /// or what else failed. Nothing is left running then.
    pub async fn start(settings: NodeSettings) -> Result<Self, Failure> {
        let mut node = Self::open(settings).await?;
        if let Err(failure) = node.until_ready().await {
            // The first failure is the one to tell.
            let _ = node.stop().await;
            return Err(failure);
        }
        Ok(node)
    }

    /// Binds the doors, opens the data and starts the engine. Doors do not answer yet.
    ///
    /// Errors: as of [`Node::start`].
    pub async fn open(settings: NodeSettings) -> Result<Self, Failure> {
        let mut node = Self::bind(settings)?;
        if let Err(failure) = node.begin().await {
            // The first failure is the one to tell.
            let _ = node.stop().await;
            return Err(failure);
        }
        Ok(node)
    }

    /// Binds the doors and nothing else. Of them the HTTP door answers from now on. To be called
    /// inside of a runtime.
    ///
    /// Errors: a port that is taken (exit code 3), or TLS that cannot be used.
    pub fn bind(mut settings: NodeSettings) -> Result<Self, Failure> {
        let encryption = Encryption::of_config(&settings.config)?;
        let tls = encryption.as_ref().map(|encryption| &encryption.tls);
        let http = bind_http(&settings.config, tls, settings.ports)?;
        let mut doors = Doors::bind(&settings.config, tls, settings.ports)?;
        doors.find_company(&settings);
        let address = http.as_ref().map(HttpDoor::local_address);
        let addresses = Addresses { http: address, ..doors.addresses() };
        addresses.keep_in(&mut settings.config);
        let keeper = Keeper::new(&settings, addresses);
        let control = keeper.control();
        let http = http.map(|door| DoorTask::spawn("http", |stop| door.run(control, stop)));
        let (bound, running, is_killed) = (Some(doors), None, false);
        let identity = None;
        Ok(Self {
            settings,
            addresses,
            keeper,
            bound,
            running,
            is_killed,
            http,
            encryption,
            identity,
        })
    }

    /// Opens the data and starts the engine of a node that is bound: it meets the other founders,
    /// where there are any.
    ///
    /// Errors: as of [`Node::start`]; it is to be stopped then.
    pub async fn begin(&mut self) -> Result<(), Failure> {
        let doors = self.bound.take().ok_or_else(stopped)?;
        self.running = Some(self.run(doors).await?);
        Ok(())
    }

    /// Waits until the cluster is founded, this node is in it and all of its partitions are led;
    /// then opens the doors.
    ///
    /// Errors: the cluster refuses this node (exit code 4), or the engine failed.
    pub async fn until_ready(&mut self) -> Result<(), Failure> {
        let running = self.running.as_mut().ok_or_else(stopped)?;
        tokio::select! {
            ready = running.starting.until_ready() => ready?,
            failure = running.engine.failed() => return Err(failure),
        }
        let broker = running.starting.broker.clone();
        if let Some(company) = &self.settings.company
            && running.is_founding
        {
            // A topic that is made now would have fewer replicas than the nodes to come allow.
            let nodes_count = company.nodes_count();
            let has_all = |directory: &Directory| directory.metadata.nodes().len() >= nodes_count;
            tokio::select! {
                () = broker.router().until(has_all) => {}
                failure = running.engine.failed() => return Err(failure),
            }
        }
        let native_tls = self.native_tls()?;
        if let Some(running) = self.running.as_mut()
            && let Some(bound) = running.bound.take()
        {
            let (controls, node) = (self.settings.controls.clone(), self.keeper.control());
            let context = DoorContext { broker: broker.clone(), controls, node, native_tls };
            running.doors = bound.open(&context);
        }
        self.keeper.say(NodeState::Ready, Some(broker));
        Ok(())
    }

    /// Recovers and starts everything but the doors of clients.
    async fn run(&mut self, doors: Doors) -> Result<Running, Failure> {
        let mut opened = recover(&self.settings, &doors).await?;
        // From now on the directory is ours, and no other process makes a key in it.
        let native = self.native_tls()?.filter(|_| self.encryption.is_none());
        if let Some(made) = native {
            opened.register_native_key(made.pin());
        }
        let tls = self.encryption.as_ref().map(|encryption| &encryption.tls);
        let wires = self.settings.company.as_ref().map(ClusterControl::wires);
        Running::begin(opened, doors, transport(tls), wires.cloned()).await
    }

    /// What the native door encrypts with: the files of `[tls]`, else a certificate of the node's
    /// own, kept in its directory where it has one. `None` where the door is off.
    fn native_tls(&mut self) -> Result<Option<Tls>, Failure> {
        if self.addresses.native.is_none() {
            return Ok(None);
        }
        if let Some(encryption) = &self.encryption {
            return Ok(Some(encryption.tls.clone()));
        }
        if self.identity.is_none() {
            let made = match self.settings.store.directory() {
                Some(directory) => Tls::generated(directory)
                    .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?,
                None => Tls::in_memory(),
            };
            self.identity = Some(made);
        }
        Ok(self.identity.clone())
    }

    /// The pin of the key that the native door shows; `None` where that is off, or before the node
    /// is ready.
    #[must_use]
    pub fn native_pin(&self) -> Option<SpkiPin> {
        self.addresses.native?;
        let given = self.encryption.as_ref().map(|encryption| &encryption.tls);
        given.or(self.identity.as_ref()).map(Tls::pin)
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What it was started with; the ports are those that it got.
    #[must_use]
    pub fn settings(&self) -> &NodeSettings {
        &self.settings
    }

    /// What doors ask. `None` while it does not run.
    #[must_use]
    pub fn broker(&self) -> Option<&Broker> {
        self.running.as_ref().map(|running| &running.starting.broker)
    }

    /// A handle for whoever controls this node from elsewhere; it works while [`Node::serve`]
    /// runs.
    #[must_use]
    pub fn control(&self) -> NodeControl {
        self.keeper.control()
    }

    /// Serves, and does what [`NodeControl`] asks for, until something fails. May be dropped at
    /// any time, and called again.
    pub async fn serve(&mut self) -> Failure {
        loop {
            let command = match self.running.as_mut() {
                Some(running) => tokio::select! {
                    // Whoever is to be killed may have lost its disk already.
                    biased;
                    command = self.keeper.next_command() => command,
                    failure = running.engine.failed() => return failure,
                },
                None if self.is_killed => self.keeper.next_command().await,
                None => return stopped(),
            };
            let (done, reply) = match command {
                Command::Restart(reply) => (self.restart().await, reply),
                Command::Crash(reply) => match self.settings.store.cut_power() {
                    Ok(()) => (self.crash().await, reply),
                    Err(reason) => {
                        let _ = reply.send(Err(ControlError::Refused(reason)));
                        continue;
                    }
                },
                Command::Kill(reply) => {
                    let _ = reply.send(self.kill().await.map_err(ControlError::Refused));
                    continue;
                }
            };
            let answer = done.clone();
            let answer = answer.map_err(|failure| ControlError::NotStarted(failure.message));
            // Whoever asked may have gone away.
            let _ = reply.send(answer);
            if let Err(failure) = done {
                return failure;
            }
        }
    }

    /// Gives the leaderships away, lets requests that run end, for `grace` at most in all, and
    /// accepts nothing more.
    pub async fn drain(&mut self, grace: Duration) {
        let Some(running) = self.running.as_mut() else { return };
        let broker = running.starting.broker.clone();
        self.refuse_clients();
        let deadline = end_of(grace);
        if tokio::time::timeout(grace / 2, broker.leave()).await.is_err() {
            tracing::warn!("some leaderships could not be given away: others will elect");
        }
        if broker.directory().metadata.nodes().len() > 1 {
            tokio::time::sleep(LEFT_GRACE.min(grace / 4)).await;
        }
        self.finish_requests(deadline).await;
    }

    /// Accepts nobody more, for this node is to stop.
    pub fn refuse_clients(&mut self) {
        let Some(running) = self.running.as_mut() else { return };
        let broker = running.starting.broker.clone();
        self.keeper.say(NodeState::Stopping, Some(broker));
        running.doors.iter().for_each(DoorTask::close);
    }

    /// Lets requests that run end, until `deadline`, after [`Node::refuse_clients`]. Where all
    /// nodes of a cluster stop together this is their drain: nobody is left to lead instead.
    pub async fn finish_requests(&mut self, deadline: Instant) {
        let Some(running) = self.running.as_mut() else { return };
        for door in &mut running.doors {
            door.drain(deadline).await;
        }
        running.doors.clear();
    }

    /// Closes every connection, makes the closing flush and ends the node's threads.
    ///
    /// Errors: what failed at the end, or before and was not told by [`Node::serve`] yet.
    pub async fn stop(mut self) -> Result<(), Failure> {
        let ended = self.halt().await;
        self.close_http().await;
        ended
    }

    async fn close_http(&mut self) {
        if let Some(mut door) = self.http.take() {
            door.close();
            door.drain(end_of(HTTP_GRACE)).await;
        }
    }

    /// Drains within the configured grace, stops and starts again, on the same ports. Whoever was
    /// killed only starts.
    async fn restart(&mut self) -> Result<(), Failure> {
        let grace = Duration::from_millis(self.settings.config.node.shutdown_grace_ms);
        self.drain(grace).await;
        self.halt().await?;
        self.reopen().await
    }

    /// Starts again after the power was cut.
    async fn crash(&mut self) -> Result<(), Failure> {
        // It fails, for its disk is gone.
        let _ = self.halt().await;
        self.reopen().await
    }

    /// Ends everything at once. Nothing more is written, and no door answers.
    async fn kill(&mut self) -> Result<(), String> {
        self.settings.store.kill()?;
        if let Some(controls) = &self.settings.controls {
            controls.set_dead(true);
        }
        // It fails, for its disk is gone.
        let _ = self.halt().await;
        if let Some(mut http) = self.http.take() {
            http.cut().await;
        }
        self.is_killed = true;
        Ok(())
    }

    async fn halt(&mut self) -> Result<(), Failure> {
        self.keeper.say(NodeState::Stopping, None);
        self.bound = None;
        let Some(running) = self.running.as_mut() else { return Ok(()) };
        for door in &mut running.doors {
            door.cut().await;
        }
        running.bound = None;
        let ended = running.engine.stop().await;
        if let Some(peers) = &mut running.peers {
            peers.cut().await;
        }
        self.running = None;
        ended
    }

    async fn reopen(&mut self) -> Result<(), Failure> {
        self.keeper.say(NodeState::Starting, None);
        let tls = self.encryption.as_ref().map(|encryption| &encryption.tls);
        let config = &self.settings.config;
        if self.http.is_none() {
            let http = bind_again(|| bind_http(config, tls, Ports::Given)).await?;
            let control = self.keeper.control();
            self.http = http.map(|door| DoorTask::spawn("http", |stop| door.run(control, stop)));
        }
        let mut doors = bind_again(|| Doors::bind(config, tls, Ports::Given)).await?;
        doors.find_company(&self.settings);
        self.is_killed = false;
        if let Some(controls) = &self.settings.controls {
            controls.set_dead(false);
        }
        self.running = Some(self.run(doors).await?);
        self.until_ready().await
    }
}

impl Running {
    /// Meets the other founders where there are any, and starts the engine.
    async fn begin(
        opened: Opened,
        mut doors: Doors,
        transport: Transport,
        wires: Option<Wires>,
    ) -> Result<Self, Failure> {
        let mut cluster = opened.cluster(transport);
        if let Some(wires) = wires {
            cluster.peers().use_wires(wires);
        }
        let is_founding = !cluster.node().is_founded();
        let mut peers = doors.open_peers(cluster.peers().events());
        let engine = match meet_and_start(opened, cluster).await {
            Ok(engine) => engine,
            Err(failure) => {
                if let Some(peers) = &mut peers {
                    peers.cut().await;
                }
                return Err(failure);
            }
        };
        let (running, starting) = engine.into_parts();
        let engine = EngineTask::spawn(running);
        let (bound, doors) = (Some(doors), Vec::new());
        Ok(Self { engine, starting, bound, doors, is_founding, peers })
    }
}

/// Recovers on a thread of its own, so that the HTTP door answers meanwhile.
async fn recover(settings: &NodeSettings, doors: &Doors) -> Result<Opened, Failure> {
    let store = Arc::clone(&settings.store);
    let disk = off_the_loop(move || store.open()).await?;
    let disk = disk.map_err(|reason| Failure::new(Exit::Failed, reason))?;
    let engine_settings = settings::of_engine(settings, doors, &*disk);
    let recovery = Arc::clone(&settings.recovery);
    off_the_loop(move || Opened::open(disk, engine_settings, &recovery)).await?
}

async fn meet_and_start(opened: Opened, mut cluster: Cluster) -> Result<Engine, Failure> {
    let opened = meet(opened, &mut cluster).await?;
    off_the_loop(move || Engine::start(opened, cluster)).await?
}

/// Runs what waits for a disk on a thread of its own.
async fn off_the_loop<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|panic| Failure::new(Exit::Failed, format!("the recovery panicked: {panic}")))
}

impl Encryption {
    fn of_config(config: &Config) -> Result<Option<Self>, Failure> {
        let tls = Tls::of_config(config);
        let tls = tls.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        Ok(tls.map(|tls| Self { _watch: tls.watch(config), tls }))
    }
}

impl Debug for Encryption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encryption").finish_non_exhaustive()
    }
}

/// Binds ports that this node has just left. QUIC's is free only once the connections that it had
/// are forgotten, a few round trips after they were closed.
async fn bind_again<T>(bind: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
    let until = end_of(PORTS_FREE);
    loop {
        match bind() {
            Err(failure) if failure.exit == Exit::NotFoundOrHeld && Instant::now() < until => {
                tokio::time::sleep(PORTS_PAUSE).await;
            }
            bound => return bound,
        }
    }
}

fn stopped() -> Failure {
    Failure::new(Exit::Failed, "the node does not run")
}
