//! A Kafka client without opinions: one connection, frames out, frames in, each with a deadline.
//!
//! Invariant: nothing here waits longer than it was told, and nothing that a network or a broker
//! may do panics.
//! Absent on purpose: retries and routing ([`crate::load`]), and versions other than one per API.

use checker::{Record, Value};
use kafka_clients_tests::raw::batch::{Batch, stored};
use kafka_clients_tests::raw::bytes::Reader;
use kafka_clients_tests::raw::requests::{
    CREATE_TOPICS, FETCH, INIT_PRODUCER_ID, LIST_OFFSETS, METADATA, PRODUCE, Request, api,
};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long a connection may take.
pub const DIAL_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a send may be stuck in a full socket.
const SEND_TIMEOUT: Duration = Duration::from_millis(500);
/// Twenty years: what goes before that goes for no reason, even by a clock ten years ahead.
const KEPT_MS: &str = "631152000000";
/// Bytes in front of the records in a batch as [`stored`] gives it, which begins at the magic.
const CONTENT_HEADER_BYTES: usize = 61 - 16;

/// A connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// Whatever the network says, a time-out among it.
    pub fn dial(at: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&at, DIAL_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SEND_TIMEOUT))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The connection is gone, or nobody reads at its other end.
    pub fn send(&mut self, request: &Request) -> io::Result<()> {
        let length = i32::try_from(request.frame.len()).map_err(io::Error::other)?;
        self.stream.write_all(&[&length.to_be_bytes(), request.frame.as_slice()].concat())
    }

    /// The next frame, or `None` when none came in time.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn poll(&mut self, wait: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + wait;
        let mut chunk = [0; 16 * 1_024];
        loop {
            if let Some(frame) = self.take_frame() {
                return Ok(Some(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            // A read time-out of zero would be none at all.
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(chunk.get(..count).unwrap_or(&[])),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut if left.is_zero() => {
                        return Ok(None);
                    }
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Sends a request and returns its answer's body.
    ///
    /// # Errors
    /// The connection is gone, or no answer came in time.
    pub fn call(&mut self, request: &Request, timeout: Duration) -> io::Result<Vec<u8>> {
        self.send(request)?;
        let frame = self.poll(timeout)?.ok_or(ErrorKind::TimedOut)?;
        Ok(request.body_of_answer(&frame).to_vec())
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let length = self.received.first_chunk::<4>()?;
        let end = 4 + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        let frame = self.received.get(4..end)?.to_vec();
        self.received.drain(..end);
        Some(frame)
    }
}

/// A partition as a node describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Led {
    /// By whom, where anybody leads it.
    pub leader: Option<usize>,
    /// In which epoch.
    pub epoch: i32,
}

/// What a node says about a topic: its partitions in order, empty while it does not know it.
///
/// # Errors
/// As [`Wire::call`].
pub fn metadata(wire: &mut Wire, topic: &str, timeout: Duration) -> io::Result<Vec<Led>> {
    let request = api(METADATA).request_with(7, |writer| {
        writer.array(1).string(topic).boolean(false);
    });
    let answer = wire.call(&request, timeout)?;
    let mut reader = Reader::new(&answer);
    let _throttle = reader.int32();
    for _ in 0..reader.count() {
        let _broker = (reader.int32(), reader.string(), reader.int32(), reader.string());
    }
    let (_cluster, _controller, _topics) = (reader.string(), reader.int32(), reader.count());
    let (_error, _name, _internal) = (reader.int16(), reader.string(), reader.int8());
    let count = reader.count();
    let mut partitions = vec![Led { leader: None, epoch: -1 }; count];
    for _ in 0..count {
        let (error, index) = (reader.int16(), reader.int32());
        let (leader, epoch) = (reader.int32(), reader.int32());
        for _ in 0..3 {
            let count = reader.count();
            reader.take(count * size_of::<i32>());
        }
        let leader = usize::try_from(leader).ok().filter(|_| error == 0);
        let led = usize::try_from(index).ok().and_then(|index| partitions.get_mut(index));
        if let Some(led) = led {
            *led = Led { leader, epoch };
        }
    }
    Ok(partitions)
}

/// Creates a topic whose records are kept for `KEPT_MS`, and may be so far ahead of a node's
/// clock; the error code.
///
/// # Errors
/// As [`Wire::call`].
pub fn create_topic(
    wire: &mut Wire,
    topic: &str,
    partitions: u32,
    replicas: i16,
    timeout: Duration,
) -> io::Result<i16> {
    let partitions = i32::try_from(partitions).map_err(io::Error::other)?;
    let request = api(CREATE_TOPICS).request_with(2, |writer| {
        writer.array(1).string(topic).int32(partitions).int16(replicas).array(0);
        writer.array(2).string("retention.ms").nullable_string(Some(KEPT_MS));
        writer.string("message.timestamp.after.max.ms").nullable_string(Some(KEPT_MS));
        writer.int32(10_000).boolean(false);
    });
    let answer = wire.call(&request, timeout)?;
    let mut reader = Reader::new(&answer);
    let (_throttle, _topics, _name) = (reader.int32(), reader.count(), reader.string());
    Ok(reader.int16())
}

/// A new producer id: error code, id, epoch.
///
/// # Errors
/// As [`Wire::call`].
pub fn new_producer(wire: &mut Wire, timeout: Duration) -> io::Result<(i16, i64, i16)> {
    let request = api(INIT_PRODUCER_ID).request_with(1, |writer| {
        writer.nullable_string(None).int32(60_000);
    });
    let answer = wire.call(&request, timeout)?;
    let mut reader = Reader::new(&answer);
    let _throttle = reader.int32();
    Ok((reader.int16(), reader.int64(), reader.int16()))
}

/// Who produces, and the place of a batch in its order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The producer's id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the batch's first record.
    pub sequence: i32,
}

/// A Produce of one batch with acks=all.
pub fn produce(
    topic: &str,
    partition: u32,
    values: &[Value],
    identity: Option<Identity>,
    timeout: Duration,
) -> Request {
    let values: Vec<Vec<u8>> = values.iter().map(|value| value.to_be_bytes().to_vec()).collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    let batch = Batch::of(&values);
    let batch = match identity {
        Some(one) => batch.sequenced(one.id, one.epoch, one.sequence),
        None => batch,
    };
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let partition = i32::try_from(partition).unwrap_or(i32::MAX);
    api(PRODUCE).request_with(7, |writer| {
        writer.nullable_string(None).int16(-1).int32(timeout_ms).array(1).string(topic);
        writer.array(1).int32(partition).byte_string(&batch.encode());
    })
}

/// The answer to [`produce`]: error code and offset of the first record.
pub fn produced(body: &[u8]) -> (i16, i64) {
    let mut reader = Reader::new(body);
    let (_topics, _name, _partitions) = (reader.count(), reader.string(), reader.count());
    let _index = reader.int32();
    (reader.int16(), reader.int64())
}

/// What a Fetch brought.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetched {
    /// Error code of the partition.
    pub code: i16,
    /// Records from the offset that was asked for.
    pub records: Vec<Record>,
}

