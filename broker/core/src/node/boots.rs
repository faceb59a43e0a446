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
//! - Starts are counted by data directory: one that takes a lost one's place begins anew.
//! - At most one welcome per peer waits, and one hello per link.
//!
//! Absent on purpose: starts of nodes that are not of this cluster; nothing of them is stored.

use super::{Node, NodeEffect, PeerBoot};
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
    newest: PeerBoot,
    is_stored: bool,
}

impl Boots {
    /// With what was stored by earlier starts of this node.
    pub fn stored(met: &BTreeMap<NodeId, PeerBoot>) -> Self {
        let known = |newest: &PeerBoot| Known { newest: *newest, is_stored: true };
        let newest = met.iter().map(|(node, newest)| (*node, known(newest))).collect();
        Self { newest, ..Self::default() }
    }

    /// The newest start of a node that was met; all zeros where none was.
    pub fn newest(&self, node: NodeId) -> BootEpoch {
        self.newest.get(&node).map_or(BootEpoch::default(), |known| known.newest.boot)
    }

    /// The newest start of a node with this directory.
    pub fn newest_of(&self, node: NodeId, directory: [u8; 16]) -> BootEpoch {
        let known = self.newest.get(&node).filter(|known| known.newest.directory == directory);
        known.map_or(BootEpoch::default(), |known| known.newest.boot)
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
    pub(super) fn is_noted(&mut self, node: NodeId, start: PeerBoot) -> bool {
        match self.boots.newest.get(&node) {
            Some(known) if known.newest == start => known.is_stored,
            before => {
                // Whom it led before, it does not lead in this start.
                if before.is_some() && self.lives(node) {
                    self.effects.push(NodeEffect::Lost { node });
                }
                self.boots.newest.insert(node, Known { newest: start, is_stored: false });
                self.effects.push(NodeEffect::NotePeer { node, start });
                false
            }
        }
    }

    /// Hears those who waited for this. A start that has been overtaken meanwhile is judged like
    /// any other old one.
    pub(super) fn hear_noted(&mut self, node: NodeId, start: PeerBoot, now: Now) {
        if let Some(known) = self.boots.newest.get_mut(&node)
            && known.newest == start
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
