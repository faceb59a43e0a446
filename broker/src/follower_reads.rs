//! Frames that lagging followers need and memory no longer has: read on the thread that may wait
//! for a disk.
//!
//! Invariants
//! - At most `READS_MAX` are under way; beyond that the answer is "not now", and raft asks again
//!   with the follower's next word.
//! - Every read is answered.
//!
//! Absent on purpose: which frames, and for whom. That is raft's.

use crate::readers::ColdReader;
use bateau_core::shard::{FramesFound, Input};
use bateau_log::LogReader;
use bateau_protocol::ids::{Incarnation, LogIndex};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};

/// Reads for followers that may be under way: of about a mebibyte each.
const READS_MAX: usize = 64;

/// What a follower needs.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Of this log.
    pub incarnation: Incarnation,
    /// Number to answer with.
    pub fetch: u64,
    /// The first frame.
    pub first: LogIndex,
    /// The last one, at most; committed.
    pub last: LogIndex,
    /// Payload bytes, the first frame excepted.
    pub bytes_max: u64,
}

/// Reads under way.
#[derive(Debug)]
pub struct FollowerReads {
    cold: ColdReader,
    permits: Arc<Semaphore>,
    sender: mpsc::UnboundedSender<Input>,
    found: mpsc::UnboundedReceiver<Input>,
}

impl FollowerReads {
    /// Nothing is under way.
    #[must_use]
    pub fn new(cold: ColdReader) -> Self {
        let (sender, found) = mpsc::unbounded_channel();
        Self { cold, permits: Arc::new(Semaphore::new(READS_MAX)), sender, found }
    }

    /// Reads; [`FollowerReads::next`] has the answer. To be called inside of a runtime.
    pub fn ask(&self, reader: LogReader, wanted: Wanted) {
        let Wanted { incarnation, fetch, first, last, bytes_max } = wanted;
        let (cold, sender) = (self.cold.clone(), self.sender.clone());
        let answer = move |found| Input::FramesRead { incarnation, fetch, found };
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            // The receiver lives as long as this.
            let _ = sender.send(answer(FramesFound::Unreadable));
            return;
        };
        tokio::spawn(async move {
            let read = move || bateau_storage::frames_found(&reader, first, last, bytes_max);
            let found = cold.run(read).await.unwrap_or(FramesFound::Unreadable);
            let _ = sender.send(answer(found));
            drop(permit);
        });
    }

    /// The next answer. May be dropped at any time.
    pub async fn next(&mut self) -> Input {
        match self.found.recv().await {
            Some(found) => found,
            // A sender lives as long as this.
            None => std::future::pending().await,
        }
    }
}
