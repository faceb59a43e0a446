//! When a shard has to look at its replicas without being asked.
//!
//! Invariants: an idle shard is woken once per [`HOUSEKEEPING_MS`] and by no replica; replicas
//! that wait for something are looked at every [`TICK_MS`].
//!
//! Absent on purpose: the timer itself. The shell sleeps for [`Shard::wait_ms`].

use super::{Effect, Effects, Shard, Slot};
use crate::clock::{Deadline, Now};
use crate::replica::Replica;
use bateau_protocol::ids::Incarnation;
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds of one tick of raft's clock, and of timeouts' resolution.
pub const TICK_MS: u64 = 100;
/// Milliseconds of service time between two looks at every replica.
pub const HOUSEKEEPING_MS: u64 = 5_000;
/// Milliseconds until a log is made again whose making failed.
const CREATE_RETRY_MS: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Timers {
    ticking: BTreeSet<Incarnation>,
    next_tick_ms: u64,
    next_housekeeping_ms: u64,
    /// Deadlines of state machines, as they said after they were last touched.
    deadlines: BTreeMap<Incarnation, Deadline>,
    creates: BTreeMap<Incarnation, u64>,
}

impl Timers {
    /// Notes what a replica waits for after it was drained.
    pub fn note(&mut self, incarnation: Incarnation, replica: &Replica, now: Now) {
        if !replica.wants_ticks() {
            self.ticking.remove(&incarnation);
        } else if self.ticking.insert(incarnation) && self.ticking.len() == 1 {
            self.next_tick_ms = now.monotonic_ms + TICK_MS;
        }
        match replica.derived().next_deadline() {
            Some(deadline) => self.deadlines.insert(incarnation, deadline),
            None => self.deadlines.remove(&incarnation),
        };
    }

    pub fn forget(&mut self, incarnation: Incarnation) {
        self.ticking.remove(&incarnation);
        self.deadlines.remove(&incarnation);
        self.creates.remove(&incarnation);
    }

    /// Logs whose replicas wait for something.
    pub fn waited_for(&self) -> impl Iterator<Item = Incarnation> + '_ {
        self.ticking.iter().chain(self.deadlines.keys()).copied()
    }

    pub fn ticks(&self, incarnation: Incarnation) -> bool {
        self.ticking.contains(&incarnation)
    }

    pub fn deadline(&self, incarnation: Incarnation) -> Option<Deadline> {
        self.deadlines.get(&incarnation).copied()
    }

    pub fn retry_create(&mut self, incarnation: Incarnation, now: Now) {
        self.creates.insert(incarnation, now.monotonic_ms + CREATE_RETRY_MS);
    }
}

impl Shard {
    /// Milliseconds of real time until [`Shard::step`] wants to be called even without inputs.
    #[must_use]
    pub fn wait_ms(&self, now: Now) -> u64 {
        let timers = &self.timers;
        let housekeeping = Deadline::Service(timers.next_housekeeping_ms);
        let tick = (!timers.ticking.is_empty()).then_some(timers.next_tick_ms);
        let sweep = self.sweep.next_ms();
        let real = tick.into_iter().chain(sweep).chain(timers.creates.values().copied());
        let soonest = real.map(Deadline::Monotonic).chain(timers.deadlines.values().copied());
        let soonest = soonest.chain(self.mendings.deadlines()).chain(self.copies.deadlines());
        let waits = soonest.map(|deadline| deadline.wait_ms(now));
        waits.fold(housekeeping.wait_ms(now), u64::min)
    }

    /// When the first session or rebalance timer of the groups here runs out, on the service
    /// timeline: what somebody who advances it must not jump over.
    #[must_use]
    pub fn next_service_ms(&self) -> Option<u64> {
        let service = |deadline: &Deadline| match deadline {
            Deadline::Service(at) => Some(*at),
            Deadline::Monotonic(_) => None,
        };
        self.timers.deadlines.values().filter_map(service).min()
    }

    pub(super) fn tick(&mut self, now: Now, effects: &mut Effects) {
        let now_ms = now.monotonic_ms;
        if now_ms >= self.timers.next_tick_ms && !self.timers.ticking.is_empty() {
            self.timers.next_tick_ms = now_ms + TICK_MS;
            for incarnation in self.timers.ticking.clone() {
                self.with(incarnation, effects, |replica, effects| replica.tick(now, effects));
            }
            self.go_on_leaving(effects);
        }
        let due = self.timers.deadlines.iter().filter(|(_, deadline)| deadline.is_due(now));
        for incarnation in due.map(|(incarnation, _)| *incarnation).collect::<Vec<_>>() {
            self.with(incarnation, effects, |replica, _| replica.tick_machine(now));
        }
        if now.service_ms >= self.timers.next_housekeeping_ms {
            self.timers.next_housekeeping_ms = now.service_ms + HOUSEKEEPING_MS;
            for incarnation in self.running() {
                self.with(incarnation, effects, |replica, _| replica.keep_house(now));
            }
            self.prefer(now, effects);
        }
        self.sweep(now, effects);
        self.retry_creates(now_ms, effects);
        self.go_on_mending(now, effects);
    }

    fn retry_creates(&mut self, now_ms: u64, effects: &mut Effects) {
        let due = self.timers.creates.iter().filter(|(_, retry_ms)| **retry_ms <= now_ms);
        for incarnation in due.map(|(incarnation, _)| *incarnation).collect::<Vec<_>>() {
            self.timers.creates.remove(&incarnation);
            let Some(Slot::Creating(creation)) = self.slots.get(&incarnation) else { continue };
            if creation.doom.is_some() {
                self.slots.remove(&incarnation);
                effects.push(Effect::NothingLeft { incarnation });
            } else {
                effects.push(Effect::Create(creation.birth.clone()));
            }
        }
    }
}
