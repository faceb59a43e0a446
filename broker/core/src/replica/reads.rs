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
//! Absent on purpose: what is read. Whoever asked reads it when it hears the answer.

use super::raft_view::ReadNumber;
use super::{Replica, Role};
use crate::shard::{Effect, Effects, Reply};
use crate::ticket::Ticket;
use bateau_protocol::ids::LogIndex;
use std::collections::VecDeque;
use thiserror::Error;

/// This replica does not lead, or cannot find a majority that says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("this replica does not lead the partition")]
pub struct NotLeading;

/// Questions on their way to an answer.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<Ticket>,
    asked: VecDeque<(ReadNumber, Vec<Ticket>)>,
    confirmed: VecDeque<(LogIndex, Vec<Ticket>)>,
}

impl Reads {
    fn take_all(&mut self) -> Vec<Ticket> {
        let asked = self.asked.drain(..).flat_map(|(_, tickets)| tickets);
        let confirmed = self.confirmed.drain(..).flat_map(|(_, tickets)| tickets);
        asked.chain(confirmed).chain(self.waiting.drain(..)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.asked.is_empty() && self.confirmed.is_empty()
    }
}

impl Replica {
    /// Answers `ticket` when a majority has confirmed that this replica leads and everything that
    /// was committed at this moment is applied here; or that it does not lead.
    ///
    /// Cost: one round of heartbeats per turn that has questions; none for a lone voter.
    pub fn confirm(&mut self, ticket: Ticket, effects: &mut Effects) {
        if self.role == Role::Follower {
            effects.push(Effect::Reply(ticket, Reply::Confirmed(Err(NotLeading))));
        } else {
            self.reads.waiting.push(ticket);
        }
    }

    /// Begins a round for what was asked in this turn.
    pub(super) fn ask_majority(&mut self) {
        if self.role == Role::Leader && !self.reads.waiting.is_empty() {
            let tickets = std::mem::take(&mut self.reads.waiting);
            self.reads.asked.push_back((self.raft.begin_read(), tickets));
        }
    }

    /// A majority has confirmed this round, and with it every earlier one.
    pub(super) fn note_confirmed(&mut self, number: ReadNumber, index: LogIndex) {
        while let Some((_, tickets)) = self.reads.asked.pop_front_if(|(asked, _)| *asked <= number)
        {
            self.reads.confirmed.push_back((index, tickets));
        }
    }

    pub(super) fn answer_reads(&mut self, effects: &mut Effects) {
        let applied = self.applied;
        while let Some((_, tickets)) =
            self.reads.confirmed.pop_front_if(|(index, _)| *index <= applied)
        {
            for ticket in tickets {
                effects.push(Effect::Reply(ticket, Reply::Confirmed(Ok(()))));
            }
        }
    }

    pub(super) fn fail_reads(&mut self, effects: &mut Effects) {
        for ticket in self.reads.take_all() {
            effects.push(Effect::Reply(ticket, Reply::Confirmed(Err(NotLeading))));
        }
    }
}
