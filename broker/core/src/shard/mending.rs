//! What a replica has lost of its log comes from the others, while the partition serves.
//!
//! ```text
//!   damage ──Mend──> disk ──Wants──> AskRange ──> another replica ──Range──> Mend ──> disk ─> …
//!      │                                  └ cannot, or is silent: the next one        │
//!      ├ met while the replica runs: it goes on, and does not lead if another can     │
//!      └ found by a start: the replica begins when its log is whole  <────────────────┘
//! ```
//!
//! Invariants
//! - What is asked for is named by the identity of an entry behind it: whoever has that entry has
//!   the same ones before it. What comes is checked once more by the log.
//! - What others cannot give either, or is not known to have been committed, is lost: the replica
//!   is silent for good, and another one takes its place.
//! - A node answers with what is committed and applied on it, and to members alone.
//!
//! Absent on purpose: reading and writing; who votes alone, of whom nobody has a copy.

use super::logs::ReplicaParts;
use super::{Effect, Effects, FramesFound, Shard, Slot};
use crate::clock::{Deadline, Now};
use crate::controller::TopicConfig;
use crate::replica::RecoveredLog;
use bateau_protocol::frame::Frame;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Term};
use bateau_protocol::peer::PeerEntry;
use std::collections::BTreeMap;

/// Payload bytes that are asked for at once, the first entry excepted.
pub const RANGE_BYTES_MAX: u32 = 256 * 1024;
/// How long a node may take to answer, in milliseconds.
const ANSWER_MS: u64 = 2_000;
/// Until another node is asked when one could not help, in milliseconds.
const PAUSE_MS: u64 = 500;
/// Until a mending begins again that the disk has given up, in milliseconds.
const RETRY_MS: u64 = 5_000;
/// How often every other replica must have said that it cannot help until nobody is asked any more.
const REFUSALS_MAX: u32 = 5;
/// Ranges that are read for others at once; more wait until they are asked for again.
const READS_MAX: usize = 16;
/// Reads for others are numbered from here on; raft's own numbers lie below.
const READS_FROM: u64 = 1 << 63;

/// Entries that are missing, and an entry behind them that is not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MissingRange {
    /// First index that is missing.
    pub first: LogIndex,
    /// Last index that is missing.
    pub last: LogIndex,
    /// Index of the entry that is here.
    pub known: LogIndex,
    /// Its term.
    pub term: Term,
    /// Its payload CRC.
    pub payload_crc: u32,
}

/// Entries of a log that another node asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WantedRange {
    /// The log.
    pub incarnation: Incarnation,
    /// The first one.
    pub first: LogIndex,
    /// The last one at most, by which they are named.
    pub last: LogIndex,
    /// Its term.
    pub term: Term,
    /// Its payload CRC.
    pub payload_crc: u32,
    /// Payload bytes, the first entry excepted.
    pub bytes_max: u32,
}

/// Whether a mending may be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MendFailure {
    /// It is of no use.
    Lost,
    /// What is missing is not known to be committed, so far.
    Uncommitted,
    /// The disk had no room, or refused.
    Disk,
}

/// What a shard is told of damage.
#[derive(Debug)]
pub enum MendingInput {
    /// Somebody has met damage in a log.
    Damaged {
        /// Which.
        incarnation: Incarnation,
        /// In this segment, by its base index.
        segment: LogIndex,
    },
    /// The answer to `Effect::Mend`: frames are missing.
    Wants {
        /// Of this log.
        incarnation: Incarnation,
        /// In this segment.
        segment: LogIndex,
        /// Which.
        missing: MissingRange,
        /// Whether those that came did not fit.
        is_refused: bool,
    },
    /// The answer to `Effect::Mend`: the segment is whole.
    Mended {
        /// Of this log.
        incarnation: Incarnation,
        /// The segment.
        segment: LogIndex,
        /// What a start would find of the log, where that was asked for.
        log: Option<Box<RecoveredLog>>,
    },
    /// The answer to `Effect::Mend`: it could not be done.
    Failed {
        /// Of this log.
        incarnation: Incarnation,
        /// The segment.
        segment: LogIndex,
        /// What may become of it.
        failure: MendFailure,
        /// Why, for the operator.
        reason: String,
    },
    /// Another node asks for entries.
    Asked {
        /// Which node.
        node: NodeId,
        /// Its number of the question.
        number: u64,
        /// Which entries.
        wanted: WantedRange,
    },
    /// Another node has answered.
    Answered {
        /// Which node.
        node: NodeId,
        /// The question.
        number: u64,
        /// The entries, checked by their payload CRCs; none where it cannot help.
        entries: Vec<PeerEntry>,
    },
}

