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

/// A start of a peer, with the data directory that was started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerBoot {
    /// Random id of the directory: the starts of each are counted by themselves.
    pub directory: [u8; 16],
    /// Which of its starts.
    pub boot: BootEpoch,
}

/// What a node knows of itself when it starts.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Its id.
    pub node_id: NodeId,
    /// Random id of its data directory.
    pub founding_id: [u8; 16],
    /// The id that it had until its votes were lost: the node was a member by it, so it founds
    /// nothing, and asks to be taken back under new replica ids.
    pub former_founding_id: Option<[u8; 16]>,
    /// Which of its starts this is; flushed.
    pub boot: BootEpoch,
    /// Its cluster, once it is known.
    pub cluster_id: Option<ClusterId>,
    /// The newest start of each peer that was met, as stored.
    pub peer_boots: BTreeMap<NodeId, PeerBoot>,
    /// The members of the cluster, as stored; empty while it is not founded here.
    pub members: Vec<Founder>,
    /// Whether it was there at the founding: its metadata log began with frame 1. Whoever joined
    /// later may have nothing of that log yet.
    pub is_founder: bool,
    /// The configured voters. A new cluster begins with them; a node that is not among them joins
    /// theirs.
    pub voters: Vec<Voter>,
    /// Where this node's own peers listener is, for others.
    pub peers_address: Arc<str>,
}
