//! The rows: one kind of fault each, under load, with a judgement at the end.
//!
//! ```text
//!   run(row, seed, form) ─> Nodes + Load ─> warm ─> faults ─> all healed ─> drain ─> checker
//!                                                     └ seen at the target, times measured
//! ```
//!
//! | Row | Fault | Beside the checker |
//! |---|---|---|
//! | P1 | `kill -9` of a leader | a new leader, and acks again, within limits |
//! | P2 | `kill -9` of all nodes at once | writes resume |
//! | P3 | a leader stands still, and goes on | a zombie acks nothing, answers nothing stale |
//! | P4 | a minority that nobody hears | the others go on; it acknowledges nothing from then on |
//! | P5 | a leader that is not heard, then one that hears nothing | leadership settles |
//! | P6 | five nodes in a bridge, in a ring | leadership settles and stays |
//! | P7 | a link that comes and goes | half of the throughput, an election in ten seconds |
//! | P8 | slow, lossy, doubling, overtaking, damaging networks | 5 % loss costs 60 % at most |
//! | P9 | a node with no processor, or a slow disk | leaderships leave it, others do not wait |
//! | P10 | a disk fills, and is freed | retriable errors, offsets are committed, resumes |
//! | P11 | reads fail; a segment is cut short, or another | an error or an end, no wrong byte |
//! | P12 | power cuts, of one node and of all | nothing that was acknowledged is lost |
//! | P13 | a leader's disk refuses to flush | no ack after it; the others take over; it stops |
//! | P14 | files are damaged, on a minority or on all | repaired, replaced, or named exactly |
//! | P15 | a disk is wiped, another node's, or an old copy | refused with a line, or replaced |
//! | P16 | wall clocks jump and drift | no election, members stay |
//! | P17 | members come, leave, are replaced; P1, P4 or P12 | nodes and copies are right then |
//! | P22 | a kill and restarts with a thousand idle partitions | all are led again |
//!
//! Invariants
//! - Everything that is drawn is drawn from the seed.
//! - A limit that is exceeded is a problem of the entry, like an anomaly.
//!
//! Absent on purpose: rows of other faults.

mod corruption;
mod crash;
mod damage;
mod directory;
mod disk;
mod flap;
mod full;
mod grey;
mod link;
mod many;
mod membership;
mod pause;
mod power;
mod profile;
mod shape;
mod wall;

use crate::disk::Kind;
use crate::ledger::Entry;
use crate::load::{self, Ack, Finished, Load, Shape};
use crate::network::Way;
use crate::nodes::{Ground, Nodes};
use crate::replicas;
use kafka_clients_tests::program::wait_until;
use membership::Amid;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// A row by its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Row {
    /// `kill -9` of a leader.
    P1,
    /// `kill -9` of all nodes at once.
    P2,
    /// SIGSTOP of a leader, and on.
    P3,
    /// A minority with a leader is isolated.
    P4,
    /// One-way loss, from the leader and then to it.
    P5,
    /// Five nodes in a bridge and in a ring.
    P6,
    /// A flapping link.
    P7,
    /// Profiles of packets.
    P8,
    /// A grey node.
    P9,
    /// A full disk.
    P10,
    /// Segments that cannot be read, or are not what they were.
    P11,
    /// The power fails.
    P12,
    /// A flush fails.
    P13,
    /// Damaged files.
    P14,
    /// Disks that are empty, another's, or old.
    P15,
    /// Wall clocks jump.
    P16,
    /// Members come, leave and are replaced, amid faults.
    P17,
    /// Many partitions.
    P22,
}

