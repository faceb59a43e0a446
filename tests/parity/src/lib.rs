//! One table of behaviour that every door passes.
