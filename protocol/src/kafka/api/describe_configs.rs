//! DescribeConfigs: every config of a topic or a broker, and where its value comes from.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Describes configs.
    DescribeConfigs = 32 [versions 1..=4, flexible 4];

    request DescribeConfigsRequest {
        resources: Vec<DescribeConfigsResource>,
        include_synonyms: bool [1..],
        include_documentation: bool [3..],
    }

    response DescribeConfigsResponse {
        throttle_time_ms: i32,
        results: Vec<DescribeConfigsResult>,
    }

    struct DescribeConfigsResource {
        /// 2 topic, 4 broker, 8 broker logger, 16 client metrics, 32 group.
        resource_type: i8,
        resource_name: Text,
        /// Null asks for all.
        configuration_keys: Option<Vec<Text>> = Some(Vec::new()),
    }

    struct DescribeConfigsResult {
        error_code: ErrorCode,
        error_message: Option<Text>,
        resource_type: i8,
        resource_name: Text,
        configs: Vec<DescribeConfigsEntry>,
    }

    struct DescribeConfigsEntry {
        name: Text,
        /// Null where it is sensitive.
        value: Option<Text>,
        read_only: bool,
        /// 1 topic, 2 broker, 3 default of all brokers, 4 file or command line, 5 built in,
        /// 6 logger, 7 client metrics, 8 group.
        config_source: i8 [1.., ignorable] = -1,
        is_sensitive: bool,
        synonyms: Vec<DescribeConfigsSynonym> [1.., ignorable],
        /// 1 boolean, 2 string, 3 int, 4 short, 5 long, 6 double, 7 list, 8 class, 9 password.
        config_type: i8 [3.., ignorable],
        documentation: Option<Text> [3.., ignorable],
    }

    struct DescribeConfigsSynonym {
        name: Text [1..],
        value: Option<Text> [1..],
        source: i8 [1..],
    }
}
