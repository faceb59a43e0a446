//! Questions about groups, over all coordinators of this shard.
//!
//! Answers are read from what the coordinators hold now, live groups included, and leave in the
//! turn of the question.
//!
//! Absent on purpose: anything that changes a group, which is a `GroupRequest` to one coordinator.

use super::Shard;
use crate::consumer_group::{
    CoordinatorError, DescribeGroupError, DescribedGroup, GROUP_PARTITIONS, GroupCoordinator,
    GroupDescription, GroupList, GroupQuery, GroupQueryResponse, GroupTotals, partition_of,
};

impl Shard {
    pub(super) fn query_groups(&self, query: GroupQuery) -> GroupQueryResponse {
        match query {
            GroupQuery::List => GroupQueryResponse::Listed(self.list_groups()),
            GroupQuery::Describe(group_ids) => {
                let described = group_ids.into_iter().map(|group_id| {
                    let result = self.describe_group(&group_id);
                    DescribedGroup { group_id, result }
                });
                GroupQueryResponse::Described(described.collect())
            }
            GroupQuery::Totals => {
                let totals = self.coordinators().map(GroupCoordinator::totals);
                let sum = totals.fold(GroupTotals::default(), GroupTotals::plus);
                GroupQueryResponse::Totals(sum)
            }
        }
    }

    fn list_groups(&self) -> GroupList {
        let mut list = GroupList { partitions_missing: GROUP_PARTITIONS, ..GroupList::default() };
        for coordinator in self.coordinators() {
            list.partitions_missing = list.partitions_missing.saturating_sub(1);
            list.groups.extend(coordinator.groups());
        }
        list.groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
        list
    }

    fn describe_group(&self, group_id: &str) -> Result<GroupDescription, DescribeGroupError> {
        let coordinator = self.coordinator(partition_of(group_id));
        let coordinator = coordinator.ok_or(CoordinatorError::NotAvailable)?;
        coordinator.check_role()?;
        coordinator.describe(group_id).ok_or(DescribeGroupError::GroupIdNotFound)
    }

    /// Those that lead.
    fn coordinators(&self) -> impl Iterator<Item = &GroupCoordinator> {
        let all = (0..GROUP_PARTITIONS).filter_map(|partition| self.coordinator(partition));
        all.filter(|coordinator| coordinator.check_role().is_ok())
    }

    fn coordinator(&self, partition: u32) -> Option<&GroupCoordinator> {
        let log = self.group_logs.get(&partition)?;
        self.replica(*log)?.derived().coordinator()
    }
}
