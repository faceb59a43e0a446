//! Peer messages: there and back, golden bytes, damage, an independent reading, and the page.

mod damage;
mod golden;
mod limits;
mod links;
mod oracle;
mod samples;

use super::*;
use crate::frame::{Frame, FrameKind};
use crate::ids::{Incarnation, LogIndex, Offset, ReplicaId, Term};
use crate::wire::tests::Source;
use bytes::{Bytes, BytesMut};

/// The bytes of a message's frame, in one piece.
fn bytes_of(message: &PeerMessage) -> Bytes {
    message.encode().unwrap_or_else(|error| panic!("{error}: {message:?}")).to_bytes()
}

/// A link on which `kind` may come next.
fn link_for(kind: PeerKind) -> PeerFrames {
    match kind {
        PeerKind::HelloAnswer => PeerFrames::new(LinkEnd::Dialler),
        PeerKind::Hello => PeerFrames::new(LinkEnd::Acceptor),
        _ => greeted(),
    }
}

/// An acceptor's link behind its `Hello`.
fn greeted() -> PeerFrames {
    let mut frames = PeerFrames::new(LinkEnd::Acceptor);
    frames.feed(bytes_of(&PeerMessage::Hello(Hello::default())));
    assert!(matches!(frames.take_frame(), Ok(Split::Frame(_))));
    frames
}

/// What `bytes` are to a link on which a `kind` may come next.
fn receive(kind: PeerKind, bytes: &[u8]) -> Result<Split, PeerFrameError> {
    let mut frames = link_for(kind);
    frames.feed(bytes);
    frames.take_frame()
}

/// The one frame that `bytes` are.
fn frame_of(kind: PeerKind, bytes: &[u8]) -> PeerFrame {
    match receive(kind, bytes) {
        Ok(Split::Frame(frame)) => frame,
        other => panic!("no whole frame: {other:?}"),
    }
}

fn page() -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats/peer.md");
    std::fs::read_to_string(page).expect("the page is there")
}

/// A batch with one message that appends these entries.
fn appending(entries: Vec<PeerEntry>) -> PeerMessage {
    let previous_index = entries.first().map_or(LogIndex::ZERO, |first| first.index.previous());
    PeerMessage::RaftBatch(vec![RaftMessage {
        incarnation: Incarnation::new(9),
        from: ReplicaId::new(1),
        to: ReplicaId::new(2),
        term: Term::new(7),
        body: RaftBody::AppendEntries {
            previous_index,
            previous_term: Term::new(5),
            commit: LogIndex::new(1),
            entries,
        },
    }])
}

/// An entry of term 7 with records whose derived bytes are stale.
fn records(index: u64, base_offset: u64, payload: Vec<u8>) -> PeerEntry {
    let entry = (Term::new(7), LogIndex::new(index));
    let offset = Offset::new(base_offset);
    PeerEntry::from_frame(&Frame::new(FrameKind::Records, entry, offset, 3, payload.into()))
}

#[test]
fn every_message_comes_back_as_it_was() {
    for seed in 0..5_000 {
        let message = samples::message(seed);
        let kind = message.kind().expect("it is known");
        let bytes = bytes_of(&message);
        let again = PeerMessage::decode(frame_of(kind, &bytes));
        assert_eq!(again, Ok(message), "seed {seed}");
        if let Ok(PeerMessage::RaftBatch(messages)) = &again {
            let sum: usize = messages.iter().map(RaftMessage::encoded_bytes).sum();
            assert_eq!(sum + 4 + PEER_HEAD_BYTES, bytes.len(), "seed {seed}");
        }
        let entries: Vec<&PeerEntry> = match &again {
            Ok(PeerMessage::RaftBatch(messages)) => {
                messages.iter().flat_map(|message| message.body.entries()).collect()
            }
            Ok(PeerMessage::Answer { result: PeerAnswer::Range { entries }, .. }) => {
                entries.iter().collect()
            }
            _ => Vec::new(),
        };
        assert!(entries.iter().all(|entry| entry.payload_crc_matches()), "seed {seed}");
    }
}

#[test]
fn stale_bytes_of_a_batch_are_stamped_where_it_is_sent() {
    for length in [15, 16, 17, LENT_BYTES_MIN - 1, LENT_BYTES_MIN, 100_000] {
        let entry = records(4, 300, vec![0xff; length]);
        assert!(entry.payload_crc_matches(), "stale bytes do not count");
        let bytes = bytes_of(&appending(vec![entry.clone()]));
        let Ok(PeerMessage::RaftBatch(messages)) =
            PeerMessage::decode(frame_of(PeerKind::RaftBatch, &bytes))
        else {
            panic!("it is a batch")
        };
        let [received] = messages[0].body.entries() else { panic!("it is one entry") };
        let stored = entry.to_frame().expect("it is stamped").stamped_payload();
        assert_eq!(received.payload, stored, "{length} bytes");
        assert_eq!(crc32fast::hash(&received.payload), entry.stamp.expect("stamped").payload_crc);
        assert!(received.payload_crc_matches());
    }
}

