//! The HTTP door: health, and in `dev --test-control` the controls of a test.
//!
//! ```text
//!   socket ─> listener ─> hyper (HTTP/1.1) ─> guard ─> routes ─┬─ health    livez readyz startupz
//!                           limits, deadlines                  └─ control   /test/v1/… (loopback)
//! ```
//!
//! | file | what it knows |
//! |---|---|
//! | `listener` | sockets, limits of connections, draining |
//! | `timed` | a peer that does not read is cut |
//! | `service` | one request from its head to its answer |
//! | `guard` | whether a browser was lured here (DNS rebinding, foreign origins) |
//! | `routes` | which path has which method; 404 and 405 |
//! | `answer` | answers and problems as JSON |
//! | `health` | whether the node lives, has started, is ready |
//! | `control` | what a test may do, in JSON |
//! | `cluster` | the same to nodes as a whole and the ways between them |
//!
//! Invariants
//! - The door answers from before the recovery until after the last request of the other doors.
//! - A request costs at most [`HEADER_BYTES_MAX`] and [`BODY_BYTES_MAX`] of memory, and ends.
//! - Nothing here is reached through a name or an origin that a browser was given by a stranger.
//!
//! Absent on purpose: HTTP/2, records and metrics over HTTP; they come with the gateway and with
//! observability.

mod answer;
mod cluster;
mod control;
mod guard;
mod health;
mod listener;
mod routes;
mod service;
mod timed;

#[cfg(test)]
mod tests;

pub use listener::HttpDoor;

use std::time::Duration;

/// Open connections of this door; one more is closed as soon as it is there.
pub const CONNECTIONS_MAX: usize = 512;
/// Bytes of a request's head.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Header lines of a request.
pub const HEADERS_MAX: usize = 64;
/// Bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// How long a request's head may take, and how long a connection may be idle.
pub const HEADER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a request's body may take.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// How long an answer may wait for its reader to take a byte.
pub const STALL_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a request may take, its body included.
pub const REQUEST_TIME_MAX: Duration = Duration::from_mins(2);
