//! A real broker in the process of a test: the production engine on a thread of its own, its
//! doors on free ports of the loopback, its clock and its faults in the test's hands.
//!
//! ```text
//!   test ──TestBroker──> NodeControl, Controls ──┐
//!    └── clients ──── ports of the loopback ──> Node (a thread, its own runtime) ──> Store
//! ```
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), bateau_testing::TestBrokerError> {
//! use bateau_testing::{Api, ErrorCode, TestBroker};
//! use std::time::Duration;
//!
//! let broker = TestBroker::start().await?;
//! broker.seed_topic("orders", 3).await?;
//! broker.fail_next(Api::Produce, ErrorCode::NOT_LEADER_OR_FOLLOWER);
//! // … run what is to be tested against broker.kafka_bootstrap() …
//! broker.advance(Duration::from_secs(46)).await;
//! assert_eq!(broker.request_count(Api::Produce), 0);
//! # Ok(())
//! # }
//! ```
//!
//! Invariants
//! - Dropping a broker joins its threads: no thread, socket or file of it is left, whatever the
//!   test did before, and also in async code.
//! - Brokers share nothing. Ports are those that the system had free, and stay over restarts.
//! - The seed decides ids and what a crash leaves; it is printed when a test fails.
//!
//! Absent on purpose: a stub of the broker. What a test sees here is what it will see later.

mod broker;
mod builder;
mod nodes;
mod store;
mod temporary;
mod testing;
mod witness;

pub use bateau::controls::{Api, Door, ErrorCode, Fault, SeenRequest, Subject};
pub use bateau_testing_macros::test;
pub use broker::{TestBroker, TestBrokerError};
pub use builder::{Builder, Store};
pub use store::MEMORY_BYTES_MAX;

/// What the attribute expands to; not for anybody else.
#[doc(hidden)]
pub mod private {
    pub use crate::testing::{Outcome, run, run_with_broker};
}

/// The examples of the page for users compile.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/testing-with-bateau.md")]
mod page {}
