//! ListOffsets: the offset at a time, or at a named place of a partition.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Looks offsets up by time or by a special value.
    ListOffsets = 2 [versions 1..=11, flexible 6];

    request ListOffsetsRequest {
        /// −1 from a consumer.
        replica_id: i32,
        /// 0 reads uncommitted, 1 reads committed.
        isolation_level: i8 [2..],
        topics: Vec<ListOffsetsTopic>,
        timeout_ms: i32 [10.., ignorable],
    }

    response ListOffsetsResponse {
        throttle_time_ms: i32 [2.., ignorable],
        topics: Vec<ListOffsetsTopicResponse>,
    }

    struct ListOffsetsTopic {
        name: Text,
        partitions: Vec<ListOffsetsPartition>,
    }

    struct ListOffsetsPartition {
        partition_index: i32,
        current_leader_epoch: i32 [4.., ignorable] = -1,
        /// Unix milliseconds, or −1 latest, −2 earliest, −3 largest timestamp (7), −4 earliest
        /// local (8), −5 last tiered (9), −6 earliest pending upload (11).
        timestamp: i64,
    }

    struct ListOffsetsTopicResponse {
        name: Text,
        partitions: Vec<ListOffsetsPartitionResponse>,
    }

    struct ListOffsetsPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
        /// −1 where there is none.
        timestamp: i64 [1..] = -1,
        /// −1 where there is none.
        offset: i64 [1..] = -1,
        // Kafka refuses a value below version 4; an old client loses nothing by not seeing it.
        leader_epoch: i32 [4.., ignorable] = -1,
    }
}
