//! `send` of the client with its own batching, against a bare loop that is sent the same batches.
//!
//! The batches that the client made are read back from the topic and replayed: against the bare
//! loop, and once more against the broker, which tells what the client itself costs.

use super::produce::{BARE, Sink};
use super::transport_text;
use crate::counters::settle;
use crate::failure::Failure;
use crate::native;
use crate::native::client::{connect, send};
use crate::native::peer::Peer;
use crate::native::replay::{Line, Plan, produce_frames};
use crate::payload::Noise;
use crate::report::{Gate, Row, Unit};
use crate::rows::{Context, Slice, Target, compare, cpu_per_gigabyte};
use crate::stats::{Summary, interleave};
use bateau_protocol::ids::TopicId;
use bytes::Bytes;
use std::cell::RefCell;
use std::rc::Rc;

/// Records of a slice: 256 MiB.
const RECORDS: u64 = 262_144;

/// Records that may be unacknowledged.
const INFLIGHT: usize = 256;

const VALUE_BYTES: usize = 1_024;

/// Values that differ from each other.
const DISTINCT: usize = 1_024;

/// Batches as they stand in the log, each with its records.
type Batches = Rc<Vec<(Bytes, u32)>>;

/// What the client did, and what the same batches take without it.
struct Ours {
    client: Slice,
    frames: Slice,
    batches: usize,
}

struct Load {
    values: Vec<Bytes>,
    records: u64,
}

impl Load {
    fn amount(&self) -> u64 {
        self.records * VALUE_BYTES as u64
    }

    fn plan(batches: &Batches) -> Plan {
        Plan { requests: batches.len() as u64, inflight: INFLIGHT as u64 }
    }

    /// The client's slice, on a new topic that goes afterwards, and the batches that it made.
    fn by_client(&self, context: &Context, target: &Target) -> Result<(Slice, Batches), Failure> {
        let (topic, door) = (context.topic("send"), target.door()?);
        native::run(async {
            let mut peer = Peer::connect(door).await?;
            let topic_id = peer.create_topic(&topic).await?;
            let client = connect(door).await?;
            settle();
            let before = target.cpu(context)?;
            let outcome = send(&client, &topic, &self.values, self.records, INFLIGHT).await?;
            let cpu = before.zip(target.cpu(context)?).map(|(from, to)| to.saturating_sub(from));
            peer.expect_records(topic_id, self.records).await?;
            let batches = peer.batches(topic_id).await?;
            let found: u64 = batches.iter().map(|(_, records)| u64::from(*records)).sum();
            if found != self.records {
                return Err(Failure::unexpected("records read back", found, self.records));
            }
            peer.delete_topic(&topic).await?;
            client.close().await.map_err(|error| Failure::quic("closing the client", error))?;
            peer.close().await;
            Ok((Slice::new(outcome, cpu, self.amount()), Rc::new(batches)))
        })
    }

    /// The same batches without the client, on a new topic that goes afterwards.
    fn by_frames(
        &self,
        context: &Context,
        target: &Target,
        batches: &Batches,
    ) -> Result<Slice, Failure> {
        let (topic, door) = (context.topic("send"), target.door()?);
        native::run(async {
            let mut peer = Peer::connect(door).await?;
            let topic_id = peer.create_topic(&topic).await?;
            let mut line = Line::to_broker(Peer::connect(door).await?).await?;
            let frames = produce_frames(topic_id, batches.iter().cloned())?;
            settle();
            let before = target.cpu(context)?;
            let outcome = line.replay(Self::plan(batches), &frames).await?;
            let cpu = before.zip(target.cpu(context)?).map(|(from, to)| to.saturating_sub(from));
            peer.expect_records(topic_id, self.records).await?;
            peer.delete_topic(&topic).await?;
            line.close().await;
            peer.close().await;
            Ok(Slice::new(outcome, cpu, self.amount()))
        })
    }
}

/// The row.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let mut noise = Noise::new(61);
    let values = (0..DISTINCT).map(|_| noise.bytes(VALUE_BYTES).into()).collect();
    let load = Load { values, records: context.scaled(RECORDS) };
    let target = context.target()?;
    let (_, warm_up) = load.by_client(context, &target)?;
    // Where the bare loop goes first in a pair it gets the batches of the pair before.
    let latest = RefCell::new(warm_up);
    let ours = |_| {
        let (client, batches) = load.by_client(context, &target)?;
        let frames = load.by_frames(context, &target, &batches)?;
        let count = batches.len();
        latest.replace(batches);
        Ok(Ours { client, frames, batches: count })
    };
    let bare = |_| {
        let batches = Rc::clone(&latest.borrow());
        let frames = produce_frames(TopicId::default(), batches.iter().cloned())?;
        Sink::start(context, &frames)?.replay(Load::plan(&batches), &frames, load.amount())
    };
    let (ours, bare) = interleave(context.settings.pairs, ours, bare)?;
    let rate = |slice: &Slice| load.records as f64 / slice.wall.as_secs_f64();
    let client: Vec<Slice> = ours.iter().map(|ours| ours.client).collect();
    let rates: Vec<f64> = client.iter().map(rate).collect();
    let bare_rates: Vec<f64> = bare.iter().map(rate).collect();
    let mut row = context.row("send", Unit::RecordsPerSecond, &rates)?;
    compare(&mut row, BARE, &rates, &bare_rates);
    row.gates = vec![Gate::FigureAtLeast(250_000.0), Gate::RatioAtLeast(0.5)];
    row.contract = contract(context, &load);
    cpu_per_gigabyte(&mut row, &client, &bare);
    let middle = |of: &dyn Fn(&Ours) -> f64| {
        let all: Vec<f64> = ours.iter().map(of).collect();
        Summary::of(&all).map_or(0.0, |summary| summary.median)
    };
    let frames = middle(&|ours| rate(&ours.frames));
    let each = middle(&|ours| load.records as f64 / ours.batches as f64);
    row.beside.push(("the broker without the client", format!("{frames:.0} records/s")));
    row.beside.push(("records in a batch", format!("{each:.1}")));
    Ok(vec![row])
}

fn contract(context: &Context, load: &Load) -> Vec<(&'static str, String)> {
    let records = load.records;
    vec![
        ("record", format!("{VALUE_BYTES} bytes, seeded noise")),
        ("client", "bateau-client, a producer with its defaults, idempotent".to_owned()),
        ("batches", "the client's own; the bare loop is sent the same".to_owned()),
        ("transport", transport_text()),
        ("connections", "1".to_owned()),
        ("in flight", format!("{INFLIGHT} records")),
        ("partitions", "1".to_owned()),
        ("slice", format!("{records} records, {} MiB, burst", load.amount() >> 20)),
        ("durability", context.durability_text()),
        ("filesystem", context.machine.filesystem.clone()),
        ("files", "new, allocated, per slice; both sides".to_owned()),
        ("page cache", "synced before each slice, nothing dropped".to_owned()),
        ("pairs", context.pairs_text()),
    ]
}
