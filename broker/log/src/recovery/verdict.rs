//! What the end of a log's frames means: nothing, a crash, or a loss.
//!
//! Absent on purpose: what is done about it (`recovery`), and which damage can be mended (`gap`).

use super::scan::LogScan;
use super::{CorruptRange, TornTail};
use crate::meta::{ReplicaMeta, TruncateMark};
use bateau_protocol::ids::{FlushSequence, LogIndex};

/// What the end of a log's frames means.
pub(super) enum Verdict {
    /// Nothing was lost.
    Whole,
    /// What follows the tail was never acknowledged.
    Torn(TornTail),
    /// What follows the tail, or the tail itself, was durable once.
    Corrupt(CorruptRange),
}

impl Verdict {
    /// - `settled`: a live frame of this flush or an earlier one proves that what lies before it
    ///   was durable.
    pub(super) fn of(scan: &LogScan, settled: FlushSequence) -> Self {
        let bad = scan.tail.index.next();
        let stop = &scan.stop;
        if let Some((last_index, proof)) = proof_of_durability(scan, settled) {
            return Self::Corrupt(CorruptRange {
                first_index: bad,
                last_index: last_index.max(bad),
                first_offset: scan.tail.next_offset,
                segment: stop.segment,
                position: stop.position,
                reason: stop.reason.clone(),
                proof,
            });
        }
        if let Some(range) = missing_state(scan) {
            return Self::Corrupt(range);
        }
        if stop.is_empty && scan.found.is_empty() {
            return Self::Whole;
        }
        let durable = scan.meta.durable.map_or(LogIndex::ZERO, |durable| durable.index);
        assert!(bad > durable, "I-LOG-8: truncation at {bad} with everything to {durable} durable");
        let here = if stop.is_empty { 0 } else { 1 };
        Self::Torn(TornTail {
            incarnation: scan.incarnation,
            first_index: bad,
            frames: here + scan.found.len() as u64,
            bytes: stop.bytes + scan.found.iter().map(|found| found.bytes).sum::<u64>(),
        })
    }

    /// What the meta log has to hold of the log from now on; nothing changes for a corrupt one.
    pub(super) fn marks(&self, scan: &LogScan, highest: FlushSequence) -> Option<ReplicaMeta> {
        let mut meta = scan.meta.clone();
        meta.durable = Some(scan.tail);
        match self {
            Self::Corrupt(_) => return None,
            Self::Whole => {}
            Self::Torn(torn) => meta
                .truncations
                .push(TruncateMark { index: torn.first_index, flush_sequence: highest }),
        }
        (meta != scan.meta).then_some(meta)
    }
}

/// The newest flush whose return a later one proves: the writes of the flush M began when the one
/// before had returned.
pub(super) fn settled_by(highest: FlushSequence) -> FlushSequence {
    FlushSequence::new(highest.get().saturating_sub(2))
}

/// The last index that was there once. Dead frames prove nothing of it, also where the frames are
/// gone that would show that they are dead.
pub(super) fn last_known(scan: &LogScan, range: &CorruptRange) -> LogIndex {
    let bad = scan.tail.index.next();
    let durable = scan.meta.durable.map(|durable| durable.index);
    let state = stored_state(scan);
    let known = [durable, state, Some(scan.meta.hard_state.commit)].into_iter().flatten().max();
    let is_gone = scan.segments.is_empty() && range.last_index == bad;
    scan.last_known.max(known.unwrap_or_default()).max(if is_gone { bad } else { LogIndex::ZERO })
}

/// The index of the state file, where that says something about the log: a snapshot's state may be
/// ahead of the log that it came with (R6).
fn stored_state(scan: &LogScan) -> Option<LogIndex> {
    let snapshot = scan.meta.snapshot.map(|mark| mark.applied);
    let state = scan.state.as_ref().map(|state| state.applied);
    state.filter(|applied| Some(*applied) != snapshot)
}

/// What proves that the frame behind the tail was durable once, and up to which index.
fn proof_of_durability(scan: &LogScan, settled: FlushSequence) -> Option<(LogIndex, String)> {
    let bad = scan.tail.index.next();
    let durable = scan.meta.durable.map(|durable| durable.index);
    let commit = scan.meta.hard_state.commit;
    let state = stored_state(scan);
    let frame = scan
        .found
        .iter()
        .filter(|found| found.flush_sequence <= settled)
        .map(|found| found.index)
        .max();
    let proofs = [
        (durable, "the durable mark"),
        (Some(commit), "the stored commit"),
        (state, "a state file"),
        (scan.side_proof, "a side header"),
        (frame, "a later frame of an earlier flush"),
    ];
    let proven: Vec<(LogIndex, &str)> = proofs
        .into_iter()
        .filter_map(|(index, proof)| Some((index?, proof)))
        .filter(|(index, _)| *index >= bad)
        .collect();
    let last = proven.iter().map(|(index, _)| *index).max();
    if let Some(last) = last {
        let proofs: Vec<String> =
            proven.iter().map(|(index, proof)| format!("{proof} at {index}")).collect();
        return Some((last, proofs.join(", ")));
    }
    if scan.segments.is_empty() {
        return Some((bad, "the meta log names this replica".to_owned()));
    }
    scan.stop.unreadable.then(|| (bad, "the medium cannot be read there".to_owned()))
}

/// A state that neither a state file nor a replay can give any more.
pub(super) fn missing_state(scan: &LogScan) -> Option<CorruptRange> {
    let first = scan.segments.first()?.header;
    let applied = scan.state.as_ref().map_or(LogIndex::ZERO, |state| state.applied);
    (first.base_index > applied.next()).then(|| CorruptRange {
        first_index: applied.next(),
        last_index: first.base_index.previous(),
        first_offset: scan.tail.next_offset,
        segment: first.base_index,
        position: 0,
        reason: scan.damaged_state.clone().unwrap_or_else(|| "there is no state file".to_owned()),
        proof: "earlier frames were trimmed, which needs a state file".to_owned(),
    })
}
