//! Which names a topic may have.
//!
//! Absent on purpose: collisions of names, which depend on what exists.

use bateau_protocol::limits::TOPIC_NAME_CHARS_MAX;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text is no topic name. INVALID_TOPIC_EXCEPTION (17).
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
pub enum TopicNameError {
    /// No character at all.
    #[error("the empty string is not allowed")]
    Empty,
    /// `.` or `..`.
    #[error("'{name}' is not allowed")]
    Dots {
        /// The name.
        name: String,
    },
    /// Too many characters.
    #[error("the length {found} is longer than the max allowed length {TOPIC_NAME_CHARS_MAX}")]
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// A character outside of Kafka's set.
    #[error(
        "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
    )]
    Characters {
        /// The name.
        name: String,
    },
}

/// Checks a name against Kafka's rules: 1 to 249 of `[a-zA-Z0-9._-]`, neither `.` nor `..`.
///
/// Errors: [`TopicNameError`].
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if matches!(name, "." | "..") {
        return Err(TopicNameError::Dots { name: name.to_owned() });
    }
    if name.len() > TOPIC_NAME_CHARS_MAX {
        return Err(TopicNameError::TooLong { found: name.len() });
    }
    match name.bytes().all(allowed) {
        true => Ok(()),
        false => Err(TopicNameError::Characters { name: name.to_owned() }),
    }
}

/// Whether a name is one of Kafka's own internal topics. We have none of them, keep what they
/// hold elsewhere, and let nobody make an empty one that would only mislead tools.
#[must_use]
pub fn is_reserved_topic_name(name: &str) -> bool {
    matches!(
        name,
        "__consumer_offsets" | "__transaction_state" | "__share_group_state" | "__cluster_metadata"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        let longest = "x".repeat(249);
        for name in ["a", "order-created", "a.b_c-D9", "...", longest.as_str()] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
        let too_long = "x".repeat(250);
        for name in ["", ".", "..", "bad name", "ä", "a/b", "@groups", too_long.as_str()] {
            assert!(check_topic_name(name).is_err(), "{name}");
        }
        assert_eq!(check_topic_name(&too_long), Err(TopicNameError::TooLong { found: 250 }));
    }
}
