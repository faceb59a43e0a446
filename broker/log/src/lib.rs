//! The memory: what one node keeps on disk, and the only code that writes it.
//!
//! ```text
//!        shards                                                        readers
//!          │ Work                                                         │ Bytes, lent
//!          v                                                              │
//!   ┌─ CommitCycle ── writes all that gathered, flushes once ─┐     ┌─ LogReader ─┐
//!   │   LogWriter, one per log          MetaLog, one per node │     │ index, map  │
//!   └──────┬──────────────────────────────────┬───────────────┘     └──────┬──────┘
//!          │ pwrite            Done, after the │ flush                map  │
//!          v                                   v                          v
//!   partitions/<incarnation>/<base>.log .side state-<applied>   meta.a meta.b IDENTITY LOCK
//!   recycled/<number>, to be a segment again
//! ```
//!
//! How it is used
//! - [`DataDir::lock`], [`DataDir::identity`], [`DataDir::open`]: gives the [`CommitCycle`], every
//!   [`RecoveredLog`] and a [`RecoveryReport`].
//! - One thread owns the cycle: it gathers [`Work`], calls [`CommitCycle::run`], delivers the
//!   [`Done`]s, then calls [`CommitCycle::background_step`] while there is nothing else, and
//!   [`CommitCycle::on_idle`] within 50 ms of the last work.
//! - [`LogReader`]s are cloned freely and never wait for that thread.
//!
//! Invariants
//! - `I-LOG-1` Indexes have no gaps and terms never fall.
//! - `I-LOG-2` A frame's offset is the offset behind the frame before it.
//! - `I-LOG-3` Nothing at or above the commit is lent as a slice of a map.
//! - `I-LOG-4` What the meta log says is committed or applied is flushed here.
//! - `I-LOG-5` At most one batch of the meta log is unflushed.
//! - `I-LOG-6` No answer leaves before the flush that covers it has returned.
//! - `I-LOG-7` Writes of a flush are issued after the flush before it has returned.
//! - `I-LOG-8` Nothing at or below the durable mark is ever truncated.
//!
//! Absent on purpose: threads, queues and clocks (the body's); Raft, offsets of groups and
//! everything else that decides (the brain's); compaction.

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
mod flush_set;
mod frames;
mod index;
mod mending;
mod meta;
mod reader;
mod recovery;
mod recycle;
mod scrub;
mod segment;
mod share;
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
mod unreadable;
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
    ActiveSegment, Bounds, LogReader, ReadError, ReadRange, SealedSegment, StoredFrame,
    TimestampCandidate,
};
pub use recovery::{
    CorruptRange, Loss, LostRange, RecoveredLog, RecoveryProgress, RecoveryReport, StoredState,
    TornTail,
};
pub use recycle::RecycledSegments;
pub use scrub::{ScrubPlace, Scrubbed};
pub use segment::{SEGMENT_HEADER_BYTES, SEGMENT_VERSION, SegmentHeader};
pub use share::{SHARE_BYTES, take_share};
pub use unreadable::name_unreadable_pages;
pub use work::*;
