//! What the numbers are measured with: a loader, bare loops to compare with, and a report.
//!
//! ```text
//!   bin/first_light ──┬── command ── rows ──┬── process, cluster   brokers as children
//!   bin/native_light ─┤                     ├── loader, fetcher, bystander, abuse   over TCP
//!   bin/three_nodes ──┤                     ├── paced, placement, read_back   of clusters
//!   bin/long_lived ───┘                     ├── native    the same over QUIC, raw frames
//!                                           ├── probe, chain   bare loops, children too
//!                                           └── report    rows with contract; `stats`
//! ```
//!
//! A figure without its contract is no figure: every row says how it was taken, beside what the
//! machine can do at best, measured in the same run.
//!
//! Invariants
//! - Only loopback; every command ends by itself, ends its children and removes its files.
//! - A row with any error has no figure.
//!
//! Absent on purpose: assertions about time in tests, and a client of our own for the peers.

pub mod abuse;
pub mod bystander;
pub mod chain;
pub mod cleanup;
pub mod client;
pub mod cluster;
pub mod command;
pub mod counters;
pub mod failure;
pub mod fetcher;
pub mod loader;
pub mod machine;
pub mod native;
pub mod paced;
pub mod payload;
pub mod placement;
pub mod probe;
pub mod process;
pub mod read_back;
pub mod report;
mod requests;
pub mod rows;
pub mod stats;
pub mod testbrokers;
pub mod volumes;
