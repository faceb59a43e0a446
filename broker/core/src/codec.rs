//! Little-endian fields of what the brain stores: commands, memberships, trims, state files.
//!
//! ```text
//!   flag        one byte, 0 or 1              list      count u32, elements
//!   bytes       length u32, bytes             optional  flag, and if it is 1 the value
//!   text        length u32, UTF-8             short text  length u16, UTF-8
//! ```
//!
//! Invariants
//! - Reading never panics, never passes the input's end, and never reserves room for elements or
//!   bytes that are not there.
//! - Equal values have equal bytes: a flag is 0 or 1, a text is strict UTF-8, nothing is padded.
//!
//! Absent on purpose: what the fields mean; and Kafka's big-endian wire format, which only doors
//! and `protocol` know.

use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Elements for which room is made before they were seen.
const RESERVED_ELEMENTS_MAX: usize = 1_024;

/// Stored bytes that do not decode. They come from our own log under its checksum, so whoever
/// meets this stops the partition instead of guessing.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub struct DecodeError {
    /// What was being read.
    pub field: &'static str,
    /// Bytes in front of the failure, from the start of the whole input.
    pub position: usize,
    /// What is wrong.
    pub problem: DecodeProblem,
}

/// What is wrong with a field.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DecodeProblem {
    /// The input ends inside the field.
    #[error("needs {needed} bytes, {found} are left")]
    Truncated {
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left.
        found: usize,
    },
    /// A count that the rest of the input cannot hold.
    #[error("{found} elements of at least {element_bytes_min} bytes, {left} are left")]
    Count {
        /// The count that was read.
        found: u32,
        /// Least bytes of one element.
        element_bytes_min: usize,
        /// Bytes that are left.
        left: usize,
    },
    /// A text that is not UTF-8.
    #[error("not UTF-8")]
    Text,
    /// A value outside of its range.
    #[error("found {found}, expected {expected}")]
    Value {
        /// What was there.
        found: u64,
        /// What may be there.
        expected: &'static str,
    },
    /// Bytes behind the last field.
    #[error("{found} bytes behind the last field")]
    Trailing {
        /// Bytes that are left.
        found: usize,
    },
    /// What a decoder of another kind has said about the field.
    #[error("{0}")]
    Refused(String),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, position, problem } = self;
        match problem {
            DecodeProblem::Refused(reason) => write!(f, "stored {field} does not decode: {reason}"),
            _ => write!(f, "{field} at byte {position}: {problem}"),
        }
    }
}

impl DecodeError {
    /// An error that a decoder of another kind has described, about the whole input.
    #[must_use]
    pub const fn because(field: &'static str, reason: String) -> Self {
        Self { field, position: 0, problem: DecodeProblem::Refused(reason) }
    }
}

/// Reads fields off the front of a slice. Each read names its field for the error.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    position: usize,
}

macro_rules! numbers {
    ($($name:ident: $doc:literal),*) => {
        impl Reader<'_> {
            $(#[doc = concat!("Reads ", $doc, ".")]
            pub fn $name(&mut self, field: &'static str) -> Result<$name, DecodeError> {
                self.array(field).map($name::from_le_bytes)
            })*
        }

        impl Writer {
            $(#[doc = concat!("Appends ", $doc, ".")]
            pub fn $name(&mut self, value: $name) {
                self.raw(&value.to_le_bytes());
            })*
        }
    };
}

numbers! {
    u8: "one byte",
    u16: "two bytes",
    u32: "four bytes",
    u64: "eight bytes",
    i16: "two bytes, signed",
    i32: "four bytes, signed",
    i64: "eight bytes, signed"
}

