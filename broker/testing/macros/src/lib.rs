//! The attribute that gives a test its broker.
