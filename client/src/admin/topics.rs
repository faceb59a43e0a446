//! Topics: made, listed, described, altered, deleted.
//!
//! Absent on purpose: emptying a topic.

use super::{Admin, check, miscounted};
use crate::cluster::{Repeat, Target};
use crate::error::{AdminError, BrokerError};
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    self, AlterTopicRequest, ConfigValue, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeTopicRequest, DescribeTopicResponse, TopicOutcome,
};
use bateau_protocol::wire::ErrorCode;

/// A topic to make.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct NewTopic {
    name: String,
    partitions: Option<u32>,
    replication_factor: Option<u32>,
    configs: Vec<(String, Option<String>)>,
}

impl NewTopic {
    /// With the cluster's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        let (partitions, replication_factor) = (None, None);
        Self { name: name.into(), partitions, replication_factor, configs: Vec::new() }
    }

    /// How many partitions; at least 1.
    pub const fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// How many replicas each partition has; at least 1.
    pub const fn replication_factor(mut self, replicas: u32) -> Self {
        self.replication_factor = Some(replicas);
        self
    }

    /// A config under Kafka's name, such as `retention.ms`.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), Some(value.into())));
        self
    }
}

/// What is to change of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct AlterTopic {
    name: String,
    partitions: Option<u32>,
    replication_factor: Option<u32>,
    configs: Vec<(String, Option<String>)>,
    validate_only: bool,
}

impl AlterTopic {
    /// Nothing yet.
    pub fn new(name: impl Into<String>) -> Self {
        let (partitions, replication_factor, validate_only) = (None, None, false);
        let configs = Vec::new();
        Self { name: name.into(), partitions, replication_factor, configs, validate_only }
    }

    /// Sets a config under Kafka's name.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), Some(value.into())));
        self
    }

    /// Returns a config to its default.
    pub fn reset_config(mut self, name: impl Into<String>) -> Self {
        self.configs.push((name.into(), None));
        self
    }

    /// Raises the number of partitions. Keys may then belong to other partitions than before.
    pub const fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Has each partition on so many nodes. They are being moved when the call returns.
    pub const fn replication_factor(mut self, replicas: u32) -> Self {
        self.replication_factor = Some(replicas);
        self
    }

    /// Only asks whether it would be allowed.
    pub const fn validate_only(mut self, on: bool) -> Self {
        self.validate_only = on;
        self
    }
}

/// A topic that was made, or deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Its id; zero where nothing was made.
    pub id: TopicId,
    /// How many partitions; −1 where the broker does not say.
    pub partitions: i32,
    /// How many replicas each has; −1 where the broker does not say.
    pub replication_factor: i32,
}

/// A topic in a list.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TopicListing {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: u32,
    /// How many replicas each has.
    pub replication_factor: u32,
    /// Partitions that have no leader at the moment.
    pub leaderless_partitions: u32,
}

/// A topic in full.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Its partitions in order.
    pub partitions: Vec<PartitionInfo>,
    /// Its configs, those that it inherits included.
    pub configs: Vec<ConfigEntry>,
}

/// A partition's place and extent.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct PartitionInfo {
    /// Its number.
    pub partition: i32,
    /// The node that leads it.
    pub leader: Option<i32>,
    /// Counts its leaders.
    pub leader_epoch: i32,
    /// The nodes that hold it.
    pub replicas: Vec<i32>,
    /// The first offset in the log, where that is known.
    pub log_start: Option<i64>,
    /// The first offset that is not committed, where that is known.
    pub high_watermark: Option<i64>,
    /// Bytes of its log on the node that answered, if it is there.
    pub log_bytes: Option<i64>,
}

/// A config with its origin.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Kafka's name.
    pub name: String,
    /// As text.
    pub value: Option<String>,
    /// `topic`, `broker` or `default`.
    pub source: String,
}

fn wire_configs(configs: Vec<(String, Option<String>)>) -> Vec<ConfigValue> {
    let config = |(name, value): (String, Option<String>)| ConfigValue {
        name: name.into(),
        value: value.map(Into::into),
    };
    configs.into_iter().map(config).collect()
}

/// −1 for "the cluster's default"; what no `i32` holds is beyond any limit of the broker.
fn count_or_default(count: Option<u32>) -> i32 {
    count.map_or(-1, |count| i32::try_from(count).unwrap_or(i32::MAX))
}

fn topic_info(outcome: TopicOutcome) -> Result<TopicInfo, AdminError> {
    let name = outcome.name.to_string();
    check(name.clone(), outcome.error_code, &outcome.message)?;
    let TopicOutcome { id, partitions, replication_factor, .. } = outcome;
    Ok(TopicInfo { name, id, partitions, replication_factor })
}

