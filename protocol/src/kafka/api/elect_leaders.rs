//! ElectLeaders: the preferred replica is to lead.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Elects leaders (KIP-183, KIP-460).
    ElectLeaders = 43 [versions 0..=2, flexible 2];

    request ElectLeadersRequest {
        /// 0 the preferred replica, 1 any replica, even one that has lost records.
        election_type: i8 [1..],
        /// Null asks for all partitions.
        topic_partitions: Option<Vec<ElectLeadersTopic>>,
        timeout_ms: i32 = 60_000,
    }

    response ElectLeadersResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode [1..],
        replica_election_results: Vec<ReplicaElectionResult>,
    }

    struct ElectLeadersTopic {
        topic: Text,
        partitions: Vec<i32>,
    }

    struct ReplicaElectionResult {
        topic: Text,
        partition_result: Vec<PartitionResult>,
    }

    struct PartitionResult {
        partition_id: i32,
        error_code: ErrorCode,
        error_message: Option<Text>,
    }
}
