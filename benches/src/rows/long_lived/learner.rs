//! A node that has no copy yet gets one: how fast, against a bare stream to a bare disk, and what
//! producers notice of that.
//!
//! ```text
//!   quiet ── third node assigned ────────────────► no reassignment open ── taken away again
//!   └ probe ┘ └ disturbed: the copy votes with the others ┘
//!
//!   bare: memory ─► TCP over loopback ─► CRC-32C, write ─► fdatasync of what gathered ─► done
//! ```

use super::{Home, lateness_row, spread};
use crate::chain::feed;
use crate::client::Client;
use crate::counters::{process_cpu, settle};
use crate::failure::{Failure, Tried};
use crate::loader::{Line, Plan, replay_each};
use crate::paced::{Driven, Lane, Lateness, Paced, Window};
use crate::payload::{Noise, Shape, produce_requests};
use crate::report::{Gate, Row, Unit};
use crate::rows::{Context, compare};
use crate::stats::interleave;
use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

/// The node that gets copies.
const LEARNER: usize = 2;
/// Who holds the topic that is copied, its leader first.
const HOLDERS: [i32; 2] = [1, 2];
const ALL: [i32; 3] = [1, 2, 3];
/// Who holds the partitions of other producers: each node leads one.
const OTHERS: [&[i32]; 3] = [&[1, 2, 3], &[2, 3, 1], &[3, 1, 2]];

/// Partitions that are copied together.
const COPIED: [i32; 4] = [0, 1, 2, 3];
/// Batches of 64 KiB in all: 1 GiB.
const REQUESTS: u64 = 16_384;
const DISTINCT: usize = 64;
const INFLIGHT: usize = 16;

/// Of each lane.
const INTERVAL: Duration = Duration::from_millis(4);
const QUIET: Duration = Duration::from_secs(3);
/// A copy that is not there after so long is a failure, and so is one that is not removed.
const DONE_MAX: Duration = Duration::from_secs(300);
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What one copy has shown.
struct Copied {
    bytes_per_second: f64,
    /// CPU of each node meanwhile, in percent of a core.
    percent: Vec<f64>,
    /// To other partitions: disturbed, quiet.
    others: (Lateness, Lateness),
    /// To the topic that was copied: disturbed, quiet.
    topic: (Lateness, Lateness),
    /// Leaderships that producers had to follow.
    moves: u32,
}

/// What one bare stream has shown.
struct Streamed {
    bytes_per_second: f64,
    /// What producers noticed of another one like it.
    others: Lateness,
    topic: Lateness,
}

/// The rows.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let field = Field::prepare(context)?;
    // Neither side is to be the first to touch the memory.
    field.copy()?;
    let pairs = context.settings.pairs;
    let (copies, bare) = interleave(pairs, |_| field.copy(), |_| field.stream())?;
    field.rows(&copies, &bare)
}

/// A cluster with a topic that two nodes hold, and one that all hold.
struct Field<'a> {
    context: &'a Context,
    home: Home,
    topic: String,
    others: String,
    /// Batches that are copied.
    requests: u64,
    set: Vec<Vec<u8>>,
    /// Records of paced producers to the topic so far.
    singles: Cell<i64>,
}

impl<'a> Field<'a> {
    fn prepare(context: &'a Context) -> Result<Self, Failure> {
        let home = Home::start(context)?;
        let (topic, others) = (context.topic("copied"), context.topic("others"));
        let address = home.cluster.address(0)?;
        let mut client = Client::connect(address)?;
        client.create_assigned(&topic, &COPIED.map(|_| &HOLDERS[..]), &[])?;
        client.create_assigned(&others, &OTHERS, &[])?;
        let each = context.scaled(REQUESTS).div_ceil(COPIED.len() as u64);
        let mut lines: Vec<Line> = Vec::new();
        for partition in COPIED {
            let mut noise = Noise::new(u64::from(partition.unsigned_abs()) + 53);
            let one = partition..partition + 1;
            let set = produce_requests(&topic, one, DISTINCT, Shape::BULK, &mut noise)?;
            lines.push((Plan { address, requests: each, inflight: INFLIGHT }, set));
        }
        let set = lines.first().map(|(_, set)| set.clone()).unwrap_or_default();
        replay_each(lines, || ())?;
        let requests = each * COPIED.len() as u64;
        Ok(Self { context, home, topic, others, requests, set, singles: Cell::new(0) })
    }

    fn bytes(&self) -> u64 {
        self.requests * Shape::BULK.batch_bytes as u64
    }

