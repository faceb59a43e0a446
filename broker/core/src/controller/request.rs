//! What a leading controller is asked, and what it answers.
//!
//! Every refusal is a variant that carries its numbers; its text is fit for a client's error
//! message. The Kafka error that a door answers is named in each variant's docs, the number is
//! the door's business.
//!
//! Absent on purpose: reading. Metadata is read from [`Metadata`](super::Metadata) by anybody.

use std::sync::Arc;

use bateau_protocol::ids::{Incarnation, NodeId, TopicId};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use thiserror::Error;

use super::config_entry::ConfigEntry;
use super::limits::{
    PARTITIONS_PER_REQUEST_MAX, PARTITIONS_PER_TOPIC_MAX, PENDING_REQUESTS_MAX, PROPOSAL_BYTES_MAX,
    REPLICAS_PER_NODE_MAX, TOMBSTONES_MAX, TOPICS_MAX,
};
use super::membership_request::{MembershipRequest, MembershipResponse};
use super::metadata::ProducerIdBlock;
use super::node::NodeRegistration;
use super::topic_config::TopicConfigError;
use super::topic_name::TopicNameError;

/// A request to the controller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ControllerRequest {
    /// Create topics, each decided alone.
    CreateTopics(CreateTopics),
    /// Have these topics, because somebody asked for their metadata. The caller has checked that
    /// the client allows it; whether the cluster does is decided here.
    AutoCreateTopics {
        /// Their names.
        names: Vec<String>,
        /// How long to wait, in milliseconds.
        timeout_ms: u64,
    },
    /// Delete topics, each decided alone.
    DeleteTopics {
        /// Which.
        topics: Vec<TopicReference>,
        /// How long to wait, in milliseconds.
        timeout_ms: u64,
    },
    /// Change single configs of a topic.
    AlterTopicConfigs(AlterTopicConfigs),
    /// Give a topic more partitions.
    CreatePartitions(CreatePartitions),
    /// A block of producer ids for a node.
    AllocateProducerIds {
        /// Who asks.
        node: NodeId,
        /// How long to wait, in milliseconds.
        timeout_ms: u64,
    },
    /// A node makes itself known, at every start.
    RegisterNode {
        /// The node.
        registration: NodeRegistration,
        /// How long to wait, in milliseconds.
        timeout_ms: u64,
    },
    /// A node holds nothing of these deleted incarnations any more, not even in its trash. Their
    /// tombstones go when the last of their nodes has said so.
    ConfirmRemoved {
        /// The node.
        node: NodeId,
        /// What it has removed.
        incarnations: Vec<Incarnation>,
        /// How long to wait, in milliseconds.
        timeout_ms: u64,
    },
    /// Something about nodes and replicas.
    Membership {
        /// What.
        request: MembershipRequest,
        /// How long to wait, in milliseconds.
        timeout_ms: u64,
    },
}

impl ControllerRequest {
    /// How long the client waits, in milliseconds.
    #[must_use]
    pub const fn timeout_ms(&self) -> u64 {
        match self {
            Self::CreateTopics(CreateTopics { timeout_ms, .. })
            | Self::AlterTopicConfigs(AlterTopicConfigs { timeout_ms, .. })
            | Self::CreatePartitions(CreatePartitions { timeout_ms, .. })
            | Self::AutoCreateTopics { timeout_ms, .. }
            | Self::DeleteTopics { timeout_ms, .. }
            | Self::AllocateProducerIds { timeout_ms, .. }
            | Self::RegisterNode { timeout_ms, .. }
            | Self::ConfirmRemoved { timeout_ms, .. }
            | Self::Membership { timeout_ms, .. } => *timeout_ms,
        }
    }
}

/// Topics to create.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CreateTopics {
    /// The topics.
    pub topics: Vec<NewTopic>,
    /// Whether only to say what would happen.
    pub validate_only: bool,
    /// How long to wait, in milliseconds.
    pub timeout_ms: u64,
}

