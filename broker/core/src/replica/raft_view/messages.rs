//! Raft's messages in our own words, and back.
//!
//! Protobuf is what the `raft` package speaks inside this process; no byte of it comes from or goes
//! to a network (R22).
//!
//! Absent on purpose: whether a message may be believed, which is asked before it gets here.

use crate::replica::stamp::{self, Stamp};
use bateau_protocol::frame::FrameKind;
use bateau_protocol::ids::{Incarnation, LogIndex, ReplicaId, Term};
use bateau_protocol::peer::{EntryStamp, PeerEntry, RaftBody, RaftMessage, Rejection};
use bytes::Bytes;
use raft::CAMPAIGN_TRANSFER;
use raft::eraftpb::{Entry, Message, MessageType};

/// What raft wants sent; `None` for what never leaves a process.
pub(super) fn outbound(incarnation: Incarnation, mut message: Message) -> Option<RaftMessage> {
    let kind = message.get_msg_type();
    let (index, log_term) = (LogIndex::new(message.index), Term::new(message.log_term));
    let commit = LogIndex::new(message.commit);
    let commit_term = Term::new(message.commit_term);
    let is_pre_vote =
        matches!(kind, MessageType::MsgRequestPreVote | MessageType::MsgRequestPreVoteResponse);
    let body = match kind {
        MessageType::MsgAppend => RaftBody::AppendEntries {
            previous_index: index,
            previous_term: log_term,
            commit,
            entries: message.take_entries().into_iter().map(outbound_entry).collect(),
        },
        MessageType::MsgAppendResponse => RaftBody::AppendEntriesResponse {
            index,
            commit,
            rejected: message.reject.then(|| Rejection {
                hint_index: LogIndex::new(message.reject_hint),
                hint_term: log_term,
            }),
            requested_snapshot: LogIndex::new(message.request_snapshot),
        },
        MessageType::MsgHeartbeat => {
            RaftBody::Heartbeat { commit, context: message.take_context() }
        }
        MessageType::MsgHeartbeatResponse => {
            RaftBody::HeartbeatResponse { commit, context: message.take_context() }
        }
        MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => RaftBody::RequestVote {
            is_pre_vote,
            last_index: index,
            last_term: log_term,
            commit,
            commit_term,
            is_transfer: message.get_context() == CAMPAIGN_TRANSFER,
        },
        MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse => {
            let is_granted = !message.reject;
            RaftBody::RequestVoteResponse { is_pre_vote, is_granted, commit, commit_term }
        }
        MessageType::MsgTimeoutNow => RaftBody::TimeoutNow,
        // Forwarded proposals and reads (R18), and what is local to raft.
        _ => return None,
    };
    let (from, to) = (ReplicaId::new(message.from), ReplicaId::new(message.to));
    Some(RaftMessage { incarnation, from, to, term: Term::new(message.term), body })
}

/// What a peer said, as raft wants to hear it.
/// `None` for what is not raft's business.
pub(super) fn inbound(received: RaftMessage) -> Option<Message> {
    let mut message = Message {
        from: received.from.get(),
        to: received.to.get(),
        term: received.term.get(),
        ..Message::default()
    };
    match received.body {
        RaftBody::AppendEntries { previous_index, previous_term, commit, entries } => {
            message.set_msg_type(MessageType::MsgAppend);
            message.index = previous_index.get();
            message.log_term = previous_term.get();
            message.commit = commit.get();
            let entries: Vec<Entry> = entries.into_iter().map(inbound_entry).collect();
            message.set_entries(entries.into());
        }
        RaftBody::AppendEntriesResponse { index, commit, rejected, requested_snapshot } => {
            message.set_msg_type(MessageType::MsgAppendResponse);
            message.index = index.get();
            message.commit = commit.get();
            message.request_snapshot = requested_snapshot.get();
            if let Some(Rejection { hint_index, hint_term }) = rejected {
                message.reject = true;
                message.reject_hint = hint_index.get();
                message.log_term = hint_term.get();
            }
        }
        RaftBody::Heartbeat { commit, context } => {
            message.set_msg_type(MessageType::MsgHeartbeat);
            message.commit = commit.get();
            message.context = context;
        }
        RaftBody::HeartbeatResponse { commit, context } => {
            message.set_msg_type(MessageType::MsgHeartbeatResponse);
            message.commit = commit.get();
            message.context = context;
        }
        vote @ (RaftBody::RequestVote { .. } | RaftBody::RequestVoteResponse { .. }) => {
            inbound_vote(vote, &mut message);
        }
        RaftBody::TimeoutNow => message.set_msg_type(MessageType::MsgTimeoutNow),
        RaftBody::InstallSnapshot { .. } => message.set_msg_type(MessageType::MsgSnapshot),
        RaftBody::Quiesce { .. } | RaftBody::QuiesceResponse { .. } => return None,
    }
    Some(message)
}

fn inbound_vote(body: RaftBody, message: &mut Message) {
    match body {
        RaftBody::RequestVote {
            is_pre_vote,
            last_index,
            last_term,
            commit,
            commit_term,
            is_transfer,
        } => {
            message.set_msg_type(match is_pre_vote {
                true => MessageType::MsgRequestPreVote,
                false => MessageType::MsgRequestVote,
            });
            message.index = last_index.get();
            message.log_term = last_term.get();
            message.commit = commit.get();
            message.commit_term = commit_term.get();
            if is_transfer {
                message.context = Bytes::from_static(CAMPAIGN_TRANSFER);
            }
        }
        RaftBody::RequestVoteResponse { is_pre_vote, is_granted, commit, commit_term } => {
            message.set_msg_type(match is_pre_vote {
                true => MessageType::MsgRequestPreVoteResponse,
                false => MessageType::MsgRequestVoteResponse,
            });
            message.reject = !is_granted;
            message.commit = commit.get();
            message.commit_term = commit_term.get();
        }
        _ => {}
    }
}

fn outbound_entry(mut entry: Entry) -> PeerEntry {
    stamp::settle(&mut entry);
    let stamp = Stamp::decode(&entry.context).map(|stamp| EntryStamp {
        kind: stamp.kind,
        base_offset: stamp.base_offset,
        record_count: stamp.record_count,
        payload_crc: stamp.payload_crc,
    });
    let (term, index) = (Term::new(entry.term), LogIndex::new(entry.index));
    PeerEntry { term, index, stamp, payload: entry.data }
}

fn inbound_entry(entry: PeerEntry) -> Entry {
    let stamp = entry.stamp.map(|stamp| Stamp {
        kind: stamp.kind,
        base_offset: stamp.base_offset,
        record_count: stamp.record_count,
        payload_crc: stamp.payload_crc,
    });
    let kind = stamp.map_or(FrameKind::Noop, |stamp| stamp.kind);
    Entry {
        entry_type: stamp::entry_type(kind),
        term: entry.term.get(),
        index: entry.index.get(),
        data: entry.payload,
        context: stamp.map(|stamp| stamp.encode()).unwrap_or_default(),
        ..Entry::default()
    }
}
