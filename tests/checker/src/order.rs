//! The rules about order: of polls, of sends, and of confirmed latest offsets in real time.
//!
//! Invariant: only what returned before something else began stands before it.
//! Absent on purpose: an order between a time-out and what came behind it. A record that nobody
//! acknowledged may be appended as late as it likes.

use crate::check::{Known, Sent};
use crate::history::{Client, NEVER, Operation, Outcome, Partition, What};
use crate::report::{Kind, Report};
use std::collections::{BTreeMap, HashMap};

/// Readers go on where they were, record by record.
pub(crate) fn polls(known: &Known<'_>, report: &mut Report) {
    let mut next = HashMap::<(Client, Partition), i64>::new();
    for operation in &known.read {
        let What::Poll { partition, start, records } = &operation.what else { continue };
        let client = operation.client;
        if let Some(start) = start {
            next.insert((client, *partition), *start);
        }
        for (at, record) in records.iter().enumerate() {
            let offset = record.offset;
            let after = next.insert((client, *partition), offset.saturating_add(1));
            let Some(expected) = after else { continue };
            let kind = match (offset.cmp(&expected), at) {
                (std::cmp::Ordering::Equal, _) => continue,
                (std::cmp::Ordering::Greater, 0) => Kind::GapAcrossPolls,
                (std::cmp::Ordering::Greater, _) => Kind::GapWithinPoll,
                (std::cmp::Ordering::Less, 0) => Kind::InversionAcrossPolls,
                (std::cmp::Ordering::Less, _) => Kind::InversionWithinPoll,
            };
            let say = || format!("reader {client} of {partition}: {offset}, not {expected}");
            report.note(kind, say);
        }
    }
}

/// Sends lie in the order that their client, or the clock, gives them.
pub(crate) fn sends(known: &Known<'_>, report: &mut Report) {
    let mut last = HashMap::<(Client, Partition), &Sent>::new();
    for sent in known.sent.iter().filter(|sent| sent.ordered) {
        let Some(offset) = sent.offset else { continue };
        let before = last.insert((sent.client, sent.partition), sent);
        let Some(before) = before.filter(|before| before.offset >= Some(offset)) else { continue };
        let say = || {
            let there = before.offset.unwrap_or_default();
            format!("{} at {there} was sent before {} at {offset}", before.value, sent.value)
        };
        report.note(Kind::SendInversion, say);
    }
    for placed in placed(known).values() {
        let mut youngest: Option<&Sent> = None;
        for sent in placed {
            let acked = matches!(sent.outcome, Outcome::Acked(_));
            let behind = youngest.filter(|young| acked && sent.returned < young.invoked);
            if let Some(young) = behind {
                let say = || {
                    let (here, there) = (sent.offset, young.offset);
                    format!(
                        "{} at {here:?} was acked before {} at {there:?} was sent",
                        sent.value, young.value
                    )
                };
                report.note(Kind::RealTimeInversion, say);
            }
            if youngest.is_none_or(|young| young.invoked < sent.invoked) {
                youngest = Some(sent);
            }
        }
    }
}

/// Sends whose place is known, by partition and place.
fn placed<'a>(known: &'a Known<'_>) -> BTreeMap<Partition, Vec<&'a Sent>> {
    let mut placed = BTreeMap::<Partition, Vec<&Sent>>::new();
    for sent in known.sent.iter().filter(|sent| sent.offset.is_some()) {
        placed.entry(sent.partition).or_default().push(sent);
    }
    placed.values_mut().for_each(|sends| sends.sort_by_key(|sent| sent.offset));
    placed
}

/// A confirmed latest offset is not below what was known when it was asked for, nor beyond what
/// had been sent when it came.
pub(crate) fn latest(known: &Known<'_>, report: &mut Report) {
    let mut asked = BTreeMap::<Partition, Vec<(&Operation, i64)>>::new();
    for operation in known.read.iter().filter(|one| one.returned != NEVER) {
        if let What::Latest { partition, end } = operation.what {
            report.latest += 1;
            asked.entry(partition).or_default().push((operation, end));
        }
    }
    let placed = placed(known);
    for (partition, asked) in &asked {
        stale(known, *partition, asked, report);
        let placed = placed.get(partition).map(Vec::as_slice).unwrap_or_default();
        ahead(known, *partition, asked, placed, report);
    }
}

fn stale(
    known: &Known<'_>,
    partition: Partition,
    asked: &[(&Operation, i64)],
    report: &mut Report,
) {
    // What each return proves: the log had come so far.
    let mut proofs: Vec<(u64, i64)> = asked.iter().map(|(one, end)| (one.returned, *end)).collect();
    for sent in known.sent.iter().filter(|sent| sent.partition == partition) {
        if let Outcome::Acked(offset) = sent.outcome {
            proofs.push((sent.returned, offset.saturating_add(1)));
        }
    }
    for operation in &known.read {
        let What::Poll { partition: of, records, .. } = &operation.what else { continue };
        let highest = records.iter().map(|record| record.offset).max();
        if let Some(highest) = highest.filter(|_| *of == partition) {
            proofs.push((operation.returned, highest.saturating_add(1)));
        }
    }
    proofs.sort_unstable();
    let (mut at, mut proven) = (0, 0);
    for (operation, end) in asked {
        while let Some((_, end)) = proofs.get(at).filter(|(when, _)| *when < operation.invoked) {
            proven = proven.max(*end);
            at += 1;
        }
        if *end < proven {
            let client = operation.client;
            let say = || format!("{client} was told {end} of {partition}, known was {proven}");
            report.note(Kind::StaleLatest, say);
        }
    }
}

fn ahead(
    known: &Known<'_>,
    partition: Partition,
    asked: &[(&Operation, i64)],
    placed: &[&Sent],
    report: &mut Report,
) {
    let drained = known.logs.get(&partition).and_then(|log| log.drained).map(|(_, end)| end);
    // The latest call among all records below each one, itself included.
    let mut youngest = 0;
    let called: Vec<(i64, u64)> = placed
        .iter()
        .map(|sent| {
            youngest = youngest.max(sent.invoked);
            (sent.offset.unwrap_or_default(), youngest)
        })
        .collect();
    for (operation, end) in asked {
        let below = called.partition_point(|(offset, _)| offset < end);
        let unsent = below.checked_sub(1).and_then(|at| called.get(at));
        let unsent = unsent.is_some_and(|(_, invoked)| *invoked > operation.returned);
        if unsent || drained.is_some_and(|drained| *end > drained) {
            let client = operation.client;
            let say = || format!("{client} was told {end} of {partition}, which it did not have");
            report.note(Kind::LatestAhead, say);
        }
    }
}
