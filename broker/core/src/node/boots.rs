//! The newest start of each peer that was met, stored before the peer is heard.
//!
//! ```text
//!   hello, welcome ──judged──> known and stored? ──yes──> heard
//!                                    └─no──> waits ──(NotePeer … PeerNoted)──> judged again
//! ```
//!
//! Invariants
//! - A start that is older than one that was ever met here is not heard, not even after a restart
//!   of this node: it is an old copy of its disk, and has forgotten votes (D10).
//! - At most one welcome per peer waits, and one hello per link.
//!
//! Absent on purpose: starts of nodes that are not of this cluster; nothing of them is stored.

use super::{Node, NodeEffect};
use crate::clock::Now;
use crate::controller::BootEpoch;
use bateau_protocol::ids::NodeId;
use bateau_protocol::peer::{Hello, Welcome};
use std::collections::BTreeMap;

/// What is known of the starts of others, and who waits for it to be stored.
#[derive(Debug, Default)]
pub(super) struct Boots {
    newest: BTreeMap<NodeId, Known>,
    hellos: Vec<(u64, Hello)>,
    welcomes: BTreeMap<NodeId, Welcome>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    boot: BootEpoch,
    is_stored: bool,
}

impl Boots {
    /// With what was stored by earlier starts of this node.
    pub fn stored(met: &BTreeMap<NodeId, BootEpoch>) -> Self {
        let known = |boot: &BootEpoch| Known { boot: *boot, is_stored: true };
        let newest = met.iter().map(|(node, boot)| (*node, known(boot))).collect();
        Self { newest, ..Self::default() }
    }

    /// The newest start of a node that was met; all zeros where none was.
    pub fn newest(&self, node: NodeId) -> BootEpoch {
        self.newest.get(&node).map_or(BootEpoch::default(), |known| known.boot)
    }

    /// What was welcomed on a link that is gone is nothing any more.
    pub fn forget_welcome(&mut self, node: NodeId) {
        self.welcomes.remove(&node);
    }

    /// Waits until the caller's start is stored.
    pub fn hold_hello(&mut self, link: u64, hello: Hello) {
        self.hellos.push((link, hello));
    }

    /// Waits until the start of whoever let us in is stored.
    pub fn hold_welcome(&mut self, node: NodeId, welcome: Welcome) {
        self.welcomes.insert(node, welcome);
    }
}

impl Node {
    /// Whether this start, which has been judged, is stored; otherwise it is asked to be, and
    /// whoever showed it waits.
    pub(super) fn is_noted(&mut self, node: NodeId, boot: BootEpoch) -> bool {
        match self.boots.newest.get(&node) {
            Some(known) if known.boot == boot => known.is_stored,
            _ => {
                self.boots.newest.insert(node, Known { boot, is_stored: false });
                self.effects.push(NodeEffect::NotePeer { node, boot });
                false
            }
        }
    }

    /// Hears those who waited for this. A start that has been overtaken meanwhile is judged like
    /// any other old one.
    pub(super) fn hear_noted(&mut self, node: NodeId, boot: BootEpoch, now: Now) {
        if let Some(known) = self.boots.newest.get_mut(&node)
            && known.boot == boot
        {
            known.is_stored = true;
        }
        let hellos = self.boots.hellos.extract_if(.., |(_, hello)| hello.node_id == node);
        for (link, hello) in hellos.collect::<Vec<_>>() {
            self.hear_hello(link, hello, now);
        }
        if let Some(welcome) = self.boots.welcomes.remove(&node) {
            self.hear_welcome(node, welcome, now);
        }
    }
}
