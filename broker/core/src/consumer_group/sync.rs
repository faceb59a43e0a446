//! SyncGroup and Heartbeat: handing out a generation's assignments, and staying in it
//! (G46, G47).
//!
//! Invariants
//! - `I-GRP-2` Assignments are stored once per generation, before any member hears its own.
//!
//! Absent on purpose: reading an assignment.

use bytes::Bytes;

use super::command::{AssignmentsStored, Command};
use super::join::Stranger;
use super::live::LiveGroup;
use super::timers::Timer;
use super::turn::{Turn, Waiting};
use super::{
    Assignment, GROUP_ASSIGNMENT_BYTES_MAX, GroupResponse, GroupState, Heartbeat, HeartbeatError,
    NAME_BYTES_MAX, Name, SyncGroup, SyncGroupError, SyncedGroup,
};
use crate::ticket::Ticket;

impl Turn<'_> {
    pub(super) fn sync_group(&mut self, request: SyncGroup, ticket: Ticket) {
        if request.group_id.is_empty() || request.group_id.len() > NAME_BYTES_MAX {
            let error = SyncGroupError::InvalidGroupId;
            return self.answer(ticket, GroupResponse::SyncGroup(Err(error)));
        }
        let Some(mut group) = self.live.groups.remove(&request.group_id) else {
            let error = SyncGroupError::UnknownMemberId;
            return self.answer(ticket, GroupResponse::SyncGroup(Err(error)));
        };
        if let Err(error) = self.sync_in(&mut group, request, ticket) {
            self.answer(ticket, GroupResponse::SyncGroup(Err(error)));
        }
        self.put_group(group);
    }

    fn sync_in(
        &mut self,
        group: &mut LiveGroup,
        request: SyncGroup,
        ticket: Ticket,
    ) -> Result<(), SyncGroupError> {
        check_sync(group, &request)?;
        let id = &request.member_id;
        match group.state {
            GroupState::Empty => return Err(SyncGroupError::UnknownMemberId),
            GroupState::PreparingRebalance => return Err(SyncGroupError::RebalanceInProgress),
            GroupState::CompletingRebalance => {
                let is_leader = group.is_leader(id);
                if is_leader {
                    check_size(&request.assignments)?;
                }
                self.park_sync(group, id, ticket);
                self.has_synced(group, id);
                if is_leader {
                    self.store_assignments(group, request.assignments);
                }
            }
            GroupState::Stable => {
                self.has_synced(group, id);
                self.restart_session(group, id);
                let response = synced_group(group, id);
                self.answer_member(group, id, Waiting::New(ticket), response);
            }
        }
        Ok(())
    }

    fn has_synced(&mut self, group: &mut LiveGroup, id: &Name) {
        group.pending_syncs.remove(id);
        if group.pending_syncs.is_empty() {
            self.live.timers.cancel(&Timer::Sync(group.id.clone()));
        }
    }

    fn park_sync(&mut self, group: &mut LiveGroup, id: &Name, ticket: Ticket) {
        let Some(member) = group.member_mut(id) else { return };
        let before = member.sync.replace(ticket);
        self.live.parked += 1;
        if let Some(before) = before {
            let error = SyncGroupError::RebalanceInProgress;
            self.answer_parked(before, GroupResponse::SyncGroup(Err(error)));
        }
    }

    /// The leader has decided. Members that it left out get an empty assignment.
    fn store_assignments(&mut self, group: &mut LiveGroup, assignments: Vec<Assignment>) {
        for id in group.member_ids() {
            if let Some(member) = group.member_mut(&id) {
                member.member.assignment = Bytes::new();
            }
        }
        for assigned in assignments {
            if let Some(member) = group.member_mut(&assigned.member_id) {
                member.member.assignment = Bytes::copy_from_slice(&assigned.assignment);
            }
        }
        let filled = group.members().filter(|member| !member.member.assignment.is_empty());
        let assignments = filled.map(|member| Assignment {
            member_id: member.member.id.clone(),
            assignment: member.member.assignment.clone(),
        });
        let command = Command::AssignmentsStored(AssignmentsStored {
            group_id: group.id.clone(),
            revision: group.revision,
            generation: group.generation,
            assignments: assignments.collect(),
        });
        self.propose_change(group, &command);
        group.state = GroupState::Stable;
        for id in group.member_ids() {
            let Some(ticket) = group.member_mut(&id).and_then(|member| member.sync.take()) else {
                continue;
            };
            let response = synced_group(group, &id);
            self.answer_member(group, &id, Waiting::Parked(ticket), response);
            self.restart_session(group, &id);
        }
    }

    pub(super) fn heartbeat(&mut self, request: &Heartbeat, ticket: Ticket) {
        let outcome = self.heard(request);
        self.answer(ticket, GroupResponse::Heartbeat(outcome));
    }

    /// The commonest request: a look-up and a deadline, nothing is moved or written.
    fn heard(&mut self, request: &Heartbeat) -> Result<(), HeartbeatError> {
        if request.group_id.is_empty() || request.group_id.len() > NAME_BYTES_MAX {
            return Err(HeartbeatError::InvalidGroupId);
        }
        let group = self.live.groups.get_mut(&request.group_id);
        let group = group.ok_or(HeartbeatError::UnknownMemberId)?;
        match group.check_member(&request.member_id, request.group_instance_id.as_ref()) {
            Ok(()) => {}
            Err(Stranger::Unknown) => return Err(HeartbeatError::UnknownMemberId),
            Err(Stranger::Fenced) => return Err(HeartbeatError::FencedInstanceId),
        }
        if request.generation != group.generation {
            return Err(HeartbeatError::IllegalGeneration { found: request.generation });
        }
        let (group_id, state) = (group.id.clone(), group.state);
        if let Some(member) = group.member_mut(&request.member_id) {
            let timeout_ms = u64::from(member.member.session_timeout_ms);
            let at = self.now.service_ms.saturating_add(timeout_ms);
            member.session_deadline = at;
            let timer = Timer::Session(group_id, request.member_id.clone());
            self.live.timers.arm_by(timer, at);
        }
        match state {
            GroupState::PreparingRebalance => Err(HeartbeatError::RebalanceInProgress),
            GroupState::CompletingRebalance | GroupState::Stable => Ok(()),
            GroupState::Empty => Err(HeartbeatError::UnknownMemberId),
        }
    }
}

