//! Who leads what, for nodes that hold no replica of it and are asked all the same.
//!
//! Absent on purpose: partitions that nobody leads; a later term says who does.

use super::error::{PeerDecodeError, PeerEncodeError};
use super::reader::Reader;
use super::writer::Writer;
use crate::ids::{Incarnation, Term};
use crate::limits::PEER_LEADERSHIPS_MAX;

/// Partitions that the sender leads. At most 4,096 in one frame.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Leaderships {
    /// Whether the sender begins anew: what it said before on other links does not count any more.
    pub is_anew: bool,
    /// What it leads.
    pub leads: Vec<Leadership>,
}

/// A partition, led by the sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// Birth id of the partition.
    pub incarnation: Incarnation,
    /// In this term.
    pub term: Term,
}

/// Bytes of one in a list: its length, and its fields.
const LEADERSHIP_BYTES: usize = 4 + 16;

impl Leaderships {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        Ok(Self {
            is_anew: reader.flag("is_anew")?,
            leads: reader.list("leads", (LEADERSHIP_BYTES, PEER_LEADERSHIPS_MAX), |reader| {
                let mut one = reader.nested("leads")?;
                Ok(Leadership {
                    incarnation: Incarnation::new(one.u64("incarnation")?),
                    term: Term::new(one.u64("term")?),
                })
            })?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        writer.flag(self.is_anew);
        writer.list("leads", &self.leads, PEER_LEADERSHIPS_MAX, |writer, one| {
            writer.nested("leads", |writer| {
                writer.u64(one.incarnation.get());
                writer.u64(one.term.get());
                Ok(())
            })
        })
    }
}
