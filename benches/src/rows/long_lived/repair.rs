//! A node whose disk has rotted while it was down: how soon its copy is whole again, and what users
//! of other partitions notice of that.
//!
//! ```text
//!   quiet ── kill ── start ──── kill ── damage ── start ───────── whole ── all is read back
//!   └ probe ┘        └ restart alone ┘            └ disturbed ────────┘
//!     producers at a fixed rate to partitions that other nodes lead, all the time
//! ```
//!
//! The node follows in every partition, so that its kill moves no leader: what the producers notice
//! is the repair, the start of a node, and the processors that all three share.
//!
//! Invariant: a repair counts if the segment's frames are those of before, each by index, term,
//! kind, offset and checksum, and every batch is read back from the mended copy and from another.
//!
//! Absent on purpose: damage that nobody looks for. A block of a closed segment is met by the
//! scrub, whose share of the disk's time is what it is for everybody.

use super::{Home, lateness_row, spread};
use crate::client::Client;
use crate::cluster::{Cluster, id};
use crate::counters::settle;
use crate::failure::{Failure, Tried};
use crate::loader::{Plan, replay};
use crate::machine::output;
use crate::paced::{Lane, Lateness, Paced, Window};
use crate::payload::{Noise, Shape, produce_request};
use crate::read_back::{Expected, read_back};
use crate::report::{Gate, Row, Unit};
use crate::rows::Context;
use bateau_protocol::record::Batch;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The node whose disk rots.
const VICTIM: usize = 2;
/// Who holds the topic that is damaged, its leader first.
const HOLDERS: [i32; 3] = [1, 2, 3];
/// The same, when the mended copy is to be read.
const VICTIM_FIRST: [i32; 3] = [3, 1, 2];
/// Who holds the partitions of the paced producers: nodes lead that are not killed.
const OTHERS: [&[i32]; 4] = [&[1, 2, 3], &[2, 1, 3], &[1, 3, 2], &[2, 3, 1]];

const SEGMENT_BYTES: u64 = 256 << 20;
/// The least that a topic may have.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// As much data as so many full ones hold. The first of a log are smaller, and the last is open.
const SEGMENTS: u64 = 5;
/// Bytes of a segment that a frame takes besides its batch, and that stay free at its end, at most.
const BATCH_SLACK_BYTES: u64 = 128;
const DISTINCT: usize = 64;
const INFLIGHT: usize = 16;

/// Of each lane.
const INTERVAL: Duration = Duration::from_millis(4);
/// How long nothing happens: about as long as a repair takes, so that what this machine does by
/// itself every few seconds is in both windows.
const QUIET: Duration = Duration::from_secs(20);
/// How long a start alone is looked at.
const RESTART: Duration = Duration::from_secs(3);
/// The least that is looked at of a repair.
const DISTURBED_MIN: Duration = Duration::from_secs(1);
const DAMAGE_BYTES: u64 = 4_096;
/// A copy that is not whole after so long is a failure.
const WHOLE_MAX: Duration = Duration::from_secs(300);
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// What happens to a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blow {
    /// 4 KiB in its middle are others.
    Block,
    /// Its file is gone.
    Lost,
}

impl Blow {
    const fn name(self) -> &'static str {
        match self {
            Self::Block => "repair_damaged",
            Self::Lost => "repair_lost",
        }
    }

    const fn others_name(self) -> &'static str {
        match self {
            Self::Block => "repair_damaged_others",
            Self::Lost => "repair_lost_others",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Block => "4 KiB of noise over the middle of a closed segment",
            Self::Lost => "the file of a closed segment in the middle removed",
        }
    }

    fn deal(self, segment: &Path) -> Result<(), Failure> {
        let what = || segment.display().to_string();
        if self == Self::Lost {
            return fs::remove_file(segment).tried(what);
        }
        let file = File::options().write(true).open(segment).tried(what)?;
        let bytes = file.metadata().tried(what)?.len();
        let noise = Noise::new(bytes).bytes(usize::try_from(DAMAGE_BYTES).unwrap_or(0));
        file.write_all_at(&noise, bytes / 2).tried(what)?;
        file.sync_all().tried(what)
    }
}

