//! What a coordinator wants done: commands proposed, requests answered.
//!
//! Invariants
//! - Proposals are handed to the replica in the order of this list; replies are sent after it.
//!
//! Absent on purpose: I/O. The shard performs effects.

use bytes::Bytes;

use super::GroupResponse;
use crate::ticket::{ProposalToken, Ticket};

/// A kind-6 payload that the coordinator wants in its partition's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// To be given back to [`apply`](super::GroupCoordinator::apply) or
    /// [`dropped`](super::GroupCoordinator::dropped).
    pub token: ProposalToken,
    /// At most [`COMMAND_BYTES_MAX`](super::COMMAND_BYTES_MAX).
    pub payload: Bytes,
}

/// Collects what a call wants done. The caller drains both lists after every call.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct GroupEffects {
    /// To be proposed, in this order.
    pub proposals: Vec<Proposal>,
    /// To be answered.
    pub replies: Vec<(Ticket, GroupResponse)>,
}

impl GroupEffects {
    /// Adds an answer.
    pub(super) fn reply(&mut self, ticket: Ticket, response: GroupResponse) {
        self.replies.push((ticket, response));
    }

    /// Adds a proposal.
    pub(super) fn propose(&mut self, token: ProposalToken, payload: Bytes) {
        self.proposals.push(Proposal { token, payload });
    }
}
