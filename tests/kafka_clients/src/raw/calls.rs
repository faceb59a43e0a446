//! The few calls whose answers' contents matter, at one version each.
//!
//! Invariant: an answer is read to its last byte, so a field too many or too few is noticed.
//! Absent on purpose: compact forms; `requests` exercises those, the real clients decode them.

use std::time::Duration;

use super::batch::{Stored, stored};
use super::bytes::Reader;
use super::code;
use super::connection::Connection;
use super::requests::{
    self, API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, FETCH, FIND_COORDINATOR, INIT_PRODUCER_ID,
};
use super::requests::{JOIN_GROUP, LIST_OFFSETS, METADATA, PRODUCE, Request, api};
use crate::program::wait_until;

/// How long a topic, a coordinator or a transaction coordinator may take to be there.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The answer to a Produce of one batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Produced {
    /// Error code of the partition.
    pub code: i16,
    /// Offset of its first record.
    pub base_offset: i64,
}

/// The answer to a Fetch of one partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fetched {
    /// Error code of the partition.
    pub code: i16,
    /// End of what is committed.
    pub high_watermark: i64,
    /// End of what is decided.
    pub last_stable_offset: i64,
    /// First offset there is.
    pub log_start_offset: i64,
    /// Batches as they are.
    pub records: Vec<u8>,
}

/// The request of Produce v7 for one partition.
pub fn produce_request(topic: &str, partition: i32, acks: i16, records: &[u8]) -> Request {
    api(PRODUCE).request_with(7, |writer| {
        writer.nullable_string(None).int16(acks).int32(10_000).array(1).string(topic);
        writer.array(1).int32(partition).byte_string(records);
    })
}

/// Produces `records` with acks=all.
pub fn produce(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    records: &[u8],
) -> Produced {
    let answer = connection.call(&produce_request(topic, partition, -1, records));
    let mut reader = Reader::new(&answer);
    assert_eq!((reader.count(), reader.string().as_str()), (1, topic));
    assert_eq!((reader.count(), reader.int32()), (1, partition));
    let produced = Produced { code: reader.int16(), base_offset: reader.int64() };
    let (_append_time, _log_start, throttle) = (reader.int64(), reader.int64(), reader.int32());
    assert_eq!((throttle, reader.rest().len()), (0, 0));
    produced
}

