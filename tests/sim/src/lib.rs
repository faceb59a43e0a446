//! A whole cluster in one thread, from one seed: the brains, the log, the joint between them and
//! the peers' bytes are the very same that the binary runs; network, disks, clocks, processes and
//! clients are simulated.
//!
//! ```text
//!   Plan (seed) ──> World ── Event ──> node: Shard ── effects ──> CommitCycle over SimDisk
//!                     │                  │ Node                     │ answers, later
//!                     │                  └── peers' frames ──> Links: lost, late, twice, broken
//!                     ├── clients: produce, read, groups, administration, by retries
//!                     └── Checker: what must hold of it all, after every step
//! ```
//!
//! Invariants: the same plan gives the same events, effects and hash; nothing here reads a clock,
//! a thread or an unordered map.
//!
//! Absent on purpose: sockets, doors and their bytes, which the tests of real processes have.

mod brain;
mod checker;
mod clients;
mod clock;
mod damage;
mod disk;
mod event;
mod faults;
mod groups;
mod heal;
mod ledger;
mod links;
mod membership;
mod mending;
mod network;
mod node;
mod note;
mod plan;
mod process;
mod promises;
mod report;
mod requests;
mod rest;
mod retention;
mod rolling;
mod shrink;
mod trace;
mod turn;
mod world;

pub use ledger::Campaign;
pub use plan::{FaultClass, Plan};
pub use report::{Broken, Outcome, Totals};
pub use shrink::shrink;
pub use world::run;
