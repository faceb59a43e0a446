//! What a run of a row was, as one line of JSON.
//!
//! Invariant: a run counts only if its fault was seen at the target and clients were at work while
//! it was there ([`Entry::counts`]).
//! Absent on purpose: sums. Whoever reads the ledger adds up what counts.

use crate::rows::Row;
use checker::Report;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// One run.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which row.
    pub row: Row,
    /// Nodes of its cluster.
    pub nodes: usize,
    /// What it was drawn from.
    pub seed: u64,
    /// Number of the run.
    pub run: u64,
    /// In short, how: the way of losing packets, the length of a pause.
    pub variant: String,
    /// How long faults were there.
    pub faulty: Duration,
    /// Faults as they were seen at their target: kills, packets, errors.
    pub observed: BTreeMap<&'static str, u64>,
    /// Numbers beside: rates, elections, times. They prove no fault.
    pub measured: BTreeMap<&'static str, u64>,
    /// Error codes that clients got for batches and polls, each by how often.
    pub refusals: BTreeMap<i16, u64>,
    /// Operations that clients began while a fault was there.
    pub operations_in_fault: u64,
    /// For each fault, how long no other node was named as leader.
    pub leaderless: Vec<Duration>,
    /// For each fault, the longest time without an acknowledgement of an affected partition.
    pub gaps: Vec<Duration>,
    /// For each fault, the same of the partitions that it did not hit: where these stand still too,
    /// the machine did.
    pub gaps_beside: Vec<Duration>,
    /// For each fault, what the row promises beside: a time until something was well again.
    pub recoveries: Vec<Duration>,
    /// Frames that were found equal on all nodes in the end.
    pub compared_frames: u64,
    /// What the checker says.
    pub report: Report,
    /// What no fault excuses.
    pub problems: Vec<String>,
}

impl Entry {
    /// A run that has not begun.
    pub fn new(row: Row, nodes: usize, seed: u64, run: u64) -> Self {
        Self {
            row,
            nodes,
            seed,
            run,
            variant: String::new(),
            faulty: Duration::ZERO,
            observed: BTreeMap::new(),
            measured: BTreeMap::new(),
            refusals: BTreeMap::new(),
            operations_in_fault: 0,
            leaderless: Vec::new(),
            gaps: Vec::new(),
            gaps_beside: Vec::new(),
            recoveries: Vec::new(),
            compared_frames: 0,
            report: Report::default(),
            problems: Vec::new(),
        }
    }

    /// Notes faults that were seen at their target.
    pub fn observe(&mut self, what: &'static str, count: u64) {
        *self.observed.entry(what).or_default() += count;
    }

    /// Counts what was seen once more, and proves no fault.
    pub fn note(&mut self, what: &'static str) {
        *self.measured.entry(what).or_default() += 1;
    }

    /// Keeps the greatest of a number.
    pub fn measure(&mut self, what: &'static str, number: u64) {
        let most = self.measured.entry(what).or_default();
        *most = number.max(*most);
    }

    /// Keeps the least of a number.
    pub fn measure_least(&mut self, what: &'static str, number: u64) {
        let least = self.measured.entry(what).or_insert(number);
        *least = number.min(*least);
    }

    /// Whether the fault was there and clients met it.
    pub fn counts(&self) -> bool {
        self.observed.values().any(|count| *count > 0) && self.operations_in_fault > 0
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.report.is_good() && self.problems.is_empty()
    }

    /// The line.
    pub fn to_json(&self) -> Value {
        let anomalies: BTreeMap<String, u64> = self
            .report
            .anomalies
            .iter()
            .map(|(kind, found)| (format!("{kind:?}"), found.count))
            .collect();
        json!({
            "row": self.row.name(),
            "nodes": self.nodes,
            "seed": self.seed,
            "run": self.run,
            "variant": self.variant,
            "counts": self.counts(),
            "fault_s": self.faulty.as_secs_f64(),
            "observed": self.observed,
            "measured": self.measured,
            "refusals": self.refusals,
            "operations": self.report.operations,
            "operations_in_fault": self.operations_in_fault,
            "acked": self.report.acked,
            "unknown": self.report.unknown,
            "compared_frames": self.compared_frames,
            "leaderless_ms": milliseconds(&self.leaderless),
            "gap_ms": milliseconds(&self.gaps),
            "gap_beside_ms": milliseconds(&self.gaps_beside),
            "recovery_ms": milliseconds(&self.recoveries),
            "anomalies": self.report.count(),
            "kinds": anomalies,
            "problems": self.problems,
        })
    }

    /// Adds the line to a file.
    ///
    /// Panics where it cannot be written.
    pub fn append(&self, path: &Path) {
        let file = File::options().create(true).append(true).open(path);
        let written = file.and_then(|mut file| writeln!(file, "{}", self.to_json()));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// All of them, in milliseconds.
fn milliseconds(times: &[Duration]) -> Vec<u64> {
    times.iter().map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).collect()
}

/// Median, 99th percentile and most of some times; `None` of none.
pub fn percentiles(times: &[Duration]) -> Option<(Duration, Duration, Duration)> {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().checked_sub(1)?;
    // The nearest rank: never better than what was measured.
    let at = |percent: usize| times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied();
    Some((at(50)?, at(99)?, times.get(last).copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values_by_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let (half, most_of_all, most) = percentiles(&times).expect("there are some");
        assert_eq!([half, most_of_all, most].map(|time| time.as_millis()), [100, 198, 200]);
        assert_eq!(percentiles(&times[..1]).map(|(half, _, _)| half.as_millis()), Some(1));
        assert_eq!(percentiles(&[]), None);
    }

    #[test]
    fn a_run_counts_only_if_the_fault_was_seen_and_clients_met_it() {
        let mut entry = Entry::new(Row::P1, 3, 1, 1);
        assert!(!entry.counts());
        entry.observe("kills", 1);
        assert!(!entry.counts());
        entry.operations_in_fault = 7;
        assert!(entry.counts());
        assert_eq!(entry.to_json()["observed"]["kills"], 1);
    }
}
