//! The brain.

pub mod clock;
pub mod controller;
pub mod ticket;
