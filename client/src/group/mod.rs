//! What members of a consumer group tell each other, and how a leader shares out partitions.
//!
//! ```text
//!   join:  Assignor::metadata ──> JoinGroup ──> the leader gets everybody's
//!   lead:  Leadership::read ── assign ──> SyncGroup        (range, roundrobin, …)
//!   sync:  Assignment::decode <── what the leader chose for this member
//! ```
//!
//! The bytes are those of Kafka's "consumer" protocol (KIP-429, KIP-792), because a group may have
//! Java, librdkafka and kafkajs members beside ours.
//!
//! Invariants
//! - The four assignors share out as Java 3.9 to 4.3 and kafkajs 2.2 do, member by member and
//!   partition by partition, since any member may lead. Where Java's would fail or hand a
//!   partition to a member that did not subscribe, ours does not.
//! - A partition goes to at most one member.
//! - What other members sent is read with bounds, and never makes the leader panic.
//! - No I/O, no clock, no chance.
//!
//! Absent on purpose: racks (our partitions have none), the server-side assignors of KIP-848, and
//! `sticky` of the eager protocol, which `cooperative-sticky` replaces.

mod assignor;
mod java;
mod plain;
mod protocol;
mod sticky;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use assignor::{
    Assignor, JoinedMember, LeadError, Leadership, RebalanceProtocol, rebalance_protocol,
};
pub use protocol::{Assignment, PROTOCOL_TYPE, ProtocolError, Subscription};

/// Partition numbers by topic. Numbers ascend, none comes twice, and no list is empty.
pub type PartitionsByTopic = BTreeMap<String, Vec<i32>>;

/// One partition of one topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
}

/// A member as the group's leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Given by the coordinator; unique in the group.
    pub member_id: String,
    /// `group.instance.id` of a static member (KIP-345).
    pub instance_id: Option<String>,
    /// What it wants, and what it has.
    pub subscription: Subscription,
}

/// The parts of an assignment in a member's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberAssignment {
    /// The member.
    pub member_id: String,
    /// Its partitions; empty for a member that gets none.
    pub partitions: PartitionsByTopic,
}
