//! From a topic that a client wants to a topic that can be: every rule of CreateTopics.
//!
//! The order of the checks is Kafka's, so that a request with two faults gets the same error:
//! name, existence, collision, configs, then counts or assignment, then limits.
//!
//! Absent on purpose: duplicates within a request, which `leader` sorts out before it comes here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId};

use super::broker_config::BrokerSettings;
use super::command::{ConfigOverrides, Partition, Replica, Topic};
use super::entropy::{Entropy, draw_incarnation, draw_topic_id};
use super::limits::{PARTITIONS_PER_TOPIC_MAX, REPLICATION_FACTOR_MAX, TOPICS_MAX};
use super::members::Standing;
use super::metadata::Metadata;
use super::placement::{Candidate, place};
use super::request::{AssignmentError, CreateTopicError, LimitError, NewTopic};
use super::topic_config::check_overrides;
use super::topic_name::{check_topic_name, is_reserved_topic_name};

/// Plans new topics against a state.
pub(super) struct TopicPlanner<'a> {
    /// What will be once everything proposed is applied.
    pub ahead: &'a Metadata,
    /// The cluster's defaults.
    pub settings: &'a BrokerSettings,
    /// Where ids come from.
    pub entropy: &'a mut dyn Entropy,
    /// Partitions that the request may still create.
    pub partitions_left: u32,
}

