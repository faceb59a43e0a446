//! Which replicas a partition has, is to have, and had: assignments and their end.
//!
//! ```text
//!   assigned ──> its group moves (the leader's business) ──> settled: what is not assigned any
//!                                                            more is removed ──> confirmed
//! ```
//!
//! An assignment counts at once: nodes that it names make their replicas, and the partition's
//! leader changes the group. Settled, by its leader's word, nobody but the assigned ones votes;
//! only then do the others get tombstones of their own. An assignment may be replaced by another
//! before it is settled, also by the one before: that cancels it.
//!
//! Invariants
//! - A replica's tombstone is committed after a configuration without it.
//! - A node that still has a removed replica of a partition gets no other of it.
//!
//! Absent on purpose: how a group changes (`replica::steering`).

use super::command::{Partition, Replica, Topic};
use super::event::MetadataEvent;
use super::metadata::{Metadata, Refusal};
use crate::codec::{DecodeError, Reader, Writer};
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId};
use std::sync::Arc;

/// An assignment that is not settled.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reassignment {
    /// The replicas that were settled last.
    pub before: Vec<Replica>,
    /// Replicas that assignments in between have named, and neither the present one nor the
    /// settled one names.
    pub abandoned: Vec<Replica>,
}

impl Partition {
    /// A partition that is born.
    #[must_use]
    pub fn born(incarnation: Incarnation, replicas: Vec<Replica>) -> Self {
        Self { incarnation, assignment: 0, replicas, reassignment: None }
    }

    /// Replicas that are not assigned any more, and may still be needed.
    pub fn leaving(&self) -> impl Iterator<Item = &Replica> {
        let former =
            self.reassignment.iter().flat_map(|one| one.before.iter().chain(&one.abandoned));
        former.filter(|one| !self.replicas.contains(one))
    }

    /// Assigned replicas that were not there before; none once the assignment is settled.
    pub fn adding(&self) -> impl Iterator<Item = &Replica> {
        let before = self.reassignment.as_ref().map(|one| &one.before);
        self.replicas.iter().filter(move |one| before.is_some_and(|all| !all.contains(one)))
    }

    /// Every replica that may hold something of the partition.
    pub fn holders(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().chain(self.leaving())
    }

    fn assign(&mut self, replicas: Vec<Replica>) {
        let mut open = self.reassignment.take().unwrap_or_else(|| Reassignment {
            before: self.replicas.clone(),
            abandoned: Vec::new(),
        });
        open.abandoned.extend(&self.replicas);
        open.abandoned.retain(|one| !open.before.contains(one) && !replicas.contains(one));
        open.abandoned.sort_unstable();
        open.abandoned.dedup();
        (self.assignment, self.replicas, self.reassignment) =
            (self.assignment + 1, replicas, Some(open));
    }

    pub(super) fn encode_state(&self, writer: &mut Writer) {
        writer.u64(self.incarnation.get());
        writer.u64(self.assignment);
        Replica::encode_all(&self.replicas, writer);
        writer.optional(self.reassignment.as_ref(), |writer, open| {
            Replica::encode_all(&open.before, writer);
            Replica::encode_all(&open.abandoned, writer);
        });
    }

    pub(super) fn decode_state(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            incarnation: Incarnation::new(reader.u64("incarnation")?),
            assignment: reader.u64("assignment")?,
            replicas: Replica::decode_all(reader)?,
            reassignment: reader.optional("reassignment", |reader, _| {
                let (before, abandoned) =
                    (Replica::decode_all(reader)?, Replica::decode_all(reader)?);
                Ok(Reassignment { before, abandoned })
            })?,
        })
    }
}

impl Metadata {
    /// The partition that an incarnation is of.
    #[must_use]
    pub fn partition(&self, incarnation: Incarnation) -> Option<&Partition> {
        let (topic, number) = self.partition_of(incarnation)?;
        topic.partition(number)
    }

    /// Partitions whose assignment is not settled.
    pub fn reassigned(&self) -> impl Iterator<Item = (&Arc<Topic>, u32, &Partition)> {
        let open = self.reassigned.iter();
        open.filter_map(|log| {
            let (topic, number) = self.partition_of(*log)?;
            Some((topic, number, topic.partition(number)?))
        })
    }

