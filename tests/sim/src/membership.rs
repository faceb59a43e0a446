//! Nodes beyond the founders, and what must hold of every group's configurations.
//!
//! ```text
//!   configuration ──(one step, or joint)──> the next one      a replica's id: one node, one life
//! ```
//!
//! Invariants: I17: the voters of two configurations in a row share a majority, or are joint; an id
//! of a replica is never used for another one, nor again behind its removal. I6 by configuration.
//!
//! Absent on purpose: which nodes come and go (`clients/operator`).

use crate::event::NodeAt;
use crate::node::Node;
use crate::plan::{FaultClass, Plan};
use crate::process::{Process, peers_address};
use crate::world::World;
use bateau_core::controller::Metadata;
use bateau_core::node::Voter;
use bateau_core::replica::membership::{Member, Membership};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, ReplicaId};
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that may join.
const SPARE_NODES: u64 = 2;
/// Configurations by which an ack is judged: it may come a change or two behind its commit.
const JUDGED_BY: usize = 3;

/// All nodes of a run; those beyond the founders are not run yet.
pub fn nodes(plan: &Plan) -> Vec<Node> {
    let spare = if plan.has(FaultClass::Membership) { SPARE_NODES } else { 0 };
    let node = |id| Node { is_out: id > plan.nodes, ..Node::new(id, plan.seed) };
    (1..=plan.nodes + spare).map(node).collect()
}

/// The configurations of one group.
#[derive(Debug, Default)]
pub struct GroupHistory {
    all: Vec<Membership>,
    homes: BTreeMap<ReplicaId, NodeId>,
    removed: BTreeSet<ReplicaId>,
}

impl GroupHistory {
    /// The next committed configuration.
    ///
    /// Errors: what does not hold, in words.
    pub fn note(&mut self, payload: &[u8]) -> Result<(), String> {
        let next = Membership::decode(payload).map_err(|error| error.to_string())?;
        if let Some(before) = self.all.last() {
            follows(before, &next)?;
        }
        for Member { replica_id, node_id } in next.members() {
            let home = *self.homes.entry(*replica_id).or_insert(*node_id);
            if home != *node_id {
                return Err(format!(
                    "replica {replica_id} is on node {node_id}, and was on {home}"
                ));
            }
            if self.removed.contains(replica_id) {
                return Err(format!("replica {replica_id} is back behind its removal"));
            }
        }
        self.all.push(next);
        Ok(())
    }

    /// Who votes by the newest configuration, and did not by the one before.
    fn new_voters(&self) -> impl Iterator<Item = Member> {
        let before = self.all.iter().rev().nth(1);
        let newest = before.and(self.all.last()).into_iter().flat_map(|newest| &newest.voters);
        let is_new = move |voter: &&Member| before.is_some_and(|one| !one.voters.contains(voter));
        newest.filter(is_new).copied()
    }

    /// A replica's tombstone has been acted upon.
    fn remove(&mut self, replica: ReplicaId) -> Result<(), String> {
        self.removed.insert(replica);
        match self.all.last().and_then(|newest| newest.member(replica)) {
            Some(_) => {
                Err(format!("replica {replica} is removed, and a member of {:?}", self.newest()))
            }
            None => Ok(()),
        }
    }

    fn has_removed_on(&self, node: NodeId) -> bool {
        self.removed.iter().any(|replica| self.homes.get(replica) == Some(&node))
    }

    /// The newest configuration.
    pub fn newest(&self) -> Option<&Membership> {
        self.all.last()
    }

    /// Whether a majority, of one of the newest configurations, is there.
    pub fn have_majority(&self, holds: impl Fn(NodeId) -> bool) -> bool {
        let has = |voters: &[Member]| {
            let count = voters.iter().filter(|voter| holds(voter.node_id)).count();
            voters.is_empty() || count > voters.len() / 2
        };
        let newest = self.all.iter().rev().take(JUDGED_BY);
        newest.into_iter().any(|one| has(&one.voters) && has(&one.outgoing))
    }
}

fn follows(before: &Membership, next: &Membership) -> Result<(), String> {
    let is_voter = |one: &Member, all: &[Member]| all.contains(one);
    let gone = before.voters.iter().filter(|one| !is_voter(one, &next.voters)).count();
    let new = next.voters.iter().filter(|one| !is_voter(one, &before.voters)).count();
    let is_right = match (before.is_joint(), next.is_joint()) {
        (true, _) => *next == before.left(),
        (false, true) => next.outgoing == before.voters,
        (false, false) => gone + new <= 1,
    };
    let is_right = is_right && next.assignment >= before.assignment;
    if is_right { Ok(()) } else { Err(format!("{next:?} follows {before:?}")) }
}

