//! Who is of the cluster, who may come, and who votes on the metadata.
//!
//! ```text
//!   permit ──(an empty directory shows itself)──> member ──> leaving ──(holds nothing)──> former
//!                                                   │ ^
//!                                                   v │
//!                                                 draining
//! ```
//!
//! The founders are the first members. A node that takes the place of a lost one is the same member
//! with another directory: what the old one held is void, by the ids that were given until then.
//!
//! Invariants
//! - `I-META-6` Whoever holds a replica, or votes on the metadata, is a member.
//! - Every member is of the metadata's group, most of them without a vote.
//!
//! Absent on purpose: whether nodes live, and who should hold what (`planner`).

use super::command::{MetadataCommand, Replica};
use super::event::MetadataEvent;
use super::metadata::{Metadata, Refusal};
use super::node::Founder;
use crate::codec::{DecodeError, Reader, Writer};
use bateau_protocol::ids::{NodeId, ReplicaId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a node with an empty directory may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Permit {
    /// Become a member.
    Join,
    /// Take the place of a member whose directory is lost.
    Replace,
}

/// What a member is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Standing {
    /// Hold and lead what it is given.
    #[default]
    Serving,
    /// Lead nothing, as far as others can.
    Draining,
    /// Give away what it holds, and then be no member any more.
    Leaving,
}

/// One node of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The node, its directory, and where it was first met.
    pub founder: Founder,
    /// Replicas on it with lower ids were lost with the directory before.
    pub void_below: ReplicaId,
    /// What it is to do.
    pub standing: Standing,
}

/// The replicas of the metadata partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Quorum {
    /// How often others were assigned.
    pub assignment: u64,
    /// Who votes.
    pub voters: Vec<Replica>,
    /// Who follows without a vote.
    pub learners: Vec<Replica>,
    /// Whether it waits for its leader's word.
    pub is_open: bool,
}

impl Quorum {
    /// Everybody of it.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.voters.iter().chain(&self.learners)
    }

    /// The replica on a node.
    #[must_use]
    pub fn replica_on(&self, node: NodeId) -> Option<Replica> {
        self.replicas().find(|replica| replica.node == node).copied()
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u64(self.assignment);
        Replica::encode_all(&self.voters, writer);
        Replica::encode_all(&self.learners, writer);
        writer.flag(self.is_open);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            assignment: reader.u64("quorum's assignment")?,
            voters: Replica::decode_all(reader)?,
            learners: Replica::decode_all(reader)?,
            is_open: reader.flag("open quorum")?,
        })
    }
}

impl Permit {
    pub(super) fn encode(self, writer: &mut Writer) {
        writer.flag(self == Self::Replace);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if reader.flag("permit")? { Self::Replace } else { Self::Join })
    }
}

impl Standing {
    pub(super) fn encode(self, writer: &mut Writer) {
        writer.u8(match self {
            Self::Serving => 0,
            Self::Draining => 1,
            Self::Leaving => 2,
        });
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8("standing")? {
            0 => Ok(Self::Serving),
            1 => Ok(Self::Draining),
            2 => Ok(Self::Leaving),
            other => Err(reader.invalid("standing", other.into(), "0, 1 or 2")),
        }
    }
}

impl Member {
    pub(super) fn encode(&self, writer: &mut Writer) {
        self.founder.encode(writer);
        writer.u64(self.void_below.get());
        self.standing.encode(writer);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            founder: Founder::decode(reader)?,
            void_below: ReplicaId::new(reader.u64("first valid replica id")?),
            standing: Standing::decode(reader)?,
        })
    }

    /// Whether a replica on this member was lost with a directory before the present one.
    #[must_use]
    pub fn has_lost(&self, replica: ReplicaId) -> bool {
        replica < self.void_below
    }
}

