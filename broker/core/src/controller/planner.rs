//! What the leading controller does of its own accord, so that replicas are where they should be.
//!
//! ```text
//!   members, their standing, who lives ──> quorum ──┐
//!                    lost directories ──> new ids ──┼──> assignments, a bounded number at a time
//!                  members on their way out ──> away┤
//!                internal partitions with few copies┘
//!   a member on its way out that holds nothing ──> no member any more
//! ```
//!
//! It looks at the look-ahead alone and says only what is not yet as it should be, so that it may
//! be asked at any time, by any leader, again and again.
//!
//! Invariants
//! - Voters on the metadata are odd in number and at most [`QUORUM_VOTERS_MAX`].
//! - Nothing is given to a node that does not live, but for what it had.
//! - At most [`REASSIGNMENTS_OPEN_MAX`] assignments are open by its own will.
//!
//! Absent on purpose: giving a member's replicas to others because it has been silent: it may come
//! back, and an operator says so if it does not (`bateau node remove`, `bateau node replace`).

use super::command::{MetadataCommand, Partition, Replica};
use super::decide::Draft;
use super::limits::{QUORUM_VOTERS_MAX, REASSIGNMENTS_OPEN_MAX};
use super::members::Standing;
use super::metadata::Metadata;
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId};
use std::collections::BTreeSet;

/// Who votes on the metadata, and who follows.
type QuorumParts = (Vec<Replica>, Vec<Replica>);

impl Draft<'_> {
    /// Makes the commands of the next steps; none where everything is as it should be.
    pub(super) fn plan(&mut self) {
        let live = self.live;
        self.plan_quorum(live);
        let open = self.ahead.reassigned().count();
        let mut left = REASSIGNMENTS_OPEN_MAX.saturating_sub(open);
        self.renew_lost(&mut left);
        self.move_away(live, &mut left);
        self.copy_groups(live, &mut left);
        self.let_go();
    }

    fn plan_quorum(&mut self, live: &BTreeSet<NodeId>) {
        let quorum = self.ahead.quorum();
        if quorum.is_open {
            return;
        }
        let (voters, learners) = self.ahead.planned_quorum(live, &BTreeSet::new());
        let are_same = |one: &[Replica], other: &[Replica]| {
            one.len() == other.len() && one.iter().all(|replica| other.contains(replica))
        };
        if !are_same(&voters, &quorum.voters) || !are_same(&learners, &quorum.learners) {
            // One command of a few members is far below the limit of a proposal.
            let _ = self.submit(MetadataCommand::AssignQuorum { voters, learners });
        }
    }

    /// Replicas that were lost with a directory get new ids, on the same node.
    fn renew_lost(&mut self, left: &mut usize) {
        if self.ahead.members().all(|member| member.void_below == ReplicaId::ZERO) {
            return;
        }
        let has_lost = |ahead: &Metadata, one: &Partition| ahead.has_lost_replica(one);
        for partition in self.ahead.first_partitions(*left, has_lost) {
            *left -= 1;
            let nodes: Vec<NodeId> = partition.replicas.iter().map(|one| one.node).collect();
            self.assign_nodes(&partition, &nodes);
        }
    }

    /// Members on their way out hand their replicas on: to whoever has fewest, else to nobody.
    fn move_away(&mut self, live: &BTreeSet<NodeId>, left: &mut usize) {
        if self.ahead.members().all(|member| member.standing != Standing::Leaving) {
            return;
        }
        let concerned = |ahead: &Metadata, one: &Partition| {
            let is_leaving = |replica: &Replica| !ahead.takes_replicas(replica.node);
            one.reassignment.is_none() && one.replicas.iter().any(is_leaving)
        };
        for partition in self.ahead.first_partitions(*left, concerned) {
            if let Some(nodes) = self.ahead.nodes_without_leaving(&partition, live) {
                *left -= 1;
                self.assign_nodes(&partition, &nodes);
            }
        }
    }

    /// The internal partitions gain replicas as nodes join, from three nodes on: two copies would
    /// need both nodes.
    fn copy_groups(&mut self, live: &BTreeSet<NodeId>, left: &mut usize) {
        let members = self.ahead.candidates().count();
        if members < 3 {
            return;
        }
        let wanted = usize::from(self.settings.replication_factor(members)).min(members);
        let internal = self.ahead.group_topic().map(|topic| topic.partitions.clone());
        for partition in internal.unwrap_or_default() {
            if partition.reassignment.is_some() || partition.replicas.len() >= wanted {
                continue;
            }
            let mut nodes: Vec<NodeId> = partition.replicas.iter().map(|one| one.node).collect();
            while nodes.len() < wanted
                && let Some(node) = self.ahead.receiver(&partition, &nodes, live)
            {
                nodes.push(node);
            }
            if nodes.len() == wanted && *left > 0 {
                *left -= 1;
                self.assign_nodes(&partition, &nodes);
            }
        }
    }

    /// Members on their way out that hold nothing any more are members no more.
    fn let_go(&mut self) {
        let quorum = self.ahead.quorum();
        let is_free = |node: NodeId| {
            let is_out = quorum.replica_on(node).is_none() && !quorum.is_open;
            is_out && self.ahead.logs_on(node).next().is_none()
        };
        let leaving = self.ahead.members().filter(|one| one.standing == Standing::Leaving);
        let nodes = leaving.map(|member| member.founder.node).filter(|node| is_free(*node));
        for node in nodes.collect::<Vec<_>>() {
            let _ = self.submit(MetadataCommand::RemoveNode { node });
        }
    }

    /// Assigns a partition to these nodes: whoever holds it keeps its replica, unless that is lost.
    /// Returns whether the request has room for it.
    pub(super) fn assign_nodes(&mut self, partition: &Partition, nodes: &[NodeId]) -> bool {
        let mut next_replica_id = self.ahead.next_replica_id;
        let replicas = nodes.iter().map(|node| {
            let held = partition.holders().find(|one| one.node == *node);
            held.copied().filter(|one| !self.ahead.is_lost(one)).unwrap_or_else(|| {
                next_replica_id += 1;
                Replica { id: ReplicaId::new(next_replica_id - 1), node: *node }
            })
        });
        let replicas = replicas.collect();
        let incarnation = partition.incarnation;
        self.submit(MetadataCommand::AssignReplicas { incarnation, replicas }).is_ok()
    }
}

