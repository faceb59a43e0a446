//! Everything that a topic holds, for tests that look at what was written.
//!
//! Past all doors and controls: a look changes nothing, and is not among the requests that were
//! seen.
//!
//! Absent on purpose: positions. Each look begins at the start of the log.

use super::ControlError;
use crate::api::{Broker, TopicReference};
use crate::readers::{FetchPartition, FetchRequest};
use bateau_protocol::record::{BatchReader, Batches, ReadRecord};
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
/// - `bytes_max`: of keys, values and their batches, in memory.
///
/// Errors: [`ControlError::NoTopic`]; [`ControlError::Refused`] for more than `bytes_max`, or for
/// records that cannot be read.
pub(super) async fn drain(
    broker: &Broker,
    topic: &str,
    bytes_max: usize,
) -> Result<Vec<DrainedRecord>, ControlError> {
    let no_topic = || ControlError::NoTopic { topic: topic.to_owned() };
    let id = broker.directory().topic(topic).ok_or_else(no_topic)?.id;
    let mut drained = Vec::new();
    let mut bytes = 0;
    for partition in 0.. {
        let directory = broker.directory();
        let known = directory.topic_by_id(id).ok_or_else(no_topic)?;
        let Some(view) = directory.partition(known, partition) else { break };
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
