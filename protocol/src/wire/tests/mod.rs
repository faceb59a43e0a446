//! The bounded primitives, and pseudo-random values for whoever describes structures.

mod primitives;
mod sample;

pub(crate) use sample::{Sample, Source};
