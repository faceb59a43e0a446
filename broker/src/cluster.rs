//! The node's own brain and its links: what `Node` decides, carried out.
//!
//! ```text
//!   links ──PeerEvent──> hear ──┬─ raft messages, requests ──> whoever owns the shard
//!                               └─ NodeInput ──> Node::step ──> links, and what is left: the rest
//! ```
//!
//! Invariants: the brain is told everything in the order in which it happened; what concerns links
//! is done here, and nothing else is.
//!
//! Absent on purpose: rules, which are `Node`'s, and replicas, which are the shard's.

use crate::peers::{Answered, Dialled, Letters, PeerEvent, Peers};
use bateau_core::clock::Now;
use bateau_core::controller::ControllerRequest;
use bateau_core::node::{Node, NodeEffect, NodeInput, NodeSettings};
use bateau_core::shard::Input;
use bateau_protocol::ids::NodeId;
use bateau_protocol::peer::{HelloAnswer, RaftMessage};
use bateau_storage::Said;
use std::collections::BTreeMap;
use tokio::sync::oneshot;

/// What a peer said that is not the node's own business.
#[derive(Debug)]
pub enum Heard {
    /// For the replicas.
    Raft {
        /// From this node.
        node: NodeId,
        /// In order.
        messages: Vec<RaftMessage>,
    },
    /// For the shard as it is.
    Shard(Input),
    /// For the controller, if it is here.
    Request {
        /// From this node.
        node: NodeId,
        /// Its number there.
        number: u64,
        /// What.
        request: ControllerRequest,
    },
    /// Nothing.
    Nothing,
}

/// The brain of the node, and its links.
#[derive(Debug)]
pub struct Cluster {
    node: Node,
    peers: Peers,
    events: Letters,
    inputs: Vec<NodeInput>,
    /// Who has dialled us and waits for an answer.
    hellos: BTreeMap<u64, oneshot::Sender<Answered>>,
    /// Who is heard, by the link: it is closed when this goes.
    heard: BTreeMap<u64, oneshot::Sender<()>>,
    newest_hello: u64,
}

impl Cluster {
    /// A node and its links, none of which is dialled yet.
    #[must_use]
    pub fn new(settings: NodeSettings, (peers, events): (Peers, Letters)) -> Self {
        let (hellos, heard, newest_hello) = (BTreeMap::new(), BTreeMap::new(), 0);
        let (node, inputs) = (Node::new(settings), Vec::new());
        Self { node, peers, events, inputs, hellos, heard, newest_hello }
    }

    /// What it decides by.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The links, to send on.
    pub fn peers(&mut self) -> &mut Peers {
        &mut self.peers
    }

    /// The next thing that happens on a link. May be dropped at any time.
    pub async fn next_event(&mut self) -> PeerEvent {
        match self.events.next().await {
            Some(event) => event,
            // The links hold a sender as long as this lives.
            None => std::future::pending().await,
        }
    }

    /// Something that has happened already, if anything.
    pub fn try_next_event(&mut self) -> Option<PeerEvent> {
        self.events.try_next()
    }

    /// Tells the brain at the next step.
    pub fn tell(&mut self, input: NodeInput) {
        self.inputs.push(input);
    }

    /// Takes what happened on a link.
    pub fn hear(&mut self, event: PeerEvent) -> Heard {
        match event {
            PeerEvent::Carried(input) => return Heard::Shard(input),
            PeerEvent::Said { node, link, said } => {
                if self.node.hears(node, link) {
                    return self.hear_peer(node, said);
                }
            }
            PeerEvent::Hello { hello, answer } => {
                self.newest_hello += 1;
                self.hellos.insert(self.newest_hello, answer);
                self.tell(NodeInput::Hello { link: self.newest_hello, hello });
            }
            PeerEvent::Dialled { node, attempt, outcome } => {
                if self.peers.is_current(node, attempt) {
                    self.tell(match outcome {
                        Dialled::Welcomed(welcome) => NodeInput::Welcomed { node, welcome },
                        Dialled::Refused(refusal) => NodeInput::Refused { node, refusal },
                        Dialled::Down => NodeInput::LinkDown { node },
                    });
                }
            }
        }
        Heard::Nothing
    }

    fn hear_peer(&mut self, node: NodeId, said: Said) -> Heard {
        match said {
            Said::Raft { messages, damaged } => {
                for log in damaged {
                    let incarnation = log.get();
                    tracing::error!(%node, incarnation, "a peer has sent a damaged entry; dropped");
                }
                return Heard::Raft { node, messages };
            }
            Said::Chunk(chunk) => return Heard::Shard(Input::SnapshotChunk { node, chunk }),
            Said::Mending(input) => return Heard::Shard(Input::Mending(input)),
            Said::Request { number, request } => return Heard::Request { node, number, request },
            Said::Node(input) => self.tell(input),
            Said::Unknown(error) => tracing::warn!(%node, %error, "a peer's message is dropped"),
            Said::Nothing => {}
        }
        Heard::Nothing
    }

    /// Whether the brain has something to do now.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        !self.inputs.is_empty() || self.node.wait_ms(now) == 0
    }

    /// Milliseconds until it has.
    #[must_use]
    pub fn wait_ms(&self, now: Now) -> u64 {
        if self.inputs.is_empty() { self.node.wait_ms(now) } else { 0 }
    }

    /// Lets the brain decide; what is left when the links have done theirs comes back.
    pub fn step(&mut self, now: Now) -> Vec<NodeEffect> {
        let effects: Vec<_> = self.node.step(now, self.inputs.drain(..)).collect();
        let mut left = Vec::new();
        for effect in effects {
            match self.peers.perform(effect) {
                Some(NodeEffect::Answer { link, answer }) => self.answer(link, answer),
                Some(NodeEffect::Close { link }) => drop(self.heard.remove(&link)),
                Some(NodeEffect::HangUp { node }) => {
                    self.inputs.push(NodeInput::LinkDown { node });
                }
                Some(other) => left.push(other),
                None => {}
            }
        }
        left
    }

    fn answer(&mut self, link: u64, answer: HelloAnswer) {
        let Some(waiting) = self.hellos.remove(&link) else { return };
        let (heard, closed) = oneshot::channel();
        if matches!(answer, HelloAnswer::Welcome(_)) {
            self.heard.insert(link, heard);
        }
        // Who has hung up meanwhile dials again.
        let _ = waiting.send(Answered { link, answer, closed });
    }
}
