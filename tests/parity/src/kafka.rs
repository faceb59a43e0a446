//! The Kafka door: the newest version of each API, over TCP.

use crate::door::{
    Answer, Appended, Door, Fetched, Join, Joined, Member, PROTOCOL, PROTOCOL_TYPE, Places,
};
use bateau_protocol::ids::TopicId;
use bateau_protocol::kafka::api::{Message, create_topics, delete_topics, fetch, heartbeat};
use bateau_protocol::kafka::api::{alter_partition_reassignments, list_partition_reassignments};
use bateau_protocol::kafka::api::{init_producer_id, join_group, leave_group, list_offsets};
use bateau_protocol::kafka::api::{metadata, offset_commit, offset_fetch, produce, sync_group};
use bateau_protocol::kafka::{RequestHeader, decode_response, encode_request};
use bateau_protocol::wire::{Chain, ErrorCode, Text};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const TIMEOUT_MS: i32 = 30_000;

/// A connection to the Kafka door.
#[derive(Debug)]
pub struct KafkaDoor {
    socket: TcpStream,
    correlation: i32,
}

fn checked<T>(code: ErrorCode, value: T) -> Answer<T> {
    if code.is_none() { Ok(value) } else { Err(code) }
}

fn only<T>(items: Vec<T>) -> T {
    let [item] = <[T; 1]>::try_from(items).ok().expect("one was asked for");
    item
}

impl KafkaDoor {
    async fn call<Q: Message, A: Message>(&mut self, request: &Q) -> A {
        let version = Q::INFO.version_max;
        self.correlation += 1;
        let header = RequestHeader {
            api_version: version,
            correlation_id: self.correlation,
            client_id: Some("parity".into()),
            ..RequestHeader::default()
        };
        let frame = encode_request(&header, request).expect("the request fits its version");
        self.socket.write_all(&frame.to_bytes()).await.expect("the broker reads");
        let length = self.socket.read_i32().await.expect("the broker answers");
        let mut frame = vec![0; usize::try_from(length).expect("a length")];
        self.socket.read_exact(&mut frame).await.expect("the broker answers");
        let (correlation, answer) =
            decode_response::<A>(frame.into(), version).expect("the answer can be read");
        assert_eq!(correlation, self.correlation);
        answer
    }
}

impl Door for KafkaDoor {
    const NAME: &'static str = "kafka";

    async fn connect(places: &Places) -> Self {
        let socket = TcpStream::connect(&places.kafka).await.expect("the door is open");
        socket.set_nodelay(true).expect("a socket has the option");
        Self { socket, correlation: 0 }
    }

    async fn create_topic(&mut self, name: &str, partitions: i32) -> Answer<TopicId> {
        let request = create_topics::CreateTopicsRequest {
            topics: vec![create_topics::CreatableTopic {
                name: name.to_owned().into(),
                num_partitions: partitions,
                replication_factor: -1,
                ..create_topics::CreatableTopic::default()
            }],
            timeout_ms: TIMEOUT_MS,
            validate_only: false,
        };
        let answer: create_topics::CreateTopicsResponse = self.call(&request).await;
        let topic = only(answer.topics);
        checked(topic.error_code, topic.topic_id)
    }

    async fn delete_topic(&mut self, name: &str) -> Answer<()> {
        let request = delete_topics::DeleteTopicsRequest {
            topics: vec![delete_topics::DeleteTopicState {
                name: Some(name.to_owned().into()),
                topic_id: TopicId::ZERO,
            }],
            timeout_ms: TIMEOUT_MS,
            ..delete_topics::DeleteTopicsRequest::default()
        };
        let answer: delete_topics::DeleteTopicsResponse = self.call(&request).await;
        checked(only(answer.responses).error_code, ())
    }

    async fn topic(&mut self, name: &str) -> Answer<(TopicId, usize)> {
        let request = metadata::MetadataRequest {
            topics: Some(vec![metadata::MetadataRequestTopic {
                name: Some(name.to_owned().into()),
                ..metadata::MetadataRequestTopic::default()
            }]),
            allow_auto_topic_creation: false,
            ..metadata::MetadataRequest::default()
        };
        let answer: metadata::MetadataResponse = self.call(&request).await;
        let topic = only(answer.topics);
        checked(topic.error_code, (topic.topic_id, topic.partitions.len()))
    }

