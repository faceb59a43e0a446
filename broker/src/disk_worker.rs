//! The disk thread: one per data directory. Only the thread and its queue; what it does with the
//! work is `bateau_log::CommitCycle`.
//!
//! ```text
//!   shard ──Work──> queue ──(a share of each log)──> CommitCycle::run ──Vec<Done>──> shard
//! ```
//!
//! Invariants
//! - While a flush runs, the next batch gathers; there is no timer on the ack path (D3).
//! - Answers leave after the flush that they rest on, those of one log in order.
//! - After the first failure nothing is written, flushed or answered any more (D7).
//!
//! The queue's bound is what replicas may have uncommitted, which raft's limit sets.
//!
//! Absent on purpose: a second writer.

use bateau_log::{CommitCycle, DiskFailed, Done, SHARE_BYTES, Work, take_share};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Quiet time before the closing flush (D2, recovery's write order).
const CLOSING_FLUSH_AFTER: Duration = Duration::from_millis(50);
/// Pause between two slices of background work on an otherwise quiet directory (D5).
const BACKGROUND_PAUSE: Duration = Duration::from_millis(1);
/// How much longer than its last slice a mending rests, while others may write and flush.
const MENDING_RESTS: u32 = 7;
/// The least from a slice of a mending to the next one: what is mended also takes processors and
/// links, here and where it comes from. A segment of 256 MiB takes 1,024 slices.
const MENDING_SLICE_MIN: Duration = Duration::from_millis(16);
/// Between two looks at the free space, however busy or quiet it is.
const SPACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What the disk thread reports.
#[derive(Debug)]
pub enum Report {
    /// Answers, those of one log in the order of its work.
    Done(Vec<Done>),
    /// Everything that was queued before a [`DiskQueue::settle`] has been done and answered, and
    /// so has what it left for quiet moments.
    Settled,
    /// The directory failed. Nothing is reported after it.
    Failed(DiskFailed),
}

#[derive(Debug)]
enum Message {
    Work(Work),
    Settle,
}

/// The sending half. When the last one is gone, the thread makes the closing flush and ends.
#[derive(Clone, Debug)]
pub struct DiskQueue {
    sender: Sender<Message>,
}

impl DiskQueue {
    /// Queues work. After a failure of the directory it is dropped: nothing is answered then.
    pub fn push(&self, work: Work) {
        let _ = self.sender.send(Message::Work(work));
    }

    /// Asks for one [`Report::Settled`]. Cost: the background work that is left.
    pub fn settle(&self) {
        let _ = self.sender.send(Message::Settle);
    }
}

/// Starts the thread.
///
/// - `report`: called on the disk thread with the answers of each cycle, and once with the
///   failure, if there is one.
///
/// Errors: the system refused a thread.
pub fn spawn(
    cycle: CommitCycle,
    report: impl Fn(Report) + Send + 'static,
) -> std::io::Result<(DiskQueue, JoinHandle<()>)> {
    let (sender, queue) = channel();
    let thread = std::thread::Builder::new().name("disk".to_owned()).spawn(move || {
        let (done, looked) = (Vec::new(), Instant::now());
        let (waiting, settles_count) = (Vec::new(), 0);
        let report_to = &report;
        let rests_until = looked;
        let mut worker = Worker {
            cycle,
            queue,
            waiting,
            settles_count,
            report: report_to,
            done,
            looked,
            rests_until,
        };
        let ended = worker.run();
        let Worker { cycle, .. } = worker;
        if let Err(failed) = ended.and_then(|()| cycle.close()) {
            report(Report::Failed(failed));
        }
    })?;
    Ok((DiskQueue { sender }, thread))
}

struct Worker<'a> {
    cycle: CommitCycle,
    queue: Receiver<Message>,
    /// What has gathered and not been taken into a cycle.
    waiting: Vec<Work>,
    /// Who waits until nothing is left.
    settles_count: usize,
    report: &'a dyn Fn(Report),
    done: Vec<Done>,
    /// When it last looked at the free space.
    looked: Instant,
    /// Until then nothing is mended; other background work goes on.
    rests_until: Instant,
}

