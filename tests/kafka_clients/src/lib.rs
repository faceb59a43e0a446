//! Real Kafka clients, and clients that misbehave on purpose, against the real `bateau` binary.
//!
//! ```text
//!   tests/kafkajs.rs ----> Services (kafkajs) ---\
//!   tests/clients.rs ----> Python, Go, Java ------+--> Program --> a `bateau dev` of its own
//!   tests/bad_input.rs --> raw::Connection ------/
//! ```
//!
//! - [`broker`]: starts, kills and restarts `bateau dev` on a data directory that is removed.
//! - [`program`]: a child process whose output lines can be waited for, killed when dropped.
//! - [`data_dir`]: what lies in a broker's data directory, and how to damage it.
//! - [`tmpfs`]: a filesystem of a test's own, small enough to be filled.
//! - [`runtimes`]: Node.js, Python, Go and Java, and the pinned packages, installed once.
//! - [`namespace`]: a network of a test's own, in which port 9092 is free.
//! - [`deliveries`]: what services reported, and the rules that it must keep.
//! - [`tls`]: certificates, and a client that sees the one that is served.
//! - [`raw`]: a Kafka client that writes any byte it likes, with a writer of its own.
//! - [`bystander`]: produces and consumes meanwhile, and must see no error.
//! - [`following`]: our Rust client under load, which must see no error and miss nothing.
//!
//! # Invariants
//!
//! - Every wait has a deadline and a condition; a wait that fails says what it saw instead.
//! - A child never outlives its owner, and a data directory never outlives its broker.
//! - Nothing here knows `bateau-protocol`: a mistake there must not hide itself here. The one test
//!   that does (`tests/parts.rs`) compares it with real clients, and [`following`] is about the
//!   client that is built on it.
//!
//! # Absent on purpose
//!
//! Measurements (they live in `benches/`), and faults below the filesystem (tests of the log).

pub mod broker;
pub mod bystander;
pub mod data_dir;
pub mod deliveries;
pub mod following;
pub mod namespace;
pub mod program;
pub mod raw;
pub mod runtimes;
pub mod scratch;
pub mod tls;
pub mod tmpfs;
