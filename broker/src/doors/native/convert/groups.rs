//! Consumer groups: membership, and what administration asks of them.
//!
//! Members of both protocols share a group: the coordinator is the same one, and subscriptions and
//! assignments pass through as they came.
//!
//! Absent on purpose: positions (`positions`), and any rule of a group.

use super::super::dispatch::Call;
use super::super::session::error;
use crate::admin::{GroupLag, PartitionLag as Lag};
use crate::doors::codes;
use crate::doors::words::{self, name, text, wire_node, wire_offset};
use bateau_core::consumer_group::{
    Assignment, CoordinatorError, GroupRequest, GroupResponse, Heartbeat, HeartbeatError,
    JoinGroup, JoinGroupError, JoinedGroup, LeaveGroup, LeavingMember as Leaving,
    MemberDescription as Member, Name, Protocol, SyncGroup, SyncGroupError,
};
use bateau_protocol::native::{
    CoordinatorRequest, CoordinatorResponse, DeleteGroupsRequest, DeleteGroupsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, ErrorReply, GroupDescription, GroupListing,
    GroupMember, HeartbeatRequest, HeartbeatResponse, JoinRequest, JoinResponse, LeaveRequest,
    LeaveResponse, ListGroupsResponse, MemberDescription, PartitionLag, SyncRequest, SyncResponse,
};
use bateau_protocol::wire::{ErrorCode, Text};

/// Asks the coordinator and takes the answer to this kind of question out of what it says. A node
/// that stops answers nothing: its coordinators are then not available.
macro_rules! ask {
    ($call:expr, $kind:ident, $request:expr) => {
        match $call.context.broker.group(GroupRequest::$kind($request)).await {
            Some(GroupResponse::$kind(answer)) => answer,
            None | Some(_) => Err(CoordinatorError::NotAvailable.into()),
        }
    };
}
pub(super) use ask;

pub(super) fn optional(text: Option<&Text>) -> Option<Name> {
    text.map(|text| name(text))
}

/// Where a group is coordinated.
pub fn coordinator(
    call: &Call,
    request: &CoordinatorRequest,
) -> Result<CoordinatorResponse, ErrorReply> {
    let broker = &call.context.broker;
    let reason = "the group's partition has no leader at the moment";
    let node = words::coordinator(&broker.directory(), &request.group_id)
        .ok_or_else(|| error(ErrorCode::COORDINATOR_NOT_AVAILABLE, reason))?;
    Ok(CoordinatorResponse { node_id: wire_node(node) })
}

/// Becomes or stays a member.
pub async fn join(call: &Call, request: JoinRequest) -> Result<JoinResponse, ErrorReply> {
    let member_id = request.member_id.clone();
    let protocols = request.protocols.into_iter();
    let asked = JoinGroup {
        group_id: name(&request.group_id),
        member_id: name(&request.member_id),
        group_instance_id: optional(request.group_instance_id.as_ref()),
        client_id: name(&call.client_name),
        client_host: Name::clone(&call.context.client_host),
        member_uuid: call.context.broker.entropy().bytes(),
        member_id_required: true,
        can_skip_assignment: true,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: name(&request.protocol_type),
        protocols: protocols
            .map(|protocol| Protocol { name: name(&protocol.name), metadata: protocol.metadata })
            .collect(),
    };
    let joined: Result<JoinedGroup, JoinGroupError> = ask!(call, JoinGroup, asked);
    joined.map(joined_response).map_err(|found| ErrorReply {
        member_id: match &found {
            JoinGroupError::MemberIdRequired { member_id } => text(member_id),
            _ => member_id,
        },
        ..error(codes::join_group(&found), found.to_string())
    })
}

