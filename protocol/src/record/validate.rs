//! What a producer's batch must be before it may enter a log.
//!
//! ```text
//!   level    checks                                                                    cost
//!   Header   one batch, magic, size, CRC, offsets, counts, flags, sequence, times      CRC pass
//!   Walk     and every record of an uncompressed payload                        + 8 ns a record
//!   (full)   and every record of a compressed one: the body decompresses, off its network
//!            threads, and hands the result to `check_records`
//! ```
//!
//! Invariants
//! - The bytes that come back are the bytes that went in, not a copy, unless a field that the
//!   producer got wrong, or that the broker owns, must change: `max_timestamp`, the timestamp type
//!   and the delete horizon. Kafka rewrites the same ones.
//! - At [`ValidationLevel::Walk`] an uncompressed batch's `max_timestamp` is the largest timestamp
//!   of its records. At `Header`, or compressed, it is what the producer says.
//!
//! Absent on purpose: the idempotence window, authorization, and limits of a segment.

use bytes::Bytes;

use super::batch::Batch;
use super::builder::seal;
use super::error::{BatchError, RecordError, RecordFault};
use super::header::{BatchHeader, Compression, NONE, TimestampType};
use super::records::{absolute, read_record};

/// How closely a batch is looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum ValidationLevel {
    /// The header and the checksum, for producers that are trusted.
    Header,
    /// The records too, where they are not compressed.
    #[default]
    Walk,
}

/// The topic's rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValidationLimits {
    /// `max.message.bytes`: the whole batch, as sent.
    pub batch_bytes_max: usize,
    /// `message.timestamp.type`. Log append time rewrites every batch: a copy and a second
    /// checksum.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`, not negative.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`, not negative.
    pub timestamp_after_max_ms: i64,
    /// Produce version 7 or newer (KIP-110).
    pub zstd_allowed: bool,
    /// `cleanup.policy` has `compact`. Keys are seen only where records are walked.
    pub keys_required: bool,
}

impl Default for ValidationLimits {
    /// Kafka's defaults for a topic that is not compacted.
    fn default() -> Self {
        Self {
            batch_bytes_max: crate::limits::BATCH_BYTES_DEFAULT,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            zstd_allowed: true,
            keys_required: false,
        }
    }
}

/// The idempotent producer's part of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProducerSequence {
    /// Producer id, not negative.
    pub id: i64,
    /// Its epoch, not negative.
    pub epoch: i16,
    /// Sequence number of the first record, not negative.
    pub first_sequence: i32,
    /// Sequence number of the last record; smaller than the first where the numbers wrapped.
    pub last_sequence: i32,
}

impl ProducerSequence {
    /// What a validated batch says of its producer; `None` for one without an id.
    #[must_use]
    pub const fn of(header: &BatchHeader) -> Option<Self> {
        if !header.has_producer() {
            return None;
        }
        Some(Self {
            id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
        })
    }
}

/// A batch that may be appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ValidBatch {
    /// What to append: the producer's bytes, or their repaired copy.
    pub bytes: Bytes,
    /// The header of these bytes.
    pub header: BatchHeader,
    /// Offsets that the batch takes, at least 1.
    pub record_count: u32,
    /// `None` for a producer without an id, whatever it put into epoch and sequence.
    pub producer: Option<ProducerSequence>,
    /// The codec.
    pub compression: Compression,
    /// Whether `bytes` is a repaired copy.
    pub rewritten: bool,
}

impl ValidBatch {
    /// Unix milliseconds; -1 for none. Trustworthy as the module says.
    #[must_use]
    pub const fn max_timestamp(&self) -> i64 {
        self.header.max_timestamp
    }

    /// Part of a transaction.
    #[must_use]
    pub const fn is_transactional(&self) -> bool {
        self.header.attributes.is_transactional()
    }

