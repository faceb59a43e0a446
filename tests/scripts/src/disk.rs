//! A disk at the level of what the brain asks of it: logs of flushed frames, and a queue of work
//! that is done when somebody says so.
//!
//! ```text
//!   effects ──> queue (not durable) ── perform ──> logs (durable) ──> recover
//!                     └─ crash: some of it survives, or nothing
//! ```
//!
//! Invariants
//! - `I-LOG-1`, `I-LOG-2`: frames that break them are refused, as the real log does it.
//! - Answers for one log come in the order of its requests.
//! - What a refused write leaves behind is its term and vote, and no frame.
//!
//! Absent on purpose: bytes, sectors, checksums of headers. The log has tests of its own.

use bateau_core::replica::Vote;
use bateau_core::replica::trim::{ActiveSegment, LogStart, SealedSegment, Segments};
use bateau_core::shard::{Input, LogBirth, RecoveredLog};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, Offset, ReplicaId, Term};
use bateau_protocol::record::BatchHeader;
use bateau_protocol::terms::TermTable;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One request to the disk.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    Create(LogBirth),
    Persist { incarnation: Incarnation, ready: u64, vote: Option<Vote>, frames: Vec<Frame> },
    StoreState { incarnation: Incarnation, applied: LogIndex, state: Bytes },
    Trim { incarnation: Incarnation, start: LogStart },
    Roll { incarnation: Incarnation },
    Delete { incarnation: Incarnation },
}

impl Work {
    fn incarnation(&self) -> Incarnation {
        match self {
            Self::Create(birth) => birth.incarnation,
            Self::Persist { incarnation, .. }
            | Self::StoreState { incarnation, .. }
            | Self::Trim { incarnation, .. }
            | Self::Roll { incarnation }
            | Self::Delete { incarnation } => *incarnation,
        }
    }
}

/// What of the queue is durable after a crash although nobody was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Survivors {
    /// Frames, over all logs, oldest first.
    pub frame_count: usize,
    /// Whether terms and votes of writes whose frames survive are lost all the same.
    pub votes_are_lost: bool,
    /// Whether other work that was queued between the surviving frames is lost.
    pub other_work_is_lost: bool,
}

/// One log as the disk has it.
#[derive(Clone, Debug)]
pub struct DiskLog {
    replica_id: ReplicaId,
    vote: Vote,
    commit: LogIndex,
    /// Flushed frames, payloads stamped.
    frames: VecDeque<Frame>,
    next_offset: Offset,
    start: LogStart,
    /// Chain CRC of the last frame.
    chain_crc: u32,
    /// Chain CRC of frame 1.
    birth_crc: u32,
    terms: TermTable,
    state: Option<(LogIndex, Bytes)>,
    sealed: VecDeque<SealedSegment>,
    /// The next append goes to a new segment.
    rolls_next: bool,
    open: OpenSegment,
    is_damaged: bool,
}

#[derive(Clone, Copy, Default, Debug)]
struct OpenSegment {
    bytes: u64,
    timestamp_max_ms: Option<u64>,
}

/// All logs of one data directory, and what it has been asked to do.
#[derive(Default, Debug)]
pub struct Disk {
    logs: BTreeMap<Incarnation, DiskLog>,
    queue: VecDeque<Work>,
    refused: BTreeSet<Incarnation>,
    refuses_creation: bool,
    refuses_state_files: bool,
}

