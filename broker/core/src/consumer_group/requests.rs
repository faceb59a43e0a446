//! What can be asked of a coordinator, and its answers, in core's own words.
//!
//! Doors translate wire versions into the flags here; nothing in this crate knows a version.
//! Request bytes are copied before they are kept, so a small field never pins a large buffer.
//!
//! Absent on purpose: wire order, wire codes, throttle times.

use std::sync::Arc;

use bateau_protocol::ids::TopicId;
use bytes::Bytes;

use super::errors::{
    CoordinatorError, DeleteGroupError, HeartbeatError, JoinGroupError, LeaveGroupError,
    LeaveMemberError, OffsetCommitError, OffsetFetchError, OffsetPartitionError, SyncGroupError,
};

/// A group id, member id, topic name or the like: immutable and cheap to share.
pub type Name = Arc<str>;

/// One request to the coordinator of its group's partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupRequest {
    /// Become or stay a member; answered when the generation begins.
    JoinGroup(JoinGroup),
    /// Hand in or wait for the assignments of a generation.
    SyncGroup(SyncGroup),
    /// Stay a member.
    Heartbeat(Heartbeat),
    /// Remove members.
    LeaveGroup(LeaveGroup),
    /// Store positions; answered when they are durable.
    OffsetCommit(OffsetCommit),
    /// Read stored positions.
    OffsetFetch(OffsetFetch),
    /// Remove a group without members, with its offsets.
    DeleteGroup(DeleteGroup),
}

impl GroupRequest {
    /// The group that is asked about. It must live in the partition of the asked coordinator.
    #[must_use]
    pub fn group_id(&self) -> &Name {
        match self {
            Self::JoinGroup(request) => &request.group_id,
            Self::SyncGroup(request) => &request.group_id,
            Self::Heartbeat(request) => &request.group_id,
            Self::LeaveGroup(request) => &request.group_id,
            Self::OffsetCommit(request) => &request.group_id,
            Self::OffsetFetch(request) => &request.group_id,
            Self::DeleteGroup(request) => &request.group_id,
        }
    }

    /// Whether it changes nothing and does not keep anybody a member.
    #[must_use]
    pub const fn is_read(&self) -> bool {
        matches!(self, Self::OffsetFetch(_))
    }
}

/// The answer to a [`GroupRequest`] of the same name.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "each variant answers the request of its name")]
pub enum GroupResponse {
    JoinGroup(Result<JoinedGroup, JoinGroupError>),
    SyncGroup(Result<SyncedGroup, SyncGroupError>),
    Heartbeat(Result<(), HeartbeatError>),
    LeaveGroup(Result<Vec<LeftMember>, LeaveGroupError>),
    OffsetCommit(Result<Vec<CommittedTopic>, OffsetCommitError>),
    OffsetFetch(Result<Vec<FetchedTopic>, OffsetFetchError>),
    DeleteGroup(Result<(), DeleteGroupError>),
}

/// A protocol that a member offers, with its opaque metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Protocol {
    /// For consumers the assignor's name.
    pub name: Name,
    /// For consumers the subscription. Opaque.
    pub metadata: Bytes,
}

/// JoinGroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinGroup {
    /// The group; created if it does not exist and `member_id` is empty.
    pub group_id: Name,
    /// Empty for a new member.
    pub member_id: Name,
    /// Set for a static member (KIP-345).
    pub group_instance_id: Option<Name>,
    /// From the request header; empty when absent.
    pub client_id: Name,
    /// The peer's address as text.
    pub client_host: Name,
    /// 16 fresh random bytes, the tail of a member id that may have to be made.
    pub member_uuid: [u8; 16],
    /// JoinGroup v4+: a new dynamic member must join twice (KIP-394).
    pub member_id_required: bool,
    /// JoinGroup v9+: a leader can be told to keep the assignment it has (KIP-814).
    pub can_skip_assignment: bool,
    /// How long the member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long the group waits for the member to rejoin, in milliseconds. Below v1, and when
    /// negative, the session timeout counts.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect`, `sr` and whatever else clients agree on.
    pub protocol_type: Name,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
}

/// The generation that a member joined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedGroup {
    /// Rises with every rebalance of the group.
    pub generation: i32,
    /// As all members gave it.
    pub protocol_type: Name,
    /// The protocol that won the vote.
    pub protocol_name: Name,
    /// The member that computes the assignments.
    pub leader: Name,
    /// The member itself.
    pub member_id: Name,
    /// Told to a leader that restarted as a static member: the assignments stand (KIP-814).
    pub skip_assignment: bool,
    /// All members, for the leader; empty for everybody else.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Name,
    /// Its instance id, for a static member.
    pub group_instance_id: Option<Name>,
    /// Its metadata for the protocol that won.
    pub metadata: Bytes,
}

/// SyncGroup.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncGroup {
    /// The group.
    pub group_id: Name,
    /// The generation from the JoinGroup answer.
    pub generation: i32,
    /// The member from the JoinGroup answer.
    pub member_id: Name,
    /// Set for a static member.
    pub group_instance_id: Option<Name>,
    /// SyncGroup v5+: checked where given (KIP-559).
    pub protocol_type: Option<Name>,
    /// SyncGroup v5+: checked where given (KIP-559).
    pub protocol_name: Option<Name>,
    /// From the leader; ignored from everybody else.
    pub assignments: Vec<Assignment>,
}

