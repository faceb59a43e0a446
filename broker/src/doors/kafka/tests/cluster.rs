//! Topics, their configs and offsets, and what the cluster says of itself.

use super::node::{Client, TestNode};
use super::records::{auto_create, batch, produce, produced};
use bateau_protocol::ids::TopicId;
use bateau_protocol::kafka::api::api_versions::{ApiVersions, ApiVersionsRequest};
use bateau_protocol::kafka::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopics, CreateTopicsRequest,
};
use bateau_protocol::kafka::api::delete_topics::{
    DeleteTopicState, DeleteTopics, DeleteTopicsRequest,
};
use bateau_protocol::kafka::api::describe_cluster::{DescribeCluster, DescribeClusterRequest};
use bateau_protocol::kafka::api::describe_configs::{
    DescribeConfigs, DescribeConfigsRequest, DescribeConfigsResource,
};
use bateau_protocol::kafka::api::fetch::{Fetch, FetchTopic};
use bateau_protocol::kafka::api::init_producer_id::{InitProducerId, InitProducerIdRequest};
use bateau_protocol::kafka::api::list_offsets::{
    ListOffsets, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use bateau_protocol::kafka::api::metadata::{
    Metadata, MetadataRequest, MetadataRequestTopic, MetadataTopic,
};
use bateau_protocol::kafka::api::offset_for_leader_epoch::{
    EpochPartition, EpochTopic, OffsetForLeaderEpoch, OffsetForLeaderEpochRequest,
};
use bateau_protocol::kafka::{ErrorCode, Text};

fn text(text: &'static str) -> Text {
    Text::from_static(text)
}

async fn described(
    client: &mut Client,
    version: i16,
    topics: Option<Vec<MetadataRequestTopic>>,
) -> Vec<MetadataTopic> {
    let allow_auto_topic_creation = version < 4;
    let request =
        MetadataRequest { topics, allow_auto_topic_creation, ..MetadataRequest::default() };
    client.call::<Metadata>(version, &request).await.topics
}

fn by_name(name: &'static str) -> MetadataRequestTopic {
    MetadataRequestTopic { name: Some(text(name)), ..MetadataRequestTopic::default() }
}

fn by_id(topic_id: TopicId) -> MetadataRequestTopic {
    MetadataRequestTopic { topic_id, name: None }
}

/// The id of a topic that exists.
pub async fn topic_id(client: &mut Client, name: &'static str) -> TopicId {
    described(client, 12, Some(vec![by_name(name)])).await[0].topic_id
}

#[tokio::test]
async fn topics_are_created_on_first_use_unless_client_or_cluster_forbid_it() {
    let node = TestNode::start(&["topics.partitions_default=3"]).await;
    let mut client = node.connect().await;
    let forbidden = described(&mut client, 4, Some(vec![by_name("orders"), by_name("no way")]));
    let codes: Vec<ErrorCode> = forbidden.await.iter().map(|topic| topic.error_code).collect();
    let (unknown, invalid) =
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::INVALID_TOPIC_EXCEPTION);
    assert_eq!(codes, [unknown, invalid]);
    let wanted = ["orders", "orders", "no way", "", "events"].map(by_name);
    let made = described(&mut client, 3, Some(wanted.to_vec())).await;
    let codes: Vec<ErrorCode> = made.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, invalid, invalid, ErrorCode::NONE], "each name once");
    for topic in made.iter().filter(|topic| topic.error_code.is_none()) {
        assert_eq!(topic.partitions.len(), 3);
        let is_led = |code: ErrorCode, leader: i32| code.is_none() && leader == 1;
        assert!(topic.partitions.iter().all(|part| is_led(part.error_code, part.leader_id)));
    }
    node.stop().await;
    let node = TestNode::start(&["topics.auto_create=false"]).await;
    let mut client = node.connect().await;
    let refused = described(&mut client, 1, Some(vec![by_name("orders")])).await;
    assert_eq!(refused[0].error_code, unknown);
    node.stop().await;
}

