//! Nodes: listed, let in, told to drain or to leave; partitions moved between them.
//!
//! Absent on purpose: what may be done, and when it has come to its end.

use super::super::dispatch::Call;
use super::super::session::error;
use super::admin::admin_error;
use super::controller_error;
use crate::doors::codes;
use crate::doors::words::{milliseconds, text, wire_node};
use crate::nodes::{MetadataRole, Moving, NodeState};
use bateau_core::controller::{ListenerAddress, Permit, Reassign, Standing};
use bateau_protocol::ids::NodeId;
use bateau_protocol::native::{
    ErrorReply, ListNodesResponse, ListReassignmentsResponse, MoveOutcome, MovingPartition,
    NodeDescription, NodeListener, PartitionMove, PermitNodeRequest, PermitNodeResponse,
    ReassignPartitionsRequest, ReassignPartitionsResponse, SetStandingRequest, SetStandingResponse,
};
use bateau_protocol::wire::{ErrorCode, Text};

/// Every node.
pub fn list(call: &Call) -> ListNodesResponse {
    ListNodesResponse { nodes: call.context.broker.nodes().into_iter().map(describe).collect() }
}

fn describe(state: NodeState) -> NodeDescription {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    NodeDescription {
        node_id: wire_node(state.node),
        listeners: state.listeners.iter().map(listener).collect(),
        rack: state.rack.map(Text::from),
        boot_epoch: state.boot_epoch.map_or(-1, |boot| i64::try_from(boot).unwrap_or(i64::MAX)),
        is_alive: state.is_alive,
        standing: Text::from_static(state.standing.map_or("", standing_word)),
        permit: Text::from_static(match state.permit {
            None => "",
            Some(Permit::Join) => "join",
            Some(Permit::Replace) => "replace",
        }),
        role: Text::from_static(match state.role {
            None => "",
            Some(MetadataRole::Leader) => "leader",
            Some(MetadataRole::Voter) => "voter",
            Some(MetadataRole::Learner) => "learner",
        }),
        replicas: count(state.replicas),
        leaders: count(state.leaders),
        incoming: count(state.incoming),
        outgoing: count(state.outgoing),
        hindrance: state.hindrance.map(Text::from).unwrap_or_default(),
    }
}

fn listener(address: &ListenerAddress) -> NodeListener {
    let (name, host) = (text(&address.name), text(&address.host));
    NodeListener { name, host, port: address.port.into() }
}

const fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Serving => "serving",
        Standing::Draining => "draining",
        Standing::Leaving => "leaving",
    }
}

/// Lets a node come.
pub async fn permit(
    call: &Call,
    request: PermitNodeRequest,
) -> Result<PermitNodeResponse, ErrorReply> {
    let node = node_id(request.node_id)?;
    let permit = if request.replaces { Permit::Replace } else { Permit::Join };
    let timeout_ms = milliseconds(request.timeout_ms);
    let broker = &call.context.broker;
    let permitted = broker.permit_node(node, permit, request.validate_only, timeout_ms).await;
    permitted.map_err(|found| admin_error(&found, codes::node))?;
    Ok(PermitNodeResponse {})
}

/// Tells a member what to do.
pub async fn set_standing(
    call: &Call,
    request: SetStandingRequest,
) -> Result<SetStandingResponse, ErrorReply> {
    let node = node_id(request.node_id)?;
    let standings = [Standing::Serving, Standing::Draining, Standing::Leaving];
    let wanted = standings.into_iter().find(|one| standing_word(*one) == request.standing.as_str());
    let Some(standing) = wanted else {
        let message = format!(
            "{:?} is no standing, expected serving, draining or leaving",
            request.standing.as_str()
        );
        return Err(error(ErrorCode::INVALID_REQUEST, message));
    };
    let timeout_ms = milliseconds(request.timeout_ms);
    let broker = &call.context.broker;
    let set = broker.set_standing(node, standing, request.validate_only, timeout_ms).await;
    set.map_err(|found| admin_error(&found, codes::node))?;
    Ok(SetStandingResponse {})
}

/// A node's number; that of a node is above zero.
fn node_id(number: i32) -> Result<NodeId, ErrorReply> {
    let found = u64::try_from(number).ok().filter(|number| *number > 0).map(NodeId::new);
    found.ok_or_else(|| {
        let message = format!("{number} is no node id, expected 1 or above");
        error(ErrorCode::INVALID_REQUEST, message)
    })
}

/// Moves partitions.
pub async fn reassign(
    call: &Call,
    request: ReassignPartitionsRequest,
) -> Result<ReassignPartitionsResponse, ErrorReply> {
    let asked = request.partitions.iter().map(|one| Reassign {
        topic: one.topic.as_str().to_owned(),
        partition: one.partition,
        nodes: one.nodes.clone(),
    });
    let timeout_ms = milliseconds(request.timeout_ms);
    let moved = call.context.broker.reassign(asked.collect(), timeout_ms).await;
    let moved = moved.map_err(|found| controller_error(&found))?;
    let told = request.partitions.into_iter().zip(moved).map(
        |(PartitionMove { topic, partition, .. }, moved)| {
            let error_code = moved.as_ref().map_or_else(codes::reassign, |()| ErrorCode::NONE);
            let message = moved.err().map(|found| found.to_string().into()).unwrap_or_default();
            MoveOutcome { error_code, message, topic, partition }
        },
    );
    Ok(ReassignPartitionsResponse { partitions: told.collect() })
}

/// What is being moved.
pub fn reassignments(call: &Call) -> ListReassignmentsResponse {
    let moves = call.context.broker.moves().into_iter();
    ListReassignmentsResponse { partitions: moves.map(moving).collect() }
}

fn moving(one: Moving) -> MovingPartition {
    let numbers = |nodes: Vec<NodeId>| nodes.into_iter().map(wire_node).collect();
    MovingPartition {
        topic: text(&one.topic),
        partition: i32::try_from(one.partition).unwrap_or(-1),
        nodes: numbers(one.nodes),
        adding: numbers(one.adding),
        leaving: numbers(one.leaving),
    }
}
