//! What a test's controls see of a Kafka request, and the answer that they may give in the
//! broker's place.
//!
//! Absent on purpose: planning faults (`controls`), and serving requests.

use super::dispatch::Call;
use super::session::Reply;
use crate::api::Broker;
use crate::controls::{Api, Controls, Door, Plan, Subject};
use bateau_protocol::ids::TopicId;
use bateau_protocol::kafka::api::alter_partition_reassignments::AlterPartitionReassignmentsResponse;
use bateau_protocol::kafka::api::api_versions::ApiVersionsResponse;
use bateau_protocol::kafka::api::create_topics::{CreatableTopicResult, CreateTopicsResponse};
use bateau_protocol::kafka::api::delete_topics::{DeletableTopicResult, DeleteTopicsResponse};
use bateau_protocol::kafka::api::describe_cluster::DescribeClusterResponse;
use bateau_protocol::kafka::api::describe_configs::{
    DescribeConfigsResponse, DescribeConfigsResult,
};
use bateau_protocol::kafka::api::elect_leaders::ElectLeadersResponse;
use bateau_protocol::kafka::api::fetch::{
    FetchRequestView, FetchResponse, FetchableTopicResponse, PartitionData,
};
use bateau_protocol::kafka::api::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use bateau_protocol::kafka::api::heartbeat::HeartbeatResponse;
use bateau_protocol::kafka::api::init_producer_id::InitProducerIdResponse;
use bateau_protocol::kafka::api::join_group::JoinGroupResponse;
use bateau_protocol::kafka::api::leave_group::LeaveGroupResponse;
use bateau_protocol::kafka::api::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use bateau_protocol::kafka::api::list_partition_reassignments::ListPartitionReassignmentsResponse;
use bateau_protocol::kafka::api::metadata::{
    MetadataBroker, MetadataRequest, MetadataResponse, MetadataTopic,
};
use bateau_protocol::kafka::api::offset_commit::{
    OffsetCommitPartitionResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetCommitTopicResponse,
};
use bateau_protocol::kafka::api::offset_fetch::{
    OffsetFetchGroupResponse, OffsetFetchPartitionResponse, OffsetFetchRequest,
    OffsetFetchResponse, OffsetFetchTopicResponse,
};
use bateau_protocol::kafka::api::offset_for_leader_epoch::{
    EpochEnd, EpochTopicResult, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};
use bateau_protocol::kafka::api::produce::{
    PartitionProduceResponse, ProduceRequestView, ProduceResponse, TopicProduceResponse,
};
use bateau_protocol::kafka::api::sync_group::SyncGroupResponse;
use bateau_protocol::kafka::view;
use bateau_protocol::kafka::{ApiKey, Request, Response};
use bateau_protocol::wire::{ErrorCode, Text};
use std::sync::Arc;

/// First version in which OffsetFetch asks for several groups.
const GROUPS_SINCE: i16 = 8;
/// First version in which FindCoordinator asks for several keys.
const KEYS_SINCE: i16 = 4;
/// First version in which Metadata has a code of its own.
const METADATA_CODE_SINCE: i16 = 13;

/// Tells the controls of a request, and asks what is to be done with it.
pub fn plan(controls: &Arc<Controls>, call: &Call, request: &Request) -> Plan {
    let client = call.client_id.as_ref().map(|id| id.as_str().to_owned());
    let (topic, group) = subject(&call.context.broker, request);
    let wants_answer = !matches!(request, Request::Produce(produce) if produce.acks == 0);
    let subject = Subject { topic, group, client };
    controls.before(Door::Kafka, api(request.api()), wants_answer, subject)
}

/// Whether the broker has done what was asked: a produce is appended where any of its partitions
/// took it. Without an answer there is nothing to tell it by, and nothing that could be lost.
pub fn is_done(reply: &Reply) -> bool {
    let Reply::Answer(Response::Produce(response)) = reply else { return true };
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions.any(|partition| partition.error_code.is_none())
}

