//! The configuration of a partition's Raft group, in our own encoding (frame kind 3).
//!
//! ```text
//! auto_leave u8 | voters | learners | outgoing voters
//! each list: count u32, then (replica id u64, node id u64)…
//! ```
//!
//! The payload is always the whole resulting configuration. A learner that is still an outgoing
//! voter is raft's `learners_next`.
//!
//! Absent on purpose: raft's protobuf form, which `raft_view` makes from this one.

use crate::codec::{DecodeError, Put, Reader};
use bateau_protocol::ids::{NodeId, ReplicaId};
use bytes::Bytes;
use raft::eraftpb::ConfState;

/// One replica and the node that it is placed on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Member {
    /// The replica's id, which is its id in Raft.
    pub replica_id: ReplicaId,
    /// Where it lives.
    pub node_id: NodeId,
}

/// Who takes part in a partition's Raft group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// Voters; of a joint configuration, the incoming ones.
    pub voters: Vec<Member>,
    /// Replicas that receive the log without a vote.
    pub learners: Vec<Member>,
    /// Voters on their way out; empty outside a joint configuration.
    pub outgoing: Vec<Member>,
    /// Whether raft leaves the joint configuration by itself; always set in one.
    pub auto_leave: bool,
}

/// Members in one list of a membership; replication factors stay far below it.
pub const MEMBERS_MAX: usize = 64;

const MEMBER_BYTES: usize = 16;

impl Membership {
    /// The configuration that a partition is born with.
    #[must_use]
    pub fn initial(voters: Vec<Member>) -> Self {
        Self { voters, ..Self::default() }
    }

    /// Whether `replica` is the only one whose vote counts, now and in a joint configuration.
    #[must_use]
    pub fn is_sole_voter(&self, replica: ReplicaId) -> bool {
        self.outgoing.is_empty() && matches!(&*self.voters, [only] if only.replica_id == replica)
    }

    /// Votes that make a majority of the voters.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// The payload of a membership frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = Vec::new();
        bytes.put([u8::from(self.auto_leave)]);
        for members in [&self.voters, &self.learners, &self.outgoing] {
            bytes.put_count(members.len());
            for member in members {
                bytes.put(member.replica_id.get().to_le_bytes());
                bytes.put(member.node_id.get().to_le_bytes());
            }
        }
        bytes.into()
    }

    /// Decodes a membership frame's payload.
    ///
    /// Errors: [`DecodeError`]; the partition cannot be opened then.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new("membership", payload);
        let auto_leave = reader.bool()?;
        let mut members = || {
            let count = reader.count(MEMBER_BYTES)?;
            if count > MEMBERS_MAX {
                return Err(reader.error("more members than a partition may have"));
            }
            (0..count)
                .map(|_| {
                    let replica_id = ReplicaId::new(reader.u64()?);
                    let node_id = NodeId::new(reader.u64()?);
                    Ok(Member { replica_id, node_id })
                })
                .collect::<Result<Vec<_>, _>>()
        };
        let (voters, learners, outgoing) = (members()?, members()?, members()?);
        reader.finish()?;
        Ok(Self { voters, learners, outgoing, auto_leave })
    }

    /// What raft calls this configuration.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        let ids = |members: &[Member]| -> Vec<u64> {
            members.iter().map(|member| member.replica_id.get()).collect()
        };
        let (waiting, learners): (Vec<Member>, Vec<Member>) =
            self.learners.iter().partition(|member| self.outgoing.contains(member));
        let mut state = ConfState::default();
        state.set_voters(ids(&self.voters));
        state.set_learners(ids(&learners));
        state.set_learners_next(ids(&waiting));
        state.set_voters_outgoing(ids(&self.outgoing));
        state.set_auto_leave(self.auto_leave);
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(replica: u64, node: u64) -> Member {
        Member { replica_id: ReplicaId::new(replica), node_id: NodeId::new(node) }
    }

    fn joint() -> Membership {
        Membership {
            voters: vec![member(10, 1), member(11, 2)],
            learners: vec![member(12, 3), member(13, 4)],
            outgoing: vec![member(10, 1), member(12, 3)],
            auto_leave: true,
        }
    }

    #[test]
    fn a_membership_survives_the_round_trip() {
        assert_eq!(Membership::decode(&joint().encode()), Ok(joint()));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = joint().encode();
        for end in 0..bytes.len() {
            assert!(Membership::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn an_outgoing_voter_that_becomes_a_learner_waits() {
        let state = joint().conf_state();
        assert_eq!(state.get_learners(), [13]);
        assert_eq!(state.get_learners_next(), [12]);
        assert_eq!(state.get_voters_outgoing(), [10, 12]);
    }

    #[test]
    fn only_a_lone_voter_is_sole() {
        let alone = Membership::initial(vec![member(10, 1)]);
        assert!(alone.is_sole_voter(ReplicaId::new(10)));
        assert!(!alone.is_sole_voter(ReplicaId::new(11)));
        assert!(!joint().is_sole_voter(ReplicaId::new(10)));
        assert_eq!(joint().majority(), 2);
    }
}
