//! Producers at a fixed rate that go on until they are told to end: what users of other partitions
//! notice of something that takes as long as it takes.
//!
//! ```text
//!   due ─► due ─► due ─► …       a lane: one connection to one leader, one record every interval
//!    └ sent      └ sent          a sample: when a record was due, and how late its ack came
//!   ── quiet window ──┬── disturbed window ──►     samples are sorted by when they were due
//! ```
//!
//! Open loop: a sample counts from the time at which its record was to be sent, so a stall counts
//! for every record that it held up. Any error ends the lane, and the row with it.
//!
//! Absent on purpose: leaders that move. Lanes are laid to leaders that stay.

use crate::client::{PRODUCE_VERSION, connect};
use crate::failure::{Failure, Tried, accepted};
use crate::payload::{CORRELATION_AT, Noise, Shape, produce_request};
use crate::stats::quantile;
use bateau_protocol::kafka::api::produce::ProduceResponse;
use bateau_protocol::kafka::decode_response;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Who gets records.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Its leader.
    pub address: SocketAddr,
    /// Its topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// One record's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// When it was to be sent.
    pub due: Instant,
    /// From then until its acknowledgement, in microseconds.
    pub late_us: u64,
}

/// A part of the time, from a moment until before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Its first moment.
    pub from: Instant,
    /// The first moment behind it.
    pub until: Instant,
}

impl Window {
    /// From a moment until now.
    #[must_use]
    pub fn since(from: Instant) -> Self {
        Self { from, until: Instant::now() }
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.until.saturating_duration_since(self.from)
    }

    /// What was due in it.
    fn holds(&self, sample: &Sample) -> bool {
        sample.due >= self.from && sample.due < self.until
    }
}

/// What a window's samples say, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lateness {
    /// 99th percentile.
    pub p99_us: u64,
    /// Median.
    pub p50_us: u64,
    /// Maximum.
    pub max_us: u64,
    /// How many there were.
    pub samples: usize,
}

impl Lateness {
    /// Of all records of some lanes that were due in a window.
    ///
    /// # Errors
    /// None was.
    pub fn of(lanes: &[Vec<Sample>], window: Window) -> Result<Self, Failure> {
        let within = lanes.iter().flatten().filter(|sample| window.holds(sample));
        let mut sorted: Vec<u64> = within.map(|sample| sample.late_us).collect();
        sorted.sort_unstable();
        let of = |share| quantile(&sorted, share);
        let (Some(p99_us), Some(p50_us), Some(max_us)) = (of(0.99), of(0.5), of(1.0)) else {
            let length = format!("none in {:?}", window.length());
            return Err(Failure::unexpected("samples of a window", length, "1 or more"));
        };
        Ok(Self { p99_us, p50_us, max_us, samples: sorted.len() })
    }
}

/// Lanes at work.
#[derive(Debug)]
pub struct Paced {
    stop: Arc<AtomicBool>,
    lanes: Vec<Working>,
}

/// Two threads of a lane.
#[derive(Debug)]
struct Working {
    producer: JoinHandle<Result<(), Failure>>,
    acknowledged: JoinHandle<Result<Vec<Sample>, Failure>>,
}

impl Paced {
    /// Begins: each lane gets one record of 1 KiB every `interval`, the lanes one after the other
    /// within it.
    ///
    /// # Errors
    /// Nobody listens at an address.
    pub fn begin(lanes: &[Lane], interval: Duration) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        // The first record is due when all threads have had time to start.
        let begin = Instant::now() + Duration::from_millis(20);
        let count = u32::try_from(lanes.len()).unwrap_or(u32::MAX).max(1);
        let mut working = Vec::new();
        for (place, lane) in (0..).zip(lanes) {
            let stream = connect(lane.address)?;
            let answers = stream.try_clone().tried(|| "a lane's connection".to_owned())?;
            let batch = Shape::SINGLE.batch(&mut Noise::new(41 + u64::from(place)))?;
            let request = produce_request(&lane.topic, lane.partition, batch)?;
            let (sent, due) = channel();
            let (stop, start) = (Arc::clone(&stop), begin + interval * place / count);
            let name = format!("{} {}", lane.topic, lane.partition);
            let producer = std::thread::spawn(move || {
                produce(stream, request, &Schedule { start, interval }, &stop, &sent)
            });
            let acknowledged = std::thread::spawn(move || acknowledge(answers, &due, &name));
            working.push(Working { producer, acknowledged });
        }
        Ok(Self { stop, lanes: working })
    }

    /// Sends nothing more, waits for the acknowledgements, and gives each lane's samples.
    ///
    /// # Errors
    /// Any error that a user would have seen meanwhile.
    pub fn end(mut self) -> Result<Vec<Vec<Sample>>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut samples = Vec::new();
        for Working { producer, acknowledged } in self.lanes.drain(..) {
            let (produced, acknowledged) = (join(producer), join(acknowledged));
            // Who lost the connection says less than who was told why.
            samples.push(acknowledged?);
            produced?;
        }
        Ok(samples)
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for Working { producer, acknowledged } in self.lanes.drain(..) {
            // Whatever they met, something else has failed before.
            let _ = (producer.join(), acknowledged.join());
        }
    }
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// When records are due.
struct Schedule {
    start: Instant,
    interval: Duration,
}