#[tokio::test]
async fn an_empty_list_of_topics_means_all_at_version_0_and_none_from_then_on() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    assert_eq!(described(&mut client, 0, Some(Vec::new())).await.len(), 1);
    assert_eq!(described(&mut client, 1, Some(Vec::new())).await.len(), 0);
    assert_eq!(described(&mut client, 1, None).await.len(), 1, "internal topics are not shown");
    node.stop().await;
}

#[tokio::test]
async fn topics_are_known_by_id_from_version_12_of_metadata_on() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    let id = topic_id(&mut client, "orders").await;
    let unknown = TopicId([7; 16]);
    let found = described(&mut client, 12, Some(vec![by_id(id), by_id(unknown)])).await;
    assert_eq!((found[0].error_code, found[0].name.as_deref()), (ErrorCode::NONE, Some("orders")));
    assert_eq!((found[1].error_code, &found[1].name), (ErrorCode::UNKNOWN_TOPIC_ID, &None));
    let early = described(&mut client, 10, Some(vec![by_id(id)])).await;
    assert_eq!(early[0].error_code, ErrorCode::INVALID_REQUEST);
    let fetch = |topic_id| {
        let mut request = super::records::fetch("", 0);
        let partitions = request.topics.remove(0).partitions;
        request.topics.push(FetchTopic { topic_id, partitions, ..FetchTopic::default() });
        request
    };
    for (id, code) in [(id, ErrorCode::NONE), (unknown, ErrorCode::UNKNOWN_TOPIC_ID)] {
        for version in [13, 18] {
            let answer = client.call::<Fetch>(version, &fetch(id)).await.responses.remove(0);
            assert_eq!((answer.topic_id, answer.partitions[0].error_code), (id, code));
        }
    }
    node.stop().await;
}