/// What a round has seen.
struct Round {
    /// From just before exec until the node said that the segment is mended.
    whole: Duration,
    /// The same until it said that it has met the damage, where it did.
    met: Option<Duration>,
    /// Frames that came from others.
    frames: u64,
    disturbed: Lateness,
    quiet: Lateness,
    restart: Lateness,
}

/// The rows.
pub(super) fn run(context: &Context) -> Result<Vec<Row>, Failure> {
    let mut field = Field::prepare(context)?;
    let mut rows = Vec::new();
    for blow in [Blow::Block, Blow::Lost] {
        let rounds: Result<Vec<Round>, _> =
            (0..context.settings.pairs).map(|round| field.round(blow, round)).collect();
        rows.extend(field.rows(blow, &rounds?)?);
    }
    Ok(rows)
}

/// A cluster with a topic to be damaged, and one that is not.
struct Field<'a> {
    context: &'a Context,
    home: Home,
    topic: String,
    others: String,
    requests: u64,
    checksums: Vec<u32>,
    segment_bytes: u64,
}

impl<'a> Field<'a> {
    fn prepare(context: &'a Context) -> Result<Self, Failure> {
        let home = Home::start(context)?;
        let (topic, others) = (context.topic("rotten"), context.topic("others"));
        let segment_bytes = context.scaled(SEGMENT_BYTES).max(SEGMENT_BYTES_MIN);
        let mut client = Client::connect(home.cluster.address(0)?)?;
        let bytes = segment_bytes.to_string();
        client.create_assigned(&topic, &[&HOLDERS], &[("segment.bytes", &bytes)])?;
        client.create_assigned(&others, &OTHERS, &[])?;
        // A batch more than the full segments hold.
        let batch_bytes = Shape::BULK.batch_bytes as u64 + BATCH_SLACK_BYTES;
        let requests = (SEGMENTS * segment_bytes).div_ceil(batch_bytes) + 1;
        let mut noise = Noise::new(31);
        let (mut set, mut checksums) = (Vec::new(), Vec::new());
        for _ in 0..DISTINCT {
            let batch = Shape::BULK.batch(&mut noise)?;
            checksums.push(Batch::split_first(&batch)?.0.header().crc);
            set.push(produce_request(&topic, 0, batch)?);
        }
        let plan = Plan { address: home.cluster.address(0)?, requests, inflight: INFLIGHT };
        replay(plan, vec![set])?;
        Ok(Self { context, home, topic, others, requests, checksums, segment_bytes })
    }

    fn cluster(&self) -> &Cluster {
        &self.home.cluster
    }

    fn round(&mut self, blow: Blow, number: usize) -> Result<Round, Failure> {
        let segment = self.segment(number)?;
        let frames_before = self.frames(&segment)?;
        settle();
        let paced = Paced::begin(&self.lanes()?, INTERVAL)?;
        let begun = Instant::now();
        std::thread::sleep(QUIET);
        let quiet = Window::since(begun);
        self.home.cluster.kill(VICTIM);
        let begun = Instant::now();
        self.home.cluster.start_again(VICTIM)?;
        std::thread::sleep(RESTART.saturating_sub(begun.elapsed()));
        let restart = Window::since(begun);
        self.home.cluster.kill(VICTIM);
        blow.deal(&segment)?;
        let begun = Instant::now();
        self.home.cluster.start_again(VICTIM)?;
        let Mended { met, whole, frames } = self.until_mended(begun)?;
        std::thread::sleep(DISTURBED_MIN.saturating_sub(begun.elapsed()));
        let disturbed = Window::since(begun);
        let lanes = paced.end()?;
        if self.frames(&segment)? != frames_before {
            let what = format!("frames of {}", segment.display());
            return Err(Failure::unexpected(what, "others", "those of before"));
        }
        self.read_everything()?;
        Ok(Round {
            whole,
            met,
            frames,
            disturbed: Lateness::of(&lanes, disturbed)?,
            quiet: Lateness::of(&lanes, quiet)?,
            restart: Lateness::of(&lanes, restart)?,
        })
    }

