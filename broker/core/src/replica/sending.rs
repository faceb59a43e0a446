//! Snapshots for followers that are behind the log's start: made, sent, and given up in time (R17).
//!
//! ```text
//!   raft: "entries are gone" ──> head and state ──(body: chunks)──> sent ──> the follower's answer
//!                                     │                              │
//!                                     └── the way breaks ──> failed <┘ too late
//! ```
//!
//! Raft sends nothing else to a follower that waits for a snapshot, so each one ends: with the
//! follower's answer, which raft hears itself, or as failed. A follower says nothing while it puts
//! a snapshot in the place of its log, so one that has all of it and speaks has let it go.
//!
//! Invariants
//! - All three parts are of one moment: membership and state as applied when the snapshot is made.
//! - At most [`SNAPSHOTS_SENDING_MAX`] of a node are on their way; the others are asked for again.
//! - Whoever carries one says how it ended, and until then counts as carrying it.
//!
//! Absent on purpose: log data. What lies behind the snapshot is appended as ever.

use super::Replica;
use super::raft_view::WantedSnapshot;
use crate::clock::Now;
use crate::codec::Writer;
use crate::shard::{Effect, Effects, Input};
use bateau_protocol::ids::{LogIndex, NodeId, ReplicaId};
use bateau_protocol::limits::{PEER_SNAPSHOT_CHUNK_BYTES_MAX, PEER_SNAPSHOT_STATE_BYTES_MAX};
use bateau_protocol::peer::{PeerLogStart, RaftBody, RaftMessage, SnapshotChunk, SnapshotHead};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Snapshots that a node has on their way, at most. Each holds its state in memory, which has at
/// most 512 MiB and is mostly far smaller.
pub const SNAPSHOTS_SENDING_MAX: usize = 4;
/// Milliseconds that sending one may take.
const SENDING_MS_MAX: u64 = 120_000;
/// Milliseconds from the last chunk to the follower's answer, and for each 10 MB of the state,
/// which has to be written, a second more.
const INSTALLING_MS_MAX: u64 = 10_000;
const INSTALLING_BYTES_PER_MS: u64 = 10_000;

/// Milliseconds from the last chunk on in which a follower may be heard with what it has said
/// before it had all of them, and for each MB of the state a second more.
const ARRIVING_MS_MAX: u64 = 2_000;
const ARRIVING_BYTES_PER_MS: u64 = 1_000;

/// What the snapshots of one node take together.
#[derive(Clone, Debug, Default)]
pub(super) struct SnapshotBudget {
    sending: Arc<AtomicUsize>,
    /// Bytes of states that are being received.
    pub receiving_bytes: Arc<AtomicUsize>,
}

/// The place of one snapshot among those that are on their way.
#[derive(Debug)]
pub(super) struct SnapshotPermit(Arc<AtomicUsize>);

impl Drop for SnapshotPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SnapshotBudget {
    pub fn has_room(&self) -> bool {
        self.sending.load(Ordering::Relaxed) < SNAPSHOTS_SENDING_MAX
    }

    pub fn take(&self) -> Option<Arc<SnapshotPermit>> {
        self.has_room().then(|| {
            self.sending.fetch_add(1, Ordering::Relaxed);
            Arc::new(SnapshotPermit(Arc::clone(&self.sending)))
        })
    }
}

/// A snapshot to be carried: the head first, then the chunks in order, all to one node.
#[derive(Debug)]
pub struct OutgoingSnapshot {
    /// Where to.
    pub node: NodeId,
    /// The head; an `InstallSnapshot`.
    pub message: RaftMessage,
    index: LogIndex,
    number: u64,
    state: Bytes,
    _permit: Arc<SnapshotPermit>,
}

