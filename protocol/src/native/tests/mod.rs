//! Every message of the table: there and back, golden bytes, damage, and its line on the page.

mod damage;
mod golden;

use super::frame::{self, Frame, HEADER_BYTES, Kind, Split};
use super::table::visit_all;
use super::{CloseCode, Reply, Request, StreamRole, VERSION_MAX, VERSION_MIN, common_version};
use crate::wire::tests::{Sample, Source};
use crate::wire::{ErrorCode, Wire};
use bytes::BytesMut;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// Something to be done with every message.
pub(super) trait Visitor {
    /// Does it with one.
    fn visit<M: Wire + Sample + PartialEq + Debug>(&mut self, name: &str, kind: Kind);
}

/// Calls back with whole frames of pseudo-random messages, the first with their defaults.
struct Frames<F>(F);

impl<F: FnMut(&str, Kind, Vec<u8>)> Visitor for Frames<F> {
    fn visit<M: Wire + Sample + PartialEq + Debug>(&mut self, name: &str, kind: Kind) {
        for version in VERSION_MIN..=VERSION_MAX {
            for seed in 0..8 {
                let message = M::sample(&mut Source::new(seed), version, false);
                let frame = frame::encode(kind, 7, version, &message).expect("the sample fits");
                (self.0)(name, kind, frame.to_bytes().to_vec());
            }
        }
    }
}

fn split(bytes: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(bytes);
    let Ok(Split::Frame(frame)) = Frame::split(&mut buffer, usize::MAX) else {
        panic!("the frame is whole")
    };
    assert!(buffer.is_empty());
    frame
}

#[test]
fn every_message_comes_back_as_it_was() {
    struct RoundTrip(usize);
    impl Visitor for RoundTrip {
        fn visit<M: Wire + Sample + PartialEq + Debug>(&mut self, name: &str, kind: Kind) {
            for seed in 0..200 {
                let message = M::sample(&mut Source::new(seed), VERSION_MAX, false);
                let bytes = frame::encode(kind, 9, VERSION_MAX, &message).expect("it fits");
                let frame = split(&bytes.to_bytes());
                assert_eq!((frame.kind, frame.correlation), (kind, 9));
                assert_eq!(frame::decode(frame.body, VERSION_MAX), Ok(message), "{name} {seed}");
            }
            self.0 += 1;
        }
    }
    let mut visitor = RoundTrip(0);
    visit_all(&mut visitor);
    assert!(visitor.0 > 50, "{} messages", visitor.0);
}

#[test]
fn requests_and_replies_find_their_kind() {
    visit_all(&mut Frames(|name: &str, kind: Kind, bytes: Vec<u8>| {
        let frame = split(&bytes);
        let is_reply = kind.0 >= Kind::PUSHES;
        let again = if is_reply {
            let reply = Reply::decode(frame, VERSION_MAX).expect("the table holds it");
            assert_eq!(reply.kind(), kind, "{name}");
            reply.encode(7, VERSION_MAX)
        } else {
            let (request, _) = Request::decode(frame, VERSION_MAX).expect("the table holds it");
            assert_eq!(request.kind(), kind, "{name}");
            request.encode(7, VERSION_MAX)
        };
        assert_eq!(again.expect("it was decoded").to_bytes(), bytes, "{name}");
    }));
}

#[test]
fn the_page_lists_every_kind_role_and_close_code() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats/native.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let mut numbers = BTreeSet::new();
    for (kind, name, role) in Request::ALL {
        assert!(numbers.insert(kind.0), "{kind} is there twice");
        assert!(kind.0 < Kind::PUSHES, "{kind} is a request's");
        let stream = match role {
            StreamRole::Control => "control",
            StreamRole::Data => "data",
            StreamRole::Bulk => "bulk",
            StreamRole::Any => "any",
        };
        let line = format!("| `{kind}` | {name} | {stream} |");
        assert!(page.contains(&line), "docs/formats/native.md lacks {line}");
    }
    for code in CloseCode::ALL {
        let line = format!("| {} | `{}` |", code.0, code.name().expect("it is listed"));
        assert!(page.contains(&line), "docs/formats/native.md lacks {line}");
    }
    for code in ErrorCode::ALL.iter().filter(|code| code.0 >= 10_000) {
        let line = format!("| {} | `{}` |", code.0, code.name().expect("it is listed"));
        assert!(page.contains(&line), "docs/formats/native.md lacks {line}");
    }
}

#[test]
fn the_highest_common_version_is_agreed_on() {
    assert_eq!(common_version((1, 3), (2, 5)), Some(3));
    assert_eq!(common_version((1, 1), (1, 4)), Some(1));
    assert_eq!(common_version((3, 4), (1, 2)), None);
    assert_eq!(common_version((1, 2), (3, 4)), None);
    assert_eq!(common_version((2, 2), (5, 1)), None, "a range that lies has nothing in common");
}

#[test]
fn roles_come_back_from_their_numbers_except_for_the_first_stream() {
    assert_eq!(StreamRole::from_number(1), Some(StreamRole::Data));
    assert_eq!(StreamRole::from_number(2), Some(StreamRole::Bulk));
    for number in [i8::MIN, -1, 0, 3, i8::MAX] {
        assert_eq!(StreamRole::from_number(number), None);
    }
    assert_eq!(HEADER_BYTES, 10);
}
