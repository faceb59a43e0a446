//! OffsetCommit: how far a group has come.

use super::api;
use crate::ids::TopicId;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Stores a group's positions.
    OffsetCommit = 8 [versions 2..=10, flexible 8];

    request OffsetCommitRequest {
        group_id: Text,
        /// −1 from a client that is no member.
        generation_id_or_member_epoch: i32 [1.., ignorable] = -1,
        member_id: Text [1.., ignorable],
        group_instance_id: Option<Text> [7..],
        /// −1 for the broker's own retention.
        retention_time_ms: i64 [2..=4, ignorable] = -1,
        topics: Vec<OffsetCommitTopic>,
    }

    response OffsetCommitResponse {
        throttle_time_ms: i32 [3.., ignorable],
        topics: Vec<OffsetCommitTopicResponse>,
    }

    struct OffsetCommitTopic {
        name: Text [0..=9, ignorable],
        topic_id: TopicId [10.., ignorable],
        partitions: Vec<OffsetCommitPartition>,
    }

    struct OffsetCommitPartition {
        partition_index: i32,
        committed_offset: i64,
        committed_leader_epoch: i32 [6.., ignorable] = -1,
        committed_metadata: Option<Text> = Some(Text::EMPTY),
    }

    struct OffsetCommitTopicResponse {
        name: Text [0..=9, ignorable],
        topic_id: TopicId [10.., ignorable],
        partitions: Vec<OffsetCommitPartitionResponse>,
    }

    struct OffsetCommitPartitionResponse {
        partition_index: i32,
        error_code: ErrorCode,
    }
}