    fn lanes(&self) -> Result<Vec<Lane>, Failure> {
        let mut lanes = Vec::new();
        for (partition, holders) in (0..).zip(OTHERS) {
            let leader = holders.first().and_then(|id| usize::try_from(id - 1).ok()).unwrap_or(0);
            let address = self.cluster().address(leader)?;
            lanes.push(Lane { address, topic: self.others.clone(), partition });
        }
        Ok(lanes)
    }

    /// One of the victim's closed segments of the full size, with others before and behind it.
    fn segment(&self, number: usize) -> Result<PathBuf, Failure> {
        let partitions = self.cluster().data(VICTIM).join("partitions");
        let mut full = Vec::new();
        for log in listed(&partitions)? {
            for file in listed(&log)? {
                let is_segment = file.extension().is_some_and(|end| end == "log");
                let bytes = fs::metadata(&file).tried(|| file.display().to_string())?.len();
                // A log's first segments are smaller, and other logs have no others.
                if is_segment && bytes == self.segment_bytes {
                    full.push(file);
                }
            }
        }
        full.sort();
        // The last one is open.
        full.pop();
        let chosen = full.get(number % full.len().max(1)).cloned();
        chosen.ok_or_else(|| Failure::unexpected("full segments that are closed", 0, "1 or more"))
    }

    /// What tells a segment's frames from others, one line each; all of them are whole.
    fn frames(&self, segment: &Path) -> Result<Vec<String>, Failure> {
        let binary = self.context.settings.binary.to_string_lossy().into_owned();
        let segment = std::path::absolute(segment).tried(|| segment.display().to_string())?;
        let text = output(&binary, &["log", "dump", &segment.to_string_lossy()])?;
        let identity = |line: &str| {
            let frame: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            let parts = ["index", "term", "kind", "base_offset", "position", "payload_crc"];
            parts.map(|part| frame.get(part).map(ToString::to_string).unwrap_or_default()).join(" ")
        };
        Ok(text.lines().map(identity).collect())
    }

