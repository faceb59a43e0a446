//! Leadership that is given away: to whoever is asked for, to whoever can, to whoever is preferred.
//!
//! Invariants
//! - R13: a transfer may come to nothing, and is asked for again by whoever still wants it.
//! - Whoever is to lead has a vote, answers, and has nearly everything; nothing waits for it long.
//!
//! Absent on purpose: which nodes should lead. The shard knows who drains and who leaves.

use super::{Replica, Role};
use crate::clock::Now;
use bateau_protocol::ids::{NodeId, ReplicaId};

/// Milliseconds that somebody leads before the preferred replica gets it back: a node that has just
/// come back has other things to do.
const PREFERRED_AFTER_MS: u64 = 10_000;
/// Entries that the preferred replica may be behind then.
const PREFERRED_BEHIND_MAX: u64 = 100;

impl Replica {
    /// Asks the replica on `node` to lead instead of this one.
    pub fn transfer_leadership(&mut self, node: NodeId) {
        let voter = self.membership.voters.iter().find(|voter| voter.node_id == node);
        if let Some(replica) = voter.map(|voter| voter.replica_id).filter(|_| self.is_leader()) {
            self.hand_to(replica);
        }
    }

    /// Asks the voter that is closest behind to lead instead of this one, of those on nodes that
    /// may. It may come to nothing (R13): whoever asks goes on asking while
    /// [`Self::has_successor`].
    pub fn hand_over(&mut self, may_lead: impl Fn(NodeId) -> bool) {
        if let Some(successor) = self.successor(may_lead)
            && !self.raft.is_handing_over()
        {
            self.hand_to(successor);
        }
    }

    fn hand_to(&mut self, replica: ReplicaId) {
        self.wake();
        self.raft.transfer_to(replica);
    }

    /// Whether this replica leads and another one could, on a node that may.
    #[must_use]
    pub fn has_successor(&self, may_lead: impl Fn(NodeId) -> bool) -> bool {
        self.successor(may_lead).is_some()
    }

    fn successor(&self, may_lead: impl Fn(NodeId) -> bool) -> Option<ReplicaId> {
        let voters = self.membership.voters.iter().filter(|voter| may_lead(voter.node_id));
        self.raft.successor(voters.map(|voter| voter.replica_id))
    }

    /// Gives the leadership to the replica that the assignment prefers, where another one has it
    /// without need. Whether it was asked.
    pub fn hand_to_preferred(&mut self, now: Now, may_lead: impl Fn(NodeId) -> bool) -> bool {
        let led_ms = now.monotonic_ms.saturating_sub(self.led_since_ms);
        let preferred = self.steering.preferred().filter(|one| may_lead(one.node_id));
        let Some(preferred) = preferred.map(|one| one.replica_id) else { return false };
        let is_calm = self.role == Role::Leader
            && led_ms >= PREFERRED_AFTER_MS
            && preferred != self.replica_id
            && !self.membership.is_joint()
            && !self.raft.is_handing_over();
        let is_voter = self.membership.voters.iter().any(|voter| voter.replica_id == preferred);
        let last = self.raft.last().index.get();
        let follows = self.raft.follows_to(preferred);
        let is_close = follows
            .is_some_and(|flushed| last.saturating_sub(flushed.get()) <= PREFERRED_BEHIND_MAX);
        if is_calm && is_voter && is_close {
            self.hand_to(preferred);
        }
        is_calm && is_voter && is_close
    }
}