    /// What lies behind the header.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(super::header::BATCH_HEADER_BYTES..).unwrap_or_default()
    }

    /// The same with what [`check_records`] found to be the largest timestamp, for the body after
    /// it has decompressed a batch. Without effect under log append time.
    ///
    /// Cost: nothing where the header was right, else a copy and a checksum pass.
    #[must_use]
    pub fn with_max_timestamp(self, max_timestamp: i64) -> Self {
        match self.header.attributes.timestamp_type() {
            TimestampType::LogAppendTime => self,
            TimestampType::CreateTime => {
                let header = BatchHeader { max_timestamp, ..self.header };
                self.rewrite(header)
            }
        }
    }

    /// Replaces the header where it differs.
    fn rewrite(self, header: BatchHeader) -> Self {
        if header == self.header {
            return self;
        }
        // The payload is one that has passed the size limit, so sealing it cannot fail.
        let Ok(bytes) = seal(&header, self.payload()) else { return self };
        let header = BatchHeader::parse(&bytes).unwrap_or(header);
        Self { bytes, header, rewritten: true, ..self }
    }
}

/// Checks what one partition of a Produce request holds, and makes it ready to be appended.
///
/// - `bytes`: the whole `records` field.
/// - `now_wall_ms`: Unix milliseconds.
///
/// Errors: [`BatchError`], the first that Kafka would find.
/// Cost: one checksum pass; at [`ValidationLevel::Walk`] about 8 ns per record. Nothing is copied
/// or allocated unless the batch needs a repair.
pub fn validate(
    bytes: &Bytes,
    limits: &ValidationLimits,
    level: ValidationLevel,
    now_wall_ms: u64,
) -> Result<ValidBatch, BatchError> {
    let batch = split_only(bytes, limits)?;
    batch.verify_crc()?;
    let header = *batch.header();
    let record_count = check_counts(&header)?;
    let producer = check_producer(&header)?;
    let number = header.attributes.compression_number();
    let compression =
        header.attributes.compression().ok_or(BatchError::UnknownCompression { found: number })?;
    if header.attributes.timestamp_type() == TimestampType::LogAppendTime
        && limits.timestamp_type == TimestampType::LogAppendTime
    {
        return Err(BatchError::TimestampType);
    }
    let walked = level >= ValidationLevel::Walk && compression == Compression::None;
    let max_timestamp = if walked {
        check_records(&header, batch.payload(), limits, now_wall_ms)?
    } else {
        check_header_times(&header, limits, now_wall_ms)?
    };
    let valid = ValidBatch {
        bytes: batch.into_bytes(),
        header,
        record_count,
        producer,
        compression,
        rewritten: false,
    };
    let max_timestamp = match limits.timestamp_type {
        TimestampType::CreateTime => max_timestamp,
        TimestampType::LogAppendTime => wall(now_wall_ms),
    };
    let attributes =
        header.attributes.with_timestamp_type(limits.timestamp_type).without_delete_horizon();
    Ok(valid.rewrite(BatchHeader { attributes, max_timestamp, ..header }))
}

/// Checks the decompressed records of a batch: contiguous offset deltas, times, keys, lengths, and
/// that they fill the payload exactly.
///
/// Returns the largest timestamp, -1 for none.
///
/// Errors: [`BatchError::Record`], [`BatchError::Timestamp`], [`BatchError::KeyMissing`].
/// Cost: about 8 ns per record, no allocation.
pub fn check_records(
    header: &BatchHeader,
    payload: &[u8],
    limits: &ValidationLimits,
    now_wall_ms: u64,
) -> Result<i64, BatchError> {
    let bounds = TimestampBounds::new(limits, now_wall_ms);
    let mut rest = payload;
    let mut max_timestamp = NONE;
    for index in 0..u32::try_from(header.record_count).unwrap_or(0) {
        let fail = |fault| RecordError { index, fault };
        let record = read_record(&mut rest).map_err(fail)?;
        if u32::try_from(record.offset_delta) != Ok(index) {
            return Err(fail(RecordFault::OffsetDelta { found: record.offset_delta }).into());
        }
        let timestamp = absolute(header.base_timestamp, record.timestamp_delta);
        bounds.check(index, timestamp)?;
        max_timestamp = max_timestamp.max(timestamp);
        if limits.keys_required && record.key.is_none() {
            return Err(BatchError::KeyMissing { index });
        }
    }
    if rest.is_empty() {
        Ok(max_timestamp)
    } else {
        let index = u32::try_from(header.record_count).unwrap_or(0);
        Err(RecordError { index, fault: RecordFault::Uncounted { found: rest.len() } }.into())
    }
}

