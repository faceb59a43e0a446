//! A damaged segment is mended between cycles, while the log is read and written.
//!
//! ```text
//!   BASE.mending ──copied, filled, flushed──> BASE-TIME.mended ──┐ durable: from here a start
//!   BASE.log ──> quarantine/            BASE-TIME.mended ──> BASE.log   carries it to its end
//! ```
//!
//! Where the loss of what is missing was accepted, the fresh file has gap frames there, and frames
//! behind them lie elsewhere: it is named `.closed`, and the side file leaves with the old one.
//!
//! Invariants
//! - Until the fresh file is whole and durable, the damaged one is the log's.
//! - The old file is kept. Who reads it goes on with it.
//! - A log that nobody runs on, for its damage, is read once more by the rules of a start.
//!
//! Absent on purpose: what fits a hole (`mending`), and where frames come from (`core`).

use super::{CommitCycle, QUARANTINE, failure};
use crate::bytes_io::{from_hex, hex};
use crate::disk::Disk;
use crate::mending::{Behind, LostEnd, Mending, Progress};
use crate::meta::Record;
use crate::recovery::{Closing, Gap, ReadAgain, Reading, RecoveredLog};
use crate::segment::{SEGMENT_HEADER_BYTES, Segment, log_dir, segment_name, side_name};
use crate::state_file;
use crate::work::{DiskFailed, Done, Mend, MendError, SEGMENT_BYTES_MIN, WriteError};
use crate::writer::write_error;
use bateau_protocol::ids::{Incarnation, LogIndex};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Suffix of a fresh file that is not whole.
pub(crate) const MENDING_SUFFIX: &str = ".mending";
/// Suffix of a fresh file that is whole and is to take its segment's place.
const MENDED_SUFFIX: &str = ".mended";
/// The same of one in which frames lie elsewhere than in the old file.
const CLOSED_SUFFIX: &str = ".closed";

/// A mending, and what was asked for.
#[derive(Debug)]
struct Job {
    request: Mend,
    mending: Mending,
    /// Of a mending that closes a hole: what lies behind, and segment files that hold nothing.
    closing: Option<(Behind, Vec<LogIndex>)>,
    path: String,
    /// For frames.
    is_waiting: bool,
    /// Last frame of the hole that they were asked for to fill.
    asked: Option<LogIndex>,
    /// Frames that were copied may be gone.
    is_stale: bool,
}

/// The mendings of a data directory: one of a log at a time.
#[derive(Debug, Default)]
pub(super) struct Mendings {
    jobs: BTreeMap<Incarnation, Job>,
}

impl Mendings {
    /// The end of a log was dropped: what was copied of it is copied again.
    pub(super) fn note_truncated(&mut self, log: Incarnation) {
        if let Some(job) = self.jobs.get_mut(&log) {
            (job.is_stale, job.is_waiting) = (true, false);
        }
    }

    fn next(&self) -> Option<Incarnation> {
        self.jobs.iter().find(|(_, job)| !job.is_waiting).map(|(log, _)| *log)
    }
}

impl CommitCycle {
    /// Begins a mending, or goes on with what others have sent.
    pub(super) fn mend(&mut self, request: Mend, answers: &mut Vec<Done>) {
        let (incarnation, segment) = (request.incarnation, request.segment);
        let job = self.mendings.jobs.get_mut(&incarnation);
        let job = job.filter(|job| job.request.segment == segment && !job.is_stale);
        if let Some(job) = job.filter(|_| !request.frames.is_empty()) {
            match job.mending.fill(&request.frames) {
                Ok(Ok(())) => job.is_waiting = false,
                Ok(Err(reason)) => {
                    let hole = job.mending.hole();
                    let (is_rest, refused) = (true, Some(reason));
                    answers.extend(hole.map(|hole| Done::MendWants {
                        incarnation,
                        segment,
                        hole,
                        is_rest,
                        refused,
                    }));
                }
                Err(error) => answers.push(self.give_up_mending(incarnation, segment, error)),
            }
            return;
        }
        self.forget_mending(incarnation);
        answers.extend(self.begin_mending(Mend { frames: Vec::new(), ..request }));
    }

    /// Drops an unfinished mending.
    pub(super) fn forget_mending(&mut self, log: Incarnation) {
        if let Some(job) = self.mendings.jobs.remove(&log) {
            // What stays, the next start takes away.
            let _ = self.disk.unlink(&job.path);
        }
    }

    fn give_up_mending(&mut self, log: Incarnation, segment: LogIndex, error: MendError) -> Done {
        self.forget_mending(log);
        Done::MendFailed { incarnation: log, segment, error }
    }

