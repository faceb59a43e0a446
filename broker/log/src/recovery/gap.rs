//! Which damage can be mended, and with what a mending begins.
//!
//! ```text
//!   frames │ tail │ hole, committed │ a live frame │ …      mendable
//!   frames │ tail │ hole, not known to be committed │ …     lost: an operator may have it closed
//!   frames │ tail │ hole up to the end                      lost: the same
//!   nothing that says where the log begins                  lost
//! ```
//!
//! What is lost may have been acknowledged by this replica, and nobody can say what it was.
//!
//! Absent on purpose: the mending itself.

use super::hard_state;
use super::scan::LogScan;
use super::verdict::missing_state;
use crate::bytes_io::size;
use crate::disk::Disk;
use crate::frames::{Place, WALK_BYTES, Window, read_place};
use crate::meta::TruncateMark;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name, side_name};
use crate::side;
use crate::work::LogStart;
use bateau_protocol::frame::FrameHeader;
use bateau_protocol::ids::{FlushSequence, LogIndex, Offset};
use std::io;

/// Bytes of a damaged place that are copied into `quarantine/`.
const QUARANTINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A hole in a log that nobody runs on.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    /// Header of the segment in which it begins.
    pub(crate) header: SegmentHeader,
    /// Whether there is a file of that name.
    pub(crate) has_file: bool,
    pub(crate) truncations: Vec<TruncateMark>,
    /// With what others fill it; `None` where they cannot.
    pub(crate) mendable: Option<Mendable>,
    /// With what it is closed where nobody can fill it. Errors: why it stays open, in words.
    pub(crate) closing: Result<Closing, String>,
}

/// What others need to know to fill a hole.
#[derive(Clone, Debug)]
pub(crate) struct Mendable {
    /// The segment behind, if there is one, and its first frame.
    pub(crate) next: Option<(SegmentHeader, Option<FrameHeader>)>,
    /// The last frame that is known to be committed.
    pub(crate) commit: LogIndex,
}

/// What lies behind a hole that nobody fills.
#[derive(Clone, Debug)]
pub(crate) struct Closing {
    /// The segment behind, if anything intact lies there or was proven to.
    pub(crate) next: Option<NextSegment>,
    /// The last index that is known to have been there.
    pub(crate) last: LogIndex,
    /// Offsets below this one were given away, as far as is known.
    pub(crate) known_offset: Offset,
    /// Where in the damaged file it goes on with a frame behind a hole, in bytes.
    pub(crate) banks: Vec<u64>,
    /// Segment files before that one in which nothing is intact.
    pub(crate) void: Vec<LogIndex>,
}

/// A segment behind a hole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NextSegment {
    /// By its name.
    pub(crate) base: LogIndex,
    /// Its header, where that can be read.
    pub(crate) header: Option<SegmentHeader>,
    /// The first intact frame in it or behind it.
    pub(crate) kept: Option<FrameHeader>,
}

impl Gap {
    /// The gap behind the scan's tail. Errors: why nothing can be made of it, in words.
    pub(super) fn of(disk: &dyn Disk, scan: &LogScan, last: LogIndex) -> Result<Self, String> {
        if scan.segments.is_empty() && scan.meta.start != LogStart::BIRTH {
            // Nothing here says which offset its first frame carries.
            return Err("nothing says where its first segment begins".to_owned());
        }
        let header = header_of(disk, scan);
        let base = header.base_index;
        let has_file = scan.segments.iter().any(|good| good.header.base_index == base)
            || scan.later.contains(&base);
        let truncations = scan.meta.truncations.clone();
        let behind = scan.later.iter().copied();
        let mut behind: Vec<LogIndex> =
            behind.filter(|other| *other > base && *other > scan.tail.index).collect();
        behind.sort_unstable();
        let mendable = Mendable::of(disk, scan, behind.first().copied());
        let closing = match missing_state(scan) {
            None => {
                let banks = scan.losses.banks_in(base);
                let closing = Closing::of(disk, scan, &behind, last);
                Ok(Closing { banks, ..closing })
            }
            Some(missing) => Err(format!(
                "it begins behind index {}, and what the entries before have built is lost: {}",
                missing.last_index, missing.reason
            )),
        };
        Ok(Self { header, has_file, truncations, mendable, closing })
    }

    /// The segment in which it begins, where others may fill it.
    pub(super) fn mendable_segment(&self) -> Option<LogIndex> {
        self.mendable.as_ref().map(|_| self.header.base_index)
    }
}

impl Mendable {
    fn of(disk: &dyn Disk, scan: &LogScan, next: Option<LogIndex>) -> Option<Self> {
        let commit = hard_state(scan).commit;
        let live = scan.found.iter().map(|found| found.index).min()?;
        if live.previous() > commit && live != scan.tail.index.next() {
            return None;
        }
        let next = match next {
            Some(next) => {
                let (header, first) = read_header(disk, scan, next);
                Some((header?, first))
            }
            None => None,
        };
        Some(Self { next, commit })
    }
}

