//! What is told of a broker when its test fails: the seed that repeats the run, and what the
//! broker saw last.
//!
//! Invariants: a broker is told of once.
//!
//! Absent on purpose: logs; they go where the test's own do.

use crate::store::MemoryStore;
use bateau::controls::Controls;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Requests that are told.
const REQUESTS_TOLD_MAX: usize = 20;
/// Brokers of one test that are told of; the last ones.
const WITNESSES_MAX: usize = 16;
/// Free bytes below which the in-memory store refuses records; see `builder`.
pub(crate) const MEMORY_FREE_MIN: u64 = 8 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Witness {
    pub seed: u64,
    pub controls: Arc<Controls>,
    pub memories: Vec<Arc<MemoryStore>>,
    is_told: AtomicBool,
}

impl Witness {
    pub fn new(seed: u64, controls: Arc<Controls>, memories: Vec<Arc<MemoryStore>>) -> Self {
        Self { seed, controls, memories, is_told: AtomicBool::new(false) }
    }

    /// Writes it to stderr, unless that was done.
    pub fn tell(&self) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            eprint!("{}", self.text());
        }
    }

    pub fn text(&self) -> String {
        let requests = self.controls.requests();
        let first = requests.len().saturating_sub(REQUESTS_TOLD_MAX);
        let told = requests.get(first..).unwrap_or_default();
        let mut text = format!("bateau: the last {} requests that the broker saw:\n", told.len());
        for request in told {
            let _ = writeln!(text, "  {request}");
        }
        if self.memories.iter().any(|memory| memory.free_bytes() < MEMORY_FREE_MIN) {
            text += "bateau: the in-memory store is full, so records were refused: it holds 256 \
                     MiB; a test that needs more takes Store::Temporary\n";
        }
        let seed = self.seed;
        let _ = writeln!(text, "bateau: seed={seed:x}  repeat with: BATEAU_SEED={seed:x}");
        text
    }
}

thread_local! {
    /// Brokers that were started by the test that runs on this thread.
    static OF_TEST: RefCell<Option<Vec<Arc<Witness>>>> = const { RefCell::new(None) };
}

/// Notes a broker of the test that runs on this thread, if one does.
pub(crate) fn note(witness: &Arc<Witness>) {
    OF_TEST.with_borrow_mut(|of_test| {
        if let Some(of_test) = of_test {
            if of_test.len() == WITNESSES_MAX {
                of_test.remove(0);
            }
            of_test.push(Arc::clone(witness));
        }
    });
}

/// A test begins on this thread.
pub(crate) fn begin() {
    OF_TEST.set(Some(Vec::new()));
}

/// It has ended; what its brokers saw is told if it has failed.
pub(crate) fn end(has_failed: bool) {
    let of_test = OF_TEST.take().unwrap_or_default();
    if has_failed {
        of_test.iter().for_each(|witness| witness.tell());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bateau::clock::Clock;
    use bateau::controls::{Api, Door, Subject};
    use bateau_protocol::ids::NodeId;

    #[test]
    fn the_last_requests_and_the_seed_are_told() {
        let controls = Controls::new(NodeId::new(1), Clock::new());
        for number in 0..30 {
            let subject = Subject { topic: Some(format!("t{number}")), ..Subject::default() };
            let _ = controls.before(Door::Kafka, Api::Fetch, true, subject);
        }
        let text = Witness::new(0x8f31, controls, Vec::new()).text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 22);
        assert!(lines[1].ends_with("kafka Fetch topic=t10"), "{text}");
        assert!(lines[20].ends_with("kafka Fetch topic=t29"), "{text}");
        assert_eq!(lines[21], "bateau: seed=8f31  repeat with: BATEAU_SEED=8f31");
    }

    #[test]
    fn a_full_store_is_named() {
        use bateau::node::Store;
        let memory = Arc::new(MemoryStore::new(1));
        let disk = memory.open().expect("memory opens");
        let controls = Controls::new(NodeId::new(1), Clock::new());
        let witness = Witness::new(1, controls, vec![Arc::clone(&memory)]);
        assert!(!witness.text().contains("full"));
        let file = disk.create("a").expect("there is room");
        file.allocate(crate::MEMORY_BYTES_MAX - 4_096).expect("there is room");
        assert!(witness.text().contains("the in-memory store is full"));
    }
}
