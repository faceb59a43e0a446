//! What a start finds.

use crate::reader::LogReader;
use crate::work::{HardState, LogStart};
use bateau_protocol::ids::{Incarnation, LogIndex, Offset, ReplicaId};
use bytes::Bytes;

/// One log as recovery left it.
#[derive(Debug)]
pub struct RecoveredLog {
    /// Birth id.
    pub incarnation: Incarnation,
    /// This placement's Raft id.
    pub replica: ReplicaId,
    /// Stored term and vote; `commit` is the larger of the stored one and the state file's index.
    pub hard_state: HardState,
    /// Where the log starts.
    pub start: LogStart,
    /// Last verified and flushed index.
    pub last_index: LogIndex,
    /// Offset behind the last record.
    pub end_offset: Offset,
    /// The newest valid state file. The frames behind it are read through `reader`.
    pub state: Option<StoredState>,
    /// For everybody who reads the log.
    pub reader: LogReader,
    /// The damaged range, if there is one. Such a log serves what lies before it and takes no
    /// appends; its replica must neither vote nor lead.
    pub corrupt: Option<CorruptRange>,
}

/// Derived state from a state file (D9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredState {
    /// Index that it includes.
    pub applied: LogIndex,
    /// The encoded state.
    pub bytes: Bytes,
}

/// A range that was durable once and cannot be read now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorruptRange {
    /// First index that is damaged or missing.
    pub first_index: LogIndex,
    /// Last index that is known to have been durable.
    pub last_index: LogIndex,
    /// First offset that is damaged or missing.
    pub first_offset: Offset,
    /// First index of the segment, which names its file.
    pub segment: LogIndex,
    /// Where in the segment file, in bytes.
    pub position: u64,
    /// What is wrong there.
    pub reason: String,
    /// What proves that the range was durable.
    pub proof: String,
}

/// A torn tail: what a crash left of frames that nobody was told about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The log.
    pub incarnation: Incarnation,
    /// First index that was dropped.
    pub first_index: LogIndex,
    /// Whole or partial frames that were dropped, as far as they can be told apart.
    pub frames: u64,
    /// Bytes that they covered.
    pub bytes: u64,
}

/// What a start found in the data directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Whether the last process left the clean-shutdown mark.
    pub clean: bool,
    /// How often this directory has been started, this start included.
    pub boot_epoch: u64,
    /// Logs found.
    pub logs: u64,
    /// Frames walked, and their bytes.
    pub walked_frames: u64,
    /// Bytes walked.
    pub walked_bytes: u64,
    /// Logs whose tail was torn.
    pub torn: Vec<TornTail>,
    /// Damaged ranges by log.
    pub corrupt: Vec<(Incarnation, CorruptRange)>,
    /// Directories of logs whose creation was never acknowledged, moved to the trash.
    pub orphans: Vec<Incarnation>,
}
