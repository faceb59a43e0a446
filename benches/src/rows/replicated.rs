//! Produce to three replicas, against a bare chain of three processes.
//!
//! Each node has a filesystem of its own where this program may mount one, for a flush of one node
//! must not do the work of another's. Every slice is a new cluster on empty directories.

use super::{Context, Slice, compare, cpu_per_gigabyte};
use crate::client::Client;
use crate::cluster::{self, Cluster, Site};
use crate::counters::{process_cpu, settle};
use crate::failure::{Failure, Tried};
use crate::loader::{Line, Outcome, Plan, replay_each};
use crate::machine::filesystem_of;
use crate::payload::{Noise, Shape, produce_requests};
use crate::process::Running;
use crate::report::{Gate, Row, Unit};
use crate::stats::interleave;
use crate::volumes::{self, Volume};
use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

const NODES: usize = 3;
const PARTITIONS: i32 = 12;
/// Batches of a slice: 252 MiB, which are 756 MiB on the disks.
const REQUESTS_EACH: u64 = 336;
/// Batches that differ from each other, on each connection.
const DISTINCT: usize = 24;
/// On all connections together.
const INFLIGHT: usize = 16;
/// Of each volume: a slice of either side, preallocated, and room.
const VOLUME_BYTES: u64 = 3 << 30;
/// A node's volume is small, and its retention is to be quick.
const SETTINGS: &str = "[limits]\nretention_check_ms = 50\n\
                        disk_free_soft_bytes = \"64MiB\"\ndisk_free_soft_percent = 0\n\
                        disk_free_hard_bytes = \"16MiB\"\ndisk_ballast_bytes = \"4MiB\"\n";
/// Flushes that are timed.
const FLUSHES: u32 = 200;

/// Of a segment where files are recycled: each partition takes one or two in a slice.
const SEGMENT_BYTES: &str = "16777216";
/// Slices before, which are not timed: in the first segments grow to their size, and some are
/// dropped, so that in the others no file has to be made any more.
const WEARING_SLICES: [i64; 2] = [2, 2];
/// Segments that have to lie on recycled files for a slice to count, in percent.
const RECYCLED_MIN: usize = 80;

/// What is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Files {
    /// Allocated for the slice, on both sides.
    New,
    /// Written before, on both sides: by slices that are not timed.
    Recycled,
}

/// What both sides work on.
struct Field<'a> {
    context: &'a Context,
    files: Files,
    places: Vec<PathBuf>,
    volumes: Vec<Volume>,
    /// The least share of segments that lay on recycled files, in percent.
    recycled_least: Cell<usize>,
}

/// The row on new files.
pub(super) fn on_new_files(context: &Context) -> Result<Vec<Row>, Failure> {
    Field::prepare(context, Files::New)?.run("replicated")
}

/// The row on recycled files.
pub(super) fn on_recycled_files(context: &Context) -> Result<Vec<Row>, Failure> {
    Field::prepare(context, Files::Recycled)?.run("replicated_recycled")
}

/// In 2^20 bytes per second.
fn speeds(slices: &[Slice]) -> Vec<f64> {
    let each = |slice: &Slice| slice.amount as f64 / 1_048_576.0 / slice.wall.as_secs_f64();
    slices.iter().map(each).collect()
}

impl<'a> Field<'a> {
    fn run(&self, name: &str) -> Result<Vec<Row>, Failure> {
        let flush_us = self.flush_us()?;
        self.on_cluster()?;
        let pairs = self.context.settings.pairs;
        let (ours, bare) = interleave(pairs, |_| self.on_cluster(), |_| self.on_chain())?;
        let (speeds, bare_speeds) = (speeds(&ours), speeds(&bare));
        let mut row = self.context.row(name, Unit::MebibytesPerSecond, &speeds)?;
        let chain =
            "leader and two followers: CRC-32C, pwrite, fdatasync; ack after two of three flushes";
        compare(&mut row, chain, &speeds, &bare_speeds);
        row.gates = vec![Gate::RatioAtLeast(0.5)];
        row.contract = self.contract();
        cpu_per_gigabyte(&mut row, &ours, &bare);
        if self.files == Files::Recycled {
            let text = format!("{} % at least", self.recycled_least.get());
            row.beside.push(("segments on files that were there before", text));
        }
        row.beside
            .push(("4 KiB and its flush, on a node's filesystem", format!("{flush_us} us (p50)")));
        Ok(vec![row])
    }

    fn prepare(context: &'a Context, files: Files) -> Result<Self, Failure> {
        let (mut places, mut volumes) = (Vec::new(), Vec::new());
        for node in 1..=NODES {
            let name = context.unique(&format!("node{node}"));
            let parent = context.scratch.path();
            match volumes::mount(parent, &name, VOLUME_BYTES)? {
                Some(volume) => {
                    places.push(volume.place().to_owned());
                    volumes.push(volume);
                }
                None => {
                    let place = parent.join(format!("{name}-shared"));
                    fs::create_dir_all(&place).tried(|| place.display().to_string())?;
                    places.push(place);
                }
            }
        }
        Ok(Self { context, files, places, volumes, recycled_least: Cell::new(100) })
    }

