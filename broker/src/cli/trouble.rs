//! What the client reports, as errors of the catalogue: one place decides which is which.
//!
//! The subject is the topic, group or address that the command was about; the cause is what the
//! client or the broker said, in their own words.
//!
//! Absent on purpose: guessing from texts. Only kinds and codes decide.

use super::codes::{self, Code};
use super::fault::Fault;
use bateau_client::{
    AdminError, BrokerError, CommitError, ConnectError, ConsumeError, RequestError, SendError,
    Unsent,
};
use bateau_protocol::wire::ErrorCode;

/// Why no connection was made.
pub(super) fn connect(error: &ConnectError) -> Fault {
    match error {
        ConnectError::Address { address, .. } => {
            Fault::usage(format!("--broker {address}: {error}; write HOST:PORT"))
        }
        ConnectError::NoTrust { address } => Fault::of(&codes::UNPINNED, address),
        ConnectError::Trust { address, reason } => {
            Fault::of(&codes::CERTIFICATE, address).because(reason)
        }
        ConnectError::Identity { reason } => {
            Fault::of(&codes::OWN_CERTIFICATE, "this client").because(reason)
        }
        ConnectError::IdentityRefused { address, reason } => {
            Fault::of(&codes::NOT_ADMITTED, address).because(reason)
        }
        ConnectError::Resolve { host, reason } => {
            Fault::of(&codes::UNRESOLVED, host).because(reason)
        }
        ConnectError::Refused { address, reason } => {
            Fault::of(&codes::CERTIFICATE, address).because(reason)
        }
        ConnectError::Greeting { address, error } => match error.code {
            ErrorCode::UNSUPPORTED_VERSION => {
                Fault::of(&codes::VERSIONS, address).because(&error.message)
            }
            _ => broker(error, address),
        },
        ConnectError::Unreachable { address, reason }
        | ConnectError::BreakerOpen { address, reason } => {
            Fault::of(&codes::UNREACHABLE, address).because(reason)
        }
        other => Fault::of(&codes::UNREACHABLE, "the broker").because(other),
    }
}

/// Why a request has no answer of its own.
pub(super) fn request(error: &RequestError, subject: &str) -> Fault {
    match error {
        RequestError::Broker(error) => broker(error, subject),
        RequestError::Connect(error) => connect(error),
        RequestError::TimedOut { .. } => Fault::of(&codes::TIMED_OUT, subject).because(error),
        _ => Fault::of(&codes::DISCONNECTED, subject).because(error),
    }
}

/// What a broker answered.
pub(super) fn broker(error: &BrokerError, subject: &str) -> Fault {
    let fault = Fault::of(code(error.code), subject);
    match error.message.is_empty() {
        true => fault.because(format_args!("the broker answers {}", error.code)),
        false => fault.because(&error.message),
    }
}

fn code(code: ErrorCode) -> &'static Code {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => {
            &codes::UNKNOWN_TOPIC
        }
        ErrorCode::TOPIC_ALREADY_EXISTS => &codes::TOPIC_EXISTS,
        ErrorCode::INVALID_TOPIC_EXCEPTION
        | ErrorCode::INVALID_PARTITIONS
        | ErrorCode::INVALID_REPLICATION_FACTOR
        | ErrorCode::INVALID_REPLICA_ASSIGNMENT
        | ErrorCode::POLICY_VIOLATION
        | ErrorCode::INVALID_CONFIG => &codes::TOPIC_REFUSED,
        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => &codes::RECORD_TOO_LARGE,
        ErrorCode::INVALID_RECORD | ErrorCode::CORRUPT_MESSAGE | ErrorCode::INVALID_TIMESTAMP => {
            &codes::RECORD_REFUSED
        }
        ErrorCode::OFFSET_OUT_OF_RANGE => &codes::OUT_OF_RANGE,
        ErrorCode::GROUP_ID_NOT_FOUND => &codes::UNKNOWN_GROUP,
        // A commit from outside is refused like that while the group has members.
        ErrorCode::NON_EMPTY_GROUP | ErrorCode::UNKNOWN_MEMBER_ID => &codes::GROUP_IN_USE,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL
        | ErrorCode::INVALID_GROUP_ID
        | ErrorCode::FENCED_INSTANCE_ID
        | ErrorCode::ILLEGAL_GENERATION => &codes::GROUP_REFUSED,
        ErrorCode::REQUEST_TIMED_OUT => &codes::TIMED_OUT,
        ErrorCode::UNSUPPORTED_VERSION => &codes::VERSIONS,
        ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::NOT_CONTROLLER => &codes::UNAVAILABLE,
        _ => &codes::REFUSED,
    }
}

/// Why a record was not acknowledged.
pub(super) fn send(error: &SendError, topic: &str) -> Fault {
    match error {
        SendError::RecordTooLarge { .. } => {
            Fault::of(&codes::RECORD_TOO_LARGE, topic).because(error)
        }
        SendError::NoSuchPartition { partition, .. } => {
            Fault::of(&codes::UNKNOWN_PARTITION, format_args!("{topic}[{partition}]"))
                .because(error)
        }
        SendError::Refused(error) => broker(error, topic),
        SendError::OutcomeUnknown { .. } => {
            Fault::of(&codes::OUTCOME_UNKNOWN, topic).because(error)
        }
        SendError::NotSent { .. } => Fault::of(&codes::TIMED_OUT, topic).because(error),
        _ => Fault::of(&codes::DISCONNECTED, topic).because(error),
    }
}

/// What was left when a producer was closed.
pub(super) fn unsent(error: &Unsent, topic: &str) -> Fault {
    send(&error.first, topic).because(error)
}

