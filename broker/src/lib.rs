//! The body: one binary.
//!
//! ```text
//!   main ──► cli ──► config ──► server ──► (shards, disk, doors)
//!                                  │
//!                   ready ◄────────┘  the ready line or the banner
//! ```
//!
//! Only this crate names tokio, sockets, threads, clocks and the environment.

pub mod config;
pub mod exit;
pub mod server;
