//! The batches of one partition, from open to acknowledged, without sockets and clocks.
//!
//! ```text
//!   push ──> open ── full ──> ready ── in flight < 5 ──> sent ── acknowledged ──> settled
//!              └── nothing in flight ─────────▲─────────▲ │
//!                         front: compressed, unlocked   └─┘ again, in order, same sequence
//!   Flowing ── a failure that may pass ──> Broken ── all answered, time ──> revive ──> Flowing
//!      └────── the broker does not know the writer ──> Nameless ── rename ──> Flowing
//! ```
//!
//! Invariants
//! - Batches are sent, and sent again, in the order of their records, and a batch keeps its bytes
//!   and its sequence as long as it may be in the log under them.
//! - Nothing is sent again before every batch in flight has been answered or lost.
//! - A batch that may be in the log never gets another writer's name: its outcome is unknown.
//! - At most one batch is being compressed, and nothing leaves before it but what is sent again.
//!
//! Checksums are made under the producer's lock, because they are over the sequence, which is given
//! when a batch leaves: some ten microseconds for 128 KiB, where compressing takes a millisecond.
//!
//! Absent on purpose: connections, and who is the leader.

use super::batch::{ClosedBatch, Identity, OpenBatch, record_bytes_max, seal_again};
use super::front::{Front, Next, Work};
use super::handle::{BatchAck, BatchOutcome, Ticket};
use crate::connection::stream::SinkError;
use crate::error::{BrokerError, RequestError, SendError};
use crate::record::Record;
use bateau_protocol::record::{Compression, sequence_plus};
use bateau_protocol::wire::ErrorCode;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Batches of one partition in flight: as many as the broker remembers of a writer (KIP-98).
pub(crate) const IN_FLIGHT_MAX: usize = 5;

/// What decides about batches.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub linger: Duration,
    pub batch_bytes: usize,
    pub timeout: Duration,
    pub compression: Compression,
    pub idempotent: bool,
}

/// A batch to be handed to the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Outgoing {
    pub partition: i32,
    pub token: u64,
    pub bytes: Bytes,
    pub deadline: Instant,
}

/// A batch that is done, and what is to be told of it.
#[derive(Debug)]
pub(crate) struct Settled {
    pub outcome: Arc<BatchOutcome>,
    pub result: Result<BatchAck, SendError>,
    pub records: u32,
    /// What it gives back to the producer's buffer, in bytes.
    pub cost: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Flowing,
    /// Waits for the answers that are still out, then until `at`.
    Broken {
        at: Instant,
    },
    /// Somebody looks for the leader.
    Reviving,
    /// Waits for the answers that are still out, then until `at`, and needs a new identity.
    Nameless {
        at: Instant,
    },
    /// Somebody asks for one.
    Naming,
}

#[derive(Debug)]
struct Sent {
    bytes: Bytes,
    token: u64,
    outcome: Arc<BatchOutcome>,
    records: i32,
    sequence: i32,
    deadline: Instant,
    cost: usize,
    in_flight: bool,
    possibly_written: bool,
    /// Its handles have been told already, when its time was over.
    is_told: bool,
}

#[derive(Debug)]
pub(crate) struct Partition {
    number: i32,
    rules: Rules,
    identity: Identity,
    /// Whether the broker has acknowledged a batch of this identity. Before that it takes any
    /// sequence for the first one, so a batch must not overtake one that was refused.
    is_known: bool,
    next_sequence: i32,
    next_token: u32,
    open: Option<OpenBatch>,
    ready: VecDeque<OpenBatch>,
    front: Option<Front>,
    sent: VecDeque<Sent>,
    phase: Phase,
    /// Times in a row that it broke.
    failures: u32,
    /// What was in the way last, for texts.
    obstacle: Option<String>,
    /// Bytes that the last batch had: what the next one is expected to have.
    expected_bytes: usize,
}

