//! A cluster in one process: each node on a thread and a runtime of its own, with its own data,
//! doors and clock; between them the links of any cluster, TCP over loopback.
//!
//! ```text
//!   LocalCluster ──orders──> threads: runtime ─> Node::bind ─> begin ─> serve ─> stop
//!   ClusterControl ──pause, kill, wires, leaders──> nodes, from any thread
//! ```
//!
//! For `bateau dev --nodes` and for tests; a server is one node in one process.
//!
//! Invariants
//! - Nodes bind one after the other in the order of their ids, so that the first one gets what it
//!   was given, and no door answers before every node is registered.
//! - When a cluster is stopped or dropped, the threads of all of its nodes have ended.
//!
//! Absent on purpose: giving leaderships away at the end. All of the nodes stop together.

mod control;
mod leaders;
mod places;
mod settings;
mod thread;

pub use control::ClusterControl;
pub use places::prepare;
pub use settings::{NODES_MAX, configs, control, settings};

use crate::exit::{Exit, Failure};
use crate::node::{MortalStore, NodeControl, NodeSettings};
use bateau_protocol::ids::NodeId;
use bateau_quic::SpkiPin;
use futures_util::future::{join_all, try_join_all};
use std::sync::Arc;
use std::time::Duration;
use thread::{Introduced, NodeThread};
use tokio::sync::oneshot;

/// Told of a node that has failed while it served; its thread ends.
pub type OnFailure = Arc<dyn Fn(Failure) + Send + Sync>;

/// Nodes of this process that make a cluster.
pub struct LocalCluster {
    control: ClusterControl,
    threads: Vec<NodeThread>,
    introduced: Vec<Introduced>,
}

impl std::fmt::Debug for LocalCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalCluster").field("nodes", &self.threads.len()).finish_non_exhaustive()
    }
}

impl LocalCluster {
    /// Starts the nodes, and waits until every one is ready. One alone is a cluster too.
    ///
    /// - `nodes`: in the order of their ids; their configurations are of [`configs`].
    ///
    /// Errors: as of [`Node::start`](crate::node::Node::start), of whichever node fails first.
    /// Nothing is left running then, nor where the future is dropped.
    pub async fn start(nodes: Vec<NodeSettings>, on_failure: OnFailure) -> Result<Self, Failure> {
        let seed = nodes.first().and_then(|node| node.entropy.seed());
        let control = ClusterControl::new(nodes.len(), seed);
        let (threads, introduced) = (Vec::new(), Vec::new());
        let mut cluster = Self { control, threads, introduced };
        let mut ready = Vec::new();
        for settings in nodes {
            ready.push(cluster.launch(settings, &on_failure).await?);
        }
        cluster.introduced = try_join_all(ready).await?;
        Ok(cluster)
    }

    /// Starts a thread and waits until its node's doors are bound.
    async fn launch(
        &mut self,
        mut settings: NodeSettings,
        on_failure: &OnFailure,
    ) -> Result<impl Future<Output = Result<Introduced, Failure>> + use<>, Failure> {
        let node = settings.config.node.id;
        settings.company = Some(self.control.clone());
        if settings.controls.is_some() {
            settings.store = Arc::new(MortalStore::new(Arc::clone(&settings.store)));
        }
        let name = Named { node, is_alone: self.control.nodes_count() == 1 };
        let told = Arc::clone(on_failure);
        let on_failure: OnFailure = Arc::new(move |failure| told(name.tell(failure)));
        let (bound, is_bound) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let spawned = NodeThread::spawn(settings, bound, ready, on_failure);
        let (thread, pauses) = spawned.map_err(|error| name.tell(error))?;
        self.threads.push(thread);
        let control = is_bound.await.unwrap_or_else(|_| Err(panicked()));
        self.control.enter(control.map_err(|failure| name.tell(failure))?, pauses);
        Ok(async move {
            let ready = is_ready.await.unwrap_or_else(|_| Err(panicked()));
            ready.map_err(|failure| name.tell(failure))
        })
    }

    /// What controls the nodes, from any thread. A handle keeps nothing alive.
    #[must_use]
    pub fn control(&self) -> &ClusterControl {
        &self.control
    }

    /// The nodes, in the order of their ids.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeControl> {
        self.control.nodes()
    }

    /// The keys that the native doors show, in the order of the nodes' ids; `None` where a door is
    /// off.
    pub fn native_pins(&self) -> impl Iterator<Item = Option<SpkiPin>> + '_ {
        self.introduced.iter().map(|introduced| introduced.native_pin)
    }

    /// Lets requests that run end, for `grace` at most, and accepts nothing more.
    pub async fn drain(&self, grace: Duration) {
        self.control.resume_all();
        join_all(self.threads.iter().map(|thread| thread.drain(grace))).await;
    }

    /// Closes every connection, makes the closing flushes and ends the threads. Blocks.
    ///
    /// Errors: the first of what failed at the end.
    pub fn stop(mut self) -> Result<(), Failure> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Failure> {
        // Whoever stands still hears nothing, and handles must not keep handles.
        self.control.dismiss();
        self.threads.iter_mut().for_each(NodeThread::tell_to_stop);
        let ended: Vec<_> = self.threads.drain(..).map(NodeThread::join).collect();
        ended.into_iter().collect()
    }
}

impl Drop for LocalCluster {
    fn drop(&mut self) {
        if let Err(failure) = self.end() {
            tracing::warn!(%failure, "a node did not stop in peace");
        }
    }
}

/// Names the node in a failure, where it is one of several.
#[derive(Clone, Copy)]
struct Named {
    node: NodeId,
    is_alone: bool,
}

impl Named {
    fn tell(self, failure: Failure) -> Failure {
        if self.is_alone {
            return failure;
        }
        Failure::new(failure.exit, format!("node {}: {}", self.node, failure.message))
    }
}

fn panicked() -> Failure {
    Failure::new(Exit::Failed, "the node's thread panicked")
}
