//! A group's positions: OffsetCommit and OffsetFetch.
//!
//! ```text
//!   commit   topics that exist ──> coordinator ──> one outcome per partition
//!            the others ─────────────────────────> UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID
//! ```
//!
//! Absent on purpose: what a position means. It is stored and given back as it came.

use super::super::dispatch::Call;
use super::groups::{ask, optional};
use super::{name, text};
use crate::doors::codes;
use crate::router::Directory;
use bateau_core::consumer_group::{
    CommitPartition, CommitTopic, CommittedTopic, CoordinatorError, FetchedOffset, FetchedTopic,
    GroupRequest, GroupResponse, Name, OffsetCommit, OffsetFetch, OffsetFetchError,
};
use bateau_protocol::ids::TopicId;
use bateau_protocol::kafka::api::offset_commit::{
    OffsetCommitPartition, OffsetCommitPartitionResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetCommitTopic, OffsetCommitTopicResponse,
};
use bateau_protocol::kafka::api::offset_fetch::{
    OffsetFetchGroup, OffsetFetchGroupResponse, OffsetFetchPartitionResponse,
    OffsetFetchPartitionsResponse, OffsetFetchRequest, OffsetFetchResponse, OffsetFetchTopic,
    OffsetFetchTopicResponse, OffsetFetchTopics, OffsetFetchTopicsResponse,
};
use bateau_protocol::kafka::{ErrorCode, Text};
use std::collections::BTreeMap;

/// First version of both that names topics by id (KIP-516).
const TOPIC_ID_SINCE: i16 = 10;
/// First version of OffsetFetch for several groups (KIP-709).
const GROUPS_SINCE: i16 = 8;
/// First version of OffsetFetch with an error of the whole request.
const REQUEST_ERROR_SINCE: i16 = 2;

/// A topic as the cluster knows it: its name, its id and how many partitions it has.
struct Known {
    name: Name,
    id: TopicId,
    partition_count: usize,
}

fn known_topic(directory: &Directory, version: i16, topic: &OffsetCommitTopic) -> Option<Known> {
    let found = if version >= TOPIC_ID_SINCE {
        directory.topic_by_id(topic.topic_id)?
    } else {
        directory.topic(&topic.name)?
    };
    let partition_count = found.partitions.len();
    Some(Known { name: Name::clone(&found.name), id: found.id, partition_count })
}

/// Stores positions.
pub async fn commit(call: &Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let directory = call.context.broker.directory();
    let find = |topic: &OffsetCommitTopic| known_topic(&directory, call.version, topic);
    let plan = CommitPlan::new(call.version, request.topics, find);
    if plan.asked.is_empty() {
        return plan.answer(Ok(Vec::new()));
    }
    let asked = OffsetCommit {
        group_id: name(&request.group_id),
        generation: request.generation_id_or_member_epoch,
        member_id: name(&request.member_id),
        group_instance_id: optional(request.group_instance_id.as_ref()),
        // −1, and whatever else is negative, leaves it to the broker.
        retention_ms: u64::try_from(request.retention_time_ms).ok(),
        topics: plan.asked.clone(),
    };
    let committed = ask!(call, OffsetCommit, asked);
    plan.answer(committed.map_err(|error| codes::offset_commit(&error, call.version)))
}

/// What of a commit the coordinator is asked, and where its answers go.
struct CommitPlan {
    asked: Vec<CommitTopic>,
    /// For each topic that is asked, its place among the answers.
    places: Vec<usize>,
    /// Partitions without an error yet are those that are asked.
    answers: Vec<OffsetCommitTopicResponse>,
}

