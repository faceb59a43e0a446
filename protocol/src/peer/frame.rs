//! The frame around every message, and cutting a link's bytes into frames.
//!
//! ```text
//!    0        4        8      9            12
//!    +--------+--------+------+------------+-------------------------------+
//!    | length | crc    | kind | reserved   | body                          |
//!    | u32    | u32    | u8   | 3 zeros    |                               |
//!    +--------+--------+------+------------+-------------------------------+
//!    little-endian; the length counts what lies behind it, the CRC-32 (IEEE) covers what lies
//!    behind it
//! ```
//!
//! Invariants
//! - Nothing of a body is waited for before its length has been held against its kind's limit.
//! - Before the `Hello` or its answer has come, no other frame is taken.
//!
//! Absent on purpose: reading from a socket, and how long a half frame may take.

use super::error::PeerFrameError;
use crate::limits::{
    PEER_ANSWER_BYTES_MAX, PEER_HELLO_BYTES_MAX, PEER_LEADERSHIPS_BYTES_MAX,
    PEER_LIVENESS_BYTES_MAX, PEER_RAFT_BATCH_BYTES_MAX, PEER_REQUEST_BYTES_MAX,
    PEER_SNAPSHOT_CHUNK_FRAME_BYTES_MAX, PEER_UNKNOWN_BYTES_MAX,
};
use bytes::{Buf, Bytes, BytesMut};

/// Bytes in front of a frame's body.
pub const PEER_HEAD_BYTES: usize = 12;

/// Bytes of the length field.
const LENGTH_BYTES: usize = 4;

/// Least length: CRC, kind and reserved bytes.
const LENGTH_MIN: usize = PEER_HEAD_BYTES - LENGTH_BYTES;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum PeerKind {
    /// The dialler's first frame.
    Hello = 1,
    /// The only frame that the acceptor sends back.
    HelloAnswer = 2,
    /// Raft messages of one turn.
    RaftBatch = 3,
    /// A piece of a snapshot's state.
    SnapshotChunk = 4,
    /// The sender lives.
    Liveness = 5,
    /// A request; its answer comes on the other link.
    Request = 6,
    /// The answer to a request that came on the other link.
    Answer = 7,
    /// What the sender leads.
    Leaderships = 8,
}

impl PeerKind {
    /// All kinds of this version.
    pub const ALL: [Self; 8] = [
        Self::Hello,
        Self::HelloAnswer,
        Self::RaftBatch,
        Self::SnapshotChunk,
        Self::Liveness,
        Self::Request,
        Self::Answer,
        Self::Leaderships,
    ];

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The kind with this number; `None` for those of later versions.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::HelloAnswer,
            3 => Self::RaftBatch,
            4 => Self::SnapshotChunk,
            5 => Self::Liveness,
            6 => Self::Request,
            7 => Self::Answer,
            8 => Self::Leaderships,
            _ => return None,
        })
    }

    /// Its name, that of the Rust type or variant.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "Hello",
            Self::HelloAnswer => "HelloAnswer",
            Self::RaftBatch => "RaftBatch",
            Self::SnapshotChunk => "SnapshotChunk",
            Self::Liveness => "Liveness",
            Self::Request => "Request",
            Self::Answer => "Answer",
            Self::Leaderships => "Leaderships",
        }
    }

    /// Limit of its frames, in bytes behind the length field.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Hello | Self::HelloAnswer => PEER_HELLO_BYTES_MAX,
            Self::RaftBatch => PEER_RAFT_BATCH_BYTES_MAX,
            Self::SnapshotChunk => PEER_SNAPSHOT_CHUNK_FRAME_BYTES_MAX,
            Self::Liveness => PEER_LIVENESS_BYTES_MAX,
            Self::Request => PEER_REQUEST_BYTES_MAX,
            Self::Answer => PEER_ANSWER_BYTES_MAX,
            Self::Leaderships => PEER_LEADERSHIPS_BYTES_MAX,
        }
    }
}

/// A whole frame, its checksum verified, whose body has not been looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerFrame {
    /// Number of its kind, which may be a later version's.
    pub kind: u8,
    /// The message: a slice of what was fed.
    pub body: Bytes,
}

/// What has been fed so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Split {
    /// A whole frame; no copy.
    Frame(PeerFrame),
    /// The start of a frame.
    Incomplete {
        /// Bytes that are missing, of the head or of what it announces. At most the kind's limit,
        /// so room for them may be made.
        missing_bytes: usize,
    },
}

