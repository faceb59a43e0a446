//! Building a frame around payloads that are lent, not copied.
//!
//! ```text
//!   head  | length crc kind 0 0 0 | … entry, first 16 bytes |    … next entry …   |
//!   lent                                       rest of payload ^          payload ^
//! ```
//!
//! Absent on purpose: joining small slices, which is for the sender to weigh.

use super::error::{PeerEncodeError, PeerFault};
use super::frame::{PEER_HEAD_BYTES, PeerKind};
use crate::ids::NodeId;
use crate::wire::{Chain, Text};
use bytes::{BufMut, Bytes, BytesMut};

/// Payloads from this length on are lent; shorter ones are copied between their neighbours, which
/// costs less than a slice of their own in a vectored write.
pub const LENT_BYTES_MIN: usize = 4 * 1024;

/// Writes one frame.
pub(super) struct Writer {
    head: BytesMut,
    lent: Vec<(usize, Bytes)>,
    lent_bytes: usize,
    message: &'static str,
}

macro_rules! numbers {
    ($($name:ident),*) => {$(
        pub(super) fn $name(&mut self, value: $name) {
            self.put(&value.to_le_bytes());
        }
    )*};
}

impl Writer {
    /// An empty body, with room for the frame's head and for so many bytes that are copied.
    pub(super) fn new(message: &'static str, room_bytes: usize) -> Self {
        let mut head = BytesMut::with_capacity(PEER_HEAD_BYTES.saturating_add(room_bytes));
        head.put_bytes(0, PEER_HEAD_BYTES);
        Self { head, lent: Vec::new(), lent_bytes: 0, message }
    }

    /// Bytes of the frame so far, lent ones included.
    fn len(&self) -> usize {
        self.head.len().saturating_add(self.lent_bytes)
    }

    /// The error of `field`.
    pub(super) const fn fault(&self, field: &'static str, fault: PeerFault) -> PeerEncodeError {
        PeerEncodeError { message: self.message, field, fault }
    }

    /// Appends plain bytes, copied.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.head.put_slice(bytes);
    }

    numbers!(u8, u16, u32, u64);

    pub(super) fn flag(&mut self, value: bool) {
        self.u8(value.into());
    }

    pub(super) fn node_id(
        &mut self,
        field: &'static str,
        node_id: NodeId,
    ) -> Result<(), PeerEncodeError> {
        let found = node_id.get();
        if i32::try_from(found).is_err() {
            let expected = "a node id of 31 bits";
            return Err(self.fault(field, PeerFault::Value { found, expected }));
        }
        self.u64(found);
        Ok(())
    }

    /// A flag, and behind a 1 the value.
    pub(super) fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// A u32 length and the bytes, lent where they are many.
    pub(super) fn bytes(
        &mut self,
        field: &'static str,
        bytes: &Bytes,
        bytes_max: usize,
    ) -> Result<(), PeerEncodeError> {
        self.stamped_bytes(field, None, bytes, bytes_max)
    }

    /// As [`Self::bytes`], with the first bytes replaced by `stamp`, which is not longer.
    pub(super) fn stamped_bytes(
        &mut self,
        field: &'static str,
        stamp: Option<&[u8]>,
        bytes: &Bytes,
        bytes_max: usize,
    ) -> Result<(), PeerEncodeError> {
        let found = bytes.len();
        if found > bytes_max {
            return Err(self.fault(field, PeerFault::TooLong { found, bytes_max }));
        }
        self.length(field, found)?;
        let stamp = stamp.unwrap_or_default();
        self.put(stamp);
        if found < LENT_BYTES_MIN {
            self.put(bytes.get(stamp.len()..).unwrap_or_default());
        } else {
            let rest = bytes.slice(stamp.len().min(found)..);
            self.lent_bytes = self.lent_bytes.saturating_add(rest.len());
            self.lent.push((self.head.len(), rest));
        }
        Ok(())
    }

    /// A u16 length and the text.
    pub(super) fn text(
        &mut self,
        field: &'static str,
        text: &Text,
        bytes_max: usize,
    ) -> Result<(), PeerEncodeError> {
        let found = text.as_bytes().len();
        match u16::try_from(found) {
            Ok(length) if found <= bytes_max => self.u16(length),
            _ => return Err(self.fault(field, PeerFault::TooLong { found, bytes_max })),
        }
        self.put(text.as_bytes());
        Ok(())
    }

    /// A u32 length and what `write` writes.
    pub(super) fn nested(
        &mut self,
        field: &'static str,
        write: impl FnOnce(&mut Self) -> Result<(), PeerEncodeError>,
    ) -> Result<(), PeerEncodeError> {
        let place = self.head.len();
        self.u32(0);
        let start = self.len();
        write(self)?;
        let length = self.u32_of(field, self.len().saturating_sub(start))?;
        self.patch(place, length);
        Ok(())
    }

    /// A u32 count and the elements.
    pub(super) fn list<T>(
        &mut self,
        field: &'static str,
        elements: &[T],
        elements_max: usize,
        write: impl FnMut(&mut Self, &T) -> Result<(), PeerEncodeError>,
    ) -> Result<(), PeerEncodeError> {
        let found = elements.len();
        if found > elements_max {
            return Err(self.fault(field, PeerFault::TooMany { found, elements_max }));
        }
        self.length(field, found)?;
        let mut write = write;
        elements.iter().try_for_each(|element| write(self, element))
    }

    /// Fills in the frame's head and cuts the frame into parts. Cost: a CRC over all of it.
    pub(super) fn seal(mut self, kind: PeerKind) -> Result<Chain, PeerEncodeError> {
        let (found, bytes_max) = (self.len().saturating_sub(4), kind.bytes_max());
        if found > bytes_max {
            return Err(self.fault("frame", PeerFault::TooLong { found, bytes_max }));
        }
        let length = self.u32_of("frame", found)?;
        self.patch(0, length);
        if let Some(place) = self.head.get_mut(8) {
            *place = kind.number();
        }
        let mut hasher = crc32fast::Hasher::new();
        let mut from = 8;
        for (place, bytes) in &self.lent {
            hasher.update(self.head.get(from..*place).unwrap_or_default());
            hasher.update(bytes);
            from = *place;
        }
        hasher.update(self.head.get(from..).unwrap_or_default());
        self.patch(4, hasher.finalize());
        Ok(self.cut())
    }

    fn cut(self) -> Chain {
        let mut head = self.head.freeze();
        let mut chain = Chain::default();
        let mut cut = 0;
        for (place, bytes) in self.lent {
            chain.push(head.split_to(place.saturating_sub(cut)));
            chain.push(bytes);
            cut = place;
        }
        chain.push(head);
        chain
    }

    fn length(&mut self, field: &'static str, length: usize) -> Result<(), PeerEncodeError> {
        let length = self.u32_of(field, length)?;
        self.u32(length);
        Ok(())
    }

    fn u32_of(&self, field: &'static str, found: usize) -> Result<u32, PeerEncodeError> {
        let bytes_max = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        u32::try_from(found).map_err(|_| self.fault(field, PeerFault::TooLong { found, bytes_max }))
    }

    fn patch(&mut self, place: usize, value: u32) {
        if let Some(field) = self.head.get_mut(place..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *field = value.to_le_bytes();
        }
    }
}
