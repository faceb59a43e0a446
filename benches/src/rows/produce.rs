//! Produce through the Kafka door, against a loop that receives, checks, writes and acknowledges.

use super::{Context, Slice, Target, compare, cpu_per_gigabyte};
use crate::counters::{process_cpu, settle};
use crate::failure::{Failure, Tried};
use crate::loader::{Outcome, Plan, replay};
use crate::payload::{Noise, Shape, produce_requests};
use crate::report::{Gate, Row, Unit};
use crate::stats::interleave;

/// Batches of a slice: 512 MiB.
const REQUESTS: u64 = 8_192;

/// Batches that differ from each other.
const DISTINCT: usize = 64;

const INFLIGHT: usize = 16;

/// A load that the broker and the bare loop both get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Load {
    pub(super) shape: Shape,
    pub(super) connections: usize,
    pub(super) requests_each: u64,
    pub(super) distinct: usize,
}

impl Load {
    fn sets(&self, topic: &str) -> Result<Vec<Vec<Vec<u8>>>, Failure> {
        let set = |seed| {
            let mut noise = Noise::new(seed);
            produce_requests(topic, 0..1, self.distinct, self.shape, &mut noise)
        };
        (0..self.connections as u64).map(set).collect()
    }

    /// Payload of a slice in bytes, batch headers included.
    pub(super) fn bytes(&self) -> u64 {
        self.connections as u64 * self.requests_each * self.shape.batch_bytes as u64
    }

    fn records(&self) -> i64 {
        let requests = self.connections as u64 * self.requests_each;
        i64::try_from(requests * self.shape.records as u64).unwrap_or(i64::MAX)
    }

    /// Replays against the broker, on a new topic with one partition, which goes afterwards.
    pub(super) fn on_broker(
        &self,
        context: &Context,
        target: &Target,
    ) -> Result<(Outcome, Option<std::time::Duration>), Failure> {
        let topic = context.topic("produce");
        let mut client = target.client()?;
        client.create_topic(&topic, 1)?;
        let sets = self.sets(&topic)?;
        settle();
        let before = target.cpu(context)?;
        let plan =
            Plan { address: target.address, requests: self.requests_each, inflight: INFLIGHT };
        let outcome = replay(plan, sets)?;
        let after = target.cpu(context)?;
        client.expect_records(&topic, 1, self.records())?;
        client.delete_topic(&topic)?;
        let cpu = before.zip(after).map(|(before, after)| after.saturating_sub(before));
        Ok((outcome, cpu))
    }

    /// Replays against the bare loop, on a new file, which goes afterwards.
    pub(super) fn on_bare_loop(
        &self,
        context: &Context,
    ) -> Result<(Outcome, std::time::Duration), Failure> {
        let sets = self.sets("bare")?;
        let requests = self.connections as u64 * self.requests_each;
        let request_bytes = sets.iter().flatten().map(Vec::len).max().unwrap_or_default() as u64;
        let path = context.file("bare");
        let (bytes, connections) =
            ((requests * request_bytes).to_string(), self.connections.to_string());
        let file = path.to_string_lossy().into_owned();
        let running = context.bare_loop(&[
            "bare-produce",
            "--connections",
            &connections,
            "--file",
            &file,
            "--bytes",
            &bytes,
        ])?;
        settle();
        let before = process_cpu(running.pid())?;
        let plan =
            Plan { address: running.address, requests: self.requests_each, inflight: INFLIGHT };
        // Its receivers end with their connections, and their counters with them: the ends of the
        // connections are kept until the counters have been read.
        let (outcome, cpu) = crate::loader::replay_then(plan, sets, || process_cpu(running.pid()))?;
        running.kill();
        std::fs::remove_file(&path).tried(|| path.display().to_string())?;
        Ok((outcome, cpu?.saturating_sub(before)))
    }
}

/// The row.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let load = Load {
        shape: Shape::BULK,
        connections: 1,
        requests_each: context.scaled(REQUESTS),
        distinct: DISTINCT,
    };
    let target = context.target()?;
    let warm_up = Load { requests_each: load.requests_each.div_ceil(4), ..load };
    warm_up.on_broker(context, &target)?;
    let slice = |(outcome, server_cpu): (Outcome, _)| Slice {
        wall: outcome.wall,
        server_cpu,
        loader_cpu: outcome.loader_cpu,
        amount: load.bytes(),
    };
    let (ours, bare) = interleave(
        context.settings.pairs,
        |_| load.on_broker(context, &target).map(slice),
        |_| load.on_bare_loop(context).map(|(outcome, cpu)| slice((outcome, Some(cpu)))),
    )?;
    let speed = |slices: &[Slice]| slices.iter().map(Slice::millions_per_second).collect();
    let (speeds, bare_speeds): (Vec<f64>, Vec<f64>) = (speed(&ours), speed(&bare));
    let mut row = context.row("produce", Unit::MegabytesPerSecond, &speeds)?;
    compare(
        &mut row,
        "read, CRC-32C, pwrite, fdatasync by a committer, ack",
        &speeds,
        &bare_speeds,
    );
    row.gates = vec![Gate::RatioAtLeast(0.5)];
    row.contract = contract(context, &load);
    cpu_per_gigabyte(&mut row, &ours, &bare);
    Ok(vec![row])
}

/// What both sides of a produce row keep to.
pub(super) fn contract(context: &Context, load: &Load) -> Vec<(&'static str, String)> {
    let Shape { records, batch_bytes } = load.shape;
    let requests = load.connections as u64 * load.requests_each;
    let amount = format!("{requests} requests, {} MiB, burst", load.bytes() >> 20);
    vec![
        ("batch", format!("{batch_bytes} bytes, {records} records, seeded noise")),
        ("connections", load.connections.to_string()),
        ("in flight", format!("{INFLIGHT} each")),
        ("partitions", "1".to_owned()),
        ("slice", amount),
        ("durability", context.durability_text()),
        ("filesystem", context.machine.filesystem.clone()),
        ("files", "new, allocated, per slice; both sides".to_owned()),
        ("page cache", "synced before each slice, nothing dropped".to_owned()),
        ("pins", "none".to_owned()),
        ("pairs", context.pairs_text()),
    ]
}
