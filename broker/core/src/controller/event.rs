//! What an applied command means for a node: which logs to make and which to take away.
//!
//! Absent on purpose: doing it. A node looks for its own id among the replicas and acts.

use std::sync::Arc;

use bateau_protocol::ids::{Incarnation, NodeId, TopicId};

use super::cluster_id::ClusterId;
use super::command::{Partition, Replica, Topic};
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
    /// Which of its assignments this is; 0 is the one that it was born with.
    pub assignment: u64,
    /// The assigned replicas, never empty. The first one is preferred as leader; of a partition
    /// that is born they are the voters.
    pub replicas: Vec<Replica>,
    /// Replicas that are not assigned any more, and are needed until the assignment is settled.
    pub leaving: Vec<Replica>,
    /// Whether the assignment waits for being settled.
    pub is_open: bool,
    /// The topic's config.
    pub config: TopicConfig,
}

impl PartitionPlacement {
    pub(super) fn of(topic: &Topic, number: u32, partition: &Partition) -> Self {
        Self {
            incarnation: partition.incarnation,
            topic: Arc::clone(&topic.name),
            topic_id: topic.id,
            partition: number,
            internal: topic.internal,
            assignment: partition.assignment,
            replicas: partition.replicas.clone(),
            leaving: partition.leaving().copied().collect(),
            is_open: partition.reassignment.is_some(),
            config: TopicConfig::from_overrides(&topic.configs),
        }
    }

    /// The replica that lives on `node`, if one does: of two the assigned one.
    #[must_use]
    pub fn replica_on(&self, node: NodeId) -> Option<Replica> {
        let mut holders = self.replicas.iter().chain(&self.leaving);
        holders.find(|replica| replica.node == node).copied()
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
    /// A partition is to have these replicas from now on, or has them by its leader's word.
    PartitionAssigned(PartitionPlacement),
    /// A replica is not of its partition any more: a committed tombstone of this replica alone.
    ReplicaRemoved {
        /// The partition, which lives on.
        incarnation: Incarnation,
        /// Which.
        replica: Replica,
    },
    /// The metadata partition is to have these replicas.
    QuorumAssigned,
    /// A node has become a member, or has begun anew with an empty directory.
    NodeAdmitted {
        /// The node.
        node: NodeId,
    },
    /// A node is no member any more.
    NodeRemoved {
        /// The node.
        node: NodeId,
    },
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
