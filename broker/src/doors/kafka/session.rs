//! One connection's protocol, without a socket: bytes in, requests out; replies in, bytes out.
//!
//! ```text
//!   bytes ──receive──> request 1, request 2, …        at most so many, of at most so many bytes
//!                          │          │
//!   bytes <──outgoing── reply 1 <── reply 2        handed in in any order, sent in request order
//! ```
//!
//! Produces may run side by side: they were submitted one after the other, and only their acks
//! are still out. Every other request starts when all before it are answered, and nothing behind
//! it starts before it is. That is what a client sees of Kafka, which works on one request of a
//! connection at a time.
//!
//! What cannot be answered ends the session: requests before it are still answered, then the
//! connection closes.
//!
//! Absent on purpose: sockets, clocks, tasks, and what a request means.

use crate::doors::outgoing::Outgoing;
use bateau_protocol::kafka::api::api_versions::ApiVersionsResponse;
use bateau_protocol::kafka::framing::LENGTH_BYTES;
use bateau_protocol::kafka::{
    ApiKey, Chain, EncodeError, FrameError, Framing, Request, RequestError, Response, Split, Text,
    decode_request_charged,
};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use thiserror::Error;

/// Bytes of a frame that are taken in before room for the whole of it is asked for: a length that
/// lies costs its sender as much as it costs us.
pub const FRAME_BYTES_ON_TRUST: usize = 64 * 1024;

/// Limits of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// Bytes of a request behind its length.
    pub frame_bytes_max: usize,
    /// Requests in flight.
    pub requests_inflight_max: usize,
    /// Bytes of requests in flight, decoded values included. A single request may pass it.
    pub inflight_bytes_max: usize,
    /// Bytes of replies that wait for the socket, beyond which no request is taken.
    pub reply_bytes_max: usize,
}

/// A request's place among those of its connection, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RequestNumber(u64);

/// A request to be served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Incoming {
    /// To be given back with the reply.
    pub number: RequestNumber,
    /// The version that it came in.
    pub version: i16,
    /// What the client calls itself.
    pub client_id: Option<Text>,
    /// The request.
    pub request: Request,
}

/// What [`KafkaSession::receive`] found in the buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "taken apart at once, and most are requests")]
pub enum Received {
    /// A request that may start now.
    Request(Incoming),
    /// The start of a frame, or nothing.
    Incomplete {
        /// Bytes that are missing, as far as it is known.
        missing_bytes: usize,
    },
    /// Replies have to be made, or to leave, before anything else may start.
    Blocked,
    /// Nothing will be taken any more.
    Ended,
}

/// What became of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "moved once per request")]
pub enum Reply {
    /// An answer.
    Answer(Response),
    /// None: the client asked for none.
    Silence,
    /// None, and the connection closes: the only way to tell a client that asked for none.
    Close,
}

/// Why a session takes no more requests.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SessionEnd {
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that is no request which has an answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// An answer that its version cannot say: a fault of ours.
    #[error(transparent)]
    Answer(#[from] EncodeError),
    /// A request without an answer failed.
    #[error("a request that wants no answer was refused")]
    SilentRefusal,
    /// The node stops, or the client has.
    #[error("nothing more is to be taken")]
    Stopped,
}

/// A request that is not answered yet, or whose answer waits for those before it.
#[derive(Debug)]
struct Slot {
    version: i16,
    correlation_id: i32,
    bytes: usize,
    outcome: Option<Outcome>,
}

#[derive(Debug)]
enum Outcome {
    Bytes(Chain),
    Silence,
    Close(SessionEnd),
}

