//! A group with one member, of a cluster whose nodes all answer.
//!
//! Invariant: what it asks goes to the group's coordinator.
//! Absent on purpose: a coordinator that fails; then it panics.

use crate::network;
use kafka_clients_tests::program::wait_until;
use kafka_clients_tests::raw::bytes::Reader;
use kafka_clients_tests::raw::code;
use kafka_clients_tests::raw::connection::Connection;
use kafka_clients_tests::raw::groups::{self, Member};
use kafka_clients_tests::raw::requests::{FIND_COORDINATOR, api};
use std::time::{Duration, Instant};

/// Kafka's code for a node that does not coordinate the group.
pub const NOT_COORDINATOR: i16 = 16;
/// How long a coordinator may be on its way.
const COORDINATOR_TIMEOUT: Duration = Duration::from_secs(30);

/// A group, and a connection to its coordinator.
#[derive(Debug)]
pub struct Group {
    member: Member,
    connection: Connection,
    coordinator: usize,
    /// Who is asked for the coordinator.
    node: usize,
}

impl Group {
    /// A group without members, whose coordinator this node knows.
    ///
    /// Panics where there is none in time.
    pub fn new(node: usize, name: &str) -> Self {
        let mut asked = Connection::open(&network::kafka(node).to_string());
        let mut coordinator = None;
        wait_until("a coordinator", COORDINATOR_TIMEOUT, || {
            coordinator = found(&mut asked, name);
            coordinator.is_some()
        });
        let coordinator = coordinator.expect("it was waited for");
        let connection = Connection::open(&network::kafka(coordinator).to_string());
        Self { member: Member::new(name), connection, coordinator, node }
    }

    /// Who coordinates it.
    pub fn coordinator(&self) -> usize {
        self.coordinator
    }

    /// Goes to the coordinator of now, where it has moved.
    pub fn follow(&mut self) {
        let moved = Self::new(self.node, &self.member.group);
        (self.connection, self.coordinator) = (moved.connection, moved.coordinator);
    }

    /// Joins it, as its only member; at another coordinator, where it has moved. Panics where that
    /// is refused.
    pub fn join(&mut self) {
        let deadline = Instant::now() + COORDINATOR_TIMEOUT;
        while self.heartbeat() == NOT_COORDINATOR && Instant::now() < deadline {
            *self = Self::new(self.node, &self.member.group);
        }
        self.member = Member::new(&self.member.group);
        let mut joined = groups::join(&mut self.connection, &mut self.member);
        if joined.code == code::MEMBER_ID_REQUIRED {
            joined = groups::join(&mut self.connection, &mut self.member);
        }
        assert_eq!(joined.code, code::NONE, "{joined:?}");
        let id = self.member.id.clone();
        let (code, _) = groups::sync(&mut self.connection, &self.member, &[(&id, b"all")]);
        assert_eq!(code, code::NONE, "{}: not synchronised", self.member.group);
    }

    /// Error code of a heartbeat.
    pub fn heartbeat(&mut self) -> i16 {
        groups::heartbeat(&mut self.connection, &self.member)
    }

    /// Error code of a commit for the first partition of `topic`.
    pub fn commit(&mut self, topic: &str, offset: i64) -> i16 {
        groups::commit(&mut self.connection, &self.member, topic, offset)
    }

    /// What was committed for the first partition of `topic`.
    pub fn committed(&mut self, topic: &str) -> (i16, i64) {
        groups::committed(&mut self.connection, &self.member.group, topic)
    }
}

fn found(connection: &mut Connection, group: &str) -> Option<usize> {
    let request = api(FIND_COORDINATOR).request_with(1, |writer| {
        writer.string(group).int8(0);
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let (_throttle, code, _message) = (reader.int32(), reader.int16(), reader.string());
    usize::try_from(reader.int32()).ok().filter(|_| code == code::NONE)
}
