//! The replay loader: encoded requests, sent again and again, so many in flight.
//!
//! ```text
//!   requests, encoded once ──► patch 4 bytes ──► one vectored write ──► socket
//!                                  ▲                                      │
//!                                  └── as many as were answered ◄── one read of answers
//! ```
//!
//! One thread per connection, blocking. It writes as many requests as answers came with one read,
//! as a client that pipelines does. Every answer is decoded and checked.
//!
//! The same loader drives Bateau, Apache Kafka and the bare loop ([`crate::probe`]), so a ratio of
//! two of them has its cost on both sides.
//!
//! Absent on purpose: pacing (`bystander`), idempotent sequences.

use crate::client::{PRODUCE_VERSION, connect};
use crate::counters::thread_cpu;
use crate::failure::{Failure, Tried, accepted};
use crate::payload::CORRELATION_AT;
use bateau_protocol::kafka::api::produce::ProduceResponse;
use bateau_protocol::kafka::decode_response;
use bytes::Bytes;
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Whom to.
    pub address: SocketAddr,
    /// Requests of each connection.
    pub requests: u64,
    /// Requests of each connection that may be unanswered.
    pub inflight: usize,
}

/// A connection's plan, and the requests that it replays.
pub type Line = (Plan, Vec<Vec<u8>>);

/// What it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// From the first request to the last answer of all connections.
    pub wall: Duration,
    /// CPU time of the loader's threads.
    pub loader_cpu: Duration,
    /// Requests of all connections, each acknowledged without an error.
    pub requests: u64,
}

/// Replays one set of requests per connection.
///
/// - `sets`: whole requests with their lengths; at least `plan.inflight` of them per connection,
///   because a request that is still to be sent cannot be patched again.
///
/// # Errors
/// The first failure of any connection, an error code in an answer among them.
pub fn replay(plan: Plan, sets: Vec<Vec<Vec<u8>>>) -> Result<Outcome, Failure> {
    replay_then(plan, sets, || ()).map(|(outcome, ())| outcome)
}

/// Replays, and calls `then` while all connections are still open: a peer with a thread per
/// connection has all of its threads until then.
///
/// # Errors
/// As [`replay`].
pub fn replay_then<T>(
    plan: Plan,
    sets: Vec<Vec<Vec<u8>>>,
    then: impl FnOnce() -> T,
) -> Result<(Outcome, T), Failure> {
    replay_each(sets.into_iter().map(|set| (plan, set)).collect(), then)
}

/// As [`replay_then`], where each connection has a plan of its own.
///
/// # Errors
/// As [`replay`].
pub fn replay_each<T>(lines: Vec<Line>, then: impl FnOnce() -> T) -> Result<(Outcome, T), Failure> {
    let mut connections = Vec::with_capacity(lines.len());
    for (plan, set) in lines {
        if set.len() < plan.inflight {
            return Err(Failure::unexpected("distinct requests", set.len(), plan.inflight));
        }
        connections.push(Connection::new(plan, set)?);
    }
    let requests = connections.iter().map(|connection| connection.plan.requests).sum();
    let start = Instant::now();
    let done: Vec<Result<Duration, Failure>> = std::thread::scope(|scope| {
        let run = |connection| scope.spawn(|| Connection::run(connection));
        let threads: Vec<_> = connections.iter_mut().map(run).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    });
    let wall = start.elapsed();
    let after = then();
    let loader_cpu = done.into_iter().sum::<Result<Duration, Failure>>()?;
    Ok((Outcome { wall, loader_cpu, requests }, after))
}

/// One connection's state.
struct Connection {
    plan: Plan,
    stream: TcpStream,
    set: Vec<Vec<u8>>,
    sent: u64,
    answered: u64,
    received: Vec<u8>,
    received_bytes: usize,
}

impl Connection {
    fn new(plan: Plan, set: Vec<Vec<u8>>) -> Result<Self, Failure> {
        let stream = connect(plan.address)?;
        let received = vec![0; 64 * 1024];
        Ok(Self { plan, stream, set, sent: 0, answered: 0, received, received_bytes: 0 })
    }

    /// Gives back the CPU time that the calling thread spent.
    fn run(&mut self) -> Result<Duration, Failure> {
        let before = thread_cpu()?;
        while self.answered < self.plan.requests {
            self.send()?;
            self.receive()?;
        }
        Ok(thread_cpu()?.saturating_sub(before))
    }

    /// Fills the window with one vectored write.
    fn send(&mut self) -> Result<(), Failure> {
        let until = self.plan.requests.min(self.answered + self.plan.inflight as u64);
        let places = self.set.len() as u64;
        for number in self.sent..until {
            let id = correlation_id(number).to_be_bytes();
            let request = self.set.get_mut(place(number, places));
            if let Some(field) = request.and_then(|request| request.get_mut(CORRELATION_AT)) {
                field.copy_from_slice(&id);
            }
        }
        let due = (self.sent..until).filter_map(|number| self.set.get(place(number, places)));
        let mut slices: Vec<IoSlice<'_>> = due.map(|request| IoSlice::new(request)).collect();
        let mut left = slices.as_mut_slice();
        while !left.is_empty() {
            let written =
                self.stream.write_vectored(left).tried(|| "sending requests".to_owned())?;
            IoSlice::advance_slices(&mut left, written);
        }
        self.sent = until;
        Ok(())
    }

    /// Takes in at least one answer.
    fn receive(&mut self) -> Result<(), Failure> {
        let before = self.answered;
        while self.answered == before {
            let room = self.received.get_mut(self.received_bytes..).unwrap_or_default();
            let what = || "answers to requests".to_owned();
            match self.stream.read(room).tried(what)? {
                0 => return Err(Failure::unexpected(what(), "end of stream", "an answer")),
                count => self.received_bytes += count,
            }
            self.take_answers()?;
        }
        Ok(())
    }

    fn take_answers(&mut self) -> Result<(), Failure> {
        let mut taken = 0;
        let received = self.received.get(..self.received_bytes).unwrap_or_default();
        while let Some(frame) = first_frame(received.get(taken..).unwrap_or_default()) {
            check(frame, correlation_id(self.answered))?;
            self.answered += 1;
            taken += 4 + frame.len();
        }
        self.received.copy_within(taken..self.received_bytes, 0);
        self.received_bytes -= taken;
        Ok(())
    }
}

/// Correlation ids count and wrap.
const fn correlation_id(number: u64) -> i32 {
    (number & 0x7fff_ffff) as i32
}

/// Which request of the set is sent as this one.
const fn place(number: u64, places: u64) -> usize {
    (number % places) as usize
}

/// The first whole frame, without its length.
#[must_use]
pub fn first_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(i32::from_be_bytes(*length)).ok()?)
}

fn check(frame: &[u8], expected: i32) -> Result<(), Failure> {
    let frame = Bytes::copy_from_slice(frame);
    let (found, answer) = decode_response::<ProduceResponse>(frame, PRODUCE_VERSION)?;
    if found != expected {
        return Err(Failure::unexpected("correlation id of Produce", found, expected));
    }
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut count = 0;
    for partition in partitions {
        accepted(partition.error_code, || format!("Produce, partition {}", partition.index))?;
        count += 1;
    }
    if count != 1 {
        return Err(Failure::unexpected("partitions in an answer", count, 1));
    }
    Ok(())
}
