//! Who holds and leads a cluster's partitions, and what an operator asks of that, by Kafka's APIs.
//!
//! Absent on purpose: choices. Whoever measures names the nodes.

use crate::client::{Client, METADATA_VERSION, address_of};
use crate::failure::{Failure, accepted};
use bateau_protocol::kafka::ErrorCode;
use bateau_protocol::kafka::api::alter_partition_reassignments::{
    AlterPartitionReassignments, AlterPartitionReassignmentsRequest, ReassignablePartition,
    ReassignableTopic,
};
use bateau_protocol::kafka::api::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopics,
    CreateTopicsRequest,
};
use bateau_protocol::kafka::api::elect_leaders::{
    ElectLeaders, ElectLeadersRequest, ElectLeadersTopic,
};
use bateau_protocol::kafka::api::list_partition_reassignments::{
    ListPartitionReassignments, ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use bateau_protocol::kafka::api::metadata::{Metadata, MetadataRequest, MetadataResponse};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const CREATE_TOPICS_VERSION: i16 = 5;
const REASSIGN_VERSION: i16 = 1;
const LIST_REASSIGNMENTS_VERSION: i16 = 0;
const ELECT_LEADERS_VERSION: i16 = 2;

/// Kafka's election of the first replica.
const PREFERRED: i8 = 0;

/// Leaders that are not elected after so long will not be: a node that was slow takes none for half
/// a minute.
const ELECTED_MAX: Duration = Duration::from_secs(90);

/// Until it is looked once more who leads.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// How long the broker may take.
const TIMEOUT_MS: i32 = 30_000;

/// A partition as a node describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Led {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Who is to lead it, if it can.
    pub first: Option<i32>,
    /// Who leads it, and where; `None` where nobody does.
    pub leader: Option<(i32, SocketAddr)>,
}

impl Led {
    /// Whether this node leads it.
    #[must_use]
    pub fn is_led_by(&self, node: i32) -> bool {
        self.leader.is_some_and(|(leader, _)| leader == node)
    }
}

/// All partitions of an answer.
fn partitions_of(answer: &MetadataResponse) -> Vec<Led> {
    let mut all = Vec::new();
    for topic in &answer.topics {
        let name = topic.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default();
        for partition in &topic.partitions {
            let is_led = partition.error_code == ErrorCode::NONE;
            let leader = Some(partition.leader_id).filter(|_| is_led);
            let leader = leader.and_then(|id| Some((id, address_of(answer, id)?)));
            let (topic, first) = (name.clone(), partition.replica_nodes.first().copied());
            all.push(Led { topic, partition: partition.partition_index, first, leader });
        }
    }
    all
}

impl Client {
    /// Looks at all partitions of all topics.
    ///
    /// # Errors
    /// The peer does not answer.
    pub fn all_partitions(&mut self) -> Result<Vec<Led>, Failure> {
        let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
        Ok(partitions_of(&self.call::<Metadata>(&request, METADATA_VERSION)?))
    }

