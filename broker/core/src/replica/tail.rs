//! The end of a replica's log in memory, and raft's view of the log.
//!
//! ```text
//!   on disk only           pinned here
//!   first … applied  |  applied+1 … last
//! ```
//!
//! Raft's `Storage` is synchronous and panics on an entry that it cannot get, so everything that
//! is not applied yet is pinned; what is applied is let go. `term(i)` comes from the term table.
//!
//! Invariants
//! - `I-LOG-1` Indexes have no gaps and terms never fall.
//! - `I-LOG-2` `base_offset` equals the previous frame's `base_offset + record_count`.
//!
//! Absent on purpose: entries below the applied index. A follower that needs them gets them by an
//! effect (`LogTemporarilyUnavailable`), which arrives with followers.

use crate::replica::membership::Membership;
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{LogIndex, Offset, Term};
use bateau_protocol::terms::TermTable;
use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use std::collections::VecDeque;

/// What a Raft entry's `context` carries beside its payload, so that both coordinates of a frame
/// travel with the entry (design: a leader stamps, a follower asserts).
///
/// ```text
/// kind u8 | base_offset u64 | record_count u32 | payload_crc u32        little-endian
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub kind: FrameKind,
    pub base_offset: Offset,
    pub record_count: u32,
    pub payload_crc: u32,
}

const STAMP_BYTES: usize = 17;

impl Stamp {
    pub fn encode(&self) -> Bytes {
        let mut bytes = [0; STAMP_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1..9].copy_from_slice(&self.base_offset.get().to_le_bytes());
        bytes[9..13].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[13..17].copy_from_slice(&self.payload_crc.to_le_bytes());
        Bytes::copy_from_slice(&bytes)
    }

    /// `None` for an entry that raft made itself: it has no context.
    pub fn decode(context: &[u8]) -> Option<Self> {
        let bytes: &[u8; STAMP_BYTES] = context.try_into().ok()?;
        let [kind, rest @ ..] = *bytes;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (count, crc) = rest.split_first_chunk::<4>()?;
        Some(Self {
            kind: FrameKind::from_number(kind)?,
            base_offset: Offset::new(u64::from_le_bytes(*offset)),
            record_count: u32::from_le_bytes(*count),
            payload_crc: u32::from_le_bytes(crc.try_into().ok()?),
        })
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
    pub membership: Membership,
    /// First index on disk.
    pub first_index: LogIndex,
    /// Term of the entry before `first_index`; zero where the log starts at 1.
    pub previous_term: Term,
    pub terms: TermTable,
    /// The applied entry, and with it the log's last one: recovery applies all that is committed
    /// and a lone voter's log is committed to its end.
    pub last: Coordinates,
}

/// The pinned end of the log.
#[derive(Debug)]
pub(super) struct Tail {
    start: TailStart,
    conf_state: ConfState,
    /// The entry before `entries`.
    before: Coordinates,
    entries: VecDeque<TailEntry>,
}

#[derive(Debug)]
struct TailEntry {
    entry: Entry,
    stamp: Stamp,
}

impl Tail {
    pub fn new(start: TailStart) -> Self {
        let conf_state = start.membership.conf_state();
        let before = start.last;
        Self { start, conf_state, before, entries: VecDeque::new() }
    }

    pub fn last(&self) -> Coordinates {
        self.entries.back().map_or(self.before, |last| last.coordinates())
    }

    /// Takes what raft appended and returns the frames to write. Entries that overwrite a suffix
    /// drop it first.
    ///
    /// An entry without a context is raft's own (an election's no-op): its coordinates derive from
    /// the frame before.
    pub fn append(&mut self, entries: Vec<Entry>) -> Vec<Frame> {
        if let Some(first) = entries.first() {
            self.truncate_from(LogIndex::new(first.index));
        }
        entries.into_iter().map(|entry| self.append_one(entry)).collect()
    }

    fn append_one(&mut self, mut entry: Entry) -> Frame {
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
        assert!(
            self.start.terms.last().is_none_or(|last| last.term <= term),
            "I-LOG-1: a term fell"
        );
        self.start.terms.note(term, index, stamp.base_offset);
        if entry.context.is_empty() {
            entry.context = stamp.encode();
        }
        let appended = TailEntry { entry, stamp };
        let frame = appended.frame();
        self.entries.push_back(appended);
        frame
    }

    fn truncate_from(&mut self, index: LogIndex) {
        assert!(index > self.before.index, "I5: an applied entry is never overwritten");
        while self.entries.back().is_some_and(|last| last.entry.index >= index.get()) {
            self.entries.pop_back();
        }
        self.start.terms.truncate_from(index);
    }

