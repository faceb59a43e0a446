//! What the order and inventory services reported, and the rules that it must keep.
//!
//! ```text
//!   order service:      sending o ... acked o (partition, offset)       --> Order log
//!   inventory service:  joined [partitions] delivered ... committed ... --> Sessions
//!   check(): every rule below, over the reports of all instances together
//! ```
//!
//! A *session* is what one instance did between one assignment and its next.
//!
//! # Rules
//!
//! - Nothing acknowledged is lost: the record at an acknowledged (partition, offset) is
//!   delivered, and it is that order.
//! - Partition order: within a session the offsets of a partition grow by exactly one.
//! - A session starts a partition at or after every commit of the sessions before it (nothing
//!   comes twice from before the last committed offset), and at most one past the last offset
//!   that they were given (nothing is jumped over).
//! - An (partition, offset) always holds the same order.
//!
//! How often records came twice within these rules is counted, not judged: [`Summary`] tells.
//!
//! # Absent on purpose
//!
//! Transactions and compaction: an offset without a record would count as a loss here.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::program::Line;

/// Where a record lies: partition, offset.
pub type Position = (i64, i64);

/// What the order services reported.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Order id of each acknowledged position.
    pub acked: BTreeMap<Position, i64>,
    /// Orders handed to kafkajs whose `send` gave up, and why.
    pub failed: Vec<(i64, String)>,
}

impl Orders {
    /// Reads the reports of one order service and adds them.
    pub fn add(&mut self, lines: &[Line]) {
        for line in lines {
            let Some(json) = &line.json else { continue };
            match line.event() {
                Some("acked") => {
                    let position = (number(json, "partition"), number(json, "offset"));
                    let before = self.acked.insert(position, number(json, "orderId"));
                    assert_eq!(before, None, "{position:?} was acknowledged for two orders");
                }
                Some("failed") => {
                    let error = json.get("error").and_then(Value::as_str).unwrap_or_default();
                    self.failed.push((number(json, "orderId"), error.to_owned()));
                }
                _ => {}
            }
        }
    }
}

/// What one instance did between one assignment and the next.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// Name of the instance.
    pub instance: String,
    /// Number of the line that reported the assignment.
    pub joined: u64,
    /// Partitions assigned.
    pub partitions: Vec<i64>,
    /// Deliveries in order: position, order id.
    pub delivered: Vec<(Position, i64)>,
    /// The highest offset committed per partition: the next one to be read.
    pub committed: BTreeMap<i64, i64>,
}

/// Reads the sessions of one inventory instance.
pub fn sessions(instance: &str, lines: &[Line]) -> Vec<Session> {
    let mut sessions: Vec<Session> = Vec::new();
    for line in lines {
        let Some(json) = &line.json else { continue };
        let current = sessions.last_mut();
        match (line.event(), current) {
            (Some("joined"), _) => sessions.push(Session {
                instance: instance.to_owned(),
                joined: line.number,
                partitions: integers(json, "partitions"),
                ..Session::default()
            }),
            (Some("delivered"), Some(session)) => {
                let position = (number(json, "partition"), number(json, "offset"));
                session.delivered.push((position, number(json, "orderId")));
            }
            (Some("committed"), Some(session)) => {
                let offsets = json.get("offsets").and_then(Value::as_array);
                for entry in offsets.into_iter().flatten() {
                    let offset = number(entry, "offset");
                    let committed = session.committed.entry(number(entry, "partition"));
                    let highest = committed.or_insert(offset);
                    *highest = offset.max(*highest);
                }
            }
            (Some(event @ ("delivered" | "committed")), None) => {
                panic!("{instance}: {event} without an assignment: {}", line.text)
            }
            _ => {}
        }
    }
    sessions
}

/// What was seen, when every rule holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Acknowledged orders.
    pub acked_count: usize,
    /// Positions delivered at least once.
    pub delivered_count: usize,
    /// Deliveries of a position beyond its first.
    pub repeated_count: usize,
    /// Orders that lie in the log more than once, by retries of the producer.
    pub duplicated_orders: Vec<i64>,
}

/// Checks every rule.
///
/// Errors: a sentence for each rule that was broken, at most a few of each kind.
pub fn check(orders: &Orders, sessions: &[Session]) -> Result<Summary, Vec<String>> {
    let mut faults = Vec::new();
    let mut ordered: Vec<&Session> = sessions.iter().collect();
    ordered.sort_by_key(|session| session.joined);
    let delivered = merge(&ordered, &mut faults);
    for (position, order) in &orders.acked {
        match delivered.get(position) {
            None => faults.push(format!("order {order} at {position:?} was lost")),
            Some((found, _)) if found != order => {
                faults.push(format!("{position:?} holds order {found}, acknowledged: {order}"));
            }
            Some(_) => {}
        }
    }
    check_starts(&ordered, &mut faults);
    if !faults.is_empty() {
        faults.truncate(20);
        return Err(faults);
    }
    let mut positions: BTreeMap<i64, usize> = BTreeMap::new();
    for (order, _) in delivered.values() {
        *positions.entry(*order).or_default() += 1;
    }
    let duplicated = positions.into_iter().filter(|(_, count)| *count > 1);
    Ok(Summary {
        acked_count: orders.acked.len(),
        delivered_count: delivered.len(),
        repeated_count: delivered.values().map(|(_, count)| count - 1).sum(),
        duplicated_orders: duplicated.map(|(order, _)| order).collect(),
    })
}

