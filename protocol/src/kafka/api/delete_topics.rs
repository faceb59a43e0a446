//! DeleteTopics: topics go, by name or by id.

use super::api;
use crate::ids::TopicId;
use crate::kafka::{ErrorCode, Text};

api! {
    /// Deletes topics; by id from version 6 on (KIP-516).
    DeleteTopics = 20 [versions 1..=6, flexible 4];

    request DeleteTopicsRequest {
        topics: Vec<DeleteTopicState> [6..],
        topic_names: Vec<Text> [0..=5, ignorable],
        timeout_ms: i32,
    }

    response DeleteTopicsResponse {
        throttle_time_ms: i32 [1.., ignorable],
        responses: Vec<DeletableTopicResult>,
    }

    struct DeleteTopicState {
        /// Null where the id is given.
        name: Option<Text> [6..],
        topic_id: TopicId [6..],
    }

    struct DeletableTopicResult {
        name: Option<Text> [nullable 6..] = Some(Text::EMPTY),
        topic_id: TopicId [6.., ignorable],
        error_code: ErrorCode,
        error_message: Option<Text> [5.., ignorable],
    }
}
