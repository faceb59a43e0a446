//! One copy of one partition on this node: proposes, applies, acknowledges, remembers.
//!
//! ```text
//!   produce ──> gather ──> raft ──> Effect::Persist ──(disk)──> persisted ──> raft
//!   command ─┘   (sequence, offsets)                                           │ committed
//!                                          acks, high watermark  <── apply ────┘
//! ```
//!
//! The same replica serves topics, consumer groups and the metadata: they differ in what is
//! [derived](Derived) from the log. A turn is: any number of inputs, then one
//! [`Replica::drain_ready`].
//!
//! Invariants
//! - `I-ACK-1` An ack leaves only when its entry is committed, which raft says only after a
//!   majority has flushed it. `acks=1` is the same promise.
//! - `I5` Term, commit, applied index, high watermark and log start never fall.
//! - `I10` At most one append per (producer id, epoch, sequence).
//! - Offsets are handed out in the order in which raft takes entries, and without holes.
//! - A produce is admitted only after the no-op of the leader's own term is applied.
//!
//! Absent on purpose: I/O, clocks and threads; where replicas should be.

mod acks;
mod apply;
mod derived;
mod install;
mod invariants;
mod leadership;
pub mod membership;
mod peers;
mod producers;
mod propose;
mod quiescence;
mod raft_view;
mod reads;
mod sending;
mod stamp;
mod start;
mod start_error;
mod state_file;
mod steering;
mod tail;
pub mod trim;
mod writes;

#[cfg(test)]
mod tests;

pub use derived::{Derived, DerivedStart, MetadataStart};
pub use install::RECEIVING_BYTES_MAX;
pub(crate) use peers::CopyRead;
pub use producers::{PRODUCER_EXPIRY_MS, PRODUCERS_MAX, Producers, SequenceError};
pub use quiescence::REST_TICKS;
pub use raft_view::{ReadOrigin, ReplicaFault, Vote};
pub use reads::NotLeading;
pub use sending::{OutgoingSnapshot, SNAPSHOTS_SENDING_MAX};
pub use start::{RecoveredLog, ReplicaStart};
pub use start_error::StartError;
pub(crate) use state_file::{stored_membership, stored_metadata};
pub use steering::Assignment;
pub use tail::{KEPT_BYTES_MAX, TailBudget};

use crate::clock::Now;
use crate::shard::Effects;
use crate::ticket::{ProposalToken, Ticket};
use acks::Acks;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use bateau_protocol::record::ProducerSequence;
use bytes::Bytes;
use install::{Incoming, Installing};
use membership::Membership;
use propose::Gathered;
use quiescence::Quiescence;
use raft_view::RaftView;
use reads::Reads;
use sending::Sending;
use std::collections::{BTreeMap, VecDeque};
use steering::Steering;
use thiserror::Error;
use trim::{LogStart, Retention};
use writes::Writes;

/// A batch that a producer wants appended. Its bytes have been validated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Produce {
    /// The record batch as it came.
    pub batch: Bytes,
    /// Offsets that it spans, at least 1.
    pub record_count: u32,
    /// The idempotent producer's part.
    pub producer: Option<ProducerSequence>,
    /// Who waits; `None` for `acks=0`.
    pub ticket: Option<Ticket>,
    /// When the waiter is told REQUEST_TIMED_OUT, on the monotonic clock in milliseconds.
    pub deadline_ms: u64,
}

/// What an acknowledged producer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProduceAck {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// Where the log starts.
    pub log_start: Offset,
    /// Whether the batch was in the log already.
    pub is_duplicate: bool,
    /// Replicas that hold the batch flushed, at least: the majority that committed it. On a node
    /// that flushes nothing, those that hold it.
    pub replicas: u32,
}

/// Why a batch was not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ProduceError {
    /// This replica does not lead the partition. After the append the outcome is unknown.
    #[error("this replica does not lead the partition")]
    NotLeader,
    /// The commit did not come in time; the batch may be in the log.
    #[error("the batch was not committed within the request's timeout")]
    TimedOut,
    /// An idempotent producer's batch does not fit.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// Fewer voters than `min.insync.replicas`; nothing was appended.
    #[error("{found} in-sync replicas, min.insync.replicas asks for {required}")]
    NotEnoughReplicas {
        /// What the topic asks for.
        required: usize,
        /// Live voters.
        found: usize,
    },
    /// The batch is committed, and fewer voters than `min.insync.replicas` have flushed it within
    /// the request's timeout.
    #[error("the batch is committed, but not flushed by min.insync.replicas voters in time")]
    NotEnoughReplicasAfterAppend,
    /// The disk is full or the partition damaged. Appended or not, a retry settles it.
    #[error("the partition's storage takes no appends now")]
    Storage,
}

/// What may change about a replica while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ReplicaSettings {
    /// The topic's `min.insync.replicas`; values below the majority do not weaken it.
    pub min_insync_replicas: usize,
    /// How much of the log is kept.
    pub retention: Retention,
}

/// Whether produce is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Follower,
    /// Elected in `term`; the no-op that opens it is not applied yet.
    Electing,
    /// Leader, and everything of earlier terms is applied.
    Leader,
}

