//! Segment files: their names, sizes and header, and the part of them that readers share.
//!
//! ```text
//!   0                    4096                                    end              capacity
//!   ┌────────────────────┬───────┬───────┬─── ─ ─ ───┬───────────┬──────────────────┐
//!   │ header, 56 bytes   │ frame │ frame │           │ frame     │ zeros, old bytes │
//!   └────────────────────┴───────┴───────┴─── ─ ─ ───┴───────────┴──────────────────┘
//! ```
//!
//! Invariants
//! - `I-LOG-3` What lies behind `end`, and everything above the commit, is never lent as a slice
//!   of the map.
//! - A segment is allocated in full before its first frame, and never shortened while mapped.
//! - Behind the last frame comes a zeroed header place; behind that, in a recycled file, whatever
//!   the file held before. Every frame of it has a flush sequence at or below the birth sequence.
//!
//! Absent on purpose: where the files come from and go (`writer::segments`, `recycle`).

use crate::bytes_io::{Fields, PutFields, from_hex, hex, length, size};
use crate::disk::{DiskFile, FileMap};
use crate::index::SparseIndex;
use crate::work::SEGMENT_BYTES_MIN;
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FrameHeader};
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, Offset, Term};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Where the first frame of a segment starts, in bytes.
pub const SEGMENT_HEADER_BYTES: u64 = 4096;

/// Format of segment files that this build reads and writes.
pub const SEGMENT_VERSION: u32 = 1;

const MAGIC: u32 = 0x4745_5342;
const CHECKED_BYTES: usize = 52;

/// Bytes that this process wrote last, node-wide, of which no residency is asked (D6).
pub(crate) const HOT_BYTES: u64 = 64 * 1024 * 1024;
const HOT_MARK_BYTES: u64 = 1024 * 1024;

/// What a segment file says about itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// Birth id of the partition.
    pub incarnation: Incarnation,
    /// Index of the first frame.
    pub base_index: LogIndex,
    /// Offset that the first frame carries.
    pub base_offset: Offset,
    /// Term of the frame before.
    pub previous_term: Term,
    /// Last flush before the file was used: frames at or below it are not the file's own.
    pub birth_flush_sequence: FlushSequence,
    /// Chain CRC of the frame before.
    pub previous_crc: u32,
}

impl SegmentHeader {
    /// The header's place in the file, whole.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size(SEGMENT_HEADER_BYTES));
        bytes.put_u32(MAGIC);
        bytes.put_u32(SEGMENT_VERSION);
        bytes.put_u64(self.incarnation.get());
        bytes.put_u64(self.base_index.get());
        bytes.put_u64(self.base_offset.get());
        bytes.put_u64(self.previous_term.get());
        bytes.put_u64(self.birth_flush_sequence.get());
        bytes.put_u32(self.previous_crc);
        let crc = crc32fast::hash(&bytes);
        bytes.put_u32(crc);
        bytes.resize(size(SEGMENT_HEADER_BYTES), 0);
        bytes
    }

    /// Decodes and verifies a header. Errors: what is wrong, in words.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let short = || "the segment header is cut short".to_owned();
        let mut fields = Fields(bytes);
        let magic = fields.u32().ok_or_else(short)?;
        if magic != MAGIC {
            return Err(format!("segment magic is {magic:#010x}, expected {MAGIC:#010x}"));
        }
        let computed = bytes.get(..CHECKED_BYTES).map(crc32fast::hash);
        let mut decode = || {
            let version = fields.u32()?;
            let header = Self {
                incarnation: Incarnation::new(fields.u64()?),
                base_index: LogIndex::new(fields.u64()?),
                base_offset: Offset::new(fields.u64()?),
                previous_term: Term::new(fields.u64()?),
                birth_flush_sequence: FlushSequence::new(fields.u64()?),
                previous_crc: fields.u32()?,
            };
            Some((version, header, fields.u32()?))
        };
        let (version, header, crc) = decode().ok_or_else(short)?;
        if computed != Some(crc) {
            return Err(format!("segment header CRC is {crc:#010x}, computed {computed:#010x?}"));
        }
        if version != SEGMENT_VERSION {
            return Err(format!(
                "segment version is {version}, this build reads {SEGMENT_VERSION}"
            ));
        }
        Ok(header)
    }
}

