//! LeaveGroup and DeleteGroup: going on purpose (KIP-345's batches included).
//!
//! Absent on purpose: a command for a member that left while others stay. The next generation
//! says so; after a crash before it, the member's session runs out.

use super::command::{Command, GroupRemoved};
use super::join::Stranger;
use super::live::LiveGroup;
use super::timers::Timer;
use super::turn::{Turn, Waiting};
use super::{
    DeleteGroup, DeleteGroupError, GroupResponse, GroupState, LeaveGroup, LeaveGroupError,
    LeaveMemberError, LeavingMember, LeftMember, NAME_BYTES_MAX,
};
use crate::ticket::Ticket;

impl Turn<'_> {
    pub(super) fn leave_group(&mut self, request: LeaveGroup, ticket: Ticket) {
        if request.group_id.is_empty() || request.group_id.len() > NAME_BYTES_MAX {
            let error = LeaveGroupError::InvalidGroupId;
            return self.answer(ticket, GroupResponse::LeaveGroup(Err(error)));
        }
        let Some(mut group) = self.live.groups.remove(&request.group_id) else {
            let unknown = Err(LeaveMemberError::UnknownMemberId);
            let members = request.members.into_iter().map(|member| left(member, unknown));
            let response = GroupResponse::LeaveGroup(Ok(members.collect()));
            return self.answer(ticket, response);
        };
        let mut members = Vec::with_capacity(request.members.len());
        for member in request.members {
            let outcome = self.leave(&mut group, &member);
            members.push(left(member, outcome));
        }
        if members.iter().any(|member| member.outcome.is_ok()) {
            self.rebalance_after_loss(&mut group);
        }
        let response = GroupResponse::LeaveGroup(Ok(members));
        self.answer_behind(&group, Waiting::New(ticket), response);
        self.put_group(group);
    }

    fn leave(
        &mut self,
        group: &mut LiveGroup,
        leaving: &LeavingMember,
    ) -> Result<(), LeaveMemberError> {
        let id = &leaving.member_id;
        if id.is_empty() {
            // An administrator knows the instance, not the id that it has at the moment.
            let instance_id = leaving.group_instance_id.as_ref();
            let id = instance_id.and_then(|instance_id| group.static_member(instance_id));
            let id = id.cloned().ok_or(LeaveMemberError::UnknownMemberId)?;
            self.remove_member(group, &id);
            return Ok(());
        }
        if group.pending.remove(id) {
            self.live.timers.cancel(&Timer::Pending(group.id.clone(), id.clone()));
            return Ok(());
        }
        match group.check_member(id, leaving.group_instance_id.as_ref()) {
            Ok(()) => {}
            Err(Stranger::Unknown) => return Err(LeaveMemberError::UnknownMemberId),
            Err(Stranger::Fenced) => return Err(LeaveMemberError::FencedInstanceId),
        }
        self.remove_member(group, id);
        Ok(())
    }

    pub(super) fn delete_group(&mut self, request: &DeleteGroup, ticket: Ticket) {
        if let Err(error) = self.delete_empty(&request.group_id, ticket) {
            self.answer(ticket, GroupResponse::DeleteGroup(Err(error)));
        }
    }

    fn delete_empty(
        &mut self,
        group_id: &super::Name,
        ticket: Ticket,
    ) -> Result<(), DeleteGroupError> {
        let group = self.take_group(group_id).ok_or(DeleteGroupError::GroupIdNotFound)?;
        if group.state != GroupState::Empty || !group.pending.is_empty() {
            self.put_group(group);
            return Err(DeleteGroupError::NonEmptyGroup);
        }
        if group.revision == 0 && !self.tables.groups.contains_key(group_id) {
            // Its removal is in flight already.
            self.put_group(group);
            return Err(DeleteGroupError::GroupIdNotFound);
        }
        let group = self.propose_removal(group, true);
        let response = GroupResponse::DeleteGroup(Ok(()));
        self.answer_behind(&group, Waiting::New(ticket), response);
        self.put_group(group);
        Ok(())
    }

    /// Proposes that a group without members is no more. What comes after it in the log meets a
    /// group that never was, and so does whoever comes to the returned one.
    pub(super) fn propose_removal(&mut self, group: LiveGroup, with_offsets: bool) -> LiveGroup {
        let command = Command::GroupRemoved(GroupRemoved {
            group_id: group.id.clone(),
            revision: group.revision,
            with_offsets,
        });
        let mut next = self.new_group(&group.id);
        self.propose_change(&mut next, &command);
        next.revision = 0;
        next
    }
}

fn left(member: LeavingMember, outcome: Result<(), LeaveMemberError>) -> LeftMember {
    LeftMember { member_id: member.member_id, group_instance_id: member.group_instance_id, outcome }
}
