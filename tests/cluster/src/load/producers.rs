//! Producers with idempotence, that retry until they are answered, and producers without.
//!
//! Invariants
//! - An ordered producer sends again what was not answered, from the first such batch on, with
//!   the sequences that it had; the answer to any attempt settles a batch.
//! - A plain producer sends a batch once. What it is not told stays unknown.
//!
//! Absent on purpose: batches that wait for company; a batch has one to three records.

use super::{
    ANSWER_TIMEOUT, Ack, RETRY_PAUSE, SETTLE_MAX, Shared, dial, is_retriable, producer_id,
};
use crate::wire::{self, Identity, Wire};
use checker::{Client, NEVER, Operation, Outcome, Partition, Value, What};
use kafka_clients_tests::raw::requests::Request;
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// Batches of an idempotent producer that may be on their way at once, as Kafka has it.
const IN_FLIGHT_MAX: usize = 5;
/// Records of one batch.
const RECORDS_MAX: u64 = 3;
/// An answer that repeats what was appended before: the batch is there.
const DUPLICATE_SEQUENCE_NUMBER: i16 = 46;
/// Answers in a row that no retry settles, before it counts as broken.
const REFUSALS_MAX: usize = 200;

/// A batch that has not been settled.
struct Batch {
    values: Vec<Value>,
    sequence: i32,
    invoked: u64,
    /// When it went out on the connection that is open now.
    sent: u64,
    request: Option<Request>,
}

struct Ordered<'a> {
    shared: &'a Shared,
    client: Client,
    partition: Partition,
    identity: (i64, i16),
    next_sequence: i32,
    /// Unsettled batches in order; the first `on_the_way` are out on the connection.
    waiting: VecDeque<Batch>,
    on_the_way: usize,
    link: Option<(usize, Wire)>,
    random: fastrand::Rng,
    due: Instant,
    heard: Instant,
    refusals: usize,
    done: Vec<Operation>,
}

/// An idempotent producer of one partition.
pub(super) fn ordered(shared: &Shared, partition: Partition) -> Vec<Operation> {
    let client = shared.new_client();
    let Some(identity) = producer_id(shared) else {
        shared.note_problem(format!("client {client} got no producer id"));
        return Vec::new();
    };
    let mut producer = Ordered {
        shared,
        client,
        partition,
        identity,
        next_sequence: 0,
        waiting: VecDeque::new(),
        on_the_way: 0,
        link: None,
        random: fastrand::Rng::with_seed(shared.seed ^ u64::from(client) << 32),
        due: Instant::now(),
        heard: Instant::now(),
        refusals: 0,
        done: Vec::new(),
    };
    producer.run();
    producer.done
}

