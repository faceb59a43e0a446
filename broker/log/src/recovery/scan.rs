//! What one log's directory holds: the frames that follow one another, and what lies behind them.
//!
//! ```text
//!   up to D: index from checkpoint, side file or headers │ D ── verified walk ──> tail │ bad?
//!                                             side headers and frames behind it ──┘
//! ```
//!
//! Absent on purpose: writing, and the decision what a bad frame means (`recovery`).

mod behind;

use super::loss::LossWalk;
use super::{Reading, RecoveryProgress};
use crate::bytes_io::size;
use crate::disk::{Disk, DiskFile};
use crate::frames::{Place, SKIP_BYTES, WALK_BYTES, Window, read_place};
use crate::index::SparseIndex;
use crate::meta::ReplicaMeta;
use crate::recovery::StoredState;
use crate::recovery::files::LogFiles;
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name, side_name};
use crate::side::{self, ENTRY_BYTES, SideEntry};
use crate::tail::Tail;
use crate::writer::Side;
use bateau_protocol::frame::FrameHeader;
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, Offset};
use bateau_protocol::terms::TermTable;
use std::io;
use std::sync::Arc;

/// A segment whose frames follow those before.
#[derive(Debug)]
pub(super) struct GoodSegment {
    pub(super) header: SegmentHeader,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) index: SparseIndex,
    pub(super) tail: Tail,
    pub(super) side: Side,
    /// Its checkpoint is in the side file.
    pub(super) is_sealed: bool,
    /// Frames before this were not read.
    pub(super) unverified_below: u64,
}

/// Where the frames that follow one another end.
#[derive(Debug)]
pub(super) struct Stop {
    pub(super) segment: LogIndex,
    pub(super) position: u64,
    pub(super) reason: String,
    /// Nothing is there: the ordinary end.
    pub(super) is_empty: bool,
    pub(super) unreadable: bool,
    /// Bytes of what is there, as far as it says.
    pub(super) bytes: u64,
}

/// A live frame behind the stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) index: LogIndex,
    pub(super) flush_sequence: FlushSequence,
    pub(super) bytes: u64,
}

/// What was found of one log.
#[derive(Debug)]
pub(super) struct LogScan {
    pub(super) incarnation: Incarnation,
    pub(super) dir: String,
    pub(super) meta: ReplicaMeta,
    pub(super) segments: Vec<GoodSegment>,
    /// Segment files behind the stop, by base index.
    pub(super) later: Vec<LogIndex>,
    pub(super) tail: Tail,
    pub(super) stop: Stop,
    pub(super) found: Vec<Found>,
    /// What is missing between the intact frames behind the stop.
    pub(super) losses: LossWalk,
    /// Highest live side header behind the tail.
    pub(super) side_proof: Option<LogIndex>,
    /// The last index that was there, as far as durable mark, side headers and intact frames say.
    pub(super) last_known: LogIndex,
    /// Offsets below this one were given away, as far as durable mark and side headers say.
    pub(super) known_offset: Offset,
    /// Highest flush sequence in any frame seen.
    pub(super) flush_sequence: FlushSequence,
    pub(super) terms: TermTable,
    pub(super) state: Option<StoredState>,
    /// What is wrong with the state files, in words.
    pub(super) damaged_state: Option<String>,
    pub(super) walked_frames: u64,
    pub(super) walked_bytes: u64,
    /// Files that nobody needs any more.
    pub(super) leftovers: Vec<String>,
    reading: Reading,
    /// Birth sequence of the newest segment that follows: what is older is no frame of its future.
    birth: FlushSequence,
}

impl LogScan {
    /// Reads a log. Errors are those of opening files: what cannot be read *in* a file is the
    /// scan's result.
    pub(super) fn run(
        disk: &dyn Disk,
        mut files: LogFiles,
        meta: ReplicaMeta,
        reading: Reading,
        progress: &RecoveryProgress,
    ) -> io::Result<Self> {
        let segments = files.bases.len();
        let (state, damaged_state) = files.read_state(disk);
        let applied = state.as_ref().map_or(LogIndex::ZERO, |state| state.applied);
        files.drop_dead(meta.start.index.previous().min(applied));
        let segment = files.bases.first().copied().unwrap_or(meta.start.index);
        let stop = Stop {
            segment,
            position: 0,
            reason: "there is no segment file".to_owned(),
            is_empty: false,
            unreadable: false,
            bytes: 0,
        };
        let tail = Tail {
            segment,
            position: SEGMENT_HEADER_BYTES,
            index: meta.start.index.previous(),
            next_offset: meta.start.offset,
            term: meta.start.term,
            chain_crc: meta.start.chain_crc,
            flush_sequence: FlushSequence::ZERO,
        };
        let known_offset = meta.durable.map_or(meta.start.offset, |durable| durable.next_offset);
        let mut scan = Self {
            incarnation: files.incarnation,
            dir: files.dir.clone(),
            segments: Vec::new(),
            later: Vec::new(),
            tail,
            meta,
            stop,
            found: Vec::new(),
            losses: LossWalk::from(tail),
            side_proof: None,
            last_known: LogIndex::ZERO,
            known_offset,
            flush_sequence: FlushSequence::ZERO,
            terms: TermTable::default(),
            state,
            damaged_state,
            walked_frames: 0,
            walked_bytes: 0,
            leftovers: std::mem::take(&mut files.leftovers),
            reading,
            birth: FlushSequence::ZERO,
        };
        scan.walk_segments(disk, &mut files, progress)?;
        scan.look_behind(disk, &mut files)?;
        // Those that were left out: trimmed, or behind the end.
        progress.add(segments.saturating_sub(scan.segments.len()) as u64);
        scan.terms.trim_to(scan.meta.start.index, scan.meta.start.offset);
        Ok(scan)
    }

