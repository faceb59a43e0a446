//! Fetch: record batches of partitions, lent to the socket without a copy.
//!
//! ```text
//!   head    | length | header | topic, partition, records length |   … next partition … | tags |
//!   lent                                                   batch, batch, batch ^
//! ```
//!
//! An answer's records are a [`Chain`] of slices, one per batch, whose total length is written in
//! front of them; they become parts of the answer's own chain. A request is decoded into
//! [`FetchRequestView`], which allocates nothing; [`FetchRequest`] is the same as plain structs,
//! for those who send it.
//!
//! An empty partition has records of length zero and never null, which librdkafka refuses.
//!
//! Absent on purpose: fetch sessions' state, and followers: a replica state that a request
//! carries is checked and given on, nothing more.

use super::{Decode, api};
use crate::ids::TopicId;
use crate::kafka::view::{Item, Items, TopicItems};
use crate::kafka::{Chain, DecodeError, ErrorCode, Text};
use crate::wire::reader::Reader;
use crate::wire::value::{At, Wire};

api! {
    /// Reads record batches.
    Fetch = 1 [versions 4..=18, flexible 12] decoded as FetchRequestView;

    request FetchRequest {
        cluster_id: Option<Text> [12.., tag 0, ignorable],
        /// −1 from a consumer.
        replica_id: i32 [0..=14] = -1,
        replica_state: ReplicaState [15.., tag 1],
        max_wait_ms: i32,
        min_bytes: i32,
        max_bytes: i32 [3.., ignorable] = i32::MAX,
        /// 0 reads uncommitted, 1 reads committed.
        isolation_level: i8 [4.., ignorable],
        session_id: i32 [7.., ignorable],
        /// −1 without a session, 0 to open one.
        session_epoch: i32 [7.., ignorable] = -1,
        topics: Vec<FetchTopic>,
        forgotten_topics_data: Vec<ForgottenTopic> [7..],
        rack_id: Text [11.., ignorable],
    }

    response FetchResponse {
        throttle_time_ms: i32 [1.., ignorable],
        error_code: ErrorCode [7.., ignorable],
        /// 0 where the broker declines to keep a session.
        session_id: i32 [7..],
        responses: Vec<FetchableTopicResponse>,
        /// Where the leaders named in `current_leader` are (KIP-951).
        node_endpoints: Vec<FetchNodeEndpoint> [16.., tag 0, ignorable],
    }

    struct ReplicaState {
        replica_id: i32 [15..] = -1,
        replica_epoch: i64 [15..] = -1,
    }

    struct FetchTopic {
        topic: Text [0..=12, ignorable],
        topic_id: TopicId [13.., ignorable],
        partitions: Vec<FetchPartition>,
    }

    struct FetchPartition {
        partition: i32,
        /// What the client takes for the current epoch, or −1 (KIP-320).
        current_leader_epoch: i32 [9.., ignorable] = -1,
        fetch_offset: i64,
        /// Epoch of the client's last record, or −1 (KIP-595).
        last_fetched_epoch: i32 [12..] = -1,
        log_start_offset: i64 [5.., ignorable] = -1,
        partition_max_bytes: i32,
        replica_directory_id: TopicId [17.., tag 0, ignorable],
        high_watermark: i64 [18.., tag 1, ignorable] = i64::MAX,
    }

    struct ForgottenTopic {
        topic: Text [7..=12, ignorable],
        topic_id: TopicId [13.., ignorable],
        partitions: Vec<i32> [7..],
    }

    struct FetchableTopicResponse {
        topic: Text [0..=12, ignorable],
        topic_id: TopicId [13.., ignorable],
        partitions: Vec<PartitionData>,
    }

    struct PartitionData {
        partition_index: i32,
        error_code: ErrorCode,
        /// First offset that is not committed, −1 with an error.
        high_watermark: i64 = -1,
        /// First offset of the oldest open transaction, else the high watermark.
        last_stable_offset: i64 [4.., ignorable] = -1,
        log_start_offset: i64 [5.., ignorable] = -1,
        /// Where the client's log and ours part (KIP-595).
        diverging_epoch: EpochEndOffset [12.., tag 0],
        /// With an error about leadership: who leads now (KIP-951).
        current_leader: FetchLeader [12.., tag 1],
        snapshot_id: SnapshotId [12.., tag 2],
        /// Null to those who read uncommitted.
        aborted_transactions: Option<Vec<AbortedTransaction>> [4.., ignorable],
        /// −1: read here (KIP-392).
        preferred_read_replica: i32 [11..] = -1,
        /// Whole batches, each a slice; an empty chain has length zero on the wire.
        records: Option<Chain> = Some(Chain::default()),
    }

    struct EpochEndOffset {
        epoch: i32 [12..] = -1,
        end_offset: i64 [12..] = -1,
    }

    struct FetchLeader {
        leader_id: i32 [12..] = -1,
        leader_epoch: i32 [12..] = -1,
    }

    struct SnapshotId {
        end_offset: i64 = -1,
        epoch: i32 = -1,
    }

    struct AbortedTransaction {
        producer_id: i64 [4..],
        first_offset: i64 [4..],
    }

    struct FetchNodeEndpoint {
        node_id: i32 [16..],
        host: Text [16..],
        port: i32 [16..],
        rack: Option<Text> [16..],
    }
}