#[tokio::test]
async fn a_topic_is_created_described_and_deleted() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let config = |name, value| CreatableTopicConfig { name, value: Some(value) };
    let topic = |name, configs| CreatableTopic {
        name: text(name),
        num_partitions: 2,
        replication_factor: 1,
        configs,
        ..CreatableTopic::default()
    };
    let topics = vec![
        topic("orders", vec![config(text("retention.ms"), text("1000"))]),
        topic("no way", Vec::new()),
        topic("odd", vec![config(text("cleanup.policy"), text("compact"))]),
    ];
    let request = CreateTopicsRequest { topics, ..CreateTopicsRequest::default() };
    let made = client.call::<CreateTopics>(7, &request).await.topics;
    let codes: Vec<ErrorCode> = made.iter().map(|topic| topic.error_code).collect();
    let (invalid, refused) = (ErrorCode::INVALID_TOPIC_EXCEPTION, ErrorCode::INVALID_CONFIG);
    assert_eq!(codes, [ErrorCode::NONE, invalid, refused]);
    assert_eq!((made[0].num_partitions, made[0].replication_factor), (2, 1));
    let configs = made[0].configs.as_ref().expect("all configs");
    let retention = configs.iter().find(|config| config.name == "retention.ms").expect("is one");
    assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
    let found = described(&mut client, 9, Some(vec![by_name("orders")])).await;
    assert_eq!(found[0].partitions.len(), 2);
    let by_name = DeleteTopicsRequest {
        topic_names: vec![text("orders"), text("nowhere")],
        timeout_ms: 10_000,
        ..DeleteTopicsRequest::default()
    };
    let gone = client.call::<DeleteTopics>(5, &by_name).await.responses;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!((gone[0].error_code, gone[1].error_code), (ErrorCode::NONE, unknown));
    assert_eq!(described(&mut client, 9, None).await, []);
    let state = DeleteTopicState { name: None, topic_id: made[0].topic_id };
    let by_id = DeleteTopicsRequest { topics: vec![state], ..by_name };
    let gone = client.call::<DeleteTopics>(6, &by_id).await.responses;
    assert_eq!(gone[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    node.stop().await;
}

#[tokio::test]
async fn configs_are_described_as_far_as_they_were_asked_for() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    let ask = |resource_type, name, keys: Option<&[&'static str]>| DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type,
            resource_name: text(name),
            configuration_keys: keys.map(|keys| keys.iter().map(|key| text(key)).collect()),
        }],
        ..DescribeConfigsRequest::default()
    };
    for (kind, name, keys, code, count) in [
        (2, "orders", Some(&["retention.ms", "no.such"][..]), ErrorCode::NONE, 1..=1),
        (2, "orders", Some(&[]), ErrorCode::NONE, 20..=99),
        (2, "orders", None, ErrorCode::NONE, 20..=99),
        (2, "nowhere", None, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0..=0),
        (2, "no way", None, ErrorCode::INVALID_TOPIC_EXCEPTION, 0..=0),
        (4, "1", None, ErrorCode::NONE, 20..=99),
        (4, "", None, ErrorCode::NONE, 0..=0),
        (4, "2", None, ErrorCode::INVALID_REQUEST, 0..=0),
        (4, "one", None, ErrorCode::INVALID_REQUEST, 0..=0),
        (8, "1", None, ErrorCode::INVALID_REQUEST, 0..=0),
    ] {
        let answer = client.call::<DescribeConfigs>(4, &ask(kind, name, keys)).await;
        let result = &answer.results[0];
        assert_eq!(result.error_code, code, "{kind} {name:?} {keys:?}");
        assert!(count.contains(&result.configs.len()), "{kind} {name:?} {keys:?}");
        assert!(result.configs.iter().all(|config| config.documentation.is_none()));
        assert!(result.configs.iter().all(|config| config.synonyms.is_empty()));
    }
    let full = DescribeConfigsRequest {
        include_synonyms: true,
        include_documentation: true,
        ..ask(2, "orders", Some(&["max.message.bytes"]))
    };
    let entry = client.call::<DescribeConfigs>(4, &full).await.results.remove(0).configs.remove(0);
    assert_eq!((entry.config_type, entry.config_source), (3, 5));
    assert!(entry.documentation.is_some());
    assert_eq!(entry.synonyms[0].name, "message.max.bytes");
    node.stop().await;
}

#[tokio::test]
async fn offsets_are_found_by_name_and_time() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    produced(&mut client, &produce("orders", Some(batch(&[b"one", b"two"])))).await;
    let ask = |timestamp, current_leader_epoch, count| {
        let wanted = ListOffsetsPartition {
            timestamp,
            current_leader_epoch,
            ..ListOffsetsPartition::default()
        };
        let topic = ListOffsetsTopic { name: text("orders"), partitions: vec![wanted; count] };
        ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() }
    };
    let none = ErrorCode::NONE;
    for (timestamp, version, code, offset) in [
        (-1, 1, none, 2),
        (-2, 1, none, 0),
        (-3, 7, none, 0),
        (-4, 8, none, 0),
        (-5, 9, none, -1),
        (-6, 11, none, -1),
        (0, 1, none, 0),
        (i64::MAX, 1, none, -1),
        (-3, 6, ErrorCode::UNSUPPORTED_VERSION, -1),
        (-9, 11, ErrorCode::UNSUPPORTED_VERSION, -1),
    ] {
        let answer = client.call::<ListOffsets>(version, &ask(timestamp, -1, 1)).await;
        let found = &answer.topics[0].partitions[0];
        assert_eq!((found.error_code, found.offset), (code, offset), "{timestamp} v{version}");
    }
    let answer = client.call::<ListOffsets>(9, &ask(-1, i32::MAX, 1)).await;
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::UNKNOWN_LEADER_EPOCH);
    let answer = client.call::<ListOffsets>(9, &ask(-1, -1, 3)).await;
    assert_eq!(answer.topics[0].partitions.len(), 1, "named three times, answered once");
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::INVALID_REQUEST);
    node.stop().await;
}

