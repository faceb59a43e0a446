//! A place in a log that moves from frame to frame, and from segment to segment.
//!
//! Absent on purpose: limits. Where to stop is the reader's to know.

use super::ReadError;
use crate::bytes_io::{length, size};
use crate::index::{IndexEntry, NO_TIMESTAMP, TIMESTAMP_PREFIX_BYTES, payload_timestamp};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment};
use crate::shared::{LogShared, SegmentList};
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use bateau_protocol::ids::{LogIndex, Offset};
use bytes::Bytes;
use std::sync::Arc;

/// Bytes that are brought into memory at once, at the least.
const BROUGHT_BYTES: u64 = 256 * 1024;

/// The cursor. It holds the segment list as of its making: what it reads stays there.
pub(super) struct Cursor<'a> {
    shared: &'a LogShared,
    segments: SegmentList,
    at: usize,
    position: u64,
    next_index: LogIndex,
    next_offset: Offset,
    /// Frames above this index are copied (I-LOG-3).
    lend_up_to: LogIndex,
    /// Since where payloads were verified without a break, in this segment.
    verified_from: Option<u64>,
    /// The payload here is verified.
    is_checked: bool,
    slack: u64,
    /// What it goes over may be cold: up to where it was brought in, in which segment.
    brought: Option<(usize, u64)>,
}

impl<'a> Cursor<'a> {
    fn new(
        shared: &'a LogShared,
        segments: SegmentList,
        at: usize,
        floor: Option<IndexEntry>,
    ) -> Self {
        let header = segments.get(at).map(|segment| segment.header);
        let position = floor.map_or(SEGMENT_HEADER_BYTES, |entry| entry.position);
        let (index, offset) = match (floor, header) {
            (Some(entry), _) => (entry.index, entry.offset),
            (None, Some(header)) => (header.base_index, header.base_offset),
            (None, None) => (LogIndex::ZERO, Offset::ZERO),
        };
        let next = segments.get(at).and_then(|segment| segment.index().next_position(position));
        Self {
            shared,
            segments,
            at,
            position,
            next_index: index,
            next_offset: offset,
            lend_up_to: LogIndex::new(u64::MAX),
            verified_from: None,
            is_checked: false,
            slack: next.map_or(0, |next| next - position) + length(FRAME_HEADER_BYTES),
            brought: None,
        }
    }

    /// At or before the frame that holds `offset`.
    pub(super) fn at_offset(shared: &'a LogShared, offset: Offset) -> Self {
        let segments = shared.segments();
        let after = segments.partition_point(|segment| segment.header.base_offset <= offset);
        let at = after.saturating_sub(1);
        let floor = segments.get(at).and_then(|segment| segment.index().floor_offset(offset));
        Self::new(shared, segments, at, floor)
    }

    /// The same, for frames that may still change: they are copied from the file.
    pub(super) fn copying_at_offset(shared: &'a LogShared, offset: Offset) -> Self {
        Self { lend_up_to: LogIndex::ZERO, ..Self::at_offset(shared, offset) }
    }

    /// At or before the frame `index`; frames above `commit` are copied.
    pub(super) fn at_index(shared: &'a LogShared, index: LogIndex, commit: LogIndex) -> Self {
        let segments = shared.segments();
        let after = segments.partition_point(|segment| segment.base_index() <= index);
        let at = after.saturating_sub(1);
        let floor = segments.get(at).and_then(|segment| segment.index().floor_index(index));
        Self { lend_up_to: commit, ..Self::new(shared, segments, at, floor) }
    }

    /// The same, where nobody has made resident what it goes over: it brings that in, so that what
    /// the medium cannot read is an error (`unreadable`). Blocks.
    pub(super) fn bringing_in(self) -> Self {
        Self { brought: Some((0, 0)), ..self }
    }

    /// At `floor`, or at its first frame, in the segment that begins with `base_index`.
    pub(super) fn in_segment(
        shared: &'a LogShared,
        base_index: LogIndex,
        floor: Option<IndexEntry>,
    ) -> Self {
        let segments = shared.segments();
        let at = segments.partition_point(|segment| segment.base_index() < base_index);
        Self::new(shared, segments, at, floor)
    }

    /// Offset that the frame here carries.
    pub(super) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Index of the frame here.
    pub(super) fn next_index(&self) -> LogIndex {
        self.next_index
    }

    /// Bytes that a walk from here may cover before it meets what it looks for.
    pub(super) fn floor_slack(&self) -> u64 {
        self.slack
    }

    /// Segment and position.
    pub(super) fn place(&self) -> Option<(&Arc<Segment>, u64)> {
        let segment = self.segments.get(self.at)?;
        (self.position < segment.end()).then_some((segment, self.position))
    }

    /// The header of the frame here; `None` behind the last one.
    pub(super) fn header(&mut self) -> Result<Option<FrameHeader>, ReadError> {
        while self.segments.get(self.at).is_some_and(|segment| self.position >= segment.end()) {
            if !self.enter_next() {
                return Ok(None);
            }
        }
        self.bring_in(length(FRAME_HEADER_BYTES))?;
        let Some(segment) = self.segments.get(self.at) else { return Ok(None) };
        let header = if self.next_index <= self.lend_up_to {
            segment.header_at(self.position)
        } else {
            segment.header_copied(self.position)
        };
        let header = header.map_err(|message| self.damaged(message))?;
        if header.index != self.next_index || header.base_offset != self.next_offset {
            let message = format!(
                "frame {} at offset {}, expected {} at offset {}",
                header.index, header.base_offset, self.next_index, self.next_offset
            );
            return Err(self.damaged(message));
        }
        Ok(Some(header))
    }

    pub(super) fn payload_bytes(&self, header: &FrameHeader) -> usize {
        size(u64::from(header.payload_bytes))
    }

