//! The applied state of the metadata partition: a pure function of its commands.
//!
//! ```text
//!   frame payload ──decode──> commands ──execute──> Metadata + events
//!                                                      │ snapshot / restore
//!                                                      v
//!                                                  state file
//! ```
//!
//! Invariants
//! - `I-META-1` Commands are applied in the order of their indexes, each once; an index that was
//!   applied before changes nothing.
//! - `I-META-2` An incarnation belongs to one partition or to one tombstone, and is never 0 or
//!   the metadata partition's own.
//! - `I-META-3` Replica ids of partitions lie in `FIRST_REPLICA_ID..next_replica_id`: an id is
//!   never given twice.
//! - `I-META-4` The indexes by id, by incarnation and by node agree with the topics.
//! - `I-META-6` Whoever holds a replica, or votes on the metadata, is a member.
//!
//! A command that contradicts the state changes nothing and is refused, on every replica alike:
//! applying is total. Policy (names, limits, config values) is the leader's alone, before it
//! proposes; it may change with the version, the meaning of a committed command may not.
//!
//! Absent on purpose: time, randomness, and whether nodes live.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, ReplicaId, TopicId};

use super::cluster_id::ClusterId;
use super::command::{Topic, decode_commands};
use super::event::{MetadataEvent, PartitionPlacement};
use super::limits::FIRST_REPLICA_ID;
use super::members::{Member, Permit, Quorum};
use super::node::{Founder, NodeRegistration};
use crate::command_frame::CommandError;

/// Name of the internal topic whose partitions hold the consumer groups. It cannot be a client's:
/// `@` is outside of Kafka's set.
pub const GROUP_TOPIC: &str = "@groups";

/// What the first command said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Founding {
    /// The cluster's id.
    pub cluster_id: ClusterId,
    /// What its members agree to understand.
    pub feature_level: u16,
    /// Who founded it.
    pub founders: Vec<Founder>,
}

/// A range of producer ids that nobody else has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct ProducerIdBlock {
    /// The first id.
    pub first: u64,
    /// How many, from `first` on.
    pub count: u32,
}

/// What a command did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommandOutcome {
    /// It holds now.
    Done,
    /// These ids are taken now.
    ProducerIds(ProducerIdBlock),
    /// It contradicted the state and changed nothing.
    Refused(Refusal),
}

/// How a command contradicted the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The cluster was founded before.
    AlreadyFounded,
    /// A command before the first one.
    NotFounded,
    /// A node registered with an older start than the known one.
    StaleBoot,
    /// The topic's name or id is taken.
    TopicExists,
    /// The topic is not there.
    TopicUnknown,
    /// The topic has no partition, or a partition has no replica or one node twice.
    Malformed,
    /// An incarnation is taken or not allowed.
    IncarnationTaken,
    /// A replica id was given before.
    ReplicaIdTaken,
    /// No producer ids are left, or a block of none was asked for.
    ProducerIds,
    /// The topic has another number of partitions than the command was made for.
    PartitionCount,
    /// The partition is not there.
    PartitionUnknown,
    /// A node still has a removed replica of the partition.
    ReplicaStillHeld,
    /// Another assignment has been made meanwhile, or it is settled already.
    AssignmentUnknown,
    /// The node is a member already.
    MemberExists,
    /// The node is no member.
    MemberUnknown,
    /// The node has no permit.
    NotPermitted,
    /// The node still has replicas.
    MemberInUse,
    /// The directory was a member's, and was removed or replaced: it is not let in twice.
    FormerDirectory,
}

