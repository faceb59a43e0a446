//! Nodes are restarted one after the other, as for an upgrade.
//!
//! ```text
//!   asked to leave ──leaderships gone, or two seconds──> closed, with the mark of a clean end
//!        └──────────── the next node, once this one is known again ────────────┘
//! ```
//!
//! Invariant: what an orderly end leaves is what every other end leaves, and nothing less.
//!
//! Absent on purpose: another build behind the restart.

use crate::event::{Event, Micros, NodeAt};
use crate::process::Waiter;
use crate::world::World;
use bateau_core::shard::Input;

/// How long a node that stops waits for others to lead, in microseconds.
const LEAVING_MAX: Micros = 2_000_000;

impl World {
    /// Stops the next node, if the one before is back.
    pub(crate) fn roll(&mut self) {
        let count = self.nodes.len();
        let (n, before) = (self.rolled % count, (self.rolled + count - 1) % count);
        let is_known = |n: NodeAt| {
            let process = self.nodes[n].process.as_ref();
            process.is_some_and(|process| process.brain.is_registered)
        };
        if !is_known(before) && !self.nodes[before].is_out {
            return;
        }
        self.rolled += 1;
        let life = self.nodes[n].life;
        let Some(mut process) = self.nodes[n].process.take() else { return };
        if process.shard.is_some() {
            let ticket = self.ticket(&mut process, Waiter::Stop);
            process.inbox.push(Input::Leave { ticket });
        }
        self.nodes[n].process = Some(process);
        self.events.put(self.at + LEAVING_MAX, Event::StopEnds(n, life));
        self.turn_soon(n);
    }

    /// A node ends as it should.
    pub(crate) fn end_in_order(&mut self, n: NodeAt) {
        let Some(process) = self.nodes[n].process.take() else { return };
        let is_closed = process.cycle.close().is_ok();
        self.count(if is_closed { "processes stopped in order" } else { "directories failed" });
        self.leave_disk(n);
    }
}
