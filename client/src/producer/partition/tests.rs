//! The way of batches through good and bad times, step by step and without a clock.

use super::*;
use crate::record::Durability;
use bateau_protocol::record::{Batch, BatchHeader};

const FIRST: Identity = Identity { id: 7, epoch: 0 };
const SECOND: Identity = Identity { id: 8, epoch: 0 };

struct Story {
    partition: Partition,
    now: Instant,
    done: Vec<Settled>,
}

impl Story {
    fn with(change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = Rules {
            linger: Duration::ZERO,
            batch_bytes: 1_000,
            timeout: Duration::from_secs(30),
            compression: Compression::None,
            idempotent: true,
        };
        change(&mut rules);
        let mut partition = Partition::new(3, rules, FIRST);
        partition.is_known = true;
        Self { partition, now: Instant::now(), done: Vec::new() }
    }

    fn new() -> Self {
        Self::with(|_| {})
    }

    fn push(&mut self, value: &'static str) -> Ticket {
        self.partition.push(&Record::new(value), 0, self.now)
    }

    fn next(&mut self) -> Option<Outgoing> {
        match self.partition.next(self.now) {
            Some(Next::Send(outgoing)) => Some(outgoing),
            Some(Next::Compress(work)) => panic!("{work:?}: these stories have no codec"),
            None => None,
        }
    }

    /// Takes the next batch away to be compressed.
    fn work(&mut self) -> Work {
        match self.partition.next(self.now) {
            Some(Next::Compress(work)) => work,
            other => panic!("{other:?} instead of something to compress"),
        }
    }

