//! What happens next: events in the order of their moments.
//!
//! Invariants: two events of one moment come in the order in which they were put in.
//!
//! Absent on purpose: what an event does.

use crate::clients::{Answer, Ask, ClientId, Operation};
use crate::links::LinkId;
use bateau_log::Done;
use bateau_protocol::ids::{Incarnation, LogIndex};
use bytes::Bytes;
use std::collections::BTreeMap;

/// A moment, in microseconds since the beginning of the run.
pub type Micros = u64;

/// A node's place among the nodes.
pub type NodeAt = usize;

/// Which life of a node's process; what was meant for an earlier one comes to nothing.
pub type Life = u64;

/// Something that happens.
#[derive(Debug)]
pub enum Event {
    /// A node takes all that waits for it.
    Turn(NodeAt, Life),
    /// A node's timer runs out.
    Wake(NodeAt, Life),
    /// The disk thread takes all the work that gathered.
    CycleBegins(NodeAt, Life),
    /// The answers of a cycle arrive.
    CycleEnds(NodeAt, Life, Vec<Done>),
    /// The disk thread has had nothing to do since it was given this number.
    DiskQuiet(NodeAt, Life, u64),
    /// The disk thread looks at the free space.
    SpaceCheck(NodeAt, Life),
    /// A node looks at what retention allows to go.
    SegmentsLook(NodeAt, Life),
    /// The read thread comes to a follower's frames.
    ReadFrames(NodeAt, Life, FramesWanted),
    /// A frame arrives on a link.
    Carry {
        /// Which.
        link: LinkId,
        /// Whether it goes back to the dialler.
        is_answer: bool,
        /// Which one of those that are held where a way is cut, and not lost.
        sure: Option<u64>,
        /// A whole frame.
        bytes: Bytes,
    },
    /// A node learns that a link that it has dialled is down.
    LinkDown(NodeAt, Life, LinkId),
    /// A node waits no longer for the answer to its greeting.
    DialEnds(NodeAt, Life, LinkId),
    /// A node waits no longer for the rest of a frame.
    FrameEnds(NodeAt, Life, LinkId),
    /// A node makes itself known, if it is not.
    Register(NodeAt, Life),
    /// A node learns that a link of its own does not carry.
    Unreachable(NodeAt, Life, NodeAt),
    /// A node that stops has given away what it led, or waits no longer.
    StopEnds(NodeAt, Life),
    /// A process is started again.
    Restart(NodeAt),
    /// A client does what it does next.
    ClientTick(ClientId),
    /// A client's request arrives at a node.
    Ask(NodeAt, Operation, Box<Ask>),
    /// An answer arrives at its client.
    Answer(Operation, Box<Answer>),
    /// Something goes wrong, or better again.
    Fault(crate::faults::Fault),
}

/// Frames that a leader reads for a follower.
#[derive(Clone, Copy, Debug)]
pub struct FramesWanted {
    /// The log.
    pub incarnation: Incarnation,
    /// Number to answer with.
    pub fetch: u64,
    /// The first one.
    pub first: LogIndex,
    /// The last one.
    pub last: LogIndex,
    /// Payload bytes.
    pub bytes_max: u64,
}

/// Events to come.
#[derive(Debug, Default)]
pub struct Events {
    queue: BTreeMap<(Micros, u64), Event>,
    count: u64,
}

impl Events {
    /// Adds an event.
    pub fn put(&mut self, at: Micros, event: Event) {
        self.count += 1;
        self.queue.insert((at, self.count), event);
    }

    /// Takes the next one, if it comes before `end`.
    pub fn take(&mut self, end: Micros) -> Option<(Micros, Event)> {
        let ((at, _), _) = self.queue.first_key_value()?;
        if *at >= end {
            return None;
        }
        self.queue.pop_first().map(|((at, _), event)| (at, event))
    }
}
