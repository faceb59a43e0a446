//! What a node decides as a whole: whom it belongs to, whom it speaks with, who lives.
//!
//! ```text
//!   links, signs of life, metadata ──> Node::step ──┬─> links to dial, answers to those who dial
//!                                                   ├─> found a cluster, or join it
//!                                                   ├─> requests to the controller, wherever it is
//!                                                   └─> who cannot be reached
//! ```
//!
//! The shell dials, sends and stores, and comes back with what became of it; it decides nothing.
//!
//! Invariants
//! - A cluster is founded once: every founder stores the same list before any of them votes
//!   (decision 16); an empty directory never takes a recorded founder's place.
//! - Who shows another cluster, another data directory or an older start of a node is not heard.
//! - The number of links is bounded by the nodes of the cluster.
//!
//! Absent on purpose: sockets, files, and the replicas: a shard's business.

mod accepted;
mod boots;
mod bootstrap;
mod forward;
mod leaders;
mod links;
mod reports;
mod settings;

#[cfg(test)]
mod tests;

pub use bootstrap::StartRefusal;
pub use forward::FORWARDED_MAX;
pub use settings::{NodeSettings, PeerBoot, Voter};

use crate::clock::Now;
use crate::controller::{
    ClusterId, ControllerError, ControllerRequest, ControllerResponse, Founder, Metadata,
};
use crate::ticket::Ticket;
use accepted::Accepted;
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, ReplicaId, Term};
use bateau_protocol::peer::{Hello, HelloAnswer, Leaderships, Liveness, Refusal, Welcome};
use boots::Boots;
use forward::Forwarding;
use leaders::Leaders;
use links::Link;
use reports::Reports;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Milliseconds between two signs of life to each peer.
pub const LIVENESS_MS: u64 = 500;
/// Milliseconds of silence after which a peer counts as lost.
pub const SILENCE_MS: u64 = 3 * LIVENESS_MS;

/// What a node is told.
#[derive(Debug)]
pub enum NodeInput {
    /// Somebody has dialled us.
    Hello {
        /// The shell's name of the link.
        link: u64,
        /// What it said.
        hello: Hello,
    },
    /// A link that we dialled is open.
    Welcomed {
        /// To whom.
        node: NodeId,
        /// What it said.
        welcome: Welcome,
    },
    /// A link that we dialled was refused.
    Refused {
        /// By whom.
        node: NodeId,
        /// Why.
        refusal: Refusal,
    },
    /// A link that we dialled did not come about, or is lost.
    LinkDown {
        /// To whom.
        node: NodeId,
    },
    /// A sign of life.
    Liveness(Liveness),
    /// Whether this node gives its leaderships away, and wants none.
    GivesWay(bool),
    /// What [`NodeEffect::NotePeer`] asked for is flushed.
    PeerNoted {
        /// Who.
        node: NodeId,
        /// Its start.
        start: PeerBoot,
    },
    /// What [`NodeEffect::Found`] or [`NodeEffect::Join`] asked for is stored.
    Founded,
    /// A partition that is led here has the replicas of this assignment.
    Assigned {
        /// The partition.
        incarnation: Incarnation,
        /// Which assignment.
        number: u64,
    },
    /// This node leads a partition in this term, or does not lead it any more.
    Leads {
        /// The partition.
        incarnation: Incarnation,
        /// The term; `None`: no more.
        term: Option<Term>,
    },
    /// A replica here has stopped, and the node goes on without it.
    Stopped {
        /// Of which partition.
        incarnation: Incarnation,
        /// Which.
        replica: ReplicaId,
        /// Whether another one is to take its place.
        is_lost: bool,
    },
    /// Nothing is left here of a log that was deleted, or of a removed replica.
    NothingLeft {
        /// Which.
        incarnation: Incarnation,
    },
    /// What another node leads.
    Leaderships {
        /// Who.
        node: NodeId,
        /// In its words.
        leaderships: Leaderships,
    },
    /// The metadata as applied here.
    Metadata(Arc<Metadata>),
    /// Somebody wants something of the controller. Answered by [`NodeEffect::Reply`].
    Ask {
        /// What.
        request: ControllerRequest,
        /// Who waits.
        ticket: Ticket,
    },
    /// The controller's answer to [`NodeEffect::Decide`] or [`NodeEffect::Request`].
    Answered {
        /// The request's number.
        number: u64,
        /// The answer.
        response: Result<ControllerResponse, ControllerError>,
    },
    /// Who leads the metadata partition, as far as is known here.
    Controller(Option<NodeId>),
}

