//! Cutting a byte stream into frames: four bytes of length, big-endian, then so many bytes.
//!
//! Invariant: a frame's length is checked against the limit before a byte of it is waited for, so
//! a length that lies reserves nothing.
//!
//! Absent on purpose: reading from a socket, and how long a half frame may take.

use crate::limits::KAFKA_FRAME_BYTES_MAX;
use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// Cuts frames of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Framing {
    bytes_max: usize,
}

/// What a buffer holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Split {
    /// A whole frame, without its length; no copy. It is gone from the buffer.
    Frame(Bytes),
    /// The start of a frame.
    Incomplete {
        /// Bytes that are missing, of the length itself or of what it announces. At most the
        /// limit, so room for them may be made.
        missing_bytes: usize,
    },
}

/// A length that no frame may have. What follows cannot be found: close the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FrameError {
    /// Below zero.
    #[error("frame length {found} is negative")]
    Negative {
        /// What was there.
        found: i32,
    },
    /// Above the connection's limit.
    #[error("frame length {found} is above the limit of {bytes_max} bytes")]
    TooLong {
        /// What was there.
        found: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl Default for Framing {
    fn default() -> Self {
        Self::new(KAFKA_FRAME_BYTES_MAX)
    }
}

impl Framing {
    /// Accepts frames of at most `bytes_max` bytes behind their length.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { bytes_max }
    }

    /// The limit in bytes.
    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Takes the next frame out of `buffer`, if all of it is there.
    ///
    /// # Errors
    /// [`FrameError`], as soon as the length is there; the buffer is left as it is.
    pub fn split(&self, buffer: &mut BytesMut) -> Result<Split, FrameError> {
        let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
            let missing_bytes = LENGTH_BYTES.saturating_sub(buffer.len());
            return Ok(Split::Incomplete { missing_bytes });
        };
        let found = i32::from_be_bytes(*length);
        let Ok(length) = usize::try_from(found) else {
            return Err(FrameError::Negative { found });
        };
        if length > self.bytes_max {
            return Err(FrameError::TooLong { found: length, bytes_max: self.bytes_max });
        }
        let there = buffer.len().saturating_sub(LENGTH_BYTES);
        if there < length {
            return Ok(Split::Incomplete { missing_bytes: length - there });
        }
        buffer.advance(LENGTH_BYTES);
        Ok(Split::Frame(buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_and_in_order_however_they_arrive() {
        let stream = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x02de";
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in stream {
            buffer.extend_from_slice(&[*byte]);
            match Framing::new(3).split(&mut buffer).expect("lengths are within the limit") {
                Split::Frame(frame) => frames.push(frame),
                Split::Incomplete { missing_bytes } => assert!((1..=4).contains(&missing_bytes)),
            }
        }
        assert_eq!(frames, [&b"abc"[..], b"", b"de"]);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_the_frame_arrives() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x04"[..]);
        let error = FrameError::TooLong { found: 4, bytes_max: 3 };
        assert_eq!(Framing::new(3).split(&mut buffer), Err(error));
        assert_eq!(Framing::new(4).split(&mut buffer), Ok(Split::Incomplete { missing_bytes: 4 }));
    }

    #[test]
    fn a_negative_length_is_refused() {
        let mut buffer = BytesMut::from(&b"\xff\xff\xff\xfe...."[..]);
        let error = FrameError::Negative { found: -2 };
        assert_eq!(Framing::default().split(&mut buffer), Err(error));
    }

    #[test]
    fn a_frame_is_a_slice_of_the_buffer() {
        let mut buffer = BytesMut::from(&b"\0\0\0\x03abc"[..]);
        let start = buffer.as_ptr();
        let Ok(Split::Frame(frame)) = Framing::default().split(&mut buffer) else {
            panic!("the frame is complete");
        };
        assert_eq!(frame.as_ptr() as usize, start as usize + LENGTH_BYTES);
    }
}
