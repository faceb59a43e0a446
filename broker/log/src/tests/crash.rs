//! Crashes at every write and flush boundary.

use super::SEEDS;
use super::harness::{LogModel, Model, Node, adopt, check_crashed, check_reader, found, open};
use super::model::{append_some, drop_most, fill, turn};
use crate::sim_disk::SimDisk;
use crate::{NodeStart, Work};
use bateau_protocol::ids::NodeId;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Turns of each life of a directory.
const TURNS: u64 = 5;

/// Lives of a directory: each ends in a power cut.
const LIVES: u64 = 3;

/// Of so many seeds, one writes over files that held frames before.
const WORN: u64 = 4;

/// What one seed came to.
#[derive(Clone, Copy, Default)]
struct Tried {
    crashes: u64,
    /// Segments that were made of recycled files.
    recycled: u64,
    /// Lives with at least one.
    worn_lives: u64,
}

impl std::iter::Sum for Tried {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            crashes: sum.crashes + one.crashes,
            recycled: sum.recycled + one.recycled,
            worn_lives: sum.worn_lives + one.worn_lives,
        })
    }
}

/// Turns of a life in which some segments were filled before: they are dropped, their files are
/// ready, and what is appended goes into them.
fn worn_turns(node: &mut Node, filled: u64) {
    drop_most(node, filled).unwrap();
    for _ in 0..TURNS {
        turn(node).unwrap();
        let is_there = |log: &LogModel| !log.deleting && log.installing.is_none();
        let goes_on = node.model.lock().unwrap().get(&filled).is_some_and(is_there);
        if goes_on {
            append_some(node, filled, 6_000);
            node.run().unwrap();
        }
    }
}

/// Runs one seed.
fn run_seed(seed: u64, planted: bool) -> Tried {
    let mut recycled = Vec::new();
    let mut disk = SimDisk::new(seed, 1 << 30);
    found(&disk);
    let mut model = Model::default();
    let tried = Arc::new(AtomicU64::new(0));
    for life in 0..LIVES {
        let opened = check_crashed(&disk, &model);
        let mut node = Node::with(seed * LIVES + life, &disk, opened, model);
        if planted {
            node.cycle.plant_ack_before_flush();
        }
        let filled = if seed.is_multiple_of(WORN) { fill(&mut node) } else { None };
        let (shared, tries) = (Arc::clone(&node.model), Arc::clone(&tried));
        disk.on_change(Some(Box::new(move |fork| {
            let now = tries.fetch_add(1, Ordering::Relaxed);
            let expected = shared.lock().unwrap().clone();
            check_crashed(&fork.crash(seed * 7919 + now), &expected);
        })));
        match filled {
            Some(filled) => worn_turns(&mut node, filled),
            None => (0..TURNS).for_each(|_| turn(&mut node).unwrap()),
        }
        recycled.push(node.cycle.recycled().used);
        disk.on_change(None);
        if node.random.chance(20) {
            node.cycle.close().unwrap();
        }
        let expected = node.model.lock().unwrap().clone();
        disk = disk.crash(seed + life);
        let opened = check_crashed(&disk, &expected);
        model = adopt(&opened, &expected);
        for log in &opened.logs {
            check_reader(&log.reader, &model[&log.incarnation.get()]);
        }
        // What an earlier life left on its way out is nobody's any more.
        let mut cycle = opened.cycle;
        while cycle.background_step(&mut Vec::new()).unwrap() {}
        drop(cycle);
        let again = open(&disk).unwrap();
        assert!(again.report.torn.is_empty(), "a second recovery finds {:?}", again.report.torn);
        model = adopt(&again, &model);
        for log in &again.logs {
            check_reader(&log.reader, &model[&log.incarnation.get()]);
        }
    }
    Tried {
        crashes: tried.load(Ordering::Relaxed),
        recycled: recycled.iter().sum(),
        worn_lives: recycled.iter().filter(|used| **used > 0).count() as u64,
    }
}

fn run_seeds(seeds: std::ops::Range<u64>) -> Tried {
    let threads = 2;
    let parts: Vec<Tried> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|part| {
                let mine = seeds.clone().filter(move |seed| seed / 2 % threads == part);
                scope.spawn(move || {
                    let run = |seed| match catch_unwind(|| run_seed(seed, false)) {
                        Ok(tried) => tried,
                        Err(_) => panic!("seed {seed} fails"),
                    };
                    mine.map(run).sum::<Tried>()
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    parts.into_iter().sum()
}

#[test]
fn every_acked_frame_survives_a_crash_at_every_boundary() {
    let tried = run_seeds(0..SEEDS);
    assert!(tried.crashes > SEEDS * 20, "only {} crashes in {SEEDS} seeds", tried.crashes);
    let lives = SEEDS / WORN * LIVES;
    assert!(tried.worn_lives > lives / 2, "recycled files in {} of {lives}", tried.worn_lives);
    println!(
        "{} crashes, {} recycled in {} of {lives}",
        tried.crashes, tried.recycled, tried.worn_lives
    );
}

#[test]
fn an_ack_before_the_flush_is_caught() {
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let caught =
        (0..20).find(|seed| catch_unwind(AssertUnwindSafe(|| run_seed(*seed, true))).is_err());
    std::panic::set_hook(silent);
    assert!(caught.is_some(), "twenty seeds did not notice");
}

#[test]
fn the_newest_start_of_a_peer_is_there_whenever_the_power_goes() {
    let peer = NodeId::new(3);
    let start =
        |boot_epoch| NodeStart { directory: [7; 16], boot_epoch, start_id: 100 + boot_epoch };
    let note = |boot_epoch| vec![Work::NotePeer { node: peer, start: start(boot_epoch) }];
    let mut unanswered = 0;
    for cut in 0..40 {
        let disk = SimDisk::new(cut, 1 << 30);
        found(&disk);
        let mut cycle = open(&disk).unwrap().cycle;
        cycle.run(&mut note(1), &mut Vec::new()).unwrap();
        disk.cut_power_at(cut);
        let mut answered = 1;
        for epoch in 2..6 {
            if cycle.run(&mut note(epoch), &mut Vec::new()).is_err() {
                unanswered += 1;
                break;
            }
            answered = epoch;
        }
        let found = open(&disk.crash(cut)).unwrap().report.peers[&peer];
        assert!([start(answered), start(answered + 1)].contains(&found), "{found:?}, {answered}");
    }
    assert!(unanswered > 3, "some cuts were in the midst of it");
}
