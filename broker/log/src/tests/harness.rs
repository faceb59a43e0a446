//! A data directory with a model beside it: what was asked for, what was answered, and what may
//! therefore be found after a crash.
//!
//! Absent on purpose: any knowledge of files.

use crate::RecoveryProgress;
use crate::sim_disk::{SimDisk, SimRandom};
use crate::{
    Create, DataDir, DataDirOptions, DiskFailed, Done, HardState, Identity, Install, LogOptions,
    LogReader, LogStart, OpenError, Opened, Persist, RecoveredLog, Work, WriteError,
};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What is known of one log.
#[derive(Clone, Debug, Default)]
pub(super) struct LogModel {
    /// Answered frames, from index 1.
    pub(super) acked: Vec<Frame>,
    /// Asked for and not answered: truncations and frames, in order.
    pub(super) pending: Vec<(Option<LogIndex>, Vec<Frame>)>,
    pub(super) hard_state: HardState,
    pub(super) pending_hard_states: Vec<HardState>,
    pub(super) start: Option<LogStart>,
    pub(super) pending_start: Option<LogStart>,
    pub(super) state: Option<(LogIndex, Bytes)>,
    pub(super) pending_states: Vec<(LogIndex, Bytes)>,
    /// A snapshot that was asked for and not answered.
    pub(super) installing: Option<Install>,
    pub(super) created: bool,
    pub(super) deleting: bool,
    pub(super) deleted: bool,
}

pub(super) type Model = BTreeMap<u64, LogModel>;

/// An open directory, its readers and its model.
pub(super) struct Node {
    pub(super) disk: SimDisk,
    pub(super) cycle: crate::CommitCycle,
    pub(super) readers: BTreeMap<u64, LogReader>,
    pub(super) model: Arc<Mutex<Model>>,
    pub(super) random: SimRandom,
    ready: u64,
    /// Incarnations are never used twice.
    pub(super) next_log: u64,
    work: Vec<Work>,
}

pub(super) fn identity() -> Identity {
    Identity {
        node: NodeId::new(1),
        founding_id: [7; 16],
        founded: true,
        founders: Vec::new(),
        cluster_id: None,
        former: None,
    }
}

pub(super) fn options() -> DataDirOptions {
    DataDirOptions {
        soft_free_bytes: 0,
        hard_free_bytes: 0,
        ballast_bytes: 0,
        meta_copy_bytes: 512 * 1024,
        log: LogOptions { segment_bytes: 20 * 1024, index_interval_bytes: 700, vital: false },
        wall_ms: 5,
        reads_everything: false,
    }
}

/// Founds a directory on an empty disk.
pub(super) fn found(disk: &SimDisk) {
    let dir = DataDir::lock(Arc::new(disk.clone()), 1).unwrap();
    let opened = dir.open(&Identity { founded: false, ..identity() }, options()).unwrap();
    opened.cycle.close().unwrap();
    dir.store_identity(&identity()).unwrap();
}

/// Opens a founded directory.
pub(super) fn open(disk: &SimDisk) -> Result<Opened, OpenError> {
    open_with(disk, options())
}

/// The same, in a certain way.
pub(super) fn open_with(disk: &SimDisk, options: DataDirOptions) -> Result<Opened, OpenError> {
    let dir = DataDir::lock(Arc::new(disk.clone()), 1).unwrap();
    let found = dir.identity(NodeId::new(1))?.expect("founded");
    let progress = RecoveryProgress::default();
    let opened = dir.open_watched(&found, options, &progress)?;
    let (done, total) = progress.segments();
    assert_eq!(done, total, "a recovery that is over says so, whatever it found");
    assert!(total >= opened.logs.iter().filter(|log| log.corrupt.is_none()).count() as u64);
    Ok(opened)
}

/// A record batch as far as the log looks at it.
pub(super) fn batch(timestamp: i64, bytes: usize, fill: u8) -> Bytes {
    let mut payload = vec![fill; bytes.max(61)];
    payload[35..43].copy_from_slice(&timestamp.to_be_bytes());
    payload.into()
}

