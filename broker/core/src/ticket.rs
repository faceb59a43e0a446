//! The names under which something is awaited: an answer, and a proposal on its way.
//!
//! Invariants
//! - Whoever accepts a ticket answers it exactly once, also on a change of role.
//! - A proposal is heard of again at most once: when it is applied, or when it never will be.
//!
//! Absent on purpose: what a name stands for. Only who issued it knows.

/// Names one waiting request. Opaque to the brain; unique among the requests that wait at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);

/// Names one proposal of one state machine, which never uses it twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ProposalToken(pub u64);