    fn has_volumes(&self) -> bool {
        self.volumes.len() == NODES
    }

    fn requests_each(&self) -> u64 {
        self.context.scaled(REQUESTS_EACH)
    }

    fn bytes(&self) -> u64 {
        self.requests_each() * PARTITIONS as u64 * Shape::BULK.batch_bytes as u64
    }

    /// One connection to each leader, and the requests of the partitions that it leads.
    fn lines(&self, topic: &str, leaders: &[(Vec<i32>, SocketAddr)]) -> Result<Vec<Line>, Failure> {
        let mut lines = Vec::new();
        for (at, (partitions, address)) in leaders.iter().enumerate() {
            let inflight = INFLIGHT / leaders.len() + usize::from(at < INFLIGHT % leaders.len());
            let requests = self.requests_each() * partitions.len() as u64;
            let mut noise = Noise::new(at as u64 + 1);
            let mut set = Vec::new();
            for partition in partitions.iter().cycle().take(DISTINCT.max(partitions.len())) {
                let one = *partition..*partition + 1;
                set.extend(produce_requests(topic, one, 1, Shape::BULK, &mut noise)?);
            }
            lines.push((Plan { address: *address, requests, inflight }, set));
        }
        Ok(lines)
    }

    fn on_cluster(&self) -> Result<Slice, Failure> {
        let cluster = self.start_nodes()?;
        let pids = cluster.pids();
        let address = cluster.address(0)?;
        let topic = self.context.topic("replicated");
        let mut client = Client::connect(address)?;
        let short = [("segment.bytes", SEGMENT_BYTES), ("retention.bytes", SEGMENT_BYTES)];
        let configs = if self.files == Files::Recycled { &short[..] } else { &[] };
        client.create_replicated(&topic, PARTITIONS, 3, configs)?;
        let mut leaders: Vec<(Vec<i32>, SocketAddr)> = Vec::new();
        for (partition, address) in client.leaders(&topic)? {
            match leaders.iter_mut().find(|(_, of)| *of == address) {
                Some((partitions, _)) => partitions.push(partition),
                None => leaders.push((vec![partition], address)),
            }
        }
        let lines = self.lines(&topic, &leaders)?;
        let (mut slices, mut worn) = (1, SystemTime::now());
        if self.files == Files::Recycled {
            for count in WEARING_SLICES {
                worn = SystemTime::now();
                for _ in 0..count {
                    replay_each(self.lines(&topic, &leaders)?, || ())?;
                }
                slices += count;
            }
        }
        settle();
        let before = cpu_of(&pids)?;
        let (outcome, after) = replay_each(lines, || cpu_of(&pids))?;
        if self.files == Files::Recycled {
            self.see_recycled(worn)?;
        }
        let mut found = 0;
        for (partitions, address) in &leaders {
            let mut client = Client::connect(*address)?;
            found += client.record_count(&topic, partitions.iter().copied())?;
        }
        let sent = slices * self.requests_each() as i64 * i64::from(PARTITIONS);
        let expected = sent * Shape::BULK.records as i64;
        if found != expected {
            return Err(Failure::unexpected(format!("records in {topic}"), found, expected));
        }
        drop(cluster);
        self.clear()?;
        Ok(self.slice(outcome, after?.saturating_sub(before)))
    }

    /// Looks at the files of all segments: those that are older than `worn` held others before.
    fn see_recycled(&self, worn: SystemTime) -> Result<(), Failure> {
        let (mut all, mut older) = (0, 0);
        for place in &self.places {
            for log in listed(&place.join("data/partitions"))? {
                // What is on its way out meanwhile is no segment any more.
                for file in listed(&log).unwrap_or_default() {
                    let is_segment = file.extension().is_some_and(|ending| ending == "log");
                    let Ok(metadata) = fs::metadata(&file) else { continue };
                    // Internal logs have small ones that nobody rolls.
                    if is_segment && metadata.len().to_string() == SEGMENT_BYTES {
                        let created = metadata.created().tried(|| file.display().to_string())?;
                        all += 1;
                        older += usize::from(created < worn);
                    }
                }
            }
        }
        let share = (older * 100).checked_div(all).unwrap_or(0);
        self.recycled_least.set(share.min(self.recycled_least.get()));
        if share >= RECYCLED_MIN || self.context.settings.scale < 1.0 {
            return Ok(());
        }
        Err(Failure::unexpected("percent of segments on recycled files", share, RECYCLED_MIN))
    }

    /// Three nodes on empty directories.
    fn start_nodes(&self) -> Result<Cluster, Failure> {
        let site = |place: &PathBuf| self.context.site(place);
        let sites: Vec<Site> = self.places.iter().map(site).collect();
        Cluster::start(cluster::Plan {
            binary: &self.context.settings.binary,
            sites: &sites,
            are_exclusive: self.has_volumes(),
            has_all_doors: false,
            settings: SETTINGS,
        })
    }

