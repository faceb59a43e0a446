//! A controller with a log in memory: requests go in, proposals are applied when a test says so.

mod codec;
mod create;
mod delete;
mod golden;
mod grow;
mod leadership;
mod limits;
mod membership;
mod nodes;
mod replay;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bateau_protocol::ids::{LogIndex, NodeId, TopicId};
use bytes::Bytes;

use super::*;
use crate::clock::Now;
use crate::ticket::{ProposalToken, Ticket};

/// SplitMix64 (Steele, Lea, Flood, 2014): small, and good enough to draw ids and choices.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next_u64() % end as u64) as usize
    }
}

impl Entropy for Random {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

type Answer = Result<ControllerResponse, ControllerError>;

/// One node's controller and the log that it proposes to.
pub(crate) struct World {
    pub(super) controller: Controller,
    pub(super) now: Now,
    /// Proposed, not yet committed.
    pub(super) pending: VecDeque<(ProposalToken, Bytes)>,
    /// Committed and applied.
    pub(super) log: Vec<Bytes>,
    pub(super) events: Vec<MetadataEvent>,
    pub(super) answers: Vec<(Ticket, Answer)>,
    /// What happened, in order: `event` or `reply N`.
    pub(super) order: Vec<String>,
    last_ticket: u64,
}

pub(super) fn registration(node: u64, rack: Option<&str>) -> NodeRegistration {
    NodeRegistration {
        node: NodeId::new(node),
        directory: [node as u8; 16],
        boot: BootEpoch { epoch: 1, start_id: node },
        rack: rack.map(Arc::from),
        listeners: vec![ListenerAddress {
            name: "kafka".into(),
            host: "127.0.0.1".into(),
            port: 9092,
            pin: None,
        }],
    }
}

pub(super) fn founding_plan(nodes: u64) -> FoundingPlan {
    FoundingPlan {
        founders: (1..=nodes)
            .map(|node| Founder {
                node: NodeId::new(node),
                founding_id: [node as u8; 16],
                peers_address: format!("127.0.0.1:{}", 9_643 + node).into(),
            })
            .collect(),
        nodes: (1..=nodes).map(|node| registration(node, None)).collect(),
    }
}

impl World {
    /// A leader that has founded a cluster of `nodes` nodes.
    pub(crate) fn founded(nodes: u64) -> Self {
        let mut world = Self::unfounded(nodes, BrokerSettings::default(), 7);
        world.lead();
        world.commit();
        world.advance(0);
        world.commit();
        world.events.clear();
        world.order.clear();
        world
    }

    /// A leader in a cluster of one with these settings.
    pub(super) fn with_settings(settings: BrokerSettings) -> Self {
        let mut world = Self::unfounded(1, settings, 7);
        world.lead();
        world.commit();
        world
    }

    pub(super) fn unfounded(nodes: u64, settings: BrokerSettings, seed: u64) -> Self {
        Self::with_plan(founding_plan(nodes), settings, seed)
    }

    pub(super) fn with_plan(plan: FoundingPlan, settings: BrokerSettings, seed: u64) -> Self {
        let entropy = Box::new(Random::new(seed));
        Self {
            controller: Controller::new(Metadata::new(), settings, plan, entropy),
            now: Now::default(),
            pending: VecDeque::new(),
            log: Vec::new(),
            events: Vec::new(),
            answers: Vec::new(),
            order: Vec::new(),
            last_ticket: 0,
        }
    }

    pub(super) fn lead(&mut self) {
        let mut effects = Vec::new();
        self.controller.lead(self.now, &mut effects);
        self.perform(effects);
    }

    /// These nodes are alive.
    pub(super) fn live(&mut self, nodes: &[u64]) {
        self.controller.note_live(nodes.iter().copied().map(NodeId::new).collect());
    }

    pub(super) fn resign(&mut self) {
        let mut effects = Vec::new();
        self.controller.resign(&mut effects);
        self.perform(effects);
    }

    pub(super) fn perform(&mut self, effects: Vec<ControllerEffect>) {
        for effect in effects {
            match effect {
                ControllerEffect::Propose { token, payload } => {
                    self.pending.push_back((token, payload));
                }
                ControllerEffect::Event(event) => {
                    self.order.push("event".into());
                    self.events.push(event);
                }
                ControllerEffect::Reply { ticket, response } => {
                    self.order.push(format!("reply {}", ticket.0));
                    self.answers.push((ticket, response));
                }
            }
        }
        self.controller.check_invariants();
    }

    /// Hands a request in and returns its ticket.
    pub(super) fn ask(&mut self, request: ControllerRequest) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let mut effects = Vec::new();
        self.controller.handle(self.now, request, ticket, &mut effects);
        self.perform(effects);
        ticket
    }

