//! Why an operation is refused: one enum per operation, one Kafka error code per variant.
//!
//! Each variant's documentation names its code, so that a door's exhaustive match can be checked
//! by reading.
//!
//! Absent on purpose: wire codes as numbers (doors map them), and errors that only an operator
//! can act on (those are [`super::CommandError`] and [`super::SnapshotError`]).

use super::Name;

/// The coordinator itself cannot answer, whatever was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// NOT_COORDINATOR (16): another replica leads this group's partition.
    #[error("not the coordinator of this group")]
    NotCoordinator,
    /// COORDINATOR_LOAD_IN_PROGRESS (14): this replica was elected and still applies the log.
    #[error("the coordinator is still loading this group's partition")]
    LoadInProgress,
    /// COORDINATOR_NOT_AVAILABLE (15): quarantined, or too many requests wait already.
    #[error("the coordinator of this group is not available")]
    NotAvailable,
}

macro_rules! operation_error {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_meta:meta])*
        $variant:ident $({ $($(#[$field_doc:meta])* $field:ident: $kind:ty),+ $(,)? })?,)* }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
        pub enum $name {
            /// The coordinator cannot answer at all.
            #[error(transparent)]
            Coordinator(#[from] CoordinatorError),
            /// INVALID_GROUP_ID (24).
            #[error("the group id is empty or longer than {} bytes", super::NAME_BYTES_MAX)]
            InvalidGroupId,
            $($(#[$variant_meta])*
            $variant $({ $($(#[$field_doc])* $field: $kind),+ })?,)*
        }
    };
}

operation_error! {
    /// Why a JoinGroup is refused.
    JoinGroupError {
        /// MEMBER_ID_REQUIRED (79): join again with this id (KIP-394).
        #[error("join again as member {member_id}")]
        MemberIdRequired {
            /// The id to use. It lapses after the session timeout.
            member_id: Name,
        },
        /// UNKNOWN_MEMBER_ID (25).
        #[error("the group does not know this member")]
        UnknownMemberId,
        /// INCONSISTENT_GROUP_PROTOCOL (23).
        #[error("no protocol in common with the group, or another protocol type")]
        InconsistentGroupProtocol,
        /// INVALID_SESSION_TIMEOUT (26).
        #[error("session timeout of {found_ms} ms outside {min_ms} to {max_ms} ms")]
        InvalidSessionTimeout {
            /// What the member asked for, in milliseconds.
            found_ms: i64,
            /// Smallest allowed, in milliseconds.
            min_ms: u64,
            /// Largest allowed, in milliseconds.
            max_ms: u64,
        },
        /// FENCED_INSTANCE_ID (82): another member took over this instance id.
        #[error("another member took over this group instance id")]
        FencedInstanceId,
        /// GROUP_MAX_SIZE_REACHED (81): members, pending members, groups or metadata bytes.
        #[error("{what}: {found} found, at most {max}")]
        GroupMaxSizeReached {
            /// What there is too much of.
            what: &'static str,
            /// How many there would be.
            found: usize,
            /// The limit.
            max: usize,
        },
        /// INVALID_REQUEST (42): a client id, host, instance id or protocol that is too long.
        #[error("{what}: {found} found, at most {max}")]
        InvalidRequest {
            /// What is too long or too much.
            what: &'static str,
            /// How long it is.
            found: usize,
            /// The limit.
            max: usize,
        },
        /// REBALANCE_IN_PROGRESS (27): a later JoinGroup of the same member replaced this one.
        #[error("a later request of the same member replaced this one")]
        RebalanceInProgress,
    }
}

operation_error! {
    /// Why a SyncGroup is refused.
    SyncGroupError {
        /// UNKNOWN_MEMBER_ID (25).
        #[error("the group does not know this member")]
        UnknownMemberId,
        /// ILLEGAL_GENERATION (22).
        #[error("generation {found} is not the group's")]
        IllegalGeneration {
            /// The generation in the request.
            found: i32,
        },
        /// INCONSISTENT_GROUP_PROTOCOL (23).
        #[error("the protocol type or name is not the group's")]
        InconsistentGroupProtocol,
        /// FENCED_INSTANCE_ID (82).
        #[error("another member took over this group instance id")]
        FencedInstanceId,
        /// REBALANCE_IN_PROGRESS (27): join again.
        #[error("the group rebalances: join again")]
        RebalanceInProgress,
        /// MESSAGE_TOO_LARGE (10): the assignments do not fit one command.
        #[error("assignments of {found} bytes, at most {max}")]
        MessageTooLarge {
            /// Bytes of all assignments.
            found: usize,
            /// The limit in bytes.
            max: usize,
        },
    }
}

operation_error! {
    /// Why a Heartbeat is refused.
    HeartbeatError {
        /// UNKNOWN_MEMBER_ID (25).
        #[error("the group does not know this member")]
        UnknownMemberId,
        /// ILLEGAL_GENERATION (22).
        #[error("generation {found} is not the group's")]
        IllegalGeneration {
            /// The generation in the request.
            found: i32,
        },
        /// FENCED_INSTANCE_ID (82).
        #[error("another member took over this group instance id")]
        FencedInstanceId,
        /// REBALANCE_IN_PROGRESS (27): join again. Only while members are being gathered.
        #[error("the group rebalances: join again")]
        RebalanceInProgress,
    }
}

operation_error! {
    /// Why a whole LeaveGroup is refused.
    LeaveGroupError {}
}

/// Why one member of a LeaveGroup could not leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeaveMemberError {
    /// UNKNOWN_MEMBER_ID (25).
    #[error("the group does not know this member")]
    UnknownMemberId,
    /// FENCED_INSTANCE_ID (82).
    #[error("another member took over this group instance id")]
    FencedInstanceId,
}

operation_error! {
    /// Why a whole OffsetCommit is refused; the door repeats the code for every partition.
    OffsetCommitError {
        /// UNKNOWN_MEMBER_ID (25), also for a commit without member while the group has some.
        #[error("the group does not know this member")]
        UnknownMemberId,
        /// ILLEGAL_GENERATION (22).
        #[error("generation {found} is not the group's")]
        IllegalGeneration {
            /// The generation in the request.
            found: i32,
        },
        /// FENCED_INSTANCE_ID (82).
        #[error("another member took over this group instance id")]
        FencedInstanceId,
        /// REBALANCE_IN_PROGRESS (27): the generation waits for its assignments.
        #[error("the generation still waits for its assignments")]
        RebalanceInProgress,
        /// ILLEGAL_GENERATION (22) before OffsetCommit v9, GROUP_ID_NOT_FOUND (69) from v9 on.
        #[error("a commit of generation {found} to a group that does not exist")]
        GroupIdNotFound {
            /// The generation in the request.
            found: i32,
        },
        /// INVALID_COMMIT_OFFSET_SIZE (28): the request, the group or the partition is full.
        #[error("{what}: {found} found, at most {max}")]
        InvalidCommitOffsetSize {
            /// What there is too much of.
            what: &'static str,
            /// How much there would be.
            found: usize,
            /// The limit.
            max: usize,
        },
    }
}

/// Why a group is not described.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DescribeGroupError {
    /// The coordinator cannot answer at all.
    #[error(transparent)]
    Coordinator(#[from] CoordinatorError),
    /// GROUP_ID_NOT_FOUND (69).
    #[error("there is no such group")]
    GroupIdNotFound,
}

/// Why one partition of an OffsetCommit is refused while others go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OffsetPartitionError {
    /// OFFSET_METADATA_TOO_LARGE (12).
    #[error("offset metadata of {found} bytes, at most {max}")]
    OffsetMetadataTooLarge {
        /// Bytes of the metadata.
        found: usize,
        /// The limit in bytes.
        max: usize,
    },
}

operation_error! {
    /// Why a whole OffsetFetch is refused.
    OffsetFetchError {
        /// UNSTABLE_OFFSET_COMMIT (88). Cannot happen before there are transactions.
        #[error("a transaction still decides about these offsets")]
        UnstableOffsetCommit,
    }
}

operation_error! {
    /// Why a group is not deleted.
    DeleteGroupError {
        /// NON_EMPTY_GROUP (68).
        #[error("the group has members")]
        NonEmptyGroup,
        /// GROUP_ID_NOT_FOUND (69).
        #[error("there is no such group")]
        GroupIdNotFound,
    }
}
