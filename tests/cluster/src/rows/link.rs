//! P4 and P5: nodes that do not hear each other.
//!
//! Invariant: the loss is seen where it happens: packets that went into a void, or bytes and
//! connections that a proxy took.
//! Absent on purpose: clients that are cut off too. They reach every node, the lonely one as well.

use super::{RECOVERY_MAX, Run, Since, acks_of};
use crate::network::Way;
use std::time::Duration;

/// New leaders are known within so long of a partition.
const ELECTION_MAX: Duration = Duration::from_secs(3);
/// Leadership settles within so long of a loss in one direction.
const SETTLE_MAX: Duration = Duration::from_secs(10);
/// How late what goes between nodes may come.
const LATE_MS_MAX: u64 = 30;
/// Elections that a minute of one-way loss may cost a partition.
const ELECTIONS_PER_MINUTE_MAX: f64 = 3.0;

/// P4: nobody else hears a minority, and it hears nobody else. Of five nodes it has two, then one.
pub(super) fn minority(run: &mut Run) {
    let most = (run.nodes.ids().len() - 1) / 2;
    for round in 0..run.form.faults().div_ceil(2) {
        run.breathe();
        let (apart, led) = run.some_with_a_leader(most - round % most);
        apart.iter().for_each(|node| run.load.pin(*node));
        run.breathe();
        let before = run.nodes.network.lost();
        let since = run.now();
        run.nodes.network.split(&apart);
        // What is sent to it from here on can reach no majority.
        let alone = run.load.now();
        run.elects(&apart, &led, ELECTION_MAX);
        run.recovers("beside a lonely minority", ELECTION_MAX);
        let stay = run.form.stay(&mut run.random);
        std::thread::sleep(stay.saturating_sub(since.at.elapsed()));
        let until = run.load.now();
        let acks = run.load.acks();
        let acked: usize = apart.iter().map(|node| acks_of(&acks, *node, alone, until)).sum();
        if acked > 0 {
            run.problem(format!("a minority, {apart:?}, acknowledged {acked} batches"));
        }
        observed(run, before);
        healed(run, since, &led);
    }
    run.load.unpin();
}

/// P5: nobody hears the leader; and then it hears nobody.
pub(super) fn one_way(run: &mut Run) {
    for round in 0..run.form.faults() {
        run.breathe();
        let (victim, led) = run.leader();
        let others = run.nodes.others(victim);
        let epochs = run.load.directory().epochs();
        let before = run.nodes.network.lost();
        let since = run.now();
        for other in others {
            let (from, to) = if round % 2 == 0 { (victim, other) } else { (other, victim) };
            run.nodes.network.lose(from, to);
        }
        run.recovers("under a loss in one direction", SETTLE_MAX);
        let settled = since.at.elapsed();
        run.entry.recoveries.push(settled);
        if settled > SETTLE_MAX {
            run.problem(format!("leadership settled after {settled:?}"));
        }
        let stay = run.form.stay(&mut run.random);
        std::thread::sleep(stay.saturating_sub(since.at.elapsed()));
        run.recovers("still under a loss in one direction", SETTLE_MAX);
        let minutes = (since.at.elapsed().as_secs_f64() / 60.0).max(1.0);
        let most = elections(run, &epochs);
        run.entry.measure("elections_most", u64::try_from(most).unwrap_or(0));
        if f64::from(most) / minutes > ELECTIONS_PER_MINUTE_MAX {
            run.problem(format!("{most} elections of one partition in {minutes:.1} minutes"));
        }
        observed(run, before);
        healed(run, since, &led);
    }
}

/// The most elections of one partition since it had these epochs.
pub(super) fn elections(run: &Run, before: &[i32]) -> i32 {
    let now = run.load.directory().epochs();
    now.iter().zip(before).map(|(now, before)| now - before).max().unwrap_or(0)
}

pub(super) fn observed(run: &mut Run, before: crate::network::Lost) {
    let lost = run.nodes.network.lost();
    run.entry.observe("packets", lost.packets - before.packets);
    run.entry.observe("bytes", lost.bytes - before.bytes);
}

pub(super) fn healed(run: &mut Run, since: Since, led: &[u32]) {
    run.fault_ended(since, led);
    run.nodes.network.heal();
    run.recovers("all hear each other again", RECOVERY_MAX);
    if run.nodes.network.way() == Way::Proxies {
        unsteady(run, led);
    }
}

/// What only proxies can do: everything comes late, and then every connection is cut at once.
fn unsteady(run: &mut Run, led: &[u32]) {
    let before = run.nodes.network.lost();
    let since = run.now();
    run.nodes.network.delay(LATE_MS_MAX);
    run.recovers("everything comes late", RECOVERY_MAX);
    run.nodes.network.cut();
    run.recovers("all connections were cut", RECOVERY_MAX);
    run.fault_ended(since, led);
    run.nodes.network.delay(0);
    let cut = run.nodes.network.lost().connections - before.connections;
    run.entry.observe("connections", cut);
    if cut == 0 {
        run.problem("no connection was there to be cut".to_owned());
    }
}