/// What all nodes know together.
///
/// Cloning costs one pointer for each topic and tombstone: fit to be published to readers after
/// a change, not per request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    pub(super) applied: LogIndex,
    pub(super) founding: Option<Arc<Founding>>,
    pub(super) nodes: BTreeMap<NodeId, Arc<NodeRegistration>>,
    pub(super) topics: BTreeMap<Arc<str>, Arc<Topic>>,
    pub(super) tombstones: BTreeMap<Incarnation, BTreeSet<NodeId>>,
    pub(super) removed_replicas: BTreeMap<(Incarnation, NodeId), ReplicaId>,
    pub(super) members: BTreeMap<NodeId, Arc<Member>>,
    pub(super) permits: BTreeMap<NodeId, Permit>,
    /// Nodes that were members, with the id of their directory.
    pub(super) former_members: BTreeMap<NodeId, [u8; 16]>,
    pub(super) quorum: Quorum,
    pub(super) next_producer_id: u64,
    pub(super) next_replica_id: u64,
    // Derived from the topics, so not in the snapshot (I-META-4).
    pub(super) topic_names: BTreeMap<TopicId, Arc<str>>,
    pub(super) incarnations: BTreeMap<Incarnation, (TopicId, u32)>,
    pub(super) reassigned: BTreeSet<Incarnation>,
    pub(super) folded_names: BTreeSet<(String, Arc<str>)>,
    pub(super) node_loads: BTreeMap<NodeId, NodeLoad>,
}

/// What a node has been given to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeLoad {
    /// Replicas.
    pub replicas: u32,
    /// Those of them that are preferred as leader.
    pub preferred: u32,
}

impl Default for Metadata {
    fn default() -> Self {
        Self::new()
    }
}

impl Metadata {
    /// The state before the first command.
    #[must_use]
    pub fn new() -> Self {
        Self {
            applied: LogIndex::ZERO,
            founding: None,
            nodes: BTreeMap::new(),
            topics: BTreeMap::new(),
            tombstones: BTreeMap::new(),
            removed_replicas: BTreeMap::new(),
            members: BTreeMap::new(),
            permits: BTreeMap::new(),
            former_members: BTreeMap::new(),
            quorum: Quorum::default(),
            next_producer_id: 0,
            next_replica_id: FIRST_REPLICA_ID,
            topic_names: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            reassigned: BTreeSet::new(),
            folded_names: BTreeSet::new(),
            node_loads: BTreeMap::new(),
        }
    }

    /// Applies the commands of one committed frame.
    ///
    /// - `index`: the frame's index. Frames of other kinds need not be shown.
    /// - `events`: what follows from it is pushed here.
    ///
    /// Returns one outcome for each command, or none where `index` was applied before.
    ///
    /// Errors: [`CommandError`] where this build cannot read the frame. The state is unchanged,
    /// and the node cannot go on: it would no longer equal the others.
    /// Invariants: I-META-1.
    pub fn apply(
        &mut self,
        index: LogIndex,
        payload: &[u8],
        events: &mut Vec<MetadataEvent>,
    ) -> Result<Vec<CommandOutcome>, CommandError> {
        if index <= self.applied {
            return Ok(Vec::new());
        }
        let commands = decode_commands(payload)?;
        let outcomes = commands.into_iter().map(|command| self.execute(command, events)).collect();
        let before = std::mem::replace(&mut self.applied, index);
        assert!(before < index, "I-META-1: {index} was applied after {before}");
        Ok(outcomes)
    }

    /// Index of the last frame that was applied; zero before the first.
    #[must_use]
    pub const fn applied(&self) -> LogIndex {
        self.applied
    }

    /// What the first command said, once it is applied.
    #[must_use]
    pub fn founding(&self) -> Option<&Founding> {
        self.founding.as_deref()
    }

    /// The cluster's id, once it is founded.
    #[must_use]
    pub fn cluster_id(&self) -> Option<ClusterId> {
        self.founding().map(|founding| founding.cluster_id)
    }

