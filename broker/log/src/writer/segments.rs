//! Where a log's segments come from and how they are closed.
//!
//! A new segment is, in this order: the prepared file, a recycled one of the size that is wanted, a
//! fresh one. What is prepared ahead is a recycled file or a fresh one, too.
//!
//! Absent on purpose: removal, which `background` does in slices.

use super::{LogWriter, Side, WriterState};
use crate::bytes_io::{length, size};
use crate::disk::{Disk, DiskFile, FileMap};
use crate::flush_set::FlushSet;
use crate::index::{SEALED_ENTRIES_MAX, SparseIndex};
use crate::recycle::RecycledFiles;
use crate::segment::{
    SEGMENT_HEADER_BYTES, Segment, SegmentHeader, log_dir, next_capacity, segment_name, side_name,
};
use crate::shared::{LogShared, NodeWide, Published};
use crate::side::{self, Checkpoint};
use crate::tail::Tail;
use crate::work::{Create, LogStart, SEGMENT_BYTES_MIN};
use bateau_protocol::frame::FRAME_HEADER_BYTES;
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex};
use bateau_protocol::terms::TermTable;
use std::io;
use std::sync::Arc;

/// A segment that has its room but no frame and not its name yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) map: Box<dyn FileMap>,
    pub(crate) capacity: u64,
    /// What it is called until it is a segment.
    pub(crate) path: String,
    /// Its number, where it is a recycled file.
    pub(crate) recycled: Option<u64>,
    /// Bytes at its front that were written and flushed before.
    pub(crate) settled_bytes: u64,
}

/// A full segment whose checkpoint is still to be written.
#[derive(Debug)]
pub(crate) struct Sealing {
    pub(crate) segment: Arc<Segment>,
    pub(crate) side: Side,
    pub(crate) tail: Tail,
}

/// Name of a fresh file that was prepared.
pub(crate) const PREPARED_NAME: &str = "next";

pub(super) fn allocate(disk: &dyn Disk, path: &str, capacity: u64) -> io::Result<Prepared> {
    let file = disk.create(path)?;
    let made = file.allocate(capacity).and_then(|()| file.map());
    match made {
        Ok(map) => {
            let path = path.to_owned();
            Ok(Prepared { file, map, capacity, path, recycled: None, settled_bytes: 0 })
        }
        Err(error) => {
            // The name alone is left, and the next start would take it away too.
            let _ = disk.unlink(path);
            Err(error)
        }
    }
}

/// Allocates a segment. Where there is no room, recycled files give way, and then it is a smaller
/// one: a disk that has some left is used up before an append is refused.
///
/// - `needed`: bytes without which the segment is of no use.
fn allocate_at_most(
    disk: &dyn Disk,
    path: &str,
    capacity: u64,
    needed: u64,
    recycled: &mut RecycledFiles,
) -> io::Result<Prepared> {
    let mut capacity = capacity.max(needed);
    loop {
        match allocate(disk, path, capacity) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && recycled.release() => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull && capacity > needed => {
                capacity = (capacity / 4).max(needed);
            }
            made => return made,
        }
    }
}

