//! What was found.
//!
//! Invariant: counts are whole; examples are the first few.
//! Absent on purpose: a verdict that weighs. One anomaly is one too many.

use std::collections::BTreeMap;
use std::fmt;

/// Examples kept of one kind.
pub const EXAMPLES_MAX: usize = 5;

/// What can be wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Acknowledged, and the log has something else there, or goes on behind where it would be.
    LostWrite,
    /// Acknowledged, and when all had been read nobody had seen it.
    UnseenAtEnd,
    /// One offset had two values.
    TwoValues,
    /// One value has two offsets.
    Duplicate,
    /// A value was read whose send certainly failed.
    AbortedRead,
    /// A client read what it was sending itself, and the log does not have it in the end.
    OwnUncommittedRead,
    /// A client read what another was sending, and the log does not have it in the end.
    UncommittedRead,
    /// A value was read that nobody sent.
    Invented,
    /// A value was read in a partition that it was not sent to.
    WrongPartition,
    /// A value was read before its send began.
    ReadBeforeSent,
    /// A poll left out offsets.
    GapWithinPoll,
    /// A poll began behind where the one before it ended, or behind what was asked for.
    GapAcrossPolls,
    /// A poll went back, or brought an offset twice.
    InversionWithinPoll,
    /// A poll brought again what the one before it had brought, or what was not asked for.
    InversionAcrossPolls,
    /// Two sends of one client that keeps their order lie in the other order.
    SendInversion,
    /// A send that was acknowledged before another began lies behind it.
    RealTimeInversion,
    /// A latest offset was below what had been acknowledged, read or answered before it was asked.
    StaleLatest,
    /// A latest offset was beyond everything that had been sent when it was answered.
    LatestAhead,
    /// An acknowledgement names no offset.
    AckWithoutOffset,
    /// The history itself makes no sense: a value sent twice, a return before its call.
    Malformed,
}

/// How often, and the first few in words.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Found {
    /// How often.
    pub count: u64,
    /// At most [`EXAMPLES_MAX`].
    pub examples: Vec<String>,
}

/// The judgement of a history.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Report {
    /// What is wrong; empty in a good history.
    pub anomalies: BTreeMap<Kind, Found>,
    /// Operations that were looked at.
    pub operations: u64,
    /// Sends that were acknowledged.
    pub acked: u64,
    /// Sends of which nothing is known, or whose return never came.
    pub unknown: u64,
    /// Sends that certainly failed.
    pub failed: u64,
    /// Records that polls brought.
    pub polled: u64,
    /// Confirmed latest offsets.
    pub latest: u64,
    /// Partitions of which a client had read all in the end.
    pub drained: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.anomalies.is_empty()
    }

    /// Anomalies of all kinds.
    pub fn count(&self) -> u64 {
        self.anomalies.values().map(|found| found.count).sum()
    }

    /// Notes an anomaly; `say` is asked only while examples are kept.
    pub(crate) fn note(&mut self, kind: Kind, say: impl FnOnce() -> String) {
        let found = self.anomalies.entry(kind).or_default();
        found.count += 1;
        if found.examples.len() < EXAMPLES_MAX {
            found.examples.push(say());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} operations: {} acknowledged, {} unknown, {} failed, {} read, {} latest offsets, \
             {} partitions drained",
            self.operations,
            self.acked,
            self.unknown,
            self.failed,
            self.polled,
            self.latest,
            self.drained
        )?;
        for (kind, found) in &self.anomalies {
            write!(out, "\n{kind:?} × {}: {}", found.count, found.examples.join("; "))?;
        }
        Ok(())
    }
}
