//! One connection's protocol, without QUIC: bytes of streams in, requests out; replies in, bytes
//! of streams out.
//!
//! ```text
//!   stream bytes ──receive──> Hello, OpenStream: answered here
//!                        ├──> request   a ticket to reply with      at most so many, so many bytes
//!                        ├──> signal    no answer
//!                        └──> unknown, malformed, wrong stream: an error, answered here
//!   stream bytes <──outgoing── reply(ticket), push(stream, correlation)
//! ```
//!
//! Invariants
//! - A frame's bytes are reserved before they are waited for, as soon as its length is there: what
//!   has been reserved always comes to its end, so streams cannot starve each other for good.
//! - Every request is answered exactly once, or its stream is gone.
//! - Nothing but `Hello` is taken before `Welcome`, and nothing new after a drain has begun.
//!
//! Absent on purpose: QUIC, clocks, tasks, credits, the order of acks, and what a request means.

use crate::doors::outgoing::Outgoing;
use bateau_protocol::native::frame::{HEADER_BYTES, LENGTH_BYTES};
use bateau_protocol::native::{
    CloseCode, ConnectionLimits, ErrorReply, Frame, FrameError, GoAway, Hello, MessageError, Reply,
    Request, Split, StreamOpened, StreamRole, VERSION_OF_HELLO, Welcome, common_version,
};
use bateau_protocol::wire::{ErrorCode, Text};
use bytes::BytesMut;
use std::collections::BTreeMap;

/// Limits of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionLimits {
    /// Bytes of a frame behind its length.
    pub frame_bytes_max: usize,
    /// The same before `Welcome`.
    pub hello_bytes_max: usize,
    /// Requests in flight.
    pub requests_inflight_max: usize,
    /// Bytes of requests in flight, decoded values and reserved ones included. A single request
    /// may pass it.
    pub inflight_bytes_max: usize,
    /// Bytes of replies that wait for the client, over all streams; each has an equal share,
    /// beyond which it is not read, and of which a single reply may make more.
    pub reply_bytes_max: usize,
    /// Streams of the role.
    pub data_streams_max: usize,
    /// Streams of the role.
    pub bulk_streams_max: usize,
    /// Subscriptions.
    pub subscriptions_max: usize,
    /// What all of them may have outstanding.
    pub credit_bytes_max: u64,
    /// Soft limit of one fetch.
    pub fetch_bytes_max: usize,
}

/// What a session is started with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionSettings {
    /// Versions that are spoken, lowest and highest.
    pub versions: (i16, i16),
    /// Its limits.
    pub limits: SessionLimits,
    /// What `Welcome` says of the node; version, features and limits are filled in.
    pub welcome: Welcome,
}

/// A stream of the connection, by its place in the order in which they were opened, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StreamNumber(pub u64);

impl StreamNumber {
    /// The first stream.
    pub const CONTROL: Self = Self(0);
}

/// A request that is to be answered.
#[derive(Debug)]
#[must_use = "every request is answered"]
pub struct Ticket {
    stream: StreamNumber,
    correlation: u32,
    bytes: usize,
}

impl Ticket {
    /// The correlation that the client chose.
    pub const fn correlation(&self) -> u32 {
        self.correlation
    }
}

/// What [`Session::receive`] found in a stream's buffer.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "taken apart at once, and most are requests")]
pub enum Received {
    /// A request to serve.
    Request(Ticket, Request),
    /// A message without an answer, with its correlation.
    Signal(u32, Request),
    /// The start of a frame, or nothing.
    Incomplete {
        /// Bytes that are missing, as far as it is known.
        missing_bytes: usize,
    },
    /// Replies have to be made, or to leave, before the stream is read further.
    Blocked,
    /// Nothing will be taken from this stream any more.
    Ended,
}

/// Why the connection is to be closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closing {
    /// The code that the client is told.
    pub code: CloseCode,
    /// The same in words.
    pub reason: String,
    /// Whether what is on its way to the client is to arrive first.
    pub is_patient: bool,
}

