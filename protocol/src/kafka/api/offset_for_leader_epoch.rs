//! OffsetForLeaderEpoch: where the records of a leader epoch end.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Lets a client find the point up to which its log and ours agree (KIP-101, KIP-320).
    OffsetForLeaderEpoch = 23 [versions 2..=4, flexible 4];

    request OffsetForLeaderEpochRequest {
        /// −1 from a consumer.
        replica_id: i32 [3.., ignorable] = -2,
        topics: Vec<EpochTopic>,
    }

    response OffsetForLeaderEpochResponse {
        throttle_time_ms: i32 [2.., ignorable],
        topics: Vec<EpochTopicResult>,
    }

    struct EpochTopic {
        topic: Text,
        partitions: Vec<EpochPartition>,
    }

    struct EpochPartition {
        partition: i32,
        /// What the client takes for the current epoch, or −1.
        current_leader_epoch: i32 [2.., ignorable] = -1,
        /// The epoch that it asks about.
        leader_epoch: i32,
    }

    struct EpochTopicResult {
        topic: Text,
        partitions: Vec<EpochEnd>,
    }

    struct EpochEnd {
        error_code: ErrorCode,
        partition: i32,
        /// Largest epoch up to the one asked about, or −1.
        leader_epoch: i32 [1.., ignorable] = -1,
        /// First offset behind that epoch, or −1.
        end_offset: i64 = -1,
    }
}
