//! The commit cycle: write all that gathered, flush once, answer.
//!
//! ```text
//!   Work ──perform──> writes, stamped with flush n ──┐
//!   Work ──perform──> writes                         ├─ meta batch ─ ONE flush n ──> Done
//!   Work ──perform──> writes                         ┘   (only if        │
//!                                                        term, vote,     └─> side entries, marks:
//!                                                        start changed)      later, when idle
//! ```
//!
//! Invariants
//! - `I-LOG-6` No answer leaves before the flush that covers it returned.
//! - `I-LOG-7` Writes of flush *n + 1* are issued only after flush *n* returned, so a live frame
//!   with a flush sequence below the highest one seen proves that everything up to it was durable.
//! - After a failed flush nothing is written, flushed or answered any more (D7).
//! - A new log is on disk before the meta log names it; a deleted one is moved away after the meta
//!   log has forgotten it. So a log that the meta log names and the disk lacks is a loss.
//!
//! Absent on purpose: a thread, a queue and a clock, which belong to whoever drives this; a timer
//! (what gathers while a flush runs is the next batch); a shared journal.

mod background;
mod flushing;
mod install;
mod mending;

use crate::disk::{Disk, LockGuard};
use crate::flush_set::FlushSet;
use crate::meta::{MetaLog, Record, TruncateMark};
use crate::recovery::{Quarantined, Reading};
use crate::recycle::{RecycledFiles, RecycledSegments};
use crate::shared::NodeWide;
use crate::space::Space;
use crate::work::{Create, DiskFailed, Done, LogOptions, Persist, SpaceState, Work, WriteError};
use crate::writer::{LogWriter, write_error};
use background::Background;
pub(crate) use background::{QUARANTINE, REMOVED_SUFFIX, TRASH, trash_name};
use bateau_protocol::ids::{FlushSequence, Incarnation};
pub(crate) use install::finish_installs;
use mending::Mendings;
pub(crate) use mending::{MENDING_SUFFIX, finish_if_mended};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Bytes of appends, node-wide, after which commit indexes and durable marks are stored: what a
/// restart walks at most.
pub const MARK_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes of appends between two looks at the free space.
const LOOK_BYTES: u64 = 1024 * 1024;

/// The only writer of a data directory.
#[derive(Debug)]
pub struct CommitCycle {
    disk: Arc<dyn Disk>,
    meta: MetaLog,
    logs: BTreeMap<Incarnation, LogWriter>,
    /// Logs with a corrupt range: read, and never written.
    quarantined: BTreeMap<Incarnation, Quarantined>,
    mendings: Mendings,
    /// Settings of a log of which nothing else is known.
    options: LogOptions,
    /// Whether logs are read below their durable marks, too.
    reads_everything: bool,
    /// The highest flush sequence that the start found.
    highest: FlushSequence,
    /// The last flush sequence that was given to anything.
    flush_sequence: FlushSequence,
    /// The last flush sequence whose flush has returned.
    returned: FlushSequence,
    node: Arc<NodeWide>,
    bytes_since_marks: u64,
    bytes_since_look: u64,
    /// Logs with something that a closing flush may have to store.
    unclosed: BTreeSet<Incarnation>,
    /// What may wait for a flush that costs much in any case, or for the closing one.
    riders: FlushSet,
    background: Background,
    space: Space,
    recycled: RecycledFiles,
    failed: Option<DiskFailed>,
    /// A switch of the meta log found no room; it waits until it must.
    meta_is_stuck: bool,
    /// Held for as long as anything may be written.
    _lock: Arc<dyn LockGuard>,
    #[cfg(any(test, feature = "sim"))]
    postponed: Option<Option<FlushSet>>,
}

/// What one flush will cover.
#[derive(Debug, Default)]
struct Gathered {
    sequence: FlushSequence,
    flush: FlushSet,
    /// Logs that were written to.
    touched: BTreeSet<Incarnation>,
    /// Logs whose term, vote or start changed.
    eager: BTreeSet<Incarnation>,
    created: BTreeSet<Incarnation>,
    removed: Vec<Incarnation>,
    /// Starts of other nodes.
    peers: Vec<Record>,
    bytes: u64,
}

