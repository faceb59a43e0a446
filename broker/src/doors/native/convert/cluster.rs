//! Metadata, Watch and Status: what and where this cluster is.
//!
//! Absent on purpose: whether and how a topic is created, which the controller decides.

use super::super::dispatch::{Call, Context};
use crate::doors::codes;
use crate::doors::words::{controller, served_by, text, wire_node};
use crate::router::Directory;
use bateau_core::controller::{Partition, Topic, check_topic_name};
use bateau_log::SpaceState;
use bateau_protocol::ids::{NodeId, TopicId};
use bateau_protocol::native::{
    ClusterNode, MetadataRequest, MetadataResponse, PartitionMetadata, StatusResponse,
    TopicMetadata, TopicName,
};
use bateau_protocol::wire::{ErrorCode, Text};
use bytes::Bytes;
use std::collections::BTreeMap;

/// How long a client waits for topics that its request creates.
const AUTO_CREATE_TIMEOUT_MS: u64 = 10_000;

/// The listener under whose name nodes register their native door.
pub const LISTENER: &str = "native";

/// Why topics do not exist although somebody asked for them to be made.
type Failures = BTreeMap<String, ErrorCode>;

/// Nodes and topics; those that do not exist are made first, where client and cluster allow it.
pub async fn metadata(call: &Call, request: MetadataRequest) -> MetadataResponse {
    let mut failures = Failures::new();
    if let Some(topics) = &request.topics
        && request.auto_create
    {
        failures = create(call, topics).await;
    }
    describe(&call.context, request.topics.as_deref(), &failures)
}

/// Creates topics; returns why those that do not exist then do not.
async fn create(call: &Call, topics: &[TopicName]) -> Failures {
    let broker = &call.context.broker;
    let directory = broker.directory();
    let named = topics.iter().filter(|topic| topic.id == TopicId::ZERO);
    let missing = named.filter(|topic| directory.topic(&topic.name).is_none());
    let mut names: Vec<String> = missing.map(|topic| topic.name.as_str().to_owned()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() {
        return Failures::new();
    }
    match broker.auto_create_topics(names.clone(), AUTO_CREATE_TIMEOUT_MS).await {
        Ok(results) => {
            let failed = results.into_iter().filter_map(|result| {
                let found = result.result.err()?;
                Some((result.name, codes::auto_create_topic(&found)))
            });
            failed.collect()
        }
        // A code on which clients ask again.
        Err(_) => names.into_iter().map(|name| (name, ErrorCode::LEADER_NOT_AVAILABLE)).collect(),
    }
}

/// The cluster as it is known here, with all topics or those that are named.
pub fn describe(
    context: &Context,
    topics: Option<&[TopicName]>,
    failures: &Failures,
) -> MetadataResponse {
    let directory = context.broker.directory();
    let node = context.broker.node().node_id;
    let topics = match topics {
        None => directory
            .metadata
            .topics()
            .map(|topic| describe_topic(&directory, node, topic))
            .collect(),
        Some(topics) => {
            topics.iter().map(|topic| describe_named(&directory, node, topic, failures)).collect()
        }
    };
    MetadataResponse {
        cluster_id: cluster_id(&directory),
        controller_id: wire_node(controller(&directory, node)),
        nodes: nodes(context, &directory),
        topics,
    }
}

/// The cluster's id as text; empty until there is one.
pub fn cluster_id(directory: &Directory) -> Text {
    directory.metadata.cluster_id().map(|id| id.to_string().into()).unwrap_or_default()
}

/// The cluster's nodes by number; this one is always among them.
fn nodes(context: &Context, directory: &Directory) -> Vec<ClusterNode> {
    let this = context.broker.node();
    let mut own = ClusterNode {
        node_id: wire_node(this.node_id),
        host: context.endpoint.host.clone(),
        port: context.endpoint.port,
        rack: this.settings.rack.as_deref().map(text),
        key_sha256: Bytes::new(),
    };
    let mut nodes = Vec::new();
    for node in directory.metadata.nodes() {
        let Some(listener) = node.listener(LISTENER) else { continue };
        let key_sha256 = listener.pin.map(|pin| Bytes::copy_from_slice(&pin)).unwrap_or_default();
        if node.node == this.node_id {
            own.key_sha256 = key_sha256;
            continue;
        }
        nodes.push(ClusterNode {
            node_id: wire_node(node.node),
            host: text(&listener.host),
            port: listener.port.into(),
            rack: node.rack.as_deref().map(text),
            key_sha256,
        });
    }
    nodes.push(own);
    nodes.sort_by_key(|node| node.node_id);
    nodes
}

fn describe_named(
    directory: &Directory,
    node: NodeId,
    wanted: &TopicName,
    failures: &Failures,
) -> TopicMetadata {
    let found = match wanted.id {
        TopicId::ZERO => directory.topic(&wanted.name),
        id => directory.topic_by_id(id),
    };
    if let Some(topic) = found {
        return describe_topic(directory, node, topic);
    }
    let error_code = match failures.get(wanted.name.as_str()) {
        _ if wanted.id != TopicId::ZERO => ErrorCode::UNKNOWN_TOPIC_ID,
        Some(code) => *code,
        None if check_topic_name(&wanted.name).is_err() => ErrorCode::INVALID_TOPIC_EXCEPTION,
        None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    };
    let (name, id) = (wanted.name.clone(), wanted.id);
    TopicMetadata { error_code, name, id, partitions: Vec::new() }
}

fn describe_topic(directory: &Directory, node: NodeId, topic: &Topic) -> TopicMetadata {
    let partitions = (0..).zip(&topic.partitions);
    TopicMetadata {
        error_code: ErrorCode::NONE,
        name: text(&topic.name),
        id: topic.id,
        partitions: partitions
            .map(|(number, partition)| describe_partition(directory, node, number, partition))
            .collect(),
    }
}

fn describe_partition(
    directory: &Directory,
    node: NodeId,
    partition: i32,
    placed: &Partition,
) -> PartitionMetadata {
    let (error_code, leader_id, leader_epoch) = match served_by(directory, placed.incarnation, node)
    {
        Some((leader, epoch)) => (ErrorCode::NONE, wire_node(leader), epoch),
        None => (ErrorCode::LEADER_NOT_AVAILABLE, -1, -1),
    };
    PartitionMetadata { error_code, partition, leader_id, leader_epoch, replicas: replicas(placed) }
}

/// The nodes that hold a partition, preferred leader first.
pub fn replicas(placed: &Partition) -> Vec<i32> {
    placed.holders().map(|replica| wire_node(replica.node)).collect()
}

/// How the node is.
pub fn status(call: &Call) -> StatusResponse {
    let broker = &call.context.broker;
    let status = broker.status();
    let directory = broker.directory();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let bytes = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    StatusResponse {
        cluster_id: cluster_id(&directory),
        node_id: wire_node(status.node_id),
        version: Text::from_static(status.version),
        uptime_ms: i64::try_from(status.uptime.as_millis()).unwrap_or(i64::MAX),
        nodes: count(directory.metadata.nodes().len()),
        topics: count(status.topics),
        partitions: count(status.partitions),
        leaderless_partitions: count(status.local.leaderless.len()),
        unavailable_partitions: count(status.local.unavailable.len()),
        log_bytes: bytes(status.log_bytes),
        disk_free_bytes: status.disk_free_bytes.map_or(-1, bytes),
        disk_state: Text::from_static(match status.disk_state {
            SpaceState::Ok => "ok",
            SpaceState::Soft => "soft-full",
            SpaceState::Hard => "full",
        }),
        durability: Text::from_static(status.durability.word()),
    }
}
