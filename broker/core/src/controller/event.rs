//! What an applied command means for a node: which logs to make and which to take away.
//!
//! Absent on purpose: doing it. A node looks for its own id among the replicas and acts.

use std::sync::Arc;

use bateau_protocol::ids::{Incarnation, NodeId, TopicId};

use super::cluster_id::ClusterId;
use super::command::Replica;
use super::topic_config::TopicConfig;

/// A partition as its replicas need to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionPlacement {
    /// Birth id.
    pub incarnation: Incarnation,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's number in its topic.
    pub partition: u32,
    /// Whether only we use it (the group partitions).
    pub internal: bool,
    /// Its first voters, never empty. The first one is preferred: it campaigns at once, the
    /// others wait one more election timeout.
    pub voters: Vec<Replica>,
    /// The topic's config.
    pub config: TopicConfig,
}

impl PartitionPlacement {
    /// The replica that lives on `node`, if one does.
    #[must_use]
    pub fn replica_on(&self, node: NodeId) -> Option<Replica> {
        self.voters.iter().copied().find(|replica| replica.node == node)
    }
}

/// A consequence of an applied command, in the order in which they came to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataEvent {
    /// The cluster has its id.
    ClusterFounded {
        /// The id.
        cluster_id: ClusterId,
        /// What its members agree to understand.
        feature_level: u16,
    },
    /// A node is known under new addresses, or has started again.
    NodeRegistered {
        /// The node.
        node: NodeId,
    },
    /// A partition exists: its replicas are to be made. Also given for partitions that exist
    /// already when a node starts ([`Metadata::replay_events`](super::Metadata::replay_events)).
    PartitionCreated(PartitionPlacement),
    /// A committed tombstone: only this allows to take a log away (D10).
    PartitionDeleted {
        /// Whose log.
        incarnation: Incarnation,
        /// The nodes that have not yet confirmed that they hold nothing of it.
        nodes: Vec<NodeId>,
    },
    /// A topic is gone, after all of its partitions: what refers to it goes too.
    TopicDeleted {
        /// Its name, which may be used again.
        topic: Arc<str>,
        /// Its id, which may not.
        topic_id: TopicId,
    },
    /// A topic's config is another one.
    TopicConfigChanged {
        /// The topic.
        topic_id: TopicId,
        /// Its name.
        topic: Arc<str>,
        /// The partitions whose replicas the config governs.
        incarnations: Vec<Incarnation>,
        /// The whole new config.
        config: TopicConfig,
    },
}
