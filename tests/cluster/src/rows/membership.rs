//! P17: nodes come, leave and are replaced while others are killed, cut off or lose their power.
//!
//! ```text
//!   exchange      add 4 ─ fault ─ ready ─ remove 2 ─ fault ─ 2 has ended, its disk is emptied
//!   replacement   kill 3, empty its disk ─ replace 3 ─ start it ─ fault ─ it has all its copies
//! ```
//!
//! Invariants
//! - A fault counts as amid a change only if the change was not done when the fault was there.
//! - After every change the nodes and copies are right as each member sees them.
//!
//! Absent on purpose: limits for elections. While a node is being replaced, one that is killed
//! beside it takes the majority away, until it is back.

use super::{RECOVERY_MAX, Run, TOPIC, all_partitions};
use crate::device::Kept;
use crate::load::RETRY_PAUSE;
use crate::operator;
use kafka_clients_tests::program::Program;
use serde_json::Value;
use std::time::{Duration, Instant};

/// A change is done within so long of the end of the faults beside it.
pub(super) const CHANGE_MAX: Duration = Duration::from_secs(60);

/// What comes amid the changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Amid {
    /// `kill -9` of a leader.
    P1,
    /// A leader that nobody hears, and that hears nobody.
    P4,
    /// Power cuts of a leader, and of all.
    P12,
}

impl Amid {
    const ALL: [Self; 3] = [Self::P1, Self::P4, Self::P12];

    /// The one of a run: each in turn.
    pub fn of(seed: u64, run: u64) -> Self {
        match seed.wrapping_add(run) % 3 {
            0 => Self::P1,
            1 => Self::P4,
            _ => Self::P12,
        }
    }

    fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|one| format!("{one:?}") == name);
        found.expect("the variant of the row names it")
    }
}

/// P17.
pub(super) fn changes(run: &mut Run) {
    let amid = Amid::named(&run.entry.variant);
    if amid == Amid::P12 && run.nodes.disk(1).device().is_none() {
        println!("note: P17 amid power cuts needs FUSE and loop devices; nothing was done");
        return;
    }
    for round in 0..run.form.faults() {
        run.breathe();
        if round % 2 == 0 {
            exchange(run, amid, round);
        } else {
            replacement(run, amid, round);
        }
        right(run);
        let took = run.recovers("after a change of members", RECOVERY_MAX);
        run.entry.recoveries.push(took);
    }
    for what in ["added", "removed", "replaced", "faults_amid_a_change"] {
        if run.entry.observed.get(what).is_none_or(|count| *count == 0) {
            run.problem(format!("nothing was seen of this: {what}"));
        }
    }
}

/// A spare node comes, and a member leaves.
fn exchange(run: &mut Run, amid: Amid, round: usize) {
    let members = run.nodes.ids();
    let newcomer = run.nodes.spares()[0];
    let leaver = members[run.random.usize(..members.len())];
    command_until_done(run, &["node", "add", &newcomer.to_string()], |list| {
        list.iter().any(|node| node["node"] == newcomer)
    });
    run.nodes.join(newcomer, &members);
    fault(run, amid, round, |run| !run.nodes.is_ready(newcomer));
    run.nodes.until_ready(newcomer);
    run.entry.observe("added", 1);

    let arguments = ["node", "remove", &leaver.to_string(), "--yes"];
    let at = others(run, leaver)[0];
    let mut removal = operator::begin(&run.nodes, at, &arguments);
    fault(run, amid, round, |_| removal.as_mut().is_some_and(Program::running));
    removal.map(operator::finished);
    command_until_done(run, &arguments, |list| list.iter().all(|node| node["node"] != leaver));
    let (status, said) = run.nodes.ended(leaver);
    if status.code() != Some(4) {
        run.problem(format!("node {leaver} was removed and ended with {status}: {said}"));
    }
    run.nodes.leave(leaver);
    run.entry.observe("removed", 1);
}

/// A member's disk is lost, and it comes back with a new one.
fn replacement(run: &mut Run, amid: Amid, round: usize) {
    let members = run.nodes.ids();
    let lost = members[run.random.usize(..members.len())];
    let since = run.now();
    run.nodes.kill(lost);
    run.nodes.disk(lost).wipe();
    let arguments = ["node", "replace", &lost.to_string(), "--yes"];
    // Refused for as long as the others take it for alive.
    command_until_done(run, &arguments, |_| false);
    run.nodes.launch(lost);
    fault(run, amid, round, |run| !run.nodes.is_ready(lost));
    run.nodes.until_ready(lost);
    run.entry.observe("replaced", 1);
    run.fault_ended(since, &all_partitions());
}

