//! What a test may do to the nodes of one process, from any thread.
//!
//! ```text
//!   test, HTTP door ──ClusterControl──┬─ each NodeControl: clock, restart, crash, kill
//!                                     ├─ pauses: a node's thread stands still
//!                                     └─ Wires: ways are cut, delayed, restored
//! ```
//!
//! Invariants
//! - A handle keeps no node alive; of a cluster that is gone every node is unknown.
//! - Who stands still or was killed is passed over where all nodes are meant.
//!
//! Absent on purpose: faults of single requests, which are planned at the
//! [`Controls`](crate::controls::Controls) that all nodes share.

use super::thread::Pause;
use crate::api::Broker;
use crate::entropy::Entropy;
use crate::node::{ControlError, DrainedRecord, NodeControl, drain};
use crate::partition::PartitionView;
use crate::peers::Wires;
use bateau_protocol::ids::NodeId;
use futures_util::future::try_join_all;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// How long what a test has asked for may take, before it is told that it does not come about.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long an advance waits until what became due is committed, where there is no majority.
const COMMIT_PATIENCE: Duration = Duration::from_secs(2);
/// Apart from the sequences of the nodes.
const SHUFFLE_SEED: u64 = 0x5348_5546;

/// A handle on the nodes of one process. Cheap to clone.
#[derive(Clone)]
pub struct ClusterControl {
    shared: Arc<Shared>,
}

struct Shared {
    wires: Wires,
    nodes_count: usize,
    /// What shuffles.
    pub entropy: Entropy,
    members: Mutex<BTreeMap<NodeId, Member>>,
}

struct Member {
    control: NodeControl,
    /// `None`: its thread is not its own.
    pauses: Option<mpsc::Sender<Pause>>,
    /// While it stands still; dropping it ends that.
    pause: Option<std::sync::mpsc::Sender<()>>,
}

impl std::fmt::Debug for ClusterControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterControl").field("nodes", &self.shared.nodes_count).finish()
    }
}

impl ClusterControl {
    /// Of nodes that are not there yet.
    pub(super) fn new(nodes_count: usize, seed: Option<u64>) -> Self {
        let entropy = match seed {
            Some(seed) => Entropy::seeded(seed ^ SHUFFLE_SEED),
            None => Entropy::system(),
        };
        let (wires, members) = (Wires::new(), Mutex::default());
        Self { shared: Arc::new(Shared { wires, nodes_count, entropy, members }) }
    }

    /// A node that is the only one of its process, on a thread that is not its own.
    #[must_use]
    pub fn alone(control: NodeControl) -> Self {
        let alone = Self::new(1, None);
        let member = Member { control, pauses: None, pause: None };
        alone.members().insert(member.control.node_id(), member);
        alone
    }

    pub(super) fn enter(&self, control: NodeControl, pauses: mpsc::Sender<Pause>) {
        let member = Member { control, pauses: Some(pauses), pause: None };
        self.members().insert(member.control.node_id(), member);
    }