impl Admin {
    /// Makes a topic.
    ///
    /// # Errors
    /// [`AdminError`]: TOPIC_ALREADY_EXISTS, a bad name or config, too many partitions.
    ///
    /// Not cancel-safe: dropped after it was sent, the topic may be made all the same.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<TopicInfo, AdminError> {
        let mut outcomes = self.create_topics([topic], false).await?;
        outcomes.pop().unwrap_or_else(|| Err(miscounted("CreateTopics", 1, 0).into()))
    }

    /// Makes topics, each decided alone, or only asks whether they could be made.
    ///
    /// # Errors
    /// [`AdminError::Request`] for the request; each topic has a result of its own, in the order
    /// given.
    ///
    /// Not cancel-safe: dropped after it was sent, topics may be made all the same.
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
        validate_only: bool,
    ) -> Result<Vec<Result<TopicInfo, AdminError>>, AdminError> {
        let cluster = self.client.cluster();
        let topic = |topic: NewTopic| native::NewTopic {
            name: topic.name.into(),
            partitions: count_or_default(topic.partitions),
            replication_factor: count_or_default(topic.replication_factor),
            configs: wire_configs(topic.configs),
        };
        let topics: Vec<_> = topics.into_iter().map(topic).collect();
        let count = topics.len();
        let timeout_ms = cluster.timeout_ms();
        let request = CreateTopicsRequest { topics, validate_only, timeout_ms };
        let answer = cluster.call(Target::Controller, Repeat::UnlessDone, request).await?;
        if answer.topics.len() != count {
            return Err(miscounted("CreateTopics", count, answer.topics.len()).into());
        }
        Ok(answer.topics.into_iter().map(topic_info).collect())
    }

    /// All topics, by name.
    ///
    /// # Errors
    /// [`AdminError::Request`].
    ///
    /// Cancel-safe.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>, AdminError> {
        let metadata = self.client.cluster().all_topics().await?;
        let listing = |topic: native::TopicMetadata| {
            let replicas = topic.partitions.first().map_or(0, |first| first.replicas.len());
            let leaderless = topic.partitions.iter().filter(|one| one.leader_id < 0).count();
            let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            TopicListing {
                name: topic.name.to_string(),
                id: topic.id,
                partitions: number(topic.partitions.len()),
                replication_factor: number(replicas),
                leaderless_partitions: number(leaderless),
            }
        };
        let mut topics: Vec<_> = metadata.topics.into_iter().map(listing).collect();
        topics.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(topics)
    }

    /// A topic with its configs and partitions.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], [`AdminError::Request`].
    ///
    /// Cancel-safe.
    pub async fn describe_topic(&self, name: &str) -> Result<TopicDescription, AdminError> {
        let request = DescribeTopicRequest { name: name.to_owned().into() };
        let answer = self.client.cluster().call(Target::Controller, Repeat::Freely, request).await;
        match answer {
            Ok(answer) => Ok(description(answer)),
            Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                Err(AdminError::NotFound { name: name.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes configs, raises the number of partitions, changes that of their copies.
    ///
    /// # Errors
    /// [`AdminError`].
    ///
    /// Not cancel-safe: dropped after it was sent, it may be done all the same.
    pub async fn alter_topic(&self, change: AlterTopic) -> Result<(), AdminError> {
        let cluster = self.client.cluster();
        let name = change.name.clone();
        let request = AlterTopicRequest {
            name: change.name.into(),
            configs: wire_configs(change.configs),
            partitions: count_or_default(change.partitions),
            validate_only: change.validate_only,
            timeout_ms: cluster.timeout_ms(),
            replication_factor: count_or_default(change.replication_factor),
        };
        match cluster.call(Target::Controller, Repeat::UnlessDone, request).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                Err(AdminError::NotFound { name })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a topic with all of its records.
    ///
    /// # Errors
    /// [`AdminError::NotFound`], [`AdminError`].
    ///
    /// Not cancel-safe: dropped after it was sent, it may be done all the same.
    pub async fn delete_topic(&self, name: &str) -> Result<(), AdminError> {
        let mut outcomes = self.delete_topics([name]).await?;
        outcomes.pop().unwrap_or_else(|| Err(miscounted("DeleteTopics", 1, 0).into()))
    }

    /// Deletes topics, each decided alone.
    ///
    /// # Errors
    /// [`AdminError::Request`] for the request; each topic has a result of its own, in the order
    /// given.
    ///
    /// Not cancel-safe: dropped after it was sent, it may be done all the same.
    pub async fn delete_topics(
        &self,
        names: impl IntoIterator<Item = &str>,
    ) -> Result<Vec<Result<(), AdminError>>, AdminError> {
        let cluster = self.client.cluster();
        let names: Vec<_> = names.into_iter().map(|name| name.to_owned().into()).collect();
        let count = names.len();
        let request = DeleteTopicsRequest { names, timeout_ms: cluster.timeout_ms() };
        let answer = cluster.call(Target::Controller, Repeat::UnlessDone, request).await?;
        if answer.topics.len() != count {
            return Err(miscounted("DeleteTopics", count, answer.topics.len()).into());
        }
        let outcome = |outcome: TopicOutcome| {
            let name = outcome.name.to_string();
            match outcome.error_code {
                ErrorCode::NONE => Ok(()),
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Err(AdminError::NotFound { name }),
                code => {
                    let error = BrokerError::of_code(code, outcome.message.as_str());
                    Err(AdminError::Refused { name, error })
                }
            }
        };
        Ok(answer.topics.into_iter().map(outcome).collect())
    }
}

fn description(answer: DescribeTopicResponse) -> TopicDescription {
    let known = |number: i64| (number >= 0).then_some(number);
    let partitions = answer.partitions.into_iter().map(|one| PartitionInfo {
        partition: one.partition,
        leader: (one.leader_id >= 0).then_some(one.leader_id),
        leader_epoch: one.leader_epoch,
        replicas: one.replicas,
        log_start: known(one.log_start),
        high_watermark: known(one.high_watermark),
        log_bytes: known(one.log_bytes),
    });
    let configs = answer.configs.into_iter().map(|config| ConfigEntry {
        name: config.name.to_string(),
        value: config.value.map(|value| value.to_string()),
        source: config.source.to_string(),
    });
    TopicDescription {
        name: answer.name.to_string(),
        id: answer.id,
        partitions: partitions.collect(),
        configs: configs.collect(),
    }
}
