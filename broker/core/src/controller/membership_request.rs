//! What a leading controller is asked about nodes and replicas, and what it answers.
//!
//! Absent on purpose: topics (`request`), and what the controller does by itself (`planner`).

use super::members::{Permit, Standing};
use super::node::Founder;
use super::request::{AssignmentError, LimitError};
use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A request about nodes and replicas.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MembershipRequest {
    /// Let a node with an empty directory become a member, or take the place of a lost one.
    Permit {
        /// The node.
        node: NodeId,
        /// Which of both.
        permit: Permit,
    },
    /// A node with an empty directory has shown itself, or one that has lost its votes. Asked again
    /// it gives the same answer.
    Admit {
        /// The node.
        founder: Founder,
        /// The founding id of the directory with which it was a member, if it knows: whoever does
        /// needs no permit.
        former: Option<[u8; 16]>,
    },
    /// A member is to serve, to drain or to leave.
    SetStanding {
        /// The member.
        node: NodeId,
        /// What it is to do.
        standing: Standing,
    },
    /// Move partitions (KIP-455), each decided alone.
    Reassign(Vec<Reassign>),
    /// Groups have the replicas that were assigned to them, by their leaders' word.
    Settle(Vec<(Incarnation, u64)>),
    /// Replicas are lost, by their node's word: new ones are to take their places there, one of a
    /// partition at a time, and only where a majority is left to copy from.
    Renew(Vec<(Incarnation, ReplicaId)>),
    /// A replica is to lead. This is for whoever leads, not for the controller, which does nothing
    /// about it.
    HandOver {
        /// Of this partition.
        incarnation: Incarnation,
        /// The node of the replica.
        node: NodeId,
    },
}

/// A partition to move.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reassign {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The nodes that it is to be on, preferred leader first, as they came off the wire; `None`:
    /// where it was before the move that is under way.
    pub nodes: Option<Vec<i32>>,
}

/// The answer to a [`MembershipRequest`], of its kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MembershipResponse {
    /// The node may come.
    Permitted(Result<(), NodeError>),
    /// The node is a member, with this replica of the metadata.
    Admitted(Result<ReplicaId, NodeError>),
    /// The member will do so.
    Standing(Result<(), NodeError>),
    /// One result for each partition, in the request's order.
    Reassigned(Vec<Result<(), ReassignError>>),
    /// The metadata knows.
    Settled,
    /// What can be is renewed; of the rest it may be asked again.
    Renewed,
    /// Whoever leads decides.
    HandedOver,
}

/// Why nothing becomes of a node.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum NodeError {
    /// It is one already.
    #[error("node {node} is a member of the cluster already")]
    MemberExists {
        /// The node.
        node: NodeId,
    },
    /// It is none.
    #[error("node {node} is not a member of the cluster")]
    NotMember {
        /// The node.
        node: NodeId,
    },
    /// It lives, so its directory is not lost.
    #[error("node {node} is alive: nothing of it is lost; stop it first if it is to be replaced")]
    Alive {
        /// The node.
        node: NodeId,
    },
    /// It has come without a permit.
    #[error(
        "node {node} has an empty data directory and no permit: `bateau node add {node}` lets a \
         new node in, `bateau node replace {node}` puts one in the place of a lost one"
    )]
    NotPermitted {
        /// The node.
        node: NodeId,
    },
    /// A cluster without nodes is none.
    #[error("node {node} is the only node of the cluster")]
    LastMember {
        /// The node.
        node: NodeId,
    },
    /// It is not alive, and nobody else has what it holds.
    #[error(
        "node {node} is not alive and holds the only copy of {partitions} partitions, {example} \
         among them: nothing can be copied from it; start it, or delete their topics"
    )]
    OnlyCopies {
        /// The node.
        node: NodeId,
        /// How many.
        partitions: usize,
        /// One of them.
        example: String,
    },
    /// Too few replicas of something would be alive without it.
    #[error(
        "without node {node}, {live} of {replicas} replicas of {example} would be alive, and of \
         {partitions} partitions in all: start, replace or remove the dead nodes first"
    )]
    MajorityLost {
        /// The node.
        node: NodeId,
        /// How many partitions.
        partitions: usize,
        /// One of them.
        example: String,
        /// Its replicas that would be alive.
        live: usize,
        /// All that it would have.
        replicas: usize,
    },
    /// The cluster has as many nodes as it may.
    #[error("the cluster has {limit} nodes, which is the limit")]
    TooManyNodes {
        /// The limit.
        limit: usize,
    },
}

/// Why a partition is not moved.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum ReassignError {
    /// UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("The partition does not exist.")]
    UnknownPartition,
    /// INVALID_REPLICA_ASSIGNMENT (39).
    #[error("{0}")]
    InvalidAssignment(#[from] AssignmentError),
    /// NO_REASSIGNMENT_IN_PROGRESS (85).
    #[error("The partition is not being moved.")]
    NotMoving,
    /// A node still removes what it had of the partition; a moment later it may be asked again.
    /// REASSIGNMENT_IN_PROGRESS (60).
    #[error("Node {node} still removes its former replica of the partition.")]
    StillHeld {
        /// The node.
        node: NodeId,
    },
    /// POLICY_VIOLATION (44).
    #[error("{0}")]
    Limit(#[from] LimitError),
}
