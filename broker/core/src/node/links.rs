//! The links that this node sends on, and who of its peers lives.
//!
//! ```text
//!   waiting ──(its time)──> dialling ──> up ──(lost)──> waiting, a little longer each time
//! ```
//!
//! Invariants
//! - One link to every other member, and none to anybody else; before there is a record, to the
//!   configured voters.
//! - A peer lives while it gives signs of life; their number is bounded by time, not by groups.
//!
//! Absent on purpose: what travels on a link, what a lost peer means to a partition, and a word of
//! farewell.

use super::accepted::Shown;
use super::{LIVENESS_MS, Node, NodeEffect, SILENCE_MS};
use crate::clock::Now;
use crate::controller::BootEpoch;
use bateau_protocol::ids::{NodeId, ReplicaId};
use bateau_protocol::limits::PEER_STOPPED_REPLICAS_MAX;
use bateau_protocol::peer::Liveness;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The listener that peers dial.
const PEERS_LISTENER: &str = "peers";
/// Milliseconds until a link is dialled again, at first and at most.
const REDIAL_MS_MIN: u64 = 50;
const REDIAL_MS_MAX: u64 = 1_000;

/// One peer.
#[derive(Debug)]
pub(super) struct Link {
    address: Arc<str>,
    state: LinkState,
    /// What the peer has shown, while the link is up.
    shown: Option<Shown>,
    redial_ms: u64,
    heard_ms: u64,
    is_alive: bool,
    /// Whether it wants to lead nothing, as it last said.
    gives_way: bool,
    /// Replicas of it that have stopped, as it last said.
    stopped: BTreeSet<ReplicaId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LinkState {
    Waiting { until_ms: u64 },
    Dialling,
    Up,
}

impl Link {
    fn new(address: Arc<str>, now: Now) -> Self {
        Self {
            address,
            state: LinkState::Waiting { until_ms: now.monotonic_ms },
            shown: None,
            redial_ms: REDIAL_MS_MIN,
            heard_ms: 0,
            is_alive: false,
            gives_way: false,
            stopped: BTreeSet::new(),
        }
    }

    pub fn is_up(&self) -> bool {
        self.state == LinkState::Up
    }

    /// What whoever has welcomed us has shown.
    pub fn welcomed(&self) -> Option<Shown> {
        self.shown.filter(|_| self.is_up())
    }

    pub fn is_alive(&self) -> bool {
        self.is_alive
    }

    pub fn gives_way(&self) -> bool {
        self.gives_way
    }

    /// When something is due, on the monotonic clock in milliseconds.
    pub fn next_ms(&self) -> Option<u64> {
        let dial = match self.state {
            LinkState::Waiting { until_ms } => Some(until_ms),
            LinkState::Dialling | LinkState::Up => None,
        };
        let silence = self.is_alive.then_some(self.heard_ms + SILENCE_MS);
        dial.into_iter().chain(silence).min()
    }
}

impl Node {
    /// Who is to be dialled, and where.
    fn wanted(&self) -> BTreeMap<NodeId, Arc<str>> {
        let voters = self.settings.voters.iter();
        let mut wanted: BTreeMap<_, _> =
            voters.map(|voter| (voter.node, Arc::clone(&voter.address))).collect();
        if self.is_founded() {
            // The configuration says where to find them, the record who they are.
            wanted.retain(|node, _| self.members.iter().any(|member| member.node == *node));
            for member in &self.members {
                wanted.entry(member.node).or_insert_with(|| Arc::clone(&member.peers_address));
            }
        }
        for registered in self.metadata.nodes() {
            if let Some(listener) = registered.listener(PEERS_LISTENER) {
                wanted.insert(registered.node, listener.to_string().into());
            }
        }
        for (node, (_, address)) in &self.ahead {
            wanted.entry(*node).or_insert_with(|| Arc::clone(address));
        }
        wanted.remove(&self.settings.node_id);
        wanted
    }

    /// Dials who is to be dialled, hangs up on who is not, notices who is silent.
    pub(super) fn keep_links(&mut self, now: Now) {
        let wanted = self.wanted();
        let unwanted = self.links.keys().filter(|node| !wanted.contains_key(node));
        for node in unwanted.copied().collect::<Vec<_>>() {
            self.links.remove(&node);
            self.effects.push(NodeEffect::HangUp { node });
            self.forget_leads(node);
        }
        for (node, address) in wanted {
            let link = self.links.entry(node).or_insert_with(|| Link::new(address.clone(), now));
            link.address = address;
            if let LinkState::Waiting { until_ms } = link.state
                && until_ms <= now.monotonic_ms
            {
                link.state = LinkState::Dialling;
                let address = Arc::clone(&link.address);
                let hello = Box::new(self.hello_to(node));
                self.effects.push(NodeEffect::Dial { node, address, hello });
            }
        }
        for (node, link) in &mut self.links {
            if link.is_alive && now.monotonic_ms >= link.heard_ms + SILENCE_MS {
                link.is_alive = false;
                self.effects.push(NodeEffect::Lost { node: *node });
            }
        }
        self.dial_anew_if_cut_off(now);
    }