/// Directory of one log.
pub(crate) fn log_dir(incarnation: Incarnation) -> String {
    format!("partitions/{}", hex(incarnation.get()))
}

/// A segment's file name.
pub(crate) fn segment_name(base_index: LogIndex) -> String {
    format!("{}.log", hex(base_index.get()))
}

/// Its side file's name.
pub(crate) fn side_name(base_index: LogIndex) -> String {
    format!("{}.side", hex(base_index.get()))
}

/// The base index that a segment's or side file's name stands for.
pub(crate) fn parse_name(name: &str, suffix: &str) -> Option<LogIndex> {
    name.strip_suffix(suffix).and_then(from_hex).map(LogIndex::new)
}

/// Size of the segment after one of `capacity` bytes: four times as large up to 16 MiB, then
/// twice, up to `segment_bytes`; and always with room for a frame of `frame_bytes` and the empty
/// header place behind it.
pub(crate) fn next_capacity(capacity: Option<u64>, segment_bytes: u32, frame_bytes: u64) -> u64 {
    const QUICK_MAX: u64 = 16 * 1024 * 1024;
    let grown = match capacity {
        None => u64::from(SEGMENT_BYTES_MIN),
        Some(capacity) if capacity < QUICK_MAX => (capacity * 4).min(QUICK_MAX),
        Some(capacity) => capacity.saturating_mul(2),
    };
    let needed = SEGMENT_HEADER_BYTES + frame_bytes + length(FRAME_HEADER_BYTES);
    let wanted = grown.min(u64::from(segment_bytes.max(SEGMENT_BYTES_MIN)));
    wanted.max(needed.next_multiple_of(4096))
}

/// Size of the segment behind one that was closed early, when so many bytes of it were used: the
/// first of those that segments grow to that holds twice as much. What closes often stays small.
pub(crate) fn capacity_behind(used: u64, segment_bytes: u32, frame_bytes: u64) -> u64 {
    let grow = |capacity| next_capacity(capacity, segment_bytes, frame_bytes);
    let mut capacity = grow(None);
    while capacity < used.saturating_mul(2) && grow(Some(capacity)) > capacity {
        capacity = grow(Some(capacity));
    }
    capacity
}

/// One segment, shared between its writer and the readers.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    /// Path of the file in the data directory, as of now.
    path: RwLock<String>,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) map: Box<dyn FileMap>,
    pub(crate) capacity: u64,
    /// Bytes at the front of the file that were written and flushed before it became this segment.
    settled_bytes: u64,
    /// End of the frames that recovery found; 0 in a segment of this process.
    found_end: u64,
    /// Published end of the frames: stored with release after the write, loaded with acquire.
    end: AtomicU64,
    index: RwLock<SparseIndex>,
    hot: RwLock<Vec<HotMark>>,
    /// Frames that start before this were written by an earlier process and not walked by this
    /// one: their payloads are verified once, when they are first read.
    unverified_below: u64,
    verified: Vec<AtomicU64>,
}

/// How much this node had written when a segment grew past a position.
#[derive(Clone, Copy, Debug)]
struct HotMark {
    position: u64,
    written: u64,
}

const VERIFIED_BLOCK_BYTES: u64 = 4096;

impl Segment {
    pub(crate) fn new(
        header: SegmentHeader,
        path: String,
        file: Arc<dyn DiskFile>,
        map: Box<dyn FileMap>,
        capacity: u64,
        index: SparseIndex,
    ) -> Self {
        Self {
            header,
            path: RwLock::new(path),
            file,
            map,
            capacity,
            settled_bytes: 0,
            found_end: 0,
            end: AtomicU64::new(SEGMENT_HEADER_BYTES),
            index: RwLock::new(index),
            hot: RwLock::default(),
            unverified_below: 0,
            verified: Vec::new(),
        }
    }

