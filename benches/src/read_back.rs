//! Reads a partition from its start to its end, and compares each batch with what was sent.
//!
//! A batch is what was sent if its checksum is: it covers everything but where the batch lies.
//!
//! Absent on purpose: speed (`fetcher`).

use crate::client::{ANSWER_WAIT, Client, FETCH_VERSION};
use crate::failure::{Failure, accepted};
use crate::fetcher::encode_fetch;
use bateau_protocol::kafka::ErrorCode;
use bateau_protocol::kafka::api::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use bateau_protocol::kafka::decode_response;
use bateau_protocol::record::{BatchError, Batches};
use std::time::{Duration, Instant};

/// Bytes that are asked for at a time.
const FETCH_BYTES_MAX: i32 = 4 * 1024 * 1024;

/// Until a leader that has just been elected is asked once more.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// What has to be there.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// Batches in all.
    pub batches: u64,
    /// Records of each.
    pub records_each: u64,
    /// Checksums of the batches, which begin anew behind the last one.
    pub checksums: &'a [u32],
}

/// Reads all of it; says how many batches were compared.
///
/// # Errors
/// The peer refuses, or the first difference: its offset, and what was to be there.
pub fn read_back(client: &mut Client, expected: Expected<'_>) -> Result<u64, Failure> {
    let Expected { topic, partition, batches, records_each, checksums } = expected;
    let deadline = Instant::now() + ANSWER_WAIT;
    let mut compared = 0_u64;
    while compared < batches {
        let offset = i64::try_from(compared * records_each).unwrap_or(i64::MAX);
        let before = compared;
        for batch in Batches::new(fetch(client, topic, partition, offset)?) {
            let batch = match batch {
                // An answer may end inside a batch.
                Err(BatchError::Truncated { .. }) => break,
                batch => batch?,
            };
            batch.verify_crc()?;
            let at = usize::try_from(compared).unwrap_or(usize::MAX) % checksums.len().max(1);
            let wanted = checksums.get(at).copied();
            let header = batch.header();
            let offset = i64::try_from(compared * records_each).unwrap_or(i64::MAX);
            if header.base_offset != offset || Some(header.crc) != wanted {
                let found = format!("offset {}, checksum {:08x}", header.base_offset, header.crc);
                let wanted = format!("offset {offset}, checksum {:08x}", wanted.unwrap_or(0));
                return Err(Failure::unexpected(format!("batch of {topic}"), found, wanted));
            }
            compared += 1;
        }
        if compared == before && Instant::now() > deadline {
            let found = format!("{compared} batches");
            return Err(Failure::unexpected(format!("records of {topic}"), found, batches));
        }
    }
    Ok(compared)
}

/// Whole batches from an offset on; none while the peer does not lead yet, or has none yet.
fn fetch(
    client: &mut Client,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<bytes::Bytes, Failure> {
    let asked = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: FETCH_BYTES_MAX,
        ..FetchPartition::default()
    };
    let topics = vec![FetchTopic {
        topic: topic.to_owned().into(),
        partitions: vec![asked],
        ..FetchTopic::default()
    }];
    let (max_wait_ms, min_bytes, max_bytes) = (0, 1, FETCH_BYTES_MAX);
    let request =
        FetchRequest { max_wait_ms, min_bytes, max_bytes, topics, ..FetchRequest::default() };
    let frame = client.call_encoded(&encode_fetch(&request, 0)?, "Fetch")?;
    let (_, mut answer) = decode_response::<FetchResponse>(frame, FETCH_VERSION)?;
    accepted(answer.error_code, || "Fetch".to_owned())?;
    let found = answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions).next();
    let found = found.ok_or_else(|| Failure::unexpected("Fetch", "no partition", 1))?;
    if found.error_code == ErrorCode::NOT_LEADER_OR_FOLLOWER {
        std::thread::sleep(RETRY_PAUSE);
        return Ok(bytes::Bytes::new());
    }
    accepted(found.error_code, || format!("Fetch, {topic} {partition} at {offset}"))?;
    Ok(found.records.take().unwrap_or_default().to_bytes())
}
