//! Requests to the controller on their way between nodes.
//!
//! Invariants: what may not be done twice reaches a controller that takes it at most once, however
//! often its asker, its links and its controllers fail.
//!
//! Absent on purpose: what is asked.

use crate::event::{Life, NodeAt};
use crate::process::Waiter;
use crate::world::World;
use bateau_core::controller::{ControllerError, ControllerRequest, MembershipRequest};
use bateau_core::shard::{Input, Reply};
use bateau_protocol::ids::NodeId;
use std::collections::BTreeSet;

/// Whose request: node, start and number there.
pub type Origin = (NodeAt, Life, u64);

/// A request that may be carried out once; `None` where twice is as good.
pub type RequestId = Option<Origin>;

/// What controllers have taken.
#[derive(Debug, Default)]
pub struct Taken(BTreeSet<Origin>);

impl World {
    /// A request for a controller begins; what it counts as.
    pub(crate) fn note_request(
        &mut self,
        origin: Origin,
        request: &ControllerRequest,
    ) -> RequestId {
        let is_once = match request {
            ControllerRequest::CreateTopics(_)
            | ControllerRequest::DeleteTopics { .. }
            | ControllerRequest::AlterTopicConfigs(_)
            | ControllerRequest::CreatePartitions(_) => true,
            ControllerRequest::Membership { request: MembershipRequest::Reassign(_), .. } => true,
            ControllerRequest::AutoCreateTopics { .. }
            | ControllerRequest::AllocateProducerIds { .. }
            | ControllerRequest::RegisterNode { .. }
            | ControllerRequest::ConfirmRemoved { .. }
            | ControllerRequest::Membership { .. } => false,
        };
        is_once.then_some(origin)
    }

    /// Another node asks the controller here, if it is here.
    pub(crate) fn take_request(&mut self, n: NodeAt, origin: Origin, request: ControllerRequest) {
        self.count("requests forwarded");
        let id = self.note_request(origin, &request);
        let Some(mut process) = self.nodes[n].process.take() else { return };
        // A member speaks to a node that is not founded yet.
        if process.shard.is_some() {
            let node = NodeId::new(origin.0 as u64 + 1);
            let waiter = Waiter::Peer { node, number: origin.2, request: id };
            let ticket = self.ticket(&mut process, waiter);
            process.inbox.push(Input::Controller { request, ticket });
        }
        self.nodes[n].process = Some(process);
        self.turn_soon(n);
    }

    /// A controller has answered: whoever says anything but that it is none, has taken it.
    pub(crate) fn check_taken(&mut self, n: NodeAt, id: RequestId, reply: &Reply) {
        let Some(origin) = id else { return };
        if matches!(reply, Reply::Controller(Err(ControllerError::NotController))) {
            return self.count("mark: a request finds no controller where it was");
        }
        if !self.taken.0.insert(origin) {
            self.fail(format!("I8: request {origin:?} is taken again, by node {}", n + 1));
        }
    }
}