    /// The payload of the frame here: lent, or a copy; verified where that has not been done.
    pub(super) fn payload(&mut self, header: &FrameHeader) -> Result<Bytes, ReadError> {
        self.bring_in(header.frame_bytes())?;
        let Some(segment) = self.segments.get(self.at) else { return Ok(Bytes::new()) };
        let position = self.position + length(FRAME_HEADER_BYTES);
        let bytes = self.payload_bytes(header);
        let lends = header.index <= self.lend_up_to;
        let payload = if lends {
            segment.map.slice(position, bytes)
        } else {
            let mut copy = vec![0; bytes];
            let read = segment.file.read_at(position, &mut copy);
            read.map_err(|error| self.damaged(error.to_string()))?;
            Bytes::from(copy)
        };
        if !lends || segment.needs_verification(self.position) {
            let computed = crc32fast::hash(&payload);
            if computed != header.payload_crc {
                let message = format!(
                    "payload CRC is {:#010x}, computed {computed:#010x}",
                    header.payload_crc
                );
                return Err(self.damaged(message));
            }
            if lends && self.verified_from.is_none() {
                self.verified_from = Some(self.position);
            }
        }
        self.is_checked = true;
        Ok(payload)
    }

    /// Largest timestamp that the batch header here claims.
    pub(super) fn timestamp(&self, header: &FrameHeader) -> i64 {
        if header.kind != FrameKind::Records {
            return NO_TIMESTAMP;
        }
        let Some(segment) = self.segments.get(self.at) else { return NO_TIMESTAMP };
        let bytes = self.payload_bytes(header).min(TIMESTAMP_PREFIX_BYTES);
        let mut prefix = [0; TIMESTAMP_PREFIX_BYTES];
        let prefix = prefix.get_mut(..bytes).unwrap_or_default();
        match segment.map.copy(self.position + length(FRAME_HEADER_BYTES), prefix) {
            Ok(()) => payload_timestamp(header.kind, prefix),
            Err(_) => NO_TIMESTAMP,
        }
    }

    /// Moves behind the frame here. Returns whether that is another segment.
    pub(super) fn advance(&mut self, header: &FrameHeader) -> bool {
        if !std::mem::take(&mut self.is_checked) {
            self.finish();
        }
        (self.next_index, self.next_offset) = header.next_coordinates();
        self.position += header.frame_bytes();
        let ends = self.segments.get(self.at).is_some_and(|segment| self.position >= segment.end());
        ends && self.enter_next()
    }

    fn enter_next(&mut self) -> bool {
        if self.at + 1 >= self.segments.len() {
            return false;
        }
        self.finish();
        self.at += 1;
        self.position = SEGMENT_HEADER_BYTES;
        true
    }

    /// Moves to the start of the next segment, if that has anything below `limit`.
    pub(super) fn next_segment(&mut self, limit: Offset) -> bool {
        let Some(next) = self.segments.get(self.at + 1).map(|segment| segment.header) else {
            return false;
        };
        (self.next_index, self.next_offset) = (next.base_index, next.base_offset);
        next.base_offset < limit && self.enter_next()
    }

    /// Moves over frames whose timestamps are all smaller.
    pub(super) fn skip_to_timestamp(&mut self, timestamp: i64) {
        loop {
            let Some(segment) = self.segments.get(self.at) else { return };
            let (max, floor) = {
                let index = segment.index();
                (index.timestamp_max(), index.floor_timestamp(timestamp))
            };
            if max >= timestamp || self.at + 1 >= self.segments.len() {
                if let Some(entry) = floor.filter(|entry| entry.position > self.position) {
                    self.position = entry.position;
                    (self.next_index, self.next_offset) = (entry.index, entry.offset);
                }
                return;
            }
            let Some(next) = self.segments.get(self.at + 1).map(|segment| segment.header) else {
                return;
            };
            (self.next_index, self.next_offset) = (next.base_index, next.base_offset);
            self.enter_next();
        }
    }

    /// Reads a range of the segment here into memory.
    pub(super) fn populate(&self, position: u64, bytes: usize) -> Result<(), ReadError> {
        let Some(segment) = self.segments.get(self.at) else { return Ok(()) };
        segment.map.populate(position, bytes).map_err(|error| self.damaged(error.to_string()))
    }

    /// Has the next bytes of the segment in memory, where nobody else sees to that.
    fn bring_in(&mut self, bytes: u64) -> Result<(), ReadError> {
        let Some((at, until)) = self.brought else { return Ok(()) };
        let Some(segment) = self.segments.get(self.at) else { return Ok(()) };
        if at == self.at && self.position + bytes <= until {
            return Ok(());
        }
        let most = bytes.max(BROUGHT_BYTES).min(segment.end().saturating_sub(self.position));
        let mut brought = most;
        if segment.map.populate(self.position, size(most)).is_err() {
            // What cannot be read may lie behind what is wanted.
            self.populate(self.position, size(bytes))?;
            brought = bytes;
        }
        self.brought = Some((self.at, self.position + brought));
        Ok(())
    }

    /// Remembers what was verified.
    pub(super) fn finish(&mut self) {
        if let Some(from) = self.verified_from.take()
            && let Some(segment) = self.segments.get(self.at)
        {
            segment.set_verified(from, self.position);
        }
    }

    fn damaged(&self, message: String) -> ReadError {
        let segment = self.segments.get(self.at).map_or(LogIndex::ZERO, |at| at.base_index());
        if self.next_index <= self.lend_up_to {
            // Above the commit it may have been written over meanwhile.
            self.shared.node.note_damaged(self.shared.incarnation, segment);
        }
        ReadError::Damaged {
            incarnation: self.shared.incarnation,
            segment,
            position: self.position,
            message,
        }
    }
}
