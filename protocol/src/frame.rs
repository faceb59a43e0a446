//! The 64-byte frame around every log entry: one frame, two coordinates.
//!
//! ```text
//!  0      2    3     4           8        16        24            32
//!  +------+----+-----+-----------+--------+---------+-------------+
//!  |magic |ver |kind |header_crc | term   | index   | base_offset |
//!  | u16  | u8 | u8  | u32       | u64    | u64     | u64         |
//!  +------+----+-----+-----------+--------+---------+-------------+
//!  32            36            40           44              48            56          64
//!  +-------------+-------------+------------+---------------+-------------+-----------+
//!  |record_count | payload_len | payload_crc| prev_frame_crc| incarnation | flush_seq |
//!  | u32         | u32         | u32        | u32           | u64         | u64       |
//!  +-------------+-------------+------------+---------------+-------------+-----------+
//! ```
//!
//! Little-endian. `header_crc` covers all 64 bytes with bytes 4 to 7 zero; frame CRCs are CRC-32
//! IEEE. `prev_frame_crc` is the [chain CRC](FrameHeader::chain_crc) of the frame before, 0 for
//! the first: it leaves out what is local to one replica, so replicas have equal chains.
//!
//! Invariants
//! - `I-LOG-1` Indexes have no gaps and terms never fall.
//! - `I-LOG-2` `base_offset` equals the previous frame's `base_offset + record_count`; only
//!   records and gaps count offsets.
//!
//! Absent on purpose: the meaning of a payload, and padding.

use crate::fields::{FieldReader, FieldWriter};
use crate::ids::{FlushSequence, Incarnation, LogIndex, Offset, Term};
use crate::limits::FRAME_PAYLOAD_BYTES_MAX;
use bytes::Bytes;
use thiserror::Error;

/// Bytes of an encoded header.
pub const FRAME_HEADER_BYTES: usize = 64;

/// First two bytes of every frame.
pub const FRAME_MAGIC: u16 = 0xBA7E;

/// The frame version of this feature level.
pub const FRAME_VERSION: u8 = 1;

/// Leading bytes of a record batch that hold derived fields: base offset (0 to 7), length (8 to
/// 11) and leader epoch (12 to 15). None of them is covered by the batch's own CRC.
pub const STAMPED_BYTES: usize = 16;

/// What a frame's payload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A Kafka RecordBatch v2.
    Records = 1,
    /// Nothing: the entry with which a leader opens its term.
    Noop = 2,
    /// The whole resulting configuration: voters, learners, outgoing voters.
    Membership = 3,
    /// A new log start.
    Trim = 4,
    /// Entries that are gone for good: lost, or removed by compaction. `record_count` is their
    /// offset span; of what is lost [`crate::gap`] makes one frame per index.
    Gap = 5,
    /// Commands of a metadata or group partition.
    Command = 6,
}

impl FrameKind {
    /// The kind with this number, or `None`.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Records,
            2 => Self::Noop,
            3 => Self::Membership,
            4 => Self::Trim,
            5 => Self::Gap,
            6 => Self::Command,
            _ => return None,
        })
    }

    /// Whether frames of this kind count offsets (`I-LOG-2`).
    #[must_use]
    pub const fn counts_offsets(self) -> bool {
        matches!(self, Self::Records | Self::Gap)
    }
}

/// A decoded frame header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// What the payload is.
    pub kind: FrameKind,
    /// Raft term of the entry.
    pub term: Term,
    /// Raft index of the entry.
    pub index: LogIndex,
    /// Offset of the first record, or of the next one where the frame has none.
    pub base_offset: Offset,
    /// Offsets that the frame spans; 0 unless the kind counts offsets.
    pub record_count: u32,
    /// Bytes of payload behind the header.
    pub payload_bytes: u32,
    /// CRC-32 IEEE of the payload in its stamped form.
    pub payload_crc: u32,
    /// Chain CRC of the frame before; 0 for the first frame of a log.
    pub previous_crc: u32,
    /// Birth id of the partition.
    pub incarnation: Incarnation,
    /// The local flush that makes the frame durable. Differs between replicas.
    pub flush_sequence: FlushSequence,
}

