//! After everything has come right: clients are silent, and who has nothing to do sleeps (R23).
//! Then a node dies, and what it led is led again, although nobody asks.
//!
//! Absent on purpose: runs in which a disk has lied. What it has silenced keeps the others awake.

use crate::event::{Event, Micros};
use crate::heal::{CONVERGED_WITHIN, ELECTED_WITHIN};
use crate::plan::FaultClass;
use crate::world::World;
use bateau_core::replica::Replica;
use bateau_protocol::ids::Incarnation;

/// Until sessions of members that are silent have run out, and leaderships are where they are
/// preferred.
const WORN_OUT: Micros = 60_000_000;
/// Until what that has led to has come to rest.
const ASLEEP_WITHIN: Micros = 20_000_000;
/// For which nobody does anything.
const ASLEEP: Micros = 5_000_000;

impl World {
    /// Lets everything come to rest, and disturbs it once.
    pub fn rest(&mut self) {
        self.is_silent = true;
        if self.broken.is_some() || self.plan.has(FaultClass::Corruption) {
            return;
        }
        self.live_until(self.at + WORN_OUT);
        self.wait("R23: who has nothing to do sleeps", ASLEEP_WITHIN, Self::unslept);
        self.live_until(self.at + ASLEEP);
        self.wait("R23: who sleeps sleeps on", 0, Self::unslept);
        self.count("mark: everybody sleeps");
        let here: Vec<_> = (0..self.nodes.len()).filter(|n| !self.nodes[*n].is_out).collect();
        if self.broken.is_some() || here.len() < 3 || !self.random.chance(30) {
            return;
        }
        let victim = here[self.random.below(here.len() as u64) as usize];
        self.nodes[victim].away_until = Micros::MAX;
        self.kill(victim);
        self.live_until(self.at + 1_000_000);
        self.wait("R23: what a lost node led is led again", ELECTED_WITHIN, Self::deserted);
        self.nodes[victim].away_until = 0;
        self.events.put(self.at, Event::Restart(victim));
        self.wait("R23: everything is led again", ELECTED_WITHIN, Self::unled);
        self.wait("R23: who comes back finds its leaders", CONVERGED_WITHIN, Self::unequal);
        self.live_until(self.at + WORN_OUT);
        self.wait("R23: who has nothing to do sleeps again", ASLEEP_WITHIN, Self::unslept);
        self.count("mark: a node dies while everybody sleeps");
    }

    /// A partition with a majority of its nodes, that nobody leads.
    fn deserted(&self) -> Option<String> {
        let runs = |n: &usize| self.nodes[*n].process.is_some();
        let placed = self.placed().ok()?;
        let has_majority =
            |nodes: &Vec<usize>| nodes.iter().copied().filter(runs).count() > nodes.len() / 2;
        let logs = placed.into_iter().filter(|(_, nodes)| has_majority(nodes));
        self.unled_of(logs)
    }

    /// A partition that does not sleep.
    fn unslept(&self) -> Option<String> {
        let placed = self.placed().ok()?;
        let partitions = placed.iter().filter(|(log, _)| *log != Incarnation::METADATA);
        for (log, nodes) in partitions {
            let replica =
                |n: &usize| self.nodes[*n].process.as_ref()?.shard.as_ref()?.replica(*log);
            let awake = |one: &&Replica| !one.is_asleep() && one.wants_ticks();
            if let Some(replica) = nodes.iter().filter_map(replica).find(awake) {
                let process = self.nodes.iter().filter_map(|node| node.process.as_ref());
                let states: Vec<_> = process.map(|process| process.describe(*log)).collect();
                let id = replica.replica_id();
                return Some(format!("{log:?}, replica {id}, is awake: {}", states.join("; ")));
            }
        }
        None
    }
}
