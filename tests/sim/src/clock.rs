//! A node's time: skewed, drifting, and at times set by somebody.
//!
//! Invariants: the monotonic clock never steps; the wall clock may.
//!
//! Absent on purpose: real time.

use crate::event::Micros;
use bateau_core::clock::Now;
use bateau_log::sim_disk::SimRandom;

/// Where wall clocks begin: some day in November 2023, in Unix milliseconds.
const WALL_START_MS: u64 = 1_700_000_000_000;
/// How far wall clocks differ, in milliseconds.
const SKEW_MS_MAX: u64 = 500;
/// How far clocks run fast or slow, in millionths.
const DRIFT_PPM_MAX: u64 = 200;
const MILLION: u64 = 1_000_000;

/// One node's clocks.
#[derive(Clone, Debug)]
pub struct NodeClock {
    /// Microseconds of its own per million of the world's.
    rate: u64,
    wall_ms: u64,
}

impl NodeClock {
    /// Clocks that differ from others' as the seed says.
    pub fn drawn(random: &mut SimRandom) -> Self {
        let rate = MILLION - DRIFT_PPM_MAX + random.below(2 * DRIFT_PPM_MAX + 1);
        let wall_ms = WALL_START_MS - SKEW_MS_MAX + random.below(2 * SKEW_MS_MAX + 1);
        Self { rate, wall_ms }
    }

    /// What the node reads at this moment of the world.
    #[must_use]
    pub fn now(&self, at: Micros) -> Now {
        let monotonic_ms = 1 + at * self.rate / MILLION / 1_000;
        let (service_ms, wall_ms) = (monotonic_ms, self.wall_ms + monotonic_ms);
        Now { monotonic_ms, service_ms, wall_ms }
    }

    /// When in the world the node has waited so long.
    #[must_use]
    pub fn after(&self, at: Micros, wait_ms: u64) -> Micros {
        let own = at * self.rate / MILLION / 1_000 + wait_ms;
        // The first microsecond at which the node's clock shows that millisecond.
        (own * 1_000 * MILLION).div_ceil(self.rate).max(at + 1)
    }

    /// Sets the wall clock off by up to an hour, either way.
    pub fn jump(&mut self, random: &mut SimRandom) {
        let hour_ms = 3_600_000;
        self.wall_ms = self.wall_ms - hour_ms + random.below(2 * hour_ms);
    }
}
