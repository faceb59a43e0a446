//! That a node lives, said once for all of its replicas.
//!
//! Absent on purpose: how often it is said and after how long a silence counts.

use super::error::{PeerDecodeError, PeerEncodeError};
use super::reader::Reader;
use super::writer::Writer;
use crate::ids::{NodeId, ReplicaId};
use crate::limits::PEER_STOPPED_REPLICAS_MAX;

/// A sign of life.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Liveness {
    /// Who lives.
    pub node_id: NodeId,
    /// Counts the node's starts that were flushed.
    pub boot_epoch: u64,
    /// Random id of this start of the process.
    pub start_id: u64,
    /// Rises with each sign of life of one start.
    pub sequence: u64,
    /// The node gives its leaderships away, and wants none: it stops, it is slow, or its disk is
    /// full.
    pub gives_way: bool,
    /// Replicas of the node that have stopped while the node lives; at most 10,000.
    pub stopped: Vec<ReplicaId>,
}

impl Liveness {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        Ok(Self {
            node_id: reader.node_id("node_id")?,
            boot_epoch: reader.u64("boot_epoch")?,
            start_id: reader.u64("start_id")?,
            sequence: reader.u64("sequence")?,
            gives_way: reader.flag("gives_way")?,
            stopped: reader.list("stopped", (8, PEER_STOPPED_REPLICAS_MAX), |reader| {
                reader.u64("stopped").map(ReplicaId::new)
            })?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        let Self { node_id, boot_epoch, start_id, sequence, gives_way, stopped } = self;
        writer.node_id("node_id", *node_id)?;
        writer.u64(*boot_epoch);
        writer.u64(*start_id);
        writer.u64(*sequence);
        writer.flag(*gives_way);
        writer.list("stopped", stopped, PEER_STOPPED_REPLICAS_MAX, |writer, replica| {
            writer.u64(replica.get());
            Ok(())
        })
    }
}
