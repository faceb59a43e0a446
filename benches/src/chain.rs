//! The bare chain that a replicated partition is compared with: what three processes and their
//! disks do without a broker.
//!
//! ```text
//!   requests ─► leader: CRC-32C ─┬─ pwrite ─► fdatasync ─┐
//!                                ├─► follower: CRC-32C, pwrite, fdatasync ─► bytes flushed ─┤
//!                                └─► follower: the same ────────────────────────────────────┤
//!   answers  ◄──────────────────────────────── two of the three have flushed ◄──────────────┘
//! ```
//!
//! Each writes one file that is new and allocated in full, or that was written before. Whatever
//! gathers while a flush runs is covered by the next one, on each of the three by itself.
//!
//! Absent on purpose: elections, logs, offsets; everything that makes it a replicated log.

use crate::failure::{Failure, Tried};
use crate::loader::first_frame;
use crate::payload::CORRELATION_AT;
use crate::probe::answer;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

/// Room for what one read may bring.
const READ_BYTES: usize = 2 * 1024 * 1024;
/// Flushes of the three that an answer waits for.
const MAJORITY: usize = 2;

/// The file of one of the three: new and allocated, or, where it is there already, written over.
fn open(path: &Path, bytes: u64) -> Result<File, Failure> {
    let what = || path.display().to_string();
    let is_there = path.exists();
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).open(path).tried(what)?;
    if !is_there {
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).tried(what)?;
    }
    Ok(file)
}

/// Bytes that have been written, for whoever flushes them.
#[derive(Default)]
struct Written {
    bytes: Mutex<(u64, bool)>,
    more: Condvar,
}

