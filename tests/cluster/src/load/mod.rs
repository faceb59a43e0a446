//! Clients that work while nodes fail, and write down what they did and saw.
//!
//! ```text
//!   ordered producers   one or more per partition, five batches in flight, retry until answered
//!   plain producers     one batch at a time, no retry: a time-out stays a time-out
//!   readers             one per partition, from its start to the end of the run
//!   askers              latest offsets, from whoever the metadata names
//!   pinned clients      produce to and ask one node, whatever the metadata says
//!         └──────> Operations ──> checker        Acks { partition, node, moments } ──> gaps
//! ```
//!
//! Invariants
//! - A send is written down before its first byte leaves, and its outcome is what the client knows.
//! - Load is bounded: a producer has at most five batches in flight and one send per pause.
//! - Every client ends by itself within [`SETTLE_MAX`] of being told to.
//!
//! Absent on purpose: groups and transactions.

mod directory;
mod producers;
mod readers;

pub use directory::Directory;

use crate::wire::{self, Wire};
use checker::{Client, History, Operation, Partition, What};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a client waits for an answer before it asks elsewhere.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long ordered producers go on after the end, until everything is answered.
pub const SETTLE_MAX: Duration = Duration::from_secs(45);
/// Pause before the same thing is tried again.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Partitions of the topic.
    pub partitions: u32,
    /// Idempotent producers of each partition.
    pub ordered: usize,
    /// Producers without idempotence, each over all partitions in turn.
    pub plain: usize,
    /// Pause between two batches of one producer.
    pub pause: Duration,
    /// Pause between two questions for a latest offset.
    pub ask_pause: Duration,
}

/// An acknowledgement. Moments are nanoseconds since the load began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// Of which partition.
    pub partition: Partition,
    /// Who gave it.
    pub node: usize,
    /// When the client first wanted to send the batch.
    pub invoked: u64,
    /// When the batch was sent to that node.
    pub sent: u64,
    /// When the answer was read.
    pub acked: u64,
}

/// What all clients of a load share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub begun: Instant,
    pub topic: String,
    pub shape: Shape,
    pub directory: Directory,
    pub seed: u64,
    pub producing: AtomicBool,
    pub reading: AtomicBool,
    pub pinned: AtomicBool,
    values: AtomicU64,
    clients: AtomicU32,
    /// Operations that have been begun.
    begun_operations: AtomicU64,
    acks: Mutex<Vec<Ack>>,
    /// Error codes of batches and polls, each by how often it came from a node.
    refusals: Mutex<BTreeMap<(usize, i16), u64>>,
    problems: Mutex<Vec<String>>,
}

