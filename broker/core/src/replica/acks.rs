//! Producers that wait for their batch to be committed.
//!
//! Invariants: acks leave in offset order; an ack leaves only when its index is committed, which
//! raft says only after a majority has flushed it; every ticket leaves exactly once.
//!
//! Absent on purpose: the reason of a failure, which the replica knows.

use super::ProduceAck;
use crate::ticket::Ticket;
use bateau_protocol::ids::LogIndex;
use std::collections::VecDeque;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PendingAck {
    /// The entry that must be committed first.
    pub index: LogIndex,
    /// `None` for a producer that wants no reply or got one at its deadline.
    pub ticket: Option<Ticket>,
    pub deadline_ms: u64,
    pub ack: ProduceAck,
}

/// Pending acks in index order.
#[derive(Debug, Default)]
pub(super) struct Acks {
    pending: VecDeque<PendingAck>,
}

impl Acks {
    /// Adds a waiter. New batches come in index order; a duplicate joins its original, which lies
    /// anywhere in the queue.
    pub fn push(&mut self, pending: PendingAck) {
        let at = self.pending.partition_point(|other| other.index <= pending.index);
        self.pending.insert(at, pending);
    }

    /// Takes the waiters up to `commit`, in offset order.
    pub fn release(&mut self, commit: LogIndex) -> impl Iterator<Item = (Ticket, ProduceAck)> + '_ {
        let count = self.pending.partition_point(|pending| pending.index <= commit);
        self.pending.drain(..count).filter_map(|pending| Some((pending.ticket?, pending.ack)))
    }

    /// Takes the tickets whose time is up, with the entry that each waits for; their batches stay
    /// in the log and may commit later.
    pub fn expire(&mut self, now_ms: u64) -> Vec<(Ticket, LogIndex)> {
        let late = self.pending.iter_mut().filter(|pending| pending.deadline_ms <= now_ms);
        late.filter_map(|pending| Some((pending.ticket.take()?, pending.index))).collect()
    }

    /// Takes everybody: leadership or the disk is lost.
    pub fn fail_all(&mut self) -> Vec<Ticket> {
        self.pending.drain(..).filter_map(|pending| pending.ticket).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// What the waiters wait for, in the queue's order.
    pub fn indexes(&self) -> impl Iterator<Item = LogIndex> + '_ {
        self.pending.iter().map(|pending| pending.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::ids::Offset;

    fn pending(index: u64, ticket: u64, deadline_ms: u64) -> PendingAck {
        let ack = ProduceAck {
            base_offset: Offset::new(index),
            log_start: Offset::ZERO,
            is_duplicate: false,
            replicas: 1,
        };
        PendingAck { index: LogIndex::new(index), ticket: Some(Ticket(ticket)), deadline_ms, ack }
    }

    fn released(acks: &mut Acks, commit: u64) -> Vec<u64> {
        acks.release(LogIndex::new(commit)).map(|(ticket, _)| ticket.0).collect()
    }

    #[test]
    fn acks_leave_in_offset_order_and_a_duplicate_with_its_original() {
        let mut acks = Acks::default();
        for (index, ticket) in [(2, 20), (3, 30), (4, 40), (2, 21)] {
            acks.push(pending(index, ticket, 100));
        }
        assert_eq!(released(&mut acks, 1), []);
        assert_eq!(released(&mut acks, 3), [20, 21, 30]);
        assert_eq!(released(&mut acks, 9), [40]);
        assert!(acks.is_empty());
    }

    #[test]
    fn a_late_waiter_is_told_once_and_not_again_at_the_commit() {
        let mut acks = Acks::default();
        acks.push(pending(2, 20, 100));
        acks.push(pending(3, 30, 200));
        assert_eq!(acks.expire(100), [(Ticket(20), LogIndex::new(2))]);
        assert_eq!(acks.expire(150), []);
        assert_eq!(released(&mut acks, 9), [30]);
    }
}
