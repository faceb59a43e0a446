//! Reading records: of a group's share of its topics, or of partitions that one names.
//!
//! ```text
//!   broker ── Records, within credit ──> queue ── one batch at a time ──> Delivery ── ack
//!               ▲                                                            │
//!               └──────────────────── credit for what was read <────────────┘
//! ```
//!
//! The broker pushes as it commits, as far as it has credit; credit is renewed when the application
//! has read. So an application that does not read is not buffered for, and costs the broker
//! nothing.
//!
//! Invariants
//! - Records of one partition come in the order of their offsets, none twice and none left out,
//!   across reconnects and changes of leader.
//! - What waits in the consumer takes at most `buffer_bytes`, one batch of each partition excepted.
//!
//! Absent on purpose: reading uncommitted records.

mod assignment;
mod attach;
mod builder;
mod delivery;
mod holding;
mod member;
mod membership;
mod renewal;
mod shared;
mod slot;

pub use assignment::AssignmentWatch;
pub use builder::ConsumerBuilder;
pub use delivery::{Delivery, NACK_DELAY_MAX};

use crate::cursor::Cursor;
use crate::error::{CommitError, ConsumeError};
use crate::group::TopicPartition;
use bateau_protocol::ids::Offset;
use bateau_protocol::record::{BatchReader, Compression};
use futures_core::Stream;
use shared::{Item, Shared, Stage, Subscription};
use slot::Slot;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Where to begin in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Start {
    /// At the first offset in the log.
    Earliest,
    /// Behind the last committed record.
    Latest,
    /// At this offset.
    Offset(i64),
    /// So many offsets behind the log's start.
    AfterStart(i64),
    /// So many offsets before the log's end, or at its start.
    BeforeEnd(i64),
    /// At the first record of this time or later, in Unix milliseconds; at the end where none is
    /// that young.
    Time(i64),
}

/// What to do when the position is not in the log: it was trimmed, or the topic was deleted and
/// made anew. While a deleted topic is not there again, a consumer that goes on waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OutOfRange {
    /// Go on at the first offset in the log.
    #[default]
    Earliest,
    /// Go on behind the last committed record.
    Latest,
    /// Say so, with [`ConsumeError::OffsetOutOfRange`] or [`ConsumeError::TopicDeleted`], and leave
    /// the partition.
    Error,
}

/// When a group's positions are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CommitPolicy {
    /// At least once: what was acknowledged ([`Delivery::ack`]), this often. With an interval of
    /// zero every `ack` waits until it is stored.
    AfterAck {
        /// The longest time between an `ack` and its commit.
        interval: Duration,
    },
    /// At most once: stored before the records are delivered.
    BeforeDelivery,
    /// Only by [`Consumer::commit`] and [`Consumer::commit_positions`].
    Manual,
}

impl Default for CommitPolicy {
    /// After `ack`, every second.
    fn default() -> Self {
        Self::AfterAck { interval: Duration::from_secs(1) }
    }
}

/// A stream of records. Made by [`crate::Client::consumer`] or [`crate::Client::reader`].
///
/// It implements [`Stream`] and has [`Consumer::next`] and [`Consumer::try_next`] of its own. A
/// group member that is dropped without [`Consumer::close`] leaves its group without storing
/// anything more, if the client lives on; else it stays a member until its session ends.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    /// The batch that is being delivered.
    current: Option<Current>,
    /// Deliveries since something else had its turn.
    streak: u32,
}

#[derive(Debug)]
struct Current {
    slot: Arc<Slot>,
    epoch: u64,
    records: BatchReader,
    subscription: Arc<Subscription>,
    bytes: usize,
    next_offset: i64,
    base_offset: i64,
    leader_epoch: i32,
    compression: Compression,
}

/// Deliveries after which other tasks of the runtime have their turn.
const STREAK_MAX: u32 = 256;

