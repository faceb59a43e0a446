//! Requests to the controller, from whatever node they come in on.
//!
//! ```text
//!   ask ──> waiting for a leader ──> decide here, or send to the leader ──> answered ──> reply
//!                  ▲                                     │ not the controller, link lost
//!                  └─────────────────────────────────────┘
//! ```
//!
//! Invariants
//! - Every ticket gets one answer, at the latest at its deadline.
//! - What may have been carried out is sent again only where doing it twice is doing it once; a
//!   client is told [`ControllerError::Unsettled`] otherwise.
//! - At most [`FORWARDED_MAX`] requests wait.
//! - No two requests of a node have one number, whichever of its starts asks: what was asked before
//!   a restart may be answered behind it.
//!
//! Absent on purpose: what is asked, which the controller decides, and reading.

use super::links::Link;
use super::{Node, NodeEffect};
use crate::clock::Now;
use crate::controller::{
    BootEpoch, ControllerError, ControllerRequest, ControllerResponse, MembershipRequest,
};
use crate::ticket::Ticket;
use bateau_protocol::ids::NodeId;
use std::collections::BTreeMap;

/// Requests of this node that may wait for a controller elsewhere.
pub const FORWARDED_MAX: usize = 4_096;
/// Milliseconds until a request is sent again that nobody took.
const RETRY_MS: u64 = 50;
/// Milliseconds until a request is sent again that may be carried out twice and is not answered:
/// the answer may have found no room on its link, or no controller that could give it.
const AGAIN_MS: u64 = 2_000;

/// Milliseconds that a node waits for what it asks for itself; then it asks anew, if it still has
/// to.
pub(super) const OWN_TIMEOUT_MS: u64 = 10_000;

/// Bits of a request's number that count the requests of one start; above them is the boot epoch.
const NUMBER_BITS: u32 = 32;

/// Requests on their way.
#[derive(Debug)]
pub(super) struct Forwarding {
    pending: BTreeMap<u64, Pending>,
    newest: u64,
    /// What this node itself is about to ask.
    own: Vec<ControllerRequest>,
    /// The node that leads the metadata partition, as far as is known here.
    controller: Option<NodeId>,
}

#[derive(Debug)]
struct Pending {
    /// Who waits; `None`: this node itself, which looks at what becomes of it.
    ticket: Option<Ticket>,
    request: ControllerRequest,
    deadline_ms: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting {
        until_ms: u64,
    },
    /// - `again_ms`: when it is sent again; never where it must not be.
    Sent {
        to: NodeId,
        again_ms: u64,
    },
}

impl State {
    fn is_sent_to(self, node: NodeId) -> bool {
        matches!(self, Self::Sent { to, .. } if to == node)
    }
}

impl Forwarding {
    pub fn new(boot: BootEpoch) -> Self {
        let newest = boot.epoch << NUMBER_BITS;
        Self { pending: BTreeMap::new(), newest, own: Vec::new(), controller: None }
    }

    fn add(&mut self, ticket: Option<Ticket>, request: ControllerRequest, now_ms: u64) {
        self.newest += 1;
        let deadline_ms = now_ms.saturating_add(request.timeout_ms());
        let state = State::Waiting { until_ms: now_ms };
        self.pending.insert(self.newest, Pending { ticket, request, deadline_ms, state });
    }

    /// When something is due, on the monotonic clock in milliseconds.
    ///
    /// - `can_send`: whether the controller can be asked now. Where it cannot, only deadlines pass:
    ///   whatever changes that is an input.
    pub fn next_ms(&self, can_send: bool) -> Option<u64> {
        let due = |pending: &Pending| match pending.state {
            State::Waiting { until_ms: at_ms } | State::Sent { again_ms: at_ms, .. }
                if can_send =>
            {
                at_ms.min(pending.deadline_ms)
            }
            State::Waiting { .. } | State::Sent { .. } => pending.deadline_ms,
        };
        self.pending.values().map(due).min()
    }
}

impl ControllerRequest {
    /// Whether carrying it out twice leaves what carrying it out once leaves.
    const fn is_repeatable(&self) -> bool {
        match self {
            Self::AutoCreateTopics { .. }
            | Self::AllocateProducerIds { .. }
            | Self::RegisterNode { .. }
            | Self::ConfirmRemoved { .. } => true,
            Self::Membership { request: MembershipRequest::Reassign(_), .. } => false,
            Self::Membership { .. } => true,
            Self::CreateTopics(_)
            | Self::DeleteTopics { .. }
            | Self::AlterTopicConfigs(_)
            | Self::CreatePartitions(_) => false,
        }
    }
}

