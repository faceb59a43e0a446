//! AlterPartitionReassignments, ListPartitionReassignments and ElectLeaders: who holds, who leads.
//!
//! Absent on purpose: internal partitions, which move by themselves, and unclean elections.

use super::super::dispatch::Call;
use crate::doors::codes;
use crate::doors::words::{milliseconds, text, wire_node};
use crate::nodes::{Elected, ElectionError, Moving};
use crate::router::Directory;
use bateau_core::controller::{ControllerError, Reassign};
use bateau_protocol::ids::NodeId;
use bateau_protocol::kafka::api::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use bateau_protocol::kafka::api::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
};
use bateau_protocol::kafka::api::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use bateau_protocol::wire::{ErrorCode, Text};
use std::collections::BTreeMap;
use std::time::Duration;

/// First version in which an election may be unclean.
const ELECTION_TYPE_SINCE: i16 = 1;
/// The election of the first replica.
const PREFERRED: i8 = 0;
/// The election of whoever is there.
const UNCLEAN: i8 = 1;

/// A partition's place in a request: of which topic, and which of its partitions.
type Place = (usize, usize);

/// Moves partitions, or cancels that.
pub async fn alter(
    call: &Call,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let may_resize = request.allow_replication_factor_change;
    let directory = call.context.broker.directory();
    let (mut asked, mut places): (Vec<Reassign>, Vec<Place>) = (Vec::new(), Vec::new());
    let mut responses = Vec::with_capacity(request.topics.len());
    for (at, topic) in request.topics.into_iter().enumerate() {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (of, one) in topic.partitions.into_iter().enumerate() {
            let partition = one.partition_index;
            let name = topic.name.as_str().to_owned();
            let wanted = Reassign { topic: name, partition, nodes: one.replicas };
            let resized = resized(&directory, &wanted).filter(|_| !may_resize);
            let (error_code, error_message) = match resized {
                Some(message) => (ErrorCode::INVALID_REPLICATION_FACTOR, Some(message)),
                None => (ErrorCode::NONE, None),
            };
            if error_code.is_none() {
                asked.push(wanted);
                places.push((at, of));
            }
            partitions.push(ReassignablePartitionResponse {
                partition_index: partition,
                error_code,
                error_message,
            });
        }
        responses.push(ReassignableTopicResponse { name: topic.name, partitions });
    }
    let answer = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_resize,
        ..AlterPartitionReassignmentsResponse::default()
    };
    let timeout_ms = milliseconds(request.timeout_ms);
    let moved = match call.context.broker.reassign(asked, timeout_ms).await {
        Ok(moved) => moved,
        Err(error) => return not_altered(answer, &error),
    };
    for ((at, of), outcome) in places.into_iter().zip(moved) {
        let topic = responses.get_mut(at);
        let partition = topic.and_then(|topic| topic.partitions.get_mut(of));
        if let (Some(partition), Err(error)) = (partition, outcome) {
            partition.error_code = codes::reassign(&error);
            partition.error_message = Some(error.to_string().into());
        }
    }
    AlterPartitionReassignmentsResponse { responses, ..answer }
}

/// What is said of a partition that would have another number of replicas.
fn resized(directory: &Directory, wanted: &Reassign) -> Option<Text> {
    let number = u32::try_from(wanted.partition).ok()?;
    let present = directory.topic(&wanted.topic)?.partition(number)?.replicas.len();
    let nodes = wanted.nodes.as_ref().filter(|nodes| !nodes.is_empty())?.len();
    (nodes != present)
        .then(|| format!("The replication factor is changed from {present} to {nodes}").into())
}

fn not_altered(
    answer: AlterPartitionReassignmentsResponse,
    error: &ControllerError,
) -> AlterPartitionReassignmentsResponse {
    AlterPartitionReassignmentsResponse {
        error_code: codes::controller(error, true),
        error_message: Some(error.to_string().into()),
        ..answer
    }
}

