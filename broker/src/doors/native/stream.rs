//! One stream of a connection: its two halves, what has arrived, and what runs.
//!
//! Invariants
//! - What is read is what the session asks for: nothing while it is blocked.
//! - Answers are polled only while their stream has room for replies, so that what waits for a
//!   client that does not read is bounded.
//!
//! Absent on purpose: frames and their meaning.

use super::convert::records::acknowledged;
use super::dispatch::{Answer, Answering, Submitted};
use super::lanes::Lanes;
use super::session::{Session, StreamNumber, Ticket};
use crate::api::Durability;
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::StreamRole;
use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, Stream as _};
use quinn::{ConnectionError, ReadError, RecvStream, SendStream, WriteError};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Chunks of one read. A chunk is what one packet brought, so this is up to a quarter of a
/// stream's window.
const READ_CHUNKS_MAX: usize = 64;

/// Bytes of a frame that are taken in before room for the whole of it is asked for: a length that
/// lies costs its sender as much as it costs us.
const FRAME_BYTES_ON_TRUST: usize = 64 * 1024;

/// A sender inside a frame.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    /// Since then.
    pub since: Instant,
    /// So many bytes have come.
    pub bytes: u64,
}

/// Why a stream is over.
#[derive(Debug)]
pub enum Ended {
    /// The client has said all and heard all.
    Finished,
    /// The client has broken it off.
    Abandoned,
    /// A test has planned that an answer is lost.
    AnswerLost,
    /// The connection is gone.
    Lost(ConnectionError),
}

/// A request that runs; the ticket is taken when it is answered.
type Running = Pin<Box<dyn Future<Output = (Ticket, Answer)> + Send>>;

/// One stream.
pub struct Stream {
    /// Our half.
    pub send: SendStream,
    recv: RecvStream,
    /// What has arrived and is not taken.
    pub buffer: BytesMut,
    /// Bytes that the frame in the buffer lacks; `None` while nothing is to be read.
    pub missing_bytes: Option<usize>,
    /// How fast the frame in the buffer comes.
    pub pace: Option<Paced>,
    /// Produces, each in the order of its partition.
    pub acks: Lanes<(TopicId, i32), (Ticket, Submitted)>,
    running: FuturesUnordered<Running>,
    /// The client says nothing more.
    pub has_ended: bool,
    is_answer_lost: bool,
    is_ranked: bool,
    durability: Durability,
}

impl Stream {
    /// A stream that the client has opened.
    pub fn new(send: SendStream, recv: RecvStream, durability: Durability) -> Self {
        Self {
            send,
            recv,
            buffer: BytesMut::new(),
            missing_bytes: None,
            pace: None,
            acks: Lanes::default(),
            running: FuturesUnordered::new(),
            has_ended: false,
            is_answer_lost: false,
            is_ranked: false,
            durability,
        }
    }

    /// Starts a request, behind those that were started before.
    pub fn start(&mut self, ticket: Ticket, answering: Answering) {
        self.running.push(Box::pin(async move { (ticket, answering.await) }));
    }

    /// Looks at the pace inside of a frame, after requests have been taken, or have not.
    pub fn measure(&mut self, has_taken: bool) {
        let is_inside_frame = self.missing_bytes.is_some() && !self.buffer.is_empty();
        self.pace = match self.pace {
            _ if !is_inside_frame => None,
            Some(pace) if !has_taken => Some(pace),
            _ => Some(Paced { since: Instant::now(), bytes: 0 }),
        };
    }

    /// Hands in the answers that are there. Returns whether there were any.
    pub fn poll_answers(
        &mut self,
        task: &mut Context<'_>,
        number: StreamNumber,
        session: &mut Session,
    ) -> bool {
        let mut has_moved = false;
        while session.has_room(number)
            && let Poll::Ready(Some((ticket, answer))) = Pin::new(&mut self.running).poll_next(task)
        {
            has_moved = true;
            match answer {
                Some(reply) => session.reply(ticket, &reply),
                None => self.is_answer_lost = true,
            }
        }
        if session.has_room(number) {
            let (durability, is_answer_lost) = (self.durability, &mut self.is_answer_lost);
            let outcome = |(_, submitted): &mut (Ticket, Submitted)| match poll_submitted(
                submitted, durability, task,
            ) {
                Poll::Ready(answer) => Some(answer),
                Poll::Pending => None,
            };
            self.acks.drain(outcome, |(ticket, _), answer| {
                has_moved = true;
                match answer {
                    Some(reply) => session.reply(ticket, &reply),
                    None => *is_answer_lost = true,
                }
            });
        }
        has_moved
    }

