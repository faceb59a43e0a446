//! A node that stops gives its leaderships away first, so that nobody waits for an election.
//!
//! Invariants
//! - Leaderships go only to voters that answer and follow; where there is none, this node keeps
//!   them to its end.
//! - What is elected here afterwards is given away again.
//!
//! Absent on purpose: a deadline. Whoever stops the node has one.

use super::{Effect, Effects, Reply, Shard};
use crate::replica::Replica;
use crate::ticket::Ticket;
use bateau_protocol::ids::Incarnation;

/// Who waits until this node leads nothing that another could lead.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    has_begun: bool,
    waiting: Vec<Ticket>,
}

impl Shard {
    pub(super) fn leave(&mut self, ticket: Ticket, effects: &mut Effects) {
        self.leaving.has_begun = true;
        self.leaving.waiting.push(ticket);
        self.go_on_leaving(effects);
    }

    /// Asks again wherever a successor has not answered (R13).
    pub(super) fn go_on_leaving(&mut self, effects: &mut Effects) {
        if self.leaving.has_begun {
            for incarnation in self.to_hand_over().collect::<Vec<_>>() {
                self.with(incarnation, effects, |replica, _| replica.hand_over());
            }
        }
    }

    pub(super) fn answer_leaving(&mut self, effects: &mut Effects) {
        if !self.leaving.waiting.is_empty() && self.to_hand_over().next().is_none() {
            for ticket in std::mem::take(&mut self.leaving.waiting) {
                effects.push(Effect::Reply(ticket, Reply::Left));
            }
        }
    }

    fn to_hand_over(&self) -> impl Iterator<Item = Incarnation> {
        let running = self.running().into_iter();
        running.filter(|log| self.replica(*log).is_some_and(Replica::has_successor))
    }
}
