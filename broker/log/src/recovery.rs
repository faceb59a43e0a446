//! What a start finds, and what it makes of it.
//!
//! ```text
//!   meta log ─> per log: files ─flush, drop caches─> scan ─> M ─> verdict ─> marks ─> ready
//!                                                                    │
//!        the end │ torn tail: truncated and counted │ corruption: never truncated, reported
//! ```
//!
//! M is the highest flush sequence in any valid frame or meta record. The batch of the first bad
//! frame *i* was durable once if any of these holds: *i* ≤ D; a live side header for ≥ *i*; a live
//! frame behind it with a flush sequence ≤ M − 2; stored commit ≥ *i*; a state file's index ≥ *i*.
//!
//! Invariants
//! - `I-LOG-8` Nothing at or below the durable mark is ever truncated.
//! - Recovery writes nothing to a log that it calls corrupt, so a second recovery says the same.
//! - Recovering twice is recovering once.
//!
//! Absent on purpose: mending (`cycle`), and raising the commit of a sole voter (it needs the
//! membership).

mod again;
mod files;
mod gap;
mod loss;
mod progress;
mod scan;
mod verdict;

pub(crate) use again::ReadAgain;
pub(crate) use gap::{Closing, Gap, NextSegment};
pub use loss::{Loss, LostRange};
pub use progress::RecoveryProgress;

use crate::bytes_io::from_hex;
use crate::cycle::{REMOVED_SUFFIX, TRASH, finish_installs, trash_name};
use crate::data_dir::OpenError;
use crate::disk::{Disk, DiskFile};
use crate::flush_set::FlushSet;
use crate::meta::{MetaLog, Record, ReplicaMeta};
use crate::reader::LogReader;
use crate::segment::{Segment, log_dir, segment_name, side_name};
use crate::shared::{LogShared, NodeWide, Published};
use crate::work::{HardState, LogOptions, LogStart, NodeStart};
use crate::writer::{LogWriter, Sealing, Side, WriterState};
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, NodeId, Offset, ReplicaId};
use bytes::Bytes;
use files::LogFiles;
use scan::LogScan;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use verdict::{Verdict, last_known, settled_by};

/// One log as recovery left it.
#[derive(Debug)]
pub struct RecoveredLog {
    /// Birth id.
    pub incarnation: Incarnation,
    /// This placement's Raft id.
    pub replica: ReplicaId,
    /// Stored term and vote; `commit` is the larger of the stored one and the state file's index.
    pub hard_state: HardState,
    /// Where the log starts.
    pub start: LogStart,
    /// Last verified and flushed index.
    pub last_index: LogIndex,
    /// Offset behind the last record.
    pub end_offset: Offset,
    /// The newest valid state file. The frames behind it are read through `reader`.
    pub state: Option<StoredState>,
    /// Index that the state of the snapshot includes with which the log began anew: a state of
    /// this index, and no other, may include more than the log holds.
    pub snapshot: Option<LogIndex>,
    /// For everybody who reads the log.
    pub reader: LogReader,
    /// The damaged range, if there is one. Such a log serves what lies before it and takes no
    /// appends; its replica must neither vote nor lead.
    pub corrupt: Option<CorruptRange>,
    /// The segment in which the damage begins, where [`crate::Work::Mend`] may help.
    pub mendable: Option<LogIndex>,
    /// What is lost by the damage if nobody else has it.
    pub loss: Option<Loss>,
}

/// Derived state from a state file (D9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredState {
    /// Index that it includes.
    pub applied: LogIndex,
    /// The encoded state.
    pub bytes: Bytes,
}

/// A range that was durable once and cannot be read now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorruptRange {
    /// First index that is damaged or missing.
    pub first_index: LogIndex,
    /// Last index that is known to have been durable.
    pub last_index: LogIndex,
    /// First offset that is damaged or missing.
    pub first_offset: Offset,
    /// First index of the segment, which names its file.
    pub segment: LogIndex,
    /// Where in the segment file, in bytes.
    pub position: u64,
    /// What is wrong there.
    pub reason: String,
    /// What proves that the range was durable.
    pub proof: String,
}

/// A torn tail: what a crash left of frames that nobody was told about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The log.
    pub incarnation: Incarnation,
    /// First index that was dropped.
    pub first_index: LogIndex,
    /// Whole or partial frames that were dropped, as far as they can be told apart.
    pub frames: u64,
    /// Bytes that they covered.
    pub bytes: u64,
}

