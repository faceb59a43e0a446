//! Topics and leaders as far as they are known.
//!
//! Invariants
//! - Knowledge of a leader is never replaced by older knowledge of the same topic.
//! - What a broker says is checked where it enters: partitions are numbered as they lie.
//!
//! Absent on purpose: guesses. What is not known is asked for.

use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{MetadataResponse, TopicMetadata};
use bateau_protocol::wire::ErrorCode;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// What is known at one time. Replaced as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub controller: Option<i32>,
    topics: HashMap<Arc<str>, Arc<TopicView>>,
    names: HashMap<TopicId, Arc<str>>,
}

/// A topic and the leaders of its partitions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct TopicView {
    pub name: Arc<str>,
    pub id: TopicId,
    /// Spreads topics over streams.
    pub hash: u64,
    pub partitions: Vec<PartitionView>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PartitionView {
    /// −1 while there is none.
    pub leader_id: i32,
    pub leader_epoch: i32,
}

impl TopicView {
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    pub fn partition(&self, partition: i32) -> Option<PartitionView> {
        self.partitions.get(usize::try_from(partition).ok()?).copied()
    }

    fn of(topic: &TopicMetadata) -> Option<Self> {
        let name: Arc<str> = topic.name.as_str().into();
        let mut hasher = DefaultHasher::new();
        topic.id.hash(&mut hasher);
        let numbered = (0..).zip(&topic.partitions).all(|(place, one)| one.partition == place);
        if topic.partitions.is_empty() || !numbered {
            tracing::warn!(topic = %name, "a broker's list of partitions is not in order");
            return None;
        }
        let partition = |one: &bateau_protocol::native::PartitionMetadata| PartitionView {
            leader_id: one.leader_id,
            leader_epoch: one.leader_epoch,
        };
        let partitions = topic.partitions.iter().map(partition).collect();
        Some(Self { name, id: topic.id, hash: hasher.finish(), partitions })
    }

    /// Keeps what `older` knows better: a leader of a later epoch.
    fn merge(&mut self, older: &Self) {
        if older.id != self.id {
            return;
        }
        for (new, old) in self.partitions.iter_mut().zip(&older.partitions) {
            if old.leader_epoch > new.leader_epoch {
                *new = *old;
            }
        }
    }
}

impl View {
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicView>> {
        self.topics.get(name)
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicView>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// Takes in an answer or a push. Topics that it does not name stay as they are. Returns whether
    /// anything changed.
    pub fn learn(&mut self, metadata: &MetadataResponse) -> bool {
        let controller = (metadata.controller_id >= 0).then_some(metadata.controller_id);
        let mut changed = controller != self.controller;
        self.controller = controller;
        for topic in &metadata.topics {
            changed |= match topic.error_code {
                ErrorCode::NONE => self.put(topic),
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => {
                    self.forget(&topic.name)
                }
                // It exists, and nothing is known of it now.
                _ => false,
            };
        }
        changed
    }

    /// The nodes that led something of which an answer or a push names another leader now.
    pub fn deposed_by(&self, metadata: &MetadataResponse) -> BTreeSet<i32> {
        let mut deposed = BTreeSet::new();
        for topic in &metadata.topics {
            let Some(known) = self.topic_by_id(topic.id) else { continue };
            for (old, new) in known.partitions.iter().zip(&topic.partitions) {
                if new.leader_epoch > old.leader_epoch && new.leader_id != old.leader_id {
                    deposed.insert(old.leader_id);
                }
            }
        }
        deposed
    }

    fn put(&mut self, topic: &TopicMetadata) -> bool {
        let Some(mut new) = TopicView::of(topic) else { return false };
        if let Some(old) = self.topics.get(&new.name) {
            new.merge(old);
            if **old == new {
                return false;
            }
            self.names.remove(&old.id);
        }
        self.names.insert(new.id, Arc::clone(&new.name));
        self.topics.insert(Arc::clone(&new.name), Arc::new(new));
        true
    }

    fn forget(&mut self, name: &str) -> bool {
        let Some(old) = self.topics.remove(name) else { return false };
        self.names.remove(&old.id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau_protocol::native::PartitionMetadata;

    fn metadata(name: &'static str, id: u8, leaders: &[(i32, i32)]) -> MetadataResponse {
        let partition =
            |(place, (leader_id, leader_epoch)): (i32, &(i32, i32))| PartitionMetadata {
                partition: place,
                leader_id: *leader_id,
                leader_epoch: *leader_epoch,
                ..PartitionMetadata::default()
            };
        let topic = TopicMetadata {
            name: name.into(),
            id: TopicId([id; 16]),
            partitions: (0..).zip(leaders).map(partition).collect(),
            ..TopicMetadata::default()
        };
        MetadataResponse { topics: vec![topic], ..MetadataResponse::default() }
    }

    #[test]
    fn a_later_leader_is_not_replaced_by_an_earlier_one() {
        let mut view = View::default();
        assert!(view.learn(&metadata("orders", 1, &[(1, 5), (2, 5)])));
        assert!(view.learn(&metadata("orders", 1, &[(3, 4), (3, 6)])));
        let topic = view.topic("orders").expect("it is known");
        assert_eq!(topic.partition(0).map(|one| one.leader_id), Some(1));
        assert_eq!(topic.partition(1).map(|one| one.leader_id), Some(3));
        assert!(!view.learn(&metadata("orders", 1, &[(1, 5), (3, 6)])), "nothing is new");
    }

    #[test]
    fn who_leads_no_more_is_known_by_later_epochs_alone() {
        let mut view = View::default();
        view.learn(&metadata("orders", 1, &[(1, 5), (2, 5), (3, 5)]));
        let deposed = |leaders| view.deposed_by(&metadata("orders", 1, leaders));
        assert_eq!(deposed(&[(2, 6), (2, 5), (3, 7)]), BTreeSet::from([1]));
        assert_eq!(deposed(&[(2, 5), (3, 4), (-1, -1)]), BTreeSet::new(), "old news, and none");
        let other = metadata("orders", 2, &[(2, 6), (1, 6), (1, 6)]);
        assert_eq!(view.deposed_by(&other), BTreeSet::new(), "another topic of that name");
    }

    #[test]
    fn a_topic_that_was_made_again_is_another_one() {
        let mut view = View::default();
        view.learn(&metadata("orders", 1, &[(1, 5)]));
        view.learn(&metadata("orders", 2, &[(3, 1)]));
        assert!(view.topic_by_id(TopicId([1; 16])).is_none());
        let topic = view.topic_by_id(TopicId([2; 16])).expect("the new one");
        assert_eq!(topic.partition(0).map(|one| one.leader_id), Some(3));
    }

    #[test]
    fn a_topic_that_is_gone_is_forgotten_and_others_stay() {
        let mut view = View::default();
        view.learn(&metadata("orders", 1, &[(1, 5)]));
        view.learn(&metadata("paid", 2, &[(1, 5)]));
        let mut gone = metadata("orders", 0, &[]);
        gone.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert!(view.learn(&gone));
        assert!(view.topic("orders").is_none());
        assert!(view.topic("paid").is_some());
    }

    #[test]
    fn a_list_of_partitions_that_is_not_in_order_is_not_believed() {
        let mut view = View::default();
        let mut lie = metadata("orders", 1, &[(1, 5), (1, 5)]);
        lie.topics[0].partitions[1].partition = 7;
        assert!(!view.learn(&lie));
    }
}
