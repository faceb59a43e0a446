//! The scrub: a thread that reads everything that lies on the disk once more, at its leisure, and
//! so finds damage before somebody needs what is damaged.
//!
//! ```text
//!   slice of a log ── took t ──> pause of t × (100 − share) / share ──> slice …    pass ──> rest
//! ```
//!
//! Invariants
//! - It takes no more than its share of the disk's time.
//! - A pass begins no earlier than the interval after the one before it has begun.
//!
//! Absent on purpose: a cursor that outlives the process; what becomes of damage, which the log
//! tells the shard.

use crate::router::Router;
use bateau_log::{Done, LogReader, ScrubPlace};
use bateau_protocol::ids::Incarnation;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes that are read at once.
const SLICE_BYTES: u64 = 256 * 1024;
/// Until it is looked for logs again where there is none yet: after a start they are there within
/// a moment, and damage that has come meanwhile is to be met soon.
const LOOK: Duration = Duration::from_secs(1);

/// How the scrub goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubSettings {
    /// Its share of the disk's time, in percent, 1 to 100.
    pub share_percent: u32,
    /// Between the beginnings of two passes.
    pub interval: Duration,
}

/// What the scrub has done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubProgress {
    /// Passes over everything.
    pub passes: u64,
    /// Logs that the pass under way has read.
    pub logs_done: u64,
    /// Logs that it reads; 0 between two passes.
    pub logs: u64,
    /// Bytes read, in all passes.
    pub bytes: u64,
    /// Segments in which damage was met, in all passes.
    pub damaged: u64,
}

/// What has been mended since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Repairs {
    /// Segments that are whole again.
    pub segments: u64,
    /// Frames of them that came from other replicas.
    pub frames: u64,
    /// Times that a segment could not be mended, or not yet.
    pub failures: u64,
}

/// Both, while they change.
#[derive(Debug, Default)]
pub(crate) struct DamageCounters {
    segments: AtomicU64,
    frames: AtomicU64,
    failures: AtomicU64,
    passes: AtomicU64,
    logs_done: AtomicU64,
    logs: AtomicU64,
    bytes: AtomicU64,
    damaged: AtomicU64,
}

impl DamageCounters {
    /// Counts what the disk has mended, or not.
    pub fn note(&self, done: &Done) {
        match done {
            Done::Mended { frames, .. } => {
                self.segments.fetch_add(1, Ordering::Relaxed);
                self.frames.fetch_add(*frames, Ordering::Relaxed);
            }
            Done::MendFailed { .. } => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    pub fn repairs(&self) -> Repairs {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (segments, frames) = (get(&self.segments), get(&self.frames));
        Repairs { segments, frames, failures: get(&self.failures) }
    }

    pub fn progress(&self) -> ScrubProgress {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ScrubProgress {
            passes: get(&self.passes),
            logs_done: get(&self.logs_done),
            logs: get(&self.logs),
            bytes: get(&self.bytes),
            damaged: get(&self.damaged),
        }
    }
}

/// The thread. It ends when this is dropped, which waits for the slice under way.
#[derive(Debug)]
pub(crate) struct Scrub {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Scrub {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What it panicked at has been told.
            let _ = thread.join();
        }
    }
}

impl Scrub {
    /// Starts it.
    ///
    /// Errors: the system refused a thread.
    pub fn spawn(
        settings: ScrubSettings,
        router: &Arc<Router>,
        counters: Arc<DamageCounters>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let router = Arc::downgrade(router);
        let thread = std::thread::Builder::new().name("scrub".to_owned()).spawn(move || {
            let mut worker = Worker { settings, router, counters, stopped };
            while worker.pass().is_some() {}
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

struct Worker {
    settings: ScrubSettings,
    router: Weak<Router>,
    counters: Arc<DamageCounters>,
    stopped: Receiver<()>,
}

impl Worker {
    /// Waits; `None` where the node stops.
    fn rest(&self, pause: Duration) -> Option<()> {
        match self.stopped.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => Some(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Reads everything that is here now, and rests until the next pass.
    fn pass(&mut self) -> Option<()> {
        let began = Instant::now();
        let readers = self.readers()?;
        let store = |count: &AtomicU64, value: u64| count.store(value, Ordering::Relaxed);
        store(&self.counters.logs_done, 0);
        store(&self.counters.logs, readers.len() as u64);
        let (before, logs) = (self.counters.progress(), readers.len());
        for (log, reader) in readers {
            self.read(log, &reader)?;
            self.counters.logs_done.fetch_add(1, Ordering::Relaxed);
        }
        store(&self.counters.logs, 0);
        let after = self.counters.progress();
        if logs > 0 {
            self.counters.passes.fetch_add(1, Ordering::Relaxed);
            let (bytes, damaged) = (after.bytes - before.bytes, after.damaged - before.damaged);
            tracing::info!(logs, bytes, damaged, "everything on this disk was read once more");
        }
        self.rest(rest_behind(logs, self.settings.interval.saturating_sub(began.elapsed())))
    }

    fn readers(&self) -> Option<Vec<(Incarnation, LogReader)>> {
        let directory = self.router.upgrade()?.directory();
        let views = directory.views();
        Some(views.map(|view| (view.incarnation(), view.reader().clone())).collect())
    }

    /// Reads one log. Its reader is asked for anew after every pause, so that a log that goes
    /// meanwhile is let go.
    fn read(&mut self, log: Incarnation, reader: &LogReader) -> Option<()> {
        let mut place = ScrubPlace::default();
        loop {
            let began = Instant::now();
            let slice = reader.scrub(&mut place, SLICE_BYTES);
            self.counters.bytes.fetch_add(slice.bytes, Ordering::Relaxed);
            if let Some(segment) = slice.damaged {
                let (incarnation, segment) = (log.get(), segment.get());
                tracing::error!(incarnation, segment, "the scrub has met damage");
                self.counters.damaged.fetch_add(1, Ordering::Relaxed);
            }
            let others = 100_u32.saturating_sub(self.settings.share_percent);
            let pause = began.elapsed() * others / self.settings.share_percent.max(1);
            self.rest(pause)?;
            let is_here = self.router.upgrade()?.directory().view(log).is_some();
            if slice.is_complete || !is_here {
                return Some(());
            }
        }
    }
}

/// How long there is nothing to do behind a pass.
///
/// - `left`: until the next one may begin.
fn rest_behind(logs: usize, left: Duration) -> Duration {
    // A node that has just started has nothing yet.
    if logs == 0 { left.min(LOOK) } else { left }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_whose_logs_are_not_there_yet_does_not_wait_for_the_next_day() {
        let day = Duration::from_secs(86_400);
        assert!(rest_behind(0, day) <= Duration::from_secs(1));
        assert_eq!(rest_behind(1, day), day, "a pass has been made");
        assert_eq!(rest_behind(0, Duration::from_millis(100)), Duration::from_millis(100));
    }
}
