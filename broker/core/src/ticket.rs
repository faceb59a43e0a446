//! The number by which the shell finds whom to answer.
//!
//! Absent on purpose: what the number means. The brain only hands it back.

/// Names one waiting request. Given by the caller, unique among the requests that wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(pub u64);
