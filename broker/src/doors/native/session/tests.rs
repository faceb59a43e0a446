//! Sessions by script.

use super::*;
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::frame::{HEADER_BYTES, encode};
use bateau_protocol::native::{
    Auth, Credit, FetchRequest, HeartbeatRequest, HeartbeatResponse, Kind, MetadataRequest,
    OpenStream, ProduceRequest, ProduceResponse, StatusRequest, StatusResponse,
};
use bateau_protocol::wire::Chain;
use bytes::{BufMut, Bytes};

const LIMITS: SessionLimits = SessionLimits {
    frame_bytes_max: 100_000,
    hello_bytes_max: 1_000,
    requests_inflight_max: 4,
    inflight_bytes_max: 150_000,
    reply_bytes_max: 40_000,
    data_streams_max: 2,
    bulk_streams_max: 1,
    subscriptions_max: 10,
    credit_bytes_max: 1_000,
    fetch_bytes_max: 1_000,
};

fn fresh(versions: (i16, i16)) -> Session {
    let welcome = Welcome { node_id: 7, ..Welcome::default() };
    Session::new(SessionSettings { versions, limits: LIMITS, welcome })
}

fn hello(version_min: i16, version_max: i16) -> Hello {
    Hello { version_min, version_max, ..Hello::default() }
}

fn bytes(request: impl Into<Request>, correlation: u32) -> BytesMut {
    let frame = request.into().encode(correlation, 1).expect("version 1 says it all");
    BytesMut::from(&frame.to_bytes()[..])
}

/// What a session has said on a stream, with correlations.
fn said(session: &mut Session, stream: StreamNumber) -> Vec<(u32, Reply)> {
    let mut buffer = session.outgoing(stream).map(Outgoing::take).unwrap_or_default();
    let mut replies = Vec::new();
    while let Ok(Split::Frame(frame)) = Frame::split(&mut buffer, usize::MAX) {
        let correlation = frame.correlation;
        replies.push((correlation, Reply::decode(frame, 1).expect("what we say is sound")));
    }
    replies
}

fn code(reply: &Reply) -> ErrorCode {
    match reply {
        Reply::Error(refusal) => refusal.code,
        _ => ErrorCode::NONE,
    }
}

/// A session that has said Welcome.
fn welcomed() -> Session {
    let mut session = fresh((1, 1));
    assert_eq!(session.open_stream(), Some(StreamNumber::CONTROL));
    let mut buffer = bytes(hello(1, 1), 1);
    let received = session.receive(StreamNumber::CONTROL, &mut buffer);
    assert!(matches!(received, Received::Incomplete { .. }), "{received:?}");
    assert!(matches!(said(&mut session, StreamNumber::CONTROL)[..], [(1, Reply::Welcome(_))]));
    session
}

fn opened(session: &mut Session, role: StreamRole) -> StreamNumber {
    let number = session.open_stream().expect("there is room for another");
    let mut buffer = bytes(OpenStream { role: role.number() }, 1);
    let received = session.receive(number, &mut buffer);
    assert!(matches!(received, Received::Incomplete { .. }), "{received:?}");
    assert!(matches!(said(session, number)[..], [(1, Reply::StreamOpened(_))]));
    number
}

fn produce(records: usize) -> ProduceRequest {
    let records = Chain::from(Bytes::from(vec![7; records]));
    let topic_id = TopicId([1; 16]);
    ProduceRequest { topic_id, partition: 0, timeout_ms: 1_000, records }
}

/// Takes one request out of a buffer.
fn taken(session: &mut Session, stream: StreamNumber, buffer: &mut BytesMut) -> (Ticket, Request) {
    match session.receive(stream, buffer) {
        Received::Request(ticket, request) => (ticket, request),
        other => panic!("a request was expected, not {other:?}"),
    }
}

fn closed(session: &Session) -> Option<CloseCode> {
    session.closing().map(|closing| closing.code)
}

#[test]
fn a_client_and_a_broker_of_different_age_meet_at_the_highest_common_version() {
    for (ours, theirs, agreed) in
        [((1, 1), (1, 9), 1), ((1, 3), (2, 2), 2), ((2, 5), (1, 3), 3), ((1, 3), (1, 1), 1)]
    {
        let mut session = fresh(ours);
        session.open_stream();
        let mut buffer = bytes(hello(theirs.0, theirs.1), 5);
        let _ = session.receive(StreamNumber::CONTROL, &mut buffer);
        let said = said(&mut session, StreamNumber::CONTROL);
        let [(5, Reply::Welcome(welcome))] = &said[..] else { panic!("{said:?}") };
        assert_eq!((welcome.version, welcome.node_id), (agreed, 7));
        assert_eq!(welcome.limits.credit_bytes_max, 1_000);
        assert_eq!(session.version(), Some(agreed));
    }
}

