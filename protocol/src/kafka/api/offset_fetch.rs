//! OffsetFetch: the positions that groups have stored.

use super::api;
use crate::ids::TopicId;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Reads positions: of one group up to version 7, of several from 8 on (KIP-709).
    OffsetFetch = 9 [versions 1..=10, flexible 6];

    request OffsetFetchRequest {
        group_id: Text [0..=7],
        /// Null asks for all.
        topics: Option<Vec<OffsetFetchTopic>> [0..=7, nullable 2..] = Some(Vec::new()),
        groups: Vec<OffsetFetchGroup> [8..],
        /// Positions in an open transaction are an error rather than left out (KIP-447).
        require_stable: bool [7..],
    }

    response OffsetFetchResponse {
        throttle_time_ms: i32 [3.., ignorable],
        topics: Vec<OffsetFetchTopicResponse> [0..=7],
        error_code: ErrorCode [2..=7, ignorable],
        groups: Vec<OffsetFetchGroupResponse> [8..],
    }

    /// A topic of the one group, up to version 7.
    struct OffsetFetchTopic {
        name: Text [0..=7],
        partition_indexes: Vec<i32> [0..=7],
    }

    struct OffsetFetchGroup {
        group_id: Text [8..],
        member_id: Option<Text> [9.., ignorable],
        member_epoch: i32 [9.., ignorable] = -1,
        /// Null asks for all.
        topics: Option<Vec<OffsetFetchTopics>> [8..] = Some(Vec::new()),
    }

    /// A topic of one of several groups, from version 8 on.
    struct OffsetFetchTopics {
        name: Text [8..=9, ignorable],
        topic_id: TopicId [10.., ignorable],
        partition_indexes: Vec<i32> [8..],
    }

    struct OffsetFetchTopicResponse {
        name: Text [0..=7],
        partitions: Vec<OffsetFetchPartitionResponse> [0..=7],
    }

    struct OffsetFetchPartitionResponse {
        partition_index: i32 [0..=7],
        /// −1 where nothing is stored.
        committed_offset: i64 [0..=7],
        committed_leader_epoch: i32 [5..=7, ignorable] = -1,
        metadata: Option<Text> [0..=7] = Some(Text::EMPTY),
        error_code: ErrorCode [0..=7],
    }

    struct OffsetFetchGroupResponse {
        group_id: Text [8..],
        topics: Vec<OffsetFetchTopicsResponse> [8..],
        error_code: ErrorCode [8..],
    }

    struct OffsetFetchTopicsResponse {
        name: Text [8..=9, ignorable],
        topic_id: TopicId [10.., ignorable],
        partitions: Vec<OffsetFetchPartitionsResponse> [8..],
    }

    struct OffsetFetchPartitionsResponse {
        partition_index: i32 [8..],
        /// −1 where nothing is stored.
        committed_offset: i64 [8..],
        committed_leader_epoch: i32 [8.., ignorable] = -1,
        metadata: Option<Text> [8..] = Some(Text::EMPTY),
        error_code: ErrorCode [8..],
    }
}
