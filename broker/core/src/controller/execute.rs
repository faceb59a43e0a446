//! What each command does to the state.
//!
//! One function for each command; each either changes everything that it names and says `Done`,
//! or changes nothing and says why.
//!
//! Absent on purpose: policy (see `metadata`).

use std::collections::BTreeSet;
use std::sync::Arc;

use bateau_protocol::ids::{Incarnation, NodeId, TopicId};

use super::command::{ConfigOverrides, MetadataCommand, Partition, Topic};
use super::entropy::is_drawable;
use super::event::MetadataEvent;
use super::metadata::{
    CommandOutcome, Founding, Metadata, ProducerIdBlock, Refusal, fold_name, push_created,
};
use super::node::NodeRegistration;
use super::topic_config::TopicConfig;

/// Producer ids are positive `i64` on Kafka's wire.
const PRODUCER_ID_END: u64 = i64::MAX as u64;

impl Metadata {
    /// Does one command. Never fails: a contradiction is an outcome.
    pub(super) fn execute(
        &mut self,
        command: MetadataCommand,
        events: &mut Vec<MetadataEvent>,
    ) -> CommandOutcome {
        let outcome = match command {
            MetadataCommand::Found { cluster_id, feature_level, founders } => {
                self.found(Founding { cluster_id, feature_level, founders }, events)
            }
            _ if self.founding.is_none() => Err(Refusal::NotFounded),
            MetadataCommand::RegisterNode(registration) => self.register(registration, events),
            MetadataCommand::CreateTopic(topic) => self.create(topic, events),
            MetadataCommand::DeleteTopic { topic } => self.delete(topic, events),
            MetadataCommand::SetTopicConfigs { topic, configs } => {
                self.set_configs(topic, configs, events)
            }
            MetadataCommand::AllocateProducerIds { node: _, count } => {
                return self.allocate_producer_ids(count);
            }
            MetadataCommand::ConfirmRemoved { node, incarnations } => {
                self.confirm_removed(node, &incarnations);
                Ok(())
            }
            MetadataCommand::CreatePartitions { topic, partition_count_before, partitions } => {
                self.grow(topic, partition_count_before, partitions, events)
            }
            MetadataCommand::AssignReplicas { incarnation, replicas } => {
                self.assign(incarnation, replicas, events)
            }
            MetadataCommand::SettleReplicas { incarnation: Incarnation::METADATA, assignment } => {
                self.settle_quorum(assignment, events)
            }
            MetadataCommand::SettleReplicas { incarnation, assignment } => {
                self.settle(incarnation, assignment, events)
            }
            MetadataCommand::PermitNode { node, permit } => self.permit(node, permit),
            MetadataCommand::WithdrawPermit { node } => {
                self.permits.remove(&node).map(|_| ()).ok_or(Refusal::NotPermitted)
            }
            MetadataCommand::AdmitNode { founder, replica } => self.admit(founder, replica, events),
            MetadataCommand::SetStanding { node, standing } => self.set_standing(node, standing),
            MetadataCommand::RemoveNode { node } => self.remove_member(node, events),
            MetadataCommand::AssignQuorum { voters, learners } => {
                self.assign_quorum(voters, learners, events)
            }
        };
        outcome.map_or_else(CommandOutcome::Refused, |()| CommandOutcome::Done)
    }

    fn found(
        &mut self,
        founding: Founding,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        if self.founding.is_some() {
            return Err(Refusal::AlreadyFounded);
        }
        events.push(MetadataEvent::ClusterFounded {
            cluster_id: founding.cluster_id,
            feature_level: founding.feature_level,
        });
        self.begin_members(&founding.founders, events);
        self.founding = Some(Arc::new(founding));
        Ok(())
    }

    fn register(
        &mut self,
        registration: NodeRegistration,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        let node = registration.node;
        if !self.is_member(node, registration.directory) {
            return Err(Refusal::MemberUnknown);
        }
        let stale =
            self.nodes.get(&node).is_some_and(|known| !known.boot.admits(registration.boot));
        if stale {
            return Err(Refusal::StaleBoot);
        }
        self.nodes.insert(node, Arc::new(registration));
        events.push(MetadataEvent::NodeRegistered { node });
        Ok(())
    }

    fn create(&mut self, topic: Topic, events: &mut Vec<MetadataEvent>) -> Result<(), Refusal> {
        if self.topics.contains_key(&topic.name) || self.topic_names.contains_key(&topic.id) {
            return Err(Refusal::TopicExists);
        }
        let next_replica_id = self.check_partitions(&topic.partitions)?;
        self.next_replica_id = next_replica_id;
        push_created(&topic, 0, events);
        self.index_topic(&topic);
        self.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        Ok(())
    }

    fn grow(
        &mut self,
        id: TopicId,
        partition_count_before: u32,
        partitions: Vec<Partition>,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        let name = self.topic_names.get(&id).cloned().ok_or(Refusal::TopicUnknown)?;
        let topic = self.topics.get(&name).ok_or(Refusal::TopicUnknown)?;
        if topic.partition_count() != partition_count_before {
            return Err(Refusal::PartitionCount);
        }
        let next_replica_id = self.check_partitions(&partitions)?;
        self.next_replica_id = next_replica_id;
        self.index_partitions(id, partition_count_before, &partitions);
        let topic = self.topics.get_mut(&name).ok_or(Refusal::TopicUnknown)?;
        let topic = Arc::make_mut(topic);
        topic.partitions.extend(partitions);
        push_created(topic, partition_count_before, events);
        Ok(())
    }

