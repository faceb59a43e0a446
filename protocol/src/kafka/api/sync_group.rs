//! SyncGroup: the leader hands in assignments, every member gets its own.

use super::api;
use crate::kafka::{ErrorCode, Text};
use bytes::Bytes;

api! {
    /// Second half of a rebalance: distributes the leader's assignments.
    SyncGroup = 14 [versions 0..=5, flexible 4];

    request SyncGroupRequest {
        group_id: Text,
        generation_id: i32,
        member_id: Text,
        group_instance_id: Option<Text> [3..],
        protocol_type: Option<Text> [5.., ignorable],
        protocol_name: Option<Text> [5.., ignorable],
        /// From the leader one per member, from the others none.
        assignments: Vec<SyncGroupAssignment>,
    }

    response SyncGroupResponse {
        throttle_time_ms: i32 [1.., ignorable],
        error_code: ErrorCode,
        protocol_type: Option<Text> [5.., ignorable],
        protocol_name: Option<Text> [5.., ignorable],
        /// Opaque; empty for a member that the leader left out.
        assignment: Bytes,
    }

    struct SyncGroupAssignment {
        member_id: Text,
        assignment: Bytes,
    }
}
