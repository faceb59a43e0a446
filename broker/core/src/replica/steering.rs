//! From the replicas that a partition has to those that the metadata assigns it.
//!
//! ```text
//!   assigned ──> learners added ──> all of them follow ──> voters exchanged (joint) ──> left
//!                                                            └ the leader goes first, if it goes
//!   left ──applied──> repeated as settled ──committed──> told, and former replicas may go
//! ```
//!
//! The leader compares the configuration that is applied with the assignment that its node knows,
//! and proposes the next one. Nothing of it is remembered elsewhere: whoever leads next goes on.
//!
//! Invariants
//! - `I17` One change at a time, proposed behind the no-op of the leader's term; the voters of two
//!   configurations in a row share a majority, or are joint.
//! - Who is to vote has flushed what the leader has, but for what comes in this moment (D19).
//! - Nobody is exchanged unless a majority of the assigned voters follows.
//! - A change proves that the one before it is committed: its leader had applied that. So a start
//!   that finds both, and whoever follows, goes by the earlier one at least. What is told to be
//!   reached has been repeated, and the repetition is committed: no voter of it needs a former
//!   configuration, and with it a replica that is gone, to find a leader.
//! - An assignment that is older than the configuration's is not followed: this node's metadata is
//!   behind, and the replicas that it names may be deleted.
//!
//! Absent on purpose: where replicas should be, and which learner is given up: the controller's.

use super::membership::{Member, Membership};
use super::{Replica, Role};
use crate::clock::Now;
use crate::shard::{Effect, Effects};
use bateau_protocol::ids::{LogIndex, ReplicaId};
use std::collections::BTreeMap;

/// Entries that a learner may be behind when it becomes a voter (D19).
const BEHIND_ENTRIES_MAX: u64 = 1_000;
/// Milliseconds in which it must have got what there was when they began (D19).
const ROUND_MS_MAX: u64 = 1_000;

/// Which replicas the metadata wants a partition to have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Assignment {
    /// Counted from 0, the one that the partition was born with.
    pub number: u64,
    /// Who shall vote, preferred leader first.
    pub voters: Vec<Member>,
    /// Who shall get the log without a vote.
    pub learners: Vec<Member>,
    /// Whether the metadata waits for word that it is so.
    pub is_open: bool,
}

impl Assignment {
    /// What a partition is born with.
    #[must_use]
    pub fn birth(voters: Vec<Member>) -> Self {
        Self { voters, ..Self::default() }
    }

    fn is_of(&self, membership: &Membership) -> bool {
        membership.is_settled
            && self.number == membership.assignment
            && are_same(&self.voters, &membership.voters)
            && are_same(&self.learners, &membership.learners)
    }
}

/// How far the leader is with the assignment.
#[derive(Debug, Default)]
pub(super) struct Steering {
    assignment: Assignment,
    /// Index of the newest change that was proposed in this term.
    proposed: Option<LogIndex>,
    rounds: BTreeMap<ReplicaId, Round>,
    /// The assignment that was last told to be reached.
    told: Option<u64>,
}

/// What a learner gets until it has what there was at its beginning.
#[derive(Clone, Copy, Debug)]
struct Round {
    until: LogIndex,
    since_ms: u64,
    /// Whether the one before was short.
    is_close: bool,
}

impl Steering {
    pub fn starting_at(assignment: Assignment) -> Self {
        Self { assignment, ..Self::default() }
    }

    /// Who should lead, as far as there is a choice.
    pub fn preferred(&self) -> Option<Member> {
        self.assignment.voters.first().copied()
    }

    /// Nobody leads here any more.
    pub fn stop(&mut self) {
        self.proposed = None;
        self.rounds.clear();
        self.told = None;
    }
}

impl Replica {
    /// The metadata assigns these replicas to the partition. The leader sees to it.
    pub fn assign(&mut self, assignment: Assignment) {
        let steering = &mut self.steering;
        if assignment != steering.assignment {
            steering.assignment = assignment;
            steering.told = None;
            if self.role != Role::Follower {
                self.wake();
            }
        }
    }

    /// Whether nothing is left to be done of the assignment, as far as it is known here.
    pub(super) fn is_as_assigned(&self) -> bool {
        let (assigned, present) = (&self.steering.assignment, &self.membership);
        let is_known = assigned.voters.is_empty() || assigned.is_of(present);
        is_known || assigned.number < present.assignment
    }

    /// Proposes the next configuration on the way to the assigned one, or says that it is reached.
    pub(super) fn steer(&mut self, now: Now, effects: &mut Effects) {
        let is_free = self.steering.proposed.is_none_or(|index| index <= self.applied)
            && self.gathered.is_empty()
            && !self.raft.holds_entries()
            && !self.raft.is_handing_over()
            && !self.writes.are_stalled();
        if self.role != Role::Leader || !is_free {
            return;
        }
        let Some(next) = self.next_membership(now) else {
            return self.tell_assigned(effects);
        };
        // Raft refuses only whoever does not lead any more.
        if let Ok(index) = self.raft.propose_membership(&self.membership, &next) {
            self.steering.proposed = Some(index);
        }
    }

