//! The rules about where values lie. The rules about order are in [`crate::order`].
//!
//! ```text
//!   sends ──by value──> Sent { who, when, outcome }
//!   polls ──by offset─> what readers saw        ┐
//!   acks  ──by offset─> what producers were told ┴─> one value per offset, one offset per value
//!   drain ─────────────> the log in the end
//! ```
//!
//! Invariant: a rule that was broken in one place is noted for each record that shows it, once.
//! Absent on purpose: repair of a malformed history; it is noted, and the rest is judged.

use crate::history::{Client, History, Operation, Outcome, Partition, Value, What};
use crate::order;
use crate::report::{Kind, Report};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A send, as the rules need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub client: Client,
    pub partition: Partition,
    pub value: Value,
    pub invoked: u64,
    pub returned: u64,
    pub outcome: Outcome,
    pub ordered: bool,
    /// Where it lies, by its acknowledgement or else by what was read.
    pub offset: Option<i64>,
}

/// What is known of one partition.
#[derive(Default, Debug)]
pub(crate) struct Log {
    /// The first value that a poll brought from each offset.
    pub seen: HashMap<i64, Value>,
    /// One more than the highest offset that a poll brought.
    pub seen_end: i64,
    /// Who read all in the end, and to where.
    pub drained: Option<(Client, i64)>,
    /// What that client read, where somebody did.
    pub last: HashMap<i64, Value>,
}

/// All operations, sorted into what the rules look at.
pub(crate) struct Known<'a> {
    /// Sends in order of `invoked`.
    pub sent: Vec<Sent>,
    /// Positions in `sent`.
    pub by_value: HashMap<Value, usize>,
    /// Polls, latest offsets and drains in order of `invoked`.
    pub read: Vec<&'a Operation>,
    pub logs: BTreeMap<Partition, Log>,
}

/// Judges a history.
pub fn check(history: &History) -> Report {
    let mut report = Report { operations: history.operations.len() as u64, ..Report::default() };
    let mut known = sorted(history, &mut report);
    drains(&mut known, &mut report);
    let place = polls(&mut known, &mut report);
    acked_elsewhere(&known, &place, &mut report);
    acks(&known, &place, &mut report);
    vanished(&known, &mut report);
    order::polls(&known, &mut report);
    order::sends(&known, &mut report);
    order::latest(&known, &mut report);
    report
}

fn sorted<'a>(history: &'a History, report: &mut Report) -> Known<'a> {
    let (mut sent, mut read) = (Vec::new(), Vec::new());
    for operation in &history.operations {
        let Operation { client, invoked, returned, .. } = *operation;
        if returned < invoked {
            report.note(Kind::Malformed, || format!("{operation:?} returned before its call"));
        }
        if let What::Send { partition, value, outcome, ordered } = operation.what {
            let offset = if let Outcome::Acked(offset) = outcome { Some(offset) } else { None };
            let offset = offset.filter(|offset| *offset >= 0);
            let one =
                Sent { client, partition, value, invoked, returned, outcome, ordered, offset };
            sent.push(one);
        } else {
            read.push(operation);
        }
    }
    sent.sort_by_key(|sent| sent.invoked);
    read.sort_by_key(|operation| operation.invoked);
    let mut by_value = HashMap::with_capacity(sent.len());
    let mut logs = BTreeMap::<Partition, Log>::new();
    for (at, one) in sent.iter().enumerate() {
        logs.entry(one.partition).or_default();
        if by_value.insert(one.value, at).is_some() {
            report.note(Kind::Malformed, || format!("value {} was sent twice", one.value));
        }
        match one.outcome {
            Outcome::Acked(_) => report.acked += 1,
            Outcome::Failed => report.failed += 1,
            Outcome::Unknown => report.unknown += 1,
        }
    }
    Known { sent, by_value, read, logs }
}

/// Who has read all of which partition.
fn drains(known: &mut Known<'_>, report: &mut Report) {
    for operation in &known.read {
        if let What::Drained { partition, end } = operation.what {
            report.drained += 1;
            known.logs.entry(partition).or_default().drained = Some((operation.client, end));
        }
    }
}

