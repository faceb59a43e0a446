//! Reads a topic of equal batches as fast as it is given, and what a bare loop sends.
//!
//! Batches have one size, so the offset of every request is known ahead and several may be in
//! flight, on one connection. Answers land in one buffer that is touched before the clock starts,
//! because the first touch of memory costs more than everything else here.
//!
//! Absent on purpose: fetch sessions, several partitions per request.

use crate::client::{CLIENT_ID, FETCH_VERSION, connect};
use crate::counters::thread_cpu;
use crate::failure::{Failure, Tried, accepted};
use crate::payload::Shape;
use bateau_protocol::kafka::api::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use bateau_protocol::kafka::{RequestHeader, Text, decode_response, encode_request};
use bateau_protocol::record::{Batch, BatchError, Batches};
use bytes::{Bytes, BytesMut};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What to read: partition 0 of a topic, from its start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whom from.
    pub address: SocketAddr,
    /// Which topic.
    pub topic: String,
    /// Its batches.
    pub shape: Shape,
    /// Batches of every answer.
    pub batches: usize,
    /// Requests that read the topic once.
    pub requests: usize,
    /// How often it is read.
    pub passes: usize,
    /// Requests that may be unanswered.
    pub inflight: usize,
}

/// What it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// From the first request to the last byte.
    pub wall: Duration,
    /// CPU time of the reading thread.
    pub loader_cpu: Duration,
    /// Bytes of whole batches, or of what the bare loop sent.
    pub payload_bytes: u64,
}

/// What a limit in a request leaves for what a broker may count besides batches.
const LIMIT_SLACK_BYTES: usize = 4 * 1024;

/// What an answer may hold besides its records.
const ANSWER_SLACK_BYTES: usize = 64 * 1024;

/// Reads everything that the plan names. The first answer's checksums are verified before the
/// clock starts.
///
/// # Errors
/// The connection broke, an error code, or an answer with fewer batches than asked for.
pub fn fetch(plan: &Plan) -> Result<Outcome, Failure> {
    let mut stream = connect(plan.address)?;
    let once: Result<Vec<_>, _> = (0..plan.requests).map(|number| plan.encode(number)).collect();
    let once = once?;
    let mut buffer = BytesMut::zeroed(plan.batches * plan.shape.batch_bytes + ANSWER_SLACK_BYTES);
    if let Some(first) = once.first() {
        stream.write_all(first).tried(|| "sending a fetch".to_owned())?;
        buffer = plan.receive(&mut stream, buffer, 0, Batch::verify_crc)?;
    }
    let total = plan.requests * plan.passes;
    let (start, before) = (Instant::now(), thread_cpu()?);
    let mut sent = 0;
    for number in 0..total {
        while sent < total.min(number + plan.inflight) {
            let request = once.get(sent % plan.requests).map_or(&[][..], |request| request);
            stream.write_all(request).tried(|| "sending a fetch".to_owned())?;
            sent += 1;
        }
        buffer = plan.receive(&mut stream, buffer, number % plan.requests, |_| Ok(()))?;
    }
    let wall = start.elapsed();
    let loader_cpu = thread_cpu()?.saturating_sub(before);
    let payload_bytes = (total * plan.batches * plan.shape.batch_bytes) as u64;
    Ok(Outcome { wall, loader_cpu, payload_bytes })
}

/// Reads so many bytes of a stream that nobody has to ask for, and calls `then` before the
/// connection ends: the peer ends with it.
///
/// # Errors
/// The connection broke or ended early.
pub fn drain<T>(
    address: SocketAddr,
    payload_bytes: u64,
    then: impl FnOnce() -> T,
) -> Result<(Outcome, T), Failure> {
    let mut stream = connect(address)?;
    let mut buffer = vec![1; 1024 * 1024];
    let (start, before) = (Instant::now(), thread_cpu()?);
    // The bare loop waits for one byte, so that connecting is not measured.
    stream.write_all(&[1]).tried(|| "asking for the stream".to_owned())?;
    let mut left = payload_bytes;
    while left > 0 {
        let what = || "reading the stream".to_owned();
        match stream.read(&mut buffer).tried(what)? {
            0 => return Err(Failure::unexpected(what(), "its end", format!("{left} bytes more"))),
            count => left = left.saturating_sub(count as u64),
        }
    }
    let wall = start.elapsed();
    let loader_cpu = thread_cpu()?.saturating_sub(before);
    Ok((Outcome { wall, loader_cpu, payload_bytes }, then()))
}

