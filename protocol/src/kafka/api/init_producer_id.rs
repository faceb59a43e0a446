//! InitProducerId: an identity under which a producer's batches are told apart.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Hands out producer ids and epochs. Version 6 of Kafka is not final and not served.
    InitProducerId = 22 [versions 0..=5, flexible 2];

    request InitProducerIdRequest {
        /// Null for a producer that is idempotent only.
        transactional_id: Option<Text>,
        transaction_timeout_ms: i32,
        /// The id to go on with (KIP-360), or −1.
        producer_id: i64 [3..] = -1,
        producer_epoch: i16 [3..] = -1,
    }

    response InitProducerIdResponse {
        throttle_time_ms: i32 [ignorable],
        error_code: ErrorCode,
        producer_id: i64 = -1,
        producer_epoch: i16,
    }
}
