//! The node: from a checked configuration to a stopped process.
//!
//! Absent on purpose: everything, until the wiring of shards, disk and doors takes this place.

use crate::config::Config;
use crate::exit::{Exit, Failure};
use std::time::Instant;

/// Starts a node, announces it (`ready::announce`), waits for its end and stops it.
///
/// - `started`: when the process began, for `ready_ms`.
///
/// Errors: a start that failed, with nothing announced.
pub fn run(config: &Config, started: Instant) -> Result<(), Failure> {
    let place = config.node.data_dir.display();
    let waited = started.elapsed().as_millis();
    let message = format!("no engine in this build for {place} ({waited} ms)");
    Err(Failure::new(Exit::Failed, message))
}
