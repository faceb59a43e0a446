//! One turn of a leading coordinator: everything that a decision may look at and change.
//!
//! Invariants
//! - `I-GRP-4` `parked` counts the tickets that wait; a change of role brings it to zero.
//! - While a group is out of the map (between `take_group` and `put_group`), nothing looks for it.
//!
//! Absent on purpose: decisions.

use std::collections::BTreeMap;

use super::command::Command;
use super::live::{InFlight, LiveGroup};
use super::tables::Tables;
use super::timers::{Timer, Timers};
use super::{CoordinatorError, GroupEffects, GroupResponse, GroupSettings, Name};
use crate::clock::Now;
use crate::ticket::{ProposalToken, Ticket};

/// What exists on the leader only.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) groups: BTreeMap<Name, LiveGroup>,
    pub(super) timers: Timers,
    pub(super) in_flight: BTreeMap<ProposalToken, InFlight>,
    /// Tickets in members and behind proposals.
    pub(super) parked: usize,
    next_token: u64,
    next_instance: u64,
}

impl Live {
    fn instance(&mut self) -> u64 {
        self.next_instance += 1;
        self.next_instance
    }
}

/// A ticket, and whether `parked` counts it already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
    /// Of the request at hand.
    New(Ticket),
    /// Of an earlier request.
    Parked(Ticket),
}

/// The borrowed parts of a coordinator during one call.
pub(super) struct Turn<'a> {
    pub(super) now: Now,
    pub(super) settings: &'a GroupSettings,
    pub(super) tables: &'a Tables,
    pub(super) live: &'a mut Live,
    pub(super) effects: &'a mut GroupEffects,
}