impl Partition {
    pub fn new(number: i32, rules: Rules, identity: Identity) -> Self {
        Self {
            number,
            rules,
            identity,
            is_known: !identity.is_somebody(),
            next_sequence: 0,
            next_token: 0,
            open: None,
            ready: VecDeque::new(),
            front: None,
            sent: VecDeque::new(),
            phase: Phase::Flowing,
            failures: 0,
            obstacle: None,
            expected_bytes: 0,
        }
    }

    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it does not flow, so that somebody has to look after it.
    pub fn needs_care(&self) -> bool {
        self.phase != Phase::Flowing
    }

    /// Whether nothing waits and nothing is in flight.
    pub fn is_empty(&self) -> bool {
        let is_idle = self.front.is_none() && self.sent.is_empty();
        is_idle && self.open.is_none() && self.ready.is_empty()
    }

    /// Adds a record to the open batch, or to a new one.
    pub fn push(&mut self, record: &Record, timestamp_ms: i64, now: Instant) -> Ticket {
        let cost = record_bytes_max(record);
        let batch_bytes = self.rules.batch_bytes;
        if let Some(full) = self.open.take_if(|open| !open.fits(cost, batch_bytes)) {
            self.ready.push_back(full);
        }
        let is_idle = self.sent.is_empty() && self.ready.is_empty() && self.front.is_none();
        let expected = if is_idle { cost } else { self.expected_bytes.min(batch_bytes).max(cost) };
        let deadline = now + self.rules.timeout;
        let open = self.open.get_or_insert_with(|| OpenBatch::new(expected, now, deadline));
        open.cost += cost;
        let place = open.push(record, timestamp_ms);
        let ticket = Ticket::new(Arc::clone(&open.outcome), place);
        if open.len() >= batch_bytes
            && let Some(full) = self.open.take()
        {
            self.ready.push_back(full);
        }
        ticket
    }

    /// The next batch that may leave now, or be compressed to leave, if there is one.
    pub fn next(&mut self, now: Instant) -> Option<Next> {
        let in_flight_max = if self.is_known { IN_FLIGHT_MAX } else { 1 };
        let in_flight = self.sent.iter().take_while(|sent| sent.in_flight).count();
        if self.phase != Phase::Flowing || in_flight >= in_flight_max {
            return None;
        }
        // What is sent again comes before what is new.
        if let Some(again) = self.sent.get_mut(in_flight) {
            again.in_flight = true;
            let (token, deadline, bytes) = (again.token, again.deadline, again.bytes.clone());
            return Some(Next::Send(Outgoing { partition: self.number, token, bytes, deadline }));
        }
        match self.front.take() {
            Some(Front::Compressed(batch)) => return Some(Next::Send(self.send(batch))),
            // Whoever compresses it goes on with it.
            Some(front) => {
                self.front = Some(front);
                return None;
            }
            None => {}
        }
        let batch = match self.ready.pop_front() {
            Some(batch) => batch,
            None => {
                let (linger, is_idle) = (self.rules.linger, self.sent.is_empty());
                let lingered =
                    |open: &mut OpenBatch| now.saturating_duration_since(open.opened) >= linger;
                self.open.take_if(|open| is_idle && lingered(open))?
            }
        };
        self.expected_bytes = batch.len();
        let compression = self.rules.compression;
        if compression == Compression::None {
            return Some(Next::Send(self.send(batch.close(compression))));
        }
        let work = Work { batch, compression, partition: self.number };
        self.front = Some(Front::of(&work));
        Some(Next::Compress(work))
    }

    /// A batch that [`Next::Compress`] gave out is ready to leave.
    pub fn compressed(&mut self, batch: ClosedBatch) {
        // None where everything has been given up meanwhile.
        self.front = self.front.take().map(|_| Front::Compressed(batch));
    }

    /// Gives a batch its place in the order of writing.
    fn send(&mut self, batch: ClosedBatch) -> Outgoing {
        let (outcome, deadline, cost) = (Arc::clone(&batch.outcome), batch.deadline, batch.cost);
        let (records, sequence) = (batch.records(), self.next_sequence);
        self.next_sequence = sequence_plus(sequence, records);
        let bytes = batch.seal(self.identity, sequence);
        let token = self.new_token();
        let outgoing = Outgoing { partition: self.number, token, bytes: bytes.clone(), deadline };
        self.sent.push_back(Sent {
            bytes,
            token,
            outcome,
            records,
            sequence,
            deadline,
            cost,
            in_flight: true,
            possibly_written: false,
            is_told: false,
        });
        outgoing
    }

