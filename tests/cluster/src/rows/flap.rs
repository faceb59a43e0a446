//! P7: a link that comes and goes, between a leader and one other.
//!
//! Invariant: what it is compared with is measured in the same run, just before.
//! Absent on purpose: several links. A node all of whose links flap is one that comes and goes.

use super::link::{elections, healed, observed};
use super::{Form, Run, all_partitions};
use crate::load;
use std::time::{Duration, Instant};

/// What a flapping link leaves of the batches that are acknowledged in a second.
const KEPT_SHARE_MIN: f64 = 0.5;
/// A partition has one election in so long at most.
const TERM_MIN: Duration = Duration::from_secs(10);

/// P7.
pub(super) fn link(run: &mut Run) {
    let (healthy, flapping, links) = match run.form {
        Form::Short => (Duration::from_secs(2), Duration::from_secs(5), 1),
        Form::Long => (Duration::from_secs(15), Duration::from_secs(60), 5),
    };
    let from = run.load.now();
    std::thread::sleep(healthy);
    let before = load::rate(&run.load.acks(), from, run.load.now());
    for _ in 0..links {
        let (victim, _) = run.leader();
        let others = run.nodes.others(victim);
        let other = others[run.random.usize(..others.len())];
        let (lost, epochs) = (run.nodes.network.lost(), run.load.directory().epochs());
        let since = run.now();
        flap(run, victim, other, since.at + flapping);
        let now = run.load.now();
        let kept = load::rate(&run.load.acks(), since.moment, now) / before;
        run.entry.measure_least("rate_kept_percent", percent(kept));
        if kept < KEPT_SHARE_MIN {
            run.problem(format!("{:.0} % of the throughput was left", kept * 100.0));
        }
        let terms = flapping.as_secs() / TERM_MIN.as_secs();
        let most = elections(run, &epochs);
        run.entry.measure("elections_most", u64::try_from(most).unwrap_or(0));
        if u64::try_from(most).unwrap_or(0) > terms.max(1) {
            run.problem(format!("{most} elections of one partition in {flapping:?}"));
        }
        observed(run, lost);
        healed(run, since, &all_partitions());
    }
    run.entry.measure("rate_healthy", before.round().abs() as u64);
}

/// Loses all between two nodes and heals it again, until then.
fn flap(run: &mut Run, one: usize, other: usize, until: Instant) {
    while Instant::now() < until {
        run.nodes.network.lose(one, other);
        run.nodes.network.lose(other, one);
        run.entry.observe("flaps", 1);
        pause(run, until);
        run.nodes.network.heal();
        pause(run, until);
    }
}

fn pause(run: &mut Run, until: Instant) {
    let longest_ms = if run.form == Form::Short { 1_000 } else { 5_000 };
    let pause = Duration::from_millis(run.random.u64(200..longest_ms));
    std::thread::sleep(pause.min(until.saturating_duration_since(Instant::now())));
}

/// As a whole number.
pub(super) fn percent(share: f64) -> u64 {
    (share * 100.0).round().abs() as u64
}
