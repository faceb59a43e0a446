//! P6: nodes of which some hear all and others only some: a bridge and a ring of five.
//!
//! ```text
//!   bridge   1 ─ 2      4 ─ 5      ring   1 ─ 2 ─ 3
//!              \ \      / /               └ 5 ─ 4 ┘
//!               `── 3 ──'
//! ```
//!
//! Invariant: the loss is seen where it happens, as with every partition of a network.
//! Absent on purpose: fewer nodes. Three have no ring that is not whole, and a bridge of three is
//! one lost link.

use super::link::{elections, healed, observed};
use super::{Form, RECOVERY_MAX, Run, all_partitions};
use std::time::Duration;

/// All partitions are led within so long, and stay with their leaders from then on.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// For how long leaders have to stay, in the long form.
const STEADY: Duration = Duration::from_secs(5);

/// P6.
pub(super) fn shapes(run: &mut Run) {
    for round in 0..run.form.faults() {
        run.breathe();
        let mut ids = run.nodes.ids();
        run.random.shuffle(&mut ids);
        let cut = if round % 2 == 0 { bridge(&ids) } else { ring(&ids) };
        let (before, epochs) = (run.nodes.network.lost(), run.load.directory().epochs());
        let since = run.now();
        for (one, other) in cut {
            run.nodes.network.lose(one, other);
            run.nodes.network.lose(other, one);
        }
        run.recovers("in a bridge or a ring", SETTLE_MAX);
        let settled = since.at.elapsed();
        run.entry.recoveries.push(settled);
        if settled > SETTLE_MAX {
            run.problem(format!("leadership settled after {settled:?}"));
        }
        let until = match run.form {
            Form::Short => run.form.stay(&mut run.random),
            Form::Long => {
                std::thread::sleep(SETTLE_MAX.saturating_sub(since.at.elapsed()));
                let settled = run.load.directory().epochs();
                std::thread::sleep(STEADY);
                let most = elections(run, &settled);
                if most > 0 {
                    run.problem(format!("{most} elections of one partition after {SETTLE_MAX:?}"));
                }
                SETTLE_MAX + run.form.stay(&mut run.random)
            }
        };
        std::thread::sleep(until.saturating_sub(since.at.elapsed()));
        run.recovers("still in a bridge or a ring", RECOVERY_MAX);
        let most = elections(run, &epochs);
        run.entry.measure("elections_most", u64::try_from(most).unwrap_or(0));
        observed(run, before);
        healed(run, since, &all_partitions());
    }
}

/// Pairs that do not hear each other: two on each side, and the one in the middle hears all.
fn bridge(ids: &[usize]) -> Vec<(usize, usize)> {
    let (left, right) = ids.split_at(2);
    let right = right.get(1..).unwrap_or_default();
    left.iter().flat_map(|one| right.iter().map(|other| (*one, *other))).collect()
}

/// Pairs that do not hear each other: each node hears only the two beside it.
fn ring(ids: &[usize]) -> Vec<(usize, usize)> {
    let around = |at: usize| ids[at % ids.len()];
    let pairs = (0..ids.len()).flat_map(|at| (at + 2..ids.len()).map(move |to| (at, to)));
    let apart = pairs.filter(|(at, to)| to - at < ids.len() - 1);
    apart.map(|(at, to)| (around(at), around(to))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_bridge_only_the_middle_hears_all() {
        assert_eq!(bridge(&[5, 4, 3, 2, 1]), [(5, 2), (5, 1), (4, 2), (4, 1)]);
    }

    #[test]
    fn in_a_ring_each_hears_two() {
        assert_eq!(ring(&[1, 2, 3, 4, 5]), [(1, 3), (1, 4), (2, 4), (2, 5), (3, 5)]);
    }
}
