//! The fetch path: past the shard's inbox, never through a replica.
//!
//! ```text
//!   plan (atomics) ──> resident? ──no──> read thread (populate) ──┐
//!        │                └─yes──────────────────────────────────> lend slices ──> enough?
//!        └──────────────── park until a commit, a failure or the deadline <── no ──┘
//! ```
//!
//! Invariants
//! - `I-LOG-3` Nothing at or above the high watermark is lent.
//! - A fetch completes at once when any of its partitions has an error (KIP-74 semantics, G31).
//! - Pages are made resident on the read thread, so no runtime task waits for a disk (D6).
//!
//! Absent on purpose: fetch sessions; every fetch names all of its partitions.

use crate::api::TopicReference;
use crate::partition::PartitionView;
use crate::router::Directory;
use bateau_log::{LogReader, ReadError};
use bateau_protocol::frame::leader_epoch;
use bateau_protocol::ids::{Offset, Term};
use bytes::Bytes;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

/// Cold ranges that may wait for the read thread before their readers wait.
const COLD_JOBS_MAX: usize = 1_024;

/// One partition of a fetch.
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// The topic.
    pub topic: TopicReference,
    /// Its partition.
    pub partition: i32,
    /// The first offset wanted.
    pub offset: i64,
    /// Soft limit in bytes for this partition.
    pub bytes_max: usize,
    /// The leader epoch that the client knows (KIP-320); negative: none.
    pub current_leader_epoch: i32,
    /// Epoch of the last record that the client has (KIP-595); negative: none.
    pub last_fetched_epoch: i32,
}

/// A whole fetch.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// What is wanted, in the order in which it is served.
    pub partitions: Vec<FetchPartition>,
    /// How long to wait for `bytes_min`.
    pub wait: Duration,
    /// Bytes to wait for.
    pub bytes_min: usize,
    /// Soft limit over all partitions; the first batch comes even when larger.
    pub bytes_max: usize,
}

/// What one partition has.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// Whole batches, lent from the log.
    pub batches: Vec<Bytes>,
    /// Their size.
    pub bytes: usize,
    /// First offset that is not committed.
    pub high_watermark: Offset,
    /// First offset that may be read.
    pub log_start: Offset,
    /// Where the client's log and this one part (KIP-595): an epoch and its end. Without records.
    pub diverging: Option<(Term, Offset)>,
}

/// Why a partition cannot be fetched.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum FetchError {
    /// No topic of that name, or no such partition.
    #[error("the topic or partition does not exist")]
    UnknownTopicOrPartition,
    /// No topic of that id.
    #[error("no topic has this id")]
    UnknownTopicId,
    /// This node does not lead the partition.
    #[error("this node does not lead the partition")]
    NotLeader,
    /// The client's epoch is older than ours.
    #[error("leader epoch {found} is older than the current {current}")]
    FencedLeaderEpoch {
        /// The client's.
        found: i32,
        /// Ours.
        current: i32,
    },
    /// The client's epoch is newer than ours.
    #[error("leader epoch {found} is newer than the current {current}")]
    UnknownLeaderEpoch {
        /// The client's.
        found: i32,
        /// Ours.
        current: i32,
    },
    /// The offset is not in the log.
    #[error("offset {found} is outside of {start}..={end}")]
    OffsetOutOfRange {
        /// What was asked for.
        found: i64,
        /// Where the log starts.
        start: Offset,
        /// Where what may be read ends.
        end: Offset,
    },
    /// The range is damaged.
    #[error("the partition's storage is damaged: {0}")]
    Storage(String),
}

/// Finds a topic's partition and checks the client's leader epoch (KIP-320).
///
/// Errors: everything of [`FetchError`] but the offset's range.
pub fn locate(
    directory: &Directory,
    topic: &TopicReference,
    partition: i32,
    current_leader_epoch: i32,
) -> Result<Arc<PartitionView>, FetchError> {
    let found = match topic {
        TopicReference::Name(name) => {
            directory.topic(name).ok_or(FetchError::UnknownTopicOrPartition)?
        }
        TopicReference::Id(id) => directory.topic_by_id(*id).ok_or(FetchError::UnknownTopicId)?,
    };
    let known = u32::try_from(partition).ok().and_then(|number| found.partition(number));
    let known = known.ok_or(FetchError::UnknownTopicOrPartition)?;
    let view = directory.view(known.incarnation).ok_or(FetchError::NotLeader)?;
    // A damaged log without other copies has no leader, and its prefix is served all the same.
    // Beside other copies it is silent: they go on, and it does not know how far.
    let Some(term) = view.leader_term() else {
        return if view.is_unavailable() && known.replicas.len() == 1 {
            Ok(Arc::clone(view))
        } else {
            Err(FetchError::NotLeader)
        };
    };
    let (found, current) = (current_leader_epoch, leader_epoch(term));
    match found {
        _ if found < 0 || found == current => Ok(Arc::clone(view)),
        _ if found < current => Err(FetchError::FencedLeaderEpoch { found, current }),
        _ => Err(FetchError::UnknownLeaderEpoch { found, current }),
    }
}

