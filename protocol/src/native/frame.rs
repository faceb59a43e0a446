//! The frame around every message, and cutting a stream into frames.
//!
//! ```text
//!    0        4      6             10
//!    +--------+------+-------------+---------------------------------------+
//!    | length | kind | correlation | body                                  |
//!    | u32    | u16  | u32         | a structure of the wire notation      |
//!    +--------+------+-------------+---------------------------------------+
//!    little-endian; the length counts what lies behind it
//! ```
//!
//! Invariant: a frame's length is checked against the limit before a byte of it is waited for, so
//! a length that lies reserves nothing.
//!
//! Absent on purpose: a checksum. QUIC authenticates every packet, and a record batch has its own.

use crate::wire::error::{DecodeError, EncodeError, EncodeFault};
use crate::wire::{At, Chain, Reader, Wire, Writer};
use bytes::{Buf, Bytes, BytesMut};
use std::fmt;
use thiserror::Error;

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// Bytes in front of a frame's body.
pub const HEADER_BYTES: usize = 10;

/// Bytes of kind and correlation, which the length counts.
const HEAD_BYTES: usize = HEADER_BYTES - LENGTH_BYTES;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(pub u16);

impl Kind {
    /// Set in the kind of an answer: the rest is the kind of its request.
    pub const ANSWER: u16 = 0x8000;

    /// Kinds from here on, and below [`Self::ANSWER`], are pushed by the broker unasked.
    pub const PUSHES: u16 = 0x4000;

    /// Answers a request that failed as a whole.
    pub const ERROR: Self = Self(0xffff);

