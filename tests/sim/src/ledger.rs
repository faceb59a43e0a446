//! The ledger: one line of JSON per campaign, appended to a file that stays in the repository.
//!
//! Absent on purpose: sums; a ledger is added up by whoever reads it.

use crate::report::Totals;
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// What a campaign was.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The tree that ran, as `git describe --always --dirty` names it.
    pub commit: String,
    /// The first seed.
    pub first_seed: u64,
    /// Simulated seconds with faults of each seed.
    pub seconds: u64,
    /// Nodes of each seed; `None`: as the seed says.
    pub nodes: Option<u64>,
    /// Processor time, in seconds.
    pub processor_seconds: f64,
}

impl Campaign {
    fn line(&self, totals: &Totals) -> Value {
        let rounded = |value: f64| (value * 10.0).round() / 10.0;
        json!({
            "commit": self.commit,
            "first_seed": self.first_seed,
            "count": totals.runs,
            "seconds": self.seconds,
            "nodes": self.nodes,
            "cluster_seconds": totals.simulated / 1_000_000,
            "processor_seconds": rounded(self.processor_seconds),
            "failed_seeds": totals.failed_seeds,
            "counts": totals.counts,
        })
    }

    /// Appends a campaign.
    ///
    /// Errors: the file cannot be written.
    pub fn append(&self, totals: &Totals, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{}", self.line(totals))
    }
}
