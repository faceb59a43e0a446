//! What the log is asked to do and what it answers: the vocabulary between a shard and the disk
//! thread.
//!
//! One [`Persist`] is one Raft `Ready`: hard state, conflict truncation and frames that become
//! durable together. Answers for one log come in the order of its requests.
//!
//! Absent on purpose: reads, which never pass the disk thread (see [`crate::LogReader`]).

use crate::reader::LogReader;
use crate::recovery::RecoveredLog;
use bateau_protocol::frame::Frame;
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use bytes::Bytes;
use thiserror::Error;

/// Smallest `segment.bytes`: the size of the first segment.
pub const SEGMENT_BYTES_MIN: u32 = 16 * 1024;

/// Default of `segment.bytes`, Kafka's own.
pub const SEGMENT_BYTES_DEFAULT: u32 = 1 << 30;

/// Default of `index.interval.bytes`, Kafka's own.
pub const INDEX_INTERVAL_BYTES_DEFAULT: u32 = 4096;

/// Settings of one log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// Size that segments grow to, in bytes (`segment.bytes`), at least [`SEGMENT_BYTES_MIN`].
    pub segment_bytes: u32,
    /// Bytes of log per entry of the sparse index (`index.interval.bytes`).
    pub index_interval_bytes: u32,
    /// Whether the cluster cannot work without this log (metadata, group partitions): on a full
    /// disk it may use the ballast (D20).
    pub vital: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES_DEFAULT,
            index_interval_bytes: INDEX_INTERVAL_BYTES_DEFAULT,
            vital: false,
        }
    }
}

/// Raft's hard state. Term and vote are flushed before anything that depends on them; the commit
/// is stored lazily and never above what is flushed here (D2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// Current term.
    pub term: Term,
    /// Who got this replica's vote in `term`.
    pub vote: Option<ReplicaId>,
    /// Highest index known to be committed.
    pub commit: LogIndex,
}

/// One start of a node's process: starts of one data directory count up, and two with one epoch
/// and different ids are two copies of it (D10).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeStart {
    /// Random id of the directory that was started; zeros where nobody asks.
    pub directory: [u8; 16],
    /// How often the directory had been started by then.
    pub boot_epoch: u64,
    /// Drawn at random by that start.
    pub start_id: u64,
}

/// Where a log starts: the four values of a committed trim frame. `term` and `chain_crc` are those
/// of the frame *before* `index`, which is what Raft and recovery still need of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogStart {
    /// First offset that may be read.
    pub offset: Offset,
    /// Index of the first frame.
    pub index: LogIndex,
    /// Term of the frame before; zero at a log's birth.
    pub term: Term,
    /// Chain CRC of the frame before; zero at a log's birth.
    pub chain_crc: u32,
}

impl LogStart {
    /// A log that still has its first frame.
    pub const BIRTH: Self =
        Self { offset: Offset::ZERO, index: LogIndex::new(1), term: Term::ZERO, chain_crc: 0 };
}

/// A new log with its first frames.
#[derive(Clone, Debug)]
pub struct Create {
    /// Birth id, unknown to this directory.
    pub incarnation: Incarnation,
    /// This placement's Raft id.
    pub replica: ReplicaId,
    /// Settings of the log.
    pub options: LogOptions,
    /// Initial hard state: for a founding voter term 1, commit 1.
    pub hard_state: HardState,
    /// Usually frame 1, the initial membership, alone.
    pub frames: Vec<Frame>,
}

/// What one Raft `Ready` wants durable, in the order of its fields.
#[derive(Clone, Debug)]
pub struct Persist {
    /// The log.
    pub incarnation: Incarnation,
    /// The ready's number, handed back in the answer; the log does not interpret it.
    pub ready: u64,
    /// The hard state, where it changed.
    pub hard_state: Option<HardState>,
    /// Drop every frame from this index on before the append: a follower's conflict. Costs an
    /// extra flush of the meta log.
    pub truncate_from: Option<LogIndex>,
    /// Frames to append. The first one has the index behind the log's last frame (I-LOG-1).
    pub frames: Vec<Frame>,
}

