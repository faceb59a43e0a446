//! What a node costs that nobody talks to: memory, and CPU with 100 partitions.

use super::Context;
use crate::client::{Client, PRODUCE_VERSION, first_ack};
use crate::counters::{memory, process_cpu};
use crate::failure::{Failure, accepted};
use crate::payload::{Noise, Shape, produce_requests};
use crate::report::{Gate, Row, Unit};
use bateau_protocol::kafka::api::produce::ProduceResponse;
use bateau_protocol::kafka::decode_response;
use std::time::{Duration, Instant};

/// Partitions of the node whose CPU is measured.
const PARTITIONS: i32 = 100;

/// What a start leaves to be done is done after so long.
const CALM: Duration = Duration::from_secs(2);

/// How long CPU time is counted, each time.
const WINDOW: Duration = Duration::from_secs(3);

const MIB: f64 = 1024.0 * 1024.0;

/// Resident memory of a fresh node after its first record.
pub(super) fn rss(context: &Context) -> Result<Vec<Row>, Failure> {
    let (mut resident, mut anonymous) = (Vec::new(), 0);
    for _ in 0..context.settings.pairs {
        let data = context.directory("data")?;
        let running = context.broker(data.path())?;
        first_ack(running.address)?;
        let found = memory(running.pid())?;
        resident.push(found.resident as f64 / MIB);
        anonymous = found.anonymous.max(anonymous);
        running.kill();
    }
    let mut row = context.row("idle_rss", Unit::Mebibytes, &resident)?;
    row.gates = vec![Gate::FigureAtMost(20.0)];
    row.unjudged = None;
    row.contract = vec![
        ("measured", "VmRSS after 1 acknowledged record, files and program included".to_owned()),
        ("partitions", "1".to_owned()),
        ("repeats", context.settings.pairs.to_string()),
    ];
    row.beside = vec![("anonymous, largest", format!("{:.1} MiB", anonymous as f64 / MIB))];
    Ok(vec![row])
}

/// CPU time of a node with 100 partitions that nobody uses.
pub(super) fn cpu(context: &Context) -> Result<Vec<Row>, Failure> {
    let data = context.directory("data")?;
    let running = context.broker(data.path())?;
    let mut client = Client::connect(running.address)?;
    let topic = context.topic("idle");
    client.create_topic(&topic, PARTITIONS)?;
    let mut noise = Noise::new(23);
    let distinct = usize::try_from(PARTITIONS).unwrap_or(1);
    for request in produce_requests(&topic, 0..PARTITIONS, distinct, Shape::SINGLE, &mut noise)? {
        let answer = client.call_encoded(&request, "a record each")?;
        let (_, answer) = decode_response::<ProduceResponse>(answer, PRODUCE_VERSION)?;
        for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            accepted(partition.error_code, || "a record each".to_owned())?;
        }
    }
    client.expect_records(&topic, PARTITIONS, i64::from(PARTITIONS))?;
    std::thread::sleep(CALM);
    let mut percent = Vec::new();
    for _ in 0..context.settings.pairs {
        let (start, before) = (Instant::now(), process_cpu(running.pid())?);
        std::thread::sleep(WINDOW);
        let used = process_cpu(running.pid())?.saturating_sub(before);
        percent.push(used.as_secs_f64() / start.elapsed().as_secs_f64() * 100.0);
    }
    let resident = memory(running.pid())?.resident as f64 / MIB;
    let mut row = context.row("idle_cpu", Unit::PercentOfCore, &percent)?;
    row.gates = vec![Gate::FigureAtMost(0.5)];
    row.unjudged = None;
    row.contract = vec![
        ("partitions", format!("{PARTITIONS}, 1 record each")),
        ("connections", "1, silent".to_owned()),
        ("window", format!("{} s, after {} s of calm", WINDOW.as_secs(), CALM.as_secs())),
        ("clock", "schedstat of all threads".to_owned()),
        ("repeats", context.settings.pairs.to_string()),
    ];
    row.beside = vec![("resident", format!("{resident:.1} MiB"))];
    Ok(vec![row])
}
