//! P16: wall clocks that jump and drift, of one node or of all.
//!
//! Invariant: the jump is seen at the target: the node has asked for the time while it was another
//! than the system's.
//! Absent on purpose: the clock that measures time. No system lets that jump.

use super::{Form, RECOVERY_MAX, Run, all_partitions};
use crate::group::{Group, NOT_COORDINATOR};
use crate::load::RETRY_PAUSE;
use kafka_clients_tests::raw::code;
use std::time::{Duration, Instant};

const HOUR_S: i64 = 3_600;
const TEN_YEARS_S: i64 = 87_600 * HOUR_S;
/// What a jump leaves of the time until records are taken.
const TAKEN_MAX: Duration = Duration::from_secs(5);

/// What the clocks do.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// One jump, in seconds.
    Jump(i64),
    /// A jump each second, of up to so many seconds either way.
    Steps(i64),
    /// So many milliseconds gained in each second.
    Drift(i64),
}

const CHANGES: [Change; 7] = [
    Change::Jump(HOUR_S),
    Change::Jump(-HOUR_S),
    Change::Jump(TEN_YEARS_S),
    Change::Jump(-TEN_YEARS_S),
    Change::Steps(HOUR_S),
    Change::Drift(100),
    Change::Drift(-100),
];

/// P16.
pub(super) fn jumps(run: &mut Run) {
    if run.nodes.clock(1).is_none() {
        println!("note: P16 needs a C compiler; nothing was done");
        return;
    }
    let ids = run.nodes.ids();
    let mut groups: Vec<Group> =
        ids.iter().map(|id| Group::new(*id, &format!("members-{id}"))).collect();
    groups.iter_mut().for_each(Group::join);
    let epochs = run.load.directory().epochs();
    for round in 0..run.form.faults() {
        run.breathe();
        let change = CHANGES[(round + run.random.usize(..2)) % CHANGES.len()];
        let victims = if run.random.bool() { ids.clone() } else { vec![run.leader().0] };
        let since = run.now();
        let asked = asked(run);
        let stay = match run.form {
            Form::Short => Duration::from_secs(3),
            Form::Long => Duration::from_secs(15),
        };
        changed(run, change, &victims, &mut groups, since.at + stay);
        run.recovers(&format!("{change:?} of {victims:?}"), TAKEN_MAX);
        run.entry.observe("asked", self::asked(run) - asked);
        run.fault_ended(since, &all_partitions());
        if run.random.bool() {
            ids.iter().for_each(|id| set(run, *id, 0, 0));
        }
    }
    ids.iter().for_each(|id| set(run, *id, 0, 0));
    let took = run.recovers("all clocks are right", RECOVERY_MAX);
    run.entry.recoveries.push(took);
    beat(run, &mut groups, "at the end");
    let elections = super::link::elections(run, &epochs);
    run.entry.measure("elections_most", u64::try_from(elections).unwrap_or(0));
    if gave_way(run) {
        run.entry.note("gave_way");
    } else if elections > 0 {
        run.problem(format!("{elections} elections of one partition for the sake of a clock"));
    }
}

/// Changes the clocks and watches the groups until then.
fn changed(run: &mut Run, change: Change, victims: &[usize], groups: &mut [Group], until: Instant) {
    let what = format!("{change:?} of {victims:?}");
    let (mut next, mut is_first) = (Instant::now(), true);
    while Instant::now() < until {
        if Instant::now() < next {
            std::thread::sleep(RETRY_PAUSE);
            continue;
        }
        for victim in victims {
            match change {
                Change::Jump(ahead_s) => set(run, *victim, ahead_s, 0),
                Change::Steps(most_s) => {
                    let ahead_s = run.random.i64(-most_s..=most_s);
                    set(run, *victim, ahead_s, 0);
                }
                Change::Drift(gain_ms) if is_first => set(run, *victim, 0, gain_ms),
                Change::Drift(_) => {}
            }
        }
        beat(run, groups, &what);
        is_first = false;
        next += Duration::from_secs(1);
    }
}

fn set(run: &Run, node: usize, ahead_s: i64, gain_ms: i64) {
    run.nodes.clock(node).expect("all nodes have one").set(ahead_s, gain_ms);
}

fn asked(run: &Run) -> u64 {
    run.nodes.ids().iter().filter_map(|id| run.nodes.clock(*id)).map(|clock| clock.asked()).sum()
}

/// Whether a node has moved its leaderships because its disk is slow: not for the sake of a clock.
fn gave_way(run: &Run) -> bool {
    let gave = |id: &usize| run.nodes.said(*id).contains("gives its leaderships away");
    run.nodes.ids().iter().any(gave)
}

/// Every member is still one.
fn beat(run: &mut Run, groups: &mut [Group], what: &str) {
    for group in groups {
        let code = group.heartbeat();
        if code == code::NONE {
            continue;
        }
        if code != NOT_COORDINATOR || !gave_way(run) {
            run.problem(format!("{what}: a heartbeat got error {code}"));
        }
        group.join();
    }
}
