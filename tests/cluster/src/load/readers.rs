//! Readers that follow a partition, askers of latest offsets, and the drain at the end.
//!
//! Invariant: a poll that failed brought nothing and is not written down; the reader goes on where
//! it was.
//! Absent on purpose: readers of followers. Consumers ask the leader.

use super::{ANSWER_TIMEOUT, RETRY_PAUSE, SETTLE_MAX, Shared, dial, done};
use crate::wire::{self, Wire};
use checker::{Client, Operation, Partition, What};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

/// How long a Fetch waits for something to come.
const FETCH_WAIT: Duration = Duration::from_millis(250);

struct Reader<'a> {
    shared: &'a Shared,
    client: Client,
    partition: Partition,
    next: i64,
    link: Option<(usize, Wire)>,
    done: Vec<Operation>,
}

impl<'a> Reader<'a> {
    fn new(shared: &'a Shared, client: Client, partition: Partition) -> Self {
        Self { shared, client, partition, next: 0, link: None, done: Vec::new() }
    }

    /// One poll; false where it failed.
    fn poll(&mut self) -> bool {
        let connected = self.connected();
        let Some((node, mut wire)) = connected else {
            self.shared.directory.refresh(None);
            thread::sleep(RETRY_PAUSE);
            return false;
        };
        let invoked = self.shared.now();
        self.shared.count_operation();
        let asked = wire::fetch(
            &mut wire,
            &self.shared.topic,
            self.partition,
            self.next,
            FETCH_WAIT,
            ANSWER_TIMEOUT,
        );
        match asked {
            Ok(fetched) if fetched.code == 0 => {
                self.link = Some((node, wire));
                self.keep(invoked, fetched.records);
                true
            }
            other => {
                if let Ok(fetched) = other {
                    self.shared.note_refusal(node, fetched.code);
                }
                self.shared.directory.refresh(Some(node));
                thread::sleep(RETRY_PAUSE);
                false
            }
        }
    }

    fn connected(&mut self) -> Option<(usize, Wire)> {
        if let Some(link) = self.link.take() {
            return Some(link);
        }
        let node = self.shared.directory.leader(self.partition)?;
        match dial(node) {
            Ok(wire) => Some((node, wire)),
            Err(_) => {
                self.shared.directory.refresh(Some(node));
                None
            }
        }
    }

    fn keep(&mut self, invoked: u64, records: Vec<checker::Record>) {
        let start = (self.next == 0).then_some(0);
        if records.is_empty() {
            return;
        }
        if let Some(last) = records.last() {
            self.next = last.offset + 1;
        }
        let what = What::Poll { partition: self.partition, start, records };
        self.done.push(done(self.shared, self.client, invoked, what));
    }
}

/// Reads a partition from its start for as long as the load goes on.
pub(super) fn follow(shared: &Shared, partition: Partition) -> Vec<Operation> {
    let mut reader = Reader::new(shared, shared.new_client(), partition);
    while shared.reading.load(Ordering::Relaxed) {
        reader.poll();
    }
    reader.done
}

/// Asks for latest offsets in turn; with `pinned` always that node.
pub(super) fn ask(shared: &Shared, pinned: Option<usize>) -> Vec<Operation> {
    let client = shared.new_client();
    let mut random = fastrand::Rng::with_seed(shared.seed ^ u64::from(client) << 32);
    let (mut operations, mut link): (_, Option<(usize, Wire)>) = (Vec::new(), None);
    let goes_on = || {
        let pinned = pinned.is_none() || shared.pinned.load(Ordering::Relaxed);
        pinned && shared.reading.load(Ordering::Relaxed)
    };
    while goes_on() {
        thread::sleep(shared.shape.ask_pause);
        let partition = random.u32(0..shared.shape.partitions);
        let Some(node) = pinned.or_else(|| shared.directory.leader(partition)) else {
            shared.directory.refresh(None);
            continue;
        };
        let connected = link.take().filter(|(to, _)| *to == node).map(|(_, wire)| wire);
        let Ok(mut wire) = connected.map_or_else(|| dial(node), Ok) else {
            shared.directory.refresh(Some(node));
            continue;
        };
        let invoked = shared.now();
        shared.count_operation();
        match wire::latest(&mut wire, &shared.topic, partition, ANSWER_TIMEOUT) {
            Ok((0, end)) => {
                operations.push(done(shared, client, invoked, What::Latest { partition, end }));
                link = Some((node, wire));
            }
            Ok(_) => {
                link = Some((node, wire));
                shared.directory.refresh(Some(node));
            }
            Err(_) => shared.directory.refresh(Some(node)),
        }
    }
    operations
}

/// Reads every partition from its start to its latest offset.
///
/// Panics when that takes too long: a log that cannot be read to its end is no success.
pub(super) fn drain(shared: &Shared) -> Vec<Operation> {
    let client = shared.new_client();
    let mut operations = Vec::new();
    for partition in 0..shared.shape.partitions {
        let deadline = Instant::now() + SETTLE_MAX;
        let end = loop {
            assert!(Instant::now() < deadline, "partition {partition} says no latest offset");
            let leader = shared.directory.leader(partition);
            let asked = leader.and_then(|node| {
                let mut wire = dial(node).ok()?;
                wire::latest(&mut wire, &shared.topic, partition, ANSWER_TIMEOUT).ok()
            });
            if let Some((0, end)) = asked {
                break end;
            }
            shared.directory.refresh(leader);
            thread::sleep(RETRY_PAUSE);
        };
        let mut reader = Reader::new(shared, client, partition);
        while reader.next < end {
            let at = reader.next;
            assert!(Instant::now() < deadline, "partition {partition} was read to {at} of {end}");
            reader.poll();
        }
        operations.append(&mut reader.done);
        let end = reader.next.max(end);
        let invoked = shared.now();
        operations.push(done(shared, client, invoked, What::Drained { partition, end }));
    }
    operations
}
