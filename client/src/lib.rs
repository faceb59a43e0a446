//! The Rust client of Bateau.

pub mod breaker;
pub mod codec;
pub mod cursor;
pub mod group;
pub mod partitioner;
pub mod retry;
pub mod trace;
