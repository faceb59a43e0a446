//! ApiVersions, FindCoordinator and DescribeCluster: what and where this cluster is.
//!
//! Absent on purpose: finalized features. Without `transaction.version` clients keep to the
//! transactions that they would be refused anyway.

use super::super::dispatch::{Call, Context, Endpoint};
use super::{text, wire_node};
use crate::doors::words::{controller, coordinator};
use crate::router::Directory;
use bateau_protocol::kafka::api::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use bateau_protocol::kafka::api::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use bateau_protocol::kafka::api::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use bateau_protocol::kafka::{ErrorCode, Text};

/// Everything that a client may do to the cluster, as a set of Kafka's operation numbers: create,
/// alter, describe, cluster action, describe and alter configs, idempotent write. Without
/// authorization everybody may.
pub const CLUSTER_OPERATIONS: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// First version of FindCoordinator with several keys (KIP-699).
const BATCHED_SINCE: i16 = 4;

/// A broker as clients are told of it.
pub struct Broker {
    /// Its number.
    pub node: i32,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its failure domain.
    pub rack: Option<Text>,
}

/// The cluster's brokers by number; this node is always among them.
pub fn brokers(context: &Context, directory: &Directory) -> Vec<Broker> {
    let this = context.broker.node();
    let others = directory.metadata.nodes().filter(|other| other.node != this.node_id);
    let mut brokers: Vec<Broker> = others
        .filter_map(|other| {
            let listener = other.listener("kafka")?;
            let endpoint = Endpoint { host: text(&listener.host), port: listener.port.into() };
            let rack = other.rack.as_deref().map(text);
            Some(Broker { node: wire_node(other.node), endpoint, rack })
        })
        .collect();
    let rack = this.settings.rack.as_deref().map(text);
    let endpoint = context.endpoint.clone();
    brokers.push(Broker { node: wire_node(this.node_id), endpoint, rack });
    brokers.sort_by_key(|broker| broker.node);
    brokers
}

/// The cluster's id as text.
pub fn cluster_id(directory: &Directory) -> Option<Text> {
    directory.metadata.cluster_id().map(|id| id.to_string().into())
}

/// The versions there are.
pub fn api_versions(call: &Call, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    if call.version >= 3 && !request.names_software() {
        return ApiVersionsResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            ..ApiVersionsResponse::default()
        };
    }
    ApiVersionsResponse::of_table()
}

/// Where groups are coordinated: where their partitions are led.
pub fn find_coordinator(call: &Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let directory = call.context.broker.directory();
    let known = brokers(&call.context, &directory);
    let is_batched = call.version >= BATCHED_SINCE;
    let no_message = if is_batched { "" } else { "NONE" };
    let find = |key: Text| match find_one(&directory, &known, request.key_type, &key) {
        Ok(broker) => Coordinator {
            key,
            node_id: broker.node,
            host: broker.endpoint.host.clone(),
            port: broker.endpoint.port,
            // As Kafka says that there is nothing to say.
            error_message: Some(Text::from_static(no_message)),
            ..Coordinator::default()
        },
        Err((error_code, reason)) => Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code,
            error_message: Some(Text::from_static(reason)),
            ..Coordinator::default()
        },
    };
    if is_batched {
        return FindCoordinatorResponse {
            coordinators: request.coordinator_keys.into_iter().map(find).collect(),
            ..FindCoordinatorResponse::default()
        };
    }
    let found = find(request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}

fn find_one<'a>(
    directory: &Directory,
    known: &'a [Broker],
    key_type: i8,
    key: &str,
) -> Result<&'a Broker, (ErrorCode, &'static str)> {
    let reason = match key_type {
        0 => {
            let node = coordinator(directory, key).map(wire_node);
            let found = known.iter().find(|broker| Some(broker.node) == node);
            let reason = "the group's partition has no leader at the moment";
            return found.ok_or((ErrorCode::COORDINATOR_NOT_AVAILABLE, reason));
        }
        // Not retriable: on a retriable code clients would try for ever.
        1 => (ErrorCode::UNSUPPORTED_VERSION, "transactions are not served"),
        _ => (ErrorCode::INVALID_REQUEST, "the type of coordinator is unknown"),
    };
    Err(reason)
}

/// Brokers, controller and the cluster's id.
pub fn describe(call: &Call, request: &DescribeClusterRequest) -> DescribeClusterResponse {
    let refused = |error_code, reason| DescribeClusterResponse {
        error_code,
        error_message: Some(Text::from_static(reason)),
        ..DescribeClusterResponse::default()
    };
    match request.endpoint_type {
        1 => {}
        2 => {
            let reason = "the request was sent to an endpoint of brokers, not of controllers";
            return refused(ErrorCode::MISMATCHED_ENDPOINT_TYPE, reason);
        }
        _ => {
            return refused(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, "the endpoint type is unknown");
        }
    }
    let directory = call.context.broker.directory();
    let brokers = brokers(&call.context, &directory).into_iter().map(|broker| {
        let Endpoint { host, port } = broker.endpoint;
        let (broker_id, rack) = (broker.node, broker.rack);
        DescribeClusterBroker { broker_id, host, port, rack, ..DescribeClusterBroker::default() }
    });
    let mut response = DescribeClusterResponse {
        cluster_id: cluster_id(&directory).unwrap_or_default(),
        controller_id: wire_node(controller(&directory, call.context.broker.node().node_id)),
        brokers: brokers.collect(),
        ..DescribeClusterResponse::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER_OPERATIONS;
    }
    response
}
