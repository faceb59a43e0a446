//! A snapshot from the leader, for a replica that is behind the log's start.
//!
//! ```text
//!   head ──checked──> chunks ──in order──> whole? ──> Effect::Install ──(disk)──> begun anew
//! ```
//!
//! What a snapshot makes of a replica is what a start makes of it: raft is built anew on a log that
//! is empty behind the snapshot's index. Raft itself hears of no snapshot here, so there is no
//! moment at which it believes in one that is not on disk. The three parts have own indexes:
//! membership and state may be ahead of the log, and what the log then says of them again is
//! ignored.
//!
//! Invariants
//! - Nothing is believed before it is whole: head, length, checksum, and every part decoded.
//! - R8: between `Effect::Install` and its answer this replica hears nobody and says nothing, as if
//!   its node were starting; a second snapshot least of all.
//! - Memory is taken for bytes that have come, never for bytes that were announced, and by all
//!   replicas of a node together at most [`RECEIVING_BYTES_MAX`].
//!
//! Absent on purpose: asking for a snapshot. The leader knows who needs one.

use super::derived::Restored;
use super::membership::Membership;
use super::raft_view::{RaftRestart, Vote};
use super::start_error::StartError;
use super::state_file::Schedule;
use super::tail::{Coordinates, TailBudget};
use super::trim::LogStart;
use super::writes::Writes;
use super::{Replica, ReplicaFault};
use crate::clock::Now;
use crate::codec::{DecodeError, Writer};
use crate::shard::{Effect, Effects};
use bateau_protocol::ids::{LogIndex, NodeId, ReplicaId, Term};
use bateau_protocol::limits::PEER_SNAPSHOT_STATE_BYTES_MAX;
use bateau_protocol::peer::{RaftBody, RaftMessage, SnapshotChunk, SnapshotHead};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of states that all replicas of a node receive at once: one of the largest.
pub const RECEIVING_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Milliseconds without a chunk after which what has come is thrown away.
const RECEIVING_MS_MAX: u64 = 30_000;

const _: () = assert!(RECEIVING_BYTES_MAX as u64 >= PEER_SNAPSHOT_STATE_BYTES_MAX);

/// A snapshot that is being received.
#[derive(Debug)]
pub(super) struct Incoming {
    head: SnapshotHead,
    from: ReplicaId,
    membership: Membership,
    state: BytesMut,
    /// Of all replicas.
    receiving_bytes: Arc<AtomicUsize>,
    deadline_ms: Option<u64>,
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.receiving_bytes.fetch_sub(self.state.len(), Ordering::Relaxed);
    }
}

/// What is wrong with a head. It is dropped: its sender finds out that nothing came of it.
#[derive(Debug)]
struct Nonsense;

impl Incoming {
    /// - `between`: who sends it, and who receives it, in this `term`.
    fn begin(
        between: [ReplicaId; 2],
        term: Term,
        head: SnapshotHead,
        budget: &TailBudget,
    ) -> Result<Self, Nonsense> {
        let start = &head.log_start;
        let is_whole = head.index > LogIndex::ZERO
            && start.index == head.index.next()
            && start.previous_term == head.term
            && start.offset == head.next_offset
            && head.term <= term
            && head.membership_index >= head.index
            && head.state_index >= head.index
            && head.state_bytes <= PEER_SNAPSHOT_STATE_BYTES_MAX;
        let membership = Membership::decode(&head.membership).map_err(|_| Nonsense)?;
        let names = |replica| membership.member(replica).is_some();
        if !is_whole || !between.into_iter().all(names) {
            return Err(Nonsense);
        }
        let receiving_bytes = Arc::clone(&budget.snapshots.receiving_bytes);
        let (state, deadline_ms) = (BytesMut::new(), None);
        let [from, _] = between;
        Ok(Self { head, from, membership, state, receiving_bytes, deadline_ms })
    }

    /// Takes the next chunk; one that came before, or that lacks another before it, changes
    /// nothing. Returns whether the state has ended.
    fn take(&mut self, chunk: &SnapshotChunk) -> Result<bool, Nonsense> {
        let have = u64::try_from(self.state.len()).unwrap_or(u64::MAX);
        if chunk.position != have {
            return Ok(false);
        }
        let bytes = chunk.bytes.len();
        let is_too_much = chunk.end_position() > self.head.state_bytes
            || self.receiving_bytes.load(Ordering::Relaxed).saturating_add(bytes)
                > RECEIVING_BYTES_MAX;
        if is_too_much || chunk.is_last != (chunk.end_position() == self.head.state_bytes) {
            return Err(Nonsense);
        }
        self.receiving_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.state.extend_from_slice(&chunk.bytes);
        self.deadline_ms = None;
        Ok(chunk.is_last)
    }
}

/// A snapshot that the disk is making durable.
#[derive(Debug)]
pub(super) struct Installing {
    index: LogIndex,
    term: Term,
    from: ReplicaId,
    vote: Vote,
    start: LogStart,
    membership: Membership,
    state_index: LogIndex,
    state_bytes: usize,
    restored: Restored,
}

impl Replica {
    /// Hears the head of a snapshot from a member in `term`.
    pub(super) fn hear_snapshot(
        &mut self,
        from: ReplicaId,
        term: Term,
        head: SnapshotHead,
    ) -> Result<(), ReplicaFault> {
        let (incarnation, to, index) = (self.incarnation, self.replica_id, head.index);
        let saying = |body| RaftMessage { incarnation, from, to, term, body };
        if index <= self.raft.commit() || self.raft.has_entry(index, head.term) {
            // The entry is here, so all that the head says is that it is committed.
            let body = RaftBody::AppendEntries {
                previous_index: index,
                previous_term: head.term,
                commit: index,
                entries: Vec::new(),
            };
            return self.raft.step(saying(body));
        }
        // Raft learns from it who leads in which term.
        let body = RaftBody::Heartbeat { commit: LogIndex::ZERO, context: Bytes::new() };
        let begun = Incoming::begin([from, to], term, head, &self.budget);
        self.raft.step(saying(body))?;
        if self.raft.term() != term || self.raft.leader() != Some(from) {
            return Ok(());
        }
        let Ok(begun) = begun else { return Ok(()) };
        let is_known = |one: &Incoming| one.head == begun.head && one.from == begun.from;
        if !self.incoming.as_ref().is_some_and(is_known) {
            self.incoming = Some(begun);
        }
        Ok(())
    }

