//! Segment files that become segments again, one story at a time. Crashes of it are in `crash`.

use super::harness::{Model, Node, batch, check_crashed, found, open, options};
use super::model::drop_front;
use crate::disk::Disk;
use crate::sim_disk::{Fault, SimDisk};
use crate::{
    DataDir, DataDirOptions, DumpedPlace, LogOptions, Opened, SEGMENT_HEADER_BYTES, SegmentDump,
    SegmentHeader, SpaceState, Work,
};
use bateau_protocol::frame::{FRAME_HEADER_BYTES, FrameKind};
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, NodeId, Offset};
use std::sync::Arc;

const LOG: u64 = 9;
const OTHER: u64 = 10;
/// Bytes of a frame whose payload has 200.
const FRAME_BYTES: u64 = 264;

fn node() -> Node {
    let disk = SimDisk::new(1, 1 << 30);
    found(&disk);
    let mut node = Node::start(1, &disk);
    for log in [LOG, OTHER] {
        node.create(log);
        node.run().unwrap();
    }
    node
}

/// Appends frames of one size, each by a flush of its own; what is in one says its number.
fn append(node: &mut Node, log: u64, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let frame = (FrameKind::Records, 1, batch(number as i64, 200, number as u8));
        node.append(log, 1, &[frame]);
        node.run().unwrap();
    }
}

/// Leaves frames of `LOG` in some files that wait.
fn worn() -> Node {
    let mut node = node();
    append(&mut node, LOG, 0..300);
    drop_front(&mut node, LOG).unwrap();
    let waiting = node.cycle.recycled();
    assert!(waiting.files >= 2 && waiting.used == 0, "{waiting:?}");
    node
}

/// The path of a log's last segment.
fn last_segment(disk: &SimDisk, log: u64) -> String {
    let dir = format!("partitions/{log:016x}/");
    let contents = disk.contents();
    let of_log = |path: &&String| path.starts_with(&dir) && path.ends_with(".log");
    contents.keys().rfind(of_log).unwrap().clone()
}

/// Where a log's last segment ends, by the frames of one size that follow its header.
fn end_of(disk: &SimDisk, log: u64) -> (String, u64) {
    let path = last_segment(disk, log);
    let bytes = &disk.contents()[&path];
    let header = |at: u64| &bytes[at as usize..at as usize + FRAME_HEADER_BYTES];
    let mut end = SEGMENT_HEADER_BYTES;
    while header(end).iter().any(|byte| *byte != 0) {
        end += FRAME_BYTES;
    }
    (path, end)
}

/// Puts the header back that was at `end` before: a whole frame of before is there again.
fn put_back_header(disk: &SimDisk, before: &[u8], path: &str, end: u64) {
    let header = &before[end as usize..end as usize + FRAME_HEADER_BYTES];
    assert!(header.iter().any(|byte| *byte != 0), "a frame was here");
    let file = disk.open(path).unwrap();
    file.write_at(end, &[header]).unwrap();
}

fn last_index(opened: &Opened, log: u64) -> LogIndex {
    assert!(opened.report.corrupt.is_empty(), "{:?}", opened.report.corrupt);
    assert!(opened.report.torn.is_empty(), "{:?}", opened.report.torn);
    opened.logs.iter().find(|found| found.incarnation.get() == log).unwrap().last_index
}

#[test]
fn a_log_whose_segments_are_closed_early_takes_no_more_room_than_its_frames() {
    let mut node = node();
    let used = |node: &Node| node.disk.space().map(|space| space.total - space.free).unwrap();
    let (incarnation, options) = (Incarnation::new(LOG), LogOptions::default());
    node.push(Work::Configure { incarnation, options });
    let before = used(&node);
    for number in 0..20 {
        append(&mut node, LOG, number..number + 1);
        node.push(Work::Roll { incarnation });
    }
    append(&mut node, LOG, 20..21);
    let added = used(&node) - before;
    assert!(added < 21 * 24 * 1024, "{added} bytes for 21 records");
}

#[test]
fn a_dropped_segment_becomes_the_next_one_of_any_log() {
    let mut node = worn();
    append(&mut node, OTHER, 0..60);
    node.background().unwrap();
    append(&mut node, OTHER, 60..200);
    let waiting = node.cycle.recycled();
    assert!(waiting.used >= 2, "{waiting:?}");
    let path = last_segment(&node.disk, OTHER);
    let stale: Vec<u8> = LOG.to_le_bytes().to_vec();
    let bytes = node.disk.contents()[&path].clone();
    assert!(bytes.windows(8).any(|window| window == stale), "frames of before are still there");
    node.check_readable();
    let model = node.model.lock().unwrap().clone();
    check_crashed(&node.disk.crash(3), &model);
}

