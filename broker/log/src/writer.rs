//! The writing side of one log: appends, rolls, truncations, trims.
//!
//! ```text
//!   tail     behind the last frame written      ──flush──>      durable   behind the last flushed
//!   side.unproven  headers of this cycle        ──flush──>      side.pending, written when idle
//! ```
//!
//! Invariants
//! - `I-LOG-1`, `I-LOG-2`: asserted before every write.
//! - All or nothing: a failed append leaves tail, segment list and published ends as they were.
//! - A frame of a drain and a segment is written by one positional vectored write, with a zeroed
//!   header place behind the last one.
//!
//! Absent on purpose: flushing. Who flushes calls [`LogWriter::flushed`] after it.

mod restart;
mod segments;
mod truncate;

pub(crate) use restart::install_dir;
pub(crate) use segments::{PREPARED_NAME, Prepared, Sealing};

use crate::bytes_io::length;
use crate::disk::{Disk, DiskFile};
use crate::flush_set::FlushSet;
use crate::index::payload_timestamp;
use crate::meta::{ReplicaMeta, SnapshotMark, TruncateMark};
use crate::reader::LogReader;
use crate::recycle::{RECYCLED, RecycledFiles};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, capacity_behind, log_dir, next_capacity};
use crate::shared::LogShared;
use crate::side::SideEntry;
use crate::tail::Tail;
use crate::work::{HardState, LogOptions, LogStart, WriteError};
use bateau_protocol::frame::{FRAME_HEADER_BYTES, Frame, FrameHeader, STAMPED_BYTES};
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, ReplicaId};
use bateau_protocol::limits::FRAME_PAYLOAD_BYTES_MAX;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of one write from which on the device begins with them at once.
const WRITE_OUT_BYTES: u64 = 512 * 1024;

/// The side file of a segment that is not closed for good.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) file: Option<Arc<dyn DiskFile>>,
    /// Entries in the file.
    pub(crate) slots: u64,
    /// Encoded entries of flushed frames, to be written behind them.
    pub(crate) pending: Vec<u8>,
    /// Entries of frames whose flush has not returned.
    pub(crate) unproven: Vec<SideEntry>,
    /// Written since it was last named in a flush.
    is_dirty: bool,
    /// Its directory entry was not named in a flush yet.
    is_new: bool,
}

impl Side {
    pub(crate) fn new(slots: u64) -> Self {
        let (pending, unproven) = (Vec::new(), Vec::new());
        Self { file: None, slots, pending, unproven, is_dirty: false, is_new: false }
    }

    /// The flush of the unproven entries' frames has returned. Returns the bytes that wait now in
    /// addition.
    fn prove(&mut self) -> usize {
        let before = self.pending.len();
        for entry in self.unproven.drain(..) {
            entry.encode(&mut self.pending);
        }
        self.pending.len() - before
    }
}

/// The writer of one log.
#[derive(Debug)]
pub(crate) struct LogWriter {
    disk: Arc<dyn Disk>,
    pub(crate) incarnation: Incarnation,
    pub(crate) dir: String,
    pub(crate) replica: ReplicaId,
    pub(crate) options: LogOptions,
    pub(crate) shared: Arc<LogShared>,
    pub(crate) active: Arc<Segment>,
    pub(crate) side: Side,
    pub(crate) sealing: VecDeque<Sealing>,
    pub(crate) prepared: Option<Prepared>,
    pub(crate) tail: Tail,
    pub(crate) durable: Tail,
    pub(crate) hard_state: HardState,
    pub(crate) start: LogStart,
    /// Index of the newest durable state file.
    pub(crate) state_applied: Option<LogIndex>,
    pub(crate) truncations: Vec<TruncateMark>,
    /// The snapshot that the log began anew with.
    snapshot: Option<SnapshotMark>,
    /// An append failed: later ones fail with a gap until it is repeated.
    refuses: bool,
    roll_requested: bool,
    /// The flush sequence of a failed write: frames of it are dead by a truncate mark, so nothing
    /// else may carry it.
    failed_sequence: Option<FlushSequence>,
    /// A failed append has unlinked a segment, which has to be durable before anything else is
    /// acknowledged: a name that comes back would take over from the frames here.
    unlinked: bool,
    /// A recycled file became a segment: that it has left its place has to be durable, too.
    took_recycled: bool,
    /// What the meta log holds of this log.
    pub(crate) stored: Option<ReplicaMeta>,
}

