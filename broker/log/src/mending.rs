//! A damaged segment is copied into a fresh file, as far as it is intact; what is not comes from
//! others.
//!
//! ```text
//!   old file    │ header │ frame │ frame │ ??????????? │ frame │ frame │
//!                   │ copied, checked        ^ a hole       │ copied
//!   fresh file  │ header │ frame │ frame │ frame │ frame │ frame │ frame │
//! ```
//!
//! What fills a hole is taken by its identity: every frame follows the one before, and the first
//! one behind the hole follows the last one of it by chain CRC. A frame that was mended carries the
//! flush sequence of the next one that was there, so that the sequence never falls along a log.
//!
//! Where nobody has what is missing and an operator has accepted its loss, the hole is
//! [closed](closing) with gap frames instead.
//!
//! Invariants
//! - Only what is committed is taken from others, and only where something intact lies behind it.
//! - A mended segment has the frames of the old one at the same places, byte for byte, but for the
//!   flush sequences and header CRCs of what was mended. In one that was closed, what lies behind a
//!   hole lies elsewhere, byte for byte.
//!
//! Absent on purpose: who the others are (`core`), flushing, and names of files (`cycle`).

mod closing;

use crate::bytes_io::{length, size};
use crate::disk::DiskFile;
use crate::frames::{Place, WALK_BYTES, Window, find_frames, read_place};
use crate::meta::TruncateMark;
use crate::recovery::NextSegment;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::tail::Tail;
use crate::work::{Hole, MendError};
use crate::writer::write_error;
use bateau_protocol::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader};
use bateau_protocol::ids::{FlushSequence, LogIndex, Offset, Term};
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes that one step copies.
const STEP_BYTES: u64 = 256 * 1024;

/// By how much the fresh file grows where it is too small, in bytes.
const GROW_BYTES: u64 = 1024 * 1024;

/// Places of a file that are read to see whether any of it can be.
const SAMPLES: u64 = 8;

/// What comes behind a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Behind {
    /// Another one, and its first frame, where that can be read.
    Segment(SegmentHeader, Option<FrameHeader>),
    /// The end of the log, which is this frame.
    End(LogIndex),
    /// The end of the log, as far as frames are found.
    Unknown,
    /// Another one, of which something is intact or known; what is missing is lost.
    Remains(NextSegment),
    /// Nothing; what is missing is lost.
    Nothing(LostEnd),
}

/// The lost end of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LostEnd {
    /// The last index that is known to have been there.
    pub(crate) last: LogIndex,
    /// Offsets below this one were given away, as far as is known.
    pub(crate) known_offset: Offset,
    /// What is put there gets this one: behind every truncation.
    pub(crate) flush_sequence: FlushSequence,
}

impl Behind {
    /// The last frame that the segment can hold.
    fn last(&self) -> LogIndex {
        match self {
            Self::Segment(next, _) => next.base_index.previous(),
            Self::Remains(next) => next.base.previous(),
            Self::End(last) => *last,
            Self::Nothing(end) => end.last,
            Self::Unknown => LogIndex::new(u64::MAX),
        }
    }
}

/// How far a mending is.
#[derive(Debug)]
pub(crate) enum Progress {
    /// More of the old file is to be copied.
    Copying,
    /// Frames are missing.
    Wants(Hole),
    /// The fresh file holds all of the segment, not flushed yet.
    Complete,
}

/// A frame, or the segment behind, that ends a hole.
#[derive(Clone, Copy, Debug)]
struct Bank {
    index: LogIndex,
    /// Where in the old file it is; `None` for the segment behind.
    position: Option<u64>,
    term: Term,
    payload_crc: u32,
    base_offset: Offset,
    previous_crc: u32,
    flush_sequence: FlushSequence,
}

impl Bank {
    fn of(header: &FrameHeader, position: Option<u64>) -> Self {
        Self {
            index: header.index,
            position,
            term: header.term,
            payload_crc: header.payload_crc,
            base_offset: header.base_offset,
            previous_crc: header.previous_crc,
            flush_sequence: header.flush_sequence,
        }
    }
}

