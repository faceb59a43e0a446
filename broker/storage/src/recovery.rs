//! What recovery found, and frames that followers need, in the brain's words.
//!
//! Absent on purpose: what becomes of a damaged log.

use crate::segments::from_log_start;
use bateau_core::replica::Vote;
use bateau_core::replica::trim::LogStart;
use bateau_core::shard::{FramesFound, RecoveredLog};
use bateau_log::{CorruptRange, LogReader, ReadError};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{LogIndex, Offset, ReplicaId};

/// What recovery found, in the brain's words. The frames behind the state file are read now;
/// those at or below the durable mark for the first time, so some may turn out to be damaged.
#[must_use]
pub fn recovered(log: &bateau_log::RecoveredLog) -> (RecoveredLog, Option<CorruptRange>) {
    // Frames before the log's start are there for as long as no state file holds what they have
    // built. The state of a snapshot may be ahead of the log: then all of the log is read.
    let applied = log.state.as_ref().map_or(LogIndex::ZERO, |state| state.applied);
    let is_ahead = applied > log.last_index;
    let from = if is_ahead { log.start.index } else { applied.next() };
    let (last, commit) = (log.last_index, log.hard_state.commit);
    let mut unreadable = None;
    let mut frames = Vec::new();
    if from <= last && log.corrupt.is_none() {
        match log.reader.frames(from, last, commit, usize::MAX) {
            Ok(found) => frames = found,
            Err(error) => unreadable = Some(unreadable_range(log, from, &error)),
        }
    }
    let is_damaged = log.corrupt.is_some() || unreadable.is_some();
    let recovered = RecoveredLog {
        incarnation: log.incarnation,
        replica_id: log.replica,
        vote: Vote {
            term: log.hard_state.term,
            voted_for: log.hard_state.vote.unwrap_or(ReplicaId::ZERO),
        },
        commit,
        log_start: start_of(log),
        last_index: last,
        end_offset: log.end_offset,
        terms: log.reader.terms().as_ref().clone(),
        state: log.state.as_ref().map(|state| (state.applied, state.bytes.clone())),
        snapshot: log.snapshot,
        frames: frames.into_iter().map(frame).collect(),
        is_damaged,
        mendable: log.mendable.or(unreadable.as_ref().and_then(segment_of)),
        readable: if is_damaged { readable(log) } else { None },
    };
    (recovered, unreadable)
}

/// The same, with what can be read of the frames behind the state file where the log is damaged.
#[must_use]
pub fn recovered_with_prefix(log: &bateau_log::RecoveredLog) -> RecoveredLog {
    let (mut recovered, _) = recovered(log);
    let applied = log.state.as_ref().map_or(LogIndex::ZERO, |state| state.applied);
    let from = applied.next().max(log.start.index);
    if recovered.is_damaged && from <= log.last_index {
        let found = log.reader.frames(from, log.last_index, log.hard_state.commit, usize::MAX);
        recovered.frames = found.unwrap_or_default().into_iter().map(frame).collect();
    }
    recovered
}

/// Whether there are no records behind the log's last gap, and there is one.
#[must_use]
pub fn ends_in_gap(log: &bateau_log::RecoveredLog) -> bool {
    let mut index = log.last_index;
    while index >= log.start.index && log.corrupt.is_none() {
        let found = log.reader.frames(index, index, index, usize::MAX).unwrap_or_default();
        match found.first().map(|frame| frame.header.kind) {
            Some(kind) if !kind.counts_offsets() => index = index.previous(),
            kind => return kind == Some(FrameKind::Gap),
        }
    }
    false
}

/// The segment of an unreadable range, where it is known.
fn segment_of(range: &CorruptRange) -> Option<LogIndex> {
    Some(range.segment).filter(|segment| *segment > LogIndex::ZERO)
}

/// Where the log starts. Frame 1 is its base: what is asked of a log begins behind it.
fn start_of(log: &bateau_log::RecoveredLog) -> LogStart {
    let first = LogIndex::new(1);
    if log.start.index == first
        && let Ok(found) = log.reader.frames(first, first, first, usize::MAX)
        && let Some(frame) = found.first()
    {
        return LogStart::behind_birth(frame.header.chain_crc());
    }
    from_log_start(log.start)
}

/// The newest index at or below the stored commit that can be read, and the offset behind it.
fn readable(log: &bateau_log::RecoveredLog) -> Option<(LogIndex, Offset)> {
    let mut index = log.hard_state.commit.min(log.last_index);
    while index >= log.start.index && index > LogIndex::ZERO {
        if let Ok(found) = log.reader.frames(index, index, index, usize::MAX)
            && let Some(frame) = found.last()
        {
            return Some((index, frame.header.next_coordinates().1));
        }
        index = index.previous();
    }
    None
}

/// From the first to the last frame that cannot be read, among those from `from` on.
fn unreadable_range(
    log: &bateau_log::RecoveredLog,
    from: LogIndex,
    error: &ReadError,
) -> CorruptRange {
    let read = |index| log.reader.frames(index, index, log.hard_state.commit, usize::MAX);
    let (mut first_index, mut last_index) = (None, log.last_index);
    let mut first_offset = log.start.offset;
    let mut index = from;
    while index <= log.last_index {
        match read(index) {
            Ok(found) if first_index.is_none() => {
                let ends = found.last().map(|frame| frame.header.next_coordinates().1);
                first_offset = ends.unwrap_or(first_offset);
            }
            Ok(_) => {}
            Err(_) => {
                first_index.get_or_insert(index);
                last_index = index;
            }
        }
        index = index.next();
    }
    let (segment, position) = match error {
        ReadError::Damaged { segment, position, .. } => (*segment, *position),
        ReadError::OutOfRange { .. } | ReadError::IndexOutOfRange { .. } => (LogIndex::ZERO, 0),
    };
    CorruptRange {
        first_index: first_index.unwrap_or(from),
        last_index,
        first_offset,
        segment,
        position,
        reason: error.to_string(),
        proof: "the durable mark".to_owned(),
    }
}

fn frame(stored: bateau_log::StoredFrame) -> Frame {
    let header = stored.header;
    Frame {
        kind: header.kind,
        term: header.term,
        index: header.index,
        base_offset: header.base_offset,
        record_count: header.record_count,
        payload_crc: header.payload_crc,
        payload: stored.payload,
    }
}

/// Frames that a follower needs, from `first` to at most `last`.
///
/// - `last`: committed, so that what is lent never changes (I-LOG-3).
/// - `bytes_max`: of payload, the first frame excepted.
///
/// Cost: reads what is not resident, so it belongs on a thread that may wait for a disk.
#[must_use]
pub fn frames_found(
    reader: &LogReader,
    first: LogIndex,
    last: LogIndex,
    bytes_max: u64,
) -> FramesFound {
    let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
    match reader.frames(first, last, last, bytes_max) {
        Ok(frames) if frames.is_empty() => FramesFound::Unreadable,
        Ok(frames) => FramesFound::Frames(frames.into_iter().map(frame).collect()),
        Err(ReadError::IndexOutOfRange { .. } | ReadError::OutOfRange { .. }) => FramesFound::Gone,
        Err(ReadError::Damaged { segment, .. }) => FramesFound::Damaged { segment },
    }
}
