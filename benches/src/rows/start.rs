//! From exec to the first acknowledged record, on an empty data directory.

use super::{Context, compare};
use crate::client::first_ack;
use crate::counters::process_cpu;
use crate::failure::{Failure, Tried};
use crate::report::{Gate, Row, Unit};
use crate::stats::{Summary, interleave};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The row.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let (mut ready, mut cpu) = (Vec::new(), Vec::new());
    let ours = |_| {
        let data = context.directory("data")?;
        let running = context.broker(data.path())?;
        first_ack(running.address)?;
        let took = running.started.elapsed().as_secs_f64() * 1e3;
        ready.push(running.ready.as_secs_f64() * 1e3);
        cpu.push(process_cpu(running.pid())?.as_secs_f64() * 1e3);
        running.kill();
        Ok(took)
    };
    let (ours, bare) = interleave(context.settings.pairs, ours, |_| bare_exec(context))?;
    let mut row = context.row("start", Unit::Milliseconds, &ours)?;
    compare(&mut row, "exec of the same binary that only prints its version", &ours, &bare);
    row.gates = vec![Gate::FigureAtMost(60.0)];
    row.unjudged = None;
    row.contract = vec![
        ("from", "just before exec, data directory absent".to_owned()),
        ("to", "ack of 1 record: connect, ApiVersions, Metadata that creates, Produce".to_owned()),
        ("durability", context.durability_text()),
        ("filesystem", context.machine.filesystem.clone()),
        ("page cache", "binary cached".to_owned()),
        ("pairs", context.pairs_text()),
    ];
    for (name, samples) in [("exec to ready line", ready), ("CPU until the ack", cpu)] {
        let show = |of: Summary| format!("{:.1} ms", of.median);
        row.beside.extend(Summary::of(&samples).map(show).map(|text| (name, text)));
    }
    Ok(vec![row])
}

fn bare_exec(context: &Context) -> Result<f64, Failure> {
    let start = Instant::now();
    let mut command = Command::new(&context.settings.binary);
    command.arg("version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().tried(|| "printing the version".to_owned())?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    if status.success() {
        return Ok(took);
    }
    Err(Failure::Process { what: "bateau version".to_owned(), said: status.to_string() })
}