    /// Waits until the node says that it has mended a segment.
    fn until_mended(&self, begun: Instant) -> Result<Mended, Failure> {
        let mut met = None;
        loop {
            let said = self.cluster().said(VICTIM)?;
            let at = begun.elapsed();
            if met.is_none() && DAMAGE_WORDS.iter().any(|words| said.contains(words)) {
                met = Some(at);
            }
            if let Some(line) = said.lines().find(|line| line.contains(MENDED_WORDS)) {
                return Ok(Mended { met, whole: at, frames: frames_of(line) });
            }
            if at > WHOLE_MAX {
                let last: Vec<&str> = said.lines().rev().take(5).collect();
                let what = format!("node {} after {WHOLE_MAX:?}", id(VICTIM));
                return Err(Failure::unexpected(what, last.join("; "), MENDED_WORDS));
            }
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// All that was ever acknowledged is read from the mended copy, and from the one of another.
    fn read_everything(&self) -> Result<(), Failure> {
        let mut leader = Client::connect(self.cluster().address(0)?)?;
        let mut victim = Client::connect(self.cluster().address(VICTIM)?)?;
        leader.reassign(&self.topic, &[0], &VICTIM_FIRST)?;
        leader.elect_first(&self.topic, &[0])?;
        self.read(&mut victim)?;
        leader.reassign(&self.topic, &[0], &HOLDERS)?;
        leader.elect_first(&self.topic, &[0])?;
        self.read(&mut leader)
    }

    fn read(&self, client: &mut Client) -> Result<(), Failure> {
        let expected = Expected {
            topic: &self.topic,
            partition: 0,
            batches: self.requests,
            records_each: Shape::BULK.records as u64,
            checksums: &self.checksums,
        };
        let batches = read_back(client, expected)?;
        let records = i64::try_from(batches * expected.records_each).unwrap_or(i64::MAX);
        client.expect_records(&self.topic, 1, records)
    }

    fn rows(&self, blow: Blow, rounds: &[Round]) -> Result<[Row; 2], Failure> {
        let of = |pick: fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(pick).collect() };
        let whole = of(|round| round.whole.as_secs_f64());
        let mut repair = self.context.row(blow.name(), Unit::Seconds, &whole)?;
        repair.gates = vec![Gate::FigureAtMost(60.0)];
        repair.contract = self.contract(blow, rounds.len());
        let met: Vec<f64> =
            rounds.iter().filter_map(|round| Some(round.met?.as_secs_f64())).collect();
        repair.beside = vec![
            ("damage met after", spread(&met, 2, "s")),
            ("frames from others", spread(&of(|round| round.frames as f64), 0, "frames")),
            ("read back, twice each round", format!("{} batches", self.requests)),
        ];
        let pairs: Vec<_> = rounds.iter().map(|round| (round.disturbed, round.quiet)).collect();
        let probe = "the same p99 while all nodes ran";
        let mut others = lateness_row(self.context, blow.others_name(), probe, &pairs)?;
        others.contract = self.contract(blow, rounds.len());
        others.contract.extend([
            ("producers", format!("{} to other partitions, open loop", OTHERS.len())),
            ("rate", format!("1 record of 1 KiB every {} ms each", INTERVAL.as_millis())),
            ("window", format!("start until whole, at least {} s", DISTURBED_MIN.as_secs())),
        ]);
        let restart = of(|round| round.restart.p99_us as f64);
        others.beside.push(("p99 beside a start without damage", spread(&restart, 0, "us")));
        Ok([repair, others])
    }

    fn contract(&self, blow: Blow, rounds: usize) -> Vec<(&'static str, String)> {
        let mib = self.segment_bytes >> 20;
        let data = (self.requests * Shape::BULK.batch_bytes as u64) >> 20;
        vec![
            ("nodes", "3 processes on this machine, replication factor 3".to_owned()),
            ("topic", format!("1 partition, {data} MiB in segments of up to {mib} MiB")),
            ("segment", format!("{mib} MiB")),
            ("damage", format!("{}, on a follower that does not run", blow.text())),
            (
                "measured",
                "just before exec until its log says that the segment is mended".to_owned(),
            ),
            ("filesystem", self.context.machine.filesystem.clone()),
            ("page cache", "cached, but for what a start doubts and drops".to_owned()),
            ("rounds", rounds.to_string()),
        ]
    }
}

/// What a node has said of a mending, and when.
struct Mended {
    met: Option<Duration>,
    whole: Duration,
    frames: u64,
}

/// Any of these is said when damage is met.
const DAMAGE_WORDS: [&str; 3] =
    ["the scrub has met damage", "a segment is damaged", "damaged entries are asked of others"];

/// This is said when a segment is whole again.
const MENDED_WORDS: &str = "a segment is mended";

/// Frames that came from others, by the line that says so.
fn frames_of(line: &str) -> u64 {
    let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    let fields = line.get("fields").unwrap_or(&line);
    fields.get("frames").and_then(serde_json::Value::as_u64).unwrap_or(0)
}

fn listed(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let what = || directory.display().to_string();
    let entries = fs::read_dir(directory).tried(what)?;
    entries.map(|entry| Ok(entry.tried(what)?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_changes_bytes_in_the_middle_alone_and_a_loss_takes_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let segment = directory.path().join("segment");
        let before = Noise::new(1).bytes(20_000);
        fs::write(&segment, &before).unwrap();
        Blow::Block.deal(&segment).unwrap();
        let after = fs::read(&segment).unwrap();
        assert!(after.len() == before.len() && after != before);
        assert_eq!((&after[..10_000], &after[14_096..]), (&before[..10_000], &before[14_096..]));
        Blow::Lost.deal(&segment).unwrap();
        assert!(!segment.exists() && Blow::Lost.deal(&segment).is_err());
    }

    #[test]
    fn the_frames_of_a_mending_are_read_from_a_line_of_either_shape() {
        assert_eq!(frames_of(r#"{"fields":{"message":"a segment is mended","frames":7}}"#), 7);
        assert_eq!(frames_of(r#"{"message":"a segment is mended","frames":9}"#), 9);
        assert_eq!(frames_of("a segment is mended"), 0);
    }
}
