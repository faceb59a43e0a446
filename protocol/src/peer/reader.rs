//! A cursor over one body that hands out slices and believes no length.
//!
//! Invariants
//! - Nothing is read beyond the body, and no memory is reserved for elements that the bytes
//!   behind a count cannot hold: at most four times these bytes, for each level of lists.
//! - Every text, run of bytes and list has its own limit.
//!
//! Absent on purpose: whatever lies behind the last field that is asked for. It is a later
//! version's, and stays unread.

use super::error::{PeerDecodeError, PeerFault};
use crate::ids::{LogIndex, NodeId, Offset, Term};
use crate::wire::Text;
use bytes::Bytes;

/// A cursor over one body, or over one nested structure of it.
pub(super) struct Reader {
    bytes: Bytes,
    position: usize,
    /// Bytes of the body in front of `bytes`.
    base: usize,
    message: &'static str,
}

macro_rules! numbers {
    ($($name:ident),*) => {$(
        pub(super) fn $name(&mut self, field: &'static str) -> Result<$name, PeerDecodeError> {
            self.array(field).map($name::from_le_bytes)
        }
    )*};
}

impl Reader {
    pub(super) const fn new(message: &'static str, bytes: Bytes) -> Self {
        Self { bytes, position: 0, base: 0, message }
    }

    /// The error of `field` at this position.
    pub(super) const fn fault(&self, field: &'static str, fault: PeerFault) -> PeerDecodeError {
        let position = self.base.saturating_add(self.position);
        PeerDecodeError { message: self.message, field, position, fault }
    }

    const fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    const fn truncated(&self, field: &'static str, expected: usize) -> PeerDecodeError {
        self.fault(field, PeerFault::Truncated { expected, found: self.remaining() })
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], PeerDecodeError> {
        let array = self.bytes.get(self.position..).and_then(<[u8]>::first_chunk::<N>);
        let array = *array.ok_or_else(|| self.truncated(field, N))?;
        self.position = self.position.saturating_add(N);
        Ok(array)
    }

    numbers!(u8, u16, u32, u64);

    /// 0 or 1 and nothing else.
    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, PeerDecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(self.value(field, found.into(), "0 or 1")),
        }
    }

    pub(super) const fn value(
        &self,
        field: &'static str,
        found: u64,
        expected: &'static str,
    ) -> PeerDecodeError {
        self.fault(field, PeerFault::Value { found, expected })
    }

    pub(super) fn index(&mut self, field: &'static str) -> Result<LogIndex, PeerDecodeError> {
        self.u64(field).map(LogIndex::new)
    }

    pub(super) fn term(&mut self, field: &'static str) -> Result<Term, PeerDecodeError> {
        self.u64(field).map(Term::new)
    }

    pub(super) fn offset(&mut self, field: &'static str) -> Result<Offset, PeerDecodeError> {
        self.u64(field).map(Offset::new)
    }

    pub(super) fn node_id(&mut self, field: &'static str) -> Result<NodeId, PeerDecodeError> {
        let found = self.u64(field)?;
        let fits = i32::try_from(found).is_ok();
        fits.then_some(NodeId::new(found)).ok_or(self.value(field, found, "a node id of 31 bits"))
    }

    /// A flag, and behind a 1 the value.
    pub(super) fn optional<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, PeerDecodeError>,
    ) -> Result<Option<T>, PeerDecodeError> {
        if self.flag(field)? { read(self).map(Some) } else { Ok(None) }
    }

    /// The next `length` bytes as a slice of the body; no copy.
    fn slice(&mut self, field: &'static str, length: usize) -> Result<Bytes, PeerDecodeError> {
        if length > self.remaining() {
            return Err(self.truncated(field, length));
        }
        let end = self.position.saturating_add(length);
        let slice = self.bytes.slice(self.position..end);
        self.position = end;
        Ok(slice)
    }

    /// A u32 length and that many bytes.
    pub(super) fn bytes(
        &mut self,
        field: &'static str,
        bytes_max: usize,
    ) -> Result<Bytes, PeerDecodeError> {
        let found = self.length(field)?;
        if found > bytes_max {
            return Err(self.fault(field, PeerFault::TooLong { found, bytes_max }));
        }
        self.slice(field, found)
    }

    /// A u16 length and that many bytes of UTF-8.
    pub(super) fn text(
        &mut self,
        field: &'static str,
        bytes_max: usize,
    ) -> Result<Text, PeerDecodeError> {
        let found = usize::from(self.u16(field)?);
        if found > bytes_max {
            return Err(self.fault(field, PeerFault::TooLong { found, bytes_max }));
        }
        let utf8 =
            |error: std::str::Utf8Error| PeerFault::Utf8 { valid_bytes: error.valid_up_to() };
        let slice = self.slice(field, found)?;
        Text::try_from(slice).map_err(|error| self.fault(field, utf8(error)))
    }

    /// A u32 length and a structure of that many bytes, with a cursor of its own.
    pub(super) fn nested(&mut self, field: &'static str) -> Result<Self, PeerDecodeError> {
        let length = self.length(field)?;
        let base = self.base.saturating_add(self.position);
        let bytes = self.slice(field, length)?;
        Ok(Self { bytes, position: 0, base, message: self.message })
    }

    /// A u32 count and so many elements, of at least `element_bytes_min` bytes each, and at most
    /// four times that in memory.
    pub(super) fn list<T>(
        &mut self,
        field: &'static str,
        (element_bytes_min, elements_max): (usize, usize),
        mut read: impl FnMut(&mut Self) -> Result<T, PeerDecodeError>,
    ) -> Result<Vec<T>, PeerDecodeError> {
        let found = self.length(field)?;
        if found > elements_max {
            return Err(self.fault(field, PeerFault::TooMany { found, elements_max }));
        }
        let elements_max = self.remaining() / element_bytes_min.max(1);
        if found > elements_max {
            return Err(self.fault(field, PeerFault::Count { found, elements_max }));
        }
        // Bounded by the bytes that are there, and so exact: a list never grows.
        let mut elements = Vec::with_capacity(found);
        for _ in 0..found {
            elements.push(read(self)?);
        }
        Ok(elements)
    }

    fn length(&mut self, field: &'static str) -> Result<usize, PeerDecodeError> {
        self.u32(field).map(|length| usize::try_from(length).unwrap_or(usize::MAX))
    }
}
