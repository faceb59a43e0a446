//! P14: files of nodes are damaged while these do not run: on a minority, or on all.
//!
//! ```text
//!   minority   kill ─ damage ─ start ─┬─ ready: repaired or replaced by itself ─┬─ whole in 60 s
//!                                     └─ exit 4, one line: wiped, node replace ─┘
//!   all        kill ─ damage the same ─ start: exit 4, or the exact range and the others serve
//!                   ─ kill ─ undo ─ start: everything is there
//! ```
//!
//! Invariants
//! - Damage lies where a frame with many more behind it is, of more than a second before, so that
//!   it never is a torn tail.
//! - What is damaged on all is put back in the end, so that the checker judges every record.
//! - What a start does not look at is met by readers or the scrub, within the same minute.
//!
//! Absent on purpose: damage under a running node (P11).

use super::directory::replaced;
use super::membership::{CHANGE_MAX, right};
use super::{LOOK_MAX, PARTITIONS, RECOVERY_MAX, Run, TOPIC, all_partitions};
use crate::group::Group;
use crate::harm::{Blow, Harm};
use crate::load::RETRY_PAUSE;
use crate::operator;
use crate::replicas::{self, Kind};
use kafka_clients_tests::program::wait_until;
use kafka_clients_tests::raw::code;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Exit code of a node that has lost what it cannot do without.
const REFUSED: i32 = 4;
/// By then what was written has left marks elsewhere, also where the load never pauses.
const MARKED_AFTER: Duration = Duration::from_millis(1_500);
/// For so long readers ask for what is damaged.
const ASKED: Duration = Duration::from_secs(4);
/// What a node says that has met damage while it ran.
const ASKED_WORDS: &str = "damaged entries are asked of others";
/// Kafka's code for what cannot be read.
const STORAGE_ERROR: i16 = 56;
/// Commits of each group before the damage.
const COMMANDS: i64 = 24;
/// For so long nodes that have all lost the same are watched.
const WATCHED: Duration = Duration::from_secs(3);
/// Where header, seal and first batch of a meta log lie, in bytes.
const META_PARTS: [std::ops::Range<u64>; 3] = [0..20, 4_096..4_112, 8_192..8_400];

/// Whose files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Records,
    Commands,
    Metadata,
    Side,
    State,
    MetaLog,
}

impl Target {
    const ALL: [Self; 6] =
        [Self::Records, Self::Commands, Self::State, Self::MetaLog, Self::Side, Self::Metadata];

    fn name(self) -> &'static str {
        match self {
            Self::Records => "segments_of_records",
            Self::Commands => "segments_of_commands",
            Self::Metadata => "segments_of_metadata",
            Self::Side => "side_files",
            Self::State => "state_files",
            Self::MetaLog => "meta_logs",
        }
    }

    /// Kind of the log that a file is of.
    fn kind(self) -> Kind {
        match self {
            Self::Metadata => Kind::Metadata,
            Self::Commands => Kind::Commands,
            Self::Records | Self::Side | Self::State | Self::MetaLog => Kind::Records,
        }
    }
}

/// What is damaged: a frame by its log and index, where it is about one.
#[derive(Clone, Debug)]
struct Spot {
    target: Target,
    blow: Blow,
    log: String,
    index: u64,
}

impl Spot {
    /// File and bytes of it in a node's directory.
    fn place(&self, run: &mut Run, id: usize) -> Option<(PathBuf, std::ops::Range<u64>)> {
        let data = run.nodes.disk(id).data();
        let log = data.join("partitions").join(&self.log);
        match self.target {
            Target::Records | Target::Commands | Target::Metadata => {
                replicas::place(&log, self.index)
            }
            Target::Side => {
                let (segment, _) = replicas::place(&log, self.index)?;
                let side = segment.with_extension("side");
                let bytes = side.metadata().ok()?.len();
                (bytes > 0).then_some((side, 0..bytes))
            }
            Target::State => {
                let state = replicas::newest_state(&log)?;
                let bytes = state.metadata().ok()?.len();
                Some((state, 0..bytes))
            }
            Target::MetaLog => {
                let part = META_PARTS[run.random.usize(..META_PARTS.len())].clone();
                Some((replicas::newest_meta_log(&data)?, part))
            }
        }
    }
}

/// Gives groups something to be damaged.
fn prepare() {
    for name in ["one", "other"] {
        let mut group = Group::new(1, name);
        group.join();
        for offset in 0..COMMANDS {
            let code = group.commit(TOPIC, offset);
            assert_eq!(code, code::NONE, "a healthy group takes an offset");
        }
    }
}

