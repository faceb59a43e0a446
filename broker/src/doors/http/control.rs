//! What a test may do, in JSON: each route is one method of [`NodeControl`] or
//! [`Controls`](crate::controls::Controls), and decides nothing of its own.
//!
//! Absent on purpose: authentication. The routes exist on loopback, for a node of a test.

use super::answer::{Answer, Problem};
use crate::controls::{Api, Controls, SeenRequest, error_code};
use crate::node::{ControlError, NodeControl};
use bateau_protocol::wire::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

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
        let SeenRequest { number, wall_ms, door, api, subject, fault } = seen;
        Self {
            number,
            wall_ms,
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
            ControlError::Refused(_) | ControlError::NotCreated { .. } => Self::Refused { reason },
        }
    }
}

/// `{"topic":"orders","partitions":3}`
pub(super) async fn seed_topic(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let SeedTopic { topic, partitions } = parse(body)?;
    node.seed_topic(&topic, partitions).await?;
    Ok(Answer::done())
}

/// `{"ms":46000}`
pub(super) async fn advance(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let Advance { ms } = parse(body)?;
    node.advance(Duration::from_millis(ms)).await?;
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

pub(super) async fn restart(node: &NodeControl) -> Result<Answer, Problem> {
    node.restart().await?;
    Ok(Answer::done())
}

pub(super) async fn crash(node: &NodeControl) -> Result<Answer, Problem> {
    node.crash().await?;
    Ok(Answer::done())
}

/// What repeats this run's ids and choices; `null` where nothing does.
pub(super) fn seed(node: &NodeControl) -> Answer {
    let seed = node.seed().map(|seed| format!("{seed:x}"));
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

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| bad(format!("the body: {error}")))
}

const fn bad(reason: String) -> Problem {
    Problem::BadInput { reason }
}
