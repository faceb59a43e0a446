//! The protocol between brokers: checked frames on TCP, one small codec for every Raft message.
//!
//! ```text
//!   node 1 ──dials──> Hello ─> RaftBatch, SnapshotChunk, Liveness, Request, … ──> node 2
//!          <───────── HelloAnswer, once
//!   node 1 <──────────────── the same the other way, on a link that node 2 dials ───── node 2
//!
//!   PeerMessage::encode ─> Chain ─> link ─> PeerFrames ─> PeerFrame ─> PeerMessage::decode
//! ```
//!
//! Each link carries frames from its dialler to its acceptor; all that comes back on it is the
//! answer to the `Hello`. An answer to a request travels on the other link.
//!
//! The byte form is on its page, `docs/formats/peer.md`.
//!
//! Invariants
//! - A frame's length is checked against its kind's limit before a byte of its body is waited for.
//! - What is decoded has whole entries: indexes without gaps, terms that never fall, offsets that
//!   follow each other (`I-LOG-1`, `I-LOG-2`).
//! - Payloads of [`LENT_BYTES_MIN`] bytes and more are never copied, in neither direction.
//! - An unknown kind is skipped; decoders ignore bytes behind what they know.
//!
//! Absent on purpose: sockets, timers, who may send what to whom, and every rule of Raft that
//! needs a log. Raft's own protobuf form, and core's own commands, which travel as bytes here.

pub mod entry;
pub mod error;
pub mod frame;
pub mod hello;
pub mod leaderships;
pub mod liveness;
pub mod message;
pub mod raft;
mod reader;
pub mod rpc;
pub mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

pub use entry::{EntryStamp, PeerEntry};
pub use error::{PeerDecodeError, PeerEncodeError, PeerFault, PeerFrameError};
pub use frame::{LinkEnd, PEER_HEAD_BYTES, PeerFrame, PeerFrames, PeerKind, Split};
pub use hello::{Hello, HelloAnswer, Refusal, RefusalReason, VoterEntry, Welcome};
pub use leaderships::{Leadership, Leaderships};
pub use liveness::Liveness;
pub use message::PeerMessage;
pub use raft::{RaftBody, RaftMessage, Rejection};
pub use rpc::{Idempotency, PeerAnswer, PeerRequest};
pub use snapshot::{PeerLogStart, SnapshotChunk, SnapshotHead};
pub use writer::LENT_BYTES_MIN;

use crate::limits::PEER_TEXT_BYTES_MAX;
use crate::wire::Text;

/// Lowest version of the peer protocol that this build speaks.
pub const PEER_VERSION_MIN: u16 = 1;

/// Highest version of the peer protocol that this build speaks.
pub const PEER_VERSION_MAX: u16 = 1;

/// The highest version in both ranges, each (lowest, highest); `None` when there is none.
#[must_use]
pub fn common_peer_version(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}

/// Text for an operator, cut to what a refusal or a failed answer may carry (1,024 bytes).
#[must_use]
pub fn operator_text(text: &str) -> Text {
    let end = text.floor_char_boundary(PEER_TEXT_BYTES_MAX);
    Text::from(text.get(..end).unwrap_or_default().to_owned())
}
