//! Links that other nodes have dialled: whose they are, and until when they are heard.
//!
//! ```text
//!   greeted, judged ──> heard ──┬─ another greeting of that node is welcomed ──> closed
//!                               └─ the record has another directory for it ────> closed
//! ```
//!
//! Whoever is closed and still there dials anew, and its greeting is judged by what is known then.
//!
//! Invariants
//! - One link of each peer is heard: the one that was welcomed last. What is left of an older one
//!   would come behind what was said later, or from a start that is over.
//! - Nobody is heard, nor sent to, as a node that has another directory by the record known here,
//!   once that is as new as what it has shown of its own.
//!
//! Absent on purpose: who is welcome (`bootstrap`); links that this node sends on (`links`).

use super::{Node, NodeEffect};
use crate::clock::Now;
use bateau_protocol::ids::{LogIndex, NodeId};

/// What somebody has shown of itself on a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shown {
    pub directory: [u8; 16],
    /// How far it had applied the metadata.
    pub metadata_index: LogIndex,
}

/// The link on which a peer is heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    link: u64,
    shown: Shown,
}

impl Node {
    /// Whether what a peer says on this link is heard.
    #[must_use]
    pub fn hears(&self, node: NodeId, link: u64) -> bool {
        self.accepted.get(&node).is_some_and(|accepted| accepted.link == link)
    }

    /// A peer is heard on this link from now on, and on no other one.
    pub(super) fn accept(&mut self, node: NodeId, link: u64, shown: Shown) {
        let before = self.accepted.insert(node, Accepted { link, shown });
        if let Some(before) = before.filter(|before| before.link != link) {
            self.effects.push(NodeEffect::Close { link: before.link });
        }
    }

    /// Closes links to and from whoever has given way to another, by the record.
    pub(super) fn part_with_former_members(&mut self, now: Now) {
        if self.metadata.founding().is_none() {
            return;
        }
        let gone: Vec<NodeId> = self
            .accepted
            .iter()
            .filter(|(node, accepted)| self.is_former(**node, accepted.shown))
            .map(|(node, _)| *node)
            .collect();
        for node in gone {
            if let Some(Accepted { link, .. }) = self.accepted.remove(&node) {
                self.effects.push(NodeEffect::Close { link });
            }
        }
        let welcomed = self.links.iter();
        let welcomed = welcomed.filter_map(|(node, link)| Some((*node, link.welcomed()?)));
        let gone: Vec<NodeId> = welcomed
            .filter(|(node, shown)| self.is_former(*node, *shown))
            .map(|(node, _)| node)
            .collect();
        for node in gone {
            self.effects.push(NodeEffect::HangUp { node });
            self.note_link_down(node, now);
        }
    }

    fn is_former(&self, node: NodeId, shown: Shown) -> bool {
        let is_known_since = self.metadata.applied() >= shown.metadata_index;
        is_known_since && !self.is_recorded(node, shown.directory)
    }

    /// Whether a node with this directory is on the record that is known here.
    pub(super) fn is_recorded(&self, node: NodeId, directory: [u8; 16]) -> bool {
        self.members.iter().any(|member| member.node == node && member.has(directory))
    }
}