    fn new_token(&mut self) -> u64 {
        self.next_token = self.next_token.wrapping_add(1);
        token_of(self.number, self.next_token)
    }

    /// Everything that has been pushed leaves as soon as it may, linger or not.
    pub fn flush(&mut self, outcomes: &mut Vec<Arc<BatchOutcome>>) {
        if let Some(open) = self.open.take() {
            self.ready.push_back(open);
        }
        outcomes.extend(self.front.iter().map(|front| Arc::clone(front.outcome())));
        outcomes.extend(self.ready.iter().map(|batch| Arc::clone(&batch.outcome)));
        let told = self.sent.iter().filter(|sent| !sent.is_told);
        outcomes.extend(told.map(|sent| Arc::clone(&sent.outcome)));
    }

    /// A batch is in the log.
    pub fn acknowledged(&mut self, token: u64, ack: BatchAck) -> Option<Settled> {
        let sent = self.take(token)?;
        self.is_known = true;
        self.failures = 0;
        self.obstacle = None;
        Some(settled(sent, Ok(ack)))
    }

    fn take(&mut self, token: u64) -> Option<Sent> {
        let place = self.sent.iter().position(|sent| sent.token == token && sent.in_flight)?;
        self.sent.remove(place)
    }

    /// A batch was not acknowledged. What is settled by that goes to `done`.
    ///
    /// - `retry_at`: when it may be tried again.
    pub fn failed(
        &mut self,
        token: u64,
        error: &SinkError,
        now: Instant,
        retry_at: Instant,
        done: &mut Vec<Settled>,
    ) {
        let Some(sent) = self.sent.iter_mut().find(|sent| sent.token == token && sent.in_flight)
        else {
            return;
        };
        sent.in_flight = false;
        sent.possibly_written |= error.was_sent && error.error.possibly_written();
        self.obstacle = Some(error.error.to_string());
        let verdict = match &error.error {
            RequestError::Broker(answer) => verdict(answer),
            RequestError::Closed if error.was_sent => {
                Verdict::Over(unknown("the client was closed"))
            }
            RequestError::Closed => Verdict::Over(SendError::Closed),
            _ if self.rules.idempotent || !sent.possibly_written => Verdict::Again,
            error => Verdict::Over(unknown(&error.to_string())),
        };
        match verdict {
            Verdict::Again => self.break_until(retry_at),
            Verdict::OutOfOrder if self.phase == Phase::Flowing || self.is_first(token) => {
                self.phase = Phase::Nameless { at: now };
            }
            // What came before it has to be written first.
            Verdict::OutOfOrder => {}
            Verdict::UnknownWriter => self.phase = Phase::Nameless { at: now },
            Verdict::Over(error) => {
                if let Some(place) = self.sent.iter().position(|sent| sent.token == token)
                    && let Some(sent) = self.sent.remove(place)
                {
                    // Its sequence is missing now, so what follows needs another name.
                    let is_last = place == self.sent.len();
                    if self.rules.idempotent && is_last && !sent.possibly_written {
                        self.next_sequence = sent.sequence;
                    } else if self.rules.idempotent {
                        self.phase = Phase::Nameless { at: now };
                    }
                    let error = if sent.possibly_written && !error.possibly_written() {
                        unknown(&error.to_string())
                    } else {
                        error
                    };
                    done.push(settled(sent, Err(error)));
                }
            }
        }
    }

    fn is_first(&self, token: u64) -> bool {
        self.sent.front().is_some_and(|first| first.token == token)
    }

    /// Stops the flow; what is in flight is waited for.
    fn break_until(&mut self, at: Instant) {
        if matches!(self.phase, Phase::Flowing | Phase::Reviving) {
            self.failures = self.failures.saturating_add(1);
            self.phase = Phase::Broken { at };
        }
    }

    /// Its topic was deleted and made anew: the order of writing begins again there, under a new
    /// name. What may be in the old topic is not written into the new one.
    pub fn topic_was_replaced(&mut self, now: Instant) {
        self.obstacle = Some("the topic was deleted, and made anew".to_owned());
        if self.phase != Phase::Naming {
            self.phase = Phase::Nameless { at: now };
        }
    }

