//! The end of a replica's log in memory, and raft's view of the log.
//!
//! ```text
//!   on disk only              kept for followers         pinned
//!   first … before       |  before+1 … applied      |  applied+1 … last
//! ```
//!
//! Raft's `Storage` is synchronous and panics on an entry that it cannot get, so everything that
//! is not applied yet is pinned. What is applied is kept while a follower lags behind it and the
//! node's [budget](TailBudget) lasts; older entries are read from the disk when raft asks for them
//! on behalf of a follower, which is the only caller that may wait. `term(i)` comes from the term
//! table.
//!
//! Invariants
//! - `I-LOG-1` Indexes have no gaps and terms never fall.
//! - `I-LOG-2` `base_offset` equals the previous frame's `base_offset + record_count`.
//! - An overwritten suffix takes both coordinates back to the frame before it, never by counting.
//!
//! Absent on purpose: reading files. What is wanted of the disk is an effect.

use super::sending::SnapshotBudget;
use super::stamp::{self, Stamp};
use super::trim::LogStart;
use crate::replica::membership::Membership;
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{LogIndex, Offset, Term};
use bateau_protocol::terms::TermTable;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of applied entries that all tails of a node keep for followers that lag.
pub const KEPT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What the tails of one node keep together beyond what they must, and how many snapshots of them
/// are on their way.
#[derive(Clone, Debug, Default)]
pub struct TailBudget {
    kept_bytes: Arc<AtomicUsize>,
    /// See there.
    pub(super) snapshots: SnapshotBudget,
}

impl TailBudget {
    // The tails of a node live on its shards; the sum may be stale by what another shard does in
    // this moment, which a budget can bear.
    fn is_exhausted(&self) -> bool {
        self.kept_bytes.load(Ordering::Relaxed) > KEPT_BYTES_MAX
    }

    fn take(&self, bytes: usize) {
        self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// An entry's place in both coordinates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Coordinates {
    pub index: LogIndex,
    /// The offset that the next frame must carry.
    pub next_offset: Offset,
}

/// What raft is told at start.
#[derive(Clone, Debug)]
pub(super) struct TailStart {
    pub hard_state: HardState,
    /// As applied at `applied`.
    pub membership: Membership,
    pub start: LogStart,
    pub terms: TermTable,
    /// The last applied entry. Recovery applies all that it knows to be committed.
    pub applied: Coordinates,
    /// What is flushed behind it.
    pub uncommitted: Vec<Frame>,
    pub budget: TailBudget,
}

/// Entries that raft asked for on behalf of a follower and that only the disk has.
#[derive(Debug)]
pub(super) struct Wanted {
    pub first: LogIndex,
    /// The last one, at most.
    pub last: LogIndex,
    /// The first entry comes even if it is larger.
    pub bytes_max: u64,
    pub context: GetEntriesContext,
}

/// What the disk had of them.
#[derive(Debug)]
struct Offered {
    first: LogIndex,
    /// `None`: not there any more; the follower needs a snapshot.
    entries: Option<Vec<Entry>>,
}

/// What an append changes in the log.
#[derive(Debug, Default)]
pub(super) struct Appended {
    /// Everything from this index on is dropped first.
    pub truncate_from: Option<LogIndex>,
    pub frames: Vec<Frame>,
    /// Everything up to here is committed, as a change of the configuration in them proves.
    pub committed_to: Option<LogIndex>,
}

/// The end of the log.
#[derive(Debug)]
pub(super) struct Tail {
    hard_state: HardState,
    conf_state: ConfState,
    start: LogStart,
    terms: TermTable,
    /// The entry before `entries`.
    before: Coordinates,
    entries: VecDeque<TailEntry>,
    applied: LogIndex,
    budget: TailBudget,
    /// Payload bytes of the applied entries that are still here.
    kept_bytes: usize,
    // `Storage` asks through a shared reference.
    wanted: RefCell<Vec<Wanted>>,
    offered: Option<Offered>,
}

#[derive(Debug)]
struct TailEntry {
    entry: Entry,
    stamp: Stamp,
}

impl Tail {
    pub fn new(start: TailStart) -> Self {
        let mut tail = Self {
            hard_state: start.hard_state,
            conf_state: start.membership.conf_state(),
            start: start.start,
            terms: start.terms,
            before: start.applied,
            entries: VecDeque::new(),
            applied: start.applied.index,
            budget: start.budget,
            kept_bytes: 0,
            wanted: RefCell::default(),
            offered: None,
        };
        // The terms of what is uncommitted are noted with it.
        tail.terms.truncate_from(start.applied.index.next());
        for frame in start.uncommitted {
            tail.append_one(entry(frame));
        }
        tail
    }

