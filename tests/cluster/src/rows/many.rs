//! P22: a thousand partitions beside those at work: a node is killed, started again, and then all
//! are started anew, one after the other.
//!
//! Invariant: a kill is seen at the target, as in P1.
//! Absent on purpose: a load on the many. What they cost is being there; each is asked whether it
//! takes a record, and that is all.

use super::{RECOVERY_MAX, Run, all_partitions};
use crate::ledger::Entry;
use crate::load::{Directory, RETRY_PAUSE, dial};
use crate::nodes::Nodes;
use crate::wire::{self, Wire};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Partitions beside those at work, with a replica on each of three nodes.
const MANY: u32 = 1_000;
const TOPIC: &str = "many";
/// All take a record within so long.
const TAKEN_MAX: Duration = Duration::from_secs(30);
/// How long it is looked for that, and how long one may think about a record.
const LOOK_MAX: Duration = Duration::from_secs(90);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Before it is measured what the idle ones cost, and for how long that is measured.
const SETTLED: Duration = Duration::from_secs(30);
const MEASURED: Duration = Duration::from_secs(60);
/// Clock ticks of a second, as `/proc` has them.
const TICKS: u64 = 100;

/// Makes the partitions and measures what they cost while nobody is at work.
pub(super) fn prepare(nodes: &Nodes, entry: &mut Entry) {
    let empty = resident_mib(nodes);
    let directory = Directory::new(&nodes.ids(), &[], TOPIC);
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
    let many = Directory::new(&run.nodes.ids(), &[], TOPIC);
    run.breathe();
    let (victim, led) = run.leader();
    let since = run.now();
    run.nodes.kill(victim);
    run.entry.observe("kills", 1);
    taken(run, &many, &format!("node {victim} was killed"));
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
        taken(run, &many, &format!("node {node} has stopped"));
        run.nodes.launch(node);
        let ready_ms = run.nodes.until_ready(node);
        run.entry.measure("ready_ms", ready_ms);
        taken(run, &many, &format!("node {node} was started again"));
        run.fault_ended(since, &all_partitions());
    }
    run.recovers("all nodes are back", RECOVERY_MAX);
}

/// Waits until each of the many has taken a record.
fn taken(run: &mut Run, many: &Directory, what: &str) {
    let begun = Instant::now();
    let mut left: Vec<u32> = (0..MANY).collect();
    let mut wires = BTreeMap::new();
    while !left.is_empty() && begun.elapsed() < LOOK_MAX {
        many.refresh(None);
        left.retain(|partition| !takes(many, *partition, &mut wires));
        std::thread::sleep(RETRY_PAUSE);
    }
    let took = begun.elapsed();
    run.entry.recoveries.push(took);
    if took > TAKEN_MAX {
        let left = left.len();
        run.problem(format!("{what}: the many took records after {took:?}, {left} did not"));
    }
}

/// Whether a partition's leader, if there is one, takes a record.
fn takes(many: &Directory, partition: u32, wires: &mut BTreeMap<usize, Wire>) -> bool {
    let Some(leader) = many.leader(partition) else { return false };
    let Some(mut wire) = wires.remove(&leader).or_else(|| dial(leader).ok()) else { return false };
    let request = wire::produce(TOPIC, partition, &[partition.into()], None, ANSWER_TIMEOUT);
    let Ok(answer) = wire.call(&request, ANSWER_TIMEOUT) else { return false };
    wires.insert(leader, wire);
    wire::produced(&answer).0 == 0
}

/// What each node's process has used of processors, in ticks.
fn ticks(nodes: &Nodes) -> Vec<u64> {
    let used = |id: usize| {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", nodes.program(id).id())).ok()?;
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
