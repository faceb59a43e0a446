//! A cursor over one request that hands out slices and believes no length.
//!
//! Invariants
//! - Nothing is read beyond the message, and no memory is reserved for elements that the bytes
//!   behind a count cannot hold.
//! - Live bytes of decoded values never pass [`Reader::memory_max`]; while an array grows, its
//!   old and its new place both count.
//! - Elements, tagged fields and nesting of one message stay within `limits`.
//!
//! Absent on purpose: what a field is called and when it exists (`wire`, `notation`).

use super::error::{DecodeError, DecodeFault};
use super::text::Text;
use super::value::{At, Wire};
use crate::limits::{
    NESTING_DEPTH_MAX, REQUEST_ELEMENTS_MAX, REQUEST_TAGS_MAX, RESERVED_ELEMENTS_MAX,
};
use bytes::Bytes;

/// Memory for decoded values per byte of message: an empty compact string has one byte on the
/// wire and 32 in memory.
const MEMORY_FACTOR: usize = 32;

/// Memory for decoded values that every message may use, however short.
const MEMORY_BYTES_FLOOR: usize = 60 * 1024;

/// Memory of an array's first reservation, so that nested arrays which lie reserve little.
const FIRST_RESERVATION_BYTES: usize = 16 * 1024;

/// A cursor over the body of one message, at one version.
#[derive(Debug)]
pub struct Reader {
    bytes: Bytes,
    position: usize,
    at: At,
    elements: usize,
    tags: usize,
    depth: usize,
    memory: usize,
    memory_max: usize,
}

impl Reader {
    /// Reads `bytes` as it stands at `at`.
    #[must_use]
    pub fn new(bytes: Bytes, at: At) -> Self {
        let memory_max = bytes.len().saturating_mul(MEMORY_FACTOR) + MEMORY_BYTES_FLOOR;
        Self { bytes, position: 0, at, elements: 0, tags: 0, depth: 0, memory: 0, memory_max }
    }

    /// Version and flexibility of the message.
    #[must_use]
    pub const fn at(&self) -> At {
        self.at
    }

    /// Goes on at another version: a body behind its header.
    pub(crate) fn switch_to(&mut self, at: At) {
        self.at = at;
    }

    /// Bytes read so far.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// Memory reserved for decoded values, in bytes. What a connection is charged for a request
    /// beyond the bytes that arrived.
    #[must_use]
    pub const fn memory(&self) -> usize {
        self.memory
    }

    /// Most memory that decoded values may take, in bytes: 32 times the message and 60 KiB.
    #[must_use]
    pub const fn memory_max(&self) -> usize {
        self.memory_max
    }

    /// The error for this position, not yet named after a field.
    #[must_use]
    pub fn fault(&self, fault: DecodeFault) -> DecodeError {
        let position = self.position;
        DecodeError { message: "", version: self.at.version, field: "", position, fault }
    }

    fn truncated(&self, expected: usize) -> DecodeError {
        self.fault(DecodeFault::Truncated { expected, found: self.remaining() })
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`] when fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let array = self.bytes.get(self.position..).and_then(<[u8]>::first_chunk::<N>);
        let array = *array.ok_or_else(|| self.truncated(N))?;
        self.position += N;
        Ok(array)
    }

    /// The next `length` bytes as a slice of the message; no copy.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`] when fewer are left.
    pub fn slice(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        if length > self.remaining() {
            return Err(self.truncated(length));
        }
        let end = self.position + length;
        let slice = self.bytes.slice(self.position..end);
        self.position = end;
        Ok(slice)
    }

    /// Steps over `length` bytes.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`] when fewer are left.
    pub fn skip(&mut self, length: usize) -> Result<(), DecodeError> {
        if length > self.remaining() {
            return Err(self.truncated(length));
        }
        self.position += length;
        Ok(())
    }

    /// What has been read since `start`, as a slice of the message.
    pub(crate) fn since(&self, start: usize) -> Bytes {
        self.bytes.slice(start.min(self.position)..self.position)
    }

    /// The next byte as a signed number.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`] at the end, as for every number below.
    pub fn int8(&mut self) -> Result<i8, DecodeError> {
        self.array().map(i8::from_be_bytes)
    }

    /// The next two bytes as a signed number.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`].
    pub fn int16(&mut self) -> Result<i16, DecodeError> {
        self.array().map(i16::from_be_bytes)
    }

    /// The next four bytes as a signed number.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`].
    pub fn int32(&mut self) -> Result<i32, DecodeError> {
        self.array().map(i32::from_be_bytes)
    }