    pub fn last(&self) -> Coordinates {
        self.entries.back().map_or(self.before, |last| last.coordinates())
    }

    /// Takes what raft appended. Entries that overwrite a suffix drop it first.
    ///
    /// An entry without a context is raft's own (an election's no-op): its coordinates derive from
    /// the frame before.
    pub fn append(&mut self, entries: Vec<Entry>) -> Appended {
        let first = entries.first().map(|entry| LogIndex::new(entry.index));
        let truncate_from = first.filter(|first| *first <= self.last().index);
        if let Some(index) = truncate_from {
            self.truncate_from(index);
        }
        let frames: Vec<Frame> = entries.into_iter().map(|entry| self.append_one(entry)).collect();
        let changes = frames.iter().any(|frame| frame.kind == FrameKind::Membership);
        let committed_to = if changes { self.committed_by_changes() } else { None };
        Appended { truncate_from, frames, committed_to }
    }

    /// The last but one change of the configuration that is not applied here: it is committed, for
    /// whoever proposed the last one had applied it.
    fn committed_by_changes(&self) -> Option<LogIndex> {
        let pinned = self.entries.iter().rev();
        let pinned = pinned.take_while(|found| found.entry.index > self.applied.get());
        let mut changes = pinned.filter(|found| found.stamp.kind == FrameKind::Membership);
        changes.nth(1).map(|found| LogIndex::new(found.entry.index))
    }

    fn append_one(&mut self, mut entry: Entry) -> Frame {
        stamp::settle(&mut entry);
        let last = self.last();
        let index = LogIndex::new(entry.index);
        let term = Term::new(entry.term);
        let stamp = Stamp::decode(&entry.context).unwrap_or(Stamp {
            kind: FrameKind::Noop,
            base_offset: last.next_offset,
            record_count: 0,
            payload_crc: 0,
        });
        assert_eq!(index, last.index.next(), "I-LOG-1: an index was skipped");
        assert_eq!(stamp.base_offset, last.next_offset, "I-LOG-2: an offset was skipped");
        assert!(self.terms.last().is_none_or(|last| last.term <= term), "I-LOG-1: a term fell");
        self.terms.note(term, index, stamp.base_offset);
        if entry.context.is_empty() {
            entry.context = stamp.encode();
        }
        let appended = TailEntry { entry, stamp };
        let frame = appended.frame();
        self.entries.push_back(appended);
        frame
    }

    fn truncate_from(&mut self, index: LogIndex) {
        assert!(index > self.applied, "I5: an applied entry is never overwritten");
        while self.entries.back().is_some_and(|last| last.entry.index >= index.get()) {
            self.entries.pop_back();
        }
        self.terms.truncate_from(index);
    }

    /// Offset behind the entry at `index`, which is here or the one right before.
    pub fn end_offset_at(&self, index: LogIndex) -> Option<Offset> {
        if index == self.before.index {
            return Some(self.before.next_offset);
        }
        self.get(index).map(|found| found.coordinates().next_offset)
    }

    /// The frames behind `index`, all of which are pinned.
    pub fn frames_behind(&self, index: LogIndex) -> Vec<Frame> {
        let behind = self.entries.iter().filter(|found| found.entry.index > index.get());
        behind.map(TailEntry::frame).collect()
    }

    /// Everything up to `applied` has been applied: what no follower needs is let go.
    ///
    /// - `needed`: the first index that a follower in contact may still ask for.
    pub fn release_to(&mut self, applied: LogIndex, needed: LogIndex) {
        let newly = self.entries.iter().skip(self.kept_count());
        let newly = newly.take_while(|found| found.entry.index <= applied.get());
        let bytes: usize = newly.map(|found| found.entry.data.len()).sum();
        self.applied = self.applied.max(applied);
        self.kept_bytes += bytes;
        self.budget.take(bytes);
        while let Some(first) = self.entries.front()
            && first.entry.index <= self.applied.get()
            && (first.entry.index < needed.get() || self.budget.is_exhausted())
        {
            self.release_first();
        }
    }

    fn release_first(&mut self) {
        let Some(released) = self.entries.pop_front() else { return };
        let bytes = released.entry.data.len();
        self.kept_bytes -= bytes;
        self.budget.give_back(bytes);
        self.before = released.coordinates();
    }

    fn kept_count(&self) -> usize {
        usize::try_from(self.applied.get() - self.before.index.get()).unwrap_or(usize::MAX)
    }