    fn begin_mending(&mut self, request: Mend) -> Option<Done> {
        let (incarnation, segment) = (request.incarnation, request.segment);
        let is_vital = self.logs.get(&incarnation).is_some_and(|log| log.options.vital);
        let mut made = self.make_mending(&request);
        while matches!(made, Err(MendError::Write(WriteError::NoSpace))) && self.make_room(is_vital)
        {
            made = self.make_mending(&request);
        }
        match made {
            Ok(Some(job)) => {
                self.mendings.jobs.insert(incarnation, job);
                None
            }
            // Nothing of it is left to be mended.
            Ok(None) => Some(self.mended(&request, 0)),
            Err(error) => {
                let _ = self.disk.unlink(&mending_path(incarnation, segment));
                Some(Done::MendFailed { incarnation, segment, error })
            }
        }
    }

    fn make_mending(&mut self, request: &Mend) -> Result<Option<Job>, MendError> {
        let (id, base) = (request.incarnation, request.segment);
        let failed = |error: io::Error| write_error("make a mended segment", &error);
        let (mut closing, mut banks) = (None, Vec::new());
        let (header, old, truncations) = if let Some(log) = self.logs.get(&id) {
            let segments = log.shared.segments();
            let segment = segments.iter().find(|segment| segment.base_index() == base);
            let Some(segment) = segment.filter(|_| !request.accepts_loss) else {
                return Ok(None);
            };
            (segment.header, Some(Arc::clone(&segment.file)), log.truncations.clone())
        } else {
            let gap = self.gap_to_fill(request)?;
            if request.accepts_loss {
                let known = gap.closing.clone();
                let known = known.map_err(|reason| MendError::Unclosable { reason })?;
                banks.clone_from(&known.banks);
                closing = Some(self.behind_closing(known));
            }
            let path = format!("{}/{}", log_dir(id), segment_name(base));
            let old = gap.has_file.then(|| self.disk.open(&path)).transpose().map_err(failed)?;
            (gap.header, old, gap.truncations)
        };
        let bytes = old.as_ref().map_or(Ok(0), |old| old.bytes()).map_err(failed)?;
        let path = mending_path(id, base);
        let fresh = self.disk.create(&path).map_err(failed)?;
        fresh.allocate(bytes.max(u64::from(SEGMENT_BYTES_MIN))).map_err(failed)?;
        let mut mending = Mending::new(header, old, fresh, truncations).map_err(failed)?;
        mending.banks = banks;
        let (is_waiting, asked, is_stale) = (false, None, false);
        let request = request.clone();
        Ok(Some(Job { request, mending, closing, path, is_waiting, asked, is_stale }))
    }

    /// The gap of a log that nobody runs on, where what is asked for can be done.
    fn gap_to_fill(&self, request: &Mend) -> Result<Gap, WriteError> {
        let gap = self.quarantined.get(&request.incarnation).and_then(|log| log.gap.as_ref());
        let gap = gap.filter(|gap| {
            gap.header.base_index == request.segment
                && (request.accepts_loss || gap.mendable.is_some())
        });
        gap.cloned().ok_or_else(|| self.unknown(request.incarnation))
    }

    /// What lies behind a hole that is to be closed. At the log's end what is written gets a flush
    /// sequence of its own, behind everything that was ever buried.
    fn behind_closing(&mut self, known: Closing) -> (Behind, Vec<LogIndex>) {
        let Closing { next, last, known_offset, void, .. } = known;
        if let Some(next) = next {
            return (Behind::Remains(next), void);
        }
        self.flush_sequence = self.flush_sequence.next();
        let flush_sequence = self.flush_sequence;
        (Behind::Nothing(LostEnd { last, known_offset, flush_sequence }), void)
    }

    /// Whether there is a mending that could go on now, for which nobody waits.
    #[must_use]
    pub fn is_mending(&self) -> bool {
        self.mendings.next().is_some()
    }

    /// As [`CommitCycle::background_step`] while mendings rest: they alone wait. Returns whether
    /// there is more that can be done meanwhile.
    pub fn background_step_beside_mending(
        &mut self,
        done: &mut Vec<Done>,
    ) -> Result<bool, DiskFailed> {
        self.guarded(|cycle| cycle.step(done, false))
    }

