//! Who leads the partitions of which this node holds no replica.
//!
//! ```text
//!   led here ──news──> every open link          a link opens ──all that is led here──> that link
//!   others' claims ──the highest term──> LeaderElsewhere
//! ```
//!
//! A client may ask any node who leads. What is held here, raft says; of the rest the leaders tell.
//!
//! Invariants
//! - Of two that claim a partition the one with the higher term is named.
//! - What a node claims counts until it begins anew, and is bounded in number. A node that is lost
//!   keeps its claims: its successors have higher terms.
//! - Nobody leads what has been deleted.
//!
//! Absent on purpose: answers that must be right. A client that is sent to the wrong node is told
//! so there.

use super::{Node, NodeEffect};
use bateau_protocol::ids::{Incarnation, NodeId, Term};
use bateau_protocol::limits::PEER_LEADERSHIPS_MAX;
use bateau_protocol::peer::{Leadership, Leaderships};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Partitions that one node may claim; what is beyond is not remembered.
const CLAIMS_MAX: usize = 200_000;

/// What is led here, and what others say that they lead.
#[derive(Debug, Default)]
pub(super) struct Leaders {
    own: BTreeMap<Incarnation, Term>,
    /// Of these, what other nodes have not been told.
    news: BTreeSet<Incarnation>,
    claims: BTreeMap<NodeId, BTreeMap<Incarnation, Term>>,
}

impl Leaders {
    fn leader_of(&self, incarnation: Incarnation) -> Option<(NodeId, Term)> {
        let claim = |(node, claims): (&NodeId, &BTreeMap<Incarnation, Term>)| {
            claims.get(&incarnation).map(|term| (*node, *term))
        };
        self.claims.iter().filter_map(claim).max_by_key(|(_, term)| *term)
    }

    /// Whether another node says that it leads this, of those that are heard.
    pub fn is_led(&self, incarnation: Incarnation, is_heard: impl Fn(NodeId) -> bool) -> bool {
        self.leader_of(incarnation).is_some_and(|(node, _)| is_heard(node))
    }

    fn own_in(&self, led: impl Iterator<Item = Incarnation>) -> Vec<Leadership> {
        let of = |incarnation| {
            self.own.get(&incarnation).map(|term| Leadership { incarnation, term: *term })
        };
        led.filter_map(of).collect()
    }
}

impl Node {
    /// This node leads a partition, or does not any more.
    pub(super) fn note_own_lead(&mut self, incarnation: Incarnation, term: Option<Term>) {
        match term {
            Some(term) => {
                self.leaders.own.insert(incarnation, term);
                self.leaders.news.insert(incarnation);
            }
            None => {
                self.leaders.own.remove(&incarnation);
                self.leaders.news.remove(&incarnation);
            }
        }
    }

    /// Tells a node all that is led here, for its link has just opened.
    pub(super) fn tell_leads_to(&mut self, node: NodeId) {
        let all = self.leaders.own_in(self.leaders.own.keys().copied());
        self.announce(node, true, &all);
    }

    /// Tells every node what is news.
    pub(super) fn tell_news(&mut self) {
        let news = std::mem::take(&mut self.leaders.news);
        let news = self.leaders.own_in(news.into_iter());
        if news.is_empty() {
            return;
        }
        let open = self.links.iter().filter(|(_, link)| link.is_up());
        for node in open.map(|(node, _)| *node).collect::<Vec<_>>() {
            self.announce(node, false, &news);
        }
    }

    fn announce(&mut self, node: NodeId, mut is_anew: bool, leads: &[Leadership]) {
        let mut frames = leads.chunks(PEER_LEADERSHIPS_MAX).map(<[_]>::to_vec);
        let mut next = frames.next().or_else(|| is_anew.then(Vec::new));
        while let Some(leads) = next {
            let leaderships = Leaderships { is_anew, leads };
            self.effects.push(NodeEffect::Announce { node, leaderships });
            is_anew = false;
            next = frames.next();
        }
    }

    pub(super) fn hear_leads(&mut self, node: NodeId, said: Leaderships) {
        let before = if said.is_anew { self.leaders.claims.remove(&node) } else { None };
        let mut touched: BTreeSet<_> = before.into_iter().flat_map(BTreeMap::into_keys).collect();
        let claims = self.leaders.claims.entry(node).or_default();
        for Leadership { incarnation, term } in said.leads {
            if claims.len() < CLAIMS_MAX || claims.contains_key(&incarnation) {
                claims.insert(incarnation, term);
                touched.insert(incarnation);
            }
        }
        self.tell_leaders(touched);
    }

    /// A node is no member any more.
    pub(super) fn forget_leads(&mut self, node: NodeId) {
        if let Some(claims) = self.leaders.claims.remove(&node) {
            self.tell_leaders(claims.into_keys());
        }
    }

    /// Partitions have been deleted. Cost: of those that not every node has confirmed.
    pub(super) fn forget_deleted(&mut self) {
        let metadata = Arc::clone(&self.metadata);
        for incarnation in metadata.tombstones() {
            self.note_own_lead(incarnation, None);
            let claims = self.leaders.claims.values_mut();
            if claims.filter_map(|claims| claims.remove(&incarnation)).count() > 0 {
                self.tell_leaders([incarnation]);
            }
        }
    }

    fn tell_leaders(&mut self, touched: impl IntoIterator<Item = Incarnation>) {
        for incarnation in touched {
            let leader = self.leaders.leader_of(incarnation);
            self.effects.push(NodeEffect::LeaderElsewhere { incarnation, leader });
        }
    }
}
