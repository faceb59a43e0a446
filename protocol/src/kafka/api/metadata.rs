//! Metadata: brokers, topics, partitions and their leaders.

use super::api;
use crate::ids::TopicId;
use crate::kafka::{ErrorCode, Text};

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
        cluster_id: Option<Text> [2.., ignorable],
        /// One of `brokers`, or −1 while it is unknown.
        controller_id: i32 [1.., ignorable] = -1,
        topics: Vec<MetadataTopic>,
        // Kafka refuses a value at versions that lack it; dropping it takes nothing away.
        cluster_authorized_operations: i32 [8..=10, ignorable] = OPERATIONS_OMITTED,
        error_code: ErrorCode [13.., ignorable],
    }

    struct MetadataRequestTopic {
        topic_id: TopicId [10.., ignorable],
        name: Option<Text> [nullable 10..] = Some(Text::EMPTY),
    }

    struct MetadataBroker {
        node_id: i32,
        host: Text,
        port: i32,
        rack: Option<Text> [1.., ignorable],
    }

    struct MetadataTopic {
        error_code: ErrorCode,
        name: Option<Text> [nullable 12..] = Some(Text::EMPTY),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::tests::frames::{golden, hex};
    use crate::kafka::{DecodeFault, RequestError, decode_request};

    #[test]
    fn kafkajs_and_the_java_client_are_understood() {
        let (_, request) = golden::<MetadataRequest>(
            "0003 0006 00000005 000d6f726465722d73657276696365 \
             00000001 000d6f726465722d63726561746564 01",
        );
        let topics = request.topics.expect("one topic is asked for");
        assert_eq!(topics[0].name, Some("order-created".into()));
        let (_, request) = golden::<MetadataRequest>(
            "0003 000d 00000009 00046a617661 00 \
             02 00000000000000000000000000000000 0e6f726465722d63726561746564 00 01 00 00",
        );
        assert_eq!(request.topics, Some(topics));
        assert!(request.allow_auto_topic_creation);
    }

    #[test]
    fn null_asks_for_all_topics_and_has_no_form_at_version_0() {
        let null = "ffffffff";
        let at = |version: &str| decode_request(hex(&format!("0003{version}00000000ffff{null}")));
        assert!(at("0001").is_ok());
        let Err(RequestError::Malformed(error)) = at("0000") else { panic!("null at version 0") };
        assert_eq!((error.field, error.fault), ("topics", DecodeFault::Null));
        assert_eq!(
            error.to_string(),
            "MetadataRequest v0, field topics, byte 14: null found, a value expected"
        );
    }

    #[test]
    fn eight_bytes_that_ask_for_gigabytes_get_an_error() {
        let frame = hex("0003 0008 00000000 ffff 7fffffff 00000000");
        let Err(RequestError::Malformed(error)) = decode_request(frame) else {
            panic!("there are no 2^31 - 1 topics in four bytes");
        };
        let fault = DecodeFault::Count { found: 0x7fff_ffff, elements_max: 2 };
        assert_eq!((error.field, error.fault), ("topics", fault));
    }
}
