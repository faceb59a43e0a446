//! Membership of consumer groups: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! Absent on purpose: positions (`positions`), and any rule of a group.

use super::super::dispatch::Call;
use super::{name, text};
use crate::doors::codes;
use bateau_core::consumer_group::{
    Assignment, CoordinatorError, GroupRequest, GroupResponse, Heartbeat, JoinGroup,
    JoinGroupError, JoinedGroup, LeaveGroup, LeavingMember, Name, Protocol, SyncGroup,
};
use bateau_protocol::kafka::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use bateau_protocol::kafka::api::join_group::{
    JoinGroupMember, JoinGroupRequest, JoinGroupResponse,
};
use bateau_protocol::kafka::api::leave_group::{
    LeaveGroupMember, LeaveGroupMemberResponse, LeaveGroupRequest, LeaveGroupResponse,
};
use bateau_protocol::kafka::api::sync_group::{SyncGroupRequest, SyncGroupResponse};
use bateau_protocol::kafka::{ErrorCode, Text};

/// First version in which a new dynamic member joins twice (KIP-394).
const MEMBER_ID_REQUIRED_SINCE: i16 = 4;
/// First version in which a leader can be told to keep the assignment it has (KIP-814).
const SKIP_ASSIGNMENT_SINCE: i16 = 9;
/// First version whose members must say the group's protocol (KIP-559).
const PROTOCOL_NAMED_SINCE: i16 = 5;
/// First version in which several members leave at once (KIP-345).
const LEAVE_TOGETHER_SINCE: i16 = 3;

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

/// Becomes or stays a member.
pub async fn join(call: &Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let member_id = request.member_id.clone();
    let asked = join_group(call, request);
    match ask!(call, JoinGroup, asked) {
        Ok(joined) => joined_response(joined),
        Err(error) => JoinGroupResponse {
            error_code: codes::join_group(&error),
            member_id: match &error {
                JoinGroupError::MemberIdRequired { member_id } => text(member_id),
                _ => member_id,
            },
            ..JoinGroupResponse::default()
        },
    }
}

fn join_group(call: &Call, request: JoinGroupRequest) -> JoinGroup {
    let protocols = request.protocols.into_iter();
    JoinGroup {
        group_id: name(&request.group_id),
        member_id: name(&request.member_id),
        group_instance_id: optional(request.group_instance_id.as_ref()),
        client_id: name(call.client_id.as_deref().unwrap_or_default()),
        client_host: Name::clone(&call.context.client_host),
        member_uuid: call.context.broker.entropy().bytes(),
        member_id_required: call.version >= MEMBER_ID_REQUIRED_SINCE,
        can_skip_assignment: call.version >= SKIP_ASSIGNMENT_SINCE,
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        protocol_type: name(&request.protocol_type),
        protocols: protocols
            .map(|protocol| Protocol { name: name(&protocol.name), metadata: protocol.metadata })
            .collect(),
    }
}

fn joined_response(joined: JoinedGroup) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| JoinGroupMember {
        member_id: text(&member.member_id),
        group_instance_id: member.group_instance_id.as_deref().map(text),
        metadata: member.metadata,
    });
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: Some(text(&joined.protocol_type)),
        protocol_name: Some(text(&joined.protocol_name)),
        leader: text(&joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: text(&joined.member_id),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

/// Hands in or waits for assignments.
pub async fn sync(call: &Call, request: SyncGroupRequest) -> SyncGroupResponse {
    let is_named = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= PROTOCOL_NAMED_SINCE && !is_named {
        let error_code = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
        return SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
    }
    let assignments = request.assignments.into_iter().map(|given| Assignment {
        member_id: name(&given.member_id),
        assignment: given.assignment,
    });
    let asked = SyncGroup {
        group_id: name(&request.group_id),
        generation: request.generation_id,
        member_id: name(&request.member_id),
        group_instance_id: optional(request.group_instance_id.as_ref()),
        protocol_type: optional(request.protocol_type.as_ref()),
        protocol_name: optional(request.protocol_name.as_ref()),
        assignments: assignments.collect(),
    };
    match ask!(call, SyncGroup, asked) {
        Ok(synced) => SyncGroupResponse {
            protocol_type: Some(text(&synced.protocol_type)),
            protocol_name: Some(text(&synced.protocol_name)),
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Err(error) => SyncGroupResponse {
            error_code: codes::sync_group(&error),
            ..SyncGroupResponse::default()
        },
    }
}

/// Stays a member.
pub async fn heartbeat(call: &Call, request: &HeartbeatRequest) -> HeartbeatResponse {
    let asked = Heartbeat {
        group_id: name(&request.group_id),
        generation: request.generation_id,
        member_id: name(&request.member_id),
        group_instance_id: optional(request.group_instance_id.as_ref()),
    };
    let error_code = match ask!(call, Heartbeat, asked) {
        Ok(()) => ErrorCode::NONE,
        Err(error) => codes::heartbeat(&error),
    };
    HeartbeatResponse { error_code, ..HeartbeatResponse::default() }
}

/// Removes members.
pub async fn leave(call: &Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let is_together = call.version >= LEAVE_TOGETHER_SINCE;
    let members: Vec<LeavingMember> = if is_together {
        request.members.iter().map(leaving).collect()
    } else {
        vec![LeavingMember { member_id: name(&request.member_id), group_instance_id: None }]
    };
    let asked = LeaveGroup { group_id: name(&request.group_id), members };
    let left = match ask!(call, LeaveGroup, asked) {
        Ok(left) => left,
        Err(error) => {
            let error_code = codes::leave_group(&error);
            return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
        }
    };
    let members: Vec<LeaveGroupMemberResponse> = left
        .into_iter()
        .map(|member| LeaveGroupMemberResponse {
            member_id: text(&member.member_id),
            group_instance_id: member.group_instance_id.as_deref().map(text),
            error_code: member.outcome.err().map_or(ErrorCode::NONE, codes::leave_member),
        })
        .collect();
    if is_together {
        return LeaveGroupResponse { members, ..LeaveGroupResponse::default() };
    }
    // Where one member leaves, its error is the request's.
    let error_code = members.first().map_or(ErrorCode::NONE, |member| member.error_code);
    LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }
}

fn leaving(member: &LeaveGroupMember) -> LeavingMember {
    LeavingMember {
        member_id: name(&member.member_id),
        group_instance_id: optional(member.group_instance_id.as_ref()),
    }
}
