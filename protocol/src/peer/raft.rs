//! Raft's messages, as plain types.
//!
//! Absent on purpose: messages that never travel (`Hup`, `Beat`, `Unreachable`, …); `Propose`,
//! `ReadIndex` and `TransferLeader`, which a peer never steps here; priorities of candidates.

use super::entry::{self, PeerEntry, Run};
use super::error::{PeerDecodeError, PeerEncodeError};
use super::reader::Reader;
use super::snapshot::SnapshotHead;
use super::writer::{LENT_BYTES_MIN, Writer};
use crate::ids::{Incarnation, LogIndex, ReplicaId, Term};
use crate::limits::{PEER_CONTEXT_BYTES_MAX, PEER_ENTRIES_MAX, PEER_RAFT_MESSAGES_MAX};
use bytes::Bytes;

/// One message from a replica to another one of its group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RaftMessage {
    /// The group: the partition's birth id.
    pub incarnation: Incarnation,
    /// The sender.
    pub from: ReplicaId,
    /// The receiver.
    pub to: ReplicaId,
    /// The sender's term, or in a pre-vote the one that it would have.
    pub term: Term,
    /// What it says.
    pub body: RaftBody,
}

/// What a Raft message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RaftBody {
    /// Entries to append behind a known one.
    AppendEntries {
        /// Index of the entry before the first one.
        previous_index: LogIndex,
        /// Its term.
        previous_term: Term,
        /// The leader's commit index.
        commit: LogIndex,
        /// Consecutive from `previous_index + 1` on; may be empty.
        entries: Vec<PeerEntry>,
    },
    /// How far a follower's log is.
    AppendEntriesResponse {
        /// Last index that matches; where rejected, the `previous_index` that did not.
        index: LogIndex,
        /// The follower's commit index.
        commit: LogIndex,
        /// Set where the entries did not fit the follower's log.
        rejected: Option<Rejection>,
        /// The index that a snapshot must reach which the follower asks for; 0 where it does not.
        requested_snapshot: LogIndex,
    },
    /// The leader lives.
    Heartbeat {
        /// What of the follower's log is committed.
        commit: LogIndex,
        /// Of a read index; comes back in the response. At most 64 bytes.
        context: Bytes,
    },
    /// The follower takes the sender for the leader.
    HeartbeatResponse {
        /// The follower's commit index.
        commit: LogIndex,
        /// The heartbeat's. At most 64 bytes.
        context: Bytes,
    },
    /// A candidate asks for a vote.
    RequestVote {
        /// Asks only whether a vote would be given (Raft thesis, 9.6).
        is_pre_vote: bool,
        /// The candidate's last index.
        last_index: LogIndex,
        /// Its term.
        last_term: Term,
        /// The candidate's commit index.
        commit: LogIndex,
        /// Term of the entry there.
        commit_term: Term,
        /// The leader wants it so: the lease of followers does not count.
        is_transfer: bool,
    },
    /// A vote, given or not.
    RequestVoteResponse {
        /// Whether a pre-vote was asked for.
        is_pre_vote: bool,
        /// Whether it is given.
        is_granted: bool,
        /// The voter's commit index; 0 where it is not said.
        commit: LogIndex,
        /// Term of the entry there.
        commit_term: Term,
    },
    /// The follower is behind the log's start; the state follows in [`super::SnapshotChunk`]s.
    InstallSnapshot {
        /// All of the snapshot but the state.
        snapshot: Box<SnapshotHead>,
    },
    /// The leader asks the receiver to campaign at once.
    TimeoutNow,
    /// The leader has nothing to do, and asks whether the follower has nothing to do either.
    Quiesce {
        /// Where both logs end, all of them committed and applied.
        index: LogIndex,
    },
    /// The follower has nothing to do, and does nothing until somebody speaks to it.
    QuiesceResponse {
        /// As the leader said it.
        index: LogIndex,
    },
}

/// Why a follower did not append, and where the leader may try next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// An index at or below which the logs may match.
    pub hint_index: LogIndex,
    /// Term of the follower's entry there.
    pub hint_term: Term,
}

/// Numbers of the bodies.
mod number {
    pub(super) const APPEND_ENTRIES: u8 = 1;
    pub(super) const APPEND_ENTRIES_RESPONSE: u8 = 2;
    pub(super) const HEARTBEAT: u8 = 3;
    pub(super) const HEARTBEAT_RESPONSE: u8 = 4;
    pub(super) const REQUEST_VOTE: u8 = 5;
    pub(super) const REQUEST_VOTE_RESPONSE: u8 = 6;
    pub(super) const INSTALL_SNAPSHOT: u8 = 7;
    pub(super) const TIMEOUT_NOW: u8 = 8;
    pub(super) const QUIESCE: u8 = 9;
    pub(super) const QUIESCE_RESPONSE: u8 = 10;
}

