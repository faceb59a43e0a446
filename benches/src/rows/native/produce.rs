//! Produce through the native door, against a loop that receives, checks, writes and acknowledges
//! over the same QUIC.
//!
//! Absent on purpose: several connections. One of them keeps two processors busy.

use super::{BareLoop, transport_text};
use crate::counters::{process_cpu, settle};
use crate::failure::Failure;
use crate::native;
use crate::native::peer::Peer;
use crate::native::replay::{Encoded, Line, Plan, produce_frames};
use crate::payload::{Noise, Shape};
use crate::report::{Gate, Row, Unit};
use crate::rows::{Context, Slice, Target, compare, cpu_per_gigabyte};
use crate::stats::interleave;
use bateau_protocol::ids::TopicId;
use bytes::Bytes;

/// What the bare loop is, in a row.
pub(super) const BARE: &str = "QUIC, CRC-32C, pwrite, fdatasync by a committer, ack";

/// Requests of a slice with one record each.
const SINGLES: u64 = 131_072;

/// Batches of a slice of bulk: 512 MiB.
const BATCHES: u64 = 8_192;

/// A load that both sides get.
struct Load {
    shape: Shape,
    plan: Plan,
    batches: Vec<(Bytes, u32)>,
}

impl Load {
    /// - `distinct`: batches that differ from each other, more than fit into the window.
    fn new(shape: Shape, plan: Plan, distinct: u64) -> Result<Self, Failure> {
        let mut noise = Noise::new(31);
        let batches: Result<Vec<_>, _> =
            (0..distinct).map(|_| Ok::<_, Failure>((shape.batch(&mut noise)?, 1))).collect();
        Ok(Self { shape, plan, batches: batches? })
    }

    /// Payload of a slice in bytes, batch headers included.
    fn bytes(&self) -> u64 {
        self.plan.requests * self.shape.batch_bytes as u64
    }

    fn records(&self) -> u64 {
        self.plan.requests * self.shape.records as u64
    }

    fn frames(&self, topic_id: TopicId) -> Result<Vec<Encoded>, Failure> {
        produce_frames(topic_id, self.batches.iter().cloned())
    }

    /// Replays against the broker, on a new topic, which goes afterwards.
    fn on_broker(&self, context: &Context, target: &Target) -> Result<Slice, Failure> {
        let (topic, door) = (context.topic("frames"), target.door()?);
        native::run(async {
            let mut peer = Peer::connect(door).await?;
            let topic_id = peer.create_topic(&topic).await?;
            let mut line = Line::to_broker(Peer::connect(door).await?).await?;
            let frames = self.frames(topic_id)?;
            settle();
            let before = target.cpu(context)?;
            let outcome = line.replay(self.plan, &frames).await?;
            let after = target.cpu(context)?;
            peer.expect_records(topic_id, self.records()).await?;
            peer.delete_topic(&topic).await?;
            line.close().await;
            peer.close().await;
            let cpu = before.zip(after).map(|(before, after)| after.saturating_sub(before));
            Ok(Slice::new(outcome, cpu, self.bytes()))
        })
    }

    /// Replays against the bare loop, on a new file, which goes afterwards.
    fn on_bare_loop(&self, context: &Context) -> Result<Slice, Failure> {
        let frames = self.frames(TopicId::default())?;
        // The set is repeated: its longest frame bounds them all.
        let longest = frames.iter().map(|request| request.frame.len() as u64).max();
        let bytes = self.plan.requests * longest.unwrap_or_default();
        Sink::with_room(context, bytes)?.replay(self.plan, &frames, self.bytes())
    }
}

/// A bare loop with a new file, which goes afterwards.
pub(super) struct Sink(BareLoop);

impl Sink {
    /// With room for each of these frames once.
    pub(super) fn start(context: &Context, frames: &[Encoded]) -> Result<Self, Failure> {
        Self::with_room(context, frames.iter().map(|request| request.frame.len() as u64).sum())
    }

    fn with_room(context: &Context, bytes: u64) -> Result<Self, Failure> {
        let arguments = ["bare-sink", "--bytes", &bytes.to_string()];
        BareLoop::start(context, &arguments, true).map(Self)
    }

    /// Replays against it; it ends with its connection.
    pub(super) fn replay(
        self,
        plan: Plan,
        frames: &[Encoded],
        amount: u64,
    ) -> Result<Slice, Failure> {
        let Self(bare) = self;
        native::run(async {
            let mut line = Line::to_bare_loop(bare.door).await?;
            settle();
            let before = process_cpu(bare.pid())?;
            let outcome = line.replay(plan, frames).await?;
            // Its counters end with its connection.
            let after = process_cpu(bare.pid())?;
            line.close().await;
            Ok(Slice::new(outcome, Some(after.saturating_sub(before)), amount))
        })
    }
}

