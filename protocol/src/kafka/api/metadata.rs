//! Metadata: brokers, topics, partitions and their leaders.

use super::api;
use crate::ids::TopicId;
use crate::kafka::{ErrorCode, KafkaString};

/// The value of a set of permitted operations that nobody has asked for.
pub const OPERATIONS_OMITTED: i32 = i32::MIN;

api! {
    /// Describes the cluster to clients, and creates topics on first use.
    Metadata = 3 [versions 0..=13, flexible 9];

    request MetadataRequest {
        /// Null asks for all topics, an empty list for none; at version 0 an empty list for all.
        topics: Option<Vec<MetadataRequestTopic>> [nullable 1..] = Some(Vec::new()),
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    response MetadataResponse {
        throttle_time_ms: i32 [3.., ignorable],
        brokers: Vec<MetadataBroker>,
        cluster_id: Option<KafkaString> [2.., ignorable],
        /// One of `brokers`, or −1 while it is unknown.
        controller_id: i32 [1.., ignorable] = -1,
        topics: Vec<MetadataTopic>,
        // Kafka refuses a value at versions that lack it; dropping it takes nothing away.
        cluster_authorized_operations: i32 [8..=10, ignorable] = OPERATIONS_OMITTED,
        error_code: ErrorCode [13.., ignorable],
    }

    struct MetadataRequestTopic {
        topic_id: TopicId [10.., ignorable],
        name: Option<KafkaString> [nullable 10..] = Some(KafkaString::EMPTY),
    }

    struct MetadataBroker {
        node_id: i32,
        host: KafkaString,
        port: i32,
        rack: Option<KafkaString> [1.., ignorable],
    }

    struct MetadataTopic {
        error_code: ErrorCode,
        name: Option<KafkaString> [nullable 12..] = Some(KafkaString::EMPTY),
        topic_id: TopicId [10.., ignorable],
        is_internal: bool [1.., ignorable],
        partitions: Vec<MetadataPartition>,
        topic_authorized_operations: i32 [8.., ignorable] = OPERATIONS_OMITTED,
    }

    struct MetadataPartition {
        error_code: ErrorCode,
        partition_index: i32,
        leader_id: i32,
        leader_epoch: i32 [7.., ignorable] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5.., ignorable],
    }
}
