//! What a data directory does off the ack path, a bounded slice at a time: state files, closing
//! and preparing segments, removals.
//!
//! A segment that holds nothing any more waits to be used again (`recycle`) where its size is
//! wanted and there is room for it. Any other removed file is shortened in steps once nobody holds
//! bytes of it: unlinking a large cached file at once would stall everybody's flushes (D5).
//!
//! Absent on purpose: reading, and everything on the way to an answer.

use super::{CommitCycle, failure};
use crate::bytes_io::{from_hex, hex};
use crate::disk::{Disk, DiskFile};
use crate::recycle::SHRINK_BYTES;
use crate::segment::{Segment, log_dir, side_name};
use crate::shared::LogShared;
use crate::state_file::{self, StoreError, state_name};
use crate::work::{DiskFailed, Done, Install};
use crate::writer::{LogWriter, write_error};
use bateau_protocol::ids::{Incarnation, LogIndex};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

/// Side entries in memory, node-wide, from which on they are written.
const SIDE_BACKLOG_BYTES: usize = 1024 * 1024;

/// Segments that one step closes, with one flush of their side files.
const CLOSED_PER_STEP: usize = 16;

/// Suffix of files that are on their way out.
pub(crate) const REMOVED_SUFFIX: &str = ".del";

/// Directory of deleted logs.
pub(crate) const TRASH: &str = "trash";

/// Directory of logs that are damaged and have been replaced.
pub(crate) const QUARANTINE: &str = "quarantine";

#[derive(Debug, Default)]
pub(super) struct Background {
    states: VecDeque<(Incarnation, LogIndex, Bytes)>,
    installs: VecDeque<Install>,
    /// Logs that may have a segment to close, to prepare or to drop.
    attention: BTreeSet<Incarnation>,
    side_backlog: usize,
    removals: VecDeque<Removal>,
    removed_count: u64,
    deletions: VecDeque<Deletion>,
    /// There was no room to move a deleted log; tried again after the next look at the space.
    deletions_wait: bool,
    /// Segments of deleted logs, as long as bytes of them may be lent.
    trashed: BTreeMap<String, Vec<Arc<Segment>>>,
    empty_trash_before: Option<u64>,
    empty_quarantine_before: Option<u64>,
}

/// A log on its way out of its place.
#[derive(Debug)]
struct Deletion {
    log: Incarnation,
    /// The directory that takes it.
    to: &'static str,
    /// Names it there.
    wall_ms: u64,
    /// Segments that may be lent.
    segments: Vec<Arc<Segment>>,
}

/// A file on its way out.
#[derive(Debug)]
struct Removal {
    path: String,
    /// The segment that the file belongs to, while bytes of it may be lent.
    segment: Option<Arc<Segment>>,
    file: Option<Arc<dyn DiskFile>>,
}

impl Background {
    /// - `removed_count`: above every number that an earlier process gave to a removed file.
    pub(super) fn new(
        logs: impl Iterator<Item = Incarnation>,
        leftovers: Vec<String>,
        removed_count: u64,
    ) -> Self {
        let leftover = |path| Removal { path, segment: None, file: None };
        let removals: VecDeque<Removal> = leftovers.into_iter().map(leftover).collect();
        Self { attention: logs.collect(), removals, removed_count, ..Self::default() }
    }

    pub(super) fn store_state(&mut self, log: Incarnation, applied: LogIndex, state: Bytes) {
        self.states.push_back((log, applied, state));
    }

    /// States of the log that this replaces are of no use any more.
    pub(super) fn install(&mut self, request: Install) {
        self.states.retain(|(id, ..)| *id != request.incarnation);
        self.installs.push_back(request);
    }

    pub(super) fn empty_trash(&mut self, before_wall_ms: u64) {
        let before = self.empty_trash_before.unwrap_or(0).max(before_wall_ms);
        self.empty_trash_before = Some(before);
    }

    pub(super) fn empty_quarantine(&mut self, before_wall_ms: u64) {
        let before = self.empty_quarantine_before.unwrap_or(0).max(before_wall_ms);
        self.empty_quarantine_before = Some(before);
    }

    /// The quarantine has an entry, of segments that may be lent.
    pub(super) fn note_kept(&mut self, name: String, held: Vec<Arc<Segment>>) {
        self.trashed.insert(name, held);
    }

    /// Files that nobody needs any more go.
    pub(super) fn take_away(&mut self, leftovers: Vec<String>) {
        let leftover = |path| Removal { path, segment: None, file: None };
        self.removals.extend(leftovers.into_iter().map(leftover));
    }

    /// - `to`: the directory that takes its files.
    pub(super) fn delete(&mut self, log: &LogShared, to: &'static str, wall_ms: u64) {
        let segments = (*log.segments()).clone();
        self.states.retain(|(id, ..)| *id != log.incarnation);
        self.installs.retain(|request| request.incarnation != log.incarnation);
        self.attention.remove(&log.incarnation);
        self.deletions.push_back(Deletion { log: log.incarnation, to, wall_ms, segments });
    }

