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
//! for every record that it held up. Where another node has come to lead, the lane goes there with
//! what was refused, as every client does, and the time that this takes counts. Any other error
//! ends the lane, and the row with it.
//!
//! Absent on purpose: nodes that die. A lane asks the node that led at first where to go.

use crate::client::{Client, PRODUCE_VERSION, connect};
use crate::failure::{Failure, Tried, accepted};
use crate::payload::{CORRELATION_AT, Noise, Shape, produce_request};
use crate::stats::quantile;
use bateau_protocol::kafka::api::produce::ProduceResponse;
use bateau_protocol::kafka::{ErrorCode, decode_response};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Until it is looked for another leader.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Who gets records.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Its leader at first.
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
    pub fn of(lanes: &[Driven], window: Window) -> Result<Self, Failure> {
        let all = lanes.iter().flat_map(|lane| &lane.samples);
        let within = all.filter(|sample| window.holds(sample));
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
    lanes: Vec<JoinHandle<Result<Driven, Failure>>>,
}

/// What a lane has to show.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Driven {
    /// One for each record, all of which were acknowledged.
    pub samples: Vec<Sample>,
    /// How often another leader had to be looked for.
    pub moves: u32,
}

impl Paced {
    /// Begins: each lane gets one record of 1 KiB every `interval`, the lanes one after the other
    /// within it.
    ///
    /// # Errors
    /// None that a lane would not meet as well; [`Paced::end`] has those.
    pub fn begin(lanes: &[Lane], interval: Duration) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        // The first record is due when all threads have had time to start.
        let begin = Instant::now() + Duration::from_millis(20);
        let count = u32::try_from(lanes.len()).unwrap_or(u32::MAX).max(1);
        let mut driven = Vec::new();
        for (place, lane) in (0..).zip(lanes) {
            let batch = Shape::SINGLE.batch(&mut Noise::new(41 + u64::from(place)))?;
            let request = produce_request(&lane.topic, lane.partition, batch)?;
            let (stop, start, lane) =
                (Arc::clone(&stop), begin + interval * place / count, lane.clone());
            let schedule = Schedule { start, interval, next: 0 };
            driven.push(std::thread::spawn(move || drive(&lane, &request, schedule, &stop)));
        }
        Ok(Self { stop, lanes: driven })
    }

    /// Sends nothing more, waits for the acknowledgements, and gives what each lane has.
    ///
    /// # Errors
    /// Any error that a user would have seen meanwhile.
    pub fn end(mut self) -> Result<Vec<Driven>, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        self.lanes.drain(..).map(join).collect()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for lane in self.lanes.drain(..) {
            // Whatever it met, something else has failed before.
            let _ = lane.join();
        }
    }
}

fn join<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// When records are due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start: Instant,
    interval: Duration,
    /// The next one by its number.
    next: u32,
}

impl Schedule {
    fn due(&self) -> Instant {
        self.start + self.interval * self.next
    }
}

/// Sends what is due until told to end, and goes where the leader goes.
fn drive(
    lane: &Lane,
    request: &[u8],
    mut schedule: Schedule,
    stop: &AtomicBool,
) -> Result<Driven, Failure> {
    let mut driven = Driven::default();
    let mut address = lane.address;
    // When the records were due that a former leader has refused.
    let mut owed: Vec<Instant> = Vec::new();
    loop {
        let stream = connect(address)?;
        let answers = stream.try_clone().tried(|| "a lane's connection".to_owned())?;
        let (sent, due) = channel();
        let (moved, first) = (AtomicBool::new(false), std::mem::take(&mut owed));
        let (produced, acknowledged) = std::thread::scope(|scope| {
            let moved = &moved;
            let producer = scope.spawn(move || {
                let is_over = || stop.load(Ordering::Relaxed) || moved.load(Ordering::Relaxed);
                produce(stream, request.to_vec(), (first, schedule), is_over, &sent)
            });
            let acknowledged = acknowledge(answers, &due, lane, &mut driven.samples, moved);
            // Without somebody who hears of what is sent, nothing more is.
            drop(due);
            let produced = producer.join();
            (produced.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), acknowledged)
        });
        // Who lost the connection says less than who was told why.
        owed = acknowledged?;
        schedule = produced?;
        if owed.is_empty() && stop.load(Ordering::Relaxed) {
            return Ok(driven);
        }
        driven.moves += 1;
        address = leader_of(lane)?;
    }
}

/// Who leads the lane's partition now, as far as the first leader's node knows.
fn leader_of(lane: &Lane) -> Result<SocketAddr, Failure> {
    std::thread::sleep(RETRY_PAUSE);
    let mut client = Client::connect(lane.address)?;
    client.await_topic(&lane.topic)?;
    let leaders = client.leaders(&lane.topic)?;
    let found = leaders.into_iter().find(|(partition, _)| *partition == lane.partition);
    let what = || format!("leader of {} {}", lane.topic, lane.partition);
    found.map(|(_, address)| address).ok_or_else(|| Failure::unexpected(what(), "none", "one"))
}

