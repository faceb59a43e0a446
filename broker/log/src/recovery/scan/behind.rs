//! What lies behind the first place that does not follow.
//!
//! Absent on purpose: what it proves (`verdict`), and what is missing between (`loss`).

use super::{Found, LogScan};
use crate::bytes_io::size;
use crate::disk::{Disk, DiskFile};
use crate::frames::{Place, SKIP_BYTES, Window, find_frames, read_place};
use crate::recovery::files::LogFiles;
use crate::recovery::loss::{Evidence, LossWalk};
use crate::segment::{SEGMENT_HEADER_BYTES, SegmentHeader, segment_name, side_name};
use crate::side::{self, ENTRY_BYTES, SideEntry};
use bateau_protocol::ids::{FlushSequence, LogIndex};
use std::collections::BTreeSet;
use std::io;
use std::ops::ControlFlow;

/// Bytes of dead frames in one file behind which nothing more is looked for. What a recycled file
/// held before lies behind its tail, up to the file's end, and frames that are whole there were not
/// written over: a live one behind them would have to follow a write that was lost, whole, over so
/// many bytes. Without a bound a start would read all of every recycled segment.
const DEAD_BYTES_MAX: u64 = 8 * 1024 * 1024;

impl LogScan {
    /// Looks for what was once durable behind the stop: side headers, and whole frames.
    pub(super) fn look_behind(&mut self, disk: &dyn Disk, files: &mut LogFiles) -> io::Result<()> {
        let mut places = vec![(self.stop.segment, self.stop.position)];
        self.losses = LossWalk::from(self.tail);
        self.losses.stand_at(self.stop.segment, self.stop.position);
        // A side file may outlive its segment, and prove what was lost.
        let behind = self.later.iter().chain(&files.has_side);
        let behind: BTreeSet<LogIndex> =
            behind.copied().filter(|base| *base > self.stop.segment).collect();
        places.extend(behind.into_iter().map(|base| (base, 0)));
        let mut evidence = Evidence::default();
        if let Some(durable) = self.meta.durable {
            evidence.note(durable.index, durable.flush_sequence);
        }
        let mut beside = Vec::new();
        for (base, _) in &places {
            if files.has_side.contains(base) {
                let file = files.reopen(disk, &side_name(*base))?;
                let entries = side::read_entries(&*file, self.incarnation, *base);
                for slot in entries.unwrap_or_default().chunks_exact(size(ENTRY_BYTES)) {
                    let Some(SideEntry { header, .. }) = SideEntry::decode(slot) else { continue };
                    if header.incarnation != self.incarnation || header.index <= self.tail.index {
                        continue;
                    }
                    evidence.note(header.index, header.flush_sequence);
                    if self.is_live_behind(&header) {
                        self.side_proof = self.side_proof.max(Some(header.index));
                        self.flush_sequence = self.flush_sequence.max(header.flush_sequence);
                        let end = header.next_coordinates().1;
                        beside.push((header.index, header.flush_sequence, end));
                    }
                }
            }
        }
        for (base, _) in &places {
            if *base > self.tail.index && files.bases.contains(base) {
                let file = files.reopen(disk, &segment_name(*base))?;
                // Who began it had nothing from there on.
                evidence.note(base.previous(), self.birth_of(&*file, *base).next());
            }
        }
        evidence.settle();
        for (base, position) in places {
            if files.bases.contains(&base) {
                let file = files.reopen(disk, &segment_name(base))?;
                self.find_live_behind(&*file, (base, position), &evidence)?;
            }
        }
        beside.retain(|(index, flush_sequence, _)| !evidence.belies(*index, *flush_sequence));
        for (index, _, end) in beside {
            self.last_known = self.last_known.max(index);
            self.known_offset = self.known_offset.max(end);
        }
        self.note_unreadable_end(disk, files)
    }

    /// A frame may have been where the medium cannot be read behind all others.
    fn note_unreadable_end(&mut self, disk: &dyn Disk, files: &LogFiles) -> io::Result<()> {
        let end = self.losses.end();
        self.last_known = self.last_known.max(end.index);
        if self.stop.is_empty && self.found.is_empty() || !files.bases.contains(&end.segment) {
            return Ok(());
        }
        let file = files.reopen(disk, &segment_name(end.segment))?;
        let mut window = Window::new(&*file, SKIP_BYTES)?;
        let place = read_place(&mut window, end.position, false);
        if let Place::Bad { unreadable: true, .. } = place {
            self.last_known = self.last_known.max(end.index.next());
        }
        Ok(())
    }

    /// Looks for whole frames of this log's future in a segment file.
    fn find_live_behind(
        &mut self,
        file: &dyn DiskFile,
        (base, position): (LogIndex, u64),
        evidence: &Evidence,
    ) -> io::Result<()> {
        let birth = self.birth_of(file, base);
        let (mut found, mut dead_bytes) = (Vec::new(), 0);
        let (mut losses, durable) = (self.losses.clone(), self.meta.durable);
        find_frames(file, position, &mut |header, at| {
            let bytes = header.frame_bytes();
            if header.flush_sequence > birth && self.is_live_behind(&header) {
                let (index, flush_sequence) = (header.index, header.flush_sequence);
                found.push(Found { index, flush_sequence, bytes });
                let is_dropped = durable.is_some_and(|durable| durable.belies(&header, base, at));
                if !is_dropped && !evidence.belies(header.index, header.flush_sequence) {
                    losses.meet(&header, base, at);
                }
                dead_bytes = 0;
            } else {
                dead_bytes += bytes;
            }
            if dead_bytes > DEAD_BYTES_MAX {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        let highest = found.iter().map(|found| found.flush_sequence).max();
        self.flush_sequence = self.flush_sequence.max(highest.unwrap_or_default());
        self.found.append(&mut found);
        self.losses = losses;
        Ok(())
    }

    /// Birth sequence of a segment that does not follow, as far as its header can be read.
    fn birth_of(&self, file: &dyn DiskFile, base: LogIndex) -> FlushSequence {
        let mut bytes = vec![0; size(SEGMENT_HEADER_BYTES)];
        let header =
            file.read_at(0, &mut bytes).ok().and_then(|()| SegmentHeader::decode(&bytes).ok());
        let own = header
            .filter(|header| (header.incarnation, header.base_index) == (self.incarnation, base));
        own.map_or(FlushSequence::ZERO, |header| header.birth_flush_sequence)
    }
}
