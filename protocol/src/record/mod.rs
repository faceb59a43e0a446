//! Kafka's record batch (format 2, KIP-98) as views of the bytes that it came in.
//!
//! ```text
//!   records field ── Batches ──> Batch ── records() ──> Records ──> Record ──> RecordHeaders
//!        │                        header + slice         borrowed, bounds-checked
//!        └── validate ──> ValidBatch: the same bytes, and what the log must know of them
//!   BatchBuilder ──> Bytes
//!   BatchReader: a batch as records that a client may keep     compression: the four codecs
//! ```
//!
//! Invariants
//! - Stored bytes are wire bytes: nothing here re-encodes a batch, and only `validate` may repair
//!   a header.
//! - No input makes a reader panic, read outside of its input or allocate.
//! - A changed bit anywhere in a batch is noticed, the leader epoch (bytes 12 to 15) excepted,
//!   which the CRC leaves out so that a broker can stamp it.
//!
//! Absent on purpose: message sets of magic 0 and 1, the producer table, and codecs without the
//! feature `compression`: a broker decompresses off its network threads, or not at all.

mod batch;
mod builder;
#[cfg(feature = "compression")]
pub mod compression;
mod error;
mod header;
#[cfg(feature = "compression")]
mod reader;
mod records;
mod validate;
pub mod varint;

pub use batch::{Batch, Batches};
pub use builder::{BatchBuilder, BuildError, NewRecord, seal};
pub use error::{BatchError, RecordError, RecordFault};
pub use header::{
    Attributes, BATCH_HEADER_BYTES, BATCH_MAGIC, BATCH_PREFIX_BYTES, BatchHeader, Compression,
    NONE, TimestampType, sequence_plus,
};
#[cfg(feature = "compression")]
pub use reader::{BatchReader, OpenError, ReadHeader, ReadRecord};
pub use records::{Record, RecordHeader, RecordHeaders, Records};
pub use validate::{
    ProducerSequence, ValidBatch, ValidationLevel, ValidationLimits, check_records, validate,
};

#[cfg(test)]
mod tests;
