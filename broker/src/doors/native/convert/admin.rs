//! Topics: made, altered, deleted, described.
//!
//! Absent on purpose: any check of a name, a number or a config.

use super::super::dispatch::Call;
use super::super::session::error;
use super::cluster::replicas;
use super::controller_error;
use crate::admin::AdminError;
use crate::doors::codes;
use crate::doors::words::{milliseconds, served_by, static_text, text, wire_node, wire_offset};
use crate::router::Directory;
use bateau_core::controller::{
    AlterTopicConfigs, ConfigEntry, ConfigSource, CreatePartitions, CreateTopicResult,
    CreateTopics, DeleteTopicResult, NewTopic as New, Partition, TopicReference,
};
use bateau_protocol::ids::{NodeId, TopicId};
use bateau_protocol::native::{
    AlterTopicRequest, AlterTopicResponse, ConfigDescription, ConfigValue, CreateTopicsRequest,
    CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, DescribeTopicRequest,
    DescribeTopicResponse, ErrorReply, NewTopic, PartitionDescription, TopicOutcome,
};
use bateau_protocol::wire::{ErrorCode, Text};
use std::error::Error;

/// Creates topics.
pub async fn create(
    call: &Call,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, ErrorReply> {
    let asked = CreateTopics {
        topics: request.topics.into_iter().map(new_topic).collect(),
        validate_only: request.validate_only,
        timeout_ms: milliseconds(request.timeout_ms),
    };
    let created = call.context.broker.create_topics(asked).await;
    let created = created.map_err(|found| controller_error(&found))?;
    Ok(CreateTopicsResponse { topics: created.into_iter().map(created_outcome).collect() })
}

fn new_topic(topic: NewTopic) -> New {
    New {
        name: topic.name.as_str().to_owned(),
        partition_count: topic.partitions,
        // Beyond what core has a number for it is too many as well.
        replication_factor: i16::try_from(topic.replication_factor).unwrap_or(i16::MAX),
        assignments: Vec::new(),
        configs: configs(&topic.configs),
    }
}

fn configs(values: &[ConfigValue]) -> Vec<(String, Option<String>)> {
    let owned = |text: &Text| text.as_str().to_owned();
    values.iter().map(|config| (owned(&config.name), config.value.as_ref().map(owned))).collect()
}

fn created_outcome(result: CreateTopicResult) -> TopicOutcome {
    let name = Text::from(result.name);
    match result.result {
        Ok(topic) => TopicOutcome {
            name,
            id: topic.id,
            partitions: i32::try_from(topic.partition_count).unwrap_or(i32::MAX),
            replication_factor: i32::from(topic.replication_factor),
            ..TopicOutcome::default()
        },
        Err(found) => TopicOutcome {
            error_code: codes::create_topic(&found),
            message: found.to_string().into(),
            name,
            ..TopicOutcome::default()
        },
    }
}

/// Deletes topics.
pub async fn delete(
    call: &Call,
    request: DeleteTopicsRequest,
) -> Result<DeleteTopicsResponse, ErrorReply> {
    let asked = request
        .names
        .iter()
        .map(|name| TopicReference { name: Some(name.as_str().to_owned()), id: TopicId::ZERO });
    let timeout_ms = milliseconds(request.timeout_ms);
    let deleted = call.context.broker.delete_topics(asked.collect(), timeout_ms).await;
    let deleted = deleted.map_err(|found| controller_error(&found))?;
    Ok(DeleteTopicsResponse { topics: deleted.into_iter().map(deleted_outcome).collect() })
}

fn deleted_outcome(result: DeleteTopicResult) -> TopicOutcome {
    let name = result.name.as_deref().map(text).unwrap_or_default();
    match result.result {
        Ok(()) => TopicOutcome { name, id: result.id, ..TopicOutcome::default() },
        Err(found) => TopicOutcome {
            error_code: codes::delete_topic(&found),
            message: found.to_string().into(),
            name,
            ..TopicOutcome::default()
        },
    }
}

/// Changes configs, the number of partitions or of their copies. Where several are asked for,
/// nothing is changed before the numbers have been found to be possible.
pub async fn alter(
    call: &Call,
    request: AlterTopicRequest,
) -> Result<AlterTopicResponse, ErrorReply> {
    let broker = &call.context.broker;
    let timeout_ms = milliseconds(request.timeout_ms);
    let topic = request.name.as_str().to_owned();
    let copies = Some(request.replication_factor).filter(|replicas| *replicas != -1);
    if let Some(replicas) = copies {
        copy(call, &topic, (replicas, true), timeout_ms).await?;
    }
    let growth = (request.partitions != -1).then_some(CreatePartitions {
        topic: topic.clone(),
        partition_count: request.partitions,
        validate_only: request.validate_only,
        timeout_ms,
    });
    if !request.configs.is_empty() || (growth.is_none() && copies.is_none()) {
        if let Some(growth) = &growth {
            let checked = CreatePartitions { validate_only: true, ..growth.clone() };
            let checked = broker.create_partitions(checked).await;
            checked.map_err(|found| admin_error(&found, codes::create_partitions))?;
        }
        let changes = configs(&request.configs);
        let validate_only = request.validate_only;
        let topic = topic.clone();
        let asked = AlterTopicConfigs { topic, changes, validate_only, timeout_ms };
        let altered = broker.alter_topic_configs(asked).await;
        altered.map_err(|found| admin_error(&found, codes::alter_topic_configs))?;
    }
    if let Some(growth) = growth {
        let grown = broker.create_partitions(growth).await;
        grown.map_err(|found| admin_error(&found, codes::create_partitions))?;
    }
    if let Some(replicas) = copies {
        copy(call, &topic, (replicas, request.validate_only), timeout_ms).await?;
    }
    Ok(AlterTopicResponse {})
}

/// Has a topic on so many nodes, or only says whether it could be.
async fn copy(
    call: &Call,
    topic: &str,
    (replicas, validate_only): (i32, bool),
    timeout_ms: u64,
) -> Result<(), ErrorReply> {
    let broker = &call.context.broker;
    let moved = broker.set_replication_factor(topic, replicas, validate_only, timeout_ms).await;
    moved.map_err(|found| admin_error(&found, codes::replication_factor))
}

pub(super) fn admin_error<E: Error>(
    found: &AdminError<E>,
    code: impl Fn(&E) -> ErrorCode,
) -> ErrorReply {
    match found {
        AdminError::Controller(found) => controller_error(found),
        AdminError::Refused(refused) => error(code(refused), refused.to_string()),
    }
}

/// A topic with its configs and partitions.
pub fn describe(
    call: &Call,
    request: &DescribeTopicRequest,
) -> Result<DescribeTopicResponse, ErrorReply> {
    let broker = &call.context.broker;
    let configs = broker.describe_topic_configs(&request.name, None);
    let configs =
        configs.map_err(|found| error(codes::describe_configs(&found), found.to_string()))?;
    let directory = broker.directory();
    let Some(topic) = directory.topic(&request.name) else {
        let message = format!("The topic '{}' does not exist.", request.name.as_str());
        return Err(error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message));
    };
    let node = broker.node().node_id;
    let partitions = (0..).zip(&topic.partitions);
    Ok(DescribeTopicResponse {
        name: request.name.clone(),
        id: topic.id,
        configs: configs.into_iter().map(config).collect(),
        partitions: partitions
            .map(|(number, placed)| describe_partition(&directory, node, number, placed))
            .collect(),
    })
}

fn config(entry: ConfigEntry) -> ConfigDescription {
    ConfigDescription {
        name: static_text(entry.name.clone()),
        value: entry.value.filter(|_| !entry.sensitive).map(Text::from),
        source: Text::from_static(match entry.source {
            ConfigSource::DynamicTopicConfig => "topic",
            ConfigSource::StaticBrokerConfig => "broker",
            ConfigSource::DefaultConfig => "default",
        }),
    }
}

fn describe_partition(
    directory: &Directory,
    node: NodeId,
    partition: i32,
    placed: &Partition,
) -> PartitionDescription {
    let replicas = replicas(placed);
    let served = served_by(directory, placed.incarnation, node);
    let described = PartitionDescription {
        partition,
        leader_id: served.map_or(-1, |(leader, _)| wire_node(leader)),
        leader_epoch: served.map_or(-1, |(_, epoch)| epoch),
        replicas,
        ..PartitionDescription::default()
    };
    let Some(view) = directory.view(placed.incarnation) else { return described };
    PartitionDescription {
        log_start: wire_offset(view.log_start()),
        high_watermark: wire_offset(view.high_watermark()),
        log_bytes: i64::try_from(view.reader().size_bytes()).unwrap_or(i64::MAX),
        ..described
    }
}