/// One record per request.
pub(super) fn one_record(context: &Context) -> Result<Vec<Row>, Failure> {
    let plan = Plan { requests: context.scaled(SINGLES), inflight: 256 };
    let load = Load::new(Shape::SINGLE, plan, 1_024)?;
    let (ours, bare) = pairs(context, &load)?;
    let rate = |slices: &[Slice]| -> Vec<f64> {
        let records = load.records() as f64;
        slices.iter().map(|slice| records / slice.wall.as_secs_f64()).collect()
    };
    let (rates, bare_rates) = (rate(&ours), rate(&bare));
    let mut row = context.row("one_record", Unit::RecordsPerSecond, &rates)?;
    compare(&mut row, BARE, &rates, &bare_rates);
    row.gates = vec![Gate::FigureAtLeast(60_000.0), Gate::RatioAtLeast(0.15)];
    row.contract = contract(context, &load);
    cpu_per_gigabyte(&mut row, &ours, &bare);
    Ok(vec![row])
}

/// 64 KiB batches: throughput, and the broker's CPU time per byte.
pub(super) fn bulk(context: &Context) -> Result<Vec<Row>, Failure> {
    let plan = Plan { requests: context.scaled(BATCHES), inflight: 64 };
    let load = Load::new(Shape::BULK, plan, 128)?;
    let (ours, bare) = pairs(context, &load)?;
    let speed = |slices: &[Slice]| slices.iter().map(Slice::millions_per_second).collect();
    let (speeds, bare_speeds): (Vec<f64>, Vec<f64>) = (speed(&ours), speed(&bare));
    let mut row = context.row("bulk", Unit::MegabytesPerSecond, &speeds)?;
    compare(&mut row, BARE, &speeds, &bare_speeds);
    row.gates = vec![Gate::RatioAtLeast(0.6)];
    row.contract = contract(context, &load);
    cpu_per_gigabyte(&mut row, &ours, &bare);
    let cpu = |slices: &[Slice]| -> Vec<f64> {
        slices.iter().filter_map(Slice::server_us_each).map(|each| each * 1e3).collect()
    };
    let (cpus, bare_cpus) = (cpu(&ours), cpu(&bare));
    let mut cost = context.row("bulk_cpu", Unit::CpuSecondsPerGigabyte, &cpus)?;
    compare(&mut cost, BARE, &cpus, &bare_cpus);
    cost.gates = vec![Gate::RatioAtMost(1.3)];
    cost.contract = vec![("slices", "those of `bulk`; CPU time of all of the broker".to_owned())];
    Ok(vec![row, cost])
}

/// A warm-up, then interleaved slices of broker and bare loop.
fn pairs(context: &Context, load: &Load) -> Result<(Vec<Slice>, Vec<Slice>), Failure> {
    let target = context.target()?;
    let requests = load.plan.requests.div_ceil(4);
    let batches = load.batches.clone();
    let warm_up = Load { shape: load.shape, plan: Plan { requests, ..load.plan }, batches };
    warm_up.on_broker(context, &target)?;
    interleave(
        context.settings.pairs,
        |_| load.on_broker(context, &target),
        |_| load.on_bare_loop(context),
    )
}

/// What both sides of a produce row keep to.
fn contract(context: &Context, load: &Load) -> Vec<(&'static str, String)> {
    let Shape { records, batch_bytes } = load.shape;
    let Plan { requests, inflight } = load.plan;
    let noun = if records == 1 { "record" } else { "records" };
    vec![
        ("batch", format!("{batch_bytes} bytes, {records} {noun}, seeded noise")),
        ("transport", transport_text()),
        ("connections", "1, with one data stream".to_owned()),
        ("in flight", format!("{inflight} requests")),
        ("partitions", "1".to_owned()),
        ("slice", format!("{requests} requests, {} MiB, burst", load.bytes() >> 20)),
        ("durability", context.durability_text()),
        ("filesystem", context.machine.filesystem.clone()),
        ("files", "new, allocated, per slice; both sides".to_owned()),
        ("page cache", "synced before each slice, nothing dropped".to_owned()),
        ("pins", "none".to_owned()),
        ("pairs", context.pairs_text()),
    ]
}
