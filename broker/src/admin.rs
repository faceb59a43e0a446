//! What administration asks of [`Broker`]: groups and their lag, topics, the state of the node.
//!
//! ```text
//!   bateau group list ──native door──> Broker::list_groups ──Ask──> Shard::query_groups
//!   bateau lag                         Broker::group_lag   ──> groups, offsets, high watermarks
//!   bateau status                      Broker::status      ──> directory, disk, counters
//! ```
//!
//! Invariants
//! - Reading changes nothing and waits for no disk.
//! - What changes something is answered when it is committed, as in [`api`](crate::api).
//!
//! Absent on purpose: filters, formats and authorization, which are the doors' business.

use crate::api::{Broker, Durability};
use crate::controls::Door;
use crate::gauges::{Connected, Connections};
use crate::router::Directory;
use crate::scrub::{Repairs, ScrubProgress};
use crate::shard::Ask;
use bateau_core::consumer_group::{
    CoordinatorError, DeleteGroup, DeleteGroupError, DescribeGroupError, DescribedGroup,
    FetchedOffset, FetchedTopic, GROUP_PARTITIONS, GroupDescription, GroupList, GroupQuery,
    GroupQueryResponse, GroupRequest, GroupResponse, GroupTotals, Name, OffsetFetch,
    OffsetFetchError, partition_of,
};
use bateau_core::controller::{
    AlterTopicConfigs, AlterTopicConfigsError, ClusterId, ConfigEntry, ControllerError,
    ControllerRequest, ControllerResponse, CreatePartitions, CreatePartitionsError, GrownTopic,
    TopicNameError, check_topic_name, describe_broker, describe_topic,
};
use bateau_log::SpaceState;
use bateau_protocol::ids::{Incarnation, NodeId, Offset, TopicId};
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use thiserror::Error;

/// Why a change was not made, or is not known to have been.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum AdminError<E: std::error::Error> {
    /// The controller did not decide, or its decision is not known to be committed.
    #[error(transparent)]
    Controller(ControllerError),
    /// It decided against it; nothing has changed.
    #[error("{0}")]
    Refused(E),
}

impl<E: std::error::Error> From<ControllerError> for AdminError<E> {
    fn from(error: ControllerError) -> Self {
        Self::Controller(error)
    }
}

/// Why a topic's configs are not described.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DescribeConfigsError {
    /// INVALID_TOPIC_EXCEPTION (17).
    #[error("{0}")]
    InvalidName(#[from] TopicNameError),
    /// UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("The topic '{name}' does not exist.")]
    UnknownTopic {
        /// The name.
        name: String,
    },
}

/// How far a group is behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupLag {
    /// The group.
    pub group_id: Name,
    /// The group and its positions, or why there is no answer.
    pub result: Result<GroupPositions, DescribeGroupError>,
}

/// A group, and where it stands in the logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupPositions {
    /// The group with its members.
    pub group: GroupDescription,
    /// Its partitions, by topic and number.
    pub partitions: Vec<PartitionLag>,
}

/// How far a group is behind in one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionLag {
    /// The topic.
    pub topic: Name,
    /// Its partition.
    pub partition: i32,
    /// What the group has committed; `None` if nothing.
    pub committed: Option<FetchedOffset>,
    /// Where the log starts; `None` if the partition is not on this node.
    pub log_start: Option<Offset>,
    /// First offset that is not committed to the log; `None` if the partition is not on this node.
    pub high_watermark: Option<Offset>,
    /// High watermark − committed offset, never negative; −1 where one of them is not known.
    pub lag: i64,
}

/// The node at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// Its id.
    pub node_id: NodeId,
    /// Its cluster; `None` until that is founded.
    pub cluster_id: Option<ClusterId>,
    /// Of the program.
    pub version: &'static str,
    /// Since its engine was opened.
    pub uptime: Duration,
    /// Nodes that the cluster knows.
    pub nodes: usize,
    /// Topics that clients may see.
    pub topics: usize,
    /// Their partitions.
    pub partitions: usize,
    /// How the partitions on this node are served, internal ones included.
    pub local: LocalPartitions,
    /// Room of the data directory.
    pub disk_state: SpaceState,
    /// Free bytes of its filesystem; `None` where the system does not say.
    pub disk_free_bytes: Option<u64>,
    /// Bytes of its filesystem; `None` where the system does not say.
    pub disk_total_bytes: Option<u64>,
    /// Bytes of all logs on this node, internal ones included.
    pub log_bytes: u64,
    /// How far everything is read once more.
    pub scrub: ScrubProgress,
    /// What was damaged, and has been mended.
    pub repairs: Repairs,
    /// Open connections.
    pub connections: Connections,
    /// What an acknowledgement promises.
    pub durability: Durability,
}

