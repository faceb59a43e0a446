//! A real broker in the process of a test.