/// A log that begins anew behind a snapshot: what a follower gets that is behind the leader's log.
#[derive(Clone, Debug)]
pub struct Install {
    /// The log, which stays what it is for its readers.
    pub incarnation: Incarnation,
    /// Term and vote; the commit is the snapshot's index.
    pub hard_state: HardState,
    /// Where the log begins: right behind the snapshot's index. The first frame carries its offset.
    pub start: LogStart,
    /// Index that the state includes; at or above the snapshot's own.
    pub applied: LogIndex,
    /// The encoded state, as [`Work::StoreState`] has it.
    pub state: Bytes,
}

impl Install {
    /// The entry that the snapshot stands for.
    #[must_use]
    pub fn index(&self) -> LogIndex {
        self.start.index.previous()
    }
}

/// A segment to be mended, or frames for a mending that is under way.
#[derive(Clone, Debug)]
pub struct Mend {
    /// The log.
    pub incarnation: Incarnation,
    /// The segment, by its base index.
    pub segment: LogIndex,
    /// Frames from the first one on that [`Done::MendWants`] has named, of another replica; empty
    /// to begin with. They are checked against what lies before and behind them.
    pub frames: Vec<Frame>,
    /// Nobody runs on the log: the answer is to have all that a start needs.
    pub reopens: bool,
    /// An operator has accepted that what is missing is lost: gap frames are put in its place, and
    /// nobody is asked for anything. For a log that nobody runs on.
    pub accepts_loss: bool,
    /// Now, in Unix milliseconds: names the damaged file in the quarantine.
    pub wall_ms: u64,
}

/// Committed frames that are missing between two that are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hole {
    /// First index that is missing.
    pub first: LogIndex,
    /// Last index that is missing.
    pub last: LogIndex,
    /// An entry behind the hole that is here: who has the same one has the same entries before it.
    pub known: LogIndex,
    /// The term of that entry.
    pub term: Term,
    /// The payload CRC of that entry.
    pub payload_crc: u32,
}

/// Why a segment was not mended.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum MendError {
    /// Nobody can say what belongs there, or whether it was all: nothing intact lies behind.
    #[error("what is missing from frame {first} on cannot be mended: {reason}")]
    Unmendable {
        /// First index that is missing.
        first: LogIndex,
        /// Why.
        reason: String,
    },
    /// The log cannot go on without what is missing.
    #[error("it cannot go on without what is missing: {reason}")]
    Unclosable {
        /// Why.
        reason: String,
    },
    /// What is missing is not known to be committed: others may have something else there.
    #[error("frames {first} to {last} are missing, and committed is only frame {commit}")]
    Uncommitted {
        /// First index that is missing.
        first: LogIndex,
        /// Last index that is missing.
        last: LogIndex,
        /// The last one that is known to be committed here.
        commit: LogIndex,
    },
    /// The fresh file could not be written.
    #[error("write a mended segment: {0}")]
    Write(#[from] WriteError),
}

