//! Fetch of data that is in memory, against a loop that writes 256 KiB at a time from a map.

use super::{Context, Slice, compare, cpu_per_gigabyte};
use crate::counters::{process_cpu, settle};
use crate::failure::Failure;
use crate::fetcher::{Outcome, Plan, drain, fetch};
use crate::loader;
use crate::payload::{Noise, Shape, produce_requests};
use crate::probe::FETCH_WRITE_BYTES;
use crate::report::{Gate, Row, Unit};
use crate::stats::interleave;
use std::time::Duration;

/// Batches of one answer: 1 MiB.
const BATCHES: usize = 16;

/// Answers that hold the whole topic: 512 MiB.
const ANSWERS: u64 = 512;

/// How often a slice reads the topic: 2 GiB in all.
const PASSES: usize = 4;

/// One answer is made while the one before is read.
const INFLIGHT: usize = 2;

/// The row.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let target = context.target()?;
    let topic = context.topic("fetch");
    let mut client = target.client()?;
    client.create_topic(&topic, 1)?;
    let answers = usize::try_from(context.scaled(ANSWERS)).unwrap_or(1);
    let mut noise = Noise::new(31);
    let set = produce_requests(&topic, 0..1, 64, Shape::BULK, &mut noise)?;
    let requests = (answers * BATCHES) as u64;
    let fill = loader::Plan { address: target.address, requests, inflight: 16 };
    loader::replay(fill, vec![set])?;
    settle();
    let plan = Plan {
        address: target.address,
        topic: topic.clone(),
        shape: Shape::BULK,
        batches: BATCHES,
        requests: answers,
        passes: PASSES,
        inflight: INFLIGHT,
    };
    // Not counted: maps and connections are made, memory is touched for the first time.
    fetch(&Plan { passes: 1, ..plan.clone() })?;
    let ours = |_| {
        let before = target.cpu(context)?;
        let outcome = fetch(&plan)?;
        let cpu = before.zip(target.cpu(context)?);
        Ok(slice(outcome, cpu.map(|(before, after)| after.saturating_sub(before))))
    };
    let bytes = (answers * BATCHES * Shape::BULK.batch_bytes) as u64;
    let bare = |_| on_bare_loop(context, bytes, bytes * PASSES as u64);
    let (ours, bare) = interleave(context.settings.pairs, ours, bare)?;
    client.delete_topic(&topic)?;
    let speed = |slices: &[Slice]| slices.iter().map(Slice::millions_per_second).collect();
    let (speeds, bare_speeds): (Vec<f64>, Vec<f64>) = (speed(&ours), speed(&bare));
    let mut row = context.row("fetch", Unit::MegabytesPerSecond, &speeds)?;
    compare(&mut row, "writes of 256 KiB from a map, nothing asked", &speeds, &bare_speeds);
    row.gates = vec![Gate::RatioAtLeast(0.5)];
    row.contract = vec![
        ("answer", format!("1 MiB, {BATCHES} batches of 64 KiB, 62 records each, seeded noise")),
        ("connections", "1".to_owned()),
        ("in flight", format!("{INFLIGHT}; the bare loop streams")),
        ("partitions", "1".to_owned()),
        ("slice", format!("{} MiB read {PASSES} times, burst", bytes >> 20)),
        ("durability", "written and flushed before".to_owned()),
        ("filesystem", context.machine.filesystem.clone()),
        ("page cache", format!("cached; written in {} KiB pieces", FETCH_WRITE_BYTES >> 10)),
        ("pins", "none".to_owned()),
        ("pairs", context.pairs_text()),
    ];
    cpu_per_gigabyte(&mut row, &ours, &bare);
    Ok(vec![row])
}

fn slice(outcome: Outcome, server_cpu: Option<Duration>) -> Slice {
    Slice {
        wall: outcome.wall,
        server_cpu,
        loader_cpu: outcome.loader_cpu,
        amount: outcome.payload_bytes,
    }
}

fn on_bare_loop(context: &Context, file_bytes: u64, total: u64) -> Result<Slice, Failure> {
    let directory = context.directory("bare")?;
    let place = directory.path().to_string_lossy().into_owned();
    let (file_text, total_text) = (file_bytes.to_string(), total.to_string());
    let arguments =
        ["bare-fetch", "--directory", &place, "--bytes", &file_text, "--total", &total_text];
    let running = context.bare_loop(&arguments)?;
    settle();
    let before = process_cpu(running.pid())?;
    let (outcome, after) = drain(running.address, total, || process_cpu(running.pid()))?;
    running.kill();
    Ok(slice(outcome, Some(after?.saturating_sub(before))))
}