/// A hole that is being filled.
#[derive(Clone, Copy, Debug)]
struct Open {
    hole: Hole,
    /// The fresh file's end before it, and how much was mended by then.
    before: (Tail, u64),
    bank: Bank,
}

/// A mending under way.
#[derive(Debug)]
pub(crate) struct Mending {
    header: SegmentHeader,
    /// The damaged file; `None` where there is none any more.
    old: Option<Arc<dyn DiskFile>>,
    pub(crate) fresh: Arc<dyn DiskFile>,
    truncations: Vec<TruncateMark>,
    /// Of a closing: where in the old file it goes on behind a hole, in bytes.
    pub(crate) banks: Vec<u64>,
    /// The end of the fresh file.
    tail: Tail,
    /// Where the old file is read on.
    source: u64,
    open: Option<Open>,
    /// Frames that came from others.
    pub(crate) mended_count: u64,
}

impl Mending {
    /// Begins on a fresh file, which has its room already.
    pub(crate) fn new(
        header: SegmentHeader,
        old: Option<Arc<dyn DiskFile>>,
        fresh: Arc<dyn DiskFile>,
        truncations: Vec<TruncateMark>,
    ) -> io::Result<Self> {
        fresh.write_at(0, &[&header.encode(), &[0; FRAME_HEADER_BYTES]])?;
        if let Some(old) = &old {
            // Hints. What is only wrong in memory is read once more.
            let _ = old.drop_cache(0);
            let _ = old.read_no_further();
        }
        let tail = Tail::before_segment(&header);
        let (source, open) = (SEGMENT_HEADER_BYTES, None);
        let (banks, mended_count) = (Vec::new(), 0);
        Ok(Self { header, old, fresh, truncations, banks, tail, source, open, mended_count })
    }

    /// What is missing, while frames are waited for.
    pub(crate) fn hole(&self) -> Option<Hole> {
        self.open.map(|open| open.hole)
    }

    /// What the fresh file ends with.
    pub(crate) fn tail(&self) -> Tail {
        self.tail
    }

    /// Copies a slice of what is intact.
    ///
    /// - `behind`: what comes behind the segment now.
    /// - `commit`: the last frame that is known to be committed.
    pub(crate) fn step(&mut self, behind: Behind, commit: LogIndex) -> Result<Progress, MendError> {
        if let Some(open) = &self.open {
            return Ok(Progress::Wants(open.hole));
        }
        let until = self.tail.position + STEP_BYTES;
        self.copy(until, behind.last())?;
        if self.tail.index >= behind.last() {
            return Ok(Progress::Complete);
        }
        if self.tail.position >= until {
            return Ok(Progress::Copying);
        }
        if let Behind::Remains(_) | Behind::Nothing(_) = behind {
            return self.close_hole(behind);
        }
        let Some(bank) = self.find_bank(behind)? else {
            return match behind {
                // What else there was, the start that finds the mended segment says.
                Behind::Unknown => Ok(Progress::Complete),
                _ => Err(MendError::Unmendable {
                    first: self.tail.index.next(),
                    reason: "nothing intact lies behind it".to_owned(),
                }),
            };
        };
        self.open_hole(bank, commit)
    }

    /// Takes frames for the hole, from its first missing one on. Errors: what does not fit, in
    /// words; then the hole is as it was at first.
    pub(crate) fn fill(&mut self, frames: &[Frame]) -> Result<Result<(), String>, MendError> {
        let Some(open) = self.open else { return Ok(Ok(())) };
        let missing = |frame: &&Frame| frame.index <= open.hole.last;
        for frame in frames.iter().filter(missing) {
            if frame.index <= self.tail.index {
                continue;
            }
            match self.check(frame, &open) {
                Ok(header) => self.append(&header, &frame.stamped_payload())?,
                Err(reason) => {
                    self.begin_hole_anew(open);
                    return Ok(Err(format!("frame {}: {reason}", frame.index)));
                }
            }
            self.mended_count += 1;
        }
        if self.tail.index < open.hole.last {
            let hole = Hole { first: self.tail.index.next(), ..open.hole };
            self.open = Some(Open { hole, ..open });
            return Ok(Ok(()));
        }
        if let Err(reason) = self.check_bank(&open.bank) {
            self.begin_hole_anew(open);
            return Ok(Err(reason));
        }
        self.land(open.bank);
        Ok(Ok(()))
    }