/// What a node wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodeEffect {
    /// Open a link to send on. Answered by `Welcomed`, `Refused` or `LinkDown`.
    Dial {
        /// To whom.
        node: NodeId,
        /// Host and port.
        address: Arc<str>,
        /// What to say first.
        hello: Box<Hello>,
    },
    /// Close a link that we dialled; nothing is heard of it any more.
    HangUp {
        /// To whom.
        node: NodeId,
    },
    /// Answer somebody who dialled us. After a refusal the link is closed.
    Answer {
        /// The link.
        link: u64,
        /// The answer.
        answer: HelloAnswer,
    },
    /// Close a link that was answered with a welcome; nothing is heard of it any more.
    Close {
        /// The link.
        link: u64,
    },
    /// Make the metadata log with these voters and flush it; then store the founders and that the
    /// cluster is founded; then say [`NodeInput::Founded`]. Nothing is voted before.
    Found {
        /// In the order of their ids. Their founding ids are known where this node met them.
        founders: Vec<Founder>,
    },
    /// Make an empty metadata log for this replica and flush it; then store the members and that
    /// the cluster is founded; then say [`NodeInput::Founded`].
    Join {
        /// In the order of their ids, this node among them.
        members: Vec<Founder>,
        /// This node's replica of the metadata.
        replica_id: ReplicaId,
        /// The cluster, where it is known.
        cluster_id: Option<ClusterId>,
    },
    /// Store the newest start of a peer in the meta log, then say [`NodeInput::PeerNoted`].
    /// Nothing of that start is heard before.
    NotePeer {
        /// Who.
        node: NodeId,
        /// Its start.
        start: PeerBoot,
    },
    /// These nodes live, this one among them: for the controller, which may be here.
    Lives(BTreeSet<NodeId>),
    /// Send a sign of life.
    Send {
        /// To whom.
        node: NodeId,
        /// The sign.
        liveness: Liveness,
    },
    /// Say what this node leads. Where it cannot be said, the link is closed: the next one begins
    /// anew.
    Announce {
        /// To whom.
        node: NodeId,
        /// What.
        leaderships: Leaderships,
    },
    /// Another node has said that it leads a partition, or has taken it back.
    LeaderElsewhere {
        /// The partition, which may be held here too: then raft knows better.
        incarnation: Incarnation,
        /// Who leads in which term, as far as others say.
        leader: Option<(NodeId, Term)>,
    },
    /// A peer cannot be reached, or has been silent for [`SILENCE_MS`].
    Lost {
        /// Who.
        node: NodeId,
    },
    /// These replicas on a peer that lives have stopped, and nobody else there.
    PeerStopped {
        /// Who.
        node: NodeId,
        /// All of them.
        stopped: BTreeSet<ReplicaId>,
    },
    /// These peers give their leaderships away, and want none.
    GiveWay(BTreeSet<NodeId>),
    /// Ask the controller, which is here. Answered by `Answered`.
    Decide {
        /// Number to answer with.
        number: u64,
        /// What.
        request: ControllerRequest,
    },
    /// Ask the controller on another node. Answered by `Answered`, or never.
    Request {
        /// Where it is.
        node: NodeId,
        /// Number to answer with.
        number: u64,
        /// What.
        request: ControllerRequest,
    },
    /// Answer somebody who asked.
    Reply {
        /// Whose question.
        ticket: Ticket,
        /// The answer.
        response: Result<ControllerResponse, ControllerError>,
    },
    /// This node must not go on.
    Stop(StartRefusal),
}

/// How far a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It meets the other founders.
    Meeting,
    /// It has asked for the founding to be stored.
    Storing,
    /// It belongs to a cluster.
    Member,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    settings: NodeSettings,
    phase: Phase,
    /// Whether this node was there at the founding.
    is_founder: bool,
    /// Who is of the cluster, as stored here or in the metadata.
    members: Vec<Founder>,
    cluster_id: Option<ClusterId>,
    metadata: Arc<Metadata>,
    links: BTreeMap<NodeId, Link>,
    boots: Boots,
    /// The link of each peer on which it is heard.
    accepted: BTreeMap<NodeId, Accepted>,
    leaders: Leaders,
    /// Nodes that are not recorded here and know more: how far, and where they are.
    ahead: BTreeMap<NodeId, (LogIndex, Arc<str>)>,
    /// Nodes, by their directories, that the controller does not let in, as far as is known since
    /// the metadata last changed.
    not_let_in: BTreeMap<NodeId, [u8; 16]>,
    /// What other voters showed before the founding.
    met: BTreeMap<NodeId, [u8; 16]>,
    forwarding: Forwarding,
    reports: Reports,
    signs_sent: u64,
    next_sign_ms: u64,
    /// Whether this node gives its leaderships away.
    gives_way: bool,
    /// Replicas here that have stopped, by their partitions.
    stopped: BTreeMap<Incarnation, ReplicaId>,
    effects: Vec<NodeEffect>,
}