/// One request to the disk thread.
#[derive(Clone, Debug)]
pub enum Work {
    /// Make a log. Answer: [`Done::Created`] or [`Done::CreateFailed`].
    Create(Create),
    /// Make a ready durable. Answer: [`Done::Persisted`] or [`Done::PersistFailed`].
    Persist(Persist),
    /// Remember a commit index lazily; it dirties nothing. No answer.
    Commit {
        /// The log.
        incarnation: Incarnation,
        /// The commit index.
        commit: LogIndex,
    },
    /// A committed trim frame was applied. Readers see the new start at once; whole segments below
    /// both it and the newest durable state file go later. Answer: [`Done::Trimmed`].
    Trim {
        /// The log.
        incarnation: Incarnation,
        /// The new start.
        start: LogStart,
    },
    /// Store the derived state as applied at `applied` in a file of its own (D9), between cycles.
    /// Answer: [`Done::StateStored`] or [`Done::StateFailed`].
    StoreState {
        /// The log.
        incarnation: Incarnation,
        /// Index that the state includes; at or below what is flushed here.
        applied: LogIndex,
        /// The encoded state; the log adds length and checksum.
        state: Bytes,
    },
    /// Replace all that a log holds by a snapshot, between cycles: a crash leaves the old log or
    /// the new one. Until the answer the log takes no other request but a deletion. Answer:
    /// [`Done::Installed`] or [`Done::InstallFailed`].
    Install(Box<Install>),
    /// Mend a damaged segment: what is intact of it is copied into a fresh file, and what is not
    /// comes from other replicas, a piece at a time. Answers: [`Done::MendWants`] for as long as
    /// frames are missing, then [`Done::Mended`] or [`Done::MendFailed`].
    Mend(Mend),
    /// Forget an unfinished mending. No answer.
    StopMending {
        /// The log.
        incarnation: Incarnation,
    },
    /// Remove what was put into quarantine before a moment. No answer.
    EmptyQuarantine {
        /// Files that came before this moment go, in Unix milliseconds.
        before_wall_ms: u64,
    },
    /// Close the active segment before it is full (`segment.ms`). No answer.
    Roll {
        /// The log.
        incarnation: Incarnation,
    },
    /// Change a log's settings; segments that exist keep their size. No answer.
    Configure {
        /// The log.
        incarnation: Incarnation,
        /// The new settings.
        options: LogOptions,
    },
    /// The topic was deleted by a committed tombstone: forget the replica and move its files to
    /// the trash. Answer: [`Done::Deleted`].
    Delete {
        /// The log.
        incarnation: Incarnation,
        /// Now, in Unix milliseconds: names the trash entry.
        wall_ms: u64,
    },
    /// The partition lives on elsewhere, without this replica: forget it, and keep none of its
    /// files. Answer: [`Done::Deleted`].
    Remove {
        /// The log.
        incarnation: Incarnation,
    },
    /// This replica is damaged, and another one will take its place under a new id: forget it, and
    /// keep its files in `quarantine/`. Until they are there, no log of the partition is made. No
    /// answer.
    Quarantine {
        /// The log.
        incarnation: Incarnation,
        /// Now, in Unix milliseconds: names what is kept.
        wall_ms: u64,
    },
    /// Remember the newest start of another node that was met here. Answer: [`Done::PeerNoted`].
    NotePeer {
        /// The node.
        node: NodeId,
        /// Its start.
        start: NodeStart,
    },
    /// Remove trash that is older than a moment. No answer.
    EmptyTrash {
        /// Entries that came before this moment go, in Unix milliseconds.
        before_wall_ms: u64,
    },
}