/// The state of one connection.
#[derive(Debug)]
pub struct KafkaSession {
    framing: Framing,
    limits: SessionLimits,
    slots: VecDeque<Slot>,
    /// Number of the first slot.
    first: u64,
    /// A request that waits for those before it; its slot is the last one.
    held: Option<Incoming>,
    /// Requests that were given out and are not answered, and those of them that are no produces.
    running_count: usize,
    running_alone_count: usize,
    /// Bytes of the slots: requests as they came and as they were decoded.
    inflight_bytes: usize,
    /// Bytes of answers that wait for those before them.
    waiting_bytes: usize,
    outgoing: Outgoing,
    end: Option<SessionEnd>,
}

impl KafkaSession {
    /// A fresh connection.
    pub fn new(limits: SessionLimits) -> Self {
        Self {
            framing: Framing::new(limits.frame_bytes_max),
            limits,
            slots: VecDeque::new(),
            first: 0,
            held: None,
            running_count: 0,
            running_alone_count: 0,
            inflight_bytes: 0,
            waiting_bytes: 0,
            outgoing: Outgoing::default(),
            end: None,
        }
    }

    /// Takes the next request out of `buffer`. To be called until it says something else.
    pub fn receive(&mut self, buffer: &mut BytesMut) -> Received {
        loop {
            if self.end.is_some() {
                return Received::Ended;
            }
            if let Some(held) = self.held.take() {
                return self.start_or_hold(held);
            }
            if !self.has_room(buffer) {
                return Received::Blocked;
            }
            match self.framing.split(buffer) {
                Ok(Split::Frame(frame)) => {
                    if let Some(incoming) = self.open(frame) {
                        return self.start_or_hold(incoming);
                    }
                }
                Ok(Split::Incomplete { missing_bytes }) => {
                    return Received::Incomplete { missing_bytes };
                }
                Err(error) => self.end = Some(error.into()),
            }
        }
    }

