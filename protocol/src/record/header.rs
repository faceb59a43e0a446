//! The 61 bytes at the start of every record batch, big-endian (KIP-98).
//!
//! ```text
//!  0 base_offset i64        8 length i32 (of what follows)   12 leader_epoch i32   16 magic i8
//! 17 crc u32 (of 21..)     21 attributes i16                 23 last_offset_delta i32
//! 27 base_timestamp i64    35 max_timestamp i64              43 producer_id i64
//! 51 producer_epoch i16    53 base_sequence i32              57 record_count i32   61 records
//! ```
//!
//! Invariants
//! - Parsing checks bounds, magic and length, and nothing that is a rule about contents: a header
//!   read back from a log may hold values that no client may send.
//! - The CRC covers byte 21 to the end, so offset and leader epoch may be patched without it.
//!
//! Absent on purpose: message sets of magic 0 and 1. They are recognised and refused.

use super::error::BatchError;
use crate::fields::{FieldReader, FieldWriter};

/// Bytes of the header.
pub const BATCH_HEADER_BYTES: usize = 61;

/// Bytes in front of what the header's length field counts.
pub const BATCH_PREFIX_BYTES: usize = 12;

/// The only format that is stored.
pub const BATCH_MAGIC: i8 = 2;

/// "No timestamp", "no producer id", "no sequence" on the wire.
pub const NONE: i64 = -1;

/// Where the magic byte lies, in every format that Kafka ever had.
const MAGIC_POSITION: usize = 16;

/// Where the bytes begin that the CRC covers.
pub(super) const CRC_START: usize = 21;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy, in Xerial's framing or raw.
    Snappy = 2,
    /// LZ4 in its frame format.
    Lz4 = 3,
    /// RFC 8878 (KIP-110).
    Zstd = 4,
}

impl Compression {
    /// From the number on the wire; `None` for a number that Kafka does not define.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// Whose clock a batch's timestamps come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TimestampType {
    /// The producer's; every record has its own.
    #[default]
    CreateTime,
    /// The broker's at the append; all records share `max_timestamp`.
    LogAppendTime,
}

/// The attribute bits of a batch. Bits 7 to 15 have no meaning yet and are carried as they came.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// Wraps the wire's bits.
    #[must_use]
    pub const fn from_bits(bits: i16) -> Self {
        Self(bits)
    }

    /// The wire's bits.
    #[must_use]
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// The codec's number, 0 to 7.
    #[must_use]
    pub const fn compression_number(self) -> u8 {
        let [low, _] = (self.0 & Self::CODEC).to_le_bytes();
        low
    }

    /// The codec; `None` for the numbers 5 to 7, which Kafka does not define.
    #[must_use]
    pub const fn compression(self) -> Option<Compression> {
        Compression::from_number(self.compression_number())
    }

    /// Whose clock the timestamps come from.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Part of a transaction (KIP-98).
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Written by a broker: a transaction marker.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// `base_timestamp` is the time from which compaction may drop tombstones (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same with another codec.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self((self.0 & !Self::CODEC) | compression.number() as i16)
    }

    /// The same with another timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, timestamp_type: TimestampType) -> Self {
        match timestamp_type {
            TimestampType::CreateTime => Self(self.0 & !Self::LOG_APPEND_TIME),
            TimestampType::LogAppendTime => Self(self.0 | Self::LOG_APPEND_TIME),
        }
    }

    /// The same with the transactional bit as given.
    #[must_use]
    pub const fn with_transactional(self, on: bool) -> Self {
        Self(if on { self.0 | Self::TRANSACTIONAL } else { self.0 & !Self::TRANSACTIONAL })
    }

    /// The same with the control bit as given.
    #[must_use]
    pub const fn with_control(self, on: bool) -> Self {
        Self(if on { self.0 | Self::CONTROL } else { self.0 & !Self::CONTROL })
    }

    /// The same without the delete horizon, which only compaction sets.
    #[must_use]
    pub const fn without_delete_horizon(self) -> Self {
        Self(self.0 & !Self::DELETE_HORIZON)
    }
}

impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attributes({:#06x})", self.0)
    }
}