    /// Checks the ids of new partitions (I-META-2, I-META-3) and returns the next free replica id.
    fn check_partitions(&self, partitions: &[Partition]) -> Result<u64, Refusal> {
        if partitions.is_empty() {
            return Err(Refusal::Malformed);
        }
        let mut next_replica_id = self.next_replica_id;
        let mut new_incarnations = BTreeSet::new();
        for partition in partitions {
            let taken = !is_drawable(partition.incarnation)
                || self.knows_incarnation(partition.incarnation)
                || !new_incarnations.insert(partition.incarnation);
            if taken {
                return Err(Refusal::IncarnationTaken);
            }
            if !partition.has_distinct_nodes() {
                return Err(Refusal::Malformed);
            }
            for replica in &partition.replicas {
                if !self.members.contains_key(&replica.node) {
                    return Err(Refusal::MemberUnknown);
                }
                if replica.id.get() < next_replica_id {
                    return Err(Refusal::ReplicaIdTaken);
                }
                next_replica_id = replica.id.get().checked_add(1).ok_or(Refusal::ReplicaIdTaken)?;
            }
        }
        Ok(next_replica_id)
    }

    fn delete(&mut self, id: TopicId, events: &mut Vec<MetadataEvent>) -> Result<(), Refusal> {
        let topic = self
            .topic_names
            .get(&id)
            .cloned()
            .and_then(|name| self.topics.remove(&name))
            .ok_or(Refusal::TopicUnknown)?;
        self.unindex_topic(&topic);
        for partition in &topic.partitions {
            let nodes: BTreeSet<NodeId> = self.take_holders(partition).into_iter().collect();
            events.push(MetadataEvent::PartitionDeleted {
                incarnation: partition.incarnation,
                nodes: nodes.iter().copied().collect(),
            });
            self.tombstones.insert(partition.incarnation, nodes);
        }
        events.push(MetadataEvent::TopicDeleted { topic: Arc::clone(&topic.name), topic_id: id });
        Ok(())
    }

    fn set_configs(
        &mut self,
        id: TopicId,
        configs: ConfigOverrides,
        events: &mut Vec<MetadataEvent>,
    ) -> Result<(), Refusal> {
        let topic = self
            .topic_names
            .get(&id)
            .and_then(|name| self.topics.get_mut(name))
            .ok_or(Refusal::TopicUnknown)?;
        let topic = Arc::make_mut(topic);
        topic.configs = configs;
        events.push(MetadataEvent::TopicConfigChanged {
            topic_id: id,
            topic: Arc::clone(&topic.name),
            incarnations: topic.partitions.iter().map(|each| each.incarnation).collect(),
            config: TopicConfig::from_overrides(&topic.configs),
        });
        Ok(())
    }

    fn allocate_producer_ids(&mut self, count: u32) -> CommandOutcome {
        let end = self.next_producer_id.saturating_add(count.into());
        if count == 0 || end > PRODUCER_ID_END {
            return CommandOutcome::Refused(Refusal::ProducerIds);
        }
        let block = ProducerIdBlock { first: self.next_producer_id, count };
        self.next_producer_id = end;
        CommandOutcome::ProducerIds(block)
    }

    fn confirm_removed(&mut self, node: NodeId, incarnations: &[Incarnation]) {
        for incarnation in incarnations {
            self.confirm_replica_removed(*incarnation, node);
            if let Some(nodes) = self.tombstones.get_mut(incarnation) {
                nodes.remove(&node);
                if nodes.is_empty() {
                    self.tombstones.remove(incarnation);
                }
            }
        }
    }

    /// Whether an incarnation lives or is a tombstone.
    pub(super) fn knows_incarnation(&self, incarnation: Incarnation) -> bool {
        self.incarnations.contains_key(&incarnation) || self.tombstones.contains_key(&incarnation)
    }

    /// Enters a topic into the derived indexes (I-META-4).
    pub(super) fn index_topic(&mut self, topic: &Topic) {
        self.topic_names.insert(topic.id, Arc::clone(&topic.name));
        self.folded_names.insert((fold_name(&topic.name), Arc::clone(&topic.name)));
        self.index_partitions(topic.id, 0, &topic.partitions);
    }

    fn index_partitions(&mut self, topic: TopicId, first: u32, partitions: &[Partition]) {
        for (number, partition) in (first..).zip(partitions) {
            self.incarnations.insert(partition.incarnation, (topic, number));
            if partition.reassignment.is_some() {
                self.reassigned.insert(partition.incarnation);
            }
            self.count_load(partition);
        }
    }

    fn unindex_topic(&mut self, topic: &Topic) {
        self.topic_names.remove(&topic.id);
        self.folded_names.remove(&(fold_name(&topic.name), Arc::clone(&topic.name)));
        for partition in &topic.partitions {
            self.incarnations.remove(&partition.incarnation);
            self.forget_load(partition);
        }
    }
}
