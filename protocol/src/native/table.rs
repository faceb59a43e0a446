//! The table of messages, one line each, and what follows from it.
//!
//! Invariants
//! - A kind has one meaning at all versions; a message that changes its meaning gets a new kind.
//! - What the table does not hold is answered by an error and disturbs nothing.
//!
//! Absent on purpose: what a request means.

use super::frame::{self, Frame, Kind};
use super::{StreamRole, admin, cluster, groups, nodes, records, session};
use crate::wire::error::{DecodeError, EncodeError};
use crate::wire::{Chain, Wire};

/// A request that has an answer of its own.
pub trait Call: Wire + Into<Request> {
    /// Its kind.
    const KIND: Kind;
    /// The streams on which it may come.
    const ROLE: StreamRole;
    /// Its answer.
    type Answer: Wire;
}

/// Why a frame is no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessageError {
    /// A kind that the table lacks.
    #[error("kind {kind} is not known to this version")]
    UnknownKind {
        /// What was there.
        kind: Kind,
    },
    /// The body.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

macro_rules! messages {
    (
        calls { $($call_kind:literal $call:ident($request:ty) -> $answer:ident($response:ty)
            on $role:ident,)* }
        signals { $($signal_kind:literal $signal:ident($signalled:ty) on $signal_role:ident,)* }
        pushes { $($push_kind:literal $push:ident($pushed:ty),)* }
    ) => {
        /// What a client says.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(clippy::large_enum_variant, reason = "moved once, and most are of one size")]
        pub enum Request {
            $(
                #[doc = concat!("[`", stringify!($request), "`].")]
                $call($request),
            )*
            $(
                #[doc = concat!("[`", stringify!($signalled), "`]; it has no answer.")]
                $signal($signalled),
            )*
        }

        impl Request {
            /// Every kind of the table with its name and the streams on which it may come.
            pub const ALL: &'static [(Kind, &'static str, StreamRole)] = &[
                $((Kind($call_kind), stringify!($call), StreamRole::$role),)*
                $((Kind($signal_kind), stringify!($signal), StreamRole::$signal_role),)*
            ];

            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$call(_) => Kind($call_kind),)*
                    $(Self::$signal(_) => Kind($signal_kind),)*
                }
            }

            /// The streams on which it may come.
            #[must_use]
            pub const fn role(&self) -> StreamRole {
                match self {
                    $(Self::$call(_) => StreamRole::$role,)*
                    $(Self::$signal(_) => StreamRole::$signal_role,)*
                }
            }

            /// Its name, as in this enum.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Self::$call(_) => stringify!($call),)*
                    $(Self::$signal(_) => stringify!($signal),)*
                }
            }

            /// Encodes it as a whole frame.
            ///
            /// # Errors
            /// A value that the version cannot say.
            pub fn encode(&self, correlation: u32, version: i16) -> Result<Chain, EncodeError> {
                let kind = self.kind();
                match self {
                    $(Self::$call(body) => frame::encode(kind, correlation, version, body),)*
                    $(Self::$signal(body) => frame::encode(kind, correlation, version, body),)*
                }
            }

            /// Decodes a frame of a client, with the memory that decoded values take beyond the
            /// frame, in bytes.
            ///
            /// # Errors
            /// [`MessageError`]; the stream is not out of step.
            pub fn decode(frame: Frame, version: i16) -> Result<(Self, usize), MessageError> {
                match frame.kind.0 {
                    $($call_kind => {
                        let (body, memory) = frame::decode_charged(frame.body, version)?;
                        Ok((Self::$call(body), memory))
                    })*
                    $($signal_kind => {
                        let (body, memory) = frame::decode_charged(frame.body, version)?;
                        Ok((Self::$signal(body), memory))
                    })*
                    _ => Err(MessageError::UnknownKind { kind: frame.kind }),
                }
            }
        }

        $(
            impl Call for $request {
                const KIND: Kind = Kind($call_kind);
                const ROLE: StreamRole = StreamRole::$role;
                type Answer = $response;
            }

            impl From<$request> for Request {
                fn from(request: $request) -> Self {
                    Self::$call(request)
                }
            }
        )*

        $(
            impl From<$signalled> for Request {
                fn from(signal: $signalled) -> Self {
                    Self::$signal(signal)
                }
            }
        )*

        /// What a broker says.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(clippy::large_enum_variant, reason = "moved once, and most are of one size")]
        pub enum Reply {
            $(
                #[doc = concat!("Answers [`", stringify!($request), "`].")]
                $answer($response),
            )*
            $(
                #[doc = concat!("Pushed: [`", stringify!($pushed), "`].")]
                $push($pushed),
            )*
            /// Answers any request that failed as a whole.
            Error(session::ErrorReply),
        }

        impl Reply {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self {
                    $(Self::$answer(_) => Kind($call_kind).answer(),)*
                    $(Self::$push(_) => Kind($push_kind),)*
                    Self::Error(_) => Kind::ERROR,
                }
            }

            /// Encodes it as a whole frame; record batches are lent.
            ///
            /// # Errors
            /// A value that the version cannot say.
            pub fn encode(&self, correlation: u32, version: i16) -> Result<Chain, EncodeError> {
                let kind = self.kind();
                match self {
                    $(Self::$answer(body) => frame::encode(kind, correlation, version, body),)*
                    $(Self::$push(body) => frame::encode(kind, correlation, version, body),)*
                    Self::Error(body) => frame::encode(kind, correlation, version, body),
                }
            }

            /// Decodes a frame of a broker.
            ///
            /// # Errors
            /// [`MessageError`]; the stream is not out of step.
            pub fn decode(frame: Frame, version: i16) -> Result<Self, MessageError> {
                $(
                    if frame.kind == Kind($call_kind).answer() {
                        return Ok(Self::$answer(frame::decode(frame.body, version)?));
                    }
                )*
                $(
                    if frame.kind == Kind($push_kind) {
                        return Ok(Self::$push(frame::decode(frame.body, version)?));
                    }
                )*
                if frame.kind == Kind::ERROR {
                    return Ok(Self::Error(frame::decode(frame.body, version)?));
                }
                Err(MessageError::UnknownKind { kind: frame.kind })
            }
        }

        $(
            impl From<$response> for Reply {
                fn from(response: $response) -> Self {
                    Self::$answer(response)
                }
            }
        )*

        #[cfg(test)]
        pub(super) fn visit_all(visitor: &mut impl super::tests::Visitor) {
            $(visitor.visit::<$request>(stringify!($request), Kind($call_kind));)*
            $(visitor.visit::<$response>(stringify!($response), Kind($call_kind).answer());)*
            $(visitor.visit::<$signalled>(stringify!($signalled), Kind($signal_kind));)*
            $(visitor.visit::<$pushed>(stringify!($pushed), Kind($push_kind));)*
            visitor.visit::<session::ErrorReply>("session::ErrorReply", Kind::ERROR);
        }
    };
}