    /// The next eight bytes as a signed number.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`].
    pub fn int64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_be_bytes)
    }

    /// An unsigned number of 64 bits.
    ///
    /// # Errors
    /// [`DecodeFault::Truncated`].
    pub fn uint64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    /// An unsigned number of seven bits per byte, lowest first.
    ///
    /// # Errors
    /// [`DecodeFault::Varint`] beyond 32 bits.
    pub fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0_u64;
        for shift in [0_u32, 7, 14, 21, 28] {
            let [byte] = self.array::<1>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| self.fault(DecodeFault::Varint));
            }
        }
        Err(self.fault(DecodeFault::Varint))
    }

    /// A length where −1 (or compact 0) says null: `wide` is the classic form's 32 bits of bytes
    /// and arrays instead of a string's 16.
    fn length(&mut self, wide: bool) -> Result<Option<usize>, DecodeError> {
        let length = if self.at.flexible {
            i64::from(self.varint()?) - 1
        } else if wide {
            i64::from(self.int32()?)
        } else {
            i64::from(self.int16()?)
        };
        if length == -1 {
            return Ok(None);
        }
        match i32::try_from(length).ok().and_then(|length| usize::try_from(length).ok()) {
            Some(length) => Ok(Some(length)),
            None => Err(self.fault(DecodeFault::Length { found: length })),
        }
    }

    /// Text, or `None` for null.
    ///
    /// # Errors
    /// [`DecodeFault::Length`], [`DecodeFault::Truncated`] or [`DecodeFault::Utf8`].
    pub fn string(&mut self) -> Result<Option<Text>, DecodeError> {
        let Some(length) = self.length(false)? else { return Ok(None) };
        let slice = self.slice(length)?;
        match Text::try_from(slice) {
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(self.fault(DecodeFault::Utf8 { valid_bytes: error.valid_up_to() })),
        }
    }

    /// Bytes, or `None` for null: a slice of the message.
    ///
    /// # Errors
    /// [`DecodeFault::Length`] or [`DecodeFault::Truncated`].
    pub fn bytes(&mut self) -> Result<Option<Bytes>, DecodeError> {
        match self.length(true)? {
            Some(length) => self.slice(length).map(Some),
            None => Ok(None),
        }
    }

    /// Steps over bytes or null.
    ///
    /// # Errors
    /// [`DecodeFault::Length`] or [`DecodeFault::Truncated`].
    pub fn skip_bytes(&mut self) -> Result<(), DecodeError> {
        match self.length(true)? {
            Some(length) => self.skip(length),
            None => Ok(()),
        }
    }

    /// The count of an array, or `None` for null. `element_bytes_min` is the smallest encoding of
    /// one element.
    ///
    /// # Errors
    /// [`DecodeFault::Count`] when the rest of the message is too short for so many, or
    /// [`DecodeFault::Elements`] beyond the limit.
    pub fn count(&mut self, element_bytes_min: usize) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.length(true)? else { return Ok(None) };
        let elements_max = self.remaining() / element_bytes_min.max(1);
        if count > elements_max {
            let found = i64::try_from(count).unwrap_or(i64::MAX);
            return Err(self.fault(DecodeFault::Count { found, elements_max }));
        }
        self.elements = self.elements.saturating_add(count);
        if self.elements > REQUEST_ELEMENTS_MAX {
            return Err(self.fault(DecodeFault::Elements { found: self.elements }));
        }
        Ok(Some(count))
    }

    /// An array, or `None` for null.
    ///
    /// # Errors
    /// Those of [`Reader::count`] and of the elements; [`DecodeFault::Memory`].
    pub fn vector<T: Wire>(&mut self) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.count(T::bytes_min(self.at))? else { return Ok(None) };
        let mut items = Vec::new();
        for _ in 0..count {
            if items.len() == items.capacity() {
                self.grow(&mut items, count)?;
            }
            items.push(T::read(self)?);
        }
        Ok(Some(items))
    }

    /// Makes room for more of `count` elements, within the message's budget of memory.
    fn grow<T>(&mut self, items: &mut Vec<T>, count: usize) -> Result<(), DecodeError> {
        let size = size_of::<T>().max(1);
        let before = items.capacity();
        let first = RESERVED_ELEMENTS_MAX.min((FIRST_RESERVATION_BYTES / size).max(1));
        let wanted = count.min(before.saturating_mul(2).max(first));
        // Until the elements have moved, the old place and the new one both hold memory.
        let found = self.memory.saturating_add(wanted.saturating_mul(size));
        if found > self.memory_max {
            return Err(self.fault(DecodeFault::Memory { found, bytes_max: self.memory_max }));
        }
        items.reserve_exact(wanted.saturating_sub(items.len()));
        self.memory = found.saturating_sub(before.saturating_mul(size));
        Ok(())
    }

    /// Enters a structure.
    ///
    /// # Errors
    /// [`DecodeFault::Depth`] when it lies too deep.
    pub fn enter(&mut self) -> Result<(), DecodeError> {
        self.depth += 1;
        if self.depth > NESTING_DEPTH_MAX {
            return Err(self.fault(DecodeFault::Depth));
        }
        Ok(())
    }

    /// Leaves the structure entered last.
    pub fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// The tagged fields behind a structure of a flexible version; nothing at other versions.
    /// `known` reads the field of a tag and says whether it knew it; the rest are counted and
    /// skipped (KIP-482).
    ///
    /// # Errors
    /// [`DecodeFault::Tags`] beyond the limit, [`DecodeFault::TagSize`] when a field's content
    /// does not end where its size says.
    pub fn tagged_fields(
        &mut self,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.at.flexible {
            return Ok(());
        }
        let count = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
        self.tags = self.tags.saturating_add(count);
        if self.tags > REQUEST_TAGS_MAX {
            return Err(self.fault(DecodeFault::Tags { found: self.tags }));
        }
        for _ in 0..count {
            let tag = self.varint()?;
            let expected = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
            if expected > self.remaining() {
                return Err(self.truncated(expected));
            }
            let start = self.position;
            if !known(self, tag)? {
                self.skip(expected)?;
            }
            let found = self.position.saturating_sub(start);
            if found != expected {
                return Err(self.fault(DecodeFault::TagSize { tag, expected, found }));
            }
        }
        Ok(())
    }
}
