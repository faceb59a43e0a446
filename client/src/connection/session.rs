//! One stream without its socket: which answer belongs to which request, bytes in, frames out.
//!
//! ```text
//!   request, signal ──> outbound parts ──> the stream
//!   the stream ──> receive ──> next_event ──> Answer { tag } | Push { correlation }
//! ```
//!
//! Invariants
//! - A request has one answer: a second one, one of another kind, or one that nobody asked for is a
//!   [`Violation`], and the connection is over.
//! - A frame's length is checked before its bytes are waited for.
//!
//! Absent on purpose: deadlines, which are of those who wait.

use bateau_protocol::native::{ErrorReply, Frame, FrameError, Kind, Split, frame};
use bateau_protocol::wire::error::{DecodeError, EncodeError};
use bateau_protocol::wire::{Chain, Wire};
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use thiserror::Error;

/// What a broker must not say.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Violation {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("the error behind kind {kind} cannot be read: {error}")]
    Error { kind: Kind, error: DecodeError },
    #[error("an answer of kind {kind} to correlation {correlation}, which nobody waits for")]
    Unasked { kind: Kind, correlation: u32 },
    #[error("an answer of kind {found} to correlation {correlation}, expected {expected}")]
    WrongKind { correlation: u32, found: Kind, expected: Kind },
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Event<T> {
    /// The answer to the request that was tagged so: its body, or an error in its place.
    Answer { tag: T, outcome: Result<Bytes, ErrorReply> },
    /// Pushed by the broker.
    Push { kind: Kind, correlation: u32, body: Bytes },
}

#[derive(Debug)]
struct Pending<T> {
    kind: Kind,
    tag: T,
}

/// The requests of one stream that wait for their answers, and its bytes in both directions.
#[derive(Debug)]
pub(crate) struct Session<T> {
    version: i16,
    frame_bytes_max: usize,
    next: u32,
    pending: HashMap<u32, Pending<T>>,
    inbound: BytesMut,
    outbound: Vec<Bytes>,
}

impl<T> Session<T> {
    /// A session at a version of the protocol.
    ///
    /// - `frame_bytes_max`: limit of an incoming frame, in bytes behind its length.
    pub fn new(version: i16, frame_bytes_max: usize) -> Self {
        Self {
            version,
            frame_bytes_max,
            next: 0,
            pending: HashMap::new(),
            inbound: BytesMut::new(),
            outbound: Vec::new(),
        }
    }

    /// Sends a request whose answer comes back with `tag`. Returns its correlation.
    pub fn request<M: Wire>(
        &mut self,
        kind: Kind,
        message: &M,
        tag: T,
    ) -> Result<u32, EncodeError> {
        self.try_request(kind, message, tag).map_err(|(error, _)| error)
    }

    /// As [`Self::request`]; a message that cannot be said gives the tag back.
    pub fn try_request<M: Wire>(
        &mut self,
        kind: Kind,
        message: &M,
        tag: T,
    ) -> Result<u32, (EncodeError, T)> {
        let correlation = self.next_correlation();
        match frame::encode(kind, correlation, self.version, message) {
            Ok(chain) => self.push(chain),
            Err(error) => return Err((error, tag)),
        }
        self.next = correlation.wrapping_add(1);
        self.pending.insert(correlation, Pending { kind, tag });
        Ok(correlation)
    }

    /// Sends a message that has no answer, with a correlation of its own. Returns it.
    pub fn signal<M: Wire>(&mut self, kind: Kind, message: &M) -> Result<u32, EncodeError> {
        let correlation = self.next_correlation();
        self.signal_as(kind, correlation, message)?;
        self.next = correlation.wrapping_add(1);
        Ok(correlation)
    }

    /// Sends a message that has no answer, with the correlation of what it is about.
    pub fn signal_as<M: Wire>(
        &mut self,
        kind: Kind,
        correlation: u32,
        message: &M,
    ) -> Result<(), EncodeError> {
        self.push(frame::encode(kind, correlation, self.version, message)?);
        Ok(())
    }

    /// Whether answers are to come.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The number of the next request, which no waiting one has. Subscriptions outlive their
    /// requests, so numbers are not used again before 2^32 others were.
    pub fn next_correlation(&self) -> u32 {
        let mut correlation = self.next;
        while self.pending.contains_key(&correlation) {
            correlation = correlation.wrapping_add(1);
        }
        correlation
    }

    fn push(&mut self, chain: Chain) {
        self.outbound.extend(chain.into_parts());
    }

    /// Moves what is to be sent to the end of `parts`.
    pub fn take_outbound(&mut self, parts: &mut Vec<Bytes>) {
        parts.append(&mut self.outbound);
    }

