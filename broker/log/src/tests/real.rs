//! The same on the operating system's disk.

use super::harness::{LogModel, all_frames, batch, identity, options};
use crate::disk::Disk;
use crate::{
    Create, DataDir, Done, DumpedPlace, HardState, LogReader, Opened, Persist, RealDisk,
    RealDiskOptions, SegmentDump, Work,
};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;

const ID: Incarnation = Incarnation::new(0xAB);

fn disk(root: &Path, exclusive: bool) -> Arc<dyn Disk> {
    let options = RealDiskOptions { exclusive, ephemeral: false };
    Arc::new(RealDisk::open(root, options).unwrap())
}

fn open(root: &Path) -> Opened {
    let dir = DataDir::lock(disk(root, false), 7).unwrap();
    match dir.identity(NodeId::new(1)).unwrap() {
        Some(found) => dir.open(&found, options()).unwrap(),
        None => {
            dir.store_identity(&identity()).unwrap();
            let unfounded = crate::Identity { founded: false, ..identity() };
            dir.open(&unfounded, options()).unwrap()
        }
    }
}

fn create(opened: &mut Opened) -> LogReader {
    let entry = (Term::new(1), LogIndex::new(1));
    let frame =
        Frame::new(FrameKind::Membership, entry, Offset::ZERO, 0, Bytes::from_static(b"one voter"));
    let request = Create {
        incarnation: ID,
        replica: ReplicaId::new(1 << 32),
        options: options().log,
        hard_state: HardState { term: Term::new(1), vote: None, commit: LogIndex::new(1) },
        frames: vec![frame],
    };
    let mut done = Vec::new();
    opened.cycle.run(&mut vec![Work::Create(request)], &mut done).unwrap();
    match done.pop() {
        Some(Done::Created { reader, .. }) => reader,
        other => panic!("{other:?}"),
    }
}

fn append(opened: &mut Opened, model: &mut LogModel, reader: &LogReader, bytes: usize) {
    let bounds = reader.bounds();
    let index = bounds.last_index.next();
    let payload = batch(index.get() as i64, bytes, index.get() as u8);
    let entry = (Term::new(1), index);
    let frame = Frame::new(FrameKind::Records, entry, bounds.end_offset, 3, payload);
    model.acked.push(frame.clone());
    let persist = Persist {
        incarnation: ID,
        ready: index.get(),
        hard_state: None,
        truncate_from: None,
        frames: vec![frame],
    };
    let mut done = Vec::new();
    opened.cycle.run(&mut vec![Work::Persist(persist)], &mut done).unwrap();
    assert!(matches!(&done[..], [Done::Persisted { last_index, .. }] if *last_index == index));
}

fn batches(reader: &LogReader) -> Vec<Bytes> {
    let end = reader.bounds().end_offset;
    assert!(reader.populate(Offset::ZERO, end, 1 << 20).is_ok());
    assert!(reader.is_resident(Offset::ZERO, end, 1 << 20));
    reader.read(Offset::ZERO, end, 1 << 20, true).unwrap().batches
}

#[test]
fn a_real_directory_is_written_left_and_found_again() {
    let root = tempfile::tempdir().unwrap();
    let mut model = LogModel::default();
    let mut opened = open(root.path());
    let reader = create(&mut opened);
    for at in 0..60 {
        append(&mut opened, &mut model, &reader, 100 + at * 20);
        while opened.cycle.background_step(&mut Vec::new()).unwrap() {}
    }
    assert!(reader.sealed().len() > 1);
    let wanted: Vec<Bytes> = model.acked.iter().map(Frame::stamped_payload).collect();
    assert_eq!(batches(&reader), wanted);
    let lent = batches(&reader);
    // As kill -9 leaves it, for the lock goes with the process; then after a clean stop.
    drop((opened, reader));
    DataDir::lock(disk(root.path(), false), 8).unwrap().store_identity(&identity()).unwrap();
    for clean in [false, true] {
        let opened = open(root.path());
        assert_eq!(opened.report.clean, clean);
        assert!(opened.report.torn.is_empty() && opened.report.corrupt.is_empty());
        let log = &opened.logs[0];
        assert_eq!(log.last_index, LogIndex::new(61));
        assert_eq!(batches(&log.reader), wanted);
        assert_eq!(all_frames(&log.reader).len(), 61);
        opened.cycle.close().unwrap();
    }
    assert_eq!(lent, wanted, "lent bytes outlive everything");
}

