//! The Kafka door: Kafka's protocol over TCP.
//!
//! ```text
//!   listener ─ accept, permits ─> connection ─ bytes ──> session ─ requests ─> dispatch
//!                                     ▲                     ▲                     │
//!                                     └── vectored writes ──┴────── replies ── convert ──> Broker
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | `listener` | sockets to accept from |
//! | `stream` | a socket, or TLS over one, and its handshake |
//! | `connection` | one stream: reads, writes, deadlines |
//! | `session` | order and limits of requests and replies; no socket, no clock |
//! | `dispatch` | which conversion a request goes through |
//! | `controlled` | what a test sees of a request, and answers in the broker's place |
//! | `convert` | wire to `Broker` and back, errors to codes |
//!
//! Invariants
//! - Replies leave in the order of their requests, whatever order they were made in.
//! - Produces of one connection reach the shard in request order, and may wait for their acks
//!   together. Any other request runs alone, as every request does in Kafka.
//! - Whatever a client sends ends at most its own connection.
//!
//! Absent on purpose: SASL, quotas, fetch sessions, transactions.

mod connection;
mod controlled;
mod convert;
mod dispatch;
mod listener;
mod session;
pub(super) mod stream;

pub use listener::KafkaDoor;

#[cfg(test)]
mod tests;