    /// Creates a topic whose partitions have these nodes each, and waits until all are led by the
    /// first of them.
    ///
    /// # Errors
    /// The peer refuses, or another node leads for long.
    pub fn create_assigned(
        &mut self,
        name: &str,
        nodes: &[&[i32]],
        configs: &[(&str, &str)],
    ) -> Result<(), Failure> {
        let assignment = |(index, ids): (i32, &&[i32])| CreatableReplicaAssignment {
            partition_index: index,
            broker_ids: ids.to_vec(),
        };
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).to_owned().into(),
            value: Some((*value).to_owned().into()),
        };
        let topic = CreatableTopic {
            name: name.to_owned().into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: (0..).zip(nodes).map(assignment).collect(),
            configs: configs.iter().map(config).collect(),
        };
        let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
        let answer = self.call::<CreateTopics>(&request, CREATE_TOPICS_VERSION)?;
        for topic in answer.topics {
            accepted(topic.error_code, || format!("creating topic {name}"))?;
        }
        self.await_topic(name)?;
        let partitions: Vec<i32> = (0..).zip(nodes).map(|(index, _)| index).collect();
        self.elect_first(name, &partitions)
    }

    /// Has the first replica of each of these partitions lead, and waits until it does.
    ///
    /// # Errors
    /// The peer refuses, or another node leads for long.
    pub fn elect_first(&mut self, name: &str, partitions: &[i32]) -> Result<(), Failure> {
        let deadline = Instant::now() + ELECTED_MAX;
        loop {
            let strangers = self.led_by_others(name, partitions)?;
            if strangers.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let found = format!("others lead {strangers:?}");
                return Err(Failure::unexpected(format!("leaders of {name}"), found, "the first"));
            }
            let topic = ElectLeadersTopic { topic: name.to_owned().into(), partitions: strangers };
            let request = ElectLeadersRequest {
                election_type: PREFERRED,
                topic_partitions: Some(vec![topic]),
                timeout_ms: TIMEOUT_MS,
            };
            let answer = self.call::<ElectLeaders>(&request, ELECT_LEADERS_VERSION)?;
            accepted(answer.error_code, || format!("electing leaders of {name}"))?;
            // What a partition answers is seen in the next look.
            std::thread::sleep(LOOK_PAUSE);
        }
    }

    /// Those of the partitions that are not led by their first replica.
    fn led_by_others(&mut self, name: &str, partitions: &[i32]) -> Result<Vec<i32>, Failure> {
        let topics = self.describe(name)?;
        let all = topics.iter().flat_map(|topic| &topic.partitions);
        let others = all.filter(|one| {
            let is_asked = partitions.contains(&one.partition_index);
            is_asked && one.replica_nodes.first() != Some(&one.leader_id)
        });
        Ok(others.map(|one| one.partition_index).collect())
    }

    /// Assigns other nodes to these partitions of a topic. What has to be copied is copied
    /// afterwards.
    ///
    /// # Errors
    /// The peer refuses.
    pub fn reassign(
        &mut self,
        name: &str,
        partitions: &[i32],
        nodes: &[i32],
    ) -> Result<(), Failure> {
        let partition = |index: &i32| ReassignablePartition {
            partition_index: *index,
            replicas: Some(nodes.to_vec()),
        };
        let topic = ReassignableTopic {
            name: name.to_owned().into(),
            partitions: partitions.iter().map(partition).collect(),
        };
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: TIMEOUT_MS,
            allow_replication_factor_change: true,
            topics: vec![topic],
        };
        let answer = self.call::<AlterPartitionReassignments>(&request, REASSIGN_VERSION)?;
        accepted(answer.error_code, || format!("reassigning {name}"))?;
        for partition in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            let index = partition.partition_index;
            accepted(partition.error_code, || format!("reassigning {name}, partition {index}"))?;
        }
        Ok(())
    }

    /// How many of these partitions are still being moved.
    ///
    /// # Errors
    /// The peer refuses.
    pub fn moving(&mut self, name: &str, partitions: &[i32]) -> Result<usize, Failure> {
        let topic = ListPartitionReassignmentsTopics {
            name: name.to_owned().into(),
            partition_indexes: partitions.to_vec(),
        };
        let request =
            ListPartitionReassignmentsRequest { timeout_ms: TIMEOUT_MS, topics: Some(vec![topic]) };
        let version = LIST_REASSIGNMENTS_VERSION;
        let answer = self.call::<ListPartitionReassignments>(&request, version)?;
        accepted(answer.error_code, || format!("reassignments of {name}"))?;
        Ok(answer.topics.iter().map(|topic| topic.partitions.len()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::kafka::api::metadata::{MetadataBroker, MetadataPartition, MetadataTopic};

    #[test]
    fn a_partition_with_an_error_or_an_unknown_leader_is_led_by_nobody() {
        let partition = |leader_id, error_code| MetadataPartition {
            leader_id,
            error_code,
            replica_nodes: vec![3, 2],
            ..MetadataPartition::default()
        };
        let partitions = vec![
            partition(2, ErrorCode::NONE),
            partition(-1, ErrorCode::LEADER_NOT_AVAILABLE),
            partition(2, ErrorCode::LEADER_NOT_AVAILABLE),
            partition(4, ErrorCode::NONE),
        ];
        let topic = MetadataTopic {
            name: Some("t".to_owned().into()),
            partitions,
            ..MetadataTopic::default()
        };
        let broker = MetadataBroker {
            node_id: 2,
            host: "127.0.0.1".to_owned().into(),
            port: 9,
            ..MetadataBroker::default()
        };
        let (brokers, topics) = (vec![broker], vec![topic]);
        let answer = MetadataResponse { brokers, topics, ..MetadataResponse::default() };
        let all = partitions_of(&answer);
        let led: Vec<bool> = all.iter().map(|one| one.is_led_by(2)).collect();
        assert_eq!(led, [true, false, false, false]);
        assert!(all[1..].iter().all(|one| one.leader.is_none() && one.first == Some(3)));
        assert_eq!(all[0].leader, Some((2, "127.0.0.1:9".parse().unwrap())));
    }
}
