//! Which nodes hold the replicas of new partitions.
//!
//! Each partition takes, one after the other, a preferred leader and its followers. The leader
//! is the node that leads fewest partitions of the topic, then fewest of all; a follower is,
//! where racks are left, in a rack that the partition does not use yet, then the node that holds
//! fewest replicas of the topic, then fewest of all. Counting the topic first keeps a node
//! that has just joined from getting every replica of the next topic.
//!
//! Invariants
//! - No node holds two replicas of one partition.
//! - With equal racks the leaders of one topic differ by at most one between nodes, and so do
//!   its replicas where each node has room.
//! - The same input gives the same placement.
//!
//! Absent on purpose: whether nodes live, and moving what is placed.

use std::collections::BTreeSet;
use std::sync::Arc;

use bateau_protocol::ids::NodeId;

use super::command::Partition;
use super::limits::REPLICAS_PER_NODE_MAX;
use super::metadata::NodeLoad;

/// A node that may take replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// The node. Each comes once.
    pub node: NodeId,
    /// Its failure domain; nodes without one share no rack with anybody.
    pub rack: Option<Arc<str>>,
    /// What it holds already.
    pub load: NodeLoad,
}

/// A candidate and what the topic has given it.
struct Slot<'a> {
    candidate: &'a Candidate,
    /// What it holds of other topics.
    others: NodeLoad,
    leads: u32,
    holds: u32,
}

impl<'a> Slot<'a> {
    fn new(candidate: &'a Candidate, placed: &[Partition]) -> Self {
        let count = |holds: &dyn Fn(&Partition) -> bool| {
            u32::try_from(placed.iter().filter(|each| holds(each)).count()).unwrap_or(u32::MAX)
        };
        let node = candidate.node;
        let leads = count(&|each| each.replicas.first().is_some_and(|first| first.node == node));
        let holds = count(&|each| each.replicas.iter().any(|replica| replica.node == node));
        let others = NodeLoad {
            replicas: candidate.load.replicas.saturating_sub(holds),
            preferred: candidate.load.preferred.saturating_sub(leads),
        };
        Self { candidate, others, leads, holds }
    }

    fn has_room(&self) -> bool {
        self.others.replicas.saturating_add(self.holds) < REPLICAS_PER_NODE_MAX
    }

    fn leader_rank(&self) -> (u32, u32, u32, u32, NodeId) {
        let preferred = self.others.preferred.saturating_add(self.leads);
        let replicas = self.others.replicas.saturating_add(self.holds);
        (self.leads, preferred, self.holds, replicas, self.candidate.node)
    }

    fn follower_rank(&self, racks: &BTreeSet<&str>) -> (bool, u32, u32, NodeId) {
        let rack_used = self.candidate.rack.as_deref().is_some_and(|rack| racks.contains(rack));
        let replicas = self.others.replicas.saturating_add(self.holds);
        (rack_used, self.holds, replicas, self.candidate.node)
    }
}

/// Places `partition_count` partitions with `replication_factor` replicas each.
///
/// - `placed`: where the topic's partitions are already; none of a new topic.
///
/// Returns the nodes of each partition, preferred leader first, or `None` where too few
/// candidates have room ([`REPLICAS_PER_NODE_MAX`]).
/// Cost: partitions × replicas × candidates.
#[must_use]
pub fn place(
    placed: &[Partition],
    candidates: &[Candidate],
    partition_count: u32,
    replication_factor: u16,
) -> Option<Vec<Vec<NodeId>>> {
    let mut slots: Vec<Slot<'_>> =
        candidates.iter().map(|candidate| Slot::new(candidate, placed)).collect();
    (0..partition_count).map(|_| place_one(&mut slots, replication_factor)).collect()
}

