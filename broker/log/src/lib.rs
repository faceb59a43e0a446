//! The memory: what one node keeps on disk, and the only code that writes it.
//!
//! ```text
//!        shards                                                        readers
//!          │ Work                                                         │ Bytes, lent
//!          v                                                              │
//!   ┌─ CommitCycle ── writes all that gathered, flushes once ─┐     ┌─ LogReader ─┐
//!   │   LogWriter, one per log          MetaLog, one per node │     │  plan, read │
//!   └──────┬──────────────────────────────────┬───────────────┘     └──────┬──────┘
//!          │ pwrite            Done, after the │ flush                map  │
//!          v                                   v                          v
//!   partitions/<incarnation>/<base>.log .side state-<applied>   meta.a meta.b IDENTITY LOCK
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss
    )
)]

mod bytes_io;
mod cycle;
mod data_dir;
mod disk;
mod dump;
mod frames;
mod index;
mod meta;
mod reader;
mod recovery;
mod segment;
mod shared;
mod side;
#[cfg(any(test, feature = "sim"))]
pub mod sim_disk;
mod space;
mod state_file;
mod sys;
mod tail;
#[cfg(test)]
mod tests;
mod work;
mod writer;

pub use cycle::CommitCycle;
pub use data_dir::{DataDir, DataDirOptions, Founder, Identity, OpenError, Opened};
pub use disk::{
    DirEntry, Disk, DiskFile, DiskSpace, FileMap, LockError, LockGuard, RealDisk, RealDiskOptions,
    SYNCFS_FILES_MIN,
};
pub use dump::{DumpedBatch, DumpedFrame, DumpedPlace, SegmentDump};
pub use reader::{
    Bounds, LogReader, ReadError, ReadRange, SealedSegment, StoredFrame, TimestampCandidate,
};
pub use recovery::{CorruptRange, RecoveredLog, RecoveryReport, StoredState, TornTail};
pub use segment::{SEGMENT_HEADER_BYTES, SEGMENT_VERSION, SegmentHeader};
pub use work::*;
