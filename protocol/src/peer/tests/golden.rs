//! Bytes that may never change: what the nodes of an older release send and understand. They were
//! put together from the page by hand, and their CRCs computed by another program.

use super::super::*;
use super::{appending, bytes_of, frame_of, records};
use crate::ids::{Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use bytes::Bytes;
use std::fmt::Write;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn message_is(message: PeerMessage, bytes: &str) {
    let encoded = bytes_of(&message);
    assert_eq!(hex(&encoded), bytes.replace(' ', ""), "{message:?}");
    let kind = message.kind().expect("it is known");
    assert_eq!(PeerMessage::decode(frame_of(kind, &encoded)), Ok(message));
}

/// Messages of replica 1 to replica 2 of partition 9, in term 7.
fn batch_is<const N: usize>(bodies: [RaftBody; N], bytes: &str) {
    let message = |body| RaftMessage {
        incarnation: Incarnation::new(9),
        from: ReplicaId::new(1),
        to: ReplicaId::new(2),
        term: Term::new(7),
        body,
    };
    message_is(PeerMessage::RaftBatch(bodies.map(message).to_vec()), bytes);
}

#[test]
fn a_link_begins_with_these_bytes() {
    message_is(
        PeerMessage::Hello(Hello {
            version_min: 1,
            version_max: 2,
            cluster_id: Some([0xcc; 16]),
            node_id: NodeId::new(1),
            founding_id: [0xff; 16],
            boot_epoch: 3,
            start_id: 4,
            expected_node_id: NodeId::new(2),
            shard: 5,
            is_founded: true,
            voters: vec![VoterEntry {
                node_id: NodeId::new(1),
                address: "a:1".into(),
                founding_id: [0xaa; 16],
            }],
            peers_address: "b:2".into(),
            metadata_index: LogIndex::new(7),
            former_founding_id: Some([0xbb; 16]),
        }),
        "93000000 c3c68a5f 01000000 0100 0200 01 cccccccccccccccccccccccccccccccc \
         0100000000000000 ffffffffffffffffffffffffffffffff 0300000000000000 0400000000000000 \
         0200000000000000 0500 01 01000000 1d000000 0100000000000000 0300 613a31 \
         aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0300 623a32 0700000000000000 \
         01 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
    );
    message_is(
        PeerMessage::HelloAnswer(HelloAnswer::Welcome(Welcome {
            version: 1,
            cluster_id: None,
            node_id: NodeId::new(2),
            founding_id: [0xff; 16],
            boot_epoch: 3,
            start_id: 4,
            is_founded: false,
            voters: Vec::new(),
            replica_id: Some(ReplicaId::new(9)),
            metadata_index: LogIndex::new(8),
        })),
        "4a000000 c1a694c4 02000000 01 0100 00 0200000000000000 \
         ffffffffffffffffffffffffffffffff 0300000000000000 0400000000000000 00 00000000 \
         01 0900000000000000 0800000000000000",
    );
    message_is(
        PeerMessage::HelloAnswer(HelloAnswer::Refused(Refusal {
            reason: RefusalReason::UnequalVoters,
            text: "no".into(),
        })),
        "0f000000 79a99fb3 02000000 02 0400 0200 6e6f",
    );
}

#[test]
fn entries_travel_in_these_bytes() {
    let mut batch = records(4, 300, vec![9; 20]);
    batch.payload = batch.to_frame().expect("it is stamped").stamped_payload();
    let (term, index) = (Term::new(7), LogIndex::new(5));
    let noop = PeerEntry { term, index, stamp: None, payload: Bytes::new() };
    message_is(
        appending(vec![batch, noop]),
        "a4000000 a7f4be91 03000000 01000000 94000000 0900000000000000 0100000000000000 \
         0200000000000000 0700000000000000 01 0300000000000000 0500000000000000 \
         0100000000000000 02000000 \
         3a000000 0400000000000000 0700000000000000 01 01 2c01000000000000 03000000 88baab65 \
         14000000 000000000000012c 09090909 00000007 09090909 \
         15000000 0500000000000000 0700000000000000 00 00000000",
    );
    let response = |rejected, requested_snapshot| RaftBody::AppendEntriesResponse {
        index: LogIndex::new(4),
        commit: LogIndex::new(3),
        rejected,
        requested_snapshot: LogIndex::new(requested_snapshot),
    };
    let rejection = Rejection { hint_index: LogIndex::new(2), hint_term: Term::new(5) };
    batch_is(
        [response(None, 0), response(Some(rejection), 6)],
        "98000000 ec178a03 03000000 02000000 \
         3a000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 \
         02 0400000000000000 0300000000000000 0000000000000000 00 \
         4a000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 \
         02 0400000000000000 0300000000000000 0600000000000000 01 0200000000000000 \
         0500000000000000",
    );
}

#[test]
fn heartbeats_and_votes_travel_in_these_bytes() {
    let commit = LogIndex::new(4);
    batch_is(
        [
            RaftBody::Heartbeat { commit, context: Bytes::from_static(&[0xab, 0xcd]) },
            RaftBody::HeartbeatResponse { commit, context: Bytes::new() },
        ],
        "70000000 c313e4c3 03000000 02000000 \
         2f000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 \
         03 0400000000000000 02000000 abcd \
         2d000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 \
         04 0400000000000000 00000000",
    );
    let (commit, commit_term) = (LogIndex::new(3), Term::new(2));
    batch_is(
        [
            RaftBody::RequestVote {
                is_pre_vote: true,
                last_index: LogIndex::new(4),
                last_term: Term::new(5),
                commit,
                commit_term,
                is_transfer: false,
            },
            RaftBody::RequestVoteResponse {
                is_pre_vote: false,
                is_granted: true,
                commit,
                commit_term,
            },
        ],
        "8a000000 694bee4e 03000000 02000000 \
         43000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 \
         05 01 00 0400000000000000 0500000000000000 0300000000000000 0200000000000000 \
         33000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 \
         06 00 01 0300000000000000 0200000000000000",
    );
}

#[test]
fn a_snapshot_travels_in_these_bytes() {
    let snapshot = Box::new(SnapshotHead {
        index: LogIndex::new(99),
        term: Term::new(5),
        log_start: PeerLogStart {
            offset: Offset::new(1_000),
            index: LogIndex::new(100),
            previous_term: Term::new(5),
            previous_crc: 0xa1b2_c3d4,
        },
        membership_index: LogIndex::new(64),
        membership: Bytes::from_static(b"mm"),
        state_index: LogIndex::new(80),
        state_bytes: 3,
        state_crc: 0x0102_0304,
        next_offset: Offset::new(1_000),
    });
    batch_is(
        [
            RaftBody::InstallSnapshot { snapshot },
            RaftBody::TimeoutNow,
            RaftBody::Quiesce { index: LogIndex::new(99) },
            RaftBody::QuiesceResponse { index: LogIndex::new(99) },
        ],
        "06010000 f29fbf19 03000000 04000000 \
         77000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 \
         07 6300000000000000 0500000000000000 e803000000000000 6400000000000000 \
         0500000000000000 d4c3b2a1 4000000000000000 02000000 6d6d 5000000000000000 \
         0300000000000000 04030201 e803000000000000 \
         21000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 08 \
         29000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 \
         09 6300000000000000 \
         29000000 0900000000000000 0100000000000000 0200000000000000 0700000000000000 \
         0a 6300000000000000",
    );
    message_is(
        PeerMessage::SnapshotChunk(SnapshotChunk {
            incarnation: Incarnation::new(9),
            from: ReplicaId::new(1),
            to: ReplicaId::new(2),
            index: LogIndex::new(99),
            position: 0,
            bytes: Bytes::from_static(b"abc"),
            is_last: true,
        }),
        "38000000 dec5949b 04000000 0900000000000000 0100000000000000 0200000000000000 \
         6300000000000000 0000000000000000 01 03000000 616263",
    );
}

#[test]
fn a_sign_of_life_travels_in_these_bytes() {
    message_is(
        PeerMessage::Liveness(Liveness {
            node_id: NodeId::new(1),
            boot_epoch: 3,
            start_id: 4,
            sequence: 5,
            gives_way: true,
            stopped: vec![ReplicaId::new(10), ReplicaId::new(11)],
        }),
        "3d000000 1e353440 05000000 0100000000000000 0300000000000000 0400000000000000 \
         0500000000000000 01 02000000 0a00000000000000 0b00000000000000",
    );
}

#[test]
fn what_a_node_leads_travels_in_these_bytes() {
    let lead = |incarnation, term| Leadership {
        incarnation: Incarnation::new(incarnation),
        term: Term::new(term),
    };
    message_is(
        PeerMessage::Leaderships(Leaderships {
            is_anew: true,
            leads: vec![lead(9, 2), lead(7, 3)],
        }),
        "35000000 affd5885 08000000 01 02000000 10000000 0900000000000000 0200000000000000 \
         10000000 0700000000000000 0300000000000000",
    );
}

#[test]
fn requests_travel_in_these_bytes() {
    let request_is = |command, bytes| message_is(PeerMessage::Request { id: 8, command }, bytes);
    request_is(
        PeerRequest::Controller {
            idempotency: Idempotency { node_id: NodeId::new(1), start_id: 4, number: 6 },
            timeout_ms: 1_000,
            payload: Bytes::from_static(b"hi"),
        },
        "33000000 ccaf7c1a 06000000 0800000000000000 01 0100000000000000 0400000000000000 \
         0600000000000000 e8030000 02000000 6869",
    );
    request_is(
        PeerRequest::ReadRange {
            incarnation: Incarnation::new(9),
            first: LogIndex::new(4),
            last: LogIndex::new(6),
            term: Term::new(7),
            payload_crc: 0x0102_0304,
            bytes_max: 1 << 20,
        },
        "39000000 eeb70508 06000000 0800000000000000 02 0900000000000000 0400000000000000 \
         0600000000000000 0700000000000000 04030201 00001000",
    );
    request_is(PeerRequest::Probe {}, "11000000 fd6a408d 06000000 0800000000000000 03");
}

#[test]
fn answers_travel_in_these_bytes() {
    let answer_is = |result, bytes| message_is(PeerMessage::Answer { id: 8, result }, bytes);
    answer_is(
        PeerAnswer::Controller { payload: Bytes::from_static(b"hi") },
        "17000000 4f1c4a2d 07000000 0800000000000000 01 02000000 6869",
    );
    let (term, index) = (Term::new(7), LogIndex::new(5));
    let noop = PeerEntry { term, index, stamp: None, payload: Bytes::new() };
    answer_is(
        PeerAnswer::Range { entries: vec![noop] },
        "2e000000 b723f76f 07000000 0800000000000000 02 01000000 \
         15000000 0500000000000000 0700000000000000 00 00000000",
    );
    answer_is(
        PeerAnswer::Probe { is_founded: true, has_leader: false },
        "13000000 a0624ced 07000000 0800000000000000 03 01 00",
    );
    answer_is(
        PeerAnswer::Failed { code: 7, text: "no".into() },
        "17000000 63688f3a 07000000 0800000000000000 04 0700 0200 6e6f",
    );
}
