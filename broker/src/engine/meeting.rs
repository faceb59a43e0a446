//! A first start beside others: nothing votes before every founder knows every other, and who comes
//! later is let in first.
//!
//! Absent on purpose: who may found with whom, which `Node` decides.

use super::Opened;
use crate::cluster::{Cluster, Heard};
use crate::exit::{Exit, Failure};
use bateau_core::node::{NodeEffect, NodeInput, StartRefusal};
use std::time::Duration;
use tokio::time::Instant;

/// How long a node that stops goes on answering, so that the others hear why.
const LINGER: Duration = Duration::from_secs(1);
/// The longest sleep between two looks, in milliseconds.
const WAIT_MS_MAX: u64 = 200;

/// Speaks with the other voters until the cluster is founded here; at once where it is already, or
/// where this node is the only voter.
///
/// Errors: the configurations of two founders differ (exit code 2), the cluster does not take this
/// node (exit code 4), or the disk refuses.
pub async fn meet(mut opened: Opened, cluster: &mut Cluster) -> Result<Opened, Failure> {
    let mut has_told = false;
    let mut refusal: Option<(Failure, Instant)> = None;
    loop {
        for effect in cluster.step(opened.now()) {
            match effect {
                NodeEffect::Found { founders } => {
                    opened = on_the_disk(opened, |opened| opened.found(founders)).await?;
                    cluster.tell(NodeInput::Founded);
                }
                NodeEffect::Join { members, replica_id, cluster_id } => {
                    let replica = replica_id.get();
                    tracing::info!(replica, "let in: the metadata comes first, then what it gets");
                    let join = move |one: &mut Opened| one.join(members, replica_id, cluster_id);
                    opened = on_the_disk(opened, join).await?;
                    cluster.tell(NodeInput::Founded);
                }
                NodeEffect::NotePeer { node, start } => {
                    opened = on_the_disk(opened, move |one| one.note_peer(node, start)).await?;
                    cluster.tell(NodeInput::PeerNoted { node, start });
                }
                NodeEffect::Stop(found) => {
                    refusal.get_or_insert_with(|| (refused(&found), Instant::now() + LINGER));
                }
                // Nobody has anything to send or to ask yet.
                _ => {}
            }
        }
        if refusal.as_ref().is_some_and(|(_, until)| Instant::now() >= *until)
            && let Some((failure, _)) = refusal
        {
            return Err(failure);
        }
        if cluster.node().is_founded() {
            return Ok(opened);
        }
        if cluster.is_due(opened.now()) {
            continue;
        }
        if !has_told {
            has_told = true;
            tell_what_it_waits_for(&opened);
        }
        let wait = Duration::from_millis(cluster.wait_ms(opened.now()).min(WAIT_MS_MAX));
        let event = tokio::select! {
            event = cluster.next_event() => event,
            () = tokio::time::sleep(wait) => continue,
        };
        if let Heard::Raft { node, .. } | Heard::Request { node, .. } = cluster.hear(event) {
            tracing::debug!(%node, "a member speaks to a node that is not founded yet");
        }
    }
}

/// A founder waits for the others, a node that comes later for being let in.
fn tell_what_it_waits_for(opened: &Opened) {
    let (own, mut asked) = (opened.settings.node_id, opened.voters());
    asked.retain(|voter| voter.node != own);
    let has_been = opened.identity.former.is_some();
    if !has_been && opened.settings.voters.iter().any(|voter| voter.node == own) {
        return tracing::info!("waiting for the other voters: a cluster begins when all have met");
    }
    let asked: Vec<String> = asked.iter().map(|voter| voter.node.to_string()).collect();
    if has_been {
        return tracing::info!("asking node {} to be taken back", asked.join(", "));
    }
    tracing::info!(
        "asking node {} to be let in; `bateau node add {own}` permits it",
        asked.join(", ")
    );
}

/// Waits for the disk on a thread of its own.
async fn on_the_disk(
    mut opened: Opened,
    act: impl FnOnce(&mut Opened) -> Result<(), Failure> + Send + 'static,
) -> Result<Opened, Failure> {
    let done = tokio::task::spawn_blocking(move || act(&mut opened).map(|()| opened)).await;
    done.map_err(|panic| Failure::new(Exit::Failed, format!("the founding panicked: {panic}")))?
}

/// The exit code of a refusal, and its line.
#[must_use]
pub(crate) fn refused(refusal: &StartRefusal) -> Failure {
    let exit = match refusal {
        StartRefusal::UnequalVoters { .. } | StartRefusal::UnequalWith { .. } => Exit::Usage,
        StartRefusal::NotTaken { .. } => Exit::Refused,
    };
    Failure::new(exit, refusal.to_string())
}