impl Row {
    /// All rows.
    pub const ALL: [Self; 18] = [
        Self::P1,
        Self::P2,
        Self::P3,
        Self::P4,
        Self::P5,
        Self::P6,
        Self::P7,
        Self::P8,
        Self::P9,
        Self::P10,
        Self::P11,
        Self::P12,
        Self::P13,
        Self::P14,
        Self::P15,
        Self::P16,
        Self::P17,
        Self::P22,
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::P1 => "P1",
            Self::P2 => "P2",
            Self::P3 => "P3",
            Self::P4 => "P4",
            Self::P5 => "P5",
            Self::P6 => "P6",
            Self::P7 => "P7",
            Self::P8 => "P8",
            Self::P9 => "P9",
            Self::P10 => "P10",
            Self::P11 => "P11",
            Self::P12 => "P12",
            Self::P13 => "P13",
            Self::P14 => "P14",
            Self::P15 => "P15",
            Self::P16 => "P16",
            Self::P17 => "P17",
            Self::P22 => "P22",
        }
    }

    /// Nodes that it needs, where nobody says otherwise.
    pub fn nodes(self) -> usize {
        if self == Self::P6 { 5 } else { NODES }
    }

    /// What its nodes stand on, and what to call that in the ledger.
    fn ground(self, random: &mut fastrand::Rng, (seed, run): (u64, u64)) -> (Ground, String) {
        let usual = Ground::of(Way::Packets);
        match self {
            Self::P4 | Self::P5 | Self::P6 | Self::P7 => {
                let way = [Way::Packets, Way::Proxies][random.usize(..2)];
                (Ground { way, ..usual }, format!("{way:?}"))
            }
            Self::P8 => (Ground { way: Way::Tunnels, ..usual }, String::new()),
            Self::P9 | Self::P11 | Self::P12 => {
                let has_native = self == Self::P11;
                (Ground { disk: Kind::Device, has_native, ..usual }, String::new())
            }
            Self::P10 => {
                let kinds = [Kind::Image(FILLED_BYTES), Kind::Memory(FILLED_BYTES)];
                let disk = kinds[random.usize(..2)];
                (Ground { disk, ..usual }, format!("{disk:?}"))
            }
            Self::P17 => {
                let amid = Amid::of(seed, run);
                let disk = if amid == Amid::P12 { Kind::Device } else { usual.disk };
                (Ground { disk, has_native: true, spares: 1, ..usual }, format!("{amid:?}"))
            }
            Self::P14 | Self::P15 => (Ground { has_native: true, ..usual }, String::new()),
            Self::P16 => (Ground { has_clocks: true, ..usual }, String::new()),
            _ => (usual, String::new()),
        }
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|row| row.name().eq_ignore_ascii_case(text));
        let names = || Self::ALL.map(Self::name).join(", ");
        found.ok_or_else(|| format!("no row {text}; there are {}", names()))
    }
}

/// How much of a row is done in one run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// For every change: one or two faults, seconds long.
    Short,
    /// For the ledger: ten faults.
    Long,
}

impl Form {
    /// Faults of one run.
    pub(crate) fn faults(self) -> usize {
        match self {
            Self::Short => 2,
            Self::Long => 10,
        }
    }

    /// How long a fault stays that ends by itself.
    pub(crate) fn stay(self, random: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Short => Duration::from_millis(random.u64(2_500..3_500)),
            Self::Long => Duration::from_millis(random.u64(1_000..15_000)),
        }
    }
}

/// The topic of a row.
const TOPIC: &str = "orders";
/// Partitions of the topic.
const PARTITIONS: u32 = 6;
/// Nodes of a row's cluster, where nobody says otherwise.
pub const NODES: usize = 3;
/// Size of the filesystems that are filled.
const FILLED_BYTES: u64 = 256 << 20;
/// What takes longer than this after a fault has ended is a problem.
const RECOVERY_MAX: Duration = Duration::from_secs(15);
/// Copies are equal within so long where lengths of frames were damaged: a link on which a frame
/// does not end is given up after thirty seconds.
const EQUAL_AFTER_DAMAGE_MAX: Duration = Duration::from_secs(45);
/// How long a test looks for what should come within a limit: it reports what it saw.
const LOOK_MAX: Duration = Duration::from_secs(30);