/// What is being moved, of all topics or of those that are named; others are left out.
pub fn list(
    call: &Call,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    let is_asked = |one: &Moving| match &request.topics {
        None => true,
        Some(topics) => topics.iter().any(|topic| {
            let number = i32::try_from(one.partition).unwrap_or(-1);
            *topic.name == *one.topic && topic.partition_indexes.contains(&number)
        }),
    };
    let mut topics: BTreeMap<std::sync::Arc<str>, Vec<_>> = BTreeMap::new();
    for one in call.context.broker.moves() {
        if !one.internal && is_asked(&one) {
            let name = std::sync::Arc::clone(&one.topic);
            topics.entry(name).or_default().push(ongoing(&one));
        }
    }
    let topics = topics
        .into_iter()
        .map(|(name, partitions)| OngoingTopicReassignment { name: text(&name), partitions });
    ListPartitionReassignmentsResponse { topics: topics.collect(), ..Default::default() }
}

fn ongoing(one: &Moving) -> OngoingPartitionReassignment {
    let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| wire_node(*node)).collect();
    let mut holders = one.nodes.clone();
    holders.extend(one.leaving.iter().filter(|node| !one.nodes.contains(node)));
    OngoingPartitionReassignment {
        partition_index: i32::try_from(one.partition).unwrap_or(-1),
        replicas: numbers(&holders),
        adding_replicas: numbers(&one.adding),
        removing_replicas: numbers(&one.leaving),
    }
}

/// Has the first replicas lead.
pub async fn elect(call: &Call, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let asked = request.topic_partitions.map(|topics| {
        let partitions = topics.into_iter().flat_map(|topic| {
            let name = topic.topic.as_str().to_owned();
            topic.partitions.into_iter().map(move |partition| (name.clone(), partition))
        });
        partitions.collect::<Vec<_>>()
    });
    let broker = &call.context.broker;
    let kind = if call.version >= ELECTION_TYPE_SINCE { request.election_type } else { PREFERRED };
    match kind {
        PREFERRED => {
            let timeout = Duration::from_millis(milliseconds(request.timeout_ms));
            elected(broker.elect_preferred(asked, timeout).await)
        }
        UNCLEAN => elected(broker.elect_unclean(asked)),
        other => unknown_election(other, asked.unwrap_or_default()),
    }
}

fn elected(results: Vec<Elected>) -> ElectLeadersResponse {
    let told = |(topic, partition_id, outcome): Elected| {
        let error_code = outcome.as_ref().map_or_else(codes::election, |()| ErrorCode::NONE);
        let error_message = outcome.err().map(|error: ElectionError| error.to_string().into());
        (topic, PartitionResult { partition_id, error_code, error_message })
    };
    let replica_election_results = by_topic(results.into_iter().map(told));
    ElectLeadersResponse { replica_election_results, ..ElectLeadersResponse::default() }
}

fn unknown_election(kind: i8, asked: Vec<(String, i32)>) -> ElectLeadersResponse {
    let error_code = ErrorCode::INVALID_REQUEST;
    let refused = |(topic, partition_id)| {
        let error_message = Some(format!("Unknown election type {kind}").into());
        (topic, PartitionResult { partition_id, error_code, error_message })
    };
    let replica_election_results = by_topic(asked.into_iter().map(refused));
    ElectLeadersResponse { error_code, replica_election_results, ..Default::default() }
}

/// Neighbours of one topic together.
fn by_topic(
    results: impl Iterator<Item = (String, PartitionResult)>,
) -> Vec<ReplicaElectionResult> {
    let mut topics: Vec<ReplicaElectionResult> = Vec::new();
    for (topic, result) in results {
        match topics.last_mut().filter(|last| last.topic.as_str() == topic) {
            Some(last) => last.partition_result.push(result),
            None => {
                let partition_result = vec![result];
                topics.push(ReplicaElectionResult { topic: topic.into(), partition_result });
            }
        }
    }
    topics
}
