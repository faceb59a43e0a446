//! Little-endian primitives under the metadata commands and the snapshot.
//!
//! Invariants
//! - Reading never panics, never passes the end, and never reserves room for a count that the
//!   remaining bytes cannot hold.
//!
//! Absent on purpose: what the fields mean.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Why bytes are no commands, or no snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum WireError {
    /// The input ends inside a field.
    #[error("{field}: needs {needed} bytes, {found} are left")]
    Truncated {
        /// The field being read.
        field: &'static str,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are left.
        found: usize,
    },
    /// A count that the rest of the input cannot hold.
    #[error("{field}: {found} elements of at least {element_bytes_min} bytes, {left} are left")]
    Count {
        /// The list being read.
        field: &'static str,
        /// The count that was read.
        found: u32,
        /// Least bytes of one element.
        element_bytes_min: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A text that is not UTF-8.
    #[error("{field}: not UTF-8")]
    Text {
        /// The field being read.
        field: &'static str,
    },
    /// A value outside of its range.
    #[error("{field}: found {found}, expected {expected}")]
    Value {
        /// The field being read.
        field: &'static str,
        /// What was there.
        found: u64,
        /// What may be there.
        expected: &'static str,
    },
    /// Bytes behind the last field.
    #[error("{what}: {found} bytes behind the last field")]
    Trailing {
        /// What was read.
        what: &'static str,
        /// Bytes that are left.
        found: usize,
    },
}

/// Reads fields from the front of a slice.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn bytes(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError::Truncated {
            field,
            needed: length,
            found: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError::Truncated {
            field,
            needed: N,
            found: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A flag: 0 or 1 and nothing else, so that equal values have equal bytes.
    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(WireError::Value { field, found: found.into(), expected: "0 or 1" }),
        }
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<&'a str, WireError> {
        let length = self.u16(field)?;
        let bytes = self.bytes(length.into(), field)?;
        std::str::from_utf8(bytes).map_err(|_| WireError::Text { field })
    }

    /// A list: count u32, then the elements.
    pub(super) fn list<T>(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        let count = self.u32(field)?;
        let left = self.rest.len();
        let fits = (count as usize).checked_mul(element_bytes_min).is_some_and(|all| all <= left);
        if !fits {
            return Err(WireError::Count { field, found: count, element_bytes_min, left });
        }
        (0..count).map(|_| element(self)).collect()
    }

    /// Ends the reading: nothing may be left.
    pub(super) fn finish(self, what: &'static str) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            found => Err(WireError::Trailing { what, found }),
        }
    }
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    buffer: BytesMut,
}

impl Writer {
    pub(super) fn u16(&mut self, value: u16) {
        self.buffer.put_u16_le(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.buffer.put_u32_le(value);
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.buffer.put_u64_le(value);
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.buffer.put_u8(value.into());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// A text behind its length.
    ///
    /// Panics above 65,535 bytes; every text has a far smaller limit where it enters.
    pub(super) fn text(&mut self, text: &str) {
        self.u16(u16::try_from(text.len()).expect("texts are limited where they enter"));
        self.bytes(text.as_bytes());
    }

    /// A list behind its count.
    ///
    /// Panics above 2^32 − 1 elements, which no memory holds.
    pub(super) fn list<T>(
        &mut self,
        elements: impl ExactSizeIterator<Item = T>,
        mut element: impl FnMut(&mut Self, T),
    ) {
        self.u32(u32::try_from(elements.len()).expect("no list is that long"));
        for value in elements {
            element(self, value);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Writes `value` over the four bytes at `position`, which the caller has written before.
    pub(super) fn patch_u32(&mut self, position: usize, value: u32) {
        if let Some(field) = self.buffer.get_mut(position..position + 4) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    }

    pub(super) fn into_bytes(self) -> bytes::Bytes {
        self.buffer.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_lies_reserves_nothing() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 1, 2]);
        let outcome = reader.list("things", 8, |reader| reader.u64("thing"));
        let expected =
            WireError::Count { field: "things", found: u32::MAX, element_bytes_min: 8, left: 2 };
        assert_eq!(outcome, Err(expected));
    }

    #[test]
    fn a_text_must_be_utf8() {
        let mut reader = Reader::new(&[1, 0, 0xff]);
        assert_eq!(reader.text("name"), Err(WireError::Text { field: "name" }));
    }

    #[test]
    fn a_flag_is_zero_or_one() {
        let error = Reader::new(&[2]).flag("internal").unwrap_err();
        assert_eq!(error.to_string(), "internal: found 2, expected 0 or 1");
    }

    #[test]
    fn what_is_left_over_is_an_error() {
        let error = Reader::new(&[0, 0]).finish("command").unwrap_err();
        assert_eq!(error, WireError::Trailing { what: "command", found: 2 });
    }
}
