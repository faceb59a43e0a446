//! Stories of one replica.
