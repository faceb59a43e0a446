//! A log that begins anew behind a snapshot, in a directory of its own until it takes over.
//!
//! Absent on purpose: the moment when it takes over, which is the cycle's.

use super::segments::{Prepared, allocate};
use super::{LogWriter, Side};
use crate::bytes_io::hex;
use crate::flush_set::FlushSet;
use crate::index::SparseIndex;
use crate::meta::SnapshotMark;
use crate::segment::{Segment, SegmentHeader, log_dir, next_capacity, segment_name};
use crate::tail::Tail;
use crate::work::Install;
use bateau_protocol::frame::FRAME_HEADER_BYTES;
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex};
use bateau_protocol::terms::TermTable;
use std::io;
use std::sync::Arc;

/// Directory of a log that has not taken over yet, by the index of its snapshot.
pub(crate) fn install_dir(incarnation: Incarnation, index: LogIndex) -> String {
    format!("{}-{}", log_dir(incarnation), hex(index.get()))
}

impl LogWriter {
    /// Makes the first segment of the log behind a snapshot, in `dir`, and names it to be flushed.
    /// Nothing of the log is changed by it.
    pub(crate) fn first_segment_of(
        &self,
        request: &Install,
        dir: &str,
        birth: FlushSequence,
        flush: &mut FlushSet,
    ) -> io::Result<Segment> {
        let start = request.start;
        let name = segment_name(start.index);
        let capacity = next_capacity(None, self.options.segment_bytes, 0);
        let made = allocate(&*self.disk, &format!("{dir}/{name}"), capacity)?;
        let Prepared { file, map, capacity, .. } = made;
        let header = SegmentHeader {
            incarnation: self.incarnation,
            base_index: start.index,
            base_offset: start.offset,
            previous_term: start.term,
            birth_flush_sequence: birth,
            previous_crc: start.chain_crc,
        };
        file.write_at(0, &[&header.encode(), &[0; FRAME_HEADER_BYTES]])?;
        flush.add_file(&file);
        let index = SparseIndex::new(self.options.index_interval_bytes);
        // It will have been moved there before anybody asks for its path.
        let path = format!("{}/{name}", self.dir);
        Ok(Segment::new(header, path, file, map, capacity, index))
    }

    /// Goes on with a snapshot and the empty segment behind it. Readers see it by
    /// [`LogWriter::show_restart`]. A prepared segment has been taken away before. Returns the
    /// segments that were there.
    pub(crate) fn restart(&mut self, request: &Install, first: Segment) -> Vec<Arc<Segment>> {
        let index = request.index();
        assert!(
            index > self.hard_state.commit && request.applied >= index,
            "I-LOG-3: a snapshot at {index} with commit {}",
            self.hard_state.commit
        );
        let old = (*self.shared.segments()).clone();
        let tail = Tail::before_segment(&first.header);
        self.set_hard_state(request.hard_state);
        self.active = Arc::new(first);
        self.side = Side::new(0);
        self.sealing.clear();
        self.prepared = None;
        (self.tail, self.durable) = (tail, tail);
        self.start = request.start;
        self.state_applied = Some(request.applied);
        self.truncations.clear();
        self.snapshot = Some(SnapshotMark { index, applied: request.applied });
        (self.refuses, self.roll_requested, self.unlinked) = (false, false, false);
        self.failed_sequence = None;
        old
    }

    /// Shows readers the log as it begins anew. Who reads meanwhile finds nothing, or is told that
    /// it is out of range.
    pub(crate) fn show_restart(&self) {
        self.shared.publish(self.tail.index, self.tail.next_offset);
        self.shared.set_start(self.start);
        self.shared.set_segments(vec![Arc::clone(&self.active)]);
        self.shared.set_terms(TermTable::default());
    }
}