    /// One slice of one mending. Returns whether there was any.
    pub(super) fn step_mending(&mut self, done: &mut Vec<Done>) -> Result<bool, DiskFailed> {
        let Some(id) = self.mendings.next() else { return Ok(false) };
        let around = self.around(id);
        let Some(job) = self.mendings.jobs.get_mut(&id) else { return Ok(false) };
        if job.is_stale {
            let request = job.request.clone();
            self.forget_mending(id);
            done.extend(self.begin_mending(request));
            return Ok(true);
        }
        let (request, segment) = (job.request.clone(), job.request.segment);
        let Some((behind, commit)) = around else {
            self.forget_mending(id);
            done.push(self.mended(&request, 0));
            return Ok(true);
        };
        let progress = job.mending.step(behind, commit);
        // Who waits for a flush of another log waits for no more than a slice of this one.
        let written = job.mending.fresh.write_out();
        written.map_err(failure("write out a segment that is mended"))?;
        match progress {
            Ok(Progress::Copying) => {}
            Ok(Progress::Wants(hole)) => {
                job.is_waiting = true;
                let is_rest = job.asked.replace(hole.last) == Some(hole.last);
                let refused = None;
                done.push(Done::MendWants { incarnation: id, segment, hole, is_rest, refused });
            }
            Ok(Progress::Complete) => {
                let answer = self.finish_mending(id)?;
                done.extend(answer);
            }
            Err(error) => done.push(self.give_up_mending(id, segment, error)),
        }
        Ok(true)
    }

    /// What lies behind the segment that is mended, and the last frame that is known to be
    /// committed; `None` where the segment is not there any more.
    fn around(&self, id: Incarnation) -> Option<(Behind, LogIndex)> {
        let job = self.mendings.jobs.get(&id)?;
        let base = job.request.segment;
        if let Some((behind, _)) = job.closing {
            // Nothing is asked of anybody.
            return Some((behind, LogIndex::ZERO));
        }
        if let Some(log) = self.logs.get(&id) {
            let segments = log.shared.segments();
            let at = segments.iter().position(|segment| segment.base_index() == base)?;
            let next = segments.get(at + 1).map(|next| {
                Behind::Segment(next.header, next.header_copied(SEGMENT_HEADER_BYTES).ok())
            });
            return Some((next.unwrap_or(Behind::End(log.tail.index)), log.hard_state.commit));
        }
        let gap = self.quarantined.get(&id)?.gap.as_ref()?;
        let mendable = gap.mendable.as_ref()?;
        let next = mendable.next.map(|(next, first)| Behind::Segment(next, first));
        Some((next.unwrap_or(Behind::Unknown), mendable.commit))
    }

    /// Puts a whole fresh file in its segment's place.
    fn finish_mending(&mut self, id: Incarnation) -> Result<Option<Done>, DiskFailed> {
        let Some(job) = self.mendings.jobs.get(&id) else { return Ok(None) };
        let (base, wall_ms) = (job.request.segment, job.request.wall_ms);
        let fresh = Arc::clone(&job.mending.fresh);
        self.disk.flush(&[fresh], &[]).map_err(failure("flush a mended segment"))?;
        let segment = match self.fresh_segment(id) {
            Ok(segment) => segment,
            Err(error) => return Ok(Some(self.give_up_mending(id, base, error))),
        };
        let Some(job) = self.mendings.jobs.get(&id) else { return Ok(None) };
        let is_closed = job.closing.is_some();
        let exchange = Exchange { log: id, base, wall_ms, is_closed };
        let named = self.disk.rename(&job.path, &exchange.fresh());
        if let Err(error) = named {
            let error = write_error("name a mended segment", &error);
            return Ok(Some(self.give_up_mending(id, base, error.into())));
        }
        self.disk.flush(&[], &[log_dir(id)]).map_err(failure("name a mended segment"))?;
        let mut moved = exchange.perform(&*self.disk);
        while matches!(&moved, Err(error) if error.kind() == io::ErrorKind::StorageFull)
            && self.make_room(true)
        {
            moved = exchange.perform(&*self.disk);
        }
        if let Err(error) = &moved
            && error.kind() == io::ErrorKind::StorageFull
        {
            let error = write_error("put a mended segment in place", error);
            exchange.undo(&*self.disk).map_err(failure("put a segment back"))?;
            return Ok(Some(self.give_up_mending(id, base, error.into())));
        }
        moved.map_err(failure("put a mended segment in place"))?;
        let Some(job) = self.mendings.jobs.remove(&id) else { return Ok(None) };
        self.keep_old(id, base, wall_ms);
        if let Some((_, void)) = &job.closing {
            bury(&*self.disk, id, void, wall_ms);
        }
        match segment {
            Some(segment) => {
                if let Some(log) = self.logs.get_mut(&id) {
                    log.swap_segment(Arc::new(segment));
                }
            }
            None => return self.read_again(&job.request, job.mending.mended_count).map(Some),
        }
        Ok(Some(self.mended(&job.request, job.mending.mended_count)))
    }

