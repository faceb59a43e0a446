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
//! - Where links are encrypted, nobody is heard who has no certificate of its node (`I-TLS-2`).
//!
//! Absent on purpose: retries, which are `Node`'s, and whose a certificate is, which `tls` knows.

mod accept;
mod complaints;
mod dial;
mod frames;
mod mailbox;
mod snapshots;
mod transport;
mod wires;

#[cfg(test)]
mod tests;

pub use accept::PeersDoor;
pub use mailbox::{Letters, Mailbox, mailbox};
pub use transport::Transport;
pub use wires::Wires;

use bateau_core::node::NodeEffect;
use bateau_core::replica::OutgoingSnapshot;
use bateau_core::shard::Input;
use bateau_protocol::ids::NodeId;
use bateau_protocol::peer::{
    Hello, HelloAnswer, Idempotency, PeerMessage, RaftMessage, Refusal, Welcome,
};
use bateau_storage::{ControllerAnswer, Letter, Said, answer_letter, frames_of, letter};
use complaints::Complaints;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::AbortHandle;

/// Bytes that may wait for one peer.
pub const PEER_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that may wait for all peers of this node.
pub const NODE_QUEUE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What happened on a link.
#[derive(Debug)]
pub enum PeerEvent {
    /// Somebody has dialled us and waits for an answer.
    Hello {
        /// What it said.
        hello: Hello,
        /// Where the answer goes.
        answer: oneshot::Sender<Answered>,
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
    /// A snapshot has been carried, or not: what the shard is told.
    Carried(Input),
    /// A peer says something on a link of its own.
    Said {
        /// Who.
        node: NodeId,
        /// On the link that its hello was answered with.
        link: u64,
        /// What.
        said: Said,
    },
}

/// The answer to a hello, and what the link is called from then on.
#[derive(Debug)]
pub struct Answered {
    /// Its number.
    pub link: u64,
    /// The answer.
    pub answer: HelloAnswer,
    /// Ends when a link that is welcome is to be closed.
    pub closed: oneshot::Receiver<()>,
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
    wires: Option<Wires>,
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
    /// Of a snapshot's letter: its place among those that wait.
    _place: Option<OwnedSemaphorePermit>,
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
            wires: None,
            complaints: Complaints::new(),
        };
        (peers, letters)
    }

    /// Finds the other nodes by these wires from now on, and sends along them.
    pub fn use_wires(&mut self, wires: Wires) {
        self.wires = Some(wires);
    }

    /// Where a door tells what it hears.
    #[must_use]
    pub fn events(&self) -> Mailbox {
        self.events.clone()
    }

    /// Performs what concerns links; everything else comes back, and so does a link that had to be
    /// given up, because it has no room for what must be said on it.
    pub fn perform(&mut self, effect: NodeEffect) -> Option<NodeEffect> {
        match effect {
            NodeEffect::Dial { node, address, hello } => self.dial(node, address, *hello),
            NodeEffect::HangUp { node } => drop(self.links.remove(&node)),
            other => match letter(other, self.origin) {
                Ok(letter) => {
                    let (node, breaks_unsaid) = (letter.node, letter.breaks_unsaid);
                    if !self.post(letter) && breaks_unsaid {
                        self.links.remove(&node);
                        return Some(NodeEffect::HangUp { node });
                    }
                }
                Err(other) => return Some(other),
            },
        }
        None
    }

    /// Answers a request of another node; an answer that finds no link is lost.
    pub fn answer(&mut self, node: NodeId, number: u64, answer: &ControllerAnswer) {
        self.post(answer_letter(node, number, answer));
    }

    fn dial(&mut self, node: NodeId, address: Arc<str>, hello: Hello) {
        self.attempts += 1;
        let attempt = self.attempts;
        let (queue, waiting) = mpsc::unbounded_channel();
        let (transport, events) = (self.transport.clone(), self.events.clone());
        let complaints = self.complaints.clone();
        let wire = self.wires.as_ref().map(|wires| wires.way(self.origin.node_id, node));
        let link =
            dial::Link { node, attempt, address, hello, transport, wire, events, complaints };
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
                if !self.post(Letter { node, message: batch, bytes, breaks_unsaid: false }) {
                    dropped.push(node);
                    break;
                }
            }
        }
        dropped
    }

    /// Carries a snapshot beside everything else; [`PeerEvent::Carried`] says how it ended. To be
    /// called inside of a runtime.
    pub fn send_snapshot(&self, snapshot: OutgoingSnapshot) {
        let way = self.links.get(&snapshot.node).map(|link| self.way(link));
        tokio::spawn(snapshots::send(snapshot, way, self.events.clone()));
    }

    /// Sends a letter; one that finds no link, or no room on it, is lost.
    pub fn send(&mut self, letter: Letter) {
        self.post(letter);
    }

    fn way(&self, link: &Outbound) -> snapshots::Way {
        let (of_link, of_node) = (Arc::clone(&link.bytes), Arc::clone(&self.node_bytes));
        snapshots::Way { queue: link.queue.clone(), of_link, of_node }
    }

    /// Whether the message waits for its link now.
    fn post(&mut self, letter: Letter) -> bool {
        let Letter { node, message, bytes, .. } = letter;
        let Some(link) = self.links.get(&node) else { return false };
        let of_link = link.bytes.load(Ordering::Relaxed).saturating_add(bytes);
        let of_node = self.node_bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if of_link > PEER_QUEUE_BYTES_MAX || of_node > NODE_QUEUE_BYTES_MAX {
            return false;
        }
        link.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.node_bytes.fetch_add(bytes, Ordering::Relaxed);
        let (of_link, of_node) = (Arc::clone(&link.bytes), Arc::clone(&self.node_bytes));
        let held = Held { bytes, of_link, of_node, _place: None };
        link.queue.send(Queued { message, held }).is_ok()
    }
}
