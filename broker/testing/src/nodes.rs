//! What a test does to single nodes of its broker, and to the ways between them.
//!
//! Nodes are named by their ids, 1 and on.
//!
//! Absent on purpose: adding and removing nodes.

use crate::broker::{TestBroker, TestBrokerError};
use bateau::api::Broker;
use bateau_protocol::ids::NodeId;
use std::time::Duration;

impl TestBroker {
    /// The ids of the nodes: 1, 2 and so on.
    pub fn nodes(&self) -> impl Iterator<Item = u64> + use<> {
        let nodes = self.all().nodes();
        nodes.into_iter().map(|node| node.node_id().get())
    }

    /// The engine of a node itself, past all doors and controls. `None` while it does not run, and
    /// for no such node.
    #[must_use]
    pub fn engine_of(&self, node: u64) -> Option<Broker> {
        self.all().node(NodeId::new(node)).ok()?.broker()
    }

    /// The node that leads a partition; `None` while none does that serves.
    ///
    /// Errors: there is no such topic or partition.
    pub fn leader(&self, topic: &str, partition: u32) -> Result<Option<u64>, TestBrokerError> {
        Ok(self.all().leader(topic, partition)?.map(NodeId::get))
    }

    /// Makes the replica on `node` lead a partition; when this returns, it does, and the others
    /// know.
    ///
    /// Errors: it has no replica there, or the node does not come to lead within 10 s.
    pub async fn move_leader(
        &self,
        topic: &str,
        partition: u32,
        node: u64,
    ) -> Result<(), TestBrokerError> {
        Ok(self.all().move_leader(topic, partition, NodeId::new(node)).await?)
    }

    /// Makes a node coordinate a consumer group.
    ///
    /// Errors: as of [`move_leader`](Self::move_leader).
    pub async fn move_coordinator(&self, group: &str, node: u64) -> Result<(), TestBrokerError> {
        Ok(self.all().move_coordinator(group, NodeId::new(node)).await?)
    }

    /// Makes another node lead, chosen by the seed, of every partition that can have another
    /// leader; the coordinators of groups move too.
    ///
    /// Errors: a node does not come to lead within 10 s.
    pub async fn shuffle_leaders(&self) -> Result<(), TestBrokerError> {
        Ok(self.all().shuffle_leaders().await?)
    }

    /// Makes a node stand still, as SIGSTOP does a process: nothing goes in or out, no timer fires,
    /// and what is sent to it waits. The others take it for dead soon.
    ///
    /// Errors: there is no such node, or it is gone.
    pub async fn pause(&self, node: u64) -> Result<(), TestBrokerError> {
        Ok(self.all().pause(NodeId::new(node)).await?)
    }

    /// Lets a node go on that stands still.
    ///
    /// Errors: there is no such node.
    pub fn resume(&self, node: u64) -> Result<(), TestBrokerError> {
        Ok(self.all().resume(NodeId::new(node))?)
    }

    /// Ends a node as `kill -9` ends a process: nothing more is written, flushed or said, what was
    /// written stays. [`restart_node`](Self::restart_node) starts it again.
    ///
    /// Errors: there is no such node, or it is gone.
    pub async fn kill(&self, node: u64) -> Result<(), TestBrokerError> {
        Ok(self.all().kill(NodeId::new(node)).await?)
    }

    /// Drains a node, stops it and starts it again; one that was killed only starts. Its ports,
    /// data and clock stay. When this returns, it is ready, for which a majority has to serve.
    ///
    /// Errors: there is no such node, or it did not start again, and is gone.
    pub async fn restart_node(&self, node: u64) -> Result<(), TestBrokerError> {
        Ok(self.all().restart(NodeId::new(node)).await?)
    }

    /// Cuts the power of one node and starts it again: what was not flushed there is lost.
    ///
    /// Errors: as of [`crash`](Self::crash).
    pub async fn crash_node(&self, node: u64) -> Result<(), TestBrokerError> {
        Ok(self.all().crash(NodeId::new(node)).await?)
    }

    /// From now on nothing passes between two nodes, in either direction.
    ///
    /// Errors: there are no two such nodes.
    pub fn cut_link(&self, one: u64, other: u64) -> Result<(), TestBrokerError> {
        self.cut_way(one, other)?;
        self.cut_way(other, one)
    }

    /// From now on nothing passes from one node to another. What the other says still arrives,
    /// while its link lives: a new one needs both ways.
    ///
    /// Errors: there are no two such nodes.
    pub fn cut_way(&self, from: u64, to: u64) -> Result<(), TestBrokerError> {
        Ok(self.all().cut_link(NodeId::new(from), NodeId::new(to))?)
    }

    /// From now on what passes between two nodes comes so much later, in either direction.
    ///
    /// Errors: there are no two such nodes.
    pub fn delay_link(&self, one: u64, other: u64, by: Duration) -> Result<(), TestBrokerError> {
        self.delay_way(one, other, by)?;
        self.delay_way(other, one, by)
    }

    /// From now on what passes from one node to another comes so much later.
    ///
    /// Errors: there are no two such nodes.
    pub fn delay_way(&self, from: u64, to: u64, by: Duration) -> Result<(), TestBrokerError> {
        Ok(self.all().delay_link(NodeId::new(from), NodeId::new(to), by)?)
    }

    /// Both ways between two nodes are open and fast again.
    ///
    /// Errors: there are no two such nodes.
    pub fn restore_link(&self, one: u64, other: u64) -> Result<(), TestBrokerError> {
        let (one, other) = (NodeId::new(one), NodeId::new(other));
        self.all().restore_link(one, other)?;
        Ok(self.all().restore_link(other, one)?)
    }
}
