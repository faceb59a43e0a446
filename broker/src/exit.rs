//! How the process ends: the exit codes that scripts rely on, and the one line that says why.
//!
//! Absent on purpose: a code per cause. A script acts on seven; people and tools read the line.

use std::fmt;
use std::process::ExitCode;

/// Exit codes of every command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Not found, or held by another process (a locked data directory, a port that is taken).
    NotFoundOrHeld = 3,
    /// Refused: the data directory of another cluster, node or newer format.
    Refused = 4,
    /// Timed out.
    TimedOut = 5,
    /// Unreachable.
    Unreachable = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A command that did not end well: what stderr says and the code that the process ends with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// One line without a full stop; several only where several things are wrong.
    pub message: String,
}

impl Failure {
    /// A failure with its line.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
