//! Frames that are cut, lie or are noise: an error, never a panic, never much memory.

use super::super::*;
use super::{Source, bytes_of, frame_of, link_for, receive, samples};

#[test]
fn a_frame_cut_anywhere_waits_for_its_rest() {
    for seed in 0..4 * samples::SHAPES {
        let message = samples::message(seed);
        let kind = message.kind().expect("it is known");
        let bytes = bytes_of(&message);
        for length in 0..bytes.len() {
            let found = receive(kind, &bytes[..length]);
            assert!(matches!(found, Ok(Split::Incomplete { .. })), "{found:?} at {length}");
        }
    }
}

#[test]
fn a_body_cut_anywhere_is_an_error() {
    let mut cut_count = 0;
    for seed in 0..20 * samples::SHAPES {
        let message = samples::message(seed);
        let whole = frame_of(message.kind().expect("it is known"), &bytes_of(&message));
        for length in 0..whole.body.len() {
            let frame = PeerFrame { body: whole.body.slice(..length), ..whole.clone() };
            let error = PeerMessage::decode(frame).expect_err("something is missing");
            assert!(error.position <= length, "{error}");
            cut_count += 1;
        }
    }
    assert!(cut_count > 20_000, "{cut_count} cuts");
}

#[test]
fn every_damaged_byte_of_a_frame_is_found() {
    for seed in 0..2 * samples::SHAPES {
        let message = samples::message(seed);
        let kind = message.kind().expect("it is known");
        let whole = bytes_of(&message);
        for place in 4..whole.len() {
            for flip in 1..=255 {
                let mut bytes = whole.to_vec();
                bytes[place] ^= flip;
                let found = receive(kind, &bytes);
                // A kind with a smaller limit, a kind out of place, reserved bytes, or the CRC.
                let error = found.expect_err("one byte is wrong");
                let is_crc = matches!(error, PeerFrameError::Crc { .. });
                assert!(is_crc || (8..12).contains(&place), "{error} at {place}");
            }
        }
    }
}

#[test]
fn a_damaged_length_is_found_at_the_latest_when_so_many_bytes_have_come() {
    for seed in 0..samples::SHAPES {
        let message = samples::message(seed);
        let kind = message.kind().expect("it is known");
        let whole = bytes_of(&message);
        for bit in 0..32 {
            let mut frames = link_for(kind);
            let mut bytes = whole.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            frames.feed(&bytes[..]);
            let mut found = frames.take_frame();
            if let Ok(Split::Incomplete { missing_bytes }) = found {
                assert!(missing_bytes <= kind.bytes_max());
                frames.feed(&vec![0; missing_bytes][..]);
                found = frames.take_frame();
            }
            assert!(found.is_err(), "bit {bit}: {found:?}");
        }
    }
}

#[test]
fn a_hundred_thousand_damaged_bodies_never_panic_and_what_decodes_encodes_to_the_same() {
    let frames: Vec<PeerFrame> = (0..20 * samples::SHAPES)
        .map(samples::message)
        .map(|message| frame_of(message.kind().expect("it is known"), &bytes_of(&message)))
        .collect();
    let mut source = Source::new(1);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..100_000 {
        let mut frame = frames[source.below(frames.len())].clone();
        frame.body = source.damaged(&frame.body);
        match PeerMessage::decode(frame) {
            Ok(message) => {
                good += 1;
                let kind = message.kind().expect("it is known");
                let again = PeerMessage::decode(frame_of(kind, &bytes_of(&message)));
                assert_eq!(again, Ok(message));
            }
            Err(_) => bad += 1,
        }
    }
    assert!(good > 10_000 && bad > 10_000, "{good} good, {bad} bad");
}

#[test]
fn lists_and_lengths_that_lie_reserve_nothing() {
    let decode = |kind: PeerKind, body: &[u8]| {
        let frame = PeerFrame { kind: kind.number(), body: body.to_vec().into() };
        PeerMessage::decode(frame).expect_err("it lies").to_string()
    };
    assert_eq!(
        decode(PeerKind::RaftBatch, &[0xff; 4]),
        "RaftBatch, field messages, byte 4: 4294967295 elements found, at most 65536 allowed"
    );
    assert_eq!(
        decode(PeerKind::RaftBatch, &[0, 0, 1, 0, 9, 9]),
        "RaftBatch, field messages, byte 4: 65536 elements found, at most 0 fit the rest of the \
         message"
    );
    let stopped = [&[0; 33][..], &[0x10, 0x27, 0, 0], &[1; 16]].concat();
    assert_eq!(
        decode(PeerKind::Liveness, &stopped),
        "Liveness, field stopped, byte 37: 10000 elements found, at most 2 fit the rest of the \
         message"
    );
    assert_eq!(
        decode(
            PeerKind::RaftBatch,
            &[&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..], &[0; 60]].concat()
        ),
        "RaftBatch, field messages, byte 8: 4294967295 bytes expected, 60 are left"
    );
    let chunk = [&[0; 41][..], &[1, 0, 0x10, 0], &[0; 8]].concat();
    assert_eq!(
        decode(PeerKind::SnapshotChunk, &chunk),
        "SnapshotChunk, field bytes, byte 45: 1048577 bytes found, at most 1048576 allowed"
    );
}