    fn begin_hole_anew(&mut self, open: Open) {
        (self.tail, self.mended_count) = open.before;
        let hole = Hole { first: self.tail.index.next(), ..open.hole };
        self.open = Some(Open { hole, ..open });
    }

    /// Copies frames that follow one another, up to about `until`.
    fn copy(&mut self, until: u64, last: LogIndex) -> Result<(), MendError> {
        let Some(old) = self.old.clone() else { return Ok(()) };
        let mut window = Window::new(&*old, WALK_BYTES).map_err(|error| write_failed(&error))?;
        let mut run: Vec<u8> = Vec::new();
        let start = self.tail.position;
        while self.tail.position < until && self.tail.index < last {
            let Place::Frame { header, .. } = read_place(&mut window, self.source, true) else {
                break;
            };
            let follows = self.tail.check_follows(&header, self.header.incarnation);
            if follows.is_err() || self.is_dead(&header) {
                break;
            }
            let bytes = size(header.frame_bytes());
            let Ok(Some(frame)) = window.get(self.source, bytes) else { break };
            run.extend_from_slice(frame);
            self.tail = self.tail.after(&header);
            self.source += length(bytes);
        }
        self.make_room(self.tail.position)?;
        self.fresh
            .write_at(start, &[&run, &[0; FRAME_HEADER_BYTES]])
            .map_err(|error| write_failed(&error))
    }

    /// The next intact frame behind the hole that begins here, or the segment behind.
    fn find_bank(&self, behind: Behind) -> Result<Option<Bank>, MendError> {
        if let Some(old) = &self.old {
            self.refuse_dead_medium(&**old)?;
        }
        let found = self.find_in_old(behind.last(), |_, _| true)?;
        Ok(match (found, behind) {
            (None, Behind::Segment(_, Some(first))) => {
                Some(Bank::of(&first, None)).filter(|_| self.is_live_behind(&first))
            }
            (found, _) => found.map(|(header, position)| Bank::of(&header, Some(position))),
        })
    }

