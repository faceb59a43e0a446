//! Every error of ours and the code that it becomes, for the Kafka and the native door alike.
//!
//! No match here has a catch-all arm: a new error does not compile until it has its code.
//! Where a code depends on the request's version, the function takes it.
//!
//! Absent on purpose: texts. Errors speak for themselves.

use crate::admin::DescribeConfigsError;
use crate::api::ProduceRefused;
use crate::nodes::{ElectionError, ReplicationFactorError};
use crate::readers::FetchError;
use bateau_core::consumer_group::{
    CoordinatorError, DeleteGroupError, DescribeGroupError, HeartbeatError, JoinGroupError,
    LeaveGroupError, LeaveMemberError, OffsetCommitError, OffsetFetchError, OffsetPartitionError,
    SyncGroupError,
};
use bateau_core::controller::{
    AlterTopicConfigsError, AutoCreateTopicError, ControllerError, CreatePartitionsError,
    CreateTopicError, DeleteTopicError, NodeError, ReassignError,
};
use bateau_core::replica::{ProduceError, SequenceError};
use bateau_protocol::record::BatchError;
use bateau_protocol::wire::ErrorCode;

/// A partition that cannot be found or read.
pub fn fetch(error: &FetchError) -> ErrorCode {
    match error {
        FetchError::UnknownTopicOrPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        FetchError::UnknownTopicId => ErrorCode::UNKNOWN_TOPIC_ID,
        FetchError::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
        FetchError::FencedLeaderEpoch { .. } => ErrorCode::FENCED_LEADER_EPOCH,
        FetchError::UnknownLeaderEpoch { .. } => ErrorCode::UNKNOWN_LEADER_EPOCH,
        FetchError::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        FetchError::Storage(_) => ErrorCode::KAFKA_STORAGE_ERROR,
    }
}

/// A batch that was not acknowledged.
pub fn produce(error: &ProduceRefused) -> ErrorCode {
    match error {
        ProduceRefused::Partition(error) => fetch(error),
        ProduceRefused::Batch(error) => batch(error),
        // Not retriable: on a retriable code clients would try for ever.
        ProduceRefused::Transactional => ErrorCode::UNSUPPORTED_VERSION,
        ProduceRefused::Replica(error) => match error {
            ProduceError::NotLeader => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ProduceError::TimedOut => ErrorCode::REQUEST_TIMED_OUT,
            ProduceError::NotEnoughReplicasAfterAppend => {
                ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            }
            ProduceError::Sequence(SequenceError::Gap { .. }) => {
                ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
            }
            ProduceError::Sequence(SequenceError::Fenced { .. }) => {
                ErrorCode::INVALID_PRODUCER_EPOCH
            }
            ProduceError::NotEnoughReplicas { .. } => ErrorCode::NOT_ENOUGH_REPLICAS,
            ProduceError::Storage => ErrorCode::KAFKA_STORAGE_ERROR,
        },
    }
}

/// Bytes that are no batch, or none that may be appended.
pub fn batch(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::UnknownMagic { .. } | BatchError::Length { .. } | BatchError::Crc { .. } => {
            ErrorCode::CORRUPT_MESSAGE
        }
        BatchError::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        BatchError::UnknownCompression { .. } | BatchError::ZstdNotAllowed => {
            ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        }
        BatchError::ProducerEpoch { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
        BatchError::Timestamp { .. } | BatchError::TimestampType => ErrorCode::INVALID_TIMESTAMP,
        BatchError::Truncated { .. }
        | BatchError::NotOneBatch { .. }
        | BatchError::LegacyMagic { .. }
        | BatchError::BaseOffset { .. }
        | BatchError::RecordCount { .. }
        | BatchError::LastOffsetDelta { .. }
        | BatchError::Control
        | BatchError::Sequence { .. }
        | BatchError::KeyMissing { .. }
        | BatchError::Record(_) => ErrorCode::INVALID_RECORD,
    }
}

/// The controller, whatever was asked. `throttles`: the version knows that requests are throttled.
pub fn controller(error: &ControllerError, throttles: bool) -> ErrorCode {
    match error {
        ControllerError::NotController => ErrorCode::NOT_CONTROLLER,
        ControllerError::Unsettled => ErrorCode::REQUEST_TIMED_OUT,
        ControllerError::TimedOut { .. } => ErrorCode::REQUEST_TIMED_OUT,
        ControllerError::Busy if throttles => ErrorCode::THROTTLING_QUOTA_EXCEEDED,
        ControllerError::Busy => ErrorCode::REQUEST_TIMED_OUT,
    }
}

