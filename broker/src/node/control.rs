//! A node as its tests see it from elsewhere: another thread, or the node's own HTTP door.
//!
//! Invariants: a handle never keeps a node alive; what it asks of one that is gone fails.
//!
//! Absent on purpose: faults of single requests, which are planned at the [`Controls`].

use super::drain::{DrainedRecord, drain};
use super::{Addresses, NodeSettings, Store};
use crate::api::Broker;
use crate::clock::{ADVANCED_MS_MAX, Clock};
use crate::controls::Controls;
use crate::local_cluster::ClusterControl;
use bateau_core::controller::{CreateTopics, NewTopic};
use bateau_log::RecoveryProgress;
use bateau_protocol::ids::NodeId;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that may wait for a node before their askers wait.
const COMMANDS_MAX: usize = 16;
/// How long the making of a topic may take, in milliseconds.
const CREATE_TIMEOUT_MS: u64 = 10_000;

/// Where a node stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// It recovers, or waits for its partitions to be led.
    Starting,
    /// Its doors answer.
    Ready,
    /// It drains or has stopped; a restart passes through this.
    Stopping,
}

/// Why a node did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ControlError {
    /// It cannot.
    #[error("{0}")]
    Refused(String),
    /// It stopped and did not come up again; it is gone.
    #[error("the node did not start again: {0}")]
    NotStarted(String),
    /// It is starting, stopping or gone.
    #[error("the node does not run at present")]
    NotRunning,
    /// There is no such node.
    #[error("there is no node {node} here; the nodes are 1 to {nodes_count}")]
    NoNode {
        /// Its id.
        node: NodeId,
        /// How many there are.
        nodes_count: usize,
    },
    /// There is no such topic.
    #[error("there is no topic {topic:?}")]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// The cluster said no.
    #[error("topic {topic:?} was not created: {reason}")]
    NotCreated {
        /// Its name.
        topic: String,
        /// Why.
        reason: String,
    },
}

type Answer = oneshot::Sender<Result<(), ControlError>>;

/// What a node is told to do by [`Node::serve`](super::Node::serve)'s caller's friends.
#[derive(Debug)]
pub(super) enum Command {
    Restart(Answer),
    Crash(Answer),
    Kill(Answer),
}

#[derive(Clone)]
struct Status {
    state: NodeState,
    broker: Option<Broker>,
}

/// The node's own side.
pub(super) struct Keeper {
    control: NodeControl,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("state", &self.status.borrow().state).finish()
    }
}

impl Keeper {
    pub fn new(settings: &NodeSettings, addresses: Addresses) -> Self {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let (status, seen) = watch::channel(Status { state: NodeState::Starting, broker: None });
        let control = NodeControl {
            node_id: settings.config.node.id,
            store: Arc::clone(&settings.store),
            company: settings.company.clone(),
            commands: sender,
            status: seen,
            addresses,
            clock: settings.clock.clone(),
            seed: settings.entropy.seed(),
            controls: settings.controls.clone(),
            recovery: Arc::clone(&settings.recovery),
        };
        Self { control, commands, status }
    }

    pub fn control(&self) -> NodeControl {
        self.control.clone()
    }

    pub fn say(&self, state: NodeState, broker: Option<Broker>) {
        self.status.send_replace(Status { state, broker });
    }

    pub async fn next_command(&mut self) -> Command {
        match self.commands.recv().await {
            Some(command) => command,
            // The keeper has a handle of its own, so the channel never closes.
            None => std::future::pending().await,
        }
    }
}

/// A handle on a node. Cheap to clone, usable on any thread. What waits for the node's answer
/// resolves while somebody runs [`Node::serve`](super::Node::serve).
#[derive(Clone)]
pub struct NodeControl {
    node_id: NodeId,
    store: Arc<dyn Store>,
    company: Option<ClusterControl>,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    addresses: Addresses,
    clock: Clock,
    seed: Option<u64>,
    controls: Option<Arc<Controls>>,
    recovery: Arc<RecoveryProgress>,
}