/// Length, incarnation, from, to, term and the body's number.
pub(super) const MESSAGE_BYTES_MIN: usize = 4 + 4 * 8 + 1;

/// All messages of a frame.
pub(super) fn read_batch(reader: &mut Reader) -> Result<Vec<RaftMessage>, PeerDecodeError> {
    let mut entries_left = PEER_ENTRIES_MAX;
    reader.list("messages", (MESSAGE_BYTES_MIN, PEER_RAFT_MESSAGES_MAX), |reader| {
        let message = RaftMessage::read(&mut reader.nested("messages")?, entries_left)?;
        entries_left = entries_left.saturating_sub(message.body.entries().len());
        Ok(message)
    })
}

/// The counterpart of [`read_batch`].
pub(super) fn write_batch(
    messages: &[RaftMessage],
    writer: &mut Writer,
) -> Result<(), PeerEncodeError> {
    let mut entries_left = PEER_ENTRIES_MAX;
    writer.list("messages", messages, PEER_RAFT_MESSAGES_MAX, |writer, message| {
        writer.nested("messages", |writer| message.write(writer, entries_left))?;
        entries_left = entries_left.saturating_sub(message.body.entries().len());
        Ok(())
    })
}

/// Bytes of a batch that are copied, so that its buffer is allocated once.
pub(super) fn batch_room_bytes(messages: &[RaftMessage]) -> usize {
    let lent = |entry: &&PeerEntry| entry.payload.len() >= LENT_BYTES_MIN;
    let copied = messages.iter().map(|message| {
        let entries = message.body.entries().iter();
        let lent_bytes: usize = entries.filter(lent).map(|entry| entry.payload.len() - 16).sum();
        message.encoded_bytes().saturating_sub(lent_bytes)
    });
    copied.fold(4, usize::saturating_add)
}

impl RaftMessage {
    /// Bytes that it takes in a frame. The messages of one frame have at most
    /// `PEER_RAFT_BATCH_BYTES_MAX - 12` together, and one message with one entry always fits.
    #[must_use]
    pub fn encoded_bytes(&self) -> usize {
        MESSAGE_BYTES_MIN.saturating_add(self.body.encoded_bytes())
    }

    fn read(reader: &mut Reader, entries_max: usize) -> Result<Self, PeerDecodeError> {
        let incarnation = Incarnation::new(reader.u64("incarnation")?);
        let from = ReplicaId::new(reader.u64("from")?);
        let to = ReplicaId::new(reader.u64("to")?);
        let term = reader.term("term")?;
        let body = RaftBody::read(reader, term, entries_max)?;
        Ok(Self { incarnation, from, to, term, body })
    }

    fn write(&self, writer: &mut Writer, entries_max: usize) -> Result<(), PeerEncodeError> {
        writer.u64(self.incarnation.get());
        writer.u64(self.from.get());
        writer.u64(self.to.get());
        writer.u64(self.term.get());
        writer.u8(self.body.number());
        self.body.write(writer, self.term, entries_max)
    }
}

impl RaftBody {
    /// The entries that it carries.
    #[must_use]
    pub fn entries(&self) -> &[PeerEntry] {
        match self {
            Self::AppendEntries { entries, .. } => entries,
            _ => &[],
        }
    }

    const fn number(&self) -> u8 {
        match self {
            Self::AppendEntries { .. } => number::APPEND_ENTRIES,
            Self::AppendEntriesResponse { .. } => number::APPEND_ENTRIES_RESPONSE,
            Self::Heartbeat { .. } => number::HEARTBEAT,
            Self::HeartbeatResponse { .. } => number::HEARTBEAT_RESPONSE,
            Self::RequestVote { .. } => number::REQUEST_VOTE,
            Self::RequestVoteResponse { .. } => number::REQUEST_VOTE_RESPONSE,
            Self::InstallSnapshot { .. } => number::INSTALL_SNAPSHOT,
            Self::TimeoutNow => number::TIMEOUT_NOW,
            Self::Quiesce { .. } => number::QUIESCE,
            Self::QuiesceResponse { .. } => number::QUIESCE_RESPONSE,
        }
    }

    fn encoded_bytes(&self) -> usize {
        match self {
            Self::AppendEntries { entries, .. } => {
                let bytes = entries.iter().map(PeerEntry::encoded_bytes);
                bytes.fold(3 * 8 + 4, usize::saturating_add)
            }
            Self::AppendEntriesResponse { rejected, .. } => 25 + rejected.map_or(0, |_| 16),
            Self::Heartbeat { context, .. } | Self::HeartbeatResponse { context, .. } => {
                context.len().saturating_add(8 + 4)
            }
            Self::RequestVote { .. } => 2 + 4 * 8,
            Self::RequestVoteResponse { .. } => 2 + 2 * 8,
            Self::InstallSnapshot { snapshot } => snapshot.encoded_bytes(),
            Self::TimeoutNow => 0,
            Self::Quiesce { .. } | Self::QuiesceResponse { .. } => 8,
        }
    }