/// A topic that was not created.
pub fn create_topic(error: &CreateTopicError) -> ErrorCode {
    match error {
        CreateTopicError::InvalidName(_) | CreateTopicError::NameCollides { .. } => {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        }
        CreateTopicError::ReservedName { .. }
        | CreateTopicError::Duplicate
        | CreateTopicError::AssignmentAndCounts => ErrorCode::INVALID_REQUEST,
        CreateTopicError::AlreadyExists { .. } => ErrorCode::TOPIC_ALREADY_EXISTS,
        CreateTopicError::InvalidPartitions { .. } => ErrorCode::INVALID_PARTITIONS,
        CreateTopicError::InvalidReplicationFactor { .. } => ErrorCode::INVALID_REPLICATION_FACTOR,
        CreateTopicError::InvalidAssignment(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        CreateTopicError::InvalidConfig(_) => ErrorCode::INVALID_CONFIG,
        CreateTopicError::Limit(_) => ErrorCode::POLICY_VIOLATION,
        CreateTopicError::NoFreeId => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// A topic that was not created on first use.
pub fn auto_create_topic(error: &AutoCreateTopicError) -> ErrorCode {
    match error {
        AutoCreateTopicError::Disabled => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        AutoCreateTopicError::Refused(CreateTopicError::ReservedName { .. }) => {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        }
        AutoCreateTopicError::Refused(error) => create_topic(error),
    }
}

/// A topic that was not deleted.
pub fn delete_topic(error: &DeleteTopicError) -> ErrorCode {
    match error {
        DeleteTopicError::UnknownName => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        DeleteTopicError::UnknownId => ErrorCode::UNKNOWN_TOPIC_ID,
        DeleteTopicError::NotOneReference | DeleteTopicError::Duplicate => {
            ErrorCode::INVALID_REQUEST
        }
        DeleteTopicError::Limit(_) => ErrorCode::POLICY_VIOLATION,
    }
}

/// A coordinator that cannot answer at all.
pub fn coordinator(error: CoordinatorError) -> ErrorCode {
    match error {
        CoordinatorError::NotCoordinator => ErrorCode::NOT_COORDINATOR,
        CoordinatorError::LoadInProgress => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        CoordinatorError::NotAvailable => ErrorCode::COORDINATOR_NOT_AVAILABLE,
    }
}

/// A member that did not join.
pub fn join_group(error: &JoinGroupError) -> ErrorCode {
    match error {
        JoinGroupError::Coordinator(error) => coordinator(*error),
        JoinGroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        JoinGroupError::MemberIdRequired { .. } => ErrorCode::MEMBER_ID_REQUIRED,
        JoinGroupError::UnknownMemberId => ErrorCode::UNKNOWN_MEMBER_ID,
        JoinGroupError::InconsistentGroupProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        JoinGroupError::InvalidSessionTimeout { .. } => ErrorCode::INVALID_SESSION_TIMEOUT,
        JoinGroupError::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
        JoinGroupError::GroupMaxSizeReached { .. } => ErrorCode::GROUP_MAX_SIZE_REACHED,
        JoinGroupError::InvalidRequest { .. } => ErrorCode::INVALID_REQUEST,
        JoinGroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
    }
}

/// A member that got no assignment.
pub fn sync_group(error: &SyncGroupError) -> ErrorCode {
    match error {
        SyncGroupError::Coordinator(error) => coordinator(*error),
        SyncGroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        SyncGroupError::UnknownMemberId => ErrorCode::UNKNOWN_MEMBER_ID,
        SyncGroupError::IllegalGeneration { .. } => ErrorCode::ILLEGAL_GENERATION,
        SyncGroupError::InconsistentGroupProtocol => ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        SyncGroupError::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
        SyncGroupError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        SyncGroupError::MessageTooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
    }
}

/// A member that has to act.
pub fn heartbeat(error: &HeartbeatError) -> ErrorCode {
    match error {
        HeartbeatError::Coordinator(error) => coordinator(*error),
        HeartbeatError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        HeartbeatError::UnknownMemberId => ErrorCode::UNKNOWN_MEMBER_ID,
        HeartbeatError::IllegalGeneration { .. } => ErrorCode::ILLEGAL_GENERATION,
        HeartbeatError::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
        HeartbeatError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
    }
}

/// A group that nobody could leave.
pub fn leave_group(error: &LeaveGroupError) -> ErrorCode {
    match error {
        LeaveGroupError::Coordinator(error) => coordinator(*error),
        LeaveGroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
    }
}

/// A member that did not leave.
pub fn leave_member(error: LeaveMemberError) -> ErrorCode {
    match error {
        LeaveMemberError::UnknownMemberId => ErrorCode::UNKNOWN_MEMBER_ID,
        LeaveMemberError::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
    }
}

/// Positions that were not stored, in the words of an OffsetCommit of `version`.
pub fn offset_commit(error: &OffsetCommitError, version: i16) -> ErrorCode {
    match error {
        OffsetCommitError::Coordinator(error) => coordinator(*error),
        OffsetCommitError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        OffsetCommitError::UnknownMemberId => ErrorCode::UNKNOWN_MEMBER_ID,
        OffsetCommitError::IllegalGeneration { .. } => ErrorCode::ILLEGAL_GENERATION,
        OffsetCommitError::FencedInstanceId => ErrorCode::FENCED_INSTANCE_ID,
        OffsetCommitError::RebalanceInProgress => ErrorCode::REBALANCE_IN_PROGRESS,
        OffsetCommitError::GroupIdNotFound { .. } if version >= 9 => ErrorCode::GROUP_ID_NOT_FOUND,
        OffsetCommitError::GroupIdNotFound { .. } => ErrorCode::ILLEGAL_GENERATION,
        OffsetCommitError::InvalidCommitOffsetSize { .. } => ErrorCode::INVALID_COMMIT_OFFSET_SIZE,
    }
}

/// One position that was not stored.
pub fn offset_partition(error: OffsetPartitionError) -> ErrorCode {
    match error {
        OffsetPartitionError::OffsetMetadataTooLarge { .. } => ErrorCode::OFFSET_METADATA_TOO_LARGE,
    }
}

/// Positions that were not read.
pub fn offset_fetch(error: &OffsetFetchError) -> ErrorCode {
    match error {
        OffsetFetchError::Coordinator(error) => coordinator(*error),
        OffsetFetchError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        OffsetFetchError::UnstableOffsetCommit => ErrorCode::UNSTABLE_OFFSET_COMMIT,
    }
}

/// A group that is not described.
pub fn describe_group(error: &DescribeGroupError) -> ErrorCode {
    match error {
        DescribeGroupError::Coordinator(error) => coordinator(*error),
        DescribeGroupError::GroupIdNotFound => ErrorCode::GROUP_ID_NOT_FOUND,
    }
}

/// A group that is not deleted.
pub fn delete_group(error: &DeleteGroupError) -> ErrorCode {
    match error {
        DeleteGroupError::Coordinator(error) => coordinator(*error),
        DeleteGroupError::InvalidGroupId => ErrorCode::INVALID_GROUP_ID,
        DeleteGroupError::NonEmptyGroup => ErrorCode::NON_EMPTY_GROUP,
        DeleteGroupError::GroupIdNotFound => ErrorCode::GROUP_ID_NOT_FOUND,
    }
}

/// Configs of a topic that are not changed.
pub fn alter_topic_configs(error: &AlterTopicConfigsError) -> ErrorCode {
    match error {
        AlterTopicConfigsError::UnknownTopic => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        AlterTopicConfigsError::InvalidConfig(_) => ErrorCode::INVALID_CONFIG,
    }
}

/// A topic that gets no more partitions.
pub fn create_partitions(error: &CreatePartitionsError) -> ErrorCode {
    match error {
        CreatePartitionsError::UnknownTopic => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        CreatePartitionsError::NotMore { .. } => ErrorCode::INVALID_PARTITIONS,
        CreatePartitionsError::Limit(_) => ErrorCode::POLICY_VIOLATION,
        CreatePartitionsError::NoFreeId => ErrorCode::UNKNOWN_SERVER_ERROR,
    }
}

/// Configs of a topic that are not described.
pub fn describe_configs(error: &DescribeConfigsError) -> ErrorCode {
    match error {
        DescribeConfigsError::InvalidName(_) => ErrorCode::INVALID_TOPIC_EXCEPTION,
        DescribeConfigsError::UnknownTopic { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    }
}

/// A node of which nothing becomes.
pub fn node(error: &NodeError) -> ErrorCode {
    match error {
        NodeError::MemberExists { .. } | NodeError::Alive { .. } => {
            ErrorCode::DUPLICATE_BROKER_REGISTRATION
        }
        NodeError::NotMember { .. } | NodeError::NotPermitted { .. } => {
            ErrorCode::BROKER_ID_NOT_REGISTERED
        }
        NodeError::LastMember { .. }
        | NodeError::OnlyCopies { .. }
        | NodeError::MajorityLost { .. } => ErrorCode::INELIGIBLE_REPLICA,
        NodeError::TooManyNodes { .. } => ErrorCode::POLICY_VIOLATION,
    }
}

/// A partition that is not moved.
pub fn reassign(error: &ReassignError) -> ErrorCode {
    match error {
        ReassignError::UnknownPartition => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ReassignError::InvalidAssignment(_) => ErrorCode::INVALID_REPLICA_ASSIGNMENT,
        ReassignError::NotMoving => ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
        ReassignError::StillHeld { .. } => ErrorCode::REASSIGNMENT_IN_PROGRESS,
        ReassignError::Limit(_) => ErrorCode::POLICY_VIOLATION,
    }
}

/// A topic that keeps its number of copies.
pub fn replication_factor(error: &ReplicationFactorError) -> ErrorCode {
    match error {
        ReplicationFactorError::UnknownTopic { .. } => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ReplicationFactorError::OutOfRange { .. } => ErrorCode::INVALID_REPLICATION_FACTOR,
        ReplicationFactorError::Partition { error, .. } => reassign(error),
    }
}

/// A partition that has no other leader.
pub fn election(error: &ElectionError) -> ErrorCode {
    match error {
        ElectionError::UnknownTopic { .. } | ElectionError::UnknownPartition { .. } => {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        }
        ElectionError::NotNeeded => ErrorCode::ELECTION_NOT_NEEDED,
        ElectionError::PreferredNotAvailable { .. } => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
        ElectionError::Unclean => ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
        ElectionError::TimedOut { .. } => ErrorCode::REQUEST_TIMED_OUT,
    }
}

/// Whether a batch that was not acknowledged may be in the log all the same.
pub fn possibly_written(error: &ProduceRefused) -> bool {
    match error {
        ProduceRefused::Partition(_) | ProduceRefused::Batch(_) | ProduceRefused::Transactional => {
            false
        }
        ProduceRefused::Replica(error) => match error {
            ProduceError::NotLeader
            | ProduceError::TimedOut
            | ProduceError::NotEnoughReplicasAfterAppend
            | ProduceError::Storage => true,
            ProduceError::Sequence(_) | ProduceError::NotEnoughReplicas { .. } => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_an_old_version_does_not_know_has_one_that_it_does() {
        let missing = OffsetCommitError::GroupIdNotFound { found: 3 };
        assert_eq!(offset_commit(&missing, 8), ErrorCode::ILLEGAL_GENERATION);
        assert_eq!(offset_commit(&missing, 9), ErrorCode::GROUP_ID_NOT_FOUND);
        assert_eq!(controller(&ControllerError::Busy, false), ErrorCode::REQUEST_TIMED_OUT);
        assert_eq!(controller(&ControllerError::Busy, true), ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    }

    #[test]
    fn what_a_retry_settles_is_retriable_and_what_it_cannot_is_not() {
        for (error, is_retriable) in [
            (ProduceRefused::Replica(ProduceError::NotLeader), true),
            (ProduceRefused::Replica(ProduceError::TimedOut), true),
            (ProduceRefused::Replica(ProduceError::NotEnoughReplicasAfterAppend), true),
            (ProduceRefused::Replica(ProduceError::Storage), true),
            (
                ProduceRefused::Replica(ProduceError::NotEnoughReplicas { required: 2, found: 1 }),
                true,
            ),
            (ProduceRefused::Partition(FetchError::UnknownTopicOrPartition), true),
            (ProduceRefused::Transactional, false),
            (ProduceRefused::Batch(BatchError::Control), false),
            (ProduceRefused::Batch(BatchError::TooLarge { found: 2, bytes_max: 1 }), false),
        ] {
            assert_eq!(produce(&error).is_retriable(), is_retriable, "{error:?}");
        }
    }

    #[test]
    fn a_reserved_name_is_an_invalid_topic_only_where_nobody_asked_for_it() {
        let reserved = CreateTopicError::ReservedName { name: "__consumer_offsets".to_owned() };
        assert_eq!(create_topic(&reserved), ErrorCode::INVALID_REQUEST);
        let refused = AutoCreateTopicError::Refused(reserved);
        assert_eq!(auto_create_topic(&refused), ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
}
