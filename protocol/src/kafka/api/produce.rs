//! Produce: record batches for partitions, taken in without a copy.
//!
//! ```text
//!   frame   | header | id | acks | timeout | topics: name | partitions: index | records | … |
//!   view                                   ^~~~~~~~~~~~~~~ one slice, walked once, then iterated
//! ```
//!
//! A broker decodes into [`ProduceRequestView`]: every length is checked in one walk, nothing is
//! allocated, and records are slices of the frame. [`ProduceRequest`] is the same request as
//! plain structs, for those who send it.
//!
//! Versions 0 to 2 are advertised and refused: librdkafka before 2.11.1 turns compression off
//! when it does not see them.
//!
//! Absent on purpose: looking into records (`record`), and what `acks` means.

use super::{Decode, api};
use crate::ids::TopicId;
use crate::kafka::view::{Item, Items, TopicItems};
use crate::kafka::{Chain, DecodeError, ErrorCode, Text};
use crate::wire::reader::Reader;
use crate::wire::value::At;
use bytes::Bytes;

api! {
    /// Appends record batches.
    Produce = 0 [versions 0..=13, served 3.., flexible 9] decoded as ProduceRequestView;

    request ProduceRequest {
        transactional_id: Option<Text> [3..],
        /// −1 all, 1 leader, 0 no answer at all.
        acks: i16,
        timeout_ms: i32,
        topic_data: Vec<TopicProduceData>,
    }

    response ProduceResponse {
        responses: Vec<TopicProduceResponse>,
        throttle_time_ms: i32 [1.., ignorable],
        /// Where the leaders named in `current_leader` are (KIP-951).
        node_endpoints: Vec<ProduceNodeEndpoint> [10.., tag 0, ignorable],
    }

    struct TopicProduceData {
        name: Text [0..=12, ignorable],
        topic_id: TopicId [13.., ignorable],
        partition_data: Vec<PartitionProduceData>,
    }

    struct PartitionProduceData {
        index: i32,
        /// One batch; several slices are sent one after the other.
        records: Option<Chain>,
    }

    struct TopicProduceResponse {
        name: Text [0..=12, ignorable],
        topic_id: TopicId [13.., ignorable],
        partition_responses: Vec<PartitionProduceResponse>,
    }

    struct PartitionProduceResponse {
        index: i32,
        error_code: ErrorCode,
        /// Offset of the first record, −1 with an error.
        base_offset: i64 = -1,
        /// −1 unless the topic stamps records itself.
        log_append_time_ms: i64 [2.., ignorable] = -1,
        log_start_offset: i64 [5.., ignorable] = -1,
        /// Records that made the broker refuse the batch (KIP-467).
        record_errors: Vec<BatchIndexAndErrorMessage> [8.., ignorable],
        error_message: Option<Text> [8.., ignorable],
        /// With an error about leadership: who leads now (KIP-951).
        current_leader: ProduceLeader [10.., tag 0, ignorable],
    }

    struct BatchIndexAndErrorMessage {
        batch_index: i32 [8..],
        batch_index_error_message: Option<Text> [8..],
    }

    struct ProduceLeader {
        leader_id: i32 [10..] = -1,
        leader_epoch: i32 [10..] = -1,
    }

    struct ProduceNodeEndpoint {
        node_id: i32 [10..],
        host: Text [10..],
        port: i32 [10..],
        rack: Option<Text> [10..],
    }
}

/// A request whose topics are still the bytes that came in. Decoding allocates nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProduceRequestView {
    /// The transaction that the batches belong to.
    pub transactional_id: Option<Text>,
    /// −1 all, 1 leader, 0 no answer at all.
    pub acks: i16,
    /// How long the client waits.
    pub timeout_ms: i32,
    /// What is to be appended, by topic.
    pub topics: Items<TopicProduceView>,
}

/// What is to be appended to one topic, by partition.
pub type TopicProduceView = TopicItems<PartitionProduceView>;

/// What a request has for one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionProduceView {
    /// Number of the partition.
    pub index: i32,
    /// The records as they came in: a slice of the frame. Null is not refused here, so that the
    /// partition can be answered.
    pub records: Option<Bytes>,
}

/// Names the field that an error is in.
fn named<T>(field: &'static str, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
    result.map_err(|error| error.in_field("ProduceRequest", field))
}

impl Decode for ProduceRequestView {
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let transactional_id = named("transactional_id", reader.string())?;
        let acks = named("acks", reader.int16())?;
        let timeout_ms = named("timeout_ms", reader.int32())?;
        let topics = named("topic_data", Items::read(reader))?;
        skip_tags(reader)?;
        Ok(Self { transactional_id, acks, timeout_ms, topics })
    }
}

fn skip_tags(reader: &mut Reader) -> Result<(), DecodeError> {
    named("tagged fields", reader.tagged_fields(|_, _| Ok(false)))
}

impl Item for PartitionProduceView {
    fn bytes_min(at: At) -> usize {
        4 + if at.flexible { 2 } else { 4 }
    }

    fn skip(reader: &mut Reader) -> Result<(), DecodeError> {
        named("index", reader.int32())?;
        named("records", reader.skip_bytes())?;
        skip_tags(reader)
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let index = reader.int32()?;
        let records = reader.bytes()?;
        skip_tags(reader)?;
        Ok(Self { index, records })
    }
}

