//! LeaveGroup: members leave a group, or are removed from it by an administrator.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Takes members out of a group; several at once from version 3 on (KIP-345).
    LeaveGroup = 13 [versions 0..=5, flexible 4];

    request LeaveGroupRequest {
        group_id: Text,
        /// The one member that leaves.
        member_id: Text [0..=2],
        /// The members that leave.
        members: Vec<LeaveGroupMember> [3..],
    }

    response LeaveGroupResponse {
        throttle_time_ms: i32 [1.., ignorable],
        error_code: ErrorCode,
        members: Vec<LeaveGroupMemberResponse> [3..],
    }

    struct LeaveGroupMember {
        /// Empty where a static member is named by its instance id alone.
        member_id: Text [3..],
        group_instance_id: Option<Text> [3..],
        /// Free text for the log (KIP-800).
        reason: Option<Text> [5.., ignorable],
    }

    struct LeaveGroupMemberResponse {
        member_id: Text [3..],
        group_instance_id: Option<Text> [3..],
        error_code: ErrorCode [3..],
    }
}
