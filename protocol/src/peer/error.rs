//! Why bytes are no peer message, and why a message has no bytes.
//!
//! Each error names the message, the field, what was found and what would have been right.
//!
//! Absent on purpose: what is done about it. After a [`PeerFrameError`] the link is out of step and
//! is closed; after a [`PeerDecodeError`] it is not, but its sender is not to be trusted.

use super::frame::PEER_HEAD_BYTES;
use crate::ids::{LogIndex, Offset, Term};
use thiserror::Error;

/// Bytes that are no frame, or a frame that may not be here. The link cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PeerFrameError {
    /// Too short for CRC, kind and the reserved bytes.
    #[error("peer frame length {found} found, {} is the least", PEER_HEAD_BYTES - 4)]
    TooShort {
        /// What was there.
        found: usize,
    },
    /// Above the limit of any frame, or of its kind.
    #[error("peer frame length {found} is above the limit of {bytes_max} bytes")]
    TooLong {
        /// What was there.
        found: usize,
        /// The limit: of the kind where it had come, else of the largest kind.
        bytes_max: usize,
    },
    /// Reserved bytes that are set: no version that this build speaks does that.
    #[error("reserved bytes {found:?} found in a peer frame, expected zeros")]
    Reserved {
        /// What was there.
        found: [u8; 3],
    },
    /// A kind that may not come at this point of the link.
    #[error("peer frame of kind {found} found, expected {expected}")]
    OutOfPlace {
        /// The kind's number.
        found: u8,
        /// What may come here.
        expected: &'static str,
    },
    /// The checksum does not match.
    #[error("peer frame CRC is {found:#010x}, computed {computed:#010x}")]
    Crc {
        /// What was there.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
}

/// A whole frame, its checksum right, whose body is no message of its kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{message}, field {field}, byte {position}: {fault}")]
pub struct PeerDecodeError {
    /// The message, by its Rust name.
    pub message: &'static str,
    /// The field.
    pub field: &'static str,
    /// Bytes of the body that had been read.
    pub position: usize,
    /// What was wrong there.
    pub fault: PeerFault,
}

/// A message that no frame can carry: a fault of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{message}, field {field}: {fault}")]
pub struct PeerEncodeError {
    /// The message, by its Rust name.
    pub message: &'static str,
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub fault: PeerFault,
}

/// What is wrong with one field.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PeerFault {
    /// The message ends inside the field.
    #[error("{expected} bytes expected, {found} are left")]
    Truncated {
        /// Bytes that the field needs.
        expected: usize,
        /// Bytes that are left.
        found: usize,
    },
    /// More bytes than the field may have.
    #[error("{found} bytes found, at most {bytes_max} allowed")]
    TooLong {
        /// Bytes that it has, or claims.
        found: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// More elements than the list may have.
    #[error("{found} elements found, at most {elements_max} allowed")]
    TooMany {
        /// Elements that it has, or claims.
        found: usize,
        /// The limit.
        elements_max: usize,
    },
    /// A list that claims more elements than the bytes behind it can hold.
    #[error("{found} elements found, at most {elements_max} fit the rest of the message")]
    Count {
        /// What was there.
        found: usize,
        /// What fits: bytes left, divided by the shortest element.
        elements_max: usize,
    },
    /// Text that is no UTF-8.
    #[error("invalid UTF-8 behind {valid_bytes} valid bytes")]
    Utf8 {
        /// Bytes before the first invalid one.
        valid_bytes: usize,
    },
    /// A value outside of its range.
    #[error("{found} found, {expected} expected")]
    Value {
        /// What was there.
        found: u64,
        /// What may be there.
        expected: &'static str,
    },
    /// An entry that does not follow the one before (`I-LOG-1`).
    #[error("index {found} found, {expected} expected behind the entry before")]
    Index {
        /// Its index.
        found: LogIndex,
        /// The index that it must have.
        expected: LogIndex,
    },
    /// An entry whose term is below the entry before (`I-LOG-1`).
    #[error("term {found} found, {term_min} or more expected behind the entry before")]
    TermFell {
        /// Its term.
        found: Term,
        /// Term of the entry before.
        term_min: Term,
    },
    /// An entry of a term that its sender has not reached.
    #[error("term {found} found, at most {term_max}, the sender's own, expected")]
    TermAbove {
        /// Its term.
        found: Term,
        /// The message's term.
        term_max: Term,
    },
    /// An entry whose offset does not follow from the entries before (`I-LOG-2`).
    #[error("base offset {found} found, {expected} expected behind the entry before")]
    Offset {
        /// Its base offset.
        found: Offset,
        /// The base offset that it must have.
        expected: Offset,
    },
    /// A record batch that does not carry its entry's base offset and term.
    #[error("batch of an entry with base offset {base_offset} and term {term} is not stamped so")]
    Unstamped {
        /// The entry's base offset.
        base_offset: Offset,
        /// The entry's term.
        term: Term,
    },
}
