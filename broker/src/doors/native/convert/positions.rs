//! A group's positions: Commit and Committed.
//!
//! ```text
//!   commit   positions of topics that exist ──> coordinator ──> one outcome each
//!            the others ──────────────────────> UNKNOWN_TOPIC_ID, UNKNOWN_TOPIC_OR_PARTITION
//! ```
//!
//! Absent on purpose: what a position means. It is stored and given back as it came.

use super::super::dispatch::Call;
use super::super::session::error;
use super::groups::{ask, optional};
use crate::doors::codes;
use crate::doors::words::{name, text};
use crate::router::Directory;
use bateau_core::consumer_group::{
    CommitPartition, CommitTopic, CommittedTopic, CoordinatorError, FetchedOffset, FetchedTopic,
    GroupRequest, GroupResponse, Name, OffsetCommit, OffsetCommitError, OffsetFetch,
    OffsetFetchError,
};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    CommitRequest, CommitResponse, CommittedPosition, CommittedRequest, CommittedResponse,
    ErrorReply, StoredPosition, TopicPartition,
};
use bateau_protocol::wire::{ErrorCode, Text};
use std::collections::BTreeMap;

/// The version of Kafka's OffsetCommit whose codes are ours: the newest.
const KAFKA_COMMIT_VERSION: i16 = i16::MAX;

/// Stores positions.
pub async fn commit(call: &Call, request: CommitRequest) -> Result<CommitResponse, ErrorReply> {
    let plan = CommitPlan::new(&call.context.broker.directory(), &request.positions);
    if plan.topics.is_empty() {
        return Ok(plan.answer(Vec::new()));
    }
    let asked = OffsetCommit {
        group_id: name(&request.group_id),
        generation: request.generation,
        member_id: name(&request.member_id),
        group_instance_id: optional(request.group_instance_id.as_ref()),
        retention_ms: None,
        topics: plan.topics.clone(),
    };
    let committed: Result<_, OffsetCommitError> = ask!(call, OffsetCommit, asked);
    match committed {
        Ok(committed) => Ok(plan.answer(committed)),
        Err(found) => Err(ErrorReply {
            member_id: request.member_id,
            ..error(codes::offset_commit(&found, KAFKA_COMMIT_VERSION), found.to_string())
        }),
    }
}

/// What of a commit the coordinator is asked, and where its answers go.
#[derive(Debug)]
struct CommitPlan {
    topics: Vec<CommitTopic>,
    /// For each position its topic among those that are asked, or why it is not.
    places: Vec<Result<usize, ErrorCode>>,
}

impl CommitPlan {
    fn new(directory: &Directory, positions: &[CommittedPosition]) -> Self {
        let mut plan = Self { topics: Vec::new(), places: Vec::with_capacity(positions.len()) };
        let mut places: BTreeMap<TopicId, usize> = BTreeMap::new();
        for position in positions {
            let place = match check(directory, position) {
                Ok(name) => {
                    let topics = &mut plan.topics;
                    let place = *places.entry(position.topic_id).or_insert_with(|| {
                        let topic_id = position.topic_id;
                        topics.push(CommitTopic { name, topic_id, partitions: Vec::new() });
                        topics.len() - 1
                    });
                    if let Some(topic) = topics.get_mut(place) {
                        topic.partitions.push(commit_partition(position));
                    }
                    Ok(place)
                }
                Err(code) => Err(code),
            };
            plan.places.push(place);
        }
        plan
    }

    /// The coordinator keeps the order of topics and, within one, of partitions.
    fn answer(self, committed: Vec<CommittedTopic>) -> CommitResponse {
        let mut outcomes: Vec<_> =
            committed.into_iter().map(|topic| topic.partitions.into_iter()).collect();
        let mut code = |place: usize| match outcomes.get_mut(place).and_then(Iterator::next) {
            Some((_, Ok(()))) => ErrorCode::NONE,
            Some((_, Err(found))) => codes::offset_partition(found),
            None => ErrorCode::UNKNOWN_SERVER_ERROR,
        };
        let codes = self.places.into_iter();
        let error_codes = codes.map(|place| place.map_or_else(|code| code, &mut code)).collect();
        CommitResponse { error_codes }
    }
}

