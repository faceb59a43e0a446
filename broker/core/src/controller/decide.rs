//! What the leader makes of a request: commands on top of the look-ahead, and the answer that
//! will hold once they are applied.
//!
//! Invariants
//! - A command is executed on the look-ahead as soon as it is made, so the next topic of the same
//!   request sees it.
//! - All commands of a request make one proposal of at most `PROPOSAL_BYTES_MAX`.
//!
//! Absent on purpose: waiting and answering (`leader`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bateau_protocol::ids::{Incarnation, NodeId, TopicId};
use bytes::Bytes;

use super::broker_config::BrokerSettings;
use super::command::{ConfigOverrides, MetadataCommand, Topic};
use super::create::TopicPlanner;
use super::entropy::{Entropy, draw_cluster_id};
use super::leader::{FEATURE_LEVEL, FoundingPlan};
use super::limits::{
    LISTENERS_PER_NODE_MAX, NODE_TEXT_BYTES_MAX, PARTITIONS_PER_REQUEST_MAX, PRODUCER_ID_BLOCK,
    PROPOSAL_BYTES_MAX, REPLICATION_FACTOR_MAX, TOMBSTONES_MAX,
};
use super::metadata::{CommandOutcome, GROUP_TOPIC, Metadata, Refusal};
use super::node::NodeRegistration;
use super::placement::{Candidate, place};
use super::request::{
    AlterTopicConfigs, AlterTopicConfigsError, AutoCreateTopicError, AutoCreateTopicResult,
    ControllerRequest, ControllerResponse, CreateTopicError, CreateTopicResult, CreateTopics,
    CreatedTopic, DeleteTopicError, DeleteTopicResult, LimitError, NewTopic, ProducerIdsError,
    RegisterNodeError, TopicReference,
};
use super::topic_config::{TopicConfigError, check_overrides, describe_topic, topic_key};
use crate::codec::Writer;
use crate::consumer_group::GROUP_PARTITIONS;