/// A cluster at work under one row.
pub(crate) struct Run {
    pub nodes: Nodes,
    pub load: Load,
    pub random: fastrand::Rng,
    pub form: Form,
    pub entry: Entry,
    /// Moments of faults, with what they hit, for the gaps: partitions and end of the window.
    pub moments: Vec<(u64, Vec<u32>, u64)>,
}

/// Runs a row once on so many nodes, each of which has a replica of every partition.
pub fn run(row: Row, nodes: usize, seed: u64, run: u64, form: Form) -> Entry {
    let mut random = fastrand::Rng::with_seed(seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (ground, variant) = row.ground(&mut random, (seed, run));
    let nodes = Nodes::started(nodes, ground, random.u64(..));
    let mut entry = Entry::new(row, nodes.ids().len(), seed, run);
    entry.variant = variant;
    if row == Row::P22 {
        many::prepare(&nodes, &mut entry);
    }
    let shape = Shape {
        partitions: PARTITIONS,
        ordered: 1,
        plain: 1,
        pause: Duration::from_millis(20),
        ask_pause: Duration::from_millis(15),
    };
    let load = Load::start(&nodes.ids(), &nodes.spares(), TOPIC, shape, random.u64(..));
    let moments = Vec::new();
    let mut run = Run { nodes, load, random, form, entry, moments };
    run.warm();
    match row {
        Row::P1 => crash::leader(&mut run),
        Row::P2 => crash::all(&mut run),
        Row::P3 => pause::leader(&mut run),
        Row::P4 => link::minority(&mut run),
        Row::P5 => link::one_way(&mut run),
        Row::P6 => shape::shapes(&mut run),
        Row::P7 => flap::link(&mut run),
        Row::P8 => profile::packets(&mut run),
        Row::P9 => grey::slow(&mut run),
        Row::P10 => full::fills(&mut run),
        Row::P11 => damage::files(&mut run),
        Row::P12 => power::cuts(&mut run),
        Row::P13 => disk::failing(&mut run),
        Row::P14 => corruption::files(&mut run),
        Row::P15 => directory::wrong(&mut run),
        Row::P16 => wall::jumps(&mut run),
        Row::P17 => membership::changes(&mut run),
        Row::P22 => many::restarts(&mut run),
    }
    run.judged()
}

impl Run {
    /// Waits until every partition takes records.
    fn warm(&mut self) {
        let now = self.load.now();
        let warm = self.load.all_acked_since(now, LOOK_MAX);
        assert!(warm.is_some(), "a cluster without faults takes records");
    }

    /// Waits until a node has said that it is ready; a problem, with what it said, where it ends.
    pub fn until_ready(&mut self, id: usize) {
        self.nodes.until_ready_or_ended(id);
        if !self.nodes.is_ready(id) {
            let (status, said) = self.nodes.ended(id);
            panic!("node {id} was to be ready and ended with {status}: {said}");
        }
    }

    /// A node that leads something, and what it leads.
    pub fn leader(&mut self) -> (usize, Vec<u32>) {
        let (nodes, led) = self.some_with_a_leader(1);
        (nodes[0], led)
    }

    /// So many nodes, of which the first leads something, and what they lead.
    pub fn some_with_a_leader(&mut self, count: usize) -> (Vec<usize>, Vec<u32>) {
        let directory = self.load.directory();
        // A node that nobody talked to a moment ago may have to learn it.
        wait_until("all partitions have leaders", LOOK_MAX, || {
            directory.refresh(None);
            directory.partitions().iter().all(|led| led.leader.is_some())
        });
        let partitions = directory.partitions();
        let leads = |id: &usize| partitions.iter().any(|led| led.leader == Some(*id));
        let mut ids = self.nodes.ids();
        self.random.shuffle(&mut ids);
        let first = ids.iter().position(leads).expect("somebody leads");
        ids.swap(0, first);
        ids.truncate(count);
        let led = (0..).zip(&partitions);
        let led = led.filter(|(_, led)| led.leader.is_some_and(|leader| ids.contains(&leader)));
        let led = led.map(|(partition, _)| partition).collect();
        (ids, led)
    }

    /// Waits until all partitions take records that were sent from now on; a problem where that
    /// takes longer than `limit`. Returns how long it took.
    pub fn recovers(&mut self, what: &str, limit: Duration) -> Duration {
        let now = self.load.now();
        let took = self.load.all_acked_since(now, LOOK_MAX);
        let took = took.unwrap_or(LOOK_MAX);
        if took > limit {
            self.problem(format!("{what}: all partitions took records after {took:?}"));
        }
        took
    }

    /// Waits until the others name new leaders; a problem where that takes longer than `limit`.
    pub fn elects(&mut self, gone: &[usize], partitions: &[u32], limit: Duration) {
        let others: Vec<usize> =
            self.nodes.ids().into_iter().filter(|id| !gone.contains(id)).collect();
        let directory = self.load.directory();
        let took = directory.led_elsewhere(&others, partitions, gone, LOOK_MAX);
        let took = took.unwrap_or(LOOK_MAX);
        if took > limit {
            self.problem(format!("nodes {gone:?} gone: new leaders after {took:?}"));
        }
        self.entry.leaderless.push(took);
    }

    /// Notes what no fault excuses.
    pub fn problem(&mut self, problem: String) {
        self.entry.problems.push(problem);
    }

    /// Notes a fault that began at `since` and ends now, and the gap that it made.
    pub fn fault_ended(&mut self, since: Since, partitions: &[u32]) {
        self.entry.faulty += since.at.elapsed();
        self.entry.operations_in_fault += self.load.operations() - since.operations;
        self.moments.push((since.moment, partitions.to_vec(), self.load.now()));
    }

    /// The beginning of a fault.
    pub fn now(&self) -> Since {
        Since { at: Instant::now(), moment: self.load.now(), operations: self.load.operations() }
    }

    /// A pause that is drawn, so that faults do not come at equal distances.
    pub fn breathe(&mut self) {
        let longest = if self.form == Form::Short { 400 } else { 3_000 };
        std::thread::sleep(Duration::from_millis(self.random.u64(100..longest)));
    }

    /// Ends the load and judges it.
    fn judged(self) -> Entry {
        let Self { nodes, load, mut entry, moments, .. } = self;
        for ((_, code), count) in load.refusals() {
            *entry.refusals.entry(code).or_default() += count;
        }
        let Finished { history, acks, problems } = load.finish();
        entry.gaps = moments
            .iter()
            .map(|(moment, partitions, until)| load::gap(&acks, partitions, *moment, *until))
            .collect();
        entry.gaps_beside = moments
            .iter()
            .map(|(moment, hit, until)| {
                let beside: Vec<u32> = (0..PARTITIONS).filter(|one| !hit.contains(one)).collect();
                load::gap(&acks, &beside, *moment, *until)
            })
            .collect();
        entry.report = checker::check(&history);
        entry.problems.extend(problems);
        let limit = if entry.row == Row::P8 { EQUAL_AFTER_DAMAGE_MAX } else { RECOVERY_MAX };
        match replicas::agree(&nodes, &nodes.ids(), limit) {
            Ok(frames) => entry.compared_frames = frames,
            Err(difference) => entry.problems.push(difference),
        }
        if !entry.is_good() {
            for id in nodes.ids() {
                println!("--- node {id}{}", nodes.tail(id));
            }
        }
        entry
    }
}

/// What a fault hits that hits every node.
pub(crate) fn all_partitions() -> Vec<u32> {
    (0..PARTITIONS).collect()
}

/// When a fault began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    /// For how long it stays.
    pub at: Instant,
    /// On the load's clock.
    pub moment: u64,
    /// Operations begun before it.
    pub operations: u64,
}

/// Acknowledgements that this node gave to what was sent to it after `from`, before `until`.
pub(crate) fn acks_of(acks: &[Ack], node: usize, from: u64, until: u64) -> usize {
    let given = |ack: &&Ack| ack.node == node && ack.sent > from && ack.acked < until;
    acks.iter().filter(given).count()
}
