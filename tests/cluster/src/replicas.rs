//! Whether the copies of every log are equal, frame by frame.
//!
//! Invariant: equal means the same term, kind, offset and payload at each index; where a frame lies
//! and which flush made it durable is each node's own. Commands that a snapshot stands for may lack
//! at the beginning of a copy; records may not.
//! Absent on purpose: nodes that are behind. A difference counts only if it does not go away.

use crate::nodes::Nodes;
use kafka_clients_tests::broker::binary;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What tells one frame from another.
type Frame = (u64, String, u64, u64);
/// Replicas that every log has at least: internal ones have three on five nodes, too.
const REPLICAS_MIN: usize = 3;

/// Frames of one copy by their index.
type Frames = BTreeMap<u64, Frame>;

/// Waits until all copies of these nodes are equal; how many frames were compared, or what differs
/// in the end.
///
/// # Errors
/// The first difference, in words.
pub fn agree(nodes: &Nodes, ids: &[usize], timeout: Duration) -> Result<u64, String> {
    let deadline = Instant::now() + timeout;
    loop {
        let compared = compare(nodes, ids);
        if compared.is_ok() || Instant::now() > deadline {
            return compared;
        }
    }
}

fn compare(nodes: &Nodes, ids: &[usize]) -> Result<u64, String> {
    let homes = |id: usize| nodes.disk(id).data().join("partitions");
    let names: BTreeSet<_> = ids.iter().flat_map(|id| listed(&homes(*id))).collect();
    let mut compared = 0;
    for path in names {
        let name = path.to_string_lossy().into_owned();
        let holding: Vec<usize> =
            ids.iter().copied().filter(|id| homes(*id).join(&path).is_dir()).collect();
        if holding.len() < REPLICAS_MIN.min(ids.len()) {
            return Err(format!("log {name}: only nodes {holding:?} have it"));
        }
        let copies: Vec<(usize, Frames)> =
            holding.into_iter().map(|id| (id, frames(&homes(id).join(&path)))).collect();
        let Some(((first, frames), others)) = copies.split_first() else { continue };
        for (other, copy) in others {
            let beginning = frames.keys().next().max(copy.keys().next()).copied().unwrap_or(0);
            let differs = difference(frames, copy, beginning);
            if let Some((index, one, two)) = differs {
                return Err(format!(
                    "log {name} at {index}: node {first} has {one:?}, node {other} {two:?}"
                ));
            }
        }
        compared += frames.len() as u64;
    }
    Ok(compared)
}

/// The first index at which two copies differ, and what each has there.
fn difference<'a>(
    one: &'a Frames,
    two: &'a Frames,
    beginning: u64,
) -> Option<(u64, Option<&'a Frame>, Option<&'a Frame>)> {
    let counts =
        |(index, (_, kind, ..)): &(&u64, &Frame)| **index >= beginning || kind == "records";
    let indexes = one.iter().chain(two).filter(counts).map(|(index, _)| *index);
    let differ = |index: &u64| one.get(index) != two.get(index);
    let first = indexes.filter(differ).min()?;
    Some((first, one.get(&first), two.get(&first)))
}

/// Names in a directory.
fn listed(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    entries.filter_map(|entry| Some(PathBuf::from(entry.ok()?.file_name()))).collect()
}

/// The first segment of each log of a node that holds records.
pub fn first_segments(nodes: &Nodes, id: usize) -> Vec<PathBuf> {
    let home = nodes.disk(id).data().join("partitions");
    let logs = listed(&home).into_iter().filter_map(|log| {
        let log = home.join(log);
        let segment = log.join(segments(&log).into_iter().next()?);
        let has_records = dumped(&segment).values().any(|(_, kind, ..)| kind == "records");
        has_records.then_some(segment)
    });
    logs.collect()
}

/// Names of a log's segments, in order.
fn segments(log: &Path) -> Vec<PathBuf> {
    let mut segments = listed(log);
    segments.retain(|name| name.extension().is_some_and(|ending| ending == "log"));
    segments.sort();
    segments
}

