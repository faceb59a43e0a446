//! The end of a log: everything that the next frame must follow.
//!
//! The same five numbers are the durable mark D of the meta log, where recovery starts to walk.
//!
//! Absent on purpose: counters of any other kind. A tail after a truncation is read from the frame
//! before it, never counted back.

use crate::bytes_io::{Fields, PutFields};
use bateau_protocol::frame::{Frame, FrameHeader};
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, Offset, Term};

/// The state of a log behind one of its frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tail {
    /// Segment that holds the next frame's place, by its base index.
    pub(crate) segment: LogIndex,
    /// Where in its file the next frame goes, in bytes.
    pub(crate) position: u64,
    /// Index of the last frame.
    pub(crate) index: LogIndex,
    /// Offset that the next frame must carry.
    pub(crate) next_offset: Offset,
    /// Term of the last frame.
    pub(crate) term: Term,
    /// Chain CRC of the last frame.
    pub(crate) chain_crc: u32,
    /// Flush sequence of the last frame.
    pub(crate) flush_sequence: FlushSequence,
}

impl Tail {
    /// The tail of a segment that holds no frame yet.
    pub(crate) fn before_segment(header: &crate::segment::SegmentHeader) -> Self {
        Self {
            segment: header.base_index,
            position: crate::segment::SEGMENT_HEADER_BYTES,
            index: header.base_index.previous(),
            next_offset: header.base_offset,
            term: header.previous_term,
            chain_crc: header.previous_crc,
            flush_sequence: header.birth_flush_sequence,
        }
    }

    /// The tail behind `header`, whose frame starts at this tail's position.
    pub(crate) fn after(&self, header: &FrameHeader) -> Self {
        Self {
            segment: self.segment,
            position: self.position + header.frame_bytes(),
            index: header.index,
            next_offset: header.next_coordinates().1,
            term: header.term,
            chain_crc: header.chain_crc(),
            flush_sequence: header.flush_sequence,
        }
    }

    /// Whether a frame at a place cannot be the log's if this was its tail once: frames up to a
    /// tail lie before it, later ones behind it, and in no earlier flush.
    pub(crate) fn belies(&self, header: &FrameHeader, segment: LogIndex, position: u64) -> bool {
        let lies_before = (segment, position) < (self.segment, self.position);
        let is_covered = header.index <= self.index;
        lies_before != is_covered || (!is_covered && header.flush_sequence < self.flush_sequence)
    }

    /// What keeps a stored frame from following this tail, in words. Its payload is the caller's.
    pub(crate) fn check_follows(
        &self,
        header: &FrameHeader,
        incarnation: Incarnation,
    ) -> Result<(), String> {
        if header.incarnation != incarnation {
            return Err(format!("a frame of another log, {:?}", header.incarnation));
        }
        if header.index != self.index.next() {
            return Err(format!("index {}, expected {}", header.index, self.index.next()));
        }
        if header.term < self.term {
            return Err(format!("term {} after term {}", header.term, self.term));
        }
        if header.base_offset != self.next_offset {
            return Err(format!("offset {}, expected {}", header.base_offset, self.next_offset));
        }
        if header.previous_crc != self.chain_crc {
            return Err(format!(
                "chain CRC {:#010x}, expected {:#010x}",
                header.previous_crc, self.chain_crc
            ));
        }
        if header.flush_sequence < self.flush_sequence {
            return Err(format!(
                "flush sequence {} after {}",
                header.flush_sequence, self.flush_sequence
            ));
        }
        Ok(())
    }

    /// I-LOG-1 and I-LOG-2, before a frame is written.
    pub(crate) fn assert_followed_by(&self, frame: &Frame) {
        assert!(
            frame.index == self.index.next() && frame.term >= self.term,
            "I-LOG-1: frame {} of term {} after {} of term {}",
            frame.index,
            frame.term,
            self.index,
            self.term
        );
        assert!(
            frame.base_offset == self.next_offset,
            "I-LOG-2: frame {} has offset {}, expected {}",
            frame.index,
            frame.base_offset,
            self.next_offset
        );
        assert!(
            frame.kind.counts_offsets() || frame.record_count == 0,
            "I-LOG-2: frame {} of kind {:?} counts {} offsets",
            frame.index,
            frame.kind,
            frame.record_count
        );
    }

    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.put_u64(self.segment.get());
        into.put_u64(self.position);
        into.put_u64(self.index.get());
        into.put_u64(self.next_offset.get());
        into.put_u64(self.term.get());
        into.put_u32(self.chain_crc);
        into.put_u64(self.flush_sequence.get());
    }

    pub(crate) fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            segment: LogIndex::new(fields.u64()?),
            position: fields.u64()?,
            index: LogIndex::new(fields.u64()?),
            next_offset: Offset::new(fields.u64()?),
            term: Term::new(fields.u64()?),
            chain_crc: fields.u32()?,
            flush_sequence: FlushSequence::new(fields.u64()?),
        })
    }
}