fn joined_response(joined: JoinedGroup) -> JoinResponse {
    let members = joined.members.into_iter().map(|member| GroupMember {
        member_id: text(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(text),
        metadata: member.metadata,
    });
    JoinResponse {
        generation: joined.generation,
        protocol_type: text(&joined.protocol_type),
        protocol_name: text(&joined.protocol_name),
        leader: text(&joined.leader),
        member_id: text(&joined.member_id),
        skip_assignment: joined.skip_assignment,
        members: members.collect(),
    }
}

/// Hands in or waits for assignments.
pub async fn sync(call: &Call, request: SyncRequest) -> Result<SyncResponse, ErrorReply> {
    let member_id = request.member_id.clone();
    let assignments = request.assignments.into_iter().map(|given| Assignment {
        member_id: name(&given.member_id),
        assignment: given.assignment,
    });
    let asked = SyncGroup {
        group_id: name(&request.group_id),
        generation: request.generation,
        member_id: name(&request.member_id),
        group_instance_id: optional(request.group_instance_id.as_ref()),
        protocol_type: Some(name(&request.protocol_type)),
        protocol_name: Some(name(&request.protocol_name)),
        assignments: assignments.collect(),
    };
    let synced: Result<_, SyncGroupError> = ask!(call, SyncGroup, asked);
    match synced {
        Ok(synced) => Ok(SyncResponse {
            protocol_type: text(&synced.protocol_type),
            protocol_name: text(&synced.protocol_name),
            assignment: synced.assignment,
        }),
        Err(found) => {
            Err(ErrorReply { member_id, ..error(codes::sync_group(&found), found.to_string()) })
        }
    }
}

/// Stays a member.
pub async fn heartbeat(
    call: &Call,
    request: &HeartbeatRequest,
) -> Result<HeartbeatResponse, ErrorReply> {
    let asked = Heartbeat {
        group_id: name(&request.group_id),
        generation: request.generation,
        member_id: name(&request.member_id),
        group_instance_id: optional(request.group_instance_id.as_ref()),
    };
    let beaten: Result<(), HeartbeatError> = ask!(call, Heartbeat, asked);
    beaten.map(|()| HeartbeatResponse {}).map_err(|found| ErrorReply {
        member_id: request.member_id.clone(),
        ..error(codes::heartbeat(&found), found.to_string())
    })
}

/// Removes members.
pub async fn leave(call: &Call, request: &LeaveRequest) -> Result<LeaveResponse, ErrorReply> {
    let members = request.members.iter().map(|member| Leaving {
        member_id: name(&member.member_id),
        group_instance_id: optional(member.group_instance_id.as_ref()),
    });
    let asked = LeaveGroup { group_id: name(&request.group_id), members: members.collect() };
    let left = match ask!(call, LeaveGroup, asked) {
        Ok(left) => left,
        Err(found) => return Err(error(codes::leave_group(&found), found.to_string())),
    };
    let outcomes = left.into_iter();
    let code = |outcome: Result<(), _>| outcome.err().map_or(ErrorCode::NONE, codes::leave_member);
    Ok(LeaveResponse { error_codes: outcomes.map(|member| code(member.outcome)).collect() })
}

/// All groups that this node coordinates.
pub async fn list(call: &Call) -> Result<ListGroupsResponse, ErrorReply> {
    let found = match call.context.broker.list_groups().await {
        Ok(found) => found,
        Err(found) => return Err(error(codes::coordinator(found), found.to_string())),
    };
    let groups = found.groups.iter().map(|group| GroupListing {
        group_id: text(&group.group_id),
        protocol_type: text(&group.protocol_type),
        state: Text::from_static(group.state.name()),
    });
    Ok(ListGroupsResponse { groups: groups.collect() })
}

/// Groups with members and lag.
pub async fn describe(call: &Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let ids: Vec<Name> = request.group_ids.iter().map(|id| name(id)).collect();
    let described = call.context.broker.group_lag(ids).await;
    DescribeGroupsResponse { groups: described.into_iter().map(description).collect() }
}

fn description(described: GroupLag) -> GroupDescription {
    let group_id = text(&described.group_id);
    let (group, partitions) = match described.result {
        Ok(found) => (found.group, found.partitions),
        Err(found) => {
            let error_code = codes::describe_group(&found);
            return GroupDescription { error_code, group_id, ..GroupDescription::default() };
        }
    };
    GroupDescription {
        error_code: ErrorCode::NONE,
        group_id,
        state: Text::from_static(group.state.name()),
        protocol_type: text(&group.protocol_type),
        protocol_name: text(&group.protocol_name),
        generation: group.generation,
        leader: group.leader.as_deref().map(text).unwrap_or_default(),
        members: group.members.into_iter().map(member).collect(),
        lags: partitions.iter().map(partition_lag).collect(),
    }
}

fn member(member: Member) -> MemberDescription {
    MemberDescription {
        member_id: text(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(text),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        metadata: member.metadata,
        assignment: member.assignment,
    }
}

fn partition_lag(lag: &Lag) -> PartitionLag {
    PartitionLag {
        topic: text(&lag.topic),
        partition: lag.partition,
        committed: lag.committed.as_ref().map_or(-1, |committed| committed.offset),
        high_watermark: lag.high_watermark.map_or(-1, wire_offset),
        log_start: lag.log_start.map_or(-1, wire_offset),
    }
}

/// Removes groups.
pub async fn delete(call: &Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let ids = request.group_ids.iter().map(|id| name(id)).collect();
    let outcomes = call.context.broker.delete_groups(ids).await.into_iter();
    let code = |outcome: &Result<(), _>| match outcome {
        Ok(()) => ErrorCode::NONE,
        Err(found) => codes::delete_group(found),
    };
    DeleteGroupsResponse { error_codes: outcomes.map(|(_, outcome)| code(&outcome)).collect() }
}