/// One copy of one partition.
pub struct Replica {
    incarnation: Incarnation,
    replica_id: ReplicaId,
    raft: RaftView,
    role: Role,
    /// The term of the role, where it is not a follower's.
    role_term: Term,
    /// Since when it leads, on the monotonic clock, where it does.
    led_since_ms: u64,
    membership: Membership,
    /// Where replicas live that have been heard and are not of the membership as applied here.
    strangers: BTreeMap<ReplicaId, NodeId>,
    steering: Steering,
    settings: ReplicaSettings,
    derived: Derived,
    applied: LogIndex,
    applied_term: Term,
    high_watermark: Offset,
    log_start: LogStart,
    /// Entries of this turn, in order; raft gets them in one proposal.
    gathered: Vec<Gathered>,
    gathered_bytes: usize,
    /// Waiting for admission or for room. Bounded by the request memory that doors grant, and for
    /// `acks=0` by a number of its own (`propose`).
    held: VecDeque<Produce>,
    acks: Acks,
    /// Commands in flight: their entry and the state machine's own token.
    tokens: VecDeque<(LogIndex, ProposalToken)>,
    reads: Reads,
    quiescence: Quiescence,
    /// This replica's turn to stand, after the leader's node was lost.
    candidacy: Option<peers::Candidacy>,
    /// Who leads in which term, as the outside was last told.
    told_leader: Option<(Option<ReplicaId>, Term)>,
    writes: Writes,
    /// What the replicas of the node share.
    budget: TailBudget,
    /// Snapshots on their way to followers.
    sending: BTreeMap<ReplicaId, Sending>,
    newest_snapshot: u64,
    /// What learners wait for that the disk has.
    copy_reads: Vec<CopyRead>,
    /// A snapshot that is being received.
    incoming: Option<Incoming>,
    /// A snapshot that is being made durable: nothing else happens meanwhile.
    installing: Option<Box<Installing>>,
    /// Up to here membership and derived state are those of a snapshot, also where the log has not
    /// come as far; what the log says of them again is ignored.
    ahead: LogIndex,
    /// Whether the data directory is too full for new records (D20).
    is_disk_full: bool,
    state_file: state_file::Schedule,
}

impl Replica {
    /// Birth id of the partition.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// This placement's id.
    #[must_use]
    pub fn replica_id(&self) -> ReplicaId {
        self.replica_id
    }

    /// Whether this replica leads and admits requests.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.raft.term()
    }

    /// First offset that is not committed.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Last index that is applied to the derived state.
    #[must_use]
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    /// Term of that entry.
    #[must_use]
    pub fn applied_term(&self) -> Term {
        self.applied_term
    }

    /// Whether the entry at `index` has this term here.
    #[must_use]
    pub fn has_entry(&self, index: LogIndex, term: Term) -> bool {
        self.raft.has_entry(index, term)
    }

    /// Where the log starts.
    #[must_use]
    pub fn log_start(&self) -> LogStart {
        self.log_start
    }

    /// The configuration as applied here.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// What is derived from the log.
    #[must_use]
    pub fn derived(&self) -> &Derived {
        &self.derived
    }

    /// Replicas that hold a committed entry, at least.
    fn replicas_to_commit(&self) -> u32 {
        u32::try_from(self.membership.majority()).unwrap_or(u32::MAX)
    }

    /// Changes what may change.
    pub fn configure(&mut self, settings: ReplicaSettings) {
        self.settings = settings;
    }

    /// The disk has become too full for records, or has room again (D20).
    pub fn set_disk_full(&mut self, is_full: bool) {
        self.is_disk_full = is_full;
    }

    /// Advances timers: produce timeouts and raft's clock.
    pub fn tick(&mut self, now: Now, effects: &mut Effects) {
        if self.installing.is_none() && self.raft.needs_ticks() && !self.is_asleep() {
            if !self.doze() {
                self.raft.tick();
            }
            self.stand_in_turn();
        }
        self.look_after_snapshots(now);
        self.look_after_incoming(now);
        let commit = self.raft.commit();
        for (ticket, index) in self.acks.expire(now.monotonic_ms) {
            let error = if index <= commit {
                ProduceError::NotEnoughReplicasAfterAppend
            } else {
                ProduceError::TimedOut
            };
            effects.reply_produce(ticket, Err(error));
        }
        self.expire_held(now.monotonic_ms, effects);
    }

    /// Whether [`Replica::tick`] has something to do soon.
    #[must_use]
    pub fn wants_ticks(&self) -> bool {
        (self.raft.needs_ticks() && !self.is_asleep())
            || !self.acks.is_empty()
            || !self.held.is_empty()
            || self.writes.are_stalled()
    }

    /// Leadership, the disk or the partition is lost: everybody who waits is told.
    pub fn resign(&mut self, error: ProduceError, effects: &mut Effects) {
        self.step_down(error, effects);
        self.derived.resign();
        self.take_machine_effects(effects);
    }

    fn step_down(&mut self, error: ProduceError, effects: &mut Effects) {
        self.role = Role::Follower;
        self.fail_gathered(error, effects);
        self.fail_waiters(error, effects);
        self.fail_reads(effects);
        self.tokens.clear();
        self.sending.clear();
        self.steering.stop();
    }

    /// This replica is out of service for the rest of the process.
    pub fn quarantine(&mut self, effects: &mut Effects) {
        self.step_down(ProduceError::Storage, effects);
        self.derived.quarantine();
        self.take_machine_effects(effects);
    }

    /// A deadline of the state machine is due.
    pub fn tick_machine(&mut self, now: Now) {
        self.derived.tick(now);
    }

    /// What has time: expiry, and a state file that is due.
    pub fn keep_house(&mut self, now: Now) {
        if self.derived.producers().is_some() {
            self.derived.tick(now);
        }
    }

    fn fail_waiters(&mut self, error: ProduceError, effects: &mut Effects) {
        for ticket in self.acks.fail_all() {
            effects.reply_produce(ticket, Err(error));
        }
        let held = self.held.drain(..).filter_map(|produce| produce.ticket);
        for ticket in held.collect::<Vec<_>>() {
            effects.reply_produce(ticket, Err(error));
        }
    }
}