/// Fetches from `offset` with Fetch v11, waiting at most `wait` for a first byte.
pub fn fetch(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    offset: i64,
    wait: Duration,
) -> Fetched {
    let wait_ms = i32::try_from(wait.as_millis()).expect("tests wait for seconds");
    let request = api(FETCH).request_with(11, |writer| {
        writer.int32(-1).int32(wait_ms).int32(1).int32(8 << 20).int8(0).int32(0).int32(-1);
        writer.array(1).string(topic).array(1).int32(partition).int32(-1).int64(offset);
        writer.int64(-1).int32(1 << 20).array(0).string("");
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let (throttle, error, _session) = (reader.int32(), reader.int16(), reader.int32());
    assert_eq!((throttle, error), (0, code::NONE));
    assert_eq!((reader.count(), reader.string().as_str()), (1, topic));
    assert_eq!((reader.count(), reader.int32()), (1, partition));
    let code = reader.int16();
    let high_watermark = reader.int64();
    let last_stable_offset = reader.int64();
    let log_start_offset = reader.int64();
    assert_eq!(reader.count(), 0, "no aborted transactions");
    assert_eq!(reader.int32(), -1, "no preferred replica");
    let records = reader.byte_string().to_vec();
    assert_eq!(reader.rest().len(), 0);
    Fetched { code, high_watermark, last_stable_offset, log_start_offset, records }
}

/// Every batch of partition 0 from `offset` to the high watermark, whose offsets must be dense.
///
/// Panics on any error.
pub fn fetch_all(connection: &mut Connection, topic: &str, mut offset: i64) -> Vec<Stored> {
    let mut all = Vec::new();
    loop {
        let fetched = fetch(connection, topic, 0, offset, Duration::ZERO);
        assert_eq!(fetched.code, code::NONE, "{topic} from offset {offset}");
        if offset == fetched.high_watermark {
            return all;
        }
        let batches = stored(&fetched.records);
        assert!(!batches.is_empty(), "{topic}: nothing comes from offset {offset}");
        for batch in batches {
            assert_eq!(batch.base_offset, offset, "{topic}: offsets are dense");
            offset += i64::from(batch.record_count);
            all.push(batch);
        }
    }
}

/// Error code of `topic` in Metadata v5, which may create it; and its number of partitions.
pub fn metadata(connection: &mut Connection, topic: &str) -> (i16, usize) {
    let request = api(METADATA).request_with(5, |writer| {
        writer.array(1).string(topic).boolean(true);
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let _throttle = reader.int32();
    for _ in 0..reader.count() {
        let _broker = (reader.int32(), reader.string(), reader.int32(), reader.string());
    }
    let (_cluster, _controller) = (reader.string(), reader.int32());
    assert_eq!(reader.count(), 1, "one topic was asked for");
    let (error, name, _internal) = (reader.int16(), reader.string(), reader.int8());
    assert_eq!(name, topic);
    (error, reader.count())
}

/// Creates `topic` by asking for it, and waits until its first partition has a leader.
pub fn create_by_metadata(connection: &mut Connection, topic: &str) {
    let message = format!("{topic} can be produced to");
    wait_until(&message, START_TIMEOUT, || match metadata(connection, topic) {
        (code::NONE, partitions) => partitions > 0,
        // Kafka answers so until the topic's partitions are led; Bateau answers at once.
        (code::UNKNOWN_TOPIC_OR_PARTITION | code::LEADER_NOT_AVAILABLE, _) => false,
        (error, _) => panic!("{topic}: error {error}"),
    });
    wait_until(&message, START_TIMEOUT, || {
        match fetch(connection, topic, 0, 0, Duration::ZERO).code {
            code::NONE => true,
            code::UNKNOWN_TOPIC_OR_PARTITION | code::NOT_LEADER_OR_FOLLOWER => false,
            error => panic!("{topic}: error {error}"),
        }
    });
}

/// Error code of CreateTopics v2 for one topic with one partition.
pub fn create_topic(connection: &mut Connection, topic: &str) -> i16 {
    create_topic_with(connection, topic, 1, &[])
}

/// The same with a number of partitions and topic configs.
pub fn create_topic_with(
    connection: &mut Connection,
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> i16 {
    let request = api(CREATE_TOPICS).request_with(2, |writer| {
        writer.array(1).string(topic).int32(partitions).int16(1).array(0).array(configs.len());
        for (name, value) in configs {
            writer.string(name).nullable_string(Some(value));
        }
        writer.int32(10_000).boolean(false);
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let _throttle = reader.int32();
    assert_eq!((reader.count(), reader.string().as_str()), (1, topic));
    reader.int16()
}

/// Error code of DeleteTopics v1.
pub fn delete_topic(connection: &mut Connection, topic: &str) -> i16 {
    let request = api(DELETE_TOPICS).request_with(1, |writer| {
        writer.array(1).string(topic).int32(10_000);
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let _throttle = reader.int32();
    assert_eq!((reader.count(), reader.string().as_str()), (1, topic));
    let code = reader.int16();
    assert_eq!(reader.rest().len(), 0);
    code
}

/// Error code and id of `topic` in Metadata v10, which creates nothing.
pub fn topic_id(connection: &mut Connection, topic: &str) -> (i16, [u8; 16]) {
    let request = api(METADATA).request_with(10, |writer| {
        writer.array(1).raw(&[0; 16]).string(topic).tags();
        writer.boolean(false).boolean(false).boolean(false).tags();
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    let _throttle = reader.int32();
    for _ in 0..reader.compact_count() {
        let _broker = (reader.int32(), reader.compact_string(), reader.int32());
        let _rack = reader.compact_string();
        reader.tags();
    }
    let (_cluster, _controller) = (reader.compact_string(), reader.int32());
    assert_eq!(reader.compact_count(), 1, "one topic was asked for");
    let (error, name) = (reader.int16(), reader.compact_string());
    assert_eq!(name, topic);
    (error, reader.take(16).try_into().expect("16 bytes were taken"))
}

/// Timestamp with which ListOffsets asks for the first offset.
pub const EARLIEST: i64 = -2;
/// Timestamp with which ListOffsets asks for the end.
pub const LATEST: i64 = -1;

/// Error code and offset of ListOffsets v1 for partition 0.
pub fn list_offset(connection: &mut Connection, topic: &str, timestamp: i64) -> (i16, i64) {
    let request = api(LIST_OFFSETS).request_with(1, |writer| {
        writer.int32(-1).array(1).string(topic).array(1).int32(0).int64(timestamp);
    });
    let answer = connection.call(&request);
    let mut reader = Reader::new(&answer);
    assert_eq!((reader.count(), reader.string().as_str()), (1, topic));
    assert_eq!((reader.count(), reader.int32()), (1, 0));
    let (code, _timestamp, offset) = (reader.int16(), reader.int64(), reader.int64());
    assert_eq!(reader.rest().len(), 0);
    (code, offset)
}

/// A new producer id and its epoch, from InitProducerId v1.
pub fn new_producer(connection: &mut Connection) -> (i64, i16) {
    let answer = once_coordinated(|| {
        let request = api(INIT_PRODUCER_ID).request_with(1, |writer| {
            writer.nullable_string(None).int32(60_000);
        });
        connection.call(&request)
    });
    let mut reader = Reader::new(&answer);
    let (throttle, error) = (reader.int32(), reader.int16());
    assert_eq!((throttle, error), (0, code::NONE));
    (reader.int64(), reader.int16())
}

/// Error code of JoinGroup v4 by a new member with this session timeout.
pub fn join_group(connection: &mut Connection, group: &str, session_timeout_ms: i32) -> i16 {
    let answer = once_coordinated(|| {
        let request = api(JOIN_GROUP).request_with(4, |writer| {
            writer.string(group).int32(session_timeout_ms).int32(60_000).string("");
            writer.string("consumer").array(1).string("range").byte_string(b"\0\0");
        });
        connection.call(&request)
    });
    error_after_throttle(&answer)
}

/// Creates Kafka's internal topic for groups, without which it coordinates none.
pub fn find_coordinator(connection: &mut Connection, group: &str) {
    once_coordinated(|| {
        let request = api(FIND_COORDINATOR).request_with(1, |writer| {
            writer.string(group).int8(0);
        });
        connection.call(&request)
    });
}

/// Asks again while a coordinator is on its way, as every client does.
fn once_coordinated(mut ask: impl FnMut() -> Vec<u8>) -> Vec<u8> {
    let mut answer = ask();
    wait_until("a coordinator", START_TIMEOUT, || {
        let coming = matches!(
            error_after_throttle(&answer),
            code::COORDINATOR_LOAD_IN_PROGRESS
                | code::COORDINATOR_NOT_AVAILABLE
                | code::NOT_COORDINATOR
        );
        if coming {
            answer = ask();
        }
        !coming
    });
    answer
}

fn error_after_throttle(answer: &[u8]) -> i16 {
    let mut reader = Reader::new(answer);
    let (_throttle, error) = (reader.int32(), reader.int16());
    error
}

/// Decodes an ApiVersions v0 answer: error code, and (key, lowest, highest) of each API.
pub fn decode_api_versions(body: &[u8]) -> (i16, Vec<(i16, i16, i16)>) {
    let mut reader = Reader::new(body);
    let error = reader.int16();
    let count = reader.count();
    let ranges = (0..count).map(|_| (reader.int16(), reader.int16(), reader.int16())).collect();
    assert_eq!(reader.rest().len(), 0, "version 0 has nothing after the list");
    (error, ranges)
}

/// What the broker advertises: (key, lowest, highest) of each API.
pub fn advertised(connection: &mut Connection) -> Vec<(i16, i16, i16)> {
    let answer = connection.call(&api(API_VERSIONS).request_with(0, |_| {}));
    let (error, ranges) = decode_api_versions(&answer);
    assert_eq!(error, code::NONE);
    ranges
}

/// A topic name that no other test uses.
pub fn new_topic(connection: &mut Connection, purpose: &str) -> String {
    let topic = requests::unique(purpose);
    create_by_metadata(connection, &topic);
    topic
}
