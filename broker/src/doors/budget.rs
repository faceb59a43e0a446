//! Memory that requests may take, for the whole node: beyond it connections are not read further.
//!
//! Invariant: what a connection holds is given back when it ends, however it ends.
//!
//! Absent on purpose: fairness between connections beyond the order in which they ask.

use std::sync::Arc;
use tokio::sync::Semaphore;

/// Bytes are charged in steps of this size, so that small requests seldom touch the node's count.
const STEP_BYTES: usize = 16 * 1024;

/// The node's budget. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

impl Budget {
    /// A budget of `bytes_max` bytes, at most [`Semaphore::MAX_PERMITS`].
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.clamp(STEP_BYTES, Semaphore::MAX_PERMITS);
        Self { bytes: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// A share of it that holds nothing yet.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), held_bytes: 0 }
    }
}

/// What one connection holds of the budget.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    held_bytes: usize,
}

impl Share {
    /// Brings the share to at least `bytes`, or says how many bytes are missing for that. More
    /// than the whole budget is never asked for: one request that large may be served alone.
    pub fn cover(&mut self, bytes: usize) -> Result<(), usize> {
        let wanted = bytes.next_multiple_of(STEP_BYTES).min(self.budget.bytes_max);
        if wanted <= self.held_bytes {
            return Ok(());
        }
        let missing = wanted - self.held_bytes;
        match self.budget.bytes.try_acquire_many(permits(missing)) {
            Ok(permit) => {
                permit.forget();
                self.held_bytes += usize::try_from(permits(missing)).unwrap_or(missing);
                Ok(())
            }
            Err(_) => Err(missing),
        }
    }

    /// Gives back what goes beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let kept = bytes.next_multiple_of(STEP_BYTES);
        if kept < self.held_bytes {
            self.budget.bytes.add_permits(self.held_bytes - kept);
            self.held_bytes = kept;
        }
    }

    /// Waits until `bytes` are free, without taking them.
    pub fn until_free(&self, bytes: usize) -> impl Future<Output = ()> + Send + use<> {
        let budget = Arc::clone(&self.budget.bytes);
        async move {
            let acquired = budget.acquire_many(permits(bytes)).await;
            drop(acquired);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.bytes.add_permits(self.held_bytes);
    }
}

/// A frame is at most 1 GiB, and few of them are in flight on one connection.
fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_connection_holds_another_has_to_wait_for() {
        let budget = Budget::new(4 * STEP_BYTES);
        let mut first = budget.share();
        let mut second = budget.share();
        assert_eq!(first.cover(3 * STEP_BYTES), Ok(()));
        assert_eq!(second.cover(STEP_BYTES + 1), Err(2 * STEP_BYTES));
        first.shrink_to(STEP_BYTES);
        assert_eq!(second.cover(STEP_BYTES + 1), Ok(()));
        drop((first, second));
        assert_eq!(budget.bytes.available_permits(), 4 * STEP_BYTES);
    }

    #[test]
    fn a_request_larger_than_the_budget_is_served_alone() {
        let budget = Budget::new(2 * STEP_BYTES);
        let mut share = budget.share();
        assert_eq!(share.cover(usize::MAX / 2), Ok(()));
        assert_eq!(budget.share().cover(1), Err(STEP_BYTES));
    }

    #[tokio::test]
    async fn a_waiting_connection_wakes_when_memory_is_free() {
        let budget = Budget::new(2 * STEP_BYTES);
        let (mut first, mut second) = (budget.share(), budget.share());
        first.cover(2 * STEP_BYTES).expect("the budget is untouched");
        let missing = second.cover(1).expect_err("nothing is left");
        let waiting = second.until_free(missing);
        drop(first);
        waiting.await;
        assert_eq!(second.cover(1), Ok(()));
    }
}
