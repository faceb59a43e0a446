//! Reading a log: shared, past the shard's inbox and never through the writer.
//!
//! ```text
//!   offset ─> segment list ─> sparse index ─> frame headers in the map ─> payloads, lent
//! ```
//!
//! Readers see the writer through atomics and an immutable segment list. A payload of an earlier
//! process is verified once, when it is first read.
//!
//! Invariants
//! - `I-LOG-3` Nothing at or above the commit is lent: [`LogReader::read`] stops at the high
//!   watermark that it is given, [`LogReader::frames`] copies what lies above the commit.
//! - No frame is skipped: where a segment ends, the next one goes on.
//!
//! Absent on purpose: waiting for records, and decoding them.

mod cursor;

use crate::bytes_io::{length, size};
use crate::index::NO_TIMESTAMP;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::shared::LogShared;
use crate::work::LogStart;
use bateau_protocol::frame::{FrameHeader, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, Offset};
use bateau_protocol::terms::TermTable;
use bytes::Bytes;
use cursor::Cursor;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use thiserror::Error;

/// A handle for reading one log. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(crate) shared: Arc<LogShared>,
}

/// What a log holds, as written here (flushed or not).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Where the log starts.
    pub start: LogStart,
    /// Index of the last frame written; `start.index - 1` for an empty log.
    pub last_index: LogIndex,
    /// Offset behind the last record written.
    pub end_offset: Offset,
}

/// Record batches, lent.
#[derive(Clone, Debug, Default)]
pub struct ReadRange {
    /// The stored bytes of each record batch, in offset order.
    pub batches: Vec<Bytes>,
    /// Their total size in bytes.
    pub bytes: usize,
    /// Where to read on: behind the last batch lent and the gaps after it, or `from`.
    pub next_offset: Offset,
}

/// A batch that may hold the record a timestamp look-up wants; its records have to be decoded.
#[derive(Clone, Debug)]
pub struct TimestampCandidate {
    /// The batch, lent.
    pub batch: Bytes,
    /// Its first offset.
    pub base_offset: Offset,
    /// Where to search on if its header lied.
    pub next_offset: Offset,
    /// Largest timestamp according to its header, in Unix milliseconds.
    pub timestamp_max: i64,
}

/// A stored frame.
#[derive(Clone, Debug)]
pub struct StoredFrame {
    /// Its header.
    pub header: FrameHeader,
    /// Its payload as stored: lent at or below the commit, a copy above it (I-LOG-3).
    pub payload: Bytes,
}

/// A closed segment, for retention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedSegment {
    /// Index of its first frame.
    pub first_index: LogIndex,
    /// Offset that its first frame carries.
    pub first_offset: Offset,
    /// The log's start if this segment and everything before it is trimmed away.
    pub next_start: LogStart,
    /// Bytes of frames in it.
    pub bytes: u64,
    /// Largest timestamp in its batch headers, in Unix milliseconds; `None` without records.
    pub timestamp_max: Option<i64>,
}

/// The segment that is being written, for the decision to close it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActiveSegment {
    /// Largest timestamp of its first index interval, in Unix milliseconds: about when its first
    /// records were written.
    pub timestamp_first: i64,
    /// Largest timestamp in its batch headers, in Unix milliseconds.
    pub timestamp_max: i64,
}

/// Why a read failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    /// The offset is not in the log.
    #[error("offset {from} is outside of {start}..={end}")]
    OutOfRange {
        /// What was asked for.
        from: Offset,
        /// Where the log starts.
        start: Offset,
        /// Where it ends.
        end: Offset,
    },
    /// The index is not in the log.
    #[error("index {from} is outside of {first}..={last}")]
    IndexOutOfRange {
        /// What was asked for.
        from: LogIndex,
        /// First index that is still there.
        first: LogIndex,
        /// Last index.
        last: LogIndex,
    },
    /// Stored bytes fail their checksum, or the medium cannot be read.
    #[error("log {incarnation:?} is damaged in segment {segment} at byte {position}: {message}")]
    Damaged {
        /// The log.
        incarnation: Incarnation,
        /// First index of the segment.
        segment: LogIndex,
        /// Where in the segment file, in bytes.
        position: u64,
        /// What is wrong there.
        message: String,
    },
}

impl LogReader {
    pub(crate) fn new(shared: Arc<LogShared>) -> Self {
        Self { shared }
    }

