//! Brokers for tests: how soon they are there, in the process and as one, and what they cost.

use super::Context;
use crate::command::{cargo, target_directory};
use crate::counters::memory;
use crate::failure::Failure;
use crate::machine::output;
use crate::native;
use crate::native::client::{connect, first_ack};
use crate::process::{Running, own_program, told_by_child};
use crate::report::{Gate, Row, Unit};
use crate::stats::quantile;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Brokers in one process, one after the other.
const SERIES: u64 = 1_000;

/// Brokers in one process that a client has a record acknowledged by.
const STARTS: u64 = 200;

/// Processes that are started, one after the other.
const PROCESSES: u64 = 200;

/// What memory may have grown by, in MiB, from the first half of the series to the second: noise
/// of an allocator, and next to nothing for each of its brokers.
const GROWN_MIB_MAX: f64 = 8.0;

const MIB: f64 = 1024.0 * 1024.0;

/// The rows.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let debug = if context.settings.with_debug { Some(debug_build()?) } else { None };
    let mut rows = in_process(context, debug.as_ref())?;
    rows.push(as_process(context, debug.as_ref())?);
    rows.push(idle(context)?);
    Ok(rows)
}

/// Programs of the debug profile.
struct Debug {
    bench: PathBuf,
    bateau: PathBuf,
}

fn debug_build() -> Result<Debug, Failure> {
    eprintln!("building with the debug profile too");
    let bench = ["-p", "bateau-benches", "--bin", "native_light", "-p", "bateau"];
    let bench = [&["build", "--locked"][..], &bench, &["--bin", "bateau"]].concat();
    output(&cargo(), &bench)?;
    let directory = target_directory()?.join("debug");
    Ok(Debug { bench: directory.join("native_light"), bateau: directory.join("bateau") })
}

/// What a series of brokers in one process told.
struct Series {
    /// Microseconds until each step of each broker, sorted.
    started: Vec<u64>,
    connected: Vec<u64>,
    acknowledged: Vec<u64>,
    closed: Vec<u64>,
    dropped: Vec<u64>,
    total_seconds: f64,
    early: Held,
    late: Held,
}

#[derive(Clone, Copy)]
struct Held {
    descriptors: f64,
    threads: f64,
    resident_bytes: f64,
}

impl Series {
    /// - `through`: what is done with each broker, `nothing`, or a record by a client.
    fn of(program: &Path, count: u64, through: &str) -> Result<Self, Failure> {
        let count = count.to_string();
        let told =
            told_by_child(program, &["test-brokers", "--count", &count, "--through", through])?;
        let wrong = || Failure::unexpected("what a series of brokers told", &told, "its figures");
        let number = |value: Option<&Value>| value.and_then(Value::as_f64).ok_or_else(wrong);
        let held = |name: &str| {
            let of = |what: &str| number(told.get(name).and_then(|held| held.get(what)));
            let (descriptors, threads) = (of("descriptors")?, of("threads")?);
            Ok::<_, Failure>(Held { descriptors, threads, resident_bytes: of("resident_bytes")? })
        };
        let step = |name: &str| {
            let times = told.get(name).and_then(Value::as_array).ok_or_else(wrong)?;
            let times: Result<Vec<f64>, _> = times.iter().map(|ms| number(Some(ms))).collect();
            Ok::<_, Failure>(sorted(&times?))
        };
        Ok(Self {
            started: step("started")?,
            connected: step("connected")?,
            acknowledged: step("acknowledged")?,
            closed: step("closed")?,
            dropped: step("dropped")?,
            total_seconds: number(told.get("total_ms"))? / 1e3,
            early: held("early")?,
            late: held("late")?,
        })
    }

    /// Medians of all steps.
    fn steps_text(&self) -> String {
        let p50 = |step: &[u64]| quantile_ms(step, 0.5);
        format!(
            "started {:.1} ms, connected {:.1}, acknowledged {:.1}, closed {:.1}, dropped {:.1}",
            p50(&self.started),
            p50(&self.connected),
            p50(&self.acknowledged),
            p50(&self.closed),
            p50(&self.dropped)
        )
    }
}

/// Milliseconds as sorted microseconds.
fn sorted(times: &[f64]) -> Vec<u64> {
    // Times are seconds at most, far within what a float counts exactly.
    let mut sorted: Vec<u64> = times.iter().map(|ms| (ms * 1e3).round() as u64).collect();
    sorted.sort_unstable();
    sorted
}

fn quantile_ms(sorted_us: &[u64], share: f64) -> f64 {
    quantile(sorted_us, share).unwrap_or_default() as f64 / 1e3
}

/// Text of median and 99th percentile.
fn spread_text(sorted_us: &[u64]) -> String {
    let (p50, p99) = (quantile_ms(sorted_us, 0.5), quantile_ms(sorted_us, 0.99));
    format!("p50 {p50:.1} ms, p99 {p99:.1} ms")
}

const FIRST_ACK: &str = "ack of 1 record of bateau-client: connect, topic made on first use, send";

