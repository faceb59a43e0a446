//! Groups that have nothing to do, and do nothing (R23): no ticks, no heartbeats.
//!
//! ```text
//!   at rest for a while ──Quiesce──> each member: at rest too ──QuiesceResponse──> all asleep
//!   asleep ──(a message, a proposal, a read, a node lost or back, a sweep)──> awake
//! ```
//!
//! While a group sleeps, the signs of life of its members' nodes stand for its heartbeats.
//!
//! Invariants
//! - Asleep, every member has the leader's whole log, committed and applied, and remembers the
//!   leader: it refuses candidates until that leader's node is lost.
//! - A leader sleeps only when every other member has said that it does. A leader that wakes says
//!   so to all; a follower that wakes hears it, or asks for votes and wakes the leader.
//! - The metadata never sleeps: by it the others are woken.
//!
//! Absent on purpose: how many wake at a time, and whose node lives: the shard's. Sleep while a
//! member's node is down: who has not answered may be behind.

use super::{Replica, Role};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, ReplicaId};
use bateau_protocol::peer::{RaftBody, RaftMessage};
use std::collections::BTreeSet;

/// Ticks of rest behind which a leader proposes to sleep.
pub const REST_TICKS: u32 = 20;
/// Ticks for which its clock stands still while the others answer: a heartbeat would wake them.
const ANSWER_TICKS: u32 = 2;
/// Ticks from one proposal to the next.
const ASK_AGAIN_TICKS: u32 = 10;

/// Whether a replica sleeps, or is about to.
#[derive(Debug)]
pub(super) struct Quiescence {
    rest_ticks: u32,
    is_asleep: bool,
    /// Ticks for which everything has been at rest, and where the log ended then.
    rested: u32,
    rests_at: LogIndex,
    /// Members that have been asked and have not answered; `None` while nobody is asked.
    awaited: Option<BTreeSet<ReplicaId>>,
    /// What is to be said to other members.
    outbox: Vec<(ReplicaId, RaftBody)>,
}

impl Quiescence {
    /// Of a replica that is awake, and rests so long before it sleeps.
    pub fn awake(rest_ticks: u32) -> Self {
        Self {
            rest_ticks: rest_ticks.max(1),
            is_asleep: false,
            rested: 0,
            rests_at: LogIndex::ZERO,
            awaited: None,
            outbox: Vec::new(),
        }
    }
}

impl Replica {
    /// Whether this replica does nothing until somebody wakes it.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        self.quiescence.is_asleep
    }

    /// Whether it may sleep from its start on: it has not stood, and others can lead.
    #[must_use]
    pub fn may_begin_asleep(&self) -> bool {
        let has_vote = self.membership.voters.iter().any(|one| one.replica_id == self.replica_id);
        has_vote && !self.stands_first() && self.raft.leader().is_none()
    }

    /// Sleeps without a leader, until somebody needs one: for whoever starts with many others.
    pub fn sleep_leaderless(&mut self) {
        self.quiescence.is_asleep = true;
    }

    /// Goes on, if it sleeps.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.quiescence.is_asleep) {
            (self.quiescence.rested, self.quiescence.awaited) = (0, None);
            self.raft.wake();
        }
    }

    /// Whether it sleeps and knows no leader.
    #[must_use]
    pub fn needs_rousing(&self) -> bool {
        self.is_asleep() && self.raft.leader().is_none()
    }

    /// Whether the voters on these nodes are a majority.
    #[must_use]
    pub fn has_majority_on(&self, live: &BTreeSet<NodeId>) -> bool {
        let there = self.membership.voters.iter().filter(|voter| live.contains(&voter.node_id));
        there.count() >= self.membership.majority()
    }

    /// Somebody needs the partition: who sleeps without a leader looks for one.
    pub fn rouse(&mut self) {
        if self.needs_rousing() {
            self.wake();
        }
    }

    /// Wakes where something has come that cannot wait.
    pub(super) fn wake_if_stirred(&mut self) {
        let is_stirred = !self.gathered.is_empty()
            || !self.held.is_empty()
            || !self.reads.is_empty()
            || self.raft.is_stirred();
        if self.is_asleep() && is_stirred {
            self.wake();
        }
    }

    /// A tick of somebody who may have nothing to do; whether raft's clock stands still.
    pub(super) fn doze(&mut self) -> bool {
        let last = self.raft.last().index;
        if !self.may_sleep() || last != self.quiescence.rests_at {
            let quiescence = &mut self.quiescence;
            (quiescence.rested, quiescence.rests_at, quiescence.awaited) = (0, last, None);
            return false;
        }
        let quiescence = &mut self.quiescence;
        quiescence.rested += 1;
        let Some(asked_for) = quiescence.rested.checked_sub(quiescence.rest_ticks) else {
            return false;
        };
        let waited = asked_for % ASK_AGAIN_TICKS;
        if waited == 0 {
            self.ask_to_sleep(last);
        } else if waited > ANSWER_TICKS {
            self.quiescence.awaited = None;
        }
        self.quiescence.awaited.is_some()
    }

    fn ask_to_sleep(&mut self, index: LogIndex) {
        let own = self.replica_id;
        let others = self.membership.members().map(|member| member.replica_id);
        let others: BTreeSet<_> = others.filter(|member| *member != own).collect();
        let asked = others.iter().map(|member| (*member, RaftBody::Quiesce { index }));
        self.quiescence.outbox.extend(asked);
        self.quiescence.awaited = Some(others);
    }

    fn may_sleep(&self) -> bool {
        self.role == Role::Leader
            && self.incarnation != Incarnation::METADATA
            && self.raft.is_at_rest()
            && self.acks.is_empty()
            && self.held.is_empty()
            && self.gathered.is_empty()
            && self.tokens.is_empty()
            && self.reads.is_empty()
            && self.sending.is_empty()
            && !self.writes.are_stalled()
            && !self.raft.is_handing_over()
            && self.is_as_assigned()
    }

    /// Hears of sleep; whether the message was about that.
    pub(super) fn hear_quiesce(&mut self, message: &RaftMessage) -> bool {
        let (from, term) = (message.from, message.term);
        match message.body {
            RaftBody::Quiesce { index } => {
                let is_leader = self.raft.leader() == Some(from) && self.raft.term() == term;
                let has_all = self.raft.last().index == index && self.raft.is_at_rest();
                if is_leader && has_all && self.role == Role::Follower && self.incoming.is_none() {
                    self.quiescence.is_asleep = true;
                    self.quiescence.outbox.push((from, RaftBody::QuiesceResponse { index }));
                }
            }
            RaftBody::QuiesceResponse { index } => {
                let is_now = self.raft.term() == term && self.quiescence.rests_at == index;
                if let Some(awaited) = self.quiescence.awaited.as_mut().filter(|_| is_now) {
                    awaited.remove(&from);
                    self.quiescence.is_asleep = awaited.is_empty() && self.may_sleep();
                }
            }
            _ => return false,
        }
        true
    }

    /// Takes what is to be said about sleep.
    pub(super) fn take_quiesce_messages(&mut self) -> Vec<RaftMessage> {
        let (incarnation, from, term) = (self.incarnation, self.replica_id, self.raft.term());
        let said = std::mem::take(&mut self.quiescence.outbox).into_iter();
        said.map(|(to, body)| RaftMessage { incarnation, from, to, term, body }).collect()
    }
}
