//! Produce and InitProducerId.
//!
//! `acks=1` is served as `acks=all`. Batches of a transaction are refused with a code on which
//! clients do not try again; a transactional id alone changes nothing, as in Kafka.
//!
//! Absent on purpose: looking into records.

use super::super::dispatch::Call;
use super::super::session::Reply;
use super::{milliseconds, topic_reference, wire_offset};
use crate::api::{PendingAck, ProduceRefused, ProduceRequest};
use crate::doors::codes;
use bateau_core::replica::ProduceAck;
use bateau_protocol::kafka::api::init_producer_id::{
    InitProducerIdRequest, InitProducerIdResponse,
};
use bateau_protocol::kafka::api::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequestView, ProduceResponse,
    TopicProduceResponse,
};
use bateau_protocol::kafka::view::TopicReference;
use bateau_protocol::kafka::{ErrorCode, Text};
use bateau_protocol::record::BatchError;
use std::time::Duration;

/// First version in which a producer may use zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;

/// What a client is told that wants neither all acks, nor one, nor none.
const UNKNOWN_ACKS: &str = "acks must be -1, 0 or 1";

/// A request whose batches have entered the shard's inbox.
pub struct Submitted {
    wants_answer: bool,
    topics: Vec<(TopicReference, Vec<(i32, Part)>)>,
}

enum Part {
    Refused(ErrorCode, &'static str),
    Pending(PendingAck),
}

/// Submits the batches one after the other, in request order.
pub async fn submit(call: &Call, request: &ProduceRequestView) -> Submitted {
    let is_known = matches!(request.acks, -1..=1);
    let refusal = (!is_known).then_some((ErrorCode::INVALID_REQUIRED_ACKS, UNKNOWN_ACKS));
    let timeout = Duration::from_millis(milliseconds(request.timeout_ms));
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let reference = topic_reference(call.version, &topic.topic);
        let mut parts = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let part = match (refusal, partition.records) {
                (Some((code, reason)), _) => Part::Refused(code, reason),
                (None, None) => Part::Refused(ErrorCode::INVALID_RECORD, "records are null"),
                (None, Some(records)) => {
                    let request = ProduceRequest {
                        topic: &reference,
                        partition: partition.index,
                        records,
                        wants_ack: request.acks != 0,
                        timeout,
                        zstd_allowed: call.version >= ZSTD_SINCE,
                    };
                    Part::Pending(call.context.broker.produce(request).await)
                }
            };
            parts.push((partition.index, part));
        }
        topics.push((topic.topic, parts));
    }
    Submitted { wants_answer: request.acks != 0, topics }
}

impl Submitted {
    /// Waits for the acks. Without an answer to give, a refusal closes the connection.
    pub async fn reply(self) -> Reply {
        let mut responses = Vec::with_capacity(self.topics.len());
        let mut is_refused = false;
        for (topic, parts) in self.topics {
            let mut partition_responses = Vec::with_capacity(parts.len());
            for (index, part) in parts {
                let response = match part {
                    Part::Refused(error_code, reason) => Some(PartitionProduceResponse {
                        error_code,
                        error_message: Some(Text::from_static(reason)),
                        ..PartitionProduceResponse::default()
                    }),
                    Part::Pending(ack) => ack.wait().await.map(|answer| outcome(&answer)),
                };
                if let Some(response) = response {
                    is_refused |= !response.error_code.is_none();
                    partition_responses.push(PartitionProduceResponse { index, ..response });
                }
            }
            responses.push(TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses,
            });
        }
        match (self.wants_answer, is_refused) {
            (false, true) => Reply::Close,
            (false, false) => Reply::Silence,
            (true, _) => {
                Reply::Answer(ProduceResponse { responses, ..ProduceResponse::default() }.into())
            }
        }
    }
}

/// A partition's answer, without its number.
fn outcome(answer: &Result<ProduceAck, ProduceRefused>) -> PartitionProduceResponse {
    match answer {
        Ok(ack) => PartitionProduceResponse {
            base_offset: wire_offset(ack.base_offset),
            log_start_offset: wire_offset(ack.log_start),
            ..PartitionProduceResponse::default()
        },
        Err(error) => PartitionProduceResponse {
            error_code: codes::produce(error),
            record_errors: record_errors(error),
            error_message: match error {
                ProduceRefused::Batch(_) | ProduceRefused::Transactional => {
                    Some(error.to_string().into())
                }
                ProduceRefused::Partition(_) | ProduceRefused::Replica(_) => None,
            },
            ..PartitionProduceResponse::default()
        },
    }
}

/// The record at fault, where it is one record's (KIP-467).
fn record_errors(error: &ProduceRefused) -> Vec<BatchIndexAndErrorMessage> {
    let ProduceRefused::Batch(error) = error else { return Vec::new() };
    let index = match error {
        BatchError::Timestamp { index, .. } | BatchError::KeyMissing { index } => *index,
        BatchError::Record(error) => error.index,
        BatchError::Truncated { .. }
        | BatchError::NotOneBatch { .. }
        | BatchError::LegacyMagic { .. }
        | BatchError::UnknownMagic { .. }
        | BatchError::Length { .. }
        | BatchError::TooLarge { .. }
        | BatchError::Crc { .. }
        | BatchError::UnknownCompression { .. }
        | BatchError::ZstdNotAllowed
        | BatchError::BaseOffset { .. }
        | BatchError::RecordCount { .. }
        | BatchError::LastOffsetDelta { .. }
        | BatchError::Control
        | BatchError::Sequence { .. }
        | BatchError::ProducerEpoch { .. }
        | BatchError::TimestampType => return Vec::new(),
    };
    vec![BatchIndexAndErrorMessage {
        batch_index: i32::try_from(index).unwrap_or(i32::MAX),
        batch_index_error_message: Some(error.to_string().into()),
    }]
}

/// A producer that is idempotent only gets an id of its own, always at epoch 0: also one that asks
/// to go on with an id, for nothing but its sequences hangs on it (KIP-360).
pub async fn init_producer_id(
    call: &Call,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    match producer_id(call, request).await {
        Ok(producer_id) => {
            InitProducerIdResponse { producer_id, ..InitProducerIdResponse::default() }
        }
        Err(error_code) => InitProducerIdResponse {
            error_code,
            producer_epoch: -1,
            ..InitProducerIdResponse::default()
        },
    }
}

async fn producer_id(call: &Call, request: &InitProducerIdRequest) -> Result<i64, ErrorCode> {
    if (request.producer_id == -1) != (request.producer_epoch == -1) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    if request.transactional_id.as_deref() == Some("") {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    if request.transactional_id.is_some() {
        // Not retriable: on a retriable code clients would try for ever.
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    match call.context.broker.producer_id().await {
        Ok(id) => i64::try_from(id).map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR),
        // What Kafka answers while it waits for a block of ids: producers ask again.
        Err(_) => Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
    }
}