/// An answer of the disk thread. What it reports is flushed.
#[derive(Debug)]
pub enum Done {
    /// The log exists durably, with its first frames.
    Created {
        /// The log.
        incarnation: Incarnation,
        /// For everybody who reads it.
        reader: LogReader,
        /// Its last flushed index.
        last_index: LogIndex,
    },
    /// The log was not made; nothing of it is left.
    CreateFailed {
        /// The request, for a retry.
        request: Box<Create>,
        /// Why.
        error: WriteError,
    },
    /// A ready is durable.
    Persisted {
        /// The log.
        incarnation: Incarnation,
        /// Number of the ready.
        ready: u64,
        /// Last index of the log as of this ready.
        last_index: LogIndex,
        /// Offset behind the log's last record as of this ready.
        next_offset: Offset,
        /// The flush that did it.
        flush_sequence: FlushSequence,
    },
    /// Frames could not be written; the log is as it was before, hard state excepted, which was
    /// stored. Every later ready of this log fails with [`WriteError::Gap`] until the failed one
    /// is repeated.
    PersistFailed {
        /// The request, for a retry.
        request: Box<Persist>,
        /// Why.
        error: WriteError,
    },
    /// The start of another node is durable.
    PeerNoted {
        /// The node.
        node: NodeId,
        /// Its start.
        start: NodeStart,
    },
    /// The log's start is durable.
    Trimmed {
        /// The log.
        incarnation: Incarnation,
        /// Where it starts now.
        start: LogStart,
    },
    /// The state file is durable.
    StateStored {
        /// The log.
        incarnation: Incarnation,
        /// Index that it includes.
        applied: LogIndex,
    },
    /// The state file could not be written; the one before it still stands.
    StateFailed {
        /// The log.
        incarnation: Incarnation,
        /// Index that it would have included.
        applied: LogIndex,
        /// Why.
        error: WriteError,
    },
    /// The log begins anew, durably, and its readers see so.
    Installed {
        /// The log.
        incarnation: Incarnation,
        /// The entry that the snapshot stands for.
        index: LogIndex,
    },
    /// The snapshot was not written; the log is as it was.
    InstallFailed {
        /// The log.
        incarnation: Incarnation,
        /// The entry that the snapshot stands for.
        index: LogIndex,
        /// Why.
        error: WriteError,
    },
    /// A mending goes on when it gets frames, from the first one that is missing on.
    MendWants {
        /// The log.
        incarnation: Incarnation,
        /// The segment, by its base index.
        segment: LogIndex,
        /// What is missing, from its first frame on.
        hole: Hole,
        /// Whether it is what is left of a hole that was named before.
        is_rest: bool,
        /// What was wrong with the frames that came: another replica may have better ones.
        refused: Option<String>,
    },
    /// A segment is whole, durably, and readers have it.
    Mended {
        /// The log.
        incarnation: Incarnation,
        /// The segment, by its base index.
        segment: LogIndex,
        /// Frames that came from others; 0 where all of them were intact after all.
        frames: u64,
        /// The log as a start would find it now, where [`Mend::reopens`]: it may have more damage.
        log: Option<Box<RecoveredLog>>,
    },
    /// A mending was given up; the log is as it was. It may be asked for again.
    MendFailed {
        /// The log.
        incarnation: Incarnation,
        /// The segment, by its base index.
        segment: LogIndex,
        /// Why.
        error: MendError,
    },
    /// Readers have met damage: committed frames of a segment are not there as they should be.
    /// Told with the next look at the space, as long as it is met.
    Damaged {
        /// The log.
        incarnation: Incarnation,
        /// The segment, by its base index.
        segment: LogIndex,
    },
    /// The replica is durably forgotten.
    Deleted {
        /// The log.
        incarnation: Incarnation,
    },
    /// The free space crossed a limit (D20).
    Space(SpaceState),
}

/// Why one log's request failed. The directory as a whole is fine.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum WriteError {
    /// No room for another segment or file. Retry when space has returned.
    #[error("no space left on the data directory's filesystem")]
    NoSpace,
    /// The system refused a write.
    #[error("{operation}: {message}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The system's message.
        message: String,
    },
    /// An earlier ready of this log failed and comes first.
    #[error("frame {found} does not follow the log's last frame: expected {expected}")]
    Gap {
        /// Index that the log waits for.
        expected: LogIndex,
        /// Index that came.
        found: LogIndex,
    },
    /// This directory has no such log.
    #[error("no log with incarnation {0:?}")]
    Unknown(Incarnation),
    /// This directory has such a log already.
    #[error("there is a log with incarnation {0:?} already")]
    Exists(Incarnation),
    /// Recovery found a corrupt range: the prefix is served, nothing is appended.
    #[error("the log has a corrupt range and takes no appends")]
    Quarantined,
}

/// How much room the filesystem has (D20).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum SpaceState {
    /// Above the soft limit.
    #[default]
    Ok,
    /// Below the soft limit: refuse produce and new partitions.
    Soft,
    /// Below the hard limit: leaders of ordinary logs append nothing.
    Hard,
}

/// A flush failed, or a write without which nothing can be promised. It is never retried (D7):
/// the directory takes no more work in this process, and nothing that was not yet answered may be
/// acknowledged.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("the data directory failed: {operation}: {message}")]
pub struct DiskFailed {
    /// What was tried.
    pub operation: &'static str,
    /// The system's message.
    pub message: String,
}