    fn tell_assigned(&mut self, effects: &mut Effects) {
        let steering = &mut self.steering;
        let number = steering.assignment.number;
        let is_reached = steering.assignment.is_open && steering.assignment.is_of(&self.membership);
        if is_reached && steering.told != Some(number) {
            steering.told = Some(number);
            effects.push(Effect::Assigned { incarnation: self.incarnation, number });
        }
    }

    fn next_membership(&mut self, now: Now) -> Option<Membership> {
        let (present, assigned) = (self.membership.clone(), self.steering.assignment.clone());
        if present.is_joint() {
            return Some(present.left());
        }
        let number = assigned.number;
        if number < present.assignment || assigned.voters.is_empty() || assigned.is_of(&present) {
            return None;
        }
        let wanted = assigned.voters.iter().chain(&assigned.learners);
        let missing = wanted.filter(|one| present.member(one.replica_id).is_none());
        let mut learners = present.learners.clone();
        learners.extend(missing);
        if learners.len() > present.learners.len() {
            return Some(present.towards(&present.voters, &learners, number));
        }
        if are_same(&assigned.voters, &present.voters) {
            return Some(match are_same(&assigned.learners, &present.learners) {
                true => present.settled(number),
                false => present.towards(&present.voters, &assigned.learners, number),
            });
        }
        let joining: Vec<Member> = without(&assigned.voters, &present.voters);
        let close: Vec<Member> =
            joining.iter().filter(|one| self.is_close(one.replica_id, now)).copied().collect();
        if assigned.voters.iter().any(|one| one.replica_id == self.replica_id) {
            let is_safe = close.len() == joining.len() && self.is_followed_by(&assigned.voters);
            return is_safe.then(|| present.towards(&assigned.voters, &assigned.learners, number));
        }
        let staying = without(&assigned.voters, &joining);
        if let Some(successor) = self.raft.successor(staying.iter().map(|one| one.replica_id)) {
            self.raft.transfer_to(successor);
            return None;
        }
        // Whoever is to lead instead has no vote yet.
        let voters: Vec<Member> = present.voters.iter().chain(&close).copied().collect();
        let learners = without(&present.learners, &close);
        (!close.is_empty()).then(|| present.towards(&voters, &learners, number))
    }

    /// Whether a learner has what the leader has, but for what comes in this moment.
    fn is_close(&mut self, learner: ReplicaId, now: Now) -> bool {
        let Some(flushed) = self.raft.follows_to(learner) else {
            self.steering.rounds.remove(&learner);
            return false;
        };
        let last = self.raft.last().index;
        let now_ms = now.monotonic_ms;
        let begun = Round { until: last, since_ms: now_ms, is_close: false };
        let round = self.steering.rounds.entry(learner).or_insert(begun);
        if flushed >= round.until {
            let is_close = now_ms.saturating_sub(round.since_ms) <= ROUND_MS_MAX;
            *round = Round { is_close, ..begun };
        }
        round.is_close && last.get() - flushed.get().min(last.get()) <= BEHIND_ENTRIES_MAX
    }

    fn is_followed_by(&self, voters: &[Member]) -> bool {
        let follows = |one: &&Member| self.raft.follows_to(one.replica_id).is_some();
        voters.iter().filter(follows).count() > voters.len() / 2
    }
}

fn without(members: &[Member], others: &[Member]) -> Vec<Member> {
    members.iter().filter(|one| !others.contains(one)).copied().collect()
}

fn are_same(one: &[Member], other: &[Member]) -> bool {
    one.len() == other.len() && without(one, other).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::ids::NodeId;

    fn members(ids: &[u64]) -> Vec<Member> {
        let member =
            |id: &u64| Member { replica_id: ReplicaId::new(*id), node_id: NodeId::new(*id) };
        ids.iter().map(member).collect()
    }

    #[test]
    fn what_is_told_to_be_reached_has_been_repeated_as_settled() {
        let voters = members(&[2, 3]);
        let wanted = Assignment { number: 1, voters: voters.clone(), ..Assignment::default() };
        let before = Membership::initial(members(&[1, 2]));
        assert!(!wanted.is_of(&before));
        let joint = before.towards(&voters, &[], 1);
        assert!(joint.is_joint() && !wanted.is_of(&joint));
        let left = joint.left();
        assert!(!wanted.is_of(&left), "whoever follows may go by the joint one");
        assert!(wanted.is_of(&left.settled(1)));
        let other = Assignment { number: 2, ..wanted };
        assert!(!other.is_of(&left.settled(1)), "another assignment of the same voters");
    }
}
