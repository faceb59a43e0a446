//! The rows of clusters that live for years: most partitions sleep, nodes come back, disks rot,
//! copies move.
//!
//! ```text
//!   idle_cluster   3,000 partitions that sleep, beside a cluster without any
//!   idle_restart   the same: a node is killed and back, and at once another is killed
//!   repair         segments of one node are damaged or gone     ┐ beside paced producers
//!   learner        a node without a copy gets one               ┘ to other partitions
//! ```
//!
//! Three nodes run as three processes on one machine, with the settings that nobody changed, on one
//! filesystem. What a node does here takes processors and disk from the other two, as it does not
//! where each has a machine of its own.
//!
//! Absent on purpose: time itself. What grows over years, such as logs and their number, is made.

mod back;
mod idle;
mod learner;
mod many;
mod repair;

use super::{Context, Kind, compare};
use crate::cleanup::Scratch;
use crate::cluster::{self, Cluster, Site};
use crate::failure::Failure;
use crate::paced::Lateness;
use crate::report::{Gate, Row, Unit};
use crate::stats::Summary;
use std::time::Duration;

/// The numbers of clusters that live long, in the order in which they run.
pub const LONG_LIVED: &[Kind] = &[
    Kind {
        name: "idle_cluster",
        about: "3,000 sleeping partitions: CPU and memory",
        foreign: false,
        run: idle::run,
    },
    Kind {
        name: "idle_restart",
        about: "3,000 partitions: a node back from kill -9, leaders back",
        foreign: false,
        run: back::run,
    },
    Kind {
        name: "repair",
        about: "a damaged and a lost segment, and p99 of others meanwhile",
        foreign: false,
        run: repair::run,
    },
    Kind {
        name: "learner",
        about: "1 GiB to a new replica, and p99 meanwhile",
        foreign: false,
        run: learner::run,
    },
];

const NODES: usize = 3;

/// A cluster on empty directories, which go with this.
struct Home {
    cluster: Cluster,
    _places: Vec<Scratch>,
}

impl Home {
    fn start(context: &Context) -> Result<Self, Failure> {
        let places: Result<Vec<Scratch>, _> =
            (0..NODES).map(|_| context.directory("place")).collect();
        let places = places?;
        let sites: Vec<Site> = places.iter().map(|place| context.site(place.path())).collect();
        let cluster = Cluster::start(cluster::Plan {
            binary: &context.settings.binary,
            sites: &sites,
            are_exclusive: false,
            has_all_doors: true,
            settings: "",
        })?;
        Ok(Self { cluster, _places: places })
    }
}

/// A time, shorter where loads are, but never less than `least`.
fn scaled_time(context: &Context, time: Duration, least: Duration) -> Duration {
    time.mul_f64(context.settings.scale).max(least)
}

/// A p99 in both windows of each round, and how far apart they may be.
fn lateness_row(
    context: &Context,
    name: &str,
    probe: &'static str,
    rounds: &[(Lateness, Lateness)],
) -> Result<Row, Failure> {
    let of = |pick: fn(&(Lateness, Lateness)) -> u64| -> Vec<f64> {
        rounds.iter().map(|round| pick(round) as f64).collect()
    };
    let (disturbed, quiet) = (of(|round| round.0.p99_us), of(|round| round.1.p99_us));
    let mut row = context.row(name, Unit::Microseconds, &disturbed)?;
    compare(&mut row, probe, &disturbed, &quiet);
    row.gates = vec![Gate::RatioAtMost(2.0)];
    let middle = |values: &[f64]| Summary::of(values).map_or(0.0, |summary| summary.median);
    let both = |disturbed: Vec<f64>, quiet: Vec<f64>| {
        format!("{:.0}, undisturbed {:.0}", middle(&disturbed), middle(&quiet))
    };
    let (p50, quiet_p50) = (of(|round| round.0.p50_us), of(|round| round.1.p50_us));
    let (max, quiet_max) = (of(|round| round.0.max_us), of(|round| round.1.max_us));
    let (count, quiet_count) =
        (of(|round| round.0.samples as u64), of(|round| round.1.samples as u64));
    row.beside = vec![
        ("p50, us", both(p50, quiet_p50)),
        ("maximum, us", both(max, quiet_max)),
        ("records of a window", both(count, quiet_count)),
    ];
    Ok(row)
}

/// What several repeats gave, for what stands beside.
fn spread(samples: &[f64], decimals: usize, unit: &str) -> String {
    Summary::of(samples).map_or_else(
        || "none".to_owned(),
        |Summary { median, min, max }| {
            format!("{median:.decimals$} [{min:.decimals$} - {max:.decimals$}] {unit}")
        },
    )
}
