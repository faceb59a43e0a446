//! The brain.

pub mod clock;