    /// The log's beginning has moved up to `start`.
    pub fn trim_to(&mut self, start: LogStart) {
        assert!(start.index >= self.start.index, "I5: a log start never moves back");
        while self.entries.front().is_some_and(|first| first.entry.index < start.index.get()) {
            self.release_first();
        }
        self.start = start;
        self.terms.trim_to(start.index, start.offset);
    }

    /// The configuration as applied.
    pub fn set_conf_state(&mut self, state: ConfState) {
        self.conf_state = state;
    }

    /// Where the log starts, as raft was last told.
    pub fn start(&self) -> LogStart {
        self.start
    }

    /// What raft asked for since the last call and did not find here.
    pub fn take_wanted(&mut self) -> Vec<Wanted> {
        std::mem::take(self.wanted.get_mut())
    }

    /// Holds what the disk had, from `first` on, for raft's next question; `None` where it has
    /// nothing there any more.
    pub fn offer(&mut self, first: LogIndex, frames: Option<Vec<Frame>>) {
        let entries = frames.map(|frames| frames.into_iter().map(entry).collect());
        self.offered = Some(Offered { first, entries });
    }

    pub fn withdraw_offer(&mut self) {
        self.offered = None;
    }

    fn get(&self, index: LogIndex) -> Option<&TailEntry> {
        let at = index.get().checked_sub(self.before.index.get())?.checked_sub(1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// What is only on the disk: offered, or to be asked for.
    fn entries_on_disk(
        &self,
        low: u64,
        high: u64,
        bytes_max: u64,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if let Some(offered) = &self.offered
            && offered.first.get() == low
        {
            let entries = offered.entries.as_ref().ok_or(Error::Store(StorageError::Compacted))?;
            let asked = entries.iter().take_while(|entry| entry.index < high);
            return Ok(within(asked, bytes_max));
        }
        assert!(context.can_async(), "R9: raft asked for applied entries and cannot wait");
        let (first, last) = (LogIndex::new(low), LogIndex::new(high).previous());
        let last = last.min(self.before.index);
        self.wanted.borrow_mut().push(Wanted { first, last, bytes_max, context });
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.budget.give_back(self.kept_bytes);
    }
}

/// The first entries of at most `bytes_max`, and at least one.
fn within<'a>(entries: impl Iterator<Item = &'a Entry>, bytes_max: u64) -> Vec<Entry> {
    let mut bytes = 0_u64;
    let mut is_first = true;
    let fits = |entry: &&Entry| {
        bytes += entry.data.len() as u64;
        std::mem::take(&mut is_first) || bytes <= bytes_max
    };
    entries.take_while(fits).cloned().collect()
}

fn entry(frame: Frame) -> Entry {
    let stamp = Stamp {
        kind: frame.kind,
        base_offset: frame.base_offset,
        record_count: frame.record_count,
        payload_crc: frame.payload_crc,
    };
    Entry {
        entry_type: stamp::entry_type(frame.kind),
        term: frame.term.get(),
        index: frame.index.get(),
        data: frame.payload,
        context: stamp.encode(),
        ..Entry::default()
    }
}

impl TailEntry {
    fn frame(&self) -> Frame {
        Frame {
            kind: self.stamp.kind,
            term: Term::new(self.entry.term),
            index: LogIndex::new(self.entry.index),
            base_offset: self.stamp.base_offset,
            record_count: self.stamp.record_count,
            payload_crc: self.stamp.payload_crc,
            payload: self.entry.data.clone(),
        }
    }

    fn coordinates(&self) -> Coordinates {
        Coordinates {
            index: LogIndex::new(self.entry.index),
            next_offset: self.stamp.base_offset.plus(self.stamp.record_count),
        }
    }
}

impl Storage for Tail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        if low <= self.before.index.get() {
            return self.entries_on_disk(low, high, bytes_max, context);
        }
        if high > self.last().index.get() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let at = usize::try_from(low - self.before.index.get() - 1).unwrap_or(usize::MAX);
        let asked = self.entries.iter().skip(at).map(|found| &found.entry);
        Ok(within(asked.take_while(|entry| entry.index < high), bytes_max))
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let index = LogIndex::new(index);
        if index > self.last().index {
            return Err(Error::Store(StorageError::Unavailable));
        }
        if index == self.start.index.previous() {
            return Ok(self.start.previous_term.get());
        }
        let term = self.terms.term_at(index).map(Term::get);
        term.ok_or(Error::Store(StorageError::Compacted))
    }