/// What a start found in the data directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    /// Whether the last process left the clean-shutdown mark.
    pub clean: bool,
    /// How often this directory has been started, this start included.
    pub boot_epoch: u64,
    /// The newest start of each other node that was met here.
    pub peers: BTreeMap<NodeId, NodeStart>,
    /// Logs found.
    pub logs: u64,
    /// Frames walked, and their bytes.
    pub walked_frames: u64,
    /// Bytes walked.
    pub walked_bytes: u64,
    /// Logs whose tail was torn.
    pub torn: Vec<TornTail>,
    /// Damaged ranges by log.
    pub corrupt: Vec<(Incarnation, CorruptRange)>,
    /// Damaged state files by log, where an older one or a replay makes up for it.
    pub damaged_states: Vec<(Incarnation, String)>,
    /// Directories of logs whose creation was never acknowledged, moved to the trash.
    pub orphans: Vec<Incarnation>,
}

/// The outcome of a recovery.
pub(crate) struct Recovered {
    pub(crate) logs: Vec<RecoveredLog>,
    pub(crate) report: RecoveryReport,
    pub(crate) writers: BTreeMap<Incarnation, LogWriter>,
    pub(crate) quarantined: BTreeMap<Incarnation, Quarantined>,
    pub(crate) leftovers: Vec<String>,
    pub(crate) flush_sequence: FlushSequence,
    /// M: the highest flush sequence that was found.
    pub(crate) highest: FlushSequence,
    pub(crate) node: Arc<NodeWide>,
}

/// A log with a corrupt range: read, and not written but to mend it.
#[derive(Debug)]
pub(crate) struct Quarantined {
    pub(crate) shared: Arc<LogShared>,
    pub(crate) gap: Option<Gap>,
}

/// How logs are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) options: LogOptions,
    /// Also what lies below the durable mark.
    pub(crate) everything: bool,
}

fn failed(operation: &str) -> impl FnOnce(io::Error) -> OpenError {
    let operation = operation.to_owned();
    move |source| OpenError::Io { operation, source }
}

/// Recovers every log that the meta log names, and stores what was found.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    meta: &mut MetaLog,
    reading: Reading,
    wall_ms: u64,
    progress: &RecoveryProgress,
) -> Result<Recovered, OpenError> {
    let mut report = RecoveryReport {
        clean: meta.state.clean,
        boot_epoch: meta.state.boot_epoch + 1,
        peers: meta.state.peers.clone(),
        logs: meta.state.replicas.len() as u64,
        ..RecoveryReport::default()
    };
    finish_installs(&**disk, meta).map_err(failed("put a snapshot in the place of a log"))?;
    report.orphans = move_orphans(&**disk, meta, wall_ms).map_err(failed("move an orphan"))?;
    let scans = scan_all(&**disk, meta, reading, progress).map_err(failed("read the logs"))?;
    let highest = scans
        .iter()
        .map(|scan| scan.flush_sequence)
        .fold(meta.state.flush_sequence, FlushSequence::max);
    let verdicts: Vec<(LogScan, Verdict)> = scans
        .into_iter()
        .map(|scan| {
            let verdict = Verdict::of(&scan, settled_by(highest));
            (scan, verdict)
        })
        .collect();
    let sequence = highest.next();
    let mut records = vec![Record::Boot(report.boot_epoch)];
    for (scan, verdict) in &verdicts {
        if let Some(meta) = verdict.marks(scan, highest) {
            records.push(Record::Replica(scan.incarnation, Box::new(meta)));
        }
    }
    meta.append(records, sequence).map_err(failed("write the meta log"))?;
    disk.flush(&[meta.file()], &[]).map_err(failed("flush the meta log"))?;
    meta.note_flushed();
    let mut recovered = Recovered::new(report, sequence, highest, Arc::default());
    let mut flush = FlushSet::default();
    for (scan, verdict) in verdicts {
        if matches!(verdict, Verdict::Corrupt(_)) {
            gap::keep_copy(&**disk, &scan, wall_ms);
        }
        recovered.take(disk, meta, reading.options, (scan, verdict, None), &mut flush)?;
    }
    if !flush.is_empty() {
        flush.flush(&**disk).map_err(failed("flush truncated tails"))?;
    }
    Ok(recovered)
}

/// Moves directories that the meta log does not name to the trash: their creation was never
/// acknowledged, or their deletion was.
fn move_orphans(disk: &dyn Disk, meta: &MetaLog, wall_ms: u64) -> io::Result<Vec<Incarnation>> {
    let mut orphans = Vec::new();
    for entry in disk.list("partitions")? {
        let Some(log) = from_hex(&entry.name).map(Incarnation::new) else { continue };
        if meta.state.replicas.contains_key(&log) {
            continue;
        }
        disk.create_dir(TRASH)?;
        disk.rename(&log_dir(log), &format!("{TRASH}/{}", trash_name(log, wall_ms)))?;
        orphans.push(log);
    }
    if !orphans.is_empty() {
        disk.flush(&[], &[String::new(), "partitions".to_owned(), TRASH.to_owned()])?;
    }
    Ok(orphans)
}