    /// The leader could not be reached.
    pub fn not_revived(&mut self, obstacle: String, at: Instant) {
        self.obstacle = Some(obstacle);
        match self.phase {
            Phase::Naming => {
                self.failures = self.failures.saturating_add(1);
                self.phase = Phase::Nameless { at };
            }
            Phase::Reviving => self.break_until(at),
            _ => {}
        }
    }

    /// Batches that were accepted for sending and could not be handed over.
    pub fn not_handed_over(&mut self, token: u64, retry_at: Instant) {
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.token == token) {
            sent.in_flight = false;
        }
        self.break_until(retry_at);
    }

    /// Whether it waits for its leader, and its time has come. It counts as looked after then.
    pub fn take_broken(&mut self, now: Instant) -> bool {
        let due = matches!(self.phase, Phase::Broken { at } if at <= now) && self.is_answered();
        if due {
            self.phase = Phase::Reviving;
        }
        due
    }

    /// Whether it needs a new identity, and may get one. It counts as looked after then.
    pub fn take_nameless(&mut self, now: Instant) -> bool {
        let due = matches!(self.phase, Phase::Nameless { at } if at <= now) && self.is_answered();
        if due {
            self.phase = Phase::Naming;
        }
        due
    }

    fn is_answered(&self) -> bool {
        self.sent.iter().all(|sent| !sent.in_flight)
    }

    /// The leader is there: what was sent is sent again, in order, before anything new.
    pub fn revive(&mut self) {
        if self.phase == Phase::Reviving {
            self.phase = Phase::Flowing;
            self.sent.retain(|sent| !sent.is_told);
        }
    }

    /// A new identity has been given: what cannot be in the log is sent under it, in order. What
    /// may be in the log is not known, and goes to `done`.
    pub fn rename(&mut self, identity: Identity, now: Instant, done: &mut Vec<Settled>) {
        if self.phase != Phase::Naming {
            return;
        }
        let obstacle = self.obstacle.clone().unwrap_or_default();
        let (unsure, sure): (VecDeque<_>, VecDeque<_>) =
            self.sent.drain(..).partition(|sent| sent.possibly_written || sent.is_told);
        let unsure = unsure.into_iter().filter(|sent| !sent.is_told);
        done.extend(unsure.map(|sent| settled(sent, Err(unknown(&obstacle)))));
        self.sent = sure;
        self.identity = identity;
        self.is_known = !identity.is_somebody();
        self.next_sequence = 0;
        for sent in &mut self.sent {
            sent.sequence = self.next_sequence;
            sent.bytes = seal_again(&sent.bytes, identity, sent.sequence);
            self.next_sequence = sequence_plus(self.next_sequence, sent.records);
        }
        self.phase = Phase::Broken { at: now };
    }

    /// Tells those whose time is over. What is in flight stays, untold no longer, until it is
    /// answered: its sequence is still needed.
    pub fn expire(&mut self, now: Instant, done: &mut Vec<Settled>) {
        let after_ms = u64::try_from(self.rules.timeout.as_millis()).unwrap_or(u64::MAX);
        let obstacle = self.obstacle.clone();
        let reason = || obstacle.clone().unwrap_or_else(|| "no acknowledgement came".to_owned());
        let mut kept = VecDeque::with_capacity(self.sent.len());
        for mut sent in self.sent.drain(..) {
            if sent.is_told || sent.deadline > now {
                kept.push_back(sent);
            } else if sent.in_flight {
                let result = Err(unknown(&format!("{} within {after_ms} ms", reason())));
                let (outcome, cost) = (Arc::clone(&sent.outcome), std::mem::take(&mut sent.cost));
                let records = sent.records.unsigned_abs();
                done.push(Settled { outcome, result, records, cost });
                sent.is_told = true;
                kept.push_back(sent);
            } else {
                let error = if sent.possibly_written {
                    unknown(&format!("{} within {after_ms} ms", reason()))
                } else {
                    SendError::NotSent { after_ms, reason: reason() }
                };
                done.push(settled(sent, Err(error)));
            }
        }
        self.sent = kept;
        let error = || SendError::NotSent { after_ms, reason: reason() };
        // One that is being compressed is told when it is back.
        let is_over =
            |front: &mut Front| matches!(front, Front::Compressed(batch) if batch.deadline <= now);
        done.extend(self.front.take_if(is_over).map(|front| front.unsent(error())));
        let is_over = |batch: &OpenBatch| batch.deadline <= now;
        let mut over: Vec<_> = Vec::new();
        while let Some(batch) = self.ready.pop_front_if(|batch| is_over(batch)) {
            over.push(batch);
        }
        over.extend(self.open.take_if(|open| is_over(open)));
        for batch in over {
            done.push(unsent(batch, error()));
        }
    }

    /// Gives up everything: the producer or its client is closed.
    pub fn abandon(&mut self, done: &mut Vec<Settled>) {
        for sent in self.sent.drain(..).filter(|sent| !sent.is_told) {
            let error = if sent.in_flight || sent.possibly_written {
                unknown("the client was closed before the acknowledgement came")
            } else {
                SendError::Closed
            };
            done.push(settled(sent, Err(error)));
        }
        done.extend(self.front.take().map(|front| front.unsent(SendError::Closed)));
        for batch in self.ready.drain(..).chain(self.open.take()) {
            done.push(unsent(batch, SendError::Closed));
        }
    }

    /// When it next needs somebody: its linger, its delay or its deadline is over.
    pub fn due(&self) -> Option<Instant> {
        let lingering = self.open.as_ref().map(|open| {
            if self.sent.is_empty() && self.front.is_none() && self.phase == Phase::Flowing {
                (open.opened + self.rules.linger).min(open.deadline)
            } else {
                open.deadline
            }
        });
        let waiting = self.sent.iter().filter(|sent| !sent.is_told).map(|sent| sent.deadline);
        let ready = self.ready.front().map(|batch| batch.deadline);
        let broken = match self.phase {
            Phase::Broken { at } | Phase::Nameless { at } if self.is_answered() => Some(at),
            _ => None,
        };
        let front = self.front.as_ref().map(Front::deadline);
        waiting.chain(lingering).chain(ready).chain(front).chain(broken).min()
    }
}

