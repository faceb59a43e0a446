//! From a request to raft: sequence check, offsets, one proposal per turn.
//!
//! Invariants
//! - Offsets are assigned in the order in which raft takes the entries; a dropped proposal leaves
//!   no hole.
//! - R14: raft never refuses a proposal for its size; what does not fit stays gathered.
//! - Requests of one caller stay in order: nothing passes what is held.
//!
//! Absent on purpose: validation of a batch's bytes, which its door has done.

use super::acks::PendingAck;
use super::producers::Sequencing;
use super::raft_view::UNCOMMITTED_BYTES_MAX;
use super::stamp::Stamp;
use super::{Produce, ProduceAck, ProduceError, Replica, Role};
use crate::shard::Effects;
use crate::ticket::{ProposalToken, Ticket};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{LogIndex, Offset};
use bytes::Bytes;

/// Batches below this size are copied out of the receive buffer, so that a small batch that waits
/// for its commit never pins a large buffer.
const COPIED_BATCH_BYTES_MAX: usize = 16 * 1024;

/// Batches that may be held when one comes whose producer wants no answer (`acks=0`).
const HELD_UNANSWERED_MAX: usize = 64;

/// An entry of this turn.
#[derive(Debug)]
pub(super) struct Gathered {
    payload: Bytes,
    stamp: Stamp,
    waiter: Waiter,
}

#[derive(Debug)]
pub(super) enum Waiter {
    Nobody,
    Producer { ticket: Option<Ticket>, deadline_ms: u64 },
    Machine { token: ProposalToken },
}

impl Gathered {
    pub fn base_offset(&self) -> Offset {
        self.stamp.base_offset
    }

    pub fn end_offset(&self) -> Offset {
        self.stamp.base_offset.plus(self.stamp.record_count)
    }

    pub fn payload_bytes(&self) -> usize {
        self.payload.len()
    }
}

impl Replica {
    /// Takes a batch to be appended. It is answered through effects, unless `acks=0`.
    pub fn produce(&mut self, produce: Produce, effects: &mut Effects) {
        // The log of a state machine holds its commands and nothing else.
        let takes_records = self.derived.producers().is_some();
        let refusal = if self.role == Role::Follower || !takes_records {
            Some(ProduceError::NotLeader)
        } else if self.is_disk_full || self.writes.are_stalled() {
            Some(ProduceError::Storage)
        } else {
            None
        };
        if self.role == Role::Follower {
            self.rouse();
        }
        match refusal {
            Some(error) => effects.reply_maybe(produce.ticket, Err(error)),
            // Nobody waits for it, so no door's memory limit counts what is held of it.
            None if self.must_hold(&produce) && self.is_too_much_unanswered(&produce) => {}
            None if self.must_hold(&produce) => self.held.push_back(produce),
            None => self.gather_produce(produce, effects),
        }
    }

    /// An `acks=0` batch behind [`HELD_UNANSWERED_MAX`] others is dropped: its producer was
    /// promised nothing.
    fn is_too_much_unanswered(&self, produce: &Produce) -> bool {
        produce.ticket.is_none() && self.held.len() >= HELD_UNANSWERED_MAX
    }

    fn must_hold(&self, produce: &Produce) -> bool {
        self.role != Role::Leader || !self.held.is_empty() || !self.has_room_for(&produce.batch)
    }

    /// R14: what would exceed raft's uncommitted bytes waits; it is never refused.
    fn has_room_for(&self, batch: &Bytes) -> bool {
        let bytes = self.gathered_bytes.saturating_add(batch.len());
        self.gathered.is_empty() && self.raft.has_room_for(bytes)
            || bytes <= UNCOMMITTED_BYTES_MAX && self.raft.has_room_for(bytes)
    }

    /// Lets held batches in, as far as there is room.
    pub(super) fn admit_held(&mut self, effects: &mut Effects) {
        while self.role == Role::Leader
            && let Some(first) = self.held.front()
            && self.has_room_for(&first.batch)
            && let Some(produce) = self.held.pop_front()
        {
            self.gather_produce(produce, effects);
        }
    }

    pub(super) fn expire_held(&mut self, now_ms: u64, effects: &mut Effects) {
        self.held.retain(|produce| {
            let is_late = produce.deadline_ms <= now_ms;
            if is_late {
                effects.reply_maybe(produce.ticket, Err(ProduceError::TimedOut));
            }
            !is_late
        });
    }

    fn gather_produce(&mut self, produce: Produce, effects: &mut Effects) {
        if let Err(error) = self.try_gather(&produce, effects) {
            effects.reply_maybe(produce.ticket, Err(error));
        }
    }

    fn try_gather(&mut self, produce: &Produce, effects: &mut Effects) -> Result<(), ProduceError> {
        self.check_replicas()?;
        let base_offset = self.next_offset();
        if let Some(batch) = produce.producer {
            let producers = self.derived.producers_mut().ok_or(ProduceError::NotLeader)?;
            match producers.check(&batch)? {
                Sequencing::New => {
                    let gathered = u64::try_from(self.gathered.len()).unwrap_or(u64::MAX);
                    let index = LogIndex::new(self.raft.last().index.get() + gathered + 1);
                    producers.append(index, &batch, base_offset);
                }
                Sequencing::Duplicate { base_offset, index } => {
                    self.join_original(produce, base_offset, index, effects);
                    return Ok(());
                }
            }
        }
        let payload = if produce.batch.len() < COPIED_BATCH_BYTES_MAX {
            Bytes::copy_from_slice(&produce.batch)
        } else {
            produce.batch.clone()
        };
        let waiter = Waiter::Producer { ticket: produce.ticket, deadline_ms: produce.deadline_ms };
        self.gather(FrameKind::Records, produce.record_count, payload, waiter);
        Ok(())
    }