impl Node {
    pub(super) fn ask(&mut self, request: ControllerRequest, ticket: Ticket, now: Now) {
        let forwarding = &mut self.forwarding;
        if forwarding.pending.len() >= FORWARDED_MAX {
            let response = Err(ControllerError::Busy);
            self.effects.push(NodeEffect::Reply { ticket, response });
            return;
        }
        forwarding.add(Some(ticket), request, now.monotonic_ms);
    }

    /// Asks for this node itself, unless the same is being asked already.
    pub(super) fn ask_for_ourselves(&mut self, request: ControllerRequest) {
        let mut pending = self.forwarding.pending.values();
        if !pending.any(|one| one.ticket.is_none() && one.request == request) {
            self.forwarding.own.push(request);
        }
    }

    /// Somebody else leads the metadata partition now, or nobody that is known.
    pub(super) fn follow_controller(&mut self, controller: Option<NodeId>, now: Now) {
        let before = std::mem::replace(&mut self.forwarding.controller, controller);
        if let Some(before) = before.filter(|before| Some(*before) != controller)
            && before != self.settings.node_id
        {
            self.reconsider(before, now);
        }
    }

    /// What was sent to `node` may never be answered.
    pub(super) fn reconsider(&mut self, node: NodeId, now: Now) {
        let is_sent = |pending: &Pending| pending.state.is_sent_to(node);
        let sent = self.forwarding.pending.iter().filter(|(_, pending)| is_sent(pending));
        for number in sent.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.hear_answer(number, Err(ControllerError::Unsettled), now);
        }
    }

    /// `node` has dialled anew: an answer may have been lost with its former link. What may be
    /// asked again is; whoever asked for anything else waits until its deadline.
    pub(super) fn repeat(&mut self, node: NodeId, now: Now) {
        for pending in self.forwarding.pending.values_mut() {
            if pending.state.is_sent_to(node) && pending.request.is_repeatable() {
                pending.state = State::Waiting { until_ms: now.monotonic_ms };
            }
        }
    }

    pub(super) fn hear_answer(
        &mut self,
        number: u64,
        response: Result<ControllerResponse, ControllerError>,
        now: Now,
    ) {
        let Some(pending) = self.forwarding.pending.get_mut(&number) else { return };
        let goes_on = match response {
            Err(ControllerError::NotController) => true,
            Err(ControllerError::Unsettled) => pending.request.is_repeatable(),
            _ => false,
        };
        if goes_on {
            pending.state = State::Waiting { until_ms: now.monotonic_ms + RETRY_MS };
        } else if let Some(pending) = self.forwarding.pending.remove(&number) {
            match pending.ticket {
                Some(ticket) => self.effects.push(NodeEffect::Reply { ticket, response }),
                None => self.hear_own_answer(pending.request, response),
            }
        }
    }

    /// The controller, where it can be asked now: it is here, or a link to it is open.
    pub(super) fn reachable_controller(&self) -> Option<NodeId> {
        let is_open = |node| self.links.get(&node).is_some_and(Link::is_up);
        let controller = self.forwarding.controller;
        controller.filter(|node| *node == self.settings.node_id || is_open(*node))
    }

    /// Sends what waits, and answers what has waited too long.
    pub(super) fn forward(&mut self, now: Now) {
        let pending = &mut self.forwarding.pending;
        let late = pending.extract_if(.., |_, pending| pending.deadline_ms <= now.monotonic_ms);
        for (_, pending) in late {
            let timeout_ms = pending.request.timeout_ms();
            let response = Err(ControllerError::TimedOut { timeout_ms });
            if let Some(ticket) = pending.ticket {
                self.effects.push(NodeEffect::Reply { ticket, response });
            }
        }
        for request in std::mem::take(&mut self.forwarding.own) {
            if self.forwarding.pending.len() < FORWARDED_MAX {
                self.forwarding.add(None, request, now.monotonic_ms);
            }
        }
        let Some(controller) = self.reachable_controller() else { return };
        let is_own = controller == self.settings.node_id;
        for (number, pending) in &mut self.forwarding.pending {
            let (State::Waiting { until_ms: at_ms } | State::Sent { again_ms: at_ms, .. }) =
                pending.state;
            if at_ms > now.monotonic_ms {
                continue;
            }
            let again_ms = match pending.request.is_repeatable() && !is_own {
                true => now.monotonic_ms + AGAIN_MS,
                false => u64::MAX,
            };
            pending.state = State::Sent { to: controller, again_ms };
            let (number, request) = (*number, pending.request.clone());
            self.effects.push(if is_own {
                NodeEffect::Decide { number, request }
            } else {
                NodeEffect::Request { node: controller, number, request }
            });
        }
    }
}
