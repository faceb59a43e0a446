//! JoinGroup: a member enters a group and waits for the generation to form.

use super::api;
use crate::kafka::{ErrorCode, KafkaString};
use bytes::Bytes;

api! {
    /// First half of a rebalance: gathers the members and chooses protocol and leader.
    JoinGroup = 11 [versions 0..=9, flexible 6];

    request JoinGroupRequest {
        group_id: KafkaString,
        session_timeout_ms: i32,
        /// −1 below version 1: the session timeout holds for rebalances too.
        rebalance_timeout_ms: i32 [1.., ignorable] = -1,
        member_id: KafkaString,
        group_instance_id: Option<KafkaString> [5..],
        protocol_type: KafkaString,
        /// In the member's order of preference.
        protocols: Vec<JoinGroupProtocol>,
        /// Free text for the log (KIP-800).
        reason: Option<KafkaString> [8.., ignorable],
    }

    response JoinGroupResponse {
        throttle_time_ms: i32 [2.., ignorable],
        error_code: ErrorCode,
        generation_id: i32 = -1,
        protocol_type: Option<KafkaString> [7.., ignorable],
        /// Null when there is none yet; older versions say so by empty text.
        protocol_name: Option<KafkaString> [nullable 7.., or_empty],
        leader: KafkaString,
        /// The leader need not compute an assignment (KIP-814).
        skip_assignment: bool [9..],
        member_id: KafkaString,
        /// For the leader all members, for the others none.
        members: Vec<JoinGroupMember>,
    }

    struct JoinGroupProtocol {
        name: KafkaString,
        /// Opaque.
        metadata: Bytes,
    }

    struct JoinGroupMember {
        member_id: KafkaString,
        group_instance_id: Option<KafkaString> [5.., ignorable],
        metadata: Bytes,
    }
}
