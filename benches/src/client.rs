//! A blocking client for what surrounds a measurement: versions, topics, offsets.
//!
//! Absent on purpose: pipelining (`loader`, `fetcher`), several brokers, retries of errors.

use crate::failure::{Failure, Tried, accepted};
use crate::payload::{Noise, Shape, produce_request};
use bateau_protocol::kafka::api::Api;
use bateau_protocol::kafka::api::api_versions::{ApiVersions, ApiVersionsRequest};
use bateau_protocol::kafka::api::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopics, CreateTopicsRequest,
};
use bateau_protocol::kafka::api::delete_topics::{DeleteTopics, DeleteTopicsRequest};
use bateau_protocol::kafka::api::list_offsets::{
    ListOffsets, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use bateau_protocol::kafka::api::metadata::{
    Metadata, MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataTopic,
};
use bateau_protocol::kafka::api::produce::ProduceResponse;
use bateau_protocol::kafka::{ApiKey, RequestHeader, Text, decode_response, encode_request};
use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What the tools here call themselves.
pub const CLIENT_ID: &str = "first_light";

/// Version of Produce: flexible, topics by name.
pub const PRODUCE_VERSION: i16 = 9;

/// Version of Fetch: flexible, topics by name.
pub const FETCH_VERSION: i16 = 12;

/// A silent peer is a failure after so long, so that every command ends by itself.
pub const ANSWER_WAIT: Duration = Duration::from_secs(30);

const API_VERSIONS_VERSION: i16 = 3;
/// Version of Metadata: flexible, topics by name.
pub const METADATA_VERSION: i16 = 9;
const LIST_OFFSETS_VERSION: i16 = 7;
const CREATE_TOPICS_VERSION: i16 = 5;
const DELETE_TOPICS_VERSION: i16 = 5;

/// Timestamp that stands for the end of a partition.
const LATEST: i64 = -1;

/// A connection without delays and with an end to its patience.
///
/// # Errors
/// Nobody listens there.
pub fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let what = || format!("connection to {address}");
    let stream = TcpStream::connect_timeout(&address, ANSWER_WAIT).tried(what)?;
    stream.set_nodelay(true).tried(what)?;
    stream.set_read_timeout(Some(ANSWER_WAIT)).tried(what)?;
    stream.set_write_timeout(Some(ANSWER_WAIT)).tried(what)?;
    Ok(stream)
}

