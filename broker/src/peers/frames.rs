//! Whole messages off a socket, and onto it.
//!
//! Absent on purpose: what a message means.

use bateau_protocol::peer::{LinkEnd, PeerFrames, PeerMessage, Split};
use std::fmt::Display;
use std::io::{self, IoSlice};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// How long a frame may take once it has begun. A limit on silence would not do: behind a length
/// that is damaged signs of life go on coming, and none of them is ever heard.
const FRAME_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes that are read at once, at least.
const READ_BYTES: usize = 64 * 1024;
/// Slices that one system call writes.
const SLICES_MAX: usize = 64;

/// A stream, and the messages that come on it.
pub(super) struct Messages<S> {
    stream: S,
    frames: PeerFrames,
    /// Until when the frame that has begun must end.
    ends: Option<Instant>,
}

impl<S> Messages<S> {
    pub fn new(stream: S, end: LinkEnd) -> Self {
        Self { stream, frames: PeerFrames::new(end), ends: None }
    }

    /// To write on.
    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> Messages<S> {
    /// The next message; `None` where the other side has closed the link between two.
    ///
    /// Errors: the connection's, a frame that makes no sense, or one that does not end.
    pub async fn next(&mut self) -> io::Result<Option<PeerMessage>> {
        loop {
            match self.frames.take_frame().map_err(nonsense)? {
                Split::Frame(frame) => {
                    self.ends = None;
                    return PeerMessage::decode(frame).map(Some).map_err(nonsense);
                }
                Split::Incomplete { missing_bytes } => {
                    let has_begun = self.frames.waiting_bytes() > 0;
                    if !self.fill(missing_bytes, has_begun).await? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Whether something came.
    async fn fill(&mut self, missing_bytes: usize, has_begun: bool) -> io::Result<bool> {
        let buffer = self.frames.buffer_mut();
        buffer.reserve(missing_bytes.max(READ_BYTES));
        let read = self.stream.read_buf(buffer);
        let count = if has_begun {
            let late = || io::Error::new(io::ErrorKind::TimedOut, "a frame does not end");
            let ends = *self.ends.get_or_insert_with(|| Instant::now() + FRAME_TIME_MAX);
            tokio::time::timeout_at(ends, read).await.map_err(|_| late())??
        } else {
            read.await?
        };
        if count == 0 && has_begun {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a frame is cut"));
        }
        Ok(count > 0)
    }
}

/// Writes messages, each a frame, in as few system calls as hold them.
pub(super) async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    messages: &[PeerMessage],
) -> io::Result<()> {
    let mut parts = Vec::new();
    for message in messages {
        parts.extend(message.encode().map_err(nonsense)?.into_parts());
    }
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut left = slices.as_mut_slice();
    while !left.is_empty() {
        let at_once = left.len().min(SLICES_MAX);
        let written = stream.write_vectored(&left[..at_once]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, written);
    }
    stream.flush().await
}

fn nonsense(error: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}
