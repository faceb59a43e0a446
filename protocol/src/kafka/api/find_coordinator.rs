//! FindCoordinator: which broker coordinates a group or a transaction.

use super::api;
use crate::kafka::{ErrorCode, KafkaString};

api! {
    /// Finds coordinators; several keys at once from version 4 on (KIP-699).
    FindCoordinator = 10 [versions 0..=6, flexible 3];

    request FindCoordinatorRequest {
        key: KafkaString [0..=3],
        /// 0 group, 1 transaction, 2 share group.
        key_type: i8 [1..],
        coordinator_keys: Vec<KafkaString> [4..],
    }

    response FindCoordinatorResponse {
        throttle_time_ms: i32 [1.., ignorable],
        error_code: ErrorCode [0..=3],
        error_message: Option<KafkaString> [1..=3, ignorable],
        node_id: i32 [0..=3],
        host: KafkaString [0..=3],
        port: i32 [0..=3],
        coordinators: Vec<Coordinator> [4..],
    }

    struct Coordinator {
        key: KafkaString [4..],
        node_id: i32 [4..],
        host: KafkaString [4..],
        port: i32 [4..],
        error_code: ErrorCode [4..],
        error_message: Option<KafkaString> [4.., ignorable],
    }
}