/// Logs from which on a scan uses several threads.
const PARALLEL_SCANS_MIN: usize = 32;
/// How many: enough that reading and checking overlap.
const SCAN_THREADS: usize = 4;

/// Reads every log, each by itself.
fn scan_all(
    disk: &dyn Disk,
    meta: &MetaLog,
    reading: Reading,
    progress: &RecoveryProgress,
) -> io::Result<Vec<LogScan>> {
    let mut listed = Vec::new();
    for (log, replica) in &meta.state.replicas {
        listed.push((LogFiles::list(disk, *log, replica)?, replica));
    }
    progress.begin(listed.iter().map(|(files, _)| files.bases.len() as u64).sum());
    if !meta.state.clean {
        // Page-cache survivors are not durable yet, nor are the names of files that were new, and
        // after a failed flush clean pages may lie: flush, drop, and only then look.
        let files: Vec<Arc<dyn DiskFile>> =
            listed.iter().flat_map(|(files, _)| files.opened()).map(|(file, _)| file).collect();
        let dirs: Vec<String> = listed.iter().map(|(files, _)| files.dir.clone()).collect();
        disk.flush(&files, &dirs)?;
        for (files, _) in &listed {
            files.opened().try_for_each(|(file, position)| file.drop_cache(position))?;
        }
    }
    let scan = |(files, replica): (LogFiles, &ReplicaMeta)| {
        LogScan::run(disk, files, replica.clone(), reading, progress)
    };
    if listed.len() < PARALLEL_SCANS_MIN {
        return listed.into_iter().map(scan).collect();
    }
    let share = listed.len().div_ceil(SCAN_THREADS);
    let mut shares = Vec::new();
    while !listed.is_empty() {
        let rest = listed.split_off(share.min(listed.len()));
        shares.push(std::mem::replace(&mut listed, rest));
    }
    std::thread::scope(|scope| {
        let scan_share =
            |share: Vec<_>| share.into_iter().map(scan).collect::<io::Result<Vec<_>>>();
        let threads: Vec<_> =
            shares.into_iter().map(|share| scope.spawn(move || scan_share(share))).collect();
        let mut scans = Vec::new();
        for thread in threads {
            let scanned = thread.join();
            scans.extend(scanned.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(scans)
    })
}

impl Recovered {
    fn new(
        report: RecoveryReport,
        flush_sequence: FlushSequence,
        highest: FlushSequence,
        node: Arc<NodeWide>,
    ) -> Self {
        let (logs, writers, quarantined) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        let leftovers = Vec::new();
        Self { logs, report, writers, quarantined, leftovers, flush_sequence, highest, node }
    }

    /// Makes reader and writer of one log, and truncates a torn tail.
    ///
    /// - `scan`: what was found, what it means, and what readers have of the log already.
    fn take(
        &mut self,
        disk: &Arc<dyn Disk>,
        meta: &MetaLog,
        options: LogOptions,
        scan: (LogScan, Verdict, Option<Arc<LogShared>>),
        flush: &mut FlushSet,
    ) -> Result<(), OpenError> {
        let (mut scan, verdict, shared) = scan;
        self.report.walked_frames += scan.walked_frames;
        self.report.walked_bytes += scan.walked_bytes;
        let id = scan.incarnation;
        self.report.damaged_states.extend(scan.damaged_state.take().map(|reason| (id, reason)));
        let corrupt = match &verdict {
            Verdict::Corrupt(range) => Some(range.clone()),
            _ => None,
        };
        let (gap, loss) = corrupt.as_ref().map(|range| losses(&**disk, &scan, range)).unzip();
        let gap = gap.flatten();
        if let Some(range) = &corrupt {
            self.report.corrupt.push((id, range.clone()));
        } else {
            self.leftovers.append(&mut scan.leftovers);
            self.drop_later(&**disk, &scan, flush).map_err(failed("remove a dead segment"))?;
        }
        let segments = open_segments(&mut scan).map_err(failed("map a segment"))?;
        let published = Published {
            segments: segments.iter().map(|(segment, ..)| Arc::clone(segment)).collect(),
            terms: std::mem::take(&mut scan.terms),
            start: scan.meta.start,
            last_index: scan.tail.index,
            end_offset: scan.tail.next_offset,
            hole: corrupt.clone(),
        };
        let shared = match shared {
            Some(shared) => {
                shared.show(published);
                shared
            }
            None => LogShared::new(id, published, Arc::clone(&self.node)),
        };
        let hard_state = hard_state(&scan);
        self.logs.push(RecoveredLog {
            incarnation: id,
            replica: scan.meta.replica,
            hard_state,
            start: scan.meta.start,
            last_index: scan.tail.index,
            end_offset: scan.tail.next_offset,
            state: scan.state.clone(),
            snapshot: scan.meta.snapshot.map(|mark| mark.applied),
            reader: LogReader::new(Arc::clone(&shared)),
            mendable: gap.as_ref().and_then(Gap::mendable_segment),
            loss,
            corrupt: corrupt.clone(),
        });
        if corrupt.is_some() {
            self.quarantined.insert(id, Quarantined { shared, gap });
            return Ok(());
        }
        let stored = meta.state.replicas.get(&id).cloned();
        let writer = build_writer(disk, &scan, shared, segments, options, hard_state, stored);
        let Some(writer) = writer else { return Ok(()) };
        if let Verdict::Torn(torn) = verdict {
            self.report.torn.push(torn);
            writer.clear_tail(flush).map_err(failed("clear a torn tail"))?;
        }
        self.writers.insert(id, writer);
        Ok(())
    }

    /// Renames segments behind the tail out of the way: all of their frames are dead.
    fn drop_later(
        &mut self,
        disk: &dyn Disk,
        scan: &LogScan,
        flush: &mut FlushSet,
    ) -> io::Result<()> {
        for base in &scan.later {
            for name in [segment_name(*base), side_name(*base)] {
                let path = format!("{}/{name}", scan.dir);
                let removed = format!("{path}{REMOVED_SUFFIX}");
                match disk.rename(&path, &removed) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    result => {
                        result?;
                        self.leftovers.push(removed);
                    }
                }
            }
            flush.add_dir(&scan.dir);
        }
        Ok(())
    }
}

/// What can be made of damage, and what is lost if nobody else has it.
fn losses(disk: &dyn Disk, scan: &LogScan, range: &CorruptRange) -> (Option<Gap>, Loss) {
    let last = last_known(scan, range);
    let gap = Gap::of(disk, scan, last);
    let closable = match &gap {
        Ok(Gap { closing: Err(reason), .. }) | Err(reason) => Err(reason.clone()),
        Ok(gap) => Ok(gap.header.base_index),
    };
    (gap.ok(), Loss { ranges: scan.losses.ranges_up_to(last), closable })
}

/// Term and vote as stored, but never behind the log; the commit as far as it is certain.
fn hard_state(scan: &LogScan) -> HardState {
    let mut state = scan.meta.hard_state;
    if scan.tail.term > state.term {
        // The frame is durable and its term was seen; a vote in it cannot have been sent, for
        // that waits for its own flush.
        state.term = scan.tail.term;
        state.vote = None;
    }
    let applied = scan.state.as_ref().map_or(LogIndex::ZERO, |state| state.applied);
    let is_snapshot = scan.meta.snapshot.is_some_and(|mark| mark.applied == applied);
    let applied = if is_snapshot { applied.min(scan.tail.index) } else { applied };
    state.commit = state.commit.max(applied);
    state
}

/// A shared segment, its side file, and whether it is sealed.
type OpenSegment = (Arc<Segment>, Side, crate::tail::Tail, bool);

fn open_segments(scan: &mut LogScan) -> io::Result<Vec<OpenSegment>> {
    let mut open = Vec::new();
    for good in scan.segments.drain(..) {
        let path = format!("{}/{}", scan.dir, segment_name(good.header.base_index));
        let (capacity, map) = (good.file.bytes()?, good.file.map()?);
        let segment = Segment::new(good.header, path, good.file, map, capacity, good.index)
            .recovered(good.tail.position, good.unverified_below);
        open.push((Arc::new(segment), good.side, good.tail, good.is_sealed));
    }
    Ok(open)
}

fn build_writer(
    disk: &Arc<dyn Disk>,
    scan: &LogScan,
    shared: Arc<LogShared>,
    mut segments: Vec<OpenSegment>,
    options: LogOptions,
    hard_state: HardState,
    stored: Option<ReplicaMeta>,
) -> Option<LogWriter> {
    let (active, side, tail, is_sealed) = segments.pop()?;
    active.index_mut().set_interval(options.index_interval_bytes);
    // A segment that was closed already, its follower torn away, is written on.
    let frames = tail.index.next().get() - active.base_index().get();
    let side = if is_sealed { Side::new(frames) } else { side };
    let mut writer = LogWriter::new(
        Arc::clone(disk),
        WriterState {
            incarnation: scan.incarnation,
            replica: scan.meta.replica,
            options,
            shared,
            active,
            side,
            tail,
            hard_state,
            start: scan.meta.start,
            state_applied: scan.state.as_ref().map(|state| state.applied),
            truncations: stored.as_ref().map_or(Vec::new(), |stored| stored.truncations.clone()),
            snapshot: scan.meta.snapshot,
        },
    );
    let waiting = segments.into_iter().filter(|(.., is_sealed)| !is_sealed);
    writer.sealing =
        waiting.map(|(segment, side, tail, _)| Sealing { segment, side, tail }).collect();
    writer.stored = stored;
    Some(writer)
}
