//! Reply bytes that wait for a stream.
//!
//! ```text
//!   parts   lent slice · gathered frames · lent slice · …     tail   small parts of late, gathered
//! ```
//!
//! Small parts are copied together: QUIC copies every byte into its packets anyway, and it looks
//! for the next byte to send among the parts one by one. Larger ones are lent.
//!
//! Absent on purpose: the stream.

use bateau_protocol::wire::Chain;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Parts up to this size are copied.
const COPIED_PART_BYTES_MAX: usize = 4 * 1024;
/// Gathered bytes after which a new part begins.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// Bytes in the order in which they leave.
#[derive(Debug, Default)]
pub struct Outgoing {
    parts: VecDeque<Bytes>,
    tail: BytesMut,
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

    /// Appends a frame.
    pub fn push(&mut self, frame: Chain) {
        for part in frame.into_parts() {
            self.bytes += part.len();
            if part.len() <= COPIED_PART_BYTES_MAX {
                self.tail.extend_from_slice(&part);
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

    /// What comes next, for one write of many chunks. The stream takes from the chunks what it
    /// writes; how much that is goes to [`Self::advance`].
    pub fn front(&mut self) -> &mut [Bytes] {
        self.close_tail();
        self.parts.as_mut_slices().0
    }

    /// Forgets what was written: so many whole chunks, so many bytes.
    pub fn advance(&mut self, chunks: usize, bytes: usize) {
        self.parts.drain(..chunks.min(self.parts.len()));
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Gives unused room back: the stream has nothing to do.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Everything, in one piece and in order.
    #[cfg(test)]
    pub fn take(&mut self) -> BytesMut {
        self.close_tail();
        let all = self.parts.drain(..).fold(BytesMut::new(), |mut all, part| {
            all.extend_from_slice(&part);
            all
        });
        self.bytes = 0;
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes as QUIC does: takes whole chunks, and part of one.
    fn write(outgoing: &mut Outgoing, mut limit: usize) -> Vec<u8> {
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
        outgoing.advance(chunks, written.len());
        written
    }

    #[test]
    fn small_parts_of_several_frames_leave_as_one_chunk() {
        let mut outgoing = Outgoing::default();
        for frame in ["one", "two", "three"] {
            outgoing.push(Chain::from(Bytes::from_static(frame.as_bytes())));
        }
        assert_eq!(outgoing.front(), [Bytes::from_static(b"onetwothree")]);
        assert_eq!(outgoing.len(), 11);
    }

    #[test]
    fn a_large_part_is_lent_between_its_neighbours() {
        let large = Bytes::from(vec![7; COPIED_PART_BYTES_MAX + 1]);
        let mut outgoing = Outgoing::default();
        let parts = [Bytes::from_static(b"head"), large.clone(), Bytes::from_static(b"tags")];
        outgoing.push(parts.into_iter().collect());
        outgoing.push(Chain::from(Bytes::from_static(b"next")));
        let chunks = outgoing.front();
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[1].as_ptr(), large.as_ptr());
        assert_eq!(&*chunks[2], b"tagsnext");
    }

    #[test]
    fn a_short_write_leaves_exactly_the_rest() {
        let mut stream = Vec::new();
        let mut outgoing = Outgoing::default();
        for number in 0..20_u8 {
            let bytes = if number % 3 == 0 { COPIED_PART_BYTES_MAX + 1 } else { 100 };
            stream.extend(vec![number; bytes]);
            outgoing.push(Chain::from(Bytes::from(vec![number; bytes])));
        }
        let mut sent = Vec::new();
        while !outgoing.is_empty() {
            sent.extend(write(&mut outgoing, 1_777));
        }
        assert!(sent == stream, "every byte leaves once and in order");
    }
}
