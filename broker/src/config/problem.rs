//! What can be wrong with a configuration, each fault in one line.
//!
//! Absent on purpose: stopping at the first one. Whoever starts a node sees every fault at once.

use super::keys::{KEYS, Key, find};
use super::sources::Origin;
use super::value::allowed;
use std::fmt;

/// One fault. Its text names the key, where the value came from, the value, what is allowed and,
/// for a misspelling, the nearest known key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// No such key.
    UnknownKey {
        /// As written.
        key: String,
        /// Where.
        origin: Origin,
        /// As written.
        value: String,
    },
    /// The value has another type or lies outside of the range.
    BadValue {
        /// The key.
        key: &'static str,
        /// Where.
        origin: Origin,
        /// As written.
        value: String,
    },
    /// The value is legal, but asks for a feature that this build lacks.
    NotBuilt {
        /// The key or flag.
        key: &'static str,
        /// Where.
        origin: Origin,
        /// As written.
        value: String,
        /// The feature, and what is accepted instead.
        feature: &'static str,
    },
    /// Two values contradict each other.
    Relation {
        /// The key that is wrong with respect to the other.
        key: &'static str,
        /// Where.
        origin: Origin,
        /// As written.
        value: String,
        /// The rule, with the other key, its value and its origin.
        rule: String,
    },
    /// A source could not be read or is not `key=value` or TOML.
    Source {
        /// Which.
        origin: Origin,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey { key, origin, value } => {
                let near = nearest(key);
                write!(f, "{key} = {value} ({origin}): no such key; the nearest is ")?;
                write!(f, "{}, {}", near.name, allowed(near))
            }
            Self::BadValue { key, origin, value } => {
                let range = find(key).map(allowed).unwrap_or_default();
                write!(f, "{key} = {value} ({origin}): allowed is {range}")
            }
            Self::NotBuilt { key, origin, value, feature } => {
                write!(f, "{key} = {value} ({origin}): this build has no {feature}")
            }
            Self::Relation { key, origin, value, rule } => {
                write!(f, "{key} = {value} ({origin}): {rule}")
            }
            Self::Source { origin, reason } => write!(f, "{origin}: {reason}"),
        }
    }
}

/// Every fault of one configuration; never empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.0.iter().enumerate() {
            let line_break = if number == 0 { "" } else { "\n" };
            write!(f, "{line_break}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The known key with the smallest edit distance. A right name under a wrong section is nearer
/// than any misspelling; a name without a dot may be a section.
#[must_use]
pub fn nearest(wrong: &str) -> &'static Key {
    let wrong_last = wrong.rsplit('.').next();
    let distance = |key: &&Key| {
        let edits = edit_distance(wrong, key.name);
        match key.name.split_once('.') {
            Some((_, last)) if Some(last) == wrong_last => edits.min(1),
            Some((section, _)) => edits.min(edit_distance(wrong, section)),
            None => edits,
        }
    };
    KEYS.iter().min_by_key(distance).expect("the table of keys is not empty")
}

/// Levenshtein's distance in characters (one row of the matrix at a time).
pub(crate) fn edit_distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