    /// Copies everything to the third node once, and takes it away again.
    fn copy(&self) -> Result<Copied, Failure> {
        let mut client = Client::connect(self.home.cluster.address(0)?)?;
        let held = self.logs_of_learner()?;
        self.lead_as_assigned(&mut client)?;
        settle();
        let paced = Paced::begin(&self.lanes()?, INTERVAL)?;
        let begun = Instant::now();
        std::thread::sleep(QUIET);
        let (quiet, before) = (Window::since(begun), self.cpu()?);
        let begun = Instant::now();
        client.reassign(&self.topic, &COPIED, &ALL)?;
        self.until("partitions that are copied", || client.moving(&self.topic, &COPIED))?;
        let (disturbed, after) = (Window::since(begun), self.cpu()?);
        let lanes = self.ended(paced)?;
        let (others, topic) = lanes.split_at(OTHERS.len().min(lanes.len()));
        let moves = lanes.iter().map(|lane| lane.moves).sum();
        let records = (self.requests * Shape::BULK.records as u64) as i64 + self.singles.get();
        client.expect_records(&self.topic, COPIED.len() as i32, records)?;
        client.reassign(&self.topic, &COPIED, &HOLDERS)?;
        self.until("partitions that are given up", || client.moving(&self.topic, &COPIED))?;
        self.until("logs that are removed", || {
            Ok(self.logs_of_learner()?.saturating_sub(held) + self.trash_of_learner())
        })?;
        let seconds = disturbed.length().as_secs_f64();
        let share = |(after, before): (&Duration, &Duration)| {
            after.saturating_sub(*before).as_secs_f64() / seconds * 100.0
        };
        let both = |lanes: &[_]| {
            Ok::<_, Failure>((Lateness::of(lanes, disturbed)?, Lateness::of(lanes, quiet)?))
        };
        Ok(Copied {
            bytes_per_second: self.bytes() as f64 / seconds,
            percent: after.iter().zip(&before).map(share).collect(),
            others: both(others)?,
            topic: both(topic)?,
            moves,
        })
    }

    /// A node that was slow may have given away what it led.
    fn lead_as_assigned(&self, client: &mut Client) -> Result<(), Failure> {
        let others: Vec<i32> = (0..).zip(OTHERS).map(|(partition, _)| partition).collect();
        client.elect_first(&self.others, &others)?;
        client.elect_first(&self.topic, &COPIED)
    }

    /// To one partition of each other leader, and last to one that is copied.
    fn lanes(&self) -> Result<Vec<Lane>, Failure> {
        let mut lanes = Vec::new();
        for (partition, node) in (0..).zip(0..OTHERS.len()) {
            let address = self.home.cluster.address(node)?;
            lanes.push(Lane { address, topic: self.others.clone(), partition });
        }
        let address = self.home.cluster.address(0)?;
        lanes.push(Lane { address, topic: self.topic.clone(), partition: 0 });
        Ok(lanes)
    }

    fn cpu(&self) -> Result<Vec<Duration>, Failure> {
        self.home.cluster.pids().into_iter().map(process_cpu).collect()
    }

