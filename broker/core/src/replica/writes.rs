//! What raft wants written, and what becomes of it when the disk refuses.
//!
//! ```text
//!   ready ──> Effect::Persist ──> persisted ──> raft
//!                  └─ refused ──> stalled: what comes is withheld ──(all answered, half a second)
//!                                                  one write of everything since ──┘
//! ```
//!
//! The disk answers the writes of one log in order, and after a refused one refuses every later
//! frame. So nothing more is sent, and the repetition waits until every write has been answered:
//! no answer can then be taken for another's.
//!
//! Invariants
//! - R4: raft hears of a ready only when it and every earlier one is flushed. An answer to a write
//!   behind a refused one says nothing of the refused one and is not passed on.
//!
//! Absent on purpose: giving up. Whoever waits is told at once; the entries stay.

use super::raft_view::{Ready, Vote};
use super::tail::Appended;
use super::{ProduceError, Replica};
use crate::clock::Now;
use crate::shard::{Effect, Effects};
use bateau_protocol::ids::LogIndex;

/// Milliseconds between two attempts to write what the disk refused.
const STALL_RETRY_MS: u64 = 500;

/// The writes of one replica.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// Writes that the disk has not answered.
    in_flight: usize,
    stall: Option<Stall>,
    /// Whether raft wanted something written that was not sent.
    is_withheld: bool,
    /// The newest term and vote of what was withheld.
    withheld_vote: Option<Vote>,
    /// Where the oldest suffix begins that a write which was refused or withheld overwrites.
    unwritten_truncation: Option<LogIndex>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stall {
    retry_at_ms: u64,
    is_retrying: bool,
}

impl Writes {
    /// Whether the disk has refused a write that is not made up for yet.
    pub fn are_stalled(&self) -> bool {
        self.stall.is_some()
    }

    fn withhold(&mut self, vote: Option<Vote>, truncate_from: Option<LogIndex>) {
        self.is_withheld = true;
        self.withheld_vote = vote.or(self.withheld_vote);
        self.note_truncation(truncate_from);
    }

    fn note_truncation(&mut self, truncate_from: Option<LogIndex>) {
        let both = truncate_from.into_iter().chain(self.unwritten_truncation);
        self.unwritten_truncation = both.min();
    }

    /// Whether everything that is not flushed may be sent as one write now.
    fn may_repeat(&self, now: Now) -> bool {
        self.in_flight == 0
            && match self.stall {
                Some(stall) => now.monotonic_ms >= stall.retry_at_ms,
                None => self.is_withheld,
            }
    }

    /// Takes the term and vote of a write of everything that is not flushed.
    fn begin_repeat(&mut self) -> Option<Vote> {
        self.in_flight = 1;
        self.is_withheld = false;
        if let Some(stall) = &mut self.stall {
            stall.is_retrying = true;
        }
        self.withheld_vote.take()
    }

    /// Whether raft may be told that the write is flushed.
    fn note_persisted(&mut self) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        let is_next = self.stall.is_none_or(|stall| stall.is_retrying);
        if is_next {
            self.stall = None;
        }
        if self.in_flight == 0 && self.stall.is_none() && !self.is_withheld {
            self.unwritten_truncation = None;
        }
        is_next
    }

    fn note_refused(&mut self, now: Now) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let retry_at_ms = now.monotonic_ms + STALL_RETRY_MS;
        self.stall = Some(Stall { retry_at_ms, is_retrying: false });
    }
}

impl Replica {
    /// Sends what a ready wants written, unless an earlier write was refused.
    pub(super) fn write(&mut self, ready: &mut Ready, effects: &mut Effects) {
        if self.writes.are_stalled() || self.writes.is_withheld {
            self.writes.withhold(ready.vote, ready.appended.truncate_from);
            return;
        }
        self.writes.in_flight += 1;
        // Should this write be refused, its repetition has to do what it was to do.
        self.writes.note_truncation(ready.appended.truncate_from);
        let (incarnation, vote) = (self.incarnation, ready.vote);
        let Appended { truncate_from, frames, .. } = std::mem::take(&mut ready.appended);
        let ready = ready.number;
        effects.push(Effect::Persist { incarnation, ready, vote, truncate_from, frames });
    }

    /// Sends everything that is not flushed once more, when its time has come.
    pub(super) fn repeat_writes(&mut self, now: Now, effects: &mut Effects) {
        if !self.writes.may_repeat(now) {
            return;
        }
        let vote = self.writes.begin_repeat();
        let (incarnation, ready) = (self.incarnation, self.raft.newest_written());
        let frames = self.raft.unpersisted_frames();
        let first = frames.first().map(|frame| frame.index);
        // The log knows whether it holds anything from there on.
        let truncate_from = first.filter(|_| self.writes.unwritten_truncation.is_some());
        effects.push(Effect::Persist { incarnation, ready, vote, truncate_from, frames });
    }

    /// A write is flushed: the ready of this number, and every earlier one unless one of them was
    /// refused.
    pub fn handle_persisted(&mut self, ready: u64) {
        if self.writes.note_persisted() {
            self.raft.persisted(ready);
        }
    }

    /// A write was refused, and nothing of it is in the log but its term and vote. Waiting
    /// producers are told; the entries stay and are written again later, so idempotent retries
    /// join them.
    pub fn handle_persist_failed(&mut self, now: Now, effects: &mut Effects) {
        self.writes.note_refused(now);
        self.fail_waiters(ProduceError::Storage, effects);
    }
}
