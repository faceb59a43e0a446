//! The records of an uncompressed payload, borrowed from it.
//!
//! ```text
//!  length varint | attributes i8 | timestamp delta varlong | offset delta varint
//!  | key length varint, key | value length varint, value | header count varint, headers
//!  header: key length varint, key | value length varint, value          length -1 = null
//! ```
//!
//! Invariants
//! - Every slice lies inside the payload; a record's fields fill its length exactly.
//! - Headers keep their order and their duplicates; a header key is bytes, because producers put
//!   there what they like.
//!
//! Absent on purpose: decompression (give the payload that came out of it), and rules about
//! offsets: compaction leaves gaps, so only [`super::validate()`] asks for contiguous ones.

use super::error::{RecordError, RecordFault};
use super::header::{BatchHeader, TimestampType};
use super::varint::{read_i32, read_i64};

/// One record. Times and offsets are absolute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Position in the partition.
    pub offset: i64,
    /// Unix milliseconds; -1 where the producer gave none.
    pub timestamp: i64,
    /// `None` is null, which is not the empty key.
    pub key: Option<&'a [u8]>,
    /// `None` is null: a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Checked headers, read when asked for.
    pub headers: RecordHeaders<'a>,
}

/// One header of a record; its value may be null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordHeader<'a> {
    /// Mostly UTF-8, which nobody enforces.
    pub key: &'a [u8],
    /// `None` is null.
    pub value: Option<&'a [u8]>,
}

/// The headers of one record, in order, duplicates kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordHeaders<'a> {
    remaining: u32,
    bytes: &'a [u8],
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        // The walk that made this value has read the same bytes once: this cannot fail.
        read_header(&mut self.bytes).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let remaining = self.remaining as usize;
        (remaining, Some(remaining))
    }
}

impl ExactSizeIterator for RecordHeaders<'_> {}

/// A record with its deltas as they stand in the payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawRecord<'a> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: RecordHeaders<'a>,
}

/// Reads one record and moves the cursor behind it. The attributes byte has no meaning and is
/// skipped, as Kafka does.
#[inline]
pub(super) fn read_record<'a>(cursor: &mut &'a [u8]) -> Result<RawRecord<'a>, RecordFault> {
    let length = read_i32(cursor)?;
    let mut body = take(cursor, length)?;
    let (_attributes, rest) = body.split_first().ok_or(RecordFault::Truncated)?;
    body = rest;
    let timestamp_delta = read_i64(&mut body)?;
    let offset_delta = read_i32(&mut body)?;
    let key = read_nullable(&mut body)?;
    let value = read_nullable(&mut body)?;
    let count = read_i32(&mut body)?;
    let remaining = u32::try_from(count).map_err(|_| RecordFault::HeaderCount { found: count })?;
    let headers = RecordHeaders { remaining, bytes: body };
    // Every turn consumes two bytes or ends, so a lying count costs no more than the bytes do.
    for _ in 0..remaining {
        read_header(&mut body)?;
    }
    if body.is_empty() {
        Ok(RawRecord { timestamp_delta, offset_delta, key, value, headers })
    } else {
        Err(RecordFault::Unfilled { found: body.len() })
    }
}

fn read_header<'a>(cursor: &mut &'a [u8]) -> Result<RecordHeader<'a>, RecordFault> {
    let key = read_nullable(cursor)?.ok_or(RecordFault::HeaderKey)?;
    Ok(RecordHeader { key, value: read_nullable(cursor)? })
}

#[inline]
fn read_nullable<'a>(cursor: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordFault> {
    match read_i32(cursor)? {
        -1 => Ok(None),
        length => take(cursor, length).map(Some),
    }
}

#[inline]
fn take<'a>(cursor: &mut &'a [u8], length: i32) -> Result<&'a [u8], RecordFault> {
    let bytes = usize::try_from(length).map_err(|_| RecordFault::Length { found: length })?;
    let (taken, rest) = cursor.split_at_checked(bytes).ok_or(RecordFault::Truncated)?;
    *cursor = rest;
    Ok(taken)
}

/// Where a walk over the records of a batch is, without the bytes that it walks over.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    index: u32,
    remaining: u32,
    base_offset: i64,
    base_timestamp: i64,
    /// What every record shares under log append time.
    append_time: Option<i64>,
}

impl Walk {
    pub(super) fn new(header: &BatchHeader) -> Self {
        let append_time = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => None,
            TimestampType::LogAppendTime => Some(header.max_timestamp),
        };
        Self {
            index: 0,
            remaining: u32::try_from(header.record_count).unwrap_or(0),
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time,
        }
    }

    /// Records that the header counts and that were not read yet.
    #[cfg(feature = "compression")]
    pub(super) const fn remaining(&self) -> u32 {
        self.remaining
    }

    /// The next record of `rest`, which moves behind it, or to the end with an error.
    #[inline]
    pub(super) fn step<'a>(
        &mut self,
        rest: &mut &'a [u8],
    ) -> Option<Result<Record<'a>, RecordError>> {
        if self.remaining == 0 {
            let found = rest.len();
            return (found != 0).then(|| Err(self.fail(rest, RecordFault::Uncounted { found })));
        }
        let raw = match read_record(rest) {
            Ok(raw) => raw,
            Err(fault) => return Some(Err(self.fail(rest, fault))),
        };
        self.remaining -= 1;
        self.index = self.index.saturating_add(1);
        Some(Ok(Record {
            offset: self.base_offset.saturating_add(i64::from(raw.offset_delta)),
            timestamp: self
                .append_time
                .unwrap_or_else(|| absolute(self.base_timestamp, raw.timestamp_delta)),
            key: raw.key,
            value: raw.value,
            headers: raw.headers,
        }))
    }

    fn fail(&mut self, rest: &mut &[u8], fault: RecordFault) -> RecordError {
        self.remaining = 0;
        *rest = &[];
        RecordError { index: self.index, fault }
    }
}

/// Iterator over the records of one batch. Yields as many as the header counts and then, if bytes
/// are left, an error; ends after its first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    walk: Walk,
}

impl<'a> Records<'a> {
    /// Walks `payload`, the records of the batch that starts with `header`, decompressed.
    ///
    /// Cost: none; each step costs about 8 ns and no allocation.
    #[must_use]
    pub fn new(header: &BatchHeader, payload: &'a [u8]) -> Self {
        Self { rest: payload, walk: Walk::new(header) }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.walk.step(&mut self.rest)
    }
}

/// A record's time. Saturates, so that an absurd delta stays absurd instead of becoming plausible.
#[inline]
pub(super) const fn absolute(base_timestamp: i64, delta: i64) -> i64 {
    base_timestamp.saturating_add(delta)
}