    /// Offset behind the entry at `index`, which is pinned or the one right before the pinned.
    pub fn end_offset_at(&self, index: LogIndex) -> Option<Offset> {
        if index == self.before.index {
            return Some(self.before.next_offset);
        }
        self.get(index).map(|found| found.coordinates().next_offset)
    }

    /// The pinned frames behind `index`.
    pub fn frames_behind(&self, index: LogIndex) -> Vec<Frame> {
        let behind = self.entries.iter().filter(|found| found.entry.index > index.get());
        behind.map(TailEntry::frame).collect()
    }

    /// Lets go of everything up to `applied`.
    pub fn release_to(&mut self, applied: LogIndex) {
        while self.entries.front().is_some_and(|first| first.entry.index <= applied.get()) {
            if let Some(released) = self.entries.pop_front() {
                self.before = released.coordinates();
            }
        }
    }

    /// The log's beginning has moved up to `first_index`.
    pub fn trim_to(&mut self, first_index: LogIndex, previous_term: Term, offset: Offset) {
        assert!(first_index >= self.start.first_index, "I5: a log start never moves back");
        self.start.first_index = first_index;
        self.start.previous_term = previous_term;
        self.start.terms.trim_to(first_index, offset);
    }

    fn get(&self, index: LogIndex) -> Option<&TailEntry> {
        let at = index.get().checked_sub(self.before.index.get())?.checked_sub(1)?;
        self.entries.get(usize::try_from(at).ok()?)
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
        Ok(RaftState::new(self.start.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if LogIndex::new(low) <= self.before.index {
            assert!(context.can_async(), "R9: raft asked for applied entries and cannot wait");
            return Err(Error::Store(StorageError::LogTemporarilyUnavailable));
        }
        let limit_bytes = max_size.into().unwrap_or(u64::MAX);
        let mut size_bytes = 0_u64;
        let mut entries = Vec::new();
        for index in low..high {
            let found =
                self.get(LogIndex::new(index)).ok_or(Error::Store(StorageError::Unavailable))?;
            size_bytes += found.entry.data.len() as u64;
            if size_bytes > limit_bytes && !entries.is_empty() {
                break;
            }
            entries.push(found.entry.clone());
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let index = LogIndex::new(index);
        if index > self.last().index {
            return Err(Error::Store(StorageError::Unavailable));
        }
        if index == self.start.first_index.previous() {
            return Ok(self.start.previous_term.get());
        }
        let term = self.start.terms.term_at(index).map(Term::get);
        term.ok_or(Error::Store(StorageError::Compacted))
    }

    /// Never below 2: frame 1 is the log's base, committed from birth.
    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.first_index.get().max(2))
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().index.get())
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail() -> Tail {
        let mut terms = TermTable::default();
        terms.note(Term::new(1), LogIndex::new(1), Offset::ZERO);
        Tail::new(TailStart {
            hard_state: HardState::default(),
            membership: Membership::default(),
            first_index: LogIndex::new(1),
            previous_term: Term::ZERO,
            terms,
            last: Coordinates { index: LogIndex::new(1), next_offset: Offset::ZERO },
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
    fn a_stamp_survives_the_round_trip() {
        let stamp = Stamp::decode(&entry(1, 1, 77, 3).context).unwrap();
        assert_eq!((stamp.base_offset.get(), stamp.record_count, stamp.payload_crc), (77, 3, 9));
        assert_eq!(Stamp::decode(&[]), None);
    }

    #[test]
    fn an_entry_of_raft_itself_derives_its_place_from_the_frame_before() {
        let mut tail = tail();
        let noop = Entry { term: 2, index: 3, ..Entry::default() };
        let frames = tail.append(vec![entry(2, 2, 0, 5), noop]);
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
        tail.append(vec![entry(2, 2, 0, 5), entry(2, 3, 5, 5), entry(2, 4, 10, 5)]);
        tail.append(vec![entry(3, 3, 5, 1)]);
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
        tail.release_to(LogIndex::new(2));
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
        tail.release_to(LogIndex::new(4));
        tail.trim_to(LogIndex::new(3), Term::new(2), Offset::new(5));
        assert_eq!(tail.first_index().unwrap(), 3);
        assert_eq!(tail.term(2).unwrap(), 2);
        assert_eq!(tail.term(3).unwrap(), 4);
        assert!(tail.term(1).is_err());
    }
}