/// A request on its way to become a proposal.
pub(super) struct Draft<'a> {
    pub(super) ahead: &'a mut Metadata,
    pub(super) settings: &'a BrokerSettings,
    /// Who lives, as far as this node knows.
    pub(super) live: &'a BTreeSet<NodeId>,
    entropy: &'a mut dyn Entropy,
    payload: Writer,
    outcomes: Vec<CommandOutcome>,
    pub(super) partitions_left: u32,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        ahead: &'a mut Metadata,
        settings: &'a BrokerSettings,
        live: &'a BTreeSet<NodeId>,
        entropy: &'a mut dyn Entropy,
    ) -> Self {
        Self {
            ahead,
            settings,
            live,
            entropy,
            payload: Writer::default(),
            outcomes: Vec::new(),
            partitions_left: PARTITIONS_PER_REQUEST_MAX,
        }
    }

    /// The commands' bytes and what each will do; both empty where there is nothing to do.
    pub(super) fn finish(self) -> (Bytes, Vec<CommandOutcome>) {
        (self.payload.into_bytes(), self.outcomes)
    }

    pub(super) fn decide(&mut self, request: ControllerRequest) -> ControllerResponse {
        match request {
            ControllerRequest::CreateTopics(request) => {
                ControllerResponse::TopicsCreated(self.create_topics(&request))
            }
            ControllerRequest::AutoCreateTopics { names, .. } => {
                ControllerResponse::TopicsAutoCreated(
                    names.into_iter().map(|name| self.auto_create(name)).collect(),
                )
            }
            ControllerRequest::DeleteTopics { topics, .. } => {
                ControllerResponse::TopicsDeleted(self.delete_topics(topics))
            }
            ControllerRequest::AlterTopicConfigs(request) => {
                ControllerResponse::TopicConfigsAltered(self.alter_configs(&request))
            }
            ControllerRequest::CreatePartitions(request) => {
                ControllerResponse::PartitionsCreated(self.create_partitions(&request))
            }
            ControllerRequest::AllocateProducerIds { node, .. } => {
                ControllerResponse::ProducerIdsAllocated(self.allocate_producer_ids(node))
            }
            ControllerRequest::RegisterNode { registration, .. } => {
                ControllerResponse::NodeRegistered(self.register_node(registration))
            }
            ControllerRequest::ConfirmRemoved { node, incarnations, .. } => {
                self.confirm_removed(node, incarnations);
                ControllerResponse::RemovalConfirmed
            }
            ControllerRequest::Membership { request, .. } => {
                ControllerResponse::Membership(self.decide_membership(request))
            }
        }
    }

    /// Adds a command, unless the request would grow too large.
    pub(super) fn submit(
        &mut self,
        command: MetadataCommand,
    ) -> Result<CommandOutcome, LimitError> {
        let mut encoded = Writer::default();
        command.encode(&mut encoded);
        if self.payload.len() + encoded.len() > PROPOSAL_BYTES_MAX {
            return Err(LimitError::RequestBytes);
        }
        self.payload.raw(&encoded.into_bytes());
        // The node hears of it when the command is applied, not now.
        let mut unseen = Vec::new();
        let outcome = self.ahead.execute(command, &mut unseen);
        self.outcomes.push(outcome);
        Ok(outcome)
    }

    /// Makes the first commands of the cluster: its id, its founders, the internal topic.
    /// Returns whether they were made.
    pub(super) fn found(&mut self, plan: &FoundingPlan) -> bool {
        let cluster_id = draw_cluster_id(self.entropy);
        let founders = plan.founders.clone();
        let mut commands =
            vec![MetadataCommand::Found { cluster_id, feature_level: FEATURE_LEVEL, founders }];
        commands.extend(plan.nodes.iter().cloned().map(MetadataCommand::RegisterNode));
        let founded = commands.into_iter().all(|command| self.submit(command).is_ok());
        founded && self.create_group_topic(plan)
    }

    fn create_group_topic(&mut self, plan: &FoundingPlan) -> bool {
        let candidates: Vec<Candidate> = plan
            .founders
            .iter()
            .map(|founder| Candidate {
                node: founder.node,
                rack: self.ahead.node(founder.node).and_then(|node| node.rack.clone()),
                load: self.ahead.load_of(founder.node),
            })
            .collect();
        let possible = candidates.len().min(REPLICATION_FACTOR_MAX.into());
        let wanted = self.settings.replication_factor(candidates.len());
        let factor = wanted.min(u16::try_from(possible).unwrap_or(1));
        let Some(placement) = place(&[], &candidates, GROUP_PARTITIONS, factor) else {
            return false;
        };
        // Its records are bounded by snapshots and trims of its own, never by age.
        let configs = ConfigOverrides::from([("retention.ms".into(), "-1".into())]);
        match self.planner().assemble(GROUP_TOPIC.into(), true, configs, placement) {
            Ok(topic) => self.submit(MetadataCommand::CreateTopic(topic)).is_ok(),
            Err(_) => false,
        }
    }

    pub(super) fn planner(&mut self) -> TopicPlanner<'_> {
        TopicPlanner {
            ahead: &*self.ahead,
            settings: self.settings,
            entropy: &mut *self.entropy,
            partitions_left: self.partitions_left,
        }
    }

    fn create_topics(&mut self, request: &CreateTopics) -> Vec<CreateTopicResult> {
        if request.validate_only {
            let mut supposed = self.ahead.clone();
            let mut draft = Draft::new(&mut supposed, self.settings, self.live, &mut *self.entropy);
            let mut results = draft.create_each(&request.topics);
            for created in results.iter_mut().filter_map(|result| result.result.as_mut().ok()) {
                created.id = TopicId::ZERO;
            }
            return results;
        }
        self.create_each(&request.topics)
    }

    fn create_each(&mut self, topics: &[NewTopic]) -> Vec<CreateTopicResult> {
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for topic in topics {
            *counts.entry(&topic.name).or_default() += 1;
        }
        topics
            .iter()
            .filter_map(|topic| {
                let result = match counts.remove(topic.name.as_str())? {
                    1 => self.create_topic(topic),
                    _ => Err(CreateTopicError::Duplicate),
                };
                Some(CreateTopicResult { name: topic.name.clone(), result })
            })
            .collect()
    }

    fn create_topic(&mut self, new: &NewTopic) -> Result<CreatedTopic, CreateTopicError> {
        let topic = self.planner().plan(new)?;
        let created = CreatedTopic {
            id: topic.id,
            partition_count: topic.partition_count(),
            replication_factor: topic.replication_factor(),
            configs: describe_topic(
                &topic.configs,
                topic.replication_factor(),
                self.settings,
                None,
            ),
        };
        let outcome = self.submit(MetadataCommand::CreateTopic(topic))?;
        assert_eq!(outcome, CommandOutcome::Done, "I-META-5: a planned topic was refused");
        self.partitions_left = self.partitions_left.saturating_sub(created.partition_count);
        Ok(created)
    }

    fn auto_create(&mut self, name: String) -> AutoCreateTopicResult {
        let result = match self.ahead.topic(&name) {
            Some(topic) => Ok(topic.id),
            None if !self.settings.auto_create => Err(AutoCreateTopicError::Disabled),
            None => {
                let new = NewTopic {
                    name: name.clone(),
                    partition_count: -1,
                    replication_factor: -1,
                    ..NewTopic::default()
                };
                self.create_topic(&new).map(|created| created.id).map_err(Into::into)
            }
        };
        AutoCreateTopicResult { name, result }
    }

    fn delete_topics(&mut self, references: Vec<TopicReference>) -> Vec<DeleteTopicResult> {
        let mut counts: BTreeMap<TopicId, u32> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut repeated = BTreeSet::new();
        for reference in &references {
            if !seen.insert(reference) {
                repeated.insert(reference.clone());
            } else if let Ok(topic) = self.resolve(reference) {
                *counts.entry(topic.id).or_default() += 1;
            }
        }
        let mut answered = BTreeSet::new();
        let mut results = Vec::with_capacity(references.len());
        for reference in &references {
            if answered.insert(reference) {
                let twice = repeated.contains(reference);
                results.push(self.delete_topic(reference, twice, &counts));
            }
        }
        results
    }

    fn resolve(&self, reference: &TopicReference) -> Result<Arc<Topic>, DeleteTopicError> {
        let (found, unknown) = match (&reference.name, reference.id == TopicId::ZERO) {
            (Some(name), true) => (self.ahead.topic(name), DeleteTopicError::UnknownName),
            (None, false) => (self.ahead.topic_by_id(reference.id), DeleteTopicError::UnknownId),
            _ => return Err(DeleteTopicError::NotOneReference),
        };
        found.cloned().ok_or(unknown)
    }

    fn delete_topic(
        &mut self,
        reference: &TopicReference,
        twice: bool,
        counts: &BTreeMap<TopicId, u32>,
    ) -> DeleteTopicResult {
        let resolved = self.resolve(reference);
        let (name, id) = match &resolved {
            Ok(topic) => (Some(Arc::clone(&topic.name)), topic.id),
            Err(_) => (reference.name.as_deref().map(Arc::from), reference.id),
        };
        let result = match resolved {
            _ if twice => Err(DeleteTopicError::Duplicate),
            Err(error) => Err(error),
            Ok(topic) if counts.get(&topic.id).is_some_and(|count| *count > 1) => {
                Err(DeleteTopicError::Duplicate)
            }
            Ok(topic) => self.submit_delete(&topic).map_err(Into::into),
        };
        DeleteTopicResult { name, id, result }
    }

    fn submit_delete(&mut self, topic: &Topic) -> Result<(), LimitError> {
        if self.ahead.tombstones.len() + topic.partitions.len() > TOMBSTONES_MAX {
            return Err(LimitError::Tombstones);
        }
        self.submit(MetadataCommand::DeleteTopic { topic: topic.id }).map(|_| ())
    }

    fn alter_configs(&mut self, request: &AlterTopicConfigs) -> Result<(), AlterTopicConfigsError> {
        let topic = self.ahead.topic(&request.topic).ok_or(AlterTopicConfigsError::UnknownTopic)?;
        let (topic_id, mut configs) = (topic.id, topic.configs.clone());
        for (name, value) in &request.changes {
            let Some(key) = topic_key(name) else {
                return Err(TopicConfigError::UnknownName { name: name.clone() }.into());
            };
            match value {
                Some(value) => configs.insert(key.name.into(), value.as_str().into()),
                None => configs.remove(key.name),
            };
        }
        let all: Vec<(String, Option<String>)> = configs
            .iter()
            .map(|(name, value)| (name.to_string(), Some(value.to_string())))
            .collect();
        check_overrides(&all)?;
        if request.validate_only || configs == topic.configs {
            return Ok(());
        }
        // One command of one topic is far below the limit of a proposal.
        let _ = self.submit(MetadataCommand::SetTopicConfigs { topic: topic_id, configs });
        Ok(())
    }

    fn allocate_producer_ids(
        &mut self,
        node: NodeId,
    ) -> Result<super::metadata::ProducerIdBlock, ProducerIdsError> {
        let command = MetadataCommand::AllocateProducerIds { node, count: PRODUCER_ID_BLOCK };
        match self.submit(command) {
            Ok(CommandOutcome::ProducerIds(block)) => Ok(block),
            _ => Err(ProducerIdsError::Exhausted),
        }
    }

    fn register_node(
        &mut self,
        mut registration: NodeRegistration,
    ) -> Result<(), RegisterNodeError> {
        registration.listeners.sort();
        check_registration(&registration)?;
        let known = self.ahead.node(registration.node);
        if known == Some(&registration) {
            return Ok(());
        }
        let node = registration.node;
        if !self.ahead.is_member(node, registration.directory) {
            return Err(RegisterNodeError::NotMember { node });
        }
        let registered = known.map_or(0, |known| known.boot.epoch);
        let found = registration.boot.epoch;
        let stale = known.is_some_and(|known| !known.boot.admits(registration.boot));
        if stale {
            return Err(RegisterNodeError::StaleBoot { found, registered });
        }
        // One command of one node is far below the limit of a proposal.
        let outcome = self.submit(MetadataCommand::RegisterNode(registration));
        assert_ne!(outcome, Ok(CommandOutcome::Refused(Refusal::StaleBoot)), "I-META-5");
        Ok(())
    }

    fn confirm_removed(&mut self, node: NodeId, mut incarnations: Vec<Incarnation>) {
        incarnations.retain(|each| {
            let tombstone = self.ahead.tombstones.get(each);
            tombstone.is_some_and(|nodes| nodes.contains(&node))
                || self.ahead.has_removed_replica(*each, node)
        });
        if !incarnations.is_empty() {
            // What does not fit is confirmed again by the node's next start.
            let _ = self.submit(MetadataCommand::ConfirmRemoved { node, incarnations });
        }
    }
}

fn check_registration(registration: &NodeRegistration) -> Result<(), RegisterNodeError> {
    let malformed = |field: &'static str| Err(RegisterNodeError::Malformed { field: field.into() });
    let usable = |text: &str| (1..=NODE_TEXT_BYTES_MAX).contains(&text.len());
    if i32::try_from(registration.node.get()).is_err() {
        return malformed("the node id");
    }
    if registration.listeners.len() > LISTENERS_PER_NODE_MAX {
        return malformed("the number of listeners");
    }
    if registration.rack.as_deref().is_some_and(|rack| !usable(rack)) {
        return malformed("the rack");
    }
    let names: BTreeSet<&str> =
        registration.listeners.iter().map(|listener| &*listener.name).collect();
    if names.len() != registration.listeners.len() {
        return malformed("a repeated listener");
    }
    let texts_usable = registration
        .listeners
        .iter()
        .all(|listener| usable(&listener.name) && usable(&listener.host) && listener.port != 0);
    if texts_usable { Ok(()) } else { malformed("a listener's name, host or port") }
}
