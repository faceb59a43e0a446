//! Little-endian fields of what the brain stores: command bodies, memberships, state files.
//!
//! Invariants: a read never passes the input's end and never panics; a length is checked against
//! what is there before anything is reserved for it.
//!
//! Absent on purpose: Kafka's big-endian wire format, which only doors and `protocol` know.

use thiserror::Error;

/// Stored bytes that do not decode. They come from our own log under its checksum, so whoever
/// meets this stops the partition instead of guessing.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("stored {what} does not decode at byte {position}: {reason}")]
pub struct DecodeError {
    /// What was being decoded.
    pub what: &'static str,
    /// Bytes read before the failure.
    pub position: usize,
    /// What was wrong.
    pub reason: String,
}

impl DecodeError {
    /// An error that a nested decoder has described.
    #[must_use]
    pub const fn because(what: &'static str, reason: String) -> Self {
        Self { what, position: 0, reason }
    }
}

/// Reads fields off a slice.
#[derive(Debug)]
pub struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
    length_bytes: usize,
}

macro_rules! read_number {
    ($($(#[$doc:meta])* $name:ident: $type:ty),*) => {
        $($(#[$doc])*
        pub fn $name(&mut self) -> Result<$type, DecodeError> {
            self.array().map(<$type>::from_le_bytes)
        })*
    };
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`; `what` names them in errors.
    #[must_use]
    pub const fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes, length_bytes: bytes.len() }
    }

    read_number! {
        /// One byte.
        u8: u8,
        /// Two bytes.
        u16: u16,
        /// Four bytes.
        u32: u32,
        /// Eight bytes.
        u64: u64,
        /// Two bytes, signed.
        i16: i16,
        /// Four bytes, signed.
        i32: i32,
        /// Eight bytes, signed.
        i64: i64
    }

    /// One byte that is 0 or 1.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a flag is neither 0 nor 1")),
        }
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((field, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.error("the bytes end inside a field"));
        };
        self.rest = rest;
        Ok(*field)
    }

    /// Exactly `length_bytes` bytes.
    pub fn slice(&mut self, length_bytes: usize) -> Result<&'a [u8], DecodeError> {
        let Some((field, rest)) = self.rest.split_at_checked(length_bytes) else {
            return Err(self.error("the bytes end inside a field"));
        };
        self.rest = rest;
        Ok(field)
    }

    /// A u32 length and that many bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length_bytes = self.u32()? as usize;
        self.slice(length_bytes)
    }

    /// A u32 length and that many bytes of UTF-8.
    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.error("a string is not UTF-8"))
    }

    /// A u32 count of elements of at least `element_bytes_min` bytes each.
    pub fn count(&mut self, element_bytes_min: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > self.rest.len() / element_bytes_min.max(1) {
            return Err(self.error("a count exceeds what the remaining bytes can hold"));
        }
        Ok(count)
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

    /// Ends the reading: bytes left over are an error.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error("bytes are left over")) }
    }

    /// An error at the present position.
    #[must_use]
    pub fn error(&self, reason: &str) -> DecodeError {
        let position = self.length_bytes - self.rest.len();
        DecodeError { what: self.what, position, reason: reason.to_owned() }
    }
}

/// Appends fields to a vector. Plain numbers are written with `to_le_bytes`.
pub trait Put {
    /// Appends the bytes of a number or a fixed field.
    fn put(&mut self, field: impl AsRef<[u8]>) -> &mut Self;

    /// Appends a u32 length and the bytes.
    fn put_bytes(&mut self, bytes: &[u8]) -> &mut Self;

    /// Appends a u32 element count.
    fn put_count(&mut self, count: usize) -> &mut Self;
}

impl Put for Vec<u8> {
    fn put(&mut self, field: impl AsRef<[u8]>) -> &mut Self {
        self.extend_from_slice(field.as_ref());
        self
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.put_count(bytes.len()).put(bytes)
    }

    fn put_count(&mut self, count: usize) -> &mut Self {
        let count = u32::try_from(count).expect("every stored collection has a limit below 2^32");
        self.put(count.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_round_trip() {
        let mut bytes = Vec::new();
        bytes.put(7_u16.to_le_bytes()).put_bytes(b"abc").put([1]).put((-2_i64).to_le_bytes());
        let mut reader = Reader::new("sample", &bytes);
        assert_eq!(reader.u16(), Ok(7));
        assert_eq!(reader.string(), Ok("abc"));
        assert_eq!(reader.bool(), Ok(true));
        assert_eq!(reader.i64(), Ok(-2));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_length_that_lies_is_an_error_with_its_position() {
        let bytes = [0xFF, 0xFF, 0xFF, 0xFF, 1];
        let error = Reader::new("sample", &bytes).bytes().unwrap_err();
        assert_eq!(error.position, 4);
        assert_eq!(Reader::new("sample", &bytes).count(8).unwrap_err().position, 4);
    }
}
