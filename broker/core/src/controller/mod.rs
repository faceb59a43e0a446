//! The metadata partition's state machine: which topics, nodes and producer ids a cluster has.
//!
//! ```text
//!              handle(request, ticket)                      apply(index, token, payload)
//!   doors ────────────────────────────> Controller <──────────────────────── committed frames
//!                                        │      │
//!             reply(ticket, response) <──┤      ├──> events: make logs, take logs away
//!                                        │      │
//!          propose(token, payload) <─────┘      └──> Metadata, read by everybody
//! ```
//!
//! - [`Metadata`] is the applied state, the same on every node: a pure function of the commands.
//! - [`Controller`] holds it, and on the leader decides requests: it checks them, makes commands,
//!   and answers when those are applied. On the other nodes it only applies.
//! - `planner` is what the leader does of its own accord: who votes on the metadata, what moves.
//! - `placement` says which nodes hold a new partition; `topic_config` what a topic's configs may
//!   be; `broker_config` what tools see of a node's.
//!
//! Invariants: `I-META-1` to `I-META-4` in `metadata`, `I-META-5` in `leader`.
//!
//! Absent on purpose: ACLs and quotas, which come with security.

mod broker_config;
mod cluster_id;
mod command;
mod config_entry;
mod create;
mod decide;
mod decide_membership;
mod entropy;
mod event;
mod execute;
mod grow;
mod leader;
pub mod limits;
mod members;
mod membership_request;
mod metadata;
mod node;
pub mod placement;
mod planner;
mod replicas;
mod request;
mod snapshot;
mod topic_config;
mod topic_name;

pub use broker_config::{BrokerSettings, KAFKA_LEVEL, describe_broker};
pub use cluster_id::ClusterId;
pub use command::{
    ConfigOverrides, MetadataCommand, Partition, Replica, Topic, decode_commands, encode_commands,
};
pub use config_entry::{ConfigEntry, ConfigSource, ConfigSynonym, ConfigType};
pub use entropy::{Entropy, draw_cluster_id};
pub use event::{MetadataEvent, PartitionPlacement};
pub use leader::{Controller, ControllerEffect, FEATURE_LEVEL, FoundingPlan};
pub use members::{Member, Permit, Quorum, Standing};
pub use membership_request::{
    MembershipRequest, MembershipResponse, NodeError, Reassign, ReassignError,
};
pub use metadata::{
    CommandOutcome, Founding, GROUP_TOPIC, Metadata, NodeLoad, ProducerIdBlock, Refusal,
};
pub use node::{BootEpoch, Founder, ListenerAddress, NodeRegistration};
pub use replicas::Reassignment;
pub use request::{
    AlterTopicConfigs, AlterTopicConfigsError, AssignmentError, AutoCreateTopicError,
    AutoCreateTopicResult, ControllerError, ControllerRequest, ControllerResponse,
    CreatePartitions, CreatePartitionsError, CreateTopicError, CreateTopicResult, CreateTopics,
    CreatedTopic, DeleteTopicError, DeleteTopicResult, GrownTopic, LimitError, NewTopic,
    PartitionAssignment, ProducerIdsError, RegisterNodeError, TopicReference,
};
pub use snapshot::SnapshotError;
pub use topic_config::{
    Domain, Enforcement, TOPIC_KEYS, TopicConfig, TopicConfigError, TopicKey, check_override,
    check_overrides, describe_topic, majority, topic_key,
};
pub use topic_name::{TopicNameError, check_topic_name, is_reserved_topic_name};

#[cfg(test)]
pub(crate) mod tests;
