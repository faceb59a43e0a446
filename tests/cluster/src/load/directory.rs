//! Who leads what, as a client finds out: by asking any node.
//!
//! Invariant: a leader that was just found wanting is named again only after others were asked.
//! Absent on purpose: trust. Nobody's answer is the truth; the next request tells.

use super::{RETRY_PAUSE, dial};
use crate::wire::{self, Led, Wire};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How long a node may think about its metadata.
const METADATA_TIMEOUT: Duration = Duration::from_millis(500);
/// An answer so young is not asked for again.
const FRESH: Duration = Duration::from_millis(25);
/// How long a topic may take to be there.
const CREATE_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Known {
    at: Instant,
    partitions: Vec<Led>,
}

/// What is known about the leaders of one topic.
#[derive(Debug)]
pub struct Directory {
    nodes: Vec<usize>,
    /// How many of the nodes get a replica.
    replicas: usize,
    topic: String,
    turn: AtomicUsize,
    known: Mutex<Known>,
}

impl Directory {
    /// Knows nothing yet.
    pub fn new(nodes: &[usize], spares: &[usize], topic: &str) -> Self {
        let known = Known { at: Instant::now(), partitions: Vec::new() };
        Self {
            nodes: [nodes, spares].concat(),
            replicas: nodes.len(),
            topic: topic.to_owned(),
            turn: AtomicUsize::new(0),
            known: Mutex::new(known),
        }
    }

    /// Whom it may ask.
    pub fn nodes(&self) -> &[usize] {
        &self.nodes
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics with it")
    }

    /// Creates the topic with a replica on every node but the spares, and waits until all of it has
    /// leaders.
    ///
    /// Panics when that takes too long.
    pub fn create(&self, partitions: u32) {
        let deadline = Instant::now() + CREATE_TIMEOUT;
        let replicas = i16::try_from(self.replicas).expect("there are few");
        let mut said = String::new();
        let created = |said: &mut String| {
            for node in &self.nodes {
                let make = |wire: &mut Wire| {
                    let wait = Duration::from_secs(10);
                    wire::create_topic(wire, &self.topic, partitions, replicas, wait)
                };
                match dial(*node).and_then(|mut wire| make(&mut wire)) {
                    // No error, or it is there already.
                    Ok(0 | 36) => return true,
                    other => *said = format!("{other:?}"),
                }
            }
            false
        };
        while !created(&mut said) {
            assert!(Instant::now() < deadline, "{} was not made: {said}", self.topic);
            thread::sleep(RETRY_PAUSE);
        }
        let wanted = usize::try_from(partitions).expect("there are few");
        loop {
            self.refresh(None);
            let known = self.known().partitions.clone();
            if known.len() == wanted && known.iter().all(|led| led.leader.is_some()) {
                return;
            }
            assert!(Instant::now() < deadline, "{} has no leaders: {known:?}", self.topic);
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// What was last heard.
    pub fn partitions(&self) -> Vec<Led> {
        self.known().partitions.clone()
    }

    /// Who leads a partition, as far as is known.
    pub fn leader(&self, partition: u32) -> Option<usize> {
        let at = usize::try_from(partition).ok()?;
        self.known().partitions.get(at)?.leader
    }

    /// Asks the nodes in turn, the suspect last, and keeps the first answer that names all leaders,
    /// or the first of all.
    pub fn refresh(&self, suspect: Option<usize>) {
        let asked = Instant::now();
        // One client asks, the others wait for its answer.
        let mut known = self.known();
        if known.at > asked || (known.at.elapsed() < FRESH && !known.partitions.is_empty()) {
            return;
        }
        // Another one first each time: a node that nobody talks to knows no leaders.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let turned = self.nodes.iter().cycle().skip(turn % self.nodes.len()).copied();
        let turned: Vec<usize> = turned.take(self.nodes.len()).collect();
        let first = turned.iter().filter(|node| Some(**node) != suspect);
        let last = turned.iter().filter(|node| Some(**node) == suspect);
        let mut best: Option<Vec<Led>> = None;
        for node in first.chain(last) {
            let Ok(partitions) = ask(*node, &self.topic) else { continue };
            let whole = partitions.iter().all(|led| led.leader.is_some());
            if best.is_none() || whole {
                best = Some(partitions);
            }
            if whole {
                break;
            }
        }
        if let Some(partitions) = best {
            *known = Known { at: Instant::now(), partitions };
        }
    }

    /// The newest epoch of each partition that any node knows.
    pub fn epochs(&self) -> Vec<i32> {
        let mut newest = vec![-1; self.known().partitions.len()];
        for node in &self.nodes {
            let said = ask(*node, &self.topic).unwrap_or_default();
            for (newest, led) in newest.iter_mut().zip(said) {
                *newest = led.epoch.max(*newest);
            }
        }
        newest
    }

    /// Waits until one of these nodes names a leader that is not `gone` for all of these
    /// partitions, and returns how long it took; `None` after `timeout`.
    pub fn led_elsewhere(
        &self,
        nodes: &[usize],
        partitions: &[u32],
        gone: &[usize],
        timeout: Duration,
    ) -> Option<Duration> {
        let begun = Instant::now();
        let mut wires: Vec<(usize, Option<Wire>)> =
            nodes.iter().map(|node| (*node, None)).collect();
        while begun.elapsed() < timeout {
            for (node, wire) in &mut wires {
                let asked = match wire {
                    Some(wire) => wire::metadata(wire, &self.topic, METADATA_TIMEOUT),
                    None => dial(*node).and_then(|mut new| {
                        let said = wire::metadata(&mut new, &self.topic, METADATA_TIMEOUT);
                        *wire = Some(new);
                        said
                    }),
                };
                let Ok(led) = asked else {
                    *wire = None;
                    continue;
                };
                let elsewhere = |partition: &u32| {
                    let at = usize::try_from(*partition).ok();
                    let leader = at.and_then(|at| led.get(at)).and_then(|led| led.leader);
                    leader.is_some_and(|leader| !gone.contains(&leader))
                };
                if partitions.iter().all(elsewhere) {
                    return Some(begun.elapsed());
                }
            }
            thread::sleep(Duration::from_millis(3));
        }
        None
    }
}

fn ask(node: usize, topic: &str) -> io::Result<Vec<Led>> {
    wire::metadata(&mut dial(node)?, topic, METADATA_TIMEOUT)
}
