//! Links to other brokers: two per pair of nodes, each dialled by whoever sends on it.
//!
//! ```text
//!   shard ──(a turn's messages)──> Peers ──> dial task ══TCP══> accept task ──PeerEvent──> shard
//!                                                    (or TLS)
//! ```
//!
//! What is said is decided in `core`; here it is carried. A link keeps the order of what it
//! carries; what it cannot carry is lost, and raft is told.
//!
//! Invariants
//! - What waits for a link is bounded in bytes (R15); beyond that it is dropped and reported.
//! - Nothing of a link is heard before its `Hello` was answered with a welcome.
//! - A frame that is damaged or nonsense ends its link and nothing else.
//!
//! - Where links are encrypted, nobody is heard who has no certificate of its node (`I-TLS-2`).
//!
//! Absent on purpose: retries, which are `Node`'s, and whose a certificate is, which `tls` knows.

mod accept;
mod carried;
mod complaints;
mod dial;
mod frames;
mod mailbox;
mod transport;

#[cfg(test)]
mod tests;

pub use accept::PeersDoor;
pub use carried::{answer_from_bytes, answer_to_bytes, request_from_bytes, request_to_bytes};
pub use mailbox::{Letters, Mailbox, mailbox};
pub use transport::Transport;

use bateau_core::node::NodeEffect;
use bateau_protocol::ids::NodeId;
use bateau_protocol::limits::{
    PEER_ENTRIES_MAX, PEER_RAFT_BATCH_BYTES_MAX, PEER_RAFT_MESSAGES_MAX,
};
use bateau_protocol::peer::{
    Hello, HelloAnswer, Idempotency, Liveness, PeerAnswer, PeerMessage, PeerRequest, RaftMessage,
    Refusal, Welcome,
};
use bytes::Bytes;
use carried::ControllerAnswer;
use complaints::Complaints;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// Bytes that may wait for one peer.
pub const PEER_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that may wait for all peers of this node.
pub const NODE_QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Room that a frame needs beside its messages, in bytes.
const FRAME_ROOM_BYTES: usize = 64;

/// What happened on a link.
#[derive(Debug)]
pub enum PeerEvent {
    /// Somebody has dialled us and waits for an answer.
    Hello {
        /// What it said.
        hello: Hello,
        /// Where the answer goes.
        answer: oneshot::Sender<HelloAnswer>,
    },
    /// A link that we dialled.
    Dialled {
        /// To whom.
        node: NodeId,
        /// Which attempt.
        attempt: u64,
        /// What became of it.
        outcome: Dialled,
    },
    /// Raft messages of one turn of a peer; payloads are as their sender stored them.
    Raft {
        /// Of this node.
        node: NodeId,
        /// In order.
        messages: Vec<RaftMessage>,
    },
    /// A sign of life.
    Liveness(Liveness),
    /// A request to the controller.
    Request {
        /// Of this node.
        node: NodeId,
        /// Its number there.
        number: u64,
        /// What it asks.
        payload: Bytes,
    },
    /// A controller's answer to a request of this node.
    Answer {
        /// The request's number.
        number: u64,
        /// The answer.
        payload: Bytes,
    },
}

/// What became of a link that was dialled.
#[derive(Debug)]
pub enum Dialled {
    /// It is open.
    Welcomed(Welcome),
    /// The other side does not want it.
    Refused(Refusal),
    /// It did not come about, or is lost.
    Down,
}

/// The sending half of all links of this node.
#[derive(Debug)]
pub struct Peers {
    events: Mailbox,
    links: BTreeMap<NodeId, Outbound>,
    /// Messages of this turn, in order.
    gathered: BTreeMap<NodeId, Vec<RaftMessage>>,
    node_bytes: Arc<AtomicUsize>,
    attempts: u64,
    /// Whose requests these are.
    origin: Idempotency,
    transport: Transport,
    complaints: Complaints<NodeId>,
}