    /// Hands a request's reply in; it leaves once those before it have left.
    pub fn reply(&mut self, number: RequestNumber, reply: Reply) {
        let place = number.0.checked_sub(self.first).and_then(|place| usize::try_from(place).ok());
        // A session that was closed by an earlier reply has forgotten what came behind.
        let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) else { return };
        let (is_alone, outcome) = match reply {
            Reply::Answer(response) => {
                let is_alone = response.api() != ApiKey::Produce;
                (
                    is_alone,
                    match response.encode(slot.version, slot.correlation_id) {
                        Ok(chain) => Outcome::Bytes(chain),
                        Err(error) => Outcome::Close(error.into()),
                    },
                )
            }
            // Only produces can ask for no answer.
            Reply::Silence => (false, Outcome::Silence),
            Reply::Close => (false, Outcome::Close(SessionEnd::SilentRefusal)),
        };
        if let Outcome::Bytes(chain) = &outcome {
            self.waiting_bytes += chain.len();
        }
        slot.outcome = Some(outcome);
        self.running_count = self.running_count.saturating_sub(1);
        self.running_alone_count = self.running_alone_count.saturating_sub(usize::from(is_alone));
        self.release_replies();
    }

    /// Takes no more requests; those that were given out may still be answered.
    pub fn stop(&mut self) {
        if self.end.is_none() {
            self.end = Some(SessionEnd::Stopped);
        }
        if self.held.take().is_some()
            && let Some(slot) = self.slots.pop_back()
        {
            self.inflight_bytes = self.inflight_bytes.saturating_sub(slot.bytes);
        }
    }

    /// Reply bytes for the socket.
    pub fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    /// Why no more requests are taken, if so.
    pub fn end(&self) -> Option<&SessionEnd> {
        self.end.as_ref()
    }

    /// Whether nothing is left to be done: the connection can be closed.
    pub fn is_finished(&self) -> bool {
        self.end.is_some() && self.slots.is_empty() && self.outgoing.is_empty()
    }

    /// Memory that the requests in flight and the next one in `buffer` need, in bytes.
    pub fn memory(&self, buffer: &BytesMut) -> usize {
        let next = match self.next_frame_bytes(buffer) {
            Some(frame) if buffer.len() >= frame.min(FRAME_BYTES_ON_TRUST) => frame,
            _ => buffer.len(),
        };
        self.inflight_bytes.saturating_add(next)
    }

    /// The size of the frame that `buffer` begins with, its length included.
    fn next_frame_bytes(&self, buffer: &BytesMut) -> Option<usize> {
        let length = i32::from_be_bytes(*buffer.first_chunk::<LENGTH_BYTES>()?);
        let length = usize::try_from(length).ok()?;
        (length <= self.limits.frame_bytes_max).then_some(length + LENGTH_BYTES)
    }

    fn has_room(&self, buffer: &BytesMut) -> bool {
        let next = self.next_frame_bytes(buffer).unwrap_or(0);
        let inflight_bytes = self.inflight_bytes.saturating_add(next);
        let reply_bytes = self.outgoing.len().saturating_add(self.waiting_bytes);
        reply_bytes < self.limits.reply_bytes_max
            && self.slots.len() < self.limits.requests_inflight_max
            && (self.slots.is_empty() || inflight_bytes <= self.limits.inflight_bytes_max)
    }

    /// Decodes a frame and gives it a slot. `None` where nobody has to be asked for the answer,
    /// or where there is none.
    fn open(&mut self, frame: Bytes) -> Option<Incoming> {
        let frame_bytes = frame.len() + LENGTH_BYTES;
        let number = RequestNumber(self.first.wrapping_add(self.slots.len() as u64));
        match decode_request_charged(frame) {
            Ok((header, request, memory)) => {
                let (version, correlation_id) = (header.api_version, header.correlation_id);
                let bytes = frame_bytes.saturating_add(memory);
                self.inflight_bytes = self.inflight_bytes.saturating_add(bytes);
                self.slots.push_back(Slot { version, correlation_id, bytes, outcome: None });
                Some(Incoming { number, version, client_id: header.client_id, request })
            }
            Err(RequestError::Negotiate { version, correlation_id, .. }) => {
                let outcome = match ApiVersionsResponse::encode_unknown_version(correlation_id) {
                    Ok(chain) => {
                        self.waiting_bytes += chain.len();
                        Outcome::Bytes(chain)
                    }
                    Err(error) => Outcome::Close(error.into()),
                };
                let outcome = Some(outcome);
                self.slots.push_back(Slot { version, correlation_id, bytes: 0, outcome });
                self.release_replies();
                None
            }
            Err(error) => {
                self.end = Some(error.into());
                None
            }
        }
    }

    fn start_or_hold(&mut self, incoming: Incoming) -> Received {
        let is_alone = incoming.request.api() != ApiKey::Produce;
        let is_free =
            if is_alone { self.running_count == 0 } else { self.running_alone_count == 0 };
        if !is_free {
            self.held = Some(incoming);
            return Received::Blocked;
        }
        self.running_count += 1;
        self.running_alone_count += usize::from(is_alone);
        Received::Request(incoming)
    }

    /// Moves the replies that nothing stands before to the outgoing bytes.
    fn release_replies(&mut self) {
        while let Some(outcome) = self.slots.front_mut().and_then(|slot| slot.outcome.take()) {
            let Some(slot) = self.slots.pop_front() else { return };
            self.first = self.first.wrapping_add(1);
            self.inflight_bytes = self.inflight_bytes.saturating_sub(slot.bytes);
            match outcome {
                Outcome::Bytes(chain) => {
                    self.waiting_bytes = self.waiting_bytes.saturating_sub(chain.len());
                    self.outgoing.push(chain);
                }
                Outcome::Silence => {}
                Outcome::Close(end) => return self.close(end),
            }
        }
    }

    /// Forgets everything that is not on its way yet.
    fn close(&mut self, end: SessionEnd) {
        self.end = Some(end);
        self.held = None;
        self.first = self.first.wrapping_add(self.slots.len() as u64);
        self.slots.clear();
        (self.running_count, self.running_alone_count) = (0, 0);
        (self.inflight_bytes, self.waiting_bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests;