    /// A node that hears nobody, though all of its links are open, dials anew: whoever has removed
    /// it has hung up, and says so to its greeting.
    fn dial_anew_if_cut_off(&mut self, now: Now) {
        let is_silent = |link: &Link| link.state == LinkState::Up && !link.is_alive;
        if !self.is_founded() || !self.links.values().all(is_silent) {
            return;
        }
        for node in self.links.keys().copied().collect::<Vec<_>>() {
            self.effects.push(NodeEffect::HangUp { node });
            self.note_link_down(node, now);
        }
    }

    pub(super) fn note_link_up(&mut self, node: NodeId, shown: Shown, now: Now) {
        if let Some(link) = self.links.get_mut(&node) {
            link.state = LinkState::Up;
            link.shown = Some(shown);
            link.redial_ms = REDIAL_MS_MIN;
            self.tell_leads_to(node);
        }
        self.note_contact(node, now);
    }

    pub(super) fn note_link_down(&mut self, node: NodeId, now: Now) {
        self.boots.forget_welcome(node);
        let Some(link) = self.links.get_mut(&node) else { return };
        let was_up = link.state == LinkState::Up;
        link.state = LinkState::Waiting { until_ms: now.monotonic_ms + link.redial_ms };
        link.redial_ms = (link.redial_ms * 2).min(REDIAL_MS_MAX);
        if was_up {
            // What was on its way is gone: raft is told, whether the peer lives or not.
            self.effects.push(NodeEffect::Lost { node });
            link.is_alive = false;
            self.reconsider(node, now);
        }
    }

    /// A peer has shown itself under a start that may be heard.
    pub(super) fn note_contact(&mut self, node: NodeId, now: Now) {
        let Some(link) = self.links.get_mut(&node) else { return };
        link.heard_ms = now.monotonic_ms;
        link.is_alive = true;
    }

    /// A peer has dialled us, so it is there: a link that waits for its next attempt need not.
    pub(super) fn dial_soon(&mut self, node: NodeId, now: Now) {
        if let Some(link) = self.links.get_mut(&node)
            && let LinkState::Waiting { until_ms } = &mut link.state
        {
            *until_ms = now.monotonic_ms;
            link.redial_ms = REDIAL_MS_MIN;
        }
    }

    pub(super) fn hear_sign(&mut self, sign: &Liveness, now: Now) {
        let boot = BootEpoch { epoch: sign.boot_epoch, start_id: sign.start_id };
        if boot == self.boots.newest(sign.node_id) {
            self.note_contact(sign.node_id, now);
            if let Some(link) = self.links.get_mut(&sign.node_id) {
                link.gives_way = sign.gives_way;
            }
            self.hear_stopped(sign);
        }
    }

    fn hear_stopped(&mut self, sign: &Liveness) {
        let Some(link) = self.links.get_mut(&sign.node_id) else { return };
        let stopped: BTreeSet<_> = sign.stopped.iter().copied().collect();
        if link.stopped != stopped {
            link.stopped.clone_from(&stopped);
            self.effects.push(NodeEffect::PeerStopped { node: sign.node_id, stopped });
        }
    }

    pub(super) fn send_signs(&mut self, now: Now) {
        if now.monotonic_ms < self.next_sign_ms {
            return;
        }
        self.next_sign_ms = now.monotonic_ms + LIVENESS_MS;
        self.signs_sent += 1;
        let liveness = Liveness {
            node_id: self.settings.node_id,
            boot_epoch: self.settings.boot.epoch,
            start_id: self.settings.boot.start_id,
            sequence: self.signs_sent,
            gives_way: self.gives_way,
            stopped: self.stopped.values().take(PEER_STOPPED_REPLICAS_MAX).copied().collect(),
        };
        for (node, link) in &self.links {
            if link.state == LinkState::Up {
                let (node, liveness) = (*node, liveness.clone());
                self.effects.push(NodeEffect::Send { node, liveness });
            }
        }
    }
}
