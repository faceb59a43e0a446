//! The handle under which a caller waits for an answer.
//!
//! Invariants
//! - Whoever accepts a ticket answers it exactly once, also on a change of role.
//!
//! Absent on purpose: what a ticket stands for. Only the body that issued it knows.

/// Names one waiting request. Opaque to the brain; unique among the requests that wait at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);
