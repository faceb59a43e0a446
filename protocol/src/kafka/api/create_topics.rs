//! CreateTopics: new topics, each decided alone.

use super::api;
use crate::ids::TopicId;
use crate::kafka::{ErrorCode, KafkaString};

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
        name: KafkaString,
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
        name: KafkaString,
        value: Option<KafkaString>,
    }

    struct CreatableTopicResult {
        name: KafkaString,
        topic_id: TopicId [7.., ignorable],
        error_code: ErrorCode,
        error_message: Option<KafkaString> [1.., ignorable],
        /// Why `configs` is null.
        topic_config_error_code: ErrorCode [5.., tag 0, ignorable],
        num_partitions: i32 [5.., ignorable] = -1,
        replication_factor: i16 [5.., ignorable] = -1,
        /// All effective configs (KIP-525).
        configs: Option<Vec<CreatableTopicConfigs>> [5.., ignorable] = Some(Vec::new()),
    }

    struct CreatableTopicConfigs {
        name: KafkaString [5..],
        value: Option<KafkaString> [5..],
        read_only: bool [5..],
        /// As in the API that describes configs.
        config_source: i8 [5.., ignorable] = -1,
        is_sensitive: bool [5..],
    }
}
