//! Side files: a second copy of each frame header of a segment, and, once the segment is closed,
//! the checkpoint of its index and terms.
//!
//! ```text
//!   0               64                 4096        + 80          + 160              checkpoint
//!   ┌───────────────┬──────────────────┬───────────┬─────────── ─ ─ ────────────────┬─────────
//!   │ header, 28 B  │ pointer, 28 B    │ entry 0   │ entry 1                        │
//!   └───────────────┴──────────────────┴───────────┴─────────── ─ ─ ────────────────┴─────────
//! ```
//!
//! An entry is written only after the flush of its frame returned: a valid one proves that the
//! frame was durable once. It is also the quickest way to an index after a crash.
//!
//! Absent on purpose: any place in a commit cycle's flush.

use crate::bytes_io::{Fields, PutFields, length, size};
use crate::disk::DiskFile;
use crate::index::{IndexEntry, SparseIndex};
use crate::tail::Tail;
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FrameHeader};
use bateau_protocol::ids::{Incarnation, LogIndex, Offset, Term};
use bateau_protocol::terms::TermStart;
use std::io;

/// Format of side files that this build reads and writes.
pub const SIDE_VERSION: u32 = 1;

/// Bytes of one entry: header, timestamp, CRC of both, zero.
pub(crate) const ENTRY_BYTES: u64 = 80;

/// Where the entries start.
pub(crate) const ENTRIES_AT: u64 = 4096;

const POINTER_AT: u64 = 64;
const POINTER_BYTES: usize = 28;
const HEADER_BYTES: usize = 28;
const MAGIC: u32 = 0x4449_5342;
const CHECKPOINT_MAGIC: u32 = 0x504B_4342;

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SideEntry {
    pub(crate) header: FrameHeader,
    /// Largest timestamp of the frame; [`crate::index::NO_TIMESTAMP`] without one.
    pub(crate) timestamp: i64,
}

impl SideEntry {
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        into.extend_from_slice(&self.header.encode());
        into.put_i64(self.timestamp);
        let crc = crc32fast::hash(&into[start..]);
        into.put_u32(crc);
        into.put_u32(0);
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let header = FrameHeader::decode(bytes.first_chunk::<FRAME_HEADER_BYTES>()?).ok()?;
        let computed = crc32fast::hash(bytes.get(..FRAME_HEADER_BYTES + 8)?);
        let mut fields = Fields(bytes.get(FRAME_HEADER_BYTES..)?);
        let timestamp = fields.i64()?;
        (fields.u32()? == computed).then_some(Self { header, timestamp })
    }
}

/// The first bytes of a side file.
pub(crate) fn encode_header(incarnation: Incarnation, base_index: LogIndex) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.put_u32(MAGIC);
    bytes.put_u32(SIDE_VERSION);
    bytes.put_u64(incarnation.get());
    bytes.put_u64(base_index.get());
    let crc = crc32fast::hash(&bytes);
    bytes.put_u32(crc);
    bytes
}

/// Where entry number `slot` starts.
pub(crate) fn entry_position(slot: u64) -> u64 {
    ENTRIES_AT + slot * ENTRY_BYTES
}

/// What a closed segment's checkpoint holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Checkpoint {
    /// The segment's last frame.
    pub(crate) tail: Tail,
    /// Terms that start in the segment.
    pub(crate) terms: Vec<TermStart>,
    pub(crate) index: SparseIndex,
}

impl Checkpoint {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(CHECKPOINT_MAGIC);
        self.tail.encode(&mut bytes);
        bytes.put_i64(self.index.timestamp_max());
        bytes.put_u64(length(self.terms.len()));
        for term in &self.terms {
            bytes.put_u64(term.term.get());
            bytes.put_u64(term.first_index.get());
            bytes.put_u64(term.first_offset.get());
        }
        bytes.put_u64(length(self.index.entries().len()));
        for entry in self.index.entries() {
            bytes.put_u64(entry.offset.get());
            bytes.put_u64(entry.index.get());
            bytes.put_u64(entry.position);
            bytes.put_i64(entry.timestamp_before);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        if fields.u32()? != CHECKPOINT_MAGIC {
            return None;
        }
        let tail = Tail::decode(&mut fields)?;
        let timestamp_max = fields.i64()?;
        let mut terms = Vec::new();
        for _ in 0..fields.u64()? {
            terms.push(TermStart {
                term: Term::new(fields.u64()?),
                first_index: LogIndex::new(fields.u64()?),
                first_offset: Offset::new(fields.u64()?),
            });
        }
        let mut entries = Vec::new();
        for _ in 0..fields.u64()? {
            entries.push(IndexEntry {
                offset: Offset::new(fields.u64()?),
                index: LogIndex::new(fields.u64()?),
                position: fields.u64()?,
                timestamp_before: fields.i64()?,
            });
        }
        Some(Self { tail, terms, index: SparseIndex::from_parts(entries, timestamp_max) })
    }
}

/// Writes the checkpoint behind `slots` entries, and the pointer to it. Not flushed.
pub(crate) fn write_checkpoint(
    file: &dyn DiskFile,
    slots: u64,
    checkpoint: &Checkpoint,
) -> io::Result<()> {
    let bytes = checkpoint.encode();
    let position = entry_position(slots);
    file.write_at(position, &[&bytes])?;
    let mut pointer = Vec::with_capacity(POINTER_BYTES);
    pointer.put_u64(position);
    pointer.put_u64(length(bytes.len()));
    pointer.put_u32(crc32fast::hash(&bytes));
    pointer.put_u32(0);
    let crc = crc32fast::hash(&pointer);
    pointer.put_u32(crc);
    file.write_at(POINTER_AT, &[&pointer])
}

/// The checkpoint of a side file, if it has a whole one. Errors: none; a cache may be missing.
pub(crate) fn read_checkpoint(file: &dyn DiskFile) -> Option<Checkpoint> {
    let mut pointer = [0; POINTER_BYTES];
    file.read_at(POINTER_AT, &mut pointer).ok()?;
    let mut fields = Fields(&pointer);
    let (position, bytes) = (fields.u64()?, fields.u64()?);
    let (crc, zero, pointer_crc) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let intact = pointer_crc == crc32fast::hash(pointer.get(..POINTER_BYTES - 4)?) && zero == 0;
    if !intact || position.checked_add(bytes)? > file.bytes().ok()? {
        return None;
    }
    let mut buffer = vec![0; size(bytes)];
    file.read_at(position, &mut buffer).ok()?;
    if crc32fast::hash(&buffer) != crc { None } else { Checkpoint::decode(&buffer) }
}

/// All bytes of a side file's entry area, as long as the header is this segment's own; empty
/// otherwise.
pub(crate) fn read_entries(
    file: &dyn DiskFile,
    incarnation: Incarnation,
    base_index: LogIndex,
) -> io::Result<Vec<u8>> {
    let bytes = file.bytes()?;
    let mut header = [0; HEADER_BYTES];
    if bytes < ENTRIES_AT {
        return Ok(Vec::new());
    }
    file.read_at(0, &mut header)?;
    if header.as_slice() != encode_header(incarnation, base_index) {
        return Ok(Vec::new());
    }
    let mut entries = vec![0; size(bytes - ENTRIES_AT)];
    file.read_at(ENTRIES_AT, &mut entries)?;
    Ok(entries)
}
