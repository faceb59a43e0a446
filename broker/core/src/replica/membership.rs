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

use crate::codec::{DecodeError, Reader, Writer};
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
        let mut writer = Writer::default();
        writer.flag(self.auto_leave);
        for members in [&self.voters, &self.learners, &self.outgoing] {
            writer.list(members.iter(), |writer, member| {
                writer.u64(member.replica_id.get());
                writer.u64(member.node_id.get());
            });
        }
        writer.into_bytes()
    }

    /// Decodes a membership frame's payload.
    ///
    /// Errors: [`DecodeError`]; the partition cannot be opened then.
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let auto_leave = reader.flag("auto leave")?;
        let voters = read_members(&mut reader, "voters")?;
        let learners = read_members(&mut reader, "learners")?;
        let outgoing = read_members(&mut reader, "outgoing voters")?;
        reader.finish("membership")?;
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

fn read_members(reader: &mut Reader<'_>, field: &'static str) -> Result<Vec<Member>, DecodeError> {
    let members = reader.list(field, MEMBER_BYTES, |reader| {
        let replica_id = ReplicaId::new(reader.u64("replica id")?);
        Ok(Member { replica_id, node_id: NodeId::new(reader.u64("node id")?) })
    })?;
    if members.len() > MEMBERS_MAX {
        return Err(reader.invalid(field, members.len() as u64, "at most 64 members"));
    }
    Ok(members)
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
    fn the_bytes_of_a_membership_never_change() {
        let membership = Membership { learners: vec![], ..joint() };
        let expected = [
            &[1][..],
            &[2, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[11, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
            &[0, 0, 0, 0],
            &[2, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[12, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(membership.encode(), expected.concat());
    }

    #[test]
    fn more_members_than_a_partition_may_have_are_an_error() {
        let voters = vec![member(10, 1); MEMBERS_MAX + 1];
        let error = Membership::decode(&Membership::initial(voters).encode()).unwrap_err();
        assert_eq!(error.to_string(), "voters at byte 1045: found 65, expected at most 64 members");
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