    /// Writes and reads what can be without waiting. Returns whether anything was.
    ///
    /// Errors: the stream is over.
    pub fn poll_io(
        &mut self,
        task: &mut Context<'_>,
        number: StreamNumber,
        session: &mut Session,
    ) -> Result<bool, Ended> {
        if self.is_answer_lost {
            return Err(Ended::AnswerLost);
        }
        self.rank(session.role(number));
        let mut has_moved = self.poll_write(task, number, session)?;
        if self.missing_bytes.is_some() && !self.has_ended {
            has_moved |= self.poll_read(task)?;
        }
        if !has_moved && session.is_quiet(number) {
            if self.has_ended && session.closing().is_none() {
                // It is finished already where the client has stopped it.
                let _ = self.send.finish();
                return Err(Ended::Finished);
            }
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            if let Some(outgoing) = session.outgoing(number) {
                outgoing.release();
            }
        }
        Ok(has_moved)
    }

    /// Acks and answers leave before record batches.
    fn rank(&mut self, role: Option<StreamRole>) {
        let priority = match role {
            Some(StreamRole::Control) => 2,
            Some(StreamRole::Data) => 1,
            _ => 0,
        };
        if role.is_some() && !self.is_ranked {
            self.is_ranked = true;
            // A stream that is gone has no rank.
            let _ = self.send.set_priority(priority);
        }
    }

    fn poll_write(
        &mut self,
        task: &mut Context<'_>,
        number: StreamNumber,
        session: &mut Session,
    ) -> Result<bool, Ended> {
        let Some(outgoing) = session.outgoing(number) else { return Ok(false) };
        let mut has_moved = false;
        while !outgoing.is_empty() {
            let written = pin!(self.send.write_chunks(outgoing.front())).poll(task);
            match written {
                Poll::Ready(Ok(written)) => outgoing.took(written.chunks, written.bytes),
                Poll::Ready(Err(WriteError::ConnectionLost(error))) => {
                    return Err(Ended::Lost(error));
                }
                Poll::Ready(Err(_)) => return Err(Ended::Abandoned),
                Poll::Pending => break,
            }
            has_moved = true;
        }
        Ok(has_moved)
    }

    fn poll_read(&mut self, task: &mut Context<'_>) -> Result<bool, Ended> {
        let mut chunks = [const { Bytes::new() }; READ_CHUNKS_MAX];
        let read = pin!(self.recv.read_chunks(&mut chunks)).poll(task);
        let count = match read {
            Poll::Ready(Ok(Some(count))) => count,
            Poll::Ready(Ok(None)) => {
                self.has_ended = true;
                return Ok(true);
            }
            Poll::Ready(Err(ReadError::ConnectionLost(error))) => return Err(Ended::Lost(error)),
            Poll::Ready(Err(_)) => return Err(Ended::Abandoned),
            Poll::Pending => return Ok(false),
        };
        let chunks = chunks.get(..count).unwrap_or_default();
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        let missing = self.missing_bytes.unwrap_or(0);
        let is_trusted = self.buffer.len() >= FRAME_BYTES_ON_TRUST;
        let needed = if is_trusted { missing } else { missing.min(FRAME_BYTES_ON_TRUST) };
        self.buffer.reserve(bytes.max(needed));
        for chunk in chunks {
            self.buffer.extend_from_slice(chunk);
        }
        if let Some(pace) = &mut self.pace {
            pace.bytes = pace.bytes.saturating_add(bytes as u64);
        }
        Ok(true)
    }
}

fn poll_submitted(
    submitted: &mut Submitted,
    durability: Durability,
    task: &mut Context<'_>,
) -> Poll<Answer> {
    match submitted {
        Submitted::Pending(ack) => ack
            .poll_wait(task)
            .map(|outcome| outcome.map(|outcome| acknowledged(outcome, durability))),
        Submitted::Planned(answering) => answering.as_mut().poll(task),
    }
}
