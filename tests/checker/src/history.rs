//! What clients did and saw.
//!
//! Invariant: operations may stand in any order; their moments say when they were.
//! Absent on purpose: files. A history lives as long as the run that it is of.

/// Who did something. One thread of a client program, or one client of a library.
pub type Client = u32;
/// A partition, numbered over all topics of a history.
pub type Partition = u32;
/// What a record says. Sent at most once in a history.
pub type Value = u64;

/// The return of what never returned.
pub const NEVER: u64 = u64::MAX;

/// What a client knows about a send in the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Acknowledged at this offset.
    Acked(i64),
    /// It certainly did not happen: nobody was asked, or the refusal says so.
    Failed,
    /// No answer, or one that leaves it open.
    Unknown,
}

/// One record as a poll brought it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where it lies.
    pub offset: i64,
    /// What it says.
    pub value: Value,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A record was sent.
    Send {
        /// Where to.
        partition: Partition,
        /// What it says.
        value: Value,
        /// What became of it.
        outcome: Outcome,
        /// The client promises the order of its sends over retries, as an idempotent producer
        /// does. Its sends may overlap; their order is that of `invoked`.
        ordered: bool,
    },
    /// Records were read, in this order.
    Poll {
        /// Where from.
        partition: Partition,
        /// The offset that the client asked for; `None` where it went on behind its last poll.
        start: Option<i64>,
        /// What came; may be empty.
        records: Vec<Record>,
    },
    /// The end of the log as a linearizable answer: the offset that the next record gets.
    Latest {
        /// Of which.
        partition: Partition,
        /// One more than the last committed offset.
        end: i64,
    },
    /// After everything else, this client had read all from offset 0 to this end.
    Drained {
        /// Of which.
        partition: Partition,
        /// One more than the last offset.
        end: i64,
    },
}

/// One thing that a client did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Who.
    pub client: Client,
    /// When it began.
    pub invoked: u64,
    /// When it came back, not before `invoked`; [`NEVER`] where it did not.
    pub returned: u64,
    /// What it was.
    pub what: What,
}

/// All that clients did, in any order.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct History {
    /// The operations.
    pub operations: Vec<Operation>,
}

impl History {
    /// Puts what several clients wrote down into one history.
    pub fn of(parts: impl IntoIterator<Item = Vec<Operation>>) -> Self {
        Self { operations: parts.into_iter().flatten().collect() }
    }
}