    fn on_chain(&self) -> Result<Slice, Failure> {
        if self.files == Files::Recycled {
            // Whatever the files hold: their blocks are there.
            self.chain_once()?;
        }
        let slice = self.chain_once()?;
        self.clear()?;
        Ok(slice)
    }

    fn chain_once(&self) -> Result<Slice, Failure> {
        let bytes = (self.bytes() + self.bytes() / 16).to_string();
        let mut followers = Vec::new();
        for place in self.places.iter().skip(1) {
            let file = place.join("chain").to_string_lossy().into_owned();
            let arguments = ["chain-follower", "--file", &file, "--bytes", &bytes];
            followers.push(self.context.bare_loop(&arguments)?);
        }
        let file = self.places.first().map(|place| place.join("chain")).unwrap_or_default();
        let file = file.to_string_lossy().into_owned();
        let count = NODES.to_string();
        let mut arguments =
            vec!["chain-leader", "--file", &file, "--bytes", &bytes, "--connections", &count];
        let addresses: Vec<String> =
            followers.iter().map(|follower| follower.address.to_string()).collect();
        addresses.iter().for_each(|address| arguments.extend(["--follower", address.as_str()]));
        let leader = self.context.bare_loop(&arguments)?;
        let third = PARTITIONS / NODES as i32;
        let leaders: Vec<_> = (0..NODES as i32)
            .map(|at| ((at * third..(at + 1) * third).collect(), leader.address))
            .collect();
        let lines = self.lines("chain", &leaders)?;
        let mut pids = vec![leader.pid()];
        pids.extend(followers.iter().map(Running::pid));
        settle();
        let before = cpu_of(&pids)?;
        let (outcome, after) = replay_each(lines, || cpu_of(&pids))?;
        leader.kill();
        followers.into_iter().for_each(Running::kill);
        Ok(self.slice(outcome, after?.saturating_sub(before)))
    }

    fn slice(&self, outcome: Outcome, cpu: Duration) -> Slice {
        Slice {
            wall: outcome.wall,
            server_cpu: Some(cpu),
            loader_cpu: outcome.loader_cpu,
            amount: self.bytes(),
        }
    }

    /// Empties the places.
    fn clear(&self) -> Result<(), Failure> {
        for place in &self.places {
            let what = || place.display().to_string();
            let data = place.join("data");
            if data.exists() {
                fs::remove_dir_all(&data).tried(what)?;
            }
            let chain = place.join("chain");
            if chain.exists() {
                fs::remove_file(&chain).tried(what)?;
            }
        }
        Ok(())
    }

    /// Median time of a flush of 4 KiB on the first node's filesystem.
    fn flush_us(&self) -> Result<u128, Failure> {
        let path = self.places.first().map(|place| place.join("flush")).unwrap_or_default();
        let what = || path.display().to_string();
        let file = fs::File::create(&path).tried(what)?;
        let mut took = Vec::new();
        for at in 0..FLUSHES {
            use std::os::unix::fs::FileExt;
            let begun = Instant::now();
            file.write_all_at(&[1; 4096], u64::from(at) * 4096).tried(what)?;
            file.sync_data().tried(what)?;
            took.push(begun.elapsed().as_micros());
        }
        fs::remove_file(&path).tried(what)?;
        took.sort_unstable();
        Ok(took.get(took.len() / 2).copied().unwrap_or_default())
    }

    fn contract(&self) -> Vec<(&'static str, String)> {
        let place = self.places.first().map(|place| filesystem_of(place)).unwrap_or_default();
        let filesystem = if self.has_volumes() {
            format!("{place}, a loop-mounted volume for each node")
        } else {
            format!("{place}, shared by the nodes: flushes help each other")
        };
        let files = match self.files {
            Files::New => "new, allocated, per slice; both sides",
            Files::Recycled => "written by slices before, which are not timed; both sides",
        };
        let Shape { records, batch_bytes } = Shape::BULK;
        vec![
            ("nodes", "3 processes on this machine, replication factor 3".to_owned()),
            ("batch", format!("{batch_bytes} bytes, {records} records, seeded noise")),
            ("partitions", PARTITIONS.to_string()),
            ("connections", "one to each leader; the chain gets as many".to_owned()),
            ("in flight", format!("{INFLIGHT} in all")),
            ("slice", format!("{} MiB, burst, a new cluster each", self.bytes() >> 20)),
            ("durability", "acks=all, flushed by two of three before the ack".to_owned()),
            ("filesystem", filesystem),
            ("files", files.to_owned()),
            ("page cache", "synced before each slice, nothing dropped".to_owned()),
            ("pins", "none".to_owned()),
            ("pairs", self.context.pairs_text()),
        ]
    }
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let what = || directory.display().to_string();
    let entries = fs::read_dir(directory).tried(what)?;
    entries.map(|entry| Ok(entry.tried(what)?.path())).collect()
}

fn cpu_of(pids: &[u32]) -> Result<Duration, Failure> {
    pids.iter().map(|pid| process_cpu(*pid)).sum()
}
