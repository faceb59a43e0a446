//! The bare loops that the native door is compared with: QUIC and a file, without a broker.
//!
//! ```text
//!   sink   stream ─► whole frames ─► CRC-32C each ─► one pwrite ─► pending ─┐  runtime's thread
//!          stream ◄─ answers, one write for all ◄──── fdatasync ◄───────────┘  committer
//!
//!   echo   stream ─► whole frame ─► [ 4 KiB pwrite ─► fdatasync ] ─► the same frame ─► stream
//! ```
//!
//! They take the frames that a broker takes and are driven by the same loader. Both look at
//! nothing but lengths and keep nothing but bytes. Files are new and allocated in full before the
//! first request, as a broker's segments are.
//!
//! Absent on purpose: everything that makes a broker.

use super::peer::Frames;
use crate::failure::{Failure, Tried};
use bateau_protocol::native::frame::{HEADER_BYTES, LENGTH_BYTES};
use bateau_protocol::native::{Frame, ProduceResponse, Reply, VERSION_MAX};
use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, Endpoint, RecvStream, SendStream};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Bytes of a frame in front of its body.
pub const HEAD_BYTES: usize = HEADER_BYTES;

/// Room for what one turn may bring: more than a connection's window.
const READ_BYTES: usize = 9 * 1024 * 1024;

/// What one flush of the echo loop covers.
const ECHO_WRITE_BYTES: usize = 4096;

/// Where the correlation stands in a frame with its length.
const CORRELATION_AT: std::ops::Range<usize> = 6..HEADER_BYTES;

/// A new file with so many bytes allocated.
fn allocate(path: &Path, bytes: u64) -> Result<File, Failure> {
    let what = || path.display().to_string();
    let file = File::create_new(path).tried(what)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).tried(what)?;
    Ok(file)
}

/// The first stream of the first connection.
async fn first_stream(
    endpoint: &Endpoint,
) -> Result<(Connection, SendStream, RecvStream), Failure> {
    let what = "accepting";
    let incoming = endpoint.accept().await;
    let incoming = incoming.ok_or_else(|| Failure::quic(what, "the endpoint is closed"))?;
    let connection = incoming.await.map_err(|error| Failure::quic(what, error))?;
    let (send, receive) =
        connection.accept_bi().await.map_err(|error| Failure::quic(what, error))?;
    Ok((connection, send, receive))
}

/// Correlations on their way from the receiver to the committer and back.
#[derive(Default)]
struct Pipe {
    state: Mutex<PipeState>,
    written: Condvar,
    flushed: Notify,
}

#[derive(Default)]
struct PipeState {
    written: Vec<u32>,
    flushed: Vec<u32>,
    /// Nothing will be written any more.
    ended: bool,
    /// The committer is done, and how.
    failed: Option<Failure>,
    committed_all: bool,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self) {
        self.lock().ended = true;
        self.written.notify_one();
    }

    /// Flushes what gathered while the last flush ran, again and again until the end.
    fn commit(&self, file: &File) {
        let mut gathered = Vec::new();
        loop {
            let mut state = self.lock();
            while state.written.is_empty() && !state.ended {
                state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut state.written, &mut gathered);
            drop(state);
            let done = gathered.is_empty();
            let flushed = if done { Ok(()) } else { file.sync_data() };
            let mut state = self.lock();
            state.flushed.append(&mut gathered);
            state.failed = flushed.tried(|| "flushing".to_owned()).err();
            state.committed_all = done || state.failed.is_some();
            let over = state.committed_all;
            drop(state);
            self.flushed.notify_one();
            if over {
                return;
            }
        }
    }
}

/// Serves one connection until it ends.
///
/// - `path`: must not exist; gets `file_bytes` allocated.
///
/// # Errors
/// The first failure of either thread.
pub async fn serve_sink(endpoint: Endpoint, path: &Path, file_bytes: u64) -> Result<(), Failure> {
    let file = Arc::new(allocate(path, file_bytes)?);
    let (connection, send, receive) = first_stream(&endpoint).await?;
    let pipe = Arc::new(Pipe::default());
    let committer = {
        let (pipe, file) = (Arc::clone(&pipe), Arc::clone(&file));
        std::thread::spawn(move || pipe.commit(&file))
    };
    let receiving = async {
        let done = sink(receive, &file, &pipe).await;
        pipe.end();
        done
    };
    let (received, answered) = tokio::join!(receiving, answer(send, &pipe));
    committer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    received.and(answered)?;
    connection.closed().await;
    Ok(())
}

