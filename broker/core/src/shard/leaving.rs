//! Leaderships go where they should be: away from a node that stops, drains, leaves or is unfit,
//! and back to the replicas that are preferred.
//!
//! Invariants
//! - Leaderships go only to voters that answer and follow. Where there is none, this node keeps
//!   them: to its end if it stops, until there is one if it drains.
//! - A node that drains, leaves or gives way is given none of another's own accord.
//! - What is elected here afterwards is given away again.
//!
//! Absent on purpose: a deadline. Whoever stops the node has one, and whoever drains it.

use super::{Effect, Effects, Reply, Shard};
use crate::clock::Now;
use crate::controller::Standing;
use crate::replica::Replica;
use crate::ticket::Ticket;
use bateau_protocol::ids::{Incarnation, NodeId};
use std::collections::BTreeSet;

/// Leaderships that go to preferred replicas in one look, at most.
const PREFERRED_PER_LOOK: usize = 50;

/// Who waits until this node leads nothing that another could lead.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    has_begun: bool,
    waiting: Vec<Ticket>,
}

impl Leaving {
    /// Whether the process is to end.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }
}

impl Shard {
    pub(super) fn leave(&mut self, ticket: Ticket, effects: &mut Effects) {
        self.leaving.has_begun = true;
        self.leaving.waiting.push(ticket);
        self.go_on_leaving(effects);
    }

    /// Asks again wherever a successor has not answered (R13).
    pub(super) fn go_on_leaving(&mut self, effects: &mut Effects) {
        let to_lead = self.nodes_to_lead();
        let gives_way = to_lead.as_ref().is_some_and(|nodes| !nodes.contains(&self.node_id));
        if !self.leaving.has_begun && !gives_way {
            return;
        }
        // Who stops takes what there is.
        let is_stopping = self.leaving.has_begun;
        let may_lead = |node: NodeId| {
            is_stopping || to_lead.as_ref().is_none_or(|nodes| nodes.contains(&node))
        };
        for incarnation in self.to_hand_over(may_lead) {
            self.with(incarnation, effects, |replica, _| replica.hand_over(may_lead));
        }
    }

    pub(super) fn answer_leaving(&mut self, effects: &mut Effects) {
        if !self.leaving.waiting.is_empty() && self.to_hand_over(|_| true).is_empty() {
            for ticket in std::mem::take(&mut self.leaving.waiting) {
                effects.push(Effect::Reply(ticket, Reply::Left));
            }
        }
    }

    /// Gives back what preferred replicas could lead.
    pub(super) fn prefer(&mut self, now: Now, effects: &mut Effects) {
        let Some(to_lead) = self.nodes_to_lead().filter(|_| !self.leaving.has_begun) else {
            return;
        };
        let mut left = PREFERRED_PER_LOOK;
        for incarnation in self.running() {
            if left > 0 && self.replica(incarnation).is_some_and(Replica::is_leader) {
                let mut is_asked = false;
                self.with(incarnation, effects, |replica, _| {
                    is_asked = replica.hand_to_preferred(now, |node| to_lead.contains(&node));
                });
                left -= usize::from(is_asked);
            }
        }
    }

    /// The members that should lead, live as far as is known, and are fit to by their own word;
    /// `None` while they are not known.
    fn nodes_to_lead(&self) -> Option<BTreeSet<NodeId>> {
        let members = self.metadata().filter(|metadata| metadata.founding().is_some())?.members();
        let serving = members.filter(|member| member.standing == Standing::Serving);
        let nodes = serving.map(|member| member.founder.node);
        let own = self.node_id;
        let is_fit = |node: &NodeId| match *node == own {
            true => !self.fitness.hands_over(),
            false => self.sweep.may_live(*node) && !self.fitness.is_giving_way(*node),
        };
        Some(nodes.filter(is_fit).collect())
    }

    fn to_hand_over(&self, may_lead: impl Fn(NodeId) -> bool) -> Vec<Incarnation> {
        let mut running = self.running();
        running.retain(|log| {
            self.replica(*log).is_some_and(|replica| replica.has_successor(&may_lead))
        });
        running
    }
}
