//! The joint between brain and memory: what `core` wants of a disk in the log's words, and what the
//! log answers in the brain's.
//!
//! ```text
//!   Shard ── Effect ──> work ──> CommitCycle ── Done ──> answer ── Input ──> Shard
//!   RecoveredLog (log) ──> recovered ──> RecoveredLog (core)
//! ```
//!
//! `core` and `log` do not know each other. The broker and the simulator join them by this crate,
//! so that both run the same joint.
//!
//! Invariants: nothing is decided here, and nothing is left out: what an effect asks of the disk is
//! in the work, and every answer that concerns the brain becomes an input.
//!
//! Absent on purpose: the thread that works, readers' views, and everything that waits.

mod answer;
mod recovery;
mod segments;
mod work;

pub use answer::answer;
pub use recovery::{frames_found, recovered};
pub use segments::segments;
pub use work::{Business, birth, work};
