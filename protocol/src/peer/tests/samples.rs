//! Pseudo-random messages that the codec must take, of every kind and every choice.

use super::super::*;
use crate::frame::{Frame, FrameKind};
use crate::ids::{Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use crate::wire::Text;
use crate::wire::tests::Source;
use bytes::Bytes;

/// Kinds and choices together: so many seeds in a row have all of them.
pub(super) const SHAPES: u64 = 21;

/// The message of a seed. Its records are stamped, so that it comes back as it was.
pub(super) fn message(seed: u64) -> PeerMessage {
    let mut source = Source::new(seed);
    let source = &mut source;
    match seed % SHAPES {
        0 => PeerMessage::Hello(hello(source)),
        1 => PeerMessage::HelloAnswer(HelloAnswer::Welcome(welcome(source))),
        2 => PeerMessage::HelloAnswer(HelloAnswer::Refused(Refusal {
            reason: RefusalReason::from_number(source.below(12) as u16),
            text: text(source, 60),
        })),
        3 => {
            let count = source.below(20);
            PeerMessage::RaftBatch((0..count).map(|_| raft(source, None)).collect())
        }
        shape @ 4..=11 => PeerMessage::RaftBatch(vec![raft(source, Some(shape as usize - 4))]),
        12 => PeerMessage::SnapshotChunk(SnapshotChunk {
            incarnation: Incarnation::new(number(source)),
            from: ReplicaId::new(number(source)),
            to: ReplicaId::new(number(source)),
            index: LogIndex::new(number(source)),
            position: source.below(500 << 20) as u64,
            bytes: source.bytes(200),
            is_last: source.one_in(2),
        }),
        13 => PeerMessage::Liveness(Liveness {
            node_id: node(source),
            boot_epoch: number(source),
            start_id: number(source),
            sequence: number(source),
            gives_way: source.one_in(2),
            stopped: (0..source.below(5)).map(|_| ReplicaId::new(number(source))).collect(),
        }),
        14 | 15 => PeerMessage::Request { id: number(source), command: request(source) },
        18 => PeerMessage::Leaderships(Leaderships {
            is_anew: source.one_in(2),
            leads: (0..source.below(5))
                .map(|_| Leadership {
                    incarnation: Incarnation::new(number(source)),
                    term: term(source),
                })
                .collect(),
        }),
        shape @ 19..=20 => PeerMessage::RaftBatch(vec![raft(source, Some(shape as usize - 11))]),
        _ => PeerMessage::Answer { id: number(source), result: answer(source) },
    }
}

fn number(source: &mut Source) -> u64 {
    match source.below(6) {
        0 => u64::MAX,
        1 => 0,
        2 => 1 << source.below(64),
        _ => source.bits(),
    }
}

fn node(source: &mut Source) -> NodeId {
    NodeId::new(number(source) & 0x7fff_ffff)
}

fn index(source: &mut Source) -> LogIndex {
    LogIndex::new(number(source))
}

fn term(source: &mut Source) -> Term {
    Term::new(number(source))
}

fn id(source: &mut Source) -> [u8; 16] {
    std::array::from_fn(|_| source.bits() as u8)
}

fn text(source: &mut Source, bound: usize) -> Text {
    let count = source.below(bound);
    (0..count).map(|_| ['a', 'ä', '✓', ':'][source.below(4)]).collect::<String>().into()
}

fn voters(source: &mut Source) -> Vec<VoterEntry> {
    let count = source.below(4);
    let voter = |source: &mut Source| VoterEntry {
        node_id: node(source),
        address: text(source, 40),
        founding_id: id(source),
    };
    (0..count).map(|_| voter(source)).collect()
}

fn hello(source: &mut Source) -> Hello {
    Hello {
        version_min: source.bits() as u16,
        version_max: source.bits() as u16,
        cluster_id: source.one_in(2).then(|| id(source)),
        node_id: node(source),
        founding_id: id(source),
        boot_epoch: number(source),
        start_id: number(source),
        expected_node_id: node(source),
        shard: source.bits() as u16,
        is_founded: source.one_in(2),
        voters: voters(source),
        peers_address: format!("host{}:1", source.bits() % 100).into(),
        metadata_index: LogIndex::new(number(source)),
        former_founding_id: source.one_in(2).then(|| id(source)),
    }
}

fn welcome(source: &mut Source) -> Welcome {
    Welcome {
        version: source.bits() as u16,
        cluster_id: source.one_in(2).then(|| id(source)),
        node_id: node(source),
        founding_id: id(source),
        boot_epoch: number(source),
        start_id: number(source),
        is_founded: source.one_in(2),
        voters: voters(source),
        replica_id: source.one_in(2).then(|| ReplicaId::new(number(source))),
        metadata_index: LogIndex::new(number(source)),
    }
}

/// Entries behind `previous`, with terms from its term to 40 above, payloads below `bytes_max`.
pub(super) fn entries(
    source: &mut Source,
    previous: (LogIndex, Term),
    count: usize,
    bytes_max: usize,
) -> Vec<PeerEntry> {
    let (mut index, mut term) = previous;
    let mut offset = Offset::new(source.bits() >> 2);
    let entry = |_| {
        index = index.next();
        term = Term::new(term.get() + source.below(3) as u64);
        if source.one_in(6) {
            return PeerEntry { term, index, stamp: None, payload: Bytes::new() };
        }
        let kind = FrameKind::from_number(source.below(6) as u8 + 1).expect("1 to 6");
        let record_count = if kind.counts_offsets() { source.below(1_000) as u32 } else { 0 };
        let payload = source.bytes(bytes_max);
        let mut frame = Frame::new(kind, (term, index), offset, record_count, payload);
        frame.payload = frame.stamped_payload();
        offset = frame.next_coordinates().1;
        PeerEntry::from_frame(&frame)
    };
    (0..count).map(entry).collect()
}

fn raft(source: &mut Source, shape: Option<usize>) -> RaftMessage {
    let shape = shape.unwrap_or_else(|| source.below(10));
    let mut message = RaftMessage {
        incarnation: Incarnation::new(number(source)),
        from: ReplicaId::new(number(source)),
        to: ReplicaId::new(number(source)),
        term: term(source),
        body: RaftBody::TimeoutNow,
    };
    message.body = match shape {
        0 => {
            let previous_index = LogIndex::new(source.bits() >> 1);
            let previous_term = Term::new(source.bits() >> 1);
            let count = source.below(6);
            let entries = entries(source, (previous_index, previous_term), count, 60);
            let last = entries.last().map_or(previous_term, |last| last.term);
            message.term = Term::new(last.get() + source.below(2) as u64);
            let commit = index(source);
            RaftBody::AppendEntries { previous_index, previous_term, commit, entries }
        }
        1 => RaftBody::AppendEntriesResponse {
            index: index(source),
            commit: index(source),
            rejected: source
                .one_in(2)
                .then(|| Rejection { hint_index: index(source), hint_term: term(source) }),
            requested_snapshot: index(source),
        },
        2 => RaftBody::Heartbeat { commit: index(source), context: source.bytes(65) },
        3 => RaftBody::HeartbeatResponse { commit: index(source), context: source.bytes(65) },
        4 => RaftBody::RequestVote {
            is_pre_vote: source.one_in(2),
            last_index: index(source),
            last_term: term(source),
            commit: index(source),
            commit_term: term(source),
            is_transfer: source.one_in(2),
        },
        5 => RaftBody::RequestVoteResponse {
            is_pre_vote: source.one_in(2),
            is_granted: source.one_in(2),
            commit: index(source),
            commit_term: term(source),
        },
        6 => RaftBody::InstallSnapshot { snapshot: Box::new(snapshot(source)) },
        7 => RaftBody::TimeoutNow,
        8 => RaftBody::Quiesce { index: index(source) },
        _ => RaftBody::QuiesceResponse { index: index(source) },
    };
    message
}

fn snapshot(source: &mut Source) -> SnapshotHead {
    SnapshotHead {
        index: index(source),
        term: term(source),
        log_start: PeerLogStart {
            offset: Offset::new(number(source)),
            index: index(source),
            previous_term: term(source),
            previous_crc: source.bits() as u32,
        },
        membership_index: index(source),
        membership: source.bytes(100),
        state_index: index(source),
        state_bytes: source.below((512 << 20) + 1) as u64,
        state_crc: source.bits() as u32,
        next_offset: Offset::new(number(source)),
    }
}

fn request(source: &mut Source) -> PeerRequest {
    match source.below(3) {
        0 => PeerRequest::Controller {
            idempotency: Idempotency {
                node_id: node(source),
                start_id: number(source),
                number: number(source),
            },
            timeout_ms: source.bits() as u32,
            payload: source.bytes(100),
        },
        1 => {
            let (one, other) = (index(source), index(source));
            PeerRequest::ReadRange {
                incarnation: Incarnation::new(number(source)),
                first: one.min(other),
                last: one.max(other),
                term: term(source),
                payload_crc: source.bits() as u32,
                bytes_max: source.bits() as u32,
            }
        }
        _ => PeerRequest::Probe {},
    }
}

fn answer(source: &mut Source) -> PeerAnswer {
    match source.below(4) {
        0 => PeerAnswer::Controller { payload: source.bytes(100) },
        1 => {
            let count = source.below(5);
            let previous = (LogIndex::new(source.bits() >> 1), Term::new(source.bits() >> 1));
            PeerAnswer::Range { entries: entries(source, previous, count, 60) }
        }
        2 => PeerAnswer::Probe { is_founded: source.one_in(2), has_leader: source.one_in(2) },
        _ => PeerAnswer::Failed { code: source.bits() as u16, text: text(source, 60) },
    }
}
