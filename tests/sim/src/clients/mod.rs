//! Clients: what they ask, of whom they believe that it leads, until they are answered.
//!
//! Invariants: an answer that does not come is no failure: what was asked may have happened.
//!
//! Absent on purpose: the doors' bytes; clients speak core's own words.

mod admin;
mod group;
mod operator;
mod produce;
mod read;

use crate::event::{Event, Micros, NodeAt};
use crate::groups::AskedGroup;
use crate::plan::{FaultClass, Plan};
use crate::process::{Process, Waiter};
use crate::world::World;
use admin::Admin;
use bateau_core::consumer_group::GroupRequest;
use bateau_core::controller::{ControllerRequest, Metadata};
use bateau_core::node::NodeInput;
use bateau_core::replica::Produce;
use bateau_core::shard::{Input, Reply};
use bateau_log::sim_disk::SimRandom;
use bateau_protocol::ids::{Incarnation, Offset};
use bateau_protocol::record::{BatchHeader, ProducerSequence};
use bytes::Bytes;
use group::Member;
use operator::Operator;
use produce::Producer;
use read::Reader;
use std::sync::Arc;

/// A client's place among the clients.
pub type ClientId = usize;

/// A client's request, by the client's own number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Operation {
    /// Whose.
    pub client: ClientId,
    /// Which.
    pub number: u64,
}

/// What a client asks of a node.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Append a batch.
    Produce(Incarnation, Bytes, u64),
    /// Something of the controller.
    Controller(ControllerRequest),
    /// Something of a group, and until when anybody waits for it.
    Group(GroupRequest, Micros),
    /// Whether the node leads, and has all that is committed.
    Confirm(Incarnation),
}

/// What the checker remembers of it.
#[derive(Clone, Debug)]
pub enum Asked {
    /// A batch.
    Produce {
        /// To this log.
        log: Incarnation,
        /// As it was sent.
        batch: Bytes,
        /// The batch's own CRC, which names it.
        crc: u32,
    },
    /// A linearizable read.
    Confirm {
        /// Of this log.
        log: Incarnation,
        /// What was committed when it was asked.
        end: Offset,
    },
    /// Something of a group.
    Group(Box<AskedGroup>),
    /// Anything else.
    Other,
}

/// What a client is answered.
#[derive(Debug)]
pub struct Answer {
    /// By this node.
    pub node: NodeAt,
    /// What.
    pub reply: Reply,
}

/// A client.
pub enum Client {
    /// Writes to one partition.
    Producer(Producer),
    /// Reads one partition wherever there is a replica.
    Reader(Reader),
    /// A member of a group.
    Member(Member),
    /// Makes, grows and deletes topics.
    Admin(Admin),
    /// Adds, removes and replaces nodes.
    Operator(Operator),
}

/// Mean pause between two things that a client does, in microseconds.
const PAUSE: Micros = 60_000;

/// All clients of a run.
pub fn all(plan: &Plan, random: &mut SimRandom) -> Vec<Option<Client>> {
    let mut clients = vec![Client::Admin(Admin::default())];
    for id in 0..5_i64 {
        clients.push(Client::Producer(Producer::new(id, id.unsigned_abs() % 4, random.below(4))));
    }
    clients.push(Client::Producer(Producer::new(-1, 1, 0)));
    for partition in 0..3 {
        clients.push(Client::Reader(Reader::new(partition)));
    }
    for group in ["readers", "readers", "readers", "others"] {
        clients.push(Client::Member(Member::new(group)));
    }
    if plan.has(FaultClass::Membership) {
        clients.push(Client::Operator(Operator::default()));
    }
    clients.into_iter().map(Some).collect()
}

/// The partition of a topic and how many replicas it has.
pub fn partition(metadata: &Metadata, topic: &str, number: u64) -> Option<(Incarnation, usize)> {
    let topic = metadata.topic(topic)?;
    let partition = topic.partitions.get(usize::try_from(number).ok()?)?;
    Some((partition.incarnation, partition.replicas.len()))
}

