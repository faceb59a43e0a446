//! What the leader makes of requests about nodes and replicas.
//!
//! Invariants: nothing is begun that would take the majority from a partition, or its last copy,
//! as far as the controller knows who lives.
//!
//! Absent on purpose: carrying a departure to its end (`planner`).

use super::command::{MetadataCommand, Partition, Replica};
use super::decide::Draft;
use super::limits::{NODES_MAX, REASSIGNMENTS_OPEN_MAX, REPLICATION_FACTOR_MAX};
use super::members::{Permit, Standing};
use super::membership_request::{
    MembershipRequest, MembershipResponse, NodeError, Reassign, ReassignError,
};
use super::metadata::{CommandOutcome, Metadata};
use super::node::Founder;
use super::request::{AssignmentError, LimitError};
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId};
use std::collections::BTreeSet;

impl Draft<'_> {
    pub(super) fn decide_membership(&mut self, request: MembershipRequest) -> MembershipResponse {
        match request {
            MembershipRequest::Permit { node, permit } => {
                MembershipResponse::Permitted(self.permit_node(node, permit))
            }
            MembershipRequest::Admit { founder, former } => {
                MembershipResponse::Admitted(self.admit_node(founder, former))
            }
            MembershipRequest::SetStanding { node, standing } => {
                MembershipResponse::Standing(self.set_standing(node, standing))
            }
            MembershipRequest::Reassign(partitions) => {
                let results = partitions.iter().map(|one| self.reassign(one));
                MembershipResponse::Reassigned(results.collect())
            }
            MembershipRequest::Settle(settled) => {
                settled.into_iter().for_each(|(log, assignment)| self.settle(log, assignment));
                MembershipResponse::Settled
            }
            MembershipRequest::Renew(lost) => {
                lost.into_iter().for_each(|(log, replica)| self.renew(log, replica));
                MembershipResponse::Renewed
            }
            MembershipRequest::HandOver { .. } => MembershipResponse::HandedOver,
        }
    }

    fn permit_node(&mut self, node: NodeId, permit: Permit) -> Result<(), NodeError> {
        self.ahead.check_permit(node, permit, self.live)?;
        if self.ahead.permit_of(node) != Some(permit) {
            // One small command is far below the limit of a proposal; so below.
            let _ = self.submit(MetadataCommand::PermitNode { node, permit });
        }
        Ok(())
    }

    /// - `former`: the founding id that the node was a member by, if it has lost its votes: whoever
    ///   knows it needs no permit.
    fn admit_node(
        &mut self,
        founder: Founder,
        former: Option<[u8; 16]>,
    ) -> Result<ReplicaId, NodeError> {
        let node = founder.node;
        let known = self.ahead.member(node).map(|member| member.founder.founding_id);
        if known == Some(founder.founding_id)
            && let Some(replica) = self.ahead.quorum().replica_on(node)
        {
            return Ok(replica.id);
        }
        if former.is_some() && former == known {
            self.permit_node(node, Permit::Replace)?;
        }
        if let Some(permit) = self.ahead.permit_of(node) {
            // Whoever was away when it was given may be back.
            self.ahead.check_permit(node, permit, self.live)?;
        }
        let replica = ReplicaId::new(self.ahead.next_replica_id);
        match self.submit(MetadataCommand::AdmitNode { founder, replica }) {
            Ok(CommandOutcome::Done) => Ok(replica),
            _ => Err(NodeError::NotPermitted { node }),
        }
    }

    fn set_standing(&mut self, node: NodeId, standing: Standing) -> Result<(), NodeError> {
        if standing == Standing::Leaving
            && self.ahead.member(node).is_none()
            && self.ahead.permit_of(node).is_some()
        {
            let _ = self.submit(MetadataCommand::WithdrawPermit { node });
            return Ok(());
        }
        let member = self.ahead.member(node).ok_or(NodeError::NotMember { node })?;
        if member.standing == standing {
            return Ok(());
        }
        self.ahead.check_standing(node, standing, self.live)?;
        let _ = self.submit(MetadataCommand::SetStanding { node, standing });
        Ok(())
    }

    fn reassign(&mut self, wanted: &Reassign) -> Result<(), ReassignError> {
        let topic = self.ahead.topic(&wanted.topic).ok_or(ReassignError::UnknownPartition)?;
        let number =
            u32::try_from(wanted.partition).map_err(|_| ReassignError::UnknownPartition)?;
        let partition = topic.partition(number).ok_or(ReassignError::UnknownPartition)?.clone();
        let nodes = match (&wanted.nodes, &partition.reassignment) {
            (Some(nodes), _) => self.checked_nodes(number, nodes)?,
            (None, Some(open)) => open.before.iter().map(|one| one.node).collect(),
            (None, None) => return Err(ReassignError::NotMoving),
        };
        let log = partition.incarnation;
        let is_new = |node: &&NodeId| partition.holders().all(|held| held.node != **node);
        let mut new = nodes.iter().filter(is_new);
        if let Some(node) = new.find(|node| self.ahead.has_removed_replica(log, **node)) {
            return Err(ReassignError::StillHeld { node: *node });
        }
        match self.assign_nodes(&partition, &nodes) {
            true => Ok(()),
            false => Err(LimitError::RequestBytes.into()),
        }
    }

    fn checked_nodes(&self, partition: u32, nodes: &[i32]) -> Result<Vec<NodeId>, AssignmentError> {
        if nodes.is_empty() || nodes.len() > REPLICATION_FACTOR_MAX.into() {
            return Err(AssignmentError::NoReplica { partition });
        }
        let mut checked = Vec::with_capacity(nodes.len());
        for node in nodes {
            let unknown = AssignmentError::UnknownNode { node: *node };
            let id = u64::try_from(*node).map(NodeId::new).map_err(|_| unknown.clone())?;
            if !self.ahead.takes_replicas(id) {
                return Err(unknown);
            }
            if checked.contains(&id) {
                return Err(AssignmentError::RepeatedNode { node: id });
            }
            checked.push(id);
        }
        Ok(checked)
    }

    fn settle(&mut self, log: Incarnation, assignment: u64) {
        let quorum = self.ahead.quorum();
        let is_open = match log {
            Incarnation::METADATA => quorum.is_open && quorum.assignment == assignment,
            _ => self
                .ahead
                .partition(log)
                .is_some_and(|one| one.reassignment.is_some() && one.assignment == assignment),
        };
        if is_open {
            // What does not fit is said again.
            let command = MetadataCommand::SettleReplicas { incarnation: log, assignment };
            let _ = self.submit(command);
        }
    }

    fn renew(&mut self, log: Incarnation, replica: ReplicaId) {
        let Some(partition) = self.ahead.partition(log) else { return };
        let has_room = self.ahead.reassigned().count() < REASSIGNMENTS_OPEN_MAX;
        if !has_room || !partition.may_renew(replica) {
            return;
        }
        let mut replicas = partition.replicas.clone();
        let id = ReplicaId::new(self.ahead.next_replica_id);
        replicas.iter_mut().filter(|one| one.id == replica).for_each(|one| one.id = id);
        let command = MetadataCommand::AssignReplicas { incarnation: log, replicas };
        // What does not fit is asked for again.
        let _ = self.submit(command);
    }
}

