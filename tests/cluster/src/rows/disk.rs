//! P13: a device that refuses what is flushed, once or always.
//!
//! Invariant: the error is seen at the target: the node says so and ends, and the kernel has noted
//! errors of that device.
//! Absent on purpose: a run without loop devices. It says so and counts for nothing.

use super::{RECOVERY_MAX, Run, acks_of};
use std::time::Duration;

/// The others have taken over within so long.
const TAKEN_OVER_MAX: Duration = Duration::from_secs(5);

/// What the kernel says of such a device: EIO, or EROFS where the filesystem's journal met it
/// first.
const REFUSED: [&str; 2] = ["os error 5)", "os error 30)"];

/// P13.
pub(super) fn failing(run: &mut Run) {
    for round in 0..run.form.faults() {
        run.breathe();
        let (victim, led) = run.leader();
        let noted = run.nodes.disk(victim).errors();
        let since = run.now();
        if !run.nodes.disk(victim).fail() {
            println!("note: P13 needs loop devices and Python; nothing was done");
            return;
        }
        let failing = run.load.now();
        if round % 2 == 0 {
            // Once: the device works again before the node has come to an end.
            let errors = || run.nodes.disk(victim).errors() > noted;
            kafka_clients_tests::program::wait_until("an error", super::LOOK_MAX, errors);
            run.nodes.disk(victim).heal();
        }
        run.elects(&[victim], &led, TAKEN_OVER_MAX);
        let took = run.recovers("after a failed flush", TAKEN_OVER_MAX);
        run.entry.recoveries.push(took);
        let (status, said) = run.nodes.ended(victim);
        run.entry.observe("exits", 1);
        run.entry.observe("errors", run.nodes.disk(victim).errors().saturating_sub(noted));
        if status.success() || !REFUSED.iter().any(|error| said.contains(error)) {
            let last = said.lines().last().unwrap_or_default().to_owned();
            run.problem(format!("node {victim} ended with {status}, saying {last}"));
        }
        // In flight when the device failed: flushed before, or by the two others.
        let acked = acks_of(&run.load.acks(), victim, failing, u64::MAX);
        run.entry.observe("acks_in_fault", acked as u64);
        run.fault_ended(since, &led);
        run.nodes.disk(victim).heal();
        run.nodes.remount(victim);
        run.nodes.launch(victim);
        run.nodes.until_ready(victim);
    }
    run.recovers("all nodes are back", RECOVERY_MAX);
}
