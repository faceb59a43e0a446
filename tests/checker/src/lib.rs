//! The judge of histories: what clients did, what they saw, and whether a log can have been so.
//!
//! ```text
//!   clients ──> History { sends, polls, latest offsets, drains } ──> check ──> Report
//!                                                                               └ Kind, counts,
//!                                                                                 examples
//! ```
//!
//! Every value is sent once. So where a value lies, who wrote it and when are known, and each rule
//! is one pass over sorted operations: the cost is that of sorting.
//!
//! Invariants
//! - A time-out proves nothing: an [`Outcome::Unknown`] send may be there or not.
//! - An anomaly is certain: a history that some correct broker could have shown is never flagged.
//! - All moments are readings of one clock.
//!
//! Absent on purpose: transactions, and with them write cycles, information-flow cycles and torn
//! reads; registers; retention and compaction, under which offsets are not dense for a reader.

mod check;
mod history;
mod order;
mod report;
pub mod script;

pub use check::check;
pub use history::{Client, History, NEVER, Operation, Outcome, Partition, Record, Value, What};
pub use report::{EXAMPLES_MAX, Found, Kind, Report};