impl LogModel {
    pub(super) fn last(&self) -> LogIndex {
        LogIndex::new(self.acked.len() as u64)
    }

    /// The snapshot has taken the log's place.
    pub(super) fn take_over(&mut self) {
        let request = self.installing.take().expect("there is one on its way");
        self.acked = before_snapshot(&request);
        self.hard_state = request.hard_state;
        self.start = Some(request.start);
        self.state = Some((request.applied, request.state.clone()));
    }

    /// Frames as they will be once everything pending is answered.
    pub(super) fn frames(&self) -> Vec<Frame> {
        let mut frames = self.acked.clone();
        for (truncate, appended) in &self.pending {
            if let Some(index) = truncate {
                frames.truncate(index.get() as usize - 1);
            }
            frames.extend(appended.iter().cloned());
        }
        frames
    }
}

impl Node {
    pub(super) fn start(seed: u64, disk: &SimDisk) -> Self {
        let opened = open(disk).unwrap();
        Self::with(seed, disk, opened, Model::default())
    }

    pub(super) fn with(seed: u64, disk: &SimDisk, opened: Opened, model: Model) -> Self {
        let readers =
            opened.logs.iter().map(|log| (log.incarnation.get(), log.reader.clone())).collect();
        Self {
            disk: disk.clone(),
            cycle: opened.cycle,
            readers,
            model: Arc::new(Mutex::new(model)),
            random: SimRandom::new(seed),
            ready: 0,
            next_log: 1000 * (seed + 1),
            work: Vec::new(),
        }
    }

    pub(super) fn create(&mut self, log: u64) {
        let entry = (Term::new(1), LogIndex::new(1));
        let voters = Bytes::from_static(b"voters");
        let frame = Frame::new(FrameKind::Membership, entry, Offset::ZERO, 0, voters);
        let hard_state = HardState { term: Term::new(1), vote: None, commit: LogIndex::new(1) };
        let fresh = LogModel {
            pending: vec![(None, vec![frame.clone()])],
            hard_state,
            ..LogModel::default()
        };
        self.model.lock().unwrap().insert(log, fresh);
        self.work.push(Work::Create(Create {
            incarnation: Incarnation::new(log),
            replica: ReplicaId::new(1000 + log),
            options: options().log,
            hard_state,
            frames: vec![frame],
        }));
    }

    /// Asks for `frames` given by (kind, records, payload), in `term`, behind what is there.
    pub(super) fn append(&mut self, log: u64, term: u64, frames: &[(FrameKind, u32, Bytes)]) {
        self.persist(log, term, None, None, frames);
    }

    pub(super) fn persist(
        &mut self,
        log: u64,
        term: u64,
        hard_state: Option<HardState>,
        truncate_from: Option<LogIndex>,
        frames: &[(FrameKind, u32, Bytes)],
    ) {
        let mut model = self.model.lock().unwrap();
        let entry = model.get_mut(&log).unwrap();
        entry.pending.push((truncate_from, Vec::new()));
        let before = entry.frames();
        let (mut index, mut offset) =
            before.last().map_or((LogIndex::new(1), Offset::ZERO), |last| last.next_coordinates());
        let mut made = Vec::new();
        for (kind, count, payload) in frames {
            let entry = (Term::new(term), index);
            let frame = Frame::new(*kind, entry, offset, *count, payload.clone());
            (index, offset) = frame.next_coordinates();
            made.push(frame);
        }
        entry.pending.last_mut().unwrap().1 = made.clone();
        entry.pending_hard_states.extend(hard_state);
        self.ready += 1;
        self.work.push(Work::Persist(Persist {
            incarnation: Incarnation::new(log),
            ready: self.ready,
            hard_state,
            truncate_from,
            frames: made,
        }));
    }

    pub(super) fn push(&mut self, work: Work) {
        self.work.push(work);
    }

