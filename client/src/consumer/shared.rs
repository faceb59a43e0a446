//! What a consumer, its subscriptions and its tasks share: assigned partitions, and the queue.
//!
//! ```text
//!   Feed (one per subscription) ──pushed──> queue ──> Consumer ── read ──> credit
//! ```
//!
//! Invariants
//! - The lock of the queue is taken before a partition's, never behind it.
//! - Credit that a subscription holds is given back to its connection when the broker has said that
//!   it is over, not before: it may still be sending.
//!
//! Absent on purpose: deciding which partitions those are.

use super::builder::ConsumerBuilder;
use super::membership::Membership;
use super::slot::Slot;
use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::connection::stream::{PushSink, Stream};
use crate::error::{BrokerError, ConsumeError, RequestError};
use bateau_protocol::native::{Credit, Kind, Records, SubscriptionEnded, Unsubscribe, frame};
use bateau_protocol::record::{Batch, Batches};
use bateau_protocol::wire::ErrorCode;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Waker;
use std::time::Instant;
use tokio::sync::{Notify, watch};

/// The kind of the pushes that bring records.
const RECORDS: Kind = Kind(0x4031);

/// The kind of a subscription's last push.
const ENDED: Kind = Kind(0x4032);

/// An assigned partition's name.
pub(crate) type Place = (Arc<str>, i32);

#[derive(Debug)]
pub(crate) struct Shared {
    pub options: ConsumerBuilder,
    pub cluster: Arc<Cluster>,
    state: Mutex<State>,
    /// The consumer's task has something to do.
    pub alarm: Notify,
    /// A delivery was acknowledged while somebody waits for that.
    pub acknowledged: Notify,
    /// The consumer has been closed or dropped.
    pub closing: watch::Sender<bool>,
    pub membership: Membership,
    /// Changes with what is assigned.
    pub assignment_changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub assigned: BTreeMap<Place, Assigned>,
    pub queue: VecDeque<Item>,
    /// Batches whose position has to be stored before they are delivered.
    pub staged: VecDeque<Item>,
    pub waker: Option<Waker>,
    pub is_closed: bool,
    /// Nothing comes any more.
    pub is_over: bool,
}

/// Something for the application.
#[derive(Debug)]
pub(crate) enum Item {
    Batch { slot: Arc<Slot>, epoch: u64, batch: Batch, subscription: Arc<Subscription> },
    Failure(ConsumeError),
}

/// A partition that is read.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub slot: Arc<Slot>,
    /// Where to begin, while that is not known as an offset.
    pub start: Option<super::Start>,
    pub stage: Stage,
    pub failures: u32,
}

#[derive(Clone, Debug)]
pub(crate) enum Stage {
    /// Wants a subscription, from `at` on.
    Wanted { at: Instant },
    /// Somebody makes one.
    Making,
    /// Reads; dropping it ends the subscription.
    Live(#[expect(dead_code, reason = "kept for its drop")] Arc<Subscription>),
    /// An error has ended it for good.
    Over,
}

/// A subscription that the broker knows of. Dropping the last reference ends it.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub stream: Arc<Stream>,
    pub correlation: u32,
    pub window: u64,
    credit: Mutex<Granted>,
}

#[derive(Debug)]
struct Granted {
    granted: u64,
    consumed: u64,
}

impl Subscription {
    pub fn new(stream: Arc<Stream>, correlation: u32, window: u64) -> Self {
        let credit = Mutex::new(Granted { granted: window, consumed: 0 });
        Self { stream, correlation, window, credit }
    }

    /// The application has read a batch: its room is granted again, in steps of half a window.
    pub fn consumed(&self, bytes: usize) {
        let mut credit = self.credit.lock().unwrap_or_else(PoisonError::into_inner);
        credit.consumed = credit.consumed.saturating_add(bytes as u64);
        let due = credit.consumed.saturating_add(self.window);
        if due.saturating_sub(credit.granted) < self.window / 2 {
            return;
        }
        credit.granted = due;
        drop(credit);
        self.stream.signal(self.correlation, &Credit { credit_bytes: due });
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.stream.signal(self.correlation, &Unsubscribe {});
    }
}

