//! Logs that lose their beginning, and nodes that are away for longer than that.
//!
//! ```text
//!   SegmentsLook ──> Input::Segments ──> trims ──> a node comes back, and its frames are gone
//!                                                   └── a snapshot, in pieces, lost and doubled
//! ```
//!
//! Invariants: I4 and I7, minus retention: where a log starts, and what a snapshot stands for, is
//! what was committed there; what lies before is gone, and nothing else is.
//!
//! Absent on purpose: what may go, which replicas decide.

use crate::event::{Event, Micros, NodeAt};
use crate::plan::FaultClass;
use crate::process::Process;
use crate::world::World;
use bateau_core::replica::OutgoingSnapshot;
use bateau_core::replica::trim::LogStart;
use bateau_core::shard::Input;
use bateau_log::Work;
use bateau_protocol::ids::{Incarnation, LogIndex};
use bateau_protocol::peer::{PeerMessage, SnapshotChunk};
use bateau_storage::Letter;

/// Bytes of a piece of a snapshot: small states come in several, too.
const PIECE_BYTES: usize = 150;

/// One snapshot in so many is sent twice.
const SENT_TWICE: Micros = 5;

impl World {
    /// Between two looks at what may go, in microseconds.
    pub(crate) fn until_next_look(&mut self) -> Micros {
        300_000 + self.random.below(1_500_000)
    }

    /// Offers a node's segments to its replicas, as the body does from time to time.
    pub(crate) fn look_at_segments(&mut self, n: NodeAt) {
        let pause = self.until_next_look();
        let life = self.nodes[n].life;
        self.events.put(self.at + pause, Event::SegmentsLook(n, life));
        let Some(process) = &mut self.nodes[n].process else { return };
        let mut inputs = Vec::new();
        for (incarnation, reader) in &process.readers {
            let (incarnation, segments) = (*incarnation, bateau_storage::segments(reader));
            if !segments.sealed.is_empty() || segments.active.is_some() {
                inputs.push(Input::Segments { incarnation, segments });
            }
            // Where a segment ends is a replica's own business.
            if self.random.chance(10) {
                process.work.push(Work::Roll { incarnation });
            }
        }
        if !process.work.is_empty() {
            self.begin_cycle_soon(n);
        }
        self.tell(n, inputs);
    }

    /// A node that was down stays away for longer than its logs are kept.
    pub(crate) fn keep_away(&mut self, n: NodeAt) {
        // A cluster of which a disk goes bad needs all others until its topic is made.
        if self.newest_metadata().is_none_or(|metadata| metadata.topic("orders").is_none()) {
            return;
        }
        if self.nodes[n].process.is_some() {
            self.kill(n);
        }
        self.count("nodes kept away");
        self.nodes[n].away_until = self.at + 3_000_000 + self.random.below(12_000_000);
    }

    /// Sends a snapshot, some of them twice in a row, and says what became of it: the second comes
    /// while the first is put in the place of the log.
    pub(crate) fn send_snapshot(&mut self, process: &mut Process, snapshot: &OutgoingSnapshot) {
        self.count("snapshots sent");
        let mut is_sent = self.post_snapshot(process, snapshot);
        // No number is drawn, so that what else happens is as it would be without.
        if self.at.is_multiple_of(SENT_TWICE) {
            self.count("snapshots sent twice");
            is_sent &= self.post_snapshot(process, snapshot);
        }
        process.inbox.push(snapshot.outcome(is_sent));
    }

    fn post_snapshot(&mut self, process: &mut Process, snapshot: &OutgoingSnapshot) -> bool {
        let mut is_sent = true;
        for letter in bateau_storage::snapshot_letters(snapshot) {
            let PeerMessage::SnapshotChunk(chunk) = letter.message else {
                is_sent &= self.post(process, letter);
                continue;
            };
            for piece in pieces(chunk) {
                let message = PeerMessage::SnapshotChunk(piece);
                is_sent &= self.post(process, Letter { message, ..letter });
            }
        }
        is_sent
    }

    /// A log starts anew here, or loses its beginning: what was before is what was committed.
    pub(crate) fn check_start(
        &mut self,
        n: NodeAt,
        log: Incarnation,
        start: &LogStart,
        applied: Option<LogIndex>,
    ) {
        self.count(if applied.is_some() { "snapshots installed" } else { "trims" });
        let Some(history) = self.checker.logs.get_mut(&log) else { return };
        history.start = history.start.max(start.offset);
        if history.is_deleted || self.nodes[n].is_corrupted {
            return;
        }
        let before = start.index.previous();
        let known = history.end_and_chain(before);
        let expected = (start.offset, start.previous_term, start.previous_crc);
        if known != Some(expected) {
            let name = n + 1;
            return self.fail(format!(
                "I4: {log:?} on node {name} starts with {start:?}, {before} is {known:?}"
            ));
        }
        if applied.is_some_and(|applied| applied > history.last_index()) {
            let last = history.last_index();
            self.fail(format!("I8: {log:?} takes a state at {applied:?}, {last} is committed"));
        }
    }

    /// Whether logs lose their beginnings in this run.
    pub(crate) fn has_retention(&self) -> bool {
        self.plan.has(FaultClass::Retention)
    }

    /// I4: state that commands alone have built is the same wherever they are applied.
    pub(crate) fn unequal_states(&self, log: Incarnation, nodes: &[NodeAt]) -> Option<String> {
        let mut first = None;
        for n in nodes {
            let process = self.nodes[*n].process.as_ref()?;
            let replica = process.shard()?.replica(log)?;
            let derived = replica.derived();
            let state = match (derived.coordinator(), derived.metadata()) {
                (Some(groups), _) => groups.snapshot(replica.applied()),
                (_, Some(metadata)) => metadata.snapshot(),
                _ => return None,
            };
            let first = first.get_or_insert_with(|| state.clone());
            if *first != state {
                return Some(format!("I4: {log:?} has another state on node {}", n + 1));
            }
        }
        None
    }
}

/// A chunk, cut into smaller ones.
fn pieces(chunk: SnapshotChunk) -> Vec<SnapshotChunk> {
    let mut pieces = Vec::new();
    let mut rest = chunk;
    while rest.bytes.len() > PIECE_BYTES {
        let bytes = rest.bytes.split_to(PIECE_BYTES);
        let piece = SnapshotChunk { bytes, is_last: false, ..rest.clone() };
        rest.position = piece.end_position();
        pieces.push(piece);
    }
    pieces.push(rest);
    pieces
}
