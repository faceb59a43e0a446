//! A snapshot on its way to a peer: a few chunks at a time, each cut when there is room for it.
//!
//! Invariants
//! - Of one snapshot at most [`WINDOW`] letters wait for the link; the rest has not been cut.
//! - Whatever becomes of it is told, once.
//!
//! Absent on purpose: how many there are at once, which the shard limits, and trying again.

use super::{Held, Mailbox, PeerEvent, Queued};
use bateau_core::replica::OutgoingSnapshot;
use bateau_storage::{Letter, snapshot_letters};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// Letters of one snapshot that wait for their link: of about a mebibyte each.
pub(super) const WINDOW: u32 = 4;
/// How long a snapshot may take.
const SENDING_TIME_MAX: Duration = Duration::from_secs(120);

/// Where to put what goes to one node.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub queue: mpsc::UnboundedSender<Queued>,
    pub of_link: Arc<AtomicUsize>,
    pub of_node: Arc<AtomicUsize>,
}

impl Way {
    /// Carries letters in order; whether all of them have left.
    pub async fn carry(&self, letters: impl Iterator<Item = Letter>) -> bool {
        let window = Arc::new(Semaphore::new(WINDOW as usize));
        for Letter { message, bytes, .. } in letters {
            // Nobody closes the semaphore.
            let Ok(place) = Arc::clone(&window).acquire_owned().await else { return false };
            self.of_link.fetch_add(bytes, Ordering::Relaxed);
            self.of_node.fetch_add(bytes, Ordering::Relaxed);
            let (of_link, of_node) = (Arc::clone(&self.of_link), Arc::clone(&self.of_node));
            let held = Held { bytes, of_link, of_node, _place: Some(place) };
            if self.queue.send(Queued { message, held }).is_err() {
                return false;
            }
        }
        // What has left has given its place back, and so has what was dropped with the link.
        window.acquire_many(WINDOW).await.is_ok() && !self.queue.is_closed()
    }
}

/// Carries a snapshot and tells how it ended; without a way it ends at once.
pub(super) async fn send(snapshot: OutgoingSnapshot, way: Option<Way>, events: Mailbox) {
    let letters = snapshot_letters(&snapshot);
    let is_sent = match way {
        Some(way) => {
            let carried = tokio::time::timeout(SENDING_TIME_MAX, way.carry(letters));
            carried.await.unwrap_or(false)
        }
        None => false,
    };
    // The shard has gone when nobody hears it.
    let _ = events.put(PeerEvent::Carried(snapshot.outcome(is_sent)), 0).await;
}