/// What is in the segments of a log, of a running node too.
fn frames(log: &Path) -> Frames {
    segments(log).into_iter().flat_map(|segment| dumped(&log.join(segment))).collect()
}

/// What the broker's own command finds in a segment.
fn dumped(segment: &Path) -> Frames {
    let mut frames = Frames::new();
    for frame in lines(segment) {
        let number = |key: &str| frame[key].as_u64().unwrap_or(u64::MAX);
        let kind = frame["kind"].as_str().unwrap_or_default().to_owned();
        let identity = (number("term"), kind, number("base_offset"), number("payload_crc"));
        frames.insert(number("index"), identity);
    }
    frames
}

/// Its lines, each of a frame that is whole.
fn lines(segment: &Path) -> Vec<Value> {
    let output = Command::new(binary()).args(["log", "dump"]).arg(segment).output();
    let output = output.expect("the binary is there");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// What a log holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Records of a topic.
    Records,
    /// Commands of groups.
    Commands,
    /// The cluster's metadata.
    Metadata,
}

/// Name of the metadata partition's log.
const METADATA: &str = "0000000000000001";
/// A frame with so many behind it is no torn tail.
const BEHIND_MIN: usize = 8;
const FRAME_HEADER_BYTES: u64 = 64;

/// The logs of a kind in a node's `partitions`, each with the indexes that have many behind them.
pub fn logs(partitions: &Path, kind: Kind) -> Vec<(String, Vec<u64>)> {
    let mut found = Vec::new();
    for name in names(partitions) {
        let frames = frames(&partitions.join(&name));
        let has_records = frames.values().any(|(_, kind, ..)| kind == "records");
        let is_it = match kind {
            Kind::Metadata => name == METADATA,
            Kind::Records => has_records,
            Kind::Commands => name != METADATA && !has_records,
        };
        let count = frames.len().saturating_sub(BEHIND_MIN);
        if is_it && count > 0 {
            found.push((name, frames.into_keys().take(count).collect()));
        }
    }
    found
}

/// The logs in a node's `partitions` that have a state file.
pub fn logs_with_state(partitions: &Path) -> Vec<(String, Vec<u64>)> {
    let mut found = names(partitions);
    found.retain(|name| newest_state(&partitions.join(name)).is_some());
    found.into_iter().map(|name| (name, Vec::new())).collect()
}

fn names(partitions: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        listed(partitions).iter().map(|name| name.to_string_lossy().into_owned()).collect();
    // Not a snapshot that is to take a log's place.
    names.retain(|name| name.len() == METADATA.len());
    names.sort();
    names
}

/// The newest state file of a log.
pub fn newest_state(log: &Path) -> Option<PathBuf> {
    let mut states = listed(log);
    states.retain(|name| name.to_string_lossy().starts_with("state-"));
    states.into_iter().max().map(|name| log.join(name))
}

/// The copy of a node's meta log that is in use.
pub fn newest_meta_log(data: &Path) -> Option<PathBuf> {
    let generation = |path: &PathBuf| {
        let file = fs::File::open(path).ok()?;
        let mut bytes = [0; 8];
        // Behind the magic and the version.
        file.read_exact_at(&mut bytes, 8).ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    let copies = ["meta.a", "meta.b"].map(|name| data.join(name));
    copies.into_iter().filter(|path| path.is_file()).max_by_key(generation)
}

/// The segment that holds a frame whole, and its bytes there.
pub fn place(log: &Path, index: u64) -> Option<(PathBuf, Range<u64>)> {
    segments(log).into_iter().find_map(|name| {
        let segment = log.join(name);
        let frame = lines(&segment).into_iter().find(|frame| frame["index"] == index)?;
        let (position, bytes) = (frame["position"].as_u64()?, frame["payload_bytes"].as_u64()?);
        Some((segment, position..position + FRAME_HEADER_BYTES + bytes))
    })
}

/// Whether a log has a frame, or begins behind it as a snapshot lets it.
pub fn holds(log: &Path, index: u64) -> bool {
    let frames = frames(log);
    frames.keys().next().is_some_and(|first| *first > index) || frames.contains_key(&index)
}
