//! A node's disk thread: gathers while a cycle runs, works when it is quiet, dies with the power.
//!
//! ```text
//!   work ──(gathered)──> CycleBegins: CommitCycle::run ──latency──> CycleEnds: answers, next work
//!                                                             └── quiet: background, closing flush
//! ```
//!
//! Invariants: answers arrive after the flush that they rest on, in order; what waited in memory is
//! gone with the process; a failed directory ends it (D7).
//!
//! Absent on purpose: what a crash keeps of what was not flushed, which is the simulated disk's.

use crate::event::{Event, FramesWanted, NodeAt};
use crate::promises::Pending;
use crate::world::World;
use bateau_core::shard::{FramesFound, Input};
use bateau_log::{Done, take_share};

/// Quiet time before the closing flush, in microseconds.
const CLOSING_FLUSH_AFTER: u64 = 50_000;
/// Payload bytes of a log in one cycle: some have to wait for the next.
const SHARE_BYTES: u64 = 1_024;
/// Between two looks at the free space, in microseconds.
pub const SPACE_CHECK_EVERY: u64 = 1_000_000;
/// Pause between two slices of background work, in microseconds.
const BACKGROUND_PAUSE: u64 = 1_000;

impl World {
    pub(crate) fn begin_cycle_soon(&mut self, n: NodeAt) {
        let delay = 1 + self.random.below(40);
        let life = self.nodes[n].life;
        let Some(process) = &mut self.nodes[n].process else { return };
        if !process.work.is_empty() && !process.is_cycling {
            process.is_cycling = true;
            self.events.put(self.at + delay, Event::CycleBegins(n, life));
        }
    }

    /// The disk thread takes what gathered and makes it durable; the answers come later.
    pub fn begin_cycle(&mut self, n: NodeAt) {
        let latency = (100 + self.random.below(1_900)) * self.nodes[n].slowness;
        let node = &mut self.nodes[n];
        let Some(process) = &mut node.process else { return };
        let cut_at = node.cut_at.take();
        if let Some(nth) = cut_at {
            node.disk.cut_power_at(nth);
        }
        let mut done = Vec::new();
        process.quiet_number += 1;
        let mut share = Vec::new();
        take_share(&mut process.work, &mut share, SHARE_BYTES);
        let pending = node.promises.begin(&share);
        let before = process.cycle.recycled().used;
        let result = process.cycle.run(&mut share, &mut done);
        let recycled = process.cycle.recycled().used - before;
        node.promises.end(pending, &done);
        let life = node.life;
        self.counts_add("segments recycled", recycled);
        match (result, cut_at) {
            (_, Some(_)) => {
                self.count("mark: power lost inside a cycle");
                self.crash(n);
            }
            (Ok(()), None) => self.events.put(self.at + latency, Event::CycleEnds(n, life, done)),
            (Err(_), None) => {
                self.count("directories failed");
                self.kill(n);
            }
        }
    }

    /// The answers of a cycle.
    pub fn end_cycle(&mut self, n: NodeAt, done: Vec<Done>) {
        self.hear_disk(n, done);
        let life = self.nodes[n].life;
        let Some(process) = &mut self.nodes[n].process else { return };
        process.is_cycling = false;
        let number = process.quiet_number;
        if process.work.is_empty() {
            self.events.put(self.at + BACKGROUND_PAUSE, Event::DiskQuiet(n, life, number));
        } else {
            self.begin_cycle_soon(n);
        }
    }