impl Turn<'_> {
    /// Takes a group out of the map to work on it: the live one, else a fresh view of the tables.
    pub(super) fn take_group(&mut self, group_id: &Name) -> Option<LiveGroup> {
        if let Some(group) = self.live.groups.remove(group_id) {
            return Some(group);
        }
        let stored = self.tables.groups.get(group_id)?;
        Some(LiveGroup::from_stored(group_id.clone(), self.live.instance(), stored))
    }

    /// A group that nobody has heard of.
    pub(super) fn new_group(&mut self, group_id: &Name) -> LiveGroup {
        LiveGroup::new(group_id.clone(), self.live.instance())
    }

    /// Puts a group back, unless it has become just what the tables say.
    pub(super) fn put_group(&mut self, group: LiveGroup) {
        if !group.is_vacant() {
            self.live.groups.insert(group.id.clone(), group);
            return;
        }
        self.live.timers.cancel(&Timer::Join(group.id.clone()));
        self.live.timers.cancel(&Timer::Sync(group.id.clone()));
        self.schedule_housekeeping(&group.id);
    }

    /// Rebuilds a group with members from the tables; the live one has been dismissed.
    pub(super) fn load_group(&mut self, group_id: &Name) {
        let Some(stored) = self.tables.groups.get(group_id) else { return };
        if stored.members.is_empty() {
            self.schedule_housekeeping(group_id);
            return;
        }
        let instance = self.live.instance();
        let mut group = LiveGroup::from_stored(group_id.clone(), instance, stored);
        for member_id in group.member_ids() {
            self.restart_session(&mut group, &member_id);
        }
        if !group.pending_syncs.is_empty() {
            self.arm_sync(&group);
        }
        self.put_group(group);
    }

    /// Refuses everything that waits in a group and forgets the live part of it.
    pub(super) fn dismiss_group(&mut self, group: LiveGroup, error: CoordinatorError) {
        for member in group.members() {
            let id = &member.member.id;
            self.live.timers.cancel(&Timer::Session(group.id.clone(), id.clone()));
            if let Some(ticket) = member.join {
                let response = GroupResponse::JoinGroup(Err(error.into()));
                self.answer_parked(ticket, response);
            }
            if let Some(ticket) = member.sync {
                let response = GroupResponse::SyncGroup(Err(error.into()));
                self.answer_parked(ticket, response);
            }
        }
        for id in &group.pending {
            self.live.timers.cancel(&Timer::Pending(group.id.clone(), id.clone()));
        }
        self.live.timers.cancel(&Timer::Join(group.id.clone()));
        self.live.timers.cancel(&Timer::Sync(group.id.clone()));
    }

    /// Answers at once. The ticket was not parked.
    pub(super) fn answer(&mut self, ticket: Ticket, response: GroupResponse) {
        self.effects.reply(ticket, response);
    }

    /// Answers at once a ticket that waited.
    pub(super) fn answer_parked(&mut self, ticket: Ticket, response: GroupResponse) {
        assert!(self.live.parked > 0, "I-GRP-4: more tickets answered than accepted");
        self.live.parked -= 1;
        self.effects.reply(ticket, response);
    }

    /// Answers once all that the group's state rests on is applied.
    pub(super) fn answer_behind(
        &mut self,
        group: &LiveGroup,
        waiting: Waiting,
        response: GroupResponse,
    ) {
        let token = group.in_flight;
        let in_flight = token.and_then(|token| self.live.in_flight.get_mut(&token));
        match (in_flight, waiting) {
            (None, Waiting::New(ticket)) => self.answer(ticket, response),
            (None, Waiting::Parked(ticket)) => self.answer_parked(ticket, response),
            (Some(in_flight), Waiting::New(ticket)) => {
                in_flight.replies.push((ticket, response));
                self.live.parked += 1;
            }
            (Some(in_flight), Waiting::Parked(ticket)) => {
                in_flight.replies.push((ticket, response));
            }
        }
    }

    /// The same for a member that is told its generation or assignment: its session starts anew
    /// when the answer leaves.
    pub(super) fn answer_member(
        &mut self,
        group: &LiveGroup,
        member_id: &Name,
        waiting: Waiting,
        response: GroupResponse,
    ) {
        let token = group.in_flight;
        if let Some(in_flight) = token.and_then(|token| self.live.in_flight.get_mut(&token)) {
            in_flight.members.push(member_id.clone());
        }
        self.answer_behind(group, waiting, response);
    }

    /// Proposes a change of a group's membership.
    pub(super) fn propose_change(&mut self, group: &mut LiveGroup, command: &Command) {
        let token = self.propose(&group.id, Some(group.instance), command, Vec::new());
        group.in_flight = Some(token);
        group.revision += 1;
    }

    /// Proposes a command; `replies` leave once it is applied.
    pub(super) fn propose(
        &mut self,
        group_id: &Name,
        instance: Option<u64>,
        command: &Command,
        replies: Vec<(Ticket, GroupResponse)>,
    ) -> ProposalToken {
        self.live.next_token += 1;
        let token = ProposalToken(self.live.next_token);
        self.live.parked += replies.len();
        let group_id = group_id.clone();
        self.live
            .in_flight
            .insert(token, InFlight { group_id, instance, replies, members: Vec::new() });
        self.effects.propose(token, command.to_payload());
        token
    }

    /// The member was heard: its session starts anew.
    pub(super) fn restart_session(&mut self, group: &mut LiveGroup, member_id: &Name) {
        let Some(member) = group.member_mut(member_id) else { return };
        let timeout_ms = u64::from(member.member.session_timeout_ms);
        member.session_deadline = self.now.service_ms.saturating_add(timeout_ms);
        let at = member.session_deadline;
        // A timer that fires early looks at the deadline and waits on, so a heartbeat costs no
        // move in the queue.
        self.live.timers.arm_by(Timer::Session(group.id.clone(), member_id.clone()), at);
    }

    /// All who joined must sync within the longest rebalance timeout (G47).
    pub(super) fn arm_sync(&mut self, group: &LiveGroup) {
        let at = self.now.service_ms.saturating_add(group.rebalance_timeout_ms());
        self.live.timers.arm(Timer::Sync(group.id.clone()), at);
    }
}
