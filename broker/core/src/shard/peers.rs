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

use super::{Effect, Effects, Reply, Shard, Slot, TICK_MS};
use crate::clock::Now;
use crate::replica::{NotLeading, Replica};
use crate::ticket::Ticket;
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId};
use bateau_protocol::peer::{RaftBody, RaftMessage};
use std::collections::{BTreeMap, VecDeque};

/// Bytes that are held for replicas to come, of one sender.
const EARLY_BYTES_MAX: usize = 1024 * 1024;
/// What a held message takes beside its payloads, in bytes, roughly.
const MESSAGE_BYTES: usize = 256;
/// Senders for which something is held.
const EARLY_SENDERS_MAX: usize = 4_096;
/// How long, in milliseconds: one election timeout.
const EARLY_MS: u64 = 20 * TICK_MS;

/// Messages for replicas that are not there yet, by who sent them.
#[derive(Debug, Default)]
pub(super) struct EarlyMessages {
    held: BTreeMap<(Incarnation, ReplicaId), Early>,
}

#[derive(Debug)]
struct Early {
    node: NodeId,
    messages: VecDeque<RaftMessage>,
    bytes: usize,
    until_ms: u64,
}

impl EarlyMessages {
    fn hold(&mut self, node: NodeId, message: RaftMessage, now: Now) {
        self.held.retain(|_, early| early.until_ms > now.monotonic_ms);
        let key = (message.incarnation, message.from);
        if self.held.len() >= EARLY_SENDERS_MAX && !self.held.contains_key(&key) {
            return;
        }
        let until_ms = now.monotonic_ms + EARLY_MS;
        let new = || Early { node, messages: VecDeque::new(), bytes: 0, until_ms };
        let early = self.held.entry(key).or_insert_with(new);
        let bytes = payload_bytes(&message) + MESSAGE_BYTES;
        if early.node == node && early.bytes + bytes <= EARLY_BYTES_MAX {
            early.bytes += bytes;
            early.messages.push_back(message);
        }
    }

    fn take(&mut self, incarnation: Incarnation, now: Now) -> Vec<(NodeId, RaftMessage)> {
        let of_log = (incarnation, ReplicaId::ZERO)..=(incarnation, ReplicaId::new(u64::MAX));
        let keys: Vec<_> = self.held.range(of_log).map(|(key, _)| *key).collect();
        let early = keys.iter().filter_map(|key| self.held.remove(key));
        let early = early.filter(|early| early.until_ms > now.monotonic_ms);
        let named =
            |early: Early| early.messages.into_iter().map(move |message| (early.node, message));
        early.flat_map(named).collect()
    }
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
            Some(Slot::Running(_)) => self.tell(node, message, effects),
            Some(Slot::Creating(_)) | None => self.early.hold(node, message, now),
            // It is silent, as if its node were down.
            Some(Slot::Unavailable) => {}
        }
    }

    fn tell(&mut self, node: NodeId, message: RaftMessage, effects: &mut Effects) {
        let incarnation = message.incarnation;
        let mut fault = None;
        self.with(incarnation, effects, |replica, _| {
            fault = replica.hear_peer(node, message).err()
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
        for incarnation in self.running() {
            let concerns = |replica: &Replica| replica.membership().member_on(node).is_some();
            if self.replica(incarnation).is_some_and(concerns) {
                self.with(incarnation, effects, |replica, _| replica.note_unreachable(node));
            }
        }
    }

    /// Whoever followed a replica on `node` looks for another leader at once.
    pub(super) fn note_lost(&mut self, node: NodeId, effects: &mut Effects) {
        self.note_unreachable(node, effects);
        for incarnation in self.running() {
            if self.replica(incarnation).is_some_and(|replica| replica.follows(node)) {
                self.with(incarnation, effects, |replica, _| replica.forget_leader(node));
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
