//! Looking offsets up: the latest, the earliest, by time, by epoch.
//!
//! Invariants
//! - What depends on the end of the log is answered only after a majority has confirmed that this
//!   node leads: whoever saw a record acknowledged finds it below the latest offset (D12, I14).
//!
//! Absent on purpose: leases. A clock that lies would make them lie.

use crate::api::{Broker, TopicReference};
use crate::partition::PartitionView;
use crate::readers::{FetchError, epoch_end, locate, unreadable};
use crate::shard::Ask;
use crate::time_lookup::{self, FoundRecord};
use bateau_protocol::frame::leader_epoch;
use bateau_protocol::ids::{Offset, Term};

/// What is asked of a partition's offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OffsetQuery {
    /// The high watermark.
    Latest,
    /// The log start.
    Earliest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first record with at least this timestamp, in Unix milliseconds.
    AtTimestamp(i64),
}

/// Where an [`OffsetQuery`] leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundOffset {
    /// The offset.
    pub offset: Offset,
    /// The record's timestamp, where a record was looked for.
    pub timestamp: Option<i64>,
    /// The leader's epoch.
    pub leader_epoch: i32,
}

impl OffsetQuery {
    /// Whether the answer depends on where the log ends.
    const fn is_about_the_end(self) -> bool {
        match self {
            Self::Latest | Self::MaxTimestamp | Self::AtTimestamp(_) => true,
            Self::Earliest => false,
        }
    }
}

impl Broker {
    /// Looks an offset up. `Ok(None)`: no record is that young.
    ///
    /// Errors: [`FetchError`]; `NotLeader` also where no majority says that this node leads.
    /// Cost: a turn of the shard, with several replicas a round to a majority, shared by all who
    /// ask in that turn; for a time, the decoding of a batch on the read thread. Callers with many
    /// questions ask them side by side.
    pub async fn find_offset(
        &self,
        topic: &TopicReference,
        partition: i32,
        current_leader_epoch: i32,
        query: OffsetQuery,
    ) -> Result<Option<FoundOffset>, FetchError> {
        let view = locate(&self.directory(), topic, partition, current_leader_epoch)?;
        if query.is_about_the_end() && !view.is_unavailable() {
            let log = view.incarnation();
            let confirmed = self.ask(|reply| Ask::Confirm(log, reply)).await;
            confirmed.and_then(Result::ok).ok_or(FetchError::NotLeader)?;
        }
        let epoch = view.leader_term().map_or(-1, leader_epoch);
        let found = |offset, timestamp| FoundOffset { offset, timestamp, leader_epoch: epoch };
        match query {
            OffsetQuery::Latest => Ok(Some(found(view.high_watermark(), None))),
            OffsetQuery::Earliest => Ok(Some(found(view.log_start(), None))),
            OffsetQuery::MaxTimestamp | OffsetQuery::AtTimestamp(_) => {
                let record = self.cold().run(move || find_record(&view, query)).await;
                let record = record.ok_or(FetchError::NotLeader)??;
                Ok(record.map(|record| found(record.offset, Some(record.timestamp))))
            }
        }
    }

    /// Where a leader epoch ends in this partition's log (KIP-320): the largest epoch at or below
    /// the one asked for, and its end. `None`: it is newer than all, or negative.
    ///
    /// Errors: [`FetchError`].
    pub fn epoch_end(
        &self,
        topic: &TopicReference,
        partition: i32,
        current_leader_epoch: i32,
        epoch: i32,
    ) -> Result<Option<(Term, Offset)>, FetchError> {
        let view = locate(&self.directory(), topic, partition, current_leader_epoch)?;
        let Ok(term) = u64::try_from(epoch).map(Term::new) else { return Ok(None) };
        Ok(epoch_end(view.reader(), term))
    }
}

/// Decodes batches until a record answers. Runs on the read thread.
fn find_record(
    view: &PartitionView,
    query: OffsetQuery,
) -> Result<Option<FoundRecord>, FetchError> {
    let (reader, end) = (view.reader(), view.high_watermark());
    let log_start = view.log_start();
    let OffsetQuery::AtTimestamp(timestamp) = query else {
        let latest = reader.max_timestamp(end).map_err(|error| unreadable(error, -1))?;
        return Ok(latest.and_then(|found| time_lookup::latest([found.batch], log_start)));
    };
    let mut failure = None;
    let mut from = log_start;
    let candidates = std::iter::from_fn(|| match reader.locate_timestamp(timestamp, from, end) {
        Ok(found) => found.map(|candidate| {
            from = candidate.next_offset;
            candidate.batch
        }),
        Err(error) => {
            failure = Some(unreadable(error, -1));
            None
        }
    });
    let found = time_lookup::first_at_or_after(candidates, timestamp, log_start);
    failure.map_or(Ok(found), Err)
}
