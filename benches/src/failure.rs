//! What can go wrong while measuring. A row with a failure has no figure.
//!
//! Absent on purpose: retries. A benchmark that had to try again measured something else.

use bateau_protocol::kafka::{DecodeError, EncodeError, ErrorCode};
use bateau_protocol::native::{FrameError, MessageError};
use bateau_protocol::record::{BatchError, BuildError};
use std::io;
use thiserror::Error;

/// Why there is no figure.
#[derive(Debug, Error)]
pub enum Failure {
    /// The system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The peer answered with an error code.
    #[error("{what}: answered with {code:?}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What the answer says.
        code: ErrorCode,
    },
    /// An answer that cannot be decoded.
    #[error("answer: {0}")]
    Decode(#[from] DecodeError),
    /// A frame of the native protocol that is no message.
    #[error("answer: {0}")]
    Message(#[from] MessageError),
    /// Bytes that are no frame of the native protocol.
    #[error("answer: {0}")]
    Frame(#[from] FrameError),
    /// A request that cannot be said.
    #[error("request: {0}")]
    Encode(#[from] EncodeError),
    /// Records that cannot be read.
    #[error("records: {0}")]
    Batch(#[from] BatchError),
    /// Records that cannot be made.
    #[error("records: {0}")]
    Build(#[from] BuildError),
    /// An answer that is not what was asked for.
    #[error("{what}: {found} found, {expected} expected")]
    Unexpected {
        /// What was looked at.
        what: String,
        /// What was there.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// A QUIC connection that could not be made, or that broke.
    #[error("{what}: {said}")]
    Quic {
        /// What was tried.
        what: String,
        /// What QUIC said.
        said: String,
    },
    /// A command that failed, or a process that did not become ready.
    #[error("{what}: {said}")]
    Process {
        /// What was run.
        what: String,
        /// What it said last.
        said: String,
    },
}

impl Failure {
    /// A [`Failure::Quic`] out of any of quinn's errors.
    pub fn quic(what: impl Into<String>, said: impl ToString) -> Self {
        Self::Quic { what: what.into(), said: said.to_string() }
    }

    /// An [`Failure::Unexpected`] out of anything that can be shown.
    pub fn unexpected(
        what: impl Into<String>,
        found: impl ToString,
        expected: impl ToString,
    ) -> Self {
        Self::Unexpected {
            what: what.into(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }
}

/// Says what was tried when the system refused.
pub trait Tried<T> {
    /// Names the attempt.
    ///
    /// # Errors
    /// [`Failure::Io`], where there was one.
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|source| Failure::Io { what: what(), source: source.into() })
    }
}

/// Turns an error code other than none into a failure.
///
/// # Errors
/// [`Failure::Refused`].
pub fn accepted(code: ErrorCode, what: impl FnOnce() -> String) -> Result<(), Failure> {
    match code {
        ErrorCode::NONE => Ok(()),
        code => Err(Failure::Refused { what: what(), code }),
    }
}