    /// Runs what was asked for and takes the answers into the model.
    pub(super) fn run(&mut self) -> Result<(), DiskFailed> {
        let mut done = Vec::new();
        let mut work = std::mem::take(&mut self.work);
        self.cycle.run(&mut work, &mut done)?;
        done.into_iter().for_each(|answer| self.answer(answer));
        Ok(())
    }

    pub(super) fn background(&mut self) -> Result<(), DiskFailed> {
        let mut done = Vec::new();
        let mut steps = 0;
        while self.cycle.background_step(&mut done)? && steps < 50 {
            steps += 1;
        }
        done.into_iter().for_each(|answer| self.answer(answer));
        Ok(())
    }

    pub(super) fn idle(&mut self) -> Result<(), DiskFailed> {
        self.cycle.on_idle(&mut Vec::new())
    }

    fn answer(&mut self, answer: Done) {
        let mut model = self.model.lock().unwrap();
        match answer {
            Done::Created { incarnation, reader, .. } => {
                self.readers.insert(incarnation.get(), reader);
                let log = model.get_mut(&incarnation.get()).unwrap();
                log.created = true;
                let (_, frames) = log.pending.remove(0);
                log.acked = frames;
            }
            Done::Persisted { incarnation, last_index, next_offset, .. } => {
                let Some(log) = model.get_mut(&incarnation.get()) else { return };
                let (truncate, frames) = log.pending.remove(0);
                if let Some(index) = truncate {
                    log.acked.truncate(index.get() as usize - 1);
                }
                log.acked.extend(frames);
                assert_eq!(log.last(), last_index);
                assert_eq!(log.acked.last().unwrap().next_coordinates().1, next_offset);
                if !log.pending_hard_states.is_empty() {
                    log.hard_state = log.pending_hard_states.remove(0);
                }
            }
            Done::Trimmed { incarnation, start } => {
                let log = model.get_mut(&incarnation.get()).unwrap();
                log.start = Some(start);
                log.pending_start = None;
            }
            Done::StateStored { incarnation, .. } => {
                let Some(log) = model.get_mut(&incarnation.get()) else { return };
                log.state = Some(log.pending_states.remove(0));
            }
            Done::Deleted { incarnation } => {
                model.get_mut(&incarnation.get()).unwrap().deleted = true;
                self.readers.remove(&incarnation.get());
            }
            Done::CreateFailed { request, error } => {
                assert!(!matches!(error, WriteError::Exists(_)));
                model.remove(&request.incarnation.get());
            }
            Done::PersistFailed { request, .. } => {
                let log = model.get_mut(&request.incarnation.get()).unwrap();
                log.pending.remove(0);
                if let Some(index) = request.truncate_from {
                    log.acked.truncate(index.get() as usize - 1);
                }
                if let Some(hard_state) = request.hard_state {
                    log.hard_state = hard_state;
                    log.pending_hard_states.remove(0);
                }
            }
            Done::StateFailed { incarnation, .. } => {
                model.get_mut(&incarnation.get()).unwrap().pending_states.remove(0);
            }
            Done::Installed { incarnation, index } => {
                let log = model.get_mut(&incarnation.get()).unwrap();
                assert_eq!(log.installing.as_ref().map(Install::index), Some(index));
                log.take_over();
            }
            Done::InstallFailed { incarnation, .. } => {
                model.get_mut(&incarnation.get()).unwrap().installing = None;
            }
            Done::Space(_) | Done::PeerNoted { .. } | Done::Damaged { .. } => {}
            Done::MendWants { .. } | Done::Mended { .. } | Done::MendFailed { .. } => {
                panic!("nobody has asked to mend anything");
            }
        }
    }

    /// Everything that was answered is read back through the readers.
    pub(super) fn check_readable(&self) {
        let model = self.model.lock().unwrap();
        for (log, reader) in &self.readers {
            if let Some(log) = model.get(log).filter(|log| log.created && !log.deleted) {
                check_reader(reader, log);
            }
        }
    }
}

