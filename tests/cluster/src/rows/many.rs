//! P22: a thousand partitions beside those at work: a node is killed, started again, and then all
//! are started anew, one after the other.
//!
//! Invariant: a kill is seen at the target, as in P1.
//! Absent on purpose: records in the many. What they cost is being there.

use super::{LOOK_MAX, PARTITIONS, RECOVERY_MAX, Run};
use crate::ledger::Entry;
use crate::load::Directory;
use crate::nodes::Nodes;
use std::time::{Duration, Instant};

/// Partitions beside those at work, with a replica on each of three nodes.
const MANY: u32 = 1_000;
const TOPIC: &str = "many";
/// All are led within so long.
const LED_MAX: Duration = Duration::from_secs(30);
/// Before it is measured what the idle ones cost, and for how long that is measured.
const SETTLED: Duration = Duration::from_secs(30);
const MEASURED: Duration = Duration::from_secs(60);
/// Clock ticks of a second, as `/proc` has them.
const TICKS: u64 = 100;

/// Makes the partitions and measures what they cost while nobody is at work.
pub(super) fn prepare(nodes: &Nodes, entry: &mut Entry) {
    let empty = resident_mib(nodes);
    let directory = Directory::new(&nodes.ids(), TOPIC);
    directory.create(MANY);
    std::thread::sleep(SETTLED);
    let before = ticks(nodes);
    let begun = Instant::now();
    std::thread::sleep(MEASURED);
    let ticks = ticks(nodes).iter().zip(before).map(|(now, before)| now - before).max();
    let share = ticks.unwrap_or(0) as f64 / TICKS as f64 / begun.elapsed().as_secs_f64();
    entry.measure("idle_processor_permille", (share * 1_000.0).round().abs() as u64);
    entry.measure("idle_more_mib", resident_mib(nodes).saturating_sub(empty));
}

/// P22.
pub(super) fn restarts(run: &mut Run) {
    let all: Vec<u32> = (0..PARTITIONS).collect();
    let many = Directory::new(&run.nodes.ids(), TOPIC);
    run.breathe();
    let (victim, led) = run.leader();
    let since = run.now();
    run.nodes.kill(victim);
    run.entry.observe("kills", 1);
    led_again(run, &many, &[victim], "killed");
    run.recovers("after a kill", RECOVERY_MAX);
    run.nodes.launch(victim);
    let ready_ms = run.nodes.until_ready(victim);
    run.entry.measure("ready_ms", ready_ms);
    run.fault_ended(since, &led);
    run.recovers("the node is back", RECOVERY_MAX);
    for node in run.nodes.ids() {
        let since = run.now();
        run.nodes.program(node).terminate();
        let (status, said) = run.nodes.ended(node);
        run.entry.observe("stops", 1);
        if !status.success() {
            run.problem(format!("node {node} ended with {status}: {said}"));
        }
        led_again(run, &many, &[node], "stopped");
        run.nodes.launch(node);
        let ready_ms = run.nodes.until_ready(node);
        run.entry.measure("ready_ms", ready_ms);
        led_again(run, &many, &[], "started again");
        run.fault_ended(since, &all);
    }
    run.recovers("all nodes are back", RECOVERY_MAX);
}

/// Waits until somebody else leads each of the many.
fn led_again(run: &mut Run, many: &Directory, gone: &[usize], what: &str) {
    let others: Vec<usize> =
        run.nodes.ids().into_iter().filter(|id| !gone.contains(id)).collect();
    let all: Vec<u32> = (0..MANY).collect();
    let took = many.led_elsewhere(&others, &all, gone, LOOK_MAX * 2).unwrap_or(LOOK_MAX * 2);
    run.entry.leaderless.push(took);
    if took > LED_MAX {
        run.problem(format!("{gone:?} {what}: all partitions were led after {took:?}"));
    }
}

/// What each node's process has used of processors, in ticks.
fn ticks(nodes: &Nodes) -> Vec<u64> {
    let used = |id: usize| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", nodes.program(id).id())).ok()?;
        let fields = stat.rsplit_once(") ")?.1.split(' ');
        Some(fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
    };
    nodes.ids().into_iter().map(|id| used(id).unwrap_or(0)).collect()
}

/// The most that a node has in memory.
fn resident_mib(nodes: &Nodes) -> u64 {
    let resident = |id: usize| {
        let path = format!("/proc/{}/status", nodes.program(id).id());
        let status = std::fs::read_to_string(path).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    nodes.ids().into_iter().filter_map(resident).max().unwrap_or(0) / 1_024
}
