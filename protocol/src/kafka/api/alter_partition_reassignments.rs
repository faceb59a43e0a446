//! AlterPartitionReassignments: which brokers are to hold a partition.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Moves partitions, or cancels that (KIP-455).
    AlterPartitionReassignments = 45 [versions 0..=1, flexible 0];

    request AlterPartitionReassignmentsRequest {
        timeout_ms: i32 = 60_000,
        /// Whether the number of replicas may become another (KIP-860).
        allow_replication_factor_change: bool [1.., ignorable] = true,
        topics: Vec<ReassignableTopic>,
    }

    response AlterPartitionReassignmentsResponse {
        throttle_time_ms: i32,
        allow_replication_factor_change: bool [1.., ignorable] = true,
        error_code: ErrorCode,
        error_message: Option<Text>,
        responses: Vec<ReassignableTopicResponse>,
    }

    struct ReassignableTopic {
        name: Text,
        partitions: Vec<ReassignablePartition>,
    }

    struct ReassignablePartition {
        partition_index: i32,
        /// Null cancels what is under way.
        replicas: Option<Vec<i32>>,
    }

    struct ReassignableTopicResponse {
        name: Text,
        partitions: Vec<ReassignablePartitionResponse>,
    }

    struct ReassignablePartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        error_message: Option<Text>,
    }
}
