//! Nodes and moves, asked of a cluster of one.

use super::node::{Client, TestNode};
use bateau_protocol::native::{
    AlterTopicRequest, Call, ErrorReply, ListNodesRequest, ListReassignmentsRequest, PartitionMove,
    PermitNodeRequest, ReassignPartitionsRequest, SetStandingRequest,
};
use bateau_protocol::wire::ErrorCode;

const TIMEOUT_MS: i32 = 10_000;

fn permit(node_id: i32, replaces: bool) -> PermitNodeRequest {
    PermitNodeRequest { node_id, replaces, validate_only: false, timeout_ms: TIMEOUT_MS }
}

fn stand(node_id: i32, standing: &'static str) -> SetStandingRequest {
    let (standing, validate_only) = (standing.into(), false);
    SetStandingRequest { node_id, standing, validate_only, timeout_ms: TIMEOUT_MS }
}

async fn refused<C: Call>(client: &mut Client, request: C) -> ErrorReply {
    match client.control.try_call(request).await {
        Err(refusal) => refusal,
        Ok(_) => panic!("it was done"),
    }
}

#[tokio::test]
async fn an_expected_node_is_listed_until_its_permit_is_taken_back() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    client.topic("orders").await;
    let alone = client.call(ListNodesRequest {}).await.nodes;
    let [this] = &alone[..] else { panic!("{alone:?}") };
    assert_eq!((this.node_id, this.is_alive, this.standing.as_str()), (1, true, "serving"));
    assert_eq!((this.role.as_str(), this.permit.as_str()), ("leader", ""));
    assert_eq!((this.replicas, this.leaders), (17, 17), "sixteen are internal");
    assert!(this.listeners.iter().any(|one| one.name.as_str() == "native"), "{this:?}");

    let asked = PermitNodeRequest { validate_only: true, ..permit(2, false) };
    client.call(asked).await;
    assert_eq!(client.call(ListNodesRequest {}).await.nodes.len(), 1, "it was only asked");
    client.call(permit(2, false)).await;
    client.call(permit(2, false)).await;
    let nodes = client.call(ListNodesRequest {}).await.nodes;
    let expected = nodes.iter().find(|one| one.node_id == 2).expect("it is expected");
    assert_eq!((expected.standing.as_str(), expected.permit.as_str()), ("", "join"));
    client.call(stand(2, "leaving")).await;
    assert_eq!(client.call(ListNodesRequest {}).await.nodes, alone);
    node.stop().await;
}

#[tokio::test]
async fn nobody_comes_goes_or_moves_where_that_makes_no_sense() {
    let node = TestNode::start(&[]).await;
    let mut client = node.connect().await;
    client.topic("orders").await;
    let member = ErrorCode::DUPLICATE_BROKER_REGISTRATION;
    assert_eq!(refused(&mut client, permit(1, false)).await.code, member);
    assert_eq!(refused(&mut client, permit(1, true)).await.code, member, "it is alive");
    let unknown = ErrorCode::BROKER_ID_NOT_REGISTERED;
    assert_eq!(refused(&mut client, permit(2, true)).await.code, unknown);
    assert_eq!(refused(&mut client, permit(0, false)).await.code, ErrorCode::INVALID_REQUEST);
    assert_eq!(refused(&mut client, stand(2, "draining")).await.code, unknown);
    assert_eq!(refused(&mut client, stand(1, "sleeping")).await.code, ErrorCode::INVALID_REQUEST);
    let last = refused(&mut client, stand(1, "leaving")).await;
    assert_eq!(last.code, ErrorCode::INELIGIBLE_REPLICA);
    assert_eq!(last.message.as_str(), "node 1 is the only node of the cluster");

    let one = |partition, nodes| PartitionMove { topic: "orders".into(), partition, nodes };
    let partitions = vec![one(0, Some(vec![2])), one(7, Some(vec![1])), one(0, None)];
    let asked = ReassignPartitionsRequest { partitions, timeout_ms: TIMEOUT_MS };
    let moved = client.call(asked).await.partitions;
    let codes: Vec<ErrorCode> = moved.iter().map(|one| one.error_code).collect();
    let expected = [
        ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
    ];
    assert_eq!(codes, expected);
    assert_eq!(client.call(ListReassignmentsRequest {}).await.partitions, []);
    let copies = |replication_factor| AlterTopicRequest {
        name: "orders".into(),
        replication_factor,
        timeout_ms: TIMEOUT_MS,
        ..AlterTopicRequest::default()
    };
    client.call(copies(1)).await;
    for factor in [0, 2] {
        let refused = refused(&mut client, copies(factor)).await;
        assert_eq!(refused.code, ErrorCode::INVALID_REPLICATION_FACTOR, "{factor}");
    }
    node.stop().await;
}