/// The name of a position's topic, if there is such a partition.
fn check(directory: &Directory, position: &CommittedPosition) -> Result<Name, ErrorCode> {
    let topic = directory.topic_by_id(position.topic_id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
    let number = usize::try_from(position.partition).ok();
    let is_there = number.is_some_and(|number| number < topic.partitions.len());
    is_there.then(|| Name::clone(&topic.name)).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn commit_partition(position: &CommittedPosition) -> CommitPartition {
    CommitPartition {
        partition: position.partition,
        offset: position.offset,
        leader_epoch: position.leader_epoch,
        metadata: name(&position.metadata),
    }
}

/// Reads stored positions: those that are asked for in the order of the request, or all.
pub async fn committed(
    call: &Call,
    request: CommittedRequest,
) -> Result<CommittedResponse, ErrorReply> {
    let directory = call.context.broker.directory();
    let topics = request.partitions.as_deref().map(|wanted| wanted_topics(&directory, wanted));
    let group_id = name(&request.group_id);
    let asked = OffsetFetch { group_id, topics, require_stable: true };
    let fetched: Result<_, OffsetFetchError> = ask!(call, OffsetFetch, asked);
    let fetched = fetched.map_err(|found| error(codes::offset_fetch(&found), found.to_string()))?;
    let positions = match request.partitions {
        None => fetched.into_iter().flat_map(all_of_topic).collect(),
        Some(wanted) => {
            let stored = by_partition(fetched);
            wanted.iter().map(|wanted| one(&directory, &stored, wanted)).collect()
        }
    };
    Ok(CommittedResponse { positions })
}

/// The topics to ask for, each once; unknown ones are left out.
fn wanted_topics(directory: &Directory, wanted: &[TopicPartition]) -> Vec<(Name, Vec<i32>)> {
    let mut topics: BTreeMap<Name, Vec<i32>> = BTreeMap::new();
    for wanted in wanted {
        if let Some(topic) = directory.topic_by_id(wanted.topic_id) {
            topics.entry(Name::clone(&topic.name)).or_default().push(wanted.partition);
        }
    }
    topics.into_iter().collect()
}

/// What is stored, by topic and partition.
type Stored = BTreeMap<(Name, i32), FetchedOffset>;

fn by_partition(fetched: Vec<FetchedTopic>) -> Stored {
    let partitions = fetched.into_iter().flat_map(|topic| {
        let name = topic.name;
        let stored = topic.partitions.into_iter();
        stored
            .filter_map(move |(partition, stored)| Some(((Name::clone(&name), partition), stored?)))
    });
    partitions.collect()
}

fn one(directory: &Directory, stored: &Stored, wanted: &TopicPartition) -> StoredPosition {
    let TopicPartition { topic_id, partition } = *wanted;
    let nothing = StoredPosition { topic_id, partition, ..StoredPosition::default() };
    let Some(topic) = directory.topic_by_id(topic_id) else {
        return StoredPosition { error_code: ErrorCode::UNKNOWN_TOPIC_ID, ..nothing };
    };
    let nothing = StoredPosition { topic: text(&topic.name), ..nothing };
    match stored.get(&(Name::clone(&topic.name), partition)) {
        Some(stored) => with_position(nothing, stored),
        None => nothing,
    }
}

fn all_of_topic(topic: FetchedTopic) -> Vec<StoredPosition> {
    let name: Text = text(&topic.name);
    let stored = topic.partitions.iter().filter_map(|(partition, stored)| {
        let place = StoredPosition {
            topic_id: topic.topic_id,
            topic: name.clone(),
            partition: *partition,
            ..StoredPosition::default()
        };
        Some(with_position(place, stored.as_ref()?))
    });
    stored.collect()
}

fn with_position(place: StoredPosition, stored: &FetchedOffset) -> StoredPosition {
    StoredPosition {
        offset: stored.offset,
        leader_epoch: stored.leader_epoch,
        metadata: text(&stored.metadata),
        ..place
    }
}
