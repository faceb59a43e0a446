//! The replay loader over QUIC: encoded requests, sent again and again, so many in flight.
//!
//! Requests are encoded once, correlation included, and lent to QUIC, which copies nothing. What
//! is due goes in one call. One stream, one thread; every answer is decoded and checked.
//!
//! The same loader drives the broker and the bare loop, so a ratio of two of them has its cost on
//! both sides.
//!
//! Absent on purpose: pacing (`bystander`), idempotent sequences.

use super::ends::{Door, dial, dialer, hang_up};
use super::peer::{Peer, Stream, answer_of};
use crate::counters::thread_cpu;
use crate::failure::Failure;
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{Frame, ProduceRequest, Request, StreamRole, VERSION_MAX};
use bytes::Bytes;
use quinn::{Connection, Endpoint, SendStream};
use std::cell::Cell;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;

/// A slice that takes longer has failed.
const SLICE_WAIT: Duration = Duration::from_secs(180);

/// How long the broker may take to commit, in milliseconds.
const TIMEOUT_MS: i32 = 30_000;

/// One encoded produce request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// The whole frame.
    pub frame: Bytes,
    /// What it counts for in the window.
    pub weight: u32,
}

/// Encodes one request per batch for partition 0 of a topic. The correlation is the place.
///
/// - `batches`: each with what it counts for in the window.
///
/// # Errors
/// None for batches that fit into a frame.
pub fn produce_frames(
    topic_id: TopicId,
    batches: impl IntoIterator<Item = (Bytes, u32)>,
) -> Result<Vec<Encoded>, Failure> {
    let encode = |(place, (records, weight)): (u32, (Bytes, u32))| {
        let request = ProduceRequest {
            topic_id,
            partition: 0,
            timeout_ms: TIMEOUT_MS,
            records: records.into(),
        };
        let frame = Request::from(request).encode(place, VERSION_MAX)?.to_bytes();
        Ok(Encoded { frame, weight })
    };
    (0..).zip(batches).map(encode).collect()
}

/// What to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Requests in all; the set is repeated.
    pub requests: u64,
    /// What may be unanswered, in weights.
    pub inflight: u64,
}

/// What it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// From the first request to the last answer.
    pub wall: Duration,
    /// CPU time of the calling thread, QUIC included.
    pub loader_cpu: Duration,
}

/// A stream on which requests can be replayed, and what keeps it alive.
#[derive(Debug)]
pub struct Line {
    endpoint: Endpoint,
    _control: Option<Stream>,
    /// For what QUIC counts.
    pub connection: Connection,
    /// The stream.
    pub stream: Stream,
}

impl Line {
    /// A data stream of a connection to a broker.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn to_broker(peer: Peer) -> Result<Self, Failure> {
        let stream = peer.open(StreamRole::Data).await?;
        let Peer { endpoint, connection, control } = peer;
        Ok(Self { endpoint, _control: Some(control), connection, stream })
    }

    /// The only stream of a bare loop.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn to_bare_loop(door: Door) -> Result<Self, Failure> {
        let endpoint = dialer(door.pin)?;
        let connection = dial(&endpoint, door.address).await?;
        let stream = Stream::open(&connection).await?;
        Ok(Self { endpoint, _control: None, connection, stream })
    }

    /// Says that nothing more will be said.
    pub async fn close(self) {
        hang_up(&self.endpoint, &self.connection).await;
    }

    /// Replays a set of requests.
    ///
    /// - `set`: whole requests whose correlation is their place; more of them than fit into the
    ///   window, so that an answer tells which request it answers.
    ///
    /// # Errors
    /// The connection ended, or an answer is an error or not the one that is due.
    pub async fn replay(&mut self, plan: Plan, set: &[Encoded]) -> Result<Outcome, Failure> {
        let window = Window { answered: Cell::new(0), room: Notify::new() };
        let Stream { send, frames, .. } = &mut self.stream;
        let (start, before) = (Instant::now(), thread_cpu()?);
        let sending = window.send(send, plan, set);
        let receiving = async {
            let mut answered = 0;
            while answered < plan.requests {
                let mut weights = 0;
                while let Some(frame) = frames.buffered()? {
                    let place = place(answered, set.len());
                    check(frame, place)?;
                    weights += set.get(place).map_or(0, |request| request.weight.into());
                    answered += 1;
                }
                if weights > 0 {
                    window.give(weights);
                } else {
                    frames.fill().await?;
                }
            }
            Ok(())
        };
        let both = async { tokio::try_join!(sending, receiving) };
        let done = timeout(SLICE_WAIT, both).await;
        done.map_err(|_| Failure::quic("replaying", "not done in time"))??;
        let loader_cpu = thread_cpu()?.saturating_sub(before);
        Ok(Outcome { wall: start.elapsed(), loader_cpu })
    }

    /// Sends one request, waits for its answer, and again; the times in nanoseconds, sorted.
    ///
    /// - `answered`: whether the frame is the answer to this request.
    ///
    /// # Errors
    /// As [`Line::replay`].
    pub async fn round_trips(
        &mut self,
        count: usize,
        request: &Encoded,
        answered: impl Fn(Frame) -> Result<(), Failure>,
    ) -> Result<Vec<u64>, Failure> {
        let mut samples = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            self.stream.write(request.frame.clone()).await?;
            let answer = loop {
                match self.stream.frames.buffered()? {
                    Some(frame) => break frame,
                    None => self.stream.frames.fill().await?,
                }
            };
            answered(answer)?;
            samples.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        samples.sort_unstable();
        Ok(samples)
    }
}

/// What has been answered, in weights.
struct Window {
    answered: Cell<u64>,
    room: Notify,
}

impl Window {
    fn give(&self, weights: u64) {
        self.answered.set(self.answered.get() + weights);
        self.room.notify_one();
    }

    /// Sends whatever there is room for, in one call each time.
    async fn send(
        &self,
        stream: &mut SendStream,
        plan: Plan,
        set: &[Encoded],
    ) -> Result<(), Failure> {
        let (mut sent, mut weights) = (0, 0);
        let mut due: Vec<Bytes> = Vec::new();
        while sent < plan.requests {
            let answered = self.answered.get();
            while sent < plan.requests {
                let Some(request) = set.get(place(sent, set.len())) else { break };
                let weight = u64::from(request.weight);
                // What is larger than the window goes alone.
                if weights > answered && weights + weight > answered + plan.inflight {
                    break;
                }
                due.push(request.frame.clone());
                sent += 1;
                weights += weight;
            }
            if due.is_empty() {
                self.room.notified().await;
                continue;
            }
            let written = stream.write_all_chunks(&mut due).await;
            written.map_err(|error| Failure::quic("sending requests", error))?;
            due.clear();
        }
        Ok(())
    }
}

/// Which request of a set is sent as this one.
const fn place(number: u64, places: usize) -> usize {
    (number % places as u64) as usize
}

/// Checks that a frame acknowledges the request of this correlation.
///
/// # Errors
/// It answers another one, or says no.
pub fn check(frame: Frame, correlation: usize) -> Result<(), Failure> {
    if usize::try_from(frame.correlation) != Ok(correlation) {
        return Err(Failure::unexpected("correlation", frame.correlation, correlation));
    }
    answer_of::<ProduceRequest>(frame).map(drop)
}