/// Brings cold ranges into memory on a thread of its own.
#[derive(Clone, Debug)]
pub struct ColdReader {
    jobs: mpsc::Sender<Job>,
}

enum Job {
    Run(Box<dyn FnOnce() + Send>),
    End,
}

/// The thread behind a [`ColdReader`]. It ends with the last handle, or when it is told to.
pub struct ReadThread {
    jobs: mpsc::WeakSender<Job>,
    thread: JoinHandle<()>,
}

impl ReadThread {
    /// Ends the thread, whoever still has a handle, once it has done what waits for it. To be
    /// joined by the caller, which blocks for as long.
    pub async fn end(self) -> JoinHandle<()> {
        if let Some(jobs) = self.jobs.upgrade() {
            // It may have ended already.
            let _ = jobs.send(Job::End).await;
        }
        self.thread
    }

    /// Waits until it has ended with its last handle.
    pub fn join(self) -> std::thread::Result<()> {
        self.thread.join()
    }
}

impl ColdReader {
    /// Starts the read thread.
    ///
    /// Errors: the system refused a thread.
    pub fn spawn() -> std::io::Result<(Self, ReadThread)> {
        let (jobs, mut queue) = mpsc::channel(COLD_JOBS_MAX);
        let thread = std::thread::Builder::new().name("read".to_owned()).spawn(move || {
            while let Some(Job::Run(job)) = queue.blocking_recv() {
                job();
            }
        })?;
        let read_thread = ReadThread { jobs: jobs.downgrade(), thread };
        Ok((Self { jobs }, read_thread))
    }

    /// Runs `job` on the read thread. `None` when the node stops.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let job = Job::Run(Box::new(move || drop(sender.send(job()))));
        self.jobs.send(job).await.ok()?;
        receiver.await.ok()
    }
}

/// One fetch while it is being served.
pub struct Fetch<'a> {
    request: &'a FetchRequest,
    cold: &'a ColdReader,
}

impl<'a> Fetch<'a> {
    /// A fetch to be served.
    #[must_use]
    pub fn new(request: &'a FetchRequest, cold: &'a ColdReader) -> Self {
        Self { request, cold }
    }

    /// Serves it: at once with enough bytes or an error, else when there are, or at the deadline.
    ///
    /// - `directory`: asked anew after every wake, for topics come and go.
    pub async fn serve(
        &self,
        directory: impl Fn() -> Arc<Directory>,
    ) -> Vec<Result<Fetched, FetchError>> {
        let deadline = Instant::now() + self.request.wait;
        let sleeper = Arc::new(Notify::new());
        let mut is_parked = false;
        loop {
            let views = self.locate_all(&directory());
            if is_parked {
                for view in views.iter().flatten() {
                    view.park(&sleeper);
                }
            }
            let answers = self.read_all(&views).await;
            if self.is_enough(&answers) || Instant::now() >= deadline {
                return answers;
            }
            if !is_parked {
                // Whoever parks looks once more, so that no commit slips in between.
                is_parked = true;
                continue;
            }
            let _ = tokio::time::timeout_at(deadline, sleeper.notified()).await;
        }
    }

    fn locate_all(&self, directory: &Directory) -> Vec<Result<Arc<PartitionView>, FetchError>> {
        let partitions = self.request.partitions.iter();
        partitions
            .map(|wanted| {
                let epoch = wanted.current_leader_epoch;
                locate(directory, &wanted.topic, wanted.partition, epoch)
            })
            .collect()
    }

    /// The order in the request is the order of service; the byte limit cuts off at its end.
    async fn read_all(
        &self,
        views: &[Result<Arc<PartitionView>, FetchError>],
    ) -> Vec<Result<Fetched, FetchError>> {
        let mut answers = Vec::with_capacity(views.len());
        let mut left = self.request.bytes_max;
        let mut is_first = true;
        for (wanted, view) in self.request.partitions.iter().zip(views) {
            let answer = match view {
                Ok(view) => self.read_one(wanted, view, left, is_first).await,
                Err(error) => Err(error.clone()),
            };
            if let Ok(fetched) = &answer {
                is_first &= fetched.batches.is_empty();
                left = left.saturating_sub(fetched.bytes);
            }
            answers.push(answer);
        }
        answers
    }

    async fn read_one(
        &self,
        wanted: &FetchPartition,
        view: &PartitionView,
        left: usize,
        is_first: bool,
    ) -> Result<Fetched, FetchError> {
        let Readable { from, high_watermark, log_start } = readable(view, wanted.offset)?;
        let mut fetched = Fetched { high_watermark, log_start, ..Fetched::default() };
        if let Some(diverging) = diverging(wanted, view, from)? {
            fetched.diverging = Some(diverging);
            return Ok(fetched);
        }
        let bytes_max = wanted.bytes_max.min(left);
        if from >= high_watermark || (bytes_max == 0 && !is_first) {
            return Ok(fetched);
        }
        self.make_resident(view.reader(), from, high_watermark, bytes_max).await?;
        let read = view.reader().read(from, high_watermark, bytes_max, is_first);
        let read = read.map_err(|error| unreadable(error, wanted.offset))?;
        fetched.bytes = read.bytes;
        fetched.batches = read.batches;
        Ok(fetched)
    }