impl Shared {
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn new_value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed)
    }

    pub fn new_client(&self) -> Client {
        self.clients.fetch_add(1, Ordering::Relaxed)
    }

    pub fn count_operation(&self) {
        self.begun_operations.fetch_add(1, Ordering::Relaxed);
    }

    pub fn note_ack(&self, ack: Ack) {
        self.acks().push(ack);
    }

    fn acks(&self) -> MutexGuard<'_, Vec<Ack>> {
        self.acks.lock().expect("nobody panics with it")
    }

    pub fn note_refusal(&self, node: usize, code: i16) {
        *self.refusals().entry((node, code)).or_default() += 1;
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<(usize, i16), u64>> {
        self.refusals.lock().expect("nobody panics with it")
    }

    /// Something that no fault excuses.
    pub fn note_problem(&self, problem: String) {
        self.problems.lock().expect("nobody panics with it").push(problem);
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    producers: Vec<JoinHandle<Vec<Operation>>>,
    readers: Vec<JoinHandle<Vec<Operation>>>,
    /// Nodes that have clients of their own.
    pinned: BTreeSet<usize>,
}

/// What a load has left behind.
#[derive(Debug)]
pub struct Finished {
    /// All that clients did and saw, with a drain of every partition at the end.
    pub history: History,
    /// Acknowledgements in order of their arrival.
    pub acks: Vec<Ack>,
    /// What no fault excuses, in words; empty in a good run.
    pub problems: Vec<String>,
}

impl Load {
    /// Creates the topic with a replica on each of these nodes and begins. Spares are asked too,
    /// whether they are members by then or not.
    ///
    /// Panics when the topic cannot be made.
    pub fn start(nodes: &[usize], spares: &[usize], topic: &str, shape: Shape, seed: u64) -> Self {
        let directory = Directory::new(nodes, spares, topic);
        directory.create(shape.partitions);
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            topic: topic.to_owned(),
            shape,
            directory,
            seed,
            producing: AtomicBool::new(true),
            reading: AtomicBool::new(true),
            pinned: AtomicBool::new(true),
            values: AtomicU64::new(1),
            clients: AtomicU32::new(1),
            begun_operations: AtomicU64::new(0),
            acks: Mutex::default(),
            refusals: Mutex::default(),
            problems: Mutex::default(),
        });
        let (producers, readers) = (Vec::new(), Vec::new());
        let mut load = Self { shared, producers, readers, pinned: BTreeSet::new() };
        for partition in 0..shape.partitions {
            for _ in 0..shape.ordered {
                load.produce(move |shared| producers::ordered(shared, partition));
            }
            load.read(move |shared| readers::follow(shared, partition));
        }
        (0..shape.plain).for_each(|_| load.produce(|shared| producers::plain(shared, None)));
        load.read(|shared| readers::ask(shared, None));
        load
    }

    /// Adds clients that know only this node, unless it has some: a producer and one that asks for
    /// latest offsets.
    pub fn pin(&mut self, node: usize) {
        if !self.pinned.insert(node) {
            return;
        }
        self.produce(move |shared| producers::plain(shared, Some(node)));
        self.read(move |shared| readers::ask(shared, Some(node)));
    }

    /// Adds a reader that begins at the start of a partition.
    pub fn read_again(&mut self, partition: Partition) {
        self.read(move |shared| readers::follow(shared, partition));
    }

    /// Ends the pinned clients.
    pub fn unpin(&self) {
        self.shared.pinned.store(false, Ordering::Relaxed);
    }

    fn produce(&mut self, work: impl FnOnce(&Shared) -> Vec<Operation> + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.producers.push(thread::spawn(move || work(&shared)));
    }

    fn read(&mut self, work: impl FnOnce(&Shared) -> Vec<Operation> + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.readers.push(thread::spawn(move || work(&shared)));
    }

    /// Nanoseconds since the load began.
    pub fn now(&self) -> u64 {
        self.shared.now()
    }

    /// Operations that were begun so far.
    pub fn operations(&self) -> u64 {
        self.shared.begun_operations.load(Ordering::Relaxed)
    }

    /// Who leads what, as clients of this load find out.
    pub fn directory(&self) -> &Directory {
        &self.shared.directory
    }

    /// Error codes of batches and polls so far, each by how often it came from a node.
    pub fn refusals(&self) -> BTreeMap<(usize, i16), u64> {
        self.shared.refusals().clone()
    }

    /// Acknowledgements so far.
    pub fn acks(&self) -> Vec<Ack> {
        self.shared.acks().clone()
    }

    /// Waits until every partition has been acknowledged by something that was sent after
    /// `moment`, and returns how long it took since then; `None` after `timeout`.
    pub fn all_acked_since(&self, moment: u64, timeout: Duration) -> Option<Duration> {
        let partitions = usize::try_from(self.shared.shape.partitions).ok()?;
        self.acked_since(moment, partitions, timeout)
    }

    /// The same, of any `count` partitions.
    pub fn acked_since(&self, moment: u64, count: usize, timeout: Duration) -> Option<Duration> {
        let deadline = Instant::now() + timeout;
        let partitions = usize::try_from(self.shared.shape.partitions).ok()?;
        let (mut first, mut looked) = (vec![None; partitions], 0);
        loop {
            {
                let acks = self.shared.acks();
                for ack in acks.get(looked..).unwrap_or_default() {
                    let slot = usize::try_from(ack.partition).ok().and_then(|at| first.get_mut(at));
                    if let Some(slot) = slot.filter(|_| ack.sent > moment) {
                        slot.get_or_insert(ack.acked);
                    }
                }
                looked = acks.len();
            }
            let mut acked: Vec<u64> = first.iter().flatten().copied().collect();
            acked.sort_unstable();
            if let Some(last) = count.checked_sub(1).and_then(|last| acked.get(last)) {
                return Some(Duration::from_nanos(last.saturating_sub(moment)));
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(RETRY_PAUSE);
        }
    }

    /// Ends all clients, reads every partition to its end, and hands over what was written down.
    ///
    /// Panics when a client has panicked, or when the log cannot be read.
    pub fn finish(self) -> Finished {
        let shared = &self.shared;
        shared.producing.store(false, Ordering::Relaxed);
        shared.pinned.store(false, Ordering::Relaxed);
        let join = |clients: Vec<JoinHandle<Vec<Operation>>>| {
            let joined = clients.into_iter().map(|client| client.join());
            joined.map(|done| done.expect("a client does not panic")).collect::<Vec<_>>()
        };
        let mut parts = join(self.producers);
        shared.reading.store(false, Ordering::Relaxed);
        parts.extend(join(self.readers));
        parts.push(readers::drain(shared));
        let acks = std::mem::take(&mut *shared.acks());
        let problems = shared.problems.lock().map(|problems| problems.clone());
        let problems = problems.expect("nobody panics with it");
        Finished { history: History::of(parts), acks, problems }
    }
}

