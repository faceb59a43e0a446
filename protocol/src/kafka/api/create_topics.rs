//! CreateTopics: new topics, each decided alone.

use super::api;
use crate::ids::TopicId;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Creates topics.
    CreateTopics = 19 [versions 2..=7, flexible 5];

    request CreateTopicsRequest {
        topics: Vec<CreatableTopic>,
        timeout_ms: i32 = 60_000,
        /// Only says what would happen.
        validate_only: bool [1..],
    }

    response CreateTopicsResponse {
        throttle_time_ms: i32 [2.., ignorable],
        topics: Vec<CreatableTopicResult>,
    }

    struct CreatableTopic {
        name: Text,
        /// −1 for the broker's default (KIP-464), or where `assignments` says it.
        num_partitions: i32,
        /// −1 for the broker's default (KIP-464), or where `assignments` says it.
        replication_factor: i16,
        assignments: Vec<CreatableReplicaAssignment>,
        configs: Vec<CreatableTopicConfig>,
    }

    struct CreatableReplicaAssignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }

    struct CreatableTopicConfig {
        name: Text,
        value: Option<Text>,
    }

    struct CreatableTopicResult {
        name: Text,
        topic_id: TopicId [7.., ignorable],
        error_code: ErrorCode,
        error_message: Option<Text> [1.., ignorable],
        /// Why `configs` is null.
        topic_config_error_code: ErrorCode [5.., tag 0, ignorable],
        num_partitions: i32 [5.., ignorable] = -1,
        replication_factor: i16 [5.., ignorable] = -1,
        /// All effective configs (KIP-525).
        configs: Option<Vec<CreatableTopicConfigs>> [5.., ignorable] = Some(Vec::new()),
    }

    struct CreatableTopicConfigs {
        name: Text [5..],
        value: Option<Text> [5..],
        read_only: bool [5..],
        /// As in the API that describes configs.
        config_source: i8 [5.., ignorable] = -1,
        is_sensitive: bool [5..],
    }
}
