//! A batch as records that may be kept: what a client's consumer reads.
//!
//! ```text
//!   Batch ── checksum ──> plain:       slices of the bytes that came from the wire
//!                    └──> compressed:  slices of one buffer that the codec filled, bounded
//! ```
//!
//! Invariants
//! - Keys, values and headers are slices, never copies. A record that is kept keeps its batch's
//!   bytes alive.
//! - Nothing is read from a batch whose checksum is wrong.
//! - Whatever a `BatchBuilder` builds is read: records that would fit a plain batch are never too
//!   many, however small a codec made them.
//!
//! Absent on purpose: which records a consumer wants. It skips those before its position, and
//! control batches, by their headers.

use bytes::Bytes;

use super::batch::Batch;
use super::compression::{DecompressError, decompress_within, output_bytes_max};
use super::error::{BatchError, RecordError};
use super::header::{BATCH_HEADER_BYTES, Compression};
use super::records::{Record, Walk};
use crate::limits::BATCH_BYTES_MAX;

/// One record of a fetched batch. Times and offsets are absolute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadRecord {
    /// Position in the partition.
    pub offset: i64,
    /// Unix milliseconds; -1 where the producer gave none.
    pub timestamp: i64,
    /// `None` is null, which is not the empty key.
    pub key: Option<Bytes>,
    /// `None` is null: a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// In order, duplicates kept.
    pub headers: Vec<ReadHeader>,
}

/// One header of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadHeader {
    /// Mostly UTF-8, which nobody enforces.
    pub key: Bytes,
    /// `None` is null.
    pub value: Option<Bytes>,
}

/// Why a batch's records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The checksum is wrong ([`BatchError::Crc`]), or the codec is one that Kafka does not define
    /// ([`BatchError::UnknownCompression`]).
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The payload is not what the codec makes, or grows too large.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
}

/// Iterator over the records of one batch. Yields as many as the header counts and then, if bytes
/// are left, an error; ends after its first error.
#[derive(Clone, Debug)]
pub struct BatchReader {
    rest: Bytes,
    walk: Walk,
}

impl BatchReader {
    /// Checks the checksum and decompresses where that is needed.
    ///
    /// Errors: [`OpenError`].
    /// Cost: a checksum pass. A plain batch is not copied. A compressed one becomes one buffer of
    /// at most [`BATCH_BYTES_MAX`], or what [`output_bytes_max`] allows for it if that is more.
    pub fn open(batch: &Batch) -> Result<Self, OpenError> {
        batch.verify_crc()?;
        let attributes = batch.header().attributes;
        let found = attributes.compression_number();
        let compression =
            attributes.compression().ok_or(BatchError::UnknownCompression { found })?;
        let rest = match compression {
            Compression::None => batch.bytes().slice(BATCH_HEADER_BYTES..),
            _ => {
                let payload = batch.payload();
                // A plain batch may have as many bytes, so a reader has to have room for them.
                let bytes_max = output_bytes_max(payload.len()).max(BATCH_BYTES_MAX);
                decompress_within(compression, payload, bytes_max)?.into()
            }
        };
        Ok(Self { rest, walk: Walk::new(batch.header()) })
    }

    /// Bytes of the records that were not read yet: what keeping them costs.
    #[must_use]
    pub fn remaining_bytes(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for BatchReader {
    type Item = Result<ReadRecord, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = std::mem::take(&mut self.rest);
        let mut rest = bytes.as_ref();
        let item = self.walk.step(&mut rest)?.map(|record| owned(&bytes, &record));
        // An error has moved to the end.
        self.rest = bytes.slice(bytes.len() - rest.len()..);
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some((self.walk.remaining() as usize).saturating_add(1)))
    }
}

