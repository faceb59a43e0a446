//! A partition as readers see it: atomics and an immutable view of the log, never the replica.
//!
//! Invariants
//! - `I5` The high watermark never falls; the shard is its only writer.
//! - Whoever parks here is woken by the next commit, change of leader or failure.
//!
//! Absent on purpose: locks on the read path.

use bateau_core::controller::TopicConfig;
use bateau_log::LogReader;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, Term};
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use tokio::sync::Notify;

/// Somebody who waits for a partition to change.
pub trait Sleeper: Debug + Send + Sync {
    /// It has. Must not wait for anything.
    fn wake(&self);
}

impl Sleeper for Notify {
    fn wake(&self) {
        self.notify_one();
    }
}

/// One partition on this node.
#[derive(Debug)]
pub struct PartitionView {
    incarnation: Incarnation,
    reader: LogReader,
    high_watermark: AtomicU64,
    /// Index of the last entry that is committed.
    committed: AtomicU64,
    /// Term that this node leads; zero while it does not.
    leader_term: AtomicU64,
    /// Who leads, as far as is known here.
    leader: RwLock<Option<(NodeId, Term)>>,
    /// Damaged or isolated: what lies below the high watermark is served, nothing is appended.
    is_unavailable: AtomicBool,
    config: RwLock<Arc<TopicConfig>>,
    parked: Mutex<Vec<Weak<dyn Sleeper>>>,
}

impl PartitionView {
    /// A view of a log that nobody leads yet.
    #[must_use]
    pub fn new(incarnation: Incarnation, reader: LogReader) -> Self {
        Self {
            incarnation,
            reader,
            high_watermark: AtomicU64::new(0),
            committed: AtomicU64::new(0),
            leader_term: AtomicU64::new(0),
            leader: RwLock::default(),
            is_unavailable: AtomicBool::new(false),
            config: RwLock::default(),
            parked: Mutex::default(),
        }
    }

    /// Birth id.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Reads the log.
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// First offset that is not committed.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Acquire))
    }

    /// Index of the last entry that is committed, as far as is known here.
    #[must_use]
    pub fn committed(&self) -> LogIndex {
        LogIndex::new(self.committed.load(Ordering::Acquire))
    }

    /// First offset that may be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.reader.bounds().start.offset
    }

    /// The term that this node leads, if it does.
    #[must_use]
    pub fn leader_term(&self) -> Option<Term> {
        let term = self.leader_term.load(Ordering::Acquire);
        (term != 0).then_some(Term::new(term))
    }

    /// Whether the partition is damaged or isolated.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        self.is_unavailable.load(Ordering::Acquire)
    }

    /// The node that leads and its term, as far as is known here. This node is named only once it
    /// admits requests.
    #[must_use]
    pub fn leader(&self) -> Option<(NodeId, Term)> {
        *self.leader.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is known how the partition is served: led by somebody, or not at all.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.leader().is_some() || self.is_unavailable()
    }

    /// The topic's configuration.
    #[must_use]
    pub fn config(&self) -> Arc<TopicConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Registers a sleeper that wants to hear of the next change. Dropping `sleeper` takes it
    /// back. Cost: one short lock.
    pub fn park<S: Sleeper + 'static>(&self, sleeper: &Arc<S>) {
        let sleeper = Arc::downgrade(sleeper);
        let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
        if parked.len() == parked.capacity() {
            parked.retain(|sleeper| sleeper.strong_count() > 0);
        }
        parked.push(sleeper);
    }

    pub(crate) fn set_config(&self, config: TopicConfig) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
    }

    /// Publishes a commit. Sleepers are woken by [`Self::wake`], once per turn.
    pub(crate) fn set_committed(&self, committed: LogIndex, high_watermark: Offset) {
        self.committed.store(committed.get(), Ordering::Release);
        let before = self.high_watermark.swap(high_watermark.get(), Ordering::AcqRel);
        assert!(before <= high_watermark.get(), "I5: a high watermark never falls");
    }

    pub(crate) fn set_leader(&self, leader: Option<(NodeId, Term)>) {
        *self.leader.write().unwrap_or_else(PoisonError::into_inner) = leader;
    }

    pub(crate) fn set_leader_term(&self, term: Option<Term>) {
        self.leader_term.store(term.map_or(0, Term::get), Ordering::Release);
    }

    pub(crate) fn set_unavailable(&self) {
        self.set_leader_term(None);
        self.is_unavailable.store(true, Ordering::Release);
    }

    /// Wakes everybody who is parked here.
    pub(crate) fn wake(&self) {
        let parked = {
            let mut parked = self.parked.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *parked)
        };
        for sleeper in parked.iter().filter_map(Weak::upgrade) {
            sleeper.wake();
        }
    }
}
