//! Requests that are cut off, that lie about lengths, or that flood.

use super::super::api::visit_all;
use super::super::{DecodeFault, RequestError, RequestHeader, decode_request, encode_request};
use super::frames::each_frame;
use super::{Compared, Sample, Source, Visitor, served};
use crate::limits::REQUEST_TAGS_MAX;
use bytes::Bytes;

/// Frames of pseudo-random requests, without their lengths.
struct Frames<F>(F);

impl<F: FnMut(&str, Vec<u8>)> Visitor for Frames<F> {
    fn visit<A: Compared>(&mut self) {
        for version in served(&A::INFO) {
            for seed in 0..4 {
                let mut source = Source::new(seed);
                let request = A::PlainRequest::sample(&mut source, version, false);
                let header = RequestHeader {
                    api_version: version,
                    client_id: Some("client".into()),
                    ..RequestHeader::default()
                };
                let frame = encode_request(&header, &request).expect("the sample fits");
                let about = format!("{} v{version} seed {seed}", A::INFO.name);
                (self.0)(&about, frame.to_bytes().slice(4..).to_vec());
            }
        }
    }
}

#[test]
fn every_truncation_of_every_request_is_an_error() {
    let mut cuts = 0;
    visit_all(&mut Frames(|about: &str, frame: Vec<u8>| {
        assert!(decode_request(frame.clone().into()).is_ok(), "{about}");
        for end in 0..frame.len() {
            let result = decode_request(frame[..end].to_vec().into());
            assert!(
                matches!(result, Err(RequestError::Malformed(_))),
                "{about} cut at {end}: {result:?}"
            );
            cuts += 1;
        }
    }));
    assert!(cuts > 20_000, "{cuts} truncations tried");
}

/// Calls `check` with a frame whose body lies, once for each place and lie.
pub(crate) fn with_lies(frame: &[u8], mut check: impl FnMut(Bytes)) {
    let lies: [&[u8]; 7] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xfe],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x80, 0x00],
        &[0x00],
        &[0x02],
    ];
    for position in 8..frame.len() {
        for lie in lies {
            let mut frame = frame.to_vec();
            let end = frame.len().min(position + lie.len());
            frame[position..end].copy_from_slice(&lie[..end - position]);
            check(frame.into());
        }
    }
}

#[test]
fn no_number_anywhere_in_a_request_makes_the_decoder_panic() {
    let (mut refused, mut taken) = (0, 0);
    visit_all(&mut Frames(|_: &str, frame: Vec<u8>| {
        with_lies(&frame, |frame| match decode_request(frame) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        });
    }));
    // A lie in a number or a text is none that a decoder could see.
    assert!(refused > 50_000 && taken > 50_000, "{refused} refused, {taken} taken");
}

#[test]
fn a_flood_of_tags_is_refused_before_it_is_walked() {
    each_frame(|api, version, mut frame| {
        if !api.info().at(version).flexible {
            return;
        }
        assert_eq!(frame.pop(), Some(0));
        let mut allowed = frame.clone();
        frame.extend([0x91, 0x4e]);
        frame.extend([60, 0].repeat(REQUEST_TAGS_MAX + 1));
        let Err(RequestError::Malformed(error)) = decode_request(frame.into()) else {
            panic!("{api} v{version} takes a flood of tags");
        };
        assert_eq!(error.fault, DecodeFault::Tags { found: REQUEST_TAGS_MAX + 1 });

        allowed.extend([0x90, 0x4e]);
        allowed.extend([60, 0].repeat(REQUEST_TAGS_MAX));
        assert!(decode_request(allowed.into()).is_ok(), "{api} v{version}");
    });
}

#[test]
fn a_tag_whose_size_reaches_beyond_the_frame_is_refused() {
    each_frame(|api, version, mut frame| {
        if api.info().at(version).flexible {
            assert_eq!(frame.pop(), Some(0));
            frame.extend([1, 60, 5, 1, 2]);
            let Err(RequestError::Malformed(error)) = decode_request(frame.into()) else {
                panic!("{api} v{version} believes a tag's size");
            };
            assert_eq!(error.fault, DecodeFault::Truncated { expected: 5, found: 2 });
        }
    });
}