impl Node {
    /// A node as its files and its configuration say it is.
    #[must_use]
    pub fn new(settings: NodeSettings) -> Self {
        let phase = if settings.members.is_empty() { Phase::Meeting } else { Phase::Member };
        Self {
            phase,
            is_founder: settings.is_founder,
            members: settings.members.clone(),
            cluster_id: settings.cluster_id,
            boots: Boots::stored(&settings.peer_boots),
            forwarding: Forwarding::new(settings.boot),
            reports: Reports::default(),
            settings,
            metadata: Arc::new(Metadata::new()),
            links: BTreeMap::new(),
            accepted: BTreeMap::new(),
            leaders: Leaders::default(),
            ahead: BTreeMap::new(),
            not_let_in: BTreeMap::new(),
            met: BTreeMap::new(),
            signs_sent: 0,
            next_sign_ms: 0,
            gives_way: false,
            stopped: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// One turn.
    pub fn step(
        &mut self,
        now: Now,
        inputs: impl Iterator<Item = NodeInput>,
    ) -> impl Iterator<Item = NodeEffect> + '_ {
        for input in inputs {
            self.handle(input, now);
        }
        self.found_if_all_met();
        self.keep_links(now);
        self.tell_news();
        self.send_signs(now);
        self.tell_who_lives();
        self.tell_who_gives_way();
        self.report(now);
        self.forward(now);
        self.effects.drain(..)
    }

    /// Milliseconds until [`Node::step`] wants to be called even without inputs.
    #[must_use]
    pub fn wait_ms(&self, now: Now) -> u64 {
        let signs = (!self.links.is_empty()).then_some(self.next_sign_ms);
        let links = self.links.values().filter_map(|link| link.next_ms());
        let requests = self.forwarding.next_ms(self.reachable_controller().is_some());
        let reports = self.reports.next_ms();
        let soonest = signs.into_iter().chain(links).chain(requests).chain(reports).min();
        soonest.map_or(u64::MAX, |at_ms| at_ms.saturating_sub(now.monotonic_ms))
    }

    /// Whether this node belongs to a cluster, so that its replicas may vote.
    #[must_use]
    pub fn is_founded(&self) -> bool {
        self.phase == Phase::Member
    }

    /// Whether a peer has given a sign of life lately.
    #[must_use]
    pub fn lives(&self, node: NodeId) -> bool {
        node == self.settings.node_id || self.links.get(&node).is_some_and(Link::is_alive)
    }

    fn handle(&mut self, input: NodeInput, now: Now) {
        match input {
            NodeInput::Hello { link, hello } => self.hear_hello(link, hello, now),
            NodeInput::Welcomed { node, welcome } => self.hear_welcome(node, welcome, now),
            NodeInput::Refused { node, refusal } => self.hear_refusal(node, &refusal, now),
            NodeInput::LinkDown { node } => self.note_link_down(node, now),
            NodeInput::Liveness(liveness) => self.hear_sign(&liveness, now),
            NodeInput::PeerNoted { node, start } => self.hear_noted(node, start, now),
            NodeInput::Assigned { incarnation, number } => {
                self.reports.note_assigned(incarnation, number);
            }
            NodeInput::GivesWay(gives_way) => {
                self.gives_way = gives_way;
                self.next_sign_ms = now.monotonic_ms;
            }
            NodeInput::Founded => self.phase = Phase::Member,
            NodeInput::Stopped { incarnation, replica, is_lost } => {
                self.note_own_lead(incarnation, None);
                self.stopped.insert(incarnation, replica);
                if is_lost {
                    self.reports.note_lost(incarnation, replica);
                }
            }
            NodeInput::NothingLeft { incarnation } => {
                self.stopped.remove(&incarnation);
                self.reports.note_removed(incarnation);
            }
            NodeInput::Leads { incarnation, term } => self.note_own_lead(incarnation, term),
            NodeInput::Leaderships { node, leaderships } => self.hear_leads(node, leaderships),
            NodeInput::Metadata(metadata) => self.learn(metadata, now),
            NodeInput::Ask { request, ticket } => self.ask(request, ticket, now),
            NodeInput::Answered { number, response } => self.hear_answer(number, response, now),
            NodeInput::Controller(node) => self.follow_controller(node, now),
        }
    }

    fn learn(&mut self, metadata: Arc<Metadata>, now: Now) {
        if let Some(founding) = metadata.founding() {
            self.cluster_id = Some(founding.cluster_id);
            self.members = metadata.members().map(|member| member.founder.clone()).collect();
        }
        self.metadata = metadata;
        // Whoever decides by it may have begun anew.
        self.reports.told_lives.clear();
        self.not_let_in.clear();
        let applied = self.metadata.applied();
        self.ahead.retain(|_, (index, _)| *index > applied);
        self.part_with_former_members(now);
        self.forget_deleted();
    }
}