/// Which end of a link receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkEnd {
    /// Receives a `Hello`, and then every kind but that one and its answer.
    Acceptor,
    /// Receives the `HelloAnswer`, and nothing behind it.
    Dialler,
}

/// Cuts the bytes that one end of a link receives into frames.
///
/// After an error the link is closed: what follows cannot be found. Asked again, it says the same.
#[derive(Debug)]
pub struct PeerFrames {
    buffer: BytesMut,
    end: LinkEnd,
    is_greeted: bool,
}

impl PeerFrames {
    /// At the beginning of a link.
    #[must_use]
    pub fn new(end: LinkEnd) -> Self {
        Self { buffer: BytesMut::new(), end, is_greeted: false }
    }

    /// Appends what has arrived. Not copied where nothing else waits and nobody else holds it.
    pub fn feed(&mut self, bytes: impl Into<BytesMut>) {
        self.buffer.unsplit(bytes.into());
    }

    /// Where a socket may read to, behind what waits. Nothing may be taken out of it.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Bytes that wait for the rest of their frame, or to be taken.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the next frame, if all of it is there. Cost: a CRC over it.
    ///
    /// # Errors
    /// [`PeerFrameError`], as soon as the bytes that show it are there; nothing is taken.
    pub fn take_frame(&mut self) -> Result<Split, PeerFrameError> {
        let waiting = self.buffer.len();
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else {
            return Ok(incomplete(PEER_HEAD_BYTES, waiting));
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length < LENGTH_MIN {
            return Err(PeerFrameError::TooShort { found: length });
        }
        within(length, PEER_RAFT_BATCH_BYTES_MAX)?;
        let Some(head) = self.buffer.first_chunk::<PEER_HEAD_BYTES>() else {
            return Ok(incomplete(PEER_HEAD_BYTES, waiting));
        };
        let [_, _, _, _, crc @ .., kind, first, second, third] = *head;
        if [first, second, third] != [0; 3] {
            return Err(PeerFrameError::Reserved { found: [first, second, third] });
        }
        let known = PeerKind::from_number(kind);
        self.check_place(kind, known)?;
        within(length, known.map_or(PEER_UNKNOWN_BYTES_MAX, PeerKind::bytes_max))?;
        let frame_bytes = LENGTH_BYTES.saturating_add(length);
        if waiting < frame_bytes {
            return Ok(incomplete(frame_bytes, waiting));
        }
        let checked = self.buffer.get(2 * LENGTH_BYTES..frame_bytes).unwrap_or_default();
        let (found, computed) = (u32::from_le_bytes(crc), crc32fast::hash(checked));
        if found != computed {
            return Err(PeerFrameError::Crc { found, computed });
        }
        self.is_greeted = true;
        self.buffer.advance(PEER_HEAD_BYTES);
        let body = self.buffer.split_to(frame_bytes.saturating_sub(PEER_HEAD_BYTES)).freeze();
        Ok(Split::Frame(PeerFrame { kind, body }))
    }

    const fn check_place(&self, found: u8, known: Option<PeerKind>) -> Result<(), PeerFrameError> {
        let is_first = !self.is_greeted;
        let (fits, expected) = match (self.end, known) {
            (LinkEnd::Acceptor, Some(PeerKind::Hello)) => (is_first, "no second Hello"),
            (LinkEnd::Acceptor, _) if is_first => (false, "a Hello, kind 1, first"),
            (LinkEnd::Acceptor, Some(PeerKind::HelloAnswer)) => {
                (false, "no HelloAnswer from a dialler")
            }
            (LinkEnd::Acceptor, _) => (true, ""),
            (LinkEnd::Dialler, Some(PeerKind::HelloAnswer)) if is_first => (true, ""),
            (LinkEnd::Dialler, _) => (false, "one HelloAnswer, kind 2, and nothing behind it"),
        };
        if fits { Ok(()) } else { Err(PeerFrameError::OutOfPlace { found, expected }) }
    }
}

const fn incomplete(needed: usize, waiting: usize) -> Split {
    Split::Incomplete { missing_bytes: needed.saturating_sub(waiting) }
}

const fn within(found: usize, bytes_max: usize) -> Result<(), PeerFrameError> {
    if found > bytes_max { Err(PeerFrameError::TooLong { found, bytes_max }) } else { Ok(()) }
}
