//! Consumer groups: the coordinator that Kafka's clients use, by the same names and bytes.
//!
//! Assignor names, subscriptions and assignments are those of Kafka's consumer protocol, so that
//! members of both protocols share a group.

use crate::ids::TopicId;
use crate::wire::notation::structure;
use crate::wire::{ErrorCode, Text};
use bytes::Bytes;

structure! {
    /// Enters a group and waits for the generation to form.
    JoinRequest {
        group_id: Text,
        /// Empty for a new member.
        member_id: Text,
        /// Set for a static member (KIP-345).
        group_instance_id: Option<Text>,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32,
        protocol_type: Text,
        /// In the member's order of preference.
        protocols: Vec<GroupProtocol>,
    }
}

structure! {
    /// An assignor that a member offers.
    GroupProtocol {
        name: Text,
        /// The subscription. Opaque to the broker.
        metadata: Bytes,
    }
}

structure! {
    /// The generation that began.
    JoinResponse {
        generation: i32,
        protocol_type: Text,
        protocol_name: Text,
        leader: Text,
        member_id: Text,
        /// The leader need not compute an assignment (KIP-814).
        skip_assignment: bool,
        /// For the leader all members, for the others none.
        members: Vec<GroupMember>,
    }
}

structure! {
    /// A member as the leader sees it.
    GroupMember {
        member_id: Text,
        group_instance_id: Option<Text>,
        metadata: Bytes,
    }
}

structure! {
    /// Hands in, or waits for, the assignments of a generation.
    SyncRequest {
        group_id: Text,
        generation: i32,
        member_id: Text,
        group_instance_id: Option<Text>,
        protocol_type: Text,
        protocol_name: Text,
        /// From the leader; empty from everybody else.
        assignments: Vec<MemberAssignment>,
    }
}

structure! {
    /// What one member has to do.
    MemberAssignment {
        member_id: Text,
        assignment: Bytes,
    }
}

structure! {
    /// This member's part.
    SyncResponse {
        protocol_type: Text,
        protocol_name: Text,
        /// Empty when the leader gave this member nothing.
        assignment: Bytes,
    }
}

structure! {
    /// Stays a member.
    HeartbeatRequest {
        group_id: Text,
        generation: i32,
        member_id: Text,
        group_instance_id: Option<Text>,
    }
}

structure! {
    /// The member is one, and no rebalance runs.
    HeartbeatResponse {}
}

structure! {
    /// Members leave.
    LeaveRequest {
        group_id: Text,
        members: Vec<LeavingMember>,
    }
}

structure! {
    /// One of them.
    LeavingMember {
        member_id: Text,
        group_instance_id: Option<Text>,
    }
}

structure! {
    /// Codes in the order of the request.
    LeaveResponse {
        error_codes: Vec<ErrorCode>,
    }
}

structure! {
    /// Stores positions. Answered when they are durable.
    CommitRequest {
        group_id: Text,
        /// −1 from outside the group.
        generation: i32 = -1,
        /// Empty from outside the group.
        member_id: Text,
        group_instance_id: Option<Text>,
        positions: Vec<CommittedPosition>,
    }
}

structure! {
    /// How far a group has come in one partition.
    CommittedPosition {
        topic_id: TopicId,
        partition: i32,
        /// The next offset to consume.
        offset: i64,
        /// Of the last consumed record; −1 where it is not known.
        leader_epoch: i32 = -1,
        metadata: Text,
    }
}

structure! {
    /// Codes in the order of the request.
    CommitResponse {
        error_codes: Vec<ErrorCode>,
    }
}

structure! {
    /// Reads stored positions.
    CommittedRequest {
        group_id: Text,
        /// Null asks for all that the group has.
        partitions: Option<Vec<TopicPartition>>,
    }
}

structure! {
    /// A partition of a topic.
    TopicPartition {
        topic_id: TopicId,
        partition: i32,
    }
}

structure! {
    /// Stored positions. A partition without one has offset −1.
    CommittedResponse {
        positions: Vec<StoredPosition>,
    }
}

structure! {
    /// A stored position.
    StoredPosition {
        topic_id: TopicId,
        topic: Text,
        partition: i32,
        error_code: ErrorCode,
        offset: i64 = -1,
        leader_epoch: i32 = -1,
        metadata: Text,
    }
}

structure! {
    /// Asks where a group's coordinator is.
    CoordinatorRequest {
        group_id: Text,
    }
}

structure! {
    /// A node of the metadata.
    CoordinatorResponse {
        node_id: i32,
    }
}

structure! {
    /// Asks for all groups that this node coordinates.
    ListGroupsRequest {}
}

structure! {
    /// Groups in the order of their ids.
    ListGroupsResponse {
        groups: Vec<GroupListing>,
    }
}

structure! {
    /// One group.
    GroupListing {
        group_id: Text,
        /// Empty for a group that only ever stored positions.
        protocol_type: Text,
        /// `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`.
        state: Text,
    }
}

structure! {
    /// Asks for groups in full.
    DescribeGroupsRequest {
        group_ids: Vec<Text>,
    }
}

structure! {
    /// Groups in the order of the request.
    DescribeGroupsResponse {
        groups: Vec<GroupDescription>,
    }
}

structure! {
    /// One group in full.
    GroupDescription {
        error_code: ErrorCode,
        group_id: Text,
        state: Text,
        protocol_type: Text,
        protocol_name: Text,
        generation: i32,
        leader: Text,
        members: Vec<MemberDescription>,
        /// The group's positions beside the ends of the logs.
        lags: Vec<PartitionLag>,
    }
}

structure! {
    /// A member of a described group.
    MemberDescription {
        member_id: Text,
        group_instance_id: Option<Text>,
        client_id: Text,
        client_host: Text,
        metadata: Bytes,
        assignment: Bytes,
    }
}

structure! {
    /// How far a group is behind in one partition.
    PartitionLag {
        topic: Text,
        partition: i32,
        /// −1 without a commit.
        committed: i64 = -1,
        /// −1 where the partition does not exist any more.
        high_watermark: i64 = -1,
        log_start: i64 = -1,
    }
}

structure! {
    /// Removes groups without members, with their positions.
    DeleteGroupsRequest {
        group_ids: Vec<Text>,
    }
}

structure! {
    /// Codes in the order of the request.
    DeleteGroupsResponse {
        error_codes: Vec<ErrorCode>,
    }
}