/// A request whose topics are still the bytes that came in. Decoding allocates nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchRequestView {
    /// Cluster that the client believes it talks to, where it says so.
    pub cluster_id: Option<Text>,
    /// −1 from a consumer, whichever version says it in whichever field.
    pub replica: ReplicaState,
    /// How long to wait for `min_bytes`.
    pub max_wait_ms: i32,
    /// Bytes to wait for.
    pub min_bytes: i32,
    /// Soft limit of the whole answer in bytes.
    pub max_bytes: i32,
    /// 0 reads uncommitted, 1 reads committed.
    pub isolation_level: i8,
    /// 0 without a session.
    pub session_id: i32,
    /// −1 without a session, 0 to open one.
    pub session_epoch: i32,
    /// What is asked for, by topic. Its order matters where not everything fits.
    pub topics: Items<FetchTopicView>,
    /// What the session shall no longer hold.
    pub forgotten_topics: Items<ForgottenTopicView>,
    /// Rack of the client, or empty.
    pub rack_id: Text,
}

/// What is asked for of one topic, by partition.
pub type FetchTopicView = TopicItems<FetchPartition>;

/// Numbers of the partitions of one topic that a session shall no longer hold.
pub type ForgottenTopicView = TopicItems<i32>;

/// Names the field that an error is in.
fn named<T>(field: &'static str, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
    result.map_err(|error| error.in_field("FetchRequest", field))
}

impl Decode for FetchRequestView {
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let at = reader.at();
        let mut replica = ReplicaState::default();
        if at.version <= 14 {
            replica.replica_id = named("replica_id", reader.int32())?;
        }
        let max_wait_ms = named("max_wait_ms", reader.int32())?;
        let min_bytes = named("min_bytes", reader.int32())?;
        let max_bytes = named("max_bytes", reader.int32())?;
        let isolation_level = named("isolation_level", reader.int8())?;
        let (mut session_id, mut session_epoch) = (0, -1);
        if at.version >= 7 {
            session_id = named("session_id", reader.int32())?;
            session_epoch = named("session_epoch", reader.int32())?;
        }
        let topics = named("topics", Items::read(reader))?;
        let mut forgotten_topics = Items::none(at);
        if at.version >= 7 {
            forgotten_topics = named("forgotten_topics_data", Items::read(reader))?;
        }
        let mut rack_id = Text::EMPTY;
        if at.version >= 11 {
            rack_id = named("rack_id", Text::read(reader))?;
        }
        let cluster_id = read_tags(reader, &mut replica)?;
        Ok(Self {
            cluster_id,
            replica,
            max_wait_ms,
            min_bytes,
            max_bytes,
            isolation_level,
            session_id,
            session_epoch,
            topics,
            forgotten_topics,
            rack_id,
        })
    }
}