/// A topic to create.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions; −1: the default, or as many as are assigned.
    pub partition_count: i32,
    /// Replicas of each partition; −1: the default, or as many as are assigned.
    pub replication_factor: i16,
    /// Which nodes hold which partition; empty: the controller decides.
    pub assignments: Vec<PartitionAssignment>,
    /// Config overrides. Of a key that comes twice the last one counts.
    pub configs: Vec<(String, Option<String>)>,
}

/// Where a client wants a partition.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PartitionAssignment {
    /// The partition's number.
    pub partition: i32,
    /// The nodes, preferred leader first, as they came off the wire.
    pub nodes: Vec<i32>,
}

/// A topic by name or by id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct TopicReference {
    /// The name, if it is meant by name.
    pub name: Option<String>,
    /// The id, or [`TopicId::ZERO`] if it is meant by name.
    pub id: TopicId,
}

/// Single configs of a topic to change.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AlterTopicConfigs {
    /// The topic's name.
    pub topic: String,
    /// Key to new value, or `None` to return to the default.
    pub changes: Vec<(String, Option<String>)>,
    /// Whether only to say what would happen.
    pub validate_only: bool,
    /// How long to wait, in milliseconds.
    pub timeout_ms: u64,
}

/// More partitions for a topic (KIP-195). Records stay where they are: from then on a key may go
/// to another partition than before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CreatePartitions {
    /// The topic's name.
    pub topic: String,
    /// How many partitions it is to have, all together: more than it has.
    pub partition_count: i32,
    /// Whether only to say what would happen.
    pub validate_only: bool,
    /// How long to wait, in milliseconds.
    pub timeout_ms: u64,
}

/// The controller's answer, one for each request and of its kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ControllerResponse {
    /// One result for each name, in the request's order. A name that came twice has one result.
    TopicsCreated(Vec<CreateTopicResult>),
    /// One result for each name, in the request's order.
    TopicsAutoCreated(Vec<AutoCreateTopicResult>),
    /// One result for each topic, in the request's order.
    TopicsDeleted(Vec<DeleteTopicResult>),
    /// Whether the topic's configs are as asked.
    TopicConfigsAltered(Result<(), AlterTopicConfigsError>),
    /// The topic with so many partitions, or why it keeps those that it had.
    PartitionsCreated(Result<GrownTopic, CreatePartitionsError>),
    /// The ids.
    ProducerIdsAllocated(Result<ProducerIdBlock, ProducerIdsError>),
    /// Whether the node is known now.
    NodeRegistered(Result<(), RegisterNodeError>),
    /// The tombstones know.
    RemovalConfirmed,
    /// Of nodes and replicas.
    Membership(MembershipResponse),
}

/// What came of one topic to create.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreateTopicResult {
    /// Its name.
    pub name: String,
    /// What came of it.
    pub result: Result<CreatedTopic, CreateTopicError>,
}

/// A topic that exists now, or would.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CreatedTopic {
    /// Its id; zero where the request only asked what would happen.
    pub id: TopicId,
    /// Number of its partitions.
    pub partition_count: u32,
    /// Replicas of each.
    pub replication_factor: u16,
    /// All of its configs, as `DescribeConfigs` would give them.
    pub configs: Vec<ConfigEntry>,
}

/// A topic that has more partitions now, or would.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GrownTopic {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it had.
    pub partition_count_before: u32,
    /// How many it has.
    pub partition_count: u32,
}

/// What came of one topic to have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AutoCreateTopicResult {
    /// Its name.
    pub name: String,
    /// Its id: it exists, by this request or by another.
    pub result: Result<TopicId, AutoCreateTopicError>,
}

/// What came of one topic to delete.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteTopicResult {
    /// Its name, where it is known.
    pub name: Option<Arc<str>>,
    /// Its id, where it is known; else zero.
    pub id: TopicId,
    /// What came of it.
    pub result: Result<(), DeleteTopicError>,
}

