//! One batch as a view of the bytes that it came in, and the batches of a `records` field.
//!
//! Absent on purpose: rules about what a client may send (`validate`), and decompression.

use bytes::Bytes;

use super::error::BatchError;
use super::header::{BATCH_HEADER_BYTES, BatchHeader, CRC_START, Compression};
use super::records::Records;

/// A batch: its parsed header and a slice of the bytes it came in. Cloning copies no records.
///
/// Invariant: `bytes` is exactly the batch, from its base offset to the end of its payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Takes the first batch off `bytes`: the batch, and what lies behind it.
    ///
    /// Errors: those of [`BatchHeader::parse`], and [`BatchError::Truncated`] where the batch
    /// claims more bytes than there are.
    /// Cost: a header is read; nothing is copied, no checksum is computed.
    pub fn split_first(bytes: &Bytes) -> Result<(Self, Bytes), BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.batch_bytes();
        if bytes.len() < needed {
            return Err(BatchError::Truncated { needed, found: bytes.len() });
        }
        Ok((Self { header, bytes: bytes.slice(..needed) }, bytes.slice(needed..)))
    }

    /// The parsed header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch as it came.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The whole batch as it came, without keeping the view.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// What lies behind the header: records, or what a codec made of them.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.get(BATCH_HEADER_BYTES..).unwrap_or_default()
    }

    /// Checks the checksum.
    ///
    /// Errors: [`BatchError::Crc`].
    /// Cost: one pass, about 2 µs for 64 KiB.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(self.bytes.get(CRC_START..).unwrap_or_default());
        if computed == self.header.crc {
            Ok(())
        } else {
            Err(BatchError::Crc { found: self.header.crc, computed })
        }
    }

    /// The records of an uncompressed batch; `None` where a codec must come first. Then decompress
    /// [`Batch::payload`] and give the result to [`Records::new`].
    #[must_use]
    pub fn records(&self) -> Option<Records<'_>> {
        match self.header.attributes.compression() {
            Some(Compression::None) => Some(Records::new(&self.header, self.payload())),
            _ => None,
        }
    }
}

/// The batches of a `records` field, in order. Ends after its first error; a field that ends
/// inside a batch, as a Fetch answer may, gives [`BatchError::Truncated`] last.
#[derive(Clone, Debug)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Over all of `records`.
    #[must_use]
    pub const fn new(records: Bytes) -> Self {
        Self { rest: records }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match Batch::split_first(&self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(error) => {
                self.rest = Bytes::new();
                Some(Err(error))
            }
        }
    }
}