    /// Follows the frames through the segments until they stop.
    fn walk_segments(
        &mut self,
        disk: &dyn Disk,
        files: &mut LogFiles,
        progress: &RecoveryProgress,
    ) -> io::Result<()> {
        let bases = files.bases.clone();
        for (at, base) in bases.iter().enumerate() {
            let is_first = self.segments.is_empty();
            if !is_first && *base <= self.tail.index {
                // Left behind by a truncation whose renaming a crash undid: all of it is dead.
                self.later.push(*base);
                continue;
            }
            let file = files.open(disk, &segment_name(*base))?;
            let header = self.check_header(&*file, *base, is_first);
            let header = match header {
                Ok(header) => header,
                Err(reason) => {
                    // The frames before it end well; what is bad is this file.
                    let is_empty = false;
                    let (segment, position) = (*base, 0);
                    self.stop =
                        Stop { segment, position, reason, is_empty, unreadable: false, bytes: 0 };
                    self.later.extend(&bases[at..]);
                    files.opened.insert(segment_name(*base), file);
                    return Ok(());
                }
            };
            if is_first {
                self.tail = Tail::before_segment(&header);
            }
            let walked = self.segments.len();
            self.walk_segment(disk, files, header, file)?;
            progress.add((self.segments.len() - walked) as u64);
            let rest = bases.get(at + 1..).unwrap_or_default();
            let next = self.tail.index.next();
            if !rest.contains(&next) {
                // Frames are missing, or these are dead: what lies in them will tell.
                self.later.extend(rest);
                return Ok(());
            }
        }
        Ok(())
    }

    fn check_header(
        &self,
        file: &dyn DiskFile,
        base: LogIndex,
        is_first: bool,
    ) -> Result<SegmentHeader, String> {
        let mut bytes = vec![0; size(SEGMENT_HEADER_BYTES)];
        file.read_at(0, &mut bytes).map_err(|error| error.to_string())?;
        let header = SegmentHeader::decode(&bytes)?;
        if header.incarnation != self.incarnation || header.base_index != base {
            return Err(format!(
                "a segment of log {:?} from index {}",
                header.incarnation, header.base_index
            ));
        }
        let tail = &self.tail;
        let follows = header.base_index == tail.index.next()
            && header.base_offset == tail.next_offset
            && header.previous_term == tail.term
            && header.previous_crc == tail.chain_crc;
        if is_first && base > self.meta.start.index {
            return Err(format!("the first segment begins at index {base}"));
        }
        if !is_first && !follows {
            return Err(format!("the segment does not follow frame {}", tail.index));
        }
        Ok(header)
    }

    /// Reads one segment: up to the durable mark by the quickest means, behind it every byte.
    fn walk_segment(
        &mut self,
        disk: &dyn Disk,
        files: &mut LogFiles,
        header: SegmentHeader,
        file: Arc<dyn DiskFile>,
    ) -> io::Result<()> {
        let base = header.base_index;
        self.tail.segment = base;
        self.tail.position = SEGMENT_HEADER_BYTES;
        self.birth = self.birth.max(header.birth_flush_sequence);
        let side_file = if files.has_side.contains(&base) {
            Some(files.open(disk, &side_name(base))?)
        } else {
            None
        };
        let mut durable = self.meta.durable.filter(|durable| durable.segment >= base);
        if self.reading.everything
            && let Some(mark) = durable
            && !self.is_intact(disk, files, &*file, mark)?
        {
            durable = None;
        }
        let known = durable.filter(|durable| durable.segment > base).and(side_file.as_ref());
        // A file that is too short for what is known of it has lost something: then every byte is
        // read.
        let file_bytes = file.bytes().unwrap_or(0);
        if let Some(checkpoint) = known.and_then(|file| side::read_checkpoint(&**file))
            && checkpoint.tail.segment == base
            && checkpoint.tail.position <= file_bytes
        {
            // A truncation may have opened the segment again since: then the next one does not
            // follow what the checkpoint says.
            let here = std::mem::replace(&mut self.tail, checkpoint.tail);
            if self.is_taken_over(disk, files)? {
                return self.take_checkpoint(header, file, checkpoint);
            }
            self.tail = here;
        }
        let mut good = GoodSegment {
            header,
            file: Arc::clone(&file),
            index: SparseIndex::new(self.reading.options.index_interval_bytes),
            tail: self.tail,
            side: Side::new(0),
            is_sealed: false,
            unverified_below: SEGMENT_HEADER_BYTES,
        };
        let entries = match &side_file {
            Some(file) => side::read_entries(&**file, self.incarnation, base).unwrap_or_default(),
            None => Vec::new(),
        };
        let holds = |mark: &Tail| mark.segment > base || file_bytes >= mark.position;
        if let Some(durable) = durable.filter(holds) {
            self.index_up_to(disk, files, &mut good, durable, &entries)?;
        }
        self.walk_verified(disk, files, &mut good)?;
        good.tail = self.tail;
        self.segments.push(good);
        Ok(())
    }

