//! A node is killed and started again, and another is killed the moment it is back: how soon the
//! first one is ready, and how soon everything is led without the second.
//!
//! ```text
//!   kill 1 ── start 1 ── ready ─┬─ kill 2 ── all led ── each has taken a record ── start 2 ── rest
//!     └───── idle_restart ──────┘    └─ leaders_back ─┘
//! ```
//!
//! So the node that has just come back has to vote: the second kill leaves no other majority.

use super::many::{PARTITIONS, fill, same, until, until_taken};
use super::{Home, NODES, scaled_time, spread};
use crate::client::Client;
use crate::cluster::{Cluster, id};
use crate::failure::Failure;
use crate::placement::Led;
use crate::report::{Gate, Row, Unit};
use crate::rows::Context;
use std::time::{Duration, Instant};

/// From the last record until the first kill, and from each round's end until the next one's:
/// partitions sleep by then, and nodes lead what they are to lead.
const CALM: Duration = Duration::from_secs(30);
/// The same where loads are scaled.
const LEAST: Duration = Duration::from_secs(12);

/// The rows.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let mut home = Home::start(context)?;
    let partitions = context.scaled(PARTITIONS);
    fill(context, &home.cluster, partitions)?;
    let mut rounds = Vec::new();
    for round in 0..context.settings.pairs {
        std::thread::sleep(scaled_time(context, CALM, LEAST));
        rounds.push(kill_two(&mut home.cluster, round % NODES)?);
    }
    rows(context, partitions, &rounds)
}

/// What one round of kills took.
struct Round {
    /// From just before exec until the ready line had been read.
    ready: Duration,
    /// What the line says that it took.
    ready_ms: u64,
    /// From the kill of another node until everything was led.
    led: Duration,
    /// Partitions that the other node had led.
    moved: usize,
    /// How often those refused a record, although they were said to be led.
    refusals: usize,
    /// From the same kill until each of them had taken one.
    taken: Duration,
}

/// Kills a node and starts it; once it is ready, kills the next one.
fn kill_two(cluster: &mut Cluster, first: usize) -> Result<Round, Failure> {
    let (second, survivor) = ((first + 1) % NODES, (first + 2) % NODES);
    let mut client = Client::connect(cluster.address(survivor)?)?;
    cluster.kill(first);
    let running = cluster.start_again(first)?;
    let (ready, ready_ms) = (running.ready, running.ready_ms);
    let mut moved = client.all_partitions()?;
    moved.retain(|one| one.is_led_by(id(second)));
    let killed = Instant::now();
    cluster.kill(second);
    let lost = |one: &Led| one.leader.is_none() || one.is_led_by(id(second));
    let all = until(&mut client, "partitions without a leader", lost)?;
    let led = killed.elapsed();
    let moved = same(&moved, all);
    let refusals = until_taken(&mut client, moved.clone())?;
    let taken = killed.elapsed();
    cluster.start_again(second)?;
    Ok(Round { ready, ready_ms, led, moved: moved.len(), refusals, taken })
}

fn rows(context: &Context, partitions: u64, rounds: &[Round]) -> Result<Vec<Row>, Failure> {
    let of = |pick: fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(pick).collect() };
    let ready = of(|round| round.ready.as_secs_f64());
    let mut restart = context.row("idle_restart", Unit::Seconds, &ready)?;
    restart.gates = vec![Gate::FigureAtMost(2.0)];
    let load = format!("{partitions}, replication factor 3, few records each");
    let nodes = format!("{NODES} processes on this machine, each in turn");
    restart.contract = vec![
        ("nodes", nodes.clone()),
        ("partitions", load.clone()),
        ("end", "kill -9, all others alive".to_owned()),
        ("measured", "just before exec to ready line read".to_owned()),
        ("filesystem", context.machine.filesystem.clone()),
        ("page cache", "cached, but for what a start doubts and drops".to_owned()),
        ("repeats", rounds.len().to_string()),
    ];
    let said = of(|round| round.ready_ms as f64);
    restart.beside = vec![("ready_ms", spread(&said, 0, "ms"))];
    let led = of(|round| round.led.as_secs_f64());
    let mut leaders = context.row("leaders_back", Unit::Seconds, &led)?;
    leaders.gates = vec![Gate::FigureAtMost(10.0)];
    leaders.contract = vec![
        ("nodes", nodes),
        ("partitions", load),
        ("end", "kill -9, at once when another node is back from its own".to_owned()),
        (
            "measured",
            "kill until Metadata of the third node has a living leader for all".to_owned(),
        ),
        ("filesystem", context.machine.filesystem.clone()),
        ("repeats", rounds.len().to_string()),
    ];
    let (moved, taken) = (of(|round| round.moved as f64), of(|round| round.taken.as_secs_f64()));
    let refusals = of(|round| round.refusals as f64);
    leaders.beside = vec![
        ("the killed node had led", spread(&moved, 0, "partitions")),
        ("each of those took a record after", spread(&taken, 2, "s")),
        ("refused until then", spread(&refusals, 0, "records")),
    ];
    Ok(vec![restart, leaders])
}
