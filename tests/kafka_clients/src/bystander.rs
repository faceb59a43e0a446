//! A client that produces and consumes while another one misbehaves, and must notice nothing.
//!
//! ```text
//!   start() --> thread: produce one record, fetch it back, compare; again until finish()
//! ```
//!
//! # Invariants
//!
//! - The bystander is at work before [`Bystander::start`] returns, and for at least one whole
//!   round after [`Bystander::finish`] is called: it outlasts the misbehaviour at both ends.
//! - Any error, wrong offset, wrong bytes or lost connection fails the test.
//!
//! # Absent on purpose
//!
//! Its latencies: a bench prints them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::program::wait_until;
use crate::raw::batch::Batch;
use crate::raw::calls::{self, Fetched, Produced};
use crate::raw::code;
use crate::raw::connection::Connection;

/// A client at work on a thread of its own.
#[derive(Debug)]
pub struct Bystander {
    rounds: Arc<AtomicU64>,
    finishing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Starts one on a topic of its own and waits for its first round.
    pub fn start(bootstrap: &str) -> Self {
        let mut connection = Connection::open(bootstrap);
        let topic = calls::new_topic(&mut connection, "bystander");
        let rounds = Arc::new(AtomicU64::new(0));
        let finishing = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (rounds, finishing) = (Arc::clone(&rounds), Arc::clone(&finishing));
            move || {
                let mut last = false;
                while !last {
                    // Read before the round: the last round begins after the end was asked for.
                    last = finishing.load(Ordering::Acquire);
                    round(&mut connection, &topic, rounds.load(Ordering::Acquire));
                    rounds.fetch_add(1, Ordering::AcqRel);
                }
            }
        });
        let bystander = Self { rounds, finishing, thread: Some(thread) };
        wait_until("the bystander's first round", Duration::from_secs(30), || {
            bystander.rounds.load(Ordering::Acquire) > 0 || bystander.stopped()
        });
        bystander
    }

    /// Ends it after one more round and returns the number of rounds.
    ///
    /// Panics when the bystander saw anything wrong.
    pub fn finish(mut self) -> u64 {
        self.finishing.store(true, Ordering::Release);
        let thread = self.thread.take().expect("it is finished once");
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
        self.rounds.load(Ordering::Acquire)
    }

    fn stopped(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.finishing.store(true, Ordering::Release);
    }
}

fn round(connection: &mut Connection, topic: &str, number: u64) {
    let offset = i64::try_from(number).expect("tests are finite");
    let value = format!("round {number}");
    let batch = Batch::of(&[value.as_bytes()]).encode();
    let produced = calls::produce(connection, topic, 0, &batch);
    assert_eq!(produced, Produced { code: code::NONE, base_offset: offset }, "bystander");
    let fetched = calls::fetch(connection, topic, 0, offset, Duration::from_secs(10));
    let Fetched { code, high_watermark, records, .. } = fetched;
    assert_eq!((code, high_watermark), (code::NONE, offset + 1), "bystander");
    // The broker fills in the base offset and the leader epoch; the rest is as it was sent.
    let (base, rest) = records.split_at(8);
    assert_eq!(base, offset.to_be_bytes(), "bystander");
    assert_eq!((&rest[..4], &rest[8..]), (&batch[8..12], &batch[16..]), "bystander");
}