    fn hear_disk(&mut self, n: NodeAt, done: Vec<Done>) {
        let Some(process) = &mut self.nodes[n].process else { return };
        let mut inputs = Vec::new();
        for done in done {
            inputs.extend(bateau_storage::answer(&done));
            process.brain.told.extend(bateau_storage::told_by_disk(&done));
            match done {
                Done::Created { incarnation, reader, .. } => {
                    process.readers.insert(incarnation, reader);
                }
                Done::Damaged { .. } => *self.counts.entry("damage met").or_default() += 1,
                Done::Mended { frames, .. } => {
                    *self.counts.entry("segments mended").or_default() += 1;
                    *self.counts.entry("frames mended").or_default() += frames;
                }
                Done::MendFailed { .. } => {
                    *self.counts.entry("segments not mended").or_default() += 1;
                }
                Done::PersistFailed { .. } => {
                    *self.counts.entry("writes refused").or_default() += 1;
                }
                _ => {}
            }
        }
        let is_told = !process.brain.told.is_empty();
        if is_told || !inputs.is_empty() {
            self.tell(n, inputs);
        }
    }

    /// Background work, then the closing flush.
    pub fn quiet_disk(&mut self, n: NodeAt, number: u64) {
        let node = &mut self.nodes[n];
        let life = node.life;
        let Some(process) = &mut node.process else { return };
        if process.is_cycling || process.quiet_number != number {
            return;
        }
        let mut done = Vec::new();
        let has_more = process.cycle.background_step(&mut done);
        let closes = matches!(has_more, Ok(false));
        let result = if closes { process.cycle.on_idle(&mut done) } else { Ok(()) };
        if has_more.is_err() || result.is_err() {
            self.count("directories failed");
            return self.kill(n);
        }
        node.promises.end(Pending::default(), &done);
        self.hear_disk(n, done);
        if !closes {
            self.events.put(self.at + CLOSING_FLUSH_AFTER, Event::DiskQuiet(n, life, number));
        }
    }

    /// Looks at the free space, which may have changed without a write (D20).
    pub fn check_space(&mut self, n: NodeAt) {
        let node = &mut self.nodes[n];
        let life = node.life;
        let Some(process) = &mut node.process else { return };
        let mut done = Vec::new();
        if !process.is_cycling && process.cycle.check_space(&mut done).is_err() {
            self.count("directories failed");
            return self.kill(n);
        }
        self.hear_disk(n, done);
        self.scrub(n);
        self.events.put(self.at + SPACE_CHECK_EVERY, Event::SpaceCheck(n, life));
    }

    /// The read thread serves a leader what a follower lacks.
    pub fn read_frames(&mut self, n: NodeAt, wanted: FramesWanted) {
        let FramesWanted { incarnation, fetch, first, last, bytes_max } = wanted;
        let Some(process) = &self.nodes[n].process else { return };
        let found = process.readers.get(&incarnation).map_or(FramesFound::Unreadable, |reader| {
            bateau_storage::frames_found(reader, first, last, bytes_max)
        });
        self.tell(n, [Input::FramesRead { incarnation, fetch, found }]);
    }

    /// Ends a process and cuts its node's power: what was not flushed is lost in part.
    pub fn crash(&mut self, n: NodeAt) {
        self.count("crashes with the power");
        let seed = self.random.next_u64();
        self.nodes[n].is_without_power = true;
        self.end_process(n);
        self.nodes[n].disk = self.nodes[n].disk.crash(seed);
    }

    /// Ends a process; the page cache stays.
    pub fn kill(&mut self, n: NodeAt) {
        self.count("processes killed");
        self.leave_disk(n);
    }

    /// Ends a process without a word; what it has written stays.
    pub(crate) fn leave_disk(&mut self, n: NodeAt) {
        self.end_process(n);
        self.nodes[n].disk = self.nodes[n].disk.kill();
    }

    fn end_process(&mut self, n: NodeAt) {
        self.trace.add_all([10, n as u64, self.at]);
        let (life, is_told) = (self.nodes[n].life, !self.nodes[n].is_without_power);
        self.nodes[n].process = None;
        self.break_links_of(n, life, is_told);
        self.nodes[n].cut_at = None;
        self.nodes[n].paused_until = 0;
        if self.nodes[n].is_out {
            return;
        }
        let back = if self.is_healing { 50_000 } else { 50_000 + self.random.below(8_000_000) };
        self.events.put(self.at + back, Event::Restart(n));
    }
}