fn check_frame(found: &crate::StoredFrame, wanted: &Frame) -> bool {
    let header = &found.header;
    header.kind == wanted.kind
        && header.term == wanted.term
        && header.index == wanted.index
        && header.base_offset == wanted.base_offset
        && header.record_count == wanted.record_count
        && header.payload_crc == wanted.payload_crc
        && found.payload == wanted.stamped_payload()
}

/// All frames that a reader has, copied.
pub(super) fn all_frames(reader: &LogReader) -> Vec<crate::StoredFrame> {
    let first = reader.sealed().first().map(|sealed| sealed.first_index);
    let last = reader.bounds().last_index;
    let first = first.or_else(|| {
        reader.frames(LogIndex::new(1), last, LogIndex::ZERO, 0).ok().map(|_| LogIndex::new(1))
    });
    let first = match first {
        Some(first) => first,
        None => match reader.frames(LogIndex::new(1), last, LogIndex::ZERO, 0) {
            Err(crate::ReadError::IndexOutOfRange { first, .. }) => first,
            other => panic!("{other:?}"),
        },
    };
    reader.frames(first, last, LogIndex::ZERO, usize::MAX).unwrap()
}

/// What was answered is there, bit for bit, by index and by offset.
pub(super) fn check_reader(reader: &LogReader, log: &LogModel) {
    for found in all_frames(reader) {
        if let Some(wanted) = log.acked.get(found.header.index.get() as usize - 1) {
            assert!(check_frame(&found, wanted), "{:?} is not {wanted:?}", found.header);
        }
    }
    let bounds = reader.bounds();
    let end = log.acked.last().unwrap().next_coordinates().1;
    let records: Vec<&Frame> = log
        .acked
        .iter()
        .filter(|frame| frame.kind == FrameKind::Records)
        .filter(|frame| frame.next_coordinates().1 > bounds.start.offset)
        .collect();
    let mut from = bounds.start.offset;
    let mut found = Vec::new();
    while from < end {
        let range = reader.read(from, end, 3000, true).unwrap();
        assert!(range.next_offset > from, "no progress at {from} below {end}");
        from = range.next_offset;
        found.extend(range.batches);
    }
    assert_eq!(found.len(), records.len());
    for (found, wanted) in found.iter().zip(records) {
        assert_eq!(*found, wanted.stamped_payload());
    }
}

/// What recovery found agrees with what was answered and what was asked for.
pub(super) fn check_recovered(found: &RecoveredLog, log: &LogModel) {
    let id = found.incarnation;
    assert!(found.corrupt.is_none(), "{id:?} is called corrupt: {:?}", found.corrupt);
    // Every history that the unanswered requests can have left.
    let mut histories = vec![log.acked.clone()];
    let mut base = log.acked.clone();
    for (truncate, appended) in &log.pending {
        if let Some(index) = truncate {
            base.truncate(index.get() as usize - 1);
        }
        histories.push(base.clone());
        for frame in appended {
            base.push(frame.clone());
            histories.push(base.clone());
        }
    }
    let frames = all_frames(&found.reader);
    let skipped = found.last_index.get() as usize - frames.len();
    if let Some(request) = &log.installing {
        histories.push(before_snapshot(request));
        let has_taken_over = found.last_index == request.index();
        let is_whole = found.start == request.start
            && found.state.as_ref().is_some_and(|state| state.bytes == request.state)
            && (found.hard_state, found.snapshot) == (request.hard_state, Some(request.applied));
        assert_eq!(has_taken_over && frames.is_empty(), is_whole, "{id:?} is half a snapshot");
    }
    let fits = |history: &Vec<Frame>| {
        history.len() == skipped + frames.len()
            && history[skipped..].iter().zip(&frames).all(|(wanted, got)| check_frame(got, wanted))
    };
    assert!(
        histories.iter().any(fits),
        "{id:?} has {} frames from {skipped}, answered {}, pending {:?}",
        frames.len(),
        log.acked.len(),
        log.pending.iter().map(|(at, frames)| (*at, frames.len())).collect::<Vec<_>>()
    );
    assert_eq!(found.last_index.get() as usize, skipped + frames.len());
    let term = frames.last().map_or(Term::ZERO, |last| last.header.term);
    let hard_states =
        std::iter::once(log.hard_state).chain(log.pending_hard_states.iter().copied());
    let installing = log.installing.as_ref().map(|request| request.hard_state);
    let hard_states: Vec<HardState> = hard_states.chain(installing).collect();
    let same = |wanted: &HardState| {
        let raised = found.hard_state.term == term && found.hard_state.vote.is_none();
        (found.hard_state.term, found.hard_state.vote) == (wanted.term, wanted.vote)
            || (raised && wanted.term < term)
    };
    assert!(hard_states.iter().any(same), "{:?} of {hard_states:?}", found.hard_state);
    assert!(found.hard_state.commit <= found.last_index, "I-LOG-4");
    let installing = log.installing.as_ref();
    let starts = [
        Some(log.start.unwrap_or(LogStart::BIRTH)),
        log.pending_start,
        installing.map(|request| request.start),
    ];
    assert!(starts.contains(&Some(found.start)), "{:?} of {starts:?}", found.start);
    let state = found.state.as_ref().map(|state| (state.applied, state.bytes.clone()));
    let states: Vec<_> = std::iter::once(log.state.clone())
        .chain(log.pending_states.iter().cloned().map(Some))
        .chain(installing.map(|request| Some((request.applied, request.state.clone()))))
        .collect();
    assert!(states.contains(&state), "{id:?}: a state that nobody stored");
}

