//! The Rust client of Bateau.