impl<'a> Reader<'a> {
    /// A reader over the whole input.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, position: 0 }
    }

    /// Exactly `length_bytes` bytes.
    pub fn slice(
        &mut self,
        length_bytes: usize,
        field: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length_bytes)
            .ok_or_else(|| self.truncated(length_bytes, field))?;
        self.advance(rest, length_bytes);
        Ok(taken)
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, rest) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| self.truncated(N, field))?;
        self.advance(rest, N);
        Ok(*taken)
    }

    /// A flag: 0 or 1 and nothing else.
    pub fn flag(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(self.invalid(field, found.into(), "0 or 1")),
        }
    }

    /// A u32 length and that many bytes.
    pub fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let length_bytes = self.u32(field)? as usize;
        self.slice(length_bytes, field)
    }

    /// The same as a copy: state never pins a log segment or a receive buffer.
    pub fn owned_bytes(&mut self, field: &'static str) -> Result<Bytes, DecodeError> {
        self.bytes(field).map(Bytes::copy_from_slice)
    }

    /// A u32 length and that many bytes, to be read field by field. Positions go on.
    pub fn nested(&mut self, field: &'static str) -> Result<Self, DecodeError> {
        let rest = self.bytes(field)?;
        Ok(Self { rest, position: self.position.saturating_sub(rest.len()) })
    }

    /// A u32 length and that many bytes of UTF-8.
    pub fn text(&mut self, field: &'static str) -> Result<Arc<str>, DecodeError> {
        let bytes = self.bytes(field)?;
        // Empty texts are common, and all of them share one allocation.
        if bytes.is_empty() { Ok(Arc::default()) } else { self.utf8(bytes, field).map(Arc::from) }
    }

    /// A u16 length and that many bytes of UTF-8.
    pub fn short_text(&mut self, field: &'static str) -> Result<Arc<str>, DecodeError> {
        let length_bytes = self.u16(field)?;
        let bytes = self.slice(length_bytes.into(), field)?;
        self.utf8(bytes, field).map(Arc::from)
    }

    /// A flag, and behind a 1 the value.
    pub fn optional<T>(
        &mut self,
        field: &'static str,
        value: impl FnOnce(&mut Self, &'static str) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.flag(field)? { value(self, field).map(Some) } else { Ok(None) }
    }

    /// A u32 count and so many elements.
    ///
    /// - `element_bytes_min`: bytes of the shortest element, at least 1; what bounds the count.
    pub fn list<T>(
        &mut self,
        field: &'static str,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let (found, left) = (self.u32(field)?, self.rest.len());
        let count = found as usize;
        if count > left / element_bytes_min.max(1) {
            let problem = DecodeProblem::Count { found, element_bytes_min, left };
            return Err(self.error(field, problem));
        }
        let mut elements = Vec::with_capacity(count.min(RESERVED_ELEMENTS_MAX));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the reading: nothing may be left. `field` names all that was read.
    pub fn finish(self, field: &'static str) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            found => Err(self.error(field, DecodeProblem::Trailing { found })),
        }
    }

    /// The error of a field that has just been read and whose value may not be.
    #[must_use]
    pub const fn invalid(
        &self,
        field: &'static str,
        found: u64,
        expected: &'static str,
    ) -> DecodeError {
        self.error(field, DecodeProblem::Value { found, expected })
    }

    const fn advance(&mut self, rest: &'a [u8], taken_bytes: usize) {
        self.rest = rest;
        self.position = self.position.saturating_add(taken_bytes);
    }

    fn utf8(&self, bytes: &'a [u8], field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(bytes).map_err(|_| self.error(field, DecodeProblem::Text))
    }

    const fn truncated(&self, needed: usize, field: &'static str) -> DecodeError {
        self.error(field, DecodeProblem::Truncated { needed, found: self.rest.len() })
    }

    const fn error(&self, field: &'static str, problem: DecodeProblem) -> DecodeError {
        DecodeError { field, position: self.position, problem }
    }
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
}

impl Writer {
    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.buffer.into()
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing was written.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Appends the bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Appends a flag.
    pub fn flag(&mut self, value: bool) {
        self.u8(value.into());
    }

    /// Appends a u32 length and the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u32(length(bytes.len()));
        self.raw(bytes);
    }

    /// Appends a u32 length and the text.
    pub fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Appends a u16 length and the text, which has at most 65,535 bytes.
    pub fn short_text(&mut self, text: &str) {
        self.u16(u16::try_from(text.len()).expect("short texts are limited where they enter"));
        self.raw(text.as_bytes());
    }

    /// Appends a flag, and behind a 1 the value.
    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Appends a u32 count and the elements.
    pub fn list<T>(
        &mut self,
        elements: impl ExactSizeIterator<Item = T>,
        mut element: impl FnMut(&mut Self, T),
    ) {
        self.u32(length(elements.len()));
        for value in elements {
            element(self, value);
        }
    }

    /// Appends a u32 length and what `body` writes: the counterpart of [`Reader::nested`].
    pub fn nested(&mut self, body: impl FnOnce(&mut Self)) {
        let start = self.buffer.len();
        self.u32(0);
        let body_start = self.buffer.len();
        body(self);
        let body_bytes = length(self.buffer.len().saturating_sub(body_start));
        if let Some(field) = self.buffer.get_mut(start..body_start) {
            field.copy_from_slice(&body_bytes.to_le_bytes());
        }
    }
}