impl CommitPlan {
    fn new(
        version: i16,
        topics: Vec<OffsetCommitTopic>,
        find: impl Fn(&OffsetCommitTopic) -> Option<Known>,
    ) -> Self {
        let mut plan = Self { asked: Vec::new(), places: Vec::new(), answers: Vec::new() };
        for topic in topics {
            let known = find(&topic);
            let is_there = |partition: &OffsetCommitPartition| {
                let number = usize::try_from(partition.partition_index).ok();
                let count = known.as_ref().map_or(0, |known| known.partition_count);
                number.is_some_and(|number| number < count)
            };
            let absent = match &known {
                None if version >= TOPIC_ID_SINCE => ErrorCode::UNKNOWN_TOPIC_ID,
                _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            };
            let answers = topic.partitions.iter().map(|partition| OffsetCommitPartitionResponse {
                partition_index: partition.partition_index,
                error_code: if is_there(partition) { ErrorCode::NONE } else { absent },
            });
            let answers: Vec<_> = answers.collect();
            let wanted = topic.partitions.iter().filter(|partition| is_there(partition));
            let partitions: Vec<_> = wanted.map(commit_partition).collect();
            if let Some(known) = known.filter(|_| !partitions.is_empty()) {
                plan.places.push(plan.answers.len());
                plan.asked.push(CommitTopic { name: known.name, topic_id: known.id, partitions });
            }
            plan.answers.push(OffsetCommitTopicResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partitions: answers,
            });
        }
        plan
    }

    fn answer(mut self, committed: Result<Vec<CommittedTopic>, ErrorCode>) -> OffsetCommitResponse {
        let mut committed = committed.map(Vec::into_iter);
        for place in self.places {
            let mut outcomes = match &mut committed {
                Ok(topics) => Ok(topics.next().map(|topic| topic.partitions).into_iter().flatten()),
                Err(code) => Err(*code),
            };
            let Some(answer) = self.answers.get_mut(place) else { continue };
            for partition in answer.partitions.iter_mut().filter(|part| part.error_code.is_none()) {
                partition.error_code = match &mut outcomes {
                    Ok(outcomes) => match outcomes.next() {
                        Some((_, Ok(()))) => ErrorCode::NONE,
                        Some((_, Err(error))) => codes::offset_partition(error),
                        None => ErrorCode::UNKNOWN_SERVER_ERROR,
                    },
                    Err(code) => *code,
                };
            }
        }
        OffsetCommitResponse { topics: self.answers, ..OffsetCommitResponse::default() }
    }
}

fn commit_partition(partition: &OffsetCommitPartition) -> CommitPartition {
    CommitPartition {
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: name(partition.committed_metadata.as_deref().unwrap_or_default()),
    }
}

/// Reads positions.
pub async fn fetch(call: &Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let require_stable = request.require_stable;
    if call.version >= GROUPS_SINCE {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(fetch_group(call, group, require_stable).await);
        }
        return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
    }
    let topics = request.topics;
    let wanted = topics.as_ref().map(|topics| {
        let wanted =
            |topic: &OffsetFetchTopic| (name(&topic.name), topic.partition_indexes.clone());
        topics.iter().map(wanted).collect()
    });
    match ask_positions(call, &request.group_id, wanted, require_stable).await {
        Ok(fetched) => OffsetFetchResponse {
            topics: fetched.into_iter().map(topic_response).collect(),
            ..OffsetFetchResponse::default()
        },
        Err(error) => {
            let error_code = codes::offset_fetch(&error);
            let is_repeated = call.version < REQUEST_ERROR_SINCE;
            let topics = topics.unwrap_or_default().into_iter().filter(|_| is_repeated);
            OffsetFetchResponse {
                error_code,
                topics: topics.map(|topic| refused_topic(topic, error_code)).collect(),
                ..OffsetFetchResponse::default()
            }
        }
    }
}

async fn ask_positions(
    call: &Call,
    group: &Text,
    topics: Option<Vec<(Name, Vec<i32>)>>,
    require_stable: bool,
) -> Result<Vec<FetchedTopic>, OffsetFetchError> {
    let asked = OffsetFetch { group_id: name(group), topics, require_stable };
    ask!(call, OffsetFetch, asked)
}

fn topic_response(topic: FetchedTopic) -> OffsetFetchTopicResponse {
    let partitions = topic.partitions.into_iter().map(|(partition_index, stored)| {
        let (offset, leader_epoch, metadata) = position(stored);
        OffsetFetchPartitionResponse {
            partition_index,
            committed_offset: offset,
            committed_leader_epoch: leader_epoch,
            metadata: Some(metadata),
            ..OffsetFetchPartitionResponse::default()
        }
    });
    OffsetFetchTopicResponse { name: text(&topic.name), partitions: partitions.collect() }
}