/// One request at a time over one connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    /// Connects, and checks that the peer speaks every version that is used here.
    ///
    /// # Errors
    /// Nobody listens, or a version is missing.
    pub fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let mut client = Self { stream: connect(address)?, correlation_id: 0 };
        let name = || Text::from_static("first-light");
        let request =
            ApiVersionsRequest { client_software_name: name(), client_software_version: name() };
        let answer = client.call::<ApiVersions>(&request, API_VERSIONS_VERSION)?;
        accepted(answer.error_code, || "ApiVersions".to_owned())?;
        for (api, version) in [
            (ApiKey::Produce, PRODUCE_VERSION),
            (ApiKey::Fetch, FETCH_VERSION),
            (ApiKey::Metadata, METADATA_VERSION),
            (ApiKey::ListOffsets, LIST_OFFSETS_VERSION),
            (ApiKey::CreateTopics, CREATE_TOPICS_VERSION),
            (ApiKey::DeleteTopics, DELETE_TOPICS_VERSION),
        ] {
            let key = api.info().key;
            let range = answer.api_keys.iter().find(|range| range.api_key == key);
            let range = range.map(|range| range.min_version..=range.max_version);
            if !range.as_ref().is_some_and(|range| range.contains(&version)) {
                let what = format!("versions of {api} at {address}");
                return Err(Failure::unexpected(what, format!("{range:?}"), version));
            }
        }
        Ok(client)
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The connection broke, or the answer is not one.
    pub fn call<A: Api>(
        &mut self,
        request: &A::PlainRequest,
        version: i16,
    ) -> Result<A::Response, Failure> {
        self.correlation_id += 1;
        let header = RequestHeader {
            api_version: version,
            correlation_id: self.correlation_id,
            client_id: Some(Text::from_static(CLIENT_ID)),
            ..RequestHeader::default()
        };
        let frame = encode_request(&header, request)?.to_bytes();
        self.stream.write_all(&frame).tried(|| format!("sending {}", A::INFO.name))?;
        let answer = read_frame(&mut self.stream, A::INFO.name)?;
        let (correlation_id, response) = decode_response::<A::Response>(answer, version)?;
        if correlation_id != self.correlation_id {
            let what = format!("correlation id of {}", A::INFO.name);
            return Err(Failure::unexpected(what, correlation_id, self.correlation_id));
        }
        Ok(response)
    }

    /// Sends a request that is encoded already, length included, and gives its answer back as a
    /// frame without its length.
    ///
    /// # Errors
    /// The connection broke.
    pub fn call_encoded(&mut self, request: &[u8], what: &str) -> Result<Bytes, Failure> {
        self.stream.write_all(request).tried(|| format!("sending {what}"))?;
        read_frame(&mut self.stream, what)
    }

    /// As [`Self::call_encoded`], of several requests at once. Their answers have to fit into what
    /// the kernel keeps of a connection.
    ///
    /// # Errors
    /// The connection broke.
    pub fn call_all(&mut self, requests: &[Vec<u8>], what: &str) -> Result<Vec<Bytes>, Failure> {
        self.stream.write_all(&requests.concat()).tried(|| format!("sending {what}"))?;
        requests.iter().map(|_| read_frame(&mut self.stream, what)).collect()
    }

    /// Creates a topic with one replica and waits until every partition has a leader.
    ///
    /// # Errors
    /// It exists, the peer refuses, or no leader appears in time.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<(), Failure> {
        self.create_replicated(name, partitions, 1, &[])
    }

    /// As [`Self::create_topic`], with so many replicas and these configs.
    ///
    /// # Errors
    /// As [`Self::create_topic`].
    pub fn create_replicated(
        &mut self,
        name: &str,
        partitions: i32,
        replication_factor: i16,
        configs: &[(&str, &str)],
    ) -> Result<(), Failure> {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).to_owned().into(),
            value: Some((*value).to_owned().into()),
        };
        let topic = CreatableTopic {
            configs: configs.iter().map(config).collect(),
            name: name.to_owned().into(),
            num_partitions: partitions,
            replication_factor,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let answer = self.call::<CreateTopics>(&request, CREATE_TOPICS_VERSION)?;
        for topic in answer.topics {
            accepted(topic.error_code, || format!("creating topic {name}"))?;
        }
        self.await_topic(name)
    }

    /// Asks for a topic until every partition has a leader. Creates it where the peer does that.
    ///
    /// # Errors
    /// No leader appears in time.
    pub fn await_topic(&mut self, name: &str) -> Result<(), Failure> {
        let request = about(name);
        let deadline = Instant::now() + ANSWER_WAIT;
        loop {
            let answer = self.call::<Metadata>(&request, METADATA_VERSION)?;
            let ready = answer.topics.iter().all(|topic| {
                let led = topic.partitions.iter().all(|partition| partition.leader_id >= 0);
                accepted(topic.error_code, String::new).is_ok() && led
            });
            if ready && !answer.topics.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let found = format!("{:?}", answer.topics);
                return Err(Failure::unexpected("metadata of a topic", found, "leaders"));
            }
            // Bateau answers once there are leaders; Kafka's client has to ask again.
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What the peer says of a topic.
    ///
    /// # Errors
    /// The peer does not answer.
    pub fn describe(&mut self, name: &str) -> Result<Vec<MetadataTopic>, Failure> {
        Ok(self.call::<Metadata>(&about(name), METADATA_VERSION)?.topics)
    }

    /// Where each partition of a topic is led, sorted by partition; all of them are led.
    ///
    /// # Errors
    /// The peer names a leader that it does not know.
    pub fn leaders(&mut self, name: &str) -> Result<Vec<(i32, SocketAddr)>, Failure> {
        let answer = self.call::<Metadata>(&about(name), METADATA_VERSION)?;
        let mut leaders = Vec::new();
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            let id = partition.leader_id;
            let address = address_of(&answer, id);
            let unknown = || Failure::unexpected("leader of a partition", id, "a known broker");
            leaders.push((partition.partition_index, address.ok_or_else(unknown)?));
        }
        leaders.sort_unstable();
        Ok(leaders)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The peer refuses.
    pub fn delete_topic(&mut self, name: &str) -> Result<(), Failure> {
        let request = DeleteTopicsRequest {
            topic_names: vec![name.to_owned().into()],
            timeout_ms: 30_000,
            ..DeleteTopicsRequest::default()
        };
        let answer = self.call::<DeleteTopics>(&request, DELETE_TOPICS_VERSION)?;
        for topic in answer.responses {
            accepted(topic.error_code, || format!("deleting topic {name}"))?;
        }
        Ok(())
    }

    /// Records in these partitions of a topic, which all begin at offset 0 and are led here.
    ///
    /// # Errors
    /// The peer refuses.
    pub fn record_count(
        &mut self,
        name: &str,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<i64, Failure> {
        let partition = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: LATEST,
            ..ListOffsetsPartition::default()
        };
        let topic = ListOffsetsTopic {
            name: name.to_owned().into(),
            partitions: partitions.into_iter().map(partition).collect(),
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![topic],
            ..ListOffsetsRequest::default()
        };
        let answer = self.call::<ListOffsets>(&request, LIST_OFFSETS_VERSION)?;
        let mut total = 0;
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            accepted(partition.error_code, || format!("end of {name}"))?;
            total += partition.offset;
        }
        Ok(total)
    }

    /// Checks that a topic holds as many records as were acknowledged.
    ///
    /// # Errors
    /// Another count, or the peer refuses.
    pub fn expect_records(
        &mut self,
        name: &str,
        partitions: i32,
        expected: i64,
    ) -> Result<(), Failure> {
        match self.record_count(name, 0..partitions)? {
            found if found == expected => Ok(()),
            found => Err(Failure::unexpected(format!("records in {name}"), found, expected)),
        }
    }
}

