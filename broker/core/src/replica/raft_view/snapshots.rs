//! Snapshots as raft knows them: wanted for a follower, ended for one, and begun anew behind one.
//!
//! Absent on purpose: what a snapshot consists of, and raft's own way to take one.

use super::{RaftStart, RaftView, Vote};
use crate::replica::StartError;
use crate::replica::membership::Membership;
use crate::replica::tail::{Coordinates, TailBudget, TailStart};
use crate::replica::trim::LogStart;
use bateau_protocol::ids::{LogIndex, ReplicaId, Term};
use bateau_protocol::terms::TermTable;
use raft::eraftpb::{HardState, Message, MessageType};
use raft::{ProgressState, SnapshotStatus};

/// A snapshot that raft wants sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::replica) struct WantedSnapshot {
    pub to: ReplicaId,
    /// The entry that it stands for.
    pub index: LogIndex,
    pub term: Term,
}

/// What a replica goes on from behind a snapshot.
pub(in crate::replica) struct RaftRestart {
    pub vote: Vote,
    pub membership: Membership,
    pub start: LogStart,
    /// The entry that the snapshot stands for.
    pub applied: Coordinates,
    pub budget: TailBudget,
}

impl RaftView {
    /// Builds raft anew on a log that is empty behind a snapshot. Numbers of reads and fetches go
    /// on: an answer to an earlier one is never taken for another's (R9, R10).
    pub fn restart(&mut self, restart: RaftRestart) -> Result<(), StartError> {
        let RaftRestart { vote, membership, start, applied, budget } = restart;
        let mut hard_state = HardState::default();
        hard_state.set_term(vote.term.get());
        hard_state.set_vote(vote.voted_for.get());
        hard_state.set_commit(applied.index.get());
        let tail = TailStart {
            hard_state,
            membership,
            start,
            terms: TermTable::default(),
            applied,
            uncommitted: Vec::new(),
            budget,
        };
        let (replica_id, incarnation) = (ReplicaId::new(self.node.raft.id), self.incarnation);
        let new = Self::new(RaftStart { replica_id, incarnation, reads: self.reads, tail })?;
        let (newest_read, newest_fetch) = (self.newest_read, self.newest_fetch);
        *self = Self { newest_read, newest_fetch, ..new };
        Ok(())
    }

    /// Term and vote as raft has them now, on disk or not.
    pub fn vote(&self) -> Vote {
        let raft = &self.node.raft;
        Vote { term: Term::new(raft.term), voted_for: ReplicaId::new(raft.vote) }
    }

    /// Whether the log has an entry of this term there.
    pub fn has_entry(&self, index: LogIndex, term: Term) -> bool {
        self.node.raft.raft_log.match_term(index.get(), term.get())
    }

    /// Takes the snapshots that are to be sent. Each one ends with its follower's answer or with
    /// [`Self::snapshot_failed`].
    pub fn take_snapshots(&mut self) -> Vec<WantedSnapshot> {
        let is_snapshot = |one: &mut Message| one.get_msg_type() == MessageType::MsgSnapshot;
        let wanted = self.sendable.extract_if(.., is_snapshot).map(|message| {
            let metadata = message.get_snapshot().get_metadata();
            WantedSnapshot {
                to: ReplicaId::new(message.to),
                index: LogIndex::new(metadata.index),
                term: Term::new(metadata.term),
            }
        });
        wanted.collect()
    }

    /// Whether raft waits for this follower's answer to a snapshot.
    pub fn awaits_snapshot(&self, to: ReplicaId) -> bool {
        let progress = self.node.raft.prs().get(to.get());
        self.is_leader() && progress.is_some_and(|one| one.state == ProgressState::Snapshot)
    }

    /// A snapshot has not arrived, as far as is known (R17).
    pub fn snapshot_failed(&mut self, to: ReplicaId) {
        self.node.report_snapshot(to.get(), SnapshotStatus::Failure);
    }
}