/// Reads one partition from `offset`, waiting so long for a first byte.
///
/// # Errors
/// As [`Wire::call`], or a batch that cannot be read.
pub fn fetch(
    wire: &mut Wire,
    topic: &str,
    partition: u32,
    offset: i64,
    wait: Duration,
    timeout: Duration,
) -> io::Result<Fetched> {
    let wait_ms = i32::try_from(wait.as_millis()).map_err(io::Error::other)?;
    let partition = i32::try_from(partition).map_err(io::Error::other)?;
    let request = api(FETCH).request_with(11, |writer| {
        writer.int32(-1).int32(wait_ms).int32(1).int32(8 << 20).int8(0).int32(0).int32(-1);
        writer.array(1).string(topic).array(1).int32(partition).int32(-1).int64(offset);
        writer.int64(-1).int32(1 << 20).array(0).string("");
    });
    let answer = wire.call(&request, timeout)?;
    let mut reader = Reader::new(&answer);
    let (_throttle, error, _session) = (reader.int32(), reader.int16(), reader.int32());
    if error != 0 || reader.count() == 0 {
        return Ok(Fetched { code: error, records: Vec::new() });
    }
    let (_topic, _partitions, _index) = (reader.string(), reader.count(), reader.int32());
    let code = reader.int16();
    let (_high, _stable, _start) = (reader.int64(), reader.int64(), reader.int64());
    let (_aborted, _preferred) = (reader.count(), reader.int32());
    let mut records = Vec::new();
    for batch in stored(reader.byte_string()) {
        let mut rest = batch.content.get(CONTENT_HEADER_BYTES..).unwrap_or_default();
        for at in 0..i64::from(batch.record_count) {
            let value = value_of(&mut rest).ok_or(ErrorKind::InvalidData)?;
            records.push(Record { offset: batch.base_offset + at, value });
        }
    }
    records.retain(|record| record.offset >= offset);
    Ok(Fetched { code, records })
}

/// The value of the next record, which has no key and no headers.
fn value_of(rest: &mut &[u8]) -> Option<Value> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let (mut record, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    record = record.get(1..)?; // attributes
    let (_timestamp, _offset, _key) =
        (varint(&mut record)?, varint(&mut record)?, varint(&mut record)?);
    let _length = varint(&mut record)?;
    Some(Value::from_be_bytes(*record.first_chunk()?))
}

/// A number as records have it: seven bits per byte, the sign in the lowest bit.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let magnitude = i64::try_from(value >> 1).ok()?;
            return Some(if value & 1 == 0 { magnitude } else { -magnitude - 1 });
        }
    }
    None
}

/// The latest offset of a partition, as its leader confirms it: error code and offset.
///
/// # Errors
/// As [`Wire::call`].
pub fn latest(
    wire: &mut Wire,
    topic: &str,
    partition: u32,
    timeout: Duration,
) -> io::Result<(i16, i64)> {
    let partition = i32::try_from(partition).map_err(io::Error::other)?;
    let request = api(LIST_OFFSETS).request_with(1, |writer| {
        writer.int32(-1).array(1).string(topic).array(1).int32(partition).int64(-1);
    });
    let answer = wire.call(&request, timeout)?;
    let mut reader = Reader::new(&answer);
    let (_topics, _name, _partitions) = (reader.count(), reader.string(), reader.count());
    let (_index, code, _timestamp) = (reader.int32(), reader.int16(), reader.int64());
    Ok((code, reader.int64()))
}
