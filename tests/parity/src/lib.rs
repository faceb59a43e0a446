//! One table of behaviour that every door passes.
//!
//! ```text
//!   rows.rs ── steps ──> Door ──┬─ kafka.rs   frames over TCP      ──┐
//!      │                        └─ native.rs  frames over QUIC     ──┤ a real broker, each row
//!      v                                                             │ a fresh one
//!   lines <──────────────── what was answered, in core's words ──────┘
//!      │
//!   rows.txt         what every door answers: one expectation per row
//!   differences.txt  where a door differs: row, line and reason, each a named line
//! ```
//!
//! Invariant: a row has no expectation per door. What differs stands in one file, and a
//! difference that is not there any more fails as well.
//!
//! Absent on purpose: bytes that only one door has (its codec's tests have them), and clients.

pub mod door;
pub mod kafka;
pub mod native;
pub mod rows;
pub mod script;
