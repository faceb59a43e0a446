//! What must hold of a replica between two turns, checked after every step of a test.
//!
//! Absent on purpose: what only a history can show (that nothing falls, that no ticket is answered
//! twice). Whoever runs the steps remembers the previous ones.

use super::{Derived, Replica, Role};
use bateau_protocol::ids::LogIndex;

impl Replica {
    /// Stops the process where the state contradicts itself. For tests and simulation.
    ///
    /// Cost: one pass over what waits.
    ///
    /// Invariants: I5, I-ACK-1, I-LOG-2.
    pub fn check_invariants(&self) {
        self.check_coordinates();
        self.check_waiting();
        self.check_gathered();
        if let Derived::Metadata(machine) = &self.derived {
            machine.check_invariants();
        }
    }

    fn check_coordinates(&self) {
        let (commit, persisted) = (self.raft.commit(), self.raft.persisted_index());
        let last = self.raft.last();
        assert!(self.applied <= commit.min(persisted), "I5: applied what is not committed here");
        // What has come in the turn in which a snapshot is let in is not drained, but thrown away.
        let ends_later = self.installing.is_some();
        assert!(
            (commit <= last.index || ends_later) && persisted <= last.index,
            "I5: commit {commit} and flushed {persisted} in a log that ends at {}",
            last.index
        );
        assert!(self.high_watermark <= last.next_offset, "I5: a high watermark beyond the log");
        assert!(self.log_start.offset <= self.high_watermark, "I5: the start is beyond the end");
        assert!(self.log_start.index <= self.applied.next(), "I5: trimmed what is not applied");
        let published = self.raft.tail().end_offset_at(commit.min(persisted));
        assert_eq!(published, Some(self.high_watermark), "I5: the high watermark is not commit's");
    }

    fn check_waiting(&self) {
        let last = self.raft.last().index;
        let acks: Vec<LogIndex> = self.acks.indexes().collect();
        assert!(acks.is_sorted(), "I-ACK-1: acks wait in offset order");
        let open_from = self.acknowledgeable();
        let is_open = |index: &LogIndex| *index > open_from && *index <= self.end_index();
        assert!(acks.iter().all(is_open), "I-ACK-1: an ack waits for nothing: {acks:?}");
        let tokens: Vec<LogIndex> = self.tokens.iter().map(|(index, _)| *index).collect();
        assert!(tokens.is_sorted(), "commands are applied in order");
        assert!(tokens.iter().all(|index| *index > self.applied && *index <= last));
        if self.role == Role::Follower {
            let waits = !self.acks.is_empty() || !self.held.is_empty() || !tokens.is_empty();
            assert!(self.reads.is_empty(), "who does not lead answers no question");
            assert!(!waits, "who does not lead lets nobody wait");
        }
        assert_eq!(self.role == Role::Follower, !self.raft.is_leader(), "a role is raft's");
        let is_still = self.installing.is_none() || self.role == Role::Follower;
        assert!(is_still, "R8: who takes a snapshot follows");
        let sends = self.sending.keys().all(|to| self.membership.member(*to).is_some());
        assert!(sends, "a snapshot is on its way to a stranger");
    }

    /// What gathered and did not fit yet continues both coordinates.
    fn check_gathered(&self) {
        let mut next_offset = self.raft.last().next_offset;
        let mut bytes = 0;
        for gathered in &self.gathered {
            assert_eq!(gathered.base_offset(), next_offset, "I-LOG-2: an offset was skipped");
            next_offset = gathered.end_offset();
            bytes += gathered.payload_bytes();
        }
        assert_eq!(bytes, self.gathered_bytes, "gathered bytes are counted");
    }

    fn end_index(&self) -> LogIndex {
        LogIndex::new(self.raft.last().index.get() + self.gathered.len() as u64)
    }
}