#[derive(Debug, Default)]
struct Stream {
    role: Option<StreamRole>,
    outgoing: Outgoing,
    /// Bytes of the frame that is being received, once its length is known.
    reserved_bytes: Option<usize>,
    /// Requests that are not answered, and their bytes.
    requests: usize,
    request_bytes: usize,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Session {
    settings: SessionSettings,
    version: Option<i16>,
    client_name: Text,
    streams: BTreeMap<StreamNumber, Stream>,
    streams_opened: u64,
    requests: usize,
    inflight_bytes: usize,
    is_draining: bool,
    closing: Option<Closing>,
}

impl Session {
    /// A fresh connection.
    pub fn new(settings: SessionSettings) -> Self {
        Self {
            settings,
            version: None,
            client_name: Text::EMPTY,
            streams: BTreeMap::new(),
            streams_opened: 0,
            requests: 0,
            inflight_bytes: 0,
            is_draining: false,
            closing: None,
        }
    }

    /// The client has opened another stream. `None` where the connection is to be closed for it.
    pub fn open_stream(&mut self) -> Option<StreamNumber> {
        let number = StreamNumber(self.streams_opened);
        let limits = &self.settings.limits;
        let streams_max = 1 + limits.data_streams_max + limits.bulk_streams_max;
        if number != StreamNumber::CONTROL && self.version.is_none() {
            self.close(CloseCode::PROTOCOL, "a second stream before Welcome".to_owned());
            return None;
        }
        if self.streams.len() >= streams_max {
            let reason = format!("{} streams are open, which is the limit", self.streams.len());
            self.close(CloseCode::TOO_MANY_STREAMS, reason);
            return None;
        }
        self.streams_opened += 1;
        let role = (number == StreamNumber::CONTROL).then_some(StreamRole::Control);
        self.streams.insert(number, Stream { role, ..Stream::default() });
        Some(number)
    }

    /// A stream is gone: what its requests took is free, and their answers will be dropped.
    pub fn forget_stream(&mut self, number: StreamNumber) {
        if let Some(stream) = self.streams.remove(&number) {
            let bytes = stream.request_bytes.saturating_add(stream.reserved_bytes.unwrap_or(0));
            self.inflight_bytes = self.inflight_bytes.saturating_sub(bytes);
            self.requests = self.requests.saturating_sub(stream.requests);
        }
    }

    /// Takes the next message out of a stream's buffer. To be called until it says something else
    /// than a request or a signal.
    pub fn receive(&mut self, number: StreamNumber, buffer: &mut BytesMut) -> Received {
        loop {
            if self.closing.is_some() {
                return Received::Ended;
            }
            let Some(stream) = self.streams.get(&number) else { return Received::Ended };
            let is_full = stream.outgoing.len() >= self.reply_bytes_per_stream()
                || self.requests >= self.settings.limits.requests_inflight_max;
            if is_full || !self.reserve(number, buffer) {
                return Received::Blocked;
            }
            match Frame::split(buffer, self.frame_bytes_max()) {
                Ok(Split::Frame(frame)) => {
                    if let Some(received) = self.open(number, frame) {
                        return received;
                    }
                }
                Ok(Split::Incomplete { missing_bytes }) => {
                    return Received::Incomplete { missing_bytes };
                }
                Err(error) => {
                    let code = match error {
                        FrameError::TooShort { .. } => CloseCode::PROTOCOL,
                        FrameError::TooLong { .. } => CloseCode::FRAME_TOO_LONG,
                    };
                    self.close(code, error.to_string());
                }
            }
        }
    }

    /// Reserves the frame that `buffer` begins with, if there is room.
    fn reserve(&mut self, number: StreamNumber, buffer: &BytesMut) -> bool {
        let Some(bytes) = self.next_frame_bytes(number, buffer) else { return true };
        let inflight_bytes = self.inflight_bytes.saturating_add(bytes);
        if self.inflight_bytes > 0 && inflight_bytes > self.settings.limits.inflight_bytes_max {
            return false;
        }
        self.inflight_bytes = inflight_bytes;
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.reserved_bytes = Some(bytes);
        }
        true
    }

