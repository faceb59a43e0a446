//! Gap frames: what stands in the place of entries that are lost for good.
//!
//! ```text
//!   index    17       18      19      20      21
//!          ┌──────┬───────┬───────┬───────┬──────┐  what follows was chained to the frame that was
//!          │ kept │  gap  │  gap  │  gap* │ kept │  there: the last gap frame is made so that its
//!          └──────┴───────┴───────┴───────┴──────┘  own chain CRC is the one that is expected
//!                  payload: lost up to 20 u64 | filler u32
//! ```
//!
//! One frame per lost index, so that indexes stay gapless and nobody has to know of jumps. CRC-32
//! maps 32 bits at one place of a message one to one to its value: for every wanted chain CRC there
//! is one `payload_crc` in the header that gives it, and for that one filler at the payload's end.
//!
//! Invariants
//! - The same run is always made of the same bytes.
//! - What is chained is a function of the header alone: nothing behind a gap is ever changed.
//!
//! Absent on purpose: which entries are lost, and files.

use crate::fields::FieldWriter;
use crate::frame::{Frame, FrameKind};
use crate::ids::{FlushSequence, Incarnation, LogIndex, Offset, Term};
use bytes::Bytes;

/// Bytes of a gap frame's payload.
pub const GAP_PAYLOAD_BYTES: usize = 12;

/// Where `payload_crc` lies in an encoded header, in bytes.
const PAYLOAD_CRC_AT: usize = 40;

/// One lost entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Its index.
    pub index: LogIndex,
    /// The term that its frame carries.
    pub term: Term,
    /// The offset that its frame carries.
    pub base_offset: Offset,
    /// Offsets that it stands for.
    pub offset_count: u32,
    /// The last index of the run of lost entries that it is of.
    pub lost_to: LogIndex,
}

impl Gap {
    /// The frame for it, chained by whatever chain CRC comes of it.
    #[must_use]
    pub fn frame(&self) -> Frame {
        self.frame_with(0)
    }

    /// The frame for it whose [chain CRC](crate::frame::FrameHeader::chain_crc) is `wanted`.
    ///
    /// - `previous_crc`: the chain CRC of the frame before.
    ///
    /// Cost: some CRCs of less than a hundred bytes.
    #[must_use]
    pub fn frame_chained_to(
        &self,
        incarnation: Incarnation,
        previous_crc: u32,
        wanted: u32,
    ) -> Frame {
        let bytes = self.frame().header(incarnation, previous_crc, FlushSequence::ZERO);
        let bytes = bytes.chained_bytes();
        let (head, rest) = bytes.split_at(PAYLOAD_CRC_AT);
        let behind = rest.get(4..).unwrap_or_default();
        let payload_crc = missing_word(head, behind, wanted);
        let kept = self.lost_to.get().to_le_bytes();
        self.frame_with(missing_word(&kept, &[], payload_crc))
    }

    fn frame_with(&self, filler: u32) -> Frame {
        let mut payload = [0; GAP_PAYLOAD_BYTES];
        let mut fields = FieldWriter::new(&mut payload);
        fields.put(&self.lost_to.get().to_le_bytes());
        fields.put(&filler.to_le_bytes());
        let (entry, payload) = ((self.term, self.index), Bytes::copy_from_slice(&payload));
        Frame::new(FrameKind::Gap, entry, self.base_offset, self.offset_count, payload)
    }
}

/// The last index of the run of lost entries that a gap frame is of; `None` where its payload is
/// too short to say.
#[must_use]
pub fn lost_to(payload: &[u8]) -> Option<LogIndex> {
    payload.first_chunk().map(|bytes| LogIndex::new(u64::from_le_bytes(*bytes)))
}

/// The four bytes, little-endian, which between `head` and `behind` give this CRC-32.
fn missing_word(head: &[u8], behind: &[u8], crc: u32) -> u32 {
    let state = behind.iter().rev().fold(!crc, |state, byte| before_byte(state, *byte));
    // Four bytes take effect as if they were added to the state, and zeros followed.
    let state = [0; 4].iter().fold(state, |state, zero| before_byte(state, *zero));
    state ^ !crc32fast::hash(head)
}

