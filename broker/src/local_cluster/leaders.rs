//! Who leads, and moving that.
//!
//! Invariants: a move is done when the new leader answers and the nodes that serve know it.
//!
//! Absent on purpose: elections. A leader is asked to hand over; where it cannot, that is told.

use super::ClusterControl;
use super::control::PATIENCE;
use crate::api::Broker;
use crate::node::ControlError;
use crate::router::Directory;
use bateau_core::consumer_group::partition_of;
use bateau_core::controller::Topic;
use bateau_protocol::ids::{Incarnation, NodeId, Term};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// After so long a leader is asked again to hand over.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How long the other nodes may take to hear of a new leader. Behind a cut link they do not.
const NEWS_PATIENCE: Duration = Duration::from_millis(500);

/// A partition, as the metadata has it.
#[derive(Clone, Debug)]
struct Place {
    /// For messages.
    name: String,
    log: Incarnation,
    replicas: Vec<NodeId>,
}

impl Place {
    fn of(topic: &Topic, shown: &str, number: u32) -> Option<Self> {
        let partition = topic.partition(number)?;
        let replicas = partition.replicas.iter().map(|replica| replica.node).collect();
        let name = format!("{shown}[{number}]");
        Some(Self { name, log: partition.incarnation, replicas })
    }
}

impl ClusterControl {
    /// The node that leads a partition, if one that serves does.
    ///
    /// Errors: [`ControlError::NoTopic`] for no such topic or partition.
    pub fn leader(&self, topic: &str, partition: u32) -> Result<Option<NodeId>, ControlError> {
        let place = self.place(topic, partition)?;
        Ok(self.leader_of(place.log).map(|(node, _)| node))
    }

    /// Makes the replica on `node` lead a partition.
    ///
    /// Errors: [`ControlError::NoTopic`]; [`ControlError::Refused`] where it has no replica there,
    /// does not serve, or does not come to lead within 10 s.
    pub async fn move_leader(
        &self,
        topic: &str,
        partition: u32,
        node: NodeId,
    ) -> Result<(), ControlError> {
        self.node(node)?;
        let place = self.place(topic, partition)?;
        self.hand_over(&place, node).await
    }

    /// Makes the node coordinate a consumer group: it leads the partition that the group is in.
    ///
    /// Errors: as of [`move_leader`](Self::move_leader).
    pub async fn move_coordinator(&self, group: &str, node: NodeId) -> Result<(), ControlError> {
        self.node(node)?;
        let broker = self.serving().into_values().next().ok_or(ControlError::NotRunning)?;
        let metadata = broker.directory().metadata.clone();
        let of_group = |topic: &Arc<Topic>| Place::of(topic, &topic.name, partition_of(group));
        let place = metadata.group_topic().and_then(of_group).ok_or(ControlError::NotRunning)?;
        self.hand_over(&place, node).await
    }

    /// Makes another replica lead, chosen by the seed, of every partition that has one on a node
    /// that serves; those of the groups' coordinators too.
    ///
    /// Errors: as of [`move_leader`](Self::move_leader).
    pub async fn shuffle_leaders(&self) -> Result<(), ControlError> {
        for place in self.all_places()? {
            let leader = self.leader_of(place.log).map(|(node, _)| node);
            let serving = self.serving();
            let could_lead = |node: &NodeId| Some(*node) != leader && serving.contains_key(node);
            let others: Vec<NodeId> = place.replicas.iter().copied().filter(could_lead).collect();
            if let Some(chosen) = others.get(self.draw(others.len())) {
                self.hand_over(&place, *chosen).await?;
            }
        }
        Ok(())
    }

    /// Waits until every partition of a topic is led by a node that serves.
    pub(super) async fn until_led(&self, topic: &str) -> Result<(), ControlError> {
        for number in 0.. {
            let Ok(place) = self.place(topic, number) else { break };
            let deadline = Instant::now() + PATIENCE;
            while self.leader_of(place.log).is_none() {
                if Instant::now() >= deadline {
                    let reason = format!("{}: no node that serves leads it", place.name);
                    return Err(ControlError::Refused(reason));
                }
                self.until_news(ASK_AGAIN).await;
            }
        }
        Ok(())
    }

