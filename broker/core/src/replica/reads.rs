//! Questions that only the leader may answer, and only while it is one (D12, R10, R11).
//!
//! ```text
//!   ask ──> waiting ──(one round for all of a turn)──> asked ──(a majority)──> confirmed at index
//!                                                     out <── answered once that is applied ──┘
//! ```
//!
//! What a leader has applied may be old: another one may have been elected and have gone on. So a
//! majority is asked first whether it still follows, in rounds that are shared; never by a lease.
//!
//! Invariants
//! - A round begins after the questions that it answers were asked, and after the no-op of the
//!   leader's term was applied: before that raft drops it in silence.
//! - Every ticket leaves once; all of them leave when the leadership is lost.
//!
//! Absent on purpose: what is read of records. Whoever asked reads it when it hears the answer.

use super::raft_view::ReadNumber;
use super::{Replica, Role};
use crate::clock::Now;
use crate::consumer_group::{CoordinatorError, GroupRequest, GroupResponse};
use crate::shard::{Effect, Effects, Reply};
use crate::ticket::Ticket;
use bateau_protocol::ids::LogIndex;
use std::collections::VecDeque;
use thiserror::Error;

/// This replica does not lead, or cannot find a majority that says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("this replica does not lead the partition")]
pub struct NotLeading;

/// What waits for a majority's word.
#[derive(Debug)]
pub(super) enum Question {
    /// Whether this replica leads.
    Leads(Ticket),
    /// What its groups have committed.
    Group(GroupRequest, Ticket),
}

/// Questions on their way to an answer. Bounded by the requests that doors admit.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<Question>,
    asked: VecDeque<(ReadNumber, Vec<Question>)>,
    confirmed: VecDeque<(LogIndex, Vec<Question>)>,
    /// Confirmed and applied; told once the turn's commits are published.
    leads: Vec<Ticket>,
}

impl Reads {
    fn take_all(&mut self) -> Vec<Question> {
        let asked = self.asked.drain(..).flat_map(|(_, questions)| questions);
        let confirmed = self.confirmed.drain(..).flat_map(|(_, questions)| questions);
        asked.chain(confirmed).chain(self.waiting.drain(..)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
            && self.asked.is_empty()
            && self.confirmed.is_empty()
            && self.leads.is_empty()
    }
}

impl Replica {
    /// Answers `ticket` when a majority has confirmed that this replica leads and everything that
    /// was committed at this moment is applied here; or that it does not lead.
    ///
    /// Cost: one round of heartbeats per turn that has questions; none for a lone voter.
    pub fn confirm(&mut self, ticket: Ticket, effects: &mut Effects) {
        if self.role == Role::Follower {
            self.rouse();
            effects.push(Effect::Reply(ticket, Reply::Confirmed(Err(NotLeading))));
        } else {
            self.reads.waiting.push(Question::Leads(ticket));
        }
    }

    /// Asks the coordinator of a group partition. What only reads waits for a majority's word
    /// first: one that is deposed and has not heard of it would answer what was (D12).
    pub fn ask_group(&mut self, request: GroupRequest, ticket: Ticket, now: Now) {
        if self.role == Role::Follower {
            self.rouse();
        }
        let is_alone = self.membership.is_sole_voter(self.replica_id);
        if request.is_read() && self.role == Role::Leader && !is_alone {
            self.reads.waiting.push(Question::Group(request, ticket));
        } else {
            self.coordinate(request, ticket, now);
        }
    }

    /// Begins a round for what was asked in this turn.
    pub(super) fn ask_majority(&mut self) {
        if self.role == Role::Leader && !self.reads.waiting.is_empty() {
            let questions = std::mem::take(&mut self.reads.waiting);
            self.reads.asked.push_back((self.raft.begin_read(), questions));
        }
    }

    /// A majority has confirmed this round, and with it every earlier one.
    pub(super) fn note_confirmed(&mut self, number: ReadNumber, index: LogIndex) {
        while let Some((_, questions)) =
            self.reads.asked.pop_front_if(|(asked, _)| *asked <= number)
        {
            self.reads.confirmed.push_back((index, questions));
        }
    }

    /// Acts on what is confirmed and applied.
    pub(super) fn take_confirmed(&mut self, now: Now) {
        let applied = self.applied;
        while let Some((_, questions)) =
            self.reads.confirmed.pop_front_if(|(index, _)| *index <= applied)
        {
            for question in questions {
                match question {
                    Question::Leads(ticket) => self.reads.leads.push(ticket),
                    Question::Group(request, ticket) => self.coordinate(request, ticket, now),
                }
            }
        }
    }

    pub(super) fn answer_reads(&mut self, effects: &mut Effects) {
        for ticket in self.reads.leads.drain(..) {
            effects.push(Effect::Reply(ticket, Reply::Confirmed(Ok(()))));
        }
    }

    /// What had been confirmed before the leadership went is true all the same.
    pub(super) fn fail_reads(&mut self, effects: &mut Effects) {
        self.answer_reads(effects);
        for question in self.reads.take_all() {
            let (ticket, reply) = match question {
                Question::Leads(ticket) => (ticket, Reply::Confirmed(Err(NotLeading))),
                Question::Group(request, ticket) => {
                    let error = CoordinatorError::NotCoordinator;
                    (ticket, Reply::Group(GroupResponse::refused(&request, error)))
                }
            };
            effects.push(Effect::Reply(ticket, reply));
        }
    }
}
