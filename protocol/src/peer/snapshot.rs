//! A snapshot in three parts: log start, membership and derived state, each with its own index.
//!
//! The head travels as a Raft message, the state behind it in chunks. There is no data in it: the
//! log from its start on is appended by ordinary messages afterwards.
//!
//! Absent on purpose: the encoding of membership and state, which are core's.

use super::error::{PeerDecodeError, PeerEncodeError, PeerFault};
use super::reader::Reader;
use super::writer::Writer;
use crate::ids::{Incarnation, LogIndex, Offset, ReplicaId, Term};
use crate::limits::{
    PEER_MEMBERSHIP_BYTES_MAX, PEER_SNAPSHOT_CHUNK_BYTES_MAX, PEER_SNAPSHOT_STATE_BYTES_MAX,
};
use bytes::Bytes;

/// Where a log starts: what a follower needs to check the first frame that it receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PeerLogStart {
    /// First offset that may be read.
    pub offset: Offset,
    /// First index that is kept.
    pub index: LogIndex,
    /// Term of the entry before `index`.
    pub previous_term: Term,
    /// Chain CRC of the frame before `index`.
    pub previous_crc: u32,
}

/// A snapshot without its derived state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SnapshotHead {
    /// The entry that the snapshot stands for, and the last one that it replaces.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Where the log goes on.
    pub log_start: PeerLogStart,
    /// The receiver ignores membership frames up to here.
    pub membership_index: LogIndex,
    /// The membership as applied there, in core's encoding; at most 4 KiB.
    pub membership: Bytes,
    /// The receiver ignores updates of the derived state up to here.
    pub state_index: LogIndex,
    /// Bytes of the derived state as applied there; at most 512 MiB.
    pub state_bytes: u64,
    /// CRC-32 IEEE of the derived state.
    pub state_crc: u32,
    /// The offset that the frame behind `index` must carry.
    pub next_offset: Offset,
}

/// A piece of a snapshot's derived state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SnapshotChunk {
    /// The group.
    pub incarnation: Incarnation,
    /// The sender.
    pub from: ReplicaId,
    /// The receiver.
    pub to: ReplicaId,
    /// [`SnapshotHead::index`] of the snapshot that it is a part of.
    pub index: LogIndex,
    /// Bytes of the state before this piece.
    pub position: u64,
    /// The piece; at most 1 MiB.
    pub bytes: Bytes,
    /// Whether the state ends with it.
    pub is_last: bool,
}

impl SnapshotHead {
    /// The checksum of a derived state, for [`SnapshotHead::state_crc`].
    #[must_use]
    pub fn crc_of(state: &[u8]) -> u32 {
        crc32fast::hash(state)
    }

    /// Bytes of a head whose membership is empty: nine numbers of 64 bits and three of 32.
    const BYTES_MIN: usize = 9 * 8 + 3 * 4;

    /// Bytes that it takes in a message.
    pub(super) const fn encoded_bytes(&self) -> usize {
        Self::BYTES_MIN.saturating_add(self.membership.len())
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        let head = Self {
            index: reader.index("snapshot index")?,
            term: reader.term("snapshot term")?,
            log_start: PeerLogStart {
                offset: reader.offset("log start offset")?,
                index: reader.index("log start index")?,
                previous_term: reader.term("log start previous_term")?,
                previous_crc: reader.u32("log start previous_crc")?,
            },
            membership_index: reader.index("membership_index")?,
            membership: reader.bytes("membership", PEER_MEMBERSHIP_BYTES_MAX)?,
            state_index: reader.index("state_index")?,
            state_bytes: reader.u64("state_bytes")?,
            state_crc: reader.u32("state_crc")?,
            next_offset: reader.offset("next_offset")?,
        };
        check_state(head.state_bytes).map_err(|fault| reader.fault("state_bytes", fault))?;
        Ok(head)
    }

    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        check_state(self.state_bytes).map_err(|fault| writer.fault("state_bytes", fault))?;
        writer.u64(self.index.get());
        writer.u64(self.term.get());
        writer.u64(self.log_start.offset.get());
        writer.u64(self.log_start.index.get());
        writer.u64(self.log_start.previous_term.get());
        writer.u32(self.log_start.previous_crc);
        writer.u64(self.membership_index.get());
        writer.bytes("membership", &self.membership, PEER_MEMBERSHIP_BYTES_MAX)?;
        writer.u64(self.state_index.get());
        writer.u64(self.state_bytes);
        writer.u32(self.state_crc);
        writer.u64(self.next_offset.get());
        Ok(())
    }
}

impl SnapshotChunk {
    /// Bytes of the state up to the end of this piece. Saturates.
    #[must_use]
    pub fn end_position(&self) -> u64 {
        self.position.saturating_add(u64::try_from(self.bytes.len()).unwrap_or(u64::MAX))
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        let chunk = Self {
            incarnation: Incarnation::new(reader.u64("incarnation")?),
            from: ReplicaId::new(reader.u64("from")?),
            to: ReplicaId::new(reader.u64("to")?),
            index: reader.index("index")?,
            position: reader.u64("position")?,
            is_last: reader.flag("is_last")?,
            bytes: reader.bytes("bytes", PEER_SNAPSHOT_CHUNK_BYTES_MAX)?,
        };
        check_state(chunk.end_position()).map_err(|fault| reader.fault("position", fault))?;
        Ok(chunk)
    }

    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        check_state(self.end_position()).map_err(|fault| writer.fault("position", fault))?;
        writer.u64(self.incarnation.get());
        writer.u64(self.from.get());
        writer.u64(self.to.get());
        writer.u64(self.index.get());
        writer.u64(self.position);
        writer.flag(self.is_last);
        writer.bytes("bytes", &self.bytes, PEER_SNAPSHOT_CHUNK_BYTES_MAX)
    }
}

/// A claim beyond what a receiver would store is refused before the first piece is.
const fn check_state(found: u64) -> Result<(), PeerFault> {
    if found > PEER_SNAPSHOT_STATE_BYTES_MAX {
        return Err(PeerFault::Value { found, expected: "at most 512 MiB of state" });
    }
    Ok(())
}