    fn check_replicas(&self) -> Result<(), ProduceError> {
        let required = self.settings.min_insync_replicas;
        let majority = self.membership.majority();
        // A majority is what raft itself sees to; more than that is asked of those that live.
        let found = if required > majority { self.raft.live_voters() } else { majority };
        if required > found {
            return Err(ProduceError::NotEnoughReplicas { required, found });
        }
        Ok(())
    }

    /// A retry is answered like its original, and never before it.
    fn join_original(
        &mut self,
        produce: &Produce,
        base_offset: Offset,
        index: Option<LogIndex>,
        effects: &mut Effects,
    ) {
        let log_start = self.log_start.offset;
        let replicas = self.replicas_to_commit();
        let ack = ProduceAck { base_offset, log_start, is_duplicate: true, replicas };
        let Some(index) = index else {
            effects.reply_maybe(produce.ticket, Ok(ack));
            return;
        };
        let (ticket, deadline_ms) = (produce.ticket, produce.deadline_ms);
        self.acks.push(PendingAck { index, ticket, deadline_ms, ack });
    }

    /// Takes a command of the derived state machine; it is told the token when it is applied.
    ///
    /// Who has lost the leadership in this turn gathers none: the machine hears so, and has told
    /// everybody who waits.
    pub(super) fn gather_command(&mut self, payload: Bytes, token: ProposalToken) {
        if self.role == Role::Follower {
            return;
        }
        self.gather(FrameKind::Command, 0, payload, Waiter::Machine { token });
    }

    pub(super) fn gather_trim(&mut self, payload: Bytes) {
        self.gather(FrameKind::Trim, 0, payload, Waiter::Nobody);
    }

    fn next_offset(&self) -> Offset {
        let gathered = self.gathered.last().map(Gathered::end_offset);
        gathered.unwrap_or_else(|| self.raft.last().next_offset)
    }

    pub(super) fn gather(
        &mut self,
        kind: FrameKind,
        record_count: u32,
        payload: Bytes,
        waiter: Waiter,
    ) {
        let base_offset = self.next_offset();
        let term = self.raft.term();
        let payload_crc = Frame::stamped_payload_crc(kind, term, base_offset, &payload);
        self.gathered_bytes += payload.len();
        let stamp = Stamp { kind, base_offset, record_count, payload_crc };
        self.gathered.push(Gathered { payload, stamp, waiter });
    }

    /// How many of the gathered entries raft takes now: it refuses a proposal as a whole, so what
    /// is above its limit stays gathered, in order, until something is committed.
    fn fitting_count(&self) -> usize {
        let mut bytes = 0_usize;
        let fits = |(place, gathered): &(usize, &Gathered)| {
            bytes = bytes.saturating_add(gathered.payload.len());
            let fits = *place == 0 || bytes <= UNCOMMITTED_BYTES_MAX;
            fits && self.raft.has_room_for(bytes)
        };
        self.gathered.iter().enumerate().take_while(fits).count()
    }

    /// Hands raft what gathered, as one proposal.
    ///
    /// Raft drops it only when leadership is lost in this very turn: then nothing of it is in the
    /// log, offsets and sequences are given back, and everybody is told.
    pub(super) fn propose_gathered(&mut self, effects: &mut Effects) {
        let count = self.fitting_count();
        if count == 0 {
            return;
        }
        let first = self.raft.last().index.next();
        let fitting = self.gathered.iter().take(count);
        let entries = fitting.map(|one| (one.payload.clone(), one.stamp.encode()));
        if self.raft.propose(entries).is_err() {
            assert!(!self.raft.is_leader(), "R14: a leader's proposal was refused for its size");
            self.resign(ProduceError::NotLeader, effects);
            return;
        }
        let (log_start, replicas) = (self.log_start.offset, self.replicas_to_commit());
        for (place, gathered) in (0_u64..).zip(self.gathered.drain(..count)) {
            self.gathered_bytes -= gathered.payload.len();
            let index = LogIndex::new(first.get() + place);
            match gathered.waiter {
                Waiter::Nobody | Waiter::Producer { ticket: None, .. } => {}
                Waiter::Producer { ticket, deadline_ms } => {
                    let base_offset = gathered.stamp.base_offset;
                    let is_duplicate = false;
                    let ack = ProduceAck { base_offset, log_start, is_duplicate, replicas };
                    self.acks.push(PendingAck { index, ticket, deadline_ms, ack });
                }
                Waiter::Machine { token } => self.tokens.push_back((index, token)),
            }
        }
    }

    /// Gives back what gathered and was not proposed: offsets, sequences, and who waits.
    pub(super) fn fail_gathered(&mut self, error: ProduceError, effects: &mut Effects) {
        let first = self.raft.last().index.next();
        if let Some(producers) = self.derived.producers_mut() {
            producers.truncate_from(first);
        }
        self.gathered_bytes = 0;
        for gathered in std::mem::take(&mut self.gathered) {
            if let Waiter::Producer { ticket, .. } = gathered.waiter {
                effects.reply_maybe(ticket, Err(error));
            }
        }
    }
}
