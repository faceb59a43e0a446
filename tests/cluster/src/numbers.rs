//! Numbers that are no row: how soon a topic takes records, how soon a large node is back.
//!
//! Invariant: a time is what a client sees, or what the node itself says it took.
//! Absent on purpose: limits. They are for whoever reads the numbers; the machine decides.

use crate::load::Directory;
use crate::network::{self, Way};
use crate::nodes::{Ground, Nodes};
use crate::wire::{self, Wire};
use std::time::{Duration, Instant};

/// How long an answer may take here.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause before a leader is asked again that does not lead yet.
const RETRY_PAUSE: Duration = Duration::from_millis(1);
/// Partitions of the node that is restarted.
const MANY_PARTITIONS: u32 = 1_000;

/// From asking for a topic of one partition and three replicas to its first acknowledged record,
/// so many times.
///
/// Panics when a topic cannot be made.
pub fn created_topics(count: u64) -> Vec<Duration> {
    let nodes = Nodes::started(3, Ground::of(Way::Packets), 1);
    let ids = nodes.ids();
    // The first topic of all waits for whatever is done once.
    Directory::new(&ids, &[], "first").create(1);
    (0..count).map(|number| created(&ids, number)).collect()
}

fn created(ids: &[usize], number: u64) -> Duration {
    let topic = format!("created-{number}");
    let mut wires: Vec<Wire> = ids
        .iter()
        .map(|id| Wire::dial(network::kafka(*id)).expect("a node without faults listens"))
        .collect();
    let at = usize::try_from(number).expect("it is small") % ids.len();
    let begun = Instant::now();
    let made = wire::create_topic(&mut wires[at], &topic, 1, 3, ANSWER_TIMEOUT);
    assert_eq!(made.ok(), Some(0), "{topic} is made");
    loop {
        assert!(begun.elapsed() < ANSWER_TIMEOUT, "{topic} takes no record");
        let led = wire::metadata(&mut wires[at], &topic, ANSWER_TIMEOUT).expect("it answers");
        let Some(leader) = led.first().and_then(|led| led.leader) else { continue };
        let to = ids.iter().position(|id| *id == leader).expect("a leader is a node");
        let request = wire::produce(&topic, 0, &[number], None, ANSWER_TIMEOUT);
        let answer = wires[to].call(&request, ANSWER_TIMEOUT).expect("it answers");
        if wire::produced(&answer).0 == 0 {
            return begun.elapsed();
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// What a node with a thousand partitions says it took to be ready after `kill -9`, so many times.
///
/// Panics when the partitions cannot be made.
pub fn restarts(count: u64) -> Vec<Duration> {
    let mut nodes = Nodes::started(3, Ground::of(Way::Packets), 1);
    let directory = Directory::new(&nodes.ids(), &[], "many");
    directory.create(MANY_PARTITIONS);
    for led in (0_u32..).zip(directory.partitions()) {
        let (partition, led) = led;
        let leader = led.leader.expect("all partitions are led");
        let mut wire = Wire::dial(network::kafka(leader)).expect("a leader listens");
        let request = wire::produce("many", partition, &[partition.into()], None, ANSWER_TIMEOUT);
        let answer = wire.call(&request, ANSWER_TIMEOUT).expect("it answers");
        let (code, _) = wire::produced(&answer);
        if code != 0 {
            println!("note: partition {partition} took no record: error {code}");
        }
    }
    let mut times = Vec::new();
    for number in 0..count {
        let ids = nodes.ids();
        let victim = ids[usize::try_from(number).expect("it is small") % ids.len()];
        nodes.kill(victim);
        let begun = Instant::now();
        nodes.launch(victim);
        let said_ms = nodes.until_ready(victim);
        println!("node {victim}: ready after {:?}, says {said_ms} ms", begun.elapsed());
        times.push(begun.elapsed());
    }
    times
}