/// What an open data directory consists of.
pub(crate) struct CycleParts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) meta: MetaLog,
    pub(crate) logs: BTreeMap<Incarnation, LogWriter>,
    pub(crate) quarantined: BTreeMap<Incarnation, Quarantined>,
    pub(crate) reading: Reading,
    pub(crate) highest: FlushSequence,
    /// Files that nobody needs any more.
    pub(crate) leftovers: Vec<String>,
    pub(crate) flush_sequence: FlushSequence,
    pub(crate) node: Arc<NodeWide>,
    pub(crate) space: Space,
    pub(crate) recycled: RecycledFiles,
    pub(crate) lock: Arc<dyn LockGuard>,
}

fn failure(operation: &'static str) -> impl FnOnce(io::Error) -> DiskFailed {
    move |error| DiskFailed { operation, message: error.to_string() }
}

impl CommitCycle {
    pub(crate) fn new(parts: CycleParts) -> Self {
        let background = Background::new(
            parts.logs.keys().copied(),
            parts.leftovers,
            parts.meta.state.boot_epoch << 32,
        );
        Self {
            disk: parts.disk,
            meta: parts.meta,
            logs: parts.logs,
            quarantined: parts.quarantined,
            mendings: Mendings::default(),
            options: parts.reading.options,
            reads_everything: parts.reading.everything,
            highest: parts.highest,
            flush_sequence: parts.flush_sequence,
            returned: parts.flush_sequence,
            node: parts.node,
            bytes_since_marks: 0,
            bytes_since_look: 0,
            unclosed: BTreeSet::new(),
            riders: FlushSet::default(),
            background,
            space: parts.space,
            recycled: parts.recycled,
            failed: None,
            meta_is_stuck: false,
            _lock: parts.lock,
            #[cfg(any(test, feature = "sim"))]
            postponed: None,
        }
    }

    /// One cycle: performs `work` (left empty), flushes once, and only then adds the answers to
    /// `done`. With no work it does nothing.
    ///
    /// Errors: [`DiskFailed`], for ever after the first; `done` got nothing of this cycle.
    pub fn run(&mut self, work: &mut Vec<Work>, done: &mut Vec<Done>) -> Result<(), DiskFailed> {
        let mut answers = Vec::new();
        self.guarded(|cycle| {
            let mut gathered = cycle.gather();
            for item in work.drain(..) {
                cycle.perform(item, &mut gathered, &mut answers)?;
            }
            cycle.commit(gathered)?;
            answers.iter().for_each(|answer| cycle.assert_flushed(answer));
            if cycle.bytes_since_look >= LOOK_BYTES {
                cycle.look(&mut answers)?;
            }
            Ok(())
        })?;
        done.append(&mut answers);
        Ok(())
    }

    /// The closing flush, to be called once the queue has been empty for up to 50 ms: side
    /// headers, durable marks, commit indexes, and whatever else has waited for a flush. Cheap
    /// when there is nothing to store.
    pub fn on_idle(&mut self, done: &mut Vec<Done>) -> Result<(), DiskFailed> {
        let _ = &done;
        self.guarded(Self::close_marks)
    }

    /// One bounded slice of work off the ack path: state files, the next segments, removals.
    /// Called after the answers of a cycle have been delivered. Returns whether there is more;
    /// while there is, the caller pauses at least 1 ms between slices if it has nothing else.
    pub fn background_step(&mut self, done: &mut Vec<Done>) -> Result<bool, DiskFailed> {
        self.guarded(|cycle| cycle.step(done, true))
    }

    /// Free space as of the last look. Looks are made by cycles and by
    /// [`CommitCycle::check_space`].
    #[must_use]
    pub fn space(&self) -> SpaceState {
        self.space.state
    }

    /// Segment files that wait to be used again. They count as free space.
    #[must_use]
    pub fn recycled(&self) -> RecycledSegments {
        self.recycled.as_of_now()
    }

    /// Looks at the free space; adds [`Done::Space`] on a change. To be called about once a second.
    pub fn check_space(&mut self, done: &mut Vec<Done>) -> Result<SpaceState, DiskFailed> {
        self.guarded(|cycle| cycle.look(done))?;
        Ok(self.space.state)
    }

    /// Finishes background work, makes the closing flush and leaves the clean-shutdown mark.
    /// State files that were asked for are stored; segments that a reader still holds are left to
    /// the next start.
    pub fn close(mut self) -> Result<(), DiskFailed> {
        let mut done = Vec::new();
        while self.background_step(&mut done)? {}
        self.on_idle(&mut done)?;
        self.guarded(|cycle| {
            cycle.recycled.drop_held();
            let sequence = cycle.flush_sequence.next();
            cycle.append_meta(vec![Record::Clean], sequence)?;
            cycle.flush_meta(sequence)
        })
    }

