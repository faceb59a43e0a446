//! What a cluster costs whose partitions sleep: CPU and memory.
//!
//! ```text
//!   two clusters start ── one gets 3,000 partitions, a record each ── 30 s ── 60 s counted
//! ```
//!
//! The cluster without topics is as old as the other one at every look: what it has is what a node
//! has anyway.

use super::many::{PARTITIONS, fill};
use super::{Home, NODES, scaled_time};
use crate::cluster::Cluster;
use crate::counters::{Memory, Threads, memory, proportional_bytes, threads_cpu};
use crate::failure::Failure;
use crate::report::{Gate, Row, Unit};
use crate::rows::Context;
use std::time::{Duration, Instant};

/// From the last record until the first look.
const CALM: Duration = Duration::from_secs(30);
/// How long CPU time is counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Of both, where loads are scaled.
const LEAST: Duration = Duration::from_secs(3);

const MIB: f64 = 1024.0 * 1024.0;

/// CPU and memory.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let empty = Home::start(context)?;
    let full = Home::start(context)?;
    let partitions = context.scaled(PARTITIONS);
    let began = Instant::now();
    fill(context, &full.cluster, partitions)?;
    let filled = began.elapsed();
    std::thread::sleep(scaled_time(context, CALM, LEAST));
    let idle = look(context, &full.cluster, &empty.cluster)?;
    let mut rows = vec![idle.cpu_row(context, partitions)?, idle.memory_row(context, partitions)?];
    for row in &mut rows {
        let took = format!("{:.1} s", filled.as_secs_f64());
        row.beside.push(("made, and a record each, in", took));
    }
    Ok(rows)
}

/// A node's costs, with topics and without.
struct Cost {
    percent: f64,
    empty_percent: f64,
    memory: Memory,
    empty_memory: Memory,
    proportional: Option<u64>,
    empty_proportional: Option<u64>,
}

/// Those of all nodes.
struct Idle {
    nodes: Vec<Cost>,
    window: Duration,
}

fn threads_of(cluster: &Cluster) -> Result<Vec<Threads>, Failure> {
    cluster.pids().into_iter().map(threads_cpu).collect()
}

/// Counts CPU time for a while, then looks at memory.
fn look(context: &Context, full: &Cluster, empty: &Cluster) -> Result<Idle, Failure> {
    let begun = Instant::now();
    let (before, empty_before) = (threads_of(full)?, threads_of(empty)?);
    std::thread::sleep(scaled_time(context, WINDOW, LEAST));
    let (after, empty_after) = (threads_of(full)?, threads_of(empty)?);
    let window = begun.elapsed();
    let percents = |before: &[Threads], after: &[Threads]| -> Vec<f64> {
        let ran = after.iter().zip(before).map(|(after, before)| after.ran_since(before));
        ran.map(|ran| ran.as_secs_f64() / window.as_secs_f64() * 100.0).collect()
    };
    let percents = percents(&before, &after).into_iter().zip(percents(&empty_before, &empty_after));
    let pids = full.pids().into_iter().zip(empty.pids());
    let mut nodes = Vec::new();
    for ((percent, empty_percent), (pid, empty_pid)) in percents.zip(pids) {
        nodes.push(Cost {
            percent,
            empty_percent,
            memory: memory(pid)?,
            empty_memory: memory(empty_pid)?,
            proportional: proportional_bytes(pid),
            empty_proportional: proportional_bytes(empty_pid),
        });
    }
    Ok(Idle { nodes, window })
}

impl Idle {
    /// The most of any node.
    fn most(&self, of: impl Fn(&Cost) -> f64) -> f64 {
        self.nodes.iter().map(of).fold(f64::NEG_INFINITY, f64::max)
    }

    /// Each node's, in order.
    fn each(&self, decimals: usize, of: impl Fn(&Cost) -> f64) -> String {
        let each = self.nodes.iter().map(|node| format!("{:.decimals$}", of(node)));
        each.collect::<Vec<_>>().join(", ")
    }

    fn cpu_row(&self, context: &Context, partitions: u64) -> Result<Row, Failure> {
        let most = self.most(|node| node.percent);
        let mut row = context.row("idle_cluster_cpu", Unit::PercentOfCore, &[most])?;
        row.gates = vec![Gate::FigureAtMost(3.0)];
        row.contract = self.contract(context, partitions);
        row.contract.push(("clock", "schedstat of all threads; the most of any node".to_owned()));
        row.beside = vec![
            ("each node", format!("{} %", self.each(3, |node| node.percent))),
            ("without topics", format!("{} %", self.each(3, |node| node.empty_percent))),
        ];
        Ok(row)
    }

    fn memory_row(&self, context: &Context, partitions: u64) -> Result<Row, Failure> {
        let more = |of: fn(&Memory) -> u64| {
            move |node: &Cost| (of(&node.memory) as f64 - of(&node.empty_memory) as f64) / MIB
        };
        let (resident, anonymous) =
            (more(|memory| memory.resident), more(|memory| memory.anonymous));
        let of_files = more(|memory| memory.of_files);
        let most = self.most(resident);
        let mut row = context.row("idle_cluster_memory", Unit::Mebibytes, &[most])?;
        row.gates = vec![Gate::FigureAtMost(40.0)];
        row.contract = self.contract(context, partitions);
        row.contract
            .push(("measured", "VmRSS beyond that of the cluster without topics".to_owned()));
        let all = |node: &Cost| node.memory.resident as f64 / MIB;
        let empty = |node: &Cost| node.empty_memory.resident as f64 / MIB;
        let shares = |node: &Cost| {
            let more = node.proportional.zip(node.empty_proportional);
            more.map_or(f64::NAN, |(full, empty)| (full as f64 - empty as f64) / MIB)
        };
        let each_kib = most * 1024.0 / partitions.max(1) as f64;
        row.beside = vec![
            ("each node", format!("{} MiB more", self.each(1, resident))),
            ("of it anonymous", format!("{} MiB", self.each(1, anonymous))),
            ("of it pages of files", format!("{} MiB", self.each(1, of_files))),
            ("more by Pss", format!("{} MiB", self.each(1, shares))),
            ("a partition", format!("{each_kib:.1} KiB")),
            ("all resident", format!("{} MiB", self.each(1, all))),
            ("without topics", format!("{} MiB", self.each(1, empty))),
        ];
        Ok(row)
    }

    fn contract(&self, context: &Context, partitions: u64) -> Vec<(&'static str, String)> {
        let calm = scaled_time(context, CALM, LEAST).as_secs_f64();
        let window = self.window.as_secs_f64();
        vec![
            ("nodes", format!("{NODES} processes on this machine, settings that nobody changed")),
            ("partitions", format!("{partitions}, replication factor 3, 1 record of 1 KiB each")),
            ("window", format!("{window:.0} s, from {calm:.0} s after the last record on")),
            ("beside it", "a cluster without topics, as old at every look".to_owned()),
            ("connections", "none".to_owned()),
            ("filesystem", context.machine.filesystem.clone()),
            ("repeats", "1".to_owned()),
        ]
    }
}
