//! What travels with a Raft entry beside its payload.
//!
//! Absent on purpose: the payload, and what the fields mean to a partition.

use bateau_protocol::frame::FrameKind;
use bateau_protocol::ids::Offset;
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType};

/// What a Raft entry's `context` carries beside its payload, so that both coordinates of a frame
/// travel with the entry (design: a leader stamps, a follower asserts).
///
/// ```text
/// kind u8 | base_offset u64 | record_count u32 | payload_crc u32        little-endian
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    pub kind: FrameKind,
    pub base_offset: Offset,
    pub record_count: u32,
    pub payload_crc: u32,
}

const STAMP_BYTES: usize = 17;

impl Stamp {
    pub fn encode(&self) -> Bytes {
        let mut bytes = [0; STAMP_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1..9].copy_from_slice(&self.base_offset.get().to_le_bytes());
        bytes[9..13].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[13..17].copy_from_slice(&self.payload_crc.to_le_bytes());
        Bytes::copy_from_slice(&bytes)
    }

    /// Followed by a membership, for the leader's own proposal of it: raft parses its data then.
    pub fn encode_before(&self, membership: &[u8]) -> Vec<u8> {
        [&self.encode(), membership].concat()
    }

    /// `None` for an entry that raft made itself: it has no context.
    pub fn decode(context: &[u8]) -> Option<Self> {
        let bytes: &[u8; STAMP_BYTES] = context.try_into().ok()?;
        let [kind, rest @ ..] = *bytes;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (count, crc) = rest.split_first_chunk::<4>()?;
        Some(Self {
            kind: FrameKind::from_number(kind)?,
            base_offset: Offset::new(u64::from_le_bytes(*offset)),
            record_count: u32::from_le_bytes(*count),
            payload_crc: u32::from_le_bytes(crc.try_into().ok()?),
        })
    }
}

/// Brings an entry as its leader proposed it into the form that it has everywhere else: a
/// membership is in our encoding, and in `data`.
pub(super) fn settle(entry: &mut Entry) {
    if entry.context.len() > STAMP_BYTES {
        entry.data = entry.context.split_off(STAMP_BYTES);
    }
}

/// What raft calls an entry of this kind: it looks for changes that are not applied yet.
pub(super) const fn entry_type(kind: FrameKind) -> EntryType {
    match kind {
        FrameKind::Membership => EntryType::EntryConfChangeV2,
        FrameKind::Records
        | FrameKind::Noop
        | FrameKind::Trim
        | FrameKind::Gap
        | FrameKind::Command => EntryType::EntryNormal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_round_trip() {
        let stamp = Stamp {
            kind: FrameKind::Records,
            base_offset: Offset::new(77),
            record_count: 3,
            payload_crc: 9,
        };
        assert_eq!(Stamp::decode(&stamp.encode()), Some(stamp));
        assert_eq!(Stamp::decode(&[]), None);
    }
}