    /// Replicas that are removed, and whose nodes have not confirmed it.
    pub fn removed_replicas(&self) -> impl Iterator<Item = (Incarnation, Replica)> + '_ {
        let removed = self.removed_replicas.iter();
        removed.map(|((log, node), id)| (*log, Replica { id: *id, node: *node }))
    }

    /// Whether a node still has a removed replica of a partition.
    #[must_use]
    pub fn has_removed_replica(&self, log: Incarnation, node: NodeId) -> bool {
        self.removed_replicas.contains_key(&(log, node))
    }

    pub(super) fn assign(
        &mut self,
        log: Incarnation,
        replicas: Vec<Replica>,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        let present = self.partition(log).ok_or(Refusal::PartitionUnknown)?;
        let wanted = Partition { replicas, ..present.clone() };
        if !wanted.has_distinct_nodes() {
            return Err(Refusal::Malformed);
        }
        let mut next_replica_id = self.next_replica_id;
        for replica in &wanted.replicas {
            if present.holders().any(|holder| holder == replica) {
                continue;
            }
            if !self.members.contains_key(&replica.node) {
                return Err(Refusal::MemberUnknown);
            }
            if replica.id.get() < next_replica_id {
                return Err(Refusal::ReplicaIdTaken);
            }
            if self.has_removed_replica(log, replica.node) {
                return Err(Refusal::ReplicaStillHeld);
            }
            next_replica_id = replica.id.get().checked_add(1).ok_or(Refusal::ReplicaIdTaken)?;
        }
        self.next_replica_id = next_replica_id;
        self.change_partition(log, |partition| match partition.has_the_same(&wanted.replicas) {
            // Another order names another preferred leader, and nothing moves.
            true => partition.replicas = wanted.replicas,
            false => partition.assign(wanted.replicas),
        });
        self.note_reassigned(log);
        self.push_assigned(log, events);
        Ok(())
    }

    pub(super) fn settle(
        &mut self,
        log: Incarnation,
        assignment: u64,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        let present = self.partition(log).ok_or(Refusal::PartitionUnknown)?;
        if present.assignment != assignment || present.reassignment.is_none() {
            return Err(Refusal::AssignmentUnknown);
        }
        let leaving: Vec<Replica> = present.leaving().copied().collect();
        self.change_partition(log, |partition| partition.reassignment = None);
        self.note_reassigned(log);
        for replica in leaving {
            self.removed_replicas.insert((log, replica.node), replica.id);
            events.push(MetadataEvent::ReplicaRemoved { incarnation: log, replica });
        }
        self.push_assigned(log, events);
        Ok(())
    }

    /// Changes a partition, and what is known of its nodes.
    fn change_partition(&mut self, log: Incarnation, change: impl FnOnce(&mut Partition)) {
        let Some((topic, number)) = self.incarnations.get(&log).copied() else { return };
        let Some(name) = self.topic_names.get(&topic).cloned() else { return };
        let Some(mut topic) = self.topics.remove(&name) else { return };
        if let Some(partition) = Arc::make_mut(&mut topic).partitions.get_mut(number as usize) {
            self.forget_load(partition);
            change(partition);
            self.count_load(partition);
        }
        self.topics.insert(name, topic);
    }

    pub(super) fn count_load(&mut self, partition: &Partition) {
        for (place, replica) in partition.replicas.iter().enumerate() {
            let load = self.node_loads.entry(replica.node).or_default();
            load.replicas += 1;
            load.preferred += u32::from(place == 0);
        }
    }

    pub(super) fn forget_load(&mut self, partition: &Partition) {
        for (place, replica) in partition.replicas.iter().enumerate() {
            if let Some(load) = self.node_loads.get_mut(&replica.node) {
                load.replicas -= 1;
                load.preferred -= u32::from(place == 0);
                if load.replicas == 0 {
                    self.node_loads.remove(&replica.node);
                }
            }
        }
    }

    fn note_reassigned(&mut self, log: Incarnation) {
        let is_open = self.partition(log).is_some_and(|one| one.reassignment.is_some());
        match is_open {
            true => self.reassigned.insert(log),
            false => self.reassigned.remove(&log),
        };
    }

    fn push_assigned(&self, log: Incarnation, events: &mut Vec<MetadataEvent>) {
        events.extend(self.placement(log).map(MetadataEvent::PartitionAssigned));
    }

    /// A node has nothing of its removed replica any more.
    pub(super) fn confirm_replica_removed(&mut self, log: Incarnation, node: NodeId) {
        self.removed_replicas.remove(&(log, node));
    }

    /// A partition is deleted: who held anything of it, and what was to be removed is.
    pub(super) fn take_holders(&mut self, partition: &Partition) -> Vec<NodeId> {
        let log = partition.incarnation;
        self.reassigned.remove(&log);
        let removed: Vec<NodeId> = self
            .removed_replicas
            .extract_if((log, NodeId::ZERO)..=(log, NodeId::new(u64::MAX)), |_, _| true)
            .map(|((_, node), _)| node)
            .collect();
        partition.holders().map(|replica| replica.node).chain(removed).collect()
    }
}

impl Partition {
    fn has_the_same(&self, replicas: &[Replica]) -> bool {
        self.replicas.len() == replicas.len()
            && self.replicas.iter().all(|one| replicas.contains(one))
    }
}

impl Replica {
    pub(super) fn encode_all(replicas: &[Self], writer: &mut Writer) {
        writer.list(replicas.iter(), |writer, replica| {
            writer.u64(replica.id.get());
            writer.u64(replica.node.get());
        });
    }

    pub(super) fn decode_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, DecodeError> {
        reader.list("replicas", 16, |reader| {
            Ok(Self {
                id: ReplicaId::new(reader.u64("replica id")?),
                node: NodeId::new(reader.u64("replica's node id")?),
            })
        })
    }
}