impl Partition {
    /// Whether a lost replica may be replaced now: a majority of the voters must be left without
    /// it, and without any other that is being replaced.
    fn may_renew(&self, lost: ReplicaId) -> bool {
        if !self.replicas.iter().any(|one| one.id == lost) {
            return false;
        }
        if self.adding().any(|one| one.id == lost) {
            // It has no vote yet.
            return true;
        }
        let settled = self.reassignment.as_ref().map_or(&self.replicas, |open| &open.before);
        let is_renewed = |old: &&Replica| {
            self.replicas.iter().any(|new| new.node == old.node && new.id > old.id)
        };
        let gone = settled.iter().filter(is_renewed).count() + 1;
        settled.len() - gone.min(settled.len()) > settled.len() / 2
    }
}

impl Metadata {
    /// Whether a node with an empty directory may get a permit.
    ///
    /// - `live`: the members that are alive.
    ///
    /// Errors: [`NodeError`].
    pub fn check_permit(
        &self,
        node: NodeId,
        permit: Permit,
        live: &BTreeSet<NodeId>,
    ) -> Result<(), NodeError> {
        let is_member = self.member(node).is_some();
        match permit {
            Permit::Join if is_member => Err(NodeError::MemberExists { node }),
            Permit::Join if self.members().len() >= NODES_MAX => {
                Err(NodeError::TooManyNodes { limit: NODES_MAX })
            }
            Permit::Replace if !is_member => Err(NodeError::NotMember { node }),
            Permit::Replace if live.contains(&node) => Err(NodeError::Alive { node }),
            Permit::Join | Permit::Replace => Ok(()),
        }
    }