/// What Kafka looks at before the checksum, in its order.
fn split_only(bytes: &Bytes, limits: &ValidationLimits) -> Result<Batch, BatchError> {
    let (batch, rest) = Batch::split_first(bytes)?;
    if !rest.is_empty() {
        return Err(BatchError::NotOneBatch { found: rest.len() });
    }
    let header = batch.header();
    if !limits.zstd_allowed && header.attributes.compression() == Some(Compression::Zstd) {
        return Err(BatchError::ZstdNotAllowed);
    }
    if header.base_offset != 0 {
        return Err(BatchError::BaseOffset { found: header.base_offset });
    }
    let found = batch.bytes().len();
    if found > limits.batch_bytes_max {
        return Err(BatchError::TooLarge { found, bytes_max: limits.batch_bytes_max });
    }
    Ok(batch)
}

fn check_counts(header: &BatchHeader) -> Result<u32, BatchError> {
    let found = header.record_count;
    let record_count = u32::try_from(found).unwrap_or(0);
    if record_count == 0 {
        return Err(BatchError::RecordCount { found });
    }
    let expected = found.saturating_sub(1);
    if header.last_offset_delta != expected {
        return Err(BatchError::LastOffsetDelta { expected, found: header.last_offset_delta });
    }
    if header.attributes.is_control() {
        return Err(BatchError::Control);
    }
    Ok(record_count)
}

/// kafkajs sends epoch 0 and sequence 0 beside producer id -1: without an id the two mean nothing.
fn check_producer(header: &BatchHeader) -> Result<Option<ProducerSequence>, BatchError> {
    if !header.has_producer() {
        return Ok(None);
    }
    let producer_id = header.producer_id;
    if header.base_sequence < 0 {
        return Err(BatchError::Sequence { producer_id, found: header.base_sequence });
    }
    if header.producer_epoch < 0 {
        return Err(BatchError::ProducerEpoch { producer_id, found: header.producer_epoch });
    }
    Ok(ProducerSequence::of(header))
}

/// The times in the header where no record is looked at. A maximum below the base is absent or
/// wrong; the base is at least some record's time.
fn check_header_times(
    header: &BatchHeader,
    limits: &ValidationLimits,
    now_wall_ms: u64,
) -> Result<i64, BatchError> {
    let bounds = TimestampBounds::new(limits, now_wall_ms);
    bounds.check(0, header.base_timestamp)?;
    bounds.check(0, header.max_timestamp)?;
    Ok(header.max_timestamp.max(header.base_timestamp).max(NONE))
}

fn wall(now_wall_ms: u64) -> i64 {
    i64::try_from(now_wall_ms).unwrap_or(i64::MAX)
}

/// The times that a topic takes from its producers.
struct TimestampBounds {
    earliest: i64,
    latest: i64,
}

impl TimestampBounds {
    /// Under log append time the producer's times do not matter, so everything is in bounds.
    fn new(limits: &ValidationLimits, now_wall_ms: u64) -> Self {
        let now = wall(now_wall_ms);
        match limits.timestamp_type {
            TimestampType::LogAppendTime => Self { earliest: i64::MIN, latest: i64::MAX },
            TimestampType::CreateTime => Self {
                earliest: now.saturating_sub(limits.timestamp_before_max_ms),
                latest: now.saturating_add(limits.timestamp_after_max_ms),
            },
        }
    }

    #[inline]
    fn check(&self, index: u32, found: i64) -> Result<(), BatchError> {
        let inside = (self.earliest..=self.latest).contains(&found);
        if inside || found == NONE {
            return Ok(());
        }
        Err(BatchError::Timestamp { index, found, earliest: self.earliest, latest: self.latest })
    }
}
