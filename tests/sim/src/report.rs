//! What a run, or many, came to.
//!
//! Absent on purpose: a clock; whoever runs seeds knows how long that took.

use crate::plan::Plan;
use std::collections::BTreeMap;
use std::fmt;

/// What did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The invariant and what was found.
    pub what: String,
    /// After so many events.
    pub step: u64,
    /// At this moment, in microseconds of the run.
    pub at: u64,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (step {}, {}.{:06} s)",
            self.what,
            self.step,
            self.at / 1_000_000,
            self.at % 1_000_000
        )
    }
}

/// One run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was run.
    pub plan: Plan,
    /// The hash over all of it.
    pub hash: u64,
    /// Simulated microseconds, the healing included.
    pub simulated: u64,
    /// What did not hold, if anything.
    pub broken: Option<Broken>,
    /// Faults that came to pass, operations, and places that were reached.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Many runs.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Seeds of the runs in which something did not hold.
    pub failed_seeds: Vec<u64>,
    /// Simulated microseconds of clusters.
    pub simulated: u64,
    /// As of each run, together.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        if outcome.broken.is_some() {
            self.failed_seeds.push(outcome.plan.seed);
        }
        self.simulated += outcome.simulated;
        for (name, count) in &outcome.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }
}
