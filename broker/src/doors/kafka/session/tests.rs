//! Scripts of one connection: what goes in, what comes out, in which order.

use super::*;
use bateau_protocol::kafka::api::Message;
use bateau_protocol::kafka::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use bateau_protocol::kafka::api::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use bateau_protocol::kafka::api::metadata::{MetadataRequest, MetadataResponse};
use bateau_protocol::kafka::api::produce::{ProduceRequest, ProduceResponse};
use bateau_protocol::kafka::{
    ErrorCode, RequestHeader, decode_response, encode_request, encode_response,
};

const LIMITS: SessionLimits = SessionLimits {
    frame_bytes_max: 1_000,
    requests_inflight_max: 4,
    inflight_bytes_max: 2_000,
    reply_bytes_max: 500,
};

/// A session, what has arrived for it, and what it has sent.
struct Script {
    session: KafkaSession,
    buffer: BytesMut,
    sent: BytesMut,
}

impl Script {
    fn new() -> Self {
        Self { session: KafkaSession::new(LIMITS), buffer: BytesMut::new(), sent: BytesMut::new() }
    }

    fn arrives(&mut self, bytes: &[u8]) -> &mut Self {
        self.buffer.extend_from_slice(bytes);
        self
    }

    fn receive(&mut self) -> Received {
        self.session.receive(&mut self.buffer)
    }

    /// The next request, which has to be there.
    #[track_caller]
    fn request(&mut self) -> Incoming {
        match self.receive() {
            Received::Request(incoming) => incoming,
            other => panic!("a request expected, found {other:?}"),
        }
    }

    fn answer(&mut self, number: RequestNumber, response: impl Into<Response>) {
        self.session.reply(number, Reply::Answer(response.into()));
    }

    /// Correlation ids of the answers that have left since the last call.
    fn correlation_ids(&mut self) -> Vec<i32> {
        self.frames()
            .iter()
            .map(|frame| i32::from_be_bytes(*frame.first_chunk().unwrap()))
            .collect()
    }

    fn frames(&mut self) -> Vec<Bytes> {
        let outgoing = self.session.outgoing();
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let count = outgoing.fill(&mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        outgoing.wrote(bytes.len());
        self.sent.extend_from_slice(&bytes);
        let mut frames = Vec::new();
        while let Ok(Split::Frame(frame)) = Framing::default().split(&mut self.sent) {
            frames.push(frame);
        }
        assert!(self.sent.is_empty(), "answers leave as whole frames");
        frames
    }
}

fn bytes<M: Message>(message: &M, api_version: i16, correlation_id: i32) -> Vec<u8> {
    let client_id = Some(Text::from_static("script"));
    let header = RequestHeader { api_key: 0, api_version, correlation_id, client_id };
    encode_request(&header, message).expect("the version has the message").to_bytes().to_vec()
}

fn produce(correlation_id: i32, acks: i16) -> Vec<u8> {
    bytes(&ProduceRequest { acks, ..ProduceRequest::default() }, 9, correlation_id)
}

fn heartbeat(correlation_id: i32) -> Vec<u8> {
    bytes(&HeartbeatRequest::default(), 4, correlation_id)
}

/// A frame with nothing but a header.
fn header_only(api_key: i16, api_version: i16) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 10];
    frame.extend(api_key.to_be_bytes());
    frame.extend(api_version.to_be_bytes());
    frame.extend(77_i32.to_be_bytes());
    frame.extend((-1_i16).to_be_bytes());
    frame
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_whole_at_its_last_byte() {
    let mut script = Script::new();
    let request = heartbeat(1);
    let (last, start) = request.split_last().unwrap();
    for byte in start {
        script.arrives(&[*byte]);
        assert!(matches!(script.receive(), Received::Incomplete { missing_bytes: 1.. }));
    }
    script.arrives(&[*last]);
    let incoming = script.request();
    assert_eq!(incoming.version, 4);
    assert_eq!(incoming.client_id.as_deref(), Some("script"));
    assert!(matches!(incoming.request, Request::Heartbeat(_)));
    assert_eq!(script.receive(), Received::Incomplete { missing_bytes: 4 });
}

#[test]
fn answers_leave_in_request_order_in_whatever_order_they_are_made() {
    let mut script = Script::new();
    for id in 1..=4 {
        script.arrives(&produce(id, -1));
    }
    let numbers: Vec<RequestNumber> = (1..=4).map(|_| script.request().number).collect();
    script.answer(numbers[3], ProduceResponse::default());
    script.answer(numbers[1], ProduceResponse::default());
    assert_eq!(script.correlation_ids(), [0; 0]);
    script.answer(numbers[0], ProduceResponse::default());
    assert_eq!(script.correlation_ids(), [1, 2]);
    script.answer(numbers[2], ProduceResponse::default());
    assert_eq!(script.correlation_ids(), [3, 4]);
    assert_eq!(script.session.memory(&script.buffer), 0);
}

