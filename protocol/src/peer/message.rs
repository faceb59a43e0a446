//! Every message between brokers, to a frame and back.
//!
//! Absent on purpose: who may send which, and whether a message makes sense to its receiver.

use super::error::{PeerDecodeError, PeerEncodeError, PeerFault};
use super::frame::{PeerFrame, PeerKind};
use super::hello::{Hello, HelloAnswer};
use super::leaderships::Leaderships;
use super::liveness::Liveness;
use super::raft::{self, RaftMessage};
use super::reader::Reader;
use super::rpc::{PeerAnswer, PeerRequest};
use super::snapshot::SnapshotChunk;
use super::writer::Writer;
use crate::wire::Chain;

/// A message between brokers: the content of one frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerMessage {
    /// The dialler's first frame.
    Hello(Hello),
    /// The acceptor's only one.
    HelloAnswer(HelloAnswer),
    /// All Raft messages of one turn from one node to another, in order. At most 65,536 of them,
    /// with 65,536 entries and 17 MiB together ([`RaftMessage::encoded_bytes`]).
    RaftBatch(Vec<RaftMessage>),
    /// A piece of a snapshot's state.
    SnapshotChunk(SnapshotChunk),
    /// The sender lives.
    Liveness(Liveness),
    /// A request.
    Request {
        /// The asker's choice; comes back in the answer.
        id: u64,
        /// What is asked.
        command: PeerRequest,
    },
    /// An answer.
    Answer {
        /// The request's.
        id: u64,
        /// What came of it.
        result: PeerAnswer,
    },
    /// What the sender leads.
    Leaderships(Leaderships),
    /// A frame of a kind that this build does not know, to be skipped. It cannot be encoded.
    Unknown {
        /// The kind's number.
        kind: u8,
    },
}

/// Room for a message without payloads, in bytes.
const SMALL_BYTES: usize = 256;

impl PeerMessage {
    /// Decodes a frame. Payloads and texts are slices of it; bytes behind what is known are
    /// ignored.
    ///
    /// # Errors
    /// Whatever is wrong with the body. The link is not out of step: the frame was whole.
    pub fn decode(frame: PeerFrame) -> Result<Self, PeerDecodeError> {
        let PeerFrame { kind, body } = frame;
        let Some(known) = PeerKind::from_number(kind) else { return Ok(Self::Unknown { kind }) };
        let mut reader = Reader::new(known.name(), body);
        let reader = &mut reader;
        Ok(match known {
            PeerKind::Hello => Self::Hello(Hello::read(reader)?),
            PeerKind::HelloAnswer => Self::HelloAnswer(HelloAnswer::read(reader)?),
            PeerKind::RaftBatch => Self::RaftBatch(raft::read_batch(reader)?),
            PeerKind::SnapshotChunk => Self::SnapshotChunk(SnapshotChunk::read(reader)?),
            PeerKind::Liveness => Self::Liveness(Liveness::read(reader)?),
            PeerKind::Leaderships => Self::Leaderships(Leaderships::read(reader)?),
            PeerKind::Request => {
                Self::Request { id: reader.u64("id")?, command: PeerRequest::read(reader)? }
            }
            PeerKind::Answer => {
                Self::Answer { id: reader.u64("id")?, result: PeerAnswer::read(reader)? }
            }
        })
    }

    /// Encodes a whole frame. Payloads of [`super::LENT_BYTES_MIN`] bytes and more are lent, but
    /// for the first 16 bytes of a record batch. Cost: a CRC over the frame.
    ///
    /// # Errors
    /// A value that no frame may have: what would be refused by its receiver.
    pub fn encode(&self) -> Result<Chain, PeerEncodeError> {
        let room_bytes = match self {
            Self::RaftBatch(messages) => raft::batch_room_bytes(messages),
            _ => SMALL_BYTES,
        };
        let (kind, mut writer) = match self.kind() {
            Ok(kind) => (kind, Writer::new(kind.name(), room_bytes)),
            Err(kind) => {
                let fault = PeerFault::Value { found: kind.into(), expected: "a known kind" };
                return Err(PeerEncodeError { message: "Unknown", field: "kind", fault });
            }
        };
        match self {
            Self::Hello(hello) => hello.write(&mut writer)?,
            Self::HelloAnswer(answer) => answer.write(&mut writer)?,
            Self::RaftBatch(messages) => raft::write_batch(messages, &mut writer)?,
            Self::SnapshotChunk(chunk) => chunk.write(&mut writer)?,
            Self::Liveness(liveness) => liveness.write(&mut writer)?,
            Self::Request { id, command } => {
                writer.u64(*id);
                command.write(&mut writer)?;
            }
            Self::Answer { id, result } => {
                writer.u64(*id);
                result.write(&mut writer)?;
            }
            Self::Leaderships(leaderships) => leaderships.write(&mut writer)?,
            Self::Unknown { .. } => {}
        }
        writer.seal(kind)
    }

    /// The kind of its frame; for an unknown one its number.
    ///
    /// # Errors
    /// The number of a kind that this build does not know.
    pub const fn kind(&self) -> Result<PeerKind, u8> {
        Ok(match self {
            Self::Hello(_) => PeerKind::Hello,
            Self::HelloAnswer(_) => PeerKind::HelloAnswer,
            Self::RaftBatch(_) => PeerKind::RaftBatch,
            Self::SnapshotChunk(_) => PeerKind::SnapshotChunk,
            Self::Liveness(_) => PeerKind::Liveness,
            Self::Request { .. } => PeerKind::Request,
            Self::Answer { .. } => PeerKind::Answer,
            Self::Leaderships(_) => PeerKind::Leaderships,
            Self::Unknown { kind } => return Err(*kind),
        })
    }
}
