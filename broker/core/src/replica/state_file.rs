//! The derived state as a file: when it is written, and what is in it (D9).
//!
//! ```text
//! version u16 | log start (28 bytes) | membership (length, payload) | derived state
//! ```
//!
//! Written every 16 MiB of applied payload, 30 s after the first entry that it lacks, and when a
//! segment is sealed; a state larger than that is rewritten only after as many bytes again, so
//! that writing it costs at most as much as the log itself.
//!
//! Absent on purpose: files. The log adds length, checksum and the applied index.

use super::Replica;
use super::derived::{Derived, DerivedStart};
use super::membership::Membership;
use super::trim::LogStart;
use crate::clock::Now;
use crate::codec::{DecodeError, Reader, Writer};
use bateau_protocol::ids::LogIndex;
use bytes::Bytes;

/// Applied payload bytes after which the state is written again.
const STATE_INTERVAL_BYTES: usize = 16 * 1024 * 1024;
/// Milliseconds after which applied entries are in a state file.
const STATE_INTERVAL_MS: u64 = 30_000;
const STATE_VERSION: u16 = 1;

/// When the next state file is due.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    applied_bytes: usize,
    /// Since when entries are applied that no file holds.
    dirty_since_ms: Option<u64>,
    has_rolled: bool,
    has_trimmed: bool,
    is_in_flight: bool,
    state_bytes: usize,
    stored: LogIndex,
    published: LogIndex,
}

impl Schedule {
    pub fn starting_at(stored: LogIndex, state_bytes: usize) -> Self {
        Self { stored, state_bytes, ..Self::default() }
    }

    pub fn note_applied(&mut self, payload_bytes: usize, now: Now) {
        self.applied_bytes += payload_bytes;
        self.dirty_since_ms.get_or_insert(now.monotonic_ms);
    }

    pub fn note_rolled(&mut self) {
        self.has_rolled = true;
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
        let Some(since_ms) = self.dirty_since_ms else { return false };
        let is_worth_it = self.applied_bytes >= STATE_INTERVAL_BYTES.max(self.state_bytes);
        let is_old = now.monotonic_ms.saturating_sub(since_ms) >= STATE_INTERVAL_MS
            && self.applied_bytes >= self.state_bytes / 8;
        !self.is_in_flight && (is_worth_it || is_old || self.has_rolled)
    }

    pub fn note_asked(&mut self, state_bytes: usize) {
        *self = Self {
            is_in_flight: true,
            state_bytes,
            stored: self.stored,
            published: self.published,
            has_trimmed: self.has_trimmed,
            ..Self::default()
        };
    }

    pub fn note_stored(&mut self, applied: LogIndex, is_stored: bool, now: Now) {
        self.is_in_flight = false;
        if is_stored {
            self.stored = self.stored.max(applied);
        } else {
            self.dirty_since_ms.get_or_insert(now.monotonic_ms);
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
        let mut reader = Reader::new(bytes);
        let version = reader.u16("state version")?;
        if version != STATE_VERSION {
            return Err(reader.invalid("state version", version.into(), "version 1"));
        }
        let log_start = LogStart::read(&mut reader)?;
        let membership = Membership::decode(reader.bytes("membership")?)?;
        let derived = Derived::decode(kind, reader.rest())?;
        Ok(Self { log_start, membership, derived })
    }
}

impl Replica {
    pub(super) fn encode_state(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u16(STATE_VERSION);
        self.log_start.write(&mut writer);
        writer.bytes(&self.membership.encode());
        self.derived.encode(self.applied, &mut writer);
        writer.into_bytes()
    }
}
