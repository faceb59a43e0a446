//! Produce, Fetch, FindOffsets and ProducerId.
//!
//! Absent on purpose: subscriptions, which outlive their request ([`feed`](super::super::feed)).

use super::super::dispatch::Call;
use super::super::session::error;
use super::fetch_error;
use crate::api::{
    Broker, Durability, PendingAck, ProduceRefused, ProduceRequest as Produce, TopicReference,
};
use crate::doors::codes;
use crate::doors::words::{milliseconds, served_epoch, wire_offset};
use crate::offsets::OffsetQuery;
use crate::readers::{FetchPartition, FetchRequest as Fetch};
use bateau_core::replica::ProduceAck;
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    ErrorReply, FetchRequest, FetchResponse, FindOffsetsRequest, FindOffsetsResponse, FoundOffset,
    Position, ProduceRequest, ProduceResponse, ProducerIdResponse, Reply,
};
use bateau_protocol::wire::{Chain, ErrorCode, Text};
use futures_util::future::join_all;
use std::time::Duration;

/// Submits a batch; it has entered the shard's inbox when this returns.
pub async fn submit(call: &Call, request: ProduceRequest) -> PendingAck {
    let asked = Produce {
        topic: &TopicReference::Id(request.topic_id),
        partition: request.partition,
        records: request.records.to_bytes(),
        wants_ack: true,
        timeout: Duration::from_millis(milliseconds(request.timeout_ms)),
        zstd_allowed: true,
    };
    call.context.broker.produce(asked).await
}

/// What a producer is told.
pub fn acknowledged(outcome: Result<ProduceAck, ProduceRefused>, durability: Durability) -> Reply {
    match outcome {
        Ok(ack) => Reply::Produce(ProduceResponse {
            base_offset: wire_offset(ack.base_offset),
            log_start: wire_offset(ack.log_start),
            is_duplicate: ack.is_duplicate,
            durability: Text::from_static(durability.word()),
            replicas: i32::try_from(ack.replicas).unwrap_or(i32::MAX),
        }),
        Err(refused) => Reply::Error(ErrorReply {
            possibly_written: codes::possibly_written(&refused),
            ..error(codes::produce(&refused), refused.to_string())
        }),
    }
}

/// Reads once.
pub async fn fetch(call: &Call, request: &FetchRequest) -> Result<FetchResponse, ErrorReply> {
    let bytes = |wire: i32| usize::try_from(wire).unwrap_or(0);
    let bytes_max = bytes(request.bytes_max).min(call.context.fetch_bytes_max);
    let wanted = Fetch {
        partitions: vec![FetchPartition {
            topic: TopicReference::Id(request.topic_id),
            partition: request.partition,
            offset: request.offset,
            bytes_max,
            current_leader_epoch: request.leader_epoch,
            last_fetched_epoch: -1,
        }],
        wait: Duration::from_millis(milliseconds(request.wait_ms)),
        // More than the answer may hold cannot be waited for.
        bytes_min: bytes(request.bytes_min).min(bytes_max),
        bytes_max,
    };
    let broker = &call.context.broker;
    let answer = broker.fetch(&wanted).await.into_iter().next();
    let fetched = match answer {
        Some(Ok(fetched)) => fetched,
        Some(Err(found)) => return Err(fetch_error(&found)),
        None => return Err(error(ErrorCode::UNKNOWN_SERVER_ERROR, "nothing was fetched")),
    };
    Ok(FetchResponse {
        high_watermark: wire_offset(fetched.high_watermark),
        log_start: wire_offset(fetched.log_start),
        leader_epoch: epoch(broker, request.topic_id, request.partition),
        records: Chain::from_iter(fetched.batches),
    })
}

/// The epoch under which a partition is served here; −1 where it is not.
pub fn epoch(broker: &Broker, topic: TopicId, partition: i32) -> i32 {
    let directory = broker.directory();
    let view = directory.topic_by_id(topic).and_then(|topic| directory.partition(topic, partition));
    view.and_then(|view| served_epoch(view)).unwrap_or(-1)
}

/// Looks offsets up, side by side.
pub async fn find_offsets(call: &Call, request: FindOffsetsRequest) -> FindOffsetsResponse {
    let offsets = request.positions.iter().map(|query| find_offset(call, query));
    FindOffsetsResponse { offsets: join_all(offsets).await }
}

async fn find_offset(call: &Call, query: &Position) -> FoundOffset {
    let asked = match query.timestamp {
        -1 => OffsetQuery::Latest,
        -2 => OffsetQuery::Earliest,
        -3 => OffsetQuery::MaxTimestamp,
        0.. => OffsetQuery::AtTimestamp(query.timestamp),
        _ => {
            let error_code = ErrorCode::INVALID_REQUEST;
            return FoundOffset { error_code, ..FoundOffset::default() };
        }
    };
    let topic = TopicReference::Id(query.topic_id);
    match call.context.broker.find_offset(&topic, query.partition, -1, asked).await {
        Ok(Some(found)) => FoundOffset {
            offset: wire_offset(found.offset),
            timestamp: found.timestamp.unwrap_or(-1),
            leader_epoch: found.leader_epoch,
            ..FoundOffset::default()
        },
        Ok(None) => FoundOffset::default(),
        Err(found) => FoundOffset { error_code: codes::fetch(&found), ..FoundOffset::default() },
    }
}

/// An id for a producer, always at epoch 0.
pub async fn producer_id(call: &Call) -> Result<ProducerIdResponse, ErrorReply> {
    match call.context.broker.producer_id().await {
        Ok(id) => match i64::try_from(id) {
            Ok(producer_id) => Ok(ProducerIdResponse { producer_id, producer_epoch: 0 }),
            Err(_) => Err(error(ErrorCode::UNKNOWN_SERVER_ERROR, "no producer ids are left")),
        },
        // A code on which clients ask again, as Kafka's door has it.
        Err(found) => Err(error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, found.to_string())),
    }
}
