//! What a group knows of a member beyond the present moment.
//!
//! Absent on purpose: timers and waiting tickets (`live`).

use bytes::Bytes;

use super::{Name, Protocol};
use crate::codec::{DecodeError, Reader, Writer};

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
        writer.text(&self.id);
        writer.optional(self.instance_id.as_deref(), Writer::text);
        writer.text(&self.client_id);
        writer.text(&self.client_host);
        writer.u32(self.session_timeout_ms);
        writer.u32(self.rebalance_timeout_ms);
        writer.list(self.protocols.iter(), |writer, protocol| {
            writer.text(&protocol.name);
            writer.bytes(&protocol.metadata);
        });
    }

    /// Reads what [`encode`](Self::encode) wrote: the assignment travels apart.
    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.text("member id")?,
            instance_id: reader.optional("instance id", Reader::text)?,
            client_id: reader.text("client id")?,
            client_host: reader.text("client host")?,
            session_timeout_ms: reader.u32("session timeout")?,
            rebalance_timeout_ms: reader.u32("rebalance timeout")?,
            protocols: reader.list("protocols", 8, |reader| {
                let name = reader.text("protocol name")?;
                Ok(Protocol { name, metadata: reader.owned_bytes("protocol metadata")? })
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
