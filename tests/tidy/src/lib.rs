//! The rules of the house, kept by a machine.
//!
//! ```text
//!   tree ──► text, rust (through `lexer`), docs, formats, invariants, kafka_api ──► Finding
//!   cargo metadata ──► packages ────────────────────────────────────────────────────► Finding
//! ```
//!
//! Each rule is a function from the tree to what is wrong with it; `tests/rules.rs` asserts that
//! nothing is. Every rule has a unit test in which it finds something.
//!
//! Invariants
//! - No rule has a list of files that may break it.
//!
//! Absent on purpose: what rustfmt, clippy and rustc check already.

pub mod docs;
pub mod formats;
pub mod invariants;
pub mod kafka_api;
pub mod lexer;
pub mod packages;
pub mod rust;
pub mod tables;
pub mod text;
pub mod tree;

pub use tree::{SourceFile, Tree};

use std::fmt;

/// One thing that is wrong, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Path from the root.
    pub path: String,
    /// Line from 1, or 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Finding {
    /// A finding at a line, or about a whole file when `line` is 0.
    #[must_use]
    pub fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}
