//! Nodes: listed, let in, told to drain or to leave; partitions moved between them.
//!
//! A change is answered when it is committed. Whether it has come to its end is to be looked at:
//! [`Admin::list_nodes`].
//!
//! Absent on purpose: choosing nodes. Whoever moves a partition names them all.

use super::{Admin, check, miscounted};
use crate::cluster::{Repeat, Target};
use crate::error::{AdminError, RequestError};
use bateau_protocol::native::{
    self, ListNodesRequest, ListReassignmentsRequest, NodeDescription, PermitNodeRequest,
    ReassignPartitionsRequest, SetStandingRequest,
};
use bateau_protocol::wire::ErrorCode;

/// What a member is to do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum NodeStanding {
    /// Hold and lead what it is given.
    Serving,
    /// Lead nothing, as far as others can.
    Draining,
    /// Give away what it holds, and then be no member any more.
    Leaving,
}

impl NodeStanding {
    /// Its word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
        }
    }

    fn of(word: &str) -> Option<Self> {
        let all = [Self::Serving, Self::Draining, Self::Leaving];
        all.into_iter().find(|one| one.as_str() == word)
    }
}

/// What a node with an empty data directory may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum NodePermit {
    /// Become a member.
    Join,
    /// Take the place of a member whose directory is lost.
    Replace,
}

impl NodePermit {
    /// Its word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Replace => "replace",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Join, Self::Replace].into_iter().find(|one| one.as_str() == word)
    }
}

/// What a node is to the metadata of the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum MetadataRole {
    /// It leads, and so decides what concerns the cluster.
    Leader,
    /// It votes.
    Voter,
    /// It follows without a vote.
    Learner,
}

impl MetadataRole {
    /// Its word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Learner => "learner",
        }
    }

    fn of(word: &str) -> Option<Self> {
        let all = [Self::Leader, Self::Voter, Self::Learner];
        all.into_iter().find(|one| one.as_str() == word)
    }
}

/// A listener of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NodeListener {
    /// `kafka`, `native`, `http` or `peers`.
    pub name: String,
    /// Name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A member of the cluster, or a node that may become one.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct NodeInfo {
    /// Its number.
    pub node_id: i32,
    /// Where it is.
    pub listeners: Vec<NodeListener>,
    /// Its rack.
    pub rack: Option<String>,
    /// Counts its starts; `None` while it has not registered.
    pub boot_epoch: Option<i64>,
    /// Whether the node that answered hears it.
    pub is_alive: bool,
    /// What it is to do; `None` for a node that is no member yet.
    pub standing: Option<NodeStanding>,
    /// What it may do with an empty data directory.
    pub permit: Option<NodePermit>,
    /// What it is to the metadata.
    pub role: Option<MetadataRole>,
    /// Partitions, internal ones too, that are assigned to it.
    pub replicas: u32,
    /// Those of them that it leads.
    pub leaders: u32,
    /// Partitions that still move to it.
    pub incoming: u32,
    /// Partitions that it holds until they have moved to others, or still removes.
    pub outgoing: u32,
    /// Why what it was told cannot come to its end as things are.
    pub hindrance: Option<String>,
}

/// Where a partition is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct PartitionMove {
    topic: String,
    partition: i32,
    nodes: Option<Vec<i32>>,
}

impl PartitionMove {
    /// To these nodes, preferred leader first.
    pub fn to(topic: impl Into<String>, partition: i32, nodes: Vec<i32>) -> Self {
        Self { topic: topic.into(), partition, nodes: Some(nodes) }
    }

    /// Back to where it was before the move that is under way.
    pub fn cancel(topic: impl Into<String>, partition: i32) -> Self {
        Self { topic: topic.into(), partition, nodes: None }
    }
}

/// A partition that is being moved.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct MovingPartition {
    /// The topic; an internal one begins with `@`.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Where it is to be, preferred leader first.
    pub nodes: Vec<i32>,
    /// Those of them that it was not on before.
    pub adding: Vec<i32>,
    /// Nodes that give it up.
    pub leaving: Vec<i32>,
}

fn info(node: NodeDescription) -> NodeInfo {
    let count = |number: i32| u32::try_from(number).unwrap_or(0);
    let listeners = node.listeners.into_iter().map(|one| NodeListener {
        name: one.name.to_string(),
        host: one.host.to_string(),
        port: u16::try_from(one.port).unwrap_or(0),
    });
    NodeInfo {
        node_id: node.node_id,
        listeners: listeners.collect(),
        rack: node.rack.map(|rack| rack.to_string()),
        boot_epoch: (node.boot_epoch >= 0).then_some(node.boot_epoch),
        is_alive: node.is_alive,
        standing: NodeStanding::of(&node.standing),
        permit: NodePermit::of(&node.permit),
        role: MetadataRole::of(&node.role),
        replicas: count(node.replicas),
        leaders: count(node.leaders),
        incoming: count(node.incoming),
        outgoing: count(node.outgoing),
        hindrance: Some(node.hindrance.to_string()).filter(|text| !text.is_empty()),
    }
}

