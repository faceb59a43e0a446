//! The table of APIs, one line each, and what follows from it.
//!
//! ```text
//!   heartbeat.rs …   one description per API: key, versions, request, response   (`notation`)
//!        │
//!     apis! { … }    the table: ApiKey, Request, Response, the advertised ranges, dispatch
//! ```
//!
//! Invariants
//! - What is advertised is what the table holds; nothing else has a number (K4 of the
//!   compatibility rules: advertise only what is implemented).
//! - An API's name occurs in its own file and here, nowhere else in this crate.
//!
//! Absent on purpose: handlers, and APIs that only brokers of Kafka's own send each other.

use super::notation::api;
use crate::wire::error::{DecodeError, EncodeError};
use crate::wire::reader::Reader;
use crate::wire::value::{At, Wire};
use crate::wire::writer::Chain;
use std::fmt;

// Hand-written in part, so listed where the formatter sees them.
pub mod fetch;
pub mod produce;

/// What is fixed about one API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ApiInfo {
    /// Kafka's number of it.
    pub key: i16,
    /// Kafka's name of it.
    pub name: &'static str,
    /// Lowest version that is advertised.
    pub version_min: i16,
    /// Highest version that is advertised and served.
    pub version_max: i16,
    /// Lowest version that is served; above `version_min` where clients need to see versions
    /// that nobody may use.
    pub served_min: i16,
    /// First version with compact lengths and tagged fields; `i16::MAX` for never.
    pub flexible_since: i16,
    /// Whether unknown versions are answered, and answers always have header version 0: the one
    /// API with which a client finds out what it may send (KIP-511).
    pub negotiates: bool,
}

impl ApiInfo {
    /// An API of version 0 only, never flexible.
    #[must_use]
    pub const fn new(key: i16, name: &'static str) -> Self {
        Self {
            key,
            name,
            version_min: 0,
            version_max: 0,
            served_min: 0,
            flexible_since: i16::MAX,
            negotiates: false,
        }
    }

    /// Advertises and serves `min` to `max`.
    #[must_use]
    pub const fn versions(mut self, min: i16, max: i16) -> Self {
        self.version_min = min;
        self.served_min = min;
        self.version_max = max;
        self
    }

    /// Serves only from `min` on what is advertised.
    #[must_use]
    pub const fn served(mut self, min: i16) -> Self {
        self.served_min = min;
        self
    }

    /// Flexible from version `since` on.
    #[must_use]
    pub const fn flexible(mut self, since: i16) -> Self {
        self.flexible_since = since;
        self
    }

    /// Is the API with which versions are negotiated.
    #[must_use]
    pub const fn negotiates(mut self) -> Self {
        self.negotiates = true;
        self
    }

    /// Whether clients are told that they may send this version.
    #[must_use]
    pub const fn advertises(&self, version: i16) -> bool {
        self.version_min <= version && version <= self.version_max
    }

    /// Whether this version is decoded and answered.
    #[must_use]
    pub const fn serves(&self, version: i16) -> bool {
        self.served_min <= version && version <= self.version_max
    }

    /// The form of a body of this version.
    #[must_use]
    pub const fn at(&self, version: i16) -> At {
        At { version, flexible: version >= self.flexible_since }
    }

    /// Version of the header in front of a request: 1 carries a client id, 2 tagged fields too.
    #[must_use]
    pub const fn request_header_version(&self, version: i16) -> i16 {
        if version >= self.flexible_since { 2 } else { 1 }
    }

    /// Version of the header in front of an answer: 1 carries tagged fields (KIP-482).
    #[must_use]
    pub const fn response_header_version(&self, version: i16) -> i16 {
        if version >= self.flexible_since && !self.negotiates { 1 } else { 0 }
    }
}

/// One API: its facts and its messages.
pub trait Api {
    /// What is fixed about it.
    const INFO: ApiInfo;
    /// What a request is decoded into.
    type Request: Decode;
    /// A request as a plain type, for those who send one.
    type PlainRequest: Message;
    /// The answer.
    type Response: Message;
}

/// What a request's body is decoded into.
pub trait Decode: Sized {
    /// Decodes a body.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes.
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError>;
}

impl<T: Wire> Decode for T {
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        T::read(reader)
    }
}