    /// Knows nobody from now on, and lets everybody go on.
    pub(super) fn dismiss(&self) {
        self.members().clear();
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<NodeId, Member>> {
        self.shared.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ways between the nodes.
    #[must_use]
    pub fn wires(&self) -> &Wires {
        &self.shared.wires
    }

    /// How many nodes the cluster was made of.
    #[must_use]
    pub fn nodes_count(&self) -> usize {
        self.shared.nodes_count
    }

    /// A number between 0 and `below`, which is not 0.
    pub(super) fn draw(&self, below: usize) -> usize {
        usize::try_from(self.shared.entropy.number() % below.max(1) as u64).unwrap_or(0)
    }

    /// The nodes, in the order of their ids.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeControl> {
        self.members().values().map(|member| member.control.clone()).collect()
    }

    /// One node.
    ///
    /// Errors: [`ControlError::NoNode`].
    pub fn node(&self, node: NodeId) -> Result<NodeControl, ControlError> {
        let found = self.members().get(&node).map(|member| member.control.clone());
        found.ok_or(ControlError::NoNode { node, nodes_count: self.shared.nodes_count })
    }

    /// Those that serve, by their ids.
    pub(super) fn serving(&self) -> BTreeMap<NodeId, Broker> {
        let members = self.members();
        let running = members.iter().filter(|(_, member)| member.pause.is_none());
        running.filter_map(|(node, member)| Some((*node, member.control.broker()?))).collect()
    }

    /// Any one that serves.
    fn any(&self) -> Result<NodeControl, ControlError> {
        let serving = self.serving().into_keys().next();
        self.node(serving.ok_or(ControlError::NotRunning)?)
    }

    /// Makes a node stand still, as SIGSTOP does a process: it hears, says and times nothing, and
    /// what is sent to it waits. No more, where it does already.
    ///
    /// Errors: [`ControlError::NoNode`], [`ControlError::NotRunning`], [`ControlError::Refused`].
    pub async fn pause(&self, node: NodeId) -> Result<(), ControlError> {
        self.node(node)?;
        let (resume, until) = std::sync::mpsc::channel();
        let (stands, is_standing) = oneshot::channel();
        let pauses = {
            let mut members = self.members();
            let member = members.get_mut(&node).ok_or(ControlError::NotRunning)?;
            if member.pause.is_some() {
                return Ok(());
            }
            let alone = || "this node has no thread of its own; start it with --nodes".to_owned();
            let pauses = member.pauses.clone().ok_or_else(|| ControlError::Refused(alone()))?;
            member.pause = Some(resume);
            pauses
        };
        let pause = Pause { stands, until };
        pauses.send(pause).await.map_err(|_| ControlError::NotRunning)?;
        is_standing.await.map_err(|_| ControlError::NotRunning)
    }

    /// Lets a node go on that stands still; its timers find that it is late.
    ///
    /// Errors: [`ControlError::NoNode`].
    pub fn resume(&self, node: NodeId) -> Result<(), ControlError> {
        self.node(node)?;
        if let Some(member) = self.members().get_mut(&node) {
            member.pause = None;
        }
        Ok(())
    }

    pub(super) fn resume_all(&self) {
        self.members().values_mut().for_each(|member| member.pause = None);
    }

    /// Ends a node as `kill -9` ends a process; see [`NodeControl::kill`]. One that stands still
    /// is ended all the same.
    ///
    /// Errors: [`ControlError::NoNode`], or as of [`NodeControl::kill`].
    pub async fn kill(&self, node: NodeId) -> Result<(), ControlError> {
        let control = self.node(node)?;
        let stands = self.members().get(&node).is_some_and(|member| member.pause.is_some());
        if stands {
            return control.kill_standing(|| drop(self.resume(node))).await;
        }
        control.kill().await
    }

    /// Drains a node, stops it and starts it again; one that was killed only starts.
    ///
    /// Errors: [`ControlError::NoNode`], or as of [`NodeControl::restart`].
    pub async fn restart(&self, node: NodeId) -> Result<(), ControlError> {
        self.resume(node)?;
        self.node(node)?.restart().await
    }

    /// Cuts the power of a node and starts it again: what was not flushed there is lost.
    ///
    /// Errors: [`ControlError::NoNode`], or as of [`NodeControl::crash`].
    pub async fn crash(&self, node: NodeId) -> Result<(), ControlError> {
        self.resume(node)?;
        self.node(node)?.crash().await
    }

    /// Cuts the power of all nodes at once and starts them again.
    ///
    /// Errors: as of [`crash`](Self::crash).
    pub async fn crash_all(&self) -> Result<(), ControlError> {
        self.resume_all();
        let nodes = self.nodes();
        try_join_all(nodes.iter().map(NodeControl::crash)).await?;
        Ok(())
    }

    /// From now on nothing passes from one node to another. The way back is as it was.
    ///
    /// Errors: [`ControlError::NoNode`]; [`ControlError::Refused`] from a node to itself.
    pub fn cut_link(&self, from: NodeId, to: NodeId) -> Result<(), ControlError> {
        self.way(from, to)?.cut(from, to);
        Ok(())
    }

    /// From now on what passes from one node to another comes so much later.
    ///
    /// Errors: as of [`cut_link`](Self::cut_link).
    pub fn delay_link(&self, from: NodeId, to: NodeId, by: Duration) -> Result<(), ControlError> {
        self.way(from, to)?.delay(from, to, by);
        Ok(())
    }

    /// The way from one node to another is open and fast again.
    ///
    /// Errors: as of [`cut_link`](Self::cut_link).
    pub fn restore_link(&self, from: NodeId, to: NodeId) -> Result<(), ControlError> {
        self.way(from, to)?.restore(from, to);
        Ok(())
    }

    fn way(&self, from: NodeId, to: NodeId) -> Result<&Wires, ControlError> {
        self.node(from)?;
        self.node(to)?;
        if from == to {
            let reason = format!("there is no link from node {from} to itself");
            return Err(ControlError::Refused(reason));
        }
        Ok(&self.shared.wires)
    }

    /// Makes a topic; every node that serves knows when this returns who leads its partitions.
    ///
    /// Errors: [`ControlError::NotCreated`], [`ControlError::NotRunning`].
    pub async fn seed_topic(&self, topic: &str, partitions: u32) -> Result<(), ControlError> {
        self.any()?.seed_topic(topic, partitions).await?;
        for broker in self.serving().into_values() {
            let is_led = broker.router().until(|directory| {
                directory.topic(topic).is_some_and(|topic| {
                    let mut logs = topic.partitions.iter().map(|part| part.incarnation);
                    logs.all(|log| directory.leader(log).is_some())
                })
            });
            // A node that hears of nobody is told of no topic.
            let _ = tokio::time::timeout(PATIENCE, is_led).await;
        }
        Ok(())
    }

    /// All records of a topic that are committed now, as the leaders have them; see
    /// [`NodeControl::drain_topic`].
    ///
    /// Errors: as there.
    pub async fn drain_topic(
        &self,
        topic: &str,
        bytes_max: usize,
    ) -> Result<Vec<DrainedRecord>, ControlError> {
        let brokers: Vec<Broker> = self.serving().into_values().collect();
        self.until_led(topic).await?;
        drain(&brokers, topic, bytes_max).await
    }

    /// Moves the clocks of all nodes; see [`NodeControl::advance`]. What became due is committed
    /// where a majority serves. The clock of a node that does not serve has moved when it does.
    ///
    /// Errors: as there.
    pub async fn advance(&self, by: Duration) -> Result<(), ControlError> {
        let serving = self.serving();
        if serving.is_empty() {
            return Err(ControlError::NotRunning);
        }
        for control in self.nodes() {
            if serving.contains_key(&control.node_id()) {
                control.advance(by).await?;
            } else {
                control.move_clock(by)?;
            }
        }
        if self.shared.nodes_count > 1 {
            // Without a majority it stays as it is.
            let _ = tokio::time::timeout(COMMIT_PATIENCE, self.until_committed()).await;
        }
        Ok(())
    }

    /// Waits until all that leaders have appended is committed.
    async fn until_committed(&self) {
        for broker in self.serving().into_values() {
            let changed = Arc::new(Notify::new());
            for view in broker.directory().views() {
                loop {
                    view.park(&changed);
                    if is_committed(view) {
                        break;
                    }
                    changed.notified().await;
                }
            }
        }
    }

    /// Waits until no request is being served and all that they led to is flushed; see
    /// [`NodeControl::wait_until_idle`]. Requests on a node that stands still are waited for.
    ///
    /// Errors: as there.
    pub async fn wait_until_idle(&self) -> Result<(), ControlError> {
        loop {
            for broker in self.serving().into_keys() {
                self.node(broker)?.wait_until_idle().await?;
            }
            if self.any()?.is_idle() {
                return Ok(());
            }
        }
    }
}

/// Whether nothing is under way in a partition that is led here.
fn is_committed(view: &PartitionView) -> bool {
    view.leader_term().is_none() || view.committed() >= view.reader().bounds().last_index
}