/// The request's own tagged fields: 0 the cluster id, 1 the state of a replica.
fn read_tags(reader: &mut Reader, replica: &mut ReplicaState) -> Result<Option<Text>, DecodeError> {
    let mut cluster_id = None;
    let result = reader.tagged_fields(|reader, tag| {
        match tag {
            0 => cluster_id = named("cluster_id", reader.string())?,
            1 if reader.at().version >= 15 => *replica = ReplicaState::read(reader)?,
            _ => return Ok(false),
        }
        Ok(true)
    });
    named("tagged fields", result)?;
    Ok(cluster_id)
}

impl Item for FetchPartition {
    fn bytes_min(at: At) -> usize {
        <Self as Wire>::bytes_min(at)
    }

    fn skip(reader: &mut Reader) -> Result<(), DecodeError> {
        // Numbers only, so stepping over one costs as much as reading it.
        <Self as Wire>::read(reader).map(drop)
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        <Self as Wire>::read(reader)
    }
}

impl From<&FetchRequestView> for FetchRequest {
    fn from(view: &FetchRequestView) -> Self {
        let topic = |topic: FetchTopicView| FetchTopic {
            topic: topic.topic.name,
            topic_id: topic.topic.topic_id,
            partitions: topic.partitions.iter().collect(),
        };
        let forgotten = |topic: ForgottenTopicView| ForgottenTopic {
            topic: topic.topic.name,
            topic_id: topic.topic.topic_id,
            partitions: topic.partitions.iter().collect(),
        };
        // Up to version 14 the replica id was a field of its own, without an epoch.
        let (replica_id, replica_state) = if view.topics.at().version <= 14 {
            (view.replica.replica_id, ReplicaState::default())
        } else {
            (-1, view.replica.clone())
        };
        Self {
            cluster_id: view.cluster_id.clone(),
            replica_id,
            replica_state,
            max_wait_ms: view.max_wait_ms,
            min_bytes: view.min_bytes,
            max_bytes: view.max_bytes,
            isolation_level: view.isolation_level,
            session_id: view.session_id,
            session_epoch: view.session_epoch,
            topics: view.topics.iter().map(topic).collect(),
            forgotten_topics_data: view.forgotten_topics.iter().map(forgotten).collect(),
            rack_id: view.rack_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::Request;
    use crate::kafka::tests::damage::with_lies;
    use crate::kafka::tests::frames::{golden, read_plain};
    use crate::kafka::tests::{Sample, Source};
    use crate::kafka::{
        RequestHeader, decode_request, decode_response, encode_request, encode_response,
    };
    use bytes::Bytes;

    #[test]
    fn kafkajs_and_the_java_client_are_understood() {
        let (_, request) = golden::<FetchRequest>(
            "0001 000b 00000005 000d6f726465722d73657276696365 ffffffff 00001388 00000001 \
             00a00000 01 00000000 ffffffff 00000001 000d6f726465722d63726561746564 00000001 \
             00000002 ffffffff 0000000000000000 ffffffffffffffff 00100000 00000000 0000",
        );
        assert_eq!((request.max_wait_ms, request.isolation_level), (5_000, 1));
        let (_, request) = golden::<FetchRequest>(
            "0001 0012 00000009 00046a617661 00 000001f4 00000001 03200000 00 00000000 ffffffff \
             02 0102030405060708090a0b0c0d0e0f10 02 00000002 00000001 0000000000000007 ffffffff \
             ffffffffffffffff 00100000 00 00 01 01 00",
        );
        assert_eq!(request.topics[0].partitions[0].fetch_offset, 7);
        assert_eq!(request.topics[0].partitions[0].high_watermark, i64::MAX);
    }

    #[test]
    fn the_view_holds_what_the_plain_request_holds() {
        for version in 4..=18 {
            for seed in 0..100 {
                let mut source = Source::new(seed);
                let request = FetchRequest::sample(&mut source, version, false);
                let header = RequestHeader { api_version: version, ..RequestHeader::default() };
                let frame = encode_request(&header, &request).expect("the sample fits");
                let frame = frame.to_bytes().slice(4..);
                let Ok((_, Request::Fetch(view))) = decode_request(frame) else {
                    panic!("v{version} seed {seed} is a whole request");
                };
                assert_eq!(FetchRequest::from(&view), request, "v{version}");
            }
        }
    }

    #[test]
    fn what_the_walk_has_passed_can_be_read_and_nothing_else_passes() {
        for version in [4, 11, 12, 13, 15, 18] {
            let mut source = Source::new(3);
            let request = FetchRequest::sample(&mut source, version, false);
            let header = RequestHeader { api_version: version, ..RequestHeader::default() };
            let frame = encode_request(&header, &request).expect("the sample fits");
            with_lies(&frame.to_bytes().slice(4..), |frame| {
                let plain = read_plain::<FetchRequest>(frame.clone());
                match decode_request(frame) {
                    Ok((_, Request::Fetch(view))) => {
                        assert_eq!(Some(FetchRequest::from(&view)), plain);
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => assert_eq!(plain, None),
                }
            });
        }
    }

    fn answer(records: Chain) -> FetchResponse {
        let partition =
            PartitionData { records: Some(records), high_watermark: 3, ..PartitionData::default() };
        let topic = FetchableTopicResponse {
            topic: "orders".into(),
            partitions: vec![partition.clone(), partition],
            ..FetchableTopicResponse::default()
        };
        FetchResponse { responses: vec![topic], ..FetchResponse::default() }
    }

    #[test]
    fn each_batch_goes_out_as_the_slice_that_was_lent() {
        let map = Bytes::from(vec![9; 10_000]);
        let batches = [map.slice(64..1_000), map.slice(1_064..5_000), map.slice(5_064..10_000)];
        for version in 4..=12 {
            let answer = answer(batches.iter().cloned().collect());
            let frame = encode_response(&answer, version, 1).expect("it fits");
            let lent: Vec<&Bytes> = frame.parts().iter().filter(|part| part.len() > 900).collect();
            assert_eq!(lent.len(), 6);
            for (part, batch) in lent.iter().zip(batches.iter().cycle()) {
                assert_eq!((part.as_ptr(), part.len()), (batch.as_ptr(), batch.len()));
            }
            // Head, three batches, head of the second partition, three batches, and the tags of
            // flexible versions.
            assert_eq!(frame.parts().len(), if version >= 12 { 9 } else { 8 });
            let (_, back) = decode_response::<FetchResponse>(frame.to_bytes().slice(4..), version)
                .expect("it is ours");
            let whole = batches.concat();
            let records = back.responses[0].partitions[1].records.as_ref();
            assert_eq!(records.map(Chain::to_bytes).as_deref(), Some(&whole[..]));
        }
    }

    #[test]
    fn an_empty_partition_has_records_of_length_zero() {
        for (version, length) in [(4, &[0_u8, 0, 0, 0][..]), (11, &[0, 0, 0, 0]), (12, &[1])] {
            let frame = encode_response(&answer(Chain::default()), version, 1).expect("it fits");
            let frame = frame.to_bytes();
            // Behind the last partition's records, flexible versions have three empty tag lists.
            let behind = if version >= 12 { 3 } else { 0 };
            let end = frame.len() - behind;
            assert_eq!(&frame[end - length.len()..end], length, "v{version}");
        }
        let empty = PartitionData::default();
        assert_eq!(empty.records, Some(Chain::default()));
        assert_eq!(empty.aborted_transactions, None);
        assert_eq!(empty.preferred_read_replica, -1);
    }
}
