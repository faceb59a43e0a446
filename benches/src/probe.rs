//! The bare loops that the broker is compared with: what the machine does without a broker.
//!
//! ```text
//!   produce   read ─► whole frames ─► CRC-32C each ─► one pwrite ─► pending ─┐   a thread each
//!             socket ◄─ answers, one write per connection ◄─ fdatasync ◄─────┘   one committer
//!
//!   fetch     map ─► write 256 KiB ─► socket, again and again
//! ```
//!
//! The produce loop takes the same requests as a broker and gives answers that the same loader
//! checks. It looks at nothing but lengths, and keeps nothing but bytes. Its file is new and
//! allocated in full before the first request, as a broker's segment is.
//!
//! Absent on purpose: everything that makes a broker.

use crate::failure::{Failure, Tried};
use crate::payload::Noise;
use crate::requests::{Answer, CorrelationId, Requests, accept, receive};
use bateau_log::{Disk, RealDisk, RealDiskOptions};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes that the fetch loop writes at a time.
pub const FETCH_WRITE_BYTES: usize = 256 * 1024;

/// What one write of a receiver put into the file.
struct Pending {
    connection: usize,
    ids: Vec<CorrelationId>,
}

/// What receivers hand to the committer.
#[derive(Default)]
struct Queue {
    pending: Mutex<(Vec<Pending>, usize)>,
    filled: Condvar,
}

