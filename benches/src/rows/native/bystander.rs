//! What a native client notices of others that behave badly.

use super::transport_text;
use crate::bystander::Outcome;
use crate::counters::settle;
use crate::failure::Failure;
use crate::native;
use crate::native::abuse::{self, Abuse, Counts};
use crate::native::bystander::{Plan, run as stand_by};
use crate::native::ends::Door;
use crate::native::peer::Peer;
use crate::report::{Gate, Row, Unit};
use crate::rows::bystander::noticed;
use crate::rows::{Context, compare};
use crate::stats::interleave;
use bateau_protocol::ids::TopicId;
use std::time::Duration;

/// Records of a slice: 3 s.
const RECORDS: u64 = 3_000;

const INTERVAL: Duration = Duration::from_millis(1);

/// The row.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let target = context.target()?;
    let door = target.door()?;
    let (own, abused) = (context.topic("bystander"), context.topic("abused"));
    let (topic_id, abused_id) = native::run(async {
        let mut peer = Peer::connect(door).await?;
        let topic_id = peer.create_topic(&own).await?;
        let abused_id = peer.create_topic(&abused).await?;
        abuse::fill(&peer, abused_id).await?;
        peer.close().await;
        Ok((topic_id, abused_id))
    })?;
    let records = u32::try_from(context.scaled(RECORDS)).unwrap_or(u32::MAX);
    let slice = || {
        settle();
        let offset = end_of(door, topic_id)?;
        stand_by(&Plan { door, topic_id, offset, records, interval: INTERVAL })
    };
    slice()?;
    let mut counts = Counts::default();
    let disturbed = |_| {
        let abuse = Abuse::begin(abuse::Plan { door, topic_id: abused_id })?;
        let noticed = slice();
        let ended = abuse.end();
        // What the bystander met says more than what the abusers met.
        let noticed = noticed?;
        counts = ended?;
        Ok(noticed)
    };
    let (disturbed, quiet) = interleave(context.settings.pairs, disturbed, |_| slice())?;
    let p99 = |outcomes: &[Outcome]| -> Vec<f64> {
        outcomes.iter().map(|outcome| outcome.delivered_p99_us as f64).collect()
    };
    let (ours, undisturbed) = (p99(&disturbed), p99(&quiet));
    let mut row = context.row("quic_bystander", Unit::Microseconds, &ours)?;
    compare(&mut row, "the same p99 without abusive clients", &ours, &undisturbed);
    row.gates = vec![Gate::RatioAtMost(2.0)];
    row.contract = contract(context, records);
    row.beside = noticed(&disturbed, &quiet);
    let Counts { garbage, half_open, offers, settled } = counts;
    row.beside.extend([
        ("datagrams of garbage in the last slice", garbage.to_string()),
        ("handshakes left half open in it", half_open.to_string()),
        ("offers in it", format!("{settled} of {offers} refused, closed or answered")),
    ]);
    Ok(vec![row])
}

fn end_of(door: Door, topic_id: TopicId) -> Result<i64, Failure> {
    native::run(async {
        let mut peer = Peer::connect(door).await?;
        let end = peer.end_of(topic_id).await?;
        peer.close().await;
        Ok(end)
    })
}

fn contract(context: &Context, records: u32) -> Vec<(&'static str, String)> {
    let per_second = |count: usize, interval: Duration| {
        format!("{} /s", count as u128 * 1_000 / interval.as_millis().max(1))
    };
    let garbage = per_second(abuse::GARBAGE_PER_LOT, abuse::LOT_INTERVAL);
    let half_open = per_second(abuse::HALF_OPEN_PER_LOT, abuse::LOT_INTERVAL);
    let (stalled, deaf) = (abuse::STALLED, abuse::DEAF);
    vec![
        ("measured", "p99 from intended send to delivery, open loop".to_owned()),
        ("batch", "1 record of 1 KiB".to_owned()),
        ("rate", format!("{}, {records} records a slice", per_second(1, INTERVAL))),
        ("transport", transport_text()),
        ("connections", "1 producer, 1 subscriber".to_owned()),
        ("beside it", format!("{stalled} stalled inside a frame, {deaf} that never read")),
        ("garbage", format!("{garbage} datagrams")),
        ("half open", format!("{half_open} handshakes, {} at most", abuse::HALF_OPEN)),
        (
            "offers",
            format!(
                "every {} ms a connection: bad frame, lie, overdraft or abandoned streams",
                abuse::OFFER_INTERVAL.as_millis()
            ),
        ),
        ("durability", context.durability_text()),
        ("filesystem", context.machine.filesystem.clone()),
        ("pairs", context.pairs_text()),
    ]
}
