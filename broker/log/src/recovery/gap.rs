//! Which damage can be mended, and with what a mending begins.
//!
//! ```text
//!   frames │ tail │ hole, committed │ a live frame │ …      mendable
//!   frames │ tail │ hole, not known to be committed │ …     lost
//!   frames │ tail │ hole up to the end                      lost
//! ```
//!
//! What is lost may have been acknowledged by this replica, and nobody can say what it was.
//!
//! Absent on purpose: the mending itself.

use super::hard_state;
use super::scan::LogScan;
use crate::bytes_io::size;
use crate::disk::Disk;
use crate::frames::{Place, WALK_BYTES, Window, read_place};
use crate::meta::TruncateMark;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name, side_name};
use crate::side;
use crate::work::LogStart;
use bateau_protocol::frame::FrameHeader;
use bateau_protocol::ids::{FlushSequence, LogIndex};
use std::io;

/// Bytes of a damaged place that are copied into `quarantine/`.
const QUARANTINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A hole that others can fill, in a log that nobody runs on.
#[derive(Clone, Debug)]
pub(crate) struct Gap {
    /// Header of the segment in which it begins.
    pub(crate) header: SegmentHeader,
    /// Whether there is a file of that name.
    pub(crate) has_file: bool,
    /// The segment behind, if there is one, and its first frame.
    pub(crate) next: Option<(SegmentHeader, Option<FrameHeader>)>,
    /// The last frame that is known to be committed.
    pub(crate) commit: LogIndex,
    pub(crate) truncations: Vec<TruncateMark>,
}

impl Gap {
    /// The gap behind the scan's tail; `None` where that cannot be mended.
    pub(super) fn of(disk: &dyn Disk, scan: &LogScan) -> Option<Self> {
        let commit = hard_state(scan).commit;
        let live = scan.found.iter().map(|found| found.index).min()?;
        if live.previous() > commit && live != scan.tail.index.next() {
            return None;
        }
        if scan.segments.is_empty() && scan.meta.start != LogStart::BIRTH {
            // Nothing here says which offset its first frame carries.
            return None;
        }
        let header = header_of(disk, scan);
        let base = header.base_index;
        let behind = scan.later.iter().copied();
        let next = behind.filter(|other| *other > base && *other > scan.tail.index).min();
        let next = match next {
            Some(next) => Some(read_header(disk, scan, next)?),
            None => None,
        };
        let has_file = scan.segments.iter().any(|good| good.header.base_index == base)
            || scan.later.contains(&base);
        let truncations = scan.meta.truncations.clone();
        Some(Self { header, has_file, next, commit, truncations })
    }
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

fn read_header(
    disk: &dyn Disk,
    scan: &LogScan,
    base: LogIndex,
) -> Option<(SegmentHeader, Option<FrameHeader>)> {
    let file = disk.open(&format!("{}/{}", scan.dir, segment_name(base))).ok()?;
    let mut bytes = vec![0; size(SEGMENT_HEADER_BYTES)];
    file.read_at(0, &mut bytes).ok()?;
    let header = SegmentHeader::decode(&bytes).ok()?;
    let mut window = Window::new(&*file, WALK_BYTES).ok()?;
    let first = match read_place(&mut window, SEGMENT_HEADER_BYTES, true) {
        Place::Frame { header, .. } => Some(header),
        Place::Empty | Place::Bad { .. } => None,
    };
    let is_own = (header.incarnation, header.base_index) == (scan.incarnation, base);
    is_own.then_some((header, first))
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