impl Side {
    /// Writes the pending entries; opens or makes the file where that has not been done.
    fn write(
        &mut self,
        disk: &dyn Disk,
        dir: &str,
        incarnation: Incarnation,
        base_index: LogIndex,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let path = format!("{dir}/{}", side_name(base_index));
        let file = match self.file.take() {
            Some(file) => file,
            None if self.slots > 0 => disk.open(&path)?,
            None => {
                let file = disk.create(&path)?;
                let mut header = side::encode_header(incarnation, base_index);
                header.resize(size(side::ENTRIES_AT), 0);
                file.write_at(0, &[&header])?;
                self.is_new = true;
                file
            }
        };
        file.write_at(side::entry_position(self.slots), &[&self.pending])?;
        self.slots += length(self.pending.len()) / side::ENTRY_BYTES;
        self.pending = Vec::new();
        self.is_dirty = true;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn name_in(&mut self, dir: &str, flush: &mut FlushSet) {
        if std::mem::take(&mut self.is_dirty)
            && let Some(file) = &self.file
        {
            flush.add_file(file);
        }
        if std::mem::take(&mut self.is_new) {
            flush.add_dir(dir);
        }
    }
}

impl LogWriter {
    /// Makes directory and first segment of a new log. Its frames come with an append.
    pub(crate) fn create(
        disk: Arc<dyn Disk>,
        request: &Create,
        birth: FlushSequence,
        node: Arc<NodeWide>,
        flush: &mut FlushSet,
    ) -> io::Result<Self> {
        let dir = log_dir(request.incarnation);
        let index = LogStart::BIRTH.index;
        let frame = request.frames.first();
        let frame_bytes = frame.map_or(0, |frame| length(FRAME_HEADER_BYTES + frame.payload.len()));
        let capacity = next_capacity(None, request.options.segment_bytes, frame_bytes);
        disk.create_dir(&dir)?;
        let path = format!("{dir}/{}", segment_name(index));
        let prepared = allocate(&*disk, &path, capacity)?;
        let header = SegmentHeader {
            incarnation: request.incarnation,
            base_index: index,
            base_offset: LogStart::BIRTH.offset,
            previous_term: LogStart::BIRTH.term,
            birth_flush_sequence: birth,
            previous_crc: LogStart::BIRTH.chain_crc,
        };
        prepared.file.write_at(0, &[&header.encode(), &[0; FRAME_HEADER_BYTES]])?;
        flush.add_file(&prepared.file);
        flush.add_dir(&dir);
        flush.add_dir("partitions");
        let sparse = SparseIndex::new(request.options.index_interval_bytes);
        let active = Segment::new(header, path, prepared.file, prepared.map, capacity, sparse);
        let active = Arc::new(active);
        let tail = Tail::before_segment(&header);
        let published = Published {
            segments: vec![Arc::clone(&active)],
            terms: TermTable::default(),
            start: LogStart::BIRTH,
            last_index: tail.index,
            end_offset: tail.next_offset,
            hole: None,
        };
        let state = WriterState {
            incarnation: request.incarnation,
            replica: request.replica,
            options: request.options,
            shared: LogShared::new(request.incarnation, published, node),
            active,
            side: Side::new(0),
            tail,
            hard_state: request.hard_state,
            start: LogStart::BIRTH,
            state_applied: None,
            truncations: Vec::new(),
            snapshot: None,
        };
        Ok(Self::new(disk, state))
    }

    /// The segment that comes behind `tail`: the prepared one where it has room for a frame of
    /// `frame_bytes`, else another one of `capacity`.
    pub(super) fn next_segment(
        &mut self,
        tail: &Tail,
        capacity: u64,
        frame_bytes: u64,
        birth: FlushSequence,
        recycled: &mut RecycledFiles,
    ) -> io::Result<Arc<Segment>> {
        let base_index = tail.index.next();
        let path = format!("{}/{}", self.dir, segment_name(base_index));
        let needed = SEGMENT_HEADER_BYTES + frame_bytes + length(FRAME_HEADER_BYTES);
        if base_index == self.active.base_index() {
            return self.enlarge(capacity.max(needed));
        }
        let prepared = self.prepared.take_if(|prepared| prepared.capacity >= needed);
        let prepared = prepared.or_else(|| recycled.take(capacity.max(needed)));
        let prepared = match prepared {
            Some(prepared) => self.name(prepared, &path, recycled)?,
            None => allocate_at_most(&*self.disk, &path, capacity, needed, recycled)?,
        };
        let header = SegmentHeader {
            incarnation: self.incarnation,
            base_index,
            base_offset: tail.next_offset,
            previous_term: tail.term,
            birth_flush_sequence: birth,
            previous_crc: tail.chain_crc,
        };
        let index = SparseIndex::new(self.options.index_interval_bytes);
        let Prepared { file, map, capacity, settled_bytes, .. } = prepared;
        let segment = Segment::new(header, path, file, map, capacity, index);
        Ok(Arc::new(segment.on_settled(settled_bytes)))
    }

    /// Gives a prepared file the name of a segment, by which it becomes the log's.
    fn name(
        &mut self,
        prepared: Prepared,
        path: &str,
        recycled: &mut RecycledFiles,
    ) -> io::Result<Prepared> {
        if let Err(error) = self.disk.rename(&prepared.path, path) {
            recycled.give_back(prepared);
            return Err(error);
        }
        if prepared.recycled.is_some() {
            recycled.note_used();
            self.took_recycled = true;
        }
        Ok(prepared)
    }

    /// The active segment, which is empty and too small for a frame, with more room: the same file,
    /// mapped once more.
    fn enlarge(&self, capacity: u64) -> io::Result<Arc<Segment>> {
        let active = &self.active;
        let file = Arc::clone(&active.file);
        file.allocate(capacity)?;
        let map = file.map()?;
        let index = SparseIndex::new(self.options.index_interval_bytes);
        let larger = Segment::new(active.header, active.path(), file, map, capacity, index);
        Ok(Arc::new(larger))
    }

