//! Where things are: the published metadata and the partitions that this node holds.
//!
//! Invariants: a snapshot is consistent and never changes; only the shard publishes, once per
//! turn at most.
//!
//! Absent on purpose: other shards. What is here lives on the one shard of this node; of what is on
//! other nodes only the leader is known.

use crate::partition::PartitionView;
use bateau_core::controller::{Metadata, Topic};
use bateau_log::SpaceState;
use bateau_protocol::ids::{Incarnation, NodeId, Term, TopicId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::watch;

/// One consistent picture.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// The metadata as applied here.
    pub metadata: Arc<Metadata>,
    views: BTreeMap<Incarnation, Arc<PartitionView>>,
    /// Who leads what is not here or not in service here, as its leaders say.
    elsewhere: BTreeMap<Incarnation, (NodeId, Term)>,
    live: Arc<BTreeSet<NodeId>>,
}

impl Directory {
    /// The nodes that live, as far as this one hears them, itself included.
    #[must_use]
    pub fn live(&self) -> &BTreeSet<NodeId> {
        &self.live
    }

    /// The view of a log on this node.
    #[must_use]
    pub fn view(&self, incarnation: Incarnation) -> Option<&Arc<PartitionView>> {
        self.views.get(&incarnation)
    }

    /// All views on this node.
    pub fn views(&self) -> impl Iterator<Item = &Arc<PartitionView>> {
        self.views.values()
    }

    /// The node that leads a partition and its term, as far as is known here.
    #[must_use]
    pub fn leader(&self, incarnation: Incarnation) -> Option<(NodeId, Term)> {
        let here = self.view(incarnation);
        let known = here.filter(|view| !view.is_unavailable()).and_then(|view| view.leader());
        known.or_else(|| self.elsewhere.get(&incarnation).copied())
    }

    /// Whether raft tells here who leads.
    fn is_followed(&self, incarnation: Incarnation) -> bool {
        self.view(incarnation).is_some_and(|view| !view.is_unavailable())
    }

    /// Whether it is known how a partition is served: led by somebody, or not at all.
    #[must_use]
    pub fn is_settled(&self, incarnation: Incarnation) -> bool {
        match self.view(incarnation) {
            Some(view) => view.is_settled(),
            None => self.elsewhere.contains_key(&incarnation),
        }
    }

    /// A topic that clients may see.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.metadata.topic(name).filter(|topic| !topic.internal)
    }

    /// A topic that clients may see, by its id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.metadata.topic_by_id(id).filter(|topic| !topic.internal)
    }

    /// The view of a topic's partition, if there is such a partition and it is here.
    #[must_use]
    pub fn partition(&self, topic: &Topic, partition: i32) -> Option<&Arc<PartitionView>> {
        let number = u32::try_from(partition).ok()?;
        self.view(topic.partition(number)?.incarnation)
    }
}

/// Publishes directories.
#[derive(Debug, Default)]
pub struct Router {
    current: RwLock<Arc<Directory>>,
    changes: watch::Sender<u64>,
    space: Mutex<SpaceState>,
}

impl Router {
    /// The present picture. Cost: one reference count.
    #[must_use]
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Marks itself changed at every publication and every change of a leader.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How much room the data directory has.
    #[must_use]
    pub fn space(&self) -> SpaceState {
        *self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_space(&self, space: SpaceState) {
        *self.space.lock().unwrap_or_else(PoisonError::into_inner) = space;
    }

    /// Waits until `is_so` holds of the directory.
    pub async fn until(&self, mut is_so: impl FnMut(&Directory) -> bool) {
        let mut changes = self.changes();
        while !is_so(&self.directory()) {
            // The sender lives as long as this router.
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn publish(&self, update: DirectoryUpdate) {
        if let Some(directory) = update.directory {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
        }
        if update.is_changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    pub(crate) fn update(&self) -> DirectoryUpdate {
        DirectoryUpdate { before: self.directory(), directory: None, is_changed: false }
    }
}

/// The changes of one turn, copied from the directory before it at the first one.
#[derive(Debug)]
pub(crate) struct DirectoryUpdate {
    before: Arc<Directory>,
    directory: Option<Directory>,
    is_changed: bool,
}

impl DirectoryUpdate {
    pub fn view(&self, incarnation: Incarnation) -> Option<&Arc<PartitionView>> {
        self.directory.as_ref().unwrap_or(&self.before).view(incarnation)
    }

    pub fn set_metadata(&mut self, metadata: Arc<Metadata>) {
        self.change().metadata = metadata;
    }

    pub fn insert(&mut self, view: Arc<PartitionView>) {
        let directory = self.change();
        directory.elsewhere.remove(&view.incarnation());
        directory.views.insert(view.incarnation(), view);
    }

    pub fn remove(&mut self, incarnation: Incarnation) -> Option<Arc<PartitionView>> {
        self.change().views.remove(&incarnation)
    }

    /// What others say of a partition that is not here.
    pub fn set_leader_elsewhere(&mut self, log: Incarnation, leader: Option<(NodeId, Term)>) {
        if self.directory.as_ref().unwrap_or(&self.before).is_followed(log) {
            return;
        }
        match leader {
            Some(leader) => self.change().elsewhere.insert(log, leader),
            None => self.change().elsewhere.remove(&log),
        };
    }

    pub fn set_live(&mut self, live: BTreeSet<NodeId>) {
        self.change().live = Arc::new(live);
    }

    /// Something that `Router::until` may wait for has changed inside a view.
    pub fn touch(&mut self) {
        self.is_changed = true;
    }

    fn change(&mut self) -> &mut Directory {
        self.is_changed = true;
        self.directory.get_or_insert_with(|| Directory::clone(&self.before))
    }
}