/// A length or count as it is stored.
fn length(length: usize) -> u32 {
    u32::try_from(length).expect("limits keep all that is stored far below 2^32")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Bytes {
        let mut writer = Writer::default();
        writer.u8(1);
        writer.u16(0x0203);
        writer.u32(4);
        writer.u64(5);
        writer.i16(-1);
        writer.i32(-2);
        writer.i64(-3);
        writer.flag(true);
        writer.text("ä");
        writer.text("");
        writer.short_text("b");
        writer.optional(Some("c"), Writer::text);
        writer.optional(None, Writer::text);
        writer.list([7_u16, 8].into_iter(), Writer::u16);
        writer.nested(|writer| writer.raw(&[9, 9]));
        writer.into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        assert_eq!(reader.u8("u8")?, 1);
        assert_eq!(reader.u16("u16")?, 0x0203);
        assert_eq!(reader.u32("u32")?, 4);
        assert_eq!(reader.u64("u64")?, 5);
        assert_eq!(reader.i16("i16")?, -1);
        assert_eq!(reader.i32("i32")?, -2);
        assert_eq!(reader.i64("i64")?, -3);
        assert!(reader.flag("flag")?);
        assert_eq!(&*reader.text("text")?, "ä");
        assert_eq!(&*reader.text("empty")?, "");
        assert_eq!(&*reader.short_text("short")?, "b");
        assert_eq!(reader.optional("some", Reader::text)?.as_deref(), Some("c"));
        assert_eq!(reader.optional("none", Reader::text)?, None);
        assert_eq!(reader.list("list", 2, |reader| reader.u16("element"))?, [7, 8]);
        let mut nested = reader.nested("nested")?;
        assert_eq!(nested.array("array")?, [9, 9]);
        nested.finish("nested")?;
        reader.finish("sample")
    }

    #[test]
    fn fields_survive_the_round_trip() {
        assert_eq!(read(&sample()), Ok(()));
    }

    #[test]
    fn the_bytes_of_every_field_are_written_down() {
        let expected = [
            &[1, 3, 2, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0][..],
            &[255, 255, 254, 255, 255, 255, 253, 255, 255, 255, 255, 255, 255, 255],
            &[1, 2, 0, 0, 0, 0xc3, 0xa4, 0, 0, 0, 0, 1, 0, b'b', 1, 1, 0, 0, 0, b'c', 0],
            &[2, 0, 0, 0, 7, 0, 8, 0, 2, 0, 0, 0, 9, 9],
        ];
        assert_eq!(sample(), expected.concat());
    }

    #[test]
    fn every_truncation_and_a_surplus_is_an_error() {
        let bytes = sample();
        for end in 0..bytes.len() {
            assert!(read(&bytes[..end]).is_err(), "cut at {end}");
        }
        let surplus = [&bytes[..], &[0]].concat();
        let error = read(&surplus).unwrap_err();
        assert_eq!(error.problem, DecodeProblem::Trailing { found: 1 });
        assert_eq!((error.field, error.position), ("sample", bytes.len()));
    }

    #[test]
    fn a_field_cut_short_says_which_where_and_how_much_it_needs() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u16("kind"), Ok(0x0201));
        let error = reader.u64("revision").unwrap_err();
        assert_eq!(error.to_string(), "revision at byte 2: needs 8 bytes, 1 are left");
    }

    #[test]
    fn positions_go_on_inside_nested_bytes() {
        let mut reader = Reader::new(&[7, 2, 0, 0, 0, 1, 2, 8]);
        assert_eq!(reader.u8("first"), Ok(7));
        let mut nested = reader.nested("body").unwrap();
        assert_eq!(nested.u8("inner"), Ok(1));
        assert_eq!(nested.u16("inner").unwrap_err().position, 6);
        assert_eq!(reader.u8("last"), Ok(8));
    }

    #[test]
    fn a_count_that_lies_reserves_nothing() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 1, 2]);
        let error = reader.list("things", 8, |reader| reader.u64("thing")).unwrap_err();
        let expected = DecodeProblem::Count { found: u32::MAX, element_bytes_min: 8, left: 2 };
        assert_eq!((error.position, error.problem), (4, expected));
    }

    #[test]
    fn a_length_that_lies_is_an_error_with_its_position() {
        let error = Reader::new(&[0xff, 0xff, 0xff, 0xff, 1]).bytes("blob").unwrap_err();
        let needed = u32::MAX as usize;
        assert_eq!(error.problem, DecodeProblem::Truncated { needed, found: 1 });
        assert_eq!(error.position, 4);
    }

    #[test]
    fn a_text_must_be_utf8() {
        let short = Reader::new(&[1, 0, 0xff]).short_text("name").unwrap_err();
        let long = Reader::new(&[1, 0, 0, 0, 0xff]).text("name").unwrap_err();
        assert_eq!((short.problem, long.problem), (DecodeProblem::Text, DecodeProblem::Text));
    }

    #[test]
    fn a_flag_is_zero_or_one() {
        let error = Reader::new(&[2]).flag("internal").unwrap_err();
        assert_eq!(error.to_string(), "internal at byte 1: found 2, expected 0 or 1");
    }
}
