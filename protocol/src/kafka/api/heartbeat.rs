//! Heartbeat: a group member says that it is alive and hears of rebalances.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Keeps a member of a group alive.
    Heartbeat = 12 [versions 0..=4, flexible 4];

    request HeartbeatRequest {
        group_id: Text,
        generation_id: i32,
        member_id: Text,
        group_instance_id: Option<Text> [3..],
    }

    response HeartbeatResponse {
        throttle_time_ms: i32 [1.., ignorable],
        error_code: ErrorCode,
    }
}
