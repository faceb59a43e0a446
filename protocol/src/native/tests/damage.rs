//! Frames that are cut, lie or are noise: an error, never a panic, never much memory.

use super::super::{MessageError, Reply, Request, VERSION_MAX};
use super::{Frames, Kind, Source, split, visit_all};
use crate::native::Frame;
use bytes::Bytes;

/// Decodes as whichever side the kind belongs to.
fn decode(frame: Frame) -> Result<usize, MessageError> {
    if frame.kind.0 >= Kind::PUSHES {
        Reply::decode(frame, VERSION_MAX).map(|_| 0)
    } else {
        let bytes = frame.body.len();
        Request::decode(frame, VERSION_MAX).map(|(_, memory)| {
            assert!(memory <= 32 * bytes + 64 * 1024, "{memory} bytes for {bytes}");
            memory
        })
    }
}

#[test]
fn a_body_cut_anywhere_is_an_error_and_never_a_panic() {
    let mut cut_count = 0;
    visit_all(&mut Frames(|name: &str, _, bytes: Vec<u8>| {
        let whole = split(&bytes);
        for length in 0..whole.body.len() {
            let frame = Frame { body: whole.body.slice(..length), ..whole.clone() };
            let found = decode(frame);
            assert!(matches!(found, Err(MessageError::Malformed(_))), "{name} cut at {length}");
            cut_count += 1;
        }
    }));
    assert!(cut_count > 10_000, "{cut_count} cuts");
}

#[test]
fn a_hundred_thousand_damaged_bodies_never_panic() {
    let mut frames = Vec::new();
    visit_all(&mut Frames(|_: &str, _, bytes: Vec<u8>| frames.push(split(&bytes))));
    let mut source = Source::new(1);
    for _ in 0..100_000 {
        let mut frame = frames[source.below(frames.len())].clone();
        frame.body = source.damaged(&frame.body);
        // Whether it is an error depends on where it was hit.
        let _ = decode(frame);
    }
}

#[test]
fn an_unknown_kind_says_which_it_was() {
    for kind in [0x0000, 0x0003, 0x3fff, 0x4000, 0x8003, 0xfffe] {
        let frame = Frame { kind: Kind(kind), correlation: 1, body: Bytes::new() };
        let error = decode(frame).expect_err("the table lacks it");
        assert_eq!(error, MessageError::UnknownKind { kind: Kind(kind) });
        assert!(error.to_string().contains(&format!("{kind:#06x}")), "{error}");
    }
}

#[test]
fn a_list_that_lies_about_its_length_reserves_nothing() {
    // A metadata request whose list of topics claims 2^31 - 2 elements.
    let body = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x07, 0, 0]);
    let frame = Frame { kind: Kind(0x0010), correlation: 1, body };
    assert!(matches!(decode(frame), Err(MessageError::Malformed(_))));
}