fn refused_topic(topic: OffsetFetchTopic, error_code: ErrorCode) -> OffsetFetchTopicResponse {
    let partitions =
        topic.partition_indexes.into_iter().map(|partition_index| OffsetFetchPartitionResponse {
            partition_index,
            committed_offset: -1,
            error_code,
            ..OffsetFetchPartitionResponse::default()
        });
    OffsetFetchTopicResponse { name: topic.name, partitions: partitions.collect() }
}

/// Offset, epoch and metadata on the wire; −1 and nothing where nothing is stored.
fn position(stored: Option<FetchedOffset>) -> (i64, i32, Text) {
    match stored {
        Some(stored) => (stored.offset, stored.leader_epoch, text(&stored.metadata)),
        None => (-1, -1, Text::EMPTY),
    }
}

async fn fetch_group(
    call: &Call,
    group: OffsetFetchGroup,
    require_stable: bool,
) -> OffsetFetchGroupResponse {
    let directory = call.context.broker.directory();
    let is_by_id = call.version >= TOPIC_ID_SINCE;
    let (wanted, unknown) = match group.topics {
        None => (None, Vec::new()),
        Some(topics) => {
            let find = |id| directory.topic_by_id(id).map(|topic| Name::clone(&topic.name));
            let (wanted, unknown) = wanted_topics(is_by_id, topics, find);
            (Some(wanted), unknown)
        }
    };
    let fetched = match ask_positions(call, &group.group_id, wanted, require_stable).await {
        Ok(fetched) => fetched,
        Err(error) => {
            return OffsetFetchGroupResponse {
                group_id: group.group_id,
                error_code: codes::offset_fetch(&error),
                ..OffsetFetchGroupResponse::default()
            };
        }
    };
    let mut ids = BTreeMap::new();
    if is_by_id {
        let names = fetched.iter().map(|topic| &topic.name);
        let found = names.filter_map(|name| Some((Name::clone(name), directory.topic(name)?.id)));
        ids = found.collect();
    }
    // Who asks by id cannot be told of a topic that has none any more.
    let topics = fetched.into_iter().filter_map(|topic| {
        let topic_id = if is_by_id { *ids.get(&topic.name)? } else { TopicId::ZERO };
        Some(topics_response(topic, topic_id))
    });
    OffsetFetchGroupResponse {
        group_id: group.group_id,
        topics: topics.chain(unknown).collect(),
        ..OffsetFetchGroupResponse::default()
    }
}

/// Topics with the partitions that are asked for.
type Wanted = Vec<(Name, Vec<i32>)>;

/// The topics to ask for, and answers for those that nobody knows.
fn wanted_topics(
    is_by_id: bool,
    topics: Vec<OffsetFetchTopics>,
    find: impl Fn(TopicId) -> Option<Name>,
) -> (Wanted, Vec<OffsetFetchTopicsResponse>) {
    let (mut wanted, mut unknown) = (Vec::new(), Vec::new());
    for topic in topics {
        let found = if is_by_id { find(topic.topic_id) } else { Some(name(&topic.name)) };
        match found {
            Some(found) => wanted.push((found, topic.partition_indexes)),
            None => unknown.push(unknown_topic(topic)),
        }
    }
    (wanted, unknown)
}

fn unknown_topic(topic: OffsetFetchTopics) -> OffsetFetchTopicsResponse {
    let partitions =
        topic.partition_indexes.into_iter().map(|partition_index| OffsetFetchPartitionsResponse {
            partition_index,
            committed_offset: -1,
            error_code: ErrorCode::UNKNOWN_TOPIC_ID,
            ..OffsetFetchPartitionsResponse::default()
        });
    OffsetFetchTopicsResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

fn topics_response(topic: FetchedTopic, topic_id: TopicId) -> OffsetFetchTopicsResponse {
    let partitions = topic.partitions.into_iter().map(|(partition_index, stored)| {
        let (offset, leader_epoch, metadata) = position(stored);
        OffsetFetchPartitionsResponse {
            partition_index,
            committed_offset: offset,
            committed_leader_epoch: leader_epoch,
            metadata: Some(metadata),
            ..OffsetFetchPartitionsResponse::default()
        }
    });
    OffsetFetchTopicsResponse {
        name: text(&topic.name),
        topic_id,
        partitions: partitions.collect(),
    }
}
