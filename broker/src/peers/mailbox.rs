//! What links hear, on its way to the shard.
//!
//! Invariants
//! - What waits for the shard is bounded in number and in bytes, over all links. A link that finds
//!   no room is not read further, so its sender's queue fills, which is bounded too (R15).
//! - The order of one link is kept.
//!
//! Absent on purpose: what an event means.

use super::PeerEvent;
use bateau_protocol::limits::PEER_RAFT_BATCH_BYTES_MAX;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Events that may wait for the shard.
const EVENTS_MAX: usize = 1_024;
/// Bytes of the messages in them: a few of the largest frames.
pub(super) const EVENT_BYTES_MAX: u32 = 64 * 1024 * 1024;

const _: () = assert!(EVENT_BYTES_MAX as usize > 2 * PEER_RAFT_BATCH_BYTES_MAX);

/// An event and the room that it takes until it is taken.
#[derive(Debug)]
struct Letter {
    event: PeerEvent,
    _room: OwnedSemaphorePermit,
}

/// Where links put what they hear.
#[derive(Clone, Debug)]
pub struct Mailbox {
    letters: mpsc::Sender<Letter>,
    room: Arc<Semaphore>,
}

/// Where it is taken out.
#[derive(Debug)]
pub struct Letters {
    letters: mpsc::Receiver<Letter>,
}

/// A mailbox and its letters.
#[must_use]
pub fn mailbox() -> (Mailbox, Letters) {
    let (sender, letters) = mpsc::channel(EVENTS_MAX);
    let room = Arc::new(Semaphore::new(EVENT_BYTES_MAX as usize));
    (Mailbox { letters: sender, room }, Letters { letters })
}

impl Mailbox {
    /// Waits for room, and puts an event in. Whether somebody will take it out: the shard may have
    /// gone.
    ///
    /// - `bytes`: of what the event carries; more than there can ever be room for counts as all.
    pub async fn put(&self, event: PeerEvent, bytes: usize) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(EVENT_BYTES_MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        // Nobody closes the semaphore.
        let Ok(room) = room else { return false };
        self.letters.send(Letter { event, _room: room }).await.is_ok()
    }
}

impl Letters {
    /// The next event; `None` when no mailbox is left. May be dropped at any time.
    pub async fn next(&mut self) -> Option<PeerEvent> {
        self.letters.recv().await.map(|letter| letter.event)
    }

    /// An event that is there already, if any.
    pub fn try_next(&mut self) -> Option<PeerEvent> {
        self.letters.try_recv().ok().map(|letter| letter.event)
    }
}
