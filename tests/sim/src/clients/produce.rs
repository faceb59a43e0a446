//! Producers: idempotent ones with up to five batches in flight, and plain ones.
//!
//! Invariants: a batch is sent again with the same bytes until it is acknowledged; a producer goes
//! at most five batches beyond the oldest that is not.
//!
//! Absent on purpose: epochs and transactions.

use super::{Answer, Ask, ClientId, partition};
use crate::event::{Micros, NodeAt};
use crate::world::World;
use bateau_core::shard::Reply;
use bateau_protocol::ids::Incarnation;
use bateau_protocol::record::{BatchBuilder, NewRecord};
use bytes::Bytes;
use std::collections::VecDeque;

/// How long a producer waits for an answer, in microseconds.
const PATIENCE: Micros = 1_500_000;
/// Batches that it has under way.
const IN_FLIGHT_MAX: usize = 5;

/// A producer of one partition.
pub struct Producer {
    id: i64,
    partition: u64,
    bytes_max: u64,
    log: Option<Incarnation>,
    leader: Option<NodeAt>,
    next_sequence: i32,
    unacked: VecDeque<Sent>,
    acked_count: u64,
    values: u64,
}

struct Sent {
    batch: Bytes,
    operation: Option<u64>,
    sent_at: Micros,
    is_acked: bool,
}

impl Producer {
    /// A producer; `id` -1 is a plain one.
    pub fn new(id: i64, partition: u64, size: u64) -> Self {
        Self {
            id,
            partition,
            bytes_max: 20 + 300 * size,
            log: None,
            leader: None,
            next_sequence: 0,
            unacked: VecDeque::new(),
            acked_count: 0,
            values: 0,
        }
    }

    /// Whether everything that it sent is acknowledged.
    pub fn is_done(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Where it writes, and the oldest that is not acknowledged.
    pub fn describe(&self) -> String {
        format!(
            "producer {} of partition {}, {:?}: {} unacked",
            self.id,
            self.partition,
            self.log,
            self.unacked.len()
        )
    }

    fn batch(&mut self, size: u64, count: i32) -> Option<Bytes> {
        self.values += 1;
        let mut value = format!("{}/{}/", self.id, self.values).into_bytes();
        value.resize(value.len() + usize::try_from(size).unwrap_or(0), b'v');
        let mut builder = BatchBuilder::new();
        if self.id >= 0 {
            builder = builder.producer(self.id, 0, self.next_sequence);
            self.next_sequence += count;
        }
        for _ in 0..count {
            let record = NewRecord { value: Some(&value), ..NewRecord::default() };
            builder.push(&record).ok()?;
        }
        builder.build().ok()
    }
}

impl World {
    pub(super) fn tick_producer(&mut self, id: ClientId, producer: &mut Producer) {
        let Some(log) = producer.log else {
            let n = self.any_node();
            let metadata = self.metadata_at(n);
            let found = metadata.and_then(|one| partition(&one, "orders", producer.partition));
            producer.log = found.map(|(log, _)| log);
            return;
        };
        let late = self.at.saturating_sub(PATIENCE);
        for sent in &mut producer.unacked {
            if sent.operation.is_some() && sent.sent_at < late {
                sent.operation = None;
                producer.leader = None;
                *self.counts.entry("requests without an answer").or_default() += 1;
            }
        }
        if producer.id < 0 && producer.unacked.front().is_some_and(|sent| sent.operation.is_none())
        {
            // Nobody knows what became of it, and a plain producer does not ask.
            producer.unacked.pop_front();
        }
        // An id that is not known yet may begin with any sequence.
        let is_careful = producer.acked_count == 0 || producer.id < 0;
        let limit = if is_careful { 1 } else { IN_FLIGHT_MAX };
        if producer.unacked.len() < limit && !self.is_draining {
            let size = self.random.below(producer.bytes_max);
            let count = i32::try_from(1 + self.random.below(3)).unwrap_or(1);
            let (batch, sent_at) = (producer.batch(size, count), self.at);
            let sent = batch.map(|batch| Sent { batch, operation: None, sent_at, is_acked: false });
            producer.unacked.extend(sent);
        }
        let leader = *producer.leader.get_or_insert_with(|| self.find_leader(log));
        for sent in &mut producer.unacked {
            if sent.operation.is_none() && !sent.is_acked {
                let timeout_ms = 200 + self.random.below(2_000);
                let ask = Ask::Produce(log, sent.batch.clone(), timeout_ms);
                sent.operation = Some(self.ask(id, leader, ask));
                sent.sent_at = self.at;
            }
        }
    }

    pub(super) fn answer_producer(&mut self, producer: &mut Producer, number: u64, answer: Answer) {
        let sent = producer.unacked.iter_mut().find(|sent| sent.operation == Some(number));
        let (Some(sent), Reply::Produce(result)) = (sent, answer.reply) else { return };
        sent.operation = None;
        if result.is_ok() {
            sent.is_acked = true;
            producer.leader = Some(answer.node);
            producer.acked_count += 1;
        } else {
            self.count("produce errors");
            producer.leader = None;
        }
        while producer.unacked.front().is_some_and(|sent| sent.is_acked) {
            producer.unacked.pop_front();
        }
    }
}