    /// A segment that recovery found, with frames up to `end`, those before `unverified_below` not
    /// yet verified.
    pub(crate) fn recovered(mut self, end: u64, unverified_below: u64) -> Self {
        self.end = AtomicU64::new(end);
        self.found_end = end;
        self.unverified_below = unverified_below;
        let words = unverified_below.div_ceil(VERIFIED_BLOCK_BYTES * 64);
        self.verified = (0..words).map(|_| AtomicU64::new(0)).collect();
        self
    }

    /// A segment on a file of which so many bytes were written and flushed before.
    pub(crate) fn on_settled(mut self, settled_bytes: u64) -> Self {
        self.settled_bytes = settled_bytes;
        self
    }

    /// Whether a write that ends at `end` changes nothing but bytes that were flushed before the
    /// file became this segment.
    pub(crate) fn overwrites(&self, end: u64) -> bool {
        end <= self.settled_bytes
    }

    /// Bytes at the front of the file that have been written and flushed once all frames of this
    /// segment have been: those of an earlier life, or those of this one. An append writes an empty
    /// header place behind its frames.
    pub(crate) fn settled_bytes(&self) -> u64 {
        let end = self.end();
        let behind = if end > self.found_end { length(FRAME_HEADER_BYTES) } else { 0 };
        self.settled_bytes.max(end + behind)
    }

    pub(crate) fn base_index(&self) -> LogIndex {
        self.header.base_index
    }

    /// Whether anybody else has the segment, or bytes of it. Once nobody has, and no list of
    /// segments names it, nobody will.
    pub(crate) fn is_lent(this: &Arc<Self>) -> bool {
        let is_lent = Arc::strong_count(this) > 1 || this.map.is_lent();
        // What others read of it happened before what is done with the file now.
        fence(Ordering::Acquire);
        is_lent
    }

