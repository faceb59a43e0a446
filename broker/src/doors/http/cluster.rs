//! What a test may do to the nodes of this process and the ways between them, in JSON: each route
//! is one method of [`ClusterControl`], and decides nothing of its own.
//!
//! Invariants: a node does not make itself unable to answer: it is asked to stand still or to die
//! through the door of another one.
//!
//! Absent on purpose: what concerns single requests, which is `control`'s.

use super::answer::{Answer, Problem};
use super::control::{bad, parse};
use crate::local_cluster::ClusterControl;
use crate::node::{ControlError, NodeControl};
use bateau_protocol::ids::NodeId;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Without a number, the node that is asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneNode {
    node: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveLeader {
    topic: String,
    #[serde(default)]
    partition: u32,
    node: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveCoordinator {
    group: String,
    node: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Link {
    from: u64,
    to: u64,
    #[serde(default = "yes")]
    both: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelayLink {
    from: u64,
    to: u64,
    #[serde(default = "yes")]
    both: bool,
    ms: u64,
}

const fn yes() -> bool {
    true
}

/// `{"node":2}`
pub(super) async fn restart(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let wanted = wanted(node, body)?;
    node.cluster().restart(wanted).await?;
    Ok(Answer::done())
}

/// `{"node":2}`
pub(super) async fn crash(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let wanted = wanted(node, body)?;
    node.cluster().crash(wanted).await?;
    Ok(Answer::done())
}

/// `{"node":2}`
pub(super) async fn pause(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let other = other(node, body)?;
    node.cluster().pause(other).await?;
    Ok(Answer::done())
}

/// `{"node":2}`
pub(super) fn resume(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    node.cluster().resume(wanted(node, body)?)?;
    Ok(Answer::done())
}

/// `{"node":2}`
pub(super) async fn kill(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let other = other(node, body)?;
    node.cluster().kill(other).await?;
    Ok(Answer::done())
}

/// `{"topic":"orders","partition":0,"node":2}`
pub(super) async fn move_leader(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let MoveLeader { topic, partition, node: to } = parse(body)?;
    node.cluster().move_leader(&topic, partition, NodeId::new(to)).await?;
    Ok(Answer::done())
}

/// `{"group":"billing","node":2}`
pub(super) async fn move_coordinator(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let MoveCoordinator { group, node: to } = parse(body)?;
    node.cluster().move_coordinator(&group, NodeId::new(to)).await?;
    Ok(Answer::done())
}

pub(super) async fn shuffle_leaders(node: &NodeControl) -> Result<Answer, Problem> {
    node.cluster().shuffle_leaders().await?;
    Ok(Answer::done())
}

/// `?topic=orders&partition=0`
pub(super) fn leader(node: &NodeControl, query: &str) -> Result<Answer, Problem> {
    let value = |name| query.split('&').find_map(|pair| pair.strip_prefix(name));
    let number = value("partition=").map_or(Ok(0), str::parse);
    let (Some(topic), Ok(partition)) = (value("topic="), number) else {
        return Err(bad("the query: expected is ?topic=NAME&partition=NUMBER".to_owned()));
    };
    let leader = node.cluster().leader(topic, partition)?;
    Ok(Answer::ok(&json!({ "node": leader.map(NodeId::get) })))
}

/// `{"from":1,"to":2,"both":true}`
pub(super) fn cut_link(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    of_ways(node, parse(body)?, |cluster, from, to| cluster.cut_link(from, to))
}

/// `{"from":1,"to":2,"both":true,"ms":200}`
pub(super) fn delay_link(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    let DelayLink { from, to, both, ms } = parse(body)?;
    let by = Duration::from_millis(ms);
    of_ways(node, Link { from, to, both }, |cluster, from, to| cluster.delay_link(from, to, by))
}

/// `{"from":1,"to":2,"both":true}`
pub(super) fn restore_link(node: &NodeControl, body: &[u8]) -> Result<Answer, Problem> {
    of_ways(node, parse(body)?, |cluster, from, to| cluster.restore_link(from, to))
}

fn of_ways(
    node: &NodeControl,
    Link { from, to, both }: Link,
    act: impl Fn(&ClusterControl, NodeId, NodeId) -> Result<(), ControlError>,
) -> Result<Answer, Problem> {
    let (cluster, from, to) = (node.cluster(), NodeId::new(from), NodeId::new(to));
    act(&cluster, from, to)?;
    if both {
        act(&cluster, to, from)?;
    }
    Ok(Answer::done())
}

fn wanted(node: &NodeControl, body: &[u8]) -> Result<NodeId, Problem> {
    let OneNode { node: wanted } = parse(body)?;
    Ok(wanted.map_or(node.node_id(), NodeId::new))
}

/// A node that is not the one that answers.
fn other(node: &NodeControl, body: &[u8]) -> Result<NodeId, Problem> {
    let (own, wanted) = (node.node_id(), wanted(node, body)?);
    if wanted != own {
        return Ok(wanted);
    }
    let reason = format!("node {own} could not answer this any more; ask another node's HTTP door");
    Err(Problem::Refused { reason })
}