    /// The nodes, by id.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Arc<NodeRegistration>> {
        self.nodes.values()
    }

    /// One node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&NodeRegistration> {
        self.nodes.get(&node).map(Arc::as_ref)
    }

    /// The topics that clients may see, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values().filter(|topic| !topic.internal)
    }

    /// A topic by name, if clients may see it.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name).filter(|topic| !topic.internal)
    }

    /// A topic by id, if clients may see it.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topic(self.topic_names.get(&id)?)
    }

    /// The logs of all partitions, internal ones too, that are placed on `node`.
    pub fn logs_on(&self, node: NodeId) -> impl Iterator<Item = Incarnation> + '_ {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        partitions
            .filter(move |partition| partition.holders().any(|held| held.node == node))
            .map(|partition| partition.incarnation)
    }

    /// The internal topic of the consumer groups, which exists from the founding on. It has
    /// [`GROUP_PARTITIONS`](crate::consumer_group::GROUP_PARTITIONS) partitions.
    #[must_use]
    pub fn group_topic(&self) -> Option<&Arc<Topic>> {
        self.topics.get(GROUP_TOPIC)
    }

    /// The topic and partition number of an incarnation that lives.
    #[must_use]
    pub fn partition_of(&self, incarnation: Incarnation) -> Option<(&Arc<Topic>, u32)> {
        let (topic, partition) = self.incarnations.get(&incarnation)?;
        Some((self.topics.get(self.topic_names.get(topic)?)?, *partition))
    }

    /// Where an incarnation that lives is placed.
    #[must_use]
    pub fn placement(&self, incarnation: Incarnation) -> Option<PartitionPlacement> {
        let (topic, number) = self.partition_of(incarnation)?;
        Some(PartitionPlacement::of(topic, number, topic.partition(number)?))
    }

    /// Whether an incarnation was deleted and some node has not confirmed that it is gone. Only
    /// this, never an unknown incarnation, allows to take a log away (D10).
    #[must_use]
    pub fn is_tombstone(&self, incarnation: Incarnation) -> bool {
        self.tombstones.contains_key(&incarnation)
    }

    /// Deleted incarnations that some node has not confirmed.
    pub fn tombstones(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.tombstones.keys().copied()
    }

    /// What a node has been given to hold.
    #[must_use]
    pub fn load_of(&self, node: NodeId) -> NodeLoad {
        self.node_loads.get(&node).copied().unwrap_or_default()
    }

    /// A topic whose name differs from `name` only in `.` against `_`, the two characters that
    /// metric names cannot tell apart.
    #[must_use]
    pub fn colliding_topic(&self, name: &str) -> Option<&Arc<str>> {
        let folded = fold_name(name);
        self.folded_names
            .range((folded.clone(), Arc::from(""))..)
            .take_while(|(other, _)| *other == folded)
            .map(|(_, existing)| existing)
            .find(|existing| &***existing != name)
    }

    /// Tells a node that starts what exists and what is deleted, as if it had just happened.
    pub fn replay_events(&self, events: &mut Vec<MetadataEvent>) {
        if let Some(founding) = self.founding() {
            events.push(MetadataEvent::ClusterFounded {
                cluster_id: founding.cluster_id,
                feature_level: founding.feature_level,
            });
        }
        events.extend(self.nodes.keys().map(|node| MetadataEvent::NodeRegistered { node: *node }));
        events.push(MetadataEvent::QuorumAssigned);
        for topic in self.topics.values() {
            push_created(topic, 0, events);
        }
        events.extend(self.tombstones.iter().map(|(incarnation, nodes)| {
            MetadataEvent::PartitionDeleted {
                incarnation: *incarnation,
                nodes: nodes.iter().copied().collect(),
            }
        }));
        events.extend(
            self.removed_replicas().map(|(incarnation, replica)| MetadataEvent::ReplicaRemoved {
                incarnation,
                replica,
            }),
        );
    }
}

/// Says that the partitions of a topic exist, from number `first` on.
pub(super) fn push_created(topic: &Topic, first: u32, events: &mut Vec<MetadataEvent>) {
    for (number, partition) in (0..).zip(&topic.partitions).skip(first as usize) {
        let placement = PartitionPlacement::of(topic, number, partition);
        events.push(MetadataEvent::PartitionCreated(placement));
    }
}

/// The form in which names collide.
pub(super) fn fold_name(name: &str) -> String {
    name.replace('.', "_")
}