fn owned(bytes: &Bytes, record: &Record<'_>) -> ReadRecord {
    let slice = |part: &[u8]| bytes.slice_ref(part);
    let headers = record
        .headers
        .map(|header| ReadHeader { key: slice(header.key), value: header.value.map(slice) })
        .collect();
    ReadRecord {
        offset: record.offset,
        timestamp: record.timestamp,
        key: record.key.map(slice),
        value: record.value.map(slice),
        headers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{BatchBuilder, NewRecord, Records};

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    fn builder() -> BatchBuilder {
        let mut builder = BatchBuilder::new().base_offset(40);
        for number in 0..100_i64 {
            let headers: &[(&[u8], Option<&[u8]>)] =
                if number % 7 == 0 { &[(b"trace", Some(b"on")), (b"trace", None)] } else { &[] };
            let key = (number % 3 != 0).then_some(&b"customer"[..]);
            let value = (number % 5 != 0).then_some(&b"an order with a text"[..]);
            let record = NewRecord { timestamp: 1_000 + number, key, value, headers };
            builder.push(&record).unwrap();
        }
        builder
    }

    fn batch(bytes: &Bytes) -> Batch {
        Batch::split_first(bytes).unwrap().0
    }

    fn read(bytes: &Bytes) -> Vec<ReadRecord> {
        BatchReader::open(&batch(bytes)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn every_codec_gives_the_same_records() {
        let builder = builder();
        let plain = batch(&builder.build().unwrap());
        let records = Records::new(plain.header(), plain.payload()).map(Result::unwrap);
        let expected: Vec<_> = records.map(|record| owned(plain.bytes(), &record)).collect();
        for compression in CODECS {
            let bytes = builder.build_with(compression).unwrap();
            assert_eq!(batch(&bytes).header().attributes.compression(), Some(compression));
            assert_eq!(read(&bytes), expected, "{compression:?}");
        }
        assert_eq!(expected.len(), 100);
        assert_eq!((expected[99].offset, expected[99].timestamp), (139, 1_099));
    }

    fn built(value: &[u8], compression: Compression) -> Bytes {
        let mut builder = BatchBuilder::new();
        builder.push(&NewRecord { value: Some(value), ..NewRecord::default() }).unwrap();
        builder.build_with(compression).unwrap()
    }

    #[test]
    fn a_batch_that_no_codec_helps_goes_plain() {
        let noise = [17, 3, 255, 0, 9];
        assert_eq!(built(&noise, Compression::Zstd), built(&noise, Compression::None));
        let text = b"an order with a text, ".repeat(10);
        assert!(built(&text, Compression::Zstd).len() < built(&text, Compression::None).len());
    }

    #[test]
    fn records_that_shrink_a_thousandfold_are_read_up_to_the_size_of_a_plain_batch() {
        let zeros = vec![0; 8 * 1024 * 1024];
        for compression in CODECS {
            let bytes = built(&zeros, compression);
            assert_eq!(read(&bytes)[0].value.as_deref(), Some(&zeros[..]), "{compression:?}");
        }
        assert!(built(&zeros, Compression::Zstd).len() < zeros.len() / 1_000);
        // What nobody could have sent plain is refused.
        let payload = super::super::compression::compress(Compression::Zstd, &vec![0; 20 << 20]);
        let builder = builder();
        let bomb = builder.build_compressed(Compression::Zstd, &payload.unwrap()).unwrap();
        let refused = BatchReader::open(&batch(&bomb)).unwrap_err();
        let expected = DecompressError::TooLarge {
            compression: Compression::Zstd,
            input_bytes: bomb.len() - BATCH_HEADER_BYTES,
            bytes_max: BATCH_BYTES_MAX,
        };
        assert_eq!(refused.to_string(), expected.to_string());
    }

    #[test]
    fn a_plain_batch_is_sliced_and_not_copied() {
        let bytes = builder().build().unwrap();
        let inside = bytes.as_ptr_range();
        for record in read(&bytes) {
            for part in [record.key, record.value].into_iter().flatten() {
                assert!(inside.contains(&part.as_ptr()));
            }
        }
    }

    #[test]
    fn a_batch_with_a_changed_bit_gives_no_record() {
        let mut changed = builder().build_with(Compression::Lz4).unwrap().to_vec();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        let refused = BatchReader::open(&batch(&changed.into())).unwrap_err();
        assert!(matches!(refused, OpenError::Batch(BatchError::Crc { .. })));
    }

    #[test]
    fn a_payload_that_lies_about_its_codec_is_named() {
        let bytes = builder().build_compressed(Compression::Gzip, b"no gzip at all").unwrap();
        let refused = BatchReader::open(&batch(&bytes)).unwrap_err();
        assert!(matches!(refused, OpenError::Decompress(DecompressError::Corrupt { .. })));
    }

    #[test]
    fn a_walk_that_fails_ends() {
        let mut payload = builder().payload().to_vec();
        payload.truncate(payload.len() - 3);
        let bytes = builder().build_compressed(Compression::None, &payload).unwrap();
        let items: Vec<_> = BatchReader::open(&batch(&bytes)).unwrap().collect();
        assert_eq!(items.len(), 100);
        assert!(items[99].is_err());
        assert!(items[..99].iter().all(Result::is_ok));
    }
}