    /// The size of the frame that `buffer` begins with, where it is legal and not reserved yet.
    fn next_frame_bytes(&self, number: StreamNumber, buffer: &BytesMut) -> Option<usize> {
        let stream = self.streams.get(&number)?;
        if stream.reserved_bytes.is_some() {
            return None;
        }
        let length = Frame::length(buffer)?;
        // Any other length ends the connection.
        let is_legal = (HEADER_BYTES - LENGTH_BYTES..=self.frame_bytes_max()).contains(&length);
        is_legal.then_some(length + LENGTH_BYTES)
    }

    /// Memory that requests in flight and the next one of a stream need, in bytes.
    pub fn memory(&self, number: StreamNumber, buffer: &BytesMut) -> usize {
        let next = self.next_frame_bytes(number, buffer).unwrap_or(0);
        self.inflight_bytes.saturating_add(next)
    }

    /// Memory that requests in flight need, in bytes.
    pub const fn inflight_bytes(&self) -> usize {
        self.inflight_bytes
    }

    /// Bytes of a frame behind its length, at this point of the connection.
    fn frame_bytes_max(&self) -> usize {
        let limits = &self.settings.limits;
        match self.version {
            Some(_) => limits.frame_bytes_max,
            None => limits.hello_bytes_max.min(limits.frame_bytes_max),
        }
    }

    fn reply_bytes_per_stream(&self) -> usize {
        let limits = &self.settings.limits;
        limits.reply_bytes_max / (1 + limits.data_streams_max + limits.bulk_streams_max)
    }

