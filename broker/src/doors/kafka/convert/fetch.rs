//! Fetch. Batches are lent: a reply is headers between slices of the log.
//!
//! Sessions are declined with session id 0, which every client understands (KIP-227). Without
//! transactions the last stable offset is the high watermark.
//!
//! Absent on purpose: preferred replicas, and followers, which do not fetch by this protocol.

use super::super::dispatch::Call;
use super::{milliseconds, topic_reference, wire_epoch, wire_offset};
use crate::doors::codes;
use crate::readers::{FetchError, FetchPartition, FetchRequest, Fetched};
use bateau_protocol::kafka::api::fetch::{
    EpochEndOffset, FetchRequestView, FetchResponse, FetchTopicView, FetchableTopicResponse,
    PartitionData,
};
use bateau_protocol::kafka::{Chain, ErrorCode};
use std::time::Duration;

/// Answers a fetch.
pub async fn fetch(call: &Call, request: &FetchRequestView) -> FetchResponse {
    // 0 opens a session and −1 closes one; both ask for everything they name.
    if !matches!(request.session_epoch, 0 | -1) {
        return FetchResponse {
            error_code: ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            ..FetchResponse::default()
        };
    }
    let wanted = wanted(call, request);
    let mut answers = call.context.broker.fetch(&wanted).await.into_iter();
    let is_committed = request.isolation_level == 1;
    let responses = request.topics.iter().map(|topic| {
        let FetchTopicView { topic, partitions } = topic;
        let partitions = partitions.iter().zip(answers.by_ref()).map(|(partition, answer)| {
            let index = partition.partition;
            PartitionData { partition_index: index, ..partition_data(answer, is_committed) }
        });
        FetchableTopicResponse {
            partitions: partitions.collect(),
            topic: topic.name,
            topic_id: topic.topic_id,
        }
    });
    FetchResponse { responses: responses.collect(), ..FetchResponse::default() }
}

fn wanted(call: &Call, request: &FetchRequestView) -> FetchRequest {
    let bytes = |wire: i32| usize::try_from(wire).unwrap_or(0);
    let bytes_max = bytes(request.max_bytes).min(call.context.fetch_reply_bytes_max);
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let reference = topic_reference(call.version, &topic.topic);
        partitions.extend(topic.partitions.iter().map(|partition| FetchPartition {
            topic: reference.clone(),
            partition: partition.partition,
            offset: partition.fetch_offset,
            bytes_max: bytes(partition.partition_max_bytes),
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    FetchRequest {
        partitions,
        wait: Duration::from_millis(milliseconds(request.max_wait_ms)),
        // More than the reply may hold cannot be waited for.
        bytes_min: bytes(request.min_bytes).min(bytes_max),
        bytes_max,
    }
}

/// A partition's answer, without its number.
fn partition_data(answer: Result<Fetched, FetchError>, is_committed: bool) -> PartitionData {
    match answer {
        Ok(fetched) => PartitionData {
            high_watermark: wire_offset(fetched.high_watermark),
            last_stable_offset: wire_offset(fetched.high_watermark),
            log_start_offset: wire_offset(fetched.log_start),
            diverging_epoch: fetched.diverging.map_or_else(EpochEndOffset::default, |diverging| {
                let (term, end) = diverging;
                EpochEndOffset { epoch: wire_epoch(term), end_offset: wire_offset(end) }
            }),
            aborted_transactions: is_committed.then(Vec::new),
            records: Some(Chain::from_iter(fetched.batches)),
            ..PartitionData::default()
        },
        Err(error) => PartitionData {
            error_code: codes::fetch(&error),
            // As in Kafka, where a failed look-up comes from another place than a failed read.
            aborted_transactions: matches!(
                error,
                FetchError::UnknownTopicOrPartition | FetchError::UnknownTopicId
            )
            .then(Vec::new),
            ..PartitionData::default()
        },
    }
}
