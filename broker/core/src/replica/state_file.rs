//! The derived state as a file: when it is written, and what is in it (D9).
//!
//! ```text
//! version u16 | log start (28 bytes) | membership (length, payload) | derived state
//! ```
//!
//! Written every 16 MiB of applied payload, 30 s after the first entry that it lacks, and when a
//! segment is sealed; a state larger than 16 MiB only after as many bytes again, and after 30 s
//! only when an eighth of its own size has come, so that writing it never costs much more than
//! the log itself. What the disk refuses is tried again half a minute later.
//!
//! Absent on purpose: files. The log adds length, checksum and the applied index.

use super::Replica;
use super::derived::{Derived, DerivedStart};
use super::membership::Membership;
use super::trim::LogStart;
use crate::clock::Now;
use crate::codec::{DecodeError, Reader, Writer};
use crate::controller::Metadata;
use bateau_protocol::ids::LogIndex;
use bytes::Bytes;

/// Applied payload bytes after which the state is written again.
const STATE_INTERVAL_BYTES: usize = 16 * 1024 * 1024;
/// Milliseconds after which applied entries are in a state file.
const STATE_INTERVAL_MS: u64 = 30_000;
/// Milliseconds until a state file is written again that the disk refused.
const STATE_RETRY_MS: u64 = 30_000;
const STATE_VERSION: u16 = 1;

/// When the next state file is due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// What no file holds that is durable or on its way.
    lacking: Lacking,
    /// What the file holds that is on its way.
    in_flight: Option<(Lacking, usize)>,
    not_before_ms: u64,
    has_trimmed: bool,
    state_bytes: usize,
    stored: LogIndex,
    published: LogIndex,
}

/// Applied entries that a file would hold.
#[derive(Clone, Copy, Debug, Default)]
struct Lacking {
    bytes: usize,
    since_ms: Option<u64>,
    /// Whether a segment was closed meanwhile.
    has_rolled: bool,
}

impl Schedule {
    pub fn starting_at(stored: LogIndex, state_bytes: usize) -> Self {
        Self { stored, state_bytes, ..Self::default() }
    }

    pub fn note_applied(&mut self, payload_bytes: usize, now: Now) {
        self.lacking.bytes += payload_bytes;
        self.lacking.since_ms.get_or_insert(now.monotonic_ms);
    }

    pub fn note_rolled(&mut self) {
        self.lacking.has_rolled |= self.in_flight.is_none();
    }

    pub fn note_trim(&mut self) {
        self.has_trimmed = true;
    }

    /// Whether a trim was applied since the last call.
    pub fn take_trim(&mut self) -> bool {
        std::mem::take(&mut self.has_trimmed)
    }

    /// Whether `commit` is news to the outside.
    pub fn moves_commit(&mut self, commit: LogIndex) -> bool {
        let moves = commit > self.published;
        self.published = self.published.max(commit);
        moves
    }

    pub fn is_due(&self, now: Now) -> bool {
        let Lacking { bytes, since_ms: Some(since_ms), has_rolled } = self.lacking else {
            return false;
        };
        let is_worth_it = bytes >= STATE_INTERVAL_BYTES.max(self.state_bytes);
        let is_old = now.monotonic_ms.saturating_sub(since_ms) >= STATE_INTERVAL_MS
            && bytes >= self.state_bytes / 8;
        let may_ask = self.in_flight.is_none() && now.monotonic_ms >= self.not_before_ms;
        may_ask && (is_worth_it || is_old || has_rolled)
    }

    pub fn note_asked(&mut self, state_bytes: usize) {
        self.in_flight = Some((std::mem::take(&mut self.lacking), state_bytes));
    }

    /// A file that was refused is lacking as if it had never been asked for, and waits a while.
    pub fn note_stored(&mut self, applied: LogIndex, is_stored: bool, now: Now) {
        let Some((held, state_bytes)) = self.in_flight.take() else { return };
        if is_stored {
            self.stored = self.stored.max(applied);
            self.state_bytes = state_bytes;
        } else {
            self.lacking.bytes += held.bytes;
            self.lacking.since_ms = held.since_ms.or(self.lacking.since_ms);
            self.lacking.has_rolled |= held.has_rolled;
            self.not_before_ms = now.monotonic_ms + STATE_RETRY_MS;
        }
    }

    /// Index that the newest durable file includes.
    pub fn stored(&self) -> LogIndex {
        self.stored
    }
}

/// What a state file holds.
pub(super) struct State {
    pub log_start: LogStart,
    pub membership: Membership,
    pub derived: Derived,
}

impl State {
    /// Errors: [`DecodeError`]; the file's checksum was fine, so the partition is not opened.
    pub fn decode(bytes: &[u8], kind: DerivedStart) -> Result<Self, DecodeError> {
        let (log_start, membership, reader) = parts(bytes)?;
        let derived = Derived::decode(kind, reader.rest())?;
        Ok(Self { log_start, membership, derived })
    }
}

/// The configuration in a state file.
pub(crate) fn stored_membership(bytes: &[u8]) -> Result<Membership, DecodeError> {
    let (_, membership, _) = parts(bytes)?;
    Ok(membership)
}

/// The metadata in a state file of its partition.
pub(crate) fn stored_metadata(bytes: &[u8]) -> Result<Metadata, DecodeError> {
    let (.., reader) = parts(bytes)?;
    let restored = Metadata::restore(reader.rest());
    restored.map_err(|error| DecodeError::because("metadata", error.to_string()))
}

/// What comes before the derived state, and the rest.
fn parts(bytes: &[u8]) -> Result<(LogStart, Membership, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u16("state version")?;
    if version != STATE_VERSION {
        return Err(reader.invalid("state version", version.into(), "version 1"));
    }
    let log_start = LogStart::read(&mut reader)?;
    let membership = Membership::decode(reader.bytes("membership")?)?;
    Ok((log_start, membership, reader))
}

impl Replica {
    pub(super) fn encode_state(&self) -> Bytes {
        let mut writer = Writer::default();
        Self::write_state(&mut writer, &self.log_start, &self.membership);
        self.derived.encode(self.applied, &mut writer);
        writer.into_bytes()
    }

    /// What comes before the derived state.
    pub(super) fn write_state(writer: &mut Writer, start: &LogStart, membership: &Membership) {
        writer.u16(STATE_VERSION);
        start.write(writer);
        writer.bytes(&membership.encode());
    }
}
