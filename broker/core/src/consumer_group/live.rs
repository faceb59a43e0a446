//! A group as its leader sees it now: the tables' view plus commands in flight, waiting tickets
//! and the membership that no generation has confirmed yet.
//!
//! Invariants
//! - `joining`, `metadata_bytes` and `support` equal what counting over the members would give.
//! - A ticket sits in one place: a member's `join` or `sync`, or behind a proposal in flight.
//!
//! Absent on purpose: decisions. They are in `join`, `rebalance`, `sync` and `leave`.

use std::collections::{BTreeMap, BTreeSet};

use super::member::Member;
use super::tables::StoredGroup;
use super::{GroupResponse, GroupState, JoinedMember, Name, Protocol};
use crate::ticket::{ProposalToken, Ticket};

/// A member with its present.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct LiveMember {
    pub(super) member: Member,
    /// The JoinGroup that waits for the next generation.
    pub(super) join: Option<Ticket>,
    /// The SyncGroup that waits for assignments.
    pub(super) sync: Option<Ticket>,
    /// Silent longer than this in `service_ms`, it is dropped.
    pub(super) session_deadline: u64,
    /// It has not yet seen a generation, so it cannot heartbeat.
    pub(super) is_new: bool,
}

/// A group with members, pending members or commands in flight.
#[derive(Debug)]
pub(super) struct LiveGroup {
    pub(super) id: Name,
    /// Tells this object from an earlier one of the same group.
    pub(super) instance: u64,
    /// The tables' revision once everything in flight is applied.
    pub(super) revision: u64,
    pub(super) generation: i32,
    pub(super) state: GroupState,
    /// PreparingRebalance was entered from Empty: a timer ends it, not the last member.
    pub(super) is_initial: bool,
    /// A member came since the initial timer was set.
    pub(super) has_newcomer: bool,
    /// What the initial rebalance may still be prolonged by, in milliseconds.
    pub(super) initial_remaining_ms: u64,
    /// Empty before the first member.
    pub(super) protocol_type: Name,
    /// Empty between generations of an empty group.
    pub(super) protocol: Name,
    pub(super) leader: Option<Name>,
    members: BTreeMap<Name, LiveMember>,
    statics: BTreeMap<Name, Name>,
    /// Ids handed out with MEMBER_ID_REQUIRED and not yet used.
    pub(super) pending: BTreeSet<Name>,
    /// Members that joined this generation and have not synced.
    pub(super) pending_syncs: BTreeSet<Name>,
    /// The newest change of membership that is not yet applied.
    pub(super) in_flight: Option<ProposalToken>,
    joining: usize,
    metadata_bytes: usize,
    support: BTreeMap<Name, usize>,
}

impl LiveGroup {
    pub(super) fn new(id: Name, instance: u64) -> Self {
        Self {
            id,
            instance,
            revision: 0,
            generation: 0,
            state: GroupState::Empty,
            is_initial: false,
            has_newcomer: false,
            initial_remaining_ms: 0,
            protocol_type: Name::default(),
            protocol: Name::default(),
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeSet::new(),
            pending_syncs: BTreeSet::new(),
            in_flight: None,
            joining: 0,
            metadata_bytes: 0,
            support: BTreeMap::new(),
        }
    }

    /// The group as the tables have it. Deadlines are the caller's to set.
    pub(super) fn from_stored(id: Name, instance: u64, stored: &StoredGroup) -> Self {
        let mut group = Self::new(id, instance);
        group.revision = stored.revision;
        group.generation = stored.generation;
        group.protocol_type = stored.protocol_type.clone();
        group.protocol = stored.protocol.clone();
        group.leader = Some(stored.leader.clone()).filter(|leader| !leader.is_empty());
        group.state = match (stored.members.is_empty(), stored.assigned) {
            (true, _) => GroupState::Empty,
            (false, true) => GroupState::Stable,
            (false, false) => GroupState::CompletingRebalance,
        };
        for member in stored.members.values() {
            group.insert(LiveMember {
                member: member.clone(),
                join: None,
                sync: None,
                session_deadline: 0,
                is_new: false,
            });
        }
        if group.state == GroupState::CompletingRebalance {
            group.pending_syncs = stored.members.keys().cloned().collect();
        }
        group
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &LiveMember> {
        self.members.values()
    }

    pub(super) fn member_ids(&self) -> Vec<Name> {
        self.members.keys().cloned().collect()
    }

    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(super) fn member(&self, id: &str) -> Option<&LiveMember> {
        self.members.get(id)
    }

    /// For changes of ticket, deadline, assignment and flags. Protocols and names change through
    /// [`update`](Self::update).
    pub(super) fn member_mut(&mut self, id: &str) -> Option<&mut LiveMember> {
        self.members.get_mut(id)
    }

    pub(super) fn static_member(&self, instance_id: &str) -> Option<&Name> {
        self.statics.get(instance_id)
    }

    pub(super) fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    pub(super) fn metadata_bytes(&self) -> usize {
        self.metadata_bytes
    }

    /// Every member waits in JoinGroup, and nobody is about to come.
    pub(super) fn all_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending.is_empty()
    }