    /// Whether a member may be told to do something. Of one that leaves already: whether it can.
    ///
    /// - `live`: the members that are alive.
    ///
    /// Errors: [`NodeError`]. Cost: of leaving, a look at every partition.
    pub fn check_standing(
        &self,
        node: NodeId,
        standing: Standing,
        live: &BTreeSet<NodeId>,
    ) -> Result<(), NodeError> {
        if self.member(node).is_none() {
            return Err(NodeError::NotMember { node });
        }
        match standing {
            Standing::Leaving => self.check_departure(node, live),
            Standing::Serving | Standing::Draining => Ok(()),
        }
    }

    /// Whether every partition, and the metadata, can do without a node.
    fn check_departure(&self, node: NodeId, live: &BTreeSet<NodeId>) -> Result<(), NodeError> {
        if self.candidates().all(|one| one.node == node) {
            return Err(NodeError::LastMember { node });
        }
        let mut departure = Departure { node, only_copies: Vec::new(), minorities: Vec::new() };
        let (voters, _) = self.planned_quorum(live, &BTreeSet::from([node]));
        departure.look_at("the metadata", &self.quorum().voters, &voters, live);
        for (name, partition) in self.partitions_on(node) {
            let stays = |one: &&Replica| one.node != node;
            let mut left: Vec<Replica> = partition.replicas.iter().filter(stays).copied().collect();
            let taken: Vec<NodeId> = partition.replicas.iter().map(|one| one.node).collect();
            if let Some(node) = self.receiver(partition, &taken, live) {
                left.push(Replica { id: ReplicaId::ZERO, node });
            }
            departure.look_at(&name, &partition.replicas, &left, live);
        }
        departure.judge()
    }

    /// The partitions, internal ones too, that are assigned to a node, with their names.
    pub fn partitions_on(&self, node: NodeId) -> impl Iterator<Item = (String, &Partition)> {
        let all = self.topics.values().flat_map(|topic| {
            let named = move |(number, partition)| (format!("{}/{number}", topic.name), partition);
            topic.partitions.iter().enumerate().map(named)
        });
        all.filter(move |(_, one)| one.replicas.iter().any(|replica| replica.node == node))
    }
}

/// What stands against a node's departure.
struct Departure {
    node: NodeId,
    only_copies: Vec<String>,
    minorities: Vec<(String, usize, usize)>,
}

impl Departure {
    /// Looks at a group: its voters as they are, and as they would be.
    fn look_at(
        &mut self,
        name: &str,
        present: &[Replica],
        left: &[Replica],
        live: &BTreeSet<NodeId>,
    ) {
        let alive = |all: &[Replica]| all.iter().filter(|one| live.contains(&one.node)).count();
        if !present.iter().any(|one| live.contains(&one.node)) && present.len() == 1 {
            self.only_copies.push(name.to_owned());
        } else if alive(left) <= left.len() / 2 {
            self.minorities.push((name.to_owned(), alive(left), left.len()));
        } else if alive(present) <= present.len() / 2 {
            self.minorities.push((name.to_owned(), alive(present), present.len()));
        }
    }

    fn judge(self) -> Result<(), NodeError> {
        let node = self.node;
        if let Some(example) = self.only_copies.first().cloned() {
            return Err(NodeError::OnlyCopies {
                node,
                partitions: self.only_copies.len(),
                example,
            });
        }
        if let Some((example, live, replicas)) = self.minorities.first().cloned() {
            let partitions = self.minorities.len();
            return Err(NodeError::MajorityLost { node, partitions, example, live, replicas });
        }
        Ok(())
    }
}