impl DiskLog {
    /// Flushed frames, oldest first.
    pub fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.frames.iter()
    }

    /// Index of the last flushed frame.
    #[must_use]
    pub fn last_index(&self) -> LogIndex {
        self.frames.back().map_or(self.start.index.previous(), |last| last.index)
    }

    /// Offset behind the last flushed record.
    #[must_use]
    pub fn end_offset(&self) -> Offset {
        self.next_offset
    }

    /// Where the log starts, durably.
    #[must_use]
    pub fn start(&self) -> LogStart {
        self.start
    }

    /// Index of the newest state file.
    #[must_use]
    pub fn state_index(&self) -> Option<LogIndex> {
        self.state.as_ref().map(|(applied, _)| *applied)
    }

    /// What the replica is told of its segments.
    #[must_use]
    pub fn segments(&self) -> Segments {
        let sealed: Vec<SealedSegment> = self.sealed.iter().copied().collect();
        let sealed_bytes = sealed.iter().map(|segment| segment.size_bytes).sum::<u64>();
        let active = self.open.timestamp_max_ms.map(|timestamp_max_ms| ActiveSegment {
            timestamp_first_ms: timestamp_max_ms,
            timestamp_max_ms,
        });
        Segments { sealed, active, log_bytes: sealed_bytes + self.open.bytes }
    }

    /// Closes the segment that is being written.
    pub fn roll(&mut self) {
        let next_start = LogStart {
            offset: self.next_offset,
            index: self.last_index().next(),
            previous_term: self.terms.last().map_or(Term::ZERO, |last| last.term),
            previous_crc: self.chain_crc,
        };
        let OpenSegment { bytes: size_bytes, timestamp_max_ms } = std::mem::take(&mut self.open);
        self.sealed.push_back(SealedSegment { next_start, size_bytes, timestamp_max_ms });
    }

    /// Overwrites the payload of the newest frame of a kind, as a bug of an older version would
    /// have: its checksum is right.
    pub fn garble(&mut self, kind: FrameKind) {
        let found = self.frames.iter_mut().rev().find(|frame| frame.kind == kind);
        let frame = found.unwrap_or_else(|| panic!("no frame of kind {kind:?} to garble"));
        frame.payload = Bytes::from_static(b"\xFF\xFF\xFF\xFFnothing that this build wrote");
        frame.payload_crc = crc32fast::hash(&frame.payload);
    }

    /// Loses everything behind an index although it was durable, as recovery would report it.
    pub fn damage_behind(&mut self, index: LogIndex) {
        self.frames.retain(|frame| frame.index <= index);
        self.next_offset = self.frames.back().map_or(self.start.offset, |f| f.next_coordinates().1);
        self.terms.truncate_from(index.next());
        self.is_damaged = true;
    }

    fn append(&mut self, incarnation: Incarnation, frame: Frame) {
        if std::mem::take(&mut self.rolls_next) {
            self.roll();
        }
        assert_eq!(frame.index, self.last_index().next(), "I-LOG-1: an index was skipped");
        assert_eq!(frame.base_offset, self.next_offset, "I-LOG-2: an offset was skipped");
        let payload = frame.stamped_payload();
        assert_eq!(frame.payload_crc, crc32fast::hash(&payload), "a frame's payload CRC");
        if let Some(last) = self.terms.last() {
            assert!(last.term <= frame.term, "I-LOG-1: a term fell");
        }
        self.terms.note(frame.term, frame.index, frame.base_offset);
        self.next_offset = frame.next_coordinates().1;
        let header = frame.header(incarnation, self.chain_crc, FlushSequence::ZERO);
        self.chain_crc = header.chain_crc();
        if frame.index == LogIndex::new(1) {
            self.birth_crc = self.chain_crc;
        }
        self.open.bytes += header.frame_bytes();
        if frame.kind == FrameKind::Records {
            let newest = BatchHeader::parse(&payload).unwrap().max_timestamp;
            self.open.timestamp_max_ms = self.open.timestamp_max_ms.max(u64::try_from(newest).ok());
        }
        self.frames.push_back(Frame { payload, ..frame });
    }

    fn trim(&mut self, start: LogStart) {
        if start.index > self.start.index {
            self.start = start;
        }
        let stored = self.state_index().unwrap_or(LogIndex::ZERO);
        while let Some(oldest) = self.sealed.front()
            && oldest.next_start.index <= self.start.index
            && oldest.next_start.index.previous() <= stored
        {
            let end = oldest.next_start.index;
            self.sealed.pop_front();
            while self.frames.front().is_some_and(|frame| frame.index < end) {
                self.frames.pop_front();
            }
        }
    }

    /// Where it starts; frame 1 is its base.
    fn log_start(&self) -> LogStart {
        match self.start.index.get() {
            1 => LogStart::behind_birth(self.birth_crc),
            _ => self.start,
        }
    }

    fn recover(&self, incarnation: Incarnation) -> RecoveredLog {
        let applied = self.state_index().unwrap_or(self.start.index.previous());
        let mut terms = self.terms.clone();
        terms.trim_to(self.start.index, self.start.offset);
        let behind = self.frames.iter().filter(|frame| frame.index > applied);
        RecoveredLog {
            incarnation,
            replica_id: self.replica_id,
            vote: self.vote,
            commit: self.commit,
            log_start: self.log_start(),
            last_index: self.last_index(),
            end_offset: self.next_offset,
            terms,
            state: self.state.clone(),
            snapshot: None,
            frames: if self.is_damaged { Vec::new() } else { behind.cloned().collect() },
            is_damaged: self.is_damaged,
            mendable: None,
            readable: None,
        }
    }
}

