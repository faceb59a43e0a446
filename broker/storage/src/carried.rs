//! Requests to the controller and its answers as bytes, for the way from one node to another.
//!
//! JSON: they are few, nodes of two versions understand what both know of them, and an operator can
//! read them in a trace. Fields that a version does not know are left out of what it reads.
//!
//! Absent on purpose: the log's commands, which have a form of their own (`command`).

use bateau_core::codec::DecodeError;
use bateau_core::controller::{ControllerError, ControllerRequest, ControllerResponse};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// What the controller says.
pub type ControllerAnswer = Result<ControllerResponse, ControllerError>;

/// The request as another node reads it.
#[must_use]
pub(crate) fn request_to_bytes(request: &ControllerRequest) -> Bytes {
    encoded(request)
}

/// What another node asks.
///
/// Errors: [`DecodeError`]: it is of a version that asks for something else.
pub(crate) fn request_from_bytes(bytes: &[u8]) -> Result<ControllerRequest, DecodeError> {
    decoded("controller request", bytes)
}

/// The answer as another node reads it.
#[must_use]
pub(crate) fn answer_to_bytes(answer: &ControllerAnswer) -> Bytes {
    encoded(answer)
}

/// What the controller on another node answers.
///
/// Errors: [`DecodeError`]: it is of a version that answers something else.
pub(crate) fn answer_from_bytes(bytes: &[u8]) -> Result<ControllerAnswer, DecodeError> {
    decoded("controller answer", bytes)
}

fn encoded(value: &impl Serialize) -> Bytes {
    let text = serde_json::to_vec(value).expect("plain values with text keys are always JSON");
    Bytes::from(text)
}

fn decoded<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    serde_json::from_slice(bytes).map_err(|error| DecodeError::because(what, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_core::controller::{
        BootEpoch, CreateTopicError, CreateTopicResult, CreateTopics, DeleteTopicResult,
        ListenerAddress, NewTopic, NodeRegistration, PartitionAssignment, RegisterNodeError,
    };
    use bateau_protocol::ids::{Incarnation, NodeId, TopicId};

    #[test]
    fn requests_survive_the_way() {
        let topic = NewTopic {
            name: "orders".to_owned(),
            partition_count: 3,
            replication_factor: -1,
            assignments: vec![PartitionAssignment { partition: 0, nodes: vec![1, 2] }],
            configs: vec![("retention.ms".to_owned(), None)],
        };
        let (name, host, pin) = ("native".into(), "::1".into(), Some([0xfe; 32]));
        let listener = ListenerAddress { name, host, port: 9443, pin };
        let registration = NodeRegistration {
            node: NodeId::new(3),
            directory: [0xd3; 16],
            boot: BootEpoch { epoch: u64::MAX, start_id: u64::MAX - 1 },
            rack: Some("r1".into()),
            listeners: vec![listener],
        };
        let requests = [
            ControllerRequest::CreateTopics(CreateTopics {
                topics: vec![topic],
                ..Default::default()
            }),
            ControllerRequest::RegisterNode { registration, timeout_ms: 5 },
            ControllerRequest::ConfirmRemoved {
                node: NodeId::new(1),
                incarnations: vec![Incarnation::new(u64::MAX)],
                timeout_ms: 7,
            },
        ];
        for request in requests {
            assert_eq!(request_from_bytes(&request_to_bytes(&request)), Ok(request));
        }
    }

    #[test]
    fn answers_survive_the_way_with_the_numbers_of_their_errors() {
        let malformed = RegisterNodeError::Malformed { field: "the rack".into() };
        let taken = CreateTopicError::AlreadyExists { name: "orders".to_owned() };
        let refused = CreateTopicResult { name: "orders".to_owned(), result: Err(taken) };
        let deleted = DeleteTopicResult { name: None, id: TopicId([7; 16]), result: Ok(()) };
        let answers = [
            Ok(ControllerResponse::NodeRegistered(Err(malformed))),
            Ok(ControllerResponse::TopicsCreated(vec![refused])),
            Ok(ControllerResponse::TopicsDeleted(vec![deleted])),
            Err(ControllerError::TimedOut { timeout_ms: 30_000 }),
            Err(ControllerError::Unsettled),
        ];
        for answer in answers {
            assert_eq!(answer_from_bytes(&answer_to_bytes(&answer)), Ok(answer));
        }
    }

    #[test]
    fn what_is_no_request_is_named() {
        let error = request_from_bytes(b"{\"Fly\":1}").unwrap_err().to_string();
        assert!(error.contains("controller request") && error.contains("Fly"), "{error}");
        assert!(request_from_bytes(&[0xff; 40]).is_err());
    }
}