    /// The mended segment of a log that is written; `None` of one that nobody runs on.
    fn fresh_segment(&self, id: Incarnation) -> Result<Option<Segment>, MendError> {
        let (Some(log), Some(job)) = (self.logs.get(&id), self.mendings.jobs.get(&id)) else {
            return Ok(None);
        };
        let (base, tail) = (job.request.segment, job.mending.tail());
        let segments = log.shared.segments();
        let old = segments.iter().find(|segment| segment.base_index() == base);
        let Some(old) = old.filter(|old| old.end() == tail.position) else {
            let reason = format!("it ends at byte {}, and the old one elsewhere", tail.position);
            return Err(MendError::Unmendable { first: tail.index.next(), reason });
        };
        let failed = |error| write_error("map a mended segment", &error);
        let fresh = Arc::clone(&job.mending.fresh);
        let (capacity, map) = (fresh.bytes().map_err(failed)?, fresh.map().map_err(failed)?);
        let path = format!("{}/{}", log_dir(id), segment_name(base));
        let index = old.index().clone();
        let segment = Segment::new(old.header, path, fresh, map, capacity, index);
        Ok(Some(segment.recovered(tail.position, 0)))
    }

    /// The old file stays for as long as it may be lent, and then for a while.
    fn keep_old(&mut self, id: Incarnation, base: LogIndex, wall_ms: u64) {
        let name = kept_name(id, base, wall_ms);
        let written = self.logs.get(&id).map(|log| &log.shared);
        let shared = written.or_else(|| self.quarantined.get(&id).map(|log| &log.shared));
        let segments = shared.map(|shared| shared.segments());
        let old = segments.iter().flat_map(|segments| segments.iter());
        let old: Vec<_> = old.filter(|one| one.base_index() == base).cloned().collect();
        old.iter().for_each(|one| one.set_path(format!("{QUARANTINE}/{name}")));
        self.background.note_kept(name, old);
    }

    /// Reads a log that nobody runs on once more, and makes its writer where it is whole now.
    fn read_again(&mut self, request: &Mend, frames: u64) -> Result<Done, DiskFailed> {
        let id = request.incarnation;
        let unknown = || failure("read a mended log")(io::Error::other("it is gone"));
        let failed = |error: crate::OpenError| DiskFailed {
            operation: "read a mended log",
            message: error.to_string(),
        };
        let shared = self.quarantined.get(&id).map(|log| Arc::clone(&log.shared));
        let shared = shared.ok_or_else(unknown)?;
        let replica = self.meta.state.replicas.get(&id).ok_or_else(unknown)?;
        let flushes = (self.highest, request.accepts_loss);
        let reading = Reading { options: self.options, everything: self.reads_everything };
        let read = ReadAgain::read(&*self.disk, id, replica, flushes, reading);
        let read = read.map_err(failed)?;
        if let Some(marks) = read.marks() {
            let sequence = self.flush_sequence.next();
            self.append_meta(vec![Record::Replica(id, Box::new(marks))], sequence)?;
            self.flush_meta(sequence)?;
        }
        let opened = read.open(&self.disk, &self.meta, self.options, shared).map_err(failed)?;
        self.quarantined.remove(&id);
        self.quarantined.extend(opened.quarantined);
        self.logs.extend(opened.writers);
        self.background.take_away(opened.leftovers);
        self.background.look_at(id);
        let log = opened.logs.into_iter().next().map(Box::new);
        Ok(Done::Mended { incarnation: id, segment: request.segment, frames, log })
    }

    fn mended(&self, request: &Mend, frames: u64) -> Done {
        let (incarnation, segment) = (request.incarnation, request.segment);
        let log = request.reopens.then(|| self.as_recovered(incarnation)).flatten().map(Box::new);
        Done::Mended { incarnation, segment, frames, log }
    }

    /// A log that is written, as a start would find it.
    fn as_recovered(&self, id: Incarnation) -> Option<RecoveredLog> {
        let log = self.logs.get(&id)?;
        let state = log.state_applied;
        let state = state.and_then(|at| state_file::read(&*self.disk, &log.dir, id, at).ok());
        Some(RecoveredLog {
            incarnation: id,
            replica: log.replica,
            hard_state: log.hard_state,
            start: log.start,
            last_index: log.tail.index,
            end_offset: log.tail.next_offset,
            state,
            snapshot: log.to_meta().snapshot.map(|mark| mark.applied),
            reader: log.reader(),
            corrupt: None,
            mendable: None,
            loss: None,
        })
    }
}

fn mending_path(log: Incarnation, base: LogIndex) -> String {
    format!("{}/{}{MENDING_SUFFIX}", log_dir(log), hex(base.get()))
}