    /// Asks until there are none.
    fn until(
        &self,
        what: &str,
        mut left: impl FnMut() -> Result<usize, Failure>,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + DONE_MAX;
        loop {
            let count = left()?;
            if count == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("{what} after {DONE_MAX:?}");
                return Err(Failure::unexpected(what, count, 0));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    fn logs_of_learner(&self) -> Result<usize, Failure> {
        let partitions = self.home.cluster.data(LEARNER).join("partitions");
        Ok(fs::read_dir(&partitions).tried(|| partitions.display().to_string())?.count())
    }

    /// What is on its way out there.
    fn trash_of_learner(&self) -> usize {
        let trash = fs::read_dir(self.home.cluster.data(LEARNER).join("trash"));
        trash.map_or(0, Iterator::count)
    }

    /// Streams as many bytes to a bare follower, into a new file where the learner's are.
    fn stream(&self) -> Result<Streamed, Failure> {
        settle();
        let file = self.home.cluster.data(LEARNER).with_extension("bare");
        let (path, room) = (file.to_string_lossy().into_owned(), self.bytes() + self.bytes() / 16);
        let room = room.to_string();
        let follower =
            self.context.bare_loop(&["chain-follower", "--file", &path, "--bytes", &room])?;
        let took = feed(follower.address, &self.set, self.requests)?;
        // Once more, for what producers notice of it: not timed, for they take their part.
        let again = file.with_extension("again");
        let path = again.to_string_lossy().into_owned();
        let other =
            self.context.bare_loop(&["chain-follower", "--file", &path, "--bytes", &room])?;
        let paced = Paced::begin(&self.lanes()?, INTERVAL)?;
        let begun = Instant::now();
        feed(other.address, &self.set, self.requests)?;
        let beside = Window::since(begun);
        let lanes = self.ended(paced)?;
        for (bare, file) in [(follower, file), (other, again)] {
            bare.kill();
            fs::remove_file(&file).tried(|| file.display().to_string())?;
        }
        let (others, topic) = lanes.split_at(OTHERS.len().min(lanes.len()));
        Ok(Streamed {
            bytes_per_second: self.bytes() as f64 / took.as_secs_f64(),
            others: Lateness::of(others, beside)?,
            topic: Lateness::of(topic, beside)?,
        })
    }

    /// Ends the producers, and remembers what has come to the topic.
    fn ended(&self, paced: Paced) -> Result<Vec<Driven>, Failure> {
        let lanes = paced.end()?;
        let topic = lanes.iter().skip(OTHERS.len());
        let more = topic.map(|lane| lane.samples.len()).sum::<usize>() as i64;
        self.singles.set(self.singles.get() + more);
        Ok(lanes)
    }

    fn rows(&self, copies: &[Copied], bare: &[Streamed]) -> Result<Vec<Row>, Failure> {
        let megabytes = |bytes: f64| bytes / 1e6;
        let ours: Vec<f64> =
            copies.iter().map(|copied| megabytes(copied.bytes_per_second)).collect();
        let theirs: Vec<f64> =
            bare.iter().map(|streamed| megabytes(streamed.bytes_per_second)).collect();
        let mut learner = self.context.row("learner", Unit::MegabytesPerSecond, &ours)?;
        let probe = "TCP over loopback, CRC-32C, write, fdatasync of what gathered; one process";
        compare(&mut learner, probe, &ours, &theirs);
        learner.gates = vec![Gate::RatioAtLeast(0.5)];
        learner.contract = self.contract();
        let each =
            (0..).zip(["CPU of the leader", "CPU of the other holder", "CPU of the learner"]);
        for (node, name) in each {
            let percent: Vec<f64> =
                copies.iter().filter_map(|copied| copied.percent.get(node).copied()).collect();
            learner.beside.push((name, spread(&percent, 0, "% of a core")));
        }
        let moves: Vec<f64> = copies.iter().map(|copied| f64::from(copied.moves)).collect();
        learner.beside.push(("leaders that producers had to follow", spread(&moves, 0, "times")));
        let probe = "the same p99 while nothing was copied";
        let pairs: Vec<_> = copies.iter().map(|copied| copied.others).collect();
        let mut others = lateness_row(self.context, "learner_others", probe, &pairs)?;
        let pairs: Vec<_> = copies.iter().map(|copied| copied.topic).collect();
        let mut topic = lateness_row(self.context, "learner_topic", probe, &pairs)?;
        let of = |pick: fn(&Streamed) -> u64| -> Vec<f64> {
            bare.iter().map(|streamed| pick(streamed) as f64).collect()
        };
        let (others_bare, topic_bare) =
            (of(|streamed| streamed.others.p99_us), of(|streamed| streamed.topic.p99_us));
        let all = format!("{}, to partitions of all three leaders", OTHERS.len());
        let one = "1, to a partition that is copied".to_owned();
        for (row, lanes, beside_bare) in
            [(&mut others, all, others_bare), (&mut topic, one, topic_bare)]
        {
            row.beside
                .push(("p99 beside a bare stream to the disk", spread(&beside_bare, 0, "us")));
            row.contract = self.contract();
            row.contract.extend([
                ("producers", lanes),
                ("rate", format!("1 record of 1 KiB every {} ms each", INTERVAL.as_millis())),
                ("window", format!("the copy; {} s before it", QUIET.as_secs())),
            ]);
        }
        Ok(vec![learner, others, topic])
    }

    fn contract(&self) -> Vec<(&'static str, String)> {
        let mib = self.bytes() >> 20;
        vec![
            ("nodes", "3 processes on this machine".to_owned()),
            (
                "data",
                format!("{mib} MiB in {} partitions of two nodes, one leads all", COPIED.len()),
            ),
            ("measured", "third node assigned until no reassignment is open".to_owned()),
            ("beside it", "4 paced producers".to_owned()),
            ("filesystem", self.context.machine.filesystem.clone()),
            ("page cache", "the leader's copy is cached; the learner's files are new".to_owned()),
            ("pairs", self.context.pairs_text()),
        ]
    }
}