fn check_sync(group: &LiveGroup, request: &SyncGroup) -> Result<(), SyncGroupError> {
    match group.check_member(&request.member_id, request.group_instance_id.as_ref()) {
        Ok(()) => {}
        Err(Stranger::Unknown) => return Err(SyncGroupError::UnknownMemberId),
        Err(Stranger::Fenced) => return Err(SyncGroupError::FencedInstanceId),
    }
    if request.generation != group.generation {
        return Err(SyncGroupError::IllegalGeneration { found: request.generation });
    }
    let differs = |given: &Option<Name>, own: &Name| given.as_ref().is_some_and(|it| it != own);
    if differs(&request.protocol_type, &group.protocol_type)
        || differs(&request.protocol_name, &group.protocol)
    {
        return Err(SyncGroupError::InconsistentGroupProtocol);
    }
    Ok(())
}

fn check_size(assignments: &[Assignment]) -> Result<(), SyncGroupError> {
    let bytes = assignments.iter().map(|it| it.member_id.len() + it.assignment.len() + 8);
    let (found, max) = (bytes.sum(), GROUP_ASSIGNMENT_BYTES_MAX);
    if found > max { Err(SyncGroupError::MessageTooLarge { found, max }) } else { Ok(()) }
}

fn synced_group(group: &LiveGroup, id: &str) -> GroupResponse {
    let member = group.member(id);
    GroupResponse::SyncGroup(Ok(SyncedGroup {
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol.clone(),
        assignment: member.map(|member| member.member.assignment.clone()).unwrap_or_default(),
    }))
}
