//! Readers: what a node shows is what was committed, and a confirmed answer is the newest.
//!
//! Invariants: I8, I14, I18: nothing is read that no history has.
//!
//! Absent on purpose: waiting for records; a reader comes again.

use super::{Ask, ClientId, partition};
use crate::event::NodeAt;
use crate::plan::FaultClass;
use crate::world::World;
use bateau_log::ReadError;
use bateau_protocol::ids::{Incarnation, Offset};
use bateau_protocol::record::BatchHeader;

/// Bytes that a reader takes at once.
const READ_BYTES: usize = 16 * 1024;

/// A reader of one partition.
pub struct Reader {
    partition: u64,
    log: Option<Incarnation>,
    next: Offset,
    asks: u64,
}

impl Reader {
    /// A reader of this partition.
    pub fn new(partition: u64) -> Self {
        Self { partition, log: None, next: Offset::ZERO, asks: 0 }
    }

    /// A confirmed read has come back; the checker has seen it.
    pub fn answer(&mut self, _: u64) {
        self.asks = 0;
    }
}

impl World {
    pub(super) fn tick_reader(&mut self, id: ClientId, reader: &mut Reader) {
        let n = self.any_node();
        let Some(log) = reader.log else {
            let metadata = self.metadata_at(n);
            let found = metadata.and_then(|one| partition(&one, "orders", reader.partition));
            reader.log = found.map(|(log, _)| log);
            return;
        };
        if self.random.chance(30) {
            reader.asks += 1;
            let leader = self.find_leader(log);
            self.ask(id, leader, Ask::Confirm(log));
        }
        self.read(n, log, reader);
    }

    fn read(&mut self, n: NodeAt, log: Incarnation, reader: &mut Reader) {
        self.count("client operations");
        let Some(process) = &self.nodes[n].process else { return };
        let (Some(log_reader), Some(seen)) = (process.readers.get(&log), process.seen.get(&log))
        else {
            return;
        };
        let high_watermark = seen.high_watermark;
        let from = if self.random.chance(3) { Offset::ZERO } else { reader.next };
        if from >= high_watermark {
            // A node that lags, or a reader that saw more elsewhere.
            return;
        }
        let batches = match log_reader.read(from, high_watermark, READ_BYTES, true) {
            Ok(range) => {
                reader.next = reader.next.max(range.next_offset);
                range.batches
            }
            Err(ReadError::OutOfRange { start, .. }) if self.has_retention() && start > from => {
                reader.next = reader.next.max(start);
                return self.count("reads before the log's start");
            }
            Err(error) => {
                let excused = self.nodes[n].is_corrupted || self.plan.has(FaultClass::FlushErrors);
                if !excused {
                    self.fail(format!("I7: {log:?} on node {} from {from}: {error}", n + 1));
                }
                return;
            }
        };
        let Some(history) = self.checker.logs.get(&log) else { return };
        // What a damaged node alone has published yet, nobody could compare.
        let judged = if self.nodes[n].is_corrupted { history.end() } else { high_watermark };
        let mut wrong = None;
        for batch in &batches {
            let Ok(header) = BatchHeader::parse(batch) else { continue };
            if header.base_offset.unsigned_abs() >= judged.get() {
                continue;
            }
            let known = history.batches.get(&header.base_offset.unsigned_abs());
            let computed = header.computed_crc(batch.get(61..).unwrap_or_default());
            if known != Some(&header.crc) || computed != header.crc {
                wrong = Some(header);
            }
        }
        self.counts_add("batches read", batches.len() as u64);
        if let Some(header) = wrong {
            self.fail(format!(
                "I8: node {} serves of {log:?} what is not there: {header:?}",
                n + 1
            ));
        }
    }
}
