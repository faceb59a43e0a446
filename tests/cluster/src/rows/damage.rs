//! P11: segments that cannot be read, or that somebody has cut short or replaced, under a node that
//! has them mapped.
//!
//! Invariant: the damage is seen at the target: reads that the device has refused, or files that
//! were made others.
//! Absent on purpose: damage while a node does not run (P14).

use super::membership::right;
use super::{LOOK_MAX, RECOVERY_MAX, Run};
use crate::load::{self, RETRY_PAUSE};
use crate::replicas;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

/// For how long readers ask for what is damaged.
const ASKED: Duration = Duration::from_secs(4);

/// P11: reads fail, again and again; the last fault of a run is one of files, of one node alone.
pub(super) fn files(run: &mut Run) {
    if run.nodes.disk(1).device().is_none() {
        println!("note: P11 needs FUSE and loop devices; nothing was done");
        return;
    }
    for _ in 1..run.form.faults() / 2 {
        run.breathe();
        start_cold(run);
        unreadable(run);
    }
    run.breathe();
    // With the segments in memory, and without.
    let is_cold = run.random.bool();
    if is_cold {
        start_cold(run);
    }
    other_files(run, if is_cold { "cold" } else { "warm" });
}

/// Starts all nodes anew, with nothing of their files in memory.
fn start_cold(run: &mut Run) {
    let ids = run.nodes.ids();
    ids.iter().for_each(|id| run.nodes.kill(*id));
    for id in &ids {
        run.nodes.remount(*id);
        run.nodes.launch(*id);
    }
    for id in &ids {
        run.nodes.until_ready(*id);
    }
    run.recovers("all were started anew", RECOVERY_MAX);
}

/// A leader whose disk takes what is written, and gives nothing.
fn unreadable(run: &mut Run) {
    let (victim, led) = run.leader();
    let refused = |run: &Run| {
        let device = run.nodes.disk(victim).device().expect("all nodes have one");
        device.counts().unreadable
    };
    let before = refused(run);
    let since = run.now();
    run.nodes.disk(victim).device().expect("all nodes have one").refuse_reads(true);
    let ended = asked(run, victim, &led);
    run.entry.observe("reads_refused", refused(run) - before);
    run.nodes.disk(victim).device().expect("all nodes have one").refuse_reads(false);
    run.fault_ended(since, &led);
    if ended {
        run.nodes.remount(victim);
        run.nodes.launch(victim);
        run.nodes.until_ready(victim);
    }
    let took = run.recovers("everything can be read again", RECOVERY_MAX);
    run.entry.recoveries.push(took);
}

/// A leader whose oldest segments are cut short, or replaced by others.
fn other_files(run: &mut Run, how: &str) {
    let (victim, led) = run.leader();
    let segments = replicas::first_segments(&run.nodes, victim);
    let is_cut = run.random.bool();
    run.entry.variant = format!("{how}, {}", if is_cut { "cut short" } else { "replaced" });
    let since = run.now();
    for segment in &segments {
        let done = if is_cut { cut(segment) } else { replace(segment) };
        done.unwrap_or_else(|error| panic!("{}: {error}", segment.display()));
        run.entry.observe("files", 1);
    }
    // Some clients know only this node, and ask it for what it does not know any more.
    run.load.pin(victim);
    let ended = asked(run, victim, &led);
    if !ended {
        run.nodes.kill(victim);
    }
    run.nodes.launch(victim);
    run.nodes.until_ready(victim);
    let took = run.recovers("beside a node with damaged files", LOOK_MAX);
    run.entry.recoveries.push(took);
    // Its copies are replaced by new ones, which are equal to the others' in the end.
    right(run);
    std::thread::sleep(ASKED);
    run.load.unpin();
    run.fault_ended(since, &led);
}

fn cut(segment: &Path) -> std::io::Result<()> {
    let file = File::options().write(true).open(segment)?;
    file.set_len(file.metadata()?.len() / 8)
}

/// As an editor does it: another file under the same name.
fn replace(segment: &Path) -> std::io::Result<()> {
    let other = segment.with_extension("other");
    File::create(&other)?.set_len(segment.metadata()?.len())?;
    fs::rename(other, segment)
}

/// Lets new readers ask for all of these partitions. Whether the node has ended over it.
fn asked(run: &mut Run, victim: usize, partitions: &[u32]) -> bool {
    let before = run.load.refusals();
    partitions.iter().for_each(|partition| run.load.read_again(*partition));
    let until = Instant::now() + ASKED;
    while Instant::now() < until && run.nodes.running(victim) {
        std::thread::sleep(RETRY_PAUSE);
    }
    for ((node, code), count) in run.load.refusals() {
        let more = count - before.get(&(node, code)).copied().unwrap_or(0);
        if node == victim {
            run.entry.measure("errors", more);
        }
        if more > 0 && !load::is_retriable(code) {
            run.problem(format!("node {node}: error {code} for what cannot be read"));
        }
    }
    if run.nodes.running(victim) {
        return false;
    }
    let (status, said) = run.nodes.ended(victim);
    run.entry.measure("exits", 1);
    // A node may end over it, if it names what it could not read.
    if !said.contains("segment") {
        run.problem(format!(
            "node {victim} ended with {status} and did not say over which segment"
        ));
    }
    true
}