/// Name of a damaged segment in the quarantine.
fn kept_name(log: Incarnation, base: LogIndex, wall_ms: u64) -> String {
    format!("{}-{}-{}", hex(log.get()), hex(base.get()), hex(wall_ms))
}

/// Name of its side file there.
fn kept_side_name(log: Incarnation, base: LogIndex, wall_ms: u64) -> String {
    format!("{}-{}-side-{}", hex(log.get()), hex(base.get()), hex(wall_ms))
}

/// A mended segment, durable, and the place that it is to take.
#[derive(Clone, Copy)]
struct Exchange {
    log: Incarnation,
    base: LogIndex,
    wall_ms: u64,
    /// Its frames lie elsewhere than in the old file: what the side file says is not true of it.
    is_closed: bool,
}

impl Exchange {
    /// What a file of this name in the log's directory is to become.
    fn parse(log: Incarnation, name: &str) -> Option<Self> {
        let (name, is_closed) = match name.strip_suffix(CLOSED_SUFFIX) {
            Some(name) => (name, true),
            None => (name.strip_suffix(MENDED_SUFFIX)?, false),
        };
        let (base, wall_ms) = name.split_once('-')?;
        let (base, wall_ms) = (LogIndex::new(from_hex(base)?), from_hex(wall_ms)?);
        Some(Self { log, base, wall_ms, is_closed })
    }

    fn fresh(&self) -> String {
        let suffix = if self.is_closed { CLOSED_SUFFIX } else { MENDED_SUFFIX };
        format!("{}/{}-{}{suffix}", log_dir(self.log), hex(self.base.get()), hex(self.wall_ms))
    }

    fn place(&self) -> String {
        format!("{}/{}", log_dir(self.log), segment_name(self.base))
    }

    fn side(&self) -> String {
        format!("{}/{}", log_dir(self.log), side_name(self.base))
    }

    fn kept(&self) -> String {
        format!("{QUARANTINE}/{}", kept_name(self.log, self.base, self.wall_ms))
    }

    fn kept_side(&self) -> String {
        format!("{QUARANTINE}/{}", kept_side_name(self.log, self.base, self.wall_ms))
    }

    /// Puts the segment in its place. What has been done of it stays done.
    fn perform(&self, disk: &dyn Disk) -> io::Result<()> {
        let dirs = [String::new(), QUARANTINE.to_owned(), log_dir(self.log)];
        disk.create_dir(QUARANTINE)?;
        if self.is_closed {
            // For good, before a segment is there of which it is not true.
            rename_if_there(disk, &self.side(), &self.kept_side())?;
            disk.flush(&[], &dirs)?;
        }
        rename_if_there(disk, &self.place(), &self.kept())?;
        rename_if_there(disk, &self.fresh(), &self.place())?;
        disk.flush(&[], &dirs)
    }

    /// Takes back what has been done of it.
    fn undo(&self, disk: &dyn Disk) -> io::Result<()> {
        let dir = log_dir(self.log);
        let entries = disk.list(&dir)?;
        let is_there = |name: String| entries.iter().any(|entry| entry.name == name);
        if !is_there(segment_name(self.base)) {
            rename_if_there(disk, &self.kept(), &self.place())?;
        }
        if self.is_closed && !is_there(side_name(self.base)) {
            rename_if_there(disk, &self.kept_side(), &self.side())?;
        }
        disk.unlink(&self.fresh())?;
        disk.flush(&[], &[dir])
    }
}

fn rename_if_there(disk: &dyn Disk, from: &str, to: &str) -> io::Result<()> {
    match disk.rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Keeps segment files in which nothing is intact, and which a closed hole covers. Those that
/// cannot be kept are taken away like everything behind a log's end.
fn bury(disk: &dyn Disk, log: Incarnation, void: &[LogIndex], wall_ms: u64) {
    let dir = log_dir(log);
    for base in void {
        let segment = (segment_name(*base), kept_name(log, *base, wall_ms));
        let side = (side_name(*base), kept_side_name(log, *base, wall_ms));
        for (name, kept) in [segment, side] {
            let _ = disk.rename(&format!("{dir}/{name}"), &format!("{QUARANTINE}/{kept}"));
        }
    }
}

/// Carries a mending to its end whose fresh file is durable. Returns whether `name`, of a file in
/// the log's directory, is such a one.
pub(crate) fn finish_if_mended(disk: &dyn Disk, log: Incarnation, name: &str) -> io::Result<bool> {
    let Some(exchange) = Exchange::parse(log, name) else { return Ok(false) };
    exchange.perform(disk)?;
    Ok(true)
}
