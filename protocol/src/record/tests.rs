//! Batches of real clients, broken batches, and batches that lie.
