//! More copies of a topic, or fewer: which nodes, worked out from what is known here, and moved as
//! any reassignment is.
//!
//! Absent on purpose: evening out what nodes hold; only what is missing is placed.

use crate::admin::AdminError;
use crate::api::Broker;
use crate::router::Directory;
use bateau_core::controller::{Metadata, Partition, Reassign, ReassignError, Standing, Topic};
use bateau_protocol::ids::NodeId;
use std::collections::BTreeMap;
use thiserror::Error;

/// Why a topic keeps its number of copies.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReplicationFactorError {
    /// UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("The topic '{name}' does not exist.")]
    UnknownTopic {
        /// The name.
        name: String,
    },
    /// INVALID_REPLICATION_FACTOR (38).
    #[error("replication factor {found} is not between 1 and the {nodes} nodes that can hold it")]
    OutOfRange {
        /// What was asked for.
        found: i32,
        /// Members that are alive and take replicas, and those that have one.
        nodes: usize,
    },
    /// Of this and what the controller says.
    #[error("partition {partition}: {error} Partitions before it are being moved.")]
    Partition {
        /// Its number.
        partition: i32,
        /// Why.
        error: ReassignError,
    },
}

impl Broker {
    /// Has every partition of a topic on so many nodes.
    ///
    /// Errors: [`AdminError`].
    pub async fn set_replication_factor(
        &self,
        topic: &str,
        replicas: i32,
        validate_only: bool,
        timeout_ms: u64,
    ) -> Result<(), AdminError<ReplicationFactorError>> {
        let plan = plan(&self.directory(), topic, replicas).map_err(AdminError::Refused)?;
        if validate_only {
            return Ok(());
        }
        let numbers: Vec<i32> = plan.iter().map(|one| one.partition).collect();
        let results = self.reassign(plan, timeout_ms).await?;
        for (partition, result) in numbers.into_iter().zip(results) {
            result.map_err(|error| {
                AdminError::Refused(ReplicationFactorError::Partition { partition, error })
            })?;
        }
        Ok(())
    }
}

/// The partitions that are to move, and where.
fn plan(
    directory: &Directory,
    name: &str,
    replicas: i32,
) -> Result<Vec<Reassign>, ReplicationFactorError> {
    let unknown = || ReplicationFactorError::UnknownTopic { name: name.to_owned() };
    let topic = directory.topic(name).ok_or_else(unknown)?;
    let mut room = Room::of(directory);
    let wanted = usize::try_from(replicas).unwrap_or(0);
    let out_of_range = |nodes| ReplicationFactorError::OutOfRange { found: replicas, nodes };
    if wanted == 0 {
        return Err(out_of_range(room.loads.len()));
    }
    let mut moves = Vec::new();
    for (number, partition) in (0..).zip(&topic.partitions) {
        let present: Vec<NodeId> = partition.replicas.iter().map(|one| one.node).collect();
        if present.len() == wanted {
            continue;
        }
        let nodes = match present.len() > wanted {
            true => fewer(directory, present, wanted),
            false => room.more(&directory.metadata, partition, present, wanted),
        };
        if nodes.len() != wanted {
            return Err(out_of_range(nodes.len()));
        }
        moves.push(assigned(topic, number, &nodes));
    }
    Ok(moves)
}

fn assigned(topic: &Topic, partition: i32, nodes: &[NodeId]) -> Reassign {
    let number = |node: &NodeId| i32::try_from(node.get()).unwrap_or(-1);
    let nodes = Some(nodes.iter().map(number).collect());
    Reassign { topic: topic.name.to_string(), partition, nodes }
}

/// The first ones, those that live before those that do not.
fn fewer(directory: &Directory, present: Vec<NodeId>, wanted: usize) -> Vec<NodeId> {
    let mut kept = present.clone();
    kept.sort_by_key(|node| !directory.live().contains(node));
    kept.truncate(wanted);
    present.into_iter().filter(|node| kept.contains(node)).collect()
}

/// What nodes that may take more hold already, with what was planned for them.
struct Room {
    loads: BTreeMap<NodeId, u32>,
}

impl Room {
    fn of(directory: &Directory) -> Self {
        let metadata = &directory.metadata;
        let takes = metadata.members().filter(|member| member.standing != Standing::Leaving);
        let nodes = takes.map(|member| member.founder.node);
        let alive = nodes.filter(|node| directory.live().contains(node));
        Self { loads: alive.map(|node| (node, metadata.load_of(node).replicas)).collect() }
    }

    /// Those that have it, then others: of another rack first, then whoever has least.
    fn more(
        &mut self,
        metadata: &Metadata,
        partition: &Partition,
        present: Vec<NodeId>,
        wanted: usize,
    ) -> Vec<NodeId> {
        let mut nodes = present;
        let rack = |node: NodeId| metadata.node(node).and_then(|known| known.rack.clone());
        while nodes.len() < wanted {
            let taken: Vec<_> = nodes.iter().filter_map(|node| rack(*node)).collect();
            let log = partition.incarnation;
            let free = self.loads.iter_mut().filter(|(node, _)| {
                !nodes.contains(node) && !metadata.has_removed_replica(log, **node)
            });
            let repeats = |node: NodeId| rack(node).is_some_and(|rack| taken.contains(&rack));
            let chosen = free.min_by_key(|(node, load)| (repeats(**node), **load, **node));
            let Some((node, load)) = chosen else { break };
            *load += 1;
            nodes.push(*node);
        }
        nodes
    }
}
