//! What can go wrong, one enum per operation, and the words that all of them share.
//!
//! ```text
//!   ConnectError ──> RequestError ──> SendError, ConsumeError, CommitError, AdminError ──> Error
//! ```
//!
//! Every error says three things beside its text: its [`ErrorKind`], whether the same call may
//! succeed later (`is_retryable`), and whether a write may have happened (`possibly_written`).
//!
//! Invariant: what may be in the log is never called failed. [`SendError::OutcomeUnknown`] says
//! that a record is written or is not, and that nobody can tell from here.
//!
//! Absent on purpose: sources that cannot be cloned. One outcome is told to every record of its
//! batch.

mod operations;

pub use operations::{AdminError, CommitError, ConsumeError, SendError, Unsent};

use bateau_protocol::native::ErrorReply;
use bateau_protocol::wire::ErrorCode;
use thiserror::Error;

/// A result whose error may be of any operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of trouble it is: enough to decide what to do, and a program's exit code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No broker could be reached, or the connection broke.
    Unreachable,
    /// The deadline came first.
    TimedOut,
    /// The topic, partition or group does not exist.
    NotFound,
    /// It exists already, or somebody holds it.
    Conflict,
    /// The broker understood, and will not do it.
    Refused,
    /// The caller asked for something that cannot be: a bad name, address or option.
    Invalid,
    /// A limit of this client: its buffer is full.
    Full,
    /// Another producer or member has taken this one's place.
    Fenced,
    /// The offset is not in the log.
    OutOfRange,
    /// Bytes that are not what they should be.
    Corrupt,
    /// The client, producer or consumer has been closed.
    Closed,
}

/// An error that a broker answered.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{code}: {message}")]
#[non_exhaustive]
pub struct BrokerError {
    /// Kafka's number where Kafka has one.
    pub code: ErrorCode,
    /// The broker's sentence.
    pub message: String,
    /// Whether the broker says that the same request may succeed later.
    pub is_retryable: bool,
    /// Whether the broker says that a batch may be in the log all the same.
    pub possibly_written: bool,
    /// Where the log starts, with OFFSET_OUT_OF_RANGE.
    pub log_start: Option<i64>,
    /// The first offset that is not committed, with OFFSET_OUT_OF_RANGE.
    pub high_watermark: Option<i64>,
    /// The member id, with MEMBER_ID_REQUIRED.
    pub member_id: Option<String>,
}

impl BrokerError {
    /// An answer that carried a code and nothing else.
    #[must_use]
    pub fn of_code(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            is_retryable: code.is_retriable(),
            possibly_written: false,
            log_start: None,
            high_watermark: None,
            member_id: None,
        }
    }

    pub(crate) fn of_reply(reply: &ErrorReply) -> Self {
        let offset = |offset: i64| (offset >= 0).then_some(offset);
        let member_id = (!reply.member_id.is_empty()).then(|| reply.member_id.as_str().to_owned());
        Self {
            code: reply.code,
            message: reply.message.as_str().to_owned(),
            is_retryable: reply.is_retriable,
            possibly_written: reply.possibly_written,
            log_start: offset(reply.log_start),
            high_watermark: offset(reply.high_watermark),
            member_id,
        }
    }

    /// What kind of trouble the code means.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self.code {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::GROUP_ID_NOT_FOUND
            | ErrorCode::RESOURCE_NOT_FOUND => ErrorKind::NotFound,
            ErrorCode::TOPIC_ALREADY_EXISTS
            | ErrorCode::NON_EMPTY_GROUP
            | ErrorCode::DUPLICATE_RESOURCE => ErrorKind::Conflict,
            ErrorCode::REQUEST_TIMED_OUT => ErrorKind::TimedOut,
            ErrorCode::OFFSET_OUT_OF_RANGE => ErrorKind::OutOfRange,
            ErrorCode::CORRUPT_MESSAGE => ErrorKind::Corrupt,
            ErrorCode::PRODUCER_FENCED
            | ErrorCode::INVALID_PRODUCER_EPOCH
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID => ErrorKind::Fenced,
            ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::NOT_CONTROLLER
            | ErrorCode::GOING_AWAY => ErrorKind::Unreachable,
            ErrorCode::INVALID_TOPIC_EXCEPTION
            | ErrorCode::INVALID_PARTITIONS
            | ErrorCode::INVALID_REPLICATION_FACTOR
            | ErrorCode::INVALID_CONFIG
            | ErrorCode::INVALID_GROUP_ID
            | ErrorCode::INVALID_REQUEST => ErrorKind::Invalid,
            _ => ErrorKind::Refused,
        }
    }
}