impl std::fmt::Debug for NodeControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeControl").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl NodeControl {
    /// Which node it is.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// All nodes of this process that make a cluster with it; itself, where it has no company.
    #[must_use]
    pub fn cluster(&self) -> ClusterControl {
        self.company.clone().unwrap_or_else(|| ClusterControl::alone(self.clone()))
    }

    /// Where the node stands.
    #[must_use]
    pub fn state(&self) -> NodeState {
        self.status.borrow().state
    }

    /// Waits until the node stands there. `Err`: it is gone.
    pub async fn until(&self, state: NodeState) -> Result<(), ControlError> {
        let mut status = self.status.clone();
        let reached = status.wait_for(|status| status.state == state).await;
        reached.map(drop).map_err(|_| ControlError::NotRunning)
    }

    /// How far the recovery is, or the last one was.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryProgress {
        &self.recovery
    }

    /// What doors ask; `None` unless the node is ready or draining.
    #[must_use]
    pub fn broker(&self) -> Option<Broker> {
        self.status.borrow().broker.clone()
    }

    /// Where the node listens; the same over all of its restarts.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The node's time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What repeats the ids of this run; `None` where they come from the operating system.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// What a test may do to requests; `None` outside of tests.
    #[must_use]
    pub fn controls(&self) -> Option<&Arc<Controls>> {
        self.controls.as_ref()
    }

    /// Moves the node's clock; see [`Broker::advance`].
    ///
    /// Errors: [`ControlError::NotRunning`]; [`ControlError::Refused`] beyond
    /// [`ADVANCED_MS_MAX`] in all.
    pub async fn advance(&self, by: Duration) -> Result<(), ControlError> {
        self.check_advance(by)?;
        let broker = self.broker().ok_or(ControlError::NotRunning)?;
        broker.advance(by).await.ok_or(ControlError::NotRunning)
    }

    /// Moves the clock of a node that does not serve; what is due happens when it does.
    ///
    /// Errors: as of [`advance`](Self::advance).
    pub(crate) fn move_clock(&self, by: Duration) -> Result<(), ControlError> {
        self.check_advance(by)?;
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.clock.advance_to(self.clock.advanced_ms().saturating_add(by_ms));
        Ok(())
    }

    fn check_advance(&self, by: Duration) -> Result<(), ControlError> {
        let in_all = self.clock.advanced().saturating_add(by);
        if in_all > Duration::from_millis(ADVANCED_MS_MAX) {
            let (found, years) = (in_all.as_secs(), ADVANCED_MS_MAX / (365 * 24 * 3_600_000));
            let reason = format!(
                "the clock would be {found} s ahead of real time; at most {years} years are allowed"
            );
            return Err(ControlError::Refused(reason));
        }
        Ok(())
    }

    /// Makes a topic and waits until its partitions are led.
    ///
    /// Errors: [`ControlError::NotCreated`], [`ControlError::NotRunning`].
    pub async fn seed_topic(&self, topic: &str, partitions: u32) -> Result<(), ControlError> {
        let broker = self.broker().ok_or(ControlError::NotRunning)?;
        let refused = |reason: String| ControlError::NotCreated { topic: topic.to_owned(), reason };
        let count = i32::try_from(partitions)
            .map_err(|_| refused(format!("{partitions} partitions are too many")))?;
        let new = NewTopic {
            name: topic.to_owned(),
            partition_count: count,
            replication_factor: -1,
            ..NewTopic::default()
        };
        let (topics, timeout_ms) = (vec![new], CREATE_TIMEOUT_MS);
        let request = CreateTopics { topics, timeout_ms, ..CreateTopics::default() };
        let results = broker.create_topics(request).await;
        let results = results.map_err(|error| refused(error.to_string()))?;
        let failed = results.into_iter().find_map(|result| result.result.err());
        failed.map_or(Ok(()), |error| Err(refused(error.to_string())))
    }

    /// All records of a topic that are committed now: partition by partition, in the order of their
    /// offsets. Nothing of the topic is changed, and no request is counted.
    ///
    /// - `bytes_max`: of all records.
    ///
    /// Errors: [`ControlError::NoTopic`]; [`ControlError::Refused`] where there is more than
    /// `bytes_max`, or a record cannot be read; [`ControlError::NotRunning`].
    pub async fn drain_topic(
        &self,
        topic: &str,
        bytes_max: usize,
    ) -> Result<Vec<DrainedRecord>, ControlError> {
        let broker = self.broker().ok_or(ControlError::NotRunning)?;
        drain(&[broker], topic, bytes_max).await
    }

    /// Waits until no request is being served and all that they led to is flushed. Requests that
    /// may wait for what others do (fetches, subscriptions, joins and syncs of groups) are not
    /// waited for; planned delays are.
    ///
    /// Errors: [`ControlError::Refused`] without controls; [`ControlError::NotRunning`].
    pub async fn wait_until_idle(&self) -> Result<(), ControlError> {
        let no_controls = || ControlError::Refused("this node has no controls".to_owned());
        let controls = self.controls.as_ref().ok_or_else(no_controls)?;
        loop {
            controls.until_idle().await;
            // Behind everything that is in the shard's inbox.
            self.advance(Duration::ZERO).await?;
            if controls.is_idle() {
                return Ok(());
            }
        }
    }

    /// Whether no request is being served, on any node that has the same controls.
    pub(crate) fn is_idle(&self) -> bool {
        self.controls.as_ref().is_none_or(|controls| controls.is_idle())
    }

    /// Drains the node, stops it and starts it again, on the same ports; one that was killed only
    /// starts. Doors of the Kafka and the native protocol close their connections; who asks
    /// through one of them gets no answer.
    ///
    /// Errors: it did not come up again and is gone, or was gone before.
    pub async fn restart(&self) -> Result<(), ControlError> {
        self.ask(Command::Restart).await
    }

    /// Cuts the power and starts the node again: what was not flushed is lost, and so are all
    /// connections.
    ///
    /// Errors: a store that cannot lose anything in a way that is known (it goes on running
    /// then), or as of [`restart`](Self::restart).
    pub async fn crash(&self) -> Result<(), ControlError> {
        self.ask(Command::Crash).await
    }

    /// Ends the node at once, as `kill -9` ends a process: nothing more is written, flushed or
    /// said, and no door answers. What was written stays. [`restart`](Self::restart) starts it.
    ///
    /// Errors: the node is not under test control, or gone.
    pub async fn kill(&self) -> Result<(), ControlError> {
        self.ask(Command::Kill).await
    }

    /// As [`kill`](Self::kill), for a node that stands still: what it does when it goes on does not
    /// reach its data.
    ///
    /// - `go_on`: lets it.
    pub(crate) async fn kill_standing(&self, go_on: impl FnOnce()) -> Result<(), ControlError> {
        // First, so that it is heard before the node finds its disk gone.
        let answer = self.order(Command::Kill).await?;
        let condemned = self.store.kill().map_err(ControlError::Refused);
        go_on();
        condemned?;
        answer.await.unwrap_or(Err(ControlError::NotRunning))
    }

    async fn ask(&self, command: impl FnOnce(Answer) -> Command) -> Result<(), ControlError> {
        let answer = self.order(command).await?;
        answer.await.unwrap_or(Err(ControlError::NotRunning))
    }

    async fn order(
        &self,
        command: impl FnOnce(Answer) -> Command,
    ) -> Result<oneshot::Receiver<Result<(), ControlError>>, ControlError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(command(reply)).await;
        sent.map_err(|_| ControlError::NotRunning)?;
        Ok(answer)
    }
}
