//! What nodes write to each other, beside their greetings: a turn's messages in frames, requests
//! to the controller and its answers, signs of life.
//!
//! ```text
//!   messages of a turn ── frames_of ──> RaftBatch ┐              ┌─ Said::Raft
//!   NodeEffect ──────────── letter ──> PeerMessage ├──(a link)──> said ── Said::Request
//!   snapshot ─────── snapshot_letters ────────────┤              ├─ Said::Chunk
//!   controller's answer ── answer_letter ────────┘              └─ Said::Node(input)
//! ```
//!
//! Invariants: a payload that does not match its checksum takes its message away, not its link:
//! one group's trouble is not another's. The number of a request is the request's for ever.
//!
//! Absent on purpose: links, their bytes and their bounds.

use crate::carried::{
    ControllerAnswer, answer_from_bytes, answer_to_bytes, request_from_bytes, request_to_bytes,
};
use bateau_core::codec::DecodeError;
use bateau_core::controller::ControllerRequest;
use bateau_core::node::{NodeEffect, NodeInput};
use bateau_core::replica::OutgoingSnapshot;
use bateau_core::shard::Effect;
use bateau_protocol::ids::{Incarnation, NodeId};
use bateau_protocol::limits::{
    PEER_ENTRIES_MAX, PEER_RAFT_BATCH_BYTES_MAX, PEER_RAFT_MESSAGES_MAX,
};
use bateau_protocol::peer::{
    Idempotency, PeerAnswer, PeerMessage, PeerRequest, RaftBody, RaftMessage, SnapshotChunk,
};
use std::sync::Arc;

/// Room that a frame needs beside its messages, in bytes.
const FRAME_ROOM_BYTES: usize = 64;

/// What a peer said.
#[derive(Debug)]
pub enum Said {
    /// For the replicas: messages in order; a damaged one is none.
    Raft {
        /// Those that are whole.
        messages: Vec<RaftMessage>,
        /// The logs of those that are not.
        damaged: Vec<Incarnation>,
    },
    /// A piece of a snapshot, for a replica.
    Chunk(SnapshotChunk),
    /// For the controller, if it is here.
    Request {
        /// Its number where it comes from.
        number: u64,
        /// What.
        request: ControllerRequest,
    },
    /// For the node as a whole.
    Node(NodeInput),
    /// A request or an answer of another version.
    Unknown(DecodeError),
    /// Nothing that this build serves.
    Nothing,
}

/// What a message means that `node` has sent on its link.
#[must_use]
pub fn said(node: NodeId, message: PeerMessage) -> Said {
    match message {
        PeerMessage::RaftBatch(messages) => {
            let (messages, damaged): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_whole);
            let damaged = damaged.into_iter().map(|message| message.incarnation).collect();
            Said::Raft { messages, damaged }
        }
        PeerMessage::SnapshotChunk(chunk) => Said::Chunk(chunk),
        PeerMessage::Liveness(sign) if sign.node_id == node => {
            Said::Node(NodeInput::Liveness(sign))
        }
        PeerMessage::Leaderships(leaderships) => {
            Said::Node(NodeInput::Leaderships { node, leaderships })
        }
        PeerMessage::Request { id, command: PeerRequest::Controller { payload, .. } } => {
            match request_from_bytes(&payload) {
                Ok(request) => Said::Request { number: id, request },
                Err(error) => Said::Unknown(error),
            }
        }
        PeerMessage::Answer { id, result: PeerAnswer::Controller { payload } } => {
            match answer_from_bytes(&payload) {
                Ok(response) => Said::Node(NodeInput::Answered { number: id, response }),
                Err(error) => Said::Unknown(error),
            }
        }
        _ => Said::Nothing,
    }
}

/// Whether every payload is what its sender stored.
fn is_whole(message: &RaftMessage) -> bool {
    let RaftBody::AppendEntries { entries, .. } = &message.body else { return true };
    entries.iter().all(|entry| entry.payload_crc_matches())
}

/// A message to another node, with about its bytes.
#[derive(Debug)]
pub struct Letter {
    /// To whom.
    pub node: NodeId,
    /// What.
    pub message: PeerMessage,
    /// Bytes that it will have, about.
    pub bytes: usize,
    /// Whether a link that has no room for it is given up: the next one begins anew.
    pub breaks_unsaid: bool,
}

/// What an effect wants written to another node; every other effect comes back.
///
/// - `origin`: node and start id of what is asked; its number does not matter.
///
/// Errors: the effect, which wants something else.
pub fn letter(effect: NodeEffect, origin: Idempotency) -> Result<Letter, NodeEffect> {
    match effect {
        NodeEffect::Send { node, liveness } => {
            let message = PeerMessage::Liveness(liveness);
            Ok(Letter { node, message, bytes: FRAME_ROOM_BYTES, breaks_unsaid: false })
        }
        NodeEffect::Announce { node, leaderships } => {
            let bytes = size_of_val(leaderships.leads.as_slice()) + FRAME_ROOM_BYTES;
            let message = PeerMessage::Leaderships(leaderships);
            Ok(Letter { node, message, bytes, breaks_unsaid: true })
        }
        NodeEffect::Request { node, number, request } => {
            let timeout_ms = u32::try_from(request.timeout_ms()).unwrap_or(u32::MAX);
            let payload = request_to_bytes(&request);
            let bytes = payload.len() + FRAME_ROOM_BYTES;
            // The number is the request's for ever: of this start of this node.
            let idempotency = Idempotency { number, ..origin };
            let command = PeerRequest::Controller { idempotency, timeout_ms, payload };
            let message = PeerMessage::Request { id: number, command };
            Ok(Letter { node, message, bytes, breaks_unsaid: false })
        }
        other => Err(other),
    }
}