/// The state of a CRC-32 before it was given `byte`.
fn before_byte(state: u32, byte: u8) -> u32 {
    let [_, _, _, high] = state.to_le_bytes();
    let (low, term) = ENTRY_BY_HIGH_BYTE.get(usize::from(high)).copied().unwrap_or_default();
    ((state ^ term) << 8) | u32::from(low ^ byte)
}

/// By the highest byte of a term of CRC-32's table: the index of that term, and the term. Every
/// byte is the highest of one term.
const ENTRY_BY_HIGH_BYTE: [(u8, u32); 256] = {
    let mut entries = [(0, 0); 256];
    let mut index: u8 = 0;
    loop {
        let mut term = index as u32;
        let mut bit = 0;
        while bit < 8 {
            term = if term & 1 == 1 { (term >> 1) ^ POLYNOMIAL } else { term >> 1 };
            bit += 1;
        }
        let high = (term >> 24) as usize;
        #[expect(clippy::indexing_slicing, reason = "a byte, of 256 entries")]
        {
            entries[high] = (index, term);
        }
        if index == u8::MAX {
            break entries;
        }
        index += 1;
    }
};

/// The polynomial of CRC-32 (IEEE), reflected.
const POLYNOMIAL: u32 = 0xEDB8_8320;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::FrameHeader;
    use proptest::prelude::*;

    fn chained(
        gap: &Gap,
        incarnation: u64,
        previous_crc: u32,
        wanted: u32,
    ) -> (Frame, FrameHeader) {
        let incarnation = Incarnation::new(incarnation);
        let frame = gap.frame_chained_to(incarnation, previous_crc, wanted);
        let header = frame.header(incarnation, previous_crc, FlushSequence::new(77));
        (frame, header)
    }

    proptest! {
        #[test]
        fn a_gap_frame_has_any_chain_crc_that_is_wanted(
            (index, term, offset, lost_to) in any::<(u64, u64, u64, u64)>(),
            (offset_count, incarnation, previous_crc, wanted) in any::<(u32, u64, u32, u32)>(),
        ) {
            let gap = Gap {
                index: LogIndex::new(index),
                term: Term::new(term),
                base_offset: Offset::new(offset),
                offset_count,
                lost_to: LogIndex::new(lost_to),
            };
            let (frame, header) = chained(&gap, incarnation, previous_crc, wanted);
            prop_assert_eq!(header.chain_crc(), wanted);
            prop_assert_eq!(crc32fast::hash(&frame.stamped_payload()), header.payload_crc);
            prop_assert_eq!(super::lost_to(&frame.payload), Some(gap.lost_to));
            prop_assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
            let (kind, count) = (frame.kind, frame.record_count);
            prop_assert_eq!((kind, count), (FrameKind::Gap, offset_count));
            prop_assert_eq!(frame.payload.len(), GAP_PAYLOAD_BYTES);
            prop_assert_eq!(&chained(&gap, incarnation, previous_crc, wanted).0, &frame);
        }

        #[test]
        fn four_bytes_give_any_crc_wherever_they_are(
            head in prop::collection::vec(any::<u8>(), 0..100),
            behind in prop::collection::vec(any::<u8>(), 0..100),
            wanted in any::<u32>(),
        ) {
            let word = missing_word(&head, &behind, wanted).to_le_bytes();
            let whole = [head.as_slice(), &word, &behind].concat();
            prop_assert_eq!(crc32fast::hash(&whole), wanted);
        }
    }

    #[test]
    fn the_bytes_of_a_gap_never_change() {
        let gap = Gap {
            index: LogIndex::new(18),
            term: Term::new(3),
            base_offset: Offset::new(40),
            offset_count: 5,
            lost_to: LogIndex::new(20),
        };
        assert_eq!(&gap.frame().payload[..], [20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(lost_to(&[1; 7]), None);
    }
}