/// A replica that begins when its log has been mended.
pub(super) struct Opening {
    /// As the start has found it.
    pub log: RecoveredLog,
    pub parts: ReplicaParts,
    /// Of a topic.
    pub config: Option<TopicConfig>,
}

/// What a mending waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waits {
    Disk,
    /// For an answer, until a moment on the monotonic clock in milliseconds.
    Answer {
        number: u64,
        node: NodeId,
        until_ms: u64,
    },
    /// To try again.
    Pause {
        until_ms: u64,
    },
}

#[derive(Debug)]
struct Mending {
    segment: LogIndex,
    waits: Waits,
    missing: Option<MissingRange>,
    /// Who was asked last.
    asked: Option<NodeId>,
    /// How often each node has said that it cannot help, since something came.
    refusals: BTreeMap<NodeId, u32>,
}

impl Mending {
    fn of(segment: LogIndex) -> Self {
        let refusals = BTreeMap::new();
        Self { segment, waits: Waits::Disk, missing: None, asked: None, refusals }
    }
}

/// What is being mended here, and what is read for others.
#[derive(Debug, Default)]
pub(super) struct Mendings {
    open: BTreeMap<Incarnation, Mending>,
    newest_number: u64,
    /// Who waits for which read.
    reads: BTreeMap<u64, (NodeId, u64)>,
    newest_read: u64,
}

impl Mendings {
    pub fn forget(&mut self, incarnation: Incarnation) {
        self.open.remove(&incarnation);
    }

    /// When something is to be done.
    pub fn deadlines(&self) -> impl Iterator<Item = Deadline> + '_ {
        let until = |mending: &Mending| match mending.waits {
            Waits::Disk => None,
            Waits::Answer { until_ms, .. } | Waits::Pause { until_ms } => Some(until_ms),
        };
        self.open.values().filter_map(until).map(Deadline::Monotonic)
    }
}

impl Shard {
    pub(super) fn mend(&mut self, input: MendingInput, now: Now, effects: &mut Effects) {
        match input {
            MendingInput::Damaged { incarnation, segment } => {
                self.mend_running(incarnation, segment, effects);
            }
            MendingInput::Wants { incarnation, segment, missing, is_refused } => {
                let Some(mending) = self.mending(incarnation, segment) else { return };
                mending.missing = Some(missing);
                if let Some(node) = mending.asked.filter(|_| is_refused) {
                    *mending.refusals.entry(node).or_default() += 1;
                } else {
                    mending.refusals.clear();
                }
                self.ask_others(incarnation, now, effects);
            }
            MendingInput::Mended { incarnation, segment, log } => {
                if self.mending(incarnation, segment).is_some() {
                    self.mendings.forget(incarnation);
                    self.end_mending(incarnation, segment, log, now, effects);
                }
            }
            MendingInput::Failed { incarnation, segment, failure, reason } => {
                let is_running = self.replica(incarnation).is_some();
                let Some(mending) = self.mending(incarnation, segment) else { return };
                // The commit of a replica that runs goes on.
                if failure == MendFailure::Disk || is_running && failure != MendFailure::Lost {
                    mending.missing = None;
                    mending.waits = Waits::Pause { until_ms: now.monotonic_ms + RETRY_MS };
                } else {
                    self.give_up(incarnation, reason, effects);
                }
            }
            MendingInput::Asked { node, number, wanted } => {
                self.read_for(node, number, wanted, effects);
            }
            MendingInput::Answered { node, number, entries } => {
                self.hear_range(node, number, &entries, now, effects);
            }
        }
    }

    fn mending(&mut self, incarnation: Incarnation, segment: LogIndex) -> Option<&mut Mending> {
        self.mendings.open.get_mut(&incarnation).filter(|one| one.segment == segment)
    }

    /// A start has found damage that others may mend: the replica begins afterwards.
    pub(super) fn mend_before_start(
        &mut self,
        segment: LogIndex,
        opening: Opening,
        effects: &mut Effects,
    ) {
        let incarnation = opening.log.incarnation;
        if let Some((commit, high_watermark)) = opening.log.readable {
            effects.push(Effect::Committed { incarnation, commit, high_watermark });
        }
        self.slots.insert(incarnation, Slot::Mending(Box::new(opening)));
        self.begin_mending(incarnation, segment, effects);
    }

