//! The one place that knows the `raft` package, and the rules for its use (R1 to R24).
//!
//! ```text
//!   propose ─┐                    ┌─> entries, term and vote   to be written and flushed
//!   tick    ─┼─> RawNode ─ take ──┤
//!   persisted┘                    └─> committed entries        to be applied
//! ```
//!
//! Rules kept here: R1 (every setting), R2 (nothing between `ready` and `advance`), R4 (the
//! asynchronous path: entries are readable before `advance_append_async`, persisted in order), R5
//! and R6 (applied is our own), R7 (checked before raft is built), R14 (`uncommitted_size` before
//! a proposal), R20 (election timeouts are a pure function).
//!
//! Absent on purpose: messages. A lone voter has nobody to talk to, which is asserted; they come
//! with the second voter, as do snapshots and ReadIndex.

use super::tail::{Coordinates, Tail, TailStart};
use crate::codec::DecodeError;
use bateau_protocol::frame::Frame;
use bateau_protocol::ids::{Incarnation, LogIndex, Offset, ReplicaId, Term};
use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};
use raft::{Config, RawNode, StateRole};
use slog::{Discard, Logger, o};
use thiserror::Error;

/// Ticks between two heartbeats.
const HEARTBEAT_TICKS: usize = 2;
/// Ticks of the shortest election timeout; the longest is twice that.
const ELECTION_TICKS: usize = 10;
/// Bytes of one append message (R1: 0 would mean one entry per message).
const MESSAGE_BYTES_MAX: u64 = 1024 * 1024;
/// Append messages to one follower that may be unanswered.
const MESSAGES_INFLIGHT_MAX: usize = 32;
/// Bytes of entries that may wait for their commit; above it the shard stops draining its inbox.
pub(super) const UNCOMMITTED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of committed entries that one ready hands out.
const COMMITTED_BYTES_PER_READY_MAX: u64 = 4 * 1024 * 1024;

/// Term and vote that must be on disk before anything that depends on them (D2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vote {
    /// The current term.
    pub term: Term,
    /// The replica that got this replica's vote in it; zero for none.
    pub voted_for: ReplicaId,
}

/// What a replica starts from.
#[derive(Clone, Debug)]
pub(super) struct RaftStart {
    pub replica_id: ReplicaId,
    pub incarnation: Incarnation,
    pub tail: TailStart,
}

/// Persisted state that raft must not be built on (R7). Proof of loss, never clamped.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StartError {
    /// Something that was committed is gone.
    #[error("stored commit {commit} lies behind the last index {last}: the log has lost entries")]
    CommitBehindLog {
        /// What the meta log says.
        commit: LogIndex,
        /// What the log holds.
        last: LogIndex,
    },
    /// Frames between the state file and the log's end are not there.
    #[error("the log continues with frame {found}, expected {expected}")]
    MissingFrames {
        /// The index that comes next, or the last one.
        expected: LogIndex,
        /// What was there.
        found: LogIndex,
    },
    /// The log belongs to a group of several voters, which this build does not run.
    #[error("the membership at index {index} names other voters, which this build cannot reach")]
    NotTheOnlyVoter {
        /// The membership frame, or the first frame after the state file.
        index: LogIndex,
    },
    /// Stored state or a committed command does not decode under a valid checksum.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// Raft refused its configuration.
    #[error("raft refuses to start: {reason}")]
    Refused {
        /// Raft's own words.
        reason: String,
    },
}

/// What one `ready` asks for.
#[derive(Debug, Default)]
pub(super) struct Ready {
    /// Names this ready when it is reported as persisted.
    pub number: u64,
    pub vote: Option<Vote>,
    pub frames: Vec<Frame>,
    pub committed: Vec<Entry>,
}

impl Ready {
    pub fn must_persist(&self) -> bool {
        self.vote.is_some() || !self.frames.is_empty()
    }
}

/// A proposal that raft did not take: this replica is not the leader, or gives leadership away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ProposalDropped;

pub(super) struct RaftView {
    node: RawNode<Tail>,
    incarnation: Incarnation,
    /// Number of the newest ready that was handed out to be written.
    newest_written: u64,
    /// Number of the newest one that is known to be flushed.
    newest_persisted: u64,
    vote: Vote,
}

impl RaftView {
    /// Builds raft on what recovery found.
    pub fn new(start: RaftStart) -> Result<Self, StartError> {
        let last = start.tail.last.index;
        let commit = LogIndex::new(start.tail.hard_state.commit);
        if commit > last {
            return Err(StartError::CommitBehindLog { commit, last });
        }
        let vote = Vote {
            term: Term::new(start.tail.hard_state.term),
            voted_for: ReplicaId::new(start.tail.hard_state.vote),
        };
        let config = Config {
            id: start.replica_id.get(),
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: last.get(),
            max_size_per_msg: MESSAGE_BYTES_MAX,
            max_inflight_msgs: MESSAGES_INFLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED_BYTES_MAX as u64,
            max_committed_size_per_ready: COMMITTED_BYTES_PER_READY_MAX,
            ..Config::default()
        };
        let logger = Logger::root(Discard, o!());
        let node = RawNode::new(&config, Tail::new(start.tail), &logger)
            .map_err(|error| StartError::Refused { reason: error.to_string() })?;
        let mut view = Self {
            node,
            incarnation: start.incarnation,
            newest_written: 0,
            newest_persisted: 0,
            vote,
        };
        view.overwrite_election_timeout();
        Ok(view)
    }