impl Disk {
    pub(crate) fn push(&mut self, work: Work) {
        self.queue.push_back(work);
    }

    /// Makes a log right now, as founding a cluster does.
    pub(crate) fn create_now(&mut self, birth: LogBirth) {
        let incarnation = birth.incarnation;
        let first = birth.first.expect("a lone voter is there from the birth on");
        let mut log = DiskLog {
            replica_id: birth.replica_id,
            vote: birth.vote,
            commit: first.index,
            frames: VecDeque::new(),
            next_offset: Offset::ZERO,
            start: LogStart { index: LogIndex::new(1), ..LogStart::default() },
            chain_crc: 0,
            birth_crc: 0,
            terms: TermTable::default(),
            state: None,
            sealed: VecDeque::new(),
            rolls_next: false,
            open: OpenSegment::default(),
            is_damaged: false,
        };
        log.append(incarnation, first);
        let before = self.logs.insert(incarnation, log);
        assert!(before.is_none(), "{incarnation:?} was made twice");
    }

    /// Requests that wait to be done.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits to be done for a log.
    #[must_use]
    pub fn is_quiet(&self, incarnation: Incarnation) -> bool {
        self.queue.iter().all(|work| work.incarnation() != incarnation)
    }

    /// One log.
    #[must_use]
    pub fn log(&self, incarnation: Incarnation) -> Option<&DiskLog> {
        self.logs.get(&incarnation)
    }

    /// One log, to be disturbed.
    pub fn log_mut(&mut self, incarnation: Incarnation) -> Option<&mut DiskLog> {
        self.logs.get_mut(&incarnation)
    }

    /// All logs.
    pub fn logs(&self) -> impl Iterator<Item = (Incarnation, &DiskLog)> {
        self.logs.iter().map(|(incarnation, log)| (*incarnation, log))
    }

    /// Refuses the writes of a log from now on, or accepts them again.
    pub fn set_refused(&mut self, incarnation: Incarnation, is_refused: bool) {
        if is_refused {
            self.refused.insert(incarnation);
        } else {
            self.refused.remove(&incarnation);
        }
    }

    /// Refuses to make logs from now on, or makes them again.
    pub fn set_refuses_creation(&mut self, refuses: bool) {
        self.refuses_creation = refuses;
    }

    /// Refuses to store state files from now on, or stores them again.
    pub fn set_refuses_state_files(&mut self, refuses: bool) {
        self.refuses_state_files = refuses;
    }

    /// Remembers a commit index; it must be flushed here.
    pub(crate) fn commit(&mut self, incarnation: Incarnation, commit: LogIndex) {
        if let Some(log) = self.logs.get_mut(&incarnation) {
            let last = log.last_index();
            assert!(commit <= last, "D2: commit {commit} is not flushed here, the last is {last}");
            log.commit = log.commit.max(commit);
        }
    }