    /// Damage was met in a log that a replica runs on.
    fn mend_running(&mut self, incarnation: Incarnation, segment: LogIndex, effects: &mut Effects) {
        let is_known = self.mendings.open.contains_key(&incarnation);
        let is_running = self.replica(incarnation).is_some();
        if is_known || !is_running || self.others(incarnation).is_empty() {
            return;
        }
        // What it cannot read it cannot send, and consumers are better served elsewhere.
        self.with(incarnation, effects, |replica, _| replica.hand_over(|_| true));
        self.begin_mending(incarnation, segment, effects);
    }

    fn begin_mending(
        &mut self,
        incarnation: Incarnation,
        segment: LogIndex,
        effects: &mut Effects,
    ) {
        self.mendings.open.insert(incarnation, Mending::of(segment));
        self.work_on(incarnation, segment, Vec::new(), effects);
    }

    fn work_on(
        &mut self,
        incarnation: Incarnation,
        segment: LogIndex,
        frames: Vec<Frame>,
        effects: &mut Effects,
    ) {
        let reopens = matches!(self.slots.get(&incarnation), Some(Slot::Mending(_)));
        effects.push(Effect::Mend { incarnation, segment, frames, reopens });
    }

    /// Asks one of the others for what is missing: each in turn, those first that live.
    fn ask_others(&mut self, incarnation: Incarnation, now: Now, effects: &mut Effects) {
        let others = self.others(incarnation);
        let Some(mending) = self.mendings.open.get_mut(&incarnation) else { return };
        let Some(missing) = mending.missing else { return };
        let refusals = |node: &NodeId| mending.refusals.get(node).copied().unwrap_or(0);
        if others.iter().all(|node| refusals(node) >= REFUSALS_MAX) {
            let MissingRange { first, last, .. } = missing;
            let reason = format!("no other replica has entries {first} to {last}");
            return self.give_up(incarnation, reason, effects);
        }
        let asked = mending.asked;
        let rank = |node: &NodeId| {
            // Who was asked last comes last, among those who have refused as often.
            (!self.sweep.may_live(*node), refusals(node), Some(*node) == asked, *node)
        };
        let Some(node) = others.into_iter().min_by_key(rank) else { return };
        self.mendings.newest_number += 1;
        let (number, until_ms) = (self.mendings.newest_number, now.monotonic_ms + ANSWER_MS);
        mending.asked = Some(node);
        mending.waits = Waits::Answer { number, node, until_ms };
        let wanted = WantedRange {
            incarnation,
            first: missing.first,
            last: missing.known,
            term: missing.term,
            payload_crc: missing.payload_crc,
            bytes_max: RANGE_BYTES_MAX,
        };
        effects.push(Effect::AskRange { node, number, wanted });
    }

    /// The nodes of the other replicas.
    fn others(&self, incarnation: Incarnation) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = match self.slots.get(&incarnation) {
            Some(Slot::Running(replica)) => {
                replica.membership().members().map(|member| member.node_id).collect()
            }
            Some(Slot::Mending(opening)) => {
                opening.parts.assignment.voters.iter().map(|member| member.node_id).collect()
            }
            Some(Slot::Creating(_) | Slot::Unavailable(_)) | None => Vec::new(),
        };
        nodes.retain(|node| *node != self.node_id);
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    fn hear_range(
        &mut self,
        node: NodeId,
        number: u64,
        entries: &[PeerEntry],
        now: Now,
        effects: &mut Effects,
    ) {
        let waits_for = |mending: &Mending| match mending.waits {
            Waits::Answer { number: asked, node: from, .. } => (asked, from) == (number, node),
            Waits::Disk | Waits::Pause { .. } => false,
        };
        let mut open = self.mendings.open.iter_mut();
        let Some((incarnation, mending)) = open.find(|(_, mending)| waits_for(mending)) else {
            return;
        };
        let (incarnation, segment) = (*incarnation, mending.segment);
        let frames: Vec<Frame> = entries.iter().map_while(PeerEntry::to_frame).collect();
        if frames.is_empty() {
            *mending.refusals.entry(node).or_default() += 1;
            mending.waits = Waits::Pause { until_ms: now.monotonic_ms + PAUSE_MS };
            return;
        }
        mending.waits = Waits::Disk;
        self.work_on(incarnation, segment, frames, effects);
    }

