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

mod cycle;
mod data_dir;
mod disk;
mod reader;
mod recovery;
mod sys;
mod work;

pub use cycle::CommitCycle;
pub use data_dir::{DataDir, DataDirOptions, Founder, Identity, OpenError, Opened};
pub use disk::{
    DirEntry, Disk, DiskFile, DiskSpace, FileMap, LockError, LockGuard, RealDisk, RealDiskOptions,
    SYNCFS_FILES_MIN,
};
pub use reader::{
    Bounds, LogReader, ReadError, ReadRange, SealedSegment, StoredFrame, TimestampCandidate,
};
pub use recovery::{CorruptRange, RecoveredLog, RecoveryReport, StoredState, TornTail};
pub use work::*;