    /// Waits until something has changed in the directory of a node that serves, for so long at
    /// most.
    async fn until_news(&self, at_most: Duration) {
        let serving: Vec<Broker> = self.serving().into_values().collect();
        let changes = serving.iter().map(|broker| {
            let mut changes = broker.router().changes();
            Box::pin(async move { drop(changes.changed().await) })
        });
        let changes: Vec<_> = changes.collect();
        if changes.is_empty() {
            return tokio::time::sleep(at_most).await;
        }
        let _ = tokio::time::timeout(at_most, futures_util::future::select_all(changes)).await;
    }

    fn place(&self, topic: &str, partition: u32) -> Result<Place, ControlError> {
        let no_topic = || ControlError::NoTopic { topic: topic.to_owned() };
        let serving = self.serving();
        if serving.is_empty() {
            return Err(ControlError::NotRunning);
        }
        // One that hears of nobody knows less than the others.
        let known = serving
            .values()
            .find_map(|broker| Place::of(broker.directory().topic(topic)?, topic, partition));
        known.ok_or_else(no_topic)
    }

    fn all_places(&self) -> Result<Vec<Place>, ControlError> {
        let serving = self.serving();
        let broker = serving.values().next().ok_or(ControlError::NotRunning)?;
        let metadata = broker.directory().metadata.clone();
        let of = |topic: &Topic| {
            let numbers = 0..topic.partition_count();
            numbers.filter_map(|number| Place::of(topic, &topic.name, number)).collect::<Vec<_>>()
        };
        let topics = metadata.topics().chain(metadata.group_topic());
        Ok(topics.flat_map(|topic| of(topic)).collect())
    }

    /// Of those that think that they lead, the one with the newest term.
    fn leader_of(&self, log: Incarnation) -> Option<(NodeId, Broker)> {
        let leads = |(node, broker): (NodeId, Broker)| {
            let term = term_of(&broker.directory(), log)?;
            Some((term, node, broker))
        };
        let leaders = self.serving().into_iter().filter_map(leads);
        let newest = leaders.max_by_key(|(term, ..)| *term);
        newest.map(|(_, node, broker)| (node, broker))
    }

    async fn hand_over(&self, place: &Place, node: NodeId) -> Result<(), ControlError> {
        let refused = |reason: String| Err(ControlError::Refused(reason));
        let Place { name, log, replicas } = place;
        if !replicas.contains(&node) {
            let on: Vec<String> = replicas.iter().map(NodeId::to_string).collect();
            let on = on.join(", ");
            return refused(format!("{name} has no replica on node {node}; they are on {on}"));
        }
        let Some(successor) = self.serving().remove(&node) else {
            return refused(format!("node {node} does not serve at present"));
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader_of(*log);
            if leader.as_ref().is_some_and(|(leader, _)| *leader == node) {
                break;
            }
            if Instant::now() >= deadline {
                let led =
                    leader.map_or_else(|| "nobody".to_owned(), |(id, _)| format!("node {id}"));
                return refused(format!("{name} is led by {led}; node {node} did not take over"));
            }
            if let Some((_, leader)) = leader {
                leader.transfer(*log, node).await;
            }
            let leads = successor.router().until(|directory| term_of(directory, *log).is_some());
            let _ = tokio::time::timeout(ASK_AGAIN, leads).await;
        }
        for broker in self.serving().into_values() {
            let is_known = |directory: &Directory| {
                directory.leader(*log).is_some_and(|(leader, _)| leader == node)
            };
            let _ = tokio::time::timeout(NEWS_PATIENCE, broker.router().until(is_known)).await;
        }
        Ok(())
    }
}

/// The term in which a node leads.
fn term_of(directory: &Directory, log: Incarnation) -> Option<Term> {
    directory.view(log)?.leader_term()
}
