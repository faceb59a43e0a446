//! What a producer and a consumer notice of clients that behave badly.

use super::{Context, compare};
use crate::abuse::{self, Abuse, Counts};
use crate::bystander::{Outcome, Plan, run as stand_by};
use crate::client::Client;
use crate::counters::settle;
use crate::failure::Failure;
use crate::report::{Gate, Row, Unit};
use crate::stats::{Summary, interleave};
use std::time::Duration;

/// Records of a slice: 3 s.
const RECORDS: u64 = 3_000;

const INTERVAL: Duration = Duration::from_millis(1);

const SILENT: usize = 2_000;

const STALLED: usize = 64;

/// Time between two bad frames, besides what the peer takes to close.
const BAD_INTERVAL: Duration = Duration::from_millis(5);

/// The row.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let target = context.target()?;
    let topic = context.topic("bystander");
    let mut client = target.client()?;
    client.create_topic(&topic, 1)?;
    let records = u32::try_from(context.scaled(RECORDS)).unwrap_or(u32::MAX);
    let slice = |client: &mut Client| {
        settle();
        let offset = client.record_count(&topic, 0..1)?;
        let (topic, interval) = (topic.clone(), INTERVAL);
        stand_by(&Plan { address: target.address, topic, offset, records, interval })
    };
    slice(&mut client)?;
    let mut other = target.client()?;
    let mut counts = Counts::default();
    let disturbed = |_| {
        let abuse = Abuse::begin(&abuse::Plan {
            address: target.address,
            topic: topic.clone(),
            silent: SILENT,
            stalled: STALLED,
            interval: BAD_INTERVAL,
        })?;
        let noticed = slice(&mut client);
        let ended = abuse.end();
        // What the bystander met says more than what the abusers met.
        let noticed = noticed?;
        counts = ended?;
        Ok(noticed)
    };
    let (disturbed, quiet) = interleave(context.settings.pairs, disturbed, |_| slice(&mut other))?;
    let p99 = |outcomes: &[Outcome]| -> Vec<f64> {
        outcomes.iter().map(|outcome| outcome.delivered_p99_us as f64).collect()
    };
    let (ours, undisturbed) = (p99(&disturbed), p99(&quiet));
    let mut row = context.row("bystander", Unit::Microseconds, &ours)?;
    compare(&mut row, "the same p99 without abusive clients", &ours, &undisturbed);
    row.gates = vec![Gate::RatioAtMost(2.0)];
    row.contract = contract(context, records);
    row.beside = noticed(&disturbed, &quiet);
    let Counts { bad, settled, corrupt, refused } = counts;
    row.beside.extend([
        ("bad frames of the last slice", format!("{settled} of {bad} closed or answered")),
        ("corrupt batches of the last slice", format!("{refused} of {corrupt} refused")),
    ]);
    client.delete_topic(&topic)?;
    Ok(vec![row])
}

fn contract(context: &Context, records: u32) -> Vec<(&'static str, String)> {
    let rate = Duration::from_secs(1).as_micros() / INTERVAL.as_micros();
    vec![
        ("measured", "p99 from intended send to delivery, open loop".to_owned()),
        ("batch", "1 record of 1 KiB".to_owned()),
        ("rate", format!("{rate}/s, {records} records a slice")),
        ("connections", "1 producer, 1 consumer".to_owned()),
        ("beside it", format!("{SILENT} silent, {STALLED} stalled inside a frame")),
        ("and", format!("a bad frame and a corrupt batch every {} ms", BAD_INTERVAL.as_millis())),
        ("durability", context.durability_text()),
        ("filesystem", context.machine.filesystem.clone()),
        ("pairs", context.pairs_text()),
    ]
}

/// What the bystander noticed besides its p99, with and without abusive clients.
pub(super) fn noticed(disturbed: &[Outcome], quiet: &[Outcome]) -> Vec<(&'static str, String)> {
    let show = |of: fn(&Outcome) -> u64| {
        let median = |outcomes: &[Outcome]| {
            let values: Vec<f64> = outcomes.iter().map(|outcome| of(outcome) as f64).collect();
            Summary::of(&values).map_or(0.0, |summary| summary.median)
        };
        format!("{:.0} us, undisturbed {:.0}", median(disturbed), median(quiet))
    };
    vec![
        ("p50", show(|outcome| outcome.delivered_p50_us)),
        ("ack p99", show(|outcome| outcome.acknowledged_p99_us)),
        ("maximum", show(|outcome| outcome.delivered_max_us)),
    ]
}
