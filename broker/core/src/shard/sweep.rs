//! Who sleeps is woken where nobody else does it: a few at a time, so that a start or a lost node
//! is no storm (R23).
//!
//! ```text
//!   started, or its leader's node is lost ──> queued ──(50 per tick, 500 at once)──> roused
//!   produce, a question, a word of a peer ──────────────────────────────────────────> awake
//! ```
//!
//! Invariants
//! - Whoever sleeps and knows no leader is queued, if it has a vote.
//! - A leader that sleeps has a majority of nodes that live; otherwise it wakes, and finds out that
//!   it does not lead.
//!
//! Absent on purpose: when somebody falls asleep: the replica's own.

use super::timers::TICK_MS;
use super::{Effects, Shard};
use crate::clock::Now;
use crate::replica::Replica;
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId, Term};
use std::collections::BTreeSet;

/// Replicas that are woken in one tick.
const ROUSED_PER_TICK: usize = 50;
/// Those that may be woken at once after a pause.
const ROUSED_AT_ONCE: usize = 500;

/// Who is to be woken.
#[derive(Debug)]
pub(super) struct Sweep {
    queue: BTreeSet<Incarnation>,
    /// How many may be woken now, and since when there may be more.
    allowance: usize,
    refilled_ms: u64,
    /// Nodes that live, as last told; `None` before anybody has said.
    live: Option<BTreeSet<NodeId>>,
}

impl Default for Sweep {
    fn default() -> Self {
        let (queue, live) = (BTreeSet::new(), None);
        Self { queue, allowance: ROUSED_AT_ONCE, refilled_ms: 0, live }
    }
}

impl Sweep {
    pub fn add(&mut self, incarnation: Incarnation) {
        self.queue.insert(incarnation);
    }

    pub fn forget(&mut self, incarnation: Incarnation) {
        self.queue.remove(&incarnation);
    }

    /// When something is to be done, on the monotonic clock in milliseconds.
    pub fn next_ms(&self) -> Option<u64> {
        (!self.queue.is_empty()).then_some(self.refilled_ms + TICK_MS)
    }

    /// Whether a node may be alive: it is not known to be lost.
    pub fn may_live(&self, node: NodeId) -> bool {
        self.live.as_ref().is_none_or(|live| live.contains(&node))
    }

    fn refill(&mut self, now: Now) {
        let ticks = now.monotonic_ms.saturating_sub(self.refilled_ms) / TICK_MS;
        let more = usize::try_from(ticks).unwrap_or(usize::MAX).saturating_mul(ROUSED_PER_TICK);
        self.allowance = self.allowance.saturating_add(more).min(ROUSED_AT_ONCE);
        if ticks > 0 {
            self.refilled_ms = now.monotonic_ms;
        }
    }
}

impl Shard {
    /// Rouses those whose turn it is. Who has found a leader meanwhile sleeps on.
    pub(super) fn sweep(&mut self, now: Now, effects: &mut Effects) {
        self.sweep.refill(now);
        while self.sweep.allowance > 0
            && let Some(incarnation) = self.sweep.queue.pop_first()
        {
            if self.replica(incarnation).is_some_and(Replica::needs_rousing) {
                self.sweep.allowance -= 1;
                self.with(incarnation, effects, |replica, _| replica.rouse());
            }
        }
    }

    /// A replica that was there before this start need not hurry: many may be like it.
    pub(super) fn begin_asleep(&mut self, incarnation: Incarnation, effects: &mut Effects) {
        if self.replica(incarnation).is_some_and(Replica::may_begin_asleep) {
            self.with(incarnation, effects, |replica, _| replica.sleep_leaderless());
            self.sweep.add(incarnation);
        }
    }

    /// Who lives has changed, or is said again: for the controller, and for leaders that sleep.
    pub(super) fn note_live(&mut self, live: BTreeSet<NodeId>, effects: &mut Effects) {
        let for_controller = live.clone();
        self.with(Incarnation::METADATA, effects, |replica, _| replica.note_live(for_controller));
        if self.sweep.live.as_ref() == Some(&live) {
            return;
        }
        for incarnation in self.running() {
            let is_deserted = |replica: &Replica| {
                replica.is_asleep() && replica.is_leader() && !replica.has_majority_on(&live)
            };
            if self.replica(incarnation).is_some_and(is_deserted) {
                self.with(incarnation, effects, |replica, _| replica.wake());
            }
        }
        self.sweep.live = Some(live);
    }

    /// A node says that it leads a partition. A start hears that of all of them: who knows its
    /// leader is left in peace.
    pub(super) fn hear_leader(
        &mut self,
        incarnation: Incarnation,
        (node, term): (NodeId, Term),
        effects: &mut Effects,
    ) {
        if self.replica(incarnation).is_some_and(Replica::needs_rousing) {
            self.with(incarnation, effects, |replica, _| replica.hear_leader(node, term));
        }
    }

    /// Whoever followed a replica on `node` looks for another leader: at once if it is awake.
    pub(super) fn note_lost(&mut self, node: NodeId, effects: &mut Effects) {
        self.note_unreachable(node, effects);
        self.forget_leaders(node, |_| true, effects);
    }

    /// Replicas on a node that lives have stopped. What they led, nobody leads.
    pub(super) fn note_stopped(
        &mut self,
        node: NodeId,
        stopped: &BTreeSet<ReplicaId>,
        effects: &mut Effects,
    ) {
        self.forget_leaders(node, |leader| stopped.contains(&leader), effects);
    }

    fn forget_leaders(
        &mut self,
        node: NodeId,
        is_gone: impl Fn(ReplicaId) -> bool,
        effects: &mut Effects,
    ) {
        for incarnation in self.running() {
            let follows = self.replica(incarnation).and_then(|one| one.followed_on(node));
            if follows.is_some_and(&is_gone) {
                self.with(incarnation, effects, |replica, _| replica.forget_leader(node));
                self.sweep.add(incarnation);
            }
        }
    }
}
