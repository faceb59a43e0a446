//! The native door: our own protocol over QUIC.
//!
//! ```text
//!   listener ─ handshakes ─> connection ─ bytes ──> session ─ requests ─> dispatch
//!                               ▲  ▲                   ▲                     │
//!           feed ─ Records ─────┘  └── many frames ────┴────── replies ── convert ─> Broker
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | `listener` | sockets, handshakes, who is let in |
//! | `connection` | one connection's task; `stream`: one stream of it |
//! | `session` | frames, versions, roles, limits of requests and replies; no QUIC, no clock |
//! | `subscription` | credits: whose turn, and how much; no logs |
//! | `feed` | subscriptions joined with partitions |
//! | `watch` | changes of the cluster |
//! | `dispatch` | which conversion a request goes through |
//! | `convert` | wire to `Broker` and back, errors to codes |
//!
//! Invariants
//! - A stream whose reader is slow holds up no other stream.
//! - Batches of one partition on one stream are appended and acknowledged in their order.
//! - Whatever a client sends ends at most its own connection.
//!
//! Absent on purpose: datagrams, unidirectional streams, 0-RTT, a task or a stream per request.

mod connection;
mod convert;
mod dispatch;
mod feed;
mod lanes;
mod listener;
mod session;
mod stream;
mod subscription;
mod watch;

pub use listener::{NativeDoor, NativeSettings};

#[cfg(test)]
mod tests;
