//! Requests between nodes, and their answers, matched by an id that the asker chooses.
//!
//! An answer travels on the link that its sender dials. Neither is promised to arrive: the asker
//! has a deadline of its own.
//!
//! Absent on purpose: what a controller's request says, which is core's encoding.

use super::entry::{self, PeerEntry, Run};
use super::error::{PeerDecodeError, PeerEncodeError, PeerFault};
use super::reader::Reader;
use super::writer::Writer;
use crate::ids::{Incarnation, LogIndex, NodeId, Term};
use crate::limits::{PEER_CONTROLLER_BYTES_MAX, PEER_ENTRIES_MAX, PEER_TEXT_BYTES_MAX};
use crate::wire::Text;
use bytes::Bytes;

/// Names a controller's request for ever, so that it is done once however often it is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Idempotency {
    /// The node that asks for a client or for itself.
    pub node_id: NodeId,
    /// Random id of its start.
    pub start_id: u64,
    /// Rises with its requests of this start.
    pub number: u64,
}

/// What a node asks of another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerRequest {
    /// For the controller, the leader of the metadata partition.
    Controller {
        /// Makes sending it again harmless.
        idempotency: Idempotency,
        /// How long the asker waits, in milliseconds.
        timeout_ms: u32,
        /// The request, in core's encoding.
        payload: Bytes,
    },
    /// Entries of a log, by identity: whoever has the last one has the same ones before it.
    ReadRange {
        /// The partition.
        incarnation: Incarnation,
        /// First index wanted.
        first: LogIndex,
        /// Last index wanted; not below `first`.
        last: LogIndex,
        /// Term of the entry at `last`.
        term: Term,
        /// Payload CRC of the entry at `last`.
        payload_crc: u32,
        /// Most bytes of payload, the first entry excepted.
        bytes_max: u32,
    },
    /// How far the receiver's bootstrap is.
    Probe {},
}

/// What comes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PeerAnswer {
    /// The controller's, in core's encoding.
    Controller {
        /// The answer.
        payload: Bytes,
    },
    /// A run of entries from `first` on, as long as it fitted.
    Range {
        /// Consecutive; empty where nothing is to be had.
        entries: Vec<PeerEntry>,
    },
    /// How far the bootstrap is.
    Probe {
        /// Whether the node has stored that its cluster is founded.
        is_founded: bool,
        /// Whether it knows a leader of the metadata partition.
        has_leader: bool,
    },
    /// Not done.
    Failed {
        /// Why, by core's numbers.
        code: u16,
        /// One line for the log, at most 1,024 bytes: [`super::operator_text`].
        text: Text,
    },
}

/// Numbers of commands, and of the answers that they have when they went well.
const CONTROLLER: u8 = 1;
const READ_RANGE: u8 = 2;
const PROBE: u8 = 3;
/// Number of the answer that any command may have.
const FAILED: u8 = 4;

impl PeerRequest {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        match reader.u8("command")? {
            CONTROLLER => Ok(Self::Controller {
                idempotency: Idempotency {
                    node_id: reader.node_id("idempotency node_id")?,
                    start_id: reader.u64("idempotency start_id")?,
                    number: reader.u64("idempotency number")?,
                },
                timeout_ms: reader.u32("timeout_ms")?,
                payload: reader.bytes("payload", PEER_CONTROLLER_BYTES_MAX)?,
            }),
            READ_RANGE => {
                let incarnation = Incarnation::new(reader.u64("incarnation")?);
                let (first, last) = (reader.index("first")?, reader.index("last")?);
                check_range(first, last).map_err(|fault| reader.fault("last", fault))?;
                let term = reader.term("term")?;
                let payload_crc = reader.u32("payload_crc")?;
                let bytes_max = reader.u32("bytes_max")?;
                Ok(Self::ReadRange { incarnation, first, last, term, payload_crc, bytes_max })
            }
            PROBE => Ok(Self::Probe {}),
            found => Err(reader.value("command", found.into(), "1 to 3")),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        match self {
            Self::Controller { idempotency, timeout_ms, payload } => {
                writer.u8(CONTROLLER);
                writer.node_id("idempotency node_id", idempotency.node_id)?;
                writer.u64(idempotency.start_id);
                writer.u64(idempotency.number);
                writer.u32(*timeout_ms);
                writer.bytes("payload", payload, PEER_CONTROLLER_BYTES_MAX)
            }
            Self::ReadRange { incarnation, first, last, term, payload_crc, bytes_max } => {
                check_range(*first, *last).map_err(|fault| writer.fault("last", fault))?;
                writer.u8(READ_RANGE);
                writer.u64(incarnation.get());
                writer.u64(first.get());
                writer.u64(last.get());
                writer.u64(term.get());
                writer.u32(*payload_crc);
                writer.u32(*bytes_max);
                Ok(())
            }
            Self::Probe {} => {
                writer.u8(PROBE);
                Ok(())
            }
        }
    }
}

impl PeerAnswer {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        match reader.u8("result")? {
            CONTROLLER => Ok(Self::Controller {
                payload: reader.bytes("payload", PEER_CONTROLLER_BYTES_MAX)?,
            }),
            READ_RANGE => {
                let entries = entry::read_run(reader, Run::from_anywhere(), PEER_ENTRIES_MAX)?;
                Ok(Self::Range { entries })
            }
            PROBE => Ok(Self::Probe {
                is_founded: reader.flag("is_founded")?,
                has_leader: reader.flag("has_leader")?,
            }),
            FAILED => Ok(Self::Failed {
                code: reader.u16("code")?,
                text: reader.text("text", PEER_TEXT_BYTES_MAX)?,
            }),
            found => Err(reader.value("result", found.into(), "1 to 4")),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        match self {
            Self::Controller { payload } => {
                writer.u8(CONTROLLER);
                writer.bytes("payload", payload, PEER_CONTROLLER_BYTES_MAX)
            }
            Self::Range { entries } => {
                writer.u8(READ_RANGE);
                entry::write_run(entries, Run::from_anywhere(), PEER_ENTRIES_MAX, writer)
            }
            Self::Probe { is_founded, has_leader } => {
                writer.u8(PROBE);
                writer.flag(*is_founded);
                writer.flag(*has_leader);
                Ok(())
            }
            Self::Failed { code, text } => {
                writer.u8(FAILED);
                writer.u16(*code);
                writer.text("text", text, PEER_TEXT_BYTES_MAX)
            }
        }
    }
}

fn check_range(first: LogIndex, last: LogIndex) -> Result<(), PeerFault> {
    if first > last {
        return Err(PeerFault::Value { found: last.get(), expected: "an index not below first" });
    }
    Ok(())
}
