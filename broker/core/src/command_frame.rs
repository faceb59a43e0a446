//! The payload of a command frame (kind 6), in the metadata partition and in group partitions.
//!
//! ```text
//!   payload  = command+          (one or more, until the payload ends)
//!   command  = type u16 · version u16 · length u32 · body     little-endian
//! ```
//!
//! A new field means a new version of its command, written only once the cluster's feature level
//! allows it.
//!
//! Invariants
//! - A payload decodes as a whole or not at all; an unknown type or version is an error, because
//!   a replica that skipped it would no longer equal the others.
//!
//! Absent on purpose: which commands there are. Each state machine has its own types.

use crate::codec::{DecodeError, Reader, Writer};
use thiserror::Error;

/// The only version of every command so far.
const COMMAND_VERSION: u16 = 1;

/// Why a payload is no list of commands. The replica's state is no longer known: the caller stops
/// the partition.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum CommandError {
    /// No command at all.
    #[error("the payload holds no command, expected one or more")]
    Empty,
    /// A type that this build does not know: written by a newer one.
    #[error("command type {found} is not known to this build")]
    UnknownType {
        /// What was there.
        found: u16,
    },
    /// A version that this build does not know.
    #[error("command {command} has version {found}, this build reads {COMMAND_VERSION}")]
    UnknownVersion {
        /// The command's type.
        command: u16,
        /// What was there.
        found: u16,
    },
    /// A field does not decode.
    #[error("command {command}: {source}")]
    Field {
        /// The command's type, or 0 inside the command header.
        command: u16,
        /// What is wrong, and at which byte of the payload.
        source: DecodeError,
    },
}

/// Appends one command to a payload.
pub(crate) fn encode(writer: &mut Writer, command: u16, body: impl FnOnce(&mut Writer)) {
    writer.u16(command);
    writer.u16(COMMAND_VERSION);
    writer.nested(body);
}

/// Decodes a payload.
///
/// - `decode_body`: reads the fields of a command of the given type; `None` for an unknown type.
///
/// Errors: [`CommandError`]; nothing is returned of a payload that is wrong in part.
pub(crate) fn decode_all<C>(
    payload: &[u8],
    decode_body: impl Fn(u16, &mut Reader<'_>) -> Result<Option<C>, DecodeError>,
) -> Result<Vec<C>, CommandError> {
    let mut reader = Reader::new(payload);
    if reader.is_empty() {
        return Err(CommandError::Empty);
    }
    let mut commands = Vec::with_capacity(1);
    while !reader.is_empty() {
        let header = |source| CommandError::Field { command: 0, source };
        let command = reader.u16("command type").map_err(header)?;
        let version = reader.u16("command version").map_err(header)?;
        let mut body = reader.nested("command body").map_err(header)?;
        if version != COMMAND_VERSION {
            return Err(CommandError::UnknownVersion { command, found: version });
        }
        let field = |source| CommandError::Field { command, source };
        let decoded = decode_body(command, &mut body).map_err(field)?;
        commands.push(decoded.ok_or(CommandError::UnknownType { found: command })?);
        body.finish("command body").map_err(field)?;
    }
    Ok(commands)
}
