//! Stdout as a stream of records: written on a thread of its own, so that a reader that stops
//! (`| less`) stops the records and not the connection, whose heartbeats go on.
//!
//! ```text
//!   consume ──buffer──► thread "stdout" ──write──► pipe          one buffer at a time
//!           ◄─emptied──
//! ```
//!
//! Invariant: what [`Stdout::write`] returned for is in the kernel's hands.
//!
//! Absent on purpose: a queue. The next buffer waits until the last one is written.

use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::mpsc;
use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;
use tokio::sync::oneshot;

/// Whether the reader is still there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reader {
    /// It takes more.
    Listening,
    /// It has gone away, as `head` does.
    Gone,
}

type Job = (Vec<u8>, oneshot::Sender<io::Result<Vec<u8>>>);

/// The writing end.
pub(super) struct Stdout {
    jobs: mpsc::Sender<Job>,
}

impl Stdout {
    /// Starts the thread. It ends when this is dropped and its last buffer is written.
    pub(super) fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let thread = std::thread::Builder::new().name("stdout".to_owned());
        thread.spawn(move || {
            let mut stdout = io::stdout().lock();
            for (mut buffer, done) in queue {
                let written = stdout.write_all(&buffer).and_then(|()| stdout.flush());
                buffer.clear();
                // Nobody waits any more: the command is ending.
                let _ = done.send(written.map(|()| buffer));
            }
        })?;
        Ok(Self { jobs })
    }

    /// Writes `buffer` and leaves it empty, with its memory.
    ///
    /// Cancelled, the buffer is lost to the caller and written nevertheless.
    pub(super) async fn write(&self, buffer: &mut Vec<u8>) -> io::Result<Reader> {
        if buffer.is_empty() {
            return Ok(Reader::Listening);
        }
        let (done, written) = oneshot::channel();
        let stopped = || io::Error::other("the thread that writes has stopped");
        self.jobs.send((std::mem::take(buffer), done)).map_err(|_| stopped())?;
        match written.await.map_err(|_| stopped())? {
            Ok(emptied) => {
                *buffer = emptied;
                Ok(Reader::Listening)
            }
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(error) => Err(error),
        }
    }
}

/// Returns once the reader of stdout has gone away; never for a file or a terminal that stays.
///
/// Cancel-safe.
pub(super) async fn closed() {
    // Unchecked, because a checked one would make stdout non-blocking for everybody who shares it.
    let watched =
        io::stdout().as_fd().try_clone_to_owned().and_then(Sender::from_owned_fd_unchecked);
    // A file cannot be watched and has no reader that could go: then there is nothing to wait for.
    match watched {
        Ok(watched) => drop(watched.ready(Interest::ERROR).await),
        Err(_) => std::future::pending().await,
    }
}
