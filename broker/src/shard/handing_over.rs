//! Leaderships that go from node to node because somebody wants it: an election that was asked for
//! on another node than the leader's, and a member that is to lead nothing.
//!
//! ```text
//!   Ask::Transfer ──led here──────────> Input::Transfer
//!                 ──led elsewhere─────> the leader's node ──> Input::Transfer there
//!   standing: draining ──now and then─> Input::Transfer for everything that is led here
//! ```
//!
//! Invariant: what another node asks for is not carried on; two nodes that take each other for the
//! leader ask each other once.
//!
//! Absent on purpose: answers. Whoever asks looks who leads, and asks again.

use super::ShardLoop;
use bateau_core::controller::{ControllerRequest, MembershipRequest, Metadata, Standing};
use bateau_core::node::NodeEffect;
use bateau_core::shard::Input;
use bateau_protocol::ids::{Incarnation, NodeId};
use std::time::Duration;
use tokio::time::Instant;

/// Between two attempts to give away what is led here.
const AGAIN: Duration = Duration::from_millis(300);
/// Number of a request that nobody waits for: those that are answered count from above.
const UNANSWERED: u64 = 0;
/// How long the request is worth something, in milliseconds.
const TIMEOUT_MS: u64 = 1_000;

/// Whether this node is to lead nothing.
#[derive(Debug, Default)]
pub(super) struct Draining {
    next: Option<Instant>,
    attempts: usize,
}

impl Draining {
    /// Looks at what the metadata says of this node.
    pub(super) fn note(&mut self, metadata: &Metadata, own: NodeId) {
        let standing = metadata.member(own).map(|member| member.standing);
        if standing != Some(Standing::Draining) {
            self.next = None;
        } else if self.next.is_none() {
            self.next = Some(Instant::now());
        }
    }

    /// When something is to be done.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.next
    }
}

/// What a peer asks this node for as a leader.
pub(super) fn hand_over_of(request: &ControllerRequest) -> Option<Input> {
    match request {
        ControllerRequest::Membership {
            request: MembershipRequest::HandOver { incarnation, node },
            ..
        } => Some(Input::Transfer { incarnation: *incarnation, node: *node }),
        _ => None,
    }
}

/// Who may lead a partition, preferred leader first; of the metadata, who votes.
pub(crate) fn replica_nodes(metadata: &Metadata, log: Incarnation) -> Vec<NodeId> {
    let replicas = match log {
        Incarnation::METADATA => &metadata.quorum().voters,
        log => match metadata.partition(log) {
            Some(partition) => &partition.replicas,
            None => return Vec::new(),
        },
    };
    replicas.iter().map(|replica| replica.node).collect()
}

impl ShardLoop {
    /// Asks whoever leads, here or elsewhere.
    pub(super) fn ask_to_hand_over(
        &mut self,
        incarnation: Incarnation,
        node: NodeId,
        inputs: &mut Vec<Input>,
    ) {
        let leader = self.router.directory().leader(incarnation).map(|(leader, _)| leader);
        match leader.filter(|leader| *leader != self.node_id) {
            None => inputs.push(Input::Transfer { incarnation, node }),
            Some(leader) => {
                let request = MembershipRequest::HandOver { incarnation, node };
                let request = ControllerRequest::Membership { request, timeout_ms: TIMEOUT_MS };
                let effect = NodeEffect::Request { node: leader, number: UNANSWERED, request };
                if let Some(NodeEffect::HangUp { node }) = self.cluster.peers().perform(effect) {
                    self.cluster.tell(bateau_core::node::NodeInput::LinkDown { node });
                }
            }
        }
    }

    /// Asks others to lead what is led here, while this node is to lead nothing. Where nobody else
    /// could, it goes on.
    pub(super) fn give_leaderships_away(&mut self, inputs: &mut Vec<Input>) {
        if self.draining.next.is_none_or(|next| next > Instant::now()) {
            return;
        }
        self.draining.next = Some(Instant::now() + AGAIN);
        self.draining.attempts = self.draining.attempts.wrapping_add(1);
        let directory = self.router.directory();
        let metadata = &directory.metadata;
        let serves = |node: &NodeId| {
            let standing = metadata.member(*node).map(|member| member.standing);
            standing == Some(Standing::Serving) && directory.live().contains(node)
        };
        for view in directory.views() {
            let incarnation = view.incarnation();
            if view.leader().is_none_or(|(leader, _)| leader != self.node_id) {
                continue;
            }
            let mut others = replica_nodes(metadata, incarnation);
            others.retain(|node| *node != self.node_id && serves(node));
            // One that does not keep up is not asked for ever.
            let turn = self.draining.attempts.checked_rem(others.len()).unwrap_or(0);
            if let Some(node) = others.get(turn) {
                inputs.push(Input::Transfer { incarnation, node: *node });
            }
        }
    }
}
