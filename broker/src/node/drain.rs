//! Everything that a topic holds, for tests that look at what was written.
//!
//! Past all doors and controls: a look changes nothing, and is not among the requests that were
//! seen.
//!
//! Absent on purpose: positions. Each look begins at the start of the log.

use super::ControlError;
use crate::api::{Broker, TopicReference};
use crate::partition::PartitionView;
use crate::readers::{FetchPartition, FetchRequest};
use bateau_protocol::ids::TopicId;
use bateau_protocol::record::{BatchReader, Batches, ReadRecord};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of batches of one step.
const STEP_BYTES: usize = 1 << 20;

/// A record, and the partition that it is in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DrainedRecord {
    /// The partition.
    pub partition: i32,
    /// Offset, time, key, value and headers.
    pub record: ReadRecord,
}

/// All records of a topic that are committed now, one partition after the other, each in the order
/// of its offsets.
///
/// - `brokers`: of one cluster. Of each partition its leader is asked, where it is among them.
/// - `bytes_max`: of keys, values and their batches, in memory.
///
/// Errors: [`ControlError::NoTopic`]; [`ControlError::Refused`] for more than `bytes_max`, or for
/// records that cannot be read.
pub(crate) async fn drain(
    brokers: &[Broker],
    topic: &str,
    bytes_max: usize,
) -> Result<Vec<DrainedRecord>, ControlError> {
    let no_topic = || ControlError::NoTopic { topic: topic.to_owned() };
    let id_at = |broker: &Broker| broker.directory().topic(topic).map(|topic| topic.id);
    let id = brokers.iter().find_map(id_at).ok_or_else(no_topic)?;
    let mut drained = Vec::new();
    let mut bytes = 0;
    for partition in 0.. {
        let Some((broker, view)) = best_of(brokers, id, partition) else { break };
        let refused = |reason: String| {
            ControlError::Refused(format!("{topic}[{partition}] cannot be read: {reason}"))
        };
        let signed = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
        // What comes while this reads is not waited for.
        let end = signed(view.high_watermark().get());
        let mut offset = signed(view.log_start().get());
        while offset < end {
            let batches = fetched(broker, TopicReference::Id(id), partition, offset).await;
            let before = offset;
            for batch in batches.map_err(refused)?.into_iter().flat_map(Batches::new) {
                let batch = batch.map_err(|error| refused(error.to_string()))?;
                let header = batch.header();
                let next = header.next_offset();
                if next <= offset || header.base_offset >= end {
                    continue;
                }
                if !header.attributes.is_control() {
                    let records = BatchReader::open(&batch);
                    let records = records.map_err(|error| refused(error.to_string()))?;
                    bytes += records.remaining_bytes();
                    for record in records {
                        let record = record.map_err(|error| refused(error.to_string()))?;
                        drained.push(DrainedRecord { partition, record });
                    }
                }
                offset = next;
            }
            if bytes > bytes_max {
                let text = format!("{topic:?} has more than {bytes_max} bytes of records");
                return Err(ControlError::Refused(text));
            }
            if offset == before {
                // It was trimmed in between.
                break;
            }
        }
    }
    Ok(drained)
}

/// Who has a partition, preferably as its newest leader.
fn best_of(
    brokers: &[Broker],
    topic: TopicId,
    partition: i32,
) -> Option<(&Broker, Arc<PartitionView>)> {
    let having = brokers.iter().filter_map(|broker| {
        let directory = broker.directory();
        let view = directory.partition(directory.topic_by_id(topic)?, partition)?;
        Some((broker, Arc::clone(view)))
    });
    having.max_by_key(|(_, view)| (view.leader_term(), view.high_watermark()))
}

async fn fetched(
    broker: &Broker,
    topic: TopicReference,
    partition: i32,
    offset: i64,
) -> Result<Vec<bytes::Bytes>, String> {
    let wanted = FetchPartition {
        topic,
        partition,
        offset,
        bytes_max: STEP_BYTES,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
    };
    let request = FetchRequest {
        partitions: vec![wanted],
        wait: Duration::ZERO,
        bytes_min: 0,
        bytes_max: STEP_BYTES,
    };
    let mut found = broker.fetch(&request).await;
    match found.pop() {
        Some(Ok(fetched)) => Ok(fetched.batches),
        Some(Err(error)) => Err(error.to_string()),
        None => Ok(Vec::new()),
    }
}
