//! Topics: made, altered, deleted, described.

use crate::ids::TopicId;
use crate::wire::notation::structure;
use crate::wire::{ErrorCode, Text};

structure! {
    /// Makes topics. Each is decided alone.
    CreateTopicsRequest {
        topics: Vec<NewTopic>,
        /// Whether only to say what would happen.
        validate_only: bool,
        timeout_ms: i32,
    }
}

structure! {
    /// A topic to make.
    NewTopic {
        name: Text,
        /// −1 for the cluster's default.
        partitions: i32 = -1,
        /// −1 for the cluster's default.
        replication_factor: i32 = -1,
        configs: Vec<ConfigValue>,
    }
}

structure! {
    /// A config under Kafka's name.
    ConfigValue {
        name: Text,
        /// Null returns to the default.
        value: Option<Text>,
    }
}

structure! {
    /// What came of each, in the order of the request.
    CreateTopicsResponse {
        topics: Vec<TopicOutcome>,
    }
}

structure! {
    /// What came of one topic.
    TopicOutcome {
        error_code: ErrorCode,
        /// Empty without an error.
        message: Text,
        name: Text,
        /// Zero with an error, or where nothing was made.
        id: TopicId,
        partitions: i32 = -1,
        replication_factor: i32 = -1,
    }
}

structure! {
    /// Deletes topics by name. Each is decided alone.
    DeleteTopicsRequest {
        names: Vec<Text>,
        timeout_ms: i32,
    }
}

structure! {
    /// What came of each, in the order of the request.
    DeleteTopicsResponse {
        topics: Vec<TopicOutcome>,
    }
}

structure! {
    /// Changes configs of a topic, raises its number of partitions, has its partitions copied to
    /// more nodes or to fewer, or several of these.
    AlterTopicRequest {
        name: Text,
        configs: Vec<ConfigValue>,
        /// The new number of partitions; −1 leaves it.
        partitions: i32 = -1,
        validate_only: bool,
        timeout_ms: i32,
        /// How many nodes are to hold each partition; −1 leaves it.
        replication_factor: i32 [tag 0] = -1,
    }
}

structure! {
    /// Done.
    AlterTopicResponse {}
}

structure! {
    /// Asks for a topic's configs.
    DescribeTopicRequest {
        name: Text,
    }
}

structure! {
    /// A topic with everything that an operator wants to see of it.
    DescribeTopicResponse {
        name: Text,
        id: TopicId,
        configs: Vec<ConfigDescription>,
        partitions: Vec<PartitionDescription>,
    }
}

structure! {
    /// A config with its origin.
    ConfigDescription {
        name: Text,
        value: Option<Text>,
        /// `topic`, `broker`, `default`.
        source: Text,
    }
}

structure! {
    /// A partition's place and extent.
    PartitionDescription {
        partition: i32,
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
        replicas: Vec<i32>,
        log_start: i64 = -1,
        high_watermark: i64 = -1,
        /// Bytes of the log on the answering node; −1 where it is not there.
        log_bytes: i64 = -1,
    }
}