/// Why a whole request failed. Nothing is known of what it asked for: it may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum ControllerError {
    /// This node does not lead the metadata partition; nothing was done. NOT_CONTROLLER (41).
    #[error("this node is not the controller")]
    NotController,
    /// The controller was lost while the request was under way: it may still be carried out.
    /// REQUEST_TIMED_OUT (7).
    #[error("the controller was lost before it had answered; the request may be carried out")]
    Unsettled,
    /// The commands were not applied in time. REQUEST_TIMED_OUT (7).
    #[error("the request was not carried out within {timeout_ms} ms")]
    TimedOut {
        /// How long it waited.
        timeout_ms: u64,
    },
    /// Too many requests wait. THROTTLING_QUOTA_EXCEEDED (89), or REQUEST_TIMED_OUT (7) for
    /// versions that do not know it.
    #[error("{PENDING_REQUESTS_MAX} requests wait for the controller already")]
    Busy,
}

/// A limit that a request would pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum LimitError {
    /// Topics of the cluster.
    #[error("the cluster has {TOPICS_MAX} topics, which is the limit")]
    Topics,
    /// Partitions of a topic.
    #[error("a topic may have {PARTITIONS_PER_TOPIC_MAX} partitions")]
    PartitionsPerTopic,
    /// Partitions that one request creates.
    #[error("one request may create {PARTITIONS_PER_REQUEST_MAX} partitions")]
    PartitionsPerRequest,
    /// Replicas that the nodes hold.
    #[error(
        "too few nodes have room for another replica of each partition: a node holds at most \
         {REPLICAS_PER_NODE_MAX}"
    )]
    ReplicasPerNode,
    /// Bytes of what one request proposes.
    #[error("one request may change {PROPOSAL_BYTES_MAX} bytes of metadata")]
    RequestBytes,
    /// Deleted partitions that nodes still hold.
    #[error("{TOMBSTONES_MAX} deleted partitions are still on disks, which is the limit")]
    Tombstones,
}

/// Why a topic is not created.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum CreateTopicError {
    /// The name breaks Kafka's rules. INVALID_TOPIC_EXCEPTION (17).
    #[error("Topic name is invalid: {0}")]
    InvalidName(#[from] TopicNameError),
    /// The name differs from an existing one only in `.` against `_`.
    /// INVALID_TOPIC_EXCEPTION (17).
    #[error("Topic '{name}' collides with existing topic: {existing}")]
    NameCollides {
        /// The new name.
        name: String,
        /// The one that exists.
        existing: Arc<str>,
    },
    /// The name is one of Kafka's internal topics. INVALID_REQUEST (42).
    #[error("Creation of internal topic {name} is prohibited.")]
    ReservedName {
        /// The name.
        name: String,
    },
    /// TOPIC_ALREADY_EXISTS (36).
    #[error("Topic '{name}' already exists.")]
    AlreadyExists {
        /// The name.
        name: String,
    },
    /// The name comes more than once in the request. INVALID_REQUEST (42).
    #[error("Duplicate topic name.")]
    Duplicate,
    /// Zero or below −1. INVALID_PARTITIONS (37).
    #[error("Number of partitions is {found}, expected 1 to {limit}, or -1 for the default.")]
    InvalidPartitions {
        /// What was asked for.
        found: i64,
        /// The most that a topic may have.
        limit: u32,
    },
    /// Zero, below −1, above the limit, or more than there are nodes.
    /// INVALID_REPLICATION_FACTOR (38).
    #[error("Replication factor is {found}, expected 1 to {limit}, or -1 for the default.")]
    InvalidReplicationFactor {
        /// What was asked for.
        found: i32,
        /// The most that is possible now.
        limit: usize,
    },
    /// An assignment and a number of partitions or replicas. INVALID_REQUEST (42).
    #[error(
        "A manual partition assignment was specified, so partition count and replication factor \
         must be -1."
    )]
    AssignmentAndCounts,
    /// INVALID_REPLICA_ASSIGNMENT (39).
    #[error("{0}")]
    InvalidAssignment(#[from] AssignmentError),
    /// INVALID_CONFIG (40).
    #[error("{0}")]
    InvalidConfig(#[from] TopicConfigError),
    /// POLICY_VIOLATION (44).
    #[error("{0}")]
    Limit(#[from] LimitError),
    /// The source of randomness repeats itself. UNKNOWN_SERVER_ERROR (-1).
    #[error("no free id was drawn")]
    NoFreeId,
}

/// Why an assignment cannot be.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum AssignmentError {
    /// Partition numbers are not 0, 1, 2, ….
    #[error("partitions should be a consecutive 0-based integer sequence: {missing} is missing")]
    NotConsecutive {
        /// The first number that is not there.
        missing: u32,
    },
    /// A partition without a node.
    #[error("The manual partition assignment of partition {partition} has no replica.")]
    NoReplica {
        /// The partition.
        partition: u32,
    },
    /// Partitions with different numbers of nodes.
    #[error(
        "The manual partition assignment of partition {partition} has {found} replicas, the \
         first one has {expected}."
    )]
    UnequalReplicas {
        /// The partition.
        partition: u32,
        /// Its replicas.
        found: usize,
        /// The first partition's.
        expected: usize,
    },
    /// A node that the cluster does not know.
    #[error("The manual partition assignment names node {node}, which is not registered.")]
    UnknownNode {
        /// The node, as it was written.
        node: i32,
    },
    /// A node twice in one partition.
    #[error("The manual partition assignment names node {node} more than once.")]
    RepeatedNode {
        /// The node.
        node: NodeId,
    },
}

