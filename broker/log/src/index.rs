//! The sparse index of one segment, by offset, by index and by time.
//!
//! One entry per index interval: where a frame starts, and the largest timestamp of everything in
//! the segment before it. A look-up finds the entry at or before what it wants and walks frame
//! headers from there. It is a cache: rebuilt from frames where its checkpoint is stale, and never
//! on the commit path.
//!
//! Absent on purpose: files (see `side`), and entries across segments.

use bateau_protocol::frame::{FrameHeader, FrameKind};
use bateau_protocol::ids::{LogIndex, Offset};

/// Stands for "no timestamp yet" in a running maximum; no record of a client has it.
pub(crate) const NO_TIMESTAMP: i64 = i64::MIN;

/// Entries that a closed segment keeps in memory: a 1 GiB segment then has one per 128 KiB.
pub(crate) const SEALED_ENTRIES_MAX: usize = 8192;

/// Where a batch header keeps its largest timestamp.
const TIMESTAMP_MAX_AT: std::ops::Range<usize> = 35..43;

/// Bytes of a payload that [`payload_timestamp`] looks at.
pub(crate) const TIMESTAMP_PREFIX_BYTES: usize = TIMESTAMP_MAX_AT.end;

/// The largest timestamp that a payload's batch header claims; [`NO_TIMESTAMP`] without one.
pub(crate) fn payload_timestamp(kind: FrameKind, payload: &[u8]) -> i64 {
    if kind != FrameKind::Records {
        return NO_TIMESTAMP;
    }
    let field = payload.get(TIMESTAMP_MAX_AT).and_then(|field| field.first_chunk::<8>());
    field.map_or(NO_TIMESTAMP, |field| i64::from_be_bytes(*field))
}

/// Where one frame starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    pub(crate) offset: Offset,
    pub(crate) index: LogIndex,
    pub(crate) position: u64,
    /// Largest timestamp of the frames before, in this segment.
    pub(crate) timestamp_before: i64,
}

/// The entries of one segment, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SparseIndex {
    entries: Vec<IndexEntry>,
    interval_bytes: u64,
    timestamp_max: i64,
}

impl SparseIndex {
    pub(crate) fn new(interval_bytes: u32) -> Self {
        let interval_bytes = u64::from(interval_bytes.max(1));
        Self { entries: Vec::new(), interval_bytes, timestamp_max: NO_TIMESTAMP }
    }

    /// An index from its checkpoint.
    pub(crate) fn from_parts(entries: Vec<IndexEntry>, timestamp_max: i64) -> Self {
        Self { entries, interval_bytes: u64::MAX, timestamp_max }
    }

    /// Goes on with another interval: an index from its checkpoint has none.
    pub(crate) fn set_interval(&mut self, interval_bytes: u32) {
        self.interval_bytes = u64::from(interval_bytes.max(1));
    }

    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Largest timestamp of all frames noted.
    pub(crate) fn timestamp_max(&self) -> i64 {
        self.timestamp_max
    }

    /// Notes a frame. Frames arrive in order.
    pub(crate) fn note(&mut self, header: &FrameHeader, position: u64, timestamp: i64) {
        let due = self
            .entries
            .last()
            .is_none_or(|last| position.saturating_sub(last.position) >= self.interval_bytes);
        if due {
            self.entries.push(IndexEntry {
                offset: header.base_offset,
                index: header.index,
                position,
                timestamp_before: self.timestamp_max,
            });
        }
        self.timestamp_max = self.timestamp_max.max(timestamp);
    }