impl OutgoingSnapshot {
    /// The state in chunks of at most 1 MiB, each cut when it is asked for; at least one.
    pub fn chunks(&self) -> impl Iterator<Item = SnapshotChunk> + Send + use<> {
        let RaftMessage { incarnation, from, to, .. } = self.message;
        let (index, mut rest) = (self.index, Some(self.state.clone()));
        let mut position = 0;
        std::iter::from_fn(move || {
            let mut bytes = rest.take()?;
            if bytes.len() > PEER_SNAPSHOT_CHUNK_BYTES_MAX {
                rest = Some(bytes.split_off(PEER_SNAPSHOT_CHUNK_BYTES_MAX));
            }
            let is_last = rest.is_none();
            let chunk = SnapshotChunk { incarnation, from, to, index, position, bytes, is_last };
            position = chunk.end_position();
            Some(chunk)
        })
    }

    /// What the shard is told in the end.
    ///
    /// - `is_sent`: everything has left; `false` where any of it was dropped.
    #[must_use]
    pub fn outcome(&self, is_sent: bool) -> Input {
        let RaftMessage { incarnation, to, .. } = self.message;
        Input::SnapshotSent { incarnation, to, number: self.number, is_sent }
    }
}

/// A snapshot whose end is waited for.
#[derive(Debug)]
pub(super) struct Sending {
    number: u64,
    node: NodeId,
    deadline_ms: Option<u64>,
    is_sent: bool,
    /// Whether the follower has said anything since it must have had all of it.
    is_let_go: bool,
    state_bytes: u64,
    _permit: Arc<SnapshotPermit>,
}

impl Sending {
    /// How long the present stage may take, in milliseconds.
    const fn most_ms(&self) -> u64 {
        if self.is_sent {
            INSTALLING_MS_MAX + self.state_bytes / INSTALLING_BYTES_PER_MS
        } else {
            SENDING_MS_MAX
        }
    }

    /// Whether the follower must have all of it, so much before the end of the present stage.
    const fn has_arrived(&self, left_ms: u64) -> bool {
        let arriving_ms = ARRIVING_MS_MAX + self.state_bytes / ARRIVING_BYTES_PER_MS;
        self.is_sent && left_ms + arriving_ms <= self.most_ms()
    }
}

impl Replica {
    /// Makes the snapshots that raft wants sent.
    pub(super) fn send_snapshots(&mut self, effects: &mut Effects) {
        for wanted in self.raft.take_snapshots() {
            let to = wanted.to;
            match self.make_snapshot(&wanted) {
                Some(snapshot) => {
                    let sending = Sending {
                        number: snapshot.number,
                        node: snapshot.node,
                        deadline_ms: None,
                        is_sent: false,
                        is_let_go: false,
                        state_bytes: u64::try_from(snapshot.state.len()).unwrap_or(u64::MAX),
                        _permit: Arc::clone(&snapshot._permit),
                    };
                    self.sending.insert(to, sending);
                    effects.push(Effect::SendSnapshot(Box::new(snapshot)));
                }
                None => self.raft.snapshot_failed(to),
            }
        }
    }

    /// Cost: the state is encoded, as for a state file.
    fn make_snapshot(&mut self, wanted: &WantedSnapshot) -> Option<OutgoingSnapshot> {
        let WantedSnapshot { to, index, term } = *wanted;
        let node = self.membership.member(to)?.node_id;
        let start = self.raft.tail().start();
        // The log may have been trimmed on since raft asked.
        if start.index.previous() != index {
            return None;
        }
        let permit = self.budget.snapshots.take()?;
        let applied = self.state_index();
        let mut writer = Writer::default();
        self.derived.encode(applied, &mut writer);
        let state = writer.into_bytes();
        let state_bytes = u64::try_from(state.len()).unwrap_or(u64::MAX);
        if state_bytes > PEER_SNAPSHOT_STATE_BYTES_MAX {
            return None;
        }
        let snapshot = SnapshotHead {
            index,
            term,
            log_start: PeerLogStart {
                offset: start.offset,
                index: start.index,
                previous_term: start.previous_term,
                previous_crc: start.previous_crc,
            },
            membership_index: applied,
            membership: self.membership.encode(),
            state_index: applied,
            state_bytes,
            state_crc: SnapshotHead::crc_of(&state),
            next_offset: start.offset,
        };
        self.newest_snapshot += 1;
        let message = RaftMessage {
            incarnation: self.incarnation,
            from: self.replica_id,
            to,
            term: self.raft.term(),
            body: RaftBody::InstallSnapshot { snapshot: Box::new(snapshot) },
        };
        let number = self.newest_snapshot;
        Some(OutgoingSnapshot { node, message, index, number, state, _permit: permit })
    }