    /// Nothing here that the tables do not have.
    pub(super) fn is_vacant(&self) -> bool {
        self.members.is_empty()
            && self.pending.is_empty()
            && self.in_flight.is_none()
            && self.state == GroupState::Empty
    }

    pub(super) fn insert(&mut self, member: LiveMember) {
        self.metadata_bytes += member.member.metadata_bytes();
        self.joining += usize::from(member.join.is_some());
        for protocol in &member.member.protocols {
            *self.support.entry(protocol.name.clone()).or_default() += 1;
        }
        if let Some(instance_id) = &member.member.instance_id {
            self.statics.insert(instance_id.clone(), member.member.id.clone());
        }
        self.members.insert(member.member.id.clone(), member);
    }

    /// Takes a member out, waiting tickets and all. The leadership stays as it was.
    pub(super) fn take(&mut self, id: &str) -> Option<LiveMember> {
        let member = self.members.remove(id)?;
        self.metadata_bytes -= member.member.metadata_bytes();
        self.joining -= usize::from(member.join.is_some());
        for protocol in &member.member.protocols {
            if let Some(count) = self.support.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.support.remove(&protocol.name);
                }
            }
        }
        if let Some(instance_id) = &member.member.instance_id {
            self.statics.remove(instance_id);
        }
        self.pending_syncs.remove(id);
        Some(member)
    }

    /// Changes a member through `change`, keeping every count right.
    pub(super) fn update(&mut self, id: &str, change: impl FnOnce(&mut LiveMember)) {
        let was_pending_sync = self.pending_syncs.contains(id);
        if let Some(mut member) = self.take(id) {
            change(&mut member);
            if was_pending_sync {
                self.pending_syncs.insert(member.member.id.clone());
            }
            self.insert(member);
        }
    }

    /// Lets a JoinGroup wait; returns the one that waited before.
    pub(super) fn park_join(&mut self, id: &str, ticket: Ticket) -> Option<Ticket> {
        let member = self.members.get_mut(id)?;
        let before = member.join.replace(ticket);
        self.joining += usize::from(before.is_none());
        before
    }

    pub(super) fn take_join(&mut self, id: &str) -> Option<Ticket> {
        let ticket = self.members.get_mut(id)?.join.take();
        self.joining -= usize::from(ticket.is_some());
        ticket
    }

    /// Whether a JoinGroup fits the group (G44): same type, and a protocol that all can use.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if protocol_type.is_empty() || protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        let all = self.members.len();
        *self.protocol_type == *protocol_type
            && protocols.iter().any(|protocol| self.support.get(&protocol.name) == Some(&all))
    }

    /// The vote: each member for the first of its protocols that all can use. A tie goes to what
    /// the leader prefers. Empty without members.
    pub(super) fn elect_protocol(&self) -> Name {
        let all = self.members.len();
        let common = |name: &Name| self.support.get(name) == Some(&all);
        let mut votes = BTreeMap::<&Name, usize>::new();
        for member in self.members.values() {
            let mut names = member.member.protocols.iter().map(|protocol| &protocol.name);
            if let Some(choice) = names.find(|name| common(name)) {
                *votes.entry(choice).or_default() += 1;
            }
        }
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let most = votes.values().copied().max().unwrap_or(0);
        let preferred = leader.and_then(|leader| {
            let names = leader.member.protocols.iter().map(|protocol| &protocol.name);
            names.into_iter().find(|name| votes.get(name) == Some(&most))
        });
        let any = votes.iter().find(|(_, count)| **count == most).map(|(name, _)| *name);
        preferred.or(any).cloned().unwrap_or_default()
    }

    /// The leader leads on if it joined again; else the first that joined leads.
    pub(super) fn elect_leader(&mut self) -> bool {
        let joined = |id: &Name| self.members.get(id).is_some_and(|m| m.join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        let next = self.members.values().find(|member| member.join.is_some());
        let Some(next) = next.map(|member| member.member.id.clone()) else { return false };
        self.leader = Some(next);
        true
    }

    /// The longest time that a member may take to join again (G45).
    pub(super) fn rebalance_timeout_ms(&self) -> u64 {
        let timeouts = self.members.values().map(|member| member.member.rebalance_timeout_ms);
        timeouts.max().unwrap_or(0).into()
    }

    /// The members as the leader is told them.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let members = self.members.values().map(|member| JoinedMember {
            member_id: member.member.id.clone(),
            group_instance_id: member.member.instance_id.clone(),
            metadata: member.member.metadata(&self.protocol),
        });
        members.collect()
    }
}

/// Something proposed and not yet applied.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) group_id: Name,
    /// The [`LiveGroup`] object that made it, for changes of membership.
    pub(super) instance: Option<u64>,
    /// Answers that leave once it is applied.
    pub(super) replies: Vec<(Ticket, GroupResponse)>,
    /// Members among those answered, whose sessions then start anew.
    pub(super) members: Vec<Name>,
}
