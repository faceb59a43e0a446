//! FindCoordinator: which broker coordinates a group or a transaction.

use super::api;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Finds coordinators; several keys at once from version 4 on (KIP-699).
    FindCoordinator = 10 [versions 0..=6, flexible 3];

    request FindCoordinatorRequest {
        key: Text [0..=3],
        /// 0 group, 1 transaction, 2 share group.
        key_type: i8 [1..],
        coordinator_keys: Vec<Text> [4..],
    }

    response FindCoordinatorResponse {
        throttle_time_ms: i32 [1.., ignorable],
        error_code: ErrorCode [0..=3],
        error_message: Option<Text> [1..=3, ignorable],
        node_id: i32 [0..=3],
        host: Text [0..=3],
        port: i32 [0..=3],
        coordinators: Vec<Coordinator> [4..],
    }

    struct Coordinator {
        key: Text [4..],
        node_id: i32 [4..],
        host: Text [4..],
        port: i32 [4..],
        error_code: ErrorCode [4..],
        error_message: Option<Text> [4.., ignorable],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{EncodeFault, RequestHeader, encode_request, encode_response};

    #[test]
    fn a_value_that_an_old_version_cannot_say_is_refused_and_names_the_field() {
        let request = FindCoordinatorRequest { key_type: 1, ..FindCoordinatorRequest::default() };
        let header = RequestHeader::default();
        let error = encode_request(&header, &request).expect_err("version 0 knows groups only");
        assert_eq!((error.field, error.fault), ("key_type", EncodeFault::Absent));
        let several = FindCoordinatorResponse {
            coordinators: vec![Coordinator::default()],
            ..FindCoordinatorResponse::default()
        };
        let error = encode_response(&several, 3, 0).expect_err("one answer fits version 3");
        assert_eq!((error.field, error.fault), ("coordinators", EncodeFault::Absent));
        assert!(encode_response(&several, 4, 0).is_ok());
    }
}
