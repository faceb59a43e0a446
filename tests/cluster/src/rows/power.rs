//! P12: the power goes, and with it what was not flushed: the device's own cache and the kernel's
//! pages.
//!
//! Invariant: the loss is seen at the target: writes that the device had taken and threw away, or
//! refused because the power was gone.
//! Absent on purpose: a device that lies. What a flush has answered for is there.

use super::{LOOK_MAX, RECOVERY_MAX, Run, all_partitions};
use crate::device::{Counts, Kept};
use std::time::Duration;

/// A flush of these devices takes so much longer, so that there is something to lose.
const FLUSH_DELAY_MS: std::ops::Range<u64> = 5..40;

/// P12: one node, and then all at once.
pub(super) fn cuts(run: &mut Run) {
    for id in run.nodes.ids() {
        let delay = Duration::from_millis(run.random.u64(FLUSH_DELAY_MS));
        if let Some(device) = run.nodes.disk(id).device() {
            device.delay_flushes(delay);
        }
    }
    for round in 0..run.form.faults() {
        run.breathe();
        let (mut victims, mut led) = run.some_with_a_leader(1);
        if round % 2 == 1 {
            (victims, led) = (run.nodes.ids(), all_partitions());
        }
        let since = run.now();
        let before = lost(run);
        for victim in &victims {
            let kept = Kept::ALL[run.random.usize(..Kept::ALL.len())];
            let Some(device) = run.nodes.disk(*victim).device() else {
                println!("note: P12 needs FUSE and loop devices; nothing was done");
                return;
            };
            device.cut(kept, &mut run.random);
        }
        victims.iter().for_each(|victim| run.nodes.kill(*victim));
        if victims.len() == 1 {
            run.recovers("beside a node without power", LOOK_MAX);
        }
        for victim in &victims {
            run.nodes.remount(*victim);
            run.nodes.launch(*victim);
        }
        for victim in &victims {
            run.nodes.until_ready(*victim);
        }
        let took = run.recovers("after a power cut", RECOVERY_MAX);
        run.entry.recoveries.push(took);
        let now = lost(run);
        run.entry.observe("sectors_lost", now.sectors_lost - before.sectors_lost);
        run.entry.observe("sectors_kept", now.sectors_kept - before.sectors_kept);
        run.entry.observe("writes_refused", now.refused - before.refused);
        run.fault_ended(since, &led);
    }
}

/// Of all devices together.
fn lost(run: &Run) -> Counts {
    let devices = run.nodes.ids().into_iter().filter_map(|id| run.nodes.disk(id).device());
    devices.map(|device| device.counts()).fold(Counts::default(), |sum, one| Counts {
        sectors_lost: sum.sectors_lost + one.sectors_lost,
        sectors_kept: sum.sectors_kept + one.sectors_kept,
        refused: sum.refused + one.refused,
        ..sum
    })
}
