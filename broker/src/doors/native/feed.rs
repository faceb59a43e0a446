//! Subscriptions of one connection, joined with the partitions that they read.
//!
//! ```text
//!   Subscriptions: whose turn, how much ──> partition: readable? ──no──> park, or end
//!                      ▲                            │ resident? ──no──> read thread ──> resume
//!   commit ─> Alarm ───┘                            └─yes──> Records, lent from the log
//! ```
//!
//! Invariants
//! - `I-LOG-3` Nothing at or above the high watermark is lent.
//! - A subscription that waits, for a commit or for credit, is parked at its partition exactly
//!   once, so that it hears of the partition's end.
//! - A subscription that was opened ends by one `SubscriptionEnded`, or with its stream.
//!
//! Absent on purpose: who may send how much ([`Subscriptions`]), streams and sockets.

use super::convert::fetch_error;
use super::convert::records::epoch;
use super::session::{Session, StreamNumber, error, going_away};
use super::subscription::{Address, CreditError, SubscriptionId, Subscriptions};
use crate::api::{Broker, TopicReference};
use crate::doors::words::wire_offset;
use crate::partition::{PartitionView, Sleeper};
use crate::readers::{FetchError, Readable, locate, readable, unreadable};
use bateau_log::{LogReader, ReadError};
use bateau_protocol::ids::Offset;
use bateau_protocol::native::{
    ErrorReply, Records, Reply, SubscribeRequest, SubscribeResponse, SubscriptionEnded,
};
use bateau_protocol::wire::{Chain, ErrorCode};
use futures_util::task::AtomicWaker;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Context;

/// Subscriptions whose partition has changed.
#[derive(Debug, Default)]
struct Woken {
    ids: Mutex<Vec<SubscriptionId>>,
    waker: AtomicWaker,
}

/// What a parked subscription leaves at its partition.
#[derive(Debug)]
struct Alarm {
    id: SubscriptionId,
    woken: Arc<Woken>,
    is_parked: AtomicBool,
}

impl Alarm {
    fn park(self: &Arc<Self>, view: &PartitionView) {
        if !self.is_parked.swap(true, Ordering::AcqRel) {
            view.park(self);
        }
    }
}

impl Sleeper for Alarm {
    fn wake(&self) {
        self.is_parked.store(false, Ordering::Release);
        self.woken.ids.lock().unwrap_or_else(PoisonError::into_inner).push(self.id);
        self.woken.waker.wake();
    }
}

#[derive(Debug)]
struct Reading {
    topic: TopicReference,
    partition: i32,
    /// The next offset to send.
    offset: i64,
    alarm: Arc<Alarm>,
}

/// A range that is being brought into memory, for [`Feed::resume`].
pub type Warming = Pin<Box<dyn Future<Output = (SubscriptionId, Warmed)> + Send>>;

/// Whether a range is in memory now; `None` when the node stops.
pub type Warmed = Option<Result<(), ReadError>>;

/// What a subscription has to send.
enum Look {
    Records { view: Arc<PartitionView>, records: Records, bytes: usize, next: i64 },
    Nothing(Arc<PartitionView>),
    Cold { reader: LogReader, range: (Offset, Offset), bytes_max: usize },
}

/// All subscriptions of one connection.
pub struct Feed {
    broker: Broker,
    subscriptions: Subscriptions<StreamNumber>,
    readings: BTreeMap<SubscriptionId, Reading>,
    woken: Arc<Woken>,
}

impl Feed {
    /// None yet.
    pub fn new(broker: Broker, subscriptions_max: usize, credit_bytes_max: u64) -> Self {
        let subscriptions = Subscriptions::new(subscriptions_max, credit_bytes_max);
        Self { broker, subscriptions, readings: BTreeMap::new(), woken: Arc::default() }
    }