const fn api(key: ApiKey) -> Api {
    match key {
        ApiKey::Produce => Api::Produce,
        ApiKey::Fetch => Api::Fetch,
        ApiKey::ListOffsets => Api::ListOffsets,
        ApiKey::Metadata => Api::Metadata,
        ApiKey::OffsetCommit => Api::OffsetCommit,
        ApiKey::OffsetFetch => Api::OffsetFetch,
        ApiKey::FindCoordinator => Api::FindCoordinator,
        ApiKey::JoinGroup => Api::JoinGroup,
        ApiKey::Heartbeat => Api::Heartbeat,
        ApiKey::LeaveGroup => Api::LeaveGroup,
        ApiKey::SyncGroup => Api::SyncGroup,
        ApiKey::ApiVersions => Api::ApiVersions,
        ApiKey::CreateTopics => Api::CreateTopics,
        ApiKey::DeleteTopics => Api::DeleteTopics,
        ApiKey::InitProducerId => Api::InitProducerId,
        ApiKey::OffsetForLeaderEpoch => Api::OffsetForLeaderEpoch,
        ApiKey::DescribeConfigs => Api::DescribeConfigs,
        ApiKey::ElectLeaders => Api::ElectLeaders,
        ApiKey::AlterPartitionReassignments => Api::AlterPartitionReassignments,
        ApiKey::ListPartitionReassignments => Api::ListPartitionReassignments,
        ApiKey::DescribeCluster => Api::DescribeCluster,
    }
}

/// The first topic and the group that a request names.
fn subject(broker: &Broker, request: &Request) -> (Option<String>, Option<String>) {
    let text = |name: &Text| Some(name.as_str().to_owned());
    let seen = |topic: &view::TopicReference| named(broker, topic);
    match request {
        Request::Produce(request) => {
            (request.topics.iter().next().and_then(|topic| seen(&topic.topic)), None)
        }
        Request::Fetch(request) => {
            (request.topics.iter().next().and_then(|topic| seen(&topic.topic)), None)
        }
        Request::ListOffsets(request) => {
            (request.topics.first().and_then(|topic| text(&topic.name)), None)
        }
        Request::Metadata(request) => {
            let first = request.topics.as_ref().and_then(|topics| topics.first());
            (first.and_then(|topic| topic.name.as_ref()).and_then(text), None)
        }
        Request::OffsetCommit(request) => {
            (request.topics.first().and_then(|topic| text(&topic.name)), text(&request.group_id))
        }
        Request::OffsetFetch(request) => {
            let group = request.groups.first().map_or(&request.group_id, |group| &group.group_id);
            (None, text(group))
        }
        Request::FindCoordinator(request) => {
            (None, text(request.coordinator_keys.first().unwrap_or(&request.key)))
        }
        Request::JoinGroup(request) => (None, text(&request.group_id)),
        Request::Heartbeat(request) => (None, text(&request.group_id)),
        Request::LeaveGroup(request) => (None, text(&request.group_id)),
        Request::SyncGroup(request) => (None, text(&request.group_id)),
        Request::CreateTopics(request) => {
            (request.topics.first().and_then(|topic| text(&topic.name)), None)
        }
        Request::DeleteTopics(request) => {
            let first = request.topics.first().and_then(|topic| topic.name.as_ref());
            (first.or(request.topic_names.first()).and_then(text), None)
        }
        Request::OffsetForLeaderEpoch(request) => {
            (request.topics.first().and_then(|topic| text(&topic.topic)), None)
        }
        Request::ElectLeaders(request) => {
            let first = request.topic_partitions.as_ref().and_then(|topics| topics.first());
            (first.and_then(|topic| text(&topic.topic)), None)
        }
        Request::AlterPartitionReassignments(request) => {
            (request.topics.first().and_then(|topic| text(&topic.name)), None)
        }
        Request::ListPartitionReassignments(request) => {
            let first = request.topics.as_ref().and_then(|topics| topics.first());
            (first.and_then(|topic| text(&topic.name)), None)
        }
        Request::ApiVersions(_)
        | Request::InitProducerId(_)
        | Request::DescribeConfigs(_)
        | Request::DescribeCluster(_) => (None, None),
    }
}

/// A topic's name, looked up where the request has its id.
fn named(broker: &Broker, topic: &view::TopicReference) -> Option<String> {
    if topic.topic_id == TopicId::ZERO {
        return Some(topic.name.as_str().to_owned());
    }
    broker.directory().topic_by_id(topic.topic_id).map(|topic| topic.name.to_string())
}

