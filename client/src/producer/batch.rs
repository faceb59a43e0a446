//! Batches: records encoded as they come, in the buffer that goes to the broker.
//!
//! ```text
//!   | 61 bytes for the header | record | record | …    seal: header, checksum; no copy
//! ```
//!
//! Invariants
//! - A plain batch is encoded once and copied never: its buffer is what QUIC sends.
//! - Producer id, epoch and sequence are the last that is put in, so that order is decided when a
//!   batch leaves.
//!
//! Absent on purpose: when a batch leaves.

use super::handle::BatchOutcome;
use crate::record::Record;
use bateau_protocol::limits::BATCH_BYTES_MAX;
use bateau_protocol::record::compression::{compress, output_bytes_max};
use bateau_protocol::record::varint::{write_i32, write_i64};
use bateau_protocol::record::{
    Attributes, BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, BatchHeader, Compression, NONE,
};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// Who writes: what the broker recognises a batch by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub id: i64,
    pub epoch: i16,
}

impl Identity {
    /// Of a producer that is not idempotent.
    pub const NOBODY: Self = Self { id: NONE, epoch: -1 };

    pub const fn is_somebody(self) -> bool {
        self.id >= 0
    }
}

/// Upper bound of what a record takes in a batch, in bytes.
pub(crate) fn record_bytes_max(record: &Record) -> usize {
    // Length, attributes, time, offset, and the lengths of key, value and headers.
    const FIXED: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers = record.headers.iter().fold(0_usize, |sum, header| {
        sum.saturating_add(header.name.len()).saturating_add(length(&header.value)) + 10
    });
    FIXED
        .saturating_add(length(&record.key))
        .saturating_add(length(&record.value))
        .saturating_add(headers)
}

/// A batch that takes records.
#[derive(Debug)]
pub(crate) struct OpenBatch {
    bytes: Vec<u8>,
    records: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    pub outcome: Arc<BatchOutcome>,
    pub opened: Instant,
    pub deadline: Instant,
    /// What it takes of the producer's buffer, in bytes.
    pub cost: usize,
}

impl OpenBatch {
    /// - `capacity`: bytes of records that are expected.
    pub fn new(capacity: usize, opened: Instant, deadline: Instant) -> Self {
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES.saturating_add(capacity));
        bytes.resize(BATCH_HEADER_BYTES, 0);
        Self {
            bytes,
            records: 0,
            base_timestamp: NONE,
            max_timestamp: NONE,
            outcome: Arc::default(),
            opened,
            deadline,
            cost: 0,
        }
    }

    /// Whether a record of this upper bound still fits.
    pub fn fits(&self, record_bytes: usize, batch_bytes: usize) -> bool {
        let total = self.bytes.len().saturating_add(record_bytes);
        self.records == 0 || (total <= batch_bytes.min(BATCH_BYTES_MAX) && self.records < i32::MAX)
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Records so far.
    pub const fn records(&self) -> i32 {
        self.records
    }

    /// Adds a record; returns its place.
    pub fn push(&mut self, record: &Record, timestamp_ms: i64) -> u32 {
        let index = self.records;
        if index == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let time_delta = timestamp_ms.wrapping_sub(self.base_timestamp);
        let out = &mut self.bytes;
        write_length(out, body_bytes(record, time_delta, index));
        // Attributes of a record: no bit has a meaning.
        out.push(0);
        write_i64(out, time_delta);
        write_i32(out, index);
        write_nullable(out, record.key.as_deref());
        write_nullable(out, record.value.as_deref());
        write_length(out, record.headers.len());
        for header in &record.headers {
            write_nullable(out, Some(&header.name));
            write_nullable(out, header.value.as_deref());
        }
        self.records = index.saturating_add(1);
        index.unsigned_abs()
    }

    /// Compresses and closes it. Who writes it is put in by [`ClosedBatch::seal`].
    pub fn close(self, compression: Compression) -> ClosedBatch {
        let mut header = BatchHeader {
            base_offset: 0,
            length: 0,
            leader_epoch: -1,
            crc: 0,
            attributes: Attributes::from_bits(0),
            last_offset_delta: self.records.saturating_sub(1),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: NONE,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: self.records,
        };
        let Self { mut bytes, outcome, deadline, cost, .. } = self;
        if compression != Compression::None
            && let Some(smaller) = compressed(compression, &bytes)
        {
            header.attributes = header.attributes.with_compression(compression);
            bytes = smaller;
        }
        ClosedBatch { header, bytes, outcome, deadline, cost }
    }
}

/// The batch with its payload compressed, if that makes it smaller and readers will take it.
fn compressed(compression: Compression, bytes: &[u8]) -> Option<Vec<u8>> {
    let plain = bytes.get(BATCH_HEADER_BYTES..)?;
    // A codec without memory is no reason to lose a batch that can go as it is.
    let small = compress(compression, plain).ok()?;
    if small.len() >= plain.len() || output_bytes_max(small.len()) < plain.len() {
        return None;
    }
    let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + small.len());
    bytes.resize(BATCH_HEADER_BYTES, 0);
    bytes.extend_from_slice(&small);
    Some(bytes)
}

/// A batch that is closed and compressed, and has no writer yet.
#[derive(Debug)]
pub(crate) struct ClosedBatch {
    header: BatchHeader,
    bytes: Vec<u8>,
    pub outcome: Arc<BatchOutcome>,
    pub deadline: Instant,
    /// As of [`OpenBatch::cost`].
    pub cost: usize,
}

