//! How many produces, and how many of their bytes, a connection has in flight.
//!
//! The broker reads nothing beyond its own limits, heartbeats neither, so a client stays below
//! them.
//!
//! Invariant: a batch above the limit goes alone, and never waits for ever.
//!
//! Absent on purpose: other requests, which are few and small, and have their share left free.

use super::stream::Stream;
use std::sync::{Mutex, MutexGuard, PoisonError, Weak};

#[derive(Debug)]
pub(crate) struct Window {
    requests_max: usize,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    requests: usize,
    bytes: usize,
    blocked: Vec<Weak<Stream>>,
}

impl Window {
    pub fn new(requests_max: usize, bytes_max: usize) -> Self {
        Self { requests_max, bytes_max, state: Mutex::default() }
    }

    /// Takes room for one request; where there is none, `stream` is woken when there is.
    pub fn try_take(&self, bytes: usize, stream: impl FnOnce() -> Weak<Stream>) -> bool {
        let mut state = self.lock();
        let fits = state.requests < self.requests_max
            && state.bytes.saturating_add(bytes) <= self.bytes_max;
        if fits || state.requests == 0 {
            state.requests += 1;
            state.bytes += bytes;
            return true;
        }
        state.blocked.push(stream());
        false
    }

    /// Gives the room of one request back.
    pub fn give_back(&self, bytes: usize) {
        let mut state = self.lock();
        state.requests = state.requests.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(bytes);
        let blocked = std::mem::take(&mut state.blocked);
        drop(state);
        blocked.iter().filter_map(Weak::upgrade).for_each(|stream| stream.wake());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_above_the_limit_goes_alone() {
        let window = Window::new(2, 100);
        assert!(window.try_take(500, Weak::new));
        assert!(!window.try_take(1, Weak::new));
        window.give_back(500);
        assert!(window.try_take(60, Weak::new));
        assert!(!window.try_take(60, Weak::new));
        assert!(window.try_take(40, Weak::new));
        assert!(!window.try_take(0, Weak::new), "two requests are the limit");
    }
}
