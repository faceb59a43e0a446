//! The configuration of a partition's Raft group, in our own encoding (frame kind 3).
//!
//! ```text
//! version u8 = 1 | assignment u64 | settled u8 | voters | learners | outgoing voters
//! each list: count u32, then (replica id u64, node id u64)…
//! ```
//!
//! The payload is always the whole resulting configuration. A learner that is still an outgoing
//! voter is raft's `learners_next`.
//!
//! Absent on purpose: raft's protobuf form, which `raft_view` makes from this one; and leaving a
//! joint configuration without an entry of ours (raft's `auto_leave`): see `steering`.

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
    /// Which of the assignments that the metadata has made of this partition it follows: they are
    /// counted from 0, the one that the partition was born with.
    pub assignment: u64,
    /// Whether it repeats the one before it, which is committed then wherever this one is: nobody
    /// needs a configuration before that any more.
    pub is_settled: bool,
    /// Voters; of a joint configuration, the incoming ones.
    pub voters: Vec<Member>,
    /// Replicas that receive the log without a vote.
    pub learners: Vec<Member>,
    /// Voters on their way out; empty outside a joint configuration.
    pub outgoing: Vec<Member>,
}

/// Members in one list of a membership; replication factors stay far below it.
pub const MEMBERS_MAX: usize = 64;

const MEMBER_BYTES: usize = 16;
const MEMBERSHIP_VERSION: u8 = 1;

impl Membership {
    /// The configuration that a partition is born with.
    #[must_use]
    pub fn initial(voters: Vec<Member>) -> Self {
        Self { voters, is_settled: true, ..Self::default() }
    }

    /// Whether `replica` is the only one whose vote counts, now and in a joint configuration.
    #[must_use]
    pub fn is_sole_voter(&self, replica: ReplicaId) -> bool {
        self.outgoing.is_empty() && matches!(&*self.voters, [only] if only.replica_id == replica)
    }

    /// Votes that make a majority of the voters; in a joint configuration, of either half.
    #[must_use]
    pub fn majority(&self) -> usize {
        let of = |voters: &[Member]| voters.len() / 2 + 1;
        match self.is_joint() {
            true => of(&self.voters).max(of(&self.outgoing)),
            false => of(&self.voters),
        }
    }

    /// Whether two sets of voters decide together.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `replica` votes, be it on its way out.
    #[must_use]
    pub fn is_voter(&self, replica: ReplicaId) -> bool {
        has(&self.voters, replica) || has(&self.outgoing, replica)
    }

