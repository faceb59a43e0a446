//! The links between nodes: dialled, greeted, carrying bytes, broken and dialled anew.
//!
//! ```text
//!   Dial ──Hello──> the other node's brain ──HelloAnswer──> open: frames of messages, one way
//!     ^                                                       │
//!     └────────── the dialler learns, soon, late or never ────┴── broken, cut, the node dies
//! ```
//!
//! A link is what TCP makes of a network: a greeting, a request or an answer arrives late, or the
//! link is broken. Frames of Raft messages and signs of life are lost, doubled and reordered as
//! well, which no link of TCP does: more than what the brain may rely on.
//!
//! Invariants
//! - What travels is what the binary sends: the same messages, by the same codec.
//! - A link carries what its dialler's process says to the process that has welcomed it, and
//!   nothing to a later one.
//!
//! Absent on purpose: bounds on what waits; a simulated link is as fast as it says.

use crate::event::{Event, Life, Micros, NodeAt};
use crate::process::Process;
use crate::world::World;
use bateau_core::node::NodeInput;
use bateau_core::shard::Input;
use bateau_protocol::ids::NodeId;
use bateau_protocol::peer::{
    Hello, HelloAnswer, LinkEnd, PeerFrames, PeerMessage, RaftMessage, Split,
};
use bateau_storage::{Letter, Said};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;

/// How long a dialler waits for the answer to its greeting.
const DIAL_TIME_MAX: Micros = 5_000_000;
/// How long a frame may take once it has begun.
const FRAME_TIME_MAX: Micros = 30_000_000;
/// Until what is held by a cut way is tried again.
const HELD: Micros = 100_000;

/// Which link.
pub type LinkId = u64;

/// All links that ever were.
#[derive(Default)]
pub struct Links {
    links: BTreeMap<LinkId, Link>,
    newest: LinkId,
}

/// A link, as both of its ends see it.
struct Link {
    from: NodeAt,
    to: NodeAt,
    dialler: Life,
    /// Who has taken the greeting.
    acceptor: Option<Life>,
    stage: Stage,
    /// It carries nothing any more, which its dialler may not have learnt.
    is_broken: bool,
    received: PeerFrames,
    /// What is carried surely keeps its order: what was sent, what has come, what came too early.
    sent: u64,
    heard: u64,
    early: BTreeMap<u64, Bytes>,
    /// A damaged length lets a frame begin that does not end.
    is_stuck: bool,
    answered: PeerFrames,
    /// What was to be sent before it was open.
    waiting: Vec<PeerMessage>,
}

/// What the dialler knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Dialling,
    Open,
    Down,
}

/// Whether a message of TCP would be repeated until it arrives, and is here.
fn is_carried_surely(message: &PeerMessage) -> bool {
    !matches!(
        message,
        PeerMessage::RaftBatch(_) | PeerMessage::SnapshotChunk(_) | PeerMessage::Liveness(_)
    )
}

impl World {
    /// A brain wants a link.
    pub(crate) fn dial(&mut self, n: NodeAt, process: &mut Process, node: NodeId, hello: Hello) {
        let Some(to) = self.place_of(node) else {
            return self.fail(format!("node {} dials {node}, which nobody is", n + 1));
        };
        self.count("links dialled");
        self.links.newest += 1;
        let id = self.links.newest;
        let link = Link {
            from: n,
            to,
            dialler: self.nodes[n].life,
            acceptor: None,
            stage: Stage::Dialling,
            is_broken: false,
            received: PeerFrames::new(LinkEnd::Acceptor),
            sent: 0,
            heard: 0,
            early: BTreeMap::new(),
            is_stuck: false,
            answered: PeerFrames::new(LinkEnd::Dialler),
            waiting: Vec::new(),
        };
        self.links.links.insert(id, link);
        if let Some(old) = process.brain.links.insert(node, id) {
            self.hang_up(old);
        }
        let (life, late) = (self.nodes[n].life, self.at + DIAL_TIME_MAX);
        self.events.put(late, Event::DialEnds(n, life, id));
        self.carry(id, false, PeerMessage::Hello(hello));
    }

    /// The dialler gives a link up.
    pub(crate) fn hang_up(&mut self, id: LinkId) {
        if let Some(link) = self.links.links.get_mut(&id) {
            link.stage = Stage::Down;
            link.waiting.clear();
        }
    }

    /// A brain answers a greeting.
    pub(crate) fn answer_hello(&mut self, id: LinkId, answer: HelloAnswer) {
        if matches!(answer, HelloAnswer::Refused(_)) {
            self.count("links refused");
        }
        self.carry(id, true, PeerMessage::HelloAnswer(answer));
    }