    /// Does the oldest request that `select` takes; `None` where there is none.
    pub(crate) fn perform_one(
        &mut self,
        select: impl Fn(Incarnation) -> bool,
    ) -> Option<Vec<Input>> {
        let at = self.queue.iter().position(|work| select(work.incarnation()))?;
        let work = self.queue.remove(at).unwrap();
        Some(self.perform(work).into_iter().collect())
    }

    fn perform(&mut self, work: Work) -> Option<Input> {
        Some(match work {
            Work::Create(birth) => {
                let incarnation = birth.incarnation;
                if self.refuses_creation {
                    return Some(Input::CreateFailed { incarnation });
                }
                self.create_now(birth);
                Input::Created { incarnation }
            }
            Work::Persist { incarnation, ready, vote, frames } => {
                if self.persist(incarnation, vote, frames) {
                    Input::Persisted { incarnation, ready }
                } else {
                    Input::PersistFailed { incarnation, ready }
                }
            }
            Work::StoreState { incarnation, applied, state } => {
                let is_stored = !self.refuses_state_files;
                if is_stored {
                    self.store_state(incarnation, applied, state);
                }
                Input::StateStored { incarnation, applied, is_stored }
            }
            Work::Trim { incarnation, start } => {
                self.logs.get_mut(&incarnation)?.trim(start);
                return None;
            }
            Work::Roll { incarnation } => {
                self.logs.get_mut(&incarnation)?.rolls_next = true;
                return None;
            }
            Work::Delete { incarnation } => {
                self.logs.remove(&incarnation);
                return None;
            }
        })
    }

    /// Whether the frames are durable now. Term and vote are, either way.
    fn persist(
        &mut self,
        incarnation: Incarnation,
        vote: Option<Vote>,
        frames: Vec<Frame>,
    ) -> bool {
        let Some(log) = self.logs.get_mut(&incarnation) else { return false };
        log.set_vote(vote);
        let fits = frames.first().is_none_or(|first| first.index == log.last_index().next());
        if !fits || self.refused.contains(&incarnation) {
            return false;
        }
        for frame in frames {
            log.append(incarnation, frame);
        }
        true
    }

    fn store_state(&mut self, incarnation: Incarnation, applied: LogIndex, state: Bytes) {
        if let Some(log) = self.logs.get_mut(&incarnation) {
            assert!(applied <= log.last_index(), "D9: a state file is ahead of its log");
            assert!(log.state_index() <= Some(applied), "D9: a state file fell behind");
            log.state = Some((applied, state));
            log.trim(log.start);
        }
    }

    /// Loses the queue but for what `survivors` says, and refuses nothing any more.
    pub(crate) fn crash(&mut self, survivors: Survivors) {
        let mut left = survivors.frame_count;
        for work in std::mem::take(&mut self.queue) {
            if left == 0 {
                break;
            }
            match work {
                Work::Persist { incarnation, vote, mut frames, .. } => {
                    frames.truncate(left);
                    left -= frames.len();
                    let vote = vote.filter(|_| !survivors.votes_are_lost);
                    self.persist(incarnation, vote, frames);
                }
                other if !survivors.other_work_is_lost => drop(self.perform(other)),
                _ => {}
            }
        }
        self.refused.clear();
        self.refuses_creation = false;
        self.refuses_state_files = false;
    }

    pub(crate) fn recover(&self) -> Vec<RecoveredLog> {
        self.logs.iter().map(|(incarnation, log)| log.recover(*incarnation)).collect()
    }
}

impl DiskLog {
    fn set_vote(&mut self, vote: Option<Vote>) {
        let Some(vote) = vote else { return };
        assert!(vote.term >= self.vote.term, "I5: a term fell");
        self.vote = vote;
    }
}
