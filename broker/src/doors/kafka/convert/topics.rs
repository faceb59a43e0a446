//! CreateTopics and DeleteTopics. Each topic is decided alone, by the controller.
//!
//! Absent on purpose: any check of a name, a number or a config.

use super::super::dispatch::Call;
use super::{milliseconds, text};
use crate::doors::codes;
use crate::doors::words::static_text;
use bateau_core::controller::{
    ControllerError, CreateTopicResult, CreateTopics, CreatedTopic, DeleteTopicResult, NewTopic,
    PartitionAssignment, TopicReference,
};
use bateau_protocol::ids::TopicId;
use bateau_protocol::kafka::Text;
use bateau_protocol::kafka::api::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest,
    CreateTopicsResponse,
};
use bateau_protocol::kafka::api::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};

/// First version of CreateTopics in which a client understands that it is throttled (KIP-599).
const CREATE_THROTTLES_SINCE: i16 = 6;
/// The same of DeleteTopics.
const DELETE_THROTTLES_SINCE: i16 = 5;
/// First version of DeleteTopics that names topics by id (KIP-516).
const DELETE_BY_ID_SINCE: i16 = 6;

/// Creates topics.
pub async fn create(call: &Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let names: Vec<Text> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let asked = CreateTopics {
        topics: request.topics.into_iter().map(new_topic).collect(),
        validate_only: request.validate_only,
        timeout_ms: milliseconds(request.timeout_ms),
    };
    let topics = match call.context.broker.create_topics(asked).await {
        Ok(results) => results.into_iter().map(created).collect(),
        Err(error) => {
            names.into_iter().map(|name| not_created(call.version, name, error)).collect()
        }
    };
    CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
}

fn new_topic(topic: CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.into_iter().map(|assignment| PartitionAssignment {
        partition: assignment.partition_index,
        nodes: assignment.broker_ids,
    });
    let configs = topic.configs.into_iter().map(|config| {
        let value = config.value.map(|value| value.as_str().to_owned());
        (config.name.as_str().to_owned(), value)
    });
    NewTopic {
        name: topic.name.as_str().to_owned(),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        configs: configs.collect(),
    }
}

fn created(result: CreateTopicResult) -> CreatableTopicResult {
    let name = Text::from(result.name);
    match result.result {
        Ok(topic) => CreatableTopicResult {
            name,
            topic_id: topic.id,
            num_partitions: i32::try_from(topic.partition_count).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(topic.replication_factor).unwrap_or(i16::MAX),
            configs: Some(configs(topic)),
            ..CreatableTopicResult::default()
        },
        Err(error) => CreatableTopicResult {
            name,
            error_code: codes::create_topic(&error),
            error_message: Some(error.to_string().into()),
            ..CreatableTopicResult::default()
        },
    }
}

fn configs(topic: CreatedTopic) -> Vec<CreatableTopicConfigs> {
    let entries = topic.configs.into_iter();
    entries
        .map(|entry| CreatableTopicConfigs {
            name: static_text(entry.name.clone()),
            value: entry.value.filter(|_| !entry.sensitive).map(Text::from),
            read_only: entry.read_only,
            config_source: entry.source.number(),
            is_sensitive: entry.sensitive,
        })
        .collect()
}

fn not_created(version: i16, name: Text, error: ControllerError) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: codes::controller(&error, version >= CREATE_THROTTLES_SINCE),
        error_message: Some(error.to_string().into()),
        ..CreatableTopicResult::default()
    }
}

/// Deletes topics.
pub async fn delete(call: &Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let topics: Vec<DeleteTopicState> = if call.version >= DELETE_BY_ID_SINCE {
        request.topics
    } else {
        let by_name = |name| DeleteTopicState { name: Some(name), topic_id: TopicId::ZERO };
        request.topic_names.into_iter().map(by_name).collect()
    };
    let asked = topics.iter().map(|topic| TopicReference {
        name: topic.name.as_ref().map(|name| name.as_str().to_owned()),
        id: topic.topic_id,
    });
    let timeout_ms = milliseconds(request.timeout_ms);
    let responses = match call.context.broker.delete_topics(asked.collect(), timeout_ms).await {
        Ok(results) => results.into_iter().map(deleted).collect(),
        Err(error) => topics
            .into_iter()
            .map(|topic| DeletableTopicResult {
                name: topic.name,
                topic_id: topic.topic_id,
                error_code: codes::controller(&error, call.version >= DELETE_THROTTLES_SINCE),
                error_message: Some(error.to_string().into()),
            })
            .collect(),
    };
    DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
}

fn deleted(result: DeleteTopicResult) -> DeletableTopicResult {
    let answer = DeletableTopicResult {
        name: result.name.as_deref().map(text),
        topic_id: result.id,
        ..DeletableTopicResult::default()
    };
    match result.result {
        Ok(()) => answer,
        Err(error) => DeletableTopicResult {
            error_code: codes::delete_topic(&error),
            error_message: Some(error.to_string().into()),
            ..answer
        },
    }
}