    async fn reassign(
        &mut self,
        topic: &str,
        partition: i32,
        nodes: Option<Vec<i32>>,
    ) -> Answer<usize> {
        let partition = alter_partition_reassignments::ReassignablePartition {
            partition_index: partition,
            replicas: nodes,
        };
        let topic = alter_partition_reassignments::ReassignableTopic {
            name: topic.to_owned().into(),
            partitions: vec![partition],
        };
        let request = alter_partition_reassignments::AlterPartitionReassignmentsRequest {
            topics: vec![topic],
            ..alter_partition_reassignments::AlterPartitionReassignmentsRequest::default()
        };
        let answer: alter_partition_reassignments::AlterPartitionReassignmentsResponse =
            self.call(&request).await;
        checked(only(only(answer.responses).partitions).error_code, ())?;
        let request = list_partition_reassignments::ListPartitionReassignmentsRequest::default();
        let answer: list_partition_reassignments::ListPartitionReassignmentsResponse =
            self.call(&request).await;
        checked(answer.error_code, answer.topics.iter().map(|one| one.partitions.len()).sum())
    }

    async fn producer_id(&mut self) -> Answer<(i64, i16)> {
        let request = init_producer_id::InitProducerIdRequest::default();
        let answer: init_producer_id::InitProducerIdResponse = self.call(&request).await;
        checked(answer.error_code, (answer.producer_id, answer.producer_epoch))
    }

    async fn produce(&mut self, topic: TopicId, partition: i32, batch: Bytes) -> Answer<Appended> {
        let request = produce::ProduceRequest {
            transactional_id: None,
            acks: -1,
            timeout_ms: TIMEOUT_MS,
            topic_data: vec![produce::TopicProduceData {
                topic_id: topic,
                partition_data: vec![produce::PartitionProduceData {
                    index: partition,
                    records: Some(Chain::from(batch)),
                }],
                ..produce::TopicProduceData::default()
            }],
        };
        let answer: produce::ProduceResponse = self.call(&request).await;
        let found = only(only(answer.responses).partition_responses);
        let (base_offset, log_start) = (found.base_offset, found.log_start_offset);
        checked(found.error_code, Appended { base_offset, log_start })
    }

    async fn fetch(
        &mut self,
        topic: TopicId,
        partition: i32,
        offset: i64,
        leader_epoch: i32,
    ) -> Answer<Fetched> {
        let request = fetch::FetchRequest {
            topics: vec![fetch::FetchTopic {
                topic_id: topic,
                partitions: vec![fetch::FetchPartition {
                    partition,
                    fetch_offset: offset,
                    current_leader_epoch: leader_epoch,
                    partition_max_bytes: i32::MAX,
                    ..fetch::FetchPartition::default()
                }],
                ..fetch::FetchTopic::default()
            }],
            ..fetch::FetchRequest::default()
        };
        let answer: fetch::FetchResponse = self.call(&request).await;
        let found = only(only(answer.responses).partitions);
        let fetched = Fetched {
            high_watermark: found.high_watermark,
            log_start: found.log_start_offset,
            records: found.records.unwrap_or_default().to_bytes(),
        };
        checked(found.error_code, fetched)
    }

    async fn find_offset(
        &mut self,
        topic: (&str, TopicId),
        partition: i32,
        timestamp: i64,
    ) -> Answer<(i64, i64)> {
        let request = list_offsets::ListOffsetsRequest {
            replica_id: -1,
            topics: vec![list_offsets::ListOffsetsTopic {
                name: topic.0.to_owned().into(),
                partitions: vec![list_offsets::ListOffsetsPartition {
                    partition_index: partition,
                    timestamp,
                    ..list_offsets::ListOffsetsPartition::default()
                }],
            }],
            ..list_offsets::ListOffsetsRequest::default()
        };
        let answer: list_offsets::ListOffsetsResponse = self.call(&request).await;
        let found = only(only(answer.topics).partitions);
        checked(found.error_code, (found.offset, found.timestamp))
    }

