//! Makes batches: for producers, tests, tools, and the records that the broker itself writes.
//!
//! Absent on purpose: codecs without the feature `compression`. [`BatchBuilder::payload`] gives
//! what is to be compressed and [`BatchBuilder::build_compressed`] takes what came out.

use bytes::Bytes;

use super::header::{
    Attributes, BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, BatchHeader, Compression, NONE,
    TimestampType,
};
use super::varint::{write_i32, write_i64};
use crate::limits::BATCH_BYTES_MAX;

/// A record to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NewRecord<'a> {
    /// Unix milliseconds; -1 for none.
    pub timestamp: i64,
    /// `None` is null.
    pub key: Option<&'a [u8]>,
    /// `None` is null.
    pub value: Option<&'a [u8]>,
    /// Keys and nullable values, in order; duplicates are kept.
    pub headers: &'a [(&'a [u8], Option<&'a [u8]>)],
}

/// Why no batch could be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BuildError {
    /// Beyond [`BATCH_BYTES_MAX`]. The record that would not fit was not taken.
    #[error("batch would have {found} bytes, the limit is {BATCH_BYTES_MAX}")]
    TooLarge {
        /// Bytes that the batch would have.
        found: usize,
    },
    /// A batch without records is something that only compaction leaves behind.
    #[error("batch has no records, expected at least 1")]
    Empty,
}

/// Collects records and turns them into one batch with the right checksum.
///
/// A fresh builder makes what a plain producer sends: base offset 0, no producer id, create time.
/// The first record's timestamp is the base timestamp.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    payload: Vec<u8>,
    scratch: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch of a producer without an id.
    #[must_use]
    pub const fn new() -> Self {
        let header = BatchHeader {
            base_offset: 0,
            length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes::from_bits(0),
            last_offset_delta: -1,
            base_timestamp: NONE,
            max_timestamp: NONE,
            producer_id: NONE,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self { header, payload: Vec::new(), scratch: Vec::new() }
    }

    /// Offset of the first record, for batches as a log holds them.
    #[must_use]
    pub const fn base_offset(mut self, base_offset: i64) -> Self {
        self.header.base_offset = base_offset;
        self
    }

    /// The leader's epoch, for batches as a log holds them.
    #[must_use]
    pub const fn leader_epoch(mut self, leader_epoch: i32) -> Self {
        self.header.leader_epoch = leader_epoch;
        self
    }

    /// Makes it an idempotent producer's batch.
    #[must_use]
    pub const fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// Sets or clears the transactional bit.
    #[must_use]
    pub const fn transactional(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_transactional(on);
        self
    }

    /// Sets or clears the control bit.
    #[must_use]
    pub const fn control(mut self, on: bool) -> Self {
        self.header.attributes = self.header.attributes.with_control(on);
        self
    }

    /// Marks the batch with the broker's time `wall_ms` as all records' timestamp.
    #[must_use]
    pub const fn log_append_time(mut self, wall_ms: i64) -> Self {
        self.header.attributes =
            self.header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.header.max_timestamp = wall_ms;
        self
    }

    /// Adds a record; its offset is the next one.
    ///
    /// Errors: [`BuildError::TooLarge`]; the builder is as it was.
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<(), BuildError> {
        let header = &mut self.header;
        let index = header.record_count;
        let base = if index == 0 { record.timestamp } else { header.base_timestamp };
        let found = BATCH_HEADER_BYTES
            .saturating_add(self.payload.len())
            .saturating_add(record_bytes_max(record));
        if found > BATCH_BYTES_MAX {
            return Err(BuildError::TooLarge { found });
        }
        self.scratch.clear();
        // Attributes of a record: no bit has a meaning.
        self.scratch.push(0);
        write_i64(&mut self.scratch, record.timestamp.wrapping_sub(base));
        write_i32(&mut self.scratch, index);
        write_nullable(&mut self.scratch, record.key);
        write_nullable(&mut self.scratch, record.value);
        write_length(&mut self.scratch, record.headers.len());
        for (key, value) in record.headers {
            write_nullable(&mut self.scratch, Some(key));
            write_nullable(&mut self.scratch, *value);
        }
        write_length(&mut self.payload, self.scratch.len());
        self.payload.extend_from_slice(&self.scratch);
        header.base_timestamp = base;
        if header.attributes.timestamp_type() == TimestampType::CreateTime {
            header.max_timestamp = header.max_timestamp.max(record.timestamp);
        }
        header.last_offset_delta = index;
        header.record_count = index.saturating_add(1);
        Ok(())
    }

    /// Records so far.
    #[must_use]
    pub fn record_count(&self) -> u32 {
        u32::try_from(self.header.record_count).unwrap_or(0)
    }

    /// The records so far, uncompressed: what a codec is to be fed with.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The uncompressed batch.
    ///
    /// Errors: [`BuildError::Empty`].
    /// Cost: one copy of the records and one checksum pass.
    pub fn build(&self) -> Result<Bytes, BuildError> {
        self.build_compressed(Compression::None, &self.payload)
    }

    /// The batch with `payload` as what `compression` has made of [`BatchBuilder::payload`].
    /// Nothing compares the two, so that tests can lie.
    ///
    /// Errors: [`BuildError::Empty`], [`BuildError::TooLarge`].
    pub fn build_compressed(
        &self,
        compression: Compression,
        payload: &[u8],
    ) -> Result<Bytes, BuildError> {
        if self.header.record_count == 0 {
            return Err(BuildError::Empty);
        }
        let attributes = self.header.attributes.with_compression(compression);
        seal(&BatchHeader { attributes, ..self.header }, payload)
    }
}