#[test]
fn a_dropped_segment_is_written_over_and_found_again() {
    let root = tempfile::tempdir().unwrap();
    let mut model = LogModel::default();
    let mut opened = open(root.path());
    let reader = create(&mut opened);
    let work = |opened: &mut Opened, work| {
        opened.cycle.run(&mut vec![work], &mut Vec::new()).unwrap();
        while opened.cycle.background_step(&mut Vec::new()).unwrap() {}
    };
    for round in 0..4 {
        for _ in 0..80 {
            append(&mut opened, &mut model, &reader, 700 + round);
        }
        let applied = reader.bounds().last_index;
        work(&mut opened, Work::Commit { incarnation: ID, commit: applied });
        let state = Bytes::from_static(b"state");
        work(&mut opened, Work::StoreState { incarnation: ID, applied, state });
        let start = reader.sealed().last().unwrap().next_start;
        work(&mut opened, Work::Trim { incarnation: ID, start });
    }
    assert!(opened.cycle.recycled().used > 6, "{:?}", opened.cycle.recycled());
    assert!(root.path().join("recycled").read_dir().unwrap().count() > 0);
    let check = |reader: &LogReader| {
        let (start, end) = (reader.bounds().start.offset, reader.bounds().end_offset);
        let found = reader.read(start, end, 1 << 20, true).unwrap().batches;
        let wanted: Vec<Bytes> = model.acked.iter().map(Frame::stamped_payload).collect();
        assert!(!found.is_empty() && wanted.ends_with(&found));
    };
    check(&reader);
    drop((opened, reader));
    let opened = open(root.path());
    assert!(opened.report.torn.is_empty() && opened.report.corrupt.is_empty());
    assert_eq!(opened.logs[0].last_index, LogIndex::new(321));
    check(&opened.logs[0].reader);
    opened.cycle.close().unwrap();
    assert_eq!(root.path().join("recycled").read_dir().unwrap().count(), 0, "not after a crash");
}

#[test]
fn room_that_is_not_there_is_an_error_and_leaves_no_file() {
    let root = tempfile::tempdir().unwrap();
    let disk = disk(root.path(), false);
    let file = disk.create("large").unwrap();
    assert!(file.allocate(1 << 60).is_err());
    file.allocate(1 << 20).unwrap();
    assert_eq!(file.bytes().unwrap(), 1 << 20);
    assert_eq!(file.next_data(0).unwrap(), None, "allocated and never written");
    file.write_at(500_000, &[b"abc", b"", b"def"]).unwrap();
    let (start, end) = file.next_data(0).unwrap().unwrap();
    assert!(start <= 500_000 && end >= 500_006);
    let map = file.map().unwrap();
    assert_eq!(&map.slice(500_000, 6)[..], b"abcdef");
    file.write_at(500_001, &[b"X"]).unwrap();
    assert_eq!(&map.slice(500_000, 6)[..], b"aXcdef", "a map shows later writes");
    assert!(!map.is_lent());
    let lent = map.slice(500_000, 6);
    assert!(map.is_lent());
    drop(map);
    disk.unlink("large").unwrap();
    assert_eq!(&lent[..], b"aXcdef");
}

#[test]
fn a_shortened_file_is_a_media_error_when_it_is_read_in() {
    let root = tempfile::tempdir().unwrap();
    let disk = disk(root.path(), false);
    let file = disk.create("x").unwrap();
    file.allocate(1 << 20).unwrap();
    let map = file.map().unwrap();
    assert!(map.populate(0, 1 << 20).is_ok());
    file.set_bytes(4096).unwrap();
    assert!(map.populate(8192, 4096).is_err(), "an error, not a signal");
}

