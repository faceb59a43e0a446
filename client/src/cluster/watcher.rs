//! The task that keeps the knowledge of topics fresh.
//!
//! Absent on purpose: polling. The broker says what has changed; a lost connection is made anew,
//! and its first push says what was missed. Only a broker that has said nothing for a while is
//! asked who is in the cluster: a dead one says nothing either, and owes no acknowledgement.

use super::Cluster;
use crate::connection::Connection;
use crate::connection::stream::PushSink;
use crate::error::RequestError;
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{
    ClusterChanged, Kind, MetadataRequest, TopicName, WatchRequest, frame,
};
use bytes::Bytes;
use fastrand::Rng;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The kind of the pushes.
const CHANGED: Kind = Kind(0x4011);

/// The longest wait between two attempts to connect.
const DELAY_MAX: Duration = Duration::from_secs(1);

struct Changes {
    cluster: Weak<Cluster>,
}

impl PushSink for Changes {
    fn pushed(&self, kind: Kind, body: Bytes, version: i16) -> bool {
        let Some(cluster) = self.cluster.upgrade() else { return false };
        if kind == CHANGED {
            match frame::decode::<ClusterChanged>(body, version) {
                Ok(changed) => cluster.learn(&changed.cluster),
                Err(error) => tracing::warn!(%error, "a change of the cluster cannot be read"),
            }
        }
        true
    }

    fn lost(&self, _error: RequestError) {}
}

/// Runs until the cluster is shut down.
pub(super) async fn run(cluster: Arc<Cluster>) {
    let mut failures = 0_u32;
    loop {
        tokio::select! {
            () = cluster.down() => return,
            watched = watch_once(&cluster) => match watched {
                Ok(()) => failures = 0,
                Err(error) => {
                    tracing::debug!(%error, "no broker to watch the cluster with");
                    failures = failures.saturating_add(1);
                }
            },
        }
        let first = Duration::from_millis(20);
        let delay = crate::retry::jittered(first, failures, DELAY_MAX, &mut Rng::new());
        tokio::select! {
            () = cluster.down() => return,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// Watches over one connection, until it ends.
async fn watch_once(cluster: &Arc<Cluster>) -> Result<(), RequestError> {
    let connection = cluster.any().await?;
    // Where there is no better one, this one is kept until it ends.
    let was_suspect = connection.is_suspect();
    let mut watch = None;
    loop {
        let names: Vec<_> = cluster.lock().interest.iter().cloned().collect();
        let name = |name: &Arc<str>| TopicName { name: name.to_string().into(), id: TopicId::ZERO };
        let request = WatchRequest { topics: Some(names.iter().map(name).collect()) };
        let sink = Arc::new(Changes { cluster: Arc::downgrade(cluster) });
        let number = connection.control.watch(&request, sink)?;
        if let Some(before) = watch.replace(number) {
            connection.control.unwatch(before);
        }
        tokio::select! {
            () = connection.closed() => return Ok(()),
            // Another one may know more, and that this one is dead.
            () = connection.suspected(), if !was_suspect => return Ok(()),
            () = cluster.interest_grew.notified() => {}
            () = keep_asking(cluster, &connection) => {}
        }
        if !still_best(&connection) {
            return Ok(());
        }
    }
}

/// Asks whenever nothing has come for a third of the time after which silence is death. Never
/// returns.
async fn keep_asking(cluster: &Cluster, connection: &Connection) {
    let nobody = MetadataRequest { topics: Some(Vec::new()), auto_create: false };
    let mut heard = connection.heard();
    loop {
        tokio::time::sleep(cluster.options.silence / 3).await;
        let now = connection.heard();
        if now == heard {
            // An answer that does not come is noticed by the connection.
            if let Ok(metadata) = connection.control.call(&nobody).await {
                cluster.learn_nodes(&metadata);
            }
        }
        heard = now;
    }
}

/// A broker that stops says so before it ends its connections.
fn still_best(connection: &Connection) -> bool {
    connection.is_usable()
}
