//! Building a message around bytes that are lent, not copied.
//!
//! ```text
//!   head   | length | header | … topic, partition, records length |  … next partition … | tags |
//!   lent                                                   batch, batch ^
//! ```
//!
//! Headers gather in one buffer; record batches are remembered with their place in it. At the end
//! the buffer is cut at those places, so a reply is one allocation and a list of slices.
//!
//! Absent on purpose: joining small slices, which is for the sender to weigh.

use super::error::{EncodeError, EncodeFault};
use super::text::Text;
use super::value::{At, Wire};
use bytes::{BufMut, Bytes, BytesMut};

/// Bytes to send in order, ready for a vectored write.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Chain {
    parts: Vec<Bytes>,
    bytes: usize,
}

impl Chain {
    /// The parts in order; none is empty.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// The parts in order, given away.
    #[must_use]
    pub fn into_parts(self) -> Vec<Bytes> {
        self.parts
    }

    /// Bytes of all parts together.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Everything in one piece. Copies, unless there is one part only.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self.parts.as_slice() {
            [] => Bytes::new(),
            [only] => only.clone(),
            parts => parts.concat().into(),
        }
    }

    /// Appends a part, shared. An empty one is dropped.
    pub fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push(part);
        }
    }
}

impl From<Bytes> for Chain {
    fn from(part: Bytes) -> Self {
        let mut chain = Self::default();
        chain.push(part);
        chain
    }
}

impl FromIterator<Bytes> for Chain {
    fn from_iter<I: IntoIterator<Item = Bytes>>(parts: I) -> Self {
        let mut chain = Self::default();
        parts.into_iter().for_each(|part| chain.push(part));
        chain
    }
}

/// Writes one message at one version.
#[derive(Debug)]
pub struct Writer {
    head: BytesMut,
    lent: Vec<(usize, Bytes)>,
    lent_bytes: usize,
    at: At,
}

impl Writer {
    /// Bytes that most answers fit into.
    const CAPACITY: usize = 256;

    /// An empty message.
    #[must_use]
    pub fn new(at: At) -> Self {
        let head = BytesMut::with_capacity(Self::CAPACITY);
        Self { head, lent: Vec::new(), lent_bytes: 0, at }
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

    /// Bytes written so far, lent ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.lent_bytes
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The error for this value, not yet named after a field.
    #[must_use]
    pub fn fault(&self, fault: EncodeFault) -> EncodeError {
        EncodeError { message: "", version: self.at.version, field: "", fault }
    }

    /// Appends plain bytes, copied.
    pub fn put(&mut self, bytes: &[u8]) {
        self.head.put_slice(bytes);
    }

    /// Appends bytes without copying them.
    pub fn lend(&mut self, bytes: &Bytes) {
        if !bytes.is_empty() {
            self.lent_bytes += bytes.len();
            self.lent.push((self.head.len(), bytes.clone()));
        }
    }

    /// An unsigned number of seven bits per byte, lowest first.
    pub fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.head.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.head.put_u8((value & 0x7f) as u8);
    }

    /// A length in front of a value, `None` for null; `wide` as in the reader.
    fn length(&mut self, length: Option<usize>, wide: bool) -> Result<(), EncodeError> {
        let length_max = if wide || self.at.flexible { i32::MAX } else { i32::from(i16::MAX) };
        let number = match length {
            None => -1,
            Some(length) => match i32::try_from(length) {
                Ok(number) if number <= length_max => number,
                _ => {
                    let length_max = usize::try_from(length_max).unwrap_or(usize::MAX);
                    return Err(self.fault(EncodeFault::Length { found: length, length_max }));
                }
            },
        };
        if self.at.flexible {
            self.varint(number.wrapping_add(1).cast_unsigned());
        } else if wide {
            self.head.put_i32(number);
        } else {
            self.head.put_i16(i16::try_from(number).unwrap_or(i16::MAX));
        }
        Ok(())
    }

    /// Text, or null.
    ///
    /// # Errors
    /// [`EncodeFault::Length`] beyond 32,767 bytes in versions that are not flexible.
    pub fn string(&mut self, text: Option<&Text>) -> Result<(), EncodeError> {
        self.length(text.map(|text| text.as_bytes().len()), false)?;
        self.put(text.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }

    /// Bytes, or null; copied.
    ///
    /// # Errors
    /// [`EncodeFault::Length`] beyond 2 GiB.
    pub fn bytes(&mut self, bytes: Option<&Bytes>) -> Result<(), EncodeError> {
        self.length(bytes.map(Bytes::len), true)?;
        self.put(bytes.map_or(&[], |bytes| bytes));
        Ok(())
    }

    /// Record batches, or null; lent, never copied. The length of all comes first.
    ///
    /// # Errors
    /// [`EncodeFault::Length`] beyond 2 GiB.
    pub fn chain(&mut self, chain: Option<&Chain>) -> Result<(), EncodeError> {
        self.length(chain.map(Chain::len), true)?;
        chain.map_or(&[][..], Chain::parts).iter().for_each(|part| self.lend(part));
        Ok(())
    }

    /// The count of an array, or null.
    ///
    /// # Errors
    /// [`EncodeFault::Length`] beyond 2^31 elements.
    pub fn count(&mut self, count: Option<usize>) -> Result<(), EncodeError> {
        self.length(count, true)
    }

    /// An array, or null.
    ///
    /// # Errors
    /// Those of its elements.
    pub fn vector<T: Wire>(&mut self, items: Option<&[T]>) -> Result<(), EncodeError> {
        self.count(items.map(<[T]>::len))?;
        items.unwrap_or_default().iter().try_for_each(|item| item.write(self))
    }

    /// One tagged field: number, size, content.
    ///
    /// # Errors
    /// Those of its content.
    pub fn tagged(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut content = Self::new(self.at);
        write(&mut content)?;
        let content = content.finish().to_bytes();
        self.varint(tag);
        let length_max = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        let found = content.len();
        let size = u32::try_from(found)
            .map_err(|_| self.fault(EncodeFault::Length { found, length_max }))?;
        self.varint(size);
        self.put(&content);
        Ok(())
    }

    /// Writes over the first four bytes, where a frame's length goes.
    pub(crate) fn patch_start(&mut self, length: [u8; 4]) {
        if let Some(start) = self.head.first_chunk_mut::<4>() {
            *start = length;
        }
    }

    /// Cuts the message into parts.
    #[must_use]
    pub fn finish(self) -> Chain {
        let mut head = self.head.freeze();
        let mut chain = Chain::default();
        let mut cut = 0;
        for (position, bytes) in self.lent {
            chain.push(head.split_to(position.saturating_sub(cut)));
            chain.push(bytes);
            cut = position;
        }
        chain.push(head);
        chain
    }
}