impl Queue {
    fn push(&self, pending: Pending) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).0.push(pending);
        self.filled.notify_one();
    }

    fn end(&self) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).1 += 1;
        self.filled.notify_one();
    }

    /// Everything that gathered; `None` once nothing is left and `connections` have ended.
    fn take(&self, connections: usize) -> Option<Vec<Pending>> {
        let mut inner = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if !inner.0.is_empty() {
                return Some(std::mem::take(&mut inner.0));
            }
            if inner.1 == connections {
                return None;
            }
            inner = self.filled.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Serves so many connections until each has ended.
///
/// - `file`: must not exist; gets `file_bytes` allocated.
///
/// # Errors
/// The first failure of any thread.
pub fn serve_produce(
    listener: &TcpListener,
    connections: usize,
    file: &Path,
    file_bytes: u64,
) -> Result<(), Failure> {
    let what = || file.display().to_string();
    let file = File::create_new(file).tried(what)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, file_bytes).tried(what)?;
    let streams = accept(listener, connections)?;
    let (queue, next) = (Queue::default(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let receivers: Vec<_> = (0..connections)
            .zip(&streams)
            .map(|(connection, stream)| {
                let (file, queue, next) = (&file, &queue, &next);
                scope.spawn(move || {
                    let done = write_requests(stream, connection, file, next, queue);
                    queue.end();
                    done
                })
            })
            .collect();
        let committed = commit(&file, &streams, &queue);
        for receiver in receivers {
            receiver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        committed
    })
}

/// Writes requests of one connection to the file until it ends.
fn write_requests(
    stream: &TcpStream,
    connection: usize,
    file: &File,
    next: &AtomicU64,
    queue: &Queue,
) -> Result<(), Failure> {
    receive(stream, |Requests { frames, ids }| {
        let position = next.fetch_add(frames.len() as u64, Ordering::Relaxed);
        file.write_all_at(frames, position).tried(|| "writing requests".to_owned())?;
        queue.push(Pending { connection, ids });
        Ok(())
    })
}

/// Flushes what gathered, then answers it.
fn commit(file: &File, streams: &[TcpStream], queue: &Queue) -> Result<(), Failure> {
    let answer = Answer::new()?;
    let mut answers: Vec<Vec<u8>> = vec![Vec::new(); streams.len()];
    while let Some(gathered) = queue.take(streams.len()) {
        file.sync_data().tried(|| "flushing".to_owned())?;
        for pending in gathered {
            let Some(out) = answers.get_mut(pending.connection) else { continue };
            pending.ids.into_iter().for_each(|id| answer.append(id, out));
        }
        for (mut stream, out) in streams.iter().zip(&mut answers) {
            if !out.is_empty() {
                stream.write_all(out).tried(|| "answering".to_owned())?;
                out.clear();
            }
        }
    }
    Ok(())
}

/// A file of noise, mapped and in the page cache, to be written to sockets.
#[derive(Debug)]
pub struct FetchSource {
    map: Box<dyn bateau_log::FileMap>,
    file_bytes: usize,
}

impl FetchSource {
    /// Writes the file, new and allocated in full, flushes it and maps it.
    ///
    /// # Errors
    /// The system refuses.
    pub fn create(directory: &Path, file_bytes: usize) -> Result<Self, Failure> {
        let what = || directory.display().to_string();
        let disk = RealDisk::open(directory, RealDiskOptions::default()).tried(what)?;
        let file = disk.create("source").tried(what)?;
        file.allocate(file_bytes as u64).tried(what)?;
        let mut noise = Noise::new(3);
        let piece = noise.bytes(FETCH_WRITE_BYTES);
        for start in (0..file_bytes).step_by(FETCH_WRITE_BYTES) {
            let piece = piece.get(..FETCH_WRITE_BYTES.min(file_bytes - start)).unwrap_or_default();
            file.write_at(start as u64, &[piece]).tried(what)?;
        }
        file.flush().tried(what)?;
        let map = file.map().tried(what)?;
        map.populate(0, file_bytes).tried(what)?;
        Ok(Self { map, file_bytes })
    }

    /// Waits for one connection and its first byte, then writes `total` bytes, the file over and
    /// over, 256 KiB at a time.
    ///
    /// # Errors
    /// The connection broke.
    pub fn serve(&self, listener: &TcpListener, total: u64) -> Result<(), Failure> {
        let what = || "sending the map".to_owned();
        let (mut stream, _) = listener.accept().tried(what)?;
        stream.set_nodelay(true).tried(what)?;
        stream.read_exact(&mut [0]).tried(what)?;
        let mut left = total;
        let mut position = 0;
        while left > 0 {
            let room = (self.file_bytes - position).min(FETCH_WRITE_BYTES);
            let bytes = room.min(usize::try_from(left).unwrap_or(usize::MAX));
            stream.write_all(&self.map.slice(position as u64, bytes)).tried(what)?;
            left -= bytes as u64;
            position = (position + bytes) % self.file_bytes;
        }
        // Its end is the reader's to say, so that our counters can be read until then.
        let _ = stream.read(&mut [0]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fetcher::drain;
    use crate::loader::{Plan, first_frame, replay};
    use crate::payload::{Shape, produce_requests};

    #[test]
    fn every_request_is_written_once_and_answered_after_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = Plan { address: listener.local_addr().unwrap(), requests: 50, inflight: 4 };
        let mut noise = Noise::new(1);
        let set = produce_requests("t", 0..1, 5, Shape::SINGLE, &mut noise).unwrap();
        let request_bytes = set[0].len() as u64;
        let outcome = std::thread::scope(|scope| {
            let server = scope.spawn(|| serve_produce(&listener, 3, &path, 1 << 20));
            let outcome = replay(plan, vec![set.clone(), set.clone(), set.clone()]).unwrap();
            server.join().unwrap().unwrap();
            outcome
        });
        assert_eq!(outcome.requests, 150);
        let written = std::fs::read(&path).unwrap();
        assert_eq!(written.len(), 1 << 20, "the file was allocated in full");
        let mut frames = 0;
        let mut rest = &written[..];
        while let Some(frame) = first_frame(rest).filter(|frame| !frame.is_empty()) {
            assert_eq!(frame.len() as u64 + 4, request_bytes);
            rest = &rest[4 + frame.len()..];
            frames += 1;
        }
        assert_eq!(frames, 150);
    }

    #[test]
    fn a_loader_with_too_few_distinct_requests_is_refused() {
        let plan = Plan { address: "127.0.0.1:1".parse().unwrap(), requests: 1, inflight: 4 };
        assert!(matches!(
            replay(plan, vec![vec![vec![0; 12]; 3]]),
            Err(Failure::Unexpected { .. })
        ));
    }

    #[test]
    fn a_peer_that_goes_away_is_a_failure_and_not_a_figure() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let plan = Plan { address: listener.local_addr().unwrap(), requests: 9, inflight: 1 };
        let set = produce_requests("t", 0..1, 1, Shape::SINGLE, &mut Noise::new(1)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(listener.accept().unwrap()));
            assert!(replay(plan, vec![set]).is_err());
        });
    }

    #[test]
    fn the_map_is_sent_over_and_over_until_all_was_sent() {
        let directory = tempfile::tempdir().unwrap();
        let source = FetchSource::create(directory.path(), 600 * 1024).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let total = 2_000_001;
        std::thread::scope(|scope| {
            let server = scope.spawn(|| source.serve(&listener, total));
            let (outcome, ()) = drain(address, total, || ()).unwrap();
            assert_eq!(outcome.payload_bytes, total);
            server.join().unwrap().unwrap();
        });
    }
}
