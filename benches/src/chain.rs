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

use crate::client::connect;
use crate::failure::{Failure, Tried};
use crate::requests::{Answer, CorrelationId, Requests, accept, receive};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
        let mut position = 0;
        let received = receive(&stream, |Requests { frames, .. }| {
            let wrote = file.write_all_at(frames, position);
            wrote.tried(|| "writing requests".to_owned())?;
            position += frames.len() as u64;
            written.advance(position);
            Ok(())
        });
        written.end();
        received.and(flusher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Sends so many requests to one follower, round and round, and waits until it has flushed all of
/// them; how long that took.
///
/// # Errors
/// The connection fails.
pub fn feed(address: SocketAddr, set: &[Vec<u8>], requests: u64) -> Result<Duration, Failure> {
    let mut stream = connect(address)?;
    let mut answers = stream.try_clone().tried(|| "the follower's connection".to_owned())?;
    let count = usize::try_from(requests).unwrap_or(usize::MAX);
    let all = set.iter().cycle().take(count);
    let total: u64 = all.clone().map(|request| request.len() as u64).sum();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            for request in all {
                stream.write_all(request).tried(|| "sending to the follower".to_owned())?;
            }
            Ok(())
        });
        let mut flushed = [0; 8];
        let mut heard = Ok(());
        while heard.is_ok() && u64::from_le_bytes(flushed) < total {
            heard = answers.read_exact(&mut flushed).tried(|| "the follower's flushes".to_owned());
        }
        let took = begun.elapsed();
        heard.and(sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))?;
        Ok(took)
    })
}

/// Requests that wait for two of three flushes.
struct Waiting {
    /// Where they end in what was sent to the followers and written here.
    end: u64,
    ids: Vec<CorrelationId>,
}

/// What the leader's threads share.
struct Chain<'a> {
    /// Where the next requests go: in the file, and in both followers' streams.
    order: Mutex<u64>,
    followers: &'a [TcpStream],
    connections: &'a [TcpStream],
    state: Mutex<State>,
    written: Written,
    answer: Answer,
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
    let streams = accept(listener, connections)?;
    let waiting = (0..connections).map(|_| VecDeque::new()).collect();
    let chain = Chain {
        order: Mutex::new(0),
        followers: &followers,
        connections: &streams,
        state: Mutex::new(State { flushed: [0; 3], waiting, pieces: VecDeque::new() }),
        written: Written::default(),
        answer: Answer::new()?,
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
        receive(stream, |Requests { frames, ids }| {
            let position = self.send(frames)?;
            let end = position + frames.len() as u64;
            let wrote = file.write_all_at(frames, position);
            wrote.tried(|| "writing requests".to_owned())?;
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
        for (waiting, mut stream) in state.waiting.iter_mut().zip(self.connections) {
            let mut out = Vec::new();
            while let Some(one) = waiting.pop_front_if(|one| one.end <= committed) {
                one.ids.into_iter().for_each(|id| self.answer.append(id, &mut out));
            }
            if !out.is_empty() {
                stream.write_all(&out).tried(|| "answering".to_owned())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::{Plan, replay};
    use crate::payload::{Noise, Shape, produce_requests};

    #[test]
    fn every_request_is_answered_and_lies_in_all_three_files_at_one_place() {
        const FILE_BYTES: u64 = 1 << 20;
        let directory = tempfile::tempdir().unwrap();
        let paths = ["leader", "one", "other"].map(|name| directory.path().join(name));
        let [door, one, other] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = [&one, &other].map(|listener| listener.local_addr().unwrap());
        let plan = Plan { address: door.local_addr().unwrap(), requests: 50, inflight: 4 };
        let set = produce_requests("t", 0..1, 5, Shape::SINGLE, &mut Noise::new(1)).unwrap();
        let outcome = std::thread::scope(|scope| {
            let followers = [(&one, &paths[1]), (&other, &paths[2])];
            let followers = followers
                .map(|(listener, path)| scope.spawn(move || follow(listener, path, FILE_BYTES)));
            let leader = scope.spawn(|| lead(&door, &addresses, 2, &paths[0], FILE_BYTES));
            let outcome = replay(plan, vec![set.clone(), set.clone()]).unwrap();
            leader.join().unwrap().unwrap();
            followers.into_iter().for_each(|follower| follower.join().unwrap().unwrap());
            outcome
        });
        assert_eq!(outcome.requests, 100);
        let [leader, one, other] = paths.map(|path| std::fs::read(path).unwrap());
        assert!(leader == one && leader == other, "each has the same at the same place");
        let (requests, rest) = leader.split_at(100 * set[0].len());
        let length = &set[0][..4];
        assert!(requests.chunks(set[0].len()).all(|request| request.starts_with(length)));
        assert!(rest.iter().all(|byte| *byte == 0), "nothing is written twice");
    }

    #[test]
    fn a_follower_that_is_fed_alone_has_all_of_it_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let set = produce_requests("t", 0..1, 3, Shape::SINGLE, &mut Noise::new(1)).unwrap();
        std::thread::scope(|scope| {
            let follower = scope.spawn(|| follow(&listener, &path, 1 << 20));
            feed(address, &set, 7).unwrap();
            follower.join().unwrap().unwrap();
        });
        let written = std::fs::read(&path).unwrap();
        let expected: Vec<u8> = set.iter().cycle().take(7).flatten().copied().collect();
        assert!(written.starts_with(&expected) && written.len() == 1 << 20);
    }
}