impl From<&ProduceRequestView> for ProduceRequest {
    fn from(view: &ProduceRequestView) -> Self {
        let partition = |partition: PartitionProduceView| PartitionProduceData {
            index: partition.index,
            records: partition.records.map(Chain::from),
        };
        let topic = |topic: TopicProduceView| TopicProduceData {
            name: topic.topic.name,
            topic_id: topic.topic.topic_id,
            partition_data: topic.partitions.iter().map(partition).collect(),
        };
        Self {
            transactional_id: view.transactional_id.clone(),
            acks: view.acks,
            timeout_ms: view.timeout_ms,
            topic_data: view.topics.iter().map(topic).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::Request;
    use crate::kafka::tests::damage::with_lies;
    use crate::kafka::tests::frames::{golden, hex, read_plain};
    use crate::kafka::tests::{Sample, Source};
    use crate::kafka::{RequestError, RequestHeader, decode_request, encode_request};

    fn decode(frame: Bytes) -> ProduceRequestView {
        match decode_request(frame) {
            Ok((_, Request::Produce(view))) => view,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn kafkajs_and_the_java_client_are_understood() {
        let (_, request) = golden::<ProduceRequest>(
            "0000 0007 00000005 000d6f726465722d73657276696365 ffff ffff 00007530 \
             00000001 000d6f726465722d63726561746564 00000001 00000002 00000047 \
             00000000000000000000003b000000000260f9f61e0000000000000000018bcfe568000000018bcfe56800\
             ffffffffffffffff00000000000000000001120000000237047b7d00",
        );
        assert_eq!((request.acks, request.timeout_ms), (-1, 30_000));
        let partition = &request.topic_data[0].partition_data[0];
        assert_eq!(partition.records.as_ref().map(Chain::len), Some(71));
        let (_, request) = golden::<ProduceRequest>(
            "0000 000d 00000009 00046a617661 00 00 ffff 00007530 \
             02 0102030405060708090a0b0c0d0e0f10 02 00000002 48 \
             00000000000000000000003bffffffff02bd61ba180000000000000000018bcfe568000000018bcfe56800\
             ffffffffffffffffffffffffffff00000001120000000237047b7d00 00 00 00",
        );
        assert_eq!(request.topic_data[0].topic_id.0[..4], [1, 2, 3, 4]);
    }

    #[test]
    fn the_view_holds_what_the_plain_request_holds() {
        for version in 3..=13 {
            for seed in 0..100 {
                let mut source = Source::new(seed);
                let request = ProduceRequest::sample(&mut source, version, false);
                let header = RequestHeader { api_version: version, ..RequestHeader::default() };
                let frame = encode_request(&header, &request).expect("the sample fits");
                let view = decode(frame.to_bytes().slice(4..));
                assert_eq!(ProduceRequest::from(&view), request, "v{version}");
                assert_eq!(view.topics.iter().len(), request.topic_data.len());
            }
        }
    }

    #[test]
    fn what_the_walk_has_passed_can_be_read_and_nothing_else_passes() {
        for version in [3, 9, 12, 13] {
            let mut source = Source::new(3);
            let request = ProduceRequest::sample(&mut source, version, false);
            let header = RequestHeader { api_version: version, ..RequestHeader::default() };
            let frame = encode_request(&header, &request).expect("the sample fits");
            with_lies(&frame.to_bytes().slice(4..), |frame| {
                let plain = read_plain::<ProduceRequest>(frame.clone());
                match decode_request(frame) {
                    Ok((_, Request::Produce(view))) => {
                        assert_eq!(Some(ProduceRequest::from(&view)), plain);
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => assert_eq!(plain, None),
                }
            });
        }
    }

    #[test]
    fn records_are_slices_of_the_frame_and_of_what_is_sent() {
        let batch = Bytes::from(vec![7; 100_000]);
        let partition = PartitionProduceData { index: 1, records: Some(batch.clone().into()) };
        let topic = TopicProduceData {
            name: "orders".into(),
            partition_data: vec![partition],
            ..TopicProduceData::default()
        };
        let request = ProduceRequest { topic_data: vec![topic], ..ProduceRequest::default() };
        let header = RequestHeader { api_version: 9, ..RequestHeader::default() };
        let sent = encode_request(&header, &request).expect("it fits");
        assert!(sent.parts().iter().any(|part| part.as_ptr() == batch.as_ptr()));

        let frame = sent.to_bytes().slice(4..);
        let view = decode(frame.clone());
        let topic = view.topics.iter().next().expect("one topic was sent");
        let partition = topic.partitions.iter().next().expect("one partition was sent");
        let records = partition.records.expect("records were sent");
        assert_eq!(records, batch);
        let offset = records.as_ptr() as usize - frame.as_ptr() as usize;
        assert!(offset + records.len() <= frame.len());
    }

    #[test]
    fn null_records_and_empty_records_are_told_apart() {
        let body = |length: &str| {
            format!(
                "0000 0003 00000000 ffff ffff ffff 00000000 \
             00000001 0001 61 00000001 00000000 {length}"
            )
        };
        let records = |length: &str| {
            let view = decode(hex(&body(length)));
            let topic = view.topics.iter().next().expect("there is one");
            topic.partitions.iter().next().expect("there is one").records
        };
        assert_eq!(records("ffffffff"), None);
        assert_eq!(records("00000000"), Some(Bytes::new()));
    }

    #[test]
    fn versions_0_to_2_are_advertised_and_refused() {
        for version in 0..=2 {
            let result = decode_request(hex(&format!("0000 000{version} 00000001 ffff")));
            let api = crate::kafka::ApiKey::Produce;
            let error = RequestError::NotServed { api, version, min: 3, max: 13 };
            assert_eq!(result, Err(error));
            assert!(api.info().advertises(version));
        }
    }
}