#[test]
fn only_produces_run_side_by_side() {
    let mut script = Script::new();
    script.arrives(&produce(1, -1)).arrives(&produce(2, -1)).arrives(&heartbeat(3));
    script.arrives(&produce(4, -1));
    let (first, second) = (script.request().number, script.request().number);
    assert_eq!(script.receive(), Received::Blocked);
    script.answer(first, ProduceResponse::default());
    assert_eq!(script.receive(), Received::Blocked);
    script.answer(second, ProduceResponse::default());
    let alone = script.request();
    assert!(matches!(alone.request, Request::Heartbeat(_)));
    assert_eq!(script.receive(), Received::Blocked, "nothing overtakes it either");
    script.answer(alone.number, HeartbeatResponse::default());
    let last = script.request().number;
    script.answer(last, ProduceResponse::default());
    assert_eq!(script.correlation_ids(), [1, 2, 3, 4]);
}

#[test]
fn a_length_beyond_the_limit_ends_the_session_after_what_came_before() {
    for length in [1_001_i32, i32::MAX, -1, i32::MIN] {
        let mut script = Script::new();
        script.arrives(&produce(1, -1)).arrives(&length.to_be_bytes());
        let before = script.request().number;
        assert_eq!(script.receive(), Received::Ended, "{length}");
        assert!(matches!(script.session.end(), Some(SessionEnd::Frame(_))));
        assert!(!script.session.is_finished());
        script.answer(before, ProduceResponse::default());
        assert_eq!(script.correlation_ids(), [1]);
        assert!(script.session.is_finished());
    }
}

#[test]
fn a_request_that_nobody_serves_ends_the_session() {
    let unserved = [
        (9_999, 0),
        (-1, 0),
        (4, 0),
        (71, 0),
        // Advertised, for the sake of old clients, and refused.
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 14),
        (1, 3),
        (1, 19),
        (12, -1),
        (12, 5),
    ];
    for (key, version) in unserved {
        let mut script = Script::new();
        script.arrives(&header_only(key, version)).arrives(&heartbeat(1));
        assert_eq!(script.receive(), Received::Ended, "key {key} version {version}");
        assert!(matches!(script.session.end(), Some(SessionEnd::Request(_))));
        assert!(script.session.is_finished(), "nothing is answered");
        assert_eq!(script.correlation_ids(), [0; 0]);
    }
}

