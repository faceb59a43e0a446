//! The other replicas of the partition: what they say, and what they are told.
//!
//! Invariants
//! - R21: only what is meant for this replica is heard, and of a member only from its node.
//! - R3: what does not come from a leader leaves after the flush of what it speaks of.
//! - Who leads is told outside when it changes, once per leader and term.
//!
//! Absent on purpose: links, and whether a node lives.

use super::membership::{MEMBERS_MAX, Member};
use super::raft_view::Fetch;
use super::{Replica, ReplicaFault, Role};
use crate::shard::{Effect, Effects};
use bateau_protocol::frame::Frame;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, ReplicaId, Term};
use bateau_protocol::peer::{RaftBody, RaftMessage};

/// Frames that a learner lacks and the disk has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyRead {
    /// Where the learner is.
    pub node: NodeId,
    /// Of this log.
    pub incarnation: Incarnation,
    /// Number to answer with.
    pub fetch: u64,
    /// The first one.
    pub first: LogIndex,
    /// The last one, at most.
    pub last: LogIndex,
    /// Entries of the log behind the first one.
    pub behind: u64,
}

impl Replica {
    /// Hears a replica on `node`. What does not concern this replica is dropped: raft repeats what
    /// matters.
    ///
    /// Errors: [`ReplicaFault`]: this replica must not go on.
    pub fn hear_peer(&mut self, node: NodeId, message: RaftMessage) -> Result<(), ReplicaFault> {
        let is_ours = message.to == self.replica_id && message.incarnation == self.incarnation;
        // R8: who puts a snapshot in the place of its log is like one who starts.
        if !is_ours || self.installing.is_some() || !self.may_hear(message.from, node) {
            return Ok(());
        }
        if self.hear_quiesce(&message) {
            return Ok(());
        }
        self.wake();
        self.note_follower_speaks(message.from);
        match message.body {
            RaftBody::InstallSnapshot { snapshot: head } => {
                self.hear_snapshot(message.from, message.term, *head)
            }
            _ => self.raft.step(message),
        }
    }

    /// Whether a replica on `node` may be heard. Whoever is behind does not know everybody who has
    /// become a member since; raft judges what a stranger says by its term and log.
    fn may_hear(&mut self, replica: ReplicaId, node: NodeId) -> bool {
        if let Some(member) = self.membership.member(replica) {
            return member.node_id == node;
        }
        if self.strangers.len() >= MEMBERS_MAX {
            self.strangers.clear();
        }
        self.strangers.insert(replica, node);
        true
    }