    /// Sends what one node has to say to another. Whether a link takes it.
    pub(crate) fn post(&mut self, process: &Process, letter: Letter) -> bool {
        let Some(id) = process.brain.links.get(&letter.node) else { return false };
        let Some(link) = self.links.links.get_mut(id) else { return false };
        match link.stage {
            Stage::Dialling => {
                link.waiting.push(letter.message);
                true
            }
            Stage::Open => {
                self.carry(*id, false, letter.message);
                true
            }
            Stage::Down => false,
        }
    }

    /// Sends all messages of a turn, by node.
    pub(crate) fn send(&mut self, process: &mut Process, node: NodeId, messages: Vec<RaftMessage>) {
        for (message, bytes) in bateau_storage::frames_of(messages) {
            if !self.post(process, Letter { node, message, bytes, breaks_unsaid: false }) {
                process.inbox.push(Input::Unreachable { node });
                return;
            }
        }
    }

    /// Puts a message on its way.
    fn carry(&mut self, id: LinkId, is_answer: bool, message: PeerMessage) {
        let Some(link) = self.links.links.get_mut(&id) else { return };
        let (from, to) = if is_answer { (link.to, link.from) } else { (link.from, link.to) };
        let sure = is_carried_surely(&message).then_some(link.sent);
        link.sent += u64::from(sure.is_some() && !is_answer);
        let bytes = match message.encode() {
            Ok(chain) => chain.to_bytes(),
            Err(error) => return self.fail(format!("a message is no frame: {error}")),
        };
        self.trace.add_all([3, from as u64, to as u64, bytes.len() as u64]);
        // The frame's own checksum stands for its content.
        if let Some(crc) = bytes.get(4..8) {
            crc.iter().for_each(|byte| self.trace.add(u64::from(*byte)));
        }
        if self.links.links.get(&id).is_some_and(|link| link.is_broken) {
            return self.count("frames lost");
        }
        if self.network.loses(from, to) {
            return self.lose(id, is_answer, sure, bytes);
        }
        let arrival = self.network.arrival(self.at, from, to);
        if sure.is_none() && self.network.doubles() {
            self.count("frames duplicated");
            let again = self.at + self.network.delay();
            let bytes = bytes.clone();
            self.events.put(again, Event::Carry { link: id, is_answer, sure, bytes });
        }
        self.events.put(arrival, Event::Carry { link: id, is_answer, sure, bytes });
    }

    /// A frame does not arrive, or arrives later, or damaged; or its link breaks.
    fn lose(&mut self, id: LinkId, is_answer: bool, sure: Option<u64>, mut bytes: Bytes) {
        self.count("frames lost");
        let chance = self.random.below(100);
        if chance < 10 {
            return self.break_link(id);
        }
        if sure.is_some() {
            let later = self.at + 200_000 + self.random.below(800_000);
            return self.events.put(later, Event::Carry { link: id, is_answer, sure, bytes });
        }
        let Some(link) = self.links.links.get(&id) else { return };
        let (from, to, life) = (link.from, link.to, link.dialler);
        if chance < 20 {
            let learns = self.at + self.random.below(500_000);
            self.events.put(learns, Event::Unreachable(from, life, to));
        } else if chance < 25 && !self.network.is_blocked(from, to) {
            self.count("frames damaged");
            let mut damaged = BytesMut::from(bytes.as_ref());
            let place = usize::try_from(self.random.below(damaged.len() as u64)).unwrap_or(0);
            damaged[place] ^= 1 << self.random.below(8);
            bytes = damaged.freeze();
            let arrival = self.network.arrival(self.at, from, to);
            self.events.put(arrival, Event::Carry { link: id, is_answer, sure, bytes });
        }
    }

    /// A link carries nothing any more; its dialler learns of it after a while.
    pub(crate) fn break_link(&mut self, id: LinkId) {
        let Some(link) = self.links.links.get_mut(&id) else { return };
        if std::mem::replace(&mut link.is_broken, true) {
            return;
        }
        let (from, life) = (link.from, link.dialler);
        self.count("links broken");
        let learns = self.at + 1 + self.random.below(500_000);
        self.events.put(learns, Event::LinkDown(from, life, id));
    }

    /// Breaks some links that are in use, at once.
    pub(crate) fn break_some_links(&mut self, percent: u64) {
        let in_use = self.links.links.iter();
        let in_use = in_use.filter(|(_, link)| link.stage == Stage::Open && !link.is_broken);
        let is_cut = |link: &Link| self.network.is_blocked(link.from, link.to);
        let concerned = in_use.filter(|(_, link)| is_cut(link));
        for id in concerned.map(|(id, _)| *id).collect::<Vec<_>>() {
            if self.random.chance(percent) {
                self.break_link(id);
            }
        }
    }