fn produce(
    mut stream: TcpStream,
    mut request: Vec<u8>,
    schedule: &Schedule,
    stop: &AtomicBool,
    sent: &Sender<(u32, Instant)>,
) -> Result<(), Failure> {
    let mut number = 0_u32;
    while !stop.load(Ordering::Relaxed) {
        let due = schedule.start + schedule.interval * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if let Some(field) = request.get_mut(CORRELATION_AT) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        if sent.send((number, due)).is_err() {
            // Whoever waits for answers has failed, and says why.
            return Ok(());
        }
        stream.write_all(&request).tried(|| "a lane, producing".to_owned())?;
        number += 1;
    }
    Ok(())
}

fn acknowledge(
    mut stream: TcpStream,
    sent: &Receiver<(u32, Instant)>,
    name: &str,
) -> Result<Vec<Sample>, Failure> {
    let what = || format!("lane to partition {name}");
    let mut samples = Vec::new();
    while let Ok((number, due)) = sent.recv() {
        let mut length = [0; 4];
        stream.read_exact(&mut length).tried(what)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap_or(0)];
        stream.read_exact(&mut frame).tried(what)?;
        let late = Instant::now().saturating_duration_since(due);
        let (found, answer) = decode_response::<ProduceResponse>(frame.into(), PRODUCE_VERSION)?;
        if found.cast_unsigned() != number {
            return Err(Failure::unexpected(what(), found, number));
        }
        for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            accepted(partition.error_code, what)?;
        }
        let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        samples.push(Sample { due, late_us });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::serve_produce;
    use std::net::TcpListener;

    #[test]
    fn every_record_that_was_sent_has_a_sample_and_lanes_end_when_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let file = directory.path().join("file");
        let written = file.clone();
        let server = std::thread::spawn(move || serve_produce(&listener, 2, &written, 1 << 20));
        let lane = |partition| Lane { address, topic: "t".to_owned(), partition };
        let interval = Duration::from_millis(1);
        let paced = Paced::begin(&[lane(0), lane(1)], interval).unwrap();
        // Until something has come; what comes until the end counts too.
        while std::fs::read(&file).map_or(true, |bytes| bytes.iter().all(|byte| *byte == 0)) {
            std::thread::yield_now();
        }
        let samples = paced.end().unwrap();
        server.join().unwrap().unwrap();
        assert!(samples.iter().map(Vec::len).sum::<usize>() > 0);
        let starts: Vec<Instant> =
            samples.iter().filter_map(|lane| Some(lane.first()?.due)).collect();
        if let [one, other] = starts[..] {
            assert_eq!(other - one, interval / 2, "lanes take turns within an interval");
        }
        for lane in samples {
            assert!(lane.windows(2).all(|two| two[1].due - two[0].due == interval));
        }
    }

    #[test]
    fn a_lane_whose_peer_ends_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lane = Lane { address, topic: "t".to_owned(), partition: 0 };
        let paced = Paced::begin(&[lane], Duration::from_millis(1)).unwrap();
        drop(listener.accept().unwrap());
        while !paced.lanes[0].acknowledged.is_finished() {
            std::thread::yield_now();
        }
        assert!(paced.end().unwrap_err().to_string().contains("partition t 0"));
    }

    #[test]
    fn a_window_takes_what_was_due_in_it_and_has_to_have_something() {
        let from = Instant::now();
        let at = |ms: u64| from + Duration::from_millis(ms);
        let sample = |ms, late_us| Sample { due: at(ms), late_us };
        let lanes = [vec![sample(0, 9), sample(10, 1)], vec![sample(5, 3), sample(9, 2)]];
        let window = |begin, end| Window { from: at(begin), until: at(end) };
        let all = Lateness { p99_us: 3, p50_us: 2, max_us: 3, samples: 2 };
        assert_eq!(Lateness::of(&lanes, window(1, 10)).unwrap(), all);
        assert_eq!(Lateness::of(&lanes, window(0, 11)).unwrap().samples, 4);
        assert!(Lateness::of(&lanes, window(11, 20)).is_err());
        assert_eq!(window(1, 10).length(), Duration::from_millis(9));
    }
}
