//! What other nodes say to the replicas here.
//!
//! A partition is made on each of its nodes when that node's metadata says so, not at the same
//! moment: what a faster node's replica already says is held for the slower one's.
//!
//! Invariants
//! - Held messages are bounded in bytes and in time; what is dropped, raft repeats.
//! - A message for a partition that does not come into being here makes none (D10).
//!
//! Absent on purpose: links, and who the sender is: the body has seen to that.

use super::{Effect, Effects, FramesFound, Reply, Shard, Slot, TICK_MS};
use crate::clock::Now;
use crate::replica::{NotLeading, Replica, ReplicaFault};
use crate::ticket::Ticket;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId};
use bateau_protocol::peer::{RaftBody, RaftMessage};
use std::collections::{BTreeMap, VecDeque};

/// Bytes that are held for replicas to come, of one node.
const EARLY_BYTES_MAX: usize = 1024 * 1024;
/// What a held message takes beside its payloads, in bytes, roughly.
const MESSAGE_BYTES: usize = 256;
/// How long, in milliseconds: one election timeout.
const EARLY_MS: u64 = 20 * TICK_MS;

/// Messages for replicas that are not there yet, by the node that sent them. Nodes are few: the
/// body hears none that is not of the cluster.
#[derive(Debug, Default)]
pub(super) struct EarlyMessages {
    held: BTreeMap<NodeId, OfNode>,
}

/// What one node has said too early, oldest first.
#[derive(Debug, Default)]
struct OfNode {
    messages: VecDeque<Early>,
    bytes: usize,
}

#[derive(Debug)]
struct Early {
    until_ms: u64,
    message: RaftMessage,
}

impl OfNode {
    fn forget_old(&mut self, now: Now) {
        while let Some(old) = self.messages.pop_front_if(|early| early.until_ms <= now.monotonic_ms)
        {
            self.bytes -= held_bytes(&old.message);
        }
    }
}

impl EarlyMessages {
    fn hold(&mut self, node: NodeId, message: RaftMessage, now: Now) {
        let of_node = self.held.entry(node).or_default();
        of_node.forget_old(now);
        let bytes = held_bytes(&message);
        if of_node.bytes + bytes <= EARLY_BYTES_MAX {
            of_node.bytes += bytes;
            let until_ms = now.monotonic_ms + EARLY_MS;
            of_node.messages.push_back(Early { until_ms, message });
        }
    }

    /// Cost: of all that is held, which is little and seldom.
    fn take(&mut self, incarnation: Incarnation, now: Now) -> Vec<(NodeId, RaftMessage)> {
        let mut taken = Vec::new();
        for (node, of_node) in &mut self.held {
            of_node.forget_old(now);
            let (due, kept): (VecDeque<_>, _) = std::mem::take(&mut of_node.messages)
                .into_iter()
                .partition(|early| early.message.incarnation == incarnation);
            of_node.messages = kept;
            for early in due {
                of_node.bytes -= held_bytes(&early.message);
                taken.push((*node, early.message));
            }
        }
        self.held.retain(|_, of_node| !of_node.messages.is_empty());
        taken
    }
}

fn held_bytes(message: &RaftMessage) -> usize {
    payload_bytes(message) + MESSAGE_BYTES
}

fn payload_bytes(message: &RaftMessage) -> usize {
    match &message.body {
        RaftBody::AppendEntries { entries, .. } => {
            entries.iter().map(|entry| entry.payload.len() + MESSAGE_BYTES).sum()
        }
        _ => 0,
    }
}

impl Shard {
    pub(super) fn hear_peer(
        &mut self,
        node: NodeId,
        message: RaftMessage,
        now: Now,
        effects: &mut Effects,
    ) {
        let incarnation = message.incarnation;
        match self.slots.get(&incarnation) {
            Some(Slot::Running(_)) => {
                self.note_copied(node, &message, now);
                self.tell(node, message, effects);
            }
            Some(Slot::Creating(_)) | None => self.early.hold(node, message, now),
            // It is silent, as if its node were down.
            Some(Slot::Mending(_) | Slot::Unavailable(_)) => {}
        }
    }

    /// What a follower says of its log frees the way of what is copied to it.
    fn note_copied(&mut self, node: NodeId, message: &RaftMessage, now: Now) {
        let incarnation = message.incarnation;
        match &message.body {
            RaftBody::AppendEntriesResponse { rejected: Some(_), .. } => {
                self.copies.note_lost(node, Some(incarnation));
            }
            RaftBody::AppendEntriesResponse { index, .. } => {
                self.copies.note_flushed(node, incarnation, *index, now);
            }
            _ => {}
        }
    }

