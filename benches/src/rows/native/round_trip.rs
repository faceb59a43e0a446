//! One flushed record with one in flight, against an echo over the same QUIC that flushes 4 KiB
//! before it answers.

use super::{BareLoop, transport_text};
use crate::counters::settle;
use crate::failure::Failure;
use crate::native;
use crate::native::client::{connect, round_trips};
use crate::native::peer::Peer;
use crate::native::replay::{Encoded, Line, check, produce_frames};
use crate::payload::{Noise, Shape};
use crate::report::{Gate, Row, Unit};
use crate::rows::{Context, Target, compare};
use crate::stats::{Summary, interleave, quantile};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::Frame;

/// Round trips of a slice.
const ROUND_TRIPS: u64 = 5_000;

const VALUE_BYTES: usize = 1_024;

/// Round trips before the first one that counts: path discovery, caches.
const WARM_UP: usize = 200;

/// Times of a slice in nanoseconds, sorted.
type Times = Vec<u64>;

fn request(topic_id: TopicId) -> Result<Encoded, Failure> {
    let batch = Shape::SINGLE.batch(&mut Noise::new(37))?;
    let encoded = produce_frames(topic_id, [(batch, 1)])?.pop();
    encoded.ok_or_else(|| Failure::unexpected("requests", 0, 1))
}

fn by_frames(context: &Context, target: &Target, count: usize) -> Result<Times, Failure> {
    let (topic, door) = (context.topic("round-trip"), target.door()?);
    native::run(async {
        let mut peer = Peer::connect(door).await?;
        let topic_id = peer.create_topic(&topic).await?;
        let request = request(topic_id)?;
        let mut line = Line::to_broker(Peer::connect(door).await?).await?;
        let acknowledged = |frame| check(frame, 0);
        line.round_trips(WARM_UP, &request, acknowledged).await?;
        settle();
        let times = line.round_trips(count, &request, acknowledged).await?;
        peer.expect_records(topic_id, (WARM_UP + count) as u64).await?;
        peer.delete_topic(&topic).await?;
        line.close().await;
        peer.close().await;
        Ok(times)
    })
}

/// The client's round trips, and those of frames without it.
struct Ours {
    client: Times,
    frames: Times,
}

impl Ours {
    fn take(context: &Context, target: &Target, count: usize) -> Result<Self, Failure> {
        let client = by_client(context, target, count)?;
        Ok(Self { client, frames: by_frames(context, target, count)? })
    }
}

fn by_client(context: &Context, target: &Target, count: usize) -> Result<Times, Failure> {
    let (topic, door) = (context.topic("round-trip"), target.door()?);
    let value = Noise::new(37).bytes(VALUE_BYTES).into();
    native::run(async {
        let mut peer = Peer::connect(door).await?;
        let topic_id = peer.create_topic(&topic).await?;
        let client = connect(door).await?;
        round_trips(&client, &topic, &value, WARM_UP).await?;
        settle();
        let times = round_trips(&client, &topic, &value, count).await?;
        peer.expect_records(topic_id, (WARM_UP + count) as u64).await?;
        peer.delete_topic(&topic).await?;
        client.close().await.map_err(|error| Failure::quic("closing the client", error))?;
        peer.close().await;
        Ok(times)
    })
}

/// - `flushes`: whether it writes and flushes before it sends back.
fn on_echo(context: &Context, count: usize, flushes: bool) -> Result<Times, Failure> {
    let room = (WARM_UP + count).to_string();
    let bare = BareLoop::start(context, &["bare-echo", "--round-trips", &room], flushes)?;
    let request = request(TopicId::default())?;
    native::run(async {
        let mut line = Line::to_bare_loop(bare.door).await?;
        let echoed = |frame: Frame| {
            let (found, expected) = (frame.body.len(), request.frame.len());
            let whole = found + native::loops::HEAD_BYTES == expected && frame.correlation == 0;
            whole.then_some(()).ok_or_else(|| Failure::unexpected("echo", found, expected))
        };
        line.round_trips(WARM_UP, &request, echoed).await?;
        settle();
        let times = line.round_trips(count, &request, echoed).await?;
        line.close().await;
        Ok(times)
    })
}

/// The rows: median and 99th percentile of the same slices.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let target = context.target()?;
    let count = usize::try_from(context.scaled(ROUND_TRIPS)).unwrap_or(usize::MAX);
    Ours::take(context, &target, count.div_ceil(4))?;
    let (ours, bare) = interleave(
        context.settings.pairs,
        |_| Ours::take(context, &target, count),
        |_| on_echo(context, count, true),
    )?;
    let bare_echo = on_echo(context, count, false)?;
    let (client, frames): (Vec<Times>, Vec<Times>) =
        ours.into_iter().map(|Ours { client, frames }| (client, frames)).unzip();
    let of = |slices: &[Times], share| -> Vec<f64> {
        let us = |times: &Times| quantile(times, share).unwrap_or_default() as f64 / 1e3;
        slices.iter().map(us).collect()
    };
    let mut rows = Vec::new();
    for (name, share, ratio_max) in [("round_trip", 0.5, 1.6), ("round_trip_p99", 0.99, 2.0)] {
        let (figures, probes) = (of(&client, share), of(&bare, share));
        let mut row = context.row(name, Unit::Microseconds, &figures)?;
        compare(&mut row, "QUIC echo after one 4 KiB write and its fdatasync", &figures, &probes);
        row.gates = vec![Gate::RatioAtMost(ratio_max)];
        row.contract = contract(context, share, count);
        let echo = of(std::slice::from_ref(&bare_echo), share);
        let show = |found: Summary| format!("{:.0} us", found.median);
        for (name, figures) in
            [("the broker without the client", of(&frames, share)), ("echo without flush", echo)]
        {
            row.beside.extend(Summary::of(&figures).map(show).map(|text| (name, text)));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn contract(context: &Context, share: f64, count: usize) -> Vec<(&'static str, String)> {
    vec![
        ("measured", format!("p{:.0} from sending to the answer, closed loop", share * 100.0)),
        ("record", format!("{VALUE_BYTES} bytes, seeded noise")),
        ("client", "bateau-client, a producer with its defaults, idempotent".to_owned()),
        ("transport", transport_text()),
        ("in flight", "1".to_owned()),
        ("slice", format!("{count} round trips after {WARM_UP} unmeasured")),
        ("durability", context.durability_text()),
        ("filesystem", context.machine.filesystem.clone()),
        ("files", "new, allocated, per slice; both sides".to_owned()),
        ("pairs", context.pairs_text()),
    ]
}
