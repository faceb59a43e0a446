//! Where the nodes of one process find each other, and what a test does to the ways between them.
//!
//! ```text
//!   node 1 ──way (1, 2): late by a delay, or cut──> node 2       links stay TCP over loopback
//!          <──way (2, 1)───────────────────────────
//! ```
//!
//! A cut way is a network that drops what is sent on it: the sender hears nothing, goes on waiting,
//! and gives its link up when TCP would. What waited less long arrives when the way is restored. An
//! established link needs one way only, the opening of a link needs both.
//!
//! The ports of such nodes are other ones after every start, so their founders' addresses are names
//! that mean something here alone ([`Wires::name`]), and the port is looked up when it is dialled.
//!
//! Invariants: what passes keeps its order; nodes without wires have none of this.
//!
//! Absent on purpose: loss of single messages. TCP repeats them; the simulator loses them.

use super::Queued;
use bateau_protocol::ids::NodeId;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How long what was sent may stay without an acknowledgement before its link is lost.
pub(super) const UNACKNOWLEDGED_TIME_MAX: Duration = Duration::from_secs(3);

/// The ways between the nodes of one process. Clones are of the same ways.
#[derive(Clone, Debug, Default)]
pub struct Wires {
    layout: Arc<watch::Sender<Layout>>,
}

#[derive(Debug, Default)]
struct Layout {
    doors: BTreeMap<NodeId, SocketAddr>,
    /// From, to. Without an entry a way is open and fast.
    ways: BTreeMap<(NodeId, NodeId), Way>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Way {
    is_cut: bool,
    delay: Duration,
}

impl Wires {
    /// Ways that are open, between nodes that are not there yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The peers address that a node has over all of its starts, `host:port` in shape.
    #[must_use]
    pub fn name(node: NodeId) -> String {
        format!("node-{node}:9644")
    }

    /// A node listens there now.
    pub fn note_door(&self, node: NodeId, address: SocketAddr) {
        self.layout.send_modify(|layout| {
            layout.doors.insert(node, address);
        });
    }

    /// Nothing passes from one node to another; the way back is as it was.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.change(from, to, |way| way.is_cut = true);
    }

    /// What is sent from one node to another arrives so much later, in order.
    pub fn delay(&self, from: NodeId, to: NodeId, by: Duration) {
        self.change(from, to, |way| way.delay = by);
    }

    /// The way from one node to another is open and fast again.
    pub fn restore(&self, from: NodeId, to: NodeId) {
        self.change(from, to, |way| *way = Way::default());
    }

    fn change(&self, from: NodeId, to: NodeId, change: impl FnOnce(&mut Way)) {
        self.layout.send_modify(|layout| change(layout.ways.entry((from, to)).or_default()));
    }

    pub(super) fn way(&self, from: NodeId, to: NodeId) -> Wire {
        Wire { from, to, layout: self.layout.subscribe() }
    }
}

/// One way.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    from: NodeId,
    to: NodeId,
    layout: watch::Receiver<Layout>,
}

impl Wire {
    /// Where the node at the end listens; waits until it does.
    pub async fn door(&mut self) -> SocketAddr {
        let to = self.to;
        loop {
            if let Some(address) = self.layout.borrow_and_update().doors.get(&to) {
                return *address;
            }
            self.changed().await;
        }
    }

    /// Waits as long as a packet that is sent now needs.
    pub async fn pass(&mut self) {
        tokio::time::sleep(self.now().delay).await;
        self.until_open().await;
    }

    async fn until_open(&mut self) {
        while self.now().is_cut {
            self.changed().await;
        }
    }

    fn now(&mut self) -> Way {
        let way = (self.from, self.to);
        self.layout.borrow_and_update().ways.get(&way).copied().unwrap_or_default()
    }

    async fn changed(&mut self) {
        if self.layout.changed().await.is_err() {
            // Nobody is left who could change anything.
            std::future::pending().await
        }
    }
}

/// What waits for a link, and passes its way if it has one.
#[derive(Debug)]
pub(super) struct Outgoing {
    queue: mpsc::UnboundedReceiver<Queued>,
    wire: Option<Wire>,
    /// With the moment at which each arrives.
    under_way: VecDeque<(Instant, Queued)>,
}

impl Outgoing {
    pub fn new(queue: mpsc::UnboundedReceiver<Queued>, wire: Option<Wire>) -> Self {
        Self { queue, wire, under_way: VecDeque::new() }
    }

    /// Takes what may leave now, waiting for the first of it. How many were taken; none when the
    /// link is over. May be dropped at any time.
    pub async fn take(&mut self, taken: &mut Vec<Queued>, count_max: usize) -> usize {
        let Self { queue, wire, under_way } = self;
        let Some(wire) = wire else { return queue.recv_many(taken, count_max).await };
        loop {
            let first = under_way.front().map(|(arrives, _)| *arrives);
            tokio::select! {
                biased;
                queued = queue.recv() => {
                    let Some(queued) = queued else { return 0 };
                    let arrives = Instant::now() + wire.now().delay;
                    let last = under_way.back().map_or(arrives, |(last, _)| *last);
                    under_way.push_back((arrives.max(last), queued));
                }
                arrived = arrive(wire, first) => {
                    if !arrived {
                        return 0;
                    }
                    let now = Instant::now();
                    let due = under_way.iter().take_while(|(arrives, _)| *arrives <= now);
                    let count = due.count().min(count_max);
                    taken.extend(under_way.drain(..count).map(|(_, queued)| queued));
                    return count;
                }
            }
        }
    }
}

/// Waits until what arrives at that moment is through. Whether it comes through at all.
async fn arrive(wire: &mut Wire, at: Option<Instant>) -> bool {
    let Some(at) = at else { return std::future::pending().await };
    tokio::time::sleep_until(at).await;
    tokio::time::timeout_at(at + UNACKNOWLEDGED_TIME_MAX, wire.until_open()).await.is_ok()
}
