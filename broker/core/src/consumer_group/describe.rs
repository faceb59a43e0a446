//! What administration reads: lists and descriptions of groups, and totals.
//!
//! Absent on purpose: filters and authorization (the caller's), and wire forms.

use bytes::Bytes;

use super::Name;

/// A group's state, as Kafka names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupState {
    /// No members; perhaps offsets.
    Empty,
    /// Members are being gathered for the next generation.
    PreparingRebalance,
    /// The generation began and waits for its leader's assignments.
    CompletingRebalance,
    /// Assignments are out.
    Stable,
}

impl GroupState {
    /// The name that Kafka's tools print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One line of ListGroups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListing {
    /// The group.
    pub group_id: Name,
    /// Empty for a group that only ever stored offsets.
    pub protocol_type: Name,
    /// Its state.
    pub state: GroupState,
}

/// DescribeGroups for one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    /// The group.
    pub group_id: Name,
    /// Its state.
    pub state: GroupState,
    /// Empty for a group that only ever stored offsets.
    pub protocol_type: Name,
    /// The protocol of the generation; empty unless the group is stable, as in Kafka.
    pub protocol_name: Name,
    /// Its generation.
    pub generation: i32,
    /// Its leader, where it has members.
    pub leader: Option<Name>,
    /// Its members by id.
    pub members: Vec<MemberDescription>,
}

/// One member of a described group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: Name,
    /// Its instance id, for a static member.
    pub group_instance_id: Option<Name>,
    /// From its last JoinGroup.
    pub client_id: Name,
    /// From its last JoinGroup.
    pub client_host: Name,
    /// For the generation's protocol; empty unless the group is stable, as in Kafka.
    pub metadata: Bytes,
    /// Its assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

/// Totals of one internal partition, for metrics and limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupTotals {
    /// Groups with members or offsets.
    pub group_count: usize,
    /// Committed offsets, in partitions.
    pub offset_count: usize,
    /// Requests that wait for a rebalance or for the log.
    pub parked_count: usize,
    /// Commands proposed and not yet applied.
    pub inflight_count: usize,
}