impl Metadata {
    /// The members, by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Arc<Member>> {
        self.members.values()
    }

    /// One member.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node).map(Arc::as_ref)
    }

    /// Whether a node with this directory is a member. A founder that nobody had met at the
    /// founding is one with any.
    #[must_use]
    pub fn is_member(&self, node: NodeId, directory: [u8; 16]) -> bool {
        self.member(node).is_some_and(|member| member.founder.has(directory))
    }

    /// What a node with an empty directory may do.
    #[must_use]
    pub fn permit_of(&self, node: NodeId) -> Option<Permit> {
        self.permits.get(&node).copied()
    }

    /// Nodes that have not come yet, with what they may do.
    pub fn permits(&self) -> impl Iterator<Item = (NodeId, Permit)> + '_ {
        self.permits.iter().map(|(node, permit)| (*node, *permit))
    }

    /// The id of the directory with which a node was a member before it was removed, or replaced.
    #[must_use]
    pub fn former_member(&self, node: NodeId) -> Option<[u8; 16]> {
        self.former_members.get(&node).copied()
    }

    /// The replicas of the metadata partition.
    #[must_use]
    pub const fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// The commands by which these members are strangers in their present directories: each comes
    /// back as one that was replaced.
    ///
    /// - `directory`: draws a random founding id, which nobody has.
    pub fn give_up(
        &self,
        nodes: &[NodeId],
        mut directory: impl FnMut() -> [u8; 16],
    ) -> Vec<MetadataCommand> {
        let members = nodes.iter().filter_map(|node| self.member(*node));
        let permit = Permit::Replace;
        let given_up = (self.next_replica_id..).zip(members).flat_map(|(replica, member)| {
            let founder = Founder { founding_id: directory(), ..member.founder.clone() };
            let (node, replica) = (founder.node, ReplicaId::new(replica));
            let admitted = MetadataCommand::AdmitNode { founder, replica };
            [MetadataCommand::PermitNode { node, permit }, admitted]
        });
        given_up.collect()
    }

    pub(super) fn begin_members(&mut self, founders: &[Founder], events: &mut Vec<MetadataEvent>) {
        for founder in founders {
            let (void_below, standing) = (ReplicaId::ZERO, Standing::Serving);
            let member = Member { founder: founder.clone(), void_below, standing };
            self.members.insert(founder.node, Arc::new(member));
            let id = ReplicaId::new(founder.node.get());
            self.quorum.voters.push(Replica { id, node: founder.node });
        }
        events.push(MetadataEvent::QuorumAssigned);
    }

    pub(super) fn permit(&mut self, node: NodeId, permit: Permit) -> Result<(), Refusal> {
        match (permit, self.members.contains_key(&node)) {
            (Permit::Join, true) => return Err(Refusal::MemberExists),
            (Permit::Replace, false) => return Err(Refusal::MemberUnknown),
            (Permit::Join, false) | (Permit::Replace, true) => {}
        }
        self.permits.insert(node, permit);
        Ok(())
    }

    pub(super) fn admit(
        &mut self,
        founder: Founder,
        replica: ReplicaId,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        let node = founder.node;
        let permit = self.permits.get(&node).copied().ok_or(Refusal::NotPermitted)?;
        if self.former_member(node) == Some(founder.founding_id) {
            return Err(Refusal::FormerDirectory);
        }
        if replica.get() < self.next_replica_id {
            return Err(Refusal::ReplicaIdTaken);
        }
        self.next_replica_id = replica.get().checked_add(1).ok_or(Refusal::ReplicaIdTaken)?;
        self.permits.remove(&node);
        let present = self.member(node).map(|member| member.founder.founding_id);
        if let Some(present) = present.filter(|present| *present != founder.founding_id) {
            self.former_members.insert(node, present);
        }
        let standing = self.member(node).map_or(Standing::Serving, |member| member.standing);
        let void_below = match permit {
            Permit::Join => ReplicaId::ZERO,
            Permit::Replace => ReplicaId::new(replica.get()),
        };
        self.members.insert(node, Arc::new(Member { founder, void_below, standing }));
        // Its starts are counted anew, and nothing is left of what it was to remove.
        self.nodes.remove(&node);
        self.forget_removals_of(node);
        let replica = Replica { id: replica, node };
        let Quorum { mut voters, mut learners, .. } = self.quorum.clone();
        let old = voters.iter_mut().chain(&mut learners).find(|one| one.node == node);
        match old {
            Some(old) => *old = replica,
            None => learners.push(replica),
        }
        events.push(MetadataEvent::NodeAdmitted { node });
        self.put_quorum(voters, learners, events);
        Ok(())
    }

    pub(super) fn set_standing(&mut self, node: NodeId, standing: Standing) -> Result<(), Refusal> {
        let member = self.members.get_mut(&node).ok_or(Refusal::MemberUnknown)?;
        Arc::make_mut(member).standing = standing;
        Ok(())
    }

    pub(super) fn remove_member(
        &mut self,
        node: NodeId,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        if !self.members.contains_key(&node) {
            return Err(Refusal::MemberUnknown);
        }
        if self.logs_on(node).next().is_some() || self.quorum.replica_on(node).is_some() {
            return Err(Refusal::MemberInUse);
        }
        if let Some(member) = self.members.remove(&node) {
            self.former_members.insert(node, member.founder.founding_id);
        }
        self.permits.remove(&node);
        self.nodes.remove(&node);
        self.forget_removals_of(node);
        events.push(MetadataEvent::NodeRemoved { node });
        Ok(())
    }

    /// A directory is gone, and with it all that its node was to remove.
    fn forget_removals_of(&mut self, node: NodeId) {
        self.removed_replicas.retain(|(_, of), _| *of != node);
        self.tombstones.retain(|_, nodes| {
            nodes.remove(&node);
            !nodes.is_empty()
        });
    }

    pub(super) fn assign_quorum(
        &mut self,
        voters: Vec<Replica>,
        learners: Vec<Replica>,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        let is_present = |replica: &Replica| self.quorum.replicas().any(|one| one == replica);
        let all = voters.iter().chain(&learners);
        let nodes: std::collections::BTreeSet<NodeId> = all.clone().map(|one| one.node).collect();
        if voters.is_empty() || nodes.len() != voters.len() + learners.len() {
            return Err(Refusal::Malformed);
        }
        if !all.clone().all(is_present) {
            return Err(Refusal::ReplicaIdTaken);
        }
        self.put_quorum(voters, learners, events);
        Ok(())
    }

    fn put_quorum(
        &mut self,
        voters: Vec<Replica>,
        learners: Vec<Replica>,
        events: &mut Vec<MetadataEvent>,
    ) {
        let assignment = self.quorum.assignment + 1;
        self.quorum = Quorum { assignment, voters, learners, is_open: true };
        events.push(MetadataEvent::QuorumAssigned);
    }

    pub(super) fn settle_quorum(
        &mut self,
        assignment: u64,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        if self.quorum.assignment != assignment || !self.quorum.is_open {
            return Err(Refusal::AssignmentUnknown);
        }
        self.quorum.is_open = false;
        events.push(MetadataEvent::QuorumAssigned);
        Ok(())
    }
}