/// Why a topic is not there after it was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum AutoCreateTopicError {
    /// Topics are not created on first use here. UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("the topic does not exist and topics.auto_create is false")]
    Disabled,
    /// Creating it is refused. As [`CreateTopicError`], except that a reserved name is
    /// INVALID_TOPIC_EXCEPTION (17) here.
    #[error("{0}")]
    Refused(#[from] CreateTopicError),
}

/// Why a topic is not deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum DeleteTopicError {
    /// UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("This server does not host this topic-partition.")]
    UnknownName,
    /// UNKNOWN_TOPIC_ID (100).
    #[error("This server does not host this topic ID.")]
    UnknownId,
    /// Neither name nor id, or both. INVALID_REQUEST (42).
    #[error("A topic is named by its name or by its ID, and not by both.")]
    NotOneReference,
    /// The topic comes more than once in the request. INVALID_REQUEST (42).
    #[error("Duplicate topic in the request.")]
    Duplicate,
    /// POLICY_VIOLATION (44).
    #[error("{0}")]
    Limit(#[from] LimitError),
}

/// Why a topic's configs stay as they are.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum AlterTopicConfigsError {
    /// UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    /// INVALID_CONFIG (40).
    #[error("{0}")]
    InvalidConfig(#[from] TopicConfigError),
}

/// Why a topic gets no more partitions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum CreatePartitionsError {
    /// UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("This server does not host this topic-partition.")]
    UnknownTopic,
    /// Not more than there are: a topic never loses partitions. INVALID_PARTITIONS (37).
    #[error("Topic has {current} partitions and only ever gains some: {found} are not more.")]
    NotMore {
        /// What was asked for.
        found: i32,
        /// What there is.
        current: u32,
    },
    /// POLICY_VIOLATION (44).
    #[error("{0}")]
    Limit(#[from] LimitError),
    /// The source of randomness repeats itself. UNKNOWN_SERVER_ERROR (-1).
    #[error("no free id was drawn")]
    NoFreeId,
}

/// Why no producer ids are given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum ProducerIdsError {
    /// All 2^63 − 1 are taken. UNKNOWN_SERVER_ERROR (−1).
    #[error("no producer ids are left")]
    Exhausted,
}

/// Why a node is not registered.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum RegisterNodeError {
    /// Its start is not newer than the one that is known: an old copy of its disk. The node stops
    /// with exit code 4.
    #[error("boot epoch {found} is not above the registered {registered}")]
    StaleBoot {
        /// What the node showed.
        found: u64,
        /// What is known.
        registered: u64,
    },
    /// It is no member: it was removed, or has never come. The node stops with exit code 4.
    #[error("node {node} is not a member of the cluster")]
    NotMember {
        /// The node.
        node: NodeId,
    },
    /// Too many listeners, a listener twice, or a text that is empty or too long.
    #[error("{field} of the registration is not usable")]
    Malformed {
        /// What is wrong.
        field: Cow<'static, str>,
    },
}