    /// Whether every byte of a segment is as it should be, up to the durable mark or the segment
    /// behind. What is not, is then walked as if there were no mark.
    fn is_intact(
        &mut self,
        disk: &dyn Disk,
        files: &mut LogFiles,
        file: &dyn DiskFile,
        durable: Tail,
    ) -> io::Result<bool> {
        let before = self.tail;
        let mut window = Window::new(file, WALK_BYTES)?;
        let is_whole = loop {
            let ends_here = durable.segment == before.segment;
            if ends_here && self.tail.index >= durable.index || self.is_taken_over(disk, files)? {
                break true;
            }
            match read_place(&mut window, self.tail.position, true) {
                Place::Frame { header, .. } if self.follows(&header) => {
                    self.tail = self.tail.after(&header);
                }
                _ => break false,
            }
        };
        self.tail = before;
        Ok(is_whole)
    }

    fn take_checkpoint(
        &mut self,
        header: SegmentHeader,
        file: Arc<dyn DiskFile>,
        checkpoint: side::Checkpoint,
    ) -> io::Result<()> {
        let starts_inside = checkpoint.terms.first().map(|start| start.first_index);
        if starts_inside != Some(header.base_index) {
            self.terms.note(header.previous_term, header.base_index, header.base_offset);
        }
        for start in &checkpoint.terms {
            self.terms.note(start.term, start.first_index, start.first_offset);
        }
        self.tail = checkpoint.tail;
        self.segments.push(GoodSegment {
            header,
            file,
            index: checkpoint.index,
            tail: checkpoint.tail,
            side: Side::new(0),
            is_sealed: true,
            unverified_below: checkpoint.tail.position,
        });
        // What follows is the next segment's header, or a loss.
        self.stop = Stop {
            segment: header.base_index,
            position: checkpoint.tail.position,
            reason: "the segment behind is missing".to_owned(),
            is_empty: true,
            unreadable: false,
            bytes: 0,
        };
        Ok(())
    }

    /// Indexes the frames up to the durable mark: from side headers as far as they go, then from
    /// the frames' own, which become side headers. Side headers that do not lead to the mark, or
    /// to the next segment, are those of a suffix that was truncated: then from the frames' own
    /// alone.
    fn index_up_to(
        &mut self,
        disk: &dyn Disk,
        files: &mut LogFiles,
        good: &mut GoodSegment,
        durable: Tail,
        entries: &[u8],
    ) -> io::Result<()> {
        let before = (self.tail, self.terms.clone());
        let ends_here = durable.segment == good.header.base_index;
        for entries in [entries, &[]] {
            (self.tail, self.terms) = before.clone();
            good.index = SparseIndex::new(self.reading.options.index_interval_bytes);
            good.side = Side::new(0);
            self.index_by(good, ends_here.then_some(durable.index), entries)?;
            let arrived = if ends_here {
                let tail = &self.tail;
                (tail.position, tail.index, tail.chain_crc)
                    == (durable.position, durable.index, durable.chain_crc)
            } else {
                let is_there = self.tail.position <= good.file.bytes().unwrap_or(0);
                is_there && self.is_taken_over(disk, files)?
            };
            if arrived {
                break;
            }
        }
        good.unverified_below = self.tail.position;
        Ok(())
    }