    /// Where a walk for the frame that holds `offset` starts: every frame before the entry ends at
    /// or before `offset`.
    pub(crate) fn floor_offset(&self, offset: Offset) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.offset < offset);
        let exact = self.entries.get(after).filter(|entry| entry.offset == offset);
        let before = after.checked_sub(1).and_then(|at| self.entries.get(at));
        exact.or(before).copied()
    }

    /// The last entry at or before `index`.
    pub(crate) fn floor_index(&self, index: LogIndex) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.index <= index);
        after.checked_sub(1).and_then(|at| self.entries.get(at)).copied()
    }

    /// The first entry behind `position`.
    pub(crate) fn next_position(&self, position: u64) -> Option<u64> {
        let after = self.entries.partition_point(|entry| entry.position <= position);
        self.entries.get(after).map(|entry| entry.position)
    }

    /// Where a walk for the first frame with a timestamp of at least `timestamp` may start: every
    /// frame before it has a smaller one.
    pub(crate) fn floor_timestamp(&self, timestamp: i64) -> Option<IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.timestamp_before < timestamp);
        after.checked_sub(1).and_then(|at| self.entries.get(at)).copied()
    }

    /// Forgets entries at or behind `index`. The running maximum becomes that before the last
    /// entry left, so the caller notes again the frames from that entry on.
    pub(crate) fn truncate_from(&mut self, index: LogIndex) -> Option<IndexEntry> {
        let keep = self.entries.partition_point(|entry| entry.index < index);
        self.entries.truncate(keep);
        let last = self.entries.pop();
        self.timestamp_max = last.map_or(NO_TIMESTAMP, |last| last.timestamp_before);
        last
    }

    /// Halves the entries until at most `entries_max` are left.
    pub(crate) fn thin(&mut self, entries_max: usize) {
        while self.entries.len() > entries_max.max(1) {
            let mut at = 0;
            self.entries.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
        self.entries.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::ids::{FlushSequence, Incarnation, Term};

    fn header(index: u64, offset: u64, record_count: u32) -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Records,
            term: Term::new(1),
            index: LogIndex::new(index),
            base_offset: Offset::new(offset),
            record_count,
            payload_bytes: 36,
            payload_crc: 0,
            previous_crc: 0,
            incarnation: Incarnation::new(9),
            flush_sequence: FlushSequence::new(1),
        }
    }

    fn index() -> SparseIndex {
        let mut index = SparseIndex::new(200);
        for frame in 0..10_u64 {
            let timestamp = if frame == 4 { 1000 } else { i64::try_from(frame).unwrap() };
            index.note(&header(frame + 1, frame * 5, 5), 4096 + frame * 100, timestamp);
        }
        index
    }

    #[test]
    fn a_look_up_starts_at_or_before_what_it_wants() {
        let index = index();
        assert_eq!(index.entries().len(), 5);
        assert_eq!(index.floor_offset(Offset::new(14)).unwrap().offset, Offset::new(10));
        assert_eq!(index.floor_offset(Offset::new(10)).unwrap().offset, Offset::new(10));
        assert_eq!(index.floor_index(LogIndex::new(4)).unwrap().index, LogIndex::new(3));
        assert_eq!(index.floor_index(LogIndex::ZERO), None);
        assert_eq!(index.next_position(4096), Some(4296));
        assert_eq!(index.next_position(4896), None);
    }

    #[test]
    fn a_time_look_up_starts_before_the_first_batch_that_is_late_enough() {
        let index = index();
        assert_eq!(index.timestamp_max(), 1000);
        assert_eq!(index.floor_timestamp(1000).unwrap().index, LogIndex::new(5));
        assert_eq!(index.floor_timestamp(3).unwrap().index, LogIndex::new(3));
        assert_eq!(index.floor_timestamp(2000).unwrap().index, LogIndex::new(9));
    }

    #[test]
    fn truncation_takes_the_running_maximum_back() {
        let mut index = index();
        let from = index.truncate_from(LogIndex::new(5)).unwrap();
        assert_eq!(from.index, LogIndex::new(3));
        index.note(&header(3, 10, 5), 4296, 2);
        index.note(&header(4, 15, 5), 4396, 3);
        assert_eq!(index.timestamp_max(), 3);
        assert_eq!(index.entries().len(), 2);
    }

    #[test]
    fn a_thin_index_still_finds_everything() {
        let mut index = index();
        index.thin(2);
        assert_eq!(index.entries().len(), 2);
        assert_eq!(index.floor_index(LogIndex::new(10)).unwrap().index, LogIndex::new(9));
        assert_eq!(index.floor_index(LogIndex::new(8)).unwrap().index, LogIndex::new(1));
    }
}
