//! Dropping a suffix: a follower's conflict.
//!
//! The durable mark that declares the suffix dead comes first, and is the caller's; here the log
//! takes its state back to the frame before, read from the file and never counted back.
//!
//! Absent on purpose: shortening files. The suffix is overwritten by what comes.

use super::{LogWriter, Side};
use crate::bytes_io::{length, size};
use crate::flush_set::FlushSet;
use crate::index::{NO_TIMESTAMP, TIMESTAMP_PREFIX_BYTES, payload_timestamp};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::side::ENTRY_BYTES;
use crate::tail::Tail;
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use bateau_protocol::ids::LogIndex;
use std::io;
use std::sync::Arc;

impl LogWriter {
    /// Whether a truncation from `index` drops anything.
    pub(crate) fn reaches(&self, index: LogIndex) -> bool {
        index <= self.tail.index
    }

    /// Drops every frame from `index` on, which must lie above the commit, in memory. Returns
    /// segments that hold nothing any more. Nothing is written before the truncate mark is
    /// durable; then [`LogWriter::clear_tail`] is.
    pub(crate) fn truncate(&mut self, index: LogIndex) -> io::Result<Vec<Arc<Segment>>> {
        assert!(
            index > self.hard_state.commit && index >= self.start.index,
            "I-LOG-3: truncation from {index} with commit {}",
            self.hard_state.commit
        );
        let segments = self.shared.segments();
        let at = segments.partition_point(|segment| segment.base_index() <= index);
        let (kept, gone) = segments.split_at(at.max(1));
        let Some(target) = kept.last().map(Arc::clone) else { return Ok(Vec::new()) };
        let gone = gone.to_vec();
        let tail = rewind(&target, index)?;
        self.reopen(&target, &gone, index);
        let mut terms = (*self.shared.terms()).clone();
        terms.truncate_from(index);
        self.shared.set_terms(terms);
        self.shared.publish(tail.index, tail.next_offset);
        target.publish_end(tail.position);
        self.shared.set_segments(kept.to_vec());
        self.active = target;
        self.tail = tail;
        if self.durable.index >= index {
            self.durable = tail;
        }
        Ok(gone)
    }

    /// Zeroes the header place behind the tail. The truncate mark says the same, so a filesystem
    /// that has no room to overwrite is no error.
    pub(crate) fn clear_tail(&self, flush: &mut FlushSet) -> io::Result<()> {
        if self.tail.position + length(FRAME_HEADER_BYTES) > self.active.capacity {
            return Ok(());
        }
        let zeros = [0; FRAME_HEADER_BYTES];
        match self.active.file.write_at(self.tail.position, &[&zeros]) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            result => result?,
        }
        flush.add_file(&self.active.file);
        Ok(())
    }

    /// Makes `target` the segment whose side file is written to again.
    fn reopen(&mut self, target: &Arc<Segment>, gone: &[Arc<Segment>], index: LogIndex) {
        target.index_mut().set_interval(self.options.index_interval_bytes);
        let slots = index.get() - target.base_index().get();
        if !gone.is_empty() {
            let waiting =
                self.sealing.iter().position(|sealing| Arc::ptr_eq(&sealing.segment, target));
            let side = waiting.and_then(|at| self.sealing.remove(at)).map(|sealing| sealing.side);
            self.side = side.unwrap_or_else(|| Side::new(slots));
            self.sealing.retain(|sealing| {
                !gone.iter().any(|segment| Arc::ptr_eq(segment, &sealing.segment))
            });
        }
        let side = &mut self.side;
        side.unproven.retain(|entry| entry.header.index < index);
        let unwritten = slots.saturating_sub(side.slots);
        side.pending.truncate(size(unwritten * ENTRY_BYTES));
        side.slots = side.slots.min(slots);
    }
}

/// Takes a segment's index back to before `index`; returns the tail behind the frame before it.
fn rewind(segment: &Segment, index: LogIndex) -> io::Result<Tail> {
    let mut tail = Tail::before_segment(&segment.header);
    let mut sparse = segment.index_mut();
    let resume = sparse.truncate_from(index);
    if let Some(resume) = resume {
        tail.position = resume.position;
    } else {
        tail.position = SEGMENT_HEADER_BYTES;
    }
    let mut next = resume.map_or(segment.base_index(), |entry| entry.index);
    while next < index {
        let header = segment.header_copied(tail.position).map_err(io::Error::other)?;
        if header.index != next {
            let found = header.index;
            return Err(io::Error::other(format!("found frame {found}, expected {next}")));
        }
        let timestamp = stored_timestamp(segment, &header, tail.position)?;
        sparse.note(&header, tail.position, timestamp);
        tail = tail.after(&header);
        next = next.next();
    }
    Ok(tail)
}

fn stored_timestamp(segment: &Segment, header: &FrameHeader, position: u64) -> io::Result<i64> {
    if header.kind != FrameKind::Records {
        return Ok(NO_TIMESTAMP);
    }
    let mut prefix = [0; TIMESTAMP_PREFIX_BYTES];
    let have = prefix.len().min(size(u64::from(header.payload_bytes)));
    segment.file.read_at(position + length(FRAME_HEADER_BYTES), &mut prefix[..have])?;
    Ok(payload_timestamp(header.kind, &prefix[..have]))
}
