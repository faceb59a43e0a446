//! An election that was asked for on another node than the leader's.
//!
//! ```text
//!   Ask::Transfer ──led here──────> Input::Transfer
//!                 ──led elsewhere─> the leader's node ──> Input::Transfer there
//! ```
//!
//! Invariant: what another node asks for is not carried on; two nodes that take each other for the
//! leader ask each other once.
//!
//! Absent on purpose: answers. Whoever asks looks who leads, and asks again.

use super::ShardLoop;
use bateau_core::controller::{ControllerRequest, MembershipRequest, Metadata};
use bateau_core::node::NodeEffect;
use bateau_core::shard::Input;
use bateau_protocol::ids::{Incarnation, NodeId};

/// Number of a request that nobody waits for: those that are answered count from above.
const UNANSWERED: u64 = 0;
/// How long the request is worth something, in milliseconds.
const TIMEOUT_MS: u64 = 1_000;

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
}
