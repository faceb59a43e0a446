//! The log as a whole against a plain model, on a disk that fails by the seed.
//!
//! The number of seeds is a constant, so that every run is the same run; the feature `soak`
//! multiplies it: `cargo test -p bateau-log --release --features soak`.

mod closing;
mod crash;
mod faults;
mod harness;
mod install;
mod mending;
mod model;
mod real;
mod recycle;

/// Seeds of the crash test in the daily run.
const SEEDS: u64 = if cfg!(feature = "soak") { 200_000 } else { 2_000 };