#[test]
fn a_payload_that_was_damaged_at_its_sender_is_found_by_its_own_crc() {
    let mut entry = records(4, 300, vec![0xff; 100]);
    let mut payload = entry.payload.to_vec();
    payload[50] ^= 1;
    entry.payload = payload.into();
    let bytes = bytes_of(&appending(vec![entry]));
    let Ok(PeerMessage::RaftBatch(messages)) =
        PeerMessage::decode(frame_of(PeerKind::RaftBatch, &bytes))
    else {
        panic!("the frame is right")
    };
    assert!(!messages[0].body.entries()[0].payload_crc_matches());
}

#[test]
fn long_payloads_are_lent_and_received_without_a_copy() {
    let entry = records(4, 300, vec![0xff; 64 * 1024]);
    let chunk = Bytes::from(vec![7; LENT_BYTES_MIN]);
    let sent = appending(vec![entry.clone()]).encode().expect("it fits");
    let [head, payload] = sent.parts() else { panic!("a head and a payload") };
    assert!(head.len() < 200);
    assert_eq!(payload.as_ptr(), entry.payload[16..].as_ptr());
    let piece = SnapshotChunk { bytes: chunk.clone(), ..SnapshotChunk::default() };
    let piece = PeerMessage::SnapshotChunk(piece).encode().expect("it fits");
    assert_eq!(piece.parts()[1].as_ptr(), chunk.as_ptr());

    let arrived = BytesMut::from(&sent.to_bytes()[..]);
    let range = arrived.as_ptr_range();
    let mut frames = greeted();
    frames.feed(arrived);
    let Ok(Split::Frame(frame)) = frames.take_frame() else { panic!("it is whole") };
    let Ok(PeerMessage::RaftBatch(messages)) = PeerMessage::decode(frame) else {
        panic!("it is a batch")
    };
    let received = &messages[0].body.entries()[0].payload;
    assert!(range.contains(&received.as_ptr()));
    assert_eq!(received.len(), 64 * 1024);
}

#[test]
fn bytes_behind_what_is_known_are_ignored_at_the_end_of_bodies_and_of_structures() {
    for seed in 0..samples::SHAPES {
        let message = samples::message(seed);
        let kind = message.kind().expect("it is known");
        let mut frame = frame_of(kind, &bytes_of(&message));
        frame.body = [&frame.body[..], b"of a later version"].concat().into();
        assert_eq!(PeerMessage::decode(frame), Ok(message));
    }
    // A batch with one message of eight more bytes, in it.
    let message = samples::message(4 + 7);
    let bytes = bytes_of(&message);
    let mut body = bytes[PEER_HEAD_BYTES..].to_vec();
    body[4] += 8;
    body.extend([1; 8]);
    let frame = PeerFrame { kind: 3, body: body.into() };
    assert_eq!(PeerMessage::decode(frame), Ok(message));
}

#[test]
fn the_page_lists_every_kind_and_reason_with_its_numbers() {
    let page = page();
    for kind in PeerKind::ALL {
        assert_eq!(PeerKind::from_number(kind.number()), Some(kind));
        let bytes_max = grouped(kind.bytes_max());
        let line = format!("| {} | {} | {bytes_max} |", kind.number(), kind.name());
        assert!(page.contains(&line), "docs/formats/peer.md lacks {line}");
    }
    for reason in RefusalReason::ALL {
        assert_eq!(RefusalReason::from_number(reason.number()), reason);
        let line = format!("| {} | `{reason:?}` |", reason.number());
        assert!(page.contains(&line), "docs/formats/peer.md lacks {line}");
    }
    assert_eq!(RefusalReason::from_number(77), RefusalReason::Other(77));
}

/// A number with a comma before each three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let start = digits.len() % 3;
    let groups = digits.as_bytes()[start..].chunks(3).map(|group| str::from_utf8(group));
    let groups = groups.map(|group| group.expect("digits"));
    let first = Some(&digits[..start]).filter(|first| !first.is_empty());
    first.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

#[test]
fn the_highest_common_version_is_agreed_on() {
    assert_eq!(common_peer_version((1, 3), (2, 5)), Some(3));
    assert_eq!(common_peer_version((1, 1), (1, 4)), Some(1));
    assert_eq!(common_peer_version((3, 4), (1, 2)), None);
    assert_eq!(common_peer_version((2, 2), (5, 1)), None, "a range that lies");
    let ours = (PEER_VERSION_MIN, PEER_VERSION_MAX);
    assert_eq!(common_peer_version(ours, ours), Some(PEER_VERSION_MAX));
}