    /// A process has gone whose machine goes on: whoever sends to it is told, unless the way back
    /// is cut.
    pub(crate) fn break_links_of(&mut self, n: NodeAt, life: Life, is_told: bool) {
        let links = self.links.links.iter_mut();
        let own = links.filter(|(_, link)| link.stage != Stage::Down);
        let mut told = Vec::new();
        for (id, link) in own {
            if link.from == n && link.dialler == life {
                link.stage = Stage::Down;
                link.waiting.clear();
            } else if is_told && link.to == n && link.acceptor == Some(life) {
                told.push((*id, link.from));
            }
        }
        for (id, from) in told {
            if !self.network.is_blocked(n, from) {
                self.break_link(id);
            }
        }
    }

    /// The dialler learns that its link is down.
    pub(crate) fn note_link_down(&mut self, n: NodeAt, id: LinkId) {
        let Some(link) = self.links.links.get_mut(&id) else { return };
        if link.stage == Stage::Down {
            return;
        }
        link.stage = Stage::Down;
        link.is_broken = true;
        link.waiting.clear();
        let node = NodeId::new(link.to as u64 + 1);
        self.tell_node(n, NodeInput::LinkDown { node });
    }

    /// Nobody has answered the greeting in time.
    pub(crate) fn end_dial(&mut self, n: NodeAt, id: LinkId) {
        let is_dialling = |link: &Link| link.stage == Stage::Dialling;
        if self.links.links.get(&id).is_some_and(is_dialling) {
            self.note_link_down(n, id);
        }
    }

    /// A frame arrives, if anybody is there.
    pub(crate) fn arrive(&mut self, id: LinkId, is_answer: bool, sure: Option<u64>, bytes: Bytes) {
        let Some(link) = self.links.links.get(&id) else { return };
        let (from, to) = if is_answer { (link.to, link.from) } else { (link.from, link.to) };
        if self.network.is_blocked(from, to) {
            if sure.is_some() && !link.is_broken {
                let later = self.at + HELD;
                self.events.put(later, Event::Carry { link: id, is_answer, sure, bytes });
            }
            return;
        }
        let paused_until = self.nodes[to].paused_until;
        if paused_until > self.at {
            let again = Event::Carry { link: id, is_answer, sure, bytes };
            return self.events.put(paused_until, again);
        }
        match (is_answer, sure) {
            (true, _) => self.hear_answer(id, &bytes),
            (false, None) => self.hear_frame(id, &bytes),
            (false, Some(number)) => self.hear_in_order(id, number, bytes),
        }
    }

    /// What is carried surely is heard in the order in which it was sent.
    fn hear_in_order(&mut self, id: LinkId, number: u64, bytes: Bytes) {
        let Some(link) = self.links.links.get_mut(&id) else { return };
        link.early.insert(number, bytes);
        while let Some(link) = self.links.links.get_mut(&id)
            && let Some(bytes) = link.early.remove(&link.heard)
        {
            link.heard += 1;
            self.hear_frame(id, &bytes);
        }
    }