    /// Never below 2, because frame 1 is the log's base, committed from birth; except where there
    /// is nothing yet, not even that.
    fn first_index(&self) -> raft::Result<u64> {
        let is_empty = self.last().index == LogIndex::ZERO;
        Ok(if is_empty { 1 } else { self.start.index.get().max(2) })
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index.get())
    }

    /// The entry before the log's start. What a snapshot consists of beside its index, whoever
    /// sends it adds; raft asks again later where too many are on their way.
    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        let index = self.start.index.previous();
        if index == LogIndex::ZERO || !self.budget.snapshots.has_room() {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        let mut snapshot = Snapshot::default();
        let metadata = snapshot.mut_metadata();
        metadata.index = index.get();
        metadata.term = self.start.previous_term.get();
        metadata.set_conf_state(self.conf_state.clone());
        Ok(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn tail() -> Tail {
        let mut terms = TermTable::default();
        terms.note(Term::new(1), LogIndex::new(1), Offset::ZERO);
        Tail::new(TailStart {
            hard_state: HardState::default(),
            membership: Membership::default(),
            start: LogStart { index: LogIndex::new(1), ..LogStart::default() },
            terms,
            applied: Coordinates { index: LogIndex::new(1), next_offset: Offset::ZERO },
            uncommitted: Vec::new(),
            budget: TailBudget::default(),
        })
    }

    fn entry(term: u64, index: u64, base_offset: u64, record_count: u32) -> Entry {
        let stamp = Stamp {
            kind: FrameKind::Records,
            base_offset: Offset::new(base_offset),
            record_count,
            payload_crc: 9,
        };
        let data = Bytes::from_static(b"payload");
        Entry { term, index, data, context: stamp.encode(), ..Entry::default() }
    }

    fn entries(tail: &Tail, low: u64, high: u64, max: Option<u64>) -> Vec<u64> {
        let found = tail.entries(low, high, max, GetEntriesContext::empty(false)).unwrap();
        found.iter().map(|entry| entry.index).collect()
    }

    #[test]
    fn an_entry_of_raft_itself_derives_its_place_from_the_frame_before() {
        let mut tail = tail();
        let noop = Entry { term: 2, index: 3, ..Entry::default() };
        let frames = tail.append(vec![entry(2, 2, 0, 5), noop]).frames;
        assert_eq!(frames[1].kind, FrameKind::Noop);
        assert_eq!(frames[1].base_offset, Offset::new(5));
        assert_eq!(tail.last().next_offset, Offset::new(5));
    }

    #[test]
    #[should_panic(expected = "I-LOG-2")]
    fn a_skipped_offset_stops_the_replica() {
        tail().append(vec![entry(2, 2, 1, 5)]);
    }

    #[test]
    #[should_panic(expected = "I-LOG-1")]
    fn a_skipped_index_stops_the_replica() {
        tail().append(vec![entry(2, 3, 0, 5)]);
    }

    #[test]
    fn an_overwritten_suffix_resets_both_coordinates() {
        let mut tail = tail();
        let appended = tail.append(vec![entry(2, 2, 0, 5), entry(2, 3, 5, 5), entry(2, 4, 10, 5)]);
        assert_eq!(appended.truncate_from, None);
        let appended = tail.append(vec![entry(3, 3, 5, 1)]);
        assert_eq!(appended.truncate_from, Some(LogIndex::new(3)));
        assert_eq!(
            tail.last(),
            Coordinates { index: LogIndex::new(3), next_offset: Offset::new(6) }
        );
        assert_eq!(tail.term(3).unwrap(), 3);
        assert_eq!(tail.term(2).unwrap(), 2);
    }

    #[test]
    fn what_is_applied_is_let_go_and_the_rest_is_lent_by_size() {
        let mut tail = tail();
        tail.append(vec![entry(2, 2, 0, 5), entry(2, 3, 5, 5), entry(2, 4, 10, 5)]);
        assert_eq!(entries(&tail, 2, 5, Some(14)), [2, 3]);
        assert_eq!(entries(&tail, 2, 5, Some(0)), [2]);
        tail.release_to(LogIndex::new(2), LogIndex::new(3));
        assert_eq!(entries(&tail, 3, 5, None), [3, 4]);
        assert_eq!(tail.end_offset_at(LogIndex::new(2)), Some(Offset::new(5)));
        assert_eq!(tail.end_offset_at(LogIndex::new(4)), Some(Offset::new(15)));
        assert_eq!(tail.end_offset_at(LogIndex::new(5)), None);
        assert_eq!(tail.term(1).unwrap(), 1);
        assert!(tail.term(5).is_err());
    }

    #[test]
    fn after_a_trim_the_term_before_the_first_index_is_still_known() {
        let mut tail = tail();
        tail.append(vec![entry(2, 2, 0, 5), entry(4, 3, 5, 5), entry(4, 4, 10, 5)]);
        tail.release_to(LogIndex::new(4), LogIndex::new(5));
        let (index, offset) = (LogIndex::new(3), Offset::new(5));
        tail.trim_to(LogStart { offset, index, previous_term: Term::new(2), previous_crc: 7 });
        assert_eq!(tail.first_index().unwrap(), 3);
        assert_eq!(tail.term(2).unwrap(), 2);
        assert_eq!(tail.term(3).unwrap(), 4);
        assert!(tail.term(1).is_err());
    }

    #[test]
    fn a_snapshot_stands_for_the_entry_before_the_log_and_waits_for_room() {
        let mut tail = tail();
        let unavailable = Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        assert_eq!(tail.snapshot(0, 2), unavailable, "the log has all of its entries");
        tail.append(vec![entry(2, 2, 0, 5), entry(4, 3, 5, 5)]);
        tail.release_to(LogIndex::new(3), LogIndex::new(4));
        let (index, offset) = (LogIndex::new(3), Offset::new(5));
        tail.trim_to(LogStart { offset, index, previous_term: Term::new(2), previous_crc: 7 });
        let snapshot = tail.snapshot(0, 2).unwrap();
        assert_eq!((snapshot.get_metadata().index, snapshot.get_metadata().term), (2, 2));
        let held: Vec<_> = std::iter::from_fn(|| tail.budget.snapshots.take()).take(100).collect();
        assert_eq!(tail.snapshot(0, 2), unavailable, "{} are on their way", held.len());
        drop(held);
        assert!(tail.snapshot(0, 2).is_ok());
    }

    #[test]
    fn what_a_follower_lags_behind_is_kept_until_it_has_it() {
        let mut tail = tail();
        tail.append(vec![entry(2, 2, 0, 5), entry(2, 3, 5, 5), entry(2, 4, 10, 5)]);
        tail.release_to(LogIndex::new(4), LogIndex::new(3));
        assert_eq!(tail.budget.kept_bytes.load(Ordering::Relaxed), 2 * b"payload".len());
        assert_eq!(entries(&tail, 3, 5, None), [3, 4]);
        tail.release_to(LogIndex::new(4), LogIndex::new(5));
        assert_eq!(tail.budget.kept_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nothing_is_kept_for_followers_beyond_the_budget_of_the_node() {
        let mut tail = tail();
        tail.budget.take(KEPT_BYTES_MAX);
        tail.append(vec![entry(2, 2, 0, 5)]);
        tail.release_to(LogIndex::new(2), LogIndex::new(2));
        assert_eq!(tail.kept_bytes, 0);
    }

    #[test]
    fn what_only_the_disk_has_is_asked_for_and_lent_when_it_came() {
        let mut tail = tail();
        let appended = tail.append(vec![entry(2, 2, 0, 5), entry(2, 3, 5, 5), entry(2, 4, 10, 5)]);
        tail.release_to(LogIndex::new(4), LogIndex::new(5));
        let ask = |tail: &Tail| tail.entries(2, 5, Some(100), GetEntriesContext::empty(true));
        let missing = Error::Store(StorageError::LogTemporarilyUnavailable);
        assert_eq!(ask(&tail), Err(missing));
        let wanted = tail.take_wanted();
        assert_eq!((wanted[0].first.get(), wanted[0].last.get()), (2, 4));
        tail.offer(LogIndex::new(2), Some(appended.frames));
        assert_eq!(ask(&tail).unwrap().len(), 3);
        tail.offer(LogIndex::new(2), None);
        assert_eq!(ask(&tail), Err(Error::Store(StorageError::Compacted)));
    }

    #[test]
    fn a_tail_starts_with_what_is_flushed_and_not_known_to_be_committed() {
        let mut first = tail();
        let frames =
            first.append(vec![entry(2, 2, 0, 5), entry(3, 3, 5, 5), entry(3, 4, 10, 5)]).frames;
        let mut terms = first.terms.clone();
        terms.note(Term::new(9), LogIndex::new(9), Offset::new(9));
        let tail = Tail::new(TailStart {
            hard_state: HardState::default(),
            membership: Membership::default(),
            start: LogStart { index: LogIndex::new(1), ..LogStart::default() },
            terms,
            applied: Coordinates { index: LogIndex::new(2), next_offset: Offset::new(5) },
            uncommitted: frames[1..].to_vec(),
            budget: TailBudget::default(),
        });
        assert_eq!(tail.last(), first.last());
        assert_eq!(entries(&tail, 3, 5, None), [3, 4]);
        assert_eq!(tail.term(4).unwrap(), 3);
    }
}