impl World {
    /// A client does what it does next.
    pub fn tick_client(&mut self, id: ClientId) {
        let Some(mut client) = self.clients[id].take() else { return };
        match &mut client {
            Client::Producer(producer) => self.tick_producer(id, producer),
            Client::Reader(reader) => self.tick_reader(id, reader),
            Client::Member(member) => self.tick_member(id, member),
            Client::Admin(admin) => self.tick_admin(id, admin),
            Client::Operator(operator) => self.tick_operator(id, operator),
        }
        self.clients[id] = Some(client);
        let pause = PAUSE / 2 + self.random.below(PAUSE);
        self.events.put(self.at + pause, Event::ClientTick(id));
    }

    /// An answer has come.
    pub fn answer_client(&mut self, operation: Operation, answer: Answer) {
        let Some(mut client) = self.clients[operation.client].take() else { return };
        match &mut client {
            Client::Producer(producer) => self.answer_producer(producer, operation.number, answer),
            Client::Reader(reader) => reader.answer(operation.number),
            Client::Member(member) => self.answer_member(member, operation.number, answer),
            Client::Admin(admin) => self.answer_admin(admin, operation.number, answer),
            Client::Operator(operator) => operator.answer(answer),
        }
        self.clients[operation.client] = Some(client);
    }

    /// Sends a request; returns its number.
    pub fn ask(&mut self, client: ClientId, n: NodeAt, ask: Ask) -> u64 {
        self.operations += 1;
        self.count("client operations");
        let operation = Operation { client, number: self.operations };
        if !self.network.loses(n, n) {
            let arrival = self.network.arrival(self.at, n, n);
            self.events.put(arrival, Event::Ask(n, operation, Box::new(ask)));
        }
        operation.number
    }

    /// A request arrives.
    pub fn take_ask(&mut self, n: NodeAt, operation: Operation, ask: Ask) {
        let is_given_up = matches!(&ask, Ask::Group(_, until) if *until <= self.at);
        let has_shard = |process: &Process| process.shard.is_some();
        if is_given_up || !self.nodes[n].process.as_deref().is_some_and(has_shard) {
            return;
        }
        let asked = self.remember(n, &ask);
        let Some(mut process) = self.nodes[n].process.take() else { return };
        let ticket = self.ticket(&mut process, Waiter::Client(operation, asked));
        self.nodes[n].process = Some(process);
        let monotonic_ms = self.nodes[n].clock.now(self.at).monotonic_ms;
        let input = match ask {
            Ask::Produce(incarnation, batch, timeout_ms) => {
                let Ok(header) = BatchHeader::parse(&batch) else { return };
                let produce = Produce {
                    batch,
                    record_count: u32::try_from(header.record_count).unwrap_or(1),
                    producer: ProducerSequence::of(&header),
                    ticket: Some(ticket),
                    deadline_ms: monotonic_ms + timeout_ms,
                };
                Input::Produce { incarnation, produce }
            }
            Ask::Controller(request) => {
                return self.tell_node(n, NodeInput::Ask { request, ticket });
            }
            Ask::Group(request, _) => Input::Group { request, ticket },
            Ask::Confirm(incarnation) => Input::Confirm { incarnation, ticket },
        };
        self.tell(n, [input]);
    }

    fn remember(&self, n: NodeAt, ask: &Ask) -> Asked {
        match ask {
            Ask::Produce(log, batch, _) => {
                let crc = BatchHeader::parse(batch).map_or(0, |header| header.crc);
                Asked::Produce { log: *log, batch: batch.clone(), crc }
            }
            Ask::Confirm(log) => {
                let end = self.checker.logs.get(log).map_or(Offset::ZERO, |one| one.end());
                Asked::Confirm { log: *log, end }
            }
            Ask::Group(request, _) => self.remember_group(n, request),
            Ask::Controller(_) => Asked::Other,
        }
    }

    /// Any node.
    pub fn any_node(&mut self) -> NodeAt {
        usize::try_from(self.random.below(self.nodes.len() as u64)).unwrap_or(0)
    }

    /// The metadata as a node shows it.
    pub fn metadata_at(&self, n: NodeAt) -> Option<Arc<Metadata>> {
        let node = &self.nodes[n];
        if !node.is_up(self.at) {
            return None;
        }
        node.process.as_ref()?.metadata.clone()
    }

    /// Who leads a log, as some node believes.
    pub fn find_leader(&mut self, log: Incarnation) -> NodeAt {
        let n = self.any_node();
        let process = self.nodes[n].process.as_ref();
        process.and_then(|process| process.leader_of(log)).unwrap_or(n)
    }
}