    /// Commits and applies the oldest proposal.
    pub(super) fn commit_one(&mut self) -> bool {
        let Some((token, payload)) = self.pending.pop_front() else { return false };
        self.apply(Some(token), payload);
        true
    }

    pub(super) fn apply(&mut self, token: Option<ProposalToken>, payload: Bytes) {
        self.log.push(payload.clone());
        let index = LogIndex::new(self.log.len() as u64);
        let mut effects = Vec::new();
        self.controller.apply(index, token, &payload, &mut effects).unwrap();
        self.perform(effects);
    }

    /// Commits and applies all proposals.
    pub(super) fn commit(&mut self) {
        while self.commit_one() {}
    }

    pub(super) fn drop_one(&mut self, place: usize) {
        if let Some((token, _)) = self.pending.remove(place) {
            let mut effects = Vec::new();
            self.controller.handle_dropped(self.now, token, &mut effects);
            self.perform(effects);
        }
    }

    pub(super) fn advance(&mut self, milliseconds: u64) {
        self.now.monotonic_ms += milliseconds;
        let mut effects = Vec::new();
        self.controller.tick(self.now, &mut effects);
        self.perform(effects);
    }

    /// The answer to a ticket, taken.
    pub(super) fn answer(&mut self, ticket: Ticket) -> Option<Answer> {
        let place = self.answers.iter().position(|(answered, _)| *answered == ticket)?;
        Some(self.answers.remove(place).1)
    }

    /// Asks, commits, and returns the answer.
    pub(super) fn call(&mut self, request: ControllerRequest) -> Answer {
        let ticket = self.ask(request);
        self.commit();
        self.answer(ticket).expect("everything is committed")
    }

    pub(super) fn create(&mut self, topics: Vec<NewTopic>) -> Vec<CreateTopicResult> {
        match self.call(create_request(topics)) {
            Ok(ControllerResponse::TopicsCreated(results)) => results,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn create_one(&mut self, topic: NewTopic) -> Result<CreatedTopic, CreateTopicError> {
        self.create(vec![topic]).remove(0).result
    }

    pub(super) fn auto_create(&mut self, name: &str) -> Result<TopicId, AutoCreateTopicError> {
        match self.call(auto_create_request(&[name])) {
            Ok(ControllerResponse::TopicsAutoCreated(mut results)) => results.remove(0).result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete(&mut self, topics: Vec<TopicReference>) -> Vec<DeleteTopicResult> {
        match self.call(ControllerRequest::DeleteTopics { topics, timeout_ms: 1_000 }) {
            Ok(ControllerResponse::TopicsDeleted(results)) => results,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        self.controller.metadata()
    }

    /// A second node that has read the same log.
    pub(super) fn replayed(&self) -> Metadata {
        let mut metadata = Metadata::new();
        for (index, payload) in (1..).zip(&self.log) {
            metadata.apply(LogIndex::new(index), payload, &mut Vec::new()).unwrap();
        }
        metadata
    }
}

pub(super) fn create_request(topics: Vec<NewTopic>) -> ControllerRequest {
    ControllerRequest::CreateTopics(CreateTopics {
        topics,
        validate_only: false,
        timeout_ms: 30_000,
    })
}

pub(super) fn auto_create_request(names: &[&str]) -> ControllerRequest {
    ControllerRequest::AutoCreateTopics {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        timeout_ms: 30_000,
    }
}

pub(crate) fn topic(name: &str, partition_count: i32, replication_factor: i16) -> NewTopic {
    NewTopic { name: name.into(), partition_count, replication_factor, ..NewTopic::default() }
}

pub(super) fn with_config(name: &str, key: &str, value: &str) -> NewTopic {
    NewTopic { configs: vec![(key.into(), Some(value.into()))], ..topic(name, 1, 1) }
}

pub(super) fn assigned(name: &str, partitions: &[(i32, &[i32])]) -> NewTopic {
    let assignments = partitions
        .iter()
        .map(|(partition, nodes)| PartitionAssignment {
            partition: *partition,
            nodes: nodes.to_vec(),
        })
        .collect();
    NewTopic { assignments, ..topic(name, -1, -1) }
}

pub(crate) fn by_name(name: &str) -> TopicReference {
    TopicReference { name: Some(name.into()), id: TopicId::ZERO }
}

pub(super) fn by_id(id: TopicId) -> TopicReference {
    TopicReference { name: None, id }
}

/// A source that a test can look at from outside.
pub(super) fn scripted(numbers: Vec<u64>) -> (Box<dyn Entropy>, Arc<Mutex<VecDeque<u64>>>) {
    let script = Arc::new(Mutex::new(VecDeque::from(numbers)));
    let shared = Arc::clone(&script);
    let draw = move || shared.lock().unwrap().pop_front().expect("the script is long enough");
    (Box::new(draw), script)
}
