//! What is sent: batches of seeded noise, and whole requests around them.
//!
//! Noise, because zeros are what filesystems, checksums and caches are best at.
//!
//! Absent on purpose: compression, keys, producer ids. A batch is replayed many times, which an
//! idempotent producer's would not allow.

use crate::client::{CLIENT_ID, PRODUCE_VERSION};
use crate::failure::Failure;
use bateau_protocol::kafka::api::produce::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use bateau_protocol::kafka::{RequestHeader, Text, encode_request};
use bateau_protocol::record::{BATCH_HEADER_BYTES, BatchBuilder, NewRecord};
use bytes::Bytes;
use std::time::SystemTime;

/// Where the correlation id stands in a request with its length: behind length, key and version.
pub const CORRELATION_AT: std::ops::Range<usize> = 8..12;

/// Deterministic noise (splitmix64, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The same seed gives the same noise.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// So many bytes of noise.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// How large a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Records of a batch.
    pub records: usize,
    /// The whole batch in bytes, header included, exactly.
    pub batch_bytes: usize,
}

impl Shape {
    /// 62 records of about 1 KiB in 64 KiB.
    pub const BULK: Self = Self { records: 62, batch_bytes: 64 * 1024 };

    /// One record with a value of about 1 KiB.
    pub const SINGLE: Self = Self { records: 1, batch_bytes: 1_100 };

    /// A batch of this shape.
    ///
    /// # Errors
    /// A shape that no batch can have.
    pub fn batch(&self, noise: &mut Noise) -> Result<Bytes, Failure> {
        let room = self.batch_bytes.saturating_sub(BATCH_HEADER_BYTES) / self.records.max(1);
        // A record has up to a dozen bytes besides its value; the last one takes what is left.
        let value_bytes = room.saturating_sub(16);
        let values: Vec<Vec<u8>> = (0..self.records).map(|_| noise.bytes(value_bytes)).collect();
        let mut last = noise.bytes(self.batch_bytes);
        let mut last_bytes = value_bytes;
        for _ in 0..4 {
            let built = build(&values, last.get(..last_bytes).unwrap_or_default())?;
            if built.len() == self.batch_bytes {
                return Ok(built);
            }
            last_bytes = (last_bytes + self.batch_bytes).saturating_sub(built.len());
            last.resize(last.len().max(last_bytes), 1);
        }
        Err(Failure::unexpected("batch shape", format!("{self:?}"), "room for its records"))
    }
}

/// A batch of all values but the last, and `last` in its place.
fn build(values: &[Vec<u8>], last: &[u8]) -> Result<Bytes, Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let mut builder = BatchBuilder::new();
    let full = values.iter().map(Vec::as_slice).take(values.len().saturating_sub(1));
    for value in full.chain([last]) {
        builder.push(&NewRecord { timestamp, key: None, value: Some(value), headers: &[] })?;
    }
    Ok(builder.build()?)
}

/// Distinct whole Produce requests, round robin over `partitions`, each with one batch.
///
/// Acknowledged by all replicas. Each is encoded once; only its correlation id changes later.
///
/// # Errors
/// A shape that no batch can have.
pub fn produce_requests(
    topic: &str,
    partitions: std::ops::Range<i32>,
    distinct: usize,
    shape: Shape,
    noise: &mut Noise,
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut requests = Vec::with_capacity(distinct);
    for index in partitions.cycle().take(distinct) {
        requests.push(produce_request(topic, index, shape.batch(noise)?)?);
    }
    Ok(requests)
}

/// A whole Produce request for one partition.
///
/// # Errors
/// None for a topic name that fits.
pub fn produce_request(topic: &str, index: i32, batch: Bytes) -> Result<Vec<u8>, Failure> {
    let partition = PartitionProduceData { index, records: Some(batch.into()) };
    let topic = TopicProduceData {
        name: topic.to_owned().into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    let request = ProduceRequest {
        transactional_id: None,
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
    };
    let header = RequestHeader {
        api_version: PRODUCE_VERSION,
        client_id: Some(Text::from_static(CLIENT_ID)),
        ..RequestHeader::default()
    };
    Ok(encode_request(&header, &request)?.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::kafka::{Request, decode_request};
    use bateau_protocol::record::Batch;

    #[test]
    fn batches_have_exactly_the_size_of_their_shape() {
        for shape in [Shape::BULK, Shape::SINGLE, Shape { records: 3, batch_bytes: 500 }] {
            let bytes = shape.batch(&mut Noise::new(1)).unwrap();
            let (batch, rest) = Batch::split_first(&bytes).unwrap();
            assert_eq!((bytes.len(), rest.len()), (shape.batch_bytes, 0));
            assert_eq!(usize::try_from(batch.header().record_count), Ok(shape.records));
            batch.verify_crc().unwrap();
        }
    }

    #[test]
    fn a_shape_without_room_for_its_records_is_refused() {
        assert!(Shape { records: 100, batch_bytes: 200 }.batch(&mut Noise::new(1)).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_noise_and_no_zeros() {
        let bytes = Noise::new(7).bytes(1_001);
        assert_eq!(bytes, Noise::new(7).bytes(1_001));
        assert_ne!(bytes, Noise::new(8).bytes(1_001));
        assert!(bytes.iter().filter(|byte| **byte == 0).count() < 30);
    }

    #[test]
    fn a_request_is_one_that_a_broker_decodes_and_has_its_id_where_the_loader_patches_it() {
        let mut requests =
            produce_requests("t", 3..5, 3, Shape::SINGLE, &mut Noise::new(1)).unwrap();
        requests[1][CORRELATION_AT].copy_from_slice(&77_i32.to_be_bytes());
        let (header, request) = decode_request(requests.remove(1).split_off(4).into()).unwrap();
        assert_eq!(header.correlation_id, 77);
        let Request::Produce(view) = request else { panic!("{request:?}") };
        let topic = view.topics.iter().next().unwrap();
        let partition = topic.partitions.iter().next().unwrap();
        assert_eq!(partition.index, 4);
        assert_eq!(partition.records.unwrap().len(), Shape::SINGLE.batch_bytes);
    }
}