/// Why 64 bytes are no frame header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// The first bytes are not a frame's; zeros are what lies behind the tail.
    #[error("frame magic is {found:#06x}, expected {FRAME_MAGIC:#06x}")]
    Magic {
        /// What was there.
        found: u16,
    },
    /// Written by a newer Bateau.
    #[error("frame version is {found}, this build reads {FRAME_VERSION}")]
    Version {
        /// What was there.
        found: u8,
    },
    /// A kind that this version does not define.
    #[error("frame kind is {found}, expected 1 to 6")]
    Kind {
        /// What was there.
        found: u8,
    },
    /// The header's checksum does not match.
    #[error("frame header CRC is {found:#010x}, computed {computed:#010x}")]
    HeaderCrc {
        /// What was there.
        found: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A payload length beyond the limit, under a valid checksum.
    #[error("frame payload has {found} bytes, the limit is {FRAME_PAYLOAD_BYTES_MAX}")]
    PayloadLength {
        /// What was there.
        found: u32,
    },
}

impl FrameHeader {
    /// Encodes the header and its checksum.
    #[must_use]
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = self.encode_without_crc();
        let crc = crc32fast::hash(&bytes);
        if let Some(field) = bytes.get_mut(4..8) {
            field.copy_from_slice(&crc.to_le_bytes());
        }
        bytes
    }

    /// CRC of this header without what is local to one replica (`header_crc`, `flush_seq`): the
    /// next frame carries it as `previous_crc`.
    #[must_use]
    pub fn chain_crc(&self) -> u32 {
        crc32fast::hash(&self.chained_bytes())
    }

    /// What the chain CRC is the CRC of.
    pub(crate) fn chained_bytes(&self) -> [u8; FRAME_HEADER_BYTES] {
        let shared = Self { flush_sequence: FlushSequence::ZERO, ..*self };
        shared.encode_without_crc()
    }

    /// Decodes and verifies a header.
    ///
    /// Errors: [`FrameError`], the cheapest check first.
    pub fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<Self, FrameError> {
        let mut fields = FieldReader::new(bytes);
        let magic = u16::from_le_bytes(fields.take());
        let [version] = fields.take();
        let [kind] = fields.take();
        let header_crc = u32::from_le_bytes(fields.take());
        if magic != FRAME_MAGIC {
            return Err(FrameError::Magic { found: magic });
        }
        let mut hasher = crc32fast::Hasher::new();
        let (before, after) = bytes.split_at(8);
        hasher.update(before.split_at(4).0);
        hasher.update(&[0; 4]);
        hasher.update(after);
        let computed = hasher.finalize();
        if header_crc != computed {
            return Err(FrameError::HeaderCrc { found: header_crc, computed });
        }
        if version != FRAME_VERSION {
            return Err(FrameError::Version { found: version });
        }
        let kind = FrameKind::from_number(kind).ok_or(FrameError::Kind { found: kind })?;
        let header = Self {
            kind,
            term: Term::new(u64::from_le_bytes(fields.take())),
            index: LogIndex::new(u64::from_le_bytes(fields.take())),
            base_offset: Offset::new(u64::from_le_bytes(fields.take())),
            record_count: u32::from_le_bytes(fields.take()),
            payload_bytes: u32::from_le_bytes(fields.take()),
            payload_crc: u32::from_le_bytes(fields.take()),
            previous_crc: u32::from_le_bytes(fields.take()),
            incarnation: Incarnation::new(u64::from_le_bytes(fields.take())),
            flush_sequence: FlushSequence::new(u64::from_le_bytes(fields.take())),
        };
        if header.payload_bytes as usize > FRAME_PAYLOAD_BYTES_MAX {
            return Err(FrameError::PayloadLength { found: header.payload_bytes });
        }
        Ok(header)
    }

    /// Index and offset that the next frame of the log must carry (`I-LOG-1`, `I-LOG-2`).
    #[must_use]
    pub const fn next_coordinates(&self) -> (LogIndex, Offset) {
        (self.index.next(), self.base_offset.plus(self.record_count))
    }

    /// Bytes that the frame occupies, header and payload.
    #[must_use]
    pub const fn frame_bytes(&self) -> u64 {
        FRAME_HEADER_BYTES as u64 + self.payload_bytes as u64
    }

    fn encode_without_crc(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let mut fields = FieldWriter::new(&mut bytes);
        fields.put(&FRAME_MAGIC.to_le_bytes());
        fields.put(&[FRAME_VERSION, self.kind as u8]);
        fields.put(&[0; 4]);
        fields.put(&self.term.get().to_le_bytes());
        fields.put(&self.index.get().to_le_bytes());
        fields.put(&self.base_offset.get().to_le_bytes());
        fields.put(&self.record_count.to_le_bytes());
        fields.put(&self.payload_bytes.to_le_bytes());
        fields.put(&self.payload_crc.to_le_bytes());
        fields.put(&self.previous_crc.to_le_bytes());
        fields.put(&self.incarnation.get().to_le_bytes());
        fields.put(&self.flush_sequence.get().to_le_bytes());
        bytes
    }
}

