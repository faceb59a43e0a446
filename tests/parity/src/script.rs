//! A row while it runs: the door, and the lines that it has said.
//!
//! Names that a broker draws at random (member ids, producer ids) are told apart by when they
//! first came: `member-1`, `producer-1`.
//!
//! Absent on purpose: expectations, which stand in `rows.txt`.

use crate::door::{Answer, Door, Fetched, Join, Joined, Member, PROTOCOL, PROTOCOL_TYPE, Places};
use bateau_protocol::ids::TopicId;
use bateau_protocol::record::{BatchBuilder, Batches, NewRecord};
use bytes::Bytes;
use std::fmt::Display;

/// The time of the first record of every batch, in Unix milliseconds.
pub const TIMESTAMP: i64 = 1_700_000_000_000;

/// One row on one door.
#[derive(Debug)]
pub struct Run<D> {
    /// The first connection.
    pub door: D,
    places: Places,
    members: Vec<String>,
    lines: Vec<String>,
}

/// Whose batch it is, and which.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    /// Id and epoch, as given.
    pub producer: (i64, i16),
    /// Of the first record.
    pub first: i32,
}

/// A batch of these values, one millisecond apart.
#[must_use]
pub fn batch(values: &[&str], sequence: Option<Sequence>) -> Bytes {
    let mut builder = BatchBuilder::new();
    if let Some(Sequence { producer: (id, epoch), first }) = sequence {
        builder = builder.producer(id, epoch, first);
    }
    for (timestamp, value) in (TIMESTAMP..).zip(values) {
        let value = Some(value.as_bytes());
        let record = NewRecord { timestamp, key: None, value, headers: &[] };
        builder.push(&record).expect("a few bytes fit");
    }
    builder.build().expect("there are records")
}

impl<D: Door> Run<D> {
    /// A row that begins.
    pub async fn start(places: &Places) -> Self {
        let door = D::connect(places).await;
        Self { door, places: places.clone(), members: Vec::new(), lines: Vec::new() }
    }

    /// Another connection through the same door.
    pub async fn another(&self) -> D {
        D::connect(&self.places).await
    }

    /// What the row has said.
    #[must_use]
    pub fn into_lines(self) -> Vec<String> {
        self.lines
    }

    /// Says a line.
    pub fn say(&mut self, line: impl Display) {
        self.lines.push(line.to_string());
    }

    /// Says what came of something, by its code where it failed.
    pub fn tell<T>(&mut self, what: &str, answer: Answer<T>, show: impl FnOnce(&T) -> String) {
        let shown = match &answer {
            Ok(value) => show(value),
            Err(code) => code.to_string(),
        };
        self.lines.push(format!("{what}: {shown}").trim_end().to_owned());
    }

    /// A topic of one partition.
    pub async fn topic(&mut self) -> TopicId {
        self.door.create_topic("parity", 1).await.expect("a fresh broker makes topics")
    }

    /// Appends and tells.
    pub async fn produce(&mut self, topic: TopicId, what: &str, batch: Bytes) {
        let answer = self.door.produce(topic, 0, batch).await;
        self.tell(what, answer, |ack| {
            format!("offset {} of a log from {}", ack.base_offset, ack.log_start)
        });
    }

    /// Fetches and tells.
    pub async fn fetch(&mut self, topic: TopicId, what: &str, offset: i64) {
        let answer = self.door.fetch(topic, 0, offset, -1).await;
        self.tell(what, answer, show_fetched);
    }

    /// The short name of a member.
    pub fn name(&mut self, member: &str) -> String {
        if member.is_empty() {
            return "nobody".to_owned();
        }
        let known = self.members.iter().position(|known| known == member);
        let place = known.unwrap_or_else(|| {
            self.members.push(member.to_owned());
            self.members.len() - 1
        });
        format!("member-{}", place + 1)
    }

    /// Tells what a member has joined.
    pub fn tell_join(&mut self, what: &str, answer: &Answer<Joined>) {
        let shown = match answer {
            Ok(joined) => {
                let member = self.name(&joined.member);
                let leader = self.name(&joined.leader);
                let mut members: Vec<_> = joined
                    .members
                    .iter()
                    .map(|(id, metadata)| {
                        format!("{} {}", self.name(id), String::from_utf8_lossy(metadata))
                    })
                    .collect();
                // In which order they come is the broker's chance.
                members.sort();
                let (generation, protocol) = (joined.generation, &joined.protocol);
                let members = members.join(", ");
                format!(
                    "{member} in generation {generation} of {protocol}, led by {leader} [{members}]"
                )
            }
            Err(code) => code.to_string(),
        };
        self.lines.push(format!("{what}: {shown}"));
    }
}

/// The records by offset and value.
#[must_use]
pub fn show_fetched(fetched: &Fetched) -> String {
    let mut records = Vec::new();
    for batch in Batches::new(fetched.records.clone()) {
        let batch = batch.expect("whole batches are answered");
        for record in batch.records().expect("they are not compressed") {
            let record = record.expect("the record is whole");
            let value = String::from_utf8_lossy(record.value.unwrap_or_default());
            records.push(format!("{}={value}", record.offset));
        }
    }
    let (start, end) = (fetched.log_start, fetched.high_watermark);
    format!("{start}..{end} [{}]", records.join(" "))
}

/// A join with the ordinary times and one assignor.
#[must_use]
pub fn join(member: &str, metadata: &'static str) -> Join {
    Join {
        group: "workers".to_owned(),
        member: member.to_owned(),
        instance: None,
        session_timeout_ms: 30_000,
        protocol_type: PROTOCOL_TYPE.to_owned(),
        protocols: vec![(PROTOCOL.to_owned(), Bytes::from_static(metadata.as_bytes()))],
    }
}

/// The member that has joined.
#[must_use]
pub fn member_of(joined: &Joined) -> Member {
    Member {
        group: "workers".to_owned(),
        member: joined.member.clone(),
        instance: None,
        generation: joined.generation,
    }
}

/// Somebody who is in no group.
#[must_use]
pub fn outsider() -> Member {
    Member { group: "workers".to_owned(), member: String::new(), instance: None, generation: -1 }
}