impl Closing {
    fn of(disk: &dyn Disk, scan: &LogScan, behind: &[LogIndex], last: LogIndex) -> Self {
        let (known_offset, banks) = (scan.known_offset, Vec::new());
        let mut void = Vec::new();
        for base in behind {
            let kept = scan.losses.first_kept_from(*base);
            let header = read_header(disk, scan, *base).0;
            let header = header.filter(|header| is_of_this_life(scan, header));
            if kept.is_some() || (last >= *base && header.is_some()) {
                let next = Some(NextSegment { base: *base, header, kept });
                return Self { next, last, known_offset, banks, void };
            }
            void.push(*base);
        }
        Self { next: None, last, known_offset, banks, void }
    }
}

/// Whether a segment was begun behind the last truncation that reached below it: otherwise it has
/// been dropped, and a crash has undone that.
fn is_of_this_life(scan: &LogScan, header: &SegmentHeader) -> bool {
    !scan.meta.truncations.iter().any(|mark| {
        header.base_index > mark.index && header.birth_flush_sequence < mark.flush_sequence
    })
}

/// The header of the segment that is to be mended: the last one of those that follow, or the one
/// behind it.
fn header_of(disk: &dyn Disk, scan: &LogScan) -> SegmentHeader {
    let tail = &scan.tail;
    if let Some(last) = scan.segments.last()
        && !(scan.later.contains(&tail.index.next()) || was_closed(disk, scan))
    {
        return last.header;
    }
    if tail.position == SEGMENT_HEADER_BYTES
        && let Some(last) = scan.segments.last()
    {
        return last.header;
    }
    SegmentHeader {
        incarnation: scan.incarnation,
        base_index: tail.index.next(),
        base_offset: tail.next_offset,
        previous_term: tail.term,
        // The first frame may be of the same flush as the last one before.
        birth_flush_sequence: FlushSequence::new(tail.flush_sequence.get().saturating_sub(1)),
        previous_crc: tail.chain_crc,
    }
}

/// Whether the last segment that follows was closed behind the tail: then what is missing was in
/// another one.
fn was_closed(disk: &dyn Disk, scan: &LogScan) -> bool {
    let path = format!("{}/{}", scan.dir, side_name(scan.tail.segment));
    let checkpoint = disk.open(&path).ok().and_then(|file| side::read_checkpoint(&*file));
    checkpoint.is_some_and(|checkpoint| checkpoint.tail.index == scan.tail.index)
}

/// The header of a segment file, and that of its first frame, as far as they can be read.
fn read_header(
    disk: &dyn Disk,
    scan: &LogScan,
    base: LogIndex,
) -> (Option<SegmentHeader>, Option<FrameHeader>) {
    let Ok(file) = disk.open(&format!("{}/{}", scan.dir, segment_name(base))) else {
        return (None, None);
    };
    let mut bytes = vec![0; size(SEGMENT_HEADER_BYTES)];
    let read = file.read_at(0, &mut bytes).ok();
    let header = read.and_then(|()| SegmentHeader::decode(&bytes).ok());
    let is_own = |header: &SegmentHeader| {
        (header.incarnation, header.base_index) == (scan.incarnation, base)
    };
    let first = Window::new(&*file, WALK_BYTES).ok().and_then(|mut window| {
        match read_place(&mut window, SEGMENT_HEADER_BYTES, true) {
            Place::Frame { header, .. } => Some(header),
            Place::Empty | Place::Bad { .. } => None,
        }
    });
    (header.filter(is_own), first)
}

/// Keeps a copy of what is damaged, once. A convenience for whoever investigates: the file itself
/// stays as it is.
pub(super) fn keep_copy(disk: &dyn Disk, scan: &LogScan, wall_ms: u64) {
    let (segment, position) = (scan.stop.segment, scan.stop.position);
    let copy = || {
        let file = disk.open(&format!("{}/{}", scan.dir, segment_name(segment)))?;
        let Some((start, end)) = file.next_data(position)? else { return Ok(()) };
        let bytes = (end - start).min(QUARANTINE_BYTES_MAX);
        let mut buffer = vec![0; size(bytes)];
        file.read_at(start, &mut buffer)?;
        disk.create_dir("quarantine")?;
        let name = format!("{:016x}-{:016x}-{start:016x}", scan.incarnation.get(), segment.get());
        if disk.list("quarantine")?.iter().any(|entry| entry.name.starts_with(&name)) {
            return Ok(());
        }
        disk.create(&format!("quarantine/{name}-{wall_ms:016x}"))?.write_at(0, &[&buffer])
    };
    // The range is reported in any case.
    let _: io::Result<()> = copy();
}