/// Opens a disk after a crash and compares everything.
pub(super) fn check_crashed(disk: &SimDisk, model: &Model) -> Opened {
    let opened = match open(disk) {
        Ok(opened) => opened,
        Err(error) => panic!("does not open: {error}"),
    };
    for (id, log) in model {
        let found = opened.logs.iter().find(|found| found.incarnation.get() == *id);
        match found {
            Some(found) if !log.deleted => check_recovered(found, log),
            Some(_) => panic!("log {id} was deleted"),
            None => assert!(!log.created || log.deleting, "log {id} is lost"),
        }
    }
    assert!(opened.logs.iter().all(|log| model.contains_key(&log.incarnation.get())));
    opened
}

/// What a restart knows: the model as recovery found it.
pub(super) fn adopt(opened: &Opened, model: &Model) -> Model {
    let mut adopted = Model::new();
    for found in &opened.logs {
        let mut log = model[&found.incarnation.get()].clone();
        let is_new = |request: &Install| found.start == request.start;
        if log.installing.as_ref().is_some_and(is_new) {
            log.take_over();
        }
        log.installing = None;
        let frames = all_frames(&found.reader);
        let all = candidates(&log);
        log.acked.truncate(found.last_index.get() as usize);
        for frame in &frames {
            let at = frame.header.index.get() as usize - 1;
            let wanted = all.iter().find(|wanted| check_frame(frame, wanted)).unwrap().clone();
            if at < log.acked.len() {
                log.acked[at] = wanted;
            } else {
                log.acked.push(wanted);
            }
        }
        log.pending.clear();
        log.pending_hard_states.clear();
        log.pending_states.clear();
        log.hard_state = found.hard_state;
        log.start = Some(found.start);
        log.pending_start = None;
        log.state = found.state.as_ref().map(|state| (state.applied, state.bytes.clone()));
        log.created = true;
        log.deleting = false;
        adopted.insert(found.incarnation.get(), log);
    }
    adopted
}

/// Stand-ins for the entries that a snapshot stands for: nobody can read them.
fn before_snapshot(request: &Install) -> Vec<Frame> {
    let start = request.start;
    let stand_in = |index| {
        let entry = (start.term, LogIndex::new(index));
        Frame::new(FrameKind::Noop, entry, start.offset, 0, Bytes::new())
    };
    (1..start.index.get()).map(stand_in).collect()
}

fn candidates(log: &LogModel) -> Vec<Frame> {
    let pending = log.pending.iter().flat_map(|(_, frames)| frames.iter());
    log.acked.iter().chain(pending).cloned().collect()
}
