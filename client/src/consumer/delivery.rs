//! A record as a consumer delivers it.
//!
//! Absent on purpose: queues of rejected records. Send a record to a topic of your own, then `ack`.

use super::shared::{Shared, Stage};
use super::slot::Slot;
use super::{Current, membership};
use crate::error::CommitError;
use crate::record::Header;
use crate::trace::TraceContext;
use bateau_protocol::record::{Compression, ReadHeader, ReadRecord};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest delay of [`Delivery::nack`]: an hour.
pub const NACK_DELAY_MAX: Duration = Duration::from_secs(60 * 60);

/// A record, and where it came from.
///
/// Key, value and headers are slices of the batch that they came in, which a kept delivery keeps
/// alive.
#[derive(Debug)]
#[non_exhaustive]
pub struct Delivery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The position in it.
    pub offset: i64,
    /// Unix milliseconds; `None` where the producer gave none.
    pub timestamp_ms: Option<i64>,
    /// `None` is null.
    pub key: Option<Bytes>,
    /// `None` is null: a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// In order; names may repeat.
    pub headers: Vec<Header>,
    /// The epoch of the leader that wrote it.
    pub leader_epoch: i32,
    /// The codec of its batch.
    pub compression: Compression,
    round: u64,
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

impl Delivery {
    pub(super) fn new(
        shared: &Arc<Shared>,
        current: &Current,
        record: ReadRecord,
        round: u64,
    ) -> Self {
        let header = |header: ReadHeader| Header { name: header.key, value: header.value };
        Self {
            topic: Arc::clone(&current.slot.topic),
            partition: current.slot.partition,
            offset: record.offset,
            timestamp_ms: (record.timestamp >= 0).then_some(record.timestamp),
            key: record.key,
            value: record.value,
            headers: record.headers.into_iter().map(header).collect(),
            leader_epoch: current.leader_epoch,
            compression: current.compression,
            round,
            slot: Arc::clone(&current.slot),
            shared: Arc::clone(shared),
        }
    }

    /// The value of the last header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut from_last = self.headers.iter().rev();
        from_last.find(|header| header.name == name.as_bytes())?.value.as_deref()
    }

    /// The trace that it belongs to, of its `traceparent` header.
    #[must_use]
    pub fn trace_context(&self) -> Option<TraceContext> {
        let pairs = self.headers.iter().map(|Header { name, value }| (&**name, value.as_deref()));
        TraceContext::from_headers(pairs)
    }

    /// Says that the record has been dealt with. The position is stored when all records before it
    /// have been acknowledged, at the next commit ([`super::CommitPolicy::AfterAck`]). Without a
    /// group, and under other policies, it does nothing.
    ///
    /// # Errors
    /// [`CommitError::Revoked`]: another member has the partition by now, and will see the record
    /// again. [`CommitError::Outdated`]: this consumer will. With an interval of zero also whatever
    /// keeps the position from being stored.
    ///
    /// Cancel-safe: the record counts as acknowledged once the future was polled.
    pub async fn ack(self) -> Result<(), CommitError> {
        let Some(interval) = self.shared.options.ack_interval() else { return Ok(()) };
        let counts = self.slot.progress().acknowledge(self.offset, self.round);
        if !counts {
            return Err(self.does_not_count());
        }
        self.shared.acknowledged.notify_waiters();
        if !interval.is_zero() {
            return Ok(());
        }
        let next = self.slot.progress().to_store();
        match next {
            Some(next) => membership::store(&self.shared, vec![(self.slot, next)]).await,
            None => Ok(()),
        }
    }

    /// Says that the record could not be dealt with now: it is delivered to this consumer again,
    /// after `delay` at the earliest ([`NACK_DELAY_MAX`] at most).
    ///
    /// Its partition waits meanwhile, so that order holds, and then goes on from this record: every
    /// later one of the partition that was delivered already, acknowledged or not, **is delivered
    /// again** too, and the `ack` of such an older delivery gives [`CommitError::Outdated`].
    /// Deliveries before it still count, and other partitions go on. To go on behind a record
    /// instead, keep it elsewhere and [`ack`](Self::ack) it.
    ///
    /// A rebalance may shorten the delay: whoever has the partition then begins with the record.
    /// One that waits long keeps the group's position where it is.
    ///
    /// # Errors
    /// [`CommitError::Revoked`]: another member has the partition by now.
    /// [`CommitError::AtMostOnce`]: under [`super::CommitPolicy::BeforeDelivery`] no record may be
    /// delivered again.
    pub fn nack(self, delay: Duration) -> Result<(), CommitError> {
        if self.shared.options.stores_before_delivery() {
            return Err(CommitError::AtMostOnce);
        }
        let is_tracked = self.shared.options.ack_interval().is_some();
        // Not dropped under the lock: the end of a subscription sends.
        let mut old = None;
        {
            let mut state = self.shared.lock();
            let mut progress = self.slot.progress();
            if progress.is_revoked {
                return Err(self.revoked());
            }
            if !progress.go_back(self.offset, self.round, is_tracked) {
                return Ok(());
            }
            drop(progress);
            let place = (Arc::clone(&self.slot.topic), self.slot.partition);
            if let Some(assigned) = state.assigned.get_mut(&place)
                && Arc::ptr_eq(&assigned.slot, &self.slot)
            {
                assigned.start = None;
                let wanted = Stage::Wanted { at: Instant::now() + delay.min(NACK_DELAY_MAX) };
                old = Some(std::mem::replace(&mut assigned.stage, wanted));
            }
            state.forget(&self.slot);
        }
        drop(old);
        self.shared.acknowledged.notify_waiters();
        self.shared.alarm.notify_one();
        Ok(())
    }

    fn does_not_count(&self) -> CommitError {
        if self.slot.progress().is_revoked {
            return self.revoked();
        }
        let (topic, partition, offset) = (self.topic.to_string(), self.partition, self.offset);
        CommitError::Outdated { topic, partition, offset }
    }

    fn revoked(&self) -> CommitError {
        CommitError::Revoked { topic: self.topic.to_string(), partition: self.partition }
    }
}
