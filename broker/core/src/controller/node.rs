//! What the cluster knows of its nodes.
//!
//! Absent on purpose: whether a node lives. That is observed, not committed.

use std::fmt;
use std::sync::Arc;

use bateau_protocol::ids::NodeId;
use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, Writer};

/// One address under which clients of one listener reach a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ListenerAddress {
    /// The listener's name: `kafka`, `native`, `http`, `peers`.
    pub name: Arc<str>,
    /// Host name or address, without brackets.
    pub host: Arc<str>,
    /// TCP or UDP port.
    pub port: u16,
    /// SHA-256 of the public key by which clients know whom they meet there (the native door's,
    /// where the node made it itself); `None` where there is no such key, or an authority vouches
    /// for it.
    #[serde(default)]
    pub pin: Option<[u8; 32]>,
}

/// Which start of a node speaks (reliability rule D10).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BootEpoch {
    /// Rises with every start and is flushed before it is shown. 0: the node counts no starts,
    /// and nothing is checked.
    pub epoch: u64,
    /// Random, drawn at the start: tells a repeated request from an old copy of a disk.
    pub start_id: u64,
}

impl BootEpoch {
    /// Whether a node that was last registered as `self` may now register as `next`: a higher
    /// epoch, or the same start asking again.
    #[must_use]
    pub const fn admits(self, next: Self) -> bool {
        next.epoch > self.epoch
            || (next.epoch == self.epoch && (next.epoch == 0 || next.start_id == self.start_id))
    }
}

/// A node as it registers itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRegistration {
    /// The node.
    pub node: NodeId,
    /// Random id of its data directory.
    pub directory: [u8; 16],
    /// The start that speaks.
    pub boot: BootEpoch,
    /// Failure domain; `None` where none is configured.
    pub rack: Option<Arc<str>>,
    /// Its advertised addresses, sorted by name, each name once.
    pub listeners: Vec<ListenerAddress>,
}

impl fmt::Display for ListenerAddress {
    /// Host and port, as they stand in an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl NodeRegistration {
    /// The address that the listener `name` advertises.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<&ListenerAddress> {
        self.listeners.iter().find(|listener| &*listener.name == name)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u64(self.node.get());
        writer.raw(&self.directory);
        writer.u64(self.boot.epoch);
        writer.u64(self.boot.start_id);
        writer.optional(self.rack.as_deref(), Writer::short_text);
        writer.list(self.listeners.iter(), |writer, listener| {
            writer.short_text(&listener.name);
            writer.short_text(&listener.host);
            writer.u16(listener.port);
            writer.optional(listener.pin, |writer, pin| writer.raw(&pin));
        });
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: NodeId::new(reader.u64("node id")?),
            directory: reader.array("directory")?,
            boot: BootEpoch { epoch: reader.u64("boot epoch")?, start_id: reader.u64("start id")? },
            rack: reader.optional("rack", Reader::short_text)?,
            listeners: reader.list("listeners", 7, |reader| {
                Ok(ListenerAddress {
                    name: reader.short_text("listener name")?,
                    host: reader.short_text("listener host")?,
                    port: reader.u16("listener port")?,
                    pin: reader.optional("listener pin", |reader, field| reader.array(field))?,
                })
            })?,
        })
    }
}

/// One of the nodes that founded the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Founder {
    /// The node. At the founding also its replica id in the metadata partition.
    pub node: NodeId,
    /// What it drew before it met the others.
    pub founding_id: [u8; 16],
    /// Its peers address, as `cluster.voters` named it.
    pub peers_address: Arc<str>,
}

impl Founder {
    /// Whether the record has this directory for the node, or any: nobody had met it at the
    /// founding.
    #[must_use]
    pub fn has(&self, directory: [u8; 16]) -> bool {
        self.founding_id == directory || self.founding_id == [0; 16]
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u64(self.node.get());
        writer.raw(&self.founding_id);
        writer.short_text(&self.peers_address);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            node: NodeId::new(reader.u64("founder node id")?),
            founding_id: reader.array("founding id")?,
            peers_address: reader.short_text("founder peers address")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_may_repeat_itself_but_not_go_back() {
        let registered = BootEpoch { epoch: 5, start_id: 77 };
        assert!(registered.admits(BootEpoch { epoch: 6, start_id: 1 }));
        assert!(registered.admits(registered));
        assert!(!registered.admits(BootEpoch { epoch: 5, start_id: 78 }));
        assert!(!registered.admits(BootEpoch { epoch: 4, start_id: 77 }));
        assert!(!registered.admits(BootEpoch { epoch: 0, start_id: 77 }));
    }

    #[test]
    fn a_node_that_counts_no_starts_is_not_checked() {
        let uncounted = BootEpoch { epoch: 0, start_id: 1 };
        assert!(uncounted.admits(BootEpoch { epoch: 0, start_id: 2 }));
    }
}