impl TopicPlanner<'_> {
    /// Decides about one topic.
    pub(super) fn plan(&mut self, new: &NewTopic) -> Result<Topic, CreateTopicError> {
        self.check_name(&new.name)?;
        check_overrides(&new.configs)?;
        let placement = match new.assignments.is_empty() {
            true => self.place_automatically(new)?,
            false => self.place_as_assigned(new)?,
        };
        let configs = new
            .configs
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().into(), value.as_deref()?.into())))
            .collect();
        self.assemble(new.name.as_str().into(), false, configs, placement)
    }

    fn check_name(&self, name: &str) -> Result<(), CreateTopicError> {
        if is_reserved_topic_name(name) {
            return Err(CreateTopicError::ReservedName { name: name.to_owned() });
        }
        check_topic_name(name)?;
        if self.ahead.topic(name).is_some() {
            return Err(CreateTopicError::AlreadyExists { name: name.to_owned() });
        }
        if let Some(existing) = self.ahead.colliding_topic(name) {
            let existing = Arc::clone(existing);
            return Err(CreateTopicError::NameCollides { name: name.to_owned(), existing });
        }
        match self.ahead.topics.len() < TOPICS_MAX {
            true => Ok(()),
            false => Err(LimitError::Topics.into()),
        }
    }

    fn place_automatically(&self, new: &NewTopic) -> Result<Vec<Vec<NodeId>>, CreateTopicError> {
        let replication_factor = self.replication_factor(new.replication_factor)?;
        let partition_count = match new.partition_count {
            -1 => self.settings.partitions_default,
            count => u32::try_from(count).ok().filter(|count| *count > 0).ok_or(
                CreateTopicError::InvalidPartitions {
                    found: count.into(),
                    limit: PARTITIONS_PER_TOPIC_MAX,
                },
            )?,
        };
        self.check_partition_count(partition_count)?;
        let candidates: Vec<Candidate> = self.ahead.candidates().collect();
        place(&[], &candidates, partition_count, replication_factor)
            .ok_or(LimitError::ReplicasPerNode.into())
    }

    /// Turns what was asked for into a number of replicas that the nodes can hold.
    fn replication_factor(&self, asked: i16) -> Result<u16, CreateTopicError> {
        let nodes = self.ahead.candidates().count();
        let limit = nodes.min(REPLICATION_FACTOR_MAX.into());
        let invalid = |found| CreateTopicError::InvalidReplicationFactor { found, limit };
        let factor = match asked {
            -1 => self.settings.replication_factor(nodes),
            _ => u16::try_from(asked).map_err(|_| invalid(asked.into()))?,
        };
        match (1..=limit).contains(&factor.into()) {
            true => Ok(factor),
            false => Err(invalid(factor.into())),
        }
    }

    fn check_partition_count(&self, count: u32) -> Result<(), LimitError> {
        self.check_grown_count(count, count)
    }

    /// Whether a topic may have `count` partitions, `added` of them by this request.
    pub(super) fn check_grown_count(&self, count: u32, added: u32) -> Result<(), LimitError> {
        if count > PARTITIONS_PER_TOPIC_MAX {
            return Err(LimitError::PartitionsPerTopic);
        }
        match added <= self.partitions_left {
            true => Ok(()),
            false => Err(LimitError::PartitionsPerRequest),
        }
    }

    fn place_as_assigned(&self, new: &NewTopic) -> Result<Vec<Vec<NodeId>>, CreateTopicError> {
        if new.partition_count != -1 || new.replication_factor != -1 {
            return Err(CreateTopicError::AssignmentAndCounts);
        }
        let count = u32::try_from(new.assignments.len()).unwrap_or(u32::MAX);
        self.check_partition_count(count)?;
        let assigned: BTreeMap<i64, &[i32]> = new
            .assignments
            .iter()
            .map(|assignment| (assignment.partition.into(), assignment.nodes.as_slice()))
            .collect();
        let placement = (0..count)
            .map(|partition| {
                let nodes = assigned
                    .get(&partition.into())
                    .ok_or(AssignmentError::NotConsecutive { missing: partition })?;
                self.check_assigned_nodes(partition, nodes)
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.check_assigned_sizes(&placement)?;
        Ok(placement)
    }

    fn check_assigned_nodes(
        &self,
        partition: u32,
        nodes: &[i32],
    ) -> Result<Vec<NodeId>, AssignmentError> {
        if nodes.is_empty() {
            return Err(AssignmentError::NoReplica { partition });
        }
        let mut seen = BTreeSet::new();
        nodes
            .iter()
            .map(|number| {
                let node = u64::try_from(*number).map(NodeId::new).ok();
                let node = node
                    .filter(|node| self.ahead.takes_replicas(*node))
                    .ok_or(AssignmentError::UnknownNode { node: *number })?;
                match seen.insert(node) {
                    true => Ok(node),
                    false => Err(AssignmentError::RepeatedNode { node }),
                }
            })
            .collect()
    }

    /// Equal numbers of replicas, not too many of them, and room for them.
    fn check_assigned_sizes(&self, placement: &[Vec<NodeId>]) -> Result<(), CreateTopicError> {
        let expected = placement.first().map_or(0, Vec::len);
        if expected > REPLICATION_FACTOR_MAX.into() {
            return Err(CreateTopicError::InvalidReplicationFactor {
                found: i32::try_from(expected).unwrap_or(i32::MAX),
                limit: REPLICATION_FACTOR_MAX.into(),
            });
        }
        let mut added: BTreeMap<NodeId, u32> = BTreeMap::new();
        for (partition, nodes) in (0..).zip(placement) {
            if nodes.len() != expected {
                let found = nodes.len();
                return Err(AssignmentError::UnequalReplicas { partition, found, expected }.into());
            }
            for node in nodes {
                *added.entry(*node).or_default() += 1;
            }
        }
        let fits = added.iter().all(|(node, added)| {
            let held = self.ahead.load_of(*node).replicas;
            held.saturating_add(*added) <= super::limits::REPLICAS_PER_NODE_MAX
        });
        if fits { Ok(()) } else { Err(LimitError::ReplicasPerNode.into()) }
    }

    /// Gives ids to a placement.
    pub(super) fn assemble(
        &mut self,
        name: Arc<str>,
        internal: bool,
        configs: ConfigOverrides,
        placement: Vec<Vec<NodeId>>,
    ) -> Result<Topic, CreateTopicError> {
        let ahead = self.ahead;
        let id = draw_topic_id(self.entropy, |id| ahead.topic_names.contains_key(&id))
            .ok_or(CreateTopicError::NoFreeId)?;
        let partitions = self.assemble_partitions(placement).ok_or(CreateTopicError::NoFreeId)?;
        Ok(Topic { name, id, internal, configs, partitions })
    }

    /// Gives ids to placed partitions; `None` where no free id is drawn.
    pub(super) fn assemble_partitions(
        &mut self,
        placement: Vec<Vec<NodeId>>,
    ) -> Option<Vec<Partition>> {
        let ahead = self.ahead;
        let mut next_replica_id = ahead.next_replica_id;
        let mut drawn: BTreeSet<Incarnation> = BTreeSet::new();
        let mut partitions = Vec::with_capacity(placement.len());
        for nodes in placement {
            let taken = |each| ahead.knows_incarnation(each) || drawn.contains(&each);
            let incarnation = draw_incarnation(self.entropy, taken)?;
            drawn.insert(incarnation);
            let replicas = (next_replica_id..).zip(nodes);
            let replicas: Vec<Replica> =
                replicas.map(|(id, node)| Replica { id: ReplicaId::new(id), node }).collect();
            next_replica_id += replicas.len() as u64;
            partitions.push(Partition::born(incarnation, replicas));
        }
        Some(partitions)
    }
}

impl Metadata {
    /// Whether a node may be given replicas: a member that is not on its way out. It need not have
    /// registered: a topic that is made while a cluster starts has as many replicas as one that is
    /// made later.
    pub(super) fn takes_replicas(&self, node: NodeId) -> bool {
        self.member(node).is_some_and(|member| member.standing != Standing::Leaving)
    }

    /// The nodes as placement sees them.
    pub(super) fn candidates(&self) -> impl Iterator<Item = Candidate> {
        let nodes = self.members().map(|member| member.founder.node);
        nodes.filter(|node| self.takes_replicas(*node)).map(|node| Candidate {
            node,
            rack: self.node(node).and_then(|known| known.rack.clone()),
            load: self.load_of(node),
        })
    }
}