/// Sends what is owed, then what becomes due; gives back from where on nothing was sent.
fn produce(
    mut stream: TcpStream,
    mut request: Vec<u8>,
    (owed, mut schedule): (Vec<Instant>, Schedule),
    is_over: impl Fn() -> bool,
    sent: &Sender<(u32, Instant)>,
) -> Result<Schedule, Failure> {
    let mut owed = owed.into_iter();
    let mut number = 0_u32;
    loop {
        let due = match owed.next() {
            Some(due) => due,
            None if is_over() => return Ok(schedule),
            None => {
                let due = schedule.due();
                schedule.next += 1;
                due
            }
        };
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if let Some(field) = request.get_mut(CORRELATION_AT) {
            field.copy_from_slice(&number.to_be_bytes());
        }
        if sent.send((number, due)).is_err() {
            // Whoever waits for answers has failed, and says why.
            return Ok(schedule);
        }
        stream.write_all(&request).tried(|| "a lane, producing".to_owned())?;
        number += 1;
    }
}

/// Hears of everything that is sent; gives back when that was due which another leader has to get.
fn acknowledge(
    mut stream: TcpStream,
    sent: &Receiver<(u32, Instant)>,
    lane: &Lane,
    samples: &mut Vec<Sample>,
    moved: &AtomicBool,
) -> Result<Vec<Instant>, Failure> {
    let what = || format!("lane to partition {} {}", lane.topic, lane.partition);
    let mut owed = Vec::new();
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
        let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        match partitions.next().map(|partition| partition.error_code) {
            Some(ErrorCode::NOT_LEADER_OR_FOLLOWER) => {
                moved.store(true, Ordering::Relaxed);
                owed.push(due);
            }
            Some(code) => {
                accepted(code, what)?;
                let late_us = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
                samples.push(Sample { due, late_us });
            }
            None => return Err(Failure::unexpected(what(), "no partition", 1)),
        }
    }
    Ok(owed)
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
        let lanes = paced.end().unwrap();
        server.join().unwrap().unwrap();
        assert!(lanes.iter().map(|lane| lane.samples.len()).sum::<usize>() > 0);
        let starts = lanes.iter().filter_map(|lane| Some(lane.samples.first()?.due));
        let starts: Vec<Instant> = starts.collect();
        if let [one, other] = starts[..] {
            assert_eq!(other - one, interval / 2, "lanes take turns within an interval");
        }
        for Driven { samples, moves } in lanes {
            assert!(samples.windows(2).all(|two| two[1].due - two[0].due == interval));
            assert_eq!(moves, 0);
        }
    }

    #[test]
    fn what_is_owed_is_sent_first_and_again_as_of_when_it_was_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let (sent, told) = channel();
        let start = Instant::now();
        let owed = vec![start, start + Duration::from_micros(7)];
        let schedule = Schedule { start, interval: Duration::from_millis(1), next: 5 };
        let asked = std::cell::Cell::new(0);
        let is_over = || asked.replace(asked.get() + 1) == 2;
        let batch = Shape::SINGLE.batch(&mut Noise::new(1)).unwrap();
        let request = produce_request("t", 0, batch).unwrap();
        let bytes = request.len();
        let left = produce(stream, request, (owed.clone(), schedule), is_over, &sent).unwrap();
        drop(sent);
        let dues: Vec<Instant> = told.iter().map(|(_, due)| due).collect();
        let at = |number: u32| start + Duration::from_millis(1) * number;
        assert_eq!(dues, [owed[0], owed[1], at(5), at(6)]);
        assert_eq!(left.next, 7);
        let mut received = Vec::new();
        server.read_to_end(&mut received).unwrap();
        let numbers: Vec<u8> =
            received.chunks(bytes).map(|one| one[CORRELATION_AT.end - 1]).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
    }

    #[test]
    fn a_lane_whose_peer_ends_is_a_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let lane = Lane { address, topic: "t".to_owned(), partition: 0 };
        let paced = Paced::begin(&[lane], Duration::from_millis(1)).unwrap();
        drop(listener.accept().unwrap());
        while !paced.lanes[0].is_finished() {
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
        let lanes = lanes.map(|samples| Driven { samples, moves: 0 });
        let window = |begin, end| Window { from: at(begin), until: at(end) };
        let all = Lateness { p99_us: 3, p50_us: 2, max_us: 3, samples: 2 };
        assert_eq!(Lateness::of(&lanes, window(1, 10)).unwrap(), all);
        assert_eq!(Lateness::of(&lanes, window(0, 11)).unwrap().samples, 4);
        assert!(Lateness::of(&lanes, window(11, 20)).is_err());
        assert_eq!(window(1, 10).length(), Duration::from_millis(9));
    }
}
