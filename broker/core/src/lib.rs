//! The brain: everything that Bateau decides, without I/O.
//!
//! ```text
//!   Shard::step(now, inputs, effects)
//!     └─ Replica (one per partition): raft, tail, acks
//!          └─ derived from its log: Producers | GroupCoordinator | Controller
//! ```
//!
//! Invariants
//! - Time, randomness and disk are arguments; the same inputs give the same effects.
//! - What is asked is answered by effects, each ticket exactly once.
//!
//! Absent on purpose: threads, sockets, clocks, files, logging; and Kafka's wire formats.

pub mod clock;
pub mod codec;
pub mod command_frame;
pub mod consumer_group;
pub mod controller;
pub mod node;
pub mod replica;
pub mod shard;
pub mod ticket;
