//! JoinGroup: a member enters a group and waits for the generation to form.

use super::api;
use crate::kafka::{ErrorCode, Text};
use bytes::Bytes;

api! {
    /// First half of a rebalance: gathers the members and chooses protocol and leader.
    JoinGroup = 11 [versions 0..=9, flexible 6];

    request JoinGroupRequest {
        group_id: Text,
        session_timeout_ms: i32,
        /// −1 below version 1: the session timeout holds for rebalances too.
        rebalance_timeout_ms: i32 [1.., ignorable] = -1,
        member_id: Text,
        group_instance_id: Option<Text> [5..],
        protocol_type: Text,
        /// In the member's order of preference.
        protocols: Vec<JoinGroupProtocol>,
        /// Free text for the log (KIP-800).
        reason: Option<Text> [8.., ignorable],
    }

    response JoinGroupResponse {
        throttle_time_ms: i32 [2.., ignorable],
        error_code: ErrorCode,
        generation_id: i32 = -1,
        protocol_type: Option<Text> [7.., ignorable],
        /// Null when there is none yet; older versions say so by empty text.
        protocol_name: Option<Text> [nullable 7.., or_empty],
        leader: Text,
        /// The leader need not compute an assignment (KIP-814).
        skip_assignment: bool [9..],
        member_id: Text,
        /// For the leader all members, for the others none.
        members: Vec<JoinGroupMember>,
    }

    struct JoinGroupProtocol {
        name: Text,
        /// Opaque.
        metadata: Bytes,
    }

    struct JoinGroupMember {
        member_id: Text,
        group_instance_id: Option<Text> [5.., ignorable],
        metadata: Bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::encode_response;
    use crate::kafka::tests::frames::golden;

    #[test]
    fn kafkajs_is_understood() {
        let (_, request) = golden::<JoinGroupRequest>(
            "000b 0005 00000005 000d6f726465722d73657276696365 \
             000f696e76656e746f72792d67726f7570 00007530 0000ea60 0000 ffff \
             0008636f6e73756d6572 00000001 0012526f756e64526f62696e41737369676e6572 \
             00000004 00010000",
        );
        assert_eq!(request.group_id, "inventory-group");
        assert_eq!((request.session_timeout_ms, request.rebalance_timeout_ms), (30_000, 60_000));
        assert_eq!(request.group_instance_id, None);
        assert_eq!(request.protocols[0].metadata, &[0, 1, 0, 0][..]);
    }

    #[test]
    fn no_protocol_yet_is_empty_text_for_old_clients() {
        let old = encode_response(&JoinGroupResponse::default(), 0, 1);
        let empty = JoinGroupResponse {
            protocol_name: Some(Text::EMPTY),
            ..JoinGroupResponse::default()
        };
        assert_eq!(old, encode_response(&empty, 0, 1));
        assert_ne!(encode_response(&JoinGroupResponse::default(), 7, 1), {
            encode_response(&empty, 7, 1)
        });
    }
}