    /// A frame has come to whom it was sent.
    fn hear_frame(&mut self, id: LinkId, bytes: &Bytes) {
        let Some(link) = self.links.links.get_mut(&id) else { return };
        let (from, to) = (link.from, link.to);
        let node = &self.nodes[to];
        let is_there = node.process.is_some();
        if !is_there || link.acceptor.is_some_and(|life| life != node.life) {
            // A machine that runs says that nobody is there.
            if !node.is_without_power && !self.network.is_blocked(to, from) {
                self.break_link(id);
            }
            return;
        }
        link.acceptor = Some(node.life);
        link.received.feed(BytesMut::from(bytes.as_ref()));
        loop {
            let Some(link) = self.links.links.get_mut(&id) else { return };
            let message = match link.received.take_frame() {
                Ok(Split::Incomplete { .. }) => return self.await_rest(id),
                Ok(Split::Frame(frame)) => {
                    PeerMessage::decode(frame).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match message {
                Ok(PeerMessage::Hello(hello)) => {
                    self.tell_node(to, NodeInput::Hello { link: id, hello });
                }
                Ok(message) => self.hear_peer(id, from, to, message),
                Err(error) => {
                    if !self.counts.contains_key("frames damaged") {
                        self.fail(format!("a frame does not decode: {error}"));
                    }
                    return self.break_link(id);
                }
            }
        }
    }

    /// The acceptor waits for the rest of a frame, for so long.
    fn await_rest(&mut self, id: LinkId) {
        let Some(link) = self.links.links.get_mut(&id) else { return };
        let is_stuck = link.received.waiting_bytes() > 0;
        let (to, life) = (link.to, link.acceptor.unwrap_or_default());
        if is_stuck && self.is_healing {
            return self.break_link(id);
        }
        if is_stuck && !std::mem::replace(&mut link.is_stuck, is_stuck) {
            let ends = self.at + FRAME_TIME_MAX;
            self.events.put(ends, Event::FrameEnds(to, life, id));
        }
    }

    /// A frame has not ended in time.
    pub(crate) fn end_frame(&mut self, id: LinkId) {
        if self.links.links.get(&id).is_some_and(|link| link.is_stuck) {
            self.break_link(id);
        }
    }

    /// Who waits for the rest of a frame waits no longer.
    pub(crate) fn break_stuck_links(&mut self) {
        let stuck = self.links.links.iter().filter(|(_, link)| link.is_stuck);
        for id in stuck.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.break_link(id);
        }
    }

    fn hear_peer(&mut self, id: LinkId, from: NodeAt, to: NodeAt, message: PeerMessage) {
        let node = NodeId::new(from as u64 + 1);
        let hears = |process: &Process| process.brain.node.hears(node, id);
        if !self.nodes[to].process.as_deref().is_some_and(hears) {
            return self.count("mark: a link says something behind its successor");
        }
        match bateau_storage::said(node, message) {
            Said::Raft { messages, damaged } => {
                if !damaged.is_empty() {
                    self.fail(format!("I18: entries of {damaged:?} came damaged from {node}"));
                }
                self.tell(to, messages.into_iter().map(|message| Input::Peer { node, message }));
            }
            Said::Chunk(chunk) => self.tell(to, [Input::SnapshotChunk { node, chunk }]),
            Said::Mending(input) => self.tell(to, [Input::Mending(input)]),
            Said::Request { number, request } => {
                let Some(link) = self.links.links.get(&id) else { return };
                let origin = (from, link.dialler, number);
                self.take_request(to, origin, request);
            }
            Said::Node(input) => self.tell_node(to, input),
            Said::Unknown(error) => self.fail(format!("{node} says what nobody knows: {error}")),
            Said::Nothing => self.fail(format!("{node} says what nobody serves")),
        }
    }

    /// The answer to a greeting has come to whom it was sent.
    fn hear_answer(&mut self, id: LinkId, bytes: &Bytes) {
        let Some(link) = self.links.links.get_mut(&id) else { return };
        let (from, to) = (link.from, link.to);
        if self.nodes[from].life != link.dialler || link.stage != Stage::Dialling {
            return;
        }
        link.answered.feed(BytesMut::from(bytes.as_ref()));
        let message = match link.answered.take_frame() {
            Ok(Split::Frame(frame)) => {
                PeerMessage::decode(frame).map_err(|error| error.to_string())
            }
            Ok(Split::Incomplete { .. }) => Err("a cut frame".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let node = NodeId::new(to as u64 + 1);
        match message {
            Ok(PeerMessage::HelloAnswer(HelloAnswer::Welcome(welcome))) => {
                link.stage = Stage::Open;
                let waiting = std::mem::take(&mut link.waiting);
                self.tell_node(from, NodeInput::Welcomed { node, welcome });
                waiting.into_iter().for_each(|message| self.carry(id, false, message));
            }
            Ok(PeerMessage::HelloAnswer(HelloAnswer::Refused(refusal))) => {
                self.hang_up(id);
                self.tell_node(from, NodeInput::Refused { node, refusal });
            }
            other => self.fail(format!("a greeting is answered by {other:?}")),
        }
    }

    /// The newest link from one node to another, in words.
    pub(crate) fn describe_link(&self, from: NodeAt, to: NodeAt) -> String {
        let links = self.links.links.iter().rev();
        let newest = links.map(|(_, link)| link).find(|link| (link.from, link.to) == (from, to));
        newest.map_or_else(
            || "no link".to_owned(),
            |link| {
                let Link { stage, is_broken, dialler, acceptor, .. } = link;
                format!("link {stage:?}, broken {is_broken}, of start {dialler} to {acceptor:?}")
            },
        )
    }

    /// Where a node is.
    pub(crate) fn place_of(&self, node: NodeId) -> Option<NodeAt> {
        let place = usize::try_from(node.get().checked_sub(1)?).ok()?;
        (place < self.nodes.len()).then_some(place)
    }
}
