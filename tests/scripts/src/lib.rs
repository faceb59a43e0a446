//! Golden scripts over the brain: a world of one shard, a disk that is a model, and a clock that
//! somebody winds by hand.
//!
//! ```text
//!   scripts/*.script ── script ──> commands ──> World ── inputs ──> bateau_core::shard::Shard
//!        ^                                       │  ^                     │
//!        └── lines ── render <───────────────────┘  └── Disk <── effects ─┘
//! ```
//!
//! Invariants
//! - A script that runs twice prints the same bytes.
//! - After every step the shard's own invariants hold, nothing has fallen, every ticket was
//!   answered at most once, and an acknowledged batch is among the flushed frames.
//!
//! Absent on purpose: real files, and everything that waits. The log has tests of its own.

// The whole crate is a test: what cannot go on says so and stops.
#![allow(clippy::unwrap_used, reason = "a test world stops where something is not as it must be")]

mod command;
mod disk;
mod groups;
mod names;
mod random;
mod render;
mod run;
mod script;
mod world;

pub use command::Command;
pub use disk::{Disk, Survivors};
pub use random::Random;
pub use script::{Block, check_script};
pub use world::{Asked, World, WorldSettings};
