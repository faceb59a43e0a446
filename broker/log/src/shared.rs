//! What the writer of a log publishes and its readers look at.
//!
//! Invariants
//! - A reader that sees an end offset sees the segment list and the segment ends that belong to
//!   it: the writer stores them in that order, with release.
//!
//! Absent on purpose: a lock that both sides hold for longer than it takes to copy a pointer.

use crate::recovery::CorruptRange;
use crate::segment::Segment;
use crate::work::{Done, LogStart};
use bateau_protocol::ids::{Incarnation, LogIndex, Offset};
use bateau_protocol::terms::TermTable;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Segments of a log, oldest first; never empty.
pub(crate) type SegmentList = Arc<Vec<Arc<Segment>>>;

/// Segments in which damage was met that wait to be told of, at most; it is met again.
const DAMAGED_MAX: usize = 1_000;

/// What all logs of a data directory have in common.
#[derive(Debug, Default)]
pub(crate) struct NodeWide {
    /// Bytes that this process has written.
    pub(crate) written: AtomicU64,
    /// Segments in which readers have met damage since it was told last.
    damaged: Mutex<BTreeSet<(Incarnation, LogIndex)>>,
}

impl NodeWide {
    /// Notes that committed frames of a segment cannot be read.
    pub(crate) fn note_damaged(&self, log: Incarnation, segment: LogIndex) {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        if damaged.len() < DAMAGED_MAX {
            damaged.insert((log, segment));
        }
    }

    /// What has been noted since the last call.
    pub(crate) fn take_damaged(&self) -> Vec<Done> {
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        let told = std::mem::take(&mut *damaged).into_iter();
        told.map(|(incarnation, segment)| Done::Damaged { incarnation, segment }).collect()
    }
}

#[derive(Debug)]
pub(crate) struct LogShared {
    pub(crate) incarnation: Incarnation,
    segments: RwLock<SegmentList>,
    terms: RwLock<Arc<TermTable>>,
    start: RwLock<LogStart>,
    last_index: AtomicU64,
    end_offset: AtomicU64,
    pub(crate) node: Arc<NodeWide>,
    hole: RwLock<Option<CorruptRange>>,
}

/// What a log publishes at its birth or recovery.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) terms: TermTable,
    pub(crate) start: LogStart,
    pub(crate) last_index: LogIndex,
    pub(crate) end_offset: Offset,
    pub(crate) hole: Option<CorruptRange>,
}

fn read<T: Clone>(lock: &RwLock<T>) -> T {
    lock.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn write<T>(lock: &RwLock<T>, value: T) {
    *lock.write().unwrap_or_else(PoisonError::into_inner) = value;
}

impl LogShared {
    pub(crate) fn new(
        incarnation: Incarnation,
        first: Published,
        node: Arc<NodeWide>,
    ) -> Arc<Self> {
        Arc::new(Self {
            incarnation,
            segments: RwLock::new(Arc::new(first.segments)),
            terms: RwLock::new(Arc::new(first.terms)),
            start: RwLock::new(first.start),
            last_index: AtomicU64::new(first.last_index.get()),
            end_offset: AtomicU64::new(first.end_offset.get()),
            node,
            hole: RwLock::new(first.hole),
        })
    }

    /// Shows what another recovery has found of the log.
    pub(crate) fn show(&self, found: Published) {
        write(&self.hole, found.hole);
        self.set_terms(found.terms);
        self.set_start(found.start);
        self.set_segments(found.segments);
        self.publish(found.last_index, found.end_offset);
    }

    /// Where the readable log ends, if recovery found a hole there.
    pub(crate) fn hole(&self) -> Option<CorruptRange> {
        read(&self.hole)
    }

    pub(crate) fn segments(&self) -> SegmentList {
        read(&self.segments)
    }

    pub(crate) fn set_segments(&self, segments: Vec<Arc<Segment>>) {
        write(&self.segments, Arc::new(segments));
    }

    pub(crate) fn terms(&self) -> Arc<TermTable> {
        read(&self.terms)
    }

    pub(crate) fn set_terms(&self, terms: TermTable) {
        write(&self.terms, Arc::new(terms));
    }

    pub(crate) fn start(&self) -> LogStart {
        read(&self.start)
    }

    pub(crate) fn set_start(&self, start: LogStart) {
        write(&self.start, start);
    }

    pub(crate) fn last_index(&self) -> LogIndex {
        LogIndex::new(self.last_index.load(Ordering::Acquire))
    }

    pub(crate) fn end_offset(&self) -> Offset {
        Offset::new(self.end_offset.load(Ordering::Acquire))
    }

    pub(crate) fn publish(&self, last_index: LogIndex, end_offset: Offset) {
        self.last_index.store(last_index.get(), Ordering::Release);
        self.end_offset.store(end_offset.get(), Ordering::Release);
    }
}
