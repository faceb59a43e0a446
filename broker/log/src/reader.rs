//! Reading a log: shared, and never through the writer.

use crate::work::LogStart;
use bateau_protocol::frame::FrameHeader;
use bateau_protocol::ids::{Incarnation, LogIndex, Offset};
use bateau_protocol::terms::TermTable;
use bytes::Bytes;
use std::sync::Arc;
use thiserror::Error;

/// A handle for reading one log. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<LogShared>,
}

#[derive(Debug)]
struct LogShared {
    incarnation: Incarnation,
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
    /// The log's birth id.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.shared.incarnation
    }

    /// What the log holds. Cost: a few atomic loads.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds { start: LogStart::BIRTH, last_index: LogIndex::ZERO, end_offset: Offset::ZERO }
    }

    /// Bytes of frames in all segments that still exist.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        0
    }

    /// The term table as of the last append. Cost: one reference count.
    #[must_use]
    pub fn terms(&self) -> Arc<TermTable> {
        Arc::default()
    }

    /// Closed segments, oldest first.
    #[must_use]
    pub fn sealed(&self) -> Vec<SealedSegment> {
        Vec::new()
    }

    /// Lends the committed record batches that start with the one holding `from` (which may begin
    /// before it, G29). Gap frames and Raft's own frames are passed over.
    ///
    /// - `from`: in `start..=end`. At or above `up_to` there is nothing to lend: empty, no error.
    /// - `up_to`: the high watermark, exclusive. Never more than what is committed (I-LOG-3).
    /// - `bytes_max`: limit in bytes. With `first_may_exceed` the first batch is lent even when it
    ///   is larger, so that a reader always makes progress (KIP-74).
    ///
    /// Cost: one index probe; no copy. The caller has made the range resident.
    pub fn read(
        &self,
        from: Offset,
        up_to: Offset,
        bytes_max: usize,
        first_may_exceed: bool,
    ) -> Result<ReadRange, ReadError> {
        let _ = (up_to, bytes_max, first_may_exceed);
        Ok(ReadRange { next_offset: from, ..ReadRange::default() })
    }

    /// Whether [`LogReader::read`] with these arguments would touch no page that is not in memory.
    /// Always true within the last 64 MiB that this process wrote.
    #[must_use]
    pub fn is_resident(&self, from: Offset, up_to: Offset, bytes_max: usize) -> bool {
        let _ = (from, up_to, bytes_max);
        true
    }

    /// Brings the range of such a read into memory. Blocks: for the read thread alone.
    ///
    /// Errors: [`ReadError::Damaged`] where the medium cannot be read.
    pub fn populate(&self, from: Offset, up_to: Offset, bytes_max: usize) -> Result<(), ReadError> {
        let _ = (from, up_to, bytes_max);
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
        let _ = (timestamp, from, up_to);
        Ok(None)
    }

    /// The first batch with the largest timestamp below `up_to`, by its header. May touch cold
    /// pages: for the read thread.
    pub fn max_timestamp(&self, up_to: Offset) -> Result<Option<TimestampCandidate>, ReadError> {
        let _ = up_to;
        Ok(None)
    }

    /// Frames of all kinds from index `from` to index `to`, both included, until `bytes_max` bytes
    /// of payload (the first one excepted); at or below `commit` lent, above it copied. For
    /// catch-up and replay; may touch cold pages.
    pub fn frames(
        &self,
        from: LogIndex,
        to: LogIndex,
        commit: LogIndex,
        bytes_max: usize,
    ) -> Result<Vec<StoredFrame>, ReadError> {
        let _ = (from, to, commit, bytes_max);
        Ok(Vec::new())
    }

    /// The trim that makes the frame holding `offset` the first one: the exact four values. At the
    /// log's end, a trim of everything.
    pub fn start_at(&self, offset: Offset) -> Result<LogStart, ReadError> {
        let _ = offset;
        Ok(LogStart::BIRTH)
    }
}