fn place_one(slots: &mut [Slot<'_>], replication_factor: u16) -> Option<Vec<NodeId>> {
    let mut nodes = Vec::with_capacity(replication_factor.into());
    let mut racks = BTreeSet::new();
    for place in 0..replication_factor {
        let free = slots
            .iter_mut()
            .filter(|slot| slot.has_room() && !nodes.contains(&slot.candidate.node));
        let chosen = match place {
            0 => free.min_by_key(|slot| slot.leader_rank())?,
            _ => free.min_by_key(|slot| slot.follower_rank(&racks))?,
        };
        chosen.holds += 1;
        chosen.leads += u32::from(place == 0);
        nodes.push(chosen.candidate.node);
        racks.extend(chosen.candidate.rack.as_deref());
    }
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn nodes(racks: &[Option<&str>]) -> Vec<Candidate> {
        (1..)
            .zip(racks)
            .map(|(node, rack)| Candidate {
                node: NodeId::new(node),
                rack: rack.map(Arc::from),
                load: NodeLoad::default(),
            })
            .collect()
    }

    fn count(placed: &[Vec<NodeId>], of: impl Fn(&[NodeId]) -> Vec<NodeId>) -> Vec<u32> {
        let mut counts = BTreeMap::new();
        for node in placed.iter().flat_map(|nodes| of(nodes)) {
            *counts.entry(node).or_default() += 1;
        }
        counts.into_values().collect()
    }

    #[test]
    fn one_node_takes_everything() {
        let placed = place(&[], &nodes(&[None]), 3, 1).unwrap();
        assert_eq!(placed, vec![vec![NodeId::new(1)]; 3]);
    }

    #[test]
    fn leaders_and_replicas_are_spread() {
        for (nodes_count, partitions, factor) in [(3, 12, 3), (5, 13, 3), (4, 7, 2), (7, 1, 3)] {
            let candidates = nodes(&vec![None; nodes_count]);
            let placed = place(&[], &candidates, partitions, factor).unwrap();
            let leaders = count(&placed, |nodes| vec![nodes[0]]);
            let replicas = count(&placed, <[NodeId]>::to_vec);
            for counts in [leaders, replicas] {
                let most = *counts.iter().max().unwrap();
                let least = match counts.len() == nodes_count {
                    true => *counts.iter().min().unwrap(),
                    false => 0,
                };
                assert!(most - least <= 1, "{nodes_count} nodes: {counts:?}");
            }
            for nodes in &placed {
                assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), usize::from(factor));
            }
        }
    }

    #[test]
    fn replicas_of_a_partition_stand_in_different_racks() {
        let racks = [Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), Some("c")];
        let candidates = nodes(&racks);
        for nodes in place(&[], &candidates, 12, 3).unwrap() {
            let used: BTreeSet<_> =
                nodes.iter().map(|node| racks[node.get() as usize - 1]).collect();
            assert_eq!(used.len(), 3, "{nodes:?}");
        }
    }

    #[test]
    fn fewer_racks_than_replicas_are_used_twice() {
        let candidates = nodes(&[Some("a"), Some("a"), Some("b")]);
        let placed = place(&[], &candidates, 1, 3).unwrap();
        assert_eq!(placed[0].len(), 3);
    }

    #[test]
    fn a_new_node_does_not_get_the_whole_topic() {
        let mut candidates = nodes(&[None, None, None]);
        for full in &mut candidates[..2] {
            full.load = NodeLoad { replicas: 100, preferred: 50 };
        }
        let placed = place(&[], &candidates, 3, 1).unwrap();
        assert_eq!(count(&placed, <[NodeId]>::to_vec), [1, 1, 1]);
        assert_eq!(placed[0][0], NodeId::new(3), "the empty one comes first");
    }

    #[test]
    fn a_full_node_takes_nothing() {
        let mut candidates = nodes(&[None, None]);
        candidates[0].load.replicas = REPLICAS_PER_NODE_MAX - 1;
        let placed = place(&[], &candidates, 4, 1).unwrap();
        let on_first = placed.iter().filter(|nodes| nodes[0] == NodeId::new(1)).count();
        assert_eq!(on_first, 1);
        assert_eq!(place(&[], &candidates, 2, 2), None);
    }
}
