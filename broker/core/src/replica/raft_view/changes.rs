//! Changes of the configuration, as raft wants to hear them (R12, R19).
//!
//! ```text
//!   propose ── protobuf in `data`, ours in `context` ──> raft ──> our encoding, everywhere else
//!   applied ── steps from the configuration before to the one behind ──> raft's own
//! ```
//!
//! Raft parses a change when its leader takes it, and applies what it is told to; what lies on
//! disks and goes over networks is our encoding alone.
//!
//! Invariants
//! - `I17` What raft makes of the steps is the configuration that the entry names.
//! - R12: whoever has no vote any more neither leads nor stands.
//!
//! Absent on purpose: which change comes next (`steering`).

use super::{MESSAGES_INFLIGHT_MAX, ProposalDropped, RaftView};
use crate::replica::membership::{Membership, Step};
use crate::replica::stamp::Stamp;
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{LogIndex, ReplicaId};
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState,
};
use raft::{INVALID_ID, ProgressState, StateRole};

/// Append messages to one learner that may be unanswered. Those that come off the disk are paced by
/// the shard; of the log's end, which is sent from memory, this is the limit.
const LEARNER_MESSAGES_INFLIGHT_MAX: usize = 8;

impl RaftView {
    /// Proposes `next` in the place of `present`, which is applied. Returns its index.
    ///
    /// Everything that raft holds has been handed out before: the entry's place is known.
    pub fn propose_membership(
        &mut self,
        present: &Membership,
        next: &Membership,
    ) -> Result<LogIndex, ProposalDropped> {
        let last = self.last();
        assert_eq!(last.index, self.last_index(), "I-LOG-1: raft holds entries of its own");
        let payload = next.encode();
        let (kind, base_offset) = (FrameKind::Membership, last.next_offset);
        let payload_crc = Frame::stamped_payload_crc(kind, self.term(), base_offset, &payload);
        let stamp = Stamp { kind, base_offset, record_count: 0, payload_crc };
        if leaves_raft_alone(present, next) {
            self.propose(std::iter::once((payload, stamp.encode())))?;
        } else {
            let context = stamp.encode_before(&payload);
            let proposed = self.node.propose_conf_change(context, change(present, next));
            proposed.map_err(|_| ProposalDropped)?;
        }
        Ok(last.index.next())
    }

    /// A committed change is applied: `next` in the place of `present`.
    pub fn apply_membership(&mut self, present: &Membership, next: &Membership) {
        if leaves_raft_alone(present, next) {
            return;
        }
        let applied = self.node.apply_conf_change(&change(present, next));
        let state = applied.expect("I17: raft refuses a change that is committed");
        assert!(
            are_equal(&state, &next.conf_state()),
            "I17: raft made {state:?} of {present:?} and {next:?}"
        );
        self.node.mut_store().set_conf_state(state);
        self.heard.retain(|peer, _| next.member(ReplicaId::new(*peer)).is_some());
        let own = ReplicaId::new(self.node.raft.id);
        if !next.is_voter(own) && self.node.raft.state != StateRole::Follower {
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, INVALID_ID);
        }
        self.pace_learners();
        self.overwrite_election_timeout();
    }

    /// Learners copy with little on its way: who works beside them waits for no more than that.
    pub(super) fn pace_learners(&mut self) {
        let tracker = self.node.raft.prs();
        let learners = tracker.conf().learners();
        let most = |id: u64| match learners.contains(&id) {
            true => LEARNER_MESSAGES_INFLIGHT_MAX,
            false => MESSAGES_INFLIGHT_MAX,
        };
        let all: Vec<(u64, usize)> = tracker.iter().map(|(id, _)| (*id, most(*id))).collect();
        for (id, most) in all {
            self.node.raft.adjust_max_inflight_msgs(id, most);
        }
    }

    /// The learner that entries from `first` on are wanted for; `None` where a voter wants them.
    pub(super) fn learner_waiting_for(&self, first: LogIndex) -> Option<ReplicaId> {
        let tracker = self.node.raft.prs();
        let learners = tracker.conf().learners();
        let mut waiting = tracker.iter().filter(|(_, progress)| progress.next_idx == first.get());
        let (learner, _) = waiting.next()?;
        let is_alone = learners.contains(learner) && waiting.all(|(id, _)| learners.contains(id));
        is_alone.then(|| ReplicaId::new(*learner))
    }

    /// The last index that a member is known to have flushed, where it has everything or gets what
    /// is appended as it comes; `None` where it does not, or is not heard.
    pub fn follows_to(&self, member: ReplicaId) -> Option<LogIndex> {
        let raft = &self.node.raft;
        if member.get() == raft.id {
            return Some(self.persisted_index());
        }
        let progress = raft.prs().get(member.get())?;
        // A link that broke and came back leaves an idle follower where raft probes it.
        let has_all = progress.matched == raft.raft_log.last_index();
        let is_told = has_all || progress.state == ProgressState::Replicate;
        (is_told && self.is_live(member.get())).then(|| LogIndex::new(progress.matched))
    }
}

/// Whether only the assignment that is followed is another one.
fn leaves_raft_alone(present: &Membership, next: &Membership) -> bool {
    !present.is_joint() && present.steps_to(&next.voters, &next.learners).is_empty()
}

/// The way from one configuration to the next in raft's words. Out of a joint configuration there
/// is one way, which names nobody.
fn change(present: &Membership, next: &Membership) -> ConfChangeV2 {
    let mut change = ConfChangeV2::default();
    if present.is_joint() {
        return change;
    }
    if next.is_joint() {
        change.set_transition(ConfChangeTransition::Explicit);
    }
    let steps = present.steps_to(&next.voters, &next.learners);
    change.set_changes(steps.into_iter().map(single).collect::<Vec<_>>().into());
    change
}

fn single(step: Step) -> ConfChangeSingle {
    let (replica, kind) = match step {
        Step::Vote(replica) => (replica, ConfChangeType::AddNode),
        Step::Learn(replica) => (replica, ConfChangeType::AddLearnerNode),
        Step::Leave(replica) => (replica, ConfChangeType::RemoveNode),
    };
    let mut single = ConfChangeSingle { node_id: replica.get(), ..ConfChangeSingle::default() };
    single.set_change_type(kind);
    single
}

fn are_equal(one: &ConfState, other: &ConfState) -> bool {
    let sorted = |state: &ConfState| {
        let lists = [&state.voters, &state.learners, &state.voters_outgoing, &state.learners_next];
        lists.map(|list| {
            let mut list = list.clone();
            list.sort_unstable();
            list
        })
    };
    sorted(one) == sorted(other)
}
