//! Metadata. Topics that are asked for and do not exist are created before the answer leaves,
//! where client and cluster allow it.
//!
//! Absent on purpose: whether and how a topic is created, which the controller decides.

use super::super::dispatch::Call;
use super::cluster::{CLUSTER_OPERATIONS, brokers, cluster_id};
use super::{text, wire_node};
use crate::doors::codes;
use crate::doors::words::{controller, served_by};
use crate::router::Directory;
use bateau_core::controller::{Partition, Topic, check_topic_name};
use bateau_protocol::ids::{NodeId, TopicId};
use bateau_protocol::kafka::api::metadata::{
    MetadataBroker, MetadataPartition, MetadataRequest, MetadataRequestTopic, MetadataResponse,
    MetadataTopic,
};
use bateau_protocol::kafka::{ErrorCode, Text};
use std::collections::{BTreeMap, BTreeSet};

/// How long a client waits for topics that its request creates.
const AUTO_CREATE_TIMEOUT_MS: u64 = 10_000;

/// First version that may ask by topic id.
const TOPIC_ID_SINCE: i16 = 12;

/// Everything that a client may do to a topic, as a set of Kafka's operation numbers: read, write,
/// create, delete, alter, describe, describe and alter configs.
const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;

/// Answers with brokers and topics.
pub async fn metadata(call: &Call, request: MetadataRequest) -> MetadataResponse {
    let broker = &call.context.broker;
    let asks_for_all = match &request.topics {
        None => true,
        Some(topics) => call.version == 0 && topics.is_empty(),
    };
    let mut topics: Vec<MetadataTopic> = if asks_for_all {
        let directory = broker.directory();
        let topics = directory.metadata.topics();
        topics.map(|topic| describe(&directory, broker.node().node_id, topic)).collect()
    } else {
        let wanted = request.topics.unwrap_or_default();
        described(call, wanted, request.allow_auto_topic_creation).await
    };
    if request.include_topic_authorized_operations {
        topics.iter_mut().for_each(|topic| topic.topic_authorized_operations = TOPIC_OPERATIONS);
    }
    let directory = broker.directory();
    let mut response = MetadataResponse {
        brokers: brokers(&call.context, &directory)
            .into_iter()
            .map(|broker| MetadataBroker {
                node_id: broker.node,
                host: broker.endpoint.host,
                port: broker.endpoint.port,
                rack: broker.rack,
            })
            .collect(),
        cluster_id: cluster_id(&directory),
        controller_id: wire_node(controller(&directory, broker.node().node_id)),
        topics,
        ..MetadataResponse::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}

/// The topics that a client names, each once.
async fn described(
    call: &Call,
    wanted: Vec<MetadataRequestTopic>,
    may_create: bool,
) -> Vec<MetadataTopic> {
    let broker = &call.context.broker;
    let mut seen = BTreeSet::new();
    let mut references = Vec::with_capacity(wanted.len());
    for topic in wanted {
        if seen.insert((topic.topic_id, topic.name.clone())) {
            references.push(topic);
        }
    }
    let mut failures = BTreeMap::new();
    if may_create {
        let directory = broker.directory();
        let names = references.iter().filter(|topic| topic.topic_id == TopicId::ZERO);
        let names = names.filter_map(|topic| topic.name.as_deref());
        let missing = names.filter(|name| directory.topic(name).is_none());
        failures = create(call, missing.map(str::to_owned).collect()).await;
    }
    let directory = broker.directory();
    let node = broker.node().node_id;
    let describe = |topic| describe_one(&directory, node, call.version, topic, &failures);
    references.into_iter().map(describe).collect()
}

/// Creates topics; returns why those that do not exist then do not.
async fn create(call: &Call, names: Vec<String>) -> BTreeMap<String, ErrorCode> {
    if names.is_empty() {
        return BTreeMap::new();
    }
    let created =
        call.context.broker.auto_create_topics(names.clone(), AUTO_CREATE_TIMEOUT_MS).await;
    match created {
        Ok(results) => results
            .into_iter()
            .filter_map(|result| {
                let error = result.result.err()?;
                Some((result.name, codes::auto_create_topic(&error)))
            })
            .collect(),
        // Kafka's answer while a topic comes to be; clients ask again.
        Err(_) => names.into_iter().map(|name| (name, ErrorCode::LEADER_NOT_AVAILABLE)).collect(),
    }
}

fn describe_one(
    directory: &Directory,
    node: NodeId,
    version: i16,
    wanted: MetadataRequestTopic,
    failures: &BTreeMap<String, ErrorCode>,
) -> MetadataTopic {
    let MetadataRequestTopic { topic_id, name } = wanted;
    let failed = |error_code, topic_id, name| MetadataTopic {
        error_code,
        topic_id,
        name,
        ..MetadataTopic::default()
    };
    let is_by_name = topic_id == TopicId::ZERO && name.is_some();
    if version < TOPIC_ID_SINCE && !is_by_name {
        let name = Some(name.unwrap_or_default());
        return failed(ErrorCode::INVALID_REQUEST, topic_id, name);
    }
    let Some(name) = name.filter(|_| is_by_name) else {
        return match directory.topic_by_id(topic_id) {
            Some(topic) => describe(directory, node, topic),
            None => failed(ErrorCode::UNKNOWN_TOPIC_ID, topic_id, None),
        };
    };
    match directory.topic(&name) {
        Some(topic) => MetadataTopic { name: Some(name), ..describe(directory, node, topic) },
        None => failed(missing(&name, failures), TopicId::ZERO, Some(name)),
    }
}

fn missing(name: &Text, failures: &BTreeMap<String, ErrorCode>) -> ErrorCode {
    match failures.get(name.as_str()) {
        Some(error) => *error,
        None if check_topic_name(name).is_err() => ErrorCode::INVALID_TOPIC_EXCEPTION,
        None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

fn describe(directory: &Directory, node: NodeId, topic: &Topic) -> MetadataTopic {
    let partitions = (0_i32..).zip(&topic.partitions);
    MetadataTopic {
        name: Some(text(&topic.name)),
        topic_id: topic.id,
        partitions: partitions
            .map(|(index, partition)| describe_partition(directory, node, index, partition))
            .collect(),
        ..MetadataTopic::default()
    }
}

fn describe_partition(
    directory: &Directory,
    node: NodeId,
    partition_index: i32,
    partition: &Partition,
) -> MetadataPartition {
    let replicas: Vec<i32> = partition.holders().map(|replica| wire_node(replica.node)).collect();
    let (error_code, leader_id, leader_epoch) =
        match served_by(directory, partition.incarnation, node) {
            Some((leader, epoch)) => (ErrorCode::NONE, wire_node(leader), epoch),
            None => (ErrorCode::LEADER_NOT_AVAILABLE, -1, -1),
        };
    MetadataPartition {
        error_code,
        partition_index,
        leader_id,
        leader_epoch,
        isr_nodes: replicas.clone(),
        replica_nodes: replicas,
        offline_replicas: Vec::new(),
    }
}
