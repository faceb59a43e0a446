//! What may not be sent is refused where it is encoded, in the words that its receiver would use.

use super::super::*;
use super::{appending, bytes_of, frame_of, records};
use crate::frame::FrameKind;
use crate::ids::{Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use crate::limits::*;
use crate::wire::Text;
use bytes::Bytes;

fn refused(message: &PeerMessage) -> String {
    message.encode().expect_err("it breaks a rule").to_string()
}

/// The frame of a message that keeps the rules, with one number of it changed afterwards.
fn refused_with(message: &PeerMessage, from: u64, to: u64) -> String {
    let whole = frame_of(message.kind().expect("it is known"), &bytes_of(message));
    let mut body = whole.body.to_vec();
    let at = body.windows(8).position(|window| window == from.to_le_bytes());
    let at = at.expect("the number is there");
    body[at..at + 8].copy_from_slice(&to.to_le_bytes());
    let frame = PeerFrame { body: body.into(), ..whole };
    PeerMessage::decode(frame).expect_err("it breaks a rule").to_string()
}

/// Entries 0x404 to 0x406 of term 7, with three records each from offset 0x300 on.
fn three() -> Vec<PeerEntry> {
    (0..3).map(|at| records(0x404 + at, 0x300 + 3 * at, vec![9; 20])).collect()
}

#[test]
fn entries_that_do_not_follow_each_other_are_refused_by_both_sides() {
    let message = appending(three());
    let skipped = |error: &str| format!("RaftBatch, field entry index{error}: index 1999 found, ");
    let behind = "1029 expected behind the entry before";
    let mut entries = three();
    entries[1].index = LogIndex::new(1_999);
    assert_eq!(refused(&appending(entries)), skipped("") + behind);
    let error = refused_with(&message, 0x405, 1_999);
    assert!(error.starts_with("RaftBatch, field entry index, byte "), "{error}");
    assert!(error.ends_with(behind), "{error}");

    let mut entries = three();
    entries[1].term = Term::new(6);
    let fell = "RaftBatch, field entry term: term 6 found, 7 or more expected behind the entry \
                before";
    assert_eq!(refused(&appending(entries)), fell);
    let mut entries = three();
    entries[2].term = Term::new(8);
    let above = "RaftBatch, field entry term: term 8 found, at most 7, the sender's own, expected";
    assert_eq!(refused(&appending(entries)), above);

    let error = refused_with(&message, 0x303, 0x304);
    assert!(error.contains("is not stamped so"), "{error}");
    let mut entries = three();
    let stamp = entries[1].stamp.as_mut().expect("it is stamped");
    stamp.base_offset = Offset::new(0x304);
    let offset = "RaftBatch, field entry base_offset: base offset 772 found, 771 expected behind \
                  the entry before";
    assert_eq!(refused(&appending(entries)), offset);
}

#[test]
fn an_unstamped_entry_between_two_stamped_ones_counts_no_offsets() {
    let mut entries = three();
    entries[1].stamp = None;
    entries[1].payload = Bytes::new();
    let stamp = entries[2].stamp.as_mut().expect("it is stamped");
    stamp.base_offset = Offset::new(0x303);
    let message = appending(entries.clone());
    let again = PeerMessage::decode(frame_of(PeerKind::RaftBatch, &bytes_of(&message)));
    assert!(again.is_ok(), "{again:?}");
    entries[1].payload = Bytes::from_static(b"x");
    let error = "RaftBatch, field entry payload without a stamp: 1 bytes found, at most 0 allowed";
    assert_eq!(refused(&appending(entries)), error);
}

#[test]
fn entries_before_the_first_and_behind_the_last_index_do_not_exist() {
    let mut entry = records(1, 0, vec![]);
    entry.index = LogIndex::ZERO;
    let range =
        |entry| PeerMessage::Answer { id: 1, result: PeerAnswer::Range { entries: vec![entry] } };
    let error = "Answer, field entry index: 0 found, an index from 1 on expected";
    assert_eq!(refused(&range(entry.clone())), error);
    entry.index = LogIndex::new(u64::MAX);
    assert!(range(entry.clone()).encode().is_ok());
    let mut message = appending(vec![entry]);
    let PeerMessage::RaftBatch(messages) = &mut message else { panic!("it is a batch") };
    let RaftBody::AppendEntries { previous_index, .. } = &mut messages[0].body else {
        panic!("it appends")
    };
    *previous_index = LogIndex::new(u64::MAX);
    assert!(refused(&message).starts_with("RaftBatch, field entry index: index 184467440737"));
}

#[test]
fn only_kinds_that_count_offsets_have_records() {
    for kind in (1..=6).filter_map(FrameKind::from_number) {
        let mut entry = records(4, 300, vec![9; 20]);
        let stamp = entry.stamp.as_mut().expect("it is stamped");
        stamp.kind = kind;
        let is_right = appending(vec![entry]).encode().is_ok();
        assert_eq!(is_right, matches!(kind, FrameKind::Records | FrameKind::Gap), "{kind:?}");
    }
    let mut entry = records(4, 300, vec![9; 20]);
    let stamp = entry.stamp.as_mut().expect("it is stamped");
    stamp.base_offset = Offset::new(i64::MAX as u64 - 2);
    let end = "RaftBatch, field entry record_count: 9223372036854775808 found, an end offset of \
               63 bits expected";
    assert_eq!(refused(&appending(vec![entry])), end);
}

#[test]
fn the_largest_entry_fits_a_batch_and_an_answer_and_one_byte_more_does_not() {
    let entry = records(4, 300, vec![9; FRAME_PAYLOAD_BYTES_MAX]);
    assert!(appending(vec![entry.clone()]).encode().is_ok());
    let result = PeerAnswer::Range { entries: vec![entry.clone()] };
    assert!(PeerMessage::Answer { id: 1, result }.encode().is_ok());
    let next = records(5, 303, vec![9; FRAME_PAYLOAD_BYTES_MAX]);
    let two = refused(&appending(vec![entry, next]));
    assert!(two.starts_with("RaftBatch, field frame: 33554"), "{two}");
    let large = records(4, 300, vec![9; FRAME_PAYLOAD_BYTES_MAX + 1]);
    let error = "RaftBatch, field entry payload: 16777217 bytes found, at most 16777216 allowed";
    assert_eq!(refused(&appending(vec![large])), error);
}

#[test]
fn a_batch_has_so_many_entries_over_all_of_its_messages() {
    let noop = |index| PeerEntry {
        term: Term::new(7),
        index: LogIndex::new(index),
        stamp: None,
        payload: Bytes::new(),
    };
    let half = PEER_ENTRIES_MAX as u64 / 2;
    let PeerMessage::RaftBatch(first) = appending((1..=half).map(noop).collect()) else {
        panic!("it is a batch")
    };
    let PeerMessage::RaftBatch(more) = appending((1..=half + 1).map(noop).collect()) else {
        panic!("it is a batch")
    };
    let two = PeerMessage::RaftBatch([first.clone(), first.clone()].concat());
    let bytes = bytes_of(&two);
    assert_eq!(PeerMessage::decode(frame_of(PeerKind::RaftBatch, &bytes)), Ok(two));
    let error = "RaftBatch, field entries: 32769 elements found, at most 32768 allowed";
    assert_eq!(refused(&PeerMessage::RaftBatch([&first[..], &more].concat())), error);

    // The same as a sender would put it together that does not count.
    let mut body = vec![2, 0, 0, 0];
    for messages in [first, more] {
        let bytes = bytes_of(&PeerMessage::RaftBatch(messages));
        body.extend_from_slice(&bytes[PEER_HEAD_BYTES + 4..]);
    }
    let frame = PeerFrame { kind: PeerKind::RaftBatch.number(), body: body.into() };
    let error = PeerMessage::decode(frame).expect_err("one entry too many").to_string();
    assert!(error.ends_with("32769 elements found, at most 32768 allowed"), "{error}");
}

fn voter_entry(id: u64, address: &Text) -> VoterEntry {
    VoterEntry { node_id: NodeId::new(id), address: address.clone(), founding_id: [7; 16] }
}

#[test]
fn a_hello_with_the_most_and_longest_voters_fits() {
    let address: Text = "a".repeat(PEER_ADDRESS_BYTES_MAX).into();
    let voter = |id| voter_entry(id, &address);
    let mut hello = Hello { voters: (1..=64).map(voter).collect(), ..Hello::default() };
    hello.cluster_id = Some([1; 16]);
    assert!(PeerMessage::Hello(hello.clone()).encode().is_ok());
    hello.voters.push(voter(65));
    let error = "Hello, field voters: 65 elements found, at most 64 allowed";
    assert_eq!(refused(&PeerMessage::Hello(hello.clone())), error);
    hello.voters = vec![voter_entry(1 << 31, &address)];
    let error = "Hello, field voter node_id: 2147483648 found, a node id of 31 bits expected";
    assert_eq!(refused(&PeerMessage::Hello(hello.clone())), error);
    let address = "a".repeat(PEER_ADDRESS_BYTES_MAX + 1).into();
    hello.voters = vec![voter_entry(1, &address)];
    let error = "Hello, field voter address: 262 bytes found, at most 261 allowed";
    assert_eq!(refused(&PeerMessage::Hello(hello)), error);
}

#[test]
fn a_snapshot_claims_at_most_what_a_receiver_would_store() {
    let head = |state_bytes| {
        let snapshot = Box::new(SnapshotHead { state_bytes, ..SnapshotHead::default() });
        let PeerMessage::RaftBatch(mut messages) = appending(Vec::new()) else {
            panic!("it is a batch")
        };
        messages[0].body = RaftBody::InstallSnapshot { snapshot };
        PeerMessage::RaftBatch(messages)
    };
    let most = head(PEER_SNAPSHOT_STATE_BYTES_MAX);
    assert!(most.encode().is_ok());
    let text = "1073741824 found, at most 512 MiB of state expected";
    assert_eq!(refused(&head(1 << 30)), format!("RaftBatch, field state_bytes: {text}"));
    assert!(refused_with(&most, PEER_SNAPSHOT_STATE_BYTES_MAX, 1 << 30).ends_with(text));
    let piece = |position, bytes| {
        let bytes = Bytes::from(vec![7; bytes]);
        PeerMessage::SnapshotChunk(SnapshotChunk { position, bytes, ..SnapshotChunk::default() })
    };
    let whole = PEER_SNAPSHOT_CHUNK_BYTES_MAX;
    assert!(piece(PEER_SNAPSHOT_STATE_BYTES_MAX - whole as u64, whole).encode().is_ok());
    assert!(refused(&piece(PEER_SNAPSHOT_STATE_BYTES_MAX, 1)).contains("field position"));
    assert!(refused(&piece(u64::MAX, 1)).contains("field position"));
    assert!(refused(&piece(0, whole + 1)).contains("1048577 bytes found"));
}

#[test]
fn every_other_list_text_and_run_of_bytes_has_its_limit() {
    let stopped = |count| {
        let stopped = vec![ReplicaId::new(1); count];
        PeerMessage::Liveness(Liveness { stopped, ..Liveness::default() })
    };
    assert!(stopped(PEER_STOPPED_REPLICAS_MAX).encode().is_ok());
    assert!(refused(&stopped(PEER_STOPPED_REPLICAS_MAX + 1)).contains("at most 10000 allowed"));

    let leads = |count| {
        let one = Leadership { incarnation: Incarnation::new(u64::MAX), term: Term::new(u64::MAX) };
        PeerMessage::Leaderships(Leaderships { is_anew: true, leads: vec![one; count] })
    };
    assert!(leads(PEER_LEADERSHIPS_MAX).encode().is_ok());
    assert!(refused(&leads(PEER_LEADERSHIPS_MAX + 1)).contains("at most 4096 allowed"));

    let refusal = |text: Text| {
        let reason = RefusalReason::NotReady;
        PeerMessage::HelloAnswer(HelloAnswer::Refused(Refusal { reason, text }))
    };
    assert!(refused(&refusal("a".repeat(1_025).into())).contains("at most 1024 allowed"));
    assert!(refusal(operator_text(&"ä".repeat(1_025))).encode().is_ok());
    assert_eq!(operator_text(&format!("a{}", "ä".repeat(600))).as_bytes().len(), 1_023);
    assert_eq!(operator_text("no"), "no");

    let ask = |bytes| PeerMessage::Request {
        id: 1,
        command: PeerRequest::Controller {
            idempotency: Idempotency::default(),
            timeout_ms: 1,
            payload: vec![0; bytes].into(),
        },
    };
    assert!(ask(PEER_CONTROLLER_BYTES_MAX).encode().is_ok());
    assert!(refused(&ask(PEER_CONTROLLER_BYTES_MAX + 1)).contains("field payload"));

    let beat = |bytes| {
        let PeerMessage::RaftBatch(mut messages) = appending(Vec::new()) else {
            panic!("it is a batch")
        };
        let context = vec![0; bytes].into();
        messages[0].body = RaftBody::Heartbeat { commit: LogIndex::ZERO, context };
        PeerMessage::RaftBatch(messages)
    };
    assert!(beat(PEER_CONTEXT_BYTES_MAX).encode().is_ok());
    assert!(refused(&beat(PEER_CONTEXT_BYTES_MAX + 1)).contains("at most 64 allowed"));
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused() {
    let range = |first, last| PeerMessage::Request {
        id: 1,
        command: PeerRequest::ReadRange {
            incarnation: crate::ids::Incarnation::new(1),
            first: LogIndex::new(first),
            last: LogIndex::new(last),
            term: Term::new(1),
            payload_crc: 0,
            bytes_max: 1,
        },
    };
    assert!(range(0x505, 0x505).encode().is_ok());
    let text = "1284 found, an index not below first expected";
    assert_eq!(refused(&range(0x505, 0x504)), format!("Request, field last: {text}"));
    assert!(refused_with(&range(0x505, 0x606), 0x606, 0x504).ends_with(text));
}

#[test]
fn an_element_takes_at_most_four_times_its_shortest_encoding_in_memory() {
    for (in_memory, encoded) in [
        (size_of::<RaftMessage>(), raft::MESSAGE_BYTES_MIN),
        (size_of::<PeerEntry>(), PeerEntry::BYTES_MIN),
        (size_of::<VoterEntry>(), hello::VOTER_BYTES_MIN),
        (size_of::<ReplicaId>(), 8),
    ] {
        assert!(in_memory <= 4 * encoded, "{in_memory} bytes in memory for {encoded}");
    }
}