    /// Decodes a frame. `None` where it has been answered here.
    fn open(&mut self, number: StreamNumber, frame: Frame) -> Option<Received> {
        let frame_bytes = self.streams.get_mut(&number)?.reserved_bytes.take().unwrap_or(0);
        let (kind, correlation) = (frame.kind, frame.correlation);
        let version = self.version.unwrap_or(VERSION_OF_HELLO);
        let decoded = Request::decode(frame, version);
        let memory = decoded.as_ref().map_or(0, |(_, memory)| *memory);
        self.inflight_bytes = self.inflight_bytes.saturating_add(memory);
        let bytes = frame_bytes.saturating_add(memory);
        let role = self.streams.get(&number).and_then(|stream| stream.role);
        let request = match decoded.map(|(request, _)| request) {
            Ok(Request::Hello(hello)) if self.version.is_none() => {
                self.greet(correlation, hello);
                return self.done(bytes);
            }
            Ok(Request::OpenStream(open)) if role.is_none() => {
                self.assign(number, correlation, open.role);
                return self.done(bytes);
            }
            _ if self.version.is_none() || role.is_none() => {
                let reason = format!("the first frame of a stream has kind {kind}");
                self.close(CloseCode::PROTOCOL, reason);
                return self.done(bytes);
            }
            Ok(request) => request,
            Err(error) => {
                self.refuse(number, correlation, message_error(&error));
                return self.done(bytes);
            }
        };
        if let Some(refusal) = self.refusal(&request, role) {
            self.refuse(number, correlation, refusal);
            return self.done(bytes);
        }
        if is_signal(&request) {
            let _: Option<Received> = self.done(bytes);
            return Some(Received::Signal(correlation, request));
        }
        self.requests += 1;
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.requests += 1;
            stream.request_bytes = stream.request_bytes.saturating_add(bytes);
        }
        Some(Received::Request(Ticket { stream: number, correlation, bytes }, request))
    }

    /// Frees what a frame that needs no answer any more took.
    fn done(&mut self, bytes: usize) -> Option<Received> {
        self.inflight_bytes = self.inflight_bytes.saturating_sub(bytes);
        None
    }

    /// What stands against a message that came on a stream of this role.
    fn refusal(&self, request: &Request, role: Option<StreamRole>) -> Option<ErrorReply> {
        if matches!(request, Request::Hello(_) | Request::OpenStream(_)) {
            let message = format!("{} comes first on a stream, and once", request.name());
            return Some(error(ErrorCode::INVALID_REQUEST, message));
        }
        if role != Some(request.role()) {
            let (name, right) = (request.name(), request.role());
            let message = format!("{name} belongs on a {right:?} stream");
            return Some(error(ErrorCode::WRONG_STREAM, message));
        }
        let is_late = self.is_draining && !matches!(request, Request::Credit(_));
        is_late.then(going_away)
    }

    /// Agrees on a version, or says why there is none.
    fn greet(&mut self, correlation: u32, hello: Hello) {
        let ours = self.settings.versions;
        let theirs = (hello.version_min, hello.version_max);
        let mechanism = hello.auth.mechanism.as_str();
        let refusal = match common_version(ours, theirs) {
            _ if !mechanism.is_empty() => {
                let message = format!("the mechanism {mechanism:?} is not known here");
                let code = ErrorCode::UNSUPPORTED_SASL_MECHANISM;
                Err((error(code, message), CloseCode::UNAUTHENTICATED))
            }
            Some(version) => Ok(version),
            None => {
                let message = format!(
                    "this broker speaks versions {} to {}, the client {} to {}",
                    ours.0, ours.1, theirs.0, theirs.1
                );
                Err((error(ErrorCode::UNSUPPORTED_VERSION, message), CloseCode::VERSION))
            }
        };
        match refusal {
            Ok(version) => {
                let limits = wire_limits(&self.settings.limits);
                let welcome = Welcome {
                    version,
                    features: hello.features & self.settings.welcome.features,
                    limits,
                    ..self.settings.welcome.clone()
                };
                self.push(StreamNumber::CONTROL, correlation, &Reply::Welcome(welcome));
                self.version = Some(version);
                self.client_name = hello.client_name;
            }
            Err((refusal, code)) => {
                let reason = refusal.message.as_str().to_owned();
                self.refuse(StreamNumber::CONTROL, correlation, refusal);
                self.closing = Some(Closing { code, reason, is_patient: true });
            }
        }
    }

    /// Gives a stream its role.
    fn assign(&mut self, number: StreamNumber, correlation: u32, wire: i8) {
        let Some(role) = StreamRole::from_number(wire) else {
            return self.close(CloseCode::PROTOCOL, format!("streams have no role {wire}"));
        };
        let limits = &self.settings.limits;
        let streams_max = match role {
            StreamRole::Data => limits.data_streams_max,
            _ => limits.bulk_streams_max,
        };
        let others = self.streams.values().filter(|stream| stream.role == Some(role)).count();
        if others >= streams_max {
            let reason = format!("{others} {role:?} streams are open, which is the limit");
            return self.close(CloseCode::TOO_MANY_STREAMS, reason);
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.role = Some(role);
        }
        self.push(number, correlation, &Reply::StreamOpened(StreamOpened {}));
    }

    /// Answers a request.
    pub fn reply(&mut self, ticket: Ticket, reply: &Reply) {
        // What a stream that is gone had is free already.
        if let Some(stream) = self.streams.get_mut(&ticket.stream) {
            stream.requests = stream.requests.saturating_sub(1);
            stream.request_bytes = stream.request_bytes.saturating_sub(ticket.bytes);
            self.requests = self.requests.saturating_sub(1);
            self.inflight_bytes = self.inflight_bytes.saturating_sub(ticket.bytes);
        }
        self.push(ticket.stream, ticket.correlation, reply);
    }

    /// Says something unasked, or in answer to what has no ticket.
    pub fn push(&mut self, number: StreamNumber, correlation: u32, reply: &Reply) {
        let version = match reply {
            Reply::Welcome(_) => VERSION_OF_HELLO,
            _ => self.version.unwrap_or(VERSION_OF_HELLO),
        };
        let Some(stream) = self.streams.get_mut(&number) else { return };
        match reply.encode(correlation, version) {
            Ok(frame) => stream.outgoing.push(frame),
            Err(error) => {
                let reason = format!("an answer of kind {} cannot be said: {error}", reply.kind());
                self.close(CloseCode::INTERNAL, reason);
            }
        }
    }

    /// Answers with an error what has no ticket.
    pub fn refuse(&mut self, number: StreamNumber, correlation: u32, refusal: ErrorReply) {
        self.push(number, correlation, &Reply::Error(refusal));
    }

    /// Reply bytes of a stream.
    pub fn outgoing(&mut self, number: StreamNumber) -> Option<&mut Outgoing> {
        self.streams.get_mut(&number).map(|stream| &mut stream.outgoing)
    }

    /// Whether a stream has room for more replies.
    pub fn has_room(&self, number: StreamNumber) -> bool {
        let share = self.reply_bytes_per_stream();
        self.streams.get(&number).is_some_and(|stream| stream.outgoing.len() < share)
    }

    /// The role of a stream, once it has one.
    pub fn role(&self, number: StreamNumber) -> Option<StreamRole> {
        self.streams.get(&number)?.role
    }

    /// Whether a stream has no request that is not answered, and no reply that waits.
    pub fn is_quiet(&self, number: StreamNumber) -> bool {
        let stream = self.streams.get(&number);
        stream.is_none_or(|stream| stream.requests == 0 && stream.outgoing.is_empty())
    }

    /// Whether all streams are.
    pub fn is_all_quiet(&self) -> bool {
        self.streams.keys().all(|number| self.is_quiet(*number))
    }

    /// The version that both sides speak, once `Welcome` has been said.
    pub const fn version(&self) -> Option<i16> {
        self.version
    }

    /// What the client calls itself.
    pub const fn client_name(&self) -> &Text {
        &self.client_name
    }

    /// Takes no more requests and says so; those that run may still be answered.
    pub fn drain(&mut self) {
        if self.is_draining {
            return;
        }
        self.is_draining = true;
        if self.version.is_some() {
            let reason = Text::from_static("the broker stops");
            self.push(StreamNumber::CONTROL, 0, &Reply::GoAway(GoAway { reason }));
        }
    }

    /// Closes the connection at once.
    pub fn close(&mut self, code: CloseCode, reason: String) {
        if self.closing.is_none() {
            self.closing = Some(Closing { code, reason, is_patient: false });
        }
    }

    /// Why the connection is to be closed, if it is.
    pub const fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }
}