impl Consumer {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, current: None, streak: 0 }
    }

    /// The next record; `None` when the consumer is over: its client was closed, or another member
    /// has its place.
    ///
    /// # Errors
    /// [`ConsumeError`]; where it is retryable, reading on goes on behind what failed.
    ///
    /// Cancel-safe: no record is lost.
    pub async fn next(&mut self) -> Option<Result<Delivery, ConsumeError>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// As [`Consumer::next`], for `while let Some(delivery) = consumer.try_next().await?`.
    ///
    /// # Errors
    /// [`ConsumeError`].
    ///
    /// Cancel-safe: no record is lost.
    pub async fn try_next(&mut self) -> Result<Option<Delivery>, ConsumeError> {
        self.next().await.transpose()
    }

    /// The offset of the next record that is delivered from this partition; `None` where it is not
    /// assigned, or not known yet.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.slot(topic, partition)?.progress().position
    }

    fn slot(&self, topic: &str, partition: i32) -> Option<Arc<Slot>> {
        let state = self.shared.lock();
        let assigned = state.assigned.get(&(topic.into(), partition))?;
        Some(Arc::clone(&assigned.slot))
    }

    /// Continues elsewhere in a partition that is assigned. What was received of it is forgotten,
    /// and what was delivered and not acknowledged does not count any more.
    ///
    /// # Errors
    /// [`ConsumeError::NoSuchPartition`] where it is not assigned; [`ConsumeError::Request`] where
    /// the offset had to be looked up.
    ///
    /// Cancel-safe: the position is the old one or the new one.
    pub async fn seek(
        &mut self,
        topic: &str,
        partition: i32,
        start: Start,
    ) -> Result<(), ConsumeError> {
        let absent = || ConsumeError::NoSuchPartition { topic: topic.to_owned(), partition };
        let slot = self.slot(topic, partition).ok_or_else(absent)?;
        let offset = attach::offset_of(&self.shared, &slot, start).await?;
        // Not under the lock: the end of a subscription sends.
        let _old = {
            let mut state = self.shared.lock();
            let place = (Arc::clone(&slot.topic), partition);
            let assigned = state.assigned.get_mut(&place).ok_or_else(absent)?;
            slot.progress().jump(offset);
            assigned.start = None;
            let wanted = Stage::Wanted { at: Instant::now() };
            let old = std::mem::replace(&mut assigned.stage, wanted);
            state.forget(&slot);
            old
        };
        self.shared.alarm.notify_one();
        Ok(())
    }

    /// Where it is in all partitions, behind what was delivered: for
    /// [`ConsumerBuilder::from_cursor`] in another process.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let mut cursor = self.shared.options.cursor.clone();
        for assigned in self.shared.lock().assigned.values() {
            let slot = &assigned.slot;
            let position = slot.progress().position.and_then(|next| u64::try_from(next).ok());
            if let Some(next) = position {
                // Beyond the cursor's limit of partitions the first ones are kept.
                let _ = cursor.set(slot.topic_id, slot.partition, Offset::new(next));
            }
        }
        cursor
    }

    /// Stores the position behind everything that was delivered.
    ///
    /// # Errors
    /// [`CommitError`].
    ///
    /// Not cancel-safe: dropped after it was sent, it may be stored all the same.
    pub async fn commit(&mut self) -> Result<(), CommitError> {
        let positions = {
            let state = self.shared.lock();
            let position = |assigned: &shared::Assigned| {
                let slot = &assigned.slot;
                let next = slot.progress().position?;
                Some((Arc::clone(slot), next))
            };
            state.assigned.values().filter_map(position).collect()
        };
        membership::store(&self.shared, positions).await
    }

    /// Stores these positions: the next offset to consume of each partition.
    ///
    /// # Errors
    /// [`CommitError`].
    ///
    /// Not cancel-safe: dropped after it was sent, some may be stored all the same.
    pub async fn commit_positions(
        &mut self,
        positions: impl IntoIterator<Item = (TopicPartition, i64)>,
    ) -> Result<(), CommitError> {
        let mut known = Vec::new();
        for (TopicPartition { topic, partition }, next) in positions {
            match self.slot(&topic, partition) {
                Some(slot) => known.push((slot, next)),
                None => return Err(CommitError::Revoked { topic, partition }),
            }
        }
        membership::store(&self.shared, known).await
    }

    /// Stops: stores what was acknowledged, and leaves the group, so that others take over at once.
    ///
    /// # Errors
    /// [`CommitError`]: what was acknowledged could not be stored. The consumer is closed all the
    /// same.
    ///
    /// Not cancel-safe: dropped before its end, others take over when the session ends.
    pub async fn close(self) -> Result<(), CommitError> {
        let stored = membership::store_acknowledged(&self.shared).await;
        membership::leave(&self.shared).await;
        stored
    }

    /// The next record of the batch in hand.
    fn deliver(&mut self) -> Option<Result<Delivery, ConsumeError>> {
        let is_tracked = self.shared.options.ack_interval().is_some();
        loop {
            let current = self.current.as_mut()?;
            let slot = &current.slot;
            let mut progress = slot.progress();
            if progress.epoch != current.epoch {
                drop(progress);
                self.current = None;
                return None;
            }
            if is_tracked {
                let (found, limit) =
                    (progress.unacknowledged(), self.shared.options.unacknowledged_max);
                if found >= limit {
                    return Some(Err(ConsumeError::TooManyUnacknowledged { found, limit }));
                }
            }
            let record = match current.records.next() {
                Some(Ok(record)) => record,
                Some(Err(error)) => {
                    let error = corrupt(slot, current.base_offset, &error);
                    drop(progress);
                    self.finish();
                    return Some(Err(error));
                }
                None => {
                    drop(progress);
                    self.finish();
                    return None;
                }
            };
            // A batch may begin before the position; compaction may have left holes.
            if progress.position.is_some_and(|next| record.offset < next) {
                continue;
            }
            progress.deliver(record.offset, is_tracked);
            let round = progress.round;
            drop(progress);
            return Some(Ok(Delivery::new(&self.shared, current, record, round)));
        }
    }

    /// The batch in hand has been read: its room is granted again.
    fn finish(&mut self) {
        let Some(current) = self.current.take() else { return };
        let mut progress = current.slot.progress();
        if progress.epoch == current.epoch {
            let next =
                progress.position.map_or(current.next_offset, |next| next.max(current.next_offset));
            progress.position = Some(next);
        }
        drop(progress);
        current.subscription.consumed(current.bytes);
    }

    /// Takes the next batch in hand; an error in its place.
    fn open(&mut self, item: Item) -> Option<ConsumeError> {
        let (slot, epoch, batch, subscription) = match item {
            Item::Failure(error) => return Some(error),
            Item::Batch { slot, epoch, batch, subscription } => (slot, epoch, batch, subscription),
        };
        let header = batch.header();
        let (bytes, base_offset) = (batch.bytes().len(), header.base_offset);
        let opened = if header.attributes.is_control() {
            // Markers of transactions are not records.
            Ok(None)
        } else {
            BatchReader::open(&batch).map(Some)
        };
        let (records, failure) = match opened {
            Ok(Some(records)) => (Some(records), None),
            Ok(None) => (None, None),
            Err(error) => (None, Some(corrupt(&slot, base_offset, &error))),
        };
        let Some(records) = records else {
            let mut progress = slot.progress();
            if progress.epoch == epoch {
                let next = header.next_offset();
                progress.position = Some(progress.position.map_or(next, |now| now.max(next)));
            }
            drop(progress);
            subscription.consumed(bytes);
            return failure;
        };
        self.current = Some(Current {
            slot,
            epoch,
            records,
            subscription,
            bytes,
            next_offset: header.next_offset(),
            base_offset,
            leader_epoch: header.leader_epoch,
            compression: header.attributes.compression().unwrap_or(Compression::None),
        });
        None
    }
}