fn in_process(context: &Context, debug: Option<&Debug>) -> Result<Vec<Row>, Failure> {
    let own = own_program()?;
    let count = context.scaled(STARTS);
    let native = Series::of(&own, count, "native")?;
    let figure = quantile_ms(&native.acknowledged, 0.99);
    let mut start = context.row("testbroker_start", Unit::Milliseconds, &[figure])?;
    start.gates = vec![Gate::FigureAtMost(20.0)];
    start.unjudged = None;
    start.contract = vec![
        ("measured", "p99 from TestBroker::start to the first ack, in process".to_owned()),
        ("to", FIRST_ACK.to_owned()),
        ("store", "in memory".to_owned()),
        ("starts", format!("{count}, one after the other")),
    ];
    let kafka = Series::of(&own, count, "kafka")?;
    start.beside = vec![
        ("p50 of the steps", native.steps_text()),
        ("through the Kafka door", spread_text(&kafka.acknowledged)),
    ];
    if let Some(debug) = debug {
        let series = Series::of(&debug.bench, count.div_ceil(4), "native")?;
        start.beside.push(("debug profile", spread_text(&series.acknowledged)));
    }
    let count = context.scaled(SERIES);
    let alone = Series::of(&own, count, "nothing")?;
    let mut series = context.row("testbroker_series", Unit::Seconds, &[alone.total_seconds])?;
    series.gates = vec![Gate::FigureAtMost(30.0)];
    series.contract = vec![("series", format!("{count} brokers, started and dropped in turn"))];
    series.beside = vec![("p50 of the steps", alone.steps_text())];
    Ok([vec![start, series], left_behind(context, &alone, &native)?].concat())
}

/// What a process holds more in the second half of a series than in the first.
fn left_behind(context: &Context, alone: &Series, native: &Series) -> Result<Vec<Row>, Failure> {
    let held = |held: Held| held.descriptors + held.threads;
    let left = held(alone.late) - held(alone.early);
    let mut left = context.row("testbroker_left", Unit::Held, &[left])?;
    left.gates = vec![Gate::FigureAtMost(0.0)];
    let grown = |series: &Series| (series.late.resident_bytes - series.early.resident_bytes) / MIB;
    let mut memory = context.row("testbroker_memory", Unit::Mebibytes, &[grown(alone)])?;
    memory.gates = vec![Gate::FigureAtMost(GROWN_MIB_MAX)];
    let text = |held: Held| {
        let Held { descriptors, threads, resident_bytes } = held;
        let resident = resident_bytes / MIB;
        format!("{descriptors} descriptors, {threads} threads, {resident:.1} MiB")
    };
    for row in [&mut left, &mut memory] {
        row.unjudged = None;
        row.contract = vec![(
            "measured",
            "growth, second half of `testbroker_series` over the first".to_owned(),
        )];
        row.beside = vec![
            ("first half, at most", text(alone.early)),
            ("second half", text(alone.late)),
            ("with a client each, first half", text(native.early)),
            ("with a client each, second half", text(native.late)),
        ];
    }
    Ok(vec![left, memory])
}

fn as_process(context: &Context, debug: Option<&Debug>) -> Result<Row, Failure> {
    let count = context.scaled(PROCESSES);
    let us = process_starts(context, &context.settings.binary, count)?;
    let mut row =
        context.row("testbroker_process", Unit::Milliseconds, &[quantile_ms(&us, 0.99)])?;
    row.gates = vec![Gate::FigureAtMost(50.0)];
    row.unjudged = None;
    row.contract = vec![
        ("measured", "p99 from just before exec to the first ack".to_owned()),
        ("to", FIRST_ACK.to_owned()),
        ("process", "bateau dev --ephemeral --test-control".to_owned()),
        ("page cache", "binary cached".to_owned()),
        ("starts", format!("{count}, one after the other")),
    ];
    row.beside = vec![("p50", format!("{:.1} ms", quantile_ms(&us, 0.5)))];
    if let Some(debug) = debug {
        let us = process_starts(context, &debug.bateau, count.div_ceil(5))?;
        row.beside.push(("debug profile", spread_text(&us)));
    }
    Ok(row)
}

fn process_starts(context: &Context, binary: &Path, count: u64) -> Result<Vec<u64>, Failure> {
    let mut times = Vec::new();
    for _ in 0..count {
        let place = context.file("process");
        let running = Running::broker_with(binary, &place, &["--ephemeral", "--test-control"])?;
        first_record(&running)?;
        times.push(running.started.elapsed().as_secs_f64() * 1e3);
        running.stop()?;
    }
    Ok(sorted(&times))
}

/// Connects, and has a record acknowledged.
fn first_record(running: &Running) -> Result<(), Failure> {
    let door = running.native;
    let door = door.ok_or_else(|| Failure::unexpected("ready line", "no native door", "one"))?;
    native::run(async { first_ack(&connect(door).await?).await })
}

/// Resident memory of `dev` with all of its doors, after a record.
fn idle(context: &Context) -> Result<Row, Failure> {
    let (mut resident, mut anonymous) = (Vec::new(), 0);
    for _ in 0..context.settings.pairs {
        let data = context.directory("data")?;
        let running = context.broker(data.path())?;
        first_record(&running)?;
        let found = memory(running.pid())?;
        resident.push(found.resident as f64 / MIB);
        anonymous = found.anonymous.max(anonymous);
        running.kill();
    }
    let mut row = context.row("dev_rss", Unit::Mebibytes, &resident)?;
    row.gates = vec![Gate::FigureAtMost(20.0)];
    row.unjudged = None;
    row.contract = vec![
        ("measured", "VmRSS after 1 acknowledged record, files and program included".to_owned()),
        ("doors", "Kafka, native, HTTP".to_owned()),
        ("repeats", context.settings.pairs.to_string()),
    ];
    row.beside = vec![("anonymous, largest", format!("{:.1} MiB", anonymous as f64 / MIB))];
    Ok(row)
}