    /// Opens a subscription; its turn comes behind the answer.
    ///
    /// Errors: what to answer instead; or a credit for which the connection is to be closed.
    pub fn subscribe(
        &mut self,
        address: Address<StreamNumber>,
        request: &SubscribeRequest,
    ) -> Result<Result<SubscribeResponse, ErrorReply>, CreditError> {
        let SubscribeRequest { topic_id, partition, offset, credit_bytes, leader_epoch } = *request;
        let topic = TopicReference::Id(topic_id);
        let checked = locate(&self.broker.directory(), &topic, partition, leader_epoch)
            .and_then(|view| readable(&view, offset));
        let Readable { high_watermark, log_start, .. } = match checked {
            Ok(checked) => checked,
            Err(found) => return Ok(Err(fetch_error(&found))),
        };
        let id = match self.subscriptions.open(address, credit_bytes) {
            Ok(id) => id,
            Err(found @ CreditError::Overdrawn { .. }) => return Err(found),
            Err(found @ CreditError::TooMany { .. }) => {
                return Ok(Err(error(ErrorCode::TOO_MANY_SUBSCRIPTIONS, found.to_string())));
            }
            Err(found @ CreditError::Taken) => {
                return Ok(Err(error(ErrorCode::INVALID_REQUEST, found.to_string())));
            }
        };
        let (woken, is_parked) = (Arc::clone(&self.woken), AtomicBool::new(false));
        let alarm = Arc::new(Alarm { id, woken, is_parked });
        self.readings.insert(id, Reading { topic, partition, offset, alarm });
        Ok(Ok(SubscribeResponse {
            high_watermark: wire_offset(high_watermark),
            log_start: wire_offset(log_start),
            leader_epoch: epoch(&self.broker, topic_id, partition),
        }))
    }

    /// Raises a credit. One for nobody crossed the subscription's end, and changes nothing.
    ///
    /// Errors: close the connection.
    pub fn credit(
        &mut self,
        address: Address<StreamNumber>,
        credit_bytes: u64,
    ) -> Result<(), CreditError> {
        match self.subscriptions.find(address) {
            Some(id) => self.subscriptions.grant(id, credit_bytes),
            None => Ok(()),
        }
    }

    /// Ends a subscription as its client wishes.
    pub fn unsubscribe(&mut self, session: &mut Session, address: Address<StreamNumber>) {
        let ended = match self.subscriptions.find(address) {
            Some(id) => {
                self.close(id);
                SubscriptionEnded::default()
            }
            None => SubscriptionEnded {
                code: ErrorCode::UNKNOWN_SUBSCRIPTION,
                message: "no subscription of this stream has this correlation".into(),
                ..SubscriptionEnded::default()
            },
        };
        session.push(address.0, address.1, &Reply::SubscriptionEnded(ended));
    }