/// One link that we send on.
#[derive(Debug)]
struct Outbound {
    attempt: u64,
    queue: mpsc::UnboundedSender<Queued>,
    bytes: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A message that waits for its link, and is counted until it has left.
#[derive(Debug)]
struct Queued {
    message: PeerMessage,
    held: Held,
}

/// Bytes that count against the limits while this lives.
#[derive(Debug)]
struct Held {
    bytes: usize,
    of_link: Arc<AtomicUsize>,
    of_node: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of_link.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of_node.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Peers {
    /// Nobody is dialled yet. The letters have what happens on all links, those of a
    /// [`PeersDoor`] that is given [`Peers::events`] included.
    ///
    /// - `origin`: node and start id of what is asked; its number does not matter.
    #[must_use]
    pub fn new(origin: Idempotency, transport: Transport) -> (Self, Letters) {
        let (events, letters) = mailbox();
        let peers = Self {
            events,
            links: BTreeMap::new(),
            gathered: BTreeMap::new(),
            node_bytes: Arc::default(),
            attempts: 0,
            origin,
            transport,
            complaints: Complaints::new(),
        };
        (peers, letters)
    }

    /// Where a door tells what it hears.
    #[must_use]
    pub fn events(&self) -> Mailbox {
        self.events.clone()
    }

    /// Performs what concerns links; everything else comes back.
    pub fn perform(&mut self, effect: NodeEffect) -> Option<NodeEffect> {
        match effect {
            NodeEffect::Dial { node, address, hello } => self.dial(node, address, hello),
            NodeEffect::HangUp { node } => drop(self.links.remove(&node)),
            NodeEffect::Send { node, liveness } => {
                self.enqueue(node, PeerMessage::Liveness(liveness), FRAME_ROOM_BYTES);
            }
            NodeEffect::Request { node, number, request } => {
                let timeout_ms = u32::try_from(request.timeout_ms()).unwrap_or(u32::MAX);
                let payload = request_to_bytes(&request);
                let bytes = payload.len() + FRAME_ROOM_BYTES;
                // The number is the request's for ever: of this start of this node.
                let idempotency = Idempotency { number, ..self.origin };
                let command = PeerRequest::Controller { idempotency, timeout_ms, payload };
                self.enqueue(node, PeerMessage::Request { id: number, command }, bytes);
            }
            other => return Some(other),
        }
        None
    }

    /// Answers a request of another node; an answer that finds no link is lost.
    pub fn answer(&mut self, node: NodeId, number: u64, answer: &ControllerAnswer) {
        let payload = answer_to_bytes(answer);
        let bytes = payload.len() + FRAME_ROOM_BYTES;
        let result = PeerAnswer::Controller { payload };
        self.enqueue(node, PeerMessage::Answer { id: number, result }, bytes);
    }

    fn dial(&mut self, node: NodeId, address: Arc<str>, hello: Hello) {
        self.attempts += 1;
        let attempt = self.attempts;
        let (queue, waiting) = mpsc::unbounded_channel();
        let (transport, events) = (self.transport.clone(), self.events.clone());
        let complaints = self.complaints.clone();
        let link = dial::Link { node, attempt, address, hello, transport, events, complaints };
        let task = tokio::spawn(link.run(waiting)).abort_handle();
        let bytes = Arc::default();
        self.links.insert(node, Outbound { attempt, queue, bytes, task });
    }

    /// Whether an event is of the link that is in use, not of one that was given up.
    #[must_use]
    pub fn is_current(&self, node: NodeId, attempt: u64) -> bool {
        self.links.get(&node).is_some_and(|link| link.attempt == attempt)
    }

    /// Takes a message of this turn; [`Peers::flush`] sends it.
    pub fn gather(&mut self, node: NodeId, message: RaftMessage) {
        self.gathered.entry(node).or_default().push(message);
    }

    /// Sends what gathered, all messages of a turn to one node in as few frames as hold them.
    /// Returns the nodes for which something was dropped.
    pub fn flush(&mut self) -> Vec<NodeId> {
        let mut dropped = Vec::new();
        for (node, messages) in std::mem::take(&mut self.gathered) {
            for (batch, bytes) in frames_of(messages) {
                if !self.enqueue(node, PeerMessage::RaftBatch(batch), bytes) {
                    dropped.push(node);
                    break;
                }
            }
        }
        dropped
    }

    /// Whether the message waits for its link now.
    fn enqueue(&mut self, node: NodeId, message: PeerMessage, bytes: usize) -> bool {
        let Some(link) = self.links.get(&node) else { return false };
        let of_link = link.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        let of_node = self.node_bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if of_link > PEER_QUEUE_BYTES_MAX || of_node > NODE_QUEUE_BYTES_MAX {
            return false;
        }
        link.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.node_bytes.fetch_add(bytes, Ordering::Relaxed);
        let (of_link, of_node) = (Arc::clone(&link.bytes), Arc::clone(&self.node_bytes));
        let held = Held { bytes, of_link, of_node };
        link.queue.send(Queued { message, held }).is_ok()
    }
}

/// Messages in order, in as few frames as hold them, with about the bytes of each.
fn frames_of(messages: Vec<RaftMessage>) -> Vec<(Vec<RaftMessage>, usize)> {
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
    frames
}