#[test]
fn many_files_are_flushed_one_way_or_the_other() {
    let root = tempfile::tempdir().unwrap();
    for exclusive in [false, true] {
        let disk = disk(root.path(), exclusive);
        disk.create_dir("d").unwrap();
        let files: Vec<_> = (0..5).map(|at| disk.create(&format!("d/{at}")).unwrap()).collect();
        files.iter().for_each(|file| file.write_at(0, &[b"x"]).unwrap());
        disk.flush(&files, &["d".to_owned(), String::new()]).unwrap();
        files.iter().for_each(|file| file.drop_cache(0).unwrap());
        assert_eq!(disk.list("d").unwrap().len(), 5);
    }
}

#[test]
fn a_held_directory_is_locked_and_names_the_holder() {
    let root = tempfile::tempdir().unwrap();
    let first = DataDir::lock(disk(root.path(), false), 4711).unwrap();
    let second = DataDir::lock(disk(root.path(), false), 4712);
    assert!(matches!(second, Err(crate::OpenError::Locked { pid: 4711 })));
    drop(first);
    assert!(DataDir::lock(disk(root.path(), false), 4712).is_ok());
}

#[test]
fn a_dump_shows_every_frame_and_where_it_breaks() {
    let root = tempfile::tempdir().unwrap();
    let mut model = LogModel::default();
    let mut opened = open(root.path());
    let reader = create(&mut opened);
    for _ in 0..5 {
        append(&mut opened, &mut model, &reader, 200);
    }
    let disk = disk(root.path(), false);
    let path = "partitions/00000000000000ab/0000000000000001.log";
    let dump = |path: &str| SegmentDump::open(disk.open(path).unwrap()).unwrap();
    assert_eq!(dump(path).header().incarnation, ID);
    let frames: Vec<_> = dump(path).map(Result::unwrap).collect();
    assert_eq!(frames.len(), 6);
    let DumpedPlace::Frame(last) = &frames[5] else { panic!("{frames:?}") };
    assert_eq!((last.header.index, &last.damage), (LogIndex::new(6), &None));
    let batch = last.batch.unwrap();
    assert_eq!((batch.base_offset, batch.timestamp_max, batch.leader_epoch), (12, 6, 1));
    disk.open(path).unwrap().write_at(last.position + 100, &[&[0xEE]]).unwrap();
    let frames: Vec<_> = dump(path).map(Result::unwrap).collect();
    let DumpedPlace::Frame(last) = &frames[5] else { panic!("{frames:?}") };
    assert!(last.damage.as_ref().is_some_and(|damage| damage.contains("payload CRC")));
    assert!(SegmentDump::open(disk.open("meta.a").unwrap()).is_err());
}

#[test]
fn what_is_written_over_is_flushed_on_every_filesystem() {
    let root = tempfile::tempdir().unwrap();
    for exclusive in [false, true] {
        let disk = disk(root.path(), exclusive);
        let files: Vec<_> =
            ["a", "b", "c", "d", "e"].iter().map(|name| disk.create(name).unwrap()).collect();
        files.iter().for_each(|file| file.write_at(0, &[&[1; 9000]]).unwrap());
        disk.flush(&files, &[String::new()]).unwrap();
        files.iter().for_each(|file| file.write_at(10, &[&[2; 8000]]).unwrap());
        // Alone, with another one, and with so many others that one flush is for all.
        for (overwritten, others) in [(0..1, 1..1), (0..2, 2..3), (0..2, 2..5)] {
            disk.flush_overwritten(&files[overwritten], &files[others]).unwrap();
        }
        assert!((0..5).all(|at| {
            let mut found = [0; 2];
            files[at].read_at(8009, &mut found).unwrap();
            found == [2, 1]
        }));
    }
}

#[test]
fn a_filesystem_that_nobody_looked_into_is_not_trusted_to_write_in_place() {
    use std::os::fd::AsFd;
    let process = std::fs::File::open("/proc").unwrap();
    assert!(!crate::sys::writes_in_place(process.as_fd()));
}