    /// Stands for election at once.
    pub fn campaign(&mut self) {
        // A campaign is refused only while a membership change waits to be applied, and then the
        // election clock asks again.
        let _ = self.node.campaign();
        self.overwrite_election_timeout();
    }

    /// Whether the election clock must run: not for a lone voter that leads already.
    pub fn needs_ticks(&self) -> bool {
        !self.is_leader() || self.node.raft.prs().conf().voters().ids().len() > 1
    }

    /// Moves raft's clock by one tick.
    pub fn tick(&mut self) {
        self.node.tick();
        self.overwrite_election_timeout();
    }

    /// Whether `bytes` more may be proposed now (R14). A proposal larger than the whole limit is
    /// admitted alone.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let waiting = self.node.raft.uncommitted_size();
        waiting == 0 || waiting.saturating_add(bytes) <= UNCOMMITTED_BYTES_MAX
    }

    /// Proposes entries, all or none, without copying their payloads. Each is a payload and its
    /// encoded stamp; the first one gets index [`Self::last`] + 1.
    pub fn propose(
        &mut self,
        entries: impl Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), ProposalDropped> {
        let entries: Vec<Entry> =
            entries.map(|(data, context)| Entry { data, context, ..Entry::default() }).collect();
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        message.set_entries(entries.into());
        self.node.step(message).map_err(|_| ProposalDropped)
    }

    /// Takes what raft wants done, if anything (R2, R4). The frames are readable from the tail
    /// when this returns.
    pub fn take_ready(&mut self) -> Option<Ready> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let number = ready.number();
        let vote = ready.hs().map(|state| Vote {
            term: Term::new(state.term),
            voted_for: ReplicaId::new(state.vote),
        });
        let vote = vote.filter(|vote| *vote != self.vote);
        self.vote = vote.unwrap_or(self.vote);
        let frames = self.node.mut_store().append(ready.take_entries());
        let committed = ready.take_committed_entries();
        assert!(
            ready.take_messages().is_empty() && ready.take_persisted_messages().is_empty(),
            "R3: a lone voter sends no messages"
        );
        self.node.advance_append_async(ready);
        let ready = Ready { number, vote, frames, committed };
        if ready.must_persist() {
            self.newest_written = number;
        } else if self.newest_written == self.newest_persisted {
            // Reporting a number reports every earlier one, so this must not overtake a write.
            self.node.on_persist_ready(number);
        }
        self.overwrite_election_timeout();
        Some(ready)
    }

    /// The ready of this number, and with it every earlier one, is flushed here.
    pub fn persisted(&mut self, number: u64) {
        assert!(number <= self.newest_written, "R4: a ready was persisted that nobody asked for");
        self.newest_persisted = self.newest_persisted.max(number);
        self.node.on_persist_ready(number);
    }

    /// Frames that are not flushed here, for the repetition of refused writes.
    pub fn unpersisted_frames(&self) -> Vec<Frame> {
        self.node.store().frames_behind(self.persisted_index())
    }

    /// Number of the newest ready that wanted something written.
    pub fn newest_written(&self) -> u64 {
        self.newest_written
    }

    /// Last index that is flushed here.
    pub fn persisted_index(&self) -> LogIndex {
        LogIndex::new(self.node.raft.raft_log.persisted)
    }

    /// Everything up to `index` has been applied to the derived state.
    pub fn applied(&mut self, index: LogIndex) {
        self.node.advance_apply_to(index.get());
        self.node.mut_store().release_to(index);
    }

    pub fn trim_to(&mut self, first_index: LogIndex, previous_term: Term, offset: Offset) {
        self.node.mut_store().trim_to(first_index, previous_term, offset);
    }

    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub fn term(&self) -> Term {
        Term::new(self.node.raft.term)
    }

    pub fn commit(&self) -> LogIndex {
        LogIndex::new(self.node.raft.raft_log.committed)
    }

    pub fn last(&self) -> Coordinates {
        // Entries that raft holds and has not handed out yet are not in the tail.
        self.node.store().last()
    }

    pub fn tail(&self) -> &Tail {
        self.node.store()
    }

    /// R20: raft draws election timeouts from a thread's random numbers. Whatever may have reset
    /// one is followed by this, so that a run is a function of its inputs.
    fn overwrite_election_timeout(&mut self) {
        let seed = self.incarnation.get()
            ^ self.node.raft.id.rotate_left(32)
            ^ self.node.raft.term.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let spread = mix(seed) % ELECTION_TICKS as u64;
        let jitter_ticks = usize::try_from(spread).expect("the spread is below ELECTION_TICKS");
        self.node.raft.set_randomized_election_timeout(ELECTION_TICKS + jitter_ticks);
    }
}

/// The finaliser of SplitMix64: spreads a seed's bits.
const fn mix(seed: u64) -> u64 {
    let seed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let seed = (seed ^ (seed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    seed ^ (seed >> 31)
}