/// A request or an answer that can be written and read at every version of its API.
pub trait Message: Wire + Default {
    /// The API that it belongs to.
    const INFO: &'static ApiInfo;
}

/// Makes everything that names all APIs out of one line per API. A line is `module: Api` for an
/// API that is described in full, whose module is declared here too.
macro_rules! apis {
    (
        by hand { $($hand:ident: $by_hand:ident,)* }
        described { $($module:ident: $described:ident,)* }
    ) => {
        $(pub mod $module;)*

        apis! { @all $($hand: $by_hand,)* $($module: $described,)* }
    };
    (@all $($module:ident: $api:ident,)*) => {
        /// An API of the table.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(i16)]
        pub enum ApiKey {
            $(
                #[doc = concat!("[`", stringify!($module), "`].")]
                $api = <$module::$api as Api>::INFO.key,
            )*
        }

        impl ApiKey {
            /// Every API of the table.
            pub const ALL: &'static [Self] = &[$(Self::$api),*];

            /// The API with this number, or `None` if the table lacks it.
            #[must_use]
            pub const fn from_number(number: i16) -> Option<Self> {
                $(
                    if number == <$module::$api as Api>::INFO.key {
                        return Some(Self::$api);
                    }
                )*
                None
            }

            /// What is fixed about the API.
            #[must_use]
            pub const fn info(self) -> &'static ApiInfo {
                match self {
                    $(Self::$api => &<$module::$api as Api>::INFO,)*
                }
            }
        }

        /// A decoded request.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(clippy::large_enum_variant, reason = "moved once, and most are of one size")]
        pub enum Request {
            $(
                #[doc = concat!("[`", stringify!($module), "`].")]
                $api(<$module::$api as Api>::Request),
            )*
        }

        impl Request {
            /// The API that the request is for.
            #[must_use]
            pub const fn api(&self) -> ApiKey {
                match self {
                    $(Self::$api(_) => ApiKey::$api,)*
                }
            }

            /// Decodes a body. The reader stands behind the header.
            pub(crate) fn decode(api: ApiKey, reader: &mut Reader) -> Result<Self, DecodeError> {
                match api {
                    $(ApiKey::$api => Decode::decode(reader).map(Self::$api),)*
                }
            }
        }

        /// An answer to be encoded.
        #[derive(Clone, PartialEq, Eq, Debug)]
        #[allow(clippy::large_enum_variant, reason = "moved once, and most are of one size")]
        pub enum Response {
            $(
                #[doc = concat!("[`", stringify!($module), "`].")]
                $api(<$module::$api as Api>::Response),
            )*
        }

        impl Response {
            /// The API that the answer is for.
            #[must_use]
            pub const fn api(&self) -> ApiKey {
                match self {
                    $(Self::$api(_) => ApiKey::$api,)*
                }
            }

            /// Encodes the answer as a whole frame: length, header, body.
            ///
            /// - `version`: of the request that is answered.
            ///
            /// # Errors
            /// A value that this version cannot say; see [`EncodeError`].
            pub fn encode(
                &self,
                version: i16,
                correlation_id: i32,
            ) -> Result<Chain, EncodeError> {
                match self {
                    $(Self::$api(response) => {
                        super::header::encode_response(response, version, correlation_id)
                    })*
                }
            }
        }

        #[cfg(test)]
        pub(crate) fn visit_all(visitor: &mut impl super::tests::Visitor) {
            $(visitor.visit::<$module::$api>();)*
        }
    };
}

apis! {
    by hand {
        produce: Produce,
        fetch: Fetch,
    }
    described {
        list_offsets: ListOffsets,
        metadata: Metadata,
        offset_commit: OffsetCommit,
        offset_fetch: OffsetFetch,
        find_coordinator: FindCoordinator,
        join_group: JoinGroup,
        heartbeat: Heartbeat,
        leave_group: LeaveGroup,
        sync_group: SyncGroup,
        api_versions: ApiVersions,
        create_topics: CreateTopics,
        delete_topics: DeleteTopics,
        init_producer_id: InitProducerId,
        offset_for_leader_epoch: OffsetForLeaderEpoch,
        describe_configs: DescribeConfigs,
        elect_leaders: ElectLeaders,
        alter_partition_reassignments: AlterPartitionReassignments,
        list_partition_reassignments: ListPartitionReassignments,
        describe_cluster: DescribeCluster,
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}