/// What a writer starts from.
#[derive(Debug)]
pub(crate) struct WriterState {
    pub(crate) incarnation: Incarnation,
    pub(crate) replica: ReplicaId,
    pub(crate) options: LogOptions,
    pub(crate) shared: Arc<LogShared>,
    pub(crate) active: Arc<Segment>,
    pub(crate) side: Side,
    pub(crate) tail: Tail,
    pub(crate) hard_state: HardState,
    pub(crate) start: LogStart,
    pub(crate) state_applied: Option<LogIndex>,
    pub(crate) truncations: Vec<TruncateMark>,
    pub(crate) snapshot: Option<SnapshotMark>,
}

/// One frame with its header and place.
struct Placed<'a> {
    frame: &'a Frame,
    header: FrameHeader,
    head: [u8; FRAME_HEADER_BYTES + STAMPED_BYTES],
    head_bytes: usize,
    position: u64,
}

/// Frames that go into one segment, by one write.
struct Run<'a> {
    /// The segment, where it is a new one.
    new: Option<Arc<Segment>>,
    frames: Vec<Placed<'a>>,
    /// The tail behind the last frame.
    tail: Tail,
}

impl LogWriter {
    pub(crate) fn new(disk: Arc<dyn Disk>, from: WriterState) -> Self {
        Self {
            disk,
            incarnation: from.incarnation,
            dir: log_dir(from.incarnation),
            replica: from.replica,
            options: from.options,
            shared: from.shared,
            active: from.active,
            side: from.side,
            sealing: VecDeque::new(),
            prepared: None,
            tail: from.tail,
            durable: from.tail,
            hard_state: from.hard_state,
            start: from.start,
            state_applied: from.state_applied,
            truncations: from.truncations,
            snapshot: from.snapshot,
            refuses: false,
            roll_requested: false,
            failed_sequence: None,
            unlinked: false,
            took_recycled: false,
            stored: None,
        }
    }

    pub(crate) fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// Appends `frames`, stamped with `flush_sequence`, and names what has to be flushed.
    ///
    /// Errors: as [`crate::Done::PersistFailed`] has them; the log is then as it was.
    pub(crate) fn append(
        &mut self,
        frames: &[Frame],
        flush_sequence: FlushSequence,
        flush: &mut FlushSet,
        recycled: &mut RecycledFiles,
    ) -> Result<u64, WriteError> {
        let Some(first) = frames.first() else { return Ok(0) };
        if self.refuses && first.index != self.tail.index.next() {
            return Err(WriteError::Gap { expected: self.tail.index.next(), found: first.index });
        }
        if self.failed_sequence.is_some_and(|failed| failed >= flush_sequence) {
            let message = "an earlier write of this cycle failed".to_owned();
            return Err(WriteError::Io { operation: "write frames", message });
        }
        self.refuses = true;
        let runs = self.place(frames, flush_sequence, recycled)?;
        for run in &runs {
            if let Err(error) = self.write(run) {
                self.discard(&runs);
                self.bury(flush_sequence);
                return Err(write_error("write frames", &error));
            }
        }
        let bytes = runs.iter().flat_map(|run| &run.frames).map(|at| at.header.frame_bytes()).sum();
        if std::mem::take(&mut self.unlinked) {
            flush.add_dir(&self.dir);
        }
        if std::mem::take(&mut self.took_recycled) {
            flush.add_dir(RECYCLED);
        }
        for run in runs {
            self.publish(run, flush);
        }
        self.refuses = false;
        self.roll_requested = false;
        Ok(bytes)
    }