/// All deliveries of all sessions: order id and number of deliveries by position.
fn merge(sessions: &[&Session], faults: &mut Vec<String>) -> BTreeMap<Position, (i64, usize)> {
    let mut delivered: BTreeMap<Position, (i64, usize)> = BTreeMap::new();
    for session in sessions {
        for (position, order) in &session.delivered {
            let entry = delivered.entry(*position).or_insert((*order, 0));
            entry.1 += 1;
            if entry.0 != *order {
                let (first, _) = *entry;
                faults.push(format!("{position:?} was order {first} and then order {order}"));
            }
            if !session.partitions.contains(&position.0) {
                let instance = &session.instance;
                faults.push(format!("{instance} was given {position:?}, not assigned to it"));
            }
        }
    }
    delivered
}

/// Order within each session, and where it starts each partition.
fn check_starts(sessions: &[&Session], faults: &mut Vec<String>) {
    let mut committed: BTreeMap<i64, i64> = BTreeMap::new();
    let mut given: BTreeMap<i64, i64> = BTreeMap::new();
    for session in sessions {
        let mut last: BTreeMap<i64, i64> = BTreeMap::new();
        let instance = &session.instance;
        for ((partition, offset), _) in &session.delivered {
            match last.insert(*partition, *offset) {
                Some(before) if *offset != before + 1 => faults.push(format!(
                    "{instance}: partition {partition} went from {before} to {offset}"
                )),
                Some(_) => {}
                None => {
                    let lowest = committed.get(partition).copied().unwrap_or(0);
                    let highest = given.get(partition).map_or(0, |offset| offset + 1);
                    if !(lowest..=highest).contains(offset) {
                        faults.push(format!(
                            "{instance}: partition {partition} started at {offset}, \
                             committed {lowest}, next {highest}"
                        ));
                    }
                }
            }
        }
        for (partition, offset) in last {
            let highest = given.entry(partition).or_insert(offset);
            *highest = offset.max(*highest);
        }
        for (partition, offset) in &session.committed {
            let highest = committed.entry(*partition).or_insert(*offset);
            *highest = (*offset).max(*highest);
        }
    }
}

/// An integer that JSON holds as a number or, as kafkajs gives offsets, as text.
fn number(json: &Value, field: &str) -> i64 {
    let value = json.get(field);
    let found = value.and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    });
    found.unwrap_or_else(|| panic!("no integer {field} in {json}"))
}

fn integers(json: &Value, field: &str) -> Vec<i64> {
    let array = json.get(field).and_then(Value::as_array);
    let array = array.unwrap_or_else(|| panic!("no array {field} in {json}"));
    array.iter().map(|value| value.as_i64().expect("partitions are integers")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(joined: u64, offsets: &[i64], committed: i64) -> Session {
        Session {
            instance: format!("i{joined}"),
            joined,
            partitions: vec![0],
            delivered: offsets.iter().map(|offset| ((0, *offset), 100 + offset)).collect(),
            committed: BTreeMap::from([(0, committed)]),
        }
    }

    fn orders(offsets: &[i64]) -> Orders {
        let acked = offsets.iter().map(|offset| ((0, *offset), 100 + offset)).collect();
        Orders { acked, failed: Vec::new() }
    }

    #[test]
    fn a_successor_that_starts_at_the_commit_is_right_and_its_repeats_are_counted() {
        let summary =
            check(&orders(&[0, 1, 2, 3]), &[session(1, &[0, 1, 2], 1), session(2, &[1, 2, 3], 4)]);
        assert_eq!(summary.expect("no rule is broken").repeated_count, 2);
    }

    #[test]
    fn an_acknowledged_order_that_never_came_is_a_fault() {
        let faults = check(&orders(&[0, 1]), &[session(1, &[0], 1)]).expect_err("1 is lost");
        assert!(faults[0].contains("order 101 at (0, 1) was lost"), "{faults:?}");
    }

    #[test]
    fn a_repeat_from_before_the_commit_is_a_fault() {
        let sessions = [session(1, &[0, 1, 2], 2), session(2, &[1, 2], 3)];
        let faults = check(&orders(&[0, 1, 2]), &sessions).expect_err("1 was committed");
        assert!(faults[0].contains("started at 1, committed 2"), "{faults:?}");
    }

    #[test]
    fn a_hole_between_or_within_sessions_is_a_fault() {
        let between = [session(1, &[0], 1), session(2, &[2], 3)];
        assert!(check(&orders(&[]), &between).is_err());
        let within = [session(1, &[0, 2], 3)];
        assert!(check(&orders(&[]), &within).is_err());
    }

    #[test]
    fn a_position_that_changes_its_order_is_a_fault() {
        let mut second = session(2, &[0], 1);
        second.delivered[0].1 = 7;
        assert!(check(&orders(&[0]), &[session(1, &[0], 0), second]).is_err());
    }
}
