//! One connection's task: stream, deadlines and memory around a [`KafkaSession`].
//!
//! ```text
//!   loop   take what the buffer holds, submit it ─> answer, write, read ─> wait for any of it
//! ```
//!
//! A wake reads what is there, starts all of it, and writes all answers that are ready with one
//! system call. Requests that run are polled in request order, and only the first one: its answer
//! leaves first, and those behind it are produces whose acks come by themselves.
//!
//! Invariants
//! - An idle connection has no buffers.
//! - Nothing is read while replies, requests or the node's memory stand at their limits.
//!
//! Absent on purpose: what a request means.

use super::dispatch::{self, Context, Running};
use super::session::{FRAME_BYTES_ON_TRUST, KafkaSession, Received, SessionEnd};
use super::stream::Transport;
use crate::doors::budget::Share;
use bytes::BytesMut;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// What a quiet connection reads at once.
const READ_BYTES_MIN: usize = 8 * 1024;
/// What a busy one does.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Slices of one vectored write. All but every second one are above 4 KiB, so this is half a
/// megabyte at least.
const WRITE_SLICES_MAX: usize = 256;
/// How long the last message of TLS may take: it says that nothing was cut off.
const GOODBYE: Duration = Duration::from_secs(1);

/// Time limits of every connection.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// A connection without a request for so long is closed.
    pub idle: Duration,
    /// Over which a sender's pace inside a frame is measured.
    pub stall_window: Duration,
    /// What it must send in that time.
    pub stall_bytes_min: u64,
}

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum Ended {
    /// Everything that was to be said has been said.
    #[error("{0}")]
    Session(SessionEnd),
    /// The peer is gone.
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    /// No request for too long.
    #[error("no request came for too long")]
    Idle,
    /// A frame that did not come on.
    #[error("{found} bytes of a request came in time, {expected} are the least")]
    Stalled {
        /// Bytes of the window.
        found: u64,
        /// Bytes expected in a window.
        expected: u64,
    },
}

/// A sender inside a frame.
#[derive(Clone, Copy, Debug)]
struct Pace {
    since: Instant,
    bytes: u64,
}

/// Waits for what there is to wait for.
async fn wait_for(future: Option<impl Future<Output = ()>>) {
    if let Some(future) = future {
        future.await;
    }
}

/// What a connection needs beside its stream.
pub struct Parts {
    /// Fresh.
    pub session: KafkaSession,
    /// What requests are about.
    pub context: Arc<Context>,
    /// Of the node's memory for requests.
    pub share: Share,
    /// Time limits.
    pub deadlines: Deadlines,
}

/// One connection.
pub struct Connection<S> {
    stream: S,
    /// Whether the stream holds nothing that was written.
    is_flushed: bool,
    session: KafkaSession,
    context: Arc<Context>,
    share: Share,
    deadlines: Deadlines,
    buffer: BytesMut,
    running: VecDeque<Running>,
    /// Bytes that the frame in the buffer lacks; `None` while nothing is to be read.
    missing_bytes: Option<usize>,
    /// What the node's memory lacks for the next request.
    missing_memory: Option<usize>,
    read_bytes: usize,
    has_ended: bool,
    /// Nothing more will be read: the client has closed, or the node stops.
    is_draining: bool,
    active_at: Instant,
    pace: Option<Pace>,
}

impl<S: Transport> Connection<S> {
    /// A connection that has just been accepted.
    pub fn new(stream: S, parts: Parts) -> Self {
        let Parts { session, context, share, deadlines } = parts;
        Self {
            stream,
            is_flushed: true,
            session,
            context,
            share,
            deadlines,
            buffer: BytesMut::new(),
            running: VecDeque::new(),
            missing_bytes: None,
            missing_memory: None,
            read_bytes: READ_BYTES_MIN,
            has_ended: false,
            is_draining: false,
            active_at: Instant::now(),
            pace: None,
        }
    }