    /// Hears a piece of a snapshot's state. What does not fit is dropped: the leader begins again
    /// when it has waited in vain.
    pub fn hear_chunk(&mut self, node: NodeId, chunk: &SnapshotChunk, effects: &mut Effects) {
        let is_ours = chunk.to == self.replica_id && chunk.incarnation == self.incarnation;
        if !is_ours || self.node_of(chunk.from) != Some(node) || self.installing.is_some() {
            return;
        }
        let Some(incoming) = &mut self.incoming else { return };
        if (incoming.from, incoming.head.index) != (chunk.from, chunk.index) {
            return;
        }
        match incoming.take(chunk) {
            Ok(false) => {}
            Ok(true) => {
                if let Some(incoming) = self.incoming.take() {
                    // A state that does not decode has come from a replica that is out of order;
                    // this one is no worse than before.
                    let _: Result<(), DecodeError> = self.begin_install(incoming, effects);
                }
            }
            Err(Nonsense) => self.incoming = None,
        }
    }

    fn begin_install(
        &mut self,
        mut incoming: Incoming,
        effects: &mut Effects,
    ) -> Result<(), DecodeError> {
        let SnapshotHead { index, term, state_index, state_crc, .. } = incoming.head;
        // Appends of another leader may have come meanwhile.
        let is_needed = index > self.raft.commit() && !self.raft.has_entry(index, term);
        if !is_needed || SnapshotHead::crc_of(&incoming.state) != state_crc {
            return Ok(());
        }
        let restored = self.derived.restore(&incoming.state)?;
        self.follow_raft_role(effects);
        self.candidacy = None;
        let sent = incoming.head.log_start;
        let start = LogStart {
            offset: sent.offset,
            index: sent.index,
            previous_term: sent.previous_term,
            previous_crc: sent.previous_crc,
        };
        let membership = std::mem::take(&mut incoming.membership);
        let mut writer = Writer::default();
        Self::write_state(&mut writer, &start, &membership);
        writer.raw(&incoming.state);
        let state = writer.into_bytes();
        let vote = self.raft.vote();
        self.installing = Some(Box::new(Installing {
            index,
            term,
            from: incoming.from,
            vote,
            start,
            membership,
            state_index,
            state_bytes: state.len(),
            restored,
        }));
        let incarnation = self.incarnation;
        effects.push(Effect::Install { incarnation, vote, start, applied: state_index, state });
        Ok(())
    }

    /// The disk has put the snapshot in the place of the log, or has left everything as it was.
    ///
    /// Errors: [`StartError`]: this replica must not go on.
    pub fn handle_installed(
        &mut self,
        index: LogIndex,
        is_installed: bool,
        effects: &mut Effects,
    ) -> Result<(), StartError> {
        let Some(installing) = self.installing.take() else { return Ok(()) };
        assert_eq!(installing.index, index, "R8: a snapshot was let in before another was durable");
        if is_installed { self.begin_anew(*installing, effects) } else { Ok(()) }
    }

    /// As after a start on the log as it is now.
    fn begin_anew(&mut self, new: Installing, effects: &mut Effects) -> Result<(), StartError> {
        let Installing { index, term, vote, start, .. } = new;
        assert!(index > self.applied, "I5: a snapshot at {index} with {} applied", self.applied);
        // Who has asked the state machine in this turn is answered by the one that was here.
        self.take_machine_effects(effects);
        let applied = Coordinates { index, next_offset: start.offset };
        self.raft.restart(RaftRestart {
            vote,
            membership: new.membership.clone(),
            start,
            applied,
            budget: self.budget.clone(),
        })?;
        self.derived.replace(new.restored);
        self.membership = new.membership;
        self.strangers.clear();
        (self.applied, self.applied_term, self.ahead) = (index, term, new.state_index);
        self.log_start = start;
        self.high_watermark = start.offset;
        self.writes = Writes::default();
        self.state_file = Schedule::starting_at(new.state_index, new.state_bytes);
        self.state_file.moves_commit(index);
        self.told_leader = None;
        let (incarnation, high_watermark) = (self.incarnation, self.high_watermark);
        effects.push(Effect::Committed { incarnation, commit: index, high_watermark });
        let Some(leader) = self.membership.member(new.from) else { return Ok(()) };
        let body = RaftBody::AppendEntriesResponse {
            index,
            commit: index,
            rejected: None,
            requested_snapshot: LogIndex::ZERO,
        };
        let (from, to, term) = (self.replica_id, new.from, self.raft.term());
        let message = RaftMessage { incarnation, from, to, term, body };
        effects.push(Effect::Send { node: leader.node_id, message });
        Ok(())
    }

    /// Throws away what has come of a snapshot whose rest does not come.
    pub(super) fn look_after_incoming(&mut self, now: Now) {
        let is_late = self.incoming.as_mut().is_some_and(|incoming| {
            let limit_ms = now.monotonic_ms + RECEIVING_MS_MAX;
            now.monotonic_ms >= *incoming.deadline_ms.get_or_insert(limit_ms)
        });
        if is_late {
            self.incoming = None;
        }
    }
}
