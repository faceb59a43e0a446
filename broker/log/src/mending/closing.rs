//! A hole that nobody can fill, closed with gap frames: one for each index that is lost.
//!
//! ```text
//!   old file    │ frame │ ????????????????????? │ frame │    wants the chain CRC of what was there
//!   fresh file  │ frame │ gap, all offsets │ gap │ frame │   the last gap frame has it
//! ```
//!
//! The first gap frame counts the offsets of all, as far as its number reaches. The frames have the
//! term of what lies behind, which is the highest that can have been there, and its flush sequence.
//! Where nothing lies behind, nobody can say how many records there were: then [`SKIPPED_OFFSETS`]
//! are passed over, so that no offset names two records.
//!
//! Invariants
//! - What lies behind a hole is copied as it is: its chain goes on from the last gap frame.
//! - The log's first frame counts no offsets: it is where every replica begins.
//!
//! Absent on purpose: whether a loss is accepted.

use super::{Bank, Behind, LostEnd, Mending, Progress, STEP_BYTES, write_failed};
use crate::bytes_io::length;
use crate::recovery::NextSegment;
use crate::work::MendError;
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use bateau_protocol::gap::Gap;
use bateau_protocol::ids::{FlushSequence, LogIndex, Offset, Term};

/// Offsets that are passed over behind the last one that is known to have been given away.
const SKIPPED_OFFSETS: u32 = u32::MAX;

/// What a run of gap frames leads to.
#[derive(Clone, Copy, Debug)]
struct Run {
    last: LogIndex,
    term: Term,
    end_offset: Offset,
    flush_sequence: FlushSequence,
    /// The chain CRC of its last frame, where something follows.
    chain_crc: Option<u32>,
}

impl Run {
    /// Up to what follows.
    fn before(next: &FrameHeader) -> Self {
        Self {
            last: next.index.previous(),
            term: next.term,
            end_offset: next.base_offset,
            flush_sequence: next.flush_sequence,
            chain_crc: Some(next.previous_crc),
        }
    }
}

impl Mending {
    /// Closes the hole that begins here.
    pub(super) fn close_hole(&mut self, behind: Behind) -> Result<Progress, MendError> {
        let last = behind.last();
        let here = self.find_in_old(last, |header, position| {
            self.banks.contains(&position) && self.tail.can_be_closed_up_to(header)
        })?;
        if let Some((header, position)) = here {
            self.fill_with_gaps(&Run::before(&header))?;
            self.land(Bank::of(&header, Some(position)));
            return Ok(Progress::Copying);
        }
        let run = match behind {
            Behind::Remains(next) => self.run_before(&next)?,
            Behind::Nothing(end) => self.run_to_the_end(&end),
            Behind::Segment(..) | Behind::End(_) | Behind::Unknown => {
                return Ok(Progress::Complete);
            }
        };
        self.fill_with_gaps(&run)?;
        self.source = u64::MAX;
        Ok(Progress::Copying)
    }

    /// What fills the rest of this segment.
    fn run_before(&self, next: &NextSegment) -> Result<Run, MendError> {
        let can_be_closed = |header: &FrameHeader| self.tail.can_be_closed_up_to(header);
        let first = next.kept.filter(|kept| kept.index == next.base);
        let header = next.header.map(|header| FrameHeader {
            kind: FrameKind::Gap,
            term: header.previous_term,
            index: header.base_index,
            base_offset: header.base_offset,
            record_count: 0,
            payload_bytes: 0,
            payload_crc: 0,
            previous_crc: header.previous_crc,
            incarnation: header.incarnation,
            // The last frame before may be of the same flush as the first one in it.
            flush_sequence: header.birth_flush_sequence.next().max(self.tail.flush_sequence),
        });
        if let Some(known) = [first, header].into_iter().flatten().find(can_be_closed) {
            return Ok(Run::before(&known));
        }
        let Some(kept) = next.kept else {
            return Err(MendError::Unmendable {
                first: self.tail.index.next(),
                reason: format!("the segment from {} on is of another history", next.base),
            });
        };
        // How the next segment begins is lost too: its own gap frames lead on from these.
        let last = next.base.previous();
        Ok(Run {
            last,
            term: self.tail.term,
            end_offset: kept.base_offset.min(self.reach(last)),
            flush_sequence: kept.flush_sequence.max(self.tail.flush_sequence),
            chain_crc: None,
        })
    }

    fn run_to_the_end(&self, end: &LostEnd) -> Run {
        let given_away = end.known_offset.max(self.tail.next_offset);
        Run {
            last: end.last,
            term: self.tail.term,
            end_offset: given_away.plus(SKIPPED_OFFSETS).min(self.reach(end.last)),
            flush_sequence: end.flush_sequence.max(self.tail.flush_sequence),
            chain_crc: None,
        }
    }

    /// The highest offset that gap frames up to `last` can lead to.
    fn reach(&self, last: LogIndex) -> Offset {
        let reach = self.tail.next_offset.get().saturating_add(self.tail.span_max(last));
        Offset::new(reach)
    }

    fn fill_with_gaps(&mut self, run: &Run) -> Result<(), MendError> {
        let incarnation = self.header.incarnation;
        let mut left = run.end_offset.get().saturating_sub(self.tail.next_offset.get());
        let (mut bytes, mut start) = (Vec::new(), self.tail.position);
        while self.tail.index < run.last {
            let tail = self.tail;
            let index = tail.index.next();
            let most = if index == LogIndex::new(1) { 0 } else { u32::MAX };
            let offset_count = u32::try_from(left).map_or(most, |left| left.min(most));
            left -= u64::from(offset_count);
            let (term, base_offset, lost_to) = (run.term, tail.next_offset, run.last);
            let gap = Gap { index, term, base_offset, offset_count, lost_to };
            let frame = match run.chain_crc.filter(|_| index == run.last) {
                Some(wanted) => gap.frame_chained_to(incarnation, tail.chain_crc, wanted),
                None => gap.frame(),
            };
            let header = frame.header(incarnation, tail.chain_crc, run.flush_sequence);
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(&frame.payload);
            self.tail = tail.after(&header);
            self.mended_count += 1;
            if length(bytes.len()) >= STEP_BYTES || index == run.last {
                self.make_room(self.tail.position)?;
                let slices: [&[u8]; 2] = [&bytes, &[0; FRAME_HEADER_BYTES]];
                self.fresh.write_at(start, &slices).map_err(|error| write_failed(&error))?;
                start = self.tail.position;
                bytes.clear();
            }
        }
        Ok(())
    }
}