/// Why a consumer cannot go on.
pub(super) fn consume(error: &ConsumeError, subject: &str) -> Fault {
    match error {
        ConsumeError::OffsetOutOfRange { .. } => {
            Fault::of(&codes::OUT_OF_RANGE, subject).because(error)
        }
        ConsumeError::NoSuchPartition { topic, partition } => {
            Fault::of(&codes::UNKNOWN_PARTITION, format_args!("{topic}[{partition}]"))
        }
        ConsumeError::Fenced { group, .. } | ConsumeError::Group { group, .. } => {
            Fault::of(&codes::GROUP_REFUSED, group).because(error)
        }
        ConsumeError::Request(error) => request(error, subject),
        ConsumeError::Closed => Fault::of(&codes::DISCONNECTED, subject).because(error),
        _ => Fault::of(&codes::REFUSED, subject).because(error),
    }
}

/// Why a position was not stored.
pub(super) fn commit(error: &CommitError, group: &str) -> Fault {
    match error {
        CommitError::Request(error) => request(error, group),
        _ => Fault::of(&codes::GROUP_REFUSED, group).because(error),
    }
}

/// Why an administrative call about a topic failed.
pub(super) fn topic(error: &AdminError, topic: &str) -> Fault {
    match error {
        // The client names a partition like that.
        AdminError::NotFound { name } if name.ends_with(']') => {
            Fault::of(&codes::UNKNOWN_PARTITION, name)
        }
        AdminError::NotFound { name } => Fault::of(&codes::UNKNOWN_TOPIC, name),
        error => admin(error, topic),
    }
}

/// Why an administrative call about a group failed.
pub(super) fn group(error: &AdminError, group: &str) -> Fault {
    match error {
        AdminError::NotFound { name } => Fault::of(&codes::UNKNOWN_GROUP, name),
        error => admin(error, group),
    }
}

/// Why nothing becomes of a node.
///
/// - `replaces`: whether it was to be replaced, which a node that is alive is not.
pub(super) fn node(error: &AdminError, id: i32, replaces: bool) -> Fault {
    let subject = format!("node {id}");
    let code = match error.code() {
        _ if matches!(error, AdminError::NotFound { .. }) => &codes::UNKNOWN_NODE,
        Some(ErrorCode::DUPLICATE_BROKER_REGISTRATION) if replaces => &codes::NODE_ALIVE,
        Some(ErrorCode::DUPLICATE_BROKER_REGISTRATION) => &codes::NODE_EXISTS,
        Some(ErrorCode::INELIGIBLE_REPLICA) => &codes::NODE_NEEDED,
        _ => return admin(error, &subject),
    };
    let fault = Fault::of(code, &subject);
    match error {
        AdminError::Request(RequestError::Broker(error)) => fault.because(&error.message),
        _ => fault,
    }
}

/// Why an administrative call failed that names nothing that could be missing.
pub(super) fn admin(error: &AdminError, subject: &str) -> Fault {
    match error {
        AdminError::Refused { name, error } => broker(error, name),
        AdminError::Request(error) => request(error, subject),
        _ => Fault::of(&codes::REFUSED, subject).because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    fn answered(code: ErrorCode, message: &str) -> Fault {
        broker(&BrokerError::of_code(code, message), "orders")
    }

    #[test]
    fn a_broker_that_does_not_answer_is_unreachable() {
        let (address, reason) = ("127.0.0.1:1".to_owned(), "no answer".to_owned());
        let fault = connect(&ConnectError::Unreachable { address, reason });
        assert_eq!(fault.exit, Exit::Unreachable);
        let expected = "error[E0101]: 127.0.0.1:1: no broker answers\n  cause  no answer\n";
        assert!(fault.report().starts_with(expected), "{}", fault.report());
    }

    #[test]
    fn a_wrong_certificate_is_refused_and_a_wrong_address_is_usage() {
        let address = || "127.0.0.1:1".to_owned();
        let reason = || "bad".to_owned();
        let exit = |error: ConnectError| connect(&error).exit;
        assert_eq!(
            exit(ConnectError::Refused { address: address(), reason: reason() }),
            Exit::Refused
        );
        assert_eq!(exit(ConnectError::NoTrust { address: address() }), Exit::Refused);
        assert_eq!(
            exit(ConnectError::Address { address: address(), reason: reason() }),
            Exit::Usage
        );
    }

    #[test]
    fn each_exit_code_has_its_answers() {
        let exit = |code| answered(code, "").exit;
        assert_eq!(exit(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), Exit::NotFoundOrHeld);
        assert_eq!(exit(ErrorCode::TOPIC_ALREADY_EXISTS), Exit::Refused);
        assert_eq!(exit(ErrorCode::REQUEST_TIMED_OUT), Exit::TimedOut);
        assert_eq!(exit(ErrorCode::KAFKA_STORAGE_ERROR), Exit::Failed);
        assert_eq!(exit(ErrorCode::UNKNOWN_SERVER_ERROR), Exit::Refused);
    }

    #[test]
    fn the_cause_is_what_the_broker_said() {
        let said = answered(ErrorCode::INVALID_CONFIG, "retention.ms: must be a number");
        assert!(said.report().contains("cause  retention.ms: must be a number\n"));
        let silent = answered(ErrorCode::INVALID_CONFIG, "");
        assert!(silent.report().contains("cause  the broker answers INVALID_CONFIG"));
    }

    #[test]
    fn a_write_that_nobody_can_tell_of_is_not_called_failed() {
        let fault = send(&SendError::OutcomeUnknown { reason: "late".to_owned() }, "orders");
        assert_eq!(fault.exit, Exit::TimedOut);
        assert!(fault.report().starts_with("error[E1007]: orders: the record may or may not"));
    }
}