#[test]
fn a_frame_of_another_partition_behind_the_tail_is_nothing() {
    let mut node = worn();
    let before: Vec<Vec<u8>> = recycled_contents(&node.disk);
    append(&mut node, OTHER, 0..110);
    assert!(node.cycle.recycled().used > 0);
    node.idle().unwrap();
    let wanted = node.model.lock().unwrap()[&OTHER].last();
    let disk = node.disk.kill();
    let (path, end) = end_of(&disk, OTHER);
    put_back_header(&disk, &before[before.len() - 1], &path, end);
    let opened = open(&disk).unwrap();
    assert_eq!(last_index(&opened, OTHER), wanted);
    // A dump of the file ends there, too.
    let dump = SegmentDump::open(disk.open(&path).unwrap()).unwrap();
    let places: Vec<_> = dump.map(Result::unwrap).collect();
    assert_eq!(places.len() as u64, (end - SEGMENT_HEADER_BYTES) / FRAME_BYTES);
    let good = |place: &DumpedPlace| matches!(place, DumpedPlace::Frame(at) if at.damage.is_none());
    assert!(places.iter().all(good));
}

#[test]
fn a_lost_write_that_left_an_old_frame_is_corruption_and_no_end() {
    let mut node = worn();
    let before: Vec<Vec<u8>> = recycled_contents(&node.disk);
    append(&mut node, OTHER, 0..80);
    let disk = node.disk.kill();
    let (path, end) = end_of(&disk, OTHER);
    let lost = (end - 6 * FRAME_BYTES) as usize..(end - 5 * FRAME_BYTES) as usize;
    let old = &before[before.len() - 1][lost.clone()];
    disk.open(&path).unwrap().write_at(lost.start as u64, &[old]).unwrap();
    let last = node.model.lock().unwrap()[&OTHER].last();
    let opened = open(&disk).unwrap();
    let (_, range) = &opened.report.corrupt[0];
    assert_eq!(range.first_index, LogIndex::new(last.get() - 5));
    assert!(range.last_index > range.first_index && opened.report.torn.is_empty());
}

#[test]
fn a_frame_flushed_before_its_segment_was_born_is_not_the_segments() {
    let mut node = node();
    let first = last_segment(&node.disk, LOG);
    let mut number = 0;
    while last_segment(&node.disk, LOG) == first {
        append(&mut node, LOG, number..number + 1);
        number += 1;
    }
    let wanted = node.model.lock().unwrap()[&LOG].last();
    for (later, expected) in [(0, wanted), (1, wanted.previous())] {
        let disk = node.disk.kill();
        let path = last_segment(&disk, LOG);
        let mut header = SegmentHeader::decode(&disk.contents()[&path]).unwrap();
        let birth = header.birth_flush_sequence.get() + later;
        header.birth_flush_sequence = FlushSequence::new(birth);
        disk.open(&path).unwrap().write_at(0, &[&header.encode()]).unwrap();
        assert_eq!(last_index(&open(&disk).unwrap(), LOG), expected);
    }
}

fn recycled_contents(disk: &SimDisk) -> Vec<Vec<u8>> {
    let waiting = disk.contents().into_iter().filter(|(path, _)| path.starts_with("recycled/"));
    waiting.map(|(_, bytes)| bytes).collect()
}