/// What a quiet moment is used for next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Quiet {
    Background,
    ClosingFlush,
    SpaceCheck,
}

impl Quiet {
    const fn after(self) -> Duration {
        match self {
            Self::Background => BACKGROUND_PAUSE,
            Self::ClosingFlush => CLOSING_FLUSH_AFTER,
            Self::SpaceCheck => SPACE_CHECK_INTERVAL,
        }
    }
}

impl Worker<'_> {
    fn run(&mut self) -> Result<(), DiskFailed> {
        let mut work = Vec::new();
        let mut quiet = Quiet::Background;
        loop {
            if self.waiting.is_empty() {
                match self.queue.recv_timeout(quiet.after()) {
                    Ok(message) => self.take(message),
                    Err(RecvTimeoutError::Timeout) => {
                        quiet = self.use_quiet_moment(quiet)?;
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return Ok(()),
                }
            }
            while let Ok(message) = self.queue.try_recv() {
                self.take(message);
            }
            take_share(&mut self.waiting, &mut work, SHARE_BYTES);
            self.cycle.run(&mut work, &mut self.done)?;
            if self.looked.elapsed() >= SPACE_CHECK_INTERVAL {
                self.look()?;
            }
            self.report();
            let has_settled = self.settle()?;
            let has_more = !has_settled && self.background()?;
            quiet = if has_more { Quiet::Background } else { Quiet::ClosingFlush };
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Work(request) => self.waiting.push(request),
            Message::Settle => self.settles_count += 1,
        }
    }

    fn use_quiet_moment(&mut self, quiet: Quiet) -> Result<Quiet, DiskFailed> {
        let next = match quiet {
            Quiet::Background if self.background()? => Quiet::Background,
            Quiet::Background => Quiet::ClosingFlush,
            Quiet::ClosingFlush => {
                self.cycle.on_idle(&mut self.done)?;
                Quiet::SpaceCheck
            }
            Quiet::SpaceCheck => {
                self.look()?;
                // What is low on room has trash to empty, and nothing else may come along.
                if self.background()? { Quiet::Background } else { Quiet::SpaceCheck }
            }
        };
        self.report();
        Ok(next)
    }

    /// A trickle that never pauses must not keep room, or its end, from being seen (D20).
    fn look(&mut self) -> Result<(), DiskFailed> {
        self.looked = Instant::now();
        self.cycle.check_space(&mut self.done)?;
        Ok(())
    }

    /// A slice of what is left for quiet moments. Returns whether there is more.
    fn background(&mut self) -> Result<bool, DiskFailed> {
        let begun = Instant::now();
        let is_mending = self.cycle.is_mending();
        let has_more = if is_mending && begun < self.rests_until {
            self.cycle.background_step_beside_mending(&mut self.done)?
        } else {
            self.cycle.background_step(&mut self.done)?
        };
        if is_mending && begun >= self.rests_until {
            let ended = Instant::now();
            let rested = ended + MENDING_RESTS * ended.duration_since(begun);
            self.rests_until = rested.max(begun + MENDING_SLICE_MIN);
        }
        self.report();
        Ok(has_more || is_mending)
    }

    /// Does what is left for quiet moments, where somebody waits for that, and says so. Returns
    /// whether it did.
    fn settle(&mut self) -> Result<bool, DiskFailed> {
        if self.settles_count == 0 || !self.waiting.is_empty() {
            return Ok(false);
        }
        while self.cycle.background_step(&mut self.done)? {}
        self.report();
        for _ in 0..std::mem::take(&mut self.settles_count) {
            (self.report)(Report::Settled);
        }
        Ok(true)
    }

    fn report(&mut self) {
        if !self.done.is_empty() {
            (self.report)(Report::Done(std::mem::take(&mut self.done)));
        }
    }
}
