//! `bateau`: hands the command line to the library and ends with its exit code.
//!
//! Absent on purpose: everything else, so that tests reach it.

use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    bateau::cli::main(started)
}
