//! From exec to the first acknowledged record, on an empty data directory.

use super::{Context, compare};
use crate::client::{Client, PRODUCE_VERSION};
use crate::counters::process_cpu;
use crate::failure::{Failure, Tried, accepted};
use crate::payload::{Noise, Shape, produce_request};
use crate::process::Running;
use crate::report::{Gate, Row, Unit};
use crate::stats::{Summary, interleave};
use bateau_protocol::kafka::api::produce::ProduceResponse;
use bateau_protocol::kafka::decode_response;
use std::process::{Command, Stdio};
use std::time::Instant;

/// The row.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let (mut ready, mut cpu) = (Vec::new(), Vec::new());
    let ours = |_| {
        let data = context.directory("data")?;
        let running = context.broker(data.path())?;
        first_ack(&running)?;
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

/// What a client does until its first record is acknowledged, to a topic that does not exist yet.
pub(super) fn first_ack(running: &Running) -> Result<(), Failure> {
    const TOPIC: &str = "first-light";
    let mut client = Client::connect(running.address)?;
    client.await_topic(TOPIC)?;
    let request = produce_request(TOPIC, 0, Shape::SINGLE.batch(&mut Noise::new(2))?)?;
    let answer = client.call_encoded(&request, "the first record")?;
    let (_, answer) = decode_response::<ProduceResponse>(answer, PRODUCE_VERSION)?;
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut partitions = partitions.peekable();
    if partitions.peek().is_none() {
        return Err(Failure::unexpected("first ack", "no partition", 1));
    }
    partitions
        .try_for_each(|partition| accepted(partition.error_code, || "the first record".to_owned()))
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
