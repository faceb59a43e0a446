//! ListPartitionReassignments: which partitions are being moved.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Lists partitions that are being moved (KIP-455).
    ListPartitionReassignments = 46 [versions 0..=0, flexible 0];

    request ListPartitionReassignmentsRequest {
        timeout_ms: i32 = 60_000,
        /// Null asks for all.
        topics: Option<Vec<ListPartitionReassignmentsTopics>>,
    }

    response ListPartitionReassignmentsResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Text>,
        topics: Vec<OngoingTopicReassignment>,
    }

    struct ListPartitionReassignmentsTopics {
        name: Text,
        partition_indexes: Vec<i32>,
    }

    struct OngoingTopicReassignment {
        name: Text,
        partitions: Vec<OngoingPartitionReassignment>,
    }

    struct OngoingPartitionReassignment {
        partition_index: i32,
        /// Who holds it now, or will.
        replicas: Vec<i32>,
        adding_replicas: Vec<i32>,
        removing_replicas: Vec<i32>,
    }
}
