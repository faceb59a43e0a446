//! The body: one binary.
//!
//! ```text
//!   main ──► cli ──► config ──► server ──► (shards, disk, doors)
//!                                  │
//!                   ready ◄────────┘  the ready line or the banner
//! ```
//!
//! Only this crate names tokio, sockets, threads, clocks and the environment.

pub mod cli;
pub mod config;
pub mod exit;
pub mod ready;
pub mod server;
pub mod telemetry;