    /// Hears of partitions that have changed. Returns whether any has.
    pub fn poll_woken(&mut self, task: &mut Context<'_>, session: &mut Session) -> bool {
        self.woken.waker.register(task.waker());
        let woken = {
            let mut ids = self.woken.ids.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *ids)
        };
        for id in &woken {
            self.subscriptions.wake(*id);
            if !self.subscriptions.is_due(*id) {
                self.look_after(session, *id);
            }
        }
        !woken.is_empty()
    }

    /// The partition of a subscription without credit has changed, perhaps for good.
    fn look_after(&mut self, session: &mut Session, id: SubscriptionId) {
        let Some(reading) = self.readings.get(&id) else { return };
        match locate(&self.broker.directory(), &reading.topic, reading.partition, -1) {
            Ok(view) => reading.alarm.park(&view),
            Err(found) => self.end(session, id, fetch_error(&found)),
        }
    }

    /// Gives the subscriptions of a stream their turns, as long as it has room. Returns whether
    /// anything was sent; ranges to bring into memory go to `cold`.
    pub fn serve(
        &mut self,
        session: &mut Session,
        stream: StreamNumber,
        mut cold: impl FnMut(Warming),
    ) -> bool {
        let mut has_sent = false;
        while session.has_room(stream) {
            let Some(turn) = self.subscriptions.next(stream) else { break };
            let Some(reading) = self.readings.get_mut(&turn.id) else {
                self.subscriptions.close(turn.id);
                continue;
            };
            match look(&self.broker, reading, turn.bytes_max) {
                Ok(Look::Records { view, records, bytes, next }) => {
                    if bytes > turn.bytes_max && !self.subscriptions.offer(turn.id, bytes) {
                        reading.alarm.park(&view);
                        continue;
                    }
                    reading.offset = next;
                    if bytes > 0 {
                        let address = self.subscriptions.address(turn.id);
                        let correlation = address.map_or(0, |(_, correlation)| correlation);
                        session.push(stream, correlation, &Reply::Records(records));
                    }
                    self.subscriptions.sent(turn.id, bytes);
                    if !self.subscriptions.is_due(turn.id) {
                        reading.alarm.park(&view);
                    }
                    has_sent = true;
                }
                Ok(Look::Nothing(view)) => {
                    self.subscriptions.found_nothing(turn.id);
                    reading.alarm.park(&view);
                    // Whoever parks looks once more, so that no commit slips in between.
                    if wire_offset(view.high_watermark()) > reading.offset {
                        self.subscriptions.wake(turn.id);
                    }
                }
                Ok(Look::Cold { reader, range: (from, up_to), bytes_max }) => {
                    let (id, thread) = (turn.id, self.broker.cold().clone());
                    let populate = move || reader.populate(from, up_to, bytes_max);
                    cold(Box::pin(async move { (id, thread.run(populate).await) }));
                }
                Err(found) => {
                    self.end(session, turn.id, fetch_error(&found));
                    has_sent = true;
                }
            }
        }
        has_sent
    }

    /// A range is in memory, or cannot be brought there.
    pub fn resume(&mut self, session: &mut Session, id: SubscriptionId, warmed: Warmed) {
        match warmed {
            // Nothing was sent, and there is something to send.
            Some(Ok(())) => self.subscriptions.sent(id, 0),
            Some(Err(found)) => {
                let offset = self.readings.get(&id).map_or(-1, |reading| reading.offset);
                self.end(session, id, fetch_error(&unreadable(found, offset)));
            }
            None => self.end(session, id, going_away()),
        }
    }

    /// Ends all subscriptions: the node stops.
    pub fn end_all(&mut self, session: &mut Session) {
        for id in self.subscriptions.all() {
            self.end(session, id, going_away());
        }
    }

    fn end(&mut self, session: &mut Session, id: SubscriptionId, reason: ErrorReply) {
        if let Some((stream, correlation)) = self.subscriptions.address(id) {
            let ended = SubscriptionEnded {
                code: reason.code,
                message: reason.message,
                log_start: reason.log_start,
                high_watermark: reason.high_watermark,
            };
            session.push(stream, correlation, &Reply::SubscriptionEnded(ended));
        }
        self.close(id);
    }

    fn close(&mut self, id: SubscriptionId) {
        self.subscriptions.close(id);
        self.readings.remove(&id);
    }

    /// A stream is gone, and its subscriptions with it.
    pub fn forget_stream(&mut self, stream: StreamNumber) {
        for id in self.subscriptions.of_stream(stream) {
            self.close(id);
        }
        self.subscriptions.forget_stream(stream);
    }
}

/// What a subscription may send: at most so many bytes, or one batch.
fn look(broker: &Broker, reading: &Reading, bytes_max: usize) -> Result<Look, FetchError> {
    let view = locate(&broker.directory(), &reading.topic, reading.partition, -1)?;
    let Readable { from, high_watermark, log_start } = readable(&view, reading.offset)?;
    if from >= high_watermark {
        return Ok(Look::Nothing(view));
    }
    let reader = view.reader();
    if !reader.is_resident(from, high_watermark, bytes_max) {
        let range = (from, high_watermark);
        return Ok(Look::Cold { reader: reader.clone(), range, bytes_max });
    }
    let read = reader.read(from, high_watermark, bytes_max, true);
    let read = read.map_err(|found| unreadable(found, reading.offset))?;
    if read.batches.is_empty() && read.next_offset <= from {
        return Ok(Look::Nothing(view));
    }
    let records = Records {
        high_watermark: wire_offset(high_watermark),
        log_start: wire_offset(log_start),
        records: Chain::from_iter(read.batches),
    };
    let (bytes, next) = (read.bytes, wire_offset(read.next_offset));
    Ok(Look::Records { view, records, bytes, next })
}
