//! The first replica of a partition is to lead it (KIP-460).
//!
//! Absent on purpose: elections of a replica that lacks records. None is ever elected.

use crate::api::Broker;
use bateau_protocol::ids::{Incarnation, NodeId};
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

/// After so long a leader is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(300);
/// How long a new leader is waited for, at most.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Why a partition has no other leader now.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ElectionError {
    /// UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("No such topic as {topic}")]
    UnknownTopic {
        /// The name.
        topic: String,
    },
    /// UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("No such partition as {topic}-{partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// What was asked for.
        partition: i32,
    },
    /// The wanted one leads. ELECTION_NOT_NEEDED (84).
    #[error("Leader election not needed for topic partition.")]
    NotNeeded,
    /// PREFERRED_LEADER_NOT_AVAILABLE (80).
    #[error("The preferred leader, node {node}, is not alive.")]
    PreferredNotAvailable {
        /// The first replica's node.
        node: NodeId,
    },
    /// Somebody who lacks records would have to lead. ELIGIBLE_LEADERS_NOT_AVAILABLE (83).
    #[error("A replica that lacks acknowledged records is never elected.")]
    Unclean,
    /// It was asked for, and has not come about. REQUEST_TIMED_OUT (7).
    #[error("Node {node} has been asked to lead, and does not within {waited_ms} ms.")]
    TimedOut {
        /// The first replica's node.
        node: NodeId,
        /// How long it was waited for.
        waited_ms: u64,
    },
}

/// A partition and what came of it.
pub type Elected = (String, i32, Result<(), ElectionError>);

/// A leadership that is waited for.
struct Wanted {
    place: usize,
    log: Incarnation,
    node: NodeId,
}

impl Broker {
    /// Has the first replica lead, of these partitions or of all; one result for each. Of all,
    /// those that need nothing are left out.
    ///
    /// Cost: a round among the replicas of each; waits for 10 s at most.
    pub async fn elect_preferred(
        &self,
        asked: Option<Vec<(String, i32)>>,
        timeout: Duration,
    ) -> Vec<Elected> {
        let is_all = asked.is_none();
        let mut results: Vec<Elected> = Vec::new();
        let mut wanted = Vec::new();
        for (topic, partition) in asked.unwrap_or_else(|| self.every_partition()) {
            let outcome = match self.wanted_leader(&topic, partition) {
                Err(error) => Err(error),
                Ok((log, node)) => {
                    wanted.push(Wanted { place: results.len(), log, node });
                    Ok(())
                }
            };
            results.push((topic, partition, outcome));
        }
        let waited = timeout.min(WAIT_MAX);
        self.ask_until_led(&mut wanted, Instant::now() + waited).await;
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        for Wanted { place, node, .. } in wanted {
            if let Some((.., outcome)) = results.get_mut(place) {
                *outcome = Err(ElectionError::TimedOut { node, waited_ms });
            }
        }
        results.retain(|(.., outcome)| !is_all || *outcome != Err(ElectionError::NotNeeded));
        results
    }

    /// What becomes of an election of whoever is there: nothing, since whoever could lead does.
    #[must_use]
    pub fn elect_unclean(&self, asked: Option<Vec<(String, i32)>>) -> Vec<Elected> {
        let is_all = asked.is_none();
        let judged = asked.unwrap_or_else(|| self.every_partition()).into_iter();
        let judged = judged.map(|(topic, partition)| {
            let outcome = self.find(&topic, partition).and_then(|(log, _)| {
                let is_led = self.directory().leader(log).is_some();
                Err(if is_led { ElectionError::NotNeeded } else { ElectionError::Unclean })
            });
            (topic, partition, outcome)
        });
        let told = |one: &Elected| !is_all || one.2 != Err(ElectionError::NotNeeded);
        judged.filter(told).collect()
    }

    fn every_partition(&self) -> Vec<(String, i32)> {
        let directory = self.directory();
        let topics = directory.metadata.topics();
        let partitions = topics.flat_map(|topic| {
            (0..).zip(&topic.partitions).map(|(number, _)| (topic.name.to_string(), number))
        });
        partitions.collect()
    }

    /// A partition, and the node of its first replica.
    fn find(&self, topic: &str, partition: i32) -> Result<(Incarnation, NodeId), ElectionError> {
        let directory = self.directory();
        let unknown = || ElectionError::UnknownTopic { topic: topic.to_owned() };
        let known = directory.topic(topic).ok_or_else(unknown)?;
        let placed = u32::try_from(partition).ok().and_then(|number| known.partition(number));
        let found = placed.and_then(|one| Some((one.incarnation, one.replicas.first()?.node)));
        found.ok_or_else(|| ElectionError::UnknownPartition { topic: topic.to_owned(), partition })
    }

    fn wanted_leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(Incarnation, NodeId), ElectionError> {
        let (log, node) = self.find(topic, partition)?;
        let directory = self.directory();
        if directory.leader(log).is_some_and(|(leader, _)| leader == node) {
            return Err(ElectionError::NotNeeded);
        }
        if !directory.live().contains(&node) {
            return Err(ElectionError::PreferredNotAvailable { node });
        }
        Ok((log, node))
    }

    /// Asks whoever leads to hand over, again and again; leaves what has not come about.
    async fn ask_until_led(&self, wanted: &mut Vec<Wanted>, deadline: Instant) {
        let mut changes = self.router().changes();
        let mut ask_at = Instant::now();
        loop {
            let directory = self.directory();
            wanted.retain(|one| {
                directory.leader(one.log).is_none_or(|(leader, _)| leader != one.node)
            });
            if wanted.is_empty() || Instant::now() >= deadline {
                return;
            }
            if Instant::now() >= ask_at {
                for one in wanted.iter() {
                    self.transfer(one.log, one.node).await;
                }
                ask_at = Instant::now() + ASK_AGAIN;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() {
                    return;
                },
                () = tokio::time::sleep_until(ask_at.min(deadline)) => {}
            }
        }
    }
}
