//! From what recovery found to a running replica: the state file, then the frames behind it.
//!
//! Commit is raised to the last verified and flushed index only while the membership, as applied
//! there, names this replica as its only voter; what another voter may not have is not committed.
//!
//! Invariants
//! - Replaying is applying: the same code builds the derived state live and here.
//! - A stored commit or state beyond the log's end is proof of loss, never clamped (R7).
//!
//! Absent on purpose: reading files, and a log with an uncommitted end, which needs a second voter.

use super::acks::Acks;
use super::derived::{Applied, Derived, DerivedStart};
use super::membership::Membership;
use super::raft_view::{RaftStart, RaftView, StartError, Vote};
use super::state_file::{Schedule, State};
use super::tail::{Coordinates, TailStart};
use super::trim::LogStart;
use super::writes::Writes;
use super::{Replica, ReplicaSettings, Role};
use crate::clock::Now;
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, Offset, ReplicaId};
use bateau_protocol::terms::TermTable;
use bytes::Bytes;
use raft::eraftpb::HardState;
use std::collections::VecDeque;

/// What recovery found of one log.
#[derive(Clone, Debug)]
pub struct RecoveredLog {
    /// Birth id of the partition.
    pub incarnation: Incarnation,
    /// This placement's id.
    pub replica_id: ReplicaId,
    /// Stored term and vote.
    pub vote: Vote,
    /// Stored commit index.
    pub commit: LogIndex,
    /// Where the log starts.
    pub log_start: LogStart,
    /// Last verified and flushed index.
    pub last_index: LogIndex,
    /// Offset behind the last record.
    pub end_offset: Offset,
    /// The log's terms.
    pub terms: TermTable,
    /// The newest valid state file and the index that it includes.
    pub state: Option<(LogIndex, Bytes)>,
    /// The frames behind that index (or from the log's start), to the last one.
    pub frames: Vec<Frame>,
    /// A range that had been durable is gone: what lies before it is served, nothing appended.
    pub is_damaged: bool,
}

impl Replica {
    /// Builds a replica on what recovery found, or on a log that was just created.
    ///
    /// - `start`: not damaged; a damaged log has no replica.
    /// - `derived`: what this partition's log is about.
    ///
    /// Errors: [`StartError`]: the partition is not opened, and its files are left as they are.
    /// Cost: one pass over the frames behind the state file.
    pub fn start(
        start: RecoveredLog,
        settings: ReplicaSettings,
        derived: DerivedStart,
        now: Now,
    ) -> Result<Self, StartError> {
        let stored = start.state.as_ref();
        let replayed_from = stored.map_or(start.log_start.index.previous(), |(index, _)| *index);
        let state = match &start.state {
            Some((_, bytes)) => State::decode(bytes, derived)?,
            None => State::empty(start.log_start, derived),
        };
        if start.state.is_none() && start.log_start.index > LogIndex::new(1) {
            let (expected, found) = (LogIndex::new(1), start.log_start.index);
            return Err(StartError::MissingFrames { expected, found });
        }
        if start.commit.max(replayed_from) > start.last_index {
            let (commit, last) = (start.commit.max(replayed_from), start.last_index);
            return Err(StartError::CommitBehindLog { commit, last });
        }
        let log_start = if state.log_start.index > start.log_start.index {
            state.log_start
        } else {
            start.log_start
        };
        let raft = RaftView::new(raft_start(&start, &state.membership))?;
        let state_bytes = start.state.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let mut replica = Self {
            incarnation: start.incarnation,
            replica_id: start.replica_id,
            raft,
            role: Role::Follower,
            membership: state.membership,
            settings,
            derived: state.derived,
            applied: replayed_from,
            high_watermark: start.end_offset,
            log_start,
            gathered: Vec::new(),
            gathered_bytes: 0,
            held: VecDeque::new(),
            acks: Acks::default(),
            tokens: VecDeque::new(),
            writes: Writes::default(),
            is_disk_full: false,
            state_file: Schedule::starting_at(replayed_from, state_bytes),
        };
        if log_start.index > start.log_start.index {
            // The disk has not heard of the newest trim before the state file.
            replica.state_file.note_trim();
        }
        replica.replay(&start.frames, start.last_index, now)?;
        Ok(replica)
    }

    fn replay(
        &mut self,
        frames: &[Frame],
        last_index: LogIndex,
        now: Now,
    ) -> Result<(), StartError> {
        for frame in frames {
            if frame.index != self.applied.next() {
                let (expected, found) = (self.applied.next(), frame.index);
                return Err(StartError::MissingFrames { expected, found });
            }
            let (index, kind, base_offset) = (frame.index, frame.kind, frame.base_offset);
            let applied = Applied { index, kind, base_offset, token: None };
            self.apply(&applied, &frame.payload, now)?;
            self.state_file.note_applied(frame.payload.len(), now);
            self.applied = frame.index;
            if !self.membership.is_sole_voter(self.replica_id) {
                return Err(StartError::NotTheOnlyVoter { index: frame.index });
            }
        }
        if self.applied != last_index {
            let (expected, found) = (last_index, self.applied);
            return Err(StartError::MissingFrames { expected, found });
        }
        Ok(())
    }
}

impl State {
    fn empty(log_start: LogStart, derived: DerivedStart) -> Self {
        let (membership, derived) = (Membership::default(), Derived::new(derived));
        Self { log_start, membership, derived }
    }
}

fn raft_start(start: &RecoveredLog, stored: &Membership) -> RaftStart {
    // Raft is told the membership as of the last index: a change behind the state file's index is
    // replayed, and the last one stands.
    let last = start.frames.iter().rev().filter(|frame| frame.kind == FrameKind::Membership);
    let last = last.filter_map(|frame| Membership::decode(&frame.payload).ok()).next();
    let mut hard_state = HardState::default();
    // Term and vote are flushed with the first frame of a term, and a power cut may keep the frame
    // alone. The log says then in which term this replica was; what it voted in it is not known,
    // and nobody but itself could have had its vote and its entries.
    let vote = match start.terms.last() {
        Some(last) if last.term > start.vote.term => {
            Vote { term: last.term, voted_for: start.replica_id }
        }
        _ => start.vote,
    };
    hard_state.set_term(vote.term.get());
    hard_state.set_vote(vote.voted_for.get());
    hard_state.set_commit(start.last_index.get());
    RaftStart {
        replica_id: start.replica_id,
        incarnation: start.incarnation,
        tail: TailStart {
            hard_state,
            membership: last.unwrap_or_else(|| stored.clone()),
            first_index: start.log_start.index,
            previous_term: start.log_start.previous_term,
            terms: start.terms.clone(),
            last: Coordinates { index: start.last_index, next_offset: start.end_offset },
        },
    }
}