    fn read(reader: &mut Reader, term: Term, entries_max: usize) -> Result<Self, PeerDecodeError> {
        match reader.u8("body")? {
            number::APPEND_ENTRIES => {
                let previous_index = reader.index("previous_index")?;
                let previous_term = reader.term("previous_term")?;
                let commit = reader.index("commit")?;
                let run = Run::behind(previous_index, previous_term, term);
                let entries = entry::read_run(reader, run, entries_max)?;
                Ok(Self::AppendEntries { previous_index, previous_term, commit, entries })
            }
            number::APPEND_ENTRIES_RESPONSE => Ok(Self::AppendEntriesResponse {
                index: reader.index("index")?,
                commit: reader.index("commit")?,
                requested_snapshot: reader.index("requested_snapshot")?,
                rejected: reader.optional("rejected", Rejection::read)?,
            }),
            number::HEARTBEAT => Ok(Self::Heartbeat {
                commit: reader.index("commit")?,
                context: reader.bytes("context", PEER_CONTEXT_BYTES_MAX)?,
            }),
            number::HEARTBEAT_RESPONSE => Ok(Self::HeartbeatResponse {
                commit: reader.index("commit")?,
                context: reader.bytes("context", PEER_CONTEXT_BYTES_MAX)?,
            }),
            number::REQUEST_VOTE => Ok(Self::RequestVote {
                is_pre_vote: reader.flag("is_pre_vote")?,
                is_transfer: reader.flag("is_transfer")?,
                last_index: reader.index("last_index")?,
                last_term: reader.term("last_term")?,
                commit: reader.index("commit")?,
                commit_term: reader.term("commit_term")?,
            }),
            number::REQUEST_VOTE_RESPONSE => Ok(Self::RequestVoteResponse {
                is_pre_vote: reader.flag("is_pre_vote")?,
                is_granted: reader.flag("is_granted")?,
                commit: reader.index("commit")?,
                commit_term: reader.term("commit_term")?,
            }),
            number::INSTALL_SNAPSHOT => {
                Ok(Self::InstallSnapshot { snapshot: Box::new(SnapshotHead::read(reader)?) })
            }
            number::TIMEOUT_NOW => Ok(Self::TimeoutNow),
            number::QUIESCE => Ok(Self::Quiesce { index: reader.index("index")? }),
            number::QUIESCE_RESPONSE => Ok(Self::QuiesceResponse { index: reader.index("index")? }),
            found => Err(reader.value("body", found.into(), "1 to 10")),
        }
    }

    fn write(
        &self,
        writer: &mut Writer,
        term: Term,
        entries_max: usize,
    ) -> Result<(), PeerEncodeError> {
        match self {
            Self::AppendEntries { previous_index, previous_term, commit, entries } => {
                writer.u64(previous_index.get());
                writer.u64(previous_term.get());
                writer.u64(commit.get());
                let run = Run::behind(*previous_index, *previous_term, term);
                entry::write_run(entries, run, entries_max, writer)?;
            }
            Self::AppendEntriesResponse { index, commit, rejected, requested_snapshot } => {
                writer.u64(index.get());
                writer.u64(commit.get());
                writer.u64(requested_snapshot.get());
                writer.optional(*rejected, |writer, rejection| {
                    writer.u64(rejection.hint_index.get());
                    writer.u64(rejection.hint_term.get());
                });
            }
            Self::Heartbeat { commit, context } | Self::HeartbeatResponse { commit, context } => {
                writer.u64(commit.get());
                writer.bytes("context", context, PEER_CONTEXT_BYTES_MAX)?;
            }
            Self::RequestVote {
                is_pre_vote,
                last_index,
                last_term,
                commit,
                commit_term,
                is_transfer,
            } => {
                writer.flag(*is_pre_vote);
                writer.flag(*is_transfer);
                writer.u64(last_index.get());
                writer.u64(last_term.get());
                writer.u64(commit.get());
                writer.u64(commit_term.get());
            }
            Self::RequestVoteResponse { is_pre_vote, is_granted, commit, commit_term } => {
                writer.flag(*is_pre_vote);
                writer.flag(*is_granted);
                writer.u64(commit.get());
                writer.u64(commit_term.get());
            }
            Self::InstallSnapshot { snapshot } => snapshot.write(writer)?,
            Self::TimeoutNow => {}
            Self::Quiesce { index } | Self::QuiesceResponse { index } => writer.u64(index.get()),
        }
        Ok(())
    }
}

impl Rejection {
    fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        let (hint_index, hint_term) = (reader.index("hint_index")?, reader.term("hint_term")?);
        Ok(Self { hint_index, hint_term })
    }
}