/// Two leaders had different ends of the log, and the first one's comes again: entries, chain and
/// places are what they were. The flush alone tells an old frame from a new one.
#[test]
fn a_frame_of_a_suffix_that_came_again_is_not_taken_for_the_new_one() {
    let mut node = node();
    append(&mut node, LOG, 0..130);
    let (path, _) = end_of(&node.disk, LOG);
    let before = node.disk.contents()[&path].clone();
    let base = u64::from_str_radix(path.rsplit_once('/').unwrap().1.trim_end_matches(".log"), 16);
    let base = base.unwrap();
    // One segment goes, the one before it loses its last frames.
    node.persist(LOG, 1, None, Some(LogIndex::new(base - 2)), &[]);
    node.run().unwrap();
    node.background().unwrap();
    append(&mut node, LOG, base - 4..base + 10);
    assert_eq!(node.cycle.recycled().used, 1);
    // With the durable mark behind these frames, that of the truncation goes.
    node.idle().unwrap();
    let disk = node.disk.kill();
    let (again, end) = end_of(&disk, LOG);
    assert_eq!(again, path, "it has the same base");
    let wanted = node.model.lock().unwrap()[&LOG].last();
    put_back_header(&disk, &before, &path, end);
    assert_eq!(last_index(&open(&disk).unwrap(), LOG), wanted);
    // Nor after a crash of that start, which has written nothing over it.
    let model = node.model.lock().unwrap().clone();
    check_crashed(&disk.crash(5), &model);
}

#[test]
fn a_file_waits_while_bytes_of_it_are_lent() {
    let mut node = node();
    append(&mut node, LOG, 0..100);
    let reader = node.readers[&LOG].clone();
    let lent = reader.read(Offset::new(60), Offset::new(80), usize::MAX, true).unwrap();
    assert_eq!(lent.batches.len(), 20);
    append(&mut node, LOG, 100..150);
    node.cycle.check_space(&mut Vec::new()).unwrap();
    drop_front(&mut node, LOG).unwrap();
    assert_eq!(node.cycle.recycled().files, 1, "the file has gone from its log");
    // The simulated disk panics where lent bytes are written over.
    append(&mut node, OTHER, 0..150);
    node.background().unwrap();
    assert_eq!(node.cycle.recycled().used, 0);
    for (batch, number) in lent.batches.iter().zip(60_u8..) {
        assert_eq!(batch[100], number);
    }
    drop(lent);
    node.background().unwrap();
    append(&mut node, OTHER, 150..300);
    assert_eq!(node.cycle.recycled().used, 1);
    node.check_readable();
}

#[test]
fn a_full_disk_takes_the_files_that_wait_before_it_refuses_anything() {
    let mut node = worn();
    let waiting = node.cycle.recycled().files;
    let used = (1_u64 << 30) - node.disk.space().unwrap().free;
    node.disk.set_capacity(used);
    // A first segment is smaller than what waits, and there is room for nothing else.
    node.create(OTHER + 1);
    node.run().unwrap();
    assert!(node.model.lock().unwrap()[&(OTHER + 1)].created);
    assert_eq!(node.cycle.recycled().files, waiting - 1);
    // A frame that needs a larger one than any that waits.
    let free = node.disk.space().unwrap().free;
    node.disk.set_capacity(used - free);
    node.append(OTHER, 1, &[(FrameKind::Records, 1, batch(1, 100_000, 7))]);
    node.run().unwrap();
    assert_eq!(node.model.lock().unwrap()[&OTHER].acked.len(), 1, "all of them are less");
    assert_eq!(node.cycle.recycled().files, 0);
    let model = node.model.lock().unwrap().clone();
    check_crashed(&node.disk.crash(3), &model);
}

#[test]
fn files_that_wait_count_as_free_and_go_when_room_is_short() {
    let disk = SimDisk::new(1, 1 << 30);
    found(&disk);
    let dir = DataDir::lock(Arc::new(disk.clone()), 1).unwrap();
    let identity = dir.identity(NodeId::new(1)).unwrap().unwrap();
    let options = DataDirOptions { soft_free_bytes: 100_000, ..options() };
    let opened = dir.open(&identity, options).unwrap();
    let mut node = Node::with(1, &disk, opened, Model::default());
    node.create(LOG);
    node.run().unwrap();
    append(&mut node, LOG, 0..300);
    drop_front(&mut node, LOG).unwrap();
    // The side files take room, too.
    node.idle().unwrap();
    let waiting = node.cycle.recycled();
    assert!(waiting.files >= 2, "{waiting:?}");
    let used = (1_u64 << 30) - disk.space().unwrap().free;
    disk.set_capacity(used + 100_000 - 1);
    let mut done = Vec::new();
    assert_eq!(node.cycle.check_space(&mut done).unwrap(), SpaceState::Ok);
    assert!(done.is_empty());
    node.background().unwrap();
    assert_eq!(node.cycle.recycled().files, 0);
    assert_eq!(recycled_contents(&disk).len(), 0);
    assert_eq!(disk.space().unwrap().free, 100_000 - 1 + waiting.bytes);
    assert_eq!(node.cycle.check_space(&mut done).unwrap(), SpaceState::Ok);
}

