//! What a test may do, in JSON: each route is one method of
//! [`ClusterControl`](crate::local_cluster::ClusterControl) or
//! [`Controls`](crate::controls::Controls), and decides nothing of its own.
//!
//! Absent on purpose: authentication. The routes exist on loopback, for a node of a test.

use super::answer::{Answer, Problem};
use crate::base64;
use crate::controls::{Api, Controls, SeenRequest, error_code};
use crate::node::{ControlError, DrainedRecord, NodeControl};
use bateau_protocol::wire::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Records of one answer, in bytes; what is larger is read by a client.
const RECORD_BYTES_MAX: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeedTopic {
    topic: String,
    #[serde(default = "one")]
    partitions: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FailNext {
    api: String,
    error: String,
    #[serde(default = "once")]
    times: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelayNext {
    api: String,
    ms: u64,
}

const fn one() -> u32 {
    1
}

const fn once() -> usize {
    1
}

/// A request that the broker saw.
#[derive(Serialize)]
struct Seen {
    number: u64,
    wall_ms: u64,
    node: u64,
    door: &'static str,
    api: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl From<SeenRequest> for Seen {
    fn from(seen: SeenRequest) -> Self {
        let SeenRequest { number, wall_ms, node, door, api, subject, fault } = seen;
        Self {
            number,
            wall_ms,
            node: node.get(),
            door: door.name(),
            api: api.name(),
            topic: subject.topic,
            group: subject.group,
            client: subject.client,
            fault: fault.map(|fault| fault.to_string()),
        }
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let reason = error.to_string();
        match error {
            ControlError::NotRunning | ControlError::NotStarted(_) => Self::NotRunning { reason },
            ControlError::Refused(_)
            | ControlError::NotCreated { .. }
            | ControlError::NoNode { .. }
            | ControlError::NoTopic { .. } => Self::Refused { reason },
        }
    }
}

/// `{"topic":"orders","partitions":3}`
pub(super) async fn seed_topic(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let SeedTopic { topic, partitions } = parse(body)?;
    node.cluster().seed_topic(&topic, partitions).await?;
    Ok(Answer::done())
}

/// `{"ms":46000}`
pub(super) async fn advance(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let Advance { ms } = parse(body)?;
    node.cluster().advance(Duration::from_millis(ms)).await?;
    let clock = node.clock();
    let advanced_ms = u64::try_from(clock.advanced().as_millis()).unwrap_or(u64::MAX);
    Ok(Answer::ok(&json!({ "advanced_ms": advanced_ms, "wall_ms": clock.wall_ms() })))
}

/// `{"api":"Produce","error":"NOT_LEADER_OR_FOLLOWER","times":1}`
pub(super) fn fail_next(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let FailNext { api, error, times } = parse(body)?;
    let (api, code) = (api_of(&api)?, code_of(&error)?);
    let planned = controls(node)?.fail_next(api, code, times);
    planned.map_err(|error| Problem::Refused { reason: error.to_string() })?;
    Ok(Answer::done())
}

/// `{"api":"Fetch","ms":500}`
pub(super) fn delay_next(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let DelayNext { api, ms } = parse(body)?;
    let planned = controls(node)?.delay_next(api_of(&api)?, Duration::from_millis(ms));
    planned.map_err(|error| Problem::Refused { reason: error.to_string() })?;
    Ok(Answer::done())
}

pub(super) fn drop_next_ack(node: &NodeControl) -> Result<Answer, Problem> {
    controls(node)?.drop_next_ack();
    Ok(Answer::done())
}

pub(super) fn clear(node: &NodeControl) -> Result<Answer, Problem> {
    controls(node)?.clear();
    Ok(Answer::done())
}

/// `?api=Produce` for one API alone.
pub(super) fn requests(node: &NodeControl, query: &str) -> Result<Answer, Problem> {
    let controls = controls(node)?;
    let wanted = query.split('&').find_map(|pair| pair.strip_prefix("api="));
    let wanted = wanted.map(api_of).transpose()?;
    let is_wanted = |api| wanted.is_none_or(|wanted| wanted == api);
    let counts: BTreeMap<&str, u64> = Api::ALL
        .iter()
        .filter(|api| is_wanted(**api))
        .map(|api| (api.name(), controls.request_count(*api)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let seen = controls.requests().into_iter().filter(|seen| is_wanted(seen.api));
    let seen: Vec<Seen> = seen.map(Seen::from).collect();
    Ok(Answer::ok(&json!({ "counts": counts, "requests": seen })))
}

/// `?topic=orders`: what it holds, in the names of the command line.
pub(super) async fn records(node: &NodeControl, query: &str) -> Result<Answer, Problem> {
    let topic = query.split('&').find_map(|pair| pair.strip_prefix("topic="));
    let topic = topic.filter(|topic| !topic.is_empty());
    let topic = topic.ok_or_else(|| bad("the query: expected is ?topic=NAME".to_owned()))?;
    let drained = node.cluster().drain_topic(topic, RECORD_BYTES_MAX).await?;
    let records: Vec<Value> = drained.iter().map(record).collect();
    Ok(Answer::ok(&json!({ "records": records })))
}

fn record(drained: &DrainedRecord) -> Value {
    let DrainedRecord { partition, record } = drained;
    let headers = record.headers.iter().map(|header| {
        let mut object = Map::new();
        object.insert("name".to_owned(), String::from_utf8_lossy(&header.key).into());
        insert(&mut object, "value", header.value.as_deref());
        Value::from(object)
    });
    let mut object = Map::new();
    object.insert("partition".to_owned(), (*partition).into());
    object.insert("offset".to_owned(), record.offset.into());
    let timestamp = (record.timestamp >= 0).then_some(record.timestamp);
    object.insert("timestamp".to_owned(), timestamp.into());
    insert(&mut object, "key", record.key.as_deref());
    insert(&mut object, "value", record.value.as_deref());
    object.insert("headers".to_owned(), headers.collect());
    object.into()
}

/// Text as it is, other bytes as base64 under a name of their own.
fn insert(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => object.insert(name.to_owned(), Value::Null),
        Some((_, Ok(text))) => object.insert(name.to_owned(), text.into()),
        Some((bytes, Err(_))) => {
            let mut text = Vec::new();
            base64::encode(bytes, &mut text);
            let text = String::from_utf8_lossy(&text).into_owned();
            object.insert(format!("{name}_base64"), text.into())
        }
    };
}

pub(super) async fn wait_until_idle(node: &NodeControl) -> Result<Answer, Problem> {
    node.cluster().wait_until_idle().await?;
    Ok(Answer::done())
}

/// What repeats this run's ids and choices; `null` where nothing does.
pub(super) fn seed(node: &NodeControl) -> Answer {
    let first = node.cluster().nodes().into_iter().next();
    let seed = first.and_then(|first| first.seed()).map(|seed| format!("{seed:x}"));
    Answer::ok(&json!({ "seed": seed }))
}

fn controls(node: &NodeControl) -> Result<&Arc<Controls>, Problem> {
    // The route is there because they are.
    let reason = || "this node has no controls".to_owned();
    node.controls().ok_or_else(|| Problem::NotRunning { reason: reason() })
}

fn api_of(name: &str) -> Result<Api, Problem> {
    name.parse().map_err(|error| bad(format!("{error}")))
}

fn code_of(name: &str) -> Result<ErrorCode, Problem> {
    error_code(name).ok_or_else(|| {
        bad(format!("{name:?} is no error of Kafka's; one is \"NOT_LEADER_OR_FOLLOWER\""))
    })
}

pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| bad(format!("the body: {error}")))
}

pub(super) const fn bad(reason: String) -> Problem {
    Problem::BadInput { reason }
}
