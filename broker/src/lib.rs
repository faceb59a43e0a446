//! The body: everything that touches the world.
//!
//! ```text
//!   compression   bounded decompression of record batches     time_lookup   offsets by time
//! ```
//!
//! Absent on purpose: decisions, which `bateau_core` takes.

pub mod compression;
pub mod time_lookup;
