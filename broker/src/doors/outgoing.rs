//! Reply bytes that wait for a socket or a stream.
//!
//! ```text
//!   parts   lent slice · gathered heads · lent slice · …     tail   small parts of late, gathered
//! ```
//!
//! Small parts are copied together: below a page a copy costs less than a slice of its own in the
//! system call, or than one more chunk in which QUIC looks for the next byte to send; and a batch
//! of a few bytes does not keep its segment mapped. Larger ones are lent.
//!
//! Absent on purpose: the socket, the stream.

use bateau_protocol::wire::Chain;
use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Parts up to this size are copied.
const COPIED_PART_BYTES_MAX: usize = 4 * 1024;
/// Gathered bytes after which a new part begins.
const GATHERED_BYTES_MAX: usize = 64 * 1024;
/// Room kept for the next replies while a connection is busy.
const ROOM_BYTES_KEPT: usize = 8 * 1024;

/// Bytes in the order in which they leave.
#[derive(Debug, Default)]
pub struct Outgoing {
    parts: VecDeque<Bytes>,
    tail: BytesMut,
    /// What the tail and the parts that were cut from it have of memory.
    room_bytes: usize,
    bytes: usize,
}

impl Outgoing {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends a reply.
    pub fn push(&mut self, reply: Chain) {
        for part in reply.into_parts() {
            self.bytes += part.len();
            if part.len() <= COPIED_PART_BYTES_MAX {
                self.tail.extend_from_slice(&part);
                self.room_bytes = self.room_bytes.max(self.tail.capacity());
                if self.tail.len() >= GATHERED_BYTES_MAX {
                    self.close_tail();
                }
            } else {
                self.close_tail();
                self.parts.push_back(part);
            }
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push_back(self.tail.split().freeze());
        }
    }

    /// What comes next, for a writer that takes from the chunks what it writes, and then tells by
    /// [`Self::took`] how much that was.
    pub fn front(&mut self) -> &mut [Bytes] {
        self.close_tail();
        self.parts.as_mut_slices().0
    }

    /// Forgets what a writer took out of [`Self::front`]: so many whole chunks, so many bytes.
    pub fn took(&mut self, chunks: usize, bytes: usize) {
        self.parts.drain(..chunks.min(self.parts.len()));
        self.has_left(bytes);
    }

    /// Fills `slices` with what comes next, for a writer that leaves it as it is, and then tells
    /// by [`Self::wrote`] how much it wrote. Returns how many it filled.
    pub fn fill<'a>(&'a mut self, slices: &mut [IoSlice<'a>]) -> usize {
        self.close_tail();
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        count
    }

    /// Forgets the first `written` bytes of what [`Self::fill`] gave.
    pub fn wrote(&mut self, written: usize) {
        let mut left = written;
        while let Some(part) = self.parts.front_mut() {
            if left < part.len() {
                part.advance(left);
                break;
            }
            left -= part.len();
            self.parts.pop_front();
        }
        self.has_left(written);
    }

    fn has_left(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if self.is_empty() && self.room_bytes > ROOM_BYTES_KEPT {
            (self.tail, self.room_bytes) = (BytesMut::new(), 0);
        }
    }

    /// Gives unused room back: the connection has nothing to do.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Everything, in one piece and in order.
    #[cfg(test)]
    pub fn take(&mut self) -> BytesMut {
        self.close_tail();
        let all: BytesMut = self.parts.drain(..).flatten().collect();
        self.has_left(all.len());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes as a socket does: leaves what it was given as it is.
    fn write_slices(outgoing: &mut Outgoing, limit: usize) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = outgoing.fill(&mut slices);
        let given: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        let written = given[..given.len().min(limit)].to_vec();
        outgoing.wrote(written.len());
        written
    }

    /// Writes as QUIC does: takes whole chunks, and part of one.
    fn write_chunks(outgoing: &mut Outgoing, mut limit: usize) -> Vec<u8> {
        let (mut written, mut chunks) = (Vec::new(), 0);
        for chunk in outgoing.front() {
            let taken = chunk.split_to(chunk.len().min(limit));
            limit -= taken.len();
            written.extend_from_slice(&taken);
            if !chunk.is_empty() {
                break;
            }
            chunks += 1;
        }
        outgoing.took(chunks, written.len());
        written
    }

    #[test]
    fn small_parts_of_several_replies_leave_as_one() {
        let mut outgoing = Outgoing::default();
        for reply in ["one", "two", "three"] {
            outgoing.push(Chain::from(Bytes::from_static(reply.as_bytes())));
        }
        assert_eq!(outgoing.front(), [Bytes::from_static(b"onetwothree")]);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outgoing.fill(&mut slices), 1);
        assert_eq!(&*slices[0], b"onetwothree");
        assert_eq!(outgoing.len(), 11);
    }

    #[test]
    fn a_large_part_is_lent_between_its_neighbours() {
        let large = Bytes::from(vec![7; COPIED_PART_BYTES_MAX + 1]);
        let mut outgoing = Outgoing::default();
        let parts = [Bytes::from_static(b"head"), large.clone(), Bytes::from_static(b"tags")];
        outgoing.push(parts.into_iter().collect());
        outgoing.push(Chain::from(Bytes::from_static(b"next")));
        assert_eq!(outgoing.front().len(), 3);
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outgoing.fill(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        assert_eq!(&*slices[2], b"tagsnext");
    }

    #[test]
    fn a_short_write_leaves_exactly_the_rest() {
        for write in [write_slices, write_chunks] {
            let mut stream = Vec::new();
            let mut outgoing = Outgoing::default();
            for number in 0..20_u8 {
                let bytes = if number % 3 == 0 { COPIED_PART_BYTES_MAX + 1 } else { 100 };
                stream.extend(vec![number; bytes]);
                outgoing.push(Chain::from(Bytes::from(vec![number; bytes])));
            }
            let mut sent: Vec<u8> = Vec::new();
            while !outgoing.is_empty() {
                sent.extend(write(&mut outgoing, 1_777));
            }
            assert!(sent == stream, "every byte leaves once and in order");
            assert!(outgoing.front().is_empty());
        }
    }

    #[test]
    fn a_busy_connection_reuses_its_room_and_an_idle_one_keeps_none() {
        let mut outgoing = Outgoing::default();
        let acknowledgement = Bytes::from_static(b"an acknowledgement of 30 bytes");
        for _ in 0..10_000 {
            outgoing.push(Chain::from(acknowledgement.clone()));
            assert_eq!(write_slices(&mut outgoing, usize::MAX), acknowledgement);
            assert!(outgoing.room_bytes <= ROOM_BYTES_KEPT);
        }
        for _ in 0..1_000 {
            outgoing.push(Chain::from(acknowledgement.clone()));
        }
        assert!(outgoing.room_bytes > ROOM_BYTES_KEPT);
        assert_eq!(write_chunks(&mut outgoing, usize::MAX).len(), 30_000);
        assert_eq!((outgoing.room_bytes, outgoing.tail.capacity()), (0, 0));
        outgoing.push(Chain::from(acknowledgement));
        outgoing.wrote(outgoing.len());
        outgoing.release();
        assert_eq!(outgoing.tail.capacity(), 0);
    }
}
