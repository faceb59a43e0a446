//! Whole frames: who is answered, who is refused, and what is tolerated. Also what the goldens of
//! real clients, kept beside each API, are checked with.

use super::super::api::{Message, visit_all};
use super::super::header::header_reader;
use super::super::{
    ApiKey, RequestError, RequestHeader, decode_request, decode_request_charged, decode_response,
    encode_request, encode_response,
};
use super::{Compared, Sample, Source, Visitor, served};
use bytes::Bytes;

/// Bytes out of hexadecimal digits; spaces are for the reader.
pub(crate) fn hex(digits: &str) -> Bytes {
    let digits: Vec<u32> = digits.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// Decodes a request that a client sent, given without its length, and checks that it encodes to
/// the same bytes.
pub(crate) fn golden<M: Message>(digits: &str) -> (RequestHeader, M) {
    let frame = hex(digits);
    let (header, request) = decode_request(frame.clone()).expect("a client has sent it");
    assert_eq!(request.api().info(), M::INFO);
    let mut reader = header_reader(frame.clone());
    let mut start = RequestHeader::decode_start(&mut reader).expect("it was decoded above");
    start.decode_rest(M::INFO, &mut reader).expect("it was decoded above");
    let message = M::read(&mut reader).expect("it was decoded above");
    assert_eq!(reader.remaining(), 0);
    let again = encode_request(&header, &message).expect("it fits the version it came at");
    assert_eq!(again.to_bytes().slice(4..), frame);
    (header, message)
}

/// A request as its plain type, whatever it is decoded into otherwise; `None` for an error.
pub(crate) fn read_plain<M: Message>(frame: Bytes) -> Option<M> {
    let mut reader = header_reader(frame);
    let mut header = RequestHeader::decode_start(&mut reader).ok()?;
    header.decode_rest(M::INFO, &mut reader).ok()?;
    M::read(&mut reader).ok()
}

/// A frame without its length, of a default request.
pub(super) fn plain_frame<A: Compared>(version: i16) -> Vec<u8> {
    let header = RequestHeader { api_version: version, ..RequestHeader::default() };
    let frame = encode_request(&header, &A::PlainRequest::default());
    frame.expect("defaults have an encoding").to_bytes().slice(4..).to_vec()
}

struct Each<F>(F);

impl<F: FnMut(ApiKey, i16, Vec<u8>)> Visitor for Each<F> {
    fn visit<A: Compared>(&mut self) {
        let key = ApiKey::from_number(A::INFO.key).expect("it is in the table");
        for version in served(&A::INFO) {
            (self.0)(key, version, plain_frame::<A>(version));
        }
    }
}

/// Calls `check` with every API and version, and the frame of a default request.
pub(super) fn each_frame(check: impl FnMut(ApiKey, i16, Vec<u8>)) {
    visit_all(&mut Each(check));
}

fn frame_of(key: i16, version: i16, rest: &[u8]) -> Bytes {
    let mut frame = Vec::from(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(77_i32.to_be_bytes());
    frame.extend(rest);
    frame.into()
}

#[test]
fn an_api_that_is_not_in_the_table_is_refused_by_its_number() {
    for key in (-1..100).chain([i16::MIN, i16::MAX]) {
        if ApiKey::from_number(key).is_none() {
            let error = RequestError::UnknownApi { key, version: 3 };
            assert_eq!(decode_request(frame_of(key, 3, &[])), Err(error));
        }
    }
}

#[test]
fn unknown_versions_are_refused_and_only_the_negotiating_api_may_be_answered() {
    let mut answered = 0;
    for key in ApiKey::ALL {
        let info = key.info();
        for version in [info.version_min - 1, info.version_max + 1, i16::MAX] {
            // The body is nonsense, and nobody looks at it.
            match decode_request(frame_of(info.key, version, &[0xff; 9])) {
                Err(RequestError::Negotiate { correlation_id: 77, version: found, .. }) => {
                    assert!(info.negotiates);
                    assert_eq!(found, version);
                    answered += 1;
                }
                Err(RequestError::UnknownVersion { api, version: found, min, max }) => {
                    assert_eq!((api, found), (*key, version));
                    assert_eq!((min, max), (info.version_min, info.version_max));
                }
                other => panic!("{key} v{version}: {other:?}"),
            }
        }
    }
    assert_eq!(answered, 3);
}

#[test]
fn versions_are_advertised_but_not_served_only_where_the_table_says_so() {
    for key in ApiKey::ALL {
        let info = key.info();
        for version in info.version_min..=info.version_max {
            let refused = matches!(
                decode_request(frame_of(info.key, version, &[0xff; 9])),
                Err(RequestError::NotServed { .. })
            );
            assert_eq!(refused, version < info.served_min, "{key} v{version}");
        }
    }
}

#[test]
fn bytes_behind_a_request_are_ignored_as_kafka_ignores_them() {
    each_frame(|api, version, mut frame| {
        let request = decode_request(frame.clone().into());
        frame.extend(b"more");
        assert_eq!(decode_request(frame.into()), request, "{api} v{version}");
        assert!(request.is_ok());
    });
}

#[test]
fn unknown_tags_are_skipped_in_the_header_and_in_the_body() {
    each_frame(|api, version, mut frame| {
        if !api.info().at(version).flexible {
            return;
        }
        let request = decode_request(frame.clone().into()).expect("it is whole");
        // Behind the fixed part and the null client id, the header ends with its tag count.
        assert_eq!(frame[10], 0);
        frame.splice(10..11, [1, 99, 2, 0xaa, 0xbb]);
        // The default request ends with a tag count too.
        assert_eq!(frame.pop(), Some(0));
        frame.extend([2, 50, 0, 0xff, 0x7f, 1, 0xcc]);
        assert_eq!(decode_request(frame.into()), Ok(request), "{api} v{version}");
    });
}

struct AnswerTwice;

impl Visitor for AnswerTwice {
    fn visit<A: Compared>(&mut self) {
        for version in served(&A::INFO) {
            let mut source = Source::new(9);
            let answer = A::Response::sample(&mut source, version, false);
            let frame = encode_response(&answer, version, -5).expect("the sample fits");
            let frame = frame.to_bytes();
            let length = i32::from_be_bytes(*frame.first_chunk().expect("it has a length"));
            assert_eq!(length as usize, frame.len() - 4);
            assert_eq!(decode_response(frame.slice(4..), version), Ok((-5, answer)));
        }
        let beyond = encode_response(&A::Response::default(), A::INFO.version_max + 1, 0);
        assert!(beyond.is_err(), "{} has no such version", A::INFO.name);
    }
}

#[test]
fn an_answer_comes_back_as_it_was_sent() {
    visit_all(&mut AnswerTwice);
}

#[test]
fn a_request_says_what_it_holds_beside_its_frame() {
    // Key 20 at version 1: two names, then the time-out. Each name is 32 bytes in memory.
    let frame = frame_of(20, 1, &hex("ffff 00000002 0001 61 0001 62 00000000"));
    let (_, _, memory) = decode_request_charged(frame).expect("it is whole");
    assert_eq!(memory, 64);
}