/// The request's answer with `code` wherever it has a place for one. Without a place the
/// connection is closed.
pub fn refused(call: &Call, request: Request, error_code: ErrorCode) -> Reply {
    Reply::Answer(match request {
        Request::Produce(request) if request.acks == 0 => return Reply::Close,
        Request::Produce(request) => produce(&request, error_code).into(),
        Request::Fetch(request) => fetch(&request, error_code).into(),
        Request::ListOffsets(request) => list_offsets(request, error_code).into(),
        Request::Metadata(request) => match metadata(call, request, error_code) {
            Some(response) => response.into(),
            None => return Reply::Close,
        },
        Request::OffsetCommit(request) => offset_commit(request, error_code).into(),
        Request::OffsetFetch(request) => offset_fetch(call.version, request, error_code).into(),
        Request::FindCoordinator(request) => {
            find_coordinator(call.version, request, error_code).into()
        }
        Request::JoinGroup(request) => {
            let member_id = request.member_id;
            JoinGroupResponse { error_code, member_id, ..JoinGroupResponse::default() }.into()
        }
        Request::Heartbeat(_) => {
            HeartbeatResponse { error_code, ..HeartbeatResponse::default() }.into()
        }
        Request::LeaveGroup(_) => {
            LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() }.into()
        }
        Request::SyncGroup(_) => {
            SyncGroupResponse { error_code, ..SyncGroupResponse::default() }.into()
        }
        Request::ApiVersions(_) => {
            ApiVersionsResponse { error_code, ..ApiVersionsResponse::of_table() }.into()
        }
        Request::CreateTopics(request) => {
            let refused = |topic: &_| created(topic, error_code);
            let topics = request.topics.iter().map(|topic| refused(&topic.name)).collect();
            CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }.into()
        }
        Request::DeleteTopics(request) => {
            let by_name = request.topic_names.into_iter().map(|name| (Some(name), TopicId::ZERO));
            let states = request.topics.into_iter().map(|state| (state.name, state.topic_id));
            let refused = |(name, topic_id)| deleted(name, topic_id, error_code);
            let responses = states.chain(by_name).map(refused).collect();
            DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }.into()
        }
        Request::InitProducerId(_) => {
            InitProducerIdResponse { error_code, ..InitProducerIdResponse::default() }.into()
        }
        Request::OffsetForLeaderEpoch(request) => epoch_ends(request, error_code).into(),
        Request::DescribeConfigs(request) => {
            let refused = request.resources.into_iter().map(|resource| DescribeConfigsResult {
                error_code,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
                ..DescribeConfigsResult::default()
            });
            let results = refused.collect();
            DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }.into()
        }
        Request::ElectLeaders(_)
        | Request::AlterPartitionReassignments(_)
        | Request::ListPartitionReassignments(_) => {
            return not_moved(call.version, &request, error_code);
        }
        Request::DescribeCluster(_) => {
            DescribeClusterResponse { error_code, ..DescribeClusterResponse::default() }.into()
        }
    })
}

/// Of requests about who holds and who leads. Version 0 of an election has no place for a code.
fn not_moved(version: i16, request: &Request, error_code: ErrorCode) -> Reply {
    Reply::Answer(match request {
        Request::ElectLeaders(_) if version > 0 => {
            ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() }.into()
        }
        Request::AlterPartitionReassignments(_) => {
            AlterPartitionReassignmentsResponse { error_code, ..Default::default() }.into()
        }
        Request::ListPartitionReassignments(_) => {
            ListPartitionReassignmentsResponse { error_code, ..Default::default() }.into()
        }
        _ => return Reply::Close,
    })
}

fn produce(request: &ProduceRequestView, error_code: ErrorCode) -> ProduceResponse {
    let responses = request.topics.iter().map(|topic| {
        let refused = |index| PartitionProduceResponse {
            index,
            error_code,
            ..PartitionProduceResponse::default()
        };
        let partitions = topic.partitions.iter().map(|partition| refused(partition.index));
        let partition_responses = partitions.collect();
        let (name, topic_id) = (topic.topic.name, topic.topic.topic_id);
        TopicProduceResponse { name, topic_id, partition_responses }
    });
    ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() }
}

fn fetch(request: &FetchRequestView, error_code: ErrorCode) -> FetchResponse {
    let responses = request.topics.iter().map(|topic| {
        let refused =
            |partition_index| PartitionData { partition_index, error_code, ..Default::default() };
        let partitions = topic.partitions.iter().map(|partition| refused(partition.partition));
        let partitions = partitions.collect();
        let (topic, topic_id) = (topic.topic.name, topic.topic.topic_id);
        FetchableTopicResponse { topic, topic_id, partitions }
    });
    FetchResponse { responses: responses.collect(), ..FetchResponse::default() }
}

