//! From what recovery found to a running replica: the state file, then the frames behind it.
//!
//! ```text
//!   state file ──> frames up to the commit: replayed ──> frames behind it: raft's, to be settled
//! ```
//!
//! Commit is what was stored, or what the state file includes. It is raised towards the last
//! verified and flushed index only while the membership, as applied there, names this replica as
//! its only voter, and stops behind the first membership that names another: what another voter
//! may not have is not committed.
//!
//! Invariants
//! - A replica that is given to a partition later begins without frame 1, with nothing: it gets all
//!   of it by a snapshot.
//! - Replaying is applying: the same code builds the derived state live and here.
//! - A stored commit or state beyond the log's end is proof of loss, never clamped (R7).
//!
//! Absent on purpose: reading files.

use super::acks::Acks;
use super::derived::{Applied, Derived, DerivedStart};
use super::membership::Membership;
use super::quiescence::Quiescence;
use super::raft_view::{RaftStart, RaftView, ReadOrigin, Vote};
use super::reads::Reads;
use super::start_error::StartError;
use super::state_file::{Schedule, State};
use super::steering::{Assignment, Steering};
use super::tail::{Coordinates, TailBudget, TailStart};
use super::trim::LogStart;
use super::writes::Writes;
use super::{Replica, ReplicaSettings, Role};
use crate::clock::Now;
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, Offset, ReplicaId, Term};
use bateau_protocol::terms::TermTable;
use bytes::Bytes;
use raft::eraftpb::HardState;
use std::collections::{BTreeMap, VecDeque};

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
    /// Index that the state of the snapshot includes which the log began anew with. A state of this
    /// index, and no other, may include more than the log holds.
    pub snapshot: Option<LogIndex>,
    /// The frames behind the state's index, to the last one: from the first one where there is no
    /// state, and from the log's start where the state is ahead of the log.
    pub frames: Vec<Frame>,
    /// A range that had been durable is gone: what lies before it is served, nothing appended.
    pub is_damaged: bool,
    /// The segment in which the damage begins, where others may have what is missing.
    pub mendable: Option<LogIndex>,
    /// Of a damaged log: the newest index at or below the stored commit that can be read, and the
    /// offset behind it.
    pub readable: Option<(LogIndex, Offset)>,
}

/// How a replica begins.
pub struct ReplicaStart {
    /// What may change while it runs.
    pub settings: ReplicaSettings,
    /// Which replicas the partition is to have.
    pub assignment: Assignment,
    /// What this partition's log is about.
    pub derived: DerivedStart,
    /// Whose reads it asks a majority about.
    pub reads: ReadOrigin,
    /// What the node's tails keep together.
    pub budget: TailBudget,
    /// Ticks without anything to do behind which it sleeps.
    pub rest_ticks: u32,
}

impl Replica {
    /// Builds a replica on what recovery found, or on a log that was just created.
    ///
    /// - `log`: not damaged; a damaged log has no replica.
    ///
    /// Errors: [`StartError`]: the partition is not opened, and its files are left as they are.
    /// Cost: one pass over the frames behind the state file.
    pub fn start(log: RecoveredLog, start: ReplicaStart, now: Now) -> Result<Self, StartError> {
        let before_log = log.log_start.index.previous();
        // Without a state everything is replayed, also what lies before a log start that was moved
        // meanwhile: it is kept until a state holds what it has built.
        let stored = log.state.as_ref().map_or(LogIndex::ZERO, |(index, _)| *index);
        // R6: a state that is ahead of the log, with the snapshot that brought both.
        let is_ahead = stored > log.last_index && log.snapshot == Some(stored);
        let replayed_from = if is_ahead { before_log } else { stored };
        let state = match &log.state {
            Some((_, bytes)) => State::decode(bytes, start.derived)?,
            None => State::empty(log.log_start, start.derived),
        };
        check_frames(&log, replayed_from)?;
        let log_start = if state.log_start.index > log.log_start.index {
            state.log_start
        } else {
            log.log_start
        };
        let settled = Settled::of(&log, replayed_from, stored, &state.membership)?;
        if settled.end.index < before_log {
            // A trim that nobody has committed.
            let (commit, last) = (before_log, settled.end.index);
            return Err(StartError::CommitBehindLog { commit, last });
        }
        let raft = RaftView::new(raft_start(&log, &settled, start.reads, start.budget.clone()))?;
        let state_bytes = log.state.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let mut replica = Self {
            incarnation: log.incarnation,
            replica_id: log.replica_id,
            raft,
            role: Role::Follower,
            role_term: Term::ZERO,
            led_since_ms: 0,
            membership: state.membership,
            strangers: BTreeMap::new(),
            steering: Steering::starting_at(start.assignment),
            settings: start.settings,
            derived: state.derived,
            applied: replayed_from,
            applied_term: settled.term,
            high_watermark: settled.end.next_offset,
            log_start,
            gathered: Vec::new(),
            gathered_bytes: 0,
            held: VecDeque::new(),
            acks: Acks::default(),
            tokens: VecDeque::new(),
            reads: Reads::default(),
            quiescence: Quiescence::awake(start.rest_ticks),
            candidacy: None,
            told_leader: None,
            writes: Writes::default(),
            budget: start.budget,
            sending: BTreeMap::new(),
            newest_snapshot: 0,
            copy_reads: Vec::new(),
            incoming: None,
            installing: None,
            ahead: stored,
            is_disk_full: false,
            state_file: Schedule::starting_at(stored, state_bytes),
        };
        if log_start.index > log.log_start.index {
            // The disk has not heard of the newest trim before the state file.
            replica.state_file.note_trim();
        }
        replica.replay(settled.frames, now)?;
        replica.look_for_leader();
        Ok(replica)
    }

