//! Text that is a slice of the request it came in.
//!
//! Invariant: the bytes are valid UTF-8, checked once where they enter.
//!
//! Absent on purpose: mutation, and any rule about what a name may contain. Without `unsafe` each
//! look at the text checks it again; names are short, and the hot path looks once.

use bytes::Bytes;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

/// Cheap UTF-8 text: a clone is a reference count, not a copy.
///
/// Text from a request keeps the whole receive buffer alive; state that outlives the request
/// stores [`Text::detached`] instead. Compares, orders and hashes as `str` does.
#[derive(Clone, Default)]
pub struct Text(Bytes);

impl Text {
    /// The empty text.
    pub const EMPTY: Self = Self(Bytes::new());

    /// Text that lives as long as the program; no allocation.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Every constructor has checked, so the empty fallback is never taken.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes of the text, shared.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// A copy in memory of its own, so that a short name does not keep a request alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }
}

impl TryFrom<Bytes> for Text {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::from_static(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Text {}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.0 == other.as_bytes()
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        // UTF-8 orders by bytes as its code points do, and `str` compares bytes too.
        self.0.cmp(&other.0)
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn only_valid_utf8_becomes_text() {
        assert!(Text::try_from(Bytes::from_static(b"orders-\xc3\xa9")).is_ok());
        assert!(Text::try_from(Bytes::from_static(b"\xff")).is_err());
    }

    #[test]
    fn text_of_a_request_is_shared_until_it_is_detached() {
        let request = Bytes::from(b"--orders--".to_vec());
        let name = Text::try_from(request.slice(2..8)).expect("it is ASCII");
        assert_eq!(name, "orders");
        assert_eq!(name.as_bytes().as_ptr(), request.slice(2..8).as_ptr());
        assert_ne!(name.detached().as_bytes().as_ptr(), name.as_bytes().as_ptr());
        assert_eq!(name.detached(), name);
    }

    #[test]
    fn maps_are_searched_by_plain_text() {
        let map = BTreeMap::from([(Text::from("b"), 2), (String::from("a").into(), 1)]);
        assert_eq!(map.get("a"), Some(&1));
        assert_eq!(map.get("c"), None);
    }
}