/// A snapshot's head and its chunks, to be carried in this order; each chunk is cut when it is
/// asked for.
pub fn snapshot_letters(
    snapshot: &OutgoingSnapshot,
) -> impl Iterator<Item = Letter> + Send + use<> {
    let node = snapshot.node;
    let head = snapshot.message.clone();
    let bytes = head.encoded_bytes() + FRAME_ROOM_BYTES;
    let message = PeerMessage::RaftBatch(vec![head]);
    let head = Letter { node, message, bytes, breaks_unsaid: false };
    let chunks = snapshot.chunks().map(move |chunk| {
        let bytes = chunk.bytes.len() + FRAME_ROOM_BYTES;
        let message = PeerMessage::SnapshotChunk(chunk);
        Letter { node, message, bytes, breaks_unsaid: false }
    });
    std::iter::once(head).chain(chunks)
}

/// The controller's answer to a request that `node` has given this number.
#[must_use]
pub fn answer_letter(node: NodeId, number: u64, answer: &ControllerAnswer) -> Letter {
    let payload = answer_to_bytes(answer);
    let bytes = payload.len() + FRAME_ROOM_BYTES;
    let result = PeerAnswer::Controller { payload };
    let message = PeerMessage::Answer { id: number, result };
    Letter { node, message, bytes, breaks_unsaid: false }
}

/// What the node as a whole hears of what its shard wants done.
#[must_use]
pub fn told_by_shard(effect: &Effect) -> Option<NodeInput> {
    match effect {
        Effect::Metadata(metadata) => Some(NodeInput::Metadata(Arc::clone(metadata))),
        Effect::LeaderChanged { incarnation, leader, .. }
            if *incarnation == Incarnation::METADATA =>
        {
            Some(NodeInput::Controller(*leader))
        }
        Effect::Leads { incarnation, term } => {
            Some(NodeInput::Leads { incarnation: *incarnation, term: Some(*term) })
        }
        Effect::Assigned { incarnation, number } => {
            Some(NodeInput::Assigned { incarnation: *incarnation, number: *number })
        }
        Effect::NothingLeft { incarnation } => {
            Some(NodeInput::NothingLeft { incarnation: *incarnation })
        }
        Effect::Deposed { incarnation, .. } => {
            Some(NodeInput::Leads { incarnation: *incarnation, term: None })
        }
        Effect::Isolated { incarnation, replica_id, is_lost, .. } => Some(NodeInput::Stopped {
            incarnation: *incarnation,
            replica: *replica_id,
            is_lost: *is_lost,
        }),
        Effect::GivesWay(unfit) => Some(NodeInput::GivesWay(unfit.is_some())),
        _ => None,
    }
}

/// Messages in order, in as few frames as hold them, with about the bytes of each.
#[must_use]
pub fn frames_of(messages: Vec<RaftMessage>) -> Vec<(PeerMessage, usize)> {
    let limit_bytes = PEER_RAFT_BATCH_BYTES_MAX - FRAME_ROOM_BYTES;
    let mut frames: Vec<(Vec<RaftMessage>, usize)> = Vec::new();
    let mut entry_count = 0;
    for message in messages {
        let (bytes, entries) = (message.encoded_bytes(), message.body.entries().len());
        match frames.last_mut() {
            Some((frame, held))
                if held.saturating_add(bytes) <= limit_bytes
                    && frame.len() < PEER_RAFT_MESSAGES_MAX
                    && entry_count + entries <= PEER_ENTRIES_MAX =>
            {
                frame.push(message);
                *held += bytes;
                entry_count += entries;
            }
            _ => {
                entry_count = entries;
                frames.push((vec![message], bytes));
            }
        }
    }
    frames.into_iter().map(|(frame, bytes)| (PeerMessage::RaftBatch(frame), bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::ids::{LogIndex, ReplicaId, Term};

    fn heartbeat(group: u64) -> RaftMessage {
        RaftMessage {
            incarnation: Incarnation::new(group),
            from: ReplicaId::new(1),
            to: ReplicaId::new(2),
            term: Term::new(3),
            body: RaftBody::Heartbeat { commit: LogIndex::new(4), context: Default::default() },
        }
    }

    #[test]
    fn a_turn_that_is_too_large_for_one_frame_takes_several() {
        let messages: Vec<RaftMessage> = (0..200_000).map(heartbeat).collect();
        let frames = frames_of(messages.clone());
        assert!(frames.len() > 1);
        let mut carried = Vec::new();
        for (frame, bytes) in frames {
            assert!(bytes <= PEER_RAFT_BATCH_BYTES_MAX - FRAME_ROOM_BYTES);
            assert!(frame.encode().is_ok());
            let PeerMessage::RaftBatch(batch) = frame else { panic!("found {frame:?}") };
            carried.extend(batch);
        }
        assert_eq!(carried, messages);
    }
}