/// Asks for a topic.
fn about(name: &str) -> MetadataRequest {
    let name = Some(name.to_owned().into());
    let topic = MetadataRequestTopic { name, ..MetadataRequestTopic::default() };
    MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() }
}

/// Where a broker listens, as an answer has it.
#[must_use]
pub fn address_of(answer: &MetadataResponse, id: i32) -> Option<SocketAddr> {
    let broker = answer.brokers.iter().find(|broker| broker.node_id == id)?;
    format!("{}:{}", broker.host.as_str(), broker.port).parse().ok()
}

/// What a client does until its first record is acknowledged, to a topic that does not exist yet.
///
/// # Errors
/// Any error that a user would see.
pub fn first_ack(address: SocketAddr) -> Result<(), Failure> {
    const TOPIC: &str = "first-light";
    let mut client = Client::connect(address)?;
    client.await_topic(TOPIC)?;
    let request = produce_request(TOPIC, 0, Shape::SINGLE.batch(&mut Noise::new(2))?)?;
    let answer = client.call_encoded(&request, "the first record")?;
    let (_, answer) = decode_response::<ProduceResponse>(answer, PRODUCE_VERSION)?;
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut partitions = partitions.peekable();
    if partitions.peek().is_none() {
        return Err(Failure::unexpected("first ack", "no partition", 1));
    }
    partitions
        .try_for_each(|partition| accepted(partition.error_code, || "the first record".to_owned()))
}

/// Reads one answer, without its length.
fn read_frame(stream: &mut TcpStream, what: &str) -> Result<Bytes, Failure> {
    let what = || format!("answer to {what}");
    let mut length = [0; 4];
    stream.read_exact(&mut length).tried(what)?;
    let length = i32::from_be_bytes(length);
    let bytes = usize::try_from(length)
        .map_err(|_| Failure::unexpected(what(), length, "a length that is not negative"))?;
    let mut frame = vec![0; bytes];
    stream.read_exact(&mut frame).tried(what)?;
    Ok(frame.into())
}