/// Messages that have no answer.
const fn is_signal(request: &Request) -> bool {
    matches!(
        request,
        Request::Watch(_) | Request::Unwatch(_) | Request::Credit(_) | Request::Unsubscribe(_)
    )
}

/// The answer to a request that failed as a whole.
pub fn error(code: ErrorCode, message: impl Into<Text>) -> ErrorReply {
    let is_retriable = code.is_retriable();
    ErrorReply { code, message: message.into(), is_retriable, ..ErrorReply::default() }
}

/// The answer to a request that came too late.
pub fn going_away() -> ErrorReply {
    error(ErrorCode::GOING_AWAY, Text::from_static("the broker stops and takes no more requests"))
}

fn message_error(found: &MessageError) -> ErrorReply {
    let code = match found {
        MessageError::UnknownKind { .. } => ErrorCode::UNKNOWN_KIND,
        MessageError::Malformed(_) => ErrorCode::INVALID_REQUEST,
    };
    error(code, found.to_string())
}

fn wire_limits(limits: &SessionLimits) -> ConnectionLimits {
    let narrow = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
    ConnectionLimits {
        frame_bytes_max: narrow(limits.frame_bytes_max),
        requests_inflight_max: narrow(limits.requests_inflight_max),
        inflight_bytes_max: narrow(limits.inflight_bytes_max),
        data_streams_max: narrow(limits.data_streams_max),
        bulk_streams_max: narrow(limits.bulk_streams_max),
        subscriptions_max: narrow(limits.subscriptions_max),
        credit_bytes_max: i64::try_from(limits.credit_bytes_max).unwrap_or(i64::MAX),
        fetch_bytes_max: narrow(limits.fetch_bytes_max),
    }
}

#[cfg(test)]
mod tests;