    /// Everybody who gets the log; whoever is in two parts comes twice.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.voters.iter().chain(&self.learners).chain(&self.outgoing)
    }

    /// The member with this id, in whatever part.
    #[must_use]
    pub fn member(&self, replica: ReplicaId) -> Option<&Member> {
        self.members().find(|member| member.replica_id == replica)
    }

    /// The members on this node. There are two while one takes the other's place.
    pub fn members_on(&self, node: NodeId) -> impl Iterator<Item = &Member> {
        self.members().filter(move |member| member.node_id == node)
    }

    /// What single steps lead from here to these voters and learners.
    #[must_use]
    pub fn steps_to(&self, voters: &[Member], learners: &[Member]) -> Vec<Step> {
        let voting = voters.iter().filter(|one| !has(&self.voters, one.replica_id));
        let learning = learners.iter().filter(|one| !has(&self.learners, one.replica_id));
        let present = self.voters.iter().chain(&self.learners);
        let leaving =
            present.filter(|one| !has(voters, one.replica_id) && !has(learners, one.replica_id));
        let voting = voting.map(|one| Step::Vote(one.replica_id));
        let learning = learning.map(|one| Step::Learn(one.replica_id));
        voting.chain(learning).chain(leaving.map(|one| Step::Leave(one.replica_id))).collect()
    }

    /// The configuration that follows this one, which is not joint, on the way to these voters and
    /// learners: they themselves where one step leads there, else with the present voters as
    /// outgoing ones.
    #[must_use]
    pub fn towards(&self, voters: &[Member], learners: &[Member], assignment: u64) -> Self {
        let is_one_step = self.steps_to(voters, learners).len() <= 1;
        let outgoing = if is_one_step { Vec::new() } else { self.voters.clone() };
        let (voters, learners) = (voters.to_vec(), learners.to_vec());
        Self { assignment, is_settled: false, voters, learners, outgoing }
    }

    /// This one once more, under this assignment, when it is committed.
    #[must_use]
    pub fn settled(&self, assignment: u64) -> Self {
        Self { assignment, is_settled: true, ..self.clone() }
    }

    /// The configuration behind this one, which is joint.
    #[must_use]
    pub fn left(&self) -> Self {
        Self { outgoing: Vec::new(), ..self.clone() }
    }

    /// The payload of a membership frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u8(MEMBERSHIP_VERSION);
        writer.u64(self.assignment);
        writer.flag(self.is_settled);
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
        let version = reader.u8("membership version")?;
        if version != MEMBERSHIP_VERSION {
            return Err(reader.invalid("membership version", version.into(), "version 1"));
        }
        let assignment = reader.u64("assignment")?;
        let is_settled = reader.flag("settled membership")?;
        let voters = read_members(&mut reader, "voters")?;
        let learners = read_members(&mut reader, "learners")?;
        let outgoing = read_members(&mut reader, "outgoing voters")?;
        reader.finish("membership")?;
        Ok(Self { assignment, is_settled, voters, learners, outgoing })
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
        state
    }
}

/// One change of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// It votes from now on.
    Vote(ReplicaId),
    /// It gets the log and does not vote.
    Learn(ReplicaId),
    /// It is no member any more.
    Leave(ReplicaId),
}

fn has(members: &[Member], replica: ReplicaId) -> bool {
    members.iter().any(|member| member.replica_id == replica)
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
            assignment: 7,
            is_settled: true,
            voters: vec![member(10, 1), member(11, 2)],
            learners: vec![member(12, 3), member(13, 4)],
            outgoing: vec![member(10, 1), member(12, 3)],
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
            &[1, 7, 0, 0, 0, 0, 0, 0, 0, 1][..],
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
        assert_eq!(error.to_string(), "voters at byte 1054: found 65, expected at most 64 members");
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

    #[test]
    fn one_step_is_taken_at_once_and_several_through_a_joint_configuration() {
        let [one, two, three] = [member(10, 1), member(11, 2), member(12, 3)];
        let alone = Membership::initial(vec![one]);
        let learning = alone.towards(&[one], &[two], 1);
        assert_eq!(learning.learners, [two]);
        assert!(!learning.is_joint());
        let voting = learning.towards(&[one, two], &[], 1);
        assert_eq!((voting.voters.len(), voting.is_joint()), (2, false), "a learner is promoted");
        let swapped = voting.towards(&[one, three], &[two], 2);
        assert_eq!(
            voting.steps_to(&[one, three], &[two]),
            [Step::Vote(three.replica_id), Step::Learn(two.replica_id)]
        );
        assert_eq!(swapped.outgoing, [one, two]);
        assert_eq!(swapped.left().outgoing, []);
        assert_eq!(swapped.left().learners, [two]);
    }

    #[test]
    fn whoever_is_named_nowhere_leaves() {
        let [one, two] = [member(10, 1), member(11, 2)];
        let both = Membership { learners: vec![two], ..Membership::initial(vec![one]) };
        assert_eq!(both.steps_to(&[one], &[]), [Step::Leave(two.replica_id)]);
        assert_eq!(both.steps_to(&[one], &[two]), []);
    }

    #[test]
    fn a_majority_of_a_joint_configuration_is_that_of_its_larger_half() {
        let five: Vec<Member> = (1..=5).map(|id| member(id, id)).collect();
        let joint = Membership { outgoing: five.clone(), ..Membership::initial(vec![five[0]]) };
        assert_eq!(joint.majority(), 3);
    }
}
