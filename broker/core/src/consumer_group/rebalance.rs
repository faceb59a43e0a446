//! From one generation to the next: who is waited for, how long, and what is then told.
//!
//! ```text
//!   Empty ──first member──► PreparingRebalance ──all joined, or time is up──► CompletingRebalance
//!     ▲                          ▲       │                                          │
//!     └──── nobody is left ──────┼───────┘            leader's SyncGroup (`sync`)   ▼
//!                                └──────── a member comes, changes, goes ──────── Stable
//! ```
//!
//! Invariants
//! - `I-GRP-1` Every generation is one above the last, and is in the log before anybody hears it.
//!
//! Absent on purpose: KIP-848's server-side assignment.

use bytes::Bytes;

use super::command::{Command, GenerationStarted};
use super::join::joined_group;
use super::live::LiveGroup;
use super::timers::Timer;
use super::turn::{Turn, Waiting};
use super::{GroupResponse, GroupState, JoinGroupError, Name, SyncGroupError};

impl Turn<'_> {
    /// After a change of membership: begins a rebalance, or ends the running one if it was
    /// waiting for this.
    pub(super) fn rebalance_or_complete(&mut self, group: &mut LiveGroup) {
        match group.state {
            GroupState::PreparingRebalance => self.complete_if_joined(group),
            GroupState::Empty | GroupState::CompletingRebalance | GroupState::Stable => {
                self.prepare_rebalance(group);
            }
        }
    }

    fn prepare_rebalance(&mut self, group: &mut LiveGroup) {
        self.cancel_syncs(group);
        group.is_initial = group.state == GroupState::Empty;
        group.state = GroupState::PreparingRebalance;
        group.has_newcomer = false;
        let delay_ms = self.settings.initial_rebalance_delay_ms;
        if group.is_initial && delay_ms > 0 {
            let whole_ms = group.rebalance_timeout_ms();
            group.initial_remaining_ms = whole_ms.saturating_sub(delay_ms);
            self.arm_join(group, delay_ms);
        } else if group.is_initial || group.all_joined() {
            self.complete_join(group);
        } else {
            self.arm_join(group, group.rebalance_timeout_ms());
        }
    }

    fn arm_join(&mut self, group: &LiveGroup, wait_ms: u64) {
        let at = self.now.service_ms.saturating_add(wait_ms);
        self.live.timers.arm(Timer::Join(group.id.clone()), at);
    }

    /// Whoever waits for the assignments of a generation that will not get them joins again.
    fn cancel_syncs(&mut self, group: &mut LiveGroup) {
        self.live.timers.cancel(&Timer::Sync(group.id.clone()));
        group.pending_syncs.clear();
        if group.state != GroupState::CompletingRebalance {
            return;
        }
        for id in group.member_ids() {
            let Some(ticket) = group.member_mut(&id).and_then(|member| member.sync.take()) else {
                continue;
            };
            let error = SyncGroupError::RebalanceInProgress;
            self.answer_parked(ticket, GroupResponse::SyncGroup(Err(error)));
            self.restart_session(group, &id);
        }
    }

    fn complete_if_joined(&mut self, group: &mut LiveGroup) {
        if !group.is_initial && group.all_joined() {
            self.complete_join(group);
        }
    }

    /// The time to join is over, or the initial delay.
    pub(super) fn join_time_over(&mut self, mut group: LiveGroup) {
        if group.state == GroupState::PreparingRebalance {
            let more_ms = self.settings.initial_rebalance_delay_ms.min(group.initial_remaining_ms);
            if group.is_initial && group.has_newcomer && more_ms > 0 {
                group.has_newcomer = false;
                group.initial_remaining_ms -= more_ms;
                self.arm_join(&group, more_ms);
            } else {
                self.complete_join(&mut group);
            }
        }
        self.put_group(group);
    }

    fn complete_join(&mut self, group: &mut LiveGroup) {
        self.live.timers.cancel(&Timer::Join(group.id.clone()));
        for id in group.member_ids() {
            let is_absent = group
                .member(&id)
                .is_some_and(|member| member.join.is_none() && member.member.instance_id.is_none());
            if is_absent {
                self.remove_member(group, &id);
            }
        }
        if group.member_count() > 0 && !group.elect_leader() {
            // Only static members are left, all of them away: their sessions decide.
            let wait_ms = group.rebalance_timeout_ms();
            return self.arm_join(group, wait_ms);
        }
        group.is_initial = false;
        if group.member_count() == 0 && group.revision == 0 {
            // No generation was ever told to anybody: nothing to write down.
            group.state = GroupState::Empty;
            group.leader = None;
            return;
        }
        group.generation = group.generation.saturating_add(1);
        group.protocol = group.elect_protocol();
        if group.member_count() == 0 {
            group.state = GroupState::Empty;
            group.leader = None;
            return self.propose_generation(group);
        }
        group.state = GroupState::CompletingRebalance;
        self.propose_generation(group);
        for id in group.member_ids() {
            self.tell_generation(group, &id);
        }
        self.arm_sync(group);
    }

    fn propose_generation(&mut self, group: &mut LiveGroup) {
        let command = Command::GenerationStarted(GenerationStarted {
            group_id: group.id.clone(),
            revision: group.revision,
            generation: group.generation,
            protocol_type: group.protocol_type.clone(),
            protocol: group.protocol.clone(),
            leader: group.leader.clone().unwrap_or_default(),
            wall_ms: self.now.wall_ms,
            members: group.members().map(|member| member.member.clone()).collect(),
        });
        self.propose_change(group, &command);
    }

    /// Answers a member that joined. A static member that is away keeps its place and the rest
    /// of its session; nobody expects it to sync.
    fn tell_generation(&mut self, group: &mut LiveGroup, id: &Name) {
        if let Some(member) = group.member_mut(id) {
            member.member.assignment = Bytes::new();
        }
        let Some(ticket) = group.take_join(id) else { return };
        let joined = joined_group(group, id, false);
        let response = GroupResponse::JoinGroup(Ok(joined));
        self.answer_member(group, id, Waiting::Parked(ticket), response);
        if let Some(member) = group.member_mut(id) {
            member.is_new = false;
        }
        group.pending_syncs.insert(id.clone());
        self.live.timers.cancel(&Timer::Session(group.id.clone(), id.clone()));
        self.restart_session(group, id);
    }

    /// Takes a member out for good. What it waits for is refused: if it is alive after all, it
    /// joins anew.
    pub(super) fn remove_member(&mut self, group: &mut LiveGroup, id: &Name) {
        let Some(member) = group.take(id) else { return };
        self.live.timers.cancel(&Timer::Session(group.id.clone(), id.clone()));
        if let Some(ticket) = member.join {
            let error = JoinGroupError::UnknownMemberId;
            self.answer_parked(ticket, GroupResponse::JoinGroup(Err(error)));
        }
        if let Some(ticket) = member.sync {
            let error = SyncGroupError::UnknownMemberId;
            self.answer_parked(ticket, GroupResponse::SyncGroup(Err(error)));
        }
        if group.is_leader(id) {
            let next = group.members().next().map(|member| member.member.id.clone());
            group.leader = next;
        }
    }

    /// A member was silent for its session timeout, or looks so.
    pub(super) fn session_over(&mut self, mut group: LiveGroup, id: &Name) {
        let Some(member) = group.member(id) else { return self.put_group(group) };
        let timer = Timer::Session(group.id.clone(), id.clone());
        if member.session_deadline > self.now.service_ms {
            self.live.timers.arm(timer, member.session_deadline);
        } else if !member.is_new && (member.join.is_some() || member.sync.is_some()) {
            // It waits for us. The answer restarts its session.
        } else if group.in_flight.is_some() {
            // Perhaps it waits for an answer that waits for the log: that is our silence.
            self.restart_session(&mut group, id);
        } else {
            self.remove_member(&mut group, id);
            self.rebalance_after_loss(&mut group);
        }
        self.put_group(group);
    }

    /// After members are gone.
    pub(super) fn rebalance_after_loss(&mut self, group: &mut LiveGroup) {
        match group.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare_rebalance(group),
            GroupState::PreparingRebalance => self.complete_if_joined(group),
            GroupState::Empty => {}
        }
    }

    /// An id that was handed out was not used.
    pub(super) fn pending_over(&mut self, mut group: LiveGroup, id: &Name) {
        group.pending.remove(id);
        if group.state == GroupState::PreparingRebalance {
            self.complete_if_joined(&mut group);
        }
        self.put_group(group);
    }

    /// Members that joined and never synced are gone (G47).
    pub(super) fn sync_time_over(&mut self, mut group: LiveGroup) {
        if group.in_flight.is_some() {
            // They may not even know the generation yet: the log is slow.
            self.arm_sync(&group);
            return self.put_group(group);
        }
        let is_waiting =
            matches!(group.state, GroupState::CompletingRebalance | GroupState::Stable);
        let absent = std::mem::take(&mut group.pending_syncs);
        if is_waiting && !absent.is_empty() {
            for id in &absent {
                self.remove_member(&mut group, id);
            }
            self.prepare_rebalance(&mut group);
        }
        self.put_group(group);
    }
}