#[test]
fn without_a_common_version_the_broker_names_its_own_and_closes() {
    // The last one lies about its own range.
    for theirs in [(2, 9), (-3, 0), (9, 1)] {
        let mut session = fresh((1, 1));
        session.open_stream();
        let mut buffer = bytes(hello(theirs.0, theirs.1), 5);
        let received = session.receive(StreamNumber::CONTROL, &mut buffer);
        assert!(matches!(received, Received::Ended));
        let said = said(&mut session, StreamNumber::CONTROL);
        let [(5, Reply::Error(refusal))] = &said[..] else { panic!("{said:?}") };
        assert_eq!(refusal.code, ErrorCode::UNSUPPORTED_VERSION);
        assert!(refusal.message.as_str().contains("versions 1 to 1"), "{refusal:?}");
        let closing = session.closing().expect("it closes");
        assert!(closing.code == CloseCode::VERSION && closing.is_patient);
    }
}

#[test]
fn who_proves_itself_by_what_nobody_knows_is_refused() {
    let mut session = fresh((1, 1));
    session.open_stream();
    let auth = Auth { mechanism: "token".into(), credentials: Bytes::from_static(b"secret") };
    let mut buffer = bytes(Hello { auth, ..hello(1, 1) }, 5);
    let _ = session.receive(StreamNumber::CONTROL, &mut buffer);
    assert_eq!(closed(&session), Some(CloseCode::UNAUTHENTICATED));
    let said = said(&mut session, StreamNumber::CONTROL);
    assert_eq!(code(&said[0].1), ErrorCode::UNSUPPORTED_SASL_MECHANISM);
}

#[test]
fn nothing_but_hello_comes_first() {
    let mut session = fresh((1, 1));
    session.open_stream();
    let mut buffer = bytes(StatusRequest {}, 1);
    let _ = session.receive(StreamNumber::CONTROL, &mut buffer);
    assert_eq!(closed(&session), Some(CloseCode::PROTOCOL));

    let mut session = fresh((1, 1));
    session.open_stream();
    assert_eq!(session.open_stream(), None, "a second stream before Welcome");
    assert_eq!(closed(&session), Some(CloseCode::PROTOCOL));

    let mut session = welcomed();
    let number = session.open_stream().expect("room");
    let _ = session.receive(number, &mut bytes(produce(10), 1));
    assert_eq!(closed(&session), Some(CloseCode::PROTOCOL));

    let mut session = welcomed();
    let number = session.open_stream().expect("room");
    let _ = session.receive(number, &mut bytes(OpenStream { role: 0 }, 1));
    assert_eq!(closed(&session), Some(CloseCode::PROTOCOL), "there is one control stream");
}