/// One fault, which ends again. `is_amid` says whether the change is still under way.
fn fault(run: &mut Run, amid: Amid, round: usize, is_amid: impl FnOnce(&mut Run) -> bool) {
    // At once, or somewhat later.
    std::thread::sleep(Duration::from_millis(run.random.u64(0..400)));
    let (mut victims, mut led) = run.some_with_a_leader(1);
    if amid == Amid::P12 && round % 4 < 2 && run.random.bool() {
        (victims, led) = (run.nodes.ids(), all_partitions());
    }
    let since = run.now();
    match amid {
        Amid::P1 => {
            victims.iter().for_each(|id| run.nodes.kill(*id));
            run.entry.observe("kills", 1);
        }
        Amid::P4 => {
            let before = run.nodes.network.lost();
            run.nodes.network.split(&victims);
            if is_amid(run) {
                run.entry.observe("faults_amid_a_change", 1);
            }
            std::thread::sleep(run.form.stay(&mut run.random));
            super::link::observed(run, before);
            run.nodes.network.heal();
            return run.fault_ended(since, &led);
        }
        Amid::P12 => cut(run, &victims),
    }
    if is_amid(run) {
        run.entry.observe("faults_amid_a_change", 1);
    }
    std::thread::sleep(Duration::from_millis(run.random.u64(0..1_500)));
    for id in &victims {
        if amid == Amid::P12 {
            run.nodes.remount(*id);
        }
        run.nodes.launch(*id);
    }
    for id in &victims {
        run.nodes.until_ready_or_ended(*id);
    }
    run.fault_ended(since, &led);
}

fn cut(run: &mut Run, victims: &[usize]) {
    let mut lost = 0;
    for id in victims {
        let kept = Kept::ALL[run.random.usize(..Kept::ALL.len())];
        let device = run.nodes.disk(*id).device().expect("all nodes have one");
        let before = device.counts();
        device.cut(kept, &mut run.random);
        run.nodes.kill(*id);
        let device = run.nodes.disk(*id).device().expect("all nodes have one");
        let now = device.counts();
        lost += now.sectors_lost + now.refused - before.sectors_lost - before.refused;
    }
    run.entry.observe("power_cuts", 1);
    run.entry.observe("sectors_lost", lost);
}

fn others(run: &mut Run, but: usize) -> Vec<usize> {
    let mut others = run.nodes.others(but);
    run.random.shuffle(&mut others);
    others
}

/// Gives a command to one member after another, until it ends well or is not needed any more.
pub(super) fn command_until_done(
    run: &mut Run,
    arguments: &[&str],
    is_done: impl Fn(&[Value]) -> bool,
) {
    let deadline = Instant::now() + CHANGE_MAX;
    let mut last = String::new();
    while Instant::now() < deadline {
        for at in run.nodes.ids() {
            if operator::list(&run.nodes, at).is_some_and(|list| is_done(&list)) {
                return;
            }
            match operator::run(&run.nodes, at, arguments) {
                Some(told) if told.code == Some(0) => return,
                Some(told) => last = told.said,
                None => {}
            }
        }
        std::thread::sleep(RETRY_PAUSE);
    }
    run.problem(format!("not done within {CHANGE_MAX:?}: {arguments:?}: {last}"));
}

/// Waits until every member sees the same members, all of them alive, each partition led by one of
/// its three copies, and nothing on its way.
pub(super) fn right(run: &mut Run) {
    let begun = Instant::now();
    let hindrance = |run: &Run| {
        let ids = run.nodes.ids();
        let copies = run.entry.nodes;
        ids.into_iter().find_map(|at| operator::hindrance(&run.nodes, at, (TOPIC, copies)))
    };
    while let Some(what) = hindrance(run) {
        if begun.elapsed() > CHANGE_MAX {
            return run.problem(format!("not whole within {CHANGE_MAX:?}: {what}"));
        }
        std::thread::sleep(RETRY_PAUSE);
    }
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    run.entry.measure("whole_after_ms", took_ms);
}
