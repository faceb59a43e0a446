//! Little-endian values in commands and snapshots: a bounds-checked reader and a writer.
//!
//! Invariants
//! - The reader never panics, never reads past its input, and never reserves room for elements
//!   whose bytes are not there.
//! - What it returns owns its bytes: state never pins a log segment or a receive buffer.
//!
//! Absent on purpose: alignment, compression, and any knowledge of what the values mean.

use bytes::Bytes;

use super::{CommandError, Name};

/// Elements for which room is made before they were seen.
const RESERVED_ELEMENTS_MAX: usize = 1_024;

/// Walks over bytes that may be damaged.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte; `position` is what errors call that byte.
    pub(super) fn new(bytes: &'a [u8], position: usize) -> Self {
        Self { bytes, position }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn malformed(&self, what: &'static str) -> CommandError {
        CommandError::Malformed { position: self.position, what }
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], CommandError> {
        let Some((head, tail)) = self.bytes.split_at_checked(length) else {
            let needed = length.saturating_sub(self.bytes.len());
            return Err(CommandError::Truncated { position: self.position, needed });
        };
        self.bytes = tail;
        self.position = self.position.saturating_add(length);
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], CommandError> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take returned the N bytes that were asked for"))
    }

    pub(super) fn u8(&mut self) -> Result<u8, CommandError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, CommandError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, CommandError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, CommandError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, CommandError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, CommandError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(super) fn flag(&mut self) -> Result<bool, CommandError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.malformed("a flag is neither 0 nor 1")),
        }
    }

    /// A length of bytes that must still be there.
    fn length(&mut self) -> Result<usize, CommandError> {
        let length = self.u32()?;
        usize::try_from(length).map_err(|_| self.malformed("a length beyond this machine"))
    }

    pub(super) fn slice(&mut self) -> Result<&'a [u8], CommandError> {
        let length = self.length()?;
        self.take(length)
    }

    pub(super) fn blob(&mut self) -> Result<Bytes, CommandError> {
        Ok(Bytes::copy_from_slice(self.slice()?))
    }

    pub(super) fn name(&mut self) -> Result<Name, CommandError> {
        let bytes = self.slice()?;
        if bytes.is_empty() {
            return Ok(Name::default());
        }
        let text = std::str::from_utf8(bytes).map_err(|_| self.malformed("text is not UTF-8"))?;
        Ok(Name::from(text))
    }

    pub(super) fn optional_name(&mut self) -> Result<Option<Name>, CommandError> {
        if self.flag()? { Ok(Some(self.name()?)) } else { Ok(None) }
    }

    /// A list whose elements need at least `element_bytes_min` bytes each.
    pub(super) fn list<T>(
        &mut self,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, CommandError>,
    ) -> Result<Vec<T>, CommandError> {
        let count = self.length()?;
        if count.checked_mul(element_bytes_min).is_none_or(|bytes| bytes > self.bytes.len()) {
            return Err(self.malformed("a list has more elements than bytes"));
        }
        let mut elements = Vec::with_capacity(count.min(RESERVED_ELEMENTS_MAX));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(elements)
    }
}

/// Builds a command or a snapshot.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Overwrites four bytes that were written before.
    pub(super) fn patch_u32(&mut self, position: usize, value: u32) {
        self.bytes
            .get_mut(position..position.saturating_add(4))
            .expect("only positions inside what was written are patched")
            .copy_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(super) fn count(&mut self, count: usize) {
        self.u32(u32::try_from(count).expect("limits keep every list far below 2^32 elements"));
    }

    pub(super) fn blob(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn name(&mut self, name: &str) {
        self.blob(name.as_bytes());
    }

    pub(super) fn optional_name(&mut self, name: Option<&Name>) {
        self.flag(name.is_some());
        if let Some(name) = name {
            self.name(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_room_is_made() {
        let bytes = u32::MAX.to_le_bytes();
        let error = Reader::new(&bytes, 0).list(1, Reader::u8).unwrap_err();
        assert!(matches!(error, CommandError::Malformed { .. }), "{error}");
    }

    #[test]
    fn a_value_cut_short_says_where_and_how_much_is_missing() {
        let mut reader = Reader::new(&[1, 2, 3], 10);
        assert_eq!(reader.u16(), Ok(0x0201));
        let expected = CommandError::Truncated { position: 12, needed: 7 };
        assert_eq!(reader.u64(), Err(expected));
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        let mut writer = Writer::default();
        writer.blob(&[0xff]);
        let bytes = writer.into_bytes();
        assert!(matches!(Reader::new(&bytes, 0).name(), Err(CommandError::Malformed { .. })));
    }
}