/// A frame as the brain hands it to the log: everything but what the log adds when it writes
/// (chain CRC, incarnation, flush sequence).
///
/// A records frame keeps the producer's bytes in `payload` untouched; its derived bytes are
/// stamped anew by [`Frame::head`] wherever the frame is written, sent or read from memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What the payload is.
    pub kind: FrameKind,
    /// Raft term.
    pub term: Term,
    /// Raft index.
    pub index: LogIndex,
    /// Offset of the first record, or of the next one.
    pub base_offset: Offset,
    /// Offsets that the frame spans.
    pub record_count: u32,
    /// CRC-32 IEEE of the stamped payload: [`Frame::stamped_payload_crc`].
    pub payload_crc: u32,
    /// The payload, of which the first [`STAMPED_BYTES`] of a records frame may be stale.
    pub payload: Bytes,
}

impl Frame {
    /// A frame with its payload CRC computed. Cost: one pass over the payload.
    #[must_use]
    pub fn new(
        kind: FrameKind,
        entry: (Term, LogIndex),
        base_offset: Offset,
        record_count: u32,
        payload: Bytes,
    ) -> Self {
        let (term, index) = entry;
        let payload_crc = Self::stamped_payload_crc(kind, term, base_offset, &payload);
        Self { kind, term, index, base_offset, record_count, payload_crc, payload }
    }

    /// The leading payload bytes in their stamped form: base offset and leader epoch of a records
    /// frame replaced; empty for every other kind. The rest of the payload follows unchanged from
    /// [`STAMPED_BYTES`] on.
    #[must_use]
    pub fn head(&self) -> Option<[u8; STAMPED_BYTES]> {
        stamped_head(self.kind, self.term, self.base_offset, &self.payload)
    }

    /// CRC-32 IEEE of a payload as it is stored. Cost: one pass over the payload.
    #[must_use]
    pub fn stamped_payload_crc(
        kind: FrameKind,
        term: Term,
        base_offset: Offset,
        payload: &[u8],
    ) -> u32 {
        let Some(head) = stamped_head(kind, term, base_offset, payload) else {
            return crc32fast::hash(payload);
        };
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&head);
        hasher.update(payload.get(STAMPED_BYTES..).unwrap_or_default());
        hasher.finalize()
    }

    /// The header to write, given what only the log knows.
    #[must_use]
    pub fn header(
        &self,
        incarnation: Incarnation,
        previous_crc: u32,
        flush_sequence: FlushSequence,
    ) -> FrameHeader {
        FrameHeader {
            kind: self.kind,
            term: self.term,
            index: self.index,
            base_offset: self.base_offset,
            record_count: self.record_count,
            payload_bytes: u32::try_from(self.payload.len()).unwrap_or(u32::MAX),
            payload_crc: self.payload_crc,
            previous_crc,
            incarnation,
            flush_sequence,
        }
    }

    /// The payload as stored, stamped. Cost: a copy for a records frame, none otherwise.
    #[must_use]
    pub fn stamped_payload(&self) -> Bytes {
        let Some(head) = self.head() else { return self.payload.clone() };
        let mut stamped = Vec::with_capacity(self.payload.len());
        stamped.extend_from_slice(&head);
        stamped.extend_from_slice(self.payload.get(STAMPED_BYTES..).unwrap_or_default());
        stamped.into()
    }

    /// Index and offset that the next frame must carry (`I-LOG-1`, `I-LOG-2`).
    #[must_use]
    pub const fn next_coordinates(&self) -> (LogIndex, Offset) {
        (self.index.next(), self.base_offset.plus(self.record_count))
    }
}