impl Plan {
    fn offset(&self, number: usize) -> i64 {
        i64::try_from(number * self.batches * self.shape.records).unwrap_or(i64::MAX)
    }

    fn encode(&self, number: usize) -> Result<Vec<u8>, Failure> {
        let bytes = self.batches * self.shape.batch_bytes + LIMIT_SLACK_BYTES;
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        let request = fetch_request(&self.topic, self.offset(number), bytes, 0);
        encode_fetch(&request, i32::try_from(number).unwrap_or(i32::MAX))
    }

    /// Reads one answer into `buffer` and gives the buffer back.
    fn receive(
        &self,
        stream: &mut TcpStream,
        mut buffer: BytesMut,
        number: usize,
        look: impl Fn(&Batch) -> Result<(), BatchError>,
    ) -> Result<BytesMut, Failure> {
        let what = || "answer to a fetch".to_owned();
        let mut length = [0; 4];
        stream.read_exact(&mut length).tried(what)?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let room = buffer.len();
        let frame = buffer.get_mut(..length);
        let frame = frame.ok_or_else(|| Failure::unexpected(what(), length, room))?;
        stream.read_exact(frame).tried(what)?;
        let whole = buffer.freeze();
        self.check(whole.slice(..length), number, look)?;
        // Nothing of the answer is kept, so the memory is ours again.
        whole.try_into_mut().map_err(|_| Failure::unexpected(what(), "a slice of it", "none alive"))
    }

    fn check(
        &self,
        frame: Bytes,
        number: usize,
        look: impl Fn(&Batch) -> Result<(), BatchError>,
    ) -> Result<(), Failure> {
        let mut expected = self.offset(number);
        let mut whole = 0;
        let (_, records) = records_of(frame)?;
        for batch in Batches::new(records) {
            let batch = match batch {
                // An answer may end inside a batch.
                Err(BatchError::Truncated { .. }) => break,
                batch => batch?,
            };
            look(&batch)?;
            if batch.header().base_offset != expected {
                let found = batch.header().base_offset;
                return Err(Failure::unexpected("offset of a batch", found, expected));
            }
            expected += i64::try_from(self.shape.records).unwrap_or(i64::MAX);
            whole += 1;
        }
        if whole < self.batches {
            return Err(Failure::unexpected("batches in an answer", whole, self.batches));
        }
        Ok(())
    }
}

/// Asks for partition 0 of a topic.
#[must_use]
pub fn fetch_request(topic: &str, offset: i64, bytes_max: i32, wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition {
        partition: 0,
        fetch_offset: offset,
        partition_max_bytes: bytes_max,
        ..FetchPartition::default()
    };
    let topic = FetchTopic {
        topic: topic.to_owned().into(),
        partitions: vec![partition],
        ..FetchTopic::default()
    };
    FetchRequest {
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: bytes_max,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}

/// A whole request, with its length.
///
/// # Errors
/// None for a topic name that fits.
pub fn encode_fetch(request: &FetchRequest, correlation_id: i32) -> Result<Vec<u8>, Failure> {
    let header = RequestHeader {
        api_version: FETCH_VERSION,
        correlation_id,
        client_id: Some(Text::from_static(CLIENT_ID)),
        ..RequestHeader::default()
    };
    Ok(encode_request(&header, request)?.to_bytes().to_vec())
}

/// Correlation id and records of an answer for one partition; a slice of the answer, if the
/// records are in one piece.
///
/// # Errors
/// An error code, or no such answer.
pub fn records_of(frame: Bytes) -> Result<(i32, Bytes), Failure> {
    let (correlation_id, mut answer) = decode_response::<FetchResponse>(frame, FETCH_VERSION)?;
    accepted(answer.error_code, || "Fetch".to_owned())?;
    let partition = answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions).next();
    let partition = partition.ok_or_else(|| Failure::unexpected("Fetch", "no partition", 1))?;
    accepted(partition.error_code, || format!("Fetch, partition {}", partition.partition_index))?;
    let records = partition.records.take().unwrap_or_default();
    Ok((correlation_id, records.to_bytes()))
}