    /// Answers before it flushes: the bug that crash tests must be able to find.
    #[cfg(any(test, feature = "sim"))]
    pub fn plant_ack_before_flush(&mut self) {
        self.postponed = Some(None);
    }

    /// Runs one operation, unless the directory has failed; remembers its failure for ever.
    fn guarded<T>(
        &mut self,
        operation: impl FnOnce(&mut Self) -> Result<T, DiskFailed>,
    ) -> Result<T, DiskFailed> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let result = operation(self);
        if let Err(failed) = &result {
            self.failed = Some(failed.clone());
        }
        result
    }

    fn assert_flushed(&self, answer: &Done) {
        if let Done::Persisted { incarnation, .. } = answer
            && let Some(log) = self.logs.get(incarnation)
        {
            assert!(
                log.tail.index <= log.durable.index,
                "I-LOG-6: an answer at {} with {} flushed",
                log.tail.index,
                log.durable.index
            );
        }
    }

    fn gather(&self) -> Gathered {
        Gathered { sequence: self.flush_sequence.next(), ..Gathered::default() }
    }

    fn perform(
        &mut self,
        work: Work,
        gathered: &mut Gathered,
        answers: &mut Vec<Done>,
    ) -> Result<(), DiskFailed> {
        match work {
            Work::Create(request) => answers.push(self.create(request, gathered)),
            Work::Persist(request) => answers.push(self.persist(request, gathered)?),
            Work::Commit { incarnation, commit } => {
                if let Some(log) = self.logs.get_mut(&incarnation) {
                    log.note_commit(commit);
                    self.unclosed.insert(incarnation);
                }
            }
            Work::Trim { incarnation, start } => {
                if let Some(log) = self.logs.get_mut(&incarnation) {
                    if log.trim(start) {
                        gathered.eager.insert(incarnation);
                        self.background.look_at(incarnation);
                    }
                    let start = log.start;
                    answers.push(Done::Trimmed { incarnation, start });
                }
            }
            Work::StoreState { incarnation, applied, state } => {
                self.background.store_state(incarnation, applied, state);
            }
            Work::Install(request) => {
                self.forget_mending(request.incarnation);
                self.background.install(*request);
            }
            Work::Mend(request) => self.mend(request, answers),
            Work::StopMending { incarnation } => self.forget_mending(incarnation),
            Work::Roll { incarnation } => {
                if let Some(log) = self.logs.get_mut(&incarnation) {
                    log.request_roll();
                }
            }
            Work::Configure { incarnation, options } => {
                if let Some(log) = self.logs.get_mut(&incarnation) {
                    log.options = options;
                }
            }
            Work::Delete { incarnation, wall_ms } => {
                self.delete(incarnation, TRASH, wall_ms, gathered);
                answers.push(Done::Deleted { incarnation });
            }
            Work::Remove { incarnation } => {
                // No two trash entries of a log may have one name, also over restarts.
                let number = gathered.sequence.get();
                self.delete(incarnation, TRASH, number, gathered);
                self.background.empty_trash(number.saturating_add(1));
                answers.push(Done::Deleted { incarnation });
            }
            Work::Quarantine { incarnation, wall_ms } => {
                self.delete(incarnation, QUARANTINE, wall_ms, gathered);
            }
            Work::NotePeer { node, start } => {
                gathered.peers.push(Record::Peer(node, start));
                answers.push(Done::PeerNoted { node, start });
            }
            Work::EmptyTrash { before_wall_ms } => self.background.empty_trash(before_wall_ms),
            Work::EmptyQuarantine { before_wall_ms } => {
                self.background.empty_quarantine(before_wall_ms);
            }
        }
        Ok(())
    }

    fn delete(
        &mut self,
        incarnation: Incarnation,
        to: &'static str,
        wall_ms: u64,
        gathered: &mut Gathered,
    ) {
        self.forget_mending(incarnation);
        let mut log = self.logs.remove(&incarnation);
        self.give_back(log.as_mut());
        let log = log.map(|log| log.shared);
        if let Some(shared) = log.or_else(|| Some(self.quarantined.remove(&incarnation)?.shared)) {
            gathered.removed.push(incarnation);
            gathered.created.remove(&incarnation);
            self.background.delete(&shared, to, wall_ms);
        }
    }

    fn create(&mut self, request: Create, gathered: &mut Gathered) -> Done {
        let incarnation = request.incarnation;
        let is_here = self.logs.contains_key(&incarnation)
            || self.quarantined.contains_key(&incarnation)
            || self.background.is_deleting(incarnation);
        if is_here {
            let error = WriteError::Exists(incarnation);
            return Done::CreateFailed { request: Box::new(request), error };
        }
        let mut made = self.try_create(&request, gathered);
        while matches!(made, Err(WriteError::NoSpace)) && self.make_room(request.options.vital) {
            made = self.try_create(&request, gathered);
        }
        match made {
            Ok(log) => {
                let (reader, last_index) = (log.reader(), log.tail.index);
                self.logs.insert(incarnation, log);
                gathered.created.insert(incarnation);
                gathered.touched.insert(incarnation);
                Done::Created { incarnation, reader, last_index }
            }
            Err(error) => {
                background::remove_log_dir(&*self.disk, incarnation);
                Done::CreateFailed { request: Box::new(request), error }
            }
        }
    }

    fn try_create(
        &mut self,
        request: &Create,
        gathered: &mut Gathered,
    ) -> Result<LogWriter, WriteError> {
        let mut flush = FlushSet::default();
        let disk = Arc::clone(&self.disk);
        let node = Arc::clone(&self.node);
        let birth = FlushSequence::new(gathered.sequence.get().saturating_sub(1));
        let mut log = LogWriter::create(disk, request, birth, node, &mut flush)
            .map_err(|error| write_error("make a log", &error))?;
        gathered.bytes +=
            log.append(&request.frames, gathered.sequence, &mut flush, &mut self.recycled)?;
        gathered.flush.extend(flush);
        Ok(log)
    }

    fn persist(&mut self, request: Persist, gathered: &mut Gathered) -> Result<Done, DiskFailed> {
        let incarnation = request.incarnation;
        let refuse =
            |request: Persist, error| Ok(Done::PersistFailed { request: Box::new(request), error });
        let Some(log) = self.logs.get_mut(&incarnation) else {
            let error = self.unknown(incarnation);
            return refuse(request, error);
        };
        self.unclosed.insert(incarnation);
        if request.hard_state.is_some_and(|hard_state| log.set_hard_state(hard_state)) {
            gathered.eager.insert(incarnation);
        }
        if let Some(index) = request.truncate_from.filter(|index| log.reaches(*index)) {
            self.truncate(incarnation, index, gathered)?;
        }
        let Some(log) = self.logs.get_mut(&incarnation) else {
            return refuse(request, WriteError::Unknown(incarnation));
        };
        let (frames, sequence) = (&request.frames, gathered.sequence);
        let (flush, recycled) = (&mut gathered.flush, &mut self.recycled);
        let mut result = log.append(frames, sequence, flush, recycled);
        while result == Err(WriteError::NoSpace)
            && (recycled.release() || (log.options.vital && self.space.release()))
        {
            result = log.append(frames, sequence, flush, recycled);
        }
        match result {
            Ok(bytes) => {
                gathered.bytes += bytes;
                gathered.touched.insert(incarnation);
                Ok(Done::Persisted {
                    incarnation,
                    ready: request.ready,
                    last_index: log.tail.index,
                    next_offset: log.tail.next_offset,
                    flush_sequence: sequence,
                })
            }
            Err(error) => {
                // Some frames may have been written. The mark that buries them is flushed with
                // them, and the next ones get a later sequence.
                if log.truncations.last().is_some_and(|mark| mark.flush_sequence == sequence) {
                    gathered.eager.insert(incarnation);
                    self.flush_sequence = sequence;
                }
                refuse(request, error)
            }
        }
    }

    fn unknown(&self, incarnation: Incarnation) -> WriteError {
        if self.quarantined.contains_key(&incarnation) {
            WriteError::Quarantined
        } else {
            WriteError::Unknown(incarnation)
        }
    }

    /// Drops a suffix: what gathered so far is flushed, then the durable mark, and only then
    /// anything is written over the suffix.
    fn truncate(
        &mut self,
        incarnation: Incarnation,
        index: bateau_protocol::ids::LogIndex,
        gathered: &mut Gathered,
    ) -> Result<(), DiskFailed> {
        let so_far = std::mem::take(gathered);
        self.commit(so_far)?;
        let mark = TruncateMark { index, flush_sequence: self.flush_sequence };
        let sequence = self.flush_sequence.next();
        self.mendings.note_truncated(incarnation);
        let Some(log) = self.logs.get_mut(&incarnation) else { return Ok(()) };
        let gone = log.truncate(index).map_err(failure("read the log's tail"))?;
        log.truncations.push(mark);
        let record = Record::Replica(incarnation, Box::new(log.to_meta()));
        self.append_meta(vec![record], sequence)?;
        self.flush_meta(sequence)?;
        *gathered = self.gather();
        let Some(log) = self.logs.get_mut(&incarnation) else { return Ok(()) };
        log.clear_tail(&mut gathered.flush).map_err(failure("clear the log's tail"))?;
        gathered.flush.add_dir(&log.dir);
        gathered.touched.insert(incarnation);
        for segment in gone {
            self.retire(segment)?;
        }
        Ok(())
    }

    /// Flushes what gathered, and makes it count.
    fn commit(&mut self, mut gathered: Gathered) -> Result<(), DiskFailed> {
        self.bytes_since_marks += gathered.bytes;
        self.bytes_since_look += gathered.bytes;
        self.unclosed.extend(gathered.touched.iter().copied());
        let mut named = std::mem::take(&mut gathered.eager);
        if self.bytes_since_marks >= MARK_BYTES {
            named.extend(self.unclosed.iter().copied());
            self.bytes_since_marks = 0;
            // A restart then finds the index up to the mark in the side files.
            self.background.sides_are_due();
        }
        named.retain(|id| !gathered.created.contains(id));
        let mut records: Vec<Record> =
            gathered.removed.iter().map(|id| Record::Removed(*id)).collect();
        records.append(&mut gathered.peers);
        records.extend(self.replica_records(&named));
        let stores_meta = !records.is_empty();
        if stores_meta {
            self.append_meta(records, gathered.sequence)?;
            gathered.flush.add_file(&self.meta.file());
        }
        if gathered.flush.is_empty() {
            return Ok(());
        }
        self.flush_set(gathered.flush, gathered.sequence)?;
        for id in &gathered.touched {
            if let Some(log) = self.logs.get_mut(id) {
                let side_bytes = log.flushed();
                self.background.look_after(log, side_bytes);
            }
        }
        if stores_meta {
            self.note_stored(&named);
        }
        if !gathered.created.is_empty() {
            // Only now may the meta log name them: they are on disk.
            let sequence = self.flush_sequence.next();
            let records = self.replica_records(&gathered.created);
            self.append_meta(records, sequence)?;
            self.flush_meta(sequence)?;
            self.note_stored(&gathered.created);
        }
        Ok(())
    }

    /// Side entries, durable marks and commits of everything since the last closing flush.
    fn close_marks(&mut self) -> Result<(), DiskFailed> {
        let mut flush = std::mem::take(&mut self.riders);
        let mut named = BTreeSet::new();
        self.write_sides()?;
        for id in std::mem::take(&mut self.unclosed) {
            let Some(log) = self.logs.get_mut(&id) else { continue };
            log.flush_side(&mut flush);
            if log.is_stale_in_meta() {
                named.insert(id);
            }
        }
        let records = self.replica_records(&named);
        if !records.is_empty() {
            self.append_meta(records, self.flush_sequence.next())?;
            flush.add_file(&self.meta.file());
        }
        if flush.is_empty() {
            return Ok(());
        }
        self.flush_set(flush, self.flush_sequence.next())?;
        self.bytes_since_marks = 0;
        self.note_stored(&named);
        Ok(())
    }

    fn replica_records(&self, ids: &BTreeSet<Incarnation>) -> Vec<Record> {
        let logs = ids.iter().filter_map(|id| self.logs.get(id));
        logs.map(|log| Record::Replica(log.incarnation, Box::new(log.to_meta()))).collect()
    }

    /// What the meta log's state holds now is what was stored.
    fn note_stored(&mut self, ids: &BTreeSet<Incarnation>) {
        for id in ids {
            let stored = self.meta.state.replicas.get(id).cloned();
            if let Some(log) = self.logs.get_mut(id) {
                log.stored = stored;
            }
        }
    }

    fn look(&mut self, answers: &mut Vec<Done>) -> Result<(), DiskFailed> {
        self.bytes_since_look = 0;
        self.meta_is_stuck = false;
        self.background.space_was_looked_at();
        let before = self.space.state;
        answers.extend(self.node.take_damaged());
        let freeable = self.recycled.freeable_bytes();
        let now = self.space.look(freeable).map_err(failure("look at the free space"))?;
        self.recycled.note_room(self.space.above_soft_bytes);
        if now != before {
            answers.push(Done::Space(now));
        }
        if now > SpaceState::Ok {
            self.background.empty_trash(u64::MAX);
        }
        Ok(())
    }
}
