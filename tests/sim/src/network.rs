//! What lies between two nodes: how well it carries, and in which directions it carries at all.
//!
//! Absent on purpose: connections and their bytes, which are `links`'.

use crate::event::{Micros, NodeAt};
use bateau_log::sim_disk::SimRandom;

/// How well links carry.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Frames that are lost, in percent.
    pub loss: u64,
    /// Frames that come twice, in percent.
    pub duplication: u64,
    /// Frames that do not wait for the one before, in percent.
    pub reordering: u64,
    /// Mean delay one way, in microseconds.
    pub delay: Micros,
    /// Frames that take up to five seconds, in percent.
    pub spikes: u64,
}

impl Quality {
    /// A network of one room.
    pub const GOOD: Self = Self { loss: 0, duplication: 0, reordering: 0, delay: 200, spikes: 0 };
}

/// Longest spike, in microseconds.
const SPIKE_MAX: Micros = 5_000_000;

/// All ways.
pub struct Network {
    /// How they carry now.
    pub quality: Quality,
    /// `blocked[from][to]`.
    blocked: Vec<Vec<bool>>,
    arrivals: Vec<Vec<Micros>>,
    random: SimRandom,
}

impl Network {
    /// Ways between this many nodes.
    pub fn new(count: usize, seed: u64) -> Self {
        Self {
            quality: Quality::GOOD,
            blocked: vec![vec![false; count]; count],
            arrivals: vec![vec![0; count]; count],
            random: SimRandom::new(seed),
        }
    }

    /// Cuts the way in this direction, or mends it.
    pub fn set_blocked(&mut self, from: NodeAt, to: NodeAt, is_blocked: bool) {
        self.blocked[from][to] = is_blocked;
    }

    /// Mends everything.
    pub fn mend(&mut self) {
        self.blocked.iter_mut().flatten().for_each(|way| *way = false);
    }

    /// Whether nothing gets through in this direction.
    pub fn is_blocked(&self, from: NodeAt, to: NodeAt) -> bool {
        self.blocked[from][to]
    }

    /// Whether what is sent now does not arrive.
    pub fn loses(&mut self, from: NodeAt, to: NodeAt) -> bool {
        self.blocked[from][to] || self.random.chance(self.quality.loss)
    }

    /// Whether what is sent now arrives twice.
    pub fn doubles(&mut self) -> bool {
        self.random.chance(self.quality.duplication)
    }

    /// When what is sent now arrives, in order or not.
    pub fn arrival(&mut self, at: Micros, from: NodeAt, to: NodeAt) -> Micros {
        let alone = at + self.delay();
        if self.random.chance(self.quality.reordering) {
            return alone;
        }
        let in_order = alone.max(self.arrivals[from][to] + 1);
        self.arrivals[from][to] = in_order;
        in_order
    }

    /// How long something takes one way, in microseconds.
    pub fn delay(&mut self) -> Micros {
        let mean = self.quality.delay.max(1);
        if self.random.chance(self.quality.spikes) {
            return self.random.below(SPIKE_MAX);
        }
        mean / 2 + self.random.below(mean)
    }
}