    fn replay(&mut self, frames: &[Frame], now: Now) -> Result<(), StartError> {
        for frame in frames {
            let (index, kind, base_offset) = (frame.index, frame.kind, frame.base_offset);
            let applied = Applied { index, kind, base_offset, token: None };
            self.apply(&applied, &frame.payload, now)?;
            self.state_file.note_applied(frame.payload.len(), now);
            self.applied = frame.index;
        }
        Ok(())
    }
}

/// The frames lead from the state file to the log's end, and nothing that was committed is gone.
fn check_frames(log: &RecoveredLog, replayed_from: LogIndex) -> Result<(), StartError> {
    let (commit, last) = (log.commit.max(replayed_from), log.last_index);
    if commit > last {
        return Err(StartError::CommitBehindLog { commit, last });
    }
    let mut before = replayed_from;
    for frame in &log.frames {
        if frame.index != before.next() {
            let (expected, found) = (before.next(), frame.index);
            return Err(StartError::MissingFrames { expected, found });
        }
        before = frame.index;
    }
    if before != last {
        return Err(StartError::MissingFrames { expected: last, found: before });
    }
    Ok(())
}

/// What of a recovered log is known to be committed.
struct Settled<'a> {
    /// The last committed entry.
    end: Coordinates,
    /// Its term.
    term: Term,
    /// The configuration as applied there.
    membership: Membership,
    /// From the state file to there.
    frames: &'a [Frame],
    /// Behind it.
    uncommitted: &'a [Frame],
}

impl<'a> Settled<'a> {
    fn of(
        log: &'a RecoveredLog,
        replayed_from: LogIndex,
        stored: LogIndex,
        membership: &Membership,
    ) -> Result<Self, StartError> {
        let mut membership = membership.clone();
        let mut count = 0;
        let commit = log.commit.max(committed_by_changes(&log.frames));
        for frame in &log.frames {
            let is_committed = frame.index <= commit;
            if !is_committed && !membership.is_sole_voter(log.replica_id) {
                break;
            }
            if frame.kind == FrameKind::Membership && frame.index > stored {
                membership = Membership::decode(&frame.payload)?;
            }
            count += 1;
        }
        let (frames, uncommitted) = log.frames.split_at(count);
        let index = frames.last().map_or(replayed_from, |frame| frame.index);
        let next_offset = uncommitted.first().map_or(log.end_offset, |frame| frame.base_offset);
        let end = Coordinates { index, next_offset };
        let term = log.terms.term_at(index).unwrap_or(log.log_start.previous_term);
        Ok(Self { end, term, membership, frames, uncommitted })
    }
}

/// The last but one change of the configuration is committed, for whoever proposed the last one had
/// applied it.
fn committed_by_changes(frames: &[Frame]) -> LogIndex {
    let mut changes = frames.iter().rev().filter(|frame| frame.kind == FrameKind::Membership);
    changes.nth(1).map_or(LogIndex::ZERO, |frame| frame.index)
}

impl State {
    fn empty(log_start: LogStart, derived: DerivedStart) -> Self {
        let (membership, derived) = (Membership::default(), Derived::new(derived));
        Self { log_start, membership, derived }
    }
}

fn raft_start(
    log: &RecoveredLog,
    settled: &Settled<'_>,
    reads: ReadOrigin,
    budget: TailBudget,
) -> RaftStart {
    let mut hard_state = HardState::default();
    // Term and vote are flushed with the first frame of a term, and a power cut may keep the frame
    // alone. The log says then in which term this replica was. What it voted in it is not known,
    // so it counts as given: to itself, who asks for votes only in a later term.
    let vote = match log.terms.last() {
        Some(last) if last.term > log.vote.term => {
            Vote { term: last.term, voted_for: log.replica_id }
        }
        _ => log.vote,
    };
    hard_state.set_term(vote.term.get());
    hard_state.set_vote(vote.voted_for.get());
    hard_state.set_commit(settled.end.index.get());
    RaftStart {
        replica_id: log.replica_id,
        incarnation: log.incarnation,
        reads,
        tail: TailStart {
            hard_state,
            membership: settled.membership.clone(),
            start: log.log_start,
            terms: log.terms.clone(),
            applied: settled.end,
            uncommitted: settled.uncommitted.to_vec(),
            budget,
        },
    }
}