    /// A segment is whole. Whoever has waited for that begins, unless there is more damage.
    fn end_mending(
        &mut self,
        incarnation: Incarnation,
        segment: LogIndex,
        log: Option<Box<RecoveredLog>>,
        now: Now,
        effects: &mut Effects,
    ) {
        if !matches!(self.slots.get(&incarnation), Some(Slot::Mending(_))) {
            return;
        }
        let Some(Slot::Mending(mut opening)) = self.slots.remove(&incarnation) else { return };
        opening.log = match log {
            Some(log) => *log,
            None => return self.serve_prefix(&opening.log, false, effects),
        };
        if opening.log.is_damaged {
            return match opening.log.mendable {
                Some(next) if next != segment => self.mend_before_start(next, *opening, effects),
                _ => self.serve_prefix(&opening.log, false, effects),
            };
        }
        let Opening { log, parts, config } = *opening;
        if let Some(config) = config {
            effects.push(Effect::Configure { incarnation, config });
        }
        let start = self.replica_start(parts);
        self.run(log, start, now, effects);
        self.begin_asleep(incarnation, effects);
    }

    /// What is missing is lost: the replica is silent for good.
    fn give_up(&mut self, incarnation: Incarnation, reason: String, effects: &mut Effects) {
        self.mendings.forget(incarnation);
        effects.push(Effect::StopMending { incarnation });
        self.stop(incarnation, true, reason, effects);
    }

    /// Asks again where nobody has answered.
    pub(super) fn go_on_mending(&mut self, now: Now, effects: &mut Effects) {
        let due = |mending: &Mending| match mending.waits {
            Waits::Disk => false,
            Waits::Answer { until_ms, .. } | Waits::Pause { until_ms } => {
                until_ms <= now.monotonic_ms
            }
        };
        let open = self.mendings.open.iter();
        let due: Vec<_> = open
            .filter(|(_, mending)| due(mending))
            .map(|(log, mending)| (*log, mending.segment, mending.missing.is_some()))
            .collect();
        for (incarnation, segment, is_known) in due {
            if is_known {
                self.ask_others(incarnation, now, effects);
            } else {
                self.begin_mending(incarnation, segment, effects);
            }
        }
    }

    /// Another node has lost entries. It gets those that are committed here, if they are the same.
    fn read_for(&mut self, node: NodeId, number: u64, wanted: WantedRange, effects: &mut Effects) {
        let WantedRange { incarnation, first, last, term, bytes_max, .. } = wanted;
        let has_them = self.replica(incarnation).is_some_and(|replica| {
            let is_member = replica.membership().members_on(node).next().is_some();
            is_member && last <= replica.applied() && replica.has_entry(last, term)
        });
        if !has_them {
            return effects.push(Effect::AnswerRange { node, number, entries: Vec::new() });
        }
        if self.mendings.reads.len() >= READS_MAX {
            // It asks again, or somebody else.
            return;
        }
        self.mendings.newest_read += 1;
        let fetch = READS_FROM | self.mendings.newest_read;
        self.mendings.reads.insert(fetch, (node, number));
        let bytes_max = u64::from(bytes_max.min(RANGE_BYTES_MAX));
        effects.push(Effect::ReadFrames { incarnation, fetch, first, last, bytes_max });
    }

    /// Frames were read. Returns those that are not another node's.
    pub(super) fn answer_range(
        &mut self,
        incarnation: Incarnation,
        fetch: u64,
        found: FramesFound,
        effects: &mut Effects,
    ) -> Option<FramesFound> {
        if let FramesFound::Damaged { segment } = found {
            self.mend_running(incarnation, segment, effects);
        }
        if fetch < READS_FROM {
            return Some(found);
        }
        let (node, number) = self.mendings.reads.remove(&fetch)?;
        let entries = match found {
            FramesFound::Frames(frames) => frames.iter().map(PeerEntry::from_frame).collect(),
            FramesFound::Gone | FramesFound::Unreadable | FramesFound::Damaged { .. } => Vec::new(),
        };
        effects.push(Effect::AnswerRange { node, number, entries });
        None
    }
}

#[cfg(test)]
mod tests;
