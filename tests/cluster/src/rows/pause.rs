//! P3: a leader that stands still while others are elected, and then goes on as if nothing were.
//!
//! Invariant: the pause is seen at the target: the kernel says that the process is stopped.
//! Absent on purpose: a clock that stands still with it. It wakes late and has to find out.

use super::{LOOK_MAX, RECOVERY_MAX, Run};
use kafka_clients_tests::program::wait_until;
use std::time::{Duration, Instant};

/// New leaders are known within so long.
const ELECTION_MAX: Duration = Duration::from_secs(5);

/// P3. What a zombie acknowledges is looked for by the checker: its record must be in the log.
pub(super) fn leader(run: &mut Run) {
    for _ in 0..run.form.faults().div_ceil(2) {
        run.breathe();
        let (victim, led) = run.leader();
        run.load.pin(victim);
        run.breathe();
        let stay = run.form.stay(&mut run.random);
        let since = run.now();
        run.nodes.program(victim).pause();
        wait_until("it stands still", LOOK_MAX, || run.nodes.state(victim) == Some('T'));
        run.entry.observe("stops", 1);
        // A short pause need not cost a leader its place.
        let long = stay > ELECTION_MAX || run.form == super::Form::Short;
        if long {
            run.elects(&[victim], &led, ELECTION_MAX);
        }
        std::thread::sleep(stay.saturating_sub(since.at.elapsed()));
        let stopped = since.at.elapsed();
        run.entry.observe("stopped_ms", u64::try_from(stopped.as_millis()).unwrap_or(0));
        run.nodes.program(victim).resume();
        let woken = Instant::now();
        run.recovers("after a pause", RECOVERY_MAX);
        run.entry.recoveries.push(woken.elapsed());
        run.fault_ended(since, &led);
    }
    run.load.unpin();
}
