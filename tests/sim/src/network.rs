//! The links between nodes: bytes in order per direction, lost, late and twice as the faults say.
//!
//! Invariants: what travels is what the binary sends: the messages of one turn to one node are one
//! frame, made, cut and decoded by the peers' codec.
//!
//! Absent on purpose: connections; what one would have held back, arrives or is lost here.

use crate::event::{Micros, NodeAt};
use bateau_log::sim_disk::SimRandom;
use bateau_protocol::ids::NodeId;
use bateau_protocol::peer::{Hello, LinkEnd, PeerFrames, PeerMessage, RaftMessage, Split};
use bytes::{Bytes, BytesMut};

/// How well links carry.
#[derive(Clone, Copy, Debug)]
pub struct Quality {
    /// Frames that are lost, in percent.
    pub loss: u64,
    /// Frames that come twice, in percent.
    pub duplication: u64,
    /// Frames that do not wait for the one before, in percent.
    pub reordering: u64,
    /// Mean delay one way, in microseconds.
    pub delay: Micros,
    /// Frames that take up to five seconds, in percent.
    pub spikes: u64,
}

impl Quality {
    /// A network of one room.
    pub const GOOD: Self = Self { loss: 0, duplication: 0, reordering: 0, delay: 200, spikes: 0 };
}

/// Longest spike, in microseconds.
const SPIKE_MAX: Micros = 5_000_000;

/// All links.
pub struct Network {
    /// How they carry now.
    pub quality: Quality,
    /// `blocked[from][to]`.
    blocked: Vec<Vec<bool>>,
    arrivals: Vec<Vec<Micros>>,
    frames: PeerFrames,
    random: SimRandom,
}

impl Network {
    /// Links between this many nodes.
    pub fn new(count: usize, seed: u64) -> Self {
        let mut frames = PeerFrames::new(LinkEnd::Acceptor);
        let hello = Hello { node_id: NodeId::new(1), ..Hello::default() };
        let hello = Hello { version_min: 1, version_max: 1, ..hello };
        let bytes =
            PeerMessage::Hello(hello).encode().expect("a small Hello is a frame").to_bytes();
        frames.feed(BytesMut::from(bytes));
        assert!(matches!(frames.take_frame(), Ok(Split::Frame(_))), "a link begins with a Hello");
        Self {
            quality: Quality::GOOD,
            blocked: vec![vec![false; count]; count],
            arrivals: vec![vec![0; count]; count],
            frames,
            random: SimRandom::new(seed),
        }
    }

    /// Cuts the link in this direction, or mends it.
    pub fn set_blocked(&mut self, from: NodeAt, to: NodeAt, is_blocked: bool) {
        self.blocked[from][to] = is_blocked;
    }

    /// Mends everything.
    pub fn mend(&mut self) {
        self.blocked.iter_mut().flatten().for_each(|link| *link = false);
    }

    /// Whether the link carries nothing in this direction.
    pub fn is_blocked(&self, from: NodeAt, to: NodeAt) -> bool {
        self.blocked[from][to]
    }

    /// When what is sent now arrives: not at all, once or twice.
    pub fn arrivals(&mut self, at: Micros, from: NodeAt, to: NodeAt) -> Vec<Micros> {
        let quality = self.quality;
        if self.blocked[from][to] || self.random.chance(quality.loss) {
            return Vec::new();
        }
        let mut found = vec![self.arrival(at, from, to)];
        if self.random.chance(quality.duplication) {
            found.push(at + self.delay());
        }
        found
    }

    fn arrival(&mut self, at: Micros, from: NodeAt, to: NodeAt) -> Micros {
        let alone = at + self.delay();
        if self.random.chance(self.quality.reordering) {
            return alone;
        }
        let in_order = alone.max(self.arrivals[from][to] + 1);
        self.arrivals[from][to] = in_order;
        in_order
    }

    fn delay(&mut self) -> Micros {
        let mean = self.quality.delay.max(1);
        if self.random.chance(self.quality.spikes) {
            return self.random.below(SPIKE_MAX);
        }
        mean / 2 + self.random.below(mean)
    }

    /// The frame of one turn's messages to one node.
    pub fn encode(messages: Vec<RaftMessage>) -> Result<Bytes, String> {
        let batch = PeerMessage::RaftBatch(messages);
        Ok(batch.encode().map_err(|error| error.to_string())?.to_bytes())
    }

    /// The messages of a frame.
    pub fn decode(&mut self, bytes: &Bytes) -> Result<Vec<RaftMessage>, String> {
        self.frames.feed(BytesMut::from(bytes.as_ref()));
        match self.frames.take_frame() {
            Ok(Split::Frame(frame)) => match PeerMessage::decode(frame) {
                Ok(PeerMessage::RaftBatch(messages)) => Ok(messages),
                Ok(other) => Err(format!("a frame of another kind: {other:?}")),
                Err(error) => Err(error.to_string()),
            },
            Ok(Split::Incomplete { missing_bytes }) => Err(format!("{missing_bytes} are missing")),
            Err(error) => Err(error.to_string()),
        }
    }
}
