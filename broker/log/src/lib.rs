//! The memory.
