//! What a disk has lost or garbled comes back: in the end every replica that is in service has
//! every frame, byte for byte, whatever became of its disk.
//!
//! A scrub of one log a second is what meets damage that nobody reads. What is left in the end is
//! met then, told, and mended or given up like everything else.
//!
//! Absent on purpose: how it comes back.

use crate::checker::Entry;
use crate::event::NodeAt;
use crate::plan::FaultClass;
use crate::process::Process;
use crate::world::World;
use bateau_log::{LogReader, ScrubPlace};
use bateau_protocol::ids::{Incarnation, LogIndex};

impl World {
    /// A log that is not whole on a node whose disk has lied.
    pub(crate) fn unmended(&self) -> Option<String> {
        for (log, nodes) in self.placed().ok()? {
            for n in nodes.into_iter().filter(|n| self.nodes[*n].is_corrupted) {
                let process = self.nodes[n].process.as_ref();
                let process = process.filter(|one| !one.isolated.contains_key(&log));
                let found = process.and_then(|process| self.unlike_history(n, process, log));
                if found.is_some() {
                    return found;
                }
            }
        }
        None
    }

    /// Reads all of some log of a node from its medium.
    pub(crate) fn scrub(&mut self, n: NodeAt) {
        let Some(process) = &self.nodes[n].process else { return };
        let logs = process.readers.len() as u64;
        let nth = usize::try_from(self.random.below(logs.max(1))).unwrap_or(0);
        let Some(process) = &self.nodes[n].process else { return };
        let Some((log, reader)) = process.readers.iter().nth(nth) else { return };
        let (log, damaged) = (*log, scrubbed(reader));
        self.count("scrubs of a log");
        if !damaged.is_empty() {
            self.count("scrubs that met damage");
            let excused = self.nodes[n].is_corrupted || self.plan.has(FaultClass::FlushErrors);
            if !excused {
                let name = n + 1;
                self.fail(format!("D10: a scrub of {log:?} on node {name} meets {damaged:?}"));
            }
        }
    }

    /// How all of a log differs from its history.
    fn unlike_history(&self, n: NodeAt, process: &Process, log: Incarnation) -> Option<String> {
        let (reader, history) = (process.readers.get(&log)?, self.checker.logs.get(&log)?);
        let (start, last) = (reader.bounds().start.index, reader.bounds().last_index);
        let at = |index: LogIndex| format!("{log:?} on node {} at index {index}", n + 1);
        if let Some(damaged) = scrubbed(reader).first() {
            return Some(format!("{}: segment {damaged} is damaged", at(start)));
        }
        let frames = match reader.frames(start, last, last, usize::MAX) {
            Ok(frames) => frames,
            Err(error) => return Some(format!("{}: {error}", at(start))),
        };
        let mut next = start;
        let mut flush_sequence = None;
        for frame in &frames {
            let header = &frame.header;
            let place = usize::try_from(header.index.get() - 1).unwrap_or(usize::MAX);
            let is_known = history.entries.get(place) == Some(&Entry::of(header));
            let falls = flush_sequence.is_some_and(|before| before > header.flush_sequence);
            if header.index != next || !is_known || falls {
                return Some(format!("{}: {header:?} is not what it was", at(next)));
            }
            next = next.next();
            flush_sequence = Some(header.flush_sequence);
        }
        (next != last.next()).then(|| format!("{}: it ends before {last}", at(next)))
    }
}

/// Segments of a log that are damaged on its medium.
fn scrubbed(reader: &LogReader) -> Vec<LogIndex> {
    let (mut place, mut damaged) = (ScrubPlace::default(), Vec::new());
    loop {
        let slice = reader.scrub(&mut place, u64::MAX / 2);
        damaged.extend(slice.damaged);
        if slice.is_complete {
            return damaged;
        }
    }
}
