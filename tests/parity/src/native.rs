//! The native door: frames on three streams, over QUIC.

use crate::door::{
    Answer, Appended, Door, Fetched, Join, Joined, Member, PROTOCOL, PROTOCOL_TYPE, Places,
};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::*;
use bateau_protocol::wire::{Chain, ErrorCode, Text};
use bateau_quic::{Settings, SpkiPin, Trust, bind, client_config, endpoint};
use bytes::{Bytes, BytesMut};
use std::net::SocketAddr;

const TIMEOUT_MS: i32 = 30_000;

/// One stream and the request that is out on it.
#[derive(Debug)]
struct Stream {
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    buffer: BytesMut,
    correlation: u32,
}

/// A connection to the native door.
#[derive(Debug)]
pub struct NativeDoor {
    // Held, for the connection ends with it.
    _endpoint: quinn::Endpoint,
    _connection: quinn::Connection,
    control: Stream,
    data: Stream,
    bulk: Stream,
}

impl Stream {
    async fn open(connection: &quinn::Connection) -> Self {
        let (send, receive) = connection.open_bi().await.expect("a stream may be opened");
        Self { send, receive, buffer: BytesMut::new(), correlation: 0 }
    }

    async fn call(&mut self, request: impl Into<Request>) -> Answer<Reply> {
        self.ask(request).await.map_err(|error| error.code)
    }

    async fn ask(&mut self, request: impl Into<Request>) -> Result<Reply, ErrorReply> {
        self.correlation += 1;
        let frame = request.into().encode(self.correlation, VERSION_MAX).expect("it fits");
        self.send.write_all(&frame.to_bytes()).await.expect("the broker reads");
        loop {
            match Frame::split(&mut self.buffer, usize::MAX).expect("the broker sends frames") {
                Split::Frame(frame) => {
                    assert_eq!(frame.correlation, self.correlation);
                    return match Reply::decode(frame, VERSION_MAX).expect("it is in the table") {
                        Reply::Error(error) => Err(error),
                        reply => Ok(reply),
                    };
                }
                Split::Incomplete { .. } => {
                    let chunk = self.receive.read_chunk(usize::MAX, true).await;
                    let chunk = chunk.expect("the broker answers").expect("it goes on");
                    self.buffer.extend_from_slice(&chunk.bytes);
                }
            }
        }
    }
}

/// Takes the answer of one kind out of a reply.
macro_rules! answer {
    ($variant:ident of $reply:expr) => {
        match $reply {
            Reply::$variant(answer) => answer,
            other => panic!("answered by {other:?}"),
        }
    };
}

fn checked<T>(code: ErrorCode, value: T) -> Answer<T> {
    if code.is_none() { Ok(value) } else { Err(code) }
}

fn only<T>(items: Vec<T>) -> T {
    let [item] = <[T; 1]>::try_from(items).ok().expect("one was asked for");
    item
}

/// Address and pin of `quic://host:port?pin=sha256:…`.
fn place(url: &str) -> (SocketAddr, SpkiPin) {
    let rest = url.strip_prefix("quic://").expect("a native address");
    let (address, pin) = rest.split_once("?pin=").expect("a pin");
    (address.parse().expect("an address"), pin.parse().expect("a pin"))
}

impl Door for NativeDoor {
    const NAME: &'static str = "native";