/// Writes requests to the file until the stream ends.
async fn sink(mut stream: RecvStream, file: &File, pipe: &Pipe) -> Result<(), Failure> {
    let mut buffer = vec![1; READ_BYTES];
    let (mut filled, mut position) = (0, 0);
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        match stream.read(room).await {
            Ok(Some(count)) => filled += count,
            // A loader that has what it wanted closes the connection.
            Ok(None) | Err(_) => return Ok(()),
        }
        let received = buffer.get(..filled).unwrap_or_default();
        let (mut whole, mut correlations) = (0, Vec::new());
        while let Some(frame) = whole_frame(received.get(whole..).unwrap_or_default()) {
            std::hint::black_box(crc32c::crc32c(frame));
            let correlation = frame.get(CORRELATION_AT).and_then(<[u8]>::first_chunk);
            correlations.extend(correlation.copied().map(u32::from_le_bytes));
            whole += frame.len();
        }
        if whole == 0 {
            continue;
        }
        let requests = received.get(..whole).unwrap_or_default();
        file.write_all_at(requests, position).tried(|| "writing requests".to_owned())?;
        position += whole as u64;
        pipe.lock().written.append(&mut correlations);
        pipe.written.notify_one();
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

/// The first whole frame, length included.
fn whole_frame(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..Frame::length(bytes)?.checked_add(LENGTH_BYTES)?)
}

/// Answers what was flushed.
async fn answer(mut stream: SendStream, pipe: &Pipe) -> Result<(), Failure> {
    let template = acknowledgement()?;
    let mut answers = BytesMut::new();
    loop {
        let (flushed, over) = {
            let mut state = pipe.lock();
            if let Some(failure) = state.failed.take() {
                return Err(failure);
            }
            (std::mem::take(&mut state.flushed), state.committed_all)
        };
        for correlation in flushed {
            answers.put_slice(template.get(..CORRELATION_AT.start).unwrap_or_default());
            answers.put_u32_le(correlation);
            answers.put_slice(template.get(CORRELATION_AT.end..).unwrap_or_default());
        }
        if !answers.is_empty() {
            let written = stream.write_chunk(answers.split().freeze()).await;
            written.map_err(|error| Failure::quic("answering", error))?;
        } else if over {
            return Ok(());
        } else {
            pipe.flushed.notified().await;
        }
    }
}

/// The answer to every request, but for its correlation.
fn acknowledgement() -> Result<Bytes, Failure> {
    let response =
        ProduceResponse { durability: "flushed".into(), replicas: 1, ..ProduceResponse::default() };
    Ok(Reply::Produce(response).encode(0, VERSION_MAX)?.to_bytes())
}

/// Where the echo loop flushes to: a new file with room for so many round trips.
#[derive(Clone, Copy, Debug)]
pub struct EchoFile<'a> {
    /// Must not exist.
    pub path: &'a Path,
    /// Round trips that it has room for.
    pub round_trips: u64,
}

/// Sends every frame of one connection back until that ends; with a file, after a write of 4 KiB
/// and its flush, on the same thread.
///
/// # Errors
/// The system refuses, or a length that no frame has.
pub async fn serve_echo(endpoint: Endpoint, flushed: Option<EchoFile<'_>>) -> Result<(), Failure> {
    let bytes = crate::payload::Noise::new(29).bytes(ECHO_WRITE_BYTES);
    let file = match flushed {
        Some(EchoFile { path, round_trips }) => {
            Some(allocate(path, round_trips * ECHO_WRITE_BYTES as u64)?)
        }
        None => None,
    };
    let (connection, mut send, receive) = first_stream(&endpoint).await?;
    let mut frames = Frames::new(receive);
    let mut position = 0;
    loop {
        while let Some(frame) = frames.buffered()? {
            if let Some(file) = &file {
                let what = || "writing and flushing".to_owned();
                file.write_all_at(&bytes, position).tried(what)?;
                file.sync_data().tried(what)?;
                position += ECHO_WRITE_BYTES as u64;
            }
            let mut echo = BytesMut::with_capacity(HEADER_BYTES + frame.body.len());
            let length = HEADER_BYTES - LENGTH_BYTES + frame.body.len();
            echo.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
            echo.put_u16_le(frame.kind.0);
            echo.put_u32_le(frame.correlation);
            echo.put_slice(&frame.body);
            let written = send.write_chunk(echo.freeze()).await;
            written.map_err(|error| Failure::quic("echoing", error))?;
        }
        if frames.fill().await.is_err() {
            connection.closed().await;
            return Ok(());
        }
    }
}