#[tokio::test]
async fn a_leader_epoch_ends_where_the_log_does_and_a_newer_one_is_unknown() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let metadata = auto_create(&mut client, "orders").await;
    let epoch = metadata.topics[0].partitions[0].leader_epoch;
    produced(&mut client, &produce("orders", Some(batch(&[b"one", b"two"])))).await;
    for (leader_epoch, expected) in [(epoch, (epoch, 2)), (epoch + 1, (-1, -1)), (-1, (-1, -1))] {
        let wanted = EpochPartition { partition: 0, current_leader_epoch: epoch, leader_epoch };
        let topic = EpochTopic { topic: text("orders"), partitions: vec![wanted] };
        let topics = vec![topic];
        let request =
            OffsetForLeaderEpochRequest { topics, ..OffsetForLeaderEpochRequest::default() };
        let answer = client.call::<OffsetForLeaderEpoch>(4, &request).await;
        let end = &answer.topics[0].partitions[0];
        assert_eq!(end.error_code, ErrorCode::NONE);
        assert_eq!((end.leader_epoch, end.end_offset), expected);
    }
    node.stop().await;
}

#[tokio::test]
async fn producer_ids_are_given_once_and_never_for_transactions() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let ask = |id: Option<&'static str>, producer_id, producer_epoch| InitProducerIdRequest {
        transactional_id: id.map(text),
        transaction_timeout_ms: 60_000,
        producer_id,
        producer_epoch,
    };
    let first = client.call::<InitProducerId>(4, &ask(None, -1, -1)).await;
    let second = client.call::<InitProducerId>(4, &ask(None, first.producer_id, 3)).await;
    assert_eq!((first.error_code, first.producer_epoch), (ErrorCode::NONE, 0));
    assert_eq!((second.error_code, second.producer_epoch), (ErrorCode::NONE, 0));
    assert_ne!(first.producer_id, second.producer_id);
    for (id, producer_id, epoch, code) in [
        (Some("t"), -1, -1, ErrorCode::UNSUPPORTED_VERSION),
        (Some(""), -1, -1, ErrorCode::INVALID_REQUEST),
        (None, 5, -1, ErrorCode::INVALID_REQUEST),
        (None, -1, 5, ErrorCode::INVALID_REQUEST),
    ] {
        let refused = client.call::<InitProducerId>(4, &ask(id, producer_id, epoch)).await;
        assert_eq!((refused.error_code, refused.producer_id), (code, -1));
        assert!(!refused.error_code.is_retriable());
    }
    node.stop().await;
}

#[tokio::test]
async fn the_cluster_describes_itself() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    let ask = |endpoint_type| DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        endpoint_type,
        ..DescribeClusterRequest::default()
    };
    let cluster = client.call::<DescribeCluster>(0, &ask(1)).await;
    assert_eq!((cluster.controller_id, cluster.brokers.len()), (1, 1));
    assert!(!cluster.cluster_id.is_empty());
    assert_eq!(cluster.cluster_authorized_operations, 8_096);
    for (kind, code) in
        [(2, ErrorCode::MISMATCHED_ENDPOINT_TYPE), (9, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE)]
    {
        let refused = client.call::<DescribeCluster>(1, &ask(kind)).await;
        assert_eq!((refused.error_code, refused.endpoint_type), (code, 1));
    }
    let software = |name| ApiVersionsRequest {
        client_software_name: text(name),
        client_software_version: text("1.0"),
    };
    let versions = client.call::<ApiVersions>(3, &software("franz-go")).await;
    assert_eq!((versions.error_code, versions.finalized_features.len()), (ErrorCode::NONE, 0));
    assert!(!versions.api_keys.is_empty());
    let refused = client.call::<ApiVersions>(3, &software("-")).await;
    assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
    node.stop().await;
}