#[test]
fn a_body_that_is_cut_short_ends_the_session() {
    let whole = heartbeat(1);
    for kept in 0..whole.len() - LENGTH_BYTES {
        let mut script = Script::new();
        script.arrives(&u32::try_from(kept).unwrap().to_be_bytes());
        script.arrives(&whole[LENGTH_BYTES..LENGTH_BYTES + kept]);
        assert_eq!(script.receive(), Received::Ended, "{kept} bytes of {}", whole.len());
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_the_form_of_version_0() {
    let mut script = Script::new();
    script.arrives(&produce(1, -1));
    script.arrives(&header_only(18, 99)).arrives(&produce(2, -1));
    let (first, second) = (script.request().number, script.request().number);
    script.answer(second, ProduceResponse::default());
    assert_eq!(script.correlation_ids(), [0; 0], "it waits for its turn");
    script.answer(first, ProduceResponse::default());
    let frames = script.frames();
    assert_eq!(frames.len(), 3);
    let (id, answer) = decode_response::<ApiVersionsResponse>(frames[1].clone(), 0).unwrap();
    assert_eq!(id, 77);
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(answer.api_keys, ApiVersionsResponse::of_table().api_keys);
    assert_eq!(answer.api_keys.len(), ApiKey::ALL.len());
}

#[test]
fn version_3_of_api_versions_is_answered_behind_a_plain_header() {
    let mut script = Script::new();
    script.arrives(&bytes(&ApiVersionsRequest::default(), 3, 5));
    let number = script.request().number;
    script.answer(number, ApiVersionsResponse::of_table());
    let frame = script.frames().remove(0);
    let alone = encode_response(&ApiVersionsResponse::of_table(), 3, 5).unwrap().to_bytes();
    assert_eq!(frame, alone.slice(LENGTH_BYTES..));
    assert_eq!(frame[4..6], [0, 0], "the error follows the correlation id: no tagged fields");
}

#[test]
fn a_producer_that_wants_no_answer_gets_none_and_holds_nobody_up() {
    let mut script = Script::new();
    script.arrives(&produce(1, 0)).arrives(&produce(2, -1));
    let (silent, other) = (script.request().number, script.request().number);
    script.answer(other, ProduceResponse::default());
    assert_eq!(script.correlation_ids(), [0; 0]);
    script.session.reply(silent, Reply::Silence);
    assert_eq!(script.correlation_ids(), [2]);
    assert!(script.session.end().is_none());
}

#[test]
fn a_refused_request_without_answer_closes_what_comes_behind_it() {
    let mut script = Script::new();
    for (id, acks) in [(1, -1), (2, 0), (3, -1)] {
        script.arrives(&produce(id, acks));
    }
    let numbers: Vec<RequestNumber> = (0..3).map(|_| script.request().number).collect();
    script.arrives(&heartbeat(4));
    assert_eq!(script.receive(), Received::Blocked);
    script.session.reply(numbers[1], Reply::Close);
    script.answer(numbers[2], ProduceResponse::default());
    assert!(script.session.end().is_none(), "the first one is still to be answered");
    script.answer(numbers[0], ProduceResponse::default());
    assert_eq!(script.correlation_ids(), [1]);
    assert_eq!(script.session.end(), Some(&SessionEnd::SilentRefusal));
    assert!(script.session.is_finished());
    assert_eq!(script.receive(), Received::Ended);
    script.answer(numbers[2], ProduceResponse::default());
    assert_eq!(script.correlation_ids(), [0; 0], "a late answer is forgotten");
}

#[test]
fn no_more_than_the_limit_of_requests_is_in_flight() {
    let mut script = Script::new();
    for id in 1..=6 {
        script.arrives(&produce(id, -1));
    }
    let numbers: Vec<RequestNumber> = (0..4).map(|_| script.request().number).collect();
    assert_eq!(script.receive(), Received::Blocked);
    // An answer that waits for an earlier one does not make room.
    script.answer(numbers[1], ProduceResponse::default());
    assert_eq!(script.receive(), Received::Blocked);
    script.answer(numbers[0], ProduceResponse::default());
    script.request();
    script.request();
    assert_eq!(script.receive(), Received::Blocked);
}

#[test]
fn bytes_in_flight_are_limited_but_never_stop_a_request_that_is_alone() {
    let large = |id| {
        let transactional_id = Some(Text::from("x".repeat(900)));
        bytes(&ProduceRequest { transactional_id, ..ProduceRequest::default() }, 9, id)
    };
    let mut script = Script::new();
    script.arrives(&large(1)).arrives(&large(2)).arrives(&large(3));
    let first = script.request().number;
    script.request();
    assert_eq!(script.receive(), Received::Blocked, "three of them pass 2,000 bytes");
    assert!(script.session.memory(&script.buffer) > LIMITS.inflight_bytes_max);
    script.answer(first, ProduceResponse::default());
    script.request();
    let tight = SessionLimits { inflight_bytes_max: 10, ..LIMITS };
    let mut alone = Script { session: KafkaSession::new(tight), ..Script::new() };
    alone.arrives(&large(1));
    alone.request();
}

#[test]
fn a_client_that_does_not_read_its_answers_is_not_read_either() {
    let mut script = Script::new();
    script.arrives(&bytes(&MetadataRequest::default(), 12, 1)).arrives(&heartbeat(2));
    let number = script.request().number;
    let cluster_id = Some(Text::from("c".repeat(600)));
    script.answer(number, MetadataResponse { cluster_id, ..MetadataResponse::default() });
    assert_eq!(script.receive(), Received::Blocked);
    assert_eq!(script.correlation_ids(), [1]);
    script.request();
}

#[test]
fn a_session_that_stops_answers_what_runs_and_starts_nothing() {
    let mut script = Script::new();
    script.arrives(&produce(1, -1)).arrives(&heartbeat(2)).arrives(&produce(3, -1));
    let running = script.request().number;
    assert_eq!(script.receive(), Received::Blocked);
    script.session.stop();
    assert_eq!(script.receive(), Received::Ended);
    assert!(!script.session.is_finished());
    script.answer(running, ProduceResponse::default());
    assert_eq!(script.correlation_ids(), [1]);
    assert!(script.session.is_finished());
}

#[test]
fn a_length_that_lies_is_charged_for_what_has_come() {
    let limits = SessionLimits { frame_bytes_max: 1 << 24, ..LIMITS };
    let mut script = Script { session: KafkaSession::new(limits), ..Script::new() };
    script.arrives(&(1_i32 << 24).to_be_bytes()).arrives(&[0; 96]);
    assert_eq!(script.session.memory(&script.buffer), 100);
    script.arrives(&vec![0; FRAME_BYTES_ON_TRUST]);
    assert_eq!(script.session.memory(&script.buffer), (1 << 24) + LENGTH_BYTES);
}
