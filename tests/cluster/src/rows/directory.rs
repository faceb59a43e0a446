//! P15: a node is started with a disk that is not its own, or not the newest.
//!
//! ```text
//!   wiped      kill, wipe, start: exit 4 ─ replace, start: all of its copies under new ids
//!   swapped    kill two, swap, start both: exit 4 ─ swap back, start
//!   old copy   kill, copy, start, kill, start the copy: exit 4 ─ the newest again, or replace
//! ```
//!
//! Invariants
//! - Who is refused says why in one line, and was never ready.
//! - In half of the rounds another node is gone meanwhile, so that a vote or an acknowledgement
//!   of what has forgotten something would be the one that is missing.
//!
//! Absent on purpose: a copy that was taken since the node's last start. It shows only as progress
//! beyond its log.

use super::membership::{command_until_done, right};
use super::{LOOK_MAX, RECOVERY_MAX, Run, all_partitions};
use crate::load::RETRY_PAUSE;
use std::time::{Duration, Instant};

/// Exit code of what is refused.
const REFUSED: i32 = 4;
/// For so long a node that waits for the others is watched.
const WAITS: Duration = Duration::from_secs(2);

/// What is wrong with the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    /// It is empty.
    Wiped,
    /// It is another node's.
    Swapped,
    /// It is an older state of the node's own.
    OldCopy,
}

impl Wrong {
    const ALL: [Self; 3] = [Self::Wiped, Self::Swapped, Self::OldCopy];
}

/// P15.
pub(super) fn wrong(run: &mut Run) {
    for round in 0..=run.form.faults() {
        run.breathe();
        match Wrong::ALL[round % Wrong::ALL.len()] {
            Wrong::Wiped => wiped(run),
            Wrong::Swapped => swapped(run),
            Wrong::OldCopy => old_copy(run),
        }
        let took = run.recovers("with the disks that it should have", RECOVERY_MAX);
        run.entry.recoveries.push(took);
        right(run);
    }
    for what in ["wiped", "swapped", "old_copies"] {
        if run.entry.observed.get(what).is_none_or(|count| *count == 0) {
            run.problem(format!("nothing was seen of this: {what}"));
        }
    }
}

fn wiped(run: &mut Run) {
    let (victim, led) = run.leader();
    let since = run.now();
    run.nodes.kill(victim);
    run.nodes.disk(victim).wipe();
    let away = another_goes(run, victim);
    run.nodes.launch(victim);
    if away.is_some() {
        // Whether somebody has permitted it, one node alone cannot know: it waits.
        let until = Instant::now() + WAITS;
        while Instant::now() < until && !run.nodes.is_ready(victim) {
            std::thread::sleep(RETRY_PAUSE);
        }
    }
    if run.nodes.is_ready(victim) {
        run.problem(format!("node {victim} has lost everything and is ready"));
    }
    comes_back(run, away);
    refused(run, victim, &format!("bateau node replace {victim}"));
    run.entry.observe("wiped", 1);
    replaced(run, victim);
    run.fault_ended(since, &led);
}

fn swapped(run: &mut Run) {
    let (victims, _) = run.some_with_a_leader(2);
    let since = run.now();
    victims.iter().for_each(|id| run.nodes.kill(*id));
    let (one, other) = (victims[0], victims[1]);
    run.nodes.swap_disks(one, other);
    victims.iter().for_each(|id| run.nodes.launch(*id));
    refused(run, one, &format!("belongs to node {other}, this is node {one}"));
    refused(run, other, &format!("belongs to node {one}, this is node {other}"));
    run.entry.observe("swapped", 1);
    run.nodes.swap_disks(one, other);
    victims.iter().for_each(|id| run.nodes.launch(*id));
    victims.iter().for_each(|id| run.until_ready(*id));
    run.fault_ended(since, &all_partitions());
}

fn old_copy(run: &mut Run) {
    let (victim, led) = run.leader();
    let since = run.now();
    run.nodes.kill(victim);
    run.nodes.disk(victim).keep_copy();
    run.nodes.launch(victim);
    run.until_ready(victim);
    // It votes and acknowledges what the copy knows nothing of.
    run.recovers("after the copy was taken", RECOVERY_MAX);
    std::thread::sleep(Duration::from_millis(run.random.u64(100..1_000)));
    run.nodes.kill(victim);
    run.nodes.disk(victim).exchange_with_copy();
    let away = another_goes(run, victim);
    run.nodes.launch(victim);
    refused(run, victim, "old copy");
    run.entry.observe("old_copies", 1);
    comes_back(run, away);
    if run.random.bool() {
        run.nodes.disk(victim).exchange_with_copy();
        run.nodes.launch(victim);
        run.until_ready(victim);
    } else {
        run.nodes.disk(victim).wipe();
        replaced(run, victim);
    }
    run.nodes.disk(victim).forget_copy();
    run.fault_ended(since, &led);
}

/// In half of the rounds: another node is killed after the others have gone on without the victim.
fn another_goes(run: &mut Run, victim: usize) -> Option<usize> {
    run.recovers("beside a node that is gone", LOOK_MAX);
    let others = run.nodes.others(victim);
    let away = run.random.bool().then(|| others[run.random.usize(..others.len())])?;
    run.nodes.kill(away);
    run.entry.note("beside_another_that_is_gone");
    Some(away)
}

fn comes_back(run: &mut Run, away: Option<usize>) {
    if let Some(id) = away {
        run.nodes.launch(id);
        run.until_ready(id);
    }
}

/// A node that was started must end with one line, which says this.
fn refused(run: &mut Run, id: usize, wanted: &str) {
    let (is_ready, status, said) = run.nodes.ended_unready(id);
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with('{')).collect();
    let is_clear = matches!(lines[..], [line] if line.contains(wanted));
    if is_ready || status.code() != Some(REFUSED) || !is_clear {
        run.problem(format!(
            "node {id} was to be refused with {wanted:?}, ready: {is_ready}, {status}: {lines:?}"
        ));
    }
}

/// A node whose disk is empty comes back as an operator lets it.
pub(super) fn replaced(run: &mut Run, id: usize) {
    // Refused for as long as the others take it for alive.
    command_until_done(run, &["node", "replace", &id.to_string(), "--yes"], |_| false);
    run.nodes.launch(id);
    run.until_ready(id);
    run.entry.note("replaced");
}
