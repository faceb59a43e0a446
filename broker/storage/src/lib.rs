//! The joint between brain and memory: what `core` wants of a disk in the log's words, and what the
//! log answers in the brain's.
//!
//! ```text
//!   Shard ── Effect ──> work ──> CommitCycle ── Done ──> answer ── Input ──> Shard
//!   RecoveredLog (log) ──> recovered ──> RecoveredLog (core)
//! ```
//!
//! Beside it stands what a node as a whole needs of both: the founding on the disk, and what nodes
//! write to each other.
//!
//! `core` and `log` do not know each other. The broker and the simulator join them by this crate,
//! so that both run the same joint.
//!
//! Invariants: nothing is decided here, and nothing is left out: what an effect asks of the disk is
//! in the work, and every answer that concerns the brain becomes an input.
//!
//! Absent on purpose: the thread that works, readers' views, and everything that waits.

mod answer;
mod boots;
mod carried;
mod founding;
mod letters;
mod recovery;
mod segments;
mod survival;
mod work;

pub use answer::answer;
pub use boots::{note_peer, peer_boots, told_by_disk};
pub use carried::ControllerAnswer;
pub use founding::{found, identity, is_founder, is_of_directory, join, known, members, open};
pub use letters::{
    Letter, Said, answer_letter, frames_of, letter, mending_letter, said, snapshot_letters,
    told_by_shard,
};
pub use recovery::{ends_in_gap, frames_found, recovered, recovered_with_prefix};
pub use segments::segments;
pub use survival::{close_gaps, go_on_alone};
pub use work::{Business, birth, work};
