//! The brain.

pub mod clock;
pub mod consumer_group;
pub mod ticket;