/// Why no connection could be made.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address is none.
    #[error("the address `{address}` cannot be used: {reason}")]
    Address {
        /// As given.
        address: String,
        /// What was expected.
        reason: String,
    },
    /// Nothing says whom to trust at this address.
    #[error(
        "nothing says whom to trust at {address}: add `?pin=sha256:…` to the address, or name the \
         authority's certificates"
    )]
    NoTrust {
        /// Host and port.
        address: String,
    },
    /// The pin or the certificates cannot be used.
    #[error("the trust for {address} cannot be used: {reason}")]
    Trust {
        /// Host and port.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificate or the key that this client has to show cannot be used.
    #[error("{reason}")]
    Identity {
        /// The file, where there is one, and what is wrong.
        reason: String,
    },
    /// The broker demands another certificate of its clients than the one shown, or one at all.
    #[error("{address}: {reason}")]
    IdentityRefused {
        /// Host and port.
        address: String,
        /// What the broker wants.
        reason: String,
    },
    /// The name has no address.
    #[error("{host}: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
    },
    /// No UDP socket.
    #[error("no UDP socket: {reason}")]
    Socket {
        /// What the system said.
        reason: String,
    },
    /// The broker is not the one that was expected, or TLS failed otherwise.
    #[error("{address}: {reason}")]
    Refused {
        /// Host and port.
        address: String,
        /// In the words of TLS.
        reason: String,
    },
    /// The broker and this client have no version of the protocol in common, or the broker
    /// answered the greeting with an error.
    #[error("{address}: {error}")]
    Greeting {
        /// Host and port.
        address: String,
        /// What the broker said.
        error: BrokerError,
    },
    /// Nobody answered.
    #[error("{address}: {reason}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The broker has not answered several times in a row and is left alone for a moment.
    #[error("{address}: {reason}")]
    BreakerOpen {
        /// Host and port.
        address: String,
        /// How often, and until when.
        reason: String,
    },
    /// Nobody answered before the deadline.
    #[error("no connection within {after_ms} ms; the last attempt: {reason}")]
    TimedOut {
        /// How long it was tried.
        after_ms: u64,
        /// What the last attempt met.
        reason: String,
    },
    /// The client has been closed.
    #[error("the client has been closed")]
    Closed,
}

impl ConnectError {
    /// What kind of trouble it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Address { .. }
            | Self::NoTrust { .. }
            | Self::Trust { .. }
            | Self::Identity { .. } => ErrorKind::Invalid,
            Self::Resolve { .. }
            | Self::Socket { .. }
            | Self::Unreachable { .. }
            | Self::BreakerOpen { .. } => ErrorKind::Unreachable,
            Self::Refused { .. } | Self::IdentityRefused { .. } | Self::Greeting { .. } => {
                ErrorKind::Refused
            }
            Self::TimedOut { .. } => ErrorKind::Unreachable,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Socket { .. }
            | Self::Unreachable { .. }
            | Self::BreakerOpen { .. }
            | Self::TimedOut { .. } => true,
            Self::Greeting { error, .. } => error.is_retryable,
            _ => false,
        }
    }

    /// Never: nothing was sent.
    #[must_use]
    pub const fn possibly_written(&self) -> bool {
        false
    }
}

/// Why a request has no answer of its own.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The broker answered with an error.
    #[error(transparent)]
    Broker(Box<BrokerError>),
    /// No broker could be reached.
    #[error(transparent)]
    Connect(Box<ConnectError>),
    /// The connection ended before the answer came.
    #[error("the connection ended before the answer came: {reason}")]
    Lost {
        /// What happened.
        reason: String,
    },
    /// No answer before the deadline.
    #[error("{request}: no answer within {after_ms} ms{}", last_of(.last))]
    TimedOut {
        /// What was asked for.
        request: &'static str,
        /// How long it was waited for.
        after_ms: u64,
        /// What the last attempt met.
        last: Option<String>,
    },
    /// The broker said something that the protocol does not allow.
    #[error("the broker does not keep to the protocol: {reason}")]
    Protocol {
        /// What was found, and what was expected.
        reason: String,
    },
    /// The client has been closed.
    #[error("the client has been closed")]
    Closed,
}

fn last_of(last: &Option<String>) -> String {
    last.as_ref().map_or_else(String::new, |last| format!("; the last attempt: {last}"))
}

impl RequestError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Broker(error) => error.kind(),
            Self::Connect(error) => error.kind(),
            Self::Lost { .. } => ErrorKind::Unreachable,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Protocol { .. } => ErrorKind::Corrupt,
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Broker(error) => error.is_retryable,
            Self::Connect(error) => error.is_retryable(),
            Self::Lost { .. } | Self::TimedOut { .. } => true,
            Self::Protocol { .. } | Self::Closed => false,
        }
    }

    /// Whether what was asked for may have been done.
    #[must_use]
    pub fn possibly_written(&self) -> bool {
        match self {
            Self::Broker(error) => error.possibly_written,
            Self::Connect(_) | Self::Closed => false,
            Self::Lost { .. } | Self::TimedOut { .. } | Self::Protocol { .. } => true,
        }
    }

    /// The broker's code, where a broker answered.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker(error) => Some(error.code),
            _ => None,
        }
    }

    pub(crate) fn of_code(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Broker(Box::new(BrokerError::of_code(code, message)))
    }
}

impl From<ConnectError> for RequestError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Closed => Self::Closed,
            error => Self::Connect(Box::new(error)),
        }
    }
}

impl From<BrokerError> for RequestError {
    fn from(error: BrokerError) -> Self {
        Self::Broker(Box::new(error))
    }
}

/// Any error of this crate.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Of connecting.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Of a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Of sending a record.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Of flushing or closing.
    #[error(transparent)]
    Unsent(#[from] Unsent),
    /// Of consuming.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// Of committing.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Of administration.
    #[error(transparent)]
    Admin(#[from] AdminError),
}

macro_rules! forward {
    ($self:ident, $method:ident) => {
        match $self {
            Self::Connect(error) => error.$method(),
            Self::Request(error) => error.$method(),
            Self::Send(error) => error.$method(),
            Self::Unsent(error) => error.$method(),
            Self::Consume(error) => error.$method(),
            Self::Commit(error) => error.$method(),
            Self::Admin(error) => error.$method(),
        }
    };
}

impl Error {
    /// What kind of trouble it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        forward!(self, kind)
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        forward!(self, is_retryable)
    }

    /// Whether what was asked for may have been done.
    #[must_use]
    pub fn possibly_written(&self) -> bool {
        forward!(self, possibly_written)
    }
}