    /// The next intact frame of the old file that is wanted, and where it is.
    fn find_in_old(
        &self,
        last: LogIndex,
        is_wanted: impl Fn(&FrameHeader, u64) -> bool,
    ) -> Result<Option<(FrameHeader, u64)>, MendError> {
        let mut found = None;
        let mut visit = |header: FrameHeader, position: u64| {
            if self.is_live_behind(&header) && header.index <= last && is_wanted(&header, position)
            {
                found = Some((header, position));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        if let Some(old) = &self.old {
            find_frames(&**old, self.source, &mut visit).map_err(|error| write_failed(&error))?;
        }
        Ok(found)
    }

    /// A device that gives nothing at all may give everything again: what can be read of it then is
    /// not asked of others, nor looked for sector by sector now.
    fn refuse_dead_medium(&self, old: &dyn DiskFile) -> Result<(), MendError> {
        let bytes = old.bytes().map_err(|error| write_failed(&error))?;
        let mut sector = [0; FRAME_HEADER_BYTES];
        let last = bytes.saturating_sub(length(FRAME_HEADER_BYTES));
        let mut failed = None;
        for sample in 0..SAMPLES {
            match old.read_at(last / SAMPLES * sample, &mut sector) {
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => failed = Some(error),
                _ => return Ok(()),
            }
        }
        failed.map_or(Ok(()), |error| Err(write_failed(&error)))
    }

    /// A hole up to a bank is to be filled; where nothing is missing, the copying goes on.
    fn open_hole(&mut self, bank: Bank, commit: LogIndex) -> Result<Progress, MendError> {
        let (first, last) = (self.tail.index.next(), bank.index.previous());
        if last < first {
            if let Err(reason) = self.check_bank(&bank) {
                return Err(MendError::Unmendable { first, reason });
            }
            self.land(bank);
            return Ok(Progress::Copying);
        }
        if last > commit {
            return Err(MendError::Uncommitted { first, last, commit });
        }
        let Bank { index: known, term, payload_crc, .. } = bank;
        let hole = Hole { first, last, known, term, payload_crc };
        self.open = Some(Open { hole, before: (self.tail, self.mended_count), bank });
        Ok(Progress::Wants(hole))
    }

    /// Whether a frame of another replica is the next one of the hole. Returns the header that it
    /// gets here.
    fn check(&self, frame: &Frame, open: &Open) -> Result<FrameHeader, String> {
        let computed = crc32fast::hash(&frame.stamped_payload());
        if computed != frame.payload_crc {
            return Err(format!(
                "payload CRC is {:#010x}, computed {computed:#010x}",
                frame.payload_crc
            ));
        }
        if frame.term > open.hole.term {
            return Err(format!("term {} before term {}", frame.term, open.hole.term));
        }
        let flush_sequence = open.bank.flush_sequence;
        let header = frame.header(self.header.incarnation, self.tail.chain_crc, flush_sequence);
        self.tail.check_follows(&header, self.header.incarnation)?;
        Ok(header)
    }

    /// Whether what lies behind a hole follows what is here now.
    fn check_bank(&self, bank: &Bank) -> Result<(), String> {
        if bank.base_offset != self.tail.next_offset || bank.previous_crc != self.tail.chain_crc {
            return Err(format!(
                "frame {} is no continuation: it follows {:#010x} at offset {}, not {:#010x} at {}",
                bank.index,
                bank.previous_crc,
                bank.base_offset,
                self.tail.chain_crc,
                self.tail.next_offset
            ));
        }
        Ok(())
    }

    /// Goes on copying behind a hole.
    fn land(&mut self, bank: Bank) {
        self.source = bank.position.unwrap_or(u64::MAX);
        self.open = None;
    }

    fn append(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), MendError> {
        let end = self.tail.position + header.frame_bytes();
        self.make_room(end)?;
        let slices: [&[u8]; 3] = [&header.encode(), payload, &[0; FRAME_HEADER_BYTES]];
        self.fresh.write_at(self.tail.position, &slices).map_err(|error| write_failed(&error))?;
        self.tail = self.tail.after(header);
        Ok(())
    }

    /// Makes sure that a frame may end at `end`, and an empty header place behind it.
    fn make_room(&self, end: u64) -> Result<(), MendError> {
        let needed = end + length(FRAME_HEADER_BYTES);
        let bytes = self.fresh.bytes().map_err(|error| write_failed(&error))?;
        if needed <= bytes {
            return Ok(());
        }
        let wanted = needed.next_multiple_of(GROW_BYTES);
        self.fresh.allocate(wanted).map_err(|error| write_failed(&error))
    }

    fn is_dead(&self, header: &FrameHeader) -> bool {
        header.incarnation != self.header.incarnation
            || header.flush_sequence <= self.header.birth_flush_sequence
            || header.flush_sequence < self.tail.flush_sequence
            || self.truncations.iter().any(|mark| {
                header.index >= mark.index && header.flush_sequence <= mark.flush_sequence
            })
    }

    fn is_live_behind(&self, header: &FrameHeader) -> bool {
        !self.is_dead(header)
            && header.index > self.tail.index
            && header.term >= self.tail.term
            && header.base_offset >= self.tail.next_offset
    }
}

fn write_failed(error: &io::Error) -> MendError {
    MendError::Write(write_error("write a mended segment", error))
}
