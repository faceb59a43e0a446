//! Handshakes that have begun and not ended: how many, and when an address must be proved first.
//!
//! ```text
//!   Incoming ─ admit ─┬─> Begun(Connecting, permit)   the permit is dropped when it is over
//!                     ├─> Retried                     the client comes again with a token
//!                     └─> Refused                     the node is full of handshakes
//! ```
//!
//! Accepting costs memory and a signature, and a sender of a first packet may lie about its
//! address. Up to [`UNVALIDATED_MAX`] such attempts are served at once, which saves honest clients
//! a round trip; beyond that the address is proved by a Retry packet (RFC 9000 §8.1.2) first.
//!
//! Absent on purpose: timers. Whoever waits for the handshake gives it [`HANDSHAKE_MS_MAX`].

use quinn::{Connecting, ConnectionError, Incoming};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Handshakes with addresses that are not proved, at once.
pub const UNVALIDATED_MAX: usize = 256;
/// Handshakes at once, all together; further attempts are refused.
pub const HANDSHAKES_MAX: usize = 1_024;
/// Longest time of one handshake, in milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;

/// Counts handshakes. Clones count together: a node has one gate for all its endpoints.
#[derive(Clone, Default, Debug)]
pub struct HandshakeGate {
    counts: Arc<Counts>,
}

#[derive(Default, Debug)]
struct Counts {
    all: AtomicUsize,
    unvalidated: AtomicUsize,
}

/// What became of an attempt.
#[derive(Debug)]
pub enum Admission {
    /// The handshake has begun. The permit is to be kept until it has ended either way.
    Begun(Connecting, HandshakePermit),
    /// The client was asked to prove its address and comes again by itself.
    Retried,
    /// Refused: too many handshakes at once.
    Refused,
    /// The attempt was worth nothing: its first packet cannot be answered.
    Failed(ConnectionError),
}

/// A place among the handshakes, given back when dropped.
#[derive(Debug)]
pub struct HandshakePermit {
    counts: Arc<Counts>,
    is_validated: bool,
}

impl HandshakeGate {
    /// A gate with nobody inside.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Handshakes that run, and those of them whose address is not proved.
    #[must_use]
    pub fn running(&self) -> (usize, usize) {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (load(&self.counts.all), load(&self.counts.unvalidated))
    }

    /// Begins the handshake, asks for a Retry, or refuses.
    pub fn admit(&self, incoming: Incoming) -> Admission {
        let is_validated = incoming.remote_address_validated();
        let Some(verdict) = self.enter(is_validated) else {
            incoming.refuse();
            return Admission::Refused;
        };
        match verdict {
            Verdict::Begin(permit) => match incoming.accept() {
                Ok(connecting) => Admission::Begun(connecting, permit),
                Err(error) => Admission::Failed(error),
            },
            Verdict::Retry => match incoming.retry() {
                Ok(()) => Admission::Retried,
                // Quinn grants a Retry to every address that is not proved; dropping refuses.
                Err(error) => {
                    drop(error);
                    Admission::Refused
                }
            },
        }
    }

    fn enter(&self, is_validated: bool) -> Option<Verdict> {
        let (all, unvalidated) = self.running();
        if all >= HANDSHAKES_MAX {
            return None;
        }
        if !is_validated && unvalidated >= UNVALIDATED_MAX {
            return Some(Verdict::Retry);
        }
        self.counts.all.fetch_add(1, Ordering::Relaxed);
        if !is_validated {
            self.counts.unvalidated.fetch_add(1, Ordering::Relaxed);
        }
        let counts = Arc::clone(&self.counts);
        Some(Verdict::Begin(HandshakePermit { counts, is_validated }))
    }
}

enum Verdict {
    Begin(HandshakePermit),
    Retry,
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        self.counts.all.fetch_sub(1, Ordering::Relaxed);
        if !self.is_validated {
            self.counts.unvalidated.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(gate: &HandshakeGate, is_validated: bool) -> HandshakePermit {
        match gate.enter(is_validated) {
            Some(Verdict::Begin(permit)) => permit,
            Some(Verdict::Retry) => panic!("a Retry was asked for at {:?}", gate.running()),
            None => panic!("refused at {:?}", gate.running()),
        }
    }

    #[test]
    fn beyond_256_unproved_addresses_the_next_one_must_be_proved() {
        let gate = HandshakeGate::new();
        let mut permits: Vec<_> = (0..UNVALIDATED_MAX).map(|_| begin(&gate, false)).collect();
        assert!(matches!(gate.enter(false), Some(Verdict::Retry)));
        assert_eq!(gate.running(), (256, 256), "whoever must come again takes no place");
        permits.push(begin(&gate, true));
        permits.truncate(255);
        let _again = begin(&gate, false);
        assert_eq!(gate.running(), (256, 256));
    }

    #[test]
    fn beyond_1024_handshakes_nobody_begins_and_every_place_comes_back() {
        let gate = HandshakeGate::new();
        let permits: Vec<_> = (0..HANDSHAKES_MAX).map(|_| begin(&gate.clone(), true)).collect();
        assert!(gate.enter(true).is_none() && gate.enter(false).is_none());
        drop(permits);
        assert_eq!(gate.running(), (0, 0));
    }
}
