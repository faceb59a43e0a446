//! What lies in a data directory, as far as its published names and `bateau log dump` tell.
//!
//! ```text
//!   data/partitions/<incarnation>/<first index>.log --bateau log dump--> Frame, Frame, ...
//! ```
//!
//! A test does not know which directory is which topic's: it looks which one came, or grew.
//!
//! # Invariants
//!
//! - Files are changed only while no broker runs on them.
//!
//! # Absent on purpose
//!
//! The formats: the dump reads frames, and damage is a flipped byte at a place that it named.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::broker::{Ended, run_to_end};

/// Bytes of a frame before its payload.
pub const FRAME_HEADER_BYTES: u64 = 64;

/// One frame of a segment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Where it begins in its file, in bytes.
    pub position: u64,
    /// Its index in the log.
    pub index: u64,
    /// Offset of its first record.
    pub base_offset: u64,
    /// Offsets that it counts.
    pub record_count: u64,
    /// What it is.
    pub kind: String,
    /// Bytes behind its header.
    pub payload_bytes: u64,
}

impl Frame {
    /// Where the next one begins.
    pub fn end(&self) -> u64 {
        self.position + FRAME_HEADER_BYTES + self.payload_bytes
    }
}

/// Files under `directory` with this suffix, in the order of their names.
fn files(directory: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("a directory can be read to its end").path());
    let has_suffix = |path: &PathBuf| path.to_string_lossy().ends_with(suffix);
    let mut found: Vec<PathBuf> = paths.filter(has_suffix).collect();
    found.sort();
    found
}

/// The directories of all logs.
pub fn logs(data: &Path) -> Vec<PathBuf> {
    files(&data.join("partitions"), "")
}

/// The directory of the metadata partition.
pub fn metadata_log(data: &Path) -> PathBuf {
    data.join("partitions/0000000000000001")
}

/// The directories of the logs that `act` made.
pub fn logs_made_by(data: &Path, act: impl FnOnce()) -> Vec<PathBuf> {
    let before = logs(data);
    act();
    logs(data).into_iter().filter(|log| !before.contains(log)).collect()
}

/// The directory of the one log to which `act` adds frames.
pub fn log_written_by(data: &Path, act: impl FnOnce()) -> PathBuf {
    let count = |log: &PathBuf| all_frames(log).len();
    let before: Vec<(PathBuf, usize)> =
        logs(data).into_iter().map(|log| (log.clone(), count(&log))).collect();
    act();
    let mut grown = before.into_iter().filter(|(log, frames)| count(log) > *frames);
    match (grown.next(), grown.next()) {
        (Some((log, _)), None) => log,
        found => panic!("not one log was written to: {found:?}"),
    }
}

/// The segment files of a log, oldest first.
pub fn segments(log: &Path) -> Vec<PathBuf> {
    files(log, ".log")
}

/// The frames of a segment, which must be whole.
pub fn frames(segment: &Path) -> Vec<Frame> {
    let ended = run_to_end(&["log", "dump", &segment.to_string_lossy()]);
    assert_eq!((ended.code, ended.errors.as_slice()), (Some(0), &[][..]), "{}", segment.display());
    ended.lines.iter().map(|line| frame(line)).collect()
}

fn frame(line: &str) -> Frame {
    let json: Value = serde_json::from_str(line).expect("the dump prints JSON");
    let number = |key: &str| {
        json[key].as_u64().unwrap_or_else(|| panic!("{key} is no number of the dump: {line}"))
    };
    Frame {
        position: number("position"),
        index: number("index"),
        base_offset: number("base_offset"),
        record_count: number("record_count"),
        kind: json["kind"].as_str().unwrap_or_default().to_owned(),
        payload_bytes: number("payload_bytes"),
    }
}

/// The frames of a log.
pub fn all_frames(log: &Path) -> Vec<Frame> {
    segments(log).iter().flat_map(|segment| frames(segment)).collect()
}

/// Changes one bit of a file.
pub fn flip(path: &Path, position: u64) {
    let mut byte = [0];
    let file = open(path);
    file.read_exact_at(&mut byte, position).expect("the place lies in the file");
    write(path, position, &[byte[0] ^ 0x10]);
}

/// Overwrites a place of a file.
pub fn write(path: &Path, position: u64, bytes: &[u8]) {
    open(path).write_all_at(bytes, position).expect("a file of ours can be written");
}

fn open(path: &Path) -> File {
    let file = File::options().read(true).write(true).open(path);
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Everything in a directory: length and checksum of each file, by path. `LOCK` is left out:
/// whoever only looks has to lock, and its content is the last locker's process id.
fn fingerprint(directory: &Path) -> BTreeMap<PathBuf, (usize, u32)> {
    let mut found = BTreeMap::new();
    for path in files(directory, "") {
        if path.is_dir() {
            found.insert(path.clone(), (0, 0));
            found.extend(fingerprint(&path));
        } else if !path.ends_with("LOCK") {
            let bytes = fs::read(&path).expect("a file of ours can be read");
            found.insert(path, (bytes.len(), crc32c::crc32c(&bytes)));
        }
    }
    found
}

/// Makes a start that must end with 4, before a ready line, for a reason that says this; and it
/// must leave what lies in `untouched` as it is. Returns how it ended.
pub fn assert_refused(untouched: &Path, reason: &str, start: impl FnOnce() -> Ended) -> Ended {
    let before = fingerprint(untouched);
    let ended = start();
    assert_eq!((ended.code, ended.lines.len()), (Some(4), 0), "{ended:?}");
    assert!(ended.reason().contains(reason), "{reason}: {ended:?}");
    assert_eq!(fingerprint(untouched), before);
    ended
}
