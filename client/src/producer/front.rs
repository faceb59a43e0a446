//! The batch before all that are ready: compressed outside the producer's lock.
//!
//! ```text
//!   ready ──> Compressing ── Work::run, unlocked ──> Compressed ──> sent
//! ```
//!
//! Absent on purpose: a batch's sequence and checksum, which it gets when it leaves.

use super::batch::{ClosedBatch, OpenBatch};
use super::handle::BatchOutcome;
use super::partition::{Outgoing, Settled};
use crate::error::SendError;
use bateau_protocol::record::Compression;
use std::sync::Arc;
use std::time::Instant;

/// What comes next in a partition.
#[derive(Debug)]
pub(crate) enum Next {
    /// To be handed to the connection.
    Send(Outgoing),
    /// To be compressed without the lock, and then given to
    /// [`super::partition::Partition::compressed`].
    Compress(Work),
}

/// A batch to be compressed.
#[derive(Debug)]
pub(crate) struct Work {
    pub batch: OpenBatch,
    pub compression: Compression,
    pub partition: i32,
}

impl Work {
    /// Its partition's place.
    pub fn place(&self) -> usize {
        usize::try_from(self.partition).unwrap_or(usize::MAX)
    }

    /// Compresses. Cost: the codec's, up to milliseconds.
    pub fn run(self) -> ClosedBatch {
        self.batch.close(self.compression)
    }
}

/// The batch before all that are ready.
#[derive(Debug)]
pub(super) enum Front {
    /// Somebody compresses it. What is known of it meanwhile.
    Compressing {
        outcome: Arc<BatchOutcome>,
        deadline: Instant,
        records: i32,
        cost: usize,
    },
    Compressed(ClosedBatch),
}

impl Front {
    /// Of a batch that somebody begins to compress.
    pub fn of(work: &Work) -> Self {
        let OpenBatch { outcome, deadline, cost, .. } = &work.batch;
        let (outcome, records) = (Arc::clone(outcome), work.batch.records());
        Self::Compressing { outcome, deadline: *deadline, records, cost: *cost }
    }

    pub const fn outcome(&self) -> &Arc<BatchOutcome> {
        match self {
            Self::Compressing { outcome, .. } => outcome,
            Self::Compressed(batch) => &batch.outcome,
        }
    }

    pub const fn deadline(&self) -> Instant {
        match self {
            Self::Compressing { deadline, .. } => *deadline,
            Self::Compressed(batch) => batch.deadline,
        }
    }

    /// It is given up.
    pub fn unsent(self, error: SendError) -> Settled {
        let (outcome, records, cost) = match self {
            Self::Compressing { outcome, records, cost, .. } => (outcome, records, cost),
            Self::Compressed(batch) => {
                let records = batch.records();
                (batch.outcome, records, batch.cost)
            }
        };
        Settled { outcome, result: Err(error), records: records.unsigned_abs(), cost }
    }
}
