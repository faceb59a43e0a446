//! Cutting a link's bytes into frames: in any pieces, with what may come where.

use super::super::*;
use super::{bytes_of, greeted, link_for, receive, samples};
use bytes::{Bytes, BytesMut};

/// A `Hello` and frames of every other kind that an acceptor may receive.
fn stream() -> (Vec<u8>, Vec<PeerMessage>) {
    let mut messages = vec![PeerMessage::Hello(Hello::default())];
    messages.extend(
        (0..200).map(samples::message).filter(|message| {
            !matches!(message.kind(), Ok(PeerKind::Hello | PeerKind::HelloAnswer))
        }),
    );
    let bytes = messages.iter().flat_map(|message| bytes_of(message).to_vec()).collect();
    (bytes, messages)
}

/// Takes all whole frames, decoded.
fn drain(frames: &mut PeerFrames, found: &mut Vec<PeerMessage>) -> usize {
    loop {
        match frames.take_frame().expect("the stream is right") {
            Split::Frame(frame) => found.push(PeerMessage::decode(frame).expect("so are bodies")),
            Split::Incomplete { missing_bytes } => return missing_bytes,
        }
    }
}

#[test]
fn frames_come_out_whole_and_in_order_however_they_arrive() {
    let (bytes, messages) = stream();
    for piece_bytes in [1, 2, 3, 7, 11, 12, 13, 100, 4_096, bytes.len()] {
        let mut frames = PeerFrames::new(LinkEnd::Acceptor);
        let mut found = Vec::new();
        for piece in bytes.chunks(piece_bytes) {
            frames.feed(piece);
            assert!(drain(&mut frames, &mut found) > 0);
        }
        assert_eq!(found, messages, "pieces of {piece_bytes}");
        assert_eq!(frames.waiting_bytes(), 0);
    }
}

#[test]
fn what_is_missing_is_just_what_makes_the_next_step_possible() {
    let (bytes, messages) = stream();
    let mut frames = PeerFrames::new(LinkEnd::Acceptor);
    let (mut found, mut rest) = (Vec::new(), &bytes[..]);
    loop {
        let missing = drain(&mut frames, &mut found);
        if rest.is_empty() {
            assert_eq!(missing, PEER_HEAD_BYTES);
            break;
        }
        // Straight into the buffer, as a socket reads.
        frames.buffer_mut().extend_from_slice(&rest[..missing]);
        rest = &rest[missing..];
    }
    assert_eq!(found, messages);
}

#[test]
fn a_body_is_a_slice_of_what_was_fed() {
    let bytes = bytes_of(&samples::message(13));
    let fed = BytesMut::from(&bytes[..]);
    let start = fed.as_ptr() as usize;
    let mut frames = greeted();
    frames.feed(fed);
    let Ok(Split::Frame(frame)) = frames.take_frame() else { panic!("it is whole") };
    assert_eq!(frame.body.as_ptr() as usize, start + PEER_HEAD_BYTES);
}

#[test]
fn an_unknown_kind_is_skipped_and_the_link_goes_on() {
    for kind in [0, 9, 77, 255] {
        let mut later = vec![0, 0, 0, 0, kind, 0, 0, 0];
        later.extend(b"of a later version");
        let crc = crc32fast::hash(&later[4..]);
        later[..4].copy_from_slice(&crc.to_le_bytes());
        let mut frames = greeted();
        frames.feed(&(later.len() as u32).to_le_bytes()[..]);
        frames.feed(&later[..]);
        let known = PeerMessage::Liveness(Liveness::default());
        frames.feed(bytes_of(&known));
        let mut found = Vec::new();
        drain(&mut frames, &mut found);
        let unknown = PeerMessage::Unknown { kind };
        assert_eq!(found, [unknown.clone(), known]);
        let error = unknown.encode().expect_err("it has no content").to_string();
        assert_eq!(error, format!("Unknown, field kind: {kind} found, a known kind expected"));
    }
}

#[test]
fn before_the_hello_nothing_else_is_taken_and_afterwards_no_second_one() {
    let frame = |kind: PeerKind| {
        let sample = (0..samples::SHAPES).map(samples::message);
        let sample = sample.into_iter().find(|message| message.kind() == Ok(kind));
        bytes_of(&sample.expect("there is one of each kind"))
    };
    for kind in PeerKind::ALL {
        let out_of_place = |mut frames: PeerFrames| {
            // The head is enough to tell.
            frames.feed(&frame(kind)[..PEER_HEAD_BYTES]);
            match frames.take_frame() {
                Ok(_) => false,
                Err(PeerFrameError::OutOfPlace { found, .. }) => {
                    assert_eq!(found, kind.number());
                    assert!(frames.take_frame().is_err(), "the same again");
                    true
                }
                Err(other) => panic!("{other}"),
            }
        };
        let answered = || {
            let mut frames = PeerFrames::new(LinkEnd::Dialler);
            frames.feed(frame(PeerKind::HelloAnswer));
            assert!(matches!(frames.take_frame(), Ok(Split::Frame(_))));
            frames
        };
        let is_hello = kind == PeerKind::Hello;
        let is_answer = kind == PeerKind::HelloAnswer;
        assert_eq!(out_of_place(PeerFrames::new(LinkEnd::Acceptor)), !is_hello, "{kind:?}");
        assert_eq!(out_of_place(PeerFrames::new(LinkEnd::Dialler)), !is_answer, "{kind:?}");
        assert_eq!(out_of_place(greeted()), is_hello || is_answer, "{kind:?}");
        assert!(out_of_place(answered()), "{kind:?}");
    }
}

#[test]
fn a_length_outside_its_limits_is_refused_before_the_body_arrives() {
    for length in 0..8_u32 {
        let error = PeerFrameError::TooShort { found: length as usize };
        assert_eq!(receive(PeerKind::Liveness, &length.to_le_bytes()), Err(error));
    }
    let head = |length: usize, kind: u8| {
        let mut head = [0; PEER_HEAD_BYTES];
        head[..4].copy_from_slice(&(length as u32).to_le_bytes());
        head[8] = kind;
        head
    };
    let unknown = (77, crate::limits::PEER_UNKNOWN_BYTES_MAX, PeerKind::Answer);
    let kinds = PeerKind::ALL.map(|kind| (kind.number(), kind.bytes_max(), kind));
    for (number, bytes_max, place) in kinds.into_iter().chain([unknown]) {
        let missing_bytes = bytes_max - 8;
        let most = receive(place, &head(bytes_max, number));
        assert_eq!(most, Ok(Split::Incomplete { missing_bytes }), "kind {number}");
        let error = PeerFrameError::TooLong { found: bytes_max + 1, bytes_max };
        assert_eq!(receive(place, &head(bytes_max + 1, number)), Err(error), "kind {number}");
    }
    // Four bytes are enough for what no kind may have: a claim of a gibibyte, and all bits.
    for length in [1 << 30, u32::MAX] {
        let error = receive(PeerKind::Answer, &length.to_le_bytes()).expect_err("it is too long");
        let text = format!("peer frame length {length} is above the limit of 17825792 bytes");
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn after_an_error_a_link_says_the_same_again() {
    let mut bytes = bytes_of(&samples::message(13)).to_vec();
    bytes[4] ^= 1;
    let mut frames = link_for(PeerKind::Liveness);
    frames.feed(Bytes::from(bytes));
    let first = frames.take_frame();
    assert!(matches!(first, Err(PeerFrameError::Crc { .. })));
    assert_eq!(frames.take_frame(), first);
}