impl World {
    /// The nodes that the cluster begins with.
    pub fn founders(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().take(usize::try_from(self.plan.nodes).unwrap_or(3))
    }

    /// What a node's file names: the founders; where it came later, or its disk has been emptied,
    /// the members.
    pub(crate) fn voters_of(&self, n: NodeAt) -> Vec<Voter> {
        let voter = |node| Voter { node, address: peers_address(node).into() };
        let is_new = self.nodes[n].was_emptied || n >= self.founders().count();
        let metadata = self.newest_metadata().filter(|_| is_new);
        match metadata {
            Some(metadata) => metadata.members().map(|one| voter(one.founder.node)).collect(),
            None => self.founders().map(|node| voter(node.id)).collect(),
        }
    }

    /// Whether a node may be told that it is of no cluster: it comes without a permit, or has been
    /// removed.
    pub(crate) fn may_be_refused(&self, n: NodeAt) -> bool {
        let node = &self.nodes[n];
        let metadata = self.newest_metadata();
        let member = metadata.as_ref().and_then(|metadata| metadata.member(node.id));
        let is_known = member.is_some_and(|one| one.founder.founding_id == node.directory);
        // It may have come before it got its permit, and be refused by a node that is behind.
        let is_new = node.process.as_ref().is_none_or(|process| process.shard.is_none());
        self.plan.has(FaultClass::Membership) && (is_new || !is_known)
    }

    /// What the cluster knows of a node, in words.
    pub(crate) fn member_in_words(&self, n: NodeAt) -> String {
        let (node, metadata) = (&self.nodes[n], self.newest_metadata());
        let member = metadata.as_ref().and_then(|metadata| metadata.member(node.id));
        format!("{member:?}, directory {:?}", node.directory)
    }

    /// A configuration is committed: whoever gets a vote by it has had the log (D19).
    pub(crate) fn note_membership(&mut self, log: Incarnation, index: LogIndex, payload: &[u8]) {
        let groups = &mut self.checker.logs.entry(log).or_default().groups;
        if let Err(broken) = groups.note(payload) {
            return self.fail(format!("I17: {log:?} at index {index}: {broken}"));
        }
        let new: Vec<Member> = groups.new_voters().collect();
        for Member { replica_id, node_id } in new {
            self.count("mark: a learner becomes a voter");
            let node = self.place_of(node_id).map(|place| &self.nodes[place]);
            // What it had may have been lost since.
            if !node.is_some_and(|node| node.is_wiped || node.promises.has_had(log)) {
                let who = format!("replica {replica_id} on node {node_id}");
                self.fail(format!("I17: {log:?} at index {index}: {who} votes without any of it"));
            }
        }
    }

    /// A lost replica gives way to another one: what it promised, nobody keeps.
    pub(crate) fn note_quarantine(&mut self, n: NodeAt, process: &mut Process, log: Incarnation) {
        self.count("replicas replaced");
        process.readers.remove(&log);
        process.seen.remove(&log);
        process.isolated.remove(&log);
        if !self.nodes[n].is_corrupted {
            self.fail(format!("I16: {log:?} on node {} goes, and its disk is sound", n + 1));
        }
    }

    /// A removed replica's log goes, for its tombstone.
    pub(crate) fn check_removal(&mut self, n: NodeAt, process: &mut Process, log: Incarnation) {
        self.count("replicas removed");
        process.readers.remove(&log);
        process.seen.remove(&log);
        let id = self.nodes[n].id;
        let shard = process.shard();
        let removed = shard.and_then(|shard| removed_replica(shard.metadata()?, log, id));
        let metadata = shard.and_then(|shard| shard.metadata());
        let is_tombstone = metadata.is_some_and(|metadata| metadata.is_tombstone(log));
        let groups = &mut self.checker.logs.entry(log).or_default().groups;
        // A node that starts hears of it again, when it has confirmed it; and all of the partition
        // may have been deleted since.
        if removed.is_none() && (groups.has_removed_on(id) || is_tombstone) {
            return;
        }
        let Some(removed) = removed else {
            let name = n + 1;
            return self.fail(format!("I16: {log:?} on node {name} goes without a tombstone"));
        };
        if let Err(broken) = groups.remove(removed) {
            self.fail(format!("I17: {log:?}: {broken}"));
        }
    }
}

fn removed_replica(metadata: &Metadata, log: Incarnation, node: NodeId) -> Option<ReplicaId> {
    let mut removed = metadata.removed_replicas();
    removed.find(|(of, replica)| *of == log && replica.node == node).map(|(_, replica)| replica.id)
}
