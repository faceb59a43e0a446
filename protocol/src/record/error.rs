//! What can be wrong with a batch, each with the Kafka error that a door answers.
//!
//! The numbers are those that Kafka 4.3.1 gave when it was asked with the same bytes, unless a
//! variant says otherwise.
//!
//! Absent on purpose: the code itself. A door maps every variant, without a catch-all arm.

use super::varint::VarintError;

/// Why a batch was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does, or there are none.
    /// INVALID_RECORD (87): to Kafka this is "no whole batch", a count other than one.
    #[error("a batch needs {needed} bytes, {found} are there")]
    Truncated {
        /// Bytes that the header, or the length in it, asks for.
        needed: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// Bytes behind the first batch: a second batch, or something that is none.
    /// INVALID_RECORD (87). Kafka itself drops up to 16 such bytes in silence.
    #[error("{found} bytes follow the batch, expected exactly one batch")]
    NotOneBatch {
        /// Bytes behind the first batch.
        found: usize,
    },
    /// A message set of Kafka 0.11 or older.
    /// INVALID_RECORD (87).
    #[error("message format {found} is not supported, expected 2")]
    LegacyMagic {
        /// 0 or 1.
        found: i8,
    },
    /// A format that nobody has defined.
    /// CORRUPT_MESSAGE (2).
    #[error("batch magic is {found}, expected 2")]
    UnknownMagic {
        /// What was there.
        found: i8,
    },
    /// A length that does not even cover the header.
    /// CORRUPT_MESSAGE (2).
    #[error("batch length is {found}, expected at least 49")]
    Length {
        /// What was there.
        found: i32,
    },
    /// Larger than the topic's `max.message.bytes`.
    /// MESSAGE_TOO_LARGE (10), also when the CRC is wrong.
    #[error("batch has {found} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Bytes of the batch.
        found: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The checksum does not match.
    /// CORRUPT_MESSAGE (2).
    #[error("batch CRC is {found:#010x}, computed {computed:#010x}")]
    Crc {
        /// What the header says.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A codec number that Kafka does not define.
    /// UNSUPPORTED_COMPRESSION_TYPE (76). Kafka stumbles over it: UNKNOWN_SERVER_ERROR (-1).
    #[error("compression codec is {found}, expected 0 to 4")]
    UnknownCompression {
        /// 5 to 7.
        found: u8,
    },
    /// Zstandard in a Produce request older than version 7 (KIP-110).
    /// UNSUPPORTED_COMPRESSION_TYPE (76), also when the CRC is wrong.
    #[error("zstd is not allowed in this version of the request")]
    ZstdNotAllowed,
    /// A first offset from a producer, who has none to give.
    /// INVALID_RECORD (87).
    #[error("base offset is {found}, expected 0")]
    BaseOffset {
        /// What was there.
        found: i64,
    },
    /// No records, or fewer than none.
    /// INVALID_RECORD (87).
    #[error("record count is {found}, expected at least 1")]
    RecordCount {
        /// What was there.
        found: i32,
    },
    /// The offset span and the record count disagree.
    /// INVALID_RECORD (87).
    #[error("last offset delta is {found}, expected {expected}")]
    LastOffsetDelta {
        /// Record count minus one.
        expected: i32,
        /// What was there.
        found: i32,
    },
    /// A transaction marker from a client.
    /// INVALID_RECORD (87).
    #[error("a client may not write control batches")]
    Control,
    /// A producer id without a sequence number.
    /// INVALID_RECORD (87).
    #[error("producer {producer_id} sent base sequence {found}, expected 0 or more")]
    Sequence {
        /// Whose batch it is.
        producer_id: i64,
        /// What was there.
        found: i32,
    },
    /// A producer id with a negative epoch.
    /// INVALID_PRODUCER_EPOCH (47). Kafka lets -1 pass for a producer that it does not know.
    #[error("producer {producer_id} sent epoch {found}, expected 0 or more")]
    ProducerEpoch {
        /// Whose batch it is.
        producer_id: i64,
        /// What was there.
        found: i16,
    },
    /// A timestamp outside of the topic's bounds.
    /// INVALID_TIMESTAMP (32), with the record's index in `record_errors` (Produce v8+).
    #[error("timestamp {found} is outside of {earliest}..={latest}")]
    Timestamp {
        /// The first such record's index in the batch; 0 where only the header was looked at.
        index: u32,
        /// What was there, in Unix milliseconds.
        found: i64,
        /// The earliest allowed.
        earliest: i64,
        /// The latest allowed.
        latest: i64,
    },
    /// The producer claims that the broker has set the timestamps, on a topic where it does.
    /// INVALID_TIMESTAMP (32).
    #[error("a client may not mark its timestamps as log append time")]
    TimestampType,
    /// A record without a key for a compacted topic.
    /// INVALID_RECORD (87), with the record's index in `record_errors` (Produce v8+).
    #[error("record {index} has no key, which a compacted topic needs")]
    KeyMissing {
        /// The first such record's index in the batch.
        index: u32,
    },
    /// A record that does not hold what it says.
    /// INVALID_RECORD (87).
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Where the records of a batch stop making sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("record {index}: {fault}")]
pub struct RecordError {
    /// The record's index in its batch, from 0.
    pub index: u32,
    /// What is wrong with it.
    pub fault: RecordFault,
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordFault {
    /// The payload, or the record, ends inside a field: also where a batch holds fewer records
    /// than its header says.
    #[error("ends inside a field")]
    Truncated,
    /// A number longer than its type.
    #[error("has a varint that is longer than its type")]
    VarintTooLong,
    /// A length below zero, or below -1 where -1 stands for null.
    #[error("has a length of {found}")]
    Length {
        /// What was there.
        found: i32,
    },
    /// The record's fields do not fill its length.
    #[error("has {found} bytes behind its last field")]
    Unfilled {
        /// Bytes too many.
        found: usize,
    },
    /// A header count below zero.
    #[error("has {found} headers")]
    HeaderCount {
        /// What was there.
        found: i32,
    },
    /// A header without a key.
    #[error("has a header without a key")]
    HeaderKey,
    /// Offsets of a producer's batch count 0, 1, 2 without a gap. Kafka checks only the last one.
    #[error("has offset delta {found}, expected its index")]
    OffsetDelta {
        /// What was there.
        found: i32,
    },
    /// Bytes behind the last record that the header counts.
    #[error("would start {found} bytes behind the last record that the header counts")]
    Uncounted {
        /// Bytes too many.
        found: usize,
    },
}

impl From<VarintError> for RecordFault {
    fn from(error: VarintError) -> Self {
        match error {
            VarintError::Truncated => Self::Truncated,
            VarintError::TooLong => Self::VarintTooLong,
        }
    }
}
