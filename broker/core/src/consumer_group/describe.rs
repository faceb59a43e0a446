//! What administration reads: lists and descriptions of groups, and totals.
//!
//! Absent on purpose: filters and authorization (the caller's), and wire forms.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::live::LiveGroup;
use super::tables::StoredGroup;
use super::{CoordinatorError, DescribeGroupError};
use super::{CoordinatorRole, GroupCoordinator, Name, subscription};

/// A question to all coordinators of a shard. It changes nothing and waits for nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupQuery {
    /// Every group. Cost: of the groups.
    List,
    /// These groups, each alone. Cost: of their members.
    Describe(Vec<Name>),
    /// Totals over all partitions. Cost: of the groups.
    Totals,
}

/// The answer to a [`GroupQuery`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupQueryResponse {
    /// Every group.
    Listed(GroupList),
    /// One result for each id, in the query's order.
    Described(Vec<DescribedGroup>),
    /// The sums.
    Totals(GroupTotals),
}

/// The groups of the partitions that are led here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupList {
    /// Sorted by id.
    pub groups: Vec<GroupListing>,
    /// How many of the [`GROUP_PARTITIONS`](super::GROUP_PARTITIONS) partitions are not led here
    /// or cannot be read: their groups are not in the list.
    pub partitions_missing: u32,
}

/// What is known of one group that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DescribedGroup {
    /// As in the query.
    pub group_id: Name,
    /// The group, or why there is no answer.
    pub result: Result<GroupDescription, DescribeGroupError>,
}

/// A group's state, as Kafka names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupState {
    /// No members; perhaps offsets.
    Empty,
    /// Members are being gathered for the next generation.
    PreparingRebalance,
    /// The generation began and waits for its leader's assignments.
    CompletingRebalance,
    /// Assignments are out.
    Stable,
}

impl GroupState {
    /// The name that Kafka's tools print.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One line of ListGroups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupListing {
    /// The group.
    pub group_id: Name,
    /// Empty for a group that only ever stored offsets.
    pub protocol_type: Name,
    /// Its state.
    pub state: GroupState,
}

/// DescribeGroups for one group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupDescription {
    /// The group.
    pub group_id: Name,
    /// Its state.
    pub state: GroupState,
    /// Empty for a group that only ever stored offsets.
    pub protocol_type: Name,
    /// The protocol of the generation; empty unless the group is stable, as in Kafka.
    pub protocol_name: Name,
    /// Its generation.
    pub generation: i32,
    /// Its leader, where it has members.
    pub leader: Option<Name>,
    /// Its members by id.
    pub members: Vec<MemberDescription>,
}

/// One member of a described group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: Name,
    /// Its instance id, for a static member.
    pub group_instance_id: Option<Name>,
    /// From its last JoinGroup.
    pub client_id: Name,
    /// From its last JoinGroup.
    pub client_host: Name,
    /// For the generation's protocol; empty unless the group is stable, as in Kafka.
    pub metadata: Bytes,
    /// Its assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

/// Totals of one internal partition, for metrics and limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupTotals {
    /// Groups with members or offsets.
    pub group_count: usize,
    /// Committed offsets, in partitions.
    pub offset_count: usize,
    /// Requests that wait for a rebalance or for the log.
    pub parked_count: usize,
    /// Commands proposed and not yet applied.
    pub inflight_count: usize,
}

impl GroupTotals {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            group_count: self.group_count + other.group_count,
            offset_count: self.offset_count + other.offset_count,
            parked_count: self.parked_count + other.parked_count,
            inflight_count: self.inflight_count + other.inflight_count,
        }
    }
}

impl GroupDescription {
    /// The topics that the members subscribe to, by name; none where the group is not stable or
    /// its members are no consumers.
    #[must_use]
    pub fn subscribed_topics(&self) -> BTreeSet<Name> {
        if &*self.protocol_type != "consumer" {
            return BTreeSet::new();
        }
        let topics =
            self.members.iter().filter_map(|member| subscription::topics(&member.metadata));
        let names = topics.flatten().filter_map(|name| std::str::from_utf8(name).ok());
        names.map(Name::from).collect()
    }
}

impl GroupCoordinator {
    /// Whether it answers questions about its groups.
    ///
    /// Errors: [`CoordinatorError`], as every request would get it.
    pub fn check_role(&self) -> Result<(), CoordinatorError> {
        match self.role {
            CoordinatorRole::Follower => Err(CoordinatorError::NotCoordinator),
            CoordinatorRole::Loading => Err(CoordinatorError::LoadInProgress),
            CoordinatorRole::Unavailable => Err(CoordinatorError::NotAvailable),
            CoordinatorRole::Leader => Ok(()),
        }
    }

    /// All groups by id, for ListGroups. Groups of a follower are as its tables have them.
    #[must_use]
    pub fn groups(&self) -> Vec<GroupListing> {
        let mut listings = BTreeMap::new();
        for (group_id, stored) in &self.tables.groups {
            let listing = GroupListing {
                group_id: group_id.clone(),
                protocol_type: stored.protocol_type.clone(),
                state: stored_state(stored),
            };
            listings.insert(group_id.clone(), listing);
        }
        for (group_id, group) in &self.live.groups {
            let listing = GroupListing {
                group_id: group_id.clone(),
                protocol_type: group.protocol_type.clone(),
                state: group.state,
            };
            listings.insert(group_id.clone(), listing);
        }
        listings.into_values().collect()
    }

    /// One group, for DescribeGroups; `None` if there is none.
    #[must_use]
    pub fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        let live = self.live.groups.get(group_id);
        let Some(group) = live else {
            let stored = self.tables.groups.get_key_value(group_id);
            return stored
                .map(|(id, stored)| describe(&LiveGroup::from_stored(id.clone(), 0, stored)));
        };
        Some(describe(group))
    }

    /// Totals, for metrics. Cost: of the groups.
    #[must_use]
    pub fn totals(&self) -> GroupTotals {
        let unstored =
            self.live.groups.keys().filter(|id| !self.tables.groups.contains_key(*id)).count();
        GroupTotals {
            group_count: self.tables.groups.len() + unstored,
            offset_count: self.tables.groups.values().map(StoredGroup::offset_count).sum(),
            parked_count: self.live.parked,
            inflight_count: self.live.in_flight.len(),
        }
    }
}

fn stored_state(stored: &StoredGroup) -> GroupState {
    match (stored.members.is_empty(), stored.assigned) {
        (true, _) => GroupState::Empty,
        (false, true) => GroupState::Stable,
        (false, false) => GroupState::CompletingRebalance,
    }
}

fn describe(group: &LiveGroup) -> GroupDescription {
    let is_stable = group.state == GroupState::Stable;
    let members = group.members().map(|member| {
        let member = &member.member;
        let shown = |bytes: Bytes| if is_stable { bytes } else { Bytes::new() };
        MemberDescription {
            member_id: member.id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: shown(member.metadata(&group.protocol)),
            assignment: shown(member.assignment.clone()),
        }
    });
    GroupDescription {
        group_id: group.id.clone(),
        state: group.state,
        protocol_type: group.protocol_type.clone(),
        protocol_name: if is_stable { group.protocol.clone() } else { Name::default() },
        generation: group.generation,
        leader: group.leader.clone(),
        members: members.collect(),
    }
}