/// The header of one batch, field by field as on the wire.
///
/// A value of -1 in `base_timestamp`, `max_timestamp`, `producer_id`, `producer_epoch` or
/// `base_sequence` means that there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Offset of the first record; 0 from a producer.
    pub base_offset: i64,
    /// Bytes behind this field, to the end of the batch; at least 49.
    pub length: i32,
    /// The leader's epoch at the append: our term. Producers send anything.
    pub leader_epoch: i32,
    /// CRC-32C of everything from `attributes` on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record minus `base_offset`. Compaction leaves it alone.
    pub last_offset_delta: i32,
    /// Unix milliseconds that the records' timestamp deltas count from.
    pub base_timestamp: i64,
    /// The largest timestamp in the batch in Unix milliseconds, as its writer claims.
    pub max_timestamp: i64,
    /// Idempotent producer's id.
    pub producer_id: i64,
    /// Epoch of that id.
    pub producer_epoch: i16,
    /// Sequence number of the first record.
    pub base_sequence: i32,
    /// Records that the batch holds. Compaction lowers it.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`; what lies behind the 61 bytes is not looked at.
    ///
    /// Errors: [`BatchError::Truncated`], [`BatchError::LegacyMagic`],
    /// [`BatchError::UnknownMagic`], [`BatchError::Length`]. The magic is looked at first, so that
    /// a short legacy message set is named for what it is.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let magic = bytes.get(MAGIC_POSITION).map(|byte| byte.cast_signed());
        match magic {
            Some(BATCH_MAGIC) | None => {}
            Some(magic @ (0 | 1)) => return Err(BatchError::LegacyMagic { found: magic }),
            Some(magic) => return Err(BatchError::UnknownMagic { found: magic }),
        }
        let Some(header) = bytes.first_chunk::<BATCH_HEADER_BYTES>() else {
            return Err(BatchError::Truncated { needed: BATCH_HEADER_BYTES, found: bytes.len() });
        };
        let header = Self::from_array(header);
        if header.length < LENGTH_MIN {
            return Err(BatchError::Length { found: header.length });
        }
        Ok(header)
    }

    /// A whole batch of one offset that holds no record, as compaction leaves them: whoever reads
    /// on gets behind it.
    #[must_use]
    pub fn without_records() -> Self {
        let none = Self {
            base_offset: 0,
            length: LENGTH_MIN,
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes::from_bits(0),
            last_offset_delta: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        Self { crc: none.computed_crc(&[]), ..none }
    }

    fn from_array(bytes: &[u8; BATCH_HEADER_BYTES]) -> Self {
        let mut fields = FieldReader::new(bytes);
        let base_offset = i64::from_be_bytes(fields.take());
        let length = i32::from_be_bytes(fields.take());
        let leader_epoch = i32::from_be_bytes(fields.take());
        let [_magic] = fields.take();
        Self {
            base_offset,
            length,
            leader_epoch,
            crc: u32::from_be_bytes(fields.take()),
            attributes: Attributes::from_bits(i16::from_be_bytes(fields.take())),
            last_offset_delta: i32::from_be_bytes(fields.take()),
            base_timestamp: i64::from_be_bytes(fields.take()),
            max_timestamp: i64::from_be_bytes(fields.take()),
            producer_id: i64::from_be_bytes(fields.take()),
            producer_epoch: i16::from_be_bytes(fields.take()),
            base_sequence: i32::from_be_bytes(fields.take()),
            record_count: i32::from_be_bytes(fields.take()),
        }
    }

    /// The header's bytes, with `length` and `crc` as they stand in it.
    #[must_use]
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        let mut fields = FieldWriter::new(&mut bytes);
        fields.put(&self.base_offset.to_be_bytes());
        fields.put(&self.length.to_be_bytes());
        fields.put(&self.leader_epoch.to_be_bytes());
        fields.put(&BATCH_MAGIC.to_be_bytes());
        fields.put(&self.crc.to_be_bytes());
        fields.put(&self.attributes.bits().to_be_bytes());
        fields.put(&self.last_offset_delta.to_be_bytes());
        fields.put(&self.base_timestamp.to_be_bytes());
        fields.put(&self.max_timestamp.to_be_bytes());
        fields.put(&self.producer_id.to_be_bytes());
        fields.put(&self.producer_epoch.to_be_bytes());
        fields.put(&self.base_sequence.to_be_bytes());
        fields.put(&self.record_count.to_be_bytes());
        bytes
    }

    /// CRC-32C of this header's covered part followed by `payload`, which is what `crc` must be.
    #[must_use]
    pub fn computed_crc(&self, payload: &[u8]) -> u32 {
        let header = self.encode();
        let covered = header.get(CRC_START..).unwrap_or_default();
        crc32c::crc32c_append(crc32c::crc32c(covered), payload)
    }

    /// Bytes of the whole batch, the 12 in front of the length's scope included.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        usize::try_from(self.length).unwrap_or(0).saturating_add(BATCH_PREFIX_BYTES)
    }

    /// Offset of the last record. Saturates at the type's end, which no log reaches.
    #[must_use]
    pub const fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(self.last_offset_delta as i64)
    }

    /// The first offset behind the batch.
    #[must_use]
    pub const fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sent by an idempotent producer.
    #[must_use]
    pub const fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence number of the last record; behind 2^31−1 they go on at 0 (KIP-98).
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        sequence_plus(self.base_sequence, self.last_offset_delta)
    }
}

/// The sequence number `count` records behind `sequence`; 0 follows 2^31−1 (KIP-98).
///
/// - `sequence`, `count`: not negative; a negative sum would come out as its lower 31 bits.
#[must_use]
pub const fn sequence_plus(sequence: i32, count: i32) -> i32 {
    sequence.wrapping_add(count) & i32::MAX
}

/// A length field that leaves no room for the header is a lie.
const LENGTH_MIN: i32 = 49;
const _: () = assert!(LENGTH_MIN as usize + BATCH_PREFIX_BYTES == BATCH_HEADER_BYTES);