impl ClosedBatch {
    /// Records in it.
    pub const fn records(&self) -> i32 {
        self.header.record_count
    }

    /// The bytes for the broker.
    pub fn seal(mut self, writer: Identity, sequence: i32) -> Bytes {
        let length = self.bytes.len().saturating_sub(BATCH_PREFIX_BYTES);
        // Bounded by BATCH_BYTES_MAX, which is far below 2^31.
        self.header.length = i32::try_from(length).unwrap_or(i32::MAX);
        write_header(&mut self.header, &mut self.bytes, writer, sequence);
        self.bytes.into()
    }
}

/// The same batch by another writer: one copy and a checksum.
pub(crate) fn seal_again(batch: &Bytes, writer: Identity, sequence: i32) -> Bytes {
    let mut bytes = batch.to_vec();
    // It was sealed here, so its header can be read.
    if let Ok(mut header) = BatchHeader::parse(&bytes) {
        write_header(&mut header, &mut bytes, writer, sequence);
    }
    bytes.into()
}

fn write_header(header: &mut BatchHeader, bytes: &mut [u8], writer: Identity, sequence: i32) {
    header.producer_id = writer.id;
    header.producer_epoch = writer.epoch;
    header.base_sequence = if writer.is_somebody() { sequence } else { -1 };
    let Some((head, payload)) = bytes.split_at_mut_checked(BATCH_HEADER_BYTES) else { return };
    header.crc = header.computed_crc(payload);
    head.copy_from_slice(&header.encode());
}

fn body_bytes(record: &Record, time_delta: i64, index: i32) -> usize {
    let nullable = |bytes: Option<&[u8]>| match bytes {
        None => 1,
        Some(bytes) => varint_bytes(bytes.len() as i64) + bytes.len(),
    };
    let headers = record
        .headers
        .iter()
        .map(|header| nullable(Some(&header.name)) + nullable(header.value.as_deref()));
    1 + varint_bytes(time_delta)
        + varint_bytes(i64::from(index))
        + nullable(record.key.as_deref())
        + nullable(record.value.as_deref())
        + varint_bytes(record.headers.len() as i64)
        + headers.sum::<usize>()
}

/// Bytes of a zigzag varint.
const fn varint_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let bits = 64 - zigzag.leading_zeros() as usize;
    if bits == 0 { 1 } else { bits.div_ceil(7) }
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

/// Every length is bounded by the batch limit, which is far below 2^31.
fn write_length(out: &mut Vec<u8>, length: usize) {
    write_i32(out, i32::try_from(length).unwrap_or(i32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::record::{
        Batch, BatchReader, ValidationLevel, ValidationLimits, validate,
    };
    use proptest::prelude::*;

    const WRITER: Identity = Identity { id: 7, epoch: 2 };

    fn batch_of(records: &[Record], compression: Compression) -> Bytes {
        let now = Instant::now();
        let mut open = OpenBatch::new(0, now, now);
        for (place, record) in records.iter().enumerate() {
            let before = open.len();
            assert_eq!(open.push(record, record.timestamp_ms.unwrap_or(5)) as usize, place);
            assert!(open.len() - before <= record_bytes_max(record));
        }
        open.close(compression).seal(WRITER, 40)
    }

    #[test]
    fn a_sealed_batch_is_one_that_the_broker_takes() {
        let records = [
            Record::new("an order, and another order, ".repeat(9)).key("k").header("h", "v"),
            Record::tombstone("k"),
            Record::new("").timestamp_ms(-1),
        ];
        for compression in [Compression::None, Compression::Zstd] {
            let bytes = batch_of(&records, compression);
            let limits = ValidationLimits::default();
            let valid = validate(&bytes, &limits, ValidationLevel::Walk, 0).expect("it is valid");
            assert_eq!((valid.record_count, valid.compression), (3, compression));
            let (batch, rest) = Batch::split_first(&bytes).expect("one batch");
            assert!(rest.is_empty());
            assert_eq!(batch.header().base_sequence, 40);
            let again = seal_again(&bytes, Identity { id: 9, epoch: 0 }, 0);
            let (again, _) = Batch::split_first(&again).expect("one batch");
            assert_eq!((again.header().producer_id, again.header().base_sequence), (9, 0));
            assert_eq!(again.verify_crc(), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn records_come_out_as_they_went_in(
            values in prop::collection::vec(
                (
                    prop::option::of(prop::collection::vec(any::<u8>(), 0..20)),
                    prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
                    0_i64..1 << 40,
                ),
                1..20,
            ),
        ) {
            let record = |(key, value, time): (Option<Vec<u8>>, Option<Vec<u8>>, i64)| Record {
                key: key.map(Bytes::from),
                value: value.map(Bytes::from),
                timestamp_ms: Some(time),
                ..Record::default()
            };
            let records: Vec<_> = values.into_iter().map(record).collect();
            let bytes = batch_of(&records, Compression::Lz4);
            let (batch, _) = Batch::split_first(&bytes).expect("one batch");
            let read: Result<Vec<_>, _> = BatchReader::open(&batch).expect("it opens").collect();
            for (read, sent) in read.expect("every record").iter().zip(&records) {
                prop_assert_eq!(&read.key, &sent.key);
                prop_assert_eq!(&read.value, &sent.value);
                prop_assert_eq!(Some(read.timestamp), sent.timestamp_ms);
            }
        }
    }
}
