//! Records pass through without a copy.
