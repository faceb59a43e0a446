//! DescribeCluster: the brokers, the controller and the cluster's id.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Describes the cluster to administrators (KIP-700).
    DescribeCluster = 60 [versions 0..=2, flexible 0];

    request DescribeClusterRequest {
        include_cluster_authorized_operations: bool,
        /// 1 brokers, 2 controllers.
        endpoint_type: i8 [1..] = 1,
        include_fenced_brokers: bool [2..],
    }

    response DescribeClusterResponse {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Text>,
        endpoint_type: i8 [1..] = 1,
        cluster_id: Text,
        /// One of `brokers`, or −1 while it is unknown.
        controller_id: i32 = -1,
        brokers: Vec<DescribeClusterBroker>,
        /// `i32::MIN` unless asked for.
        cluster_authorized_operations: i32 = i32::MIN,
    }

    struct DescribeClusterBroker {
        broker_id: i32,
        host: Text,
        port: i32,
        rack: Option<Text>,
        is_fenced: bool [2..],
    }
}