    /// Whoever carries a snapshot has carried it, or could not.
    pub fn handle_snapshot_sent(&mut self, to: ReplicaId, number: u64, is_sent: bool) {
        let Some(sending) = self.sending.get_mut(&to).filter(|one| one.number == number) else {
            return;
        };
        if is_sent {
            (sending.is_sent, sending.deadline_ms) = (true, None);
        } else {
            self.give_up_snapshot(to);
        }
    }

    /// A follower has said something.
    pub(super) fn note_follower_speaks(&mut self, follower: ReplicaId) {
        if let Some(sending) = self.sending.get_mut(&follower) {
            sending.is_let_go = true;
        }
    }

    fn give_up_snapshot(&mut self, to: ReplicaId) {
        if self.sending.remove(&to).is_some() {
            self.raft.snapshot_failed(to);
        }
    }

    /// The way to a node has ended: nobody knows what of a snapshot has arrived.
    pub(super) fn give_up_snapshots_to(&mut self, node: NodeId) {
        let lost = self.sending.iter().filter(|(_, sending)| sending.node == node);
        for to in lost.map(|(to, _)| *to).collect::<Vec<_>>() {
            self.give_up_snapshot(to);
        }
    }

    /// Forgets snapshots that have arrived, and gives those up that take too long.
    pub(super) fn look_after_snapshots(&mut self, now: Now) {
        let raft = &self.raft;
        self.sending.retain(|to, _| raft.awaits_snapshot(*to));
        let mut late = Vec::new();
        for (to, sending) in &mut self.sending {
            let most_ms = sending.most_ms();
            let deadline_ms = *sending.deadline_ms.get_or_insert(now.monotonic_ms + most_ms);
            let left_ms = deadline_ms.saturating_sub(now.monotonic_ms);
            sending.is_let_go &= sending.has_arrived(left_ms);
            if left_ms == 0 || sending.is_let_go {
                late.push(*to);
            }
        }
        late.into_iter().for_each(|to| self.give_up_snapshot(to));
    }

    /// Up to where the derived state and the membership go: the applied index, or what a snapshot
    /// has brought beyond it.
    pub(super) fn state_index(&self) -> LogIndex {
        self.applied.max(self.ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::ids::{Incarnation, Term};

    fn outgoing(bytes: usize) -> OutgoingSnapshot {
        OutgoingSnapshot {
            node: NodeId::new(2),
            message: RaftMessage {
                incarnation: Incarnation::new(7),
                from: ReplicaId::new(1),
                to: ReplicaId::new(2),
                term: Term::new(3),
                body: RaftBody::TimeoutNow,
            },
            index: LogIndex::new(9),
            number: 1,
            state: vec![7; bytes].into(),
            _permit: SnapshotBudget::default().take().unwrap(),
        }
    }

    #[test]
    fn a_state_is_cut_into_chunks_of_a_mebibyte_of_which_one_is_the_last() {
        let most = PEER_SNAPSHOT_CHUNK_BYTES_MAX;
        let cut = |bytes| -> Vec<(u64, usize, bool)> {
            let chunks = outgoing(bytes).chunks();
            chunks.map(|one| (one.position, one.bytes.len(), one.is_last)).collect()
        };
        assert_eq!(cut(0), [(0, 0, true)]);
        assert_eq!(cut(most), [(0, most, true)]);
        assert_eq!(cut(most + 1), [(0, most, false), (most as u64, 1, true)]);
    }

    #[test]
    fn no_more_are_on_their_way_than_the_node_has_room_for() {
        let budget = SnapshotBudget::default();
        let held: Vec<_> = std::iter::from_fn(|| budget.take()).take(100).collect();
        assert_eq!(held.len(), SNAPSHOTS_SENDING_MAX);
        drop(held);
        assert!(budget.has_room());
    }
}