impl Shared {
    pub fn new(options: ConsumerBuilder) -> Arc<Self> {
        let cluster = Arc::clone(options.client.cluster());
        Arc::new(Self {
            options,
            cluster,
            state: Mutex::default(),
            alarm: Notify::new(),
            acknowledged: Notify::new(),
            closing: watch::Sender::new(false),
            membership: Membership::default(),
            assignment_changes: watch::Sender::new(0),
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something for the application to see.
    pub fn fail(&self, error: ConsumeError) {
        self.lock().put(Item::Failure(error));
    }

    /// Nothing comes any more.
    pub fn end(&self) {
        let mut state = self.lock();
        state.is_over = true;
        state.assigned.clear();
        state.staged.clear();
        state.wake();
        drop(state);
        self.assignment_changed();
    }

    fn assignment_changed(&self) {
        self.assignment_changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A partition is read from here on.
    pub fn assign(&self, slot: Arc<Slot>, start: Option<super::Start>) {
        let place = (Arc::clone(&slot.topic), slot.partition);
        let stage = Stage::Wanted { at: Instant::now() };
        let assigned = Assigned { slot, start, stage, failures: 0 };
        self.lock().assigned.insert(place, assigned);
        self.assignment_changed();
        self.alarm.notify_one();
    }

    /// Stops reading a partition; what was received of it is forgotten, its position is not.
    pub fn suspend(&self, place: &Place) -> Option<Arc<Slot>> {
        let mut state = self.lock();
        let assigned = state.assigned.remove(place)?;
        assigned.slot.progress().suspend();
        state.forget(&assigned.slot);
        drop(state);
        self.assignment_changed();
        Some(assigned.slot)
    }

    /// What a subscription's end means for its partition.
    ///
    /// - `epoch`: of the subscription; a later one is none of its business.
    pub fn subscription_over(&self, slot: &Arc<Slot>, epoch: u64, retry_at: Instant) {
        let mut state = self.lock();
        if slot.progress().epoch != epoch {
            return;
        }
        let place = (Arc::clone(&slot.topic), slot.partition);
        if let Some(assigned) = state.assigned.get_mut(&place)
            && Arc::ptr_eq(&assigned.slot, slot)
        {
            assigned.stage = Stage::Wanted { at: retry_at };
            drop(state);
            self.alarm.notify_one();
        }
    }
}

impl State {
    fn put(&mut self, item: Item) {
        self.queue.push_back(item);
        self.wake();
    }

    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Drops what was received of a partition.
    pub fn forget(&mut self, slot: &Arc<Slot>) {
        let of_slot =
            |item: &Item| matches!(item, Item::Batch { slot: of, .. } if Arc::ptr_eq(of, slot));
        self.queue.retain(|item| !of_slot(item));
        self.staged.retain(|item| !of_slot(item));
    }
}

/// Takes the pushes of one subscription.
pub(crate) struct Feed {
    pub shared: Weak<Shared>,
    pub slot: Arc<Slot>,
    pub epoch: u64,
    pub connection: Arc<Connection>,
    pub window: u64,
    /// Set when the broker has answered.
    pub subscription: Mutex<Weak<Subscription>>,
    pub is_returned: std::sync::atomic::AtomicBool,
}

impl Feed {
    /// Gives the credit back, once.
    pub fn return_credit(&self) {
        if !self.is_returned.swap(true, std::sync::atomic::Ordering::Relaxed) {
            self.connection.return_credit(self.window);
        }
    }

    fn records(&self, shared: &Shared, body: Bytes, version: i16) -> Result<(), String> {
        let records: Records = frame::decode(body, version).map_err(|error| error.to_string())?;
        let subscription = self.subscription.lock().unwrap_or_else(PoisonError::into_inner);
        let subscription = subscription.upgrade();
        let mut state = shared.lock();
        // Ended by us, or for an epoch that is over: it is only on its way out.
        let Some(subscription) = subscription else { return Ok(()) };
        let mut progress = self.slot.progress();
        if progress.epoch != self.epoch {
            return Ok(());
        }
        let is_staged = shared.options.stores_before_delivery();
        for batch in Batches::new(records.records.to_bytes()) {
            let batch = batch.map_err(|error| error.to_string())?;
            let next = batch.header().next_offset();
            if next <= progress.received {
                return Err(format!(
                    "it ends at offset {next}, and {} was to come next",
                    progress.received
                ));
            }
            progress.received = next;
            let (slot, epoch) = (Arc::clone(&self.slot), self.epoch);
            let subscription = Arc::clone(&subscription);
            let item = Item::Batch { slot, epoch, batch, subscription };
            if is_staged {
                state.staged.push_back(item);
            } else {
                state.queue.push_back(item);
            }
        }
        drop(progress);
        if is_staged {
            shared.alarm.notify_one();
        } else {
            state.wake();
        }
        Ok(())
    }

    fn ended(&self, shared: &Arc<Shared>, body: Bytes, version: i16) {
        let ended: SubscriptionEnded = match frame::decode(body, version) {
            Ok(ended) => ended,
            Err(error) => {
                tracing::warn!(%error, "the end of a subscription cannot be read");
                SubscriptionEnded { code: ErrorCode::UNKNOWN_SERVER_ERROR, ..Default::default() }
            }
        };
        if ended.code.is_none() {
            return;
        }
        let mut error = BrokerError::of_code(ended.code, ended.message.as_str());
        let known = |offset: i64| (offset >= 0).then_some(offset);
        error.log_start = known(ended.log_start);
        error.high_watermark = known(ended.high_watermark);
        super::attach::failed(shared, &self.slot, self.epoch, &error.into());
    }
}

impl PushSink for Feed {
    fn pushed(&self, kind: Kind, body: Bytes, version: i16) -> bool {
        if kind == ENDED {
            self.return_credit();
        }
        let Some(shared) = self.shared.upgrade() else { return kind != ENDED };
        match kind {
            RECORDS => {
                if let Err(reason) = self.records(&shared, body, version) {
                    let (topic, partition) = (self.slot.topic.to_string(), self.slot.partition);
                    let offset = self.slot.progress().received;
                    super::attach::give_up(
                        &shared,
                        &self.slot,
                        self.epoch,
                        ConsumeError::Corrupt { topic, partition, offset, reason },
                    );
                }
                true
            }
            ENDED => {
                self.ended(&shared, body, version);
                false
            }
            _ => true,
        }
    }

    fn lost(&self, error: RequestError) {
        self.return_credit();
        if let Some(shared) = self.shared.upgrade() {
            super::attach::failed(&shared, &self.slot, self.epoch, &error);
        }
    }
}
