//! What a turn wants done, in order.
//!
//! Absent on purpose: doing it. The shell performs effects and decides nothing.

use super::fitness::Unfit;
use crate::consumer_group::{GroupQueryResponse, GroupResponse};
use crate::controller::{ControllerError, ControllerResponse, Metadata, TopicConfig};
use crate::replica::trim::LogStart;
use crate::replica::{NotLeading, OutgoingSnapshot, ProduceAck, ProduceError, Vote};
use crate::shard::LogBirth;
use crate::ticket::Ticket;
use bateau_protocol::frame::Frame;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use bateau_protocol::peer::RaftMessage;
use bytes::Bytes;
use std::sync::Arc;

/// One thing to be done.
#[derive(Debug)]
pub enum Effect {
    /// Make a log with its first frame. Answered by `Input::Created` or `Input::CreateFailed`.
    Create(LogBirth),
    /// Write term and vote, drop what is overwritten, then write frames, and flush. Answered by
    /// `Input::Persisted` or `Input::PersistFailed`.
    Persist {
        /// The log.
        incarnation: Incarnation,
        /// Number to answer with.
        ready: u64,
        /// Term and vote, where they changed.
        vote: Option<Vote>,
        /// Everything from this index on that the log holds goes before the append.
        truncate_from: Option<LogIndex>,
        /// Frames; the first one follows what is left of the log.
        frames: Vec<Frame>,
    },
    /// Send this to the node's peer, in order with what was sent before. It may get lost.
    Send {
        /// Where.
        node: NodeId,
        /// What.
        message: RaftMessage,
    },
    /// Carry a snapshot to its node: the head, then the chunks, in order. Answered by
    /// [`OutgoingSnapshot::outcome`].
    SendSnapshot(Box<OutgoingSnapshot>),
    /// Put a snapshot in the place of everything that the log holds. Answered by
    /// `Input::Installed`; until then the log is asked for nothing else.
    Install {
        /// The log.
        incarnation: Incarnation,
        /// Term and vote to go on with.
        vote: Vote,
        /// Where the log begins: behind the snapshot's index, which is committed.
        start: LogStart,
        /// Index that the state includes.
        applied: LogIndex,
        /// The encoded state, as for `StoreState`.
        state: Bytes,
    },
    /// Read frames for a follower that lags. Answered by `Input::FramesRead`.
    ReadFrames {
        /// The log.
        incarnation: Incarnation,
        /// Number to answer with.
        fetch: u64,
        /// The first one.
        first: LogIndex,
        /// The last one, at most; all of it is committed.
        last: LogIndex,
        /// Payload bytes, the first frame excepted.
        bytes_max: u64,
    },
    /// Store derived state in a file of its own. Answered by `Input::StateStored`.
    StoreState {
        /// The log.
        incarnation: Incarnation,
        /// Index that the state includes.
        applied: LogIndex,
        /// The encoded state.
        state: Bytes,
    },
    /// A committed trim: the log starts here now, and what lies before may go.
    Trim {
        /// The log.
        incarnation: Incarnation,
        /// Its new start.
        start: LogStart,
    },
    /// Close the segment that is being written with the next append.
    Roll {
        /// The log.
        incarnation: Incarnation,
    },
    /// By a committed tombstone the topic is gone, or this replica is not of its partition any
    /// more: so is the log.
    Delete {
        /// The log.
        incarnation: Incarnation,
        /// Whether the partition lives on, elsewhere: then nothing is kept here for a day.
        lives_on: bool,
    },
    /// This node gives its leaderships away for this reason, and wants none; or `None`: it leads
    /// again.
    GivesWay(Option<Unfit>),
    /// Another replica of the partition takes this one's place here: its log goes, and is kept for
    /// whoever wants to look at it.
    Quarantine {
        /// The log.
        incarnation: Incarnation,
    },
    /// This node has nothing of a removed replica, not even in its trash.
    NothingLeft {
        /// The partition.
        incarnation: Incarnation,
    },
    /// A topic's configuration governs this log.
    Configure {
        /// The log.
        incarnation: Incarnation,
        /// The whole configuration.
        config: TopicConfig,
    },
    /// Readers may see more, and the commit index may be remembered.
    Committed {
        /// The log.
        incarnation: Incarnation,
        /// Last committed index that is flushed here.
        commit: LogIndex,
        /// First offset that is not committed.
        high_watermark: Offset,
    },
    /// The partition has the replicas that were assigned to it.
    Assigned {
        /// The log.
        incarnation: Incarnation,
        /// Which assignment.
        number: u64,
    },
    /// This replica leads and admits requests.
    Leads {
        /// The log.
        incarnation: Incarnation,
        /// The term that it leads.
        term: Term,
    },
    /// This replica does not lead any more.
    Deposed {
        /// The log.
        incarnation: Incarnation,
        /// The term in which somebody else may lead.
        term: Term,
    },
    /// Somebody leads, or nobody that is known here.
    LeaderChanged {
        /// The log.
        incarnation: Incarnation,
        /// The node of the leading replica.
        leader: Option<NodeId>,
        /// The term.
        term: Term,
    },
    /// This replica must not go on: it is out of service until the next start.
    Isolated {
        /// The log.
        incarnation: Incarnation,
        /// Which replica.
        replica_id: ReplicaId,
        /// Whether it is known to have lost what it had acknowledged: it never speaks again, and
        /// another one is to take its place.
        is_lost: bool,
        /// Why, for the operator.
        reason: String,
    },
    /// The metadata changed.
    Metadata(Arc<Metadata>),
    /// An answer.
    Reply(Ticket, Reply),
}

/// An answer to a request.
#[derive(Debug)]
pub enum Reply {
    /// To a produce.
    Produce(Result<ProduceAck, ProduceError>),
    /// To a group request.
    Group(GroupResponse),
    /// To a question about groups.
    GroupQuery(GroupQueryResponse),
    /// To a question whether this replica leads and has applied all that was committed when it was
    /// asked.
    Confirmed(Result<(), NotLeading>),
    /// This node leads nothing more that another could lead.
    Left,
    /// To a controller request.
    Controller(Result<ControllerResponse, ControllerError>),
}

/// Effects of one turn, in the order in which they are to be performed.
#[derive(Debug, Default)]
pub struct Effects {
    list: Vec<Effect>,
}

impl Effects {
    /// Adds an effect.
    pub fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    /// Everything, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.list.iter()
    }

    /// Takes everything, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Effect> + '_ {
        self.list.drain(..)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn reply_produce(
        &mut self,
        ticket: Ticket,
        result: Result<ProduceAck, ProduceError>,
    ) {
        self.push(Effect::Reply(ticket, Reply::Produce(result)));
    }

    /// Answers, unless nobody waits (`acks=0`).
    pub(crate) fn reply_maybe(
        &mut self,
        ticket: Option<Ticket>,
        result: Result<ProduceAck, ProduceError>,
    ) {
        if let Some(ticket) = ticket {
            self.reply_produce(ticket, result);
        }
    }
}