impl Ordered<'_> {
    fn run(&mut self) {
        let mut ends = None;
        loop {
            let producing = self.shared.producing.load(Ordering::Relaxed);
            if !producing {
                let end = *ends.get_or_insert_with(|| Instant::now() + SETTLE_MAX);
                if self.waiting.is_empty() || Instant::now() > end {
                    break;
                }
            }
            if producing && Instant::now() >= self.due && self.waiting.len() < IN_FLIGHT_MAX {
                self.take_up();
            }
            if let Err(suspect) = self.turn() {
                self.link = None;
                self.on_the_way = 0;
                self.shared.directory.refresh(suspect);
                if self.shared.directory.leader(self.partition) == suspect {
                    thread::sleep(RETRY_PAUSE);
                }
            }
        }
        for batch in std::mem::take(&mut self.waiting) {
            self.settle(&batch, NEVER, |_| Outcome::Unknown);
        }
    }

    /// Begins another batch.
    fn take_up(&mut self) {
        let count = self.random.u64(1..=RECORDS_MAX);
        let values: Vec<Value> = (0..count).map(|_| self.shared.new_value()).collect();
        let sequence = self.next_sequence;
        self.next_sequence += i32::try_from(count).expect("it is small");
        let invoked = self.shared.now();
        self.shared.count_operation();
        self.waiting.push_back(Batch { values, sequence, invoked, sent: 0, request: None });
        let pause = self.shared.shape.pause.as_secs_f64() * 2.0 * self.random.f64();
        self.due = Instant::now() + Duration::from_secs_f64(pause);
    }

    /// Sends what is to be sent and reads an answer, if one comes. An error names the node that
    /// was found wanting.
    fn turn(&mut self) -> Result<(), Option<usize>> {
        if self.waiting.is_empty() {
            let left = self.due.saturating_duration_since(Instant::now());
            thread::sleep(left.clamp(Duration::from_millis(1), Duration::from_millis(20)));
            return Ok(());
        }
        if self.link.is_none() {
            let leader = self.shared.directory.leader(self.partition);
            let node = leader.ok_or(None)?;
            let wire = dial(node).map_err(|_| Some(node))?;
            self.link = Some((node, wire));
            self.on_the_way = 0;
            self.heard = Instant::now();
        }
        let (node, mut wire) = self.link.take().expect("it was made above");
        self.send_waiting(&mut wire).map_err(|_| Some(node))?;
        let until_due = self.due.saturating_duration_since(Instant::now());
        let full = self.waiting.len() >= IN_FLIGHT_MAX;
        let wait = if full { Duration::from_millis(50) } else { until_due };
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_millis(50));
        match wire.poll(wait) {
            Ok(Some(frame)) => self.answered(node, &frame)?,
            Ok(None) if self.heard.elapsed() > ANSWER_TIMEOUT => return Err(Some(node)),
            Ok(None) => {}
            Err(_) => return Err(Some(node)),
        }
        self.link = Some((node, wire));
        Ok(())
    }

    fn send_waiting(&mut self, wire: &mut Wire) -> io::Result<()> {
        let (id, epoch) = self.identity;
        if self.on_the_way == 0 {
            self.heard = Instant::now();
        }
        for batch in self.waiting.iter_mut().skip(self.on_the_way) {
            let identity = Some(Identity { id, epoch, sequence: batch.sequence });
            let request = wire::produce(
                &self.shared.topic,
                self.partition,
                &batch.values,
                identity,
                ANSWER_TIMEOUT,
            );
            batch.sent = self.shared.now();
            wire.send(&request)?;
            batch.request = Some(request);
            self.on_the_way += 1;
        }
        Ok(())
    }

    /// Answers come in the order of the requests: this one is the first batch's.
    fn answered(&mut self, node: usize, frame: &[u8]) -> Result<(), Option<usize>> {
        self.heard = Instant::now();
        let Some(batch) = self.waiting.front() else { return Err(Some(node)) };
        let Some(request) = &batch.request else { return Err(Some(node)) };
        let (code, base) = wire::produced(request.body_of_answer(frame));
        if code == 0 || code == DUPLICATE_SEQUENCE_NUMBER {
            self.refusals = 0;
            let batch = self.waiting.pop_front().expect("it was looked at");
            self.on_the_way = self.on_the_way.saturating_sub(1);
            let (partition, sent, acked) = (self.partition, batch.sent, self.shared.now());
            let invoked = batch.invoked;
            self.shared.note_ack(Ack { partition, node, invoked, sent, acked });
            self.settle(&batch, acked, |at| Outcome::Acked(if base < 0 { -1 } else { base + at }));
            return Ok(());
        }
        self.refusals += 1;
        self.shared.note_refusal(node, code);
        let unexpected = !is_retriable(code);
        if unexpected && self.refusals > REFUSALS_MAX {
            let (client, sequence) = (self.client, batch.sequence);
            let problem = format!("client {client}: error {code} for sequence {sequence} again");
            self.shared.note_problem(problem);
            self.refusals = 0;
        }
        Err(Some(node))
    }

    fn settle(&mut self, batch: &Batch, returned: u64, outcome: impl Fn(i64) -> Outcome) {
        for (at, value) in (0_i64..).zip(&batch.values) {
            self.done.push(Operation {
                client: self.client,
                // Records of one batch have their order.
                invoked: batch.invoked + u64::try_from(at).unwrap_or(0),
                returned: returned.max(batch.invoked + RECORDS_MAX),
                what: What::Send {
                    partition: self.partition,
                    value: *value,
                    outcome: outcome(at),
                    ordered: true,
                },
            });
        }
    }
}

/// A producer without idempotence over all partitions in turn; with `pinned` it knows only that
/// node, and is patient with it.
pub(super) fn plain(shared: &Shared, pinned: Option<usize>) -> Vec<Operation> {
    let client = shared.new_client();
    let mut random = fastrand::Rng::with_seed(shared.seed ^ u64::from(client) << 32);
    let (mut done, mut link) = (Vec::new(), None);
    let goes_on = || {
        let pinned = pinned.is_none() || shared.pinned.load(Ordering::Relaxed);
        pinned && shared.producing.load(Ordering::Relaxed)
    };
    while goes_on() {
        let partition = random.u32(0..shared.shape.partitions);
        let Some(node) = pinned.or_else(|| shared.directory.leader(partition)) else {
            shared.directory.refresh(None);
            thread::sleep(RETRY_PAUSE);
            continue;
        };
        let value = shared.new_value();
        let invoked = shared.now();
        shared.count_operation();
        let (outcome, returned) = once(shared, &mut link, node, partition, value);
        let what = What::Send { partition, value, outcome, ordered: false };
        done.push(Operation { client, invoked, returned, what });
        if !matches!(outcome, Outcome::Acked(_)) && pinned.is_none() {
            shared.directory.refresh(Some(node));
        }
        let pause = shared.shape.pause.as_secs_f64() * 2.0 * random.f64();
        thread::sleep(Duration::from_secs_f64(pause));
    }
    done
}

/// One attempt; what is known of it, and when it came back.
fn once(
    shared: &Shared,
    link: &mut Option<(usize, Wire)>,
    node: usize,
    partition: Partition,
    value: Value,
) -> (Outcome, u64) {
    let connected = link.take().filter(|(to, _)| *to == node).map(|(_, wire)| wire);
    let wire = connected.map_or_else(|| dial(node), Ok);
    // Nobody was asked.
    let Ok(mut wire) = wire else { return (Outcome::Failed, shared.now()) };
    let request = wire::produce(&shared.topic, partition, &[value], None, ANSWER_TIMEOUT);
    let sent = shared.now();
    let Ok(answer) = wire.call(&request, ANSWER_TIMEOUT) else { return (Outcome::Unknown, NEVER) };
    let (code, base) = wire::produced(&answer);
    *link = Some((node, wire));
    let acked = shared.now();
    if code == 0 {
        shared.note_ack(Ack { partition, node, invoked: sent, sent, acked });
        return (Outcome::Acked(base), acked);
    }
    shared.note_refusal(node, code);
    (Outcome::Unknown, NEVER)
}