    async fn make_resident(
        &self,
        reader: &LogReader,
        from: Offset,
        up_to: Offset,
        bytes_max: usize,
    ) -> Result<(), FetchError> {
        if reader.is_resident(from, up_to, bytes_max) {
            return Ok(());
        }
        let reader = reader.clone();
        let populated = self.cold.run(move || reader.populate(from, up_to, bytes_max)).await;
        match populated {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(unreadable(error, i64::try_from(from.get()).unwrap_or(-1))),
            None => Err(FetchError::NotLeader),
        }
    }

    fn is_enough(&self, answers: &[Result<Fetched, FetchError>]) -> bool {
        let mut bytes = 0_usize;
        for answer in answers {
            match answer {
                Ok(fetched) if fetched.diverging.is_none() => bytes += fetched.bytes,
                _ => return true,
            }
        }
        answers.is_empty() || bytes >= self.request.bytes_min
    }
}

/// What of a partition may be read now, from an offset on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Readable {
    /// The offset.
    pub from: Offset,
    /// First offset that is not committed.
    pub high_watermark: Offset,
    /// First offset that may be read.
    pub log_start: Offset,
}

/// Checks an offset against a partition. Nothing is there yet where it is the high watermark.
///
/// Errors: the offset is not in the log, or lies behind damage.
pub(crate) fn readable(view: &PartitionView, offset: i64) -> Result<Readable, FetchError> {
    let high_watermark = view.high_watermark();
    let bounds = view.reader().bounds();
    let log_start = bounds.start.offset;
    refuse_hole(view, offset, high_watermark)?;
    let from = check_range(offset, log_start, bounds.end_offset, high_watermark)?;
    Ok(Readable { from, high_watermark, log_start })
}

/// Behind its prefix a damaged partition has nothing to say, not even that an offset does not
/// exist: a consumer would take that for a reason to jump (decision 24).
fn refuse_hole(view: &PartitionView, found: i64, high_watermark: Offset) -> Result<(), FetchError> {
    let is_behind = u64::try_from(found).is_ok_and(|found| found >= high_watermark.get());
    if is_behind && view.is_unavailable() {
        let message = format!("out of service from offset {high_watermark} on");
        return Err(FetchError::Storage(message));
    }
    Ok(())
}

/// An offset up to the log's end may be fetched; from the high watermark on it gets nothing yet.
fn check_range(
    found: i64,
    start: Offset,
    log_end: Offset,
    high_watermark: Offset,
) -> Result<Offset, FetchError> {
    let from = u64::try_from(found).map(Offset::new);
    match from {
        Ok(from) if (start..=log_end).contains(&from) => Ok(from),
        _ => Err(FetchError::OffsetOutOfRange { found, start, end: high_watermark }),
    }
}

/// Where the client's log parts from this one, if it does (KIP-595, KIP-320). As in Kafka, nobody
/// can tell of an epoch that is newer than all.
fn diverging(
    wanted: &FetchPartition,
    view: &PartitionView,
    from: Offset,
) -> Result<Option<(Term, Offset)>, FetchError> {
    let Ok(fetched) = u64::try_from(wanted.last_fetched_epoch).map(Term::new) else {
        return Ok(None);
    };
    let Some((term, end)) = epoch_end(view.reader(), fetched) else {
        let (start, end) = (view.log_start(), view.high_watermark());
        return Err(FetchError::OffsetOutOfRange { found: wanted.offset, start, end });
    };
    Ok((term < fetched || end < from).then_some((term, end)))
}

/// Where an epoch ends (KIP-101): the largest known one up to `term`, and its end. One before all
/// that are known ends where they start. `None` for one that is newer than all.
pub(crate) fn epoch_end(reader: &LogReader, term: Term) -> Option<(Term, Offset)> {
    let terms = reader.terms();
    terms.last().filter(|newest| term <= newest.term)?;
    let before_all = || terms.starts().first().map(|first| (term, first.first_offset));
    terms.end_offset_for(term, reader.bounds().end_offset).or_else(before_all)
}

/// What a failed read means to a client: the log start may have moved since the range was checked.
pub(crate) fn unreadable(error: ReadError, found: i64) -> FetchError {
    match error {
        ReadError::OutOfRange { start, end, .. } => {
            FetchError::OffsetOutOfRange { found, start, end }
        }
        failed @ (ReadError::Damaged { .. } | ReadError::IndexOutOfRange { .. }) => {
            FetchError::Storage(failed.to_string())
        }
    }
}