    pub(crate) fn path(&self) -> String {
        self.path.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_path(&self, path: String) {
        *self.path.write().unwrap_or_else(PoisonError::into_inner) = path;
    }

    /// End of the published frames, in bytes.
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn publish_end(&self, end: u64) {
        assert!(end <= self.capacity, "I-LOG-3: {end} bytes in a segment of {}", self.capacity);
        self.end.store(end, Ordering::Release);
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, SparseIndex> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, SparseIndex> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the node has written `written` bytes when this segment was at `position`.
    pub(crate) fn note_written(&self, position: u64, written: u64) {
        let mut marks = self.hot.write().unwrap_or_else(PoisonError::into_inner);
        // A truncated tail is written again.
        while marks.last().is_some_and(|last| last.position > position) {
            marks.pop();
        }
        if marks.last().is_none_or(|last| position - last.position >= HOT_MARK_BYTES) {
            marks.push(HotMark { position, written });
        }
    }

    /// Whether what starts at `position` is among the last bytes that this node wrote, of which it
    /// has written `written` by now.
    pub(crate) fn is_hot(&self, position: u64, written: u64) -> bool {
        let marks = self.hot.read().unwrap_or_else(PoisonError::into_inner);
        let after = marks.partition_point(|mark| mark.position <= position);
        after
            .checked_sub(1)
            .and_then(|at| marks.get(at))
            .is_some_and(|mark| written.saturating_sub(mark.written) <= HOT_BYTES)
    }

    /// Whether a payload must be verified before the frame at `position` is lent.
    pub(crate) fn needs_verification(&self, position: u64) -> bool {
        if position >= self.unverified_below {
            return false;
        }
        let (word, bit) = Self::verified_bit(position);
        self.verified.get(word).is_none_or(|word| word.load(Ordering::Relaxed) & bit == 0)
    }

    /// Notes that every frame that starts in `from..to` has been verified.
    pub(crate) fn set_verified(&self, from: u64, to: u64) {
        let first = from.div_ceil(VERIFIED_BLOCK_BYTES);
        let last = to.min(self.unverified_below) / VERIFIED_BLOCK_BYTES;
        for block in first..last {
            let (word, bit) = Self::verified_bit(block * VERIFIED_BLOCK_BYTES);
            if let Some(word) = self.verified.get(word) {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    fn verified_bit(position: u64) -> (usize, u64) {
        let block = position / VERIFIED_BLOCK_BYTES;
        (size(block / 64), 1 << (block % 64))
    }

    /// The header of the published frame at `position`, through the map: below the commit alone.
    pub(crate) fn header_at(&self, position: u64) -> Result<FrameHeader, String> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        self.map.copy(position, &mut bytes).map_err(|error| error.to_string())?;
        let header = FrameHeader::decode(&bytes).map_err(|error| error.to_string())?;
        self.check(&header, position)?;
        Ok(header)
    }

    /// The same by a copy from the file: for frames that may still change.
    pub(crate) fn header_copied(&self, position: u64) -> Result<FrameHeader, String> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        self.file.read_at(position, &mut bytes).map_err(|error| error.to_string())?;
        let header = FrameHeader::decode(&bytes).map_err(|error| error.to_string())?;
        self.check(&header, position)?;
        Ok(header)
    }

    fn check(&self, header: &FrameHeader, position: u64) -> Result<(), String> {
        if header.incarnation != self.header.incarnation {
            return Err(format!("a frame of another log, {:?}", header.incarnation));
        }
        if position + header.frame_bytes() > self.capacity {
            return Err(format!("a frame that ends behind the segment's {} bytes", self.capacity));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            incarnation: Incarnation::new(0xABCD),
            base_index: LogIndex::new(77),
            base_offset: Offset::new(1000),
            previous_term: Term::new(4),
            birth_flush_sequence: FlushSequence::new(12),
            previous_crc: 0x1234_5678,
        }
    }

    #[test]
    fn a_header_survives_the_round_trip_and_fills_its_place() {
        let bytes = header().encode();
        assert_eq!(bytes.len(), 4096);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header()));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let good = header().encode();
        for bit in 0..56 * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bad).is_err(), "bit {bit}");
        }
        for cut in 0..56 {
            assert!(SegmentHeader::decode(&good[..cut]).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn segments_grow_quickly_and_then_double() {
        let sizes: Vec<u64> =
            std::iter::successors(Some(next_capacity(None, 1 << 30, 100)), |at| {
                Some(next_capacity(Some(*at), 1 << 30, 100))
            })
            .take(13)
            .map(|bytes| bytes / 1024)
            .collect();
        let mib = 1024;
        assert_eq!(sizes[..6], [16, 64, 256, mib, 4 * mib, 16 * mib]);
        assert_eq!(sizes[6..], [32, 64, 128, 256, 512, 1024, 1024].map(|size| size * mib));
    }

    #[test]
    fn behind_a_segment_that_was_closed_early_comes_one_for_twice_as_much() {
        let behind = |used: u64| capacity_behind(used, 1 << 30, 100);
        assert_eq!(behind(5_000), 16 * 1024);
        assert_eq!(behind(8 * 1024 + 1), 64 * 1024);
        assert_eq!(behind(3 * 1024 * 1024), 16 * 1024 * 1024);
        assert_eq!(behind(1 << 40), 1 << 30);
        assert_eq!(capacity_behind(5_000, 1 << 30, 1 << 20), (1 << 20) + 4096 + 4096);
    }

    #[test]
    fn a_segment_holds_at_least_one_frame() {
        assert_eq!(next_capacity(None, 1 << 30, 1 << 20), (1 << 20) + 4096 + 4096);
        assert_eq!(next_capacity(Some(16 * 1024), 20 * 1024, 100), 20 * 1024);
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(parse_name(&segment_name(LogIndex::new(255)), ".log"), Some(LogIndex::new(255)));
        assert_eq!(parse_name("00000000000000FF.log", ".log"), None);
        assert_eq!(parse_name("ff.log", ".log"), None);
        assert_eq!(parse_name("next", ".log"), None);
    }
}