    /// Gives every frame its header and place, and makes the segments that it takes.
    fn place<'a>(
        &mut self,
        frames: &'a [Frame],
        flush_sequence: FlushSequence,
        recycled: &mut RecycledFiles,
    ) -> Result<Vec<Run<'a>>, WriteError> {
        let mut runs = vec![Run { new: None, frames: Vec::new(), tail: self.tail }];
        let mut tail = self.tail;
        let mut capacity = self.active.capacity;
        let mut roll = self.roll_requested && tail.position > SEGMENT_HEADER_BYTES;
        for frame in frames {
            tail.assert_followed_by(frame);
            assert!(
                frame.payload.len() <= FRAME_PAYLOAD_BYTES_MAX,
                "I-LOG-2: frame {} has {} bytes of payload",
                frame.index,
                frame.payload.len()
            );
            let bytes = length(FRAME_HEADER_BYTES + frame.payload.len());
            if roll || tail.position + bytes + length(FRAME_HEADER_BYTES) > capacity {
                let most = self.options.segment_bytes;
                let wanted = match roll {
                    true => capacity_behind(tail.position, most, bytes),
                    false => next_capacity(Some(capacity), most, bytes),
                };
                let birth = FlushSequence::new(flush_sequence.get().saturating_sub(1));
                let segment = match self.next_segment(&tail, wanted, bytes, birth, recycled) {
                    Ok(segment) => segment,
                    Err(error) => {
                        self.discard(&runs);
                        return Err(write_error("make a segment", &error));
                    }
                };
                roll = false;
                capacity = segment.capacity;
                tail.segment = segment.base_index();
                tail.position = SEGMENT_HEADER_BYTES;
                runs.push(Run { new: Some(segment), frames: Vec::new(), tail });
            }
            let placed = Placed::new(frame, &tail, self.incarnation, flush_sequence);
            tail = tail.after(&placed.header);
            if let Some(run) = runs.last_mut() {
                run.frames.push(placed);
                run.tail = tail;
            }
        }
        Ok(runs)
    }

    fn write(&self, run: &Run<'_>) -> io::Result<()> {
        let segment = run.new.as_ref().unwrap_or(&self.active);
        let header = run.new.as_ref().map(|segment| segment.header.encode());
        let Some(first) = run.frames.first() else { return Ok(()) };
        let mut slices: Vec<&[u8]> = Vec::with_capacity(run.frames.len() * 2 + 2);
        slices.extend(header.as_deref());
        for placed in &run.frames {
            slices.push(&placed.head[..placed.head_bytes]);
            let stamped = placed.head_bytes - FRAME_HEADER_BYTES;
            slices.push(&placed.frame.payload[stamped..]);
        }
        slices.push(&[0; FRAME_HEADER_BYTES]);
        let position = if header.is_some() { 0 } else { first.position };
        segment.file.write_at(position, &slices)?;
        if run.tail.position - position >= WRITE_OUT_BYTES {
            // The device works while more of the cycle is written.
            segment.file.start_flush();
        }
        Ok(())
    }

    /// Makes a written run visible.
    fn publish(&mut self, run: Run<'_>, flush: &mut FlushSet) {
        if let Some(segment) = run.new {
            self.roll_to(segment);
            flush.add_dir(&self.dir);
        }
        if run.frames.is_empty() {
            return;
        }
        if self.active.overwrites(run.tail.position + length(FRAME_HEADER_BYTES)) {
            flush.add_overwritten(&self.active.file);
        } else {
            flush.add_file(&self.active.file);
        }
        let mut terms = None;
        {
            let mut index = self.active.index_mut();
            for placed in &run.frames {
                let header = &placed.header;
                let timestamp = payload_timestamp(header.kind, &placed.frame.payload);
                index.note(header, placed.position, timestamp);
                self.side.unproven.push(SideEntry { header: *header, timestamp });
                if self.shared.terms().last().is_none_or(|last| last.term < header.term) {
                    let table = terms.get_or_insert_with(|| (*self.shared.terms()).clone());
                    table.note(header.term, header.index, header.base_offset);
                }
                let bytes = header.frame_bytes();
                let written = self.shared.node.written.fetch_add(bytes, Ordering::Relaxed);
                self.active.note_written(placed.position, written);
            }
        }
        if let Some(terms) = terms {
            self.shared.set_terms(terms);
        }
        self.tail = run.tail;
        self.active.publish_end(self.tail.position);
        self.shared.publish(self.tail.index, self.tail.next_offset);
    }

    /// Undoes what a failed append did to the files.
    fn discard(&mut self, runs: &[Run<'_>]) {
        let is_other = |segment: &&Arc<Segment>| segment.base_index() != self.active.base_index();
        for segment in runs.iter().filter_map(|run| run.new.as_ref()).filter(is_other) {
            // Nothing refers to it; what cannot be removed now, the next start removes.
            let _ = self.disk.unlink(&segment.path());
            self.unlinked = true;
        }
        // The mark that buries what was written becomes durable later; this says it sooner.
        let room = self.tail.position + length(FRAME_HEADER_BYTES) <= self.active.capacity;
        if room {
            let _ = self.active.file.write_at(self.tail.position, &[&[0; FRAME_HEADER_BYTES]]);
        }
    }

    /// Declares frames behind the tail dead that a failed write may have left: once flushed with
    /// the rest of their file, a whole one would look like proof of a loss before it.
    fn bury(&mut self, flush_sequence: FlushSequence) {
        let index = self.tail.index.next();
        self.truncations.push(TruncateMark { index, flush_sequence });
        self.failed_sequence = Some(flush_sequence);
    }

    /// A flush that covered everything written so far has returned. Returns the bytes of side
    /// entries that it left to be written.
    pub(crate) fn flushed(&mut self) -> usize {
        self.durable = self.tail;
        let mut side_bytes = self.side.prove();
        for sealing in &mut self.sealing {
            side_bytes += sealing.side.prove();
        }
        // Frames under a mark are dead by their falling flush sequence once a later frame is
        // durable at or below D.
        let durable = self.durable.flush_sequence;
        self.truncations.retain(|mark| mark.flush_sequence >= durable);
        side_bytes
    }

    /// Closes the active segment with the next append.
    pub(crate) fn request_roll(&mut self) {
        self.roll_requested = self.tail.position > SEGMENT_HEADER_BYTES;
    }

    /// Term, vote and commit. Returns whether term or vote changed, which must be flushed.
    pub(crate) fn set_hard_state(&mut self, new: HardState) -> bool {
        assert!(
            new.term >= self.hard_state.term,
            "I-LOG-4: term {} after {}",
            new.term,
            self.hard_state.term
        );
        let eager = new.term != self.hard_state.term || new.vote != self.hard_state.vote;
        self.hard_state.term = new.term;
        self.hard_state.vote = new.vote;
        self.note_commit(new.commit);
        eager
    }

    pub(crate) fn note_commit(&mut self, commit: LogIndex) {
        self.hard_state.commit = self.hard_state.commit.max(commit);
    }

    /// Moves the log's start. Returns whether it moved.
    pub(crate) fn trim(&mut self, start: LogStart) -> bool {
        if start.index <= self.start.index {
            return false;
        }
        assert!(
            start.index <= self.tail.index.next() && start.offset <= self.tail.next_offset,
            "I-LOG-1: a trim to {start:?} behind the log's end {:?}",
            self.tail
        );
        self.start = start;
        self.shared.set_start(start);
        let mut terms = (*self.shared.terms()).clone();
        terms.trim_to(start.index, start.offset);
        self.shared.set_terms(terms);
        true
    }

    /// What the meta log shall hold of this log (I-LOG-4: the commit no higher than what is
    /// flushed).
    pub(crate) fn to_meta(&self) -> ReplicaMeta {
        let commit = self.hard_state.commit.min(self.durable.index);
        ReplicaMeta {
            replica: self.replica,
            hard_state: HardState { commit, ..self.hard_state },
            start: self.start,
            durable: Some(self.durable),
            truncations: self.truncations.clone(),
            snapshot: self.snapshot.filter(|mark| {
                let durable = self.durable.index;
                durable <= mark.index || durable < mark.applied
            }),
        }
    }

    /// Whether the closing flush has something of this log to store.
    pub(crate) fn is_stale_in_meta(&self) -> bool {
        self.stored.as_ref() != Some(&self.to_meta())
    }
}

impl<'a> Placed<'a> {
    fn new(
        frame: &'a Frame,
        tail: &Tail,
        incarnation: Incarnation,
        flush_sequence: FlushSequence,
    ) -> Self {
        let header = frame.header(incarnation, tail.chain_crc, flush_sequence);
        let mut head = [0; FRAME_HEADER_BYTES + STAMPED_BYTES];
        head[..FRAME_HEADER_BYTES].copy_from_slice(&header.encode());
        let stamped = frame.head();
        if let Some(stamped) = &stamped {
            head[FRAME_HEADER_BYTES..].copy_from_slice(stamped);
        }
        let head_bytes = FRAME_HEADER_BYTES + stamped.map_or(0, |stamped| stamped.len());
        Self { frame, header, head, head_bytes, position: tail.position }
    }
}

/// One log's view of a system error.
pub(crate) fn write_error(operation: &'static str, error: &io::Error) -> WriteError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WriteError::NoSpace,
        _ => WriteError::Io { operation, message: error.to_string() },
    }
}