    async fn join(&mut self, join: &Join) -> Answer<Joined> {
        let protocols = join.protocols.iter().map(|(name, metadata)| {
            let (name, metadata) = (name.clone().into(), metadata.clone());
            join_group::JoinGroupProtocol { name, metadata }
        });
        let mut request = join_group::JoinGroupRequest {
            group_id: join.group.clone().into(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.session_timeout_ms,
            member_id: join.member.clone().into(),
            group_instance_id: join.instance.clone().map(Text::from),
            protocol_type: join.protocol_type.clone().into(),
            protocols: protocols.collect(),
            reason: None,
        };
        let mut answer: join_group::JoinGroupResponse = self.call(&request).await;
        if answer.error_code == ErrorCode::MEMBER_ID_REQUIRED {
            // A part of joining (KIP-394).
            request.member_id = answer.member_id;
            answer = self.call(&request).await;
        }
        let members = answer.members.into_iter();
        let joined = Joined {
            member: answer.member_id.to_string(),
            leader: answer.leader.to_string(),
            generation: answer.generation_id,
            protocol: answer.protocol_name.unwrap_or_default().to_string(),
            members: members.map(|one| (one.member_id.to_string(), one.metadata)).collect(),
        };
        checked(answer.error_code, joined)
    }

    async fn sync(&mut self, member: &Member, assignments: Vec<(String, Bytes)>) -> Answer<Bytes> {
        let assignments = assignments.into_iter().map(|(member_id, assignment)| {
            let member_id = member_id.into();
            sync_group::SyncGroupAssignment { member_id, assignment }
        });
        let request = sync_group::SyncGroupRequest {
            group_id: member.group.clone().into(),
            generation_id: member.generation,
            member_id: member.member.clone().into(),
            group_instance_id: member.instance.clone().map(Text::from),
            protocol_type: Some(PROTOCOL_TYPE.into()),
            protocol_name: Some(PROTOCOL.into()),
            assignments: assignments.collect(),
        };
        let answer: sync_group::SyncGroupResponse = self.call(&request).await;
        checked(answer.error_code, answer.assignment)
    }

    async fn heartbeat(&mut self, member: &Member) -> Answer<()> {
        let request = heartbeat::HeartbeatRequest {
            group_id: member.group.clone().into(),
            generation_id: member.generation,
            member_id: member.member.clone().into(),
            group_instance_id: member.instance.clone().map(Text::from),
        };
        let answer: heartbeat::HeartbeatResponse = self.call(&request).await;
        checked(answer.error_code, ())
    }

    async fn leave(&mut self, member: &Member) -> Answer<()> {
        let request = leave_group::LeaveGroupRequest {
            group_id: member.group.clone().into(),
            members: vec![leave_group::LeaveGroupMember {
                member_id: member.member.clone().into(),
                group_instance_id: member.instance.clone().map(Text::from),
                reason: None,
            }],
            ..leave_group::LeaveGroupRequest::default()
        };
        let answer: leave_group::LeaveGroupResponse = self.call(&request).await;
        checked(answer.error_code, ())?;
        checked(only(answer.members).error_code, ())
    }

    async fn commit(
        &mut self,
        member: &Member,
        topic: TopicId,
        partition: i32,
        offset: i64,
        metadata: &str,
    ) -> Answer<()> {
        let request = offset_commit::OffsetCommitRequest {
            group_id: member.group.clone().into(),
            generation_id_or_member_epoch: member.generation,
            member_id: member.member.clone().into(),
            group_instance_id: member.instance.clone().map(Text::from),
            topics: vec![offset_commit::OffsetCommitTopic {
                topic_id: topic,
                partitions: vec![offset_commit::OffsetCommitPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    committed_metadata: Some(metadata.to_owned().into()),
                    ..offset_commit::OffsetCommitPartition::default()
                }],
                ..offset_commit::OffsetCommitTopic::default()
            }],
            ..offset_commit::OffsetCommitRequest::default()
        };
        let answer: offset_commit::OffsetCommitResponse = self.call(&request).await;
        checked(only(only(answer.topics).partitions).error_code, ())
    }

    async fn committed(
        &mut self,
        group: &str,
        topic: TopicId,
        partition: i32,
    ) -> Answer<(i64, String)> {
        let request = offset_fetch::OffsetFetchRequest {
            groups: vec![offset_fetch::OffsetFetchGroup {
                group_id: group.to_owned().into(),
                topics: Some(vec![offset_fetch::OffsetFetchTopics {
                    topic_id: topic,
                    partition_indexes: vec![partition],
                    ..offset_fetch::OffsetFetchTopics::default()
                }]),
                ..offset_fetch::OffsetFetchGroup::default()
            }],
            ..offset_fetch::OffsetFetchRequest::default()
        };
        let answer: offset_fetch::OffsetFetchResponse = self.call(&request).await;
        let group = only(answer.groups);
        checked(group.error_code, ())?;
        let found = only(only(group.topics).partitions);
        let metadata = found.metadata.unwrap_or_default().to_string();
        checked(found.error_code, (found.committed_offset, metadata))
    }
}
