//! Administration: the topic that everybody uses, and topics that come, grow and go.
//!
//! Absent on purpose: what the controller decides; its own tests look at that.

use super::{Answer, Ask, ClientId};
use crate::plan::FaultClass;
use crate::world::World;
use bateau_core::controller::{
    ControllerRequest, CreatePartitions, CreateTopics, NewTopic, TopicReference,
};
use bateau_core::shard::Reply;
use bateau_protocol::ids::TopicId;

/// How long a request may take, in milliseconds.
const TIMEOUT_MS: u64 = 1_000;

/// The administrator.
#[derive(Default)]
pub struct Admin {
    ticks: u64,
}

impl World {
    pub(super) fn tick_admin(&mut self, id: ClientId, admin: &mut Admin) {
        admin.ticks += 1;
        // Any node takes what only the controller decides.
        let n = self.any_node();
        let metadata = self.metadata_at(n);
        let nodes = self.founders().count();
        let is_complete = metadata.as_ref().is_some_and(|one| one.nodes().len() >= nodes);
        let is_there = metadata.is_some_and(|one| one.topic("orders").is_some());
        if !is_there && is_complete && admin.ticks.is_multiple_of(4) {
            let request = self.create("orders", 4);
            self.ask(id, n, Ask::Controller(request));
        } else if admin.ticks.is_multiple_of(10) && !self.is_draining {
            let node = self.nodes[n].id;
            let request = ControllerRequest::AllocateProducerIds { node, timeout_ms: TIMEOUT_MS };
            self.ask(id, n, Ask::Controller(request));
        } else if self.plan.has(FaultClass::Topics)
            && admin.ticks.is_multiple_of(16)
            && !self.is_draining
        {
            let request = self.change_topics();
            self.ask(id, n, Ask::Controller(request));
        }
    }

    fn create(&mut self, name: &str, partition_count: i32) -> ControllerRequest {
        let interval = if self.plan.seed.is_multiple_of(2) { "4096" } else { "512" };
        let mut configs = vec![("index.interval.bytes".to_owned(), Some(interval.to_owned()))];
        if self.has_retention() {
            // By age all that is closed goes, for no record here has one; or all but a little.
            let by_age = [("retention.ms", "1000"), ("segment.ms", "2000")];
            let by_size = [("retention.bytes", "5000"), ("segment.ms", "1000")];
            let chosen = if self.plan.seed.is_multiple_of(3) { by_age } else { by_size };
            let chosen = chosen.map(|(key, value)| (key.to_owned(), Some(value.to_owned())));
            configs.extend(chosen);
            configs.push(("segment.bytes".to_owned(), Some("1048576".to_owned())));
        }
        ControllerRequest::CreateTopics(CreateTopics {
            topics: vec![NewTopic {
                name: name.to_owned(),
                partition_count,
                replication_factor: -1,
                assignments: Vec::new(),
                configs,
            }],
            validate_only: false,
            timeout_ms: TIMEOUT_MS,
        })
    }

    fn change_topics(&mut self) -> ControllerRequest {
        let name = format!("passing{}", self.random.below(3));
        match self.random.below(4) {
            0 | 1 => self.create(&name, 2),
            2 => ControllerRequest::CreatePartitions(CreatePartitions {
                topic: name,
                partition_count: i32::try_from(2 + self.random.below(3)).unwrap_or(2),
                validate_only: false,
                timeout_ms: TIMEOUT_MS,
            }),
            _ => {
                let topic = TopicReference { name: Some(name), id: TopicId::ZERO };
                ControllerRequest::DeleteTopics { topics: vec![topic], timeout_ms: TIMEOUT_MS }
            }
        }
    }

    pub(super) fn answer_admin(&mut self, _: &mut Admin, _: u64, answer: Answer) {
        if let Reply::Controller(result) = answer.reply {
            self.count(if result.is_ok() { "topic operations" } else { "controller errors" });
        }
    }
}