#[test]
fn a_clean_stop_keeps_what_waits_and_a_crash_does_not() {
    let mut node = worn();
    let waiting = node.cycle.recycled();
    let crashed = node.disk.kill();
    let disk = node.disk.clone();
    node.idle().unwrap();
    node.cycle.close().unwrap();
    let opened = open(&disk).unwrap();
    assert!(opened.report.clean);
    assert_eq!(opened.cycle.recycled().files, waiting.files);
    let mut node = Node::with(2, &disk, opened, node.model.lock().unwrap().clone());
    node.background().unwrap();
    append(&mut node, OTHER, 0..150);
    assert!(node.cycle.recycled().used > 0);
    node.check_readable();
    let mut opened = open(&crashed).unwrap();
    assert_eq!(opened.cycle.recycled(), crate::RecycledSegments::default());
    while opened.cycle.background_step(&mut Vec::new()).unwrap() {}
    assert_eq!(recycled_contents(&crashed).len(), 0);
}

#[test]
fn a_stop_while_bytes_are_lent_keeps_their_file_from_the_next_start() {
    let mut node = node();
    append(&mut node, LOG, 0..150);
    let reader = node.readers[&LOG].clone();
    let lent = reader.read(Offset::new(60), Offset::new(61), usize::MAX, true).unwrap();
    drop_front(&mut node, LOG).unwrap();
    assert_eq!(node.cycle.recycled().files, 1);
    let disk = node.disk.clone();
    node.cycle.close().unwrap();
    let opened = open(&disk).unwrap();
    assert_eq!((opened.report.clean, opened.cycle.recycled().files), (true, 0));
    assert_eq!(lent.batches[0][100], 60);
}

#[test]
fn a_log_that_goes_gives_back_what_was_prepared_for_it() {
    let mut node = worn();
    let waiting = node.cycle.recycled().files;
    append(&mut node, OTHER, 0..40);
    node.background().unwrap();
    assert_eq!(node.cycle.recycled().files, waiting - 1, "one is prepared");
    node.model.lock().unwrap().get_mut(&OTHER).unwrap().deleting = true;
    node.push(Work::Delete { incarnation: Incarnation::new(OTHER), wall_ms: 1 });
    node.run().unwrap();
    assert_eq!(node.cycle.recycled().files, waiting);
    node.background().unwrap();
    append(&mut node, LOG, 300..450);
    assert!(node.cycle.recycled().used > 0);
}

#[test]
fn a_disk_that_fails_on_the_way_leaves_no_file_with_two_lives() {
    for nth in 0..60 {
        for fault in [Fault::Io, Fault::NoSpace] {
            let mut node = worn();
            append(&mut node, OTHER, 0..40);
            node.disk.inject(nth, fault);
            let _: Result<(), crate::DiskFailed> = node.background();
            for number in 0..3 {
                let frames: Vec<_> = (0..20)
                    .map(|at| (FrameKind::Records, 1, batch(1, 200, number * 20 + at)))
                    .collect();
                node.append(OTHER, 1, &frames);
                if node.run().is_err() || node.background().is_err() {
                    break;
                }
            }
            let model = node.model.lock().unwrap().clone();
            // What was answered is there; frames of a failed request may be.
            let opened = open(&node.disk.crash(nth)).unwrap();
            for (id, log) in &model {
                let is_it = |found: &&crate::RecoveredLog| found.incarnation.get() == *id;
                let found = opened.logs.iter().find(is_it).unwrap();
                assert!(found.corrupt.is_none(), "call {nth}: {:?}", found.corrupt);
                assert!(found.last_index >= log.last(), "call {nth}: log {id}");
            }
        }
    }
}

#[test]
fn an_old_segment_header_never_passes_for_a_new_one() {
    let mut node = worn();
    node.idle().unwrap();
    for bytes in recycled_contents(&node.disk) {
        assert!(bytes[..SEGMENT_HEADER_BYTES as usize].iter().all(|byte| *byte == 0));
        assert!(bytes.len() as u64 > SEGMENT_HEADER_BYTES, "and behind it is what was");
    }
    let stable = recycled_contents(&node.disk.crash(1));
    assert!(stable.iter().all(|bytes| bytes[..100] == [0; 100]), "nor after a crash");
}
