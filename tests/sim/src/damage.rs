//! Disks that lie: bits that flip, sectors that cannot be read, writes that went elsewhere, files
//! that end too early.
//!
//! ```text
//!   quiet directory, all of it marked durable ──> anywhere, found by a start or met by readers
//!   power lost while it works ──> a frame that a later flush proves durable, above the mark
//! ```
//!
//! Invariants: what goes bad was durable, and can be known to have been. Damage to what a crash may
//! have torn as well is the double fault that recovery accepts.
//!
//! Absent on purpose: more than a minority of disks.

use crate::event::NodeAt;
use crate::world::World;
use bateau_log::sim_disk::{SECTOR_BYTES, SimDisk};
use bateau_log::{Disk, SEGMENT_HEADER_BYTES};
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FrameHeader};
use std::collections::BTreeMap;
use std::io;

/// Newest proven frames, one of which goes bad: older ones lie below the durable marks.
const NEWEST: usize = 6;

impl World {
    /// Damages a file of one of the few nodes whose disks may lie.
    pub(crate) fn corrupt(&mut self) {
        // Topics have three replicas: two bad disks may be the majority of one of them.
        let n = 0;
        if !self.may_lie(n) {
            return;
        }
        let is_quiet = self.random.chance(50);
        let Some(process) = &mut self.nodes[n].process else { return };
        if is_quiet && process.cycle.on_idle(&mut Vec::new()).is_err() {
            return self.kill(n);
        }
        // A file goes bad behind the page cache's back: a start without it can tell, and whoever
        // reads it from the medium again.
        let is_running = is_quiet && self.random.chance(50);
        if is_running {
            self.count("mark: damage under a running process");
        } else {
            self.crash(n);
        }
        let contents = self.nodes[n].disk.contents();
        let place = if is_quiet { self.any_place(&contents) } else { self.proven(&contents) };
        let Some((path, position)) = place else { return };
        if self.damage(n, &contents, (&path, position), (is_running, is_quiet)).is_ok() {
            self.nodes[n].is_corrupted = true;
            self.count("corruptions");
            if !is_quiet {
                self.count("mark: damage above the durable mark");
            }
        }
    }

    /// Whether a node's disk may lie: the cluster is founded, for which it needs everybody's word,
    /// and two sound copies of all that is on it are elsewhere.
    fn may_lie(&self, n: NodeAt) -> bool {
        let Some(metadata) = self.newest_metadata() else { return false };
        let is_founded = metadata.nodes().len() >= self.founders().count();
        let are_sound = self.nodes.iter().all(|node| !node.is_wiped) && self.nodes.len() >= 3;
        is_founded && are_sound && self.has_two_others(n, &metadata)
    }

    fn any_place(&mut self, contents: &BTreeMap<String, Vec<u8>>) -> Option<(String, u64)> {
        let logs: Vec<_> = segments(contents).collect();
        let at = usize::try_from(self.random.below(logs.len().max(1) as u64)).ok()?;
        let (path, bytes) = logs.get(at)?;
        Some(((*path).clone(), self.random.below(bytes.len() as u64)))
    }

    /// Somewhere in a frame that another one proves durable: one of an earlier flush than the last
    /// two, behind the sector that goes bad.
    fn proven(&mut self, contents: &BTreeMap<String, Vec<u8>>) -> Option<(String, u64)> {
        let logs: Vec<_> =
            segments(contents).map(|(path, bytes)| (path, frames(path, bytes))).collect();
        let sequences = logs.iter().flat_map(|(_, frames)| frames);
        let newest = sequences.map(|(_, header)| header.flush_sequence.get()).max()?;
        let mut places = Vec::new();
        for (path, frames) in &logs {
            let is_proof =
                |(_, header): &&(u64, FrameHeader)| header.flush_sequence.get() + 2 <= newest;
            let Some((proof, _)) = frames.iter().rfind(is_proof) else { continue };
            let before = frames.iter().take_while(|(position, _)| position < proof);
            places.extend(before.map(|(position, header)| {
                (*path, *position, *proof, header.frame_bytes(), header.flush_sequence)
            }));
        }
        places.sort_by_key(|(.., sequence)| std::cmp::Reverse(*sequence));
        places.truncate(NEWEST);
        let at = usize::try_from(self.random.below(places.len().max(1) as u64)).ok()?;
        let (path, position, proof, bytes, _) = places.get(at)?;
        let position = position + self.random.below(*bytes);
        (sector_of(position) < sector_of(*proof)).then(|| ((*path).clone(), position))
    }

    fn damage(
        &mut self,
        n: NodeAt,
        contents: &BTreeMap<String, Vec<u8>>,
        (path, position): (&str, u64),
        (is_running, is_marked): (bool, bool),
    ) -> io::Result<()> {
        // What a running process has in memory stays as it is, until it is read once more.
        let kind = match (is_running, is_marked) {
            (true, _) => 5,
            (false, true) => self.random.below(11),
            // An end that is gone takes its proof along.
            (false, false) => self.random.below(10),
        };
        let disk = &self.nodes[n].disk;
        match kind {
            0..=4 => disk.flip_bit(path, position, u8::try_from(position % 8).unwrap_or(0)),
            5 | 6 => disk.damage_sector(path, position),
            // A write that went elsewhere: what belongs here is not here, or somebody else's is.
            7 => overwrite(disk, path, position, &[0; SECTOR_BYTES]),
            10 => cut(disk, path, position),
            _ => {
                let other = segments(contents).next().map_or(&[][..], |(_, bytes)| bytes);
                overwrite(disk, path, position, other.get(..SECTOR_BYTES).unwrap_or_default())
            }
        }
    }
}

fn segments(contents: &BTreeMap<String, Vec<u8>>) -> impl Iterator<Item = (&String, &Vec<u8>)> {
    contents.iter().filter(|(path, bytes)| {
        path.starts_with("partitions/") && path.ends_with(".log") && !bytes.is_empty()
    })
}

/// The frames of a segment with their places, as far as they are this log's.
fn frames(path: &str, bytes: &[u8]) -> Vec<(u64, FrameHeader)> {
    let mut found: Vec<(u64, FrameHeader)> = Vec::new();
    let mut position = usize::try_from(SEGMENT_HEADER_BYTES).unwrap_or_default();
    while let Some(head) = bytes.get(position..position + FRAME_HEADER_BYTES)
        && let Ok(head) = <&[u8; FRAME_HEADER_BYTES]>::try_from(head)
        && let Ok(header) = FrameHeader::decode(head)
        && path.contains(&format!("{:016x}", header.incarnation.get()))
        && found.last().is_none_or(|(_, last)| last.index.next() == header.index)
    {
        let bytes = usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
        found.push((position as u64, header));
        position = position.saturating_add(bytes);
    }
    found
}

fn sector_of(position: u64) -> u64 {
    position / SECTOR_BYTES as u64
}

/// Lets a file end at a position.
fn cut(disk: &SimDisk, path: &str, position: u64) -> io::Result<()> {
    let file = disk.open(path)?;
    file.set_bytes(position)?;
    disk.flush(&[file], &[])
}

/// Puts a sector where it does not belong.
fn overwrite(disk: &SimDisk, path: &str, position: u64, sector: &[u8]) -> io::Result<()> {
    let file = disk.open(path)?;
    let start = sector_of(position) * SECTOR_BYTES as u64;
    file.write_at(start, &[sector])?;
    disk.flush(&[file], &[])
}
