//! Killed with -9, started again: how long until the node is ready.

use super::{Context, compare};
use crate::cleanup::Scratch;
use crate::client::Client;
use crate::counters::{process_cpu, settle};
use crate::failure::Failure;
use crate::loader::{Plan, replay};
use crate::payload::{Noise, Shape, produce_requests};
use crate::report::{Gate, Row, Unit};
use crate::stats::{Summary, interleave};

/// Batches of 64 KiB: 2 GiB.
const REQUESTS: u64 = 32_768;

const CONNECTIONS: u64 = 4;

/// The row with 100 partitions.
pub(super) fn hundred(context: &Context) -> Result<Vec<Row>, Failure> {
    run(context, "recovery_100", 100)
}

/// The row with one partition.
pub(super) fn one(context: &Context) -> Result<Vec<Row>, Failure> {
    run(context, "recovery_1", 1)
}

fn run(context: &Context, name: &'static str, partitions: i32) -> Result<Vec<Row>, Failure> {
    let requests_each = context.scaled(REQUESTS).div_ceil(CONNECTIONS);
    let (mut said, mut cpu) = (Vec::new(), Vec::new());
    let ours = |_| {
        let data = fill_and_kill(context, partitions, requests_each)?;
        settle();
        let running = context.broker(data.path())?;
        cpu.push(process_cpu(running.pid())?.as_secs_f64() * 1e3);
        said.push(running.ready_ms as f64);
        let mut client = Client::connect(running.address)?;
        client.expect_records(TOPIC, partitions, records(requests_each))?;
        let took = running.ready.as_secs_f64() * 1e3;
        running.kill();
        Ok(took)
    };
    let empty = |_| {
        let data = context.directory("data")?;
        let running = context.broker(data.path())?;
        Ok(running.ready.as_secs_f64() * 1e3)
    };
    let (ours, empty) = interleave(context.settings.pairs, ours, empty)?;
    let mut row = context.row(name, Unit::Milliseconds, &ours)?;
    compare(&mut row, "the same on an empty directory", &ours, &empty);
    row.gates = vec![Gate::FigureAtMost(1_000.0)];
    let mib = (requests_each * CONNECTIONS * Shape::BULK.batch_bytes as u64) >> 20;
    row.contract = vec![
        ("data", format!("{mib} MiB in {partitions} partitions, written anew for each repeat")),
        ("batch", format!("{} bytes, {} records", Shape::BULK.batch_bytes, Shape::BULK.records)),
        ("end", "kill -9 after the last ack".to_owned()),
        ("measured", "just before exec to ready line read; all records counted then".to_owned()),
        ("filesystem", context.machine.filesystem.clone()),
        ("page cache", "cached and synced at exec; the broker drops what it doubts".to_owned()),
        ("pairs", context.pairs_text()),
    ];
    for (name, samples) in [("ready_ms", said), ("CPU until ready, ms", cpu)] {
        let show = |of: Summary| format!("{:.0} [{:.0} - {:.0}]", of.median, of.min, of.max);
        row.beside.extend(Summary::of(&samples).map(show).map(|text| (name, text)));
    }
    Ok(vec![row])
}

const TOPIC: &str = "recovery";

fn records(requests_each: u64) -> i64 {
    let records = requests_each * CONNECTIONS * Shape::BULK.records as u64;
    i64::try_from(records).unwrap_or(i64::MAX)
}

/// The data directory of a node that was killed after its last ack.
fn fill_and_kill(
    context: &Context,
    partitions: i32,
    requests_each: u64,
) -> Result<Scratch, Failure> {
    let data = context.directory("data")?;
    let running = context.broker(data.path())?;
    let mut client = Client::connect(running.address)?;
    client.create_topic(TOPIC, partitions)?;
    // Every connection writes to every partition.
    let distinct = usize::try_from(partitions).unwrap_or(1).max(32);
    let set = |seed| {
        let mut noise = Noise::new(seed);
        produce_requests(TOPIC, 0..partitions, distinct, Shape::BULK, &mut noise)
    };
    let sets: Result<Vec<_>, _> = (0..CONNECTIONS).map(set).collect();
    let plan = Plan { address: running.address, requests: requests_each, inflight: 16 };
    replay(plan, sets?)?;
    client.expect_records(TOPIC, partitions, records(requests_each))?;
    running.kill();
    Ok(data)
}