fn list_offsets(request: ListOffsetsRequest, error_code: ErrorCode) -> ListOffsetsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let refused = |partition_index| ListOffsetsPartitionResponse {
            partition_index,
            error_code,
            ..Default::default()
        };
        let partitions = topic.partitions.iter().map(|one| refused(one.partition_index)).collect();
        ListOffsetsTopicResponse { name: topic.name, partitions }
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}

/// Of the named topics, with this node as the only broker. `None` where no topic is named and the
/// version has no other place for a code.
fn metadata(
    call: &Call,
    request: MetadataRequest,
    error_code: ErrorCode,
) -> Option<MetadataResponse> {
    let named = request.topics.unwrap_or_default();
    if named.is_empty() && call.version < METADATA_CODE_SINCE {
        return None;
    }
    let node_id = i32::try_from(call.context.broker.node().node_id.get()).unwrap_or(-1);
    let endpoint = &call.context.endpoint;
    let (host, port) = (endpoint.host.clone(), endpoint.port);
    let broker = MetadataBroker { node_id, host, port, rack: None };
    let topics = named.into_iter().map(|topic| MetadataTopic {
        error_code,
        name: topic.name,
        topic_id: topic.topic_id,
        ..MetadataTopic::default()
    });
    Some(MetadataResponse {
        brokers: vec![broker],
        controller_id: node_id,
        topics: topics.collect(),
        error_code,
        ..MetadataResponse::default()
    })
}

fn offset_commit(request: OffsetCommitRequest, error_code: ErrorCode) -> OffsetCommitResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let refused =
            |partition_index| OffsetCommitPartitionResponse { partition_index, error_code };
        let partitions = topic.partitions.iter().map(|one| refused(one.partition_index)).collect();
        OffsetCommitTopicResponse { name: topic.name, topic_id: topic.topic_id, partitions }
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}

fn offset_fetch(
    version: i16,
    request: OffsetFetchRequest,
    error_code: ErrorCode,
) -> OffsetFetchResponse {
    if version >= GROUPS_SINCE {
        let groups = request.groups.into_iter().map(|group| OffsetFetchGroupResponse {
            group_id: group.group_id,
            error_code,
            ..OffsetFetchGroupResponse::default()
        });
        return OffsetFetchResponse { groups: groups.collect(), ..Default::default() };
    }
    let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
        let refused = |partition_index| OffsetFetchPartitionResponse {
            partition_index,
            committed_offset: -1,
            error_code,
            ..Default::default()
        };
        let partitions = topic.partition_indexes.into_iter().map(refused).collect();
        OffsetFetchTopicResponse { name: topic.name, partitions }
    });
    OffsetFetchResponse { topics: topics.collect(), error_code, ..Default::default() }
}

fn find_coordinator(
    version: i16,
    request: FindCoordinatorRequest,
    error_code: ErrorCode,
) -> FindCoordinatorResponse {
    let node_id = -1;
    if version < KEYS_SINCE {
        return FindCoordinatorResponse { error_code, node_id, ..Default::default() };
    }
    let keys = request.coordinator_keys.into_iter();
    let refused = |key| Coordinator { key, node_id, error_code, ..Coordinator::default() };
    FindCoordinatorResponse { coordinators: keys.map(refused).collect(), ..Default::default() }
}

fn created(name: &Text, error_code: ErrorCode) -> CreatableTopicResult {
    CreatableTopicResult { name: name.clone(), error_code, ..CreatableTopicResult::default() }
}

fn deleted(name: Option<Text>, topic_id: TopicId, error_code: ErrorCode) -> DeletableTopicResult {
    DeletableTopicResult { name, topic_id, error_code, ..DeletableTopicResult::default() }
}

fn epoch_ends(
    request: OffsetForLeaderEpochRequest,
    error_code: ErrorCode,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let refused = |partition| EpochEnd { error_code, partition, ..EpochEnd::default() };
        let partitions = topic.partitions.iter().map(|one| refused(one.partition)).collect();
        EpochTopicResult { topic: topic.topic, partitions }
    });
    OffsetForLeaderEpochResponse { topics: topics.collect(), ..Default::default() }
}
