//! Reply bytes that wait for the socket.
//!
//! ```text
//!   parts   lent slice · gathered heads · lent slice · …     tail   small parts of late, gathered
//! ```
//!
//! Small parts are copied together: below a page a copy costs less than a slice of its own in the
//! system call, and a batch of a few bytes does not keep its segment mapped. Larger ones are lent.
//!
//! Absent on purpose: the socket.

use bateau_protocol::kafka::Chain;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// Parts up to this size are copied.
const COPIED_PART_BYTES_MAX: usize = 4 * 1024;
/// Gathered bytes after which a new part begins.
const GATHERED_BYTES_MAX: usize = 64 * 1024;
/// Room kept for the next replies while a connection is busy.
const TAIL_BYTES_KEPT: usize = 8 * 1024;

/// Bytes in the order in which they leave.
#[derive(Debug, Default)]
pub struct Outgoing {
    parts: VecDeque<Bytes>,
    tail: Vec<u8>,
    /// Bytes of the tail that have been written.
    tail_written: usize,
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
            let mut part = Bytes::from(std::mem::take(&mut self.tail));
            part.advance(std::mem::take(&mut self.tail_written));
            self.parts.push_back(part);
        }
    }

    /// Fills `slices` with what comes next, for one vectored write; returns how many it filled.
    pub fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = self.tail.get(self.tail_written..).filter(|tail| !tail.is_empty());
        let parts = self.parts.iter().map(|part| &part[..]).chain(tail);
        let mut count = 0;
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
            count += 1;
        }
        count
    }

    /// Forgets the first `written` bytes.
    pub fn advance(&mut self, written: usize) {
        self.bytes = self.bytes.saturating_sub(written);
        let mut left = written;
        while let Some(part) = self.parts.front_mut() {
            if left < part.len() {
                part.advance(left);
                return;
            }
            left -= part.len();
            self.parts.pop_front();
        }
        self.tail_written += left;
        if self.tail_written >= self.tail.len() {
            self.tail_written = 0;
            self.tail.clear();
            if self.tail.capacity() > TAIL_BYTES_KEPT {
                self.tail = Vec::new();
            }
        }
    }

    /// Gives unused room back: the connection has nothing to do.
    pub fn release(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(outgoing: &Outgoing) -> Vec<Vec<u8>> {
        let mut slices = [IoSlice::new(&[]); 16];
        let count = outgoing.fill(&mut slices);
        slices[..count].iter().map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn small_parts_of_several_replies_leave_as_one_slice() {
        let mut outgoing = Outgoing::default();
        for reply in ["one", "two", "three"] {
            outgoing.push(Chain::from(Bytes::from_static(reply.as_bytes())));
        }
        assert_eq!(written(&outgoing), [b"onetwothree".to_vec()]);
        assert_eq!(outgoing.len(), 11);
    }

    #[test]
    fn a_large_part_is_lent_between_its_neighbours() {
        let large = Bytes::from(vec![7; COPIED_PART_BYTES_MAX + 1]);
        let mut outgoing = Outgoing::default();
        let parts = [Bytes::from_static(b"head"), large.clone(), Bytes::from_static(b"tags")];
        outgoing.push(parts.into_iter().collect());
        outgoing.push(Chain::from(Bytes::from_static(b"next")));
        let mut slices = [IoSlice::new(&[]); 4];
        assert_eq!(outgoing.fill(&mut slices), 3);
        assert_eq!(slices[1].as_ptr(), large.as_ptr());
        assert_eq!(&*slices[2], b"tagsnext");
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
        let mut sent: Vec<u8> = Vec::new();
        while !outgoing.is_empty() {
            let next: Vec<u8> = written(&outgoing).concat().into_iter().take(1_777).collect();
            sent.extend(&next);
            outgoing.advance(next.len());
        }
        assert!(sent == stream, "every byte leaves once and in order");
        assert!(written(&outgoing).is_empty());
    }

    #[test]
    fn a_busy_connection_reuses_its_room_and_an_idle_one_keeps_none() {
        let mut outgoing = Outgoing::default();
        for _ in 0..10_000 {
            outgoing.push(Chain::from(Bytes::from_static(b"an acknowledgement of 30 bytes")));
            outgoing.advance(30);
            assert!(outgoing.tail.capacity() <= TAIL_BYTES_KEPT);
        }
        outgoing.release();
        assert_eq!(outgoing.tail.capacity(), 0);
    }
}
