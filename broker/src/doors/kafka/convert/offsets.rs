//! ListOffsets and OffsetForLeaderEpoch.
//!
//! Without tiered storage the local log is the whole log, and nothing is tiered. Without
//! transactions the last stable offset is the high watermark.
//!
//! Absent on purpose: looking a time up, which is the broker's.

use super::super::dispatch::Call;
use super::{wire_epoch, wire_offset};
use crate::api::TopicReference;
use crate::doors::codes;
use crate::offsets::OffsetQuery;
use bateau_protocol::kafka::api::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopicResponse,
};
use bateau_protocol::kafka::api::offset_for_leader_epoch::{
    EpochEnd, EpochPartition, EpochTopicResult, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse,
};
use bateau_protocol::kafka::{ErrorCode, Text};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};

/// What a timestamp on the wire stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning {
    Ask(OffsetQuery),
    /// There is no such offset, and that is no error.
    Nothing,
    /// The version does not know this special value.
    Unknown,
}

/// Answers with one offset per partition. They are looked up side by side: one that has no
/// majority must not hold up the others.
pub async fn list(call: &Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut repeated = repeated(&request);
    let topics = request.topics.into_iter().map(|topic| {
        // One answer for all mentions of a partition, as in Kafka.
        let mut mention = |partition: &ListOffsetsPartition| {
            let key = (topic.name.clone(), partition.partition_index);
            match repeated.get_mut(&key) {
                Some(is_answered) => (!std::mem::replace(is_answered, true)).then_some(true),
                None => Some(false),
            }
        };
        let asked = topic.partitions.into_iter();
        let asked = asked.filter_map(|partition| Some((mention(&partition)?, partition))).collect();
        list_topic(call, topic.name, asked)
    });
    ListOffsetsResponse { topics: join_all(topics).await, ..ListOffsetsResponse::default() }
}

/// `asked`: partitions, and whether each was named more than once.
async fn list_topic(
    call: &Call,
    name: Text,
    asked: Vec<(bool, ListOffsetsPartition)>,
) -> ListOffsetsTopicResponse {
    let reference = &TopicReference::Name(name.as_str().to_owned());
    let partitions = asked.into_iter().map(|(is_repeated, partition)| async move {
        let found = if is_repeated {
            Err(ErrorCode::INVALID_REQUEST)
        } else {
            find(call, reference, &partition).await
        };
        let partition_index = partition.partition_index;
        match found {
            Ok(found) => ListOffsetsPartitionResponse { partition_index, ..found },
            Err(error_code) => ListOffsetsPartitionResponse {
                partition_index,
                error_code,
                ..ListOffsetsPartitionResponse::default()
            },
        }
    });
    ListOffsetsTopicResponse { partitions: join_all(partitions).await, name }
}

/// Partitions that a request names more than once; none of them is answered yet.
fn repeated(request: &ListOffsetsRequest) -> BTreeMap<(Text, i32), bool> {
    let mut seen = BTreeSet::new();
    let mut repeated = BTreeMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.clone(), partition.partition_index);
            if !seen.insert(key.clone()) {
                repeated.insert(key, false);
            }
        }
    }
    repeated
}

async fn find(
    call: &Call,
    topic: &TopicReference,
    partition: &ListOffsetsPartition,
) -> Result<ListOffsetsPartitionResponse, ErrorCode> {
    let (query, is_answered) = match meaning(partition.timestamp, call.version) {
        Meaning::Ask(query) => (query, true),
        // The partition has to be one that is served here all the same.
        Meaning::Nothing => (OffsetQuery::Earliest, false),
        Meaning::Unknown => return Err(ErrorCode::UNSUPPORTED_VERSION),
    };
    let (index, epoch) = (partition.partition_index, partition.current_leader_epoch);
    let found = call.context.broker.find_offset(topic, index, epoch, query).await;
    let found = found.map_err(|error| codes::fetch(&error))?.filter(|_| is_answered);
    Ok(found.map_or_else(ListOffsetsPartitionResponse::default, |found| {
        ListOffsetsPartitionResponse {
            offset: wire_offset(found.offset),
            timestamp: found.timestamp.unwrap_or(-1),
            leader_epoch: found.leader_epoch,
            ..ListOffsetsPartitionResponse::default()
        }
    }))
}

fn meaning(timestamp: i64, version: i16) -> Meaning {
    match timestamp {
        0.. => Meaning::Ask(OffsetQuery::AtTimestamp(timestamp)),
        -1 => Meaning::Ask(OffsetQuery::Latest),
        -2 => Meaning::Ask(OffsetQuery::Earliest),
        -3 if version >= 7 => Meaning::Ask(OffsetQuery::MaxTimestamp),
        // The earliest offset of the local log (KIP-405).
        -4 if version >= 8 => Meaning::Ask(OffsetQuery::Earliest),
        // The last tiered offset (KIP-1005) and the first one that is to be tiered (KIP-1023).
        -5 if version >= 9 => Meaning::Nothing,
        -6 if version >= 11 => Meaning::Nothing,
        _ => Meaning::Unknown,
    }
}

/// Says where leader epochs end.
pub fn epoch_ends(
    call: &Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let reference = TopicReference::Name(topic.topic.as_str().to_owned());
        let ends = topic.partitions.iter().map(|partition| {
            let end = epoch_end(call, &reference, partition);
            EpochEnd { partition: partition.partition, ..end }
        });
        EpochTopicResult { partitions: ends.collect(), topic: topic.topic }
    });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..OffsetForLeaderEpochResponse::default()
    }
}

fn epoch_end(call: &Call, topic: &TopicReference, wanted: &EpochPartition) -> EpochEnd {
    let (partition, current) = (wanted.partition, wanted.current_leader_epoch);
    match call.context.broker.epoch_end(topic, partition, current, wanted.leader_epoch) {
        Ok(Some((term, end))) => EpochEnd {
            leader_epoch: wire_epoch(term),
            end_offset: wire_offset(end),
            ..EpochEnd::default()
        },
        Ok(None) => EpochEnd::default(),
        Err(error) => EpochEnd { error_code: codes::fetch(&error), ..EpochEnd::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_timestamps_are_known_from_their_version_on() {
        let ask = |query| Meaning::Ask(query);
        assert_eq!(meaning(0, 1), ask(OffsetQuery::AtTimestamp(0)));
        assert_eq!(meaning(-1, 1), ask(OffsetQuery::Latest));
        assert_eq!(meaning(-2, 1), ask(OffsetQuery::Earliest));
        for (timestamp, since, known) in [
            (-3, 7, ask(OffsetQuery::MaxTimestamp)),
            (-4, 8, ask(OffsetQuery::Earliest)),
            (-5, 9, Meaning::Nothing),
            (-6, 11, Meaning::Nothing),
        ] {
            assert_eq!(meaning(timestamp, since - 1), Meaning::Unknown, "{timestamp}");
            assert_eq!(meaning(timestamp, since), known, "{timestamp}");
        }
        assert_eq!(meaning(-7, 11), Meaning::Unknown);
        assert_eq!(meaning(i64::MIN, 11), Meaning::Unknown);
    }
}
