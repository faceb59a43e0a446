//! Who holds and who leads, asked of one node: every code of bad input as Kafka 4.3.1 gives it.

use super::node::{Client, TestNode};
use super::records::auto_create;
use bateau_protocol::kafka::api::alter_partition_reassignments::{
    AlterPartitionReassignments, AlterPartitionReassignmentsRequest, ReassignablePartition,
    ReassignableTopic,
};
use bateau_protocol::kafka::api::elect_leaders::{
    ElectLeaders, ElectLeadersRequest, ElectLeadersResponse, ElectLeadersTopic,
};
use bateau_protocol::kafka::api::list_partition_reassignments::{
    ListPartitionReassignments, ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
};
use bateau_protocol::kafka::{ErrorCode, Text};

async fn alter(
    client: &mut Client,
    (name, partition): (&'static str, i32),
    replicas: Option<Vec<i32>>,
) -> (ErrorCode, String) {
    let partitions = vec![ReassignablePartition { partition_index: partition, replicas }];
    let name = Text::from_static(name);
    let topics = vec![ReassignableTopic { name, partitions }];
    let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
    let answer = client.call::<AlterPartitionReassignments>(1, &request).await;
    assert_eq!((answer.error_code, answer.responses.len()), (ErrorCode::NONE, 1));
    let outcome = &answer.responses[0].partitions[0];
    assert_eq!(outcome.partition_index, partition);
    let message = outcome.error_message.as_ref().map(ToString::to_string);
    (outcome.error_code, message.unwrap_or_default())
}

#[tokio::test]
async fn a_reassignment_that_makes_no_sense_has_its_code_and_changes_nothing() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    let orders = ("orders", 0);
    for (at, replicas, code) in [
        (("nowhere", 0), Some(vec![1]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (("a/b", 0), Some(vec![1]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (("@groups", 0), Some(vec![1]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (("orders", 9), Some(vec![1]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (("orders", -1), Some(vec![1]), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (orders, Some(vec![]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (orders, Some(vec![77]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (orders, Some(vec![-1]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (orders, Some(vec![1, 1]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (orders, None, ErrorCode::NO_REASSIGNMENT_IN_PROGRESS),
    ] {
        let (found, message) = alter(&mut client, at, replicas.clone()).await;
        assert_eq!(found, code, "{at:?} to {replicas:?}: {message}");
        assert!(!message.is_empty(), "{at:?} to {replicas:?}");
    }
    assert_eq!(alter(&mut client, orders, Some(vec![1])).await.0, ErrorCode::NONE, "as it is");
    let resized = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: false,
        topics: vec![ReassignableTopic {
            name: Text::from_static("orders"),
            partitions: vec![ReassignablePartition {
                partition_index: 0,
                replicas: Some(vec![1, 2]),
            }],
        }],
        ..AlterPartitionReassignmentsRequest::default()
    };
    let answer = client.call::<AlterPartitionReassignments>(1, &resized).await;
    let refused = &answer.responses[0].partitions[0];
    assert_eq!(refused.error_code, ErrorCode::INVALID_REPLICATION_FACTOR);
    let topics = [None, Some(named("orders", 0)), Some(named("nowhere", 0)), Some(Vec::new())];
    for topics in topics {
        let request = ListPartitionReassignmentsRequest { topics, timeout_ms: 1_000 };
        let answer = client.call::<ListPartitionReassignments>(0, &request).await;
        assert_eq!((answer.error_code, answer.topics.len()), (ErrorCode::NONE, 0));
    }
    node.stop().await;
}

fn named(name: &'static str, partition: i32) -> Vec<ListPartitionReassignmentsTopics> {
    let (name, partition_indexes) = (Text::from_static(name), vec![partition]);
    vec![ListPartitionReassignmentsTopics { name, partition_indexes }]
}

async fn elect(
    client: &mut Client,
    (version, election_type): (i16, i8),
    asked: Option<(&'static str, Vec<i32>)>,
) -> ElectLeadersResponse {
    let topic = |(topic, partitions)| {
        vec![ElectLeadersTopic { topic: Text::from_static(topic), partitions }]
    };
    let topic_partitions = asked.map(topic);
    let request = ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 1_000 };
    client.call::<ElectLeaders>(version, &request).await
}

#[tokio::test]
async fn an_election_that_is_not_needed_or_not_possible_has_its_code() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    auto_create(&mut client, "orders").await;
    for version in [0, 1, 2] {
        let answer = elect(&mut client, (version, 0), Some(("orders", vec![0, 9]))).await;
        let results = &answer.replica_election_results;
        let codes: Vec<_> = results[0].partition_result.iter().map(|one| one.error_code).collect();
        let expected = [ErrorCode::ELECTION_NOT_NEEDED, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
        assert_eq!((results.len(), codes.as_slice()), (1, &expected[..]), "version {version}");
        let all = elect(&mut client, (version, 0), None).await;
        assert_eq!(all.replica_election_results, [], "nothing is needed");
    }
    let unclean = elect(&mut client, (2, 1), Some(("orders", vec![0]))).await;
    let outcome = &unclean.replica_election_results[0].partition_result[0];
    assert_eq!(outcome.error_code, ErrorCode::ELECTION_NOT_NEEDED);
    let unknown = elect(&mut client, (2, 7), Some(("orders", vec![0]))).await;
    assert_eq!(unknown.error_code, ErrorCode::INVALID_REQUEST);
    let outcome = &unknown.replica_election_results[0].partition_result[0];
    assert_eq!(outcome.error_message.as_deref(), Some("Unknown election type 7"));
    node.stop().await;
}