    fn index_by(
        &mut self,
        good: &mut GoodSegment,
        last: Option<LogIndex>,
        entries: &[u8],
    ) -> io::Result<()> {
        for slot in entries.chunks_exact(size(ENTRY_BYTES)) {
            let Some(entry) = SideEntry::decode(slot) else { break };
            let done = last == Some(self.tail.index);
            if done || !self.follows(&entry.header) {
                break;
            }
            self.note(good, &entry.header, entry.timestamp);
            good.side.slots += 1;
        }
        let file = Arc::clone(&good.file);
        let file_bytes = file.bytes()?;
        let mut window = Window::new(&*file, SKIP_BYTES)?;
        while last.is_none_or(|last| self.tail.index < last) {
            // A header that is there may be all that is left of its frame.
            let fits = |header: &FrameHeader, from: u64| from + header.frame_bytes() <= file_bytes;
            match read_place(&mut window, self.tail.position, false) {
                Place::Frame { header, timestamp }
                    if self.follows(&header) && fits(&header, self.tail.position) =>
                {
                    SideEntry { header, timestamp }.encode(&mut good.side.pending);
                    self.note(good, &header, timestamp);
                }
                _ => break,
            }
        }
        Ok(())
    }

    /// Reads and checks every frame behind the tail.
    fn walk_verified(
        &mut self,
        disk: &dyn Disk,
        files: &mut LogFiles,
        good: &mut GoodSegment,
    ) -> io::Result<()> {
        let file = Arc::clone(&good.file);
        let mut window = Window::new(&*file, WALK_BYTES)?;
        loop {
            // A segment is left where the next one takes over, whatever lies behind in this one.
            let place = if self.is_taken_over(disk, files)? {
                Place::Empty
            } else {
                read_place(&mut window, self.tail.position, true)
            };
            let why = match &place {
                Place::Frame { header, timestamp } if !self.is_dead(header) => {
                    match self.tail.check_follows(header, self.incarnation) {
                        Ok(()) => {
                            let (header, timestamp) = (*header, *timestamp);
                            SideEntry { header, timestamp }.encode(&mut good.side.pending);
                            self.note(good, &header, timestamp);
                            self.walked_frames += 1;
                            self.walked_bytes += header.frame_bytes();
                            continue;
                        }
                        Err(reason) => reason,
                    }
                }
                _ => String::new(),
            };
            self.stop = self.stop_at(good.header.base_index, place, why);
            return Ok(());
        }
    }

    /// The stop at the tail's position, where `place` is and does not follow for the reason `why`.
    fn stop_at(&self, segment: LogIndex, place: Place, why: String) -> Stop {
        let mut stop = Stop {
            segment,
            position: self.tail.position,
            reason: "there is no frame".to_owned(),
            is_empty: true,
            unreadable: false,
            bytes: 0,
        };
        match place {
            Place::Frame { header, .. } if !self.is_dead(&header) => {
                stop.reason = why;
                stop.is_empty = false;
                stop.bytes = header.frame_bytes();
            }
            Place::Frame { .. } | Place::Empty => {}
            Place::Bad { reason, header, unreadable } => {
                stop.is_empty = header.as_ref().is_some_and(|header| self.is_dead(header));
                stop.bytes = header.map_or(0, |header| header.frame_bytes());
                stop.reason = reason;
                stop.unreadable = unreadable;
            }
        }
        stop
    }

    /// Whether a segment of its own holds the next frame's place.
    fn is_taken_over(&self, disk: &dyn Disk, files: &mut LogFiles) -> io::Result<bool> {
        let next = self.tail.index.next();
        if self.tail.position == SEGMENT_HEADER_BYTES || !files.bases.contains(&next) {
            return Ok(false);
        }
        let file = files.reopen(disk, &segment_name(next))?;
        Ok(self.check_header(&*file, next, false).is_ok())
    }

    fn note(&mut self, good: &mut GoodSegment, header: &FrameHeader, timestamp: i64) {
        good.index.note(header, self.tail.position, timestamp);
        self.terms.note(header.term, header.index, header.base_offset);
        self.tail = self.tail.after(header);
        self.flush_sequence = self.flush_sequence.max(header.flush_sequence);
    }

    /// Whether a frame below the durable mark is the next one.
    fn follows(&self, header: &FrameHeader) -> bool {
        header.flush_sequence > self.birth
            && self.tail.check_follows(header, self.incarnation).is_ok()
    }

    /// Dead frames prove nothing: another log's, what the file held before it was this segment's,
    /// those under a truncate mark, and those with a smaller flush sequence than the frame before
    /// them.
    fn is_dead(&self, header: &FrameHeader) -> bool {
        header.incarnation != self.incarnation
            || header.flush_sequence <= self.birth
            || header.flush_sequence < self.tail.flush_sequence
            || self.meta.truncations.iter().any(|mark| {
                header.index >= mark.index && header.flush_sequence <= mark.flush_sequence
            })
    }

    /// Whether a header behind the stop belongs to this log's future.
    fn is_live_behind(&self, header: &FrameHeader) -> bool {
        !self.is_dead(header)
            && header.index > self.tail.index
            && header.term >= self.tail.term
            && header.base_offset >= self.tail.next_offset
    }
}