#[cfg(feature = "compression")]
impl BatchBuilder {
    /// The batch compressed with `compression`, or plain where the codec makes it no smaller.
    /// Readers go by the batch's own attributes.
    ///
    /// Errors: [`BuildError::Empty`]. [`BuildError::TooLarge`] cannot come, because `push` has
    /// bounded the plain batch.
    /// Cost: that of [`super::compression::compress`], one copy and one checksum pass.
    pub fn build_with(&self, compression: Compression) -> Result<Bytes, BuildError> {
        let plain = &self.payload;
        // A codec without memory is no reason to lose a batch that can go as it is.
        let compressed = match compression {
            Compression::None => None,
            _ => super::compression::compress(compression, plain).ok(),
        };
        match compressed {
            Some(small) if small.len() < plain.len() => self.build_compressed(compression, &small),
            _ => self.build(),
        }
    }
}

/// The batch of this header and payload, with length and checksum as they must be and every other
/// field of the header as given.
///
/// Errors: [`BuildError::TooLarge`].
pub fn seal(header: &BatchHeader, payload: &[u8]) -> Result<Bytes, BuildError> {
    let found = BATCH_HEADER_BYTES.saturating_add(payload.len());
    let length = i32::try_from(found - BATCH_PREFIX_BYTES).ok();
    let Some(length) = length.filter(|_| found <= BATCH_BYTES_MAX) else {
        return Err(BuildError::TooLarge { found });
    };
    let mut header = BatchHeader { length, ..*header };
    header.crc = header.computed_crc(payload);
    let mut bytes = Vec::with_capacity(found);
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(payload);
    Ok(bytes.into())
}

/// An upper bound of what the record adds to a payload.
fn record_bytes_max(record: &NewRecord<'_>) -> usize {
    const FIXED: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
    let nullable = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = record.headers.iter().fold(0_usize, |sum, (key, value)| {
        sum.saturating_add(key.len()).saturating_add(nullable(*value)).saturating_add(10)
    });
    FIXED
        .saturating_add(nullable(record.key))
        .saturating_add(nullable(record.value))
        .saturating_add(headers)
}

fn write_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => write_i32(out, -1),
        Some(bytes) => {
            write_length(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

/// `push` has bounded every length by the batch limit, which is far below 2^31.
fn write_length(out: &mut Vec<u8>, length: usize) {
    write_i32(out, i32::try_from(length).unwrap_or(i32::MAX));
}