/// How the partitions on a node are served, internal ones included.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LocalPartitions {
    /// Partitions that the metadata places here, and the metadata partition itself.
    pub placed: usize,
    /// Those without a leader here, though not damaged: not made yet, or not elected.
    pub leaderless: Vec<Incarnation>,
    /// Damaged or isolated: their prefix is read, nothing is appended.
    pub unavailable: Vec<Incarnation>,
}

impl LocalPartitions {
    /// Counts in a directory. Cost: of the partitions on this node.
    #[must_use]
    pub fn of(directory: &Directory, node: NodeId) -> Self {
        let mut local = Self::default();
        for incarnation in directory.metadata.logs_on(node).chain([Incarnation::METADATA]) {
            local.placed += 1;
            match directory.view(incarnation) {
                Some(view) if view.is_unavailable() => local.unavailable.push(incarnation),
                Some(view) if view.leader().is_some() => {}
                Some(_) | None => local.leaderless.push(incarnation),
            }
        }
        local
    }
}

impl Broker {
    /// All groups that this node coordinates, as a majority says; sorted by id.
    ///
    /// Errors: [`CoordinatorError::NotAvailable`] when the node stops.
    pub async fn list_groups(&self) -> Result<GroupList, CoordinatorError> {
        let confirmed = self.confirmed_coordinators((0..GROUP_PARTITIONS).collect()).await;
        let Some(GroupQueryResponse::Listed(mut list)) = self.query_groups(GroupQuery::List).await
        else {
            return Err(CoordinatorError::NotAvailable);
        };
        list.groups.retain(|group| confirmed.contains(&partition_of(&group.group_id)));
        let missing = GROUP_PARTITIONS as usize - confirmed.len();
        list.partitions_missing = list.partitions_missing.max(u32::try_from(missing).unwrap_or(0));
        Ok(list)
    }

    /// Groups with their members, one result for each id. A coordinator that no majority confirms
    /// does not answer: others may have gone on without it (D12).
    pub async fn describe_groups(&self, group_ids: Vec<Name>) -> Vec<DescribedGroup> {
        let wanted = group_ids.iter().map(|group_id| partition_of(group_id)).collect();
        let confirmed = self.confirmed_coordinators(wanted).await;
        let refused = |group_id, error: CoordinatorError| DescribedGroup {
            group_id,
            result: Err(error.into()),
        };
        match self.query_groups(GroupQuery::Describe(group_ids.clone())).await {
            Some(GroupQueryResponse::Described(described)) => {
                let judged = described.into_iter().map(|one| {
                    let is_known = confirmed.contains(&partition_of(&one.group_id))
                        || matches!(one.result, Err(DescribeGroupError::Coordinator(_)));
                    if is_known {
                        one
                    } else {
                        refused(one.group_id, CoordinatorError::NotCoordinator)
                    }
                });
                judged.collect()
            }
            _ => {
                let refused = |group_id| refused(group_id, CoordinatorError::NotAvailable);
                group_ids.into_iter().map(refused).collect()
            }
        }
    }

