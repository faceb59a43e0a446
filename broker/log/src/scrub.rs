//! Everything is read once more, a slice at a time, before somebody needs it.
//!
//! ```text
//!   segment ─ slice ─ slice ─ … ─> next segment ─> … ─> complete
//!        └ a frame that does not follow the one before: told as damage, on with the next segment
//! ```
//!
//! Invariants
//! - A frame is judged as mending judges it, so what is told can be mended, or is lost.
//! - Pages that nobody else had in memory are dropped again.
//!
//! Absent on purpose: the pace, and what becomes of damage.

use crate::bytes_io::{length, size};
use crate::disk::DiskFile;
use crate::frames::{Place, WALK_BYTES, Window, read_place};
use crate::reader::LogReader;
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, SegmentHeader};
use crate::tail::Tail;
use bateau_protocol::ids::LogIndex;

/// Where a scrub of one log goes on. A new one begins with the first segment.
#[derive(Clone, Debug, Default)]
pub struct ScrubPlace {
    /// Behind the last frame that was checked, in a segment that is not at its end.
    tail: Option<Tail>,
    /// Segments up to this one have been read.
    done: LogIndex,
}

/// A slice of a scrub.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scrubbed {
    /// Bytes of frames that were read.
    pub bytes: u64,
    /// The segment in which damage was met, which has been told: see [`crate::Done::Damaged`].
    pub damaged: Option<LogIndex>,
    /// Whether that was all of the log, as it is now.
    pub is_complete: bool,
}

impl LogReader {
    /// Reads and checks about `bytes_max` bytes behind `place`, which moves along. Reads from the
    /// medium what is not in memory. Blocks: for a thread of its own.
    pub fn scrub(&self, place: &mut ScrubPlace, bytes_max: u64) -> Scrubbed {
        let segments = self.shared.segments();
        let goes_on = place.tail.map_or(place.done.next(), |tail| tail.segment);
        let next = segments.iter().find(|segment| segment.base_index() >= goes_on);
        let Some(segment) = next else {
            return Scrubbed { bytes: 0, damaged: None, is_complete: true };
        };
        let base = segment.base_index();
        let tail = place.tail.filter(|tail| tail.segment == base);
        let from = tail.unwrap_or_else(|| Tail::before_segment(&segment.header));
        let end = segment.end();
        let (tail, is_intact) = check_slice(segment, from, end, bytes_max);
        let bytes = tail.position - from.position;
        let mut damaged = None;
        if !is_intact {
            // Nobody needs what lies before the log's start; it goes with its segment.
            let is_needed = tail.index.next() >= self.shared.start().index;
            // A suffix may have been dropped and written anew meanwhile.
            let is_there = segment.end() >= end;
            damaged = Some(base).filter(|_| is_needed && is_there);
        }
        if let Some(segment) = damaged {
            self.shared.node.note_damaged(self.shared.incarnation, segment);
        }
        let has_ended = !is_intact || tail.position >= end;
        place.tail = Some(tail).filter(|_| !has_ended);
        place.done = if has_ended { base } else { place.done };
        let is_last = segments.last().is_some_and(|last| last.base_index() == base);
        Scrubbed { bytes, damaged, is_complete: has_ended && is_last }
    }
}

/// Checks frames behind `from` up to `end`, about `bytes_max` of them. Returns where that ended,
/// and whether all of them were as they should be.
fn check_slice(segment: &Segment, from: Tail, end: u64, bytes_max: u64) -> (Tail, bool) {
    let planned = size(bytes_max.min(end.saturating_sub(from.position)));
    let was_resident = segment.map.is_resident(from.position, planned);
    // A hint. What was read ahead would also look as if somebody else had it in memory.
    let _ = segment.file.read_no_further();
    let mut tail = from;
    let is_intact = if from.position == SEGMENT_HEADER_BYTES && !has_header(segment) {
        false
    } else {
        check_frames(segment, &mut tail, end, bytes_max)
    };
    if !was_resident {
        // A hint.
        let _ = segment.file.forget(from.position, length(planned.max(WALK_BYTES)));
    }
    (tail, is_intact)
}

fn has_header(segment: &Segment) -> bool {
    let mut bytes = vec![0; size(SEGMENT_HEADER_BYTES)];
    let read = segment.file.read_at(0, &mut bytes);
    read.is_ok() && SegmentHeader::decode(&bytes) == Ok(segment.header)
}

fn check_frames(segment: &Segment, tail: &mut Tail, end: u64, bytes_max: u64) -> bool {
    let file: &dyn DiskFile = &*segment.file;
    let Ok(mut window) = Window::new(file, WALK_BYTES) else { return false };
    let until = tail.position.saturating_add(bytes_max).min(end);
    while tail.position < until {
        match read_place(&mut window, tail.position, true) {
            Place::Frame { header, .. }
                if tail.check_follows(&header, segment.header.incarnation).is_ok() =>
            {
                *tail = tail.after(&header);
            }
            _ => return false,
        }
    }
    true
}
