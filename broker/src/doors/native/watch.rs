//! What a client is told of the cluster: at once, and after each change of what it watches.
//!
//! Changes that come faster than they can be told are told as one, and a change of what is not
//! watched is not told at all.
//!
//! Absent on purpose: finding out what has changed. Each push is the whole of what is watched.

use super::convert::cluster::describe;
use super::dispatch::Context;
use crate::api::Broker;
use bateau_protocol::native::{ClusterChanged, MetadataResponse, TopicName, WatchRequest};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use tokio::sync::watch::Receiver;

/// Resolves at the next change of the directory; `None` when the node stops.
type Changed = Pin<Box<dyn Future<Output = Option<Receiver<u64>>> + Send>>;

/// The watch of one connection, if it has one.
pub struct Watch {
    broker: Broker,
    watching: Option<Watching>,
}

struct Watching {
    correlation: u32,
    topics: Option<Vec<TopicName>>,
    told: Option<MetadataResponse>,
    is_due: bool,
    changed: Option<Changed>,
}

impl Watch {
    /// Nothing is watched yet.
    pub fn new(broker: &Broker) -> Self {
        Self { broker: broker.clone(), watching: None }
    }

    /// Watches from now on, in the place of what was watched before.
    pub fn begin(&mut self, correlation: u32, request: WatchRequest) {
        let changed = Some(next_change(self.broker.router().changes()));
        let topics = request.topics;
        self.watching = Some(Watching { correlation, topics, told: None, is_due: true, changed });
    }

    /// Watches nothing.
    pub fn end(&mut self) {
        self.watching = None;
    }

    /// What is to be told now, with the correlation of the watch.
    pub fn poll_change(
        &mut self,
        task: &mut TaskContext<'_>,
        context: &Context,
    ) -> Option<(u32, ClusterChanged)> {
        let watching = self.watching.as_mut()?;
        while let Some(changed) = &mut watching.changed {
            let Poll::Ready(changes) = changed.as_mut().poll(task) else { break };
            watching.is_due = true;
            watching.changed = changes.map(next_change);
        }
        if !std::mem::take(&mut watching.is_due) {
            return None;
        }
        let cluster = describe(context, watching.topics.as_deref(), &BTreeMap::new());
        if watching.told.as_ref() == Some(&cluster) {
            return None;
        }
        watching.told = Some(cluster.clone());
        Some((watching.correlation, ClusterChanged { cluster }))
    }
}

fn next_change(mut changes: Receiver<u64>) -> Changed {
    Box::pin(async move {
        changes.changed().await.ok()?;
        Some(changes)
    })
}
