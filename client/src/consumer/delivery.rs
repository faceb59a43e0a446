//! A record as a consumer delivers it.
//!
//! Absent on purpose: sending it back to the broker for later.

use super::shared::Shared;
use super::slot::Slot;
use super::{Current, membership};
use crate::error::CommitError;
use crate::record::Header;
use crate::trace::TraceContext;
use bateau_protocol::record::{Compression, ReadHeader, ReadRecord};
use bytes::Bytes;
use std::sync::Arc;

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
    slot: Arc<Slot>,
    shared: Arc<Shared>,
}

impl Delivery {
    pub(super) fn new(shared: &Arc<Shared>, current: &Current, record: ReadRecord) -> Self {
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
    /// again. With an interval of zero also whatever keeps the position from being stored.
    ///
    /// Cancel-safe: the record counts as acknowledged once the future was polled.
    pub async fn ack(self) -> Result<(), CommitError> {
        let Some(interval) = self.shared.options.ack_interval() else { return Ok(()) };
        let counts = self.slot.progress().acknowledge(self.offset);
        if !counts {
            let (topic, partition) = (self.topic.to_string(), self.partition);
            return Err(CommitError::Revoked { topic, partition });
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
}
