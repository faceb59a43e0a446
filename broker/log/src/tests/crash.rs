//! Crashes at every write and flush boundary.

use super::SEEDS;
use super::harness::{Model, Node, adopt, check_crashed, check_reader, found, open};
use super::model::turn;
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

/// Runs one seed; returns how many crashes it tried.
fn run_seed(seed: u64, planted: bool) -> u64 {
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
        let (shared, tries) = (Arc::clone(&node.model), Arc::clone(&tried));
        disk.on_change(Some(Box::new(move |fork| {
            let now = tries.fetch_add(1, Ordering::Relaxed);
            let expected = shared.lock().unwrap().clone();
            check_crashed(&fork.crash(seed * 7919 + now), &expected);
        })));
        for _ in 0..TURNS {
            turn(&mut node).unwrap();
        }
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
        drop(opened);
        let again = open(&disk).unwrap();
        assert!(again.report.torn.is_empty(), "a second recovery finds {:?}", again.report.torn);
        model = adopt(&again, &model);
    }
    tried.load(Ordering::Relaxed)
}

fn run_seeds(seeds: std::ops::Range<u64>) -> u64 {
    let threads = 2;
    let parts: Vec<u64> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|part| {
                let mine = seeds.clone().filter(move |seed| seed % threads == part);
                scope.spawn(move || {
                    let run = |seed| match catch_unwind(|| run_seed(seed, false)) {
                        Ok(tried) => tried,
                        Err(_) => panic!("seed {seed} fails"),
                    };
                    mine.map(run).sum::<u64>()
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
    assert!(tried > SEEDS * 20, "only {tried} crashes in {SEEDS} seeds");
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
    let start = |boot_epoch| NodeStart { boot_epoch, start_id: 100 + boot_epoch };
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