/// What readers saw, against what was sent and against what others saw.
/// Returns where each value that was read lies.
fn polls(known: &mut Known<'_>, report: &mut Report) -> HashMap<Value, i64> {
    let mut place = HashMap::<Value, i64>::with_capacity(known.sent.len());
    for operation in &known.read {
        let What::Poll { partition, records, .. } = &operation.what else { continue };
        let log = known.logs.entry(*partition).or_default();
        for record in records {
            let (offset, value) = (record.offset, record.value);
            report.polled += 1;
            let Some(sent) = known.by_value.get(&value).and_then(|at| known.sent.get_mut(*at))
            else {
                let say = || format!("{value} at {partition}/{offset} was sent by nobody");
                report.note(Kind::Invented, say);
                continue;
            };
            if sent.partition != *partition {
                let say = || format!("{value} of {} was read at {partition}", sent.partition);
                report.note(Kind::WrongPartition, say);
                continue;
            }
            if operation.returned < sent.invoked {
                let say = || format!("{value} at {partition}/{offset} was read before its send");
                report.note(Kind::ReadBeforeSent, say);
            }
            if sent.outcome == Outcome::Failed {
                let say = || format!("{value} at {partition}/{offset} had failed");
                report.note(Kind::AbortedRead, say);
            }
            let first = *log.seen.entry(offset).or_insert(value);
            if first != value {
                let say = || format!("{partition}/{offset} was {first} and {value}");
                report.note(Kind::TwoValues, say);
            }
            let other = *place.entry(value).or_insert(offset);
            if other != offset {
                let say = || format!("{value} lies at {partition}/{other} and {offset}");
                report.note(Kind::Duplicate, say);
            }
            log.seen_end = log.seen_end.max(offset.saturating_add(1));
            sent.offset = sent.offset.or(Some(offset));
            if log.drained.is_some_and(|(client, _)| client == operation.client) {
                log.last.insert(offset, value);
            }
        }
    }
    place
}

/// A value whose acknowledgement names another offset than the one where it was read.
fn acked_elsewhere(known: &Known<'_>, place: &HashMap<Value, i64>, report: &mut Report) {
    for sent in &known.sent {
        let (Outcome::Acked(acked), Some(read)) = (sent.outcome, place.get(&sent.value)) else {
            continue;
        };
        if acked >= 0 && acked != *read {
            let (value, partition) = (sent.value, sent.partition);
            let say = || format!("{value} was acked at {partition}/{acked} and lies at {read}");
            report.note(Kind::Duplicate, say);
        }
    }
}

/// What producers were told, against the log and against each other.
fn acks(known: &Known<'_>, place: &HashMap<Value, i64>, report: &mut Report) {
    let mut told = HashMap::<(Partition, i64), Value>::with_capacity(known.sent.len());
    let kept: HashSet<Value> =
        known.logs.values().flat_map(|log| log.last.values()).copied().collect();
    for sent in &known.sent {
        let Outcome::Acked(offset) = sent.outcome else { continue };
        let (value, partition) = (sent.value, sent.partition);
        if offset < 0 {
            report.note(Kind::AckWithoutOffset, || format!("{value} of {partition}: {offset}"));
            continue;
        }
        let other = *told.entry((partition, offset)).or_insert(value);
        if other != value {
            let say = || format!("{partition}/{offset} was acked for {other} and for {value}");
            report.note(Kind::TwoValues, say);
        }
        let Some(log) = known.logs.get(&partition) else { continue };
        let there = log.seen.get(&offset);
        if there.is_some_and(|there| *there != value) {
            let there = there.copied().unwrap_or_default();
            let say = || format!("{partition}/{offset} was acked for {value} and has {there}");
            report.note(Kind::TwoValues, say);
        }
        // Where somebody has read all in the end, what was read before and is gone is lost.
        let (there, end) = match log.drained {
            Some((_, end)) => (kept.contains(&value), end),
            None => (place.contains_key(&value), log.seen_end),
        };
        if !there {
            let kind = if offset < end { Kind::LostWrite } else { Kind::UnseenAtEnd };
            report.note(kind, || format!("{value}, acked at {partition}/{offset}, end {end}"));
        }
    }
}

/// What somebody read and the log does not have in the end.
fn vanished(known: &Known<'_>, report: &mut Report) {
    for operation in &known.read {
        let What::Poll { partition, records, .. } = &operation.what else { continue };
        let Some(log) = known.logs.get(partition) else { continue };
        let Some((_, end)) = log.drained else { continue };
        for record in records {
            let kept = if record.offset < end {
                log.last.get(&record.offset).is_none_or(|last| *last == record.value)
            } else {
                false
            };
            let writer = known.by_value.get(&record.value).and_then(|at| known.sent.get(*at));
            let (Some(writer), false) = (writer, kept) else { continue };
            let own = writer.client == operation.client;
            let kind = if own { Kind::OwnUncommittedRead } else { Kind::UncommittedRead };
            let (value, offset) = (record.value, record.offset);
            report.note(kind, || format!("{value} was at {partition}/{offset} and is gone"));
        }
    }
}
