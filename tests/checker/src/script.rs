//! Histories by hand: one word per call, return or both.
//!
//! ```text
//!   a:1@0     client a sends 1, acked at 0          A:1@0   the same without order over retries
//!   a:1?      ... nothing is known                  a:1!    ... it failed
//!   a(1       the call alone                        a)1@0   its return
//!   r@0[0=1]  client r polls from 0 and gets 1      r[1=2]  polls on and gets 2 at 1
//!   r{        a poll's call                         r}[..]  its return; r}@0[..] with a start
//!   l#2       client l is told that the end is 2    l#(     the call alone; l#)2 its return
//!   r$2       client r has read all up to 2         1/...   all of it in partition 1
//! ```
//!
//! Words follow each other in time: each call and each return has a moment of its own.
//!
//! Absent on purpose: errors. A word that cannot be read panics with itself.

use crate::history::{Client, History, NEVER, Operation, Outcome, Partition, Record, Value, What};
use std::collections::HashMap;

/// Reads a script.
///
/// Panics on a word that it does not know.
pub fn parse(script: &str) -> History {
    let mut reader = Reader::default();
    script.split_whitespace().for_each(|word| reader.word(word));
    reader.history
}

#[derive(Default)]
struct Reader {
    history: History,
    moment: u64,
    /// Calls that have not returned: positions in the history.
    open: HashMap<(Client, Partition, Option<Value>), usize>,
}

impl Reader {
    fn tick(&mut self) -> u64 {
        self.moment += 10;
        self.moment
    }

    fn word(&mut self, word: &str) {
        let bad = || -> ! { panic!("a word that nobody knows: {word}") };
        let (partition, rest) = match word.split_once('/') {
            Some((partition, rest)) => (number(partition, word), rest),
            None => (0, word),
        };
        let mut letters = rest.chars();
        let Some(name) = letters.next().filter(char::is_ascii_alphabetic) else { bad() };
        let (client, ordered) = (Client::from(u32::from(name)), name.is_ascii_lowercase());
        let rest = letters.as_str();
        let split = |prefix: &str| rest.strip_prefix(prefix);
        if let Some(send) = split(":") {
            let (value, outcome) = outcome(send, word);
            self.call(client, partition, Some(value), send_of(partition, value, ordered));
            self.returned(client, partition, Some(value), |what| set_outcome(what, outcome));
        } else if let Some(value) = split("(") {
            let value = number(value, word);
            self.call(client, partition, Some(value), send_of(partition, value, ordered));
        } else if let Some(send) = split(")") {
            let (value, outcome) = outcome(send, word);
            self.returned(client, partition, Some(value), |what| set_outcome(what, outcome));
        } else if rest == "{" {
            self.call(client, partition, None, poll_of(partition));
        } else if let Some(poll) = split("}") {
            let poll = poll_from(partition, poll, word);
            self.returned(client, partition, None, |what| *what = poll);
        } else if rest == "#(" {
            self.call(client, partition, None, What::Latest { partition, end: 0 });
        } else if let Some(end) = split("#)") {
            let end = number(end, word);
            self.returned(client, partition, None, |what| *what = What::Latest { partition, end });
        } else if let Some(end) = split("#") {
            let what = What::Latest { partition, end: number(end, word) };
            self.whole(client, partition, what);
        } else if let Some(end) = split("$") {
            let what = What::Drained { partition, end: number(end, word) };
            self.whole(client, partition, what);
        } else if rest.contains('[') {
            self.whole(client, partition, poll_from(partition, rest, word));
        } else {
            bad();
        }
    }

    fn whole(&mut self, client: Client, partition: Partition, what: What) {
        self.call(client, partition, None, what);
        self.returned(client, partition, None, |_| {});
    }

    fn call(&mut self, client: Client, partition: Partition, value: Option<Value>, what: What) {
        let invoked = self.tick();
        self.open.insert((client, partition, value), self.history.operations.len());
        self.history.operations.push(Operation { client, invoked, returned: NEVER, what });
    }

    fn returned(
        &mut self,
        client: Client,
        partition: Partition,
        value: Option<Value>,
        fill: impl FnOnce(&mut What),
    ) {
        let returned = self.tick();
        let at = self.open.remove(&(client, partition, value)).expect("a return has its call");
        let operation = self.history.operations.get_mut(at).expect("it was put there");
        operation.returned = returned;
        fill(&mut operation.what);
    }
}

fn send_of(partition: Partition, value: Value, ordered: bool) -> What {
    What::Send { partition, value, outcome: Outcome::Unknown, ordered }
}

fn poll_of(partition: Partition) -> What {
    What::Poll { partition, start: None, records: Vec::new() }
}

fn set_outcome(what: &mut What, told: Outcome) {
    if let What::Send { outcome, .. } = what {
        *outcome = told;
    }
}

/// `1@0`, `1?` or `1!`.
fn outcome(text: &str, word: &str) -> (Value, Outcome) {
    if let Some(value) = text.strip_suffix('?') {
        (number(value, word), Outcome::Unknown)
    } else if let Some(value) = text.strip_suffix('!') {
        (number(value, word), Outcome::Failed)
    } else {
        let (value, offset) = text.split_once('@').unwrap_or_else(|| panic!("no outcome: {word}"));
        (number(value, word), Outcome::Acked(number(offset, word)))
    }
}

/// `[0=1,1=2]` or `@0[0=1,1=2]`.
fn poll_from(partition: Partition, text: &str, word: &str) -> What {
    let (start, records) = text.split_once('[').unwrap_or_else(|| panic!("no records: {word}"));
    let start = start.strip_prefix('@').map(|start| number(start, word));
    let records = records.strip_suffix(']').unwrap_or_else(|| panic!("no end: {word}"));
    let records = records.split(',').filter(|record| !record.is_empty()).map(|record| {
        let (offset, value) = record.split_once('=').unwrap_or_else(|| panic!("{word}"));
        Record { offset: number(offset, word), value: number(value, word) }
    });
    What::Poll { partition, start, records: records.collect() }
}

fn number<N: std::str::FromStr>(text: &str, word: &str) -> N {
    text.parse().unwrap_or_else(|_| panic!("not a number: {text} in {word}"))
}