    /// Whether the files of a deleted log still stand in the way of another one.
    pub(super) fn is_deleting(&self, log: Incarnation) -> bool {
        self.deletions.iter().any(|deletion| deletion.log == log)
    }

    /// Notes that a log was written to and flushed, which left so many bytes of side entries.
    pub(super) fn look_after(&mut self, log: &LogWriter, side_bytes: usize) {
        self.side_backlog += side_bytes;
        if log.wants_next() || !log.sealing.is_empty() {
            self.attention.insert(log.incarnation);
        }
    }

    fn next_deletion(&self) -> Option<(Incarnation, &'static str, u64)> {
        let first = self.deletions.front().filter(|_| !self.deletions_wait);
        first.map(|deletion| (deletion.log, deletion.to, deletion.wall_ms))
    }

    /// Comes about once a second: what is under load without a pause, which has no closing flush,
    /// gets its side entries then. They are what proves that a log went on where its file was cut.
    pub(super) fn space_was_looked_at(&mut self) {
        self.deletions_wait = false;
        if self.side_backlog > 0 {
            self.sides_are_due();
        }
    }

    pub(super) fn look_at(&mut self, log: Incarnation) {
        self.attention.insert(log);
    }

    /// The directory `dir` has become the trash entry `name`, with segments that may be lent.
    pub(super) fn note_trashed(&mut self, dir: &str, name: String, mut held: Vec<Arc<Segment>>) {
        // Files of this log that are on their way out have moved along, and go with the rest.
        let prefix = format!("{dir}/");
        self.removals.retain_mut(|removal| {
            let inside = removal.path.starts_with(&prefix);
            if inside {
                held.extend(removal.segment.take());
            }
            !inside
        });
        self.trashed.insert(name, held);
    }

    pub(super) fn sides_are_due(&mut self) {
        self.side_backlog = SIDE_BACKLOG_BYTES;
    }

    pub(super) fn side_is_written(&mut self) {
        self.side_backlog = 0;
    }

    /// Renames a file within its directory and queues it. Returns its new path.
    fn remove(
        &mut self,
        disk: &dyn Disk,
        path: &str,
        segment: Option<Arc<Segment>>,
    ) -> io::Result<String> {
        let (dir, _) = path.rsplit_once('/').unwrap_or(("", path));
        self.removed_count += 1;
        let removed = format!("{dir}/{}{REMOVED_SUFFIX}", hex(self.removed_count));
        disk.rename(path, &removed)?;
        self.removals.push_back(Removal { path: removed.clone(), segment, file: None });
        Ok(removed)
    }
}

impl CommitCycle {
    /// Takes a segment that holds nothing any more away, and its side file.
    pub(super) fn retire(&mut self, segment: Arc<Segment>) -> Result<(), DiskFailed> {
        let (path, disk) = (segment.path(), &*self.disk);
        let (dir, _) = path.rsplit_once('/').unwrap_or(("", &path));
        let side = format!("{dir}/{}", side_name(segment.base_index()));
        // A segment that was never closed or idle has none.
        let _ = self.background.remove(disk, &side, None);
        // The first log that wants it answers: what one log drops, most others want, too.
        let is_wanted = |bytes| self.logs.values().any(|log| log.next_bytes() == bytes);
        if self.recycled.has_room(segment.capacity, is_wanted)
            && self.recycled.put(&segment).is_ok()
        {
            return Ok(());
        }
        match self.background.remove(disk, &path, Some(Arc::clone(&segment))) {
            Ok(removed) => {
                segment.set_path(removed);
                Ok(())
            }
            // The name must go in any case; without room for another one, with a stall.
            Err(_) => disk.unlink(&path).map_err(failure("rename a segment")),
        }
    }

    /// Takes back the recycled file that a log has prepared and will not use.
    pub(super) fn give_back(&mut self, log: Option<&mut LogWriter>) {
        if let Some(prepared) = log.and_then(|log| log.prepared.take()) {
            self.recycled.give_back(prepared);
        }
    }

    /// Gives something up that only takes room: recycled files one by one, then, for what must
    /// work, the ballast. Returns whether there was anything.
    pub(super) fn make_room(&mut self, is_vital: bool) -> bool {
        self.recycled.release() || (is_vital && self.space.release())
    }