    async fn connect(places: &Places) -> Self {
        let (address, pin) = place(&places.native);
        let settings = Settings::default();
        let config = client_config(Trust::Pin(pin), &settings).expect("the pin is a pin");
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let (socket, _) = bind(local, &settings).expect("a free port");
        let endpoint = endpoint(socket, None, &settings).expect("a socket");
        let connecting = endpoint.connect_with(config, address, "localhost").expect("a name");
        let connection = connecting.await.expect("the door is open");
        let mut control = Stream::open(&connection).await;
        let hello = Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            client_name: "parity".into(),
            ..Hello::default()
        };
        control.call(hello).await.expect("anonymous clients are welcome");
        let mut data = Stream::open(&connection).await;
        let role = StreamRole::Data.number();
        data.call(OpenStream { role }).await.expect("one data stream is allowed");
        let mut bulk = Stream::open(&connection).await;
        let role = StreamRole::Bulk.number();
        bulk.call(OpenStream { role }).await.expect("one bulk stream is allowed");
        Self { _endpoint: endpoint, _connection: connection, control, data, bulk }
    }

    async fn create_topic(&mut self, name: &str, partitions: i32) -> Answer<TopicId> {
        let topic = NewTopic { name: name.to_owned().into(), partitions, ..NewTopic::default() };
        let topics = vec![topic];
        let request = CreateTopicsRequest { topics, validate_only: false, timeout_ms: TIMEOUT_MS };
        let topic = only(answer!(CreateTopics of self.control.call(request).await?).topics);
        checked(topic.error_code, topic.id)
    }

    async fn delete_topic(&mut self, name: &str) -> Answer<()> {
        let names = vec![name.to_owned().into()];
        let request = DeleteTopicsRequest { names, timeout_ms: TIMEOUT_MS };
        let topic = only(answer!(DeleteTopics of self.control.call(request).await?).topics);
        checked(topic.error_code, ())
    }

    async fn topic(&mut self, name: &str) -> Answer<(TopicId, usize)> {
        let topic = TopicName { name: name.to_owned().into(), id: TopicId::ZERO };
        let request = MetadataRequest { topics: Some(vec![topic]), auto_create: false };
        let topic = only(answer!(Metadata of self.control.call(request).await?).topics);
        checked(topic.error_code, (topic.id, topic.partitions.len()))
    }

    async fn reassign(
        &mut self,
        topic: &str,
        partition: i32,
        nodes: Option<Vec<i32>>,
    ) -> Answer<usize> {
        let partitions = vec![PartitionMove { topic: topic.to_owned().into(), partition, nodes }];
        let request = ReassignPartitionsRequest { partitions, timeout_ms: TIMEOUT_MS };
        let moved = answer!(ReassignPartitions of self.control.call(request).await?);
        checked(only(moved.partitions).error_code, ())?;
        let request = ListReassignmentsRequest {};
        let moving = answer!(ListReassignments of self.control.call(request).await?);
        Ok(moving.partitions.len())
    }

    async fn producer_id(&mut self) -> Answer<(i64, i16)> {
        let found = answer!(ProducerId of self.control.call(ProducerIdRequest {}).await?);
        Ok((found.producer_id, found.producer_epoch))
    }

    async fn produce(&mut self, topic: TopicId, partition: i32, batch: Bytes) -> Answer<Appended> {
        let records = Chain::from(batch);
        let request =
            ProduceRequest { topic_id: topic, partition, timeout_ms: TIMEOUT_MS, records };
        let ack = answer!(Produce of self.data.call(request).await?);
        Ok(Appended { base_offset: ack.base_offset, log_start: ack.log_start })
    }

    async fn fetch(
        &mut self,
        topic: TopicId,
        partition: i32,
        offset: i64,
        leader_epoch: i32,
    ) -> Answer<Fetched> {
        let request = FetchRequest {
            topic_id: topic,
            partition,
            offset,
            bytes_max: i32::MAX,
            leader_epoch,
            ..FetchRequest::default()
        };
        let found = answer!(Fetch of self.bulk.call(request).await?);
        Ok(Fetched {
            high_watermark: found.high_watermark,
            log_start: found.log_start,
            records: found.records.to_bytes(),
        })
    }

    async fn find_offset(
        &mut self,
        topic: (&str, TopicId),
        partition: i32,
        timestamp: i64,
    ) -> Answer<(i64, i64)> {
        let positions = vec![Position { topic_id: topic.1, partition, timestamp }];
        let request = FindOffsetsRequest { positions };
        let found = only(answer!(FindOffsets of self.control.call(request).await?).offsets);
        checked(found.error_code, (found.offset, found.timestamp))
    }

    async fn join(&mut self, join: &Join) -> Answer<Joined> {
        let protocols = join.protocols.iter().map(|(name, metadata)| GroupProtocol {
            name: name.clone().into(),
            metadata: metadata.clone(),
        });
        let request = JoinRequest {
            group_id: join.group.clone().into(),
            member_id: join.member.clone().into(),
            group_instance_id: join.instance.clone().map(Text::from),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.session_timeout_ms,
            protocol_type: join.protocol_type.clone().into(),
            protocols: protocols.collect(),
        };
        let reply = match self.control.ask(request.clone()).await {
            Err(error) if error.code == ErrorCode::MEMBER_ID_REQUIRED => {
                let member_id = error.member_id;
                self.control.call(JoinRequest { member_id, ..request }).await?
            }
            reply => reply.map_err(|error| error.code)?,
        };
        let found = answer!(Join of reply);
        let members = found.members.into_iter();
        Ok(Joined {
            member: found.member_id.to_string(),
            leader: found.leader.to_string(),
            generation: found.generation,
            protocol: found.protocol_name.to_string(),
            members: members.map(|one| (one.member_id.to_string(), one.metadata)).collect(),
        })
    }

    async fn sync(&mut self, member: &Member, assignments: Vec<(String, Bytes)>) -> Answer<Bytes> {
        let assignments = assignments.into_iter().map(|(member_id, assignment)| {
            let member_id = member_id.into();
            MemberAssignment { member_id, assignment }
        });
        let request = SyncRequest {
            group_id: member.group.clone().into(),
            generation: member.generation,
            member_id: member.member.clone().into(),
            group_instance_id: member.instance.clone().map(Text::from),
            protocol_type: PROTOCOL_TYPE.into(),
            protocol_name: PROTOCOL.into(),
            assignments: assignments.collect(),
        };
        Ok(answer!(Sync of self.control.call(request).await?).assignment)
    }

    async fn heartbeat(&mut self, member: &Member) -> Answer<()> {
        let request = HeartbeatRequest {
            group_id: member.group.clone().into(),
            generation: member.generation,
            member_id: member.member.clone().into(),
            group_instance_id: member.instance.clone().map(Text::from),
        };
        self.control.call(request).await.map(drop)
    }

    async fn leave(&mut self, member: &Member) -> Answer<()> {
        let request = LeaveRequest {
            group_id: member.group.clone().into(),
            members: vec![LeavingMember {
                member_id: member.member.clone().into(),
                group_instance_id: member.instance.clone().map(Text::from),
            }],
        };
        checked(only(answer!(Leave of self.control.call(request).await?).error_codes), ())
    }

    async fn commit(
        &mut self,
        member: &Member,
        topic: TopicId,
        partition: i32,
        offset: i64,
        metadata: &str,
    ) -> Answer<()> {
        let request = CommitRequest {
            group_id: member.group.clone().into(),
            generation: member.generation,
            member_id: member.member.clone().into(),
            group_instance_id: member.instance.clone().map(Text::from),
            positions: vec![CommittedPosition {
                topic_id: topic,
                partition,
                offset,
                metadata: metadata.to_owned().into(),
                ..CommittedPosition::default()
            }],
        };
        checked(only(answer!(Commit of self.control.call(request).await?).error_codes), ())
    }

    async fn committed(
        &mut self,
        group: &str,
        topic: TopicId,
        partition: i32,
    ) -> Answer<(i64, String)> {
        let partitions = Some(vec![TopicPartition { topic_id: topic, partition }]);
        let request = CommittedRequest { group_id: group.to_owned().into(), partitions };
        let found = only(answer!(Committed of self.control.call(request).await?).positions);
        checked(found.error_code, (found.offset, found.metadata.to_string()))
    }
}
