//! What a node is told at its start.
//!
//! Absent on purpose: where it comes from, the configuration and the data directory.

use crate::controller::{BootEpoch, ClusterId, Founder};
use bateau_protocol::ids::NodeId;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One entry of `cluster.voters`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Voter {
    /// The node.
    pub node: NodeId,
    /// Host and port of its peers listener.
    pub address: Arc<str>,
}

impl fmt::Display for Voter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.address)
    }
}

/// What a node knows of itself when it starts.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its id.
    pub node_id: NodeId,
    /// Random id of its data directory.
    pub founding_id: [u8; 16],
    /// Which of its starts this is; flushed.
    pub boot: BootEpoch,
    /// Its cluster, once it is known.
    pub cluster_id: Option<ClusterId>,
    /// The newest start of each peer that was met, as stored.
    pub peer_boots: BTreeMap<NodeId, BootEpoch>,
    /// Who founded the cluster, as stored; empty while it is not founded here.
    pub founders: Vec<Founder>,
    /// The configured voters. This node is among them unless it is founded.
    pub voters: Vec<Voter>,
}