    /// Where a replica lives that is a member, or has been heard.
    pub(super) fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        let member = self.membership.member(replica).map(|member| member.node_id);
        member.or_else(|| self.strangers.get(&replica).copied())
    }

    /// A node cannot be reached: raft stops sending it what it has not answered.
    pub fn note_unreachable(&mut self, node: NodeId) {
        for member in self.membership.members_on(node) {
            self.raft.unreachable(member.replica_id);
        }
        self.give_up_snapshots_to(node);
    }

    /// The leader that this replica follows, if it is on `node`.
    #[must_use]
    pub fn followed_on(&self, node: NodeId) -> Option<ReplicaId> {
        let leader = self.raft.leader().filter(|leader| self.node_of(*leader) == Some(node));
        leader.filter(|_| self.role == Role::Follower)
    }

    /// The node of the leader is lost. Voters that remember a leader refuse every other one until
    /// their election clock has run out, so it is forgotten; then they stand one after the other
    /// in the order of their placement, and do not all wait for the same clock.
    ///
    /// Who sleeps sleeps on, and is to be roused.
    ///
    /// Safe whoever is wrong: a leader that lives is followed again with its next word, and one
    /// that a majority still hears is not voted down (pre-votes).
    pub fn forget_leader(&mut self, node: NodeId) {
        if self.installing.is_some() {
            return;
        }
        self.raft.forget_leader();
        self.candidacy = self.turn_among(|voter| voter.node_id != node);
        if !self.is_asleep() {
            self.stand_in_turn();
        }
    }

    /// The replica on `node` says that it leads in `term`. Who sleeps in that term without a
    /// leader, with all of its log committed, remembers it as if it had never been away, and sleeps
    /// on.
    ///
    /// Safe: nobody else has ever led in that term.
    pub fn hear_leader(&mut self, node: NodeId, term: Term) {
        let leader = self.membership.voters.iter().find(|voter| voter.node_id == node);
        let Some(leader) = leader.filter(|leader| leader.replica_id != self.replica_id) else {
            return;
        };
        if self.needs_rousing() && self.raft.term() == term && self.raft.is_at_rest() {
            self.raft.remember_leader(leader.replica_id);
            self.candidacy = None;
        }
    }

    /// Whoever starts stands in the order of the placement too, unless somebody leads already: all
    /// nodes of a cluster may have started at once. By then they have found each other.
    pub(super) fn look_for_leader(&mut self) {
        if !self.membership.is_sole_voter(self.replica_id) {
            let turn = self.turn_among(|_| true);
            self.candidacy = turn.map(|turn| turn.later_by(Candidacy::START_TICKS));
        }
    }

    fn turn_among(&self, is_there: impl Fn(&&Member) -> bool) -> Option<Candidacy> {
        let there: Vec<_> = self.membership.voters.iter().filter(is_there).collect();
        let rank = there.iter().position(|voter| voter.replica_id == self.replica_id)?;
        Some(Candidacy::of_rank(rank, there.len()))
    }

    /// Stands for election when it is this replica's turn, until somebody leads.
    pub(super) fn stand_in_turn(&mut self) {
        let Some(candidacy) = &mut self.candidacy else { return };
        if self.raft.leader().is_some() {
            self.candidacy = None;
        } else if candidacy.is_due() && !self.raft.is_being_elected() {
            self.raft.campaign();
        }
    }

    /// Frames that a follower waits for; `None` where the log does not have them any more.
    pub fn handle_frames_read(&mut self, fetch: u64, frames: Option<Vec<Frame>>) {
        self.raft.fetched(fetch, frames);
    }

    /// Frames that could not be read now; they are asked for again.
    pub fn handle_read_failed(&mut self, fetch: u64) {
        self.raft.fetch_failed(fetch);
    }

    /// Sends what may leave, and asks the disk for what followers lack.
    pub(super) fn send_to_peers(&mut self, effects: &mut Effects) {
        self.send_snapshots(effects);
        let quiesce = self.take_quiesce_messages();
        for message in self.raft.take_messages().into_iter().chain(quiesce) {
            // A member that a change has just removed needs to hear nothing.
            if let Some(node) = self.node_of(message.to) {
                effects.push(Effect::Send { node, message });
            }
        }
        let incarnation = self.incarnation;
        for Fetch { number: fetch, first, last, bytes_max, learner } in self.raft.take_fetches() {
            let copied_to = learner.and_then(|learner| self.node_of(learner));
            if let Some(node) = copied_to {
                let behind = self.raft.last().index.get().saturating_sub(first.get());
                let read = CopyRead { node, incarnation, fetch, first, last, behind };
                self.copy_reads.push(read);
            } else {
                effects.push(Effect::ReadFrames { incarnation, fetch, first, last, bytes_max });
            }
        }
    }

    /// Takes what learners wait for that the disk has: whoever asks decides when it is read.
    pub fn take_copy_reads(&mut self) -> Vec<CopyRead> {
        std::mem::take(&mut self.copy_reads)
    }

    pub(super) fn tell_leader(&mut self, effects: &mut Effects) {
        let (leader, term) = (self.raft.leader(), self.raft.term());
        if self.told_leader != Some((leader, term)) {
            self.told_leader = Some((leader, term));
            let leader = leader.and_then(|leader| self.node_of(leader));
            let incarnation = self.incarnation;
            effects.push(Effect::LeaderChanged { incarnation, leader, term });
        }
    }
}

/// A voter's turns to stand, after a start or after the leader's node was lost: a few in a row,
/// then one in every round of all voters. Who can be elected may be out of reach for the moment,
/// while links come up; raft's own clocks are slower than that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidacy {
    ticks_left: u32,
    attempts_left: u32,
    round_ticks: u32,
}

impl Candidacy {
    /// Ticks between two voters' turns: enough for an election.
    const TURN_TICKS: u32 = 3;
    /// Ticks from a start to the first voter's turn.
    const START_TICKS: u32 = 2;
    /// Others may hear of the loss a moment later, and refuse until then.
    const ATTEMPTS: u32 = 4;

    fn of_rank(rank: usize, voters: usize) -> Self {
        let turns =
            |count| u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(Self::TURN_TICKS);
        let (ticks_left, round_ticks) = (turns(rank), turns(voters));
        Self { ticks_left, attempts_left: Self::ATTEMPTS, round_ticks }
    }

    fn later_by(self, ticks: u32) -> Self {
        Self { ticks_left: self.ticks_left.saturating_add(ticks), ..self }
    }

    /// Counts a tick, or the moment of the loss; whether to stand now.
    fn is_due(&mut self) -> bool {
        if self.ticks_left > 0 {
            self.ticks_left -= 1;
            return false;
        }
        self.attempts_left -= 1;
        if self.attempts_left == 0 {
            (self.ticks_left, self.attempts_left) = (self.round_ticks - 1, 1);
        }
        true
    }
}