    /// The kind of this request's answer.
    #[must_use]
    pub const fn answer(self) -> Self {
        Self(self.0 | Self::ANSWER)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({:#06x})", self.0)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

/// A frame whose body has not been looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Chosen by the client, given back in the answer; a push bears that of what asked for it.
    pub correlation: u32,
    /// The message.
    pub body: Bytes,
}

/// What a buffer holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Split {
    /// A whole frame; no copy. It is gone from the buffer.
    Frame(Frame),
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
    /// Too short for a kind and a correlation.
    #[error("frame length {found} found, {HEAD_BYTES} is the least")]
    TooShort {
        /// What was there.
        found: usize,
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

impl Frame {
    /// Takes the next frame out of `buffer`, if all of it is there.
    ///
    /// - `bytes_max`: limit of the length, in bytes behind it.
    ///
    /// # Errors
    /// [`FrameError`], as soon as the length is there; the buffer is left as it is.
    pub fn split(buffer: &mut BytesMut, bytes_max: usize) -> Result<Split, FrameError> {
        let Some(length) = Self::length(buffer) else {
            let missing_bytes = LENGTH_BYTES.saturating_sub(buffer.len());
            return Ok(Split::Incomplete { missing_bytes });
        };
        if length < HEAD_BYTES {
            return Err(FrameError::TooShort { found: length });
        }
        if length > bytes_max {
            return Err(FrameError::TooLong { found: length, bytes_max });
        }
        let there = buffer.len().saturating_sub(LENGTH_BYTES);
        if there < length {
            return Ok(Split::Incomplete { missing_bytes: length - there });
        }
        buffer.advance(LENGTH_BYTES);
        let mut frame = buffer.split_to(length).freeze();
        let (kind, correlation) = (frame.get_u16_le(), frame.get_u32_le());
        Ok(Split::Frame(Self { kind: Kind(kind), correlation, body: frame }))
    }

    /// The length that `buffer` begins with, whatever it is.
    #[must_use]
    pub fn length(buffer: &[u8]) -> Option<usize> {
        let length = u32::from_le_bytes(*buffer.first_chunk::<LENGTH_BYTES>()?);
        Some(usize::try_from(length).unwrap_or(usize::MAX))
    }
}

/// The form of bodies at a version of the protocol.
#[must_use]
pub const fn at(version: i16) -> At {
    At { version, flexible: true }
}

/// Encodes a message as a whole frame. Record batches in it are lent, not copied.
///
/// # Errors
/// A value that the version cannot say, or a frame of 4 GiB.
pub fn encode<M: Wire>(
    kind: Kind,
    correlation: u32,
    version: i16,
    message: &M,
) -> Result<Chain, EncodeError> {
    let mut writer = Writer::new(at(version));
    writer.put(&[0; LENGTH_BYTES]);
    writer.put(&kind.0.to_le_bytes());
    writer.put(&correlation.to_le_bytes());
    message.write(&mut writer)?;
    let found = writer.len().saturating_sub(LENGTH_BYTES);
    let Ok(length) = u32::try_from(found) else {
        let length_max = usize::try_from(u32::MAX).unwrap_or(usize::MAX);
        return Err(writer.fault(EncodeFault::Length { found, length_max }));
    };
    writer.patch_start(length.to_le_bytes());
    Ok(writer.finish())
}

/// Decodes a body. Bytes behind what the version knows are ignored.
///
/// # Errors
/// Whatever is wrong with the bytes. The stream is not out of step: the frame was whole.
pub fn decode<M: Wire>(body: Bytes, version: i16) -> Result<M, DecodeError> {
    decode_charged(body, version).map(|(message, _)| message)
}

/// As [`decode`], with the memory that decoded values take beyond the body, in bytes.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_charged<M: Wire>(body: Bytes, version: i16) -> Result<(M, usize), DecodeError> {
    let mut reader = Reader::new(body, at(version));
    let message = M::read(&mut reader)?;
    Ok((message, reader.memory()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::{FetchRequest, Hello};

    #[test]
    fn frames_come_out_whole_and_in_order_however_they_arrive() {
        let first = encode(Kind(1), 7, 1, &Hello::default()).expect("it fits").to_bytes();
        let second = encode(Kind(2), 8, 1, &FetchRequest::default()).expect("it fits").to_bytes();
        let mut buffer = BytesMut::new();
        let mut found = Vec::new();
        for byte in first.iter().chain(&second) {
            buffer.extend_from_slice(&[*byte]);
            match Frame::split(&mut buffer, 1_000).expect("lengths are within the limit") {
                Split::Frame(frame) => found.push((frame.kind, frame.correlation)),
                Split::Incomplete { missing_bytes } => assert!((1..=100).contains(&missing_bytes)),
            }
        }
        assert_eq!(found, [(Kind(1), 7), (Kind(2), 8)]);
        assert!(buffer.is_empty());
    }

    #[test]
    fn a_length_outside_its_limits_is_refused_before_the_frame_arrives() {
        let mut long = BytesMut::from(&[7, 0, 0, 0][..]);
        let error = FrameError::TooLong { found: 7, bytes_max: 6 };
        assert_eq!(Frame::split(&mut long, 6), Err(error));
        assert_eq!(Frame::split(&mut long, 7), Ok(Split::Incomplete { missing_bytes: 7 }));
        let mut short = BytesMut::from(&[5, 0, 0, 0][..]);
        assert_eq!(Frame::split(&mut short, 7), Err(FrameError::TooShort { found: 5 }));
    }

    #[test]
    fn bytes_behind_a_message_are_ignored() {
        let frame = encode(Kind(1), 7, 1, &Hello::default()).expect("it fits").to_bytes();
        let mut body = frame.slice(HEADER_BYTES..).to_vec();
        body.extend(b"of a later version");
        assert_eq!(decode(body.into(), 1), Ok(Hello::default()));
    }

    #[test]
    fn the_body_is_a_slice_of_the_buffer() {
        let mut buffer = BytesMut::from(&b"\x09\0\0\0\x01\0\x02\0\0\0abc"[..]);
        let start = buffer.as_ptr() as usize;
        let Ok(Split::Frame(frame)) = Frame::split(&mut buffer, 9) else { panic!("it is whole") };
        assert_eq!((&*frame.body, frame.body.as_ptr() as usize), (&b"abc"[..], start + 10));
    }
}