    /// One slice; whether there is more that can be done now.
    ///
    /// - `mends`: whether it may be a mending's.
    pub(super) fn step(&mut self, done: &mut Vec<Done>, mends: bool) -> Result<bool, DiskFailed> {
        if let Some(request) = self.background.installs.pop_front() {
            let answer = self.install(&request)?;
            done.push(answer);
        } else if let Some((log, applied, state)) = self.background.states.pop_front() {
            let answer = self.store_state(log, applied, &state)?;
            done.push(answer);
        } else if self.background.side_backlog >= SIDE_BACKLOG_BYTES {
            self.write_sides()?;
        } else if self.close_segments()? {
            // More of them come first: they spare the next start a walk.
        } else if self.recycled.clear(&mut self.riders) {
            // More of them come first: the next segments may be made of them.
        } else if let Some(log) = self.background.attention.pop_first() {
            self.attend(log)?;
        } else if self.meta.is_filling() && !self.meta_is_stuck {
            match self.meta.switch() {
                // Tried again when the copy is full; then the ballast helps.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    self.meta_is_stuck = true;
                }
                result => result.map_err(failure("switch the meta log"))?,
            }
        } else if let Some((log, to, wall_ms)) = self.background.next_deletion() {
            self.move_away(log, to, wall_ms)?;
        } else if (mends && self.step_mending(done)?)
            || self.recycled.shrink()
            || self.shrink_removed()
        {
            // What is not there any more goes last.
        } else {
            return Ok(self.empty_trash() || self.empty_quarantine());
        }
        Ok(true)
    }

    /// Writes the side entries of every active segment; they are flushed when idle. A full disk
    /// is no error: they are a second copy, and wait.
    pub(super) fn write_sides(&mut self) -> Result<(), DiskFailed> {
        self.background.side_is_written();
        for id in &self.unclosed {
            let Some(log) = self.logs.get_mut(id) else { continue };
            match log.write_side() {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
                result => result.map_err(failure("write side headers"))?,
            }
        }
        Ok(())
    }

    fn store_state(
        &mut self,
        incarnation: Incarnation,
        applied: LogIndex,
        state: &[u8],
    ) -> Result<Done, DiskFailed> {
        let failed = |error| Ok(Done::StateFailed { incarnation, applied, error });
        let Some(log) = self.logs.get(&incarnation) else {
            return failed(self.unknown(incarnation));
        };
        assert!(
            applied <= log.durable.index,
            "I-LOG-4: state at {applied} with only {} flushed",
            log.durable.index
        );
        let (before, vital) = (log.state_applied, log.options.vital);
        if before.is_some_and(|before| before >= applied) {
            return Ok(Done::StateStored { incarnation, applied });
        }
        let dir = log.dir.clone();
        let mut result = state_file::store(&*self.disk, &dir, incarnation, applied, state);
        while let Err(StoreError::Write(error)) = &result
            && error.kind() == io::ErrorKind::StorageFull
            && self.make_room(vital)
        {
            result = state_file::store(&*self.disk, &dir, incarnation, applied, state);
        }
        match result {
            Ok(()) => {}
            Err(StoreError::Write(error)) => {
                return failed(write_error("write a state file", &error));
            }
            Err(StoreError::Flush(error)) => return Err(failure("flush a state file")(error)),
        }
        if let Some(log) = self.logs.get_mut(&incarnation) {
            log.state_applied = Some(applied);
        }
        if let Some(before) = before {
            // An older state file that stays is not read again.
            let _ = self.disk.unlink(&format!("{dir}/{}", state_name(before)));
        }
        self.background.look_at(incarnation);
        Ok(Done::StateStored { incarnation, applied })
    }

    /// Closes one segment each of some logs. Returns whether there was any.
    fn close_segments(&mut self) -> Result<bool, DiskFailed> {
        let waiting = self.background.attention.iter().filter_map(|id| {
            self.logs.get(id).filter(|log| !log.sealing.is_empty()).map(|log| log.incarnation)
        });
        let chosen: Vec<Incarnation> = waiting.take(CLOSED_PER_STEP).collect();
        let mut closed = false;
        for id in chosen {
            let Some(log) = self.logs.get_mut(&id) else { continue };
            match log.seal_one(&mut self.riders) {
                Ok(sealed) => closed |= sealed,
                // Its checkpoint is a cache: tried again after the log's next append.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    self.background.attention.remove(&id);
                }
                Err(error) => return Err(failure("close a segment")(error)),
            }
        }
        Ok(closed)
    }

    /// Drops dead segments of a log, and prepares its next one.
    fn attend(&mut self, id: Incarnation) -> Result<(), DiskFailed> {
        let Some(log) = self.logs.get_mut(&id) else { return Ok(()) };
        let dead = log.take_dead_segments();
        if !dead.is_empty() {
            // The next segment may be made of one of them.
            self.background.look_at(id);
            return dead.into_iter().try_for_each(|segment| self.retire(segment));
        }
        if log.wants_next() {
            if self.recycled.waits_for_flush(log.next_bytes()) {
                self.background.look_at(id);
                return self.flush_riders();
            }
            // Without room the append that needs it finds out, and answers.
            let _ = log.prepare_next(&mut self.recycled);
        }
        Ok(())
    }

    /// Shortens or unlinks one removed file. Returns whether it found one that nobody holds.
    fn shrink_removed(&mut self) -> bool {
        for _ in 0..self.background.removals.len() {
            let Some(mut removal) = self.background.removals.pop_front() else { break };
            if removal.segment.as_ref().is_some_and(Segment::is_lent) {
                self.background.removals.push_back(removal);
                continue;
            }
            // The map goes first: nothing may shorten a mapped file.
            removal.segment = None;
            if removal.file.is_none() {
                removal.file = self.disk.open(&removal.path).ok();
            }
            if self.shorten(&removal) {
                self.background.removals.push_front(removal);
            }
            return true;
        }
        false
    }

    /// Takes a slice off a file, or unlinks it. Returns whether there is more to do.
    fn shorten(&self, removal: &Removal) -> bool {
        let Some(file) = &removal.file else { return false };
        let bytes = file.bytes().unwrap_or(0);
        if bytes > SHRINK_BYTES && file.set_bytes(bytes - SHRINK_BYTES).is_ok() {
            return true;
        }
        // What cannot be removed now, the next start removes.
        let _ = self.disk.unlink(&removal.path);
        false
    }

    fn move_away(
        &mut self,
        log: Incarnation,
        to: &'static str,
        wall_ms: u64,
    ) -> Result<(), DiskFailed> {
        let (name, dir) = (trash_name(log, wall_ms), log_dir(log));
        let moved =
            self.disk.create_dir(to).and_then(|()| self.disk.rename(&dir, &format!("{to}/{name}")));
        match moved {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.background.deletions_wait = true;
                return Ok(());
            }
            result => result.map_err(failure("move a log away"))?,
        }
        let dirs = [String::new(), "partitions".to_owned(), to.to_owned()];
        self.disk.flush(&[], &dirs).map_err(failure("flush a log's new place"))?;
        let Some(deletion) = self.background.deletions.pop_front() else { return Ok(()) };
        self.forget_dir(&dir);
        self.background.note_trashed(&dir, name, deletion.segments);
        Ok(())
    }

    /// The directory `dir` is gone or another one, durably: nothing has to be flushed there.
    pub(super) fn forget_dir(&mut self, dir: &str) {
        self.riders.forget_dir(dir);
        self.recycled.forget_dir(dir);
    }

    /// Removes a slice of the trash that is old enough. Returns whether there is more.
    fn empty_trash(&mut self) -> bool {
        let Some(before) = self.background.empty_trash_before else { return false };
        let more = self.empty(TRASH, before);
        if !more {
            self.background.empty_trash_before = None;
        }
        more
    }

    /// The same of the quarantine.
    fn empty_quarantine(&mut self) -> bool {
        let Some(before) = self.background.empty_quarantine_before else { return false };
        let more = self.empty(QUARANTINE, before);
        if !more {
            self.background.empty_quarantine_before = None;
        }
        more
    }

    /// Removes a slice of what came into a directory before a moment. Returns whether there is
    /// more.
    fn empty(&mut self, from: &str, before: u64) -> bool {
        for entry in self.disk.list(from).unwrap_or_default() {
            if arrival_ms(&entry.name).is_none_or(|time| time >= before) {
                continue;
            }
            if let Some(segments) = self.background.trashed.get_mut(&entry.name) {
                segments.retain(Segment::is_lent);
                if !segments.is_empty() {
                    continue;
                }
                self.background.trashed.remove(&entry.name);
            }
            let mut path = format!("{from}/{}", entry.name);
            if entry.is_dir {
                let Some(first) = self.disk.list(&path).unwrap_or_default().into_iter().next()
                else {
                    return self.disk.remove_dir(&path).is_ok();
                };
                path = format!("{path}/{}", first.name);
            }
            let file = self.disk.open(&path).ok();
            let removal = Removal { path, segment: None, file };
            return self.shorten(&removal) || removal.file.is_some();
        }
        false
    }
}

/// Name of a deleted log's directory in the trash.
pub(crate) fn trash_name(log: Incarnation, wall_ms: u64) -> String {
    format!("{}-{}", hex(log.get()), hex(wall_ms))
}

/// When an entry of the trash or the quarantine came, in Unix milliseconds.
fn arrival_ms(name: &str) -> Option<u64> {
    name.rsplit_once('-').and_then(|(_, time)| from_hex(time))
}

/// Removes what a failed creation left. What stays is an orphan for the next start.
pub(super) fn remove_log_dir(disk: &dyn Disk, log: Incarnation) {
    let dir = log_dir(log);
    for entry in disk.list(&dir).unwrap_or_default() {
        let _ = disk.unlink(&format!("{dir}/{}", entry.name));
    }
    let _ = disk.remove_dir(&dir);
}