#[test]
fn a_frame_may_be_cut_anywhere_and_several_may_come_at_once() {
    let all = [bytes(StatusRequest {}, 1), bytes(MetadataRequest::default(), 2)].concat();
    for cut in 0..all.len() {
        let mut session = welcomed();
        let mut buffer = BytesMut::new();
        let mut found = Vec::new();
        for part in [&all[..cut], &all[cut..]] {
            buffer.extend_from_slice(part);
            loop {
                match session.receive(StreamNumber::CONTROL, &mut buffer) {
                    Received::Request(ticket, request) => found.push((ticket, request.name())),
                    Received::Incomplete { missing_bytes } => {
                        assert!(missing_bytes > 0);
                        break;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        let names: Vec<_> =
            found.iter().map(|(ticket, name)| (ticket.correlation(), *name)).collect();
        assert_eq!(names, [(1, "Status"), (2, "Metadata")]);
        // Answers in whatever order they are made.
        for (ticket, _) in found.into_iter().rev() {
            session.reply(ticket, &Reply::Status(StatusResponse::default()));
        }
        let order: Vec<u32> =
            said(&mut session, StreamNumber::CONTROL).iter().map(|(number, _)| *number).collect();
        assert_eq!(order, [2, 1]);
        assert_eq!(session.inflight_bytes(), 0);
        assert!(session.is_all_quiet());
    }
}

#[test]
fn what_is_not_understood_is_answered_and_disturbs_nothing() {
    let mut session = welcomed();
    let unknown = encode(Kind(0x3fff), 8, 1, &StatusRequest {}).expect("it fits").to_bytes();
    let mut buffer = BytesMut::from(&unknown[..]);
    // A body of one byte, which is no metadata request.
    buffer.put_slice(&[7, 0, 0, 0, 0x10, 0, 9, 0, 0, 0, 0x55]);
    buffer.unsplit(bytes(produce(1), 10));
    buffer.unsplit(bytes(hello(1, 1), 11));
    buffer.unsplit(bytes(OpenStream { role: 1 }, 12));
    buffer.unsplit(bytes(StatusRequest {}, 13));
    let (ticket, request) = taken(&mut session, StreamNumber::CONTROL, &mut buffer);
    assert_eq!((ticket.correlation(), request.name()), (13, "Status"));
    let said = said(&mut session, StreamNumber::CONTROL);
    let codes: Vec<_> = said.iter().map(|(number, reply)| (*number, code(reply))).collect();
    assert_eq!(
        codes,
        [
            (8, ErrorCode::UNKNOWN_KIND),
            (9, ErrorCode::INVALID_REQUEST),
            (10, ErrorCode::WRONG_STREAM),
            (11, ErrorCode::INVALID_REQUEST),
            (12, ErrorCode::INVALID_REQUEST),
        ]
    );
    assert_eq!(closed(&session), None);
}

#[test]
fn a_length_that_no_frame_has_ends_the_connection_before_a_byte_of_it_came() {
    for (length, expected) in [
        (100_001_u32, CloseCode::FRAME_TOO_LONG),
        (u32::MAX, CloseCode::FRAME_TOO_LONG),
        (5, CloseCode::PROTOCOL),
        (0, CloseCode::PROTOCOL),
    ] {
        let mut session = welcomed();
        let mut buffer = BytesMut::from(&length.to_le_bytes()[..]);
        let received = session.receive(StreamNumber::CONTROL, &mut buffer);
        assert!(matches!(received, Received::Ended));
        assert_eq!(closed(&session), Some(expected));
        assert_eq!(session.inflight_bytes(), 0, "nothing is reserved for it");
    }
    // Before Welcome less is believed.
    let mut session = fresh((1, 1));
    session.open_stream();
    let mut buffer = BytesMut::from(&1_001_u32.to_le_bytes()[..]);
    let _ = session.receive(StreamNumber::CONTROL, &mut buffer);
    assert_eq!(closed(&session), Some(CloseCode::FRAME_TOO_LONG));
}

#[test]
fn so_many_requests_are_in_flight_and_no_more() {
    let mut session = welcomed();
    let mut buffer = BytesMut::new();
    for number in 0..5 {
        buffer.unsplit(bytes(HeartbeatRequest::default(), number));
    }
    let mut tickets: Vec<_> =
        (0..4).map(|_| taken(&mut session, StreamNumber::CONTROL, &mut buffer).0).collect();
    let data = session.open_stream().expect("there is room for another");
    let received = session.receive(StreamNumber::CONTROL, &mut buffer);
    assert!(matches!(received, Received::Blocked), "{received:?}");
    assert!(matches!(session.receive(data, &mut bytes(produce(1), 1)), Received::Blocked));
    let first = tickets.remove(0);
    session.reply(first, &Reply::Heartbeat(HeartbeatResponse {}));
    let (last, _) = taken(&mut session, StreamNumber::CONTROL, &mut buffer);
    assert_eq!(last.correlation(), 4);
}

#[test]
fn bytes_are_reserved_once_a_length_is_known_and_free_when_it_is_answered_or_gone() {
    let mut session = welcomed();
    let [first, second] = [(); 2].map(|()| opened(&mut session, StreamRole::Data));
    let whole = bytes(produce(90_000), 1);
    let mut early = BytesMut::from(&whole[..4]);
    assert!(matches!(session.receive(first, &mut early), Received::Incomplete { .. }));
    assert_eq!(session.inflight_bytes(), whole.len());
    // The second one does not fit beside it, and its bytes are not asked for.
    let mut late = BytesMut::from(&whole[..4]);
    assert!(matches!(session.receive(second, &mut late), Received::Blocked));
    early.extend_from_slice(&whole[4..]);
    let (ticket, _) = taken(&mut session, first, &mut early);
    assert!(matches!(session.receive(second, &mut late), Received::Blocked));
    session.reply(ticket, &Reply::Produce(ProduceResponse::default()));
    assert_eq!(session.inflight_bytes(), 0);
    assert!(matches!(session.receive(second, &mut late), Received::Incomplete { .. }));
    assert_eq!(session.inflight_bytes(), whole.len());
    session.forget_stream(second);
    assert_eq!(session.inflight_bytes(), 0);
}

#[test]
fn an_abandoned_stream_leaves_nothing_behind_and_its_answers_go_nowhere() {
    let mut session = welcomed();
    let data = opened(&mut session, StreamRole::Data);
    let mut buffer = bytes(produce(1_000), 1);
    let (ticket, _) = taken(&mut session, data, &mut buffer);
    buffer.extend_from_slice(&bytes(produce(1_000), 2)[..100]);
    assert!(matches!(session.receive(data, &mut buffer), Received::Incomplete { .. }));
    session.forget_stream(data);
    assert_eq!((session.inflight_bytes(), session.requests), (0, 0));
    session.reply(ticket, &Reply::Produce(ProduceResponse::default()));
    assert_eq!((session.inflight_bytes(), session.requests), (0, 0));
    assert!(matches!(session.receive(data, &mut buffer), Received::Ended));
    // Its place is free again.
    opened(&mut session, StreamRole::Data);
    opened(&mut session, StreamRole::Data);
}

#[test]
fn a_stream_whose_replies_are_not_read_is_not_read_and_the_others_are() {
    let mut session = welcomed();
    let bulk = opened(&mut session, StreamRole::Bulk);
    let (ticket, _) = taken(&mut session, bulk, &mut bytes(FetchRequest::default(), 1));
    let message = "x".repeat(LIMITS.reply_bytes_max / 4);
    session.reply(ticket, &Reply::Error(error(ErrorCode::NONE, message)));
    assert!(!session.has_room(bulk));
    let mut buffer = bytes(FetchRequest::default(), 2);
    assert!(matches!(session.receive(bulk, &mut buffer), Received::Blocked));
    let _ = taken(&mut session, StreamNumber::CONTROL, &mut bytes(HeartbeatRequest::default(), 1));
    said(&mut session, bulk);
    let _ = taken(&mut session, bulk, &mut buffer);
}

#[test]
fn there_are_so_many_streams_of_each_role() {
    let mut session = welcomed();
    opened(&mut session, StreamRole::Bulk);
    let number = session.open_stream().expect("room for data");
    let mut buffer = bytes(OpenStream { role: StreamRole::Bulk.number() }, 1);
    let _ = session.receive(number, &mut buffer);
    assert_eq!(closed(&session), Some(CloseCode::TOO_MANY_STREAMS));

    let mut session = welcomed();
    for _ in 0..3 {
        session.open_stream().expect("roles are not known yet");
    }
    assert_eq!(session.open_stream(), None);
    assert_eq!(closed(&session), Some(CloseCode::TOO_MANY_STREAMS));
}

#[test]
fn a_drain_says_so_and_refuses_what_comes_behind_it() {
    let mut session = welcomed();
    let running = taken(&mut session, StreamNumber::CONTROL, &mut bytes(StatusRequest {}, 1)).0;
    session.drain();
    session.drain();
    let mut late = bytes(StatusRequest {}, 2);
    let received = session.receive(StreamNumber::CONTROL, &mut late);
    assert!(matches!(received, Received::Incomplete { .. }));
    assert!(!session.is_all_quiet());
    session.reply(running, &Reply::Status(StatusResponse::default()));
    let said = said(&mut session, StreamNumber::CONTROL);
    let [(0, Reply::GoAway(_)), (2, Reply::Error(refusal)), (1, Reply::Status(_))] = &said[..]
    else {
        panic!("{said:?}")
    };
    assert!(refusal.code == ErrorCode::GOING_AWAY && refusal.is_retriable);
    assert!(session.is_all_quiet());
}

#[test]
fn a_signal_needs_no_answer_and_holds_no_place() {
    let mut session = welcomed();
    let bulk = opened(&mut session, StreamRole::Bulk);
    let mut buffer = BytesMut::new();
    for number in 0..100 {
        buffer.unsplit(bytes(Credit { credit_bytes: u64::from(number) }, number));
    }
    for number in 0..100 {
        let received = session.receive(bulk, &mut buffer);
        let Received::Signal(correlation, Request::Credit(credit)) = received else {
            panic!("{received:?}")
        };
        assert_eq!((correlation, credit.credit_bytes), (number, u64::from(number)));
    }
    assert_eq!((session.inflight_bytes(), session.requests), (0, 0));
    assert!(HEADER_BYTES < bytes(Credit { credit_bytes: 1 }, 1).len());
}