    /// Serves the connection until it ends.
    ///
    /// - `stop`: becomes true when the node stops; what runs is then finished and answered.
    pub async fn serve(mut self, mut stop: watch::Receiver<bool>) -> Ended {
        let mut stopped = pin!(async move {
            // A sender that is gone stops the node as well.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        let mut timer = pin!(sleep_until(self.next_deadline()));
        loop {
            self.take_requests().await;
            if let Some(end) = self.finished() {
                if S::HOLDS_BYTES {
                    // The replies have left; a peer that takes no goodbye goes without.
                    let _ = timeout(GOODBYE, self.stream.shutdown()).await;
                }
                return end;
            }
            if self.next_deadline() < timer.deadline() {
                timer.as_mut().reset(self.next_deadline());
            }
            let share = &self.share;
            let memory = self.missing_memory.map(|bytes| share.until_free(bytes));
            let waits_for_memory = memory.is_some();
            tokio::select! {
                biased;
                moved = poll_fn(|task| self.poll_move(task)) => {
                    if let Err(error) = moved {
                        return error.into();
                    }
                    self.active_at = Instant::now();
                }
                () = wait_for(memory), if waits_for_memory => {}
                () = &mut stopped, if !self.is_draining => self.drain(),
                () = &mut timer => {
                    if let Err(end) = self.check_deadlines(Instant::now()) {
                        return end;
                    }
                    timer.as_mut().reset(self.next_deadline());
                }
            }
        }
    }

    /// Starts every request that has arrived and may start.
    async fn take_requests(&mut self) {
        let mut has_taken = false;
        (self.missing_bytes, self.missing_memory) = (None, None);
        loop {
            if let Err(missing) = self.share.cover(self.session.memory(&self.buffer)) {
                self.missing_memory = Some(missing);
                break;
            }
            match self.session.receive(&mut self.buffer) {
                Received::Request(incoming) => {
                    has_taken = true;
                    self.running.push_back(dispatch::start(&self.context, incoming).await);
                }
                Received::Incomplete { missing_bytes } => {
                    if self.has_ended {
                        self.drain();
                    } else {
                        self.missing_bytes = Some(missing_bytes);
                    }
                    break;
                }
                Received::Blocked | Received::Ended => break,
            }
        }
        self.share.shrink_to(self.session.memory(&self.buffer));
        let is_inside_frame = self.missing_bytes.is_some() && !self.buffer.is_empty();
        self.pace = match self.pace {
            _ if !is_inside_frame => None,
            Some(pace) if !has_taken => Some(pace),
            _ => Some(Pace { since: Instant::now(), bytes: 0 }),
        };
    }

    /// Takes nothing more; what runs is finished, except for requests that wait for others.
    fn drain(&mut self) {
        self.is_draining = true;
        self.session.stop();
    }

    fn finished(&mut self) -> Option<Ended> {
        let parks = self.running.front().is_some_and(|front| front.parks);
        let is_left = self.is_draining && parks && self.session.outgoing().is_empty();
        if !self.is_flushed || !is_left && !self.session.is_finished() {
            return None;
        }
        let end = self.session.end().cloned().unwrap_or(SessionEnd::Stopped);
        Some(Ended::Session(end))
    }

    /// Answers, writes and reads what can be without waiting; pending when nothing moved.
    fn poll_move(&mut self, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let mut has_moved = false;
        while let Some(front) = self.running.front_mut() {
            let Poll::Ready(reply) = front.reply.as_mut().poll(task) else { break };
            let number = front.number;
            self.running.pop_front();
            self.session.reply(number, reply);
            has_moved = true;
        }
        while !self.session.outgoing().is_empty() {
            let Poll::Ready(written) = self.poll_write(task)? else { break };
            self.session.outgoing().wrote(written);
            self.is_flushed = !S::HOLDS_BYTES;
            has_moved = true;
        }
        if !self.is_flushed && Pin::new(&mut self.stream).poll_flush(task)?.is_ready() {
            self.is_flushed = true;
            has_moved = true;
        }
        if self.missing_bytes.is_some()
            && let Poll::Ready(count) = self.poll_read(task)?
        {
            self.has_ended |= count == 0;
            has_moved = true;
        }
        if has_moved {
            return Poll::Ready(Ok(()));
        }
        if self.running.is_empty() {
            self.session.outgoing().release();
        }
        Poll::Pending
    }

    fn poll_write(&mut self, task: &mut TaskContext<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
        let count = self.session.outgoing().fill(&mut slices);
        let slices = slices.get(..count).unwrap_or_default();
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(task, slices))?;
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    fn poll_read(&mut self, task: &mut TaskContext<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            // Room is made only when something is there.
            ready!(self.stream.poll_readable(task))?;
        }
        let missing = self.missing_bytes.unwrap_or(0);
        let is_trusted = self.buffer.len() >= FRAME_BYTES_ON_TRUST;
        let needed = if is_trusted { missing } else { missing.min(FRAME_BYTES_ON_TRUST) };
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < needed.max(self.read_bytes / 2) {
            self.buffer.reserve(needed.max(self.read_bytes));
        }
        let spare = self.buffer.capacity() - self.buffer.len();
        let read = pin!(self.stream.read_buf(&mut self.buffer)).poll(task);
        match read {
            Poll::Ready(Ok(count)) => {
                if count == spare {
                    self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
                } else if count < self.read_bytes / 4 {
                    self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
                }
                if let Some(pace) = &mut self.pace {
                    pace.bytes += count as u64;
                }
            }
            Poll::Ready(Err(_)) | Poll::Pending => {
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::new();
                }
            }
        }
        read
    }

    fn next_deadline(&self) -> Instant {
        let idle = self.active_at + self.deadlines.idle;
        match self.pace {
            Some(pace) => idle.min(pace.since + self.deadlines.stall_window),
            None => idle,
        }
    }

    fn check_deadlines(&mut self, now: Instant) -> Result<(), Ended> {
        if let Some(pace) = &mut self.pace
            && now >= pace.since + self.deadlines.stall_window
        {
            if pace.bytes < self.deadlines.stall_bytes_min {
                let (found, expected) = (pace.bytes, self.deadlines.stall_bytes_min);
                return Err(Ended::Stalled { found, expected });
            }
            *pace = Pace { since: now, bytes: 0 };
        }
        if now >= self.active_at + self.deadlines.idle {
            if self.running.is_empty() && self.missing_memory.is_none() {
                return Err(Ended::Idle);
            }
            self.active_at = now;
        }
        Ok(())
    }
}