impl Metadata {
    /// Whether this replica was lost with a directory of its node.
    #[must_use]
    pub fn is_lost(&self, replica: &Replica) -> bool {
        self.member(replica.node).is_none_or(|member| member.has_lost(replica.id))
    }

    fn has_lost_replica(&self, partition: &Partition) -> bool {
        partition.replicas.iter().any(|replica| self.is_lost(replica))
    }

    /// The first partitions of which this holds. Cost: a look at every partition.
    fn first_partitions(
        &self,
        count: usize,
        holds: impl Fn(&Self, &Partition) -> bool,
    ) -> Vec<Partition> {
        let all = self.topics.values().flat_map(|topic| &topic.partitions);
        all.filter(|partition| holds(self, partition)).take(count).cloned().collect()
    }

    /// The member that holds least of those that may take a replica of `partition`.
    ///
    /// - `taken`: nodes that have one already, or will.
    pub(super) fn receiver(
        &self,
        partition: &Partition,
        taken: &[NodeId],
        live: &BTreeSet<NodeId>,
    ) -> Option<NodeId> {
        let log: Incarnation = partition.incarnation;
        let may = |node: &NodeId| {
            live.contains(node) && !taken.contains(node) && !self.has_removed_replica(log, *node)
        };
        let free = self.candidates().filter(|candidate| may(&candidate.node));
        free.min_by_key(|one| (one.load.replicas, one.node)).map(|one| one.node)
    }

    /// The nodes of a partition with others in the places of those that leave; without them where
    /// there are no others. `None` where nobody would be left.
    pub(super) fn nodes_without_leaving(
        &self,
        partition: &Partition,
        live: &BTreeSet<NodeId>,
    ) -> Option<Vec<NodeId>> {
        let mut taken: Vec<NodeId> = partition.replicas.iter().map(|one| one.node).collect();
        let mut nodes = Vec::new();
        for replica in &partition.replicas {
            if self.takes_replicas(replica.node) {
                nodes.push(replica.node);
            } else if let Some(node) = self.receiver(partition, &taken, live) {
                taken.push(node);
                nodes.push(node);
            }
        }
        (!nodes.is_empty()).then_some(nodes)
    }

    /// Who should vote on the metadata: those who do, then members that live; an odd number of
    /// them. Whoever leaves goes when it holds nothing else.
    ///
    /// - `without`: members that count as leaving.
    pub(super) fn planned_quorum(
        &self,
        live: &BTreeSet<NodeId>,
        without: &BTreeSet<NodeId>,
    ) -> QuorumParts {
        let quorum = self.quorum();
        let stays = |one: &&Replica| self.takes_replicas(one.node) && !without.contains(&one.node);
        let is_dead = |one: &Replica| !live.contains(&one.node);
        let mut voters: Vec<Replica> = quorum.voters.iter().filter(stays).copied().collect();
        voters.sort_by_key(|one| (is_dead(one), one.node));
        let learners = quorum.learners.iter().filter(stays).filter(|one| !is_dead(one));
        let mut joining: Vec<Replica> = learners.copied().collect();
        joining.sort_by_key(|one| one.node);
        voters.extend(joining);
        let odd = voters.len().min(QUORUM_VOTERS_MAX);
        voters.truncate(if odd.is_multiple_of(2) { odd.max(2) - 1 } else { odd });
        if voters.is_empty() {
            return (quorum.voters.clone(), quorum.learners.clone());
        }
        let still_needed = |one: &&Replica| {
            let holds = self.logs_on(one.node).next().is_some();
            !voters.contains(one) && (holds || stays(one))
        };
        let learners = quorum.replicas().filter(still_needed).copied().collect();
        (voters, learners)
    }
}