/// What one member has to do. Opaque.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Assignment {
    /// For whom.
    pub member_id: Name,
    /// The assignment.
    pub assignment: Bytes,
}

/// A member's part of a generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SyncedGroup {
    /// The group's protocol type.
    pub protocol_type: Name,
    /// The group's protocol.
    pub protocol_name: Name,
    /// Empty when the leader gave this member nothing.
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The group.
    pub group_id: Name,
    /// The generation the member believes in.
    pub generation: i32,
    /// The member.
    pub member_id: Name,
    /// Set for a static member.
    pub group_instance_id: Option<Name>,
}

/// LeaveGroup. Before v3 it has one member, and that member's error is the request's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaveGroup {
    /// The group.
    pub group_id: Name,
    /// Who leaves.
    pub members: Vec<LeavingMember>,
}

/// One member that leaves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeavingMember {
    /// Empty where an administrator removes a static member by its instance id.
    pub member_id: Name,
    /// Set for a static member.
    pub group_instance_id: Option<Name>,
}

/// What became of one leaving member, in request order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftMember {
    /// As in the request.
    pub member_id: Name,
    /// As in the request.
    pub group_instance_id: Option<Name>,
    /// Whether it left.
    pub outcome: Result<(), LeaveMemberError>,
}

/// OffsetCommit. The caller has refused topics and partitions that do not exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetCommit {
    /// The group. May be empty, for clients from before groups had names.
    pub group_id: Name,
    /// Negative for a commit from outside the group.
    pub generation: i32,
    /// Empty for a commit from outside the group.
    pub member_id: Name,
    /// Set for a static member.
    pub group_instance_id: Option<Name>,
    /// OffsetCommit v2 to v4: how long to keep the offsets, in milliseconds.
    pub retention_ms: Option<u64>,
    /// The positions.
    pub topics: Vec<CommitTopic>,
}

/// Positions in one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitTopic {
    /// The topic's name.
    pub name: Name,
    /// The topic's id; the offsets of an earlier topic of this name are forgotten. Zero where it
    /// is not known.
    pub topic_id: TopicId,
    /// The positions.
    pub partitions: Vec<CommitPartition>,
}

/// A position in one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitPartition {
    /// The partition.
    pub partition: i32,
    /// The next offset to consume, exactly as the client gave it.
    pub offset: i64,
    /// Leader epoch of the last consumed record; -1 where not known.
    pub leader_epoch: i32,
    /// Returned as it is.
    pub metadata: Name,
}

/// What became of the commits of one topic, in request order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommittedTopic {
    /// The topic's name.
    pub name: Name,
    /// As in the request.
    pub topic_id: TopicId,
    /// Partition and outcome.
    pub partitions: Vec<(i32, Result<(), OffsetPartitionError>)>,
}

/// OffsetFetch for one group; a door asks once per group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OffsetFetch {
    /// The group.
    pub group_id: Name,
    /// Topics and partitions; `None` asks for all that the group has.
    pub topics: Option<Vec<(Name, Vec<i32>)>>,
    /// OffsetFetch v7+: refuse offsets that a transaction may still change (KIP-447).
    pub require_stable: bool,
}

/// Stored positions of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedTopic {
    /// The topic's name.
    pub name: Name,
    /// Id of the topic that the offsets were committed for; zero where there are none.
    pub topic_id: TopicId,
    /// Partition and position; `None` where nothing is stored (-1 on the wire, no error).
    pub partitions: Vec<(i32, Option<FetchedOffset>)>,
}

/// A stored position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchedOffset {
    /// As committed.
    pub offset: i64,
    /// As committed.
    pub leader_epoch: i32,
    /// As committed.
    pub metadata: Name,
}

/// DeleteGroups for one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteGroup {
    /// The group.
    pub group_id: Name,
}

impl GroupResponse {
    /// The answer to `request` when the coordinator itself cannot serve.
    #[must_use]
    pub fn refused(request: &GroupRequest, error: CoordinatorError) -> Self {
        match request {
            GroupRequest::JoinGroup(_) => Self::JoinGroup(Err(error.into())),
            GroupRequest::SyncGroup(_) => Self::SyncGroup(Err(error.into())),
            GroupRequest::Heartbeat(_) => Self::Heartbeat(Err(error.into())),
            GroupRequest::LeaveGroup(_) => Self::LeaveGroup(Err(error.into())),
            GroupRequest::OffsetCommit(_) => Self::OffsetCommit(Err(error.into())),
            GroupRequest::OffsetFetch(_) => Self::OffsetFetch(Err(error.into())),
            GroupRequest::DeleteGroup(_) => Self::DeleteGroup(Err(error.into())),
        }
    }
}

impl GroupResponse {
    /// The same kind of answer, as a refusal.
    #[must_use]
    pub(super) fn into_refused(self, error: CoordinatorError) -> Self {
        match self {
            Self::JoinGroup(_) => Self::JoinGroup(Err(error.into())),
            Self::SyncGroup(_) => Self::SyncGroup(Err(error.into())),
            Self::Heartbeat(_) => Self::Heartbeat(Err(error.into())),
            Self::LeaveGroup(_) => Self::LeaveGroup(Err(error.into())),
            Self::OffsetCommit(_) => Self::OffsetCommit(Err(error.into())),
            Self::OffsetFetch(_) => Self::OffsetFetch(Err(error.into())),
            Self::DeleteGroup(_) => Self::DeleteGroup(Err(error.into())),
        }
    }
}