/// Batches that were acknowledged in a second, within these moments.
pub fn rate(acks: &[Ack], from: u64, until: u64) -> f64 {
    let count = acks.iter().filter(|ack| (from..until).contains(&ack.acked)).count();
    count as f64 / Duration::from_nanos(until.saturating_sub(from)).as_secs_f64().max(0.001)
}

/// How long batches of these partitions waited for their acknowledgement, of those that clients
/// wanted to send within these moments.
pub fn waits(acks: &[Ack], partitions: &[Partition], from: u64, until: u64) -> Vec<Duration> {
    let within = |ack: &&Ack| partitions.contains(&ack.partition);
    let within = acks.iter().filter(within).filter(|ack| (from..until).contains(&ack.invoked));
    within.map(|ack| Duration::from_nanos(ack.acked.saturating_sub(ack.invoked))).collect()
}

/// The longest time, around `moment` and until `until`, in which one of these partitions had no
/// acknowledgement.
pub fn gap(acks: &[Ack], partitions: &[Partition], moment: u64, until: u64) -> Duration {
    let before = moment.saturating_sub(500_000_000);
    let longest = partitions.iter().map(|partition| {
        let of_it = acks.iter().filter(|ack| ack.partition == *partition);
        let mut times: Vec<u64> =
            of_it.map(|ack| ack.acked).filter(|at| (before..until).contains(at)).collect();
        times.sort_unstable();
        // What never came back within the window is as long as the window.
        times.push(until);
        let gaps = times.windows(2).filter_map(|pair| {
            let [earlier, later] = pair else { return None };
            (*later > moment).then(|| later - earlier)
        });
        gaps.max().unwrap_or(until - moment)
    });
    Duration::from_nanos(longest.max().unwrap_or_default())
}

/// A connection to a node, for one client.
pub(crate) fn dial(node: usize) -> io::Result<Wire> {
    Wire::dial(crate::network::kafka(node))
}

/// Error codes after which a client looks for another leader or tries again.
pub(crate) fn is_retriable(code: i16) -> bool {
    // UNKNOWN_TOPIC, LEADER_NOT_AVAILABLE, NOT_LEADER, REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS,
    // NOT_ENOUGH_REPLICAS_AFTER_APPEND, STORAGE_ERROR, FENCED and UNKNOWN_LEADER_EPOCH,
    // OFFSET_NOT_AVAILABLE.
    matches!(code, 3 | 5 | 6 | 7 | 19 | 20 | 56 | 74 | 75 | 78)
}

/// An operation that has just come back.
pub(crate) fn done(shared: &Shared, client: Client, invoked: u64, what: What) -> Operation {
    Operation { client, invoked, returned: shared.now(), what }
}

/// The first connection that gives a producer id, of any node.
pub(crate) fn producer_id(shared: &Shared) -> Option<(i64, i16)> {
    let deadline = Instant::now() + SETTLE_MAX;
    while Instant::now() < deadline {
        for node in shared.directory.nodes() {
            let asked =
                dial(*node).and_then(|mut wire| wire::new_producer(&mut wire, ANSWER_TIMEOUT));
            if let Ok((0, id, epoch)) = asked {
                return Some((id, epoch));
            }
        }
        thread::sleep(RETRY_PAUSE);
    }
    None
}
