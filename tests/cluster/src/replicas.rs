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
    let output = Command::new(binary()).args(["log", "dump"]).arg(segment).output();
    let output = output.expect("the binary is there");
    let mut frames = Frames::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(frame) = serde_json::from_str::<Value>(line) else { continue };
        let number = |key: &str| frame[key].as_u64().unwrap_or(u64::MAX);
        let kind = frame["kind"].as_str().unwrap_or_default().to_owned();
        let identity = (number("term"), kind, number("base_offset"), number("payload_crc"));
        frames.insert(number("index"), identity);
    }
    frames
}
