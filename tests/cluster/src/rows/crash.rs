//! P1 and P2: processes that end without a word.
//!
//! Invariant: a kill is seen at the target: the process was there, got signal 9 and was reaped.
//! Absent on purpose: power. The kernel keeps what a process has written.

use super::{RECOVERY_MAX, Run, all_partitions};
use std::time::Duration;

/// A new leader is known within so long, each time.
const ELECTION_MAX: Duration = Duration::from_secs(3);
/// Records are taken again within so long, each time.
const GAP_MAX: Duration = Duration::from_secs(4);

/// P1.
pub(super) fn leader(run: &mut Run) {
    for _ in 0..run.form.faults() {
        run.breathe();
        let (victim, led) = run.leader();
        let since = run.now();
        run.nodes.kill(victim);
        run.entry.observe("kills", 1);
        run.elects(&[victim], &led, ELECTION_MAX);
        let took = run.recovers("after a kill", GAP_MAX);
        run.entry.recoveries.push(took);
        run.fault_ended(since, &led);
        run.nodes.launch(victim);
        run.nodes.until_ready(victim);
    }
    run.recovers("all nodes are back", RECOVERY_MAX);
}

/// P2.
pub(super) fn all(run: &mut Run) {
    for _ in 0..run.form.faults() / 2 {
        run.breathe();
        let since = run.now();
        let ids = run.nodes.ids();
        for id in &ids {
            run.nodes.kill(*id);
            run.entry.observe("kills", 1);
        }
        ids.iter().for_each(|id| run.nodes.launch(*id));
        for id in &ids {
            run.nodes.until_ready(*id);
        }
        run.recovers("after all were killed", RECOVERY_MAX);
        let took = since.at.elapsed();
        if took > RECOVERY_MAX {
            run.problem(format!("writes resumed {took:?} after all were killed"));
        }
        run.entry.recoveries.push(took);
        run.fault_ended(since, &all_partitions());
    }
}