fn corrupt(slot: &Slot, offset: i64, reason: &dyn std::fmt::Display) -> ConsumeError {
    let (topic, partition) = (slot.topic.to_string(), slot.partition);
    ConsumeError::Corrupt { topic, partition, offset, reason: reason.to_string() }
}

impl Stream for Consumer {
    type Item = Result<Delivery, ConsumeError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.streak += 1;
        if this.streak > STREAK_MAX {
            this.streak = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Some(delivered) = this.deliver() {
                return Poll::Ready(Some(delivered));
            }
            let item = {
                let mut state = this.shared.lock();
                match state.queue.pop_front() {
                    Some(item) => item,
                    None if state.is_over => return Poll::Ready(None),
                    None => {
                        state.waker = Some(context.waker().clone());
                        this.streak = 0;
                        return Poll::Pending;
                    }
                }
            };
            if let Some(error) = this.open(item) {
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.closing.send_replace(true);
        self.shared.alarm.notify_one();
    }
}

/// The consumer's task: makes subscriptions, and stores positions where that comes first.
async fn run(shared: Arc<Shared>) {
    loop {
        if shared.lock().is_closed {
            return shared.end();
        }
        let due = attach::look_after(&shared, Instant::now());
        if shared.options.stores_before_delivery() {
            membership::store_staged(&shared).await;
        }
        let sleep = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.cluster.down() => {
                shared.fail(ConsumeError::Closed);
                return shared.end();
            }
            () = shared.alarm.notified() => {}
            () = sleep => {}
        }
    }
}