    /// Bytes have come.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.inbound.is_empty() {
            // A frame of known length gets its room at once, bounded by the limit.
            let length = Frame::length(bytes).unwrap_or(0).min(self.frame_bytes_max);
            self.inbound.reserve(length.saturating_add(frame::LENGTH_BYTES).max(bytes.len()));
        }
        self.inbound.extend_from_slice(bytes);
    }

    /// The next thing that came, if all of it is there.
    pub fn next_event(&mut self) -> Result<Option<Event<T>>, Violation> {
        let frame = match Frame::split(&mut self.inbound, self.frame_bytes_max)? {
            Split::Frame(frame) => frame,
            Split::Incomplete { missing_bytes } => {
                if !self.inbound.is_empty() {
                    self.inbound.reserve(missing_bytes);
                }
                return Ok(None);
            }
        };
        let Frame { kind, correlation, body } = frame;
        if kind.0 & Kind::ANSWER == 0 {
            return Ok(Some(Event::Push { kind, correlation, body }));
        }
        let Some(pending) = self.pending.remove(&correlation) else {
            return Err(Violation::Unasked { kind, correlation });
        };
        let outcome = if kind == pending.kind.answer() {
            Ok(body)
        } else if kind == Kind::ERROR {
            let reply = frame::decode(body, self.version);
            Err(reply.map_err(|error| Violation::Error { kind: pending.kind, error })?)
        } else {
            let expected = pending.kind.answer();
            return Err(Violation::WrongKind { correlation, found: kind, expected });
        };
        Ok(Some(Event::Answer { tag: pending.tag, outcome }))
    }

    /// Gives up all requests: their tags.
    pub fn abandon(&mut self) -> Vec<T> {
        self.outbound.clear();
        self.pending.drain().map(|(_, pending)| pending.tag).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::native::{
        Call, ProducerIdRequest, ProducerIdResponse, Reply, StatusRequest, StatusResponse,
    };
    use bateau_protocol::wire::ErrorCode;
    use proptest::prelude::*;

    const LIMIT: usize = 1_000;

    fn answer(reply: impl Into<Reply>, correlation: u32) -> Bytes {
        reply.into().encode(correlation, 1).expect("it fits").to_bytes()
    }

    fn asked(session: &mut Session<&'static str>) -> (u32, u32) {
        let status = session.request(StatusRequest::KIND, &StatusRequest {}, "status");
        let producer = session.request(ProducerIdRequest::KIND, &ProducerIdRequest {}, "id");
        (status.expect("it fits"), producer.expect("it fits"))
    }

    #[test]
    fn answers_find_their_requests_in_any_order() {
        let mut session = Session::new(1, LIMIT);
        let (status, id) = asked(&mut session);
        session.receive(&answer(ProducerIdResponse::default(), id));
        session.receive(&answer(StatusResponse::default(), status));
        for expected in ["id", "status"] {
            let event = session.next_event().expect("no violation");
            assert!(
                matches!(event, Some(Event::Answer { tag, outcome: Ok(_) }) if tag == expected)
            );
        }
        assert!(session.next_event().expect("no violation").is_none());
    }

    #[test]
    fn an_error_answers_any_request_and_the_stream_goes_on() {
        let mut session = Session::new(1, LIMIT);
        let (status, id) = asked(&mut session);
        let error = ErrorReply { code: ErrorCode::GOING_AWAY, ..ErrorReply::default() };
        session.receive(&answer(Reply::Error(error), status));
        session.receive(&answer(ProducerIdResponse::default(), id));
        let first = session.next_event().expect("no violation");
        assert!(matches!(first, Some(Event::Answer { tag: "status", outcome: Err(_) })));
        let second = session.next_event().expect("no violation");
        assert!(matches!(second, Some(Event::Answer { tag: "id", outcome: Ok(_) })));
    }

    #[test]
    fn an_answer_that_nobody_asked_for_ends_the_connection() {
        let mut session = Session::new(1, LIMIT);
        let (status, id) = asked(&mut session);
        session.receive(&answer(ProducerIdResponse::default(), status));
        let error = session.next_event().expect_err("a wrong kind");
        assert!(matches!(error, Violation::WrongKind { correlation, .. } if correlation == status));
        session.receive(&answer(ProducerIdResponse::default(), id + 1));
        let error = session.next_event().expect_err("nobody asked");
        assert!(matches!(error, Violation::Unasked { .. }));
    }

    #[test]
    fn a_length_beyond_the_limit_reserves_nothing() {
        let mut session: Session<()> = Session::new(1, LIMIT);
        session.receive(&u32::MAX.to_le_bytes());
        assert!(session.inbound.capacity() < 2 * LIMIT);
        assert!(matches!(session.next_event(), Err(Violation::Frame(FrameError::TooLong { .. }))));
    }

    #[test]
    fn a_connection_that_ends_gives_back_every_tag() {
        let mut session = Session::new(1, LIMIT);
        asked(&mut session);
        let mut tags = session.abandon();
        tags.sort_unstable();
        assert_eq!(tags, ["id", "status"]);
        let mut parts = Vec::new();
        session.take_outbound(&mut parts);
        assert!(parts.is_empty());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut session = Session::new(1, LIMIT);
            asked(&mut session);
            session.receive(&bytes);
            while let Ok(Some(_)) = session.next_event() {}
        }

        #[test]
        fn frames_come_out_however_their_bytes_arrive(
            cuts in prop::collection::vec(1_usize..40, 1..20),
        ) {
            let mut session = Session::new(1, LIMIT);
            let (status, id) = asked(&mut session);
            let mut bytes = answer(StatusResponse::default(), status).to_vec();
            bytes.extend(answer(ProducerIdResponse::default(), id));
            let mut tags = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().copied().chain(std::iter::repeat(7)) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                session.receive(now);
                rest = later;
                while let Some(event) = session.next_event().expect("no violation") {
                    if let Event::Answer { tag, .. } = event {
                        tags.push(tag);
                    }
                }
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(tags, ["status", "id"]);
        }
    }
}