/// Kafka's leader epoch for a term: the same number, as long as it fits (it does for 2^31 terms).
#[must_use]
pub fn leader_epoch(term: Term) -> i32 {
    i32::try_from(term.get()).unwrap_or(i32::MAX)
}

fn stamped_head(
    kind: FrameKind,
    term: Term,
    base_offset: Offset,
    payload: &[u8],
) -> Option<[u8; STAMPED_BYTES]> {
    let mut head = *payload.first_chunk::<STAMPED_BYTES>()?;
    if kind != FrameKind::Records {
        return None;
    }
    let (offset, rest) = head.split_at_mut(8);
    offset.copy_from_slice(&base_offset.get().to_be_bytes());
    rest.split_at_mut(4).1.copy_from_slice(&leader_epoch(term).to_be_bytes());
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Records,
            term: Term::new(0x0102),
            index: LogIndex::new(0x0304),
            base_offset: Offset::new(0x0506),
            record_count: 3,
            payload_bytes: 77,
            payload_crc: 0xAABB_CCDD,
            previous_crc: 0x1122_3344,
            incarnation: Incarnation::new(0xDEAD_BEEF_0BAD_F00D),
            flush_sequence: FlushSequence::new(9),
        }
    }

    #[test]
    fn a_header_survives_the_round_trip() {
        assert_eq!(FrameHeader::decode(&header().encode()), Ok(header()));
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = header().encode();
        assert_eq!(&bytes[0..4], &[0x7E, 0xBA, 1, 1]);
        assert_eq!(&bytes[8..16], &0x0102_u64.to_le_bytes());
        assert_eq!(&bytes[16..24], &0x0304_u64.to_le_bytes());
        assert_eq!(&bytes[24..32], &0x0506_u64.to_le_bytes());
        assert_eq!(&bytes[32..36], &3_u32.to_le_bytes());
        assert_eq!(&bytes[36..40], &77_u32.to_le_bytes());
        assert_eq!(&bytes[40..44], &0xAABB_CCDD_u32.to_le_bytes());
        assert_eq!(&bytes[44..48], &0x1122_3344_u32.to_le_bytes());
        assert_eq!(&bytes[48..56], &0xDEAD_BEEF_0BAD_F00D_u64.to_le_bytes());
        assert_eq!(&bytes[56..64], &9_u64.to_le_bytes());
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = header().encode();
        for bit in 0..FRAME_HEADER_BYTES * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn zeros_are_no_frame() {
        assert_eq!(FrameHeader::decode(&[0; 64]), Err(FrameError::Magic { found: 0 }));
    }

    #[test]
    fn the_chain_leaves_out_what_is_local() {
        let other = FrameHeader { flush_sequence: FlushSequence::new(1), ..header() };
        assert_eq!(header().chain_crc(), other.chain_crc());
        let changed = FrameHeader { payload_crc: 0, ..header() };
        assert_ne!(header().chain_crc(), changed.chain_crc());
    }

    #[test]
    fn a_records_frame_is_stamped_without_touching_the_received_buffer() {
        let received = Bytes::from(vec![0xFF; 40]);
        let entry = (Term::new(7), LogIndex::new(2));
        let frame = Frame::new(FrameKind::Records, entry, Offset::new(300), 1, received.clone());
        assert_eq!(frame.payload.as_ptr(), received.as_ptr());
        let stored = frame.stamped_payload();
        assert_eq!(&stored[0..8], &300_u64.to_be_bytes());
        assert_eq!(&stored[8..12], &[0xFF; 4]);
        assert_eq!(&stored[12..16], &7_u32.to_be_bytes());
        assert_eq!(&stored[16..], &[0xFF; 24]);
        assert_eq!(frame.payload_crc, crc32fast::hash(&stored));
    }

    #[test]
    fn a_command_frame_is_stored_as_it_is() {
        let entry = (Term::new(7), LogIndex::new(2));
        let payload = Bytes::from_static(b"0123456789abcdefXYZ");
        let frame = Frame::new(FrameKind::Command, entry, Offset::ZERO, 0, payload.clone());
        assert_eq!(frame.stamped_payload(), payload);
        assert_eq!(frame.payload_crc, crc32fast::hash(&payload));
    }
}
