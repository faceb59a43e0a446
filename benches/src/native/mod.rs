//! The native protocol as the benches speak it: raw frames, so that a row can say what a client
//! library adds to them.
//!
//! ```text
//!   client ───────────────► bateau-client ──┐
//!   replay, round_trips ──► peer ──► QUIC, MTU 1,452 ──┬── the broker's native door
//!   bystander, abuse    ──►                            └── loops   bare loops, children
//! ```
//!
//! Both ends use the settings of `bateau-quic`. A bare loop has those of a broker that nobody
//! tuned; the loader limits the datagrams of both directions, because a peer keeps to the longest
//! datagram that the other one takes.
//!
//! Absent on purpose: reconnecting, and anything that could be tuned by hand.

pub mod abuse;
pub mod bystander;
pub mod client;
pub mod ends;
pub mod loops;
pub mod peer;
pub mod replay;

use crate::failure::{Failure, Tried};

/// Runs a future, and every task it needs, on the calling thread: whose CPU time is then all of
/// what this end of a connection costs.
///
/// # Errors
/// The future's, or there can be no runtime.
pub fn run<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().tried(|| "tokio's runtime".to_owned())?;
    runtime.block_on(future)
}
