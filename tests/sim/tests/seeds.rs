//! Seeds of the simulator: that a seed is a run, that short runs hold, and that every seed that
//! ever failed holds now.
//!
//! Absent on purpose: long runs; `cargo run --profile daily -p sim -- --count K` makes them.

#![allow(clippy::unwrap_used, reason = "a test stops where something is not as it must be")]

use sim::{Plan, Totals, run, shrink};
use std::path::PathBuf;

const SEEDS: std::ops::Range<u64> = 1_000..1_060;

#[test]
fn a_seed_runs_twice_to_the_same_hash() {
    for seed in 0..10 {
        let plan = Plan::of_seed(seed, None, 5);
        let (one, other) = (run(&plan), run(&plan));
        assert_eq!((one.hash, one.counts), (other.hash, other.counts), "{plan}");
    }
}

#[test]
fn short_seeds_hold_and_reach_what_matters() {
    let mut totals = Totals::default();
    for seed in SEEDS {
        let outcome = run(&Plan::of_seed(seed, None, 8));
        assert_eq!(outcome.broken, None, "{}", outcome.plan);
        totals.add(&outcome);
    }
    let marks = [
        "mark: a follower is served from the disk",
        "mark: a suffix is overwritten after a conflict",
        "mark: an ack of a duplicate",
        "mark: power lost inside a cycle",
        "power losses of all",
        "partitions of the network",
        "directories failed",
        "confirmed reads",
        "positions committed",
    ];
    for mark in marks {
        assert!(totals.counts.contains_key(mark), "no seed reached: {mark}");
    }
}

#[test]
fn seeds_that_failed_once_hold() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let plan = Plan::parse(&std::fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(run(&plan).broken, None, "{}: {plan}", file.display());
    }
}

#[test]
fn a_plan_is_read_as_it_is_printed() {
    for seed in 0..50 {
        let plan = Plan::of_seed(seed, None, 20);
        assert_eq!(Plan::parse(&plan.to_string()), Ok(plan));
    }
    assert!(Plan::parse("seed=1 faults=earthquakes").is_err());
}

#[test]
fn what_fails_is_shrunk_to_less_that_fails() {
    // A cluster without any time to make its topic is not ready when it should be.
    let plan = Plan { seconds: 0, ..Plan::of_seed(3, Some(3), 0) };
    let plan = Plan { nodes: 0, ..plan };
    assert!(run(&plan).broken.is_some(), "nobody is there");
    assert!(shrink(&plan).faults.is_empty());
}
