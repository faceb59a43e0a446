//! A snapshot takes a log's place: told to it directly. Crashes of it are in `crash`.

use super::harness::{Node, batch, found};
use crate::sim_disk::{Fault, SimDisk};
use crate::{HardState, Install, LogStart, ReadError, Work};
use bateau_protocol::frame::FrameKind;
use bateau_protocol::ids::{Incarnation, LogIndex, Offset, Term};
use bytes::Bytes;

const LOG: u64 = 5;

fn request(index: u64, applied: u64) -> Install {
    let term = Term::new(3);
    Install {
        incarnation: Incarnation::new(LOG),
        hard_state: HardState { term, vote: None, commit: LogIndex::new(index) },
        start: LogStart {
            offset: Offset::new(1_000),
            index: LogIndex::new(index + 1),
            term,
            chain_crc: 9,
        },
        applied: LogIndex::new(applied),
        state: Bytes::from_static(b"what the commands built"),
    }
}

/// A log of a few hundred records, some segments long.
fn node() -> Node {
    let disk = SimDisk::new(1, 1 << 30);
    found(&disk);
    let mut node = Node::start(1, &disk);
    node.create(LOG);
    node.run().unwrap();
    for number in 0..60 {
        node.append(LOG, 1, &[(FrameKind::Records, 10, batch(number, 700, 1))]);
        node.run().unwrap();
    }
    node
}

fn install(node: &mut Node, request: Install) {
    node.model.lock().unwrap().get_mut(&LOG).unwrap().installing = Some(request.clone());
    node.push(Work::Install(Box::new(request)));
    node.run().unwrap();
    node.background().unwrap();
}

#[test]
fn readers_see_the_start_of_the_snapshot_and_keep_what_they_were_lent() {
    let mut node = node();
    let reader = node.readers[&LOG].clone();
    let lent = reader.read(Offset::ZERO, Offset::new(600), usize::MAX, true).unwrap();
    install(&mut node, request(500, 504));
    let bounds = reader.bounds();
    assert_eq!((bounds.last_index, bounds.end_offset), (LogIndex::new(500), Offset::new(1_000)));
    let below = reader.read(Offset::new(10), Offset::new(1_000), 1, true).unwrap_err();
    assert!(matches!(below, ReadError::OutOfRange { start, .. } if start == Offset::new(1_000)));
    assert!(
        reader.read(Offset::new(1_000), Offset::new(1_000), 1, true).unwrap().batches.is_empty()
    );
    node.append(LOG, 3, &[(FrameKind::Records, 10, batch(1, 100, 7))]);
    node.run().unwrap();
    let found = reader.read(Offset::new(1_000), Offset::new(1_010), 1, true).unwrap();
    assert_eq!(found.next_offset, Offset::new(1_010));
    // The simulated disk panics where a file is shortened under lent bytes.
    assert!(lent.batches.iter().all(|batch| batch[70] == 1));
    drop(lent);
    node.push(Work::EmptyTrash { before_wall_ms: 501 });
    node.run().unwrap();
    node.background().unwrap();
    let contents = node.disk.contents();
    assert!(contents.keys().all(|path| !path.starts_with("trash/")), "{:?}", contents.keys());
}

#[test]
fn the_empty_segment_behind_a_snapshot_grows_for_a_large_frame() {
    let mut node = node();
    install(&mut node, request(500, 500));
    let files = |node: &Node| -> Vec<String> {
        let logs = node.disk.contents().into_keys().filter(|path| path.ends_with(".log"));
        logs.collect()
    };
    let before = files(&node);
    node.append(LOG, 3, &[(FrameKind::Records, 1, batch(1, 100_000, 7))]);
    node.run().unwrap();
    assert_eq!(files(&node), before, "it is the same file");
    node.append(LOG, 3, &[(FrameKind::Records, 1, batch(1, 100, 7))]);
    node.run().unwrap();
    node.check_readable();
    let model = node.model.lock().unwrap().clone();
    super::harness::check_crashed(&node.disk.crash(3), &model);
}

#[test]
fn a_snapshot_without_room_leaves_the_log_as_it_was() {
    for nth in 0..6 {
        let mut node = node();
        node.disk.inject(nth, Fault::NoSpace);
        install(&mut node, request(500, 504));
        if node.disk.fault_is_pending() {
            continue;
        }
        let reader = node.readers[&LOG].clone();
        if reader.bounds().last_index == LogIndex::new(61) {
            node.append(LOG, 1, &[(FrameKind::Records, 1, batch(1, 100, 7))]);
            node.run().unwrap();
            node.check_readable();
        }
        let model = node.model.lock().unwrap().clone();
        super::harness::check_crashed(&node.disk.crash(nth), &model);
    }
}
