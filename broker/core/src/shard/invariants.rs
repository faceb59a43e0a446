//! What must hold of a shard between two turns, checked after every step of a test.
//!
//! Absent on purpose: a replica's own invariants, which are its own.

use super::{Shard, Slot};
use bateau_protocol::ids::Incarnation;

impl Shard {
    /// Stops the process where the state contradicts itself. For tests and simulation.
    ///
    /// Cost: one pass over the replicas and what waits in them.
    pub fn check_invariants(&self) {
        assert!(self.touched.is_empty(), "a turn ends when every touched replica was drained");
        for (incarnation, slot) in &self.slots {
            match slot {
                Slot::Running(replica) => {
                    assert_eq!(replica.incarnation(), *incarnation);
                    replica.check_invariants();
                    self.check_timers(*incarnation, replica);
                }
                Slot::Creating(creation) => {
                    assert_eq!(creation.birth.incarnation, *incarnation);
                }
                Slot::Mending(opening) => {
                    assert_eq!(opening.log.incarnation, *incarnation);
                }
                Slot::Unavailable(_) => {}
            }
            let is_known = !self.recovered.contains_key(incarnation);
            assert!(is_known, "{incarnation:?} waits to be named and has been named");
        }
        for incarnation in self.timers.waited_for() {
            let is_running = matches!(self.slots.get(&incarnation), Some(Slot::Running(_)));
            assert!(is_running, "a timer runs for {incarnation:?}, which does not");
        }
        for incarnation in self.group_logs.values() {
            assert!(self.slots.contains_key(incarnation), "a group partition has no slot");
        }
    }

    fn check_timers(&self, incarnation: Incarnation, replica: &crate::replica::Replica) {
        let ticks = self.timers.ticks(incarnation);
        assert_eq!(ticks, replica.wants_ticks(), "{incarnation:?} is ticked while it waits");
        let deadline = self.timers.deadline(incarnation);
        assert_eq!(deadline, replica.derived().next_deadline(), "a deadline is forgotten");
    }
}
