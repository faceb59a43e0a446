//! `bateau produce`: from arguments, stdin or a file into a topic.
//!
//! Absent on purpose: schemas.

mod input;
mod source;