    fn tell(&mut self, node: NodeId, message: RaftMessage, effects: &mut Effects) {
        let incarnation = message.incarnation;
        let mut fault = None;
        self.with(incarnation, effects, |replica, _| {
            fault = replica.hear_peer(node, message).err()
        });
        if let Some(fault @ ReplicaFault::LostEntries { .. }) = fault {
            self.stop(incarnation, true, fault.to_string(), effects);
        }
    }

    /// Frames were read: for another node, or for a follower of a replica here.
    pub(super) fn hear_frames(
        &mut self,
        incarnation: Incarnation,
        fetch: u64,
        found: FramesFound,
        effects: &mut Effects,
    ) {
        let Some(found) = self.answer_range(incarnation, fetch, found, effects) else { return };
        self.with(incarnation, effects, |replica, _| match found {
            FramesFound::Frames(frames) => replica.handle_frames_read(fetch, Some(frames)),
            FramesFound::Gone => replica.handle_frames_read(fetch, None),
            FramesFound::Unreadable | FramesFound::Damaged { .. } => {
                replica.handle_read_failed(fetch);
            }
        });
    }

    /// A replica begins anew behind a snapshot. What the metadata says then is said of all of it:
    /// the commands in between have not been heard here.
    pub(super) fn begin_anew(
        &mut self,
        incarnation: Incarnation,
        index: LogIndex,
        is_installed: bool,
        effects: &mut Effects,
    ) {
        let mut fault = None;
        self.with(incarnation, effects, |replica, effects| {
            fault = replica.handle_installed(index, is_installed, effects).err();
            if is_installed {
                replica.announce_metadata();
            }
        });
        if let Some(fault) = fault {
            self.isolate(incarnation, fault.to_string(), effects);
        }
    }

    /// Tells a replica that has just begun what was said to it before.
    pub(super) fn tell_early(&mut self, incarnation: Incarnation, now: Now, effects: &mut Effects) {
        for (node, message) in self.early.take(incarnation, now) {
            self.tell(node, message, effects);
        }
    }

    pub(super) fn note_unreachable(&mut self, node: NodeId, effects: &mut Effects) {
        self.copies.note_lost(node, None);
        for incarnation in self.running() {
            let concerns =
                |replica: &Replica| replica.membership().members_on(node).next().is_some();
            if self.replica(incarnation).is_some_and(concerns) {
                self.with(incarnation, effects, |replica, _| replica.note_unreachable(node));
            }
        }
    }

    pub(super) fn confirm(
        &mut self,
        incarnation: Incarnation,
        ticket: Ticket,
        effects: &mut Effects,
    ) {
        if self.replica(incarnation).is_none() {
            effects.push(Effect::Reply(ticket, Reply::Confirmed(Err(NotLeading))));
            return;
        }
        self.with(incarnation, effects, |replica, effects| replica.confirm(ticket, effects));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::ids::{ReplicaId, Term};

    fn heartbeat(incarnation: u64) -> RaftMessage {
        RaftMessage {
            incarnation: Incarnation::new(incarnation),
            from: ReplicaId::new(1),
            to: ReplicaId::new(2),
            term: Term::new(3),
            body: RaftBody::Heartbeat { commit: LogIndex::ZERO, context: Default::default() },
        }
    }

    fn at(monotonic_ms: u64) -> Now {
        Now { monotonic_ms, ..Now::default() }
    }

    #[test]
    fn what_one_node_says_too_early_is_bounded_over_all_of_its_partitions() {
        let mut early = EarlyMessages::default();
        let (one, two) = (NodeId::new(1), NodeId::new(2));
        let most = EARLY_BYTES_MAX / MESSAGE_BYTES;
        for number in 0..2 * most as u64 {
            early.hold(one, heartbeat(number), at(0));
        }
        early.hold(two, heartbeat(0), at(0));
        assert_eq!(early.held[&one].messages.len(), most);
        assert_eq!(early.take(Incarnation::new(0), at(1)).len(), 2, "of each node its own");
        assert_eq!(early.held[&one].bytes, (most - 1) * MESSAGE_BYTES);
        assert!(!early.held.contains_key(&two));
    }

    #[test]
    fn what_is_too_old_is_not_said_any_more() {
        let mut early = EarlyMessages::default();
        early.hold(NodeId::new(1), heartbeat(7), at(0));
        assert!(early.take(Incarnation::new(7), at(EARLY_MS)).is_empty());
        assert!(early.held.is_empty());
    }
}
