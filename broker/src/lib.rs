//! The body: one binary.
//!
//! ```text
//!   main ──► cli ──► config ──► server ──► node ──► (shards, disk, doors)
//!                                  │
//!                   ready ◄────────┘  the ready line or the banner
//! ```
//!
//! `time_lookup` reads what is inside of stored batches, off the network threads.
//!
//! Only this crate names tokio, sockets, threads, clocks and the environment.

pub mod admin;
pub mod api;
mod base64;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod controls;
pub mod disk_worker;
pub mod doors;
pub mod engine;
pub mod entropy;
pub mod exit;
pub mod follower_reads;
pub mod gauges;
pub mod local_cluster;
pub mod node;
pub mod nodes;
pub mod offsets;
pub mod partition;
pub mod peers;
pub mod readers;
pub mod ready;
pub mod router;
pub mod scrub;
pub mod server;
pub mod shard;
pub mod telemetry;
pub mod time_lookup;
pub mod tls;
pub mod trash;