/// A request about one node that was refused.
fn of_node(node_id: i32, error: RequestError) -> AdminError {
    match error.code() {
        Some(ErrorCode::BROKER_ID_NOT_REGISTERED) => {
            AdminError::NotFound { name: format!("node {node_id}") }
        }
        _ => error.into(),
    }
}

impl Admin {
    /// All nodes by number, as the controller knows them.
    ///
    /// # Errors
    /// [`AdminError::Request`].
    ///
    /// Cancel-safe.
    pub async fn list_nodes(&self) -> Result<Vec<NodeInfo>, AdminError> {
        let cluster = self.client.cluster();
        let answer = cluster.call(Target::Controller, Repeat::Freely, ListNodesRequest {}).await?;
        Ok(answer.nodes.into_iter().map(info).collect())
    }

    /// Lets a node with an empty data directory come, or only asks whether it may be.
    ///
    /// # Errors
    /// [`AdminError::NotFound`]: there is no such member to replace. [`AdminError::Request`]: it is
    /// a member already, or alive.
    ///
    /// Cancel-safe; dropped after it was sent, it may be done all the same.
    pub async fn permit_node(
        &self,
        node_id: i32,
        permit: NodePermit,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let cluster = self.client.cluster();
        let replaces = permit == NodePermit::Replace;
        let timeout_ms = cluster.timeout_ms();
        let request = PermitNodeRequest { node_id, replaces, validate_only, timeout_ms };
        let answer = cluster.call(Target::Controller, Repeat::Freely, request).await;
        answer.map(|_| ()).map_err(|error| of_node(node_id, error))
    }

    /// Tells a member what to do, or only asks whether it could be told. A node that has only a
    /// permit loses it by leaving.
    ///
    /// # Errors
    /// [`AdminError::NotFound`]; [`AdminError::Request`]: the cluster cannot do without it.
    ///
    /// Cancel-safe; dropped after it was sent, it may be done all the same.
    pub async fn set_node_standing(
        &self,
        node_id: i32,
        standing: NodeStanding,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let cluster = self.client.cluster();
        let request = SetStandingRequest {
            node_id,
            standing: standing.as_str().into(),
            validate_only,
            timeout_ms: cluster.timeout_ms(),
        };
        let answer = cluster.call(Target::Controller, Repeat::Freely, request).await;
        answer.map(|_| ()).map_err(|error| of_node(node_id, error))
    }

    /// Moves partitions, each decided alone. It has begun when this returns, and is over when
    /// [`list_reassignments`](Self::list_reassignments) does not name the partition any more.
    ///
    /// # Errors
    /// [`AdminError::Request`] for the request; each partition has a result of its own, in the
    /// order given.
    ///
    /// Not cancel-safe: dropped after it was sent, partitions may be moved all the same.
    pub async fn reassign_partitions(
        &self,
        moves: impl IntoIterator<Item = PartitionMove>,
    ) -> Result<Vec<Result<(), AdminError>>, AdminError> {
        let cluster = self.client.cluster();
        let one = |one: PartitionMove| native::PartitionMove {
            topic: one.topic.into(),
            partition: one.partition,
            nodes: one.nodes,
        };
        let partitions: Vec<_> = moves.into_iter().map(one).collect();
        let count = partitions.len();
        let timeout_ms = cluster.timeout_ms();
        let request = ReassignPartitionsRequest { partitions, timeout_ms };
        let answer = cluster.call(Target::Controller, Repeat::UnlessDone, request).await?;
        if answer.partitions.len() != count {
            let found = answer.partitions.len();
            return Err(miscounted("ReassignPartitions", count, found).into());
        }
        let outcomes = answer.partitions.into_iter().map(|one| {
            let name = format!("{}[{}]", one.topic.as_str(), one.partition);
            match one.error_code {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Err(AdminError::NotFound { name }),
                code => check(name, code, &one.message),
            }
        });
        Ok(outcomes.collect())
    }

    /// The partitions that are being moved.
    ///
    /// # Errors
    /// [`AdminError::Request`].
    ///
    /// Cancel-safe.
    pub async fn list_reassignments(&self) -> Result<Vec<MovingPartition>, AdminError> {
        let cluster = self.client.cluster();
        let request = ListReassignmentsRequest {};
        let answer = cluster.call(Target::Controller, Repeat::Freely, request).await?;
        let moving = |one: native::MovingPartition| MovingPartition {
            topic: one.topic.to_string(),
            partition: one.partition,
            nodes: one.nodes,
            adding: one.adding,
            leaving: one.leaving,
        };
        Ok(answer.partitions.into_iter().map(moving).collect())
    }
}
