//! What a group knows of a member beyond the present moment.
//!
//! Absent on purpose: timers and waiting tickets (`live`).

use bytes::Bytes;

use super::codec::{Reader, Writer};
use super::{CommandError, Name, Protocol};

/// A member as commands and snapshots carry it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// Its id, unique in the group.
    pub(super) id: Name,
    /// Set for a static member.
    pub(super) instance_id: Option<Name>,
    pub(super) client_id: Name,
    pub(super) client_host: Name,
    pub(super) session_timeout_ms: u32,
    pub(super) rebalance_timeout_ms: u32,
    /// In the member's order of preference.
    pub(super) protocols: Vec<Protocol>,
    /// Empty until its generation is assigned.
    pub(super) assignment: Bytes,
}

impl Member {
    /// Bytes that names and metadata take in a command.
    pub(super) fn metadata_bytes(&self) -> usize {
        let instance_bytes = self.instance_id.as_ref().map_or(0, |name| name.len());
        let names = self.id.len() + self.client_id.len() + self.client_host.len();
        let overhead = 40;
        names + instance_bytes + overhead + protocols_bytes(&self.protocols)
    }

    /// The member's metadata for a protocol; empty if it does not offer it.
    pub(super) fn metadata(&self, protocol: &str) -> Bytes {
        let offered = self.protocols.iter().find(|offered| *offered.name == *protocol);
        offered.map(|offered| offered.metadata.clone()).unwrap_or_default()
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.name(&self.id);
        writer.optional_name(self.instance_id.as_ref());
        writer.name(&self.client_id);
        writer.name(&self.client_host);
        writer.u32(self.session_timeout_ms);
        writer.u32(self.rebalance_timeout_ms);
        writer.count(self.protocols.len());
        for protocol in &self.protocols {
            writer.name(&protocol.name);
            writer.blob(&protocol.metadata);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote: the assignment travels apart.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, CommandError> {
        Ok(Self {
            id: reader.name()?,
            instance_id: reader.optional_name()?,
            client_id: reader.name()?,
            client_host: reader.name()?,
            session_timeout_ms: reader.u32()?,
            rebalance_timeout_ms: reader.u32()?,
            protocols: reader.list(8, |reader| {
                Ok(Protocol { name: reader.name()?, metadata: reader.blob()? })
            })?,
            assignment: Bytes::new(),
        })
    }
}

/// Shortest encoding of a member, in bytes.
pub(super) const MEMBER_BYTES_MIN: usize = 25;

/// Bytes that protocols take in a command.
pub(super) fn protocols_bytes(protocols: &[Protocol]) -> usize {
    protocols.iter().map(|protocol| protocol.name.len() + protocol.metadata.len() + 8).sum()
}
