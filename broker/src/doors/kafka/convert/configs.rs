//! DescribeConfigs: every config of a topic or of this node, and where its value comes from.
//!
//! Absent on purpose: broker loggers, client metrics and groups, which have no configs here.

use super::super::dispatch::Call;
use super::wire_node;
use crate::admin::DescribeConfigsError;
use crate::doors::words::static_text;
use bateau_core::controller::ConfigEntry;
use bateau_protocol::kafka::api::describe_configs::{
    DescribeConfigsEntry, DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use bateau_protocol::kafka::{ErrorCode, Text};

/// Kafka's numbers of the resources that have configs here.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// What a client wants to see of an entry.
#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

/// Describes each resource alone.
pub fn describe(call: &Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let detail =
        Detail { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let results = request.resources.into_iter().map(|resource| {
        let configs = describe_one(call, &resource);
        let answer = DescribeConfigsResult {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            ..DescribeConfigsResult::default()
        };
        match configs {
            Ok(configs) => DescribeConfigsResult {
                error_message: Some(Text::EMPTY),
                configs: configs.into_iter().map(|config| entry(config, detail)).collect(),
                ..answer
            },
            Err((error_code, message)) => {
                DescribeConfigsResult { error_code, error_message: Some(message.into()), ..answer }
            }
        }
    });
    DescribeConfigsResponse { results: results.collect(), ..DescribeConfigsResponse::default() }
}

fn describe_one(
    call: &Call,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, (ErrorCode, String)> {
    // No key asks for all of them, as in Kafka, whether the list is null or empty.
    let named = resource.configuration_keys.as_ref().filter(|keys| !keys.is_empty());
    let keys: Option<Vec<&str>> = named.map(|keys| keys.iter().map(|key| &**key).collect());
    let keys = keys.as_deref();
    let broker = &call.context.broker;
    let name = resource.resource_name.as_str();
    match resource.resource_type {
        TOPIC => broker.describe_topic_configs(name, keys).map_err(|error| {
            let code = match &error {
                DescribeConfigsError::InvalidName(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
                DescribeConfigsError::UnknownTopic { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            };
            (code, error.to_string())
        }),
        // The configs that all brokers share, of which none can be set.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER => {
            let node = wire_node(broker.node().node_id);
            if name.parse() != Ok(node) {
                let message = format!("Unexpected broker id, expected {node}, received {name}.");
                return Err((ErrorCode::INVALID_REQUEST, message));
            }
            Ok(broker.describe_node_configs(keys))
        }
        other => {
            let message = format!("Resources of type {other} have no configs here.");
            Err((ErrorCode::INVALID_REQUEST, message))
        }
    }
}

fn entry(config: ConfigEntry, detail: Detail) -> DescribeConfigsEntry {
    let is_shown = !config.sensitive;
    let value = |value: Option<String>| value.filter(|_| is_shown).map(Text::from);
    let synonyms = config.synonyms.into_iter().filter(|_| detail.synonyms);
    DescribeConfigsEntry {
        name: static_text(config.name.clone()),
        value: value(config.value),
        read_only: config.read_only,
        config_source: config.source.number(),
        is_sensitive: config.sensitive,
        synonyms: synonyms
            .map(|synonym| DescribeConfigsSynonym {
                name: static_text(synonym.name.clone()),
                value: value(synonym.value),
                source: synonym.source.number(),
            })
            .collect(),
        config_type: config.config_type.number(),
        documentation: detail.documentation.then_some(static_text(config.documentation.clone())),
    }
}