messages! {
    calls {
        0x0001 Hello(session::Hello) -> Welcome(session::Welcome) on Control,
        0x0002 OpenStream(session::OpenStream) -> StreamOpened(session::StreamOpened) on Any,
        0x0010 Metadata(cluster::MetadataRequest) -> Metadata(cluster::MetadataResponse)
            on Control,
        0x0012 ProducerId(cluster::ProducerIdRequest) -> ProducerId(cluster::ProducerIdResponse)
            on Control,
        0x0013 Status(cluster::StatusRequest) -> Status(cluster::StatusResponse) on Control,
        0x0020 Produce(records::ProduceRequest) -> Produce(records::ProduceResponse) on Data,
        0x0030 Fetch(records::FetchRequest) -> Fetch(records::FetchResponse) on Bulk,
        0x0031 Subscribe(records::SubscribeRequest) -> Subscribe(records::SubscribeResponse)
            on Bulk,
        0x0034 FindOffsets(records::FindOffsetsRequest)
            -> FindOffsets(records::FindOffsetsResponse) on Control,
        0x0040 Coordinator(groups::CoordinatorRequest)
            -> Coordinator(groups::CoordinatorResponse) on Control,
        0x0041 Join(groups::JoinRequest) -> Join(groups::JoinResponse) on Control,
        0x0042 Sync(groups::SyncRequest) -> Sync(groups::SyncResponse) on Control,
        0x0043 Heartbeat(groups::HeartbeatRequest) -> Heartbeat(groups::HeartbeatResponse)
            on Control,
        0x0044 Leave(groups::LeaveRequest) -> Leave(groups::LeaveResponse) on Control,
        0x0045 Commit(groups::CommitRequest) -> Commit(groups::CommitResponse) on Control,
        0x0046 Committed(groups::CommittedRequest) -> Committed(groups::CommittedResponse)
            on Control,
        0x0047 ListGroups(groups::ListGroupsRequest) -> ListGroups(groups::ListGroupsResponse)
            on Control,
        0x0048 DescribeGroups(groups::DescribeGroupsRequest)
            -> DescribeGroups(groups::DescribeGroupsResponse) on Control,
        0x0049 DeleteGroups(groups::DeleteGroupsRequest)
            -> DeleteGroups(groups::DeleteGroupsResponse) on Control,
        0x0060 CreateTopics(admin::CreateTopicsRequest)
            -> CreateTopics(admin::CreateTopicsResponse) on Control,
        0x0061 DeleteTopics(admin::DeleteTopicsRequest)
            -> DeleteTopics(admin::DeleteTopicsResponse) on Control,
        0x0062 AlterTopic(admin::AlterTopicRequest) -> AlterTopic(admin::AlterTopicResponse)
            on Control,
        0x0063 DescribeTopic(admin::DescribeTopicRequest)
            -> DescribeTopic(admin::DescribeTopicResponse) on Control,
        0x0070 ListNodes(nodes::ListNodesRequest) -> ListNodes(nodes::ListNodesResponse)
            on Control,
        0x0071 PermitNode(nodes::PermitNodeRequest) -> PermitNode(nodes::PermitNodeResponse)
            on Control,
        0x0072 SetStanding(nodes::SetStandingRequest) -> SetStanding(nodes::SetStandingResponse)
            on Control,
        0x0073 ReassignPartitions(nodes::ReassignPartitionsRequest)
            -> ReassignPartitions(nodes::ReassignPartitionsResponse) on Control,
        0x0074 ListReassignments(nodes::ListReassignmentsRequest)
            -> ListReassignments(nodes::ListReassignmentsResponse) on Control,
    }
    signals {
        0x0011 Watch(cluster::WatchRequest) on Control,
        0x0014 Unwatch(cluster::UnwatchRequest) on Control,
        0x0032 Credit(records::Credit) on Bulk,
        0x0033 Unsubscribe(records::Unsubscribe) on Bulk,
    }
    pushes {
        0x4001 GoAway(session::GoAway),
        0x4011 ClusterChanged(cluster::ClusterChanged),
        0x4031 Records(records::Records),
        0x4032 SubscriptionEnded(records::SubscriptionEnded),
    }
}
