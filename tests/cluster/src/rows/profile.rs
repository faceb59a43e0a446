//! P8: networks that are slow, lose, double, overtake and damage.
//!
//! Invariant: packets that it happened to were counted on their way.
//! Absent on purpose: a limit for each profile. One has a number; under all, what was acknowledged
//! is there, and nothing else.

use super::flap::percent;
use super::{Form, RECOVERY_MAX, Run, all_partitions};
use crate::load;
use crate::packets::Profile;
use std::time::Duration;

/// What five lost packets of a hundred leave of the batches that are acknowledged in a second.
const KEPT_SHARE_MIN: f64 = 0.4;
/// The profile that has this limit.
const LIMITED: &str = "lost 5 %";

/// A run has one of them.
const PROFILES: [Profile; 12] = [
    named(Profile { delay_ms: 50, ..CLEAN }, "delay 50 ms"),
    named(Profile { delay_ms: 50, jitter_ms: 25, ..CLEAN }, "delay 50 ± 25 ms"),
    named(Profile { delay_ms: 200, ..CLEAN }, "delay 200 ms"),
    named(Profile { delay_ms: 200, jitter_ms: 100, ..CLEAN }, "delay 200 ± 100 ms"),
    named(Profile { lost: 10, ..CLEAN }, "lost 1 %"),
    named(Profile { lost: 50, ..CLEAN }, LIMITED),
    named(Profile { lost: 200, ..CLEAN }, "lost 20 %"),
    named(Profile { doubled: 50, ..CLEAN }, "doubled 5 %"),
    named(Profile { overtaken: 250, ..CLEAN }, "overtaken 25 %"),
    named(Profile { damaged: 10, ..CLEAN }, "damaged 1 %"),
    named(Profile { delay_ms: 50, jitter_ms: 25, damaged: 10, ..UNTIDY }, "all, 50 ± 25 ms"),
    named(Profile { delay_ms: 200, jitter_ms: 100, lost: 50, ..UNTIDY }, "most, 200 ± 100 ms"),
];
const CLEAN: Profile =
    Profile { name: "", delay_ms: 0, jitter_ms: 0, lost: 0, doubled: 0, overtaken: 0, damaged: 0 };
const UNTIDY: Profile = Profile { lost: 10, doubled: 50, overtaken: 250, ..CLEAN };

const fn named(profile: Profile, name: &'static str) -> Profile {
    Profile { name, ..profile }
}

/// P8: the profiles in turn, one a run.
pub(super) fn packets(run: &mut Run) {
    let count = PROFILES.len() as u64;
    let number = (run.entry.seed % count + run.entry.run % count) % count;
    let profile = PROFILES[usize::try_from(number).expect("it is small")];
    profile.name.clone_into(&mut run.entry.variant);
    let (healthy, faulty) = match run.form {
        Form::Short => (Duration::from_secs(2), Duration::from_secs(5)),
        Form::Long => (Duration::from_secs(15), Duration::from_secs(60)),
    };
    let from = run.load.now();
    std::thread::sleep(healthy);
    let before = load::rate(&run.load.acks(), from, run.load.now());
    run.entry.measure("rate_healthy", before.round().abs() as u64);
    let (fates, ended) = (fates(run), links_ended(run));
    let since = run.now();
    run.nodes.network.tunnels().expect("this row has them").set(profile);
    std::thread::sleep(faulty);
    let kept = load::rate(&run.load.acks(), since.moment, run.load.now()) / before;
    run.entry.measure("rate_kept_percent", percent(kept));
    if profile.name == LIMITED && kept < KEPT_SHARE_MIN {
        run.problem(format!("{:.0} % of the throughput was left", kept * 100.0));
    }
    run.fault_ended(since, &all_partitions());
    run.nodes.network.tunnels().expect("this row has them").set(CLEAN);
    for ((name, count), (_, before)) in self::fates(run).into_iter().zip(fates) {
        run.entry.observe(name, count - before);
    }
    let ended = links_ended(run) - ended;
    run.entry.measure("links_ended", ended);
    if profile.damaged > 0 && ended == 0 {
        run.problem("packets were damaged, and nobody has ended a link over it".to_owned());
    }
    let took = run.recovers("all packets pass again", RECOVERY_MAX);
    run.entry.recoveries.push(took);
}

/// How often a node has ended the link of a peer, as over each damaged frame.
fn links_ended(run: &Run) -> u64 {
    let said = run.nodes.ids().into_iter().map(|id| run.nodes.said(id));
    said.map(|said| said.matches("a peer's link has ended").count() as u64).sum()
}

fn fates(run: &Run) -> [(&'static str, u64); 5] {
    run.nodes.network.tunnels().expect("this row has them").fates().counts()
}
