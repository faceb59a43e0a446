//! Our own protocol: frames on long-lived QUIC streams, and one description per message.
//!
//! ```text
//!   connection ─┬─ control   Hello ─> Welcome; metadata, groups, administration
//!               ├─ data      OpenStream; Produce        up to 8, a partition stays on one
//!               └─ bulk      OpenStream; Fetch, Subscribe, Credit     up to 6
//!
//!   stream ─> Frame::split ─> Request::decode        Reply::encode ─> Chain ─> stream
//! ```
//!
//! The byte form is on its page, `docs/formats/native.md`. Bodies are structures of
//! [`crate::wire`] in their flexible form, at the version that `Hello` and `Welcome` agreed on.
//!
//! Invariants
//! - A frame's length is checked before a byte of it is waited for.
//! - An unknown kind or a malformed body is answered by an error: the stream is not out of step.
//! - Decoders ignore bytes behind what they know.
//!
//! Absent on purpose: sockets, streams' flow control (QUIC's), and what a request means.

pub mod admin;
pub mod close;
pub mod cluster;
pub mod frame;
pub mod groups;
pub mod nodes;
pub mod records;
pub mod session;
mod table;
#[cfg(test)]
mod tests;

pub use admin::*;
pub use close::CloseCode;
pub use cluster::*;
pub use frame::{Frame, FrameError, Kind, Split};
pub use groups::*;
pub use nodes::*;
pub use records::*;
pub use session::*;
pub use table::{Call, MessageError, Reply, Request};

/// The protocol's name in the TLS handshake (RFC 7301). It names the framing, not the version.
pub const ALPN: &[u8] = b"bateau/1";

/// Lowest version of the protocol that this build speaks.
pub const VERSION_MIN: i16 = 1;

/// Highest version of the protocol that this build speaks.
pub const VERSION_MAX: i16 = 1;

/// The version in whose form `Hello` and its answer are, whatever is agreed on.
pub const VERSION_OF_HELLO: i16 = 1;

/// What a stream is for. Its first frame says so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StreamRole {
    /// The first stream: metadata, groups, administration.
    Control,
    /// Produces.
    Data,
    /// Fetches and subscriptions, whose reader may be slow.
    Bulk,
    /// Of a message that opens a stream of any role.
    Any,
}

impl StreamRole {
    /// Its number in `OpenStream`.
    #[must_use]
    pub const fn number(self) -> i8 {
        match self {
            Self::Control => 0,
            Self::Data => 1,
            Self::Bulk => 2,
            Self::Any => -1,
        }
    }

    /// The role that a stream may be opened with; `None` for any other number.
    #[must_use]
    pub const fn from_number(number: i8) -> Option<Self> {
        match number {
            1 => Some(Self::Data),
            2 => Some(Self::Bulk),
            _ => None,
        }
    }
}

/// The version that both sides speak, the highest; `None` when there is none.
#[must_use]
pub fn common_version(ours: (i16, i16), theirs: (i16, i16)) -> Option<i16> {
    let highest = ours.1.min(theirs.1);
    (highest >= ours.0.max(theirs.0)).then_some(highest)
}
