//! Why a replica does not start.
//!
//! Invariant: what is found missing is said with its indexes, and is never clamped.
//!
//! Absent on purpose: damage that recovery finds in the log itself, which arrives with it.

use crate::codec::DecodeError;
use bateau_protocol::ids::LogIndex;
use thiserror::Error;

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

impl StartError {
    /// Whether it proves that something is gone which others count on.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::CommitBehindLog { .. } | Self::MissingFrames { .. } => true,
            Self::Undecodable(_) | Self::Refused { .. } => false,
        }
    }
}
