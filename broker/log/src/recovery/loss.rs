//! What of a damaged log is gone, range by range, if nobody else has it.
//!
//! ```text
//!   frames │ ??? │ frames │ garbage │ frame │ nothing more, and proof of more
//!           range 1         range 2           range 3, to the end: nobody knows how many records
//! ```
//!
//! What is found here is what a closing fills ([`crate::Mend::accepts_loss`]), and it is said
//! before anything is filled.
//!
//! What a truncation has dropped lies about behind the end of a segment, and may be intact when
//! what was written in its place is not. It is told by flushes: whatever was written at a lower
//! index by a later flush was written when the frame was gone already.
//!
//! Invariants
//! - A frame is kept if it is intact and everything between it and the last one that is kept can
//!   be stood for by one gap frame per index.
//!
//! Absent on purpose: filling (`mending`), and whose say it is to accept a loss.

use crate::tail::Tail;
use bateau_protocol::frame::FrameHeader;
use bateau_protocol::ids::{FlushSequence, LogIndex, Offset};
use std::collections::{BTreeMap, BTreeSet};

/// Entries of a log that are gone, one behind the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LostRange {
    /// First index.
    pub first_index: LogIndex,
    /// Last index; at the log's end the last one that is known to have been durable.
    pub last_index: LogIndex,
    /// First offset.
    pub first_offset: Offset,
    /// Offset behind the last one; equal to the first where no records are lost, and `None` at the
    /// log's end, where nobody can say how many there were.
    pub end_offset: Option<Offset>,
    /// First index of the segment in which the damage begins, which names its file.
    pub segment: LogIndex,
    /// Where in the segment file, in bytes.
    pub position: u64,
}

/// What a damaged log has lost, if nobody else has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// The ranges, in order.
    pub ranges: Vec<LostRange>,
    /// The segment by which [`crate::Work::Mend`] is to be asked to close the first one. Errors:
    /// why the log cannot go on without what is lost, in words.
    pub closable: Result<LogIndex, String>,
}

/// What was written when, by side headers and segment headers.
#[derive(Clone, Debug, Default)]
pub(super) struct Evidence {
    /// Indexes, and the newest flush at or below each of them, once it is settled.
    written: Vec<(LogIndex, FlushSequence)>,
}

impl Evidence {
    pub(super) fn note(&mut self, index: LogIndex, flush_sequence: FlushSequence) {
        // Headers come in order, and many are of one flush.
        let says_more = |(before, newest): &(LogIndex, FlushSequence)| {
            index < *before || flush_sequence > *newest
        };
        if self.written.last().is_none_or(says_more) {
            self.written.push((index, flush_sequence));
        }
    }

    /// All of it was noted.
    pub(super) fn settle(&mut self) {
        self.written.sort_unstable();
        let mut newest = FlushSequence::ZERO;
        for (_, flush_sequence) in &mut self.written {
            newest = newest.max(*flush_sequence);
            *flush_sequence = newest;
        }
    }

    /// Whether a frame of this index and flush had been dropped when something was written before
    /// it.
    pub(super) fn belies(&self, index: LogIndex, flush_sequence: FlushSequence) -> bool {
        let before = self.written.partition_point(|(other, _)| *other < index);
        let newest = before.checked_sub(1).and_then(|at| self.written.get(at));
        newest.is_some_and(|(_, newest)| *newest > flush_sequence)
    }
}

/// Follows the intact frames behind a log's stop.
#[derive(Clone, Debug)]
pub(super) struct LossWalk {
    tail: Tail,
    ranges: Vec<LostRange>,
    /// The first frame of each segment that is kept, by the segment's base index.
    first_kept: BTreeMap<LogIndex, FrameHeader>,
    /// Where a frame is kept that does not lie behind the one before it.
    banks: BTreeSet<(LogIndex, u64)>,
}

impl LossWalk {
    /// From the last frame that follows on.
    pub(super) fn from(tail: Tail) -> Self {
        Self { tail, ranges: Vec::new(), first_kept: BTreeMap::new(), banks: BTreeSet::new() }
    }

    /// Where the frames that follow end: in this segment, at this byte.
    pub(super) fn stand_at(&mut self, segment: LogIndex, position: u64) {
        (self.tail.segment, self.tail.position) = (segment, position);
    }

    /// An intact frame of the log's future, in the order of files and places.
    pub(super) fn meet(&mut self, header: &FrameHeader, segment: LogIndex, position: u64) {
        if !self.tail.can_be_closed_up_to(header) {
            return;
        }
        if (self.tail.segment, self.tail.position) != (segment, position) {
            self.banks.insert((segment, position));
        }
        self.lose_up_to(header.index.previous(), Some(header.base_offset));
        self.stand_at(segment, position);
        self.tail = self.tail.after(header);
        self.first_kept.entry(segment).or_insert(*header);
    }

    /// The first frame that is kept in this segment or behind it.
    pub(super) fn first_kept_from(&self, segment: LogIndex) -> Option<FrameHeader> {
        self.first_kept.range(segment..).next().map(|(_, header)| *header)
    }

    /// Where in a segment's file it goes on with a frame behind a hole.
    pub(super) fn banks_in(&self, segment: LogIndex) -> Vec<u64> {
        let banks = self.banks.range((segment, 0)..=(segment, u64::MAX));
        banks.map(|(_, position)| *position).collect()
    }

    /// The ranges, where everything up to `last` was there once.
    pub(super) fn ranges_up_to(&self, last: LogIndex) -> Vec<LostRange> {
        let mut walk = self.clone();
        walk.lose_up_to(last, None);
        walk.ranges
    }

    /// The last frame that is kept, and where it ends.
    pub(super) fn end(&self) -> Tail {
        self.tail
    }

    fn lose_up_to(&mut self, last_index: LogIndex, end_offset: Option<Offset>) {
        let Tail { index, next_offset: first_offset, segment, position, .. } = self.tail;
        let first_index = index.next();
        if first_index <= last_index {
            self.ranges.push(LostRange {
                first_index,
                last_index,
                first_offset,
                end_offset,
                segment,
                position,
            });
        }
    }
}

impl Tail {
    /// Whether gap frames, one per index, can lead from here to an intact frame, or nothing is
    /// missing before it.
    pub(crate) fn can_be_closed_up_to(&self, header: &FrameHeader) -> bool {
        let is_behind = header.index > self.index
            && header.term >= self.term
            && header.base_offset >= self.next_offset
            && header.flush_sequence >= self.flush_sequence;
        if !is_behind {
            return false;
        }
        if header.index == self.index.next() {
            return header.base_offset == self.next_offset && header.previous_crc == self.chain_crc;
        }
        header.base_offset.get() - self.next_offset.get() <= self.span_max(header.index.previous())
    }

    /// Offsets that gap frames from here to `last` can count. The log's first frame counts none: it
    /// is where every replica begins.
    pub(crate) fn span_max(&self, last: LogIndex) -> u64 {
        let frames = last.get().saturating_sub(self.index.get().max(1));
        frames.saturating_mul(u64::from(u32::MAX))
    }
}