    /// The log's birth id.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// What the log holds. Cost: a few atomic loads.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            start: self.shared.start(),
            last_index: self.shared.last_index(),
            end_offset: self.shared.end_offset(),
        }
    }

    /// Bytes of frames in all segments that still exist.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        let segments = self.shared.segments();
        segments.iter().map(|segment| segment.end() - SEGMENT_HEADER_BYTES).sum()
    }

    /// The term table as of the last append. Cost: one reference count.
    #[must_use]
    pub fn terms(&self) -> Arc<TermTable> {
        self.shared.terms()
    }

    /// Closed segments, oldest first.
    #[must_use]
    pub fn sealed(&self) -> Vec<SealedSegment> {
        let segments = self.shared.segments();
        let closed = segments.windows(2).map(|pair| {
            let (segment, next) = (&pair[0], &pair[1].header);
            let timestamp = segment.index().timestamp_max();
            SealedSegment {
                first_index: segment.base_index(),
                first_offset: segment.header.base_offset,
                next_start: LogStart {
                    offset: next.base_offset,
                    index: next.base_index,
                    term: next.previous_term,
                    chain_crc: next.previous_crc,
                },
                bytes: segment.end() - SEGMENT_HEADER_BYTES,
                timestamp_max: (timestamp != NO_TIMESTAMP).then_some(timestamp),
            }
        });
        closed.collect()
    }

    /// The segment that is being written; `None` while it holds no record.
    #[must_use]
    pub fn active(&self) -> Option<ActiveSegment> {
        let segments = self.shared.segments();
        let index = segments.last()?.index();
        let timestamp_max = index.timestamp_max();
        let later = index.entries().iter().skip(1).map(|entry| entry.timestamp_before);
        let timestamp_first = later.chain([timestamp_max]).find(|found| *found != NO_TIMESTAMP)?;
        Some(ActiveSegment { timestamp_first, timestamp_max })
    }

    /// Lends the committed record batches that start with the one holding `from` (which may begin
    /// before it, G29). Gap frames and Raft's own frames are passed over: an offset within a gap
    /// reads on with the next record.
    ///
    /// - `from`: in `start..=end`. At or above `up_to` there is nothing to lend: empty, no error.
    /// - `up_to`: the high watermark, exclusive. Never more than what is committed (I-LOG-3).
    /// - `bytes_max`: limit in bytes. With `first_may_exceed` the first batch is lent even when it
    ///   is larger, so that a reader always makes progress (KIP-74).
    ///
    /// Errors: [`ReadError::OutOfRange`] with the valid range; [`ReadError::Damaged`] where the
    /// log has a hole or a checksum does not match.
    /// Cost: one index probe; no copy. The caller has made the range resident.
    pub fn read(
        &self,
        from: Offset,
        up_to: Offset,
        bytes_max: usize,
        first_may_exceed: bool,
    ) -> Result<ReadRange, ReadError> {
        let limit = self.check_range(from, up_to)?;
        let mut range = ReadRange { next_offset: from, ..ReadRange::default() };
        if from >= limit {
            return Ok(range);
        }
        let mut cursor = Cursor::at_offset(&self.shared, from);
        let read = Self::lend(&mut cursor, &mut range, from, limit, (bytes_max, first_may_exceed));
        cursor.finish();
        // What lies before damage is good: the damage is met by whoever asks from there on.
        match read {
            Err(error) if range.batches.is_empty() => Err(error),
            _ => Ok(range),
        }
    }

    fn lend(
        cursor: &mut Cursor<'_>,
        range: &mut ReadRange,
        from: Offset,
        limit: Offset,
        (bytes_max, first_may_exceed): (usize, bool),
    ) -> Result<(), ReadError> {
        while cursor.next_offset() < limit {
            let Some(header) = cursor.header()? else { break };
            let (_, end) = header.next_coordinates();
            if end > from && header.kind == FrameKind::Records {
                let bytes = cursor.payload_bytes(&header);
                let first = range.batches.is_empty() && first_may_exceed;
                if end > limit || (range.bytes + bytes > bytes_max && !first) {
                    break;
                }
                range.batches.push(cursor.payload(&header)?);
                range.bytes += bytes;
            }
            cursor.advance(&header);
            range.next_offset = range.next_offset.max(end.min(limit));
        }
        Ok(())
    }

    /// Whether [`LogReader::read`] with these arguments would touch no page that is not in memory.
    /// Always true within the last 64 MiB that this process wrote.
    #[must_use]
    pub fn is_resident(&self, from: Offset, up_to: Offset, bytes_max: usize) -> bool {
        let Ok(limit) = self.check_range(from, up_to) else { return true };
        if from >= limit {
            return true;
        }
        let written = self.shared.node.written.load(Ordering::Relaxed);
        let mut cursor = Cursor::at_offset(&self.shared, from);
        let mut wanted = length(bytes_max) + cursor.floor_slack();
        loop {
            let Some((segment, position)) = cursor.place() else { return true };
            if segment.is_hot(position, written) {
                return true;
            }
            let bytes = wanted.min(segment.end() - position);
            if !segment.map.is_resident(position, size(bytes)) {
                return false;
            }
            wanted -= bytes;
            if wanted == 0 || !cursor.next_segment(limit) {
                break;
            }
        }
        // A first batch larger than the limit is lent all the same.
        match self.first_batch(from, limit) {
            Ok(Some((segment, position, bytes))) => segment.map.is_resident(position, bytes),
            _ => true,
        }
    }

    /// Brings the range of such a read into memory. Blocks: for the read thread alone.
    ///
    /// Errors: [`ReadError::Damaged`] where the medium cannot be read.
    pub fn populate(&self, from: Offset, up_to: Offset, bytes_max: usize) -> Result<(), ReadError> {
        let limit = self.check_range(from, up_to)?;
        if from >= limit {
            return Ok(());
        }
        let mut cursor = Cursor::at_offset(&self.shared, from);
        let mut wanted = length(bytes_max) + cursor.floor_slack();
        while let Some((segment, position)) = cursor.place() {
            let bytes = wanted.min(segment.end() - position);
            cursor.populate(position, size(bytes))?;
            wanted -= bytes;
            if wanted == 0 || !cursor.next_segment(limit) {
                break;
            }
        }
        if let Some((segment, position, bytes)) = self.first_batch(from, limit)? {
            segment.map.populate(position, bytes).map_err(|error| ReadError::Damaged {
                incarnation: self.shared.incarnation,
                segment: segment.base_index(),
                position,
                message: error.to_string(),
            })?;
        }
        Ok(())
    }

    /// The first batch at or behind `from` and below `up_to` whose header claims a timestamp of at
    /// least `timestamp` (Unix milliseconds). The caller decodes it, and asks again from
    /// `next_offset` where the header lied. May touch cold pages: for the read thread.
    pub fn locate_timestamp(
        &self,
        timestamp: i64,
        from: Offset,
        up_to: Offset,
    ) -> Result<Option<TimestampCandidate>, ReadError> {
        let limit = self.check_range(from, up_to)?;
        if from >= limit {
            return Ok(None);
        }
        let mut cursor = Cursor::at_offset(&self.shared, from);
        cursor.skip_to_timestamp(timestamp);
        while cursor.next_offset() < limit {
            let Some(header) = cursor.header()? else { break };
            let (_, next_offset) = header.next_coordinates();
            if next_offset > from && header.kind == FrameKind::Records {
                let timestamp_max = cursor.timestamp(&header);
                if timestamp_max >= timestamp {
                    let batch = cursor.payload(&header)?;
                    let base_offset = header.base_offset;
                    return Ok(Some(TimestampCandidate {
                        batch,
                        base_offset,
                        next_offset,
                        timestamp_max,
                    }));
                }
            }
            if cursor.advance(&header) {
                cursor.skip_to_timestamp(timestamp);
            }
        }
        Ok(None)
    }

    /// The first batch with the largest timestamp below `up_to`, by its header. May touch cold
    /// pages: for the read thread.
    pub fn max_timestamp(&self, up_to: Offset) -> Result<Option<TimestampCandidate>, ReadError> {
        let start = self.shared.start().offset;
        let limit = self.check_range(start, up_to)?;
        let mut best = NO_TIMESTAMP;
        for segment in self.shared.segments().iter() {
            if segment.header.base_offset >= limit {
                break;
            }
            // What the index says of frames before its last entry below the limit, and the rest
            // by walking.
            let last = Offset::new(limit.get().saturating_sub(1));
            let floor = segment.index().floor_offset(last);
            best = best.max(floor.map_or(NO_TIMESTAMP, |entry| entry.timestamp_before));
            let mut cursor = Cursor::in_segment(&self.shared, segment.base_index(), floor);
            while cursor.next_offset() < limit {
                let Some(header) = cursor.header()? else { break };
                if header.next_coordinates().1 > start {
                    best = best.max(cursor.timestamp(&header));
                }
                if cursor.advance(&header) {
                    break;
                }
            }
        }
        if best == NO_TIMESTAMP {
            return Ok(None);
        }
        // Frames that a trim cut off within the first segment may have had a larger one: then the
        // look-up finds nothing and the rest is searched plainly.
        match self.locate_timestamp(best, start, up_to)? {
            None => self.max_timestamp_plainly(start, up_to),
            found => Ok(found),
        }
    }

    fn max_timestamp_plainly(
        &self,
        start: Offset,
        up_to: Offset,
    ) -> Result<Option<TimestampCandidate>, ReadError> {
        let mut best: Option<TimestampCandidate> = None;
        let mut from = start;
        while let Some(found) = self.locate_timestamp(NO_TIMESTAMP, from, up_to)? {
            from = found.next_offset;
            if best.as_ref().is_none_or(|best| best.timestamp_max < found.timestamp_max) {
                best = Some(found);
            }
        }
        Ok(best)
    }

    /// Frames of all kinds from index `from` to index `to`, both included, until `bytes_max` bytes
    /// of payload (the first one excepted); at or below `commit` lent, above it copied. For
    /// catch-up and replay; brings in what is cold, so it blocks.
    ///
    /// Errors: [`ReadError::IndexOutOfRange`], [`ReadError::Damaged`].
    pub fn frames(
        &self,
        from: LogIndex,
        to: LogIndex,
        commit: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<StoredFrame>, ReadError> {
        let last = self.shared.last_index();
        let segments = self.shared.segments();
        let first = segments.first().map_or(last.next(), |segment| segment.base_index());
        let mut frames = Vec::new();
        if from > to || from == last.next() {
            return Ok(frames);
        }
        if from < first || from > last {
            return Err(ReadError::IndexOutOfRange { from, first, last });
        }
        let mut bytes = 0;
        let mut cursor = Cursor::at_index(&self.shared, from, commit).bringing_in();
        while cursor.next_index() <= to.min(last) {
            let Some(header) = cursor.header()? else { break };
            if header.index >= from {
                bytes += cursor.payload_bytes(&header);
                if bytes > bytes_max && !frames.is_empty() {
                    break;
                }
                let payload = cursor.payload(&header)?;
                frames.push(StoredFrame { header, payload });
            }
            cursor.advance(&header);
        }
        cursor.finish();
        Ok(frames)
    }

    /// The trim that makes `offset` the log's start and the frame that holds it the first one: the
    /// exact four values. At the log's end, a trim of everything. May touch cold pages.
    pub fn start_at(&self, offset: Offset) -> Result<LogStart, ReadError> {
        let end = self.shared.end_offset();
        self.check_range(offset, end)?;
        let terms = self.shared.terms();
        let mut cursor = Cursor::copying_at_offset(&self.shared, offset);
        let mut before = None;
        while let Some(header) = cursor.header()? {
            if header.next_coordinates().1 > offset {
                before = Some((header.index, header.previous_crc));
                break;
            }
            cursor.advance(&header);
            before = Some((header.index.next(), header.chain_crc()));
        }
        let Some((index, chain_crc)) = before else { return Ok(self.shared.start()) };
        let start = self.shared.start();
        if index <= start.index {
            return Ok(LogStart { offset: offset.max(start.offset), ..start });
        }
        let term = terms.term_at(index.previous()).unwrap_or(start.term);
        Ok(LogStart { offset, index, term, chain_crc })
    }

    /// Checks `from` against the log; returns where a read must stop.
    fn check_range(&self, from: Offset, up_to: Offset) -> Result<Offset, ReadError> {
        let (start, end) = (self.shared.start().offset, self.shared.end_offset());
        if from >= end
            && let Some(hole) = self.shared.hole()
        {
            return Err(ReadError::Damaged {
                incarnation: self.shared.incarnation,
                segment: hole.segment,
                position: hole.position,
                message: hole.reason,
            });
        }
        if from < start || from > end {
            return Err(ReadError::OutOfRange { from, start, end });
        }
        Ok(up_to.min(end))
    }

    /// Segment, position and bytes of the first record batch that holds `from` or lies behind it.
    fn first_batch(
        &self,
        from: Offset,
        limit: Offset,
    ) -> Result<Option<(Arc<Segment>, u64, usize)>, ReadError> {
        let mut cursor = Cursor::at_offset(&self.shared, from);
        while cursor.next_offset() < limit {
            let Some(header) = cursor.header()? else { break };
            if header.next_coordinates().1 > from && header.kind == FrameKind::Records {
                let frame_bytes = size(header.frame_bytes());
                return Ok(cursor
                    .place()
                    .map(|(segment, at)| (Arc::clone(segment), at, frame_bytes)));
            }
            cursor.advance(&header);
        }
        Ok(None)
    }
}
