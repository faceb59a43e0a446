//! The body: one binary.
fn main() {}