    /// Those of these group partitions that this node leads as a majority says, with everything
    /// applied that was committed when this was called.
    ///
    /// Cost: a turn of the shard, with several replicas a round to a majority.
    async fn confirmed_coordinators(&self, partitions: BTreeSet<u32>) -> BTreeSet<u32> {
        let directory = self.directory();
        let topic = directory.metadata.group_topic();
        let log = |number| Some((number, topic?.partition(number)?.incarnation));
        let logs: Vec<_> = partitions.into_iter().filter_map(log).collect();
        let asked = logs.into_iter().map(|(number, log)| async move {
            let confirmed = self.ask(|reply| Ask::Confirm(log, reply)).await;
            confirmed.and_then(Result::ok).map(|()| number)
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// Totals over the groups that this node coordinates.
    ///
    /// Errors: [`CoordinatorError::NotAvailable`] when the node stops.
    pub async fn group_totals(&self) -> Result<GroupTotals, CoordinatorError> {
        match self.query_groups(GroupQuery::Totals).await {
            Some(GroupQueryResponse::Totals(totals)) => Ok(totals),
            _ => Err(CoordinatorError::NotAvailable),
        }
    }

    /// Deletes groups without members, with their offsets; one result for each id.
    pub async fn delete_groups(
        &self,
        group_ids: Vec<Name>,
    ) -> Vec<(Name, Result<(), DeleteGroupError>)> {
        let deletions = group_ids.into_iter().map(|group_id| async {
            let request = DeleteGroup { group_id: Name::clone(&group_id) };
            let result = match self.group(GroupRequest::DeleteGroup(request)).await {
                Some(GroupResponse::DeleteGroup(result)) => result,
                _ => Err(CoordinatorError::NotAvailable.into()),
            };
            (group_id, result)
        });
        join_all(deletions).await
    }

    /// How far groups are behind: in each partition of every topic that they have committed
    /// offsets of or subscribe to. One result for each id.
    ///
    /// Cost: two asks of the shard for each group, and one atomic for each partition.
    pub async fn group_lag(&self, group_ids: Vec<Name>) -> Vec<GroupLag> {
        let described = self.describe_groups(group_ids).await;
        join_all(described.into_iter().map(|group| self.lag_of(group))).await
    }

    async fn lag_of(&self, group: DescribedGroup) -> GroupLag {
        let DescribedGroup { group_id, result } = group;
        let result = match result {
            Ok(group) => match self.partitions_lag(&group).await {
                Ok(partitions) => Ok(GroupPositions { group, partitions }),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        GroupLag { group_id, result }
    }

    async fn partitions_lag(
        &self,
        group: &GroupDescription,
    ) -> Result<Vec<PartitionLag>, DescribeGroupError> {
        let group_id = Name::clone(&group.group_id);
        let fetch = OffsetFetch { group_id, topics: None, require_stable: false };
        let fetched = match self.group(GroupRequest::OffsetFetch(fetch)).await {
            Some(GroupResponse::OffsetFetch(Ok(fetched))) => fetched,
            Some(GroupResponse::OffsetFetch(Err(OffsetFetchError::Coordinator(error)))) => {
                return Err(error.into());
            }
            _ => return Err(CoordinatorError::NotAvailable.into()),
        };
        let mut topics: BTreeMap<Name, FetchedTopic> =
            fetched.into_iter().map(|topic| (Name::clone(&topic.name), topic)).collect();
        for name in group.subscribed_topics() {
            topics.entry(Name::clone(&name)).or_insert_with(|| FetchedTopic {
                name,
                topic_id: TopicId::ZERO,
                partitions: Vec::new(),
            });
        }
        let directory = self.directory();
        Ok(topics.values().flat_map(|topic| topic_lag(&directory, topic)).collect())
    }

    async fn query_groups(&self, query: GroupQuery) -> Option<GroupQueryResponse> {
        self.ask(|reply| Ask::GroupQuery(query, reply)).await
    }

    /// Changes single configs of a topic; they hold when this returns.
    ///
    /// Errors: [`AdminError`].
    pub async fn alter_topic_configs(
        &self,
        request: AlterTopicConfigs,
    ) -> Result<(), AdminError<AlterTopicConfigsError>> {
        match self.control(ControllerRequest::AlterTopicConfigs(request)).await? {
            ControllerResponse::TopicConfigsAltered(result) => result.map_err(AdminError::Refused),
            _ => Err(ControllerError::NotController.into()),
        }
    }

    /// Raises a topic's partition count, and waits until the new partitions are led.
    ///
    /// Errors: [`AdminError`].
    pub async fn create_partitions(
        &self,
        request: CreatePartitions,
    ) -> Result<GrownTopic, AdminError<CreatePartitionsError>> {
        let validate_only = request.validate_only;
        match self.control(ControllerRequest::CreatePartitions(request)).await? {
            ControllerResponse::PartitionsCreated(result) => {
                let grown = result.map_err(AdminError::Refused)?;
                if !validate_only {
                    self.until_led(vec![grown.id]).await;
                }
                Ok(grown)
            }
            _ => Err(ControllerError::NotController.into()),
        }
    }

    /// The configs of a topic with their sources, sorted by name.
    ///
    /// - `keys`: only these; `None` for all. Unknown ones are left out, as in Kafka.
    ///
    /// Errors: [`DescribeConfigsError`].
    pub fn describe_topic_configs(
        &self,
        name: &str,
        keys: Option<&[&str]>,
    ) -> Result<Vec<ConfigEntry>, DescribeConfigsError> {
        check_topic_name(name)?;
        let directory = self.directory();
        let topic = directory
            .topic(name)
            .ok_or_else(|| DescribeConfigsError::UnknownTopic { name: name.to_owned() })?;
        let replicas = topic.replication_factor();
        Ok(describe_topic(&topic.configs, replicas, &self.node().settings, keys))
    }

    /// The configs of this node under Kafka's names, sorted.
    ///
    /// - `keys`: only these; `None` for all.
    #[must_use]
    pub fn describe_node_configs(&self, keys: Option<&[&str]>) -> Vec<ConfigEntry> {
        describe_broker(&self.node().settings, self.directory().metadata.nodes().len(), keys)
    }

    /// The node now.
    ///
    /// Cost: of the partitions on this node, and one question to the filesystem.
    #[must_use]
    pub fn status(&self) -> NodeStatus {
        let directory = self.directory();
        let (node, gauges) = (self.node(), self.gauges());
        let space = gauges.disk.space().ok();
        NodeStatus {
            node_id: node.node_id,
            cluster_id: directory.metadata.cluster_id(),
            version: env!("CARGO_PKG_VERSION"),
            uptime: gauges.started.elapsed(),
            nodes: directory.metadata.nodes().len(),
            topics: directory.metadata.topics().count(),
            partitions: directory.metadata.topics().map(|topic| topic.partitions.len()).sum(),
            local: LocalPartitions::of(&directory, node.node_id),
            disk_state: self.router().space(),
            disk_free_bytes: space.map(|space| space.free),
            disk_total_bytes: space.map(|space| space.total),
            log_bytes: directory.views().map(|view| view.reader().size_bytes()).sum(),
            scrub: gauges.damage.progress(),
            repairs: gauges.damage.repairs(),
            connections: gauges.connections(),
            durability: node.durability,
        }
    }

    /// Resolves when the shard's loop has turned once: true, or false where it has ended. Does not
    /// resolve while it stands still.
    pub async fn probe(&self) -> bool {
        self.ask(Ask::Probe).await.is_some()
    }

    /// Counts a connection of a door until the answer is dropped.
    #[must_use]
    pub fn connected(&self, door: Door) -> Connected {
        self.gauges().connected(door)
    }
}

/// The partitions of a topic that exists; a commit for any other means nothing.
fn topic_lag(directory: &Directory, fetched: &FetchedTopic) -> Vec<PartitionLag> {
    let Some(topic) = directory.topic(&fetched.name) else { return Vec::new() };
    let committed: BTreeMap<i32, &FetchedOffset> = fetched
        .partitions
        .iter()
        .filter_map(|(partition, offset)| Some((*partition, offset.as_ref()?)))
        .collect();
    let lags = (0..).zip(&topic.partitions).map(|(partition, placed)| {
        let committed = committed.get(&partition).copied();
        let view = directory.view(placed.incarnation);
        let high_watermark = view.map(|view| view.high_watermark());
        PartitionLag {
            topic: Name::clone(&topic.name),
            partition,
            committed: committed.cloned(),
            log_start: view.map(|view| view.log_start()),
            high_watermark,
            lag: lag(high_watermark, committed),
        }
    });
    lags.collect()
}

fn lag(high_watermark: Option<Offset>, committed: Option<&FetchedOffset>) -> i64 {
    let (Some(end), Some(committed)) = (high_watermark, committed) else { return -1 };
    let end = i64::try_from(end.get()).unwrap_or(i64::MAX);
    end.saturating_sub(committed.offset).max(0)
}