/// What an error of the broker means for a batch.
enum Verdict {
    Again,
    OutOfOrder,
    UnknownWriter,
    Over(SendError),
}

fn verdict(error: &BrokerError) -> Verdict {
    match error.code {
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => Verdict::OutOfOrder,
        ErrorCode::UNKNOWN_PRODUCER_ID
        | ErrorCode::INVALID_PRODUCER_EPOCH
        | ErrorCode::PRODUCER_FENCED
        | ErrorCode::INVALID_PRODUCER_ID_MAPPING => Verdict::UnknownWriter,
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => {
            Verdict::Over(unknown("the broker has had the batch, and does not say where"))
        }
        _ if error.is_retryable => Verdict::Again,
        _ if error.possibly_written => Verdict::Over(unknown(&error.to_string())),
        _ => Verdict::Over(SendError::Refused(error.clone())),
    }
}

fn unknown(reason: &str) -> SendError {
    SendError::OutcomeUnknown { reason: reason.to_owned() }
}

fn settled(sent: Sent, result: Result<BatchAck, SendError>) -> Settled {
    let records = if sent.is_told { 0 } else { sent.records.unsigned_abs() };
    Settled { outcome: sent.outcome, result, records, cost: sent.cost }
}

fn unsent(batch: OpenBatch, error: SendError) -> Settled {
    let (records, cost) = (batch.records().unsigned_abs(), batch.cost);
    Settled { outcome: batch.outcome, result: Err(error), records, cost }
}

/// A batch's name within its producer: its partition and a number.
fn token_of(partition: i32, number: u32) -> u64 {
    u64::from(partition.unsigned_abs()) << 32 | u64::from(number)
}

/// The partition of a token.
pub(crate) const fn partition_of(token: u64) -> usize {
    (token >> 32) as usize
}

#[cfg(test)]
mod tests;
