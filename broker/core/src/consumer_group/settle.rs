//! After a command was applied, refused or lost: who is told, and what is rebuilt.
//!
//! ```text
//!   applied, of this live group     answers leave
//!   applied, of an earlier one      the live group no longer fits the tables: rebuilt
//!   refused or dropped              answers become refusals; the group is rebuilt
//! ```
//!
//! Absent on purpose: retrying a lost command. Clients retry; they know what they still want.

use super::command::Command;
use super::live::InFlight;
use super::tables::{Outcome, Refusal};
use super::timers::Timer;
use super::turn::Turn;
use super::{CoordinatorError, GroupResponse, Name, OffsetCommitError};
use crate::ticket::{ProposalToken, Ticket};

/// What of a command concerns the live part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// A change of a group's membership.
    Membership(Name),
    /// A commit, with the client's own expiry.
    Commit(Name, Option<u64>, i32),
    /// Offsets expired.
    Expiry(Name),
    /// A topic was deleted: any group.
    Topic,
}

impl Scope {
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::GenerationStarted(command) => Self::Membership(command.group_id.clone()),
            Command::AssignmentsStored(command) => Self::Membership(command.group_id.clone()),
            Command::StaticMemberReplaced(command) => Self::Membership(command.group_id.clone()),
            Command::GroupRemoved(command) => Self::Membership(command.group_id.clone()),
            Command::OffsetsCommitted(command) => {
                Self::Commit(command.group_id.clone(), command.expires_wall_ms, command.generation)
            }
            Command::OffsetsExpired(command) => Self::Expiry(command.group_id.clone()),
            Command::TopicDeleted(_) => Self::Topic,
        }
    }
}

impl Turn<'_> {
    /// A command has been applied while this coordinator leads.
    pub(super) fn settle(
        &mut self,
        scope: &Scope,
        outcome: Outcome,
        token: Option<ProposalToken>,
        in_flight: Option<InFlight>,
    ) {
        match scope {
            Scope::Membership(group_id) => {
                self.settle_membership(group_id, outcome, token, in_flight);
            }
            Scope::Commit(group_id, expires_wall_ms, generation) => {
                let replies = in_flight.map(|in_flight| in_flight.replies).unwrap_or_default();
                self.settle_commit(outcome, *generation, replies);
                self.schedule_after_commit(group_id, *expires_wall_ms);
            }
            Scope::Expiry(group_id) => self.schedule_housekeeping(group_id),
            // A group that this emptied goes when its timer, set for the offsets, looks again.
            Scope::Topic => {}
        }
    }

    fn settle_membership(
        &mut self,
        group_id: &Name,
        outcome: Outcome,
        token: Option<ProposalToken>,
        in_flight: Option<InFlight>,
    ) {
        let Some(in_flight) = in_flight else {
            // Somebody else's command while we lead: ours is no longer the newest view.
            return self.reload_group(group_id);
        };
        let own = self.live.groups.get(group_id).map(|group| group.instance);
        let is_own = own.is_some() && own == in_flight.instance;
        if outcome != Outcome::Applied || !is_own {
            return self.fail_or_reload(in_flight, outcome);
        }
        for (ticket, response) in in_flight.replies {
            self.answer_parked(ticket, response);
        }
        let Some(mut group) = self.live.groups.remove(group_id) else { return };
        for id in &in_flight.members {
            self.restart_session(&mut group, id);
        }
        if group.in_flight == token {
            group.in_flight = None;
            let stored = self.tables.groups.get(group_id);
            let known = stored.map_or((0, 0), |stored| (stored.revision, stored.generation));
            let own = (group.revision, group.generation);
            assert_eq!(own, known, "I-GRP-5: all is applied, and the tables disagree");
        }
        self.put_group(group);
    }

    fn fail_or_reload(&mut self, in_flight: InFlight, outcome: Outcome) {
        if outcome != Outcome::Applied {
            return self.fail(in_flight, CoordinatorError::NotCoordinator);
        }
        for (ticket, response) in in_flight.replies {
            self.answer_parked(ticket, response);
        }
        self.reload_group(&in_flight.group_id);
    }

    fn settle_commit(
        &mut self,
        outcome: Outcome,
        found: i32,
        replies: Vec<(Ticket, GroupResponse)>,
    ) {
        let error = match outcome {
            Outcome::Applied => {
                for (ticket, response) in replies {
                    self.answer_parked(ticket, response);
                }
                return;
            }
            Outcome::Refused(Refusal::IllegalGeneration) => {
                OffsetCommitError::IllegalGeneration { found }
            }
            Outcome::Refused(Refusal::UnknownMember | Refusal::Revision | Refusal::NotEmpty) => {
                OffsetCommitError::UnknownMemberId
            }
        };
        for (ticket, _) in replies {
            self.answer_parked(ticket, GroupResponse::OffsetCommit(Err(error.clone())));
        }
    }

    /// A command came to nothing. Its group is rebuilt if it was about membership.
    pub(super) fn fail(&mut self, in_flight: InFlight, error: CoordinatorError) {
        self.refuse(in_flight.replies, error);
        if in_flight.instance.is_some() {
            self.reload_group(&in_flight.group_id);
        }
        let is_idle = !self.live.groups.contains_key(&in_flight.group_id);
        if is_idle && self.tables.groups.contains_key(&in_flight.group_id) {
            self.retry_housekeeping(&in_flight.group_id);
        }
    }

    pub(super) fn refuse(
        &mut self,
        replies: Vec<(Ticket, GroupResponse)>,
        error: CoordinatorError,
    ) {
        for (ticket, response) in replies {
            self.answer_parked(ticket, response.into_refused(error));
        }
    }

    fn reload_group(&mut self, group_id: &Name) {
        if let Some(group) = self.live.groups.remove(group_id) {
            self.dismiss_group(group, CoordinatorError::NotCoordinator);
        }
        self.load_group(group_id);
    }

    /// A timer is due.
    pub(super) fn fire(&mut self, timer: Timer) {
        let group_id = match &timer {
            Timer::Housekeeping(group_id) => return self.keep_house(group_id),
            Timer::Session(group_id, _)
            | Timer::Pending(group_id, _)
            | Timer::Join(group_id)
            | Timer::Sync(group_id) => group_id,
        };
        let Some(group) = self.live.groups.remove(group_id) else { return };
        match timer {
            Timer::Session(_, member_id) => self.session_over(group, &member_id),
            Timer::Pending(_, member_id) => self.pending_over(group, &member_id),
            Timer::Join(_) => self.join_time_over(group),
            Timer::Sync(_) => self.sync_time_over(group),
            Timer::Housekeeping(_) => self.put_group(group),
        }
    }
}