    /// Sends each value as a batch of its own.
    fn send(&mut self, values: &[&'static str]) -> Vec<Outgoing> {
        let mut sent = Vec::new();
        for value in values {
            self.push(value);
            self.partition.flush(&mut Vec::new());
            sent.push(self.next().expect("there is room in flight"));
        }
        sent
    }

    fn acknowledge(&mut self, outgoing: &Outgoing, base_offset: i64) {
        let durability = Durability::Flushed;
        let ack = BatchAck { partition: 3, base_offset, durability, replicas: 1, duplicate: false };
        self.done.extend(self.partition.acknowledged(outgoing.token, ack));
    }

    fn fail(&mut self, outgoing: &Outgoing, error: RequestError, was_sent: bool) {
        let error = SinkError { error, was_sent };
        self.partition.failed(outgoing.token, &error, self.now, self.now, &mut self.done);
    }

    fn refuse(&mut self, outgoing: &Outgoing, code: ErrorCode) {
        self.fail(outgoing, RequestError::of_code(code, "told by the test"), true);
    }

    fn lose(&mut self, outgoing: &Outgoing) {
        self.fail(outgoing, RequestError::Lost { reason: "cut".to_owned() }, true);
    }

    fn revive(&mut self) -> Vec<Outgoing> {
        assert!(self.partition.take_broken(self.now), "{:?}", self.partition.phase);
        self.partition.revive();
        let mut again = Vec::new();
        while let Some(outgoing) = self.next() {
            again.push(outgoing);
        }
        again
    }

    fn rename(&mut self) -> Vec<Outgoing> {
        assert!(self.partition.take_nameless(self.now), "{:?}", self.partition.phase);
        self.partition.rename(SECOND, self.now, &mut self.done);
        self.revive()
    }

    fn results(&self) -> Vec<Result<i64, SendError>> {
        let offset = |done: &Settled| done.result.clone().map(|ack| ack.base_offset);
        self.done.iter().map(offset).collect()
    }
}

fn header(outgoing: &Outgoing) -> BatchHeader {
    let (batch, _) = Batch::split_first(&outgoing.bytes).expect("a whole batch");
    assert_eq!(batch.verify_crc(), Ok(()));
    *batch.header()
}

fn sequences(sent: &[Outgoing]) -> Vec<(i64, i32)> {
    let name = |one: &Outgoing| (header(one).producer_id, header(one).base_sequence);
    sent.iter().map(name).collect()
}

#[test]
fn a_record_leaves_at_once_and_what_comes_meanwhile_leaves_together() {
    let mut story = Story::new();
    story.push("first");
    let first = story.next().expect("nothing is in flight");
    for value in ["second", "third", "fourth"] {
        story.push(value);
        assert_eq!(story.next(), None, "one is in flight");
    }
    story.acknowledge(&first, 0);
    let together = story.next().expect("nothing is in flight any more");
    assert_eq!((header(&together).record_count, header(&together).base_sequence), (3, 1));
}

#[test]
fn a_full_batch_does_not_wait_but_five_are_the_limit() {
    let mut story = Story::with(|rules| rules.batch_bytes = 100);
    for _ in 0..40 {
        story.push("thirty bytes, more or less");
    }
    let mut sent = Vec::new();
    while let Some(outgoing) = story.next() {
        sent.push(outgoing);
    }
    assert_eq!(sent.len(), IN_FLIGHT_MAX);
    let mut expected = 0;
    for outgoing in &sent {
        assert_eq!(header(outgoing).base_sequence, expected);
        expected += header(outgoing).record_count;
    }
    story.acknowledge(&sent[0], 0);
    assert!(story.next().is_some());
    assert!(story.next().is_none());
}

#[test]
fn nothing_overtakes_the_first_batch_of_a_name_that_the_broker_does_not_know() {
    let mut story = Story::new();
    story.partition.is_known = false;
    let first = story.send(&["a"]);
    story.push("b");
    story.partition.flush(&mut Vec::new());
    assert_eq!(story.next(), None);
    story.acknowledge(&first[0], 0);
    assert!(story.next().is_some());
}

#[test]
fn a_batch_lingers_as_long_as_it_was_told_to() {
    let linger = Duration::from_millis(5);
    let mut story = Story::with(|rules| rules.linger = linger);
    story.push("first");
    assert_eq!(story.next(), None);
    assert_eq!(story.partition.due(), Some(story.now + linger));
    story.now += linger;
    assert!(story.next().is_some());
}

#[test]
fn what_a_connection_lost_is_sent_again_in_order_and_unchanged() {
    let mut story = Story::new();
    let sent = story.send(&["a", "b", "c"]);
    story.acknowledge(&sent[0], 10);
    story.lose(&sent[1]);
    assert!(!story.partition.take_broken(story.now), "one is still in flight");
    story.lose(&sent[2]);
    let again = story.revive();
    assert_eq!(again, sent[1..]);
    story.acknowledge(&again[0], 11);
    story.acknowledge(&again[1], 12);
    assert_eq!(story.results(), [Ok(10), Ok(11), Ok(12)]);
    assert!(story.partition.is_empty());
}

#[test]
fn what_followed_a_refused_batch_is_not_taken_for_a_gap() {
    let mut story = Story::new();
    let sent = story.send(&["a", "b"]);
    story.refuse(&sent[0], ErrorCode::NOT_LEADER_OR_FOLLOWER);
    story.refuse(&sent[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let again = story.revive();
    assert_eq!(again, sent);
    assert!(story.done.is_empty());
}

#[test]
fn after_a_batch_that_is_never_taken_the_others_get_another_name() {
    let mut story = Story::new();
    let sent = story.send(&["a", "b", "c"]);
    story.refuse(&sent[0], ErrorCode::MESSAGE_TOO_LARGE);
    story.refuse(&sent[1], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    story.refuse(&sent[2], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    let again = story.rename();
    assert_eq!(sequences(&again), [(8, 0)]);
    story.acknowledge(&again[0], 1);
    let next = story.next().expect("the broker knows the name now");
    assert_eq!(sequences(&[next]), [(8, 1)]);
    story.done.pop();
    assert!(matches!(story.results()[..], [Err(SendError::Refused(_))]));
}

#[test]
fn a_batch_that_was_refused_alone_leaves_no_gap() {
    let mut story = Story::new();
    let sent = story.send(&["a"]);
    story.refuse(&sent[0], ErrorCode::MESSAGE_TOO_LARGE);
    let next = story.send(&["b"]);
    assert_eq!(sequences(&next), [(7, 0)]);
}

#[test]
fn what_may_be_in_the_log_never_gets_another_name() {
    let mut story = Story::new();
    let sent = story.send(&["a", "b"]);
    story.lose(&sent[0]);
    story.lose(&sent[1]);
    let again = story.revive();
    story.refuse(&again[0], ErrorCode::UNKNOWN_PRODUCER_ID);
    story.refuse(&again[1], ErrorCode::UNKNOWN_PRODUCER_ID);
    assert!(story.rename().is_empty());
    let results = story.results();
    assert_eq!(results.len(), 2);
    for result in results {
        assert!(result.is_err_and(|error| error.possibly_written()));
    }
    assert_eq!(sequences(&story.send(&["c"])), [(8, 0)]);
}

#[test]
fn a_broker_that_forgot_the_producer_gets_what_it_never_had_under_another_name() {
    let mut story = Story::new();
    let sent = story.send(&["a", "b"]);
    story.acknowledge(&sent[0], 0);
    story.refuse(&sent[1], ErrorCode::UNKNOWN_PRODUCER_ID);
    let again = story.rename();
    assert_eq!(sequences(&again), [(8, 0)]);
    assert_eq!(story.results(), [Ok(0)]);
}

#[test]
fn without_idempotence_what_may_be_in_the_log_is_not_sent_again() {
    let mut story = Story::with(|rules| rules.idempotent = false);
    let sent = story.send(&["a", "b"]);
    story.lose(&sent[0]);
    story.fail(&sent[1], RequestError::Lost { reason: "cut".to_owned() }, false);
    assert_eq!(story.revive().len(), 1, "the one that was never handed over");
    assert!(story.results()[0].as_ref().is_err_and(SendError::possibly_written));
}

#[test]
fn a_record_in_flight_whose_time_is_over_may_be_written() {
    let mut story = Story::new();
    let sent = story.send(&["a"]);
    story.push("b");
    story.now += Duration::from_secs(30);
    story.partition.expire(story.now, &mut story.done);
    let results = story.results();
    assert!(results[0].as_ref().is_err_and(SendError::possibly_written));
    assert!(matches!(results[1], Err(SendError::NotSent { .. })));
    // The answer that comes after all is no surprise.
    story.acknowledge(&sent[0], 5);
    assert!(story.partition.is_empty());
    assert_eq!(sequences(&story.send(&["c"])), [(7, 1)]);
}

#[test]
fn a_record_whose_time_was_over_is_not_sent_again_and_the_next_one_finds_the_gap() {
    let mut story = Story::new();
    let sent = story.send(&["a"]);
    story.now += Duration::from_secs(30);
    story.partition.expire(story.now, &mut story.done);
    story.lose(&sent[0]);
    assert!(story.revive().is_empty());
    let next = story.send(&["b"]);
    assert_eq!(sequences(&next), [(7, 1)]);
    story.refuse(&next[0], ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(sequences(&story.rename()), [(8, 0)]);
    assert_eq!(story.done.len(), 1);
}

#[test]
fn records_and_room_are_accounted_for_once() {
    let mut story = Story::new();
    let cost = record_bytes_max(&Record::new("a"));
    let sent = story.send(&["a", "a"]);
    story.now += Duration::from_secs(30);
    story.partition.expire(story.now, &mut story.done);
    story.acknowledge(&sent[0], 0);
    story.lose(&sent[1]);
    let (records, costs): (Vec<_>, Vec<_>) =
        story.done.iter().map(|done| (done.records, done.cost)).unzip();
    assert_eq!(records.iter().sum::<u32>(), 2);
    assert_eq!(costs.iter().sum::<usize>(), 2 * cost);
}

#[test]
fn what_comes_while_a_batch_is_compressed_waits_behind_it() {
    let mut story = Story::with(|rules| rules.compression = Compression::Lz4);
    story.push("first");
    let work = story.work();
    story.push("second");
    story.partition.flush(&mut Vec::new());
    assert_eq!(story.next(), None, "nothing overtakes the first");
    assert!(!story.partition.is_empty());
    story.partition.compressed(work.run());
    let first = story.next().expect("it is compressed");
    let work = story.work();
    assert_eq!(story.next(), None);
    story.partition.compressed(work.run());
    let second = story.next().expect("there is room in flight");
    assert_eq!(sequences(&[first.clone(), second.clone()]), [(7, 0), (7, 1)]);
    story.acknowledge(&first, 0);
    story.acknowledge(&second, 1);
    assert!(story.partition.is_empty());
}

#[test]
fn a_flow_that_breaks_while_a_batch_is_compressed_sends_it_last_under_its_next_name() {
    let mut story = Story::with(|rules| rules.compression = Compression::Lz4);
    story.push("first");
    let work = story.work();
    story.partition.compressed(work.run());
    let first = story.next().expect("it is compressed");
    story.push("second");
    story.partition.flush(&mut Vec::new());
    let work = story.work();
    story.refuse(&first, ErrorCode::UNKNOWN_PRODUCER_ID);
    story.partition.compressed(work.run());
    assert_eq!(story.next(), None, "it has no name");
    assert_eq!(sequences(&story.rename()), [(8, 0)], "one until the broker knows the writer");
    let again = story.partition.sent.front().map(|sent| sent.token).expect("it is in flight");
    let ack = BatchAck {
        partition: 3,
        base_offset: 0,
        durability: Durability::Flushed,
        replicas: 1,
        duplicate: false,
    };
    story.done.extend(story.partition.acknowledged(again, ack));
    let second = story.next().expect("it has waited since");
    assert_eq!(sequences(&[second]), [(8, 1)]);
}

#[test]
fn a_batch_that_is_given_up_or_late_while_it_is_compressed_is_told_once() {
    let mut story = Story::with(|rules| rules.compression = Compression::Lz4);
    story.push("given up");
    let work = story.work();
    story.partition.abandon(&mut story.done);
    story.partition.compressed(work.run());
    assert!(story.partition.is_empty());
    assert_eq!(story.results(), [Err(SendError::Closed)]);
    story.done.clear();
    story.push("late");
    let work = story.work();
    let late = story.now + Duration::from_secs(31);
    assert!(story.partition.due() < Some(late));
    story.partition.expire(late, &mut story.done);
    assert!(story.done.is_empty(), "whoever has it brings it back");
    story.partition.compressed(work.run());
    story.partition.expire(late, &mut story.done);
    assert!(matches!(story.results()[..], [Err(SendError::NotSent { .. })]));
    assert!(story.partition.is_empty());
}