    /// Makes a written segment the active one.
    pub(super) fn roll_to(&mut self, segment: Arc<Segment>) {
        if segment.base_index() == self.active.base_index() {
            let mut segments = (*self.shared.segments()).clone();
            segments.pop();
            segments.push(Arc::clone(&segment));
            self.active = segment;
            self.side = Side::new(0);
            self.shared.set_segments(segments);
            return;
        }
        let old = std::mem::replace(&mut self.active, Arc::clone(&segment));
        let side = std::mem::replace(&mut self.side, Side::new(0));
        self.sealing.push_back(Sealing { segment: old, side, tail: self.tail });
        let mut segments = (*self.shared.segments()).clone();
        segments.push(segment);
        self.shared.set_segments(segments);
    }

    /// Whether the next segment should be made now, off the commit path.
    pub(crate) fn wants_next(&self) -> bool {
        self.prepared.is_none() && self.tail.position > self.active.capacity / 2
    }

    /// Size of the segment behind the active one, unless a frame needs more.
    pub(crate) fn next_bytes(&self) -> u64 {
        next_capacity(Some(self.active.capacity), self.options.segment_bytes, 0)
    }

    /// Makes the next segment ahead of its use.
    pub(crate) fn prepare_next(&mut self, recycled: &mut RecycledFiles) -> io::Result<()> {
        let capacity = self.next_bytes();
        self.prepared = recycled.take(capacity);
        if self.prepared.is_none() {
            let path = format!("{}/{PREPARED_NAME}", self.dir);
            let least = u64::from(SEGMENT_BYTES_MIN);
            let made = allocate_at_most(&*self.disk, &path, capacity, least, recycled)?;
            self.prepared = Some(made);
        }
        Ok(())
    }

    /// Writes the side entries of flushed frames of the active segment. Not flushed.
    pub(crate) fn write_side(&mut self) -> io::Result<()> {
        let base_index = self.active.base_index();
        if !self.side.pending.is_empty() {
            self.side.write(&*self.disk, &self.dir, self.incarnation, base_index)?;
        }
        Ok(())
    }

    /// Names the active segment's side file, where it has unflushed bytes.
    pub(crate) fn flush_side(&mut self, flush: &mut FlushSet) {
        self.side.name_in(&self.dir, flush);
    }

    /// Closes the oldest full segment for good: the rest of its side entries and the checkpoint
    /// of its index. Returns whether there was one; after an error it is still there.
    pub(crate) fn seal_one(&mut self, flush: &mut FlushSet) -> io::Result<bool> {
        let Some(sealing) = self.sealing.front_mut() else { return Ok(false) };
        let base_index = sealing.segment.base_index();
        let file = sealing.side.write(&*self.disk, &self.dir, self.incarnation, base_index)?;
        let mut index = sealing.segment.index_mut();
        index.thin(SEALED_ENTRIES_MAX);
        let last = sealing.tail.index;
        let terms = self.shared.terms();
        let in_segment = |start: LogIndex| start >= base_index && start <= last;
        let starts = terms.starts().iter().filter(|start| in_segment(start.first_index));
        let checkpoint = Checkpoint {
            tail: sealing.tail,
            terms: starts.copied().collect(),
            index: index.clone(),
        };
        drop(index);
        side::write_checkpoint(&*file, sealing.side.slots, &checkpoint)?;
        sealing.side.name_in(&self.dir, flush);
        self.sealing.pop_front();
        Ok(true)
    }

    /// Puts a segment with the same frames in the place of another one, which its readers keep.
    pub(crate) fn swap_segment(&mut self, segment: Arc<Segment>) {
        let base = segment.base_index();
        let is_old = |other: &Arc<Segment>| other.base_index() == base;
        if is_old(&self.active) {
            self.active = Arc::clone(&segment);
        }
        for sealing in self.sealing.iter_mut().filter(|sealing| is_old(&sealing.segment)) {
            sealing.segment = Arc::clone(&segment);
        }
        let mut segments = (*self.shared.segments()).clone();
        for place in segments.iter_mut().filter(|place| is_old(place)) {
            *place = Arc::clone(&segment);
        }
        self.shared.set_segments(segments);
    }

    /// Takes whole segments off the front that hold nothing at or behind `start`, and nothing
    /// that is not in the newest durable state file.
    pub(crate) fn take_dead_segments(&mut self) -> Vec<Arc<Segment>> {
        let applied = self.state_applied.unwrap_or(LogIndex::ZERO);
        let dead_up_to = self.start.index.previous().min(applied);
        let segments = self.shared.segments();
        let dead = segments
            .windows(2)
            .take_while(|pair| pair[1].base_index().previous() <= dead_up_to)
            .count();
        if dead == 0 {
            return Vec::new();
        }
        let (gone, left) = segments.split_at(dead);
        self.shared.set_segments(left.to_vec());
        self.sealing
            .retain(|sealing| !gone.iter().any(|segment| Arc::ptr_eq(segment, &sealing.segment)));
        gone.to_vec()
    }
}