impl Written {
    fn advance(&self, to: u64) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.0 = bytes.0.max(to);
        self.more.notify_one();
    }

    fn end(&self) {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.more.notify_one();
    }

    /// More than `flushed`, once there is more; `None` at the end.
    fn beyond(&self, flushed: u64) -> Option<u64> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match *bytes {
                (written, _) if written > flushed => return Some(written),
                (_, true) => return None,
                _ => bytes = self.more.wait(bytes).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// Receives what a leader sends, until it ends, and answers with the bytes that are flushed.
///
/// # Errors
/// The connection or the file fails.
pub fn follow(listener: &TcpListener, path: &Path, bytes: u64) -> Result<(), Failure> {
    let file = open(path, bytes)?;
    let (stream, _) = listener.accept().tried(|| "accepting the leader".to_owned())?;
    stream.set_nodelay(true).tried(|| "the leader's connection".to_owned())?;
    let written = Written::default();
    std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            let mut flushed = 0;
            while let Some(reached) = written.beyond(flushed) {
                file.sync_data().tried(|| "flushing".to_owned())?;
                flushed = reached;
                let said = (&stream).write_all(&flushed.to_le_bytes());
                said.tried(|| "answering the leader".to_owned())?;
            }
            Ok(())
        });
        let received = frames_of(&stream, |position, frames| {
            let wrote = file.write_all_at(frames, position);
            wrote.tried(|| "writing requests".to_owned())?;
            written.advance(position + frames.len() as u64);
            Ok(())
        });
        written.end();
        received.and(flusher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Hands on whole frames, checksummed, each time with their position in the stream, until it ends.
fn frames_of(
    mut stream: &TcpStream,
    mut take: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut buffer = vec![1; READ_BYTES];
    let (mut filled, mut position) = (0, 0);
    loop {
        let room = buffer.get_mut(filled..).unwrap_or_default();
        match stream.read(room).tried(|| "receiving requests".to_owned())? {
            0 => return Ok(()),
            count => filled += count,
        }
        let mut whole = 0;
        let received = buffer.get(..filled).unwrap_or_default();
        while let Some(frame) = first_frame(received.get(whole..).unwrap_or_default()) {
            std::hint::black_box(crc32c::crc32c(frame));
            whole += 4 + frame.len();
        }
        if whole > 0 {
            take(position, buffer.get(..whole).unwrap_or_default())?;
            position += whole as u64;
            buffer.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }
}

/// Requests that wait for two of three flushes.
struct Waiting {
    /// Where they end in what was sent to the followers and written here.
    end: u64,
    ids: Vec<[u8; 4]>,
}

/// What the leader's threads share.
struct Chain<'a> {
    /// Where the next requests go: in the file, and in both followers' streams.
    order: Mutex<u64>,
    followers: &'a [TcpStream],
    connections: &'a [TcpStream],
    state: Mutex<State>,
    written: Written,
    /// An answer but for its correlation id.
    answer: Vec<u8>,
}

struct State {
    /// Bytes flushed: here, and by each follower.
    flushed: [u64; 3],
    /// By connection, in order.
    waiting: Vec<VecDeque<Waiting>>,
    /// Pieces that are written here, as far as there is no gap before them.
    pieces: VecDeque<(u64, bool)>,
}

/// Takes requests of so many connections until each has ended.
///
/// # Errors
/// The first failure of any thread.
pub fn lead(
    listener: &TcpListener,
    followers: &[SocketAddr],
    connections: usize,
    path: &Path,
    bytes: u64,
) -> Result<(), Failure> {
    let file = open(path, bytes)?;
    let dial = |address: &SocketAddr| {
        let stream = TcpStream::connect(address).tried(|| format!("follower {address}"))?;
        stream.set_nodelay(true).tried(|| "a follower's connection".to_owned())?;
        Ok(stream)
    };
    let followers = followers.iter().map(dial).collect::<Result<Vec<_>, Failure>>()?;
    let mut streams = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (stream, _) = listener.accept().tried(|| "accepting".to_owned())?;
        stream.set_nodelay(true).tried(|| "accepted connection".to_owned())?;
        streams.push(stream);
    }
    let waiting = (0..connections).map(|_| VecDeque::new()).collect();
    let chain = Chain {
        order: Mutex::new(0),
        followers: &followers,
        connections: &streams,
        state: Mutex::new(State { flushed: [0; 3], waiting, pieces: VecDeque::new() }),
        written: Written::default(),
        answer: answer()?,
    };
    std::thread::scope(|scope| {
        let (chain, file) = (&chain, &file);
        let heard: Vec<_> = followers
            .iter()
            .enumerate()
            .map(|(at, follower)| scope.spawn(move || chain.hear(at + 1, follower)))
            .collect();
        let flusher = scope.spawn(move || chain.flush(file));
        let received: Vec<_> = streams
            .iter()
            .enumerate()
            .map(|(at, stream)| scope.spawn(move || chain.receive(at, stream, file)))
            .collect();
        let mut result = Ok(());
        for thread in received {
            result =
                result.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        chain.written.end();
        for follower in &followers {
            // Its answers go on until it has flushed everything.
            let _ = follower.shutdown(std::net::Shutdown::Write);
        }
        for thread in heard.into_iter().chain([flusher]) {
            result =
                result.and(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })
}

impl Chain<'_> {
    fn receive(&self, at: usize, stream: &TcpStream, file: &File) -> Result<(), Failure> {
        frames_of(stream, |_, frames| {
            let position = self.send(frames)?;
            let end = position + frames.len() as u64;
            let wrote = file.write_all_at(frames, position);
            wrote.tried(|| "writing requests".to_owned())?;
            let mut ids = Vec::new();
            let mut left = frames;
            while let Some(frame) = first_frame(left) {
                // Frames lack their length, which stands in front of the id's place.
                let id = frame.get(CORRELATION_AT.start - 4..).and_then(<[u8]>::first_chunk);
                ids.extend(id);
                left = left.get(4 + frame.len()..).unwrap_or_default();
            }
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waiting) = state.waiting.get_mut(at) {
                waiting.push_back(Waiting { end, ids });
            }
            if let Some(piece) = state.pieces.iter_mut().find(|(of, _)| *of == end) {
                piece.1 = true;
            }
            let mut reached = None;
            while let Some((end, _)) = state.pieces.pop_front_if(|(_, is_written)| *is_written) {
                reached = Some(end);
            }
            drop(state);
            if let Some(reached) = reached {
                self.written.advance(reached);
            }
            Ok(())
        })
    }

    /// Gives the requests their place, and sends them to both followers at it.
    fn send(&self, frames: &[u8]) -> Result<u64, Failure> {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let position = *order;
        *order += frames.len() as u64;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).pieces.push_back((*order, false));
        for mut follower in self.followers {
            follower.write_all(frames).tried(|| "sending to a follower".to_owned())?;
        }
        Ok(position)
    }

    fn hear(&self, at: usize, mut follower: &TcpStream) -> Result<(), Failure> {
        let mut bytes = [0; 8];
        while follower.read_exact(&mut bytes).is_ok() {
            self.note_flushed(at, u64::from_le_bytes(bytes))?;
        }
        Ok(())
    }

    fn flush(&self, file: &File) -> Result<(), Failure> {
        let mut flushed = 0;
        while let Some(reached) = self.written.beyond(flushed) {
            file.sync_data().tried(|| "flushing".to_owned())?;
            flushed = reached;
            self.note_flushed(0, flushed)?;
        }
        Ok(())
    }

    /// Answers what two of three have flushed.
    fn note_flushed(&self, at: usize, bytes: u64) -> Result<(), Failure> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of) = state.flushed.get_mut(at) {
            *of = bytes;
        }
        let mut sorted = state.flushed;
        sorted.sort_unstable();
        let committed = sorted.get(sorted.len() - MAJORITY).copied().unwrap_or_default();
        let (length, rest) = self.answer.split_at(4);
        for (waiting, mut stream) in state.waiting.iter_mut().zip(self.connections) {
            let mut out = Vec::new();
            while let Some(one) = waiting.pop_front_if(|one| one.end <= committed) {
                for id in one.ids {
                    out.extend_from_slice(length);
                    out.extend_from_slice(&id);
                    out.extend_from_slice(rest.get(4..).unwrap_or_default());
                }
            }
            if !out.is_empty() {
                stream.write_all(&out).tried(|| "answering".to_owned())?;
            }
        }
        Ok(())
    }
}