/// Metadata of which there is enough, also where a node has begun anew behind a snapshot.
fn write_metadata(run: &mut Run) {
    for days in 1..=COMMANDS / 2 {
        let config = format!("retention.ms={}", days * 86_400_000);
        let told = operator::run(&run.nodes, 1, &["topic", "alter", TOPIC, "-c", &config]);
        assert!(told.is_some_and(|told| told.code == Some(0)), "a healthy cluster takes a config");
    }
}

/// P14.
pub(super) fn files(run: &mut Run) {
    prepare();
    let mut targets = Target::ALL;
    run.random.shuffle(&mut targets);
    for round in 0..run.form.faults() {
        run.breathe();
        let blow = Blow::ALL[run.random.usize(..Blow::ALL.len())];
        let is_of_all = round % 4 == 3 || (run.form.faults() < 4 && round == 1);
        let Some(spot) = spot(run, targets[round % targets.len()], blow) else { continue };
        if is_of_all {
            everywhere(run, &spot);
        } else {
            minority(run, &spot);
        }
        right(run);
        let took = run.recovers("after damage to files", RECOVERY_MAX);
        run.entry.recoveries.push(took);
    }
}

/// Something to damage, of a log that many nodes have; waits for it to be written.
fn spot(run: &mut Run, target: Target, blow: Blow) -> Option<Spot> {
    let (at, _) = run.leader();
    if target == Target::Metadata {
        write_metadata(run);
    }
    let deadline = Instant::now() + LOOK_MAX;
    loop {
        let partitions = run.nodes.disk(at).data().join("partitions");
        let mut logs = replicas::logs(&partitions, target.kind());
        if target == Target::State {
            logs = replicas::logs_with_state(&partitions);
        }
        run.random.shuffle(&mut logs);
        for (log, indexes) in logs {
            let index = match target {
                Target::State | Target::MetaLog => 0,
                _ if indexes.is_empty() => continue,
                _ => indexes[run.random.usize(..indexes.len())],
            };
            std::thread::sleep(MARKED_AFTER);
            return Some(Spot { target, blow, log, index });
        }
        if Instant::now() > deadline {
            run.problem(format!("node {at} has nothing to damage: {target:?}"));
            return None;
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// Damages files of so many nodes that the others are a majority.
fn minority(run: &mut Run, spot: &Spot) {
    let has_log = |run: &Run, id: &usize| {
        run.nodes.disk(*id).data().join("partitions").join(&spot.log).is_dir()
    };
    let mut holders = run.nodes.ids();
    holders.retain(|id| has_log(run, id));
    run.random.shuffle(&mut holders);
    // A node that has lost its votes or its metadata has lost all of its copies, also those of the
    // internal partitions, of which there are three on five nodes, too.
    let loses_all = matches!(spot.target, Target::Metadata | Target::MetaLog);
    let victims_max = if loses_all { 1 } else { (holders.len() - 1) / 2 };
    let victims = holders[..victims_max].to_vec();
    let since = run.now();
    victims.iter().for_each(|id| run.nodes.kill(*id));
    run.recovers("beside nodes that are gone", LOOK_MAX);
    let mut harmed = victims.clone();
    harmed.retain(|id| harm(run, spot, *id).is_some());
    victims.iter().for_each(|id| run.nodes.launch(*id));
    let begun = Instant::now();
    for id in &victims {
        if !ready_or_refused(run, spot, *id) {
            run.nodes.disk(*id).wipe();
            replaced(run, *id);
        }
    }
    right(run);
    for id in harmed {
        mended(run, spot, id, begun);
    }
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    run.entry.measure("mended_after_ms", took_ms);
    run.fault_ended(since, &all_partitions());
}

/// Does the damage. A node that has no such file has nothing to lose.
fn harm(run: &mut Run, spot: &Spot, id: usize) -> Option<Harm> {
    let (path, range) = spot.place(run, id)?;
    let harm = Harm::deal(&path, spot.blow, range, &mut run.random);
    let harm = harm.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    run.entry.observe(spot.target.name(), 1);
    run.entry.observe(spot.blow.name(), 1);
    println!("node {id}: {spot:?} in {}", path.display());
    Some(harm)
}

/// Waits for a start. False where the node has ended, with the code and one line for it.
fn ready_or_refused(run: &mut Run, spot: &Spot, id: usize) -> bool {
    run.nodes.until_ready_or_ended(id);
    if run.nodes.is_ready(id) && run.nodes.running(id) {
        return true;
    }
    refused(run, spot, id);
    false
}

fn refused(run: &mut Run, spot: &Spot, id: usize) {
    let (status, said) = run.nodes.ended(id);
    let lines: Vec<&str> = said.lines().filter(|line| !line.starts_with('{')).collect();
    let wanted = ["damaged", "lost", "missing"];
    let is_clear = matches!(lines[..], [line] if wanted.iter().any(|word| line.contains(word)));
    if status.code() != Some(REFUSED) || !is_clear {
        run.problem(format!("node {id}, {spot:?}: ended with {status}: {lines:?}"));
    }
    run.entry.note("refused");
}

/// First and last index that a node has reported of a log, when it started.
fn reported(run: &Run, spot: &Spot, id: usize) -> Option<(u64, u64)> {
    let said = run.nodes.said(id);
    let (_, behind) = said.split_once(&format!("{} index ", spot.log))?;
    let (first, behind) = behind.split_once(" to ")?;
    let (last, _) = behind.split_once(':')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// First and last index that a running node has asked others for, which a start had not missed.
fn asked(run: &Run, spot: &Spot, id: usize) -> Option<(u64, u64)> {
    let log = u64::from_str_radix(&spot.log, 16).ok()?;
    let said = run.nodes.said(id);
    said.lines().filter(|line| line.contains(ASKED_WORDS)).find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let fields = line.get("fields").unwrap_or(&line);
        let number = |name: &str| fields.get(name)?.as_u64();
        let range = (number("first")?, number("last")?);
        (number("incarnation")? == log && (range.0..=range.1).contains(&spot.index))
            .then_some(range)
    })
}

/// Waits until a damaged frame is there again. What the start has not met lies below the durable
/// mark: readers find it, or the scrub.
fn mended(run: &mut Run, spot: &Spot, id: usize, begun: Instant) {
    if !matches!(spot.target, Target::Records | Target::Commands) {
        return;
    }
    let log = run.nodes.disk(id).data().join("partitions").join(&spot.log);
    let is_reported = reported(run, spot, id).is_some();
    if !is_reported && spot.target == Target::Records && run.random.bool() {
        read_there(run, spot, id);
    }
    while !replicas::holds(&log, spot.index) {
        if begun.elapsed() > CHANGE_MAX {
            let what = if is_reported { "reported" } else { "not even reported" };
            return run.problem(format!("node {id}, {spot:?}: not mended, {what}"));
        }
        std::thread::sleep(RETRY_PAUSE);
    }
    let how = match (is_reported, asked(run, spot, id)) {
        (true, _) => "replaced_by_itself",
        (false, Some(_)) => "met_while_it_ran",
        (false, None) => "made_up_for",
    };
    run.entry.note(how);
}

/// Has a node lead everything and be asked for everything, so that readers meet what is damaged
/// there, unless the scrub was there before them: an error, and no wrong byte.
fn read_there(run: &mut Run, spot: &Spot, id: usize) {
    let others: Vec<String> = run.nodes.others(id).iter().map(usize::to_string).collect();
    let drained = |run: &Run, how: &[&str]| {
        for other in &others {
            let arguments = [&["node", "drain", other], how].concat();
            // What lies on these alone cannot be moved, and need not be.
            let _ = operator::run(&run.nodes, id, &arguments);
        }
    };
    drained(run, &["--wait", "3s"]);
    let leads_all = |run: &Run| {
        run.load.directory().refresh(None);
        run.load.directory().partitions().iter().all(|led| led.leader == Some(id))
    };
    wait_until("it leads the whole topic", LOOK_MAX, || leads_all(run));
    let errors = |run: &Run| run.load.refusals().get(&(id, STORAGE_ERROR)).copied().unwrap_or(0);
    let before = errors(run);
    all_partitions().into_iter().for_each(|partition| run.load.read_again(partition));
    let log = run.nodes.disk(id).data().join("partitions").join(&spot.log);
    let until = Instant::now() + ASKED;
    while Instant::now() < until && !replicas::holds(&log, spot.index) {
        std::thread::sleep(RETRY_PAUSE);
    }
    let is_mended = replicas::holds(&log, spot.index);
    if errors(run) == before && !is_mended {
        run.problem(format!("node {id}, {spot:?}: readers met no error"));
    }
    run.entry.note(if is_mended { "mended_when_read" } else { "refused_to_readers" });
    drained(run, &["--undo"]);
}

/// Damages the same on every node, looks at what they say of it, and puts it back.
fn everywhere(run: &mut Run, spot: &Spot) {
    let ids = run.nodes.ids();
    let since = run.now();
    ids.iter().for_each(|id| run.nodes.kill(*id));
    // What has lost its votes is put aside by its node, so that it cannot be mended in its place.
    let is_for_good = matches!(spot.target, Target::Metadata | Target::MetaLog);
    if is_for_good {
        ids.iter().for_each(|id| run.nodes.disk(*id).keep_copy());
    }
    let harms: Vec<(usize, Harm)> =
        ids.iter().filter_map(|id| Some((*id, harm(run, spot, *id)?))).collect();
    run.entry.note("everywhere");
    ids.iter().for_each(|id| run.nodes.launch(*id));
    let is_undone = match spot.target {
        // Evidence, and what is computed from the log: nothing is lost with it, but where a log
        // begins behind a snapshot, of which the state is the only copy. Then that is said.
        Target::Side | Target::State => {
            ids.iter().for_each(|id| run.until_ready(*id));
            let is_named = ids.iter().any(|id| reported(run, spot, *id).is_some());
            if is_named {
                run.entry.note("states_of_snapshots");
            }
            if is_named && spot.target == Target::Side {
                run.problem(format!("{spot:?} on all nodes: a side file was missed"));
            }
            is_named
        }
        Target::Metadata | Target::MetaLog => {
            stays_out(run, spot);
            true
        }
        Target::Records | Target::Commands => {
            let harmed: Vec<usize> = harms.iter().map(|(id, _)| *id).collect();
            reports(run, spot, &harmed);
            true
        }
    };
    if is_undone {
        for id in ids.iter().filter(|id| run.nodes.running(**id)).copied().collect::<Vec<_>>() {
            run.nodes.kill(id);
        }
        if is_for_good {
            ids.iter().for_each(|id| run.nodes.disk(*id).exchange_with_copy());
            ids.iter().for_each(|id| run.nodes.disk(*id).forget_copy());
        } else {
            harms.into_iter().for_each(|(id, harm)| undone(run, spot, id, harm));
        }
        ids.iter().for_each(|id| run.nodes.launch(*id));
        ids.iter().for_each(|id| run.until_ready(*id));
    }
    run.fault_ended(since, &all_partitions());
}

/// Puts a file back. One node may have said what it lost before the others had met the same: then
/// its replica has a successor, and what was there is in quarantine.
fn undone(run: &mut Run, spot: &Spot, id: usize, harm: Harm) {
    if run.nodes.disk(id).data().join("partitions").join(&spot.log).is_dir() {
        harm.undo().expect("the directory is there");
    } else {
        run.entry.note("replaced_meanwhile");
    }
}

/// No node may go on that has lost its votes or its metadata, as all have.
fn stays_out(run: &mut Run, spot: &Spot) {
    let until = Instant::now() + WATCHED;
    let ids = run.nodes.ids();
    while Instant::now() < until {
        if let Some(id) = ids.iter().find(|id| run.nodes.is_ready(**id)) {
            return run.problem(format!("node {id} is ready, {spot:?} on all nodes"));
        }
        std::thread::sleep(RETRY_PAUSE);
    }
    for id in ids {
        if run.nodes.running(id) {
            run.entry.note("waiting");
        } else {
            refused(run, spot, id);
        }
    }
}

/// Every node that was harmed names the range; the other partitions are served.
fn reports(run: &mut Run, spot: &Spot, harmed: &[usize]) {
    let ids = run.nodes.ids();
    ids.iter().for_each(|id| run.until_ready(*id));
    let now = run.load.now();
    let others = usize::try_from(PARTITIONS - 1).expect("there are few");
    if run.load.acked_since(now, others, LOOK_MAX).is_none() {
        run.problem(format!("{spot:?} on all nodes: the other partitions take no records"));
    }
    for id in harmed.iter().copied() {
        match reported(run, spot, id) {
            // A block may begin below the durable mark, and end above it.
            Some((first, _)) if first > spot.index && spot.blow == Blow::Block => {
                run.entry.note("reports_the_end");
            }
            Some((first, _)) if first == spot.index || spot.blow == Blow::Deleted => {
                run.entry.note("reports");
            }
            Some((first, last)) => {
                run.problem(format!("node {id}, {spot:?}: reported {first} to {last}"));
            }
            None if matches!(spot.blow, Blow::Bit | Blow::Block) => {
                let until = Instant::now() + CHANGE_MAX;
                while asked(run, spot, id).is_none() && Instant::now() < until {
                    std::thread::sleep(RETRY_PAUSE);
                }
                match asked(run, spot, id) {
                    Some(_) => run.entry.note("met_while_it_ran"),
                    None => run.problem(format!("node {id}, {spot:?}: not met")),
                }
            }
            None => run.problem(format!("node {id}, {spot:?}: not reported")),
        }
    }
}
