//! One producer and one consumer at a fixed rate: what a well-behaved user notices.
//!
//! Open loop: a record is stamped with the time at which it was to be sent, so a stall counts for
//! every record that it held up. The offset of a record tells which one it is, and a gap or an
//! error code ends the run.
//!
//! Absent on purpose: a histogram. A run has a few thousand samples, which are kept and sorted.

use crate::client::{PRODUCE_VERSION, connect};
use crate::failure::{Failure, Tried, accepted};
use crate::fetcher::{encode_fetch, fetch_request, records_of};
use crate::payload::{CORRELATION_AT, Noise, Shape, produce_request};
use crate::stats::quantile;
use bateau_protocol::kafka::api::produce::ProduceResponse;
use bateau_protocol::kafka::decode_response;
use bateau_protocol::record::Batches;
use bytes::Bytes;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Longest that the consumer waits for one answer; it asks again at once.
const FETCH_WAIT_MS: i32 = 500;

/// Bytes that the consumer takes at a time.
const FETCH_BYTES_MAX: i32 = 1024 * 1024;

/// What the bystander does: partition 0 of a topic that is its own.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose.
    pub address: SocketAddr,
    /// Which topic.
    pub topic: String,
    /// Where its partition ends now.
    pub offset: i64,
    /// Records in all.
    pub records: u32,
    /// Time from one to the next.
    pub interval: Duration,
}

/// What it noticed, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// From the intended time of sending until the consumer had the record, 99th percentile.
    pub delivered_p99_us: u64,
    /// The same, median.
    pub delivered_p50_us: u64,
    /// The same, maximum.
    pub delivered_max_us: u64,
    /// From the intended time of sending until the acknowledgement, 99th percentile.
    pub acknowledged_p99_us: u64,
}

/// Produces and consumes at the plan's pace.
///
/// # Errors
/// Any error that a user would see.
pub fn run(plan: &Plan) -> Result<Outcome, Failure> {
    let producer = connect(plan.address)?;
    let answers = producer.try_clone().tried(|| "the producer's connection".to_owned())?;
    let consumer = connect(plan.address)?;
    let batch = Shape::SINGLE.batch(&mut Noise::new(11))?;
    let request = produce_request(&plan.topic, 0, batch)?;
    // The first record is due when all threads have had time to start.
    let start = Instant::now() + Duration::from_millis(20);
    let (produced, acknowledged, delivered) = std::thread::scope(|scope| {
        let produced = scope.spawn(|| produce(plan, producer, request, start));
        let acknowledged = scope.spawn(|| acknowledge(plan, answers, start));
        let delivered = scope.spawn(|| consume(plan, consumer, start));
        (join(produced), join(acknowledged), join(delivered))
    });
    produced?;
    Ok(Outcome::of(acknowledged?, delivered?))
}

impl Outcome {
    /// Sums samples up, in microseconds.
    #[must_use]
    pub fn of(mut acknowledged: Vec<u64>, mut delivered: Vec<u64>) -> Self {
        acknowledged.sort_unstable();
        delivered.sort_unstable();
        let of = |sorted: &[u64], share| quantile(sorted, share).unwrap_or_default();
        Self {
            delivered_p99_us: of(&delivered, 0.99),
            delivered_p50_us: of(&delivered, 0.5),
            delivered_max_us: of(&delivered, 1.0),
            acknowledged_p99_us: of(&acknowledged, 0.99),
        }
    }
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Plan {
    /// Microseconds between the time that a record was due and now.
    fn late_us(&self, start: Instant, number: u32) -> u64 {
        let due = start + self.interval * number;
        u64::try_from(Instant::now().saturating_duration_since(due).as_micros()).unwrap_or(u64::MAX)
    }
}

fn produce(
    plan: &Plan,
    mut stream: TcpStream,
    mut request: Vec<u8>,
    start: Instant,
) -> Result<(), Failure> {
    for number in 0..plan.records {
        let due = start + plan.interval * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if let Some(field) = request.get_mut(CORRELATION_AT) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        stream.write_all(&request).tried(|| "bystander, producing".to_owned())?;
    }
    Ok(())
}

fn acknowledge(plan: &Plan, mut stream: TcpStream, start: Instant) -> Result<Vec<u64>, Failure> {
    let mut samples = Vec::with_capacity(plan.records as usize);
    for number in 0..plan.records {
        let frame = read_frame(&mut stream)?;
        let (_, answer) = decode_response::<ProduceResponse>(frame, PRODUCE_VERSION)?;
        for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            accepted(partition.error_code, || "bystander, Produce".to_owned())?;
        }
        samples.push(plan.late_us(start, number));
    }
    Ok(samples)
}

fn consume(plan: &Plan, mut stream: TcpStream, start: Instant) -> Result<Vec<u64>, Failure> {
    let mut samples = Vec::with_capacity(plan.records as usize);
    let mut number: u32 = 0;
    while number < plan.records {
        let offset = plan.offset + i64::from(number);
        let fetch = fetch_request(&plan.topic, offset, FETCH_BYTES_MAX, FETCH_WAIT_MS);
        let request = encode_fetch(&fetch, i32::try_from(number).unwrap_or(i32::MAX))?;
        stream.write_all(&request).tried(|| "bystander, fetching".to_owned())?;
        let (_, records) = records_of(read_frame(&mut stream)?)?;
        for batch in Batches::new(records) {
            let (found, expected) = (batch?.header().base_offset, plan.offset + i64::from(number));
            if found != expected {
                return Err(Failure::unexpected("bystander, offset", found, expected));
            }
            samples.push(plan.late_us(start, number));
            number += 1;
        }
    }
    Ok(samples)
}

fn read_frame(stream: &mut TcpStream) -> Result<Bytes, Failure> {
    let what = || "bystander, reading".to_owned();
    let mut length = [0; 4];
    stream.read_exact(&mut length).tried(what)?;
    let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap_or(0)];
    stream.read_exact(&mut frame).tried(what)?;
    Ok(frame.into())
}
