//! Damage to the only copy, and gap frames in the place of what is lost.

use super::harness::{Node, all_frames, batch, found, open, open_with, options};
use super::mending::{ID, LOG, RECORDS, damaged, path, place};
use crate::cycle::CommitCycle;
use crate::sim_disk::{SimDisk, SimRandom};
use crate::{
    DataDirOptions, Disk, DiskFailed, Done, HardState, LogReader, LostRange, Mend, MendError,
    Opened, Persist, RecoveredLog, Work, WriteError,
};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::gap::lost_to;
use bateau_protocol::ids::{LogIndex, Offset, Term};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Opens a directory as `unsafe-recover` does: every byte is read.
fn open_all(disk: &SimDisk) -> Opened {
    open_with(disk, DataDirOptions { reads_everything: true, ..options() }).unwrap()
}

fn closing(segment: LogIndex) -> Work {
    let frames = Vec::new();
    let (reopens, accepts_loss) = (true, true);
    Work::Mend(Mend { incarnation: ID, segment, frames, reopens, accepts_loss, wall_ms: 77 })
}

/// Closes what begins in a segment.
fn closed(cycle: &mut CommitCycle, segment: LogIndex) -> Result<Done, DiskFailed> {
    let mut done = Vec::new();
    cycle.run(&mut vec![closing(segment)], &mut done)?;
    while cycle.background_step(&mut done)? {}
    let ended = done.into_iter().find(|answer| {
        assert!(!matches!(answer, Done::MendWants { .. }), "nobody is asked: {answer:?}");
        matches!(answer, Done::Mended { .. } | Done::MendFailed { .. })
    });
    match ended.expect("an answer") {
        Done::MendFailed {
            error: MendError::Write(WriteError::Io { operation, message }), ..
        } => Err(DiskFailed { operation, message }),
        ended => Ok(ended),
    }
}

/// Closes all that a start has found; what was said to be lost, and the log.
fn close_all(opened: &mut Opened) -> Result<(RecoveredLog, Vec<LostRange>), DiskFailed> {
    let mut log = opened.logs.remove(0);
    let ranges = log.loss.as_ref().map_or(Vec::new(), |loss| loss.ranges.clone());
    for _ in 0..100 {
        let Some(range) = &log.corrupt else { return Ok((log, ranges)) };
        let segment = log.loss.clone().unwrap().closable.unwrap();
        match closed(&mut opened.cycle, segment)? {
            Done::Mended { log: Some(again), .. } => log = *again,
            other => panic!("{range:?}: {other:?}"),
        }
    }
    panic!("it does not end: {:?}", log.corrupt)
}

/// The log has gap frames where it was said so, and what it had everywhere else.
fn check_closed(log: &RecoveredLog, ranges: &[LostRange], before: &[Frame]) -> BTreeSet<u64> {
    assert_eq!(log.corrupt, None);
    let frames = all_frames(&log.reader);
    let lost: BTreeSet<u64> =
        ranges.iter().flat_map(|range| range.first_index.get()..=range.last_index.get()).collect();
    assert_eq!(log.last_index, before.last().unwrap().index);
    assert_eq!(frames.len(), before.len());
    for (found, wanted) in frames.iter().zip(before) {
        let index = found.header.index;
        assert_eq!(index, wanted.index);
        if lost.contains(&index.get()) {
            assert_eq!(found.header.kind, FrameKind::Gap, "frame {index}");
            let range = ranges.iter().find(|range| range.last_index >= index).unwrap();
            assert!(lost_to(&found.payload).unwrap() <= range.last_index);
            continue;
        }
        assert_eq!(found.payload, wanted.stamped_payload(), "frame {index}");
        assert_eq!(
            (found.header.kind, found.header.term, found.header.base_offset),
            (wanted.kind, wanted.term, wanted.base_offset)
        );
    }
    for range in ranges {
        let first = &before[range.first_index.get() as usize - 1];
        let last = &before[range.last_index.get() as usize - 1];
        assert_eq!(range.first_offset, first.base_offset);
        assert!(range.end_offset.is_none_or(|end| end == last.next_coordinates().1));
    }
    let end = before.last().unwrap().next_coordinates().1;
    let is_open = ranges.last().is_some_and(|range| range.end_offset.is_none());
    match is_open {
        false => assert_eq!(log.end_offset, end),
        true => assert!(log.end_offset > end, "an offset may be given away twice"),
    }
    let two = frames.windows(2);
    let falls =
        |two: &[crate::StoredFrame]| two[0].header.flush_sequence > two[1].header.flush_sequence;
    assert!(!two.into_iter().any(falls), "a flush sequence fell");
    check_reads(&log.reader, &lost, before);
    lost
}

/// Consumers get everything but what is lost, from wherever they begin.
fn check_reads(reader: &LogReader, lost: &BTreeSet<u64>, before: &[Frame]) {
    let records = before
        .iter()
        .filter(|frame| frame.kind == FrameKind::Records && !lost.contains(&frame.index.get()));
    let records: Vec<Bytes> = records.map(Frame::stamped_payload).collect();
    let end = reader.bounds().end_offset;
    let (mut from, mut found) = (Offset::ZERO, Vec::new());
    while from < end {
        let range = reader.read(from, end, 3_000, true).unwrap();
        assert!(range.next_offset > from, "no progress at {from} below {end}");
        from = range.next_offset;
        found.extend(range.batches);
    }
    assert_eq!(found, records);
    for frame in before.iter().filter(|frame| lost.contains(&frame.index.get())) {
        let inside = reader.read(frame.base_offset, end, 3_000, true).unwrap();
        let next = before.iter().find(|next| {
            next.kind == FrameKind::Records
                && next.index > frame.index
                && !lost.contains(&next.index.get())
        });
        assert_eq!(inside.batches.first(), next.map(Frame::stamped_payload).as_ref());
    }
}

/// The log takes records again, which are there after a crash, and a start finds nothing wrong.
fn check_goes_on(opened: &mut Opened, log: &RecoveredLog, disk: &SimDisk) {
    let term = Term::new(log.hard_state.term.get().max(20));
    let mut tail = (log.last_index.next(), log.end_offset);
    let frames: Vec<Frame> = (0..60)
        .map(|at| {
            let payload = batch(1, 500, at);
            let frame = Frame::new(FrameKind::Records, (term, tail.0), tail.1, 2, payload);
            tail = frame.next_coordinates();
            frame
        })
        .collect();
    let hard_state = HardState { term, vote: None, commit: log.last_index };
    for (ready, frame) in frames.iter().enumerate() {
        let mut work = vec![Work::Persist(Persist {
            incarnation: ID,
            ready: ready as u64,
            hard_state: Some(hard_state),
            truncate_from: None,
            frames: vec![frame.clone()],
        })];
        let mut done = Vec::new();
        opened.cycle.run(&mut work, &mut done).unwrap();
        assert!(matches!(done[..], [Done::Persisted { .. }]), "{done:?}");
    }
    let wanted: Vec<_> = all_frames(&log.reader);
    for crashed in [disk.kill(), disk.crash(3)] {
        for again in [open(&crashed.fork()).unwrap(), open_all(&crashed)] {
            assert!(again.report.corrupt.is_empty(), "{:?}", again.report.corrupt);
            let found = all_frames(&again.logs[0].reader);
            assert_eq!(found.len(), wanted.len());
            for (found, wanted) in found.iter().zip(&wanted) {
                assert_eq!((&found.header, &found.payload), (&wanted.header, &wanted.payload));
            }
            let from = wanted.last().unwrap().header.base_offset;
            let read = again.logs[0].reader.read(from, from.plus(2), 10, true).unwrap();
            assert_eq!(read.batches, [frames.last().unwrap().stamped_payload()]);
        }
    }
}

fn kept(disk: &SimDisk) -> Vec<String> {
    disk.contents().into_keys().filter(|path| path.starts_with("quarantine/")).collect()
}

/// Closes what a damage has left of a log, and looks at everything. Returns what is lost.
fn close_and_check(damage: impl FnOnce(&SimDisk, &LogReader)) -> (Vec<LostRange>, SimDisk) {
    let (disk, before) = damaged(damage);
    let mut opened = open_all(&disk);
    let reader = opened.logs[0].reader.clone();
    let (log, ranges) = close_all(&mut opened).unwrap();
    check_closed(&log, &ranges, &before);
    assert_eq!(reader.bounds().last_index, log.last_index, "who had the log sees it go on");
    check_goes_on(&mut opened, &log, &disk);
    (ranges, disk)
}

fn indexes(ranges: &[LostRange]) -> Vec<(u64, u64)> {
    ranges.iter().map(|range| (range.first_index.get(), range.last_index.get())).collect()
}

#[test]
fn a_flipped_bit_costs_its_frame_and_nothing_else() {
    for index in [2, 40, 41, RECORDS - 3] {
        let (ranges, disk) = close_and_check(|disk, reader| {
            let (segment, position) = place(reader, index);
            disk.flip_bit(&path(segment), position + 80, 3).unwrap();
        });
        assert_eq!(indexes(&ranges), [(index, index)]);
        let offset = Offset::new((index - 2) * 2);
        assert_eq!((ranges[0].first_offset, ranges[0].end_offset), (offset, Some(offset.plus(2))));
        let kept = kept(&disk);
        assert!(kept.iter().any(|name| name.ends_with("-000000000000004d")), "{kept:?}");
    }
}

#[test]
fn a_start_that_reads_everything_finds_what_others_leave_to_readers() {
    let (disk, _) = damaged(|disk, reader| {
        let (segment, position) = place(reader, 30);
        disk.flip_bit(&path(segment), position + 80, 3).unwrap();
    });
    assert!(open(&disk.fork()).unwrap().report.corrupt.is_empty());
    let opened = open_all(&disk);
    let loss = opened.logs[0].loss.as_ref().unwrap();
    assert_eq!(indexes(&loss.ranges), [(30, 30)]);
    assert_eq!(opened.report.corrupt[0].1.first_index, LogIndex::new(30));
    // What was not accepted is not done.
    drop(opened);
    assert_eq!(open_all(&disk).logs[0].loss.as_ref().unwrap().ranges.len(), 1);
}

#[test]
fn whole_segments_are_closed() {
    for index in [2, 60] {
        let (ranges, _) = close_and_check(|disk, reader| {
            let (segment, _) = place(reader, index);
            disk.unlink(&path(segment)).unwrap();
        });
        assert_eq!(ranges.len(), 1, "{index}: {ranges:?}");
        assert!(ranges[0].end_offset.is_some());
    }
    // Two in a row, and the header of a third one.
    let (ranges, _) = close_and_check(|disk, reader| {
        let bases: Vec<_> = reader.sealed().iter().map(|sealed| sealed.first_index).collect();
        disk.unlink(&path(bases[1])).unwrap();
        disk.unlink(&path(bases[2])).unwrap();
        disk.flip_bit(&path(bases[3]), 17, 3).unwrap();
    });
    assert_eq!(ranges.len(), 1, "all frames of the third one were there");
}

#[test]
fn the_header_of_a_segment_is_made_anew_and_nothing_is_lost() {
    for index in [2, 60] {
        let (ranges, _) = close_and_check(|disk, reader| {
            let (segment, _) = place(reader, index);
            disk.flip_bit(&path(segment), 17, 3).unwrap();
        });
        assert_eq!(ranges, []);
    }
}

#[test]
fn a_hole_that_reaches_the_end_skips_more_offsets_than_there_can_have_been() {
    let (ranges, _) = close_and_check(|disk, reader| {
        let (segment, position) = place(reader, RECORDS - 2);
        disk.open(&path(segment)).unwrap().set_bytes(position + 20).unwrap();
    });
    assert_eq!(indexes(&ranges), [(RECORDS - 2, RECORDS + 1)]);
    assert_eq!(ranges[0].end_offset, None);
    // Whole segments at the end, of which one is garbage.
    let (ranges, disk) = close_and_check(|disk, reader| {
        let (active, _) = place(reader, RECORDS);
        let (before, position) = place(reader, active.get() - 1);
        disk.open(&path(before)).unwrap().set_bytes(position + 20).unwrap();
        let file = disk.open(&path(active)).unwrap();
        file.write_at(0, &[&vec![7; file.bytes().unwrap() as usize]]).unwrap();
    });
    assert_eq!(ranges.len(), 1);
    assert_eq!(ranges[0].last_index, LogIndex::new(RECORDS + 1));
    let kept = kept(&disk);
    let segments = kept.iter().filter(|name| name.len() == "quarantine/".len() + 50);
    assert!(segments.count() >= 2, "{kept:?}");
}

#[test]
fn several_holes_of_one_log_are_closed_one_after_the_other() {
    let (ranges, _) = close_and_check(|disk, reader| {
        for index in [5, 20, 21, 60] {
            let (segment, position) = place(reader, index);
            disk.flip_bit(&path(segment), position + 80, 3).unwrap();
        }
        let (segment, position) = place(reader, 100);
        disk.damage_sector(&path(segment), position).unwrap();
    });
    let indexes = indexes(&ranges);
    assert_eq!(indexes[..3], [(5, 5), (20, 21), (60, 60)]);
    assert_eq!(indexes.len(), 4);
}

#[test]
fn power_fails_at_every_step_of_a_closing() {
    let damages: [fn(&SimDisk, &LogReader); 2] = [
        |disk, reader| {
            let (segment, position) = place(reader, 30);
            disk.flip_bit(&path(segment), 17, 3).unwrap();
            disk.damage_sector(&path(segment), position).unwrap();
            let (segment, _) = place(reader, 90);
            disk.unlink(&path(segment)).unwrap();
        },
        |disk, reader| {
            let (active, _) = place(reader, RECORDS);
            let (segment, position) = place(reader, active.get() - 4);
            disk.open(&path(segment)).unwrap().set_bytes(position).unwrap();
            let file = disk.open(&path(active)).unwrap();
            file.write_at(0, &[&vec![7; file.bytes().unwrap() as usize]]).unwrap();
        },
    ];
    for damage in damages {
        let (disk, before) = damaged(damage);
        let ranges = open_all(&disk.fork()).logs[0].loss.clone().unwrap().ranges;
        let (mut nth, mut cut) = (0, true);
        while cut {
            let disk = disk.fork();
            let mut opened = open_all(&disk);
            disk.cut_power_at(nth);
            cut = close_all(&mut opened).is_err();
            drop(opened);
            for crashed in [disk.crash(nth), disk.kill()] {
                let mut opened = open_all(&crashed);
                let (log, _) = close_all(&mut opened).unwrap();
                check_closed(&log, &ranges, &before);
                check_goes_on(&mut opened, &log, &crashed);
            }
            nth += 1;
        }
        assert!(nth > 20, "{nth} steps");
    }
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was() {
    let (disk, before) = damaged(|disk, reader| {
        let (segment, position) = place(reader, 30);
        disk.flip_bit(&path(segment), position + 80, 3).unwrap();
    });
    let mut failures = 0;
    for nth in 0..40 {
        let disk = disk.fork();
        let mut opened = open_all(&disk);
        disk.inject(nth, crate::sim_disk::Fault::NoSpace);
        let segment = opened.logs[0].loss.clone().unwrap().closable.unwrap();
        match closed(&mut opened.cycle, segment).unwrap() {
            Done::MendFailed { error, .. } => {
                assert_eq!(error, MendError::Write(WriteError::NoSpace));
                failures += 1;
                let loss = open_all(&disk.kill()).logs[0].loss.clone().unwrap();
                assert_eq!(indexes(&loss.ranges), [(30, 30)]);
                let (log, ranges) = close_all(&mut opened).unwrap();
                check_closed(&log, &ranges, &before);
            }
            Done::Mended { log: Some(log), .. } => assert_eq!(log.corrupt, None),
            other => panic!("{other:?}"),
        }
    }
    assert!(failures > 2, "{failures}");
}

#[test]
fn what_nothing_says_the_beginning_of_stays_open() {
    let disk = SimDisk::new(1, 1 << 30);
    let (mut node, _) = varied(3, &disk);
    // The log begins at a later segment, and then that segment's header is gone.
    let reader = node.readers[&LOG].clone();
    let start = reader.sealed()[1].next_start;
    let applied = start.index;
    node.push(Work::StoreState { incarnation: ID, applied, state: Bytes::from_static(b"state") });
    node.push(Work::Trim { incarnation: ID, start });
    node.run().unwrap();
    while node.cycle.background_step(&mut Vec::new()).unwrap() {}
    node.idle().unwrap();
    let disk = node.disk.kill();
    disk.flip_bit(&path(start.index), 17, 3).unwrap();
    let mut opened = open_all(&disk);
    let loss = opened.logs[0].loss.clone().unwrap();
    let reason = loss.closable.unwrap_err();
    assert!(reason.contains("where its first segment begins"), "{reason}");
    let answer = closed(&mut opened.cycle, start.index).unwrap();
    assert!(matches!(answer, Done::MendFailed { .. }), "{answer:?}");
    drop(opened);
    // The state that the frames before have built is gone.
    disk.flip_bit(&path(start.index), 17, 3).unwrap();
    let state = format!("partitions/{LOG:016x}/state-{:016x}", applied.get());
    disk.unlink(&state).unwrap();
    let opened = open_all(&disk);
    let reason = opened.logs[0].loss.clone().unwrap().closable.unwrap_err();
    assert!(reason.contains("have built is lost"), "{reason}");
}

/// A log with frames of all sizes and kinds, of which some were written over others.
fn varied(seed: u64, disk: &SimDisk) -> (Node, Vec<Frame>) {
    found(disk);
    let mut node = Node::start(seed, disk);
    let mut random = SimRandom::new(seed);
    node.create(LOG);
    node.run().unwrap();
    let (mut term, mut count) = (1, 1);
    for at in 0..150 {
        let truncate_from = (random.chance(4) && count > 10).then(|| {
            term += 1;
            count -= random.below(6);
            LogIndex::new(count + 1)
        });
        let frames: Vec<(FrameKind, u32, Bytes)> = (0..1 + random.below(3))
            .map(|_| match random.below(5) {
                0 => (FrameKind::Noop, 0, Bytes::new()),
                1 => (FrameKind::Command, 0, batch(1, 100, at)),
                _ => {
                    let bytes = 61 + random.below(900) as usize;
                    (FrameKind::Records, 1 + random.below(9) as u32, batch(1, bytes, at))
                }
            })
            .collect();
        count += frames.len() as u64;
        node.persist(LOG, term, None, truncate_from, &frames);
        node.run().unwrap();
        if random.chance(20) {
            while node.cycle.background_step(&mut Vec::new()).unwrap() {}
            node.idle().unwrap();
        }
    }
    while node.cycle.background_step(&mut Vec::new()).unwrap() {}
    node.idle().unwrap();
    let frames = node.model.lock().unwrap()[&LOG].acked.clone();
    (node, frames)
}

/// Where every frame lies.
fn places(reader: &LogReader) -> BTreeMap<u64, (LogIndex, u64, u64)> {
    let mut bases: Vec<_> = reader.sealed().iter().map(|sealed| sealed.first_index).collect();
    bases.extend(reader.sealed().last().map(|sealed| sealed.next_start.index));
    let mut places = BTreeMap::new();
    let (mut base, mut position) = (LogIndex::ZERO, 0);
    for frame in all_frames(reader) {
        if bases.contains(&frame.header.index) || base == LogIndex::ZERO {
            (base, position) = (frame.header.index, 4096);
        }
        let bytes = frame.header.frame_bytes();
        places.insert(frame.header.index.get(), (base, position, position + bytes));
        position += bytes;
    }
    places
}

/// Does something to the files; returns the frames that it may have hit.
fn harm(
    disk: &SimDisk,
    places: &BTreeMap<u64, (LogIndex, u64, u64)>,
    random: &mut SimRandom,
) -> BTreeSet<u64> {
    let last = places.len() as u64;
    let index = if random.chance(20) { last - random.below(4) } else { 1 + random.below(last) };
    let (base, start, end) = places[&index];
    let hit = |from: u64, to: u64| {
        let hits =
            |(at, first, last): &(LogIndex, u64, u64)| *at == base && *first < to && *last > from;
        places.iter().filter(|(_, place)| hits(place)).map(|(index, _)| *index).collect()
    };
    let Ok(file) = disk.open(&path(base)) else { return BTreeSet::new() };
    let at = start + random.below(end - start);
    match random.below(6) {
        0 | 1 => {
            disk.flip_bit(&path(base), at, random.below(8) as u8).unwrap();
            hit(at, at + 1)
        }
        2 => {
            disk.damage_sector(&path(base), at).unwrap();
            hit(at / 512 * 512, at / 512 * 512 + 512)
        }
        3 => {
            disk.unlink(&path(base)).unwrap();
            hit(0, u64::MAX)
        }
        4 => {
            file.set_bytes(at).unwrap();
            hit(at, u64::MAX)
        }
        _ => {
            // The header, and perhaps some frames behind it.
            let bytes = 60 + random.below(6_000);
            let bytes = bytes.min(file.bytes().unwrap());
            file.write_at(0, &[&vec![9; bytes as usize]]).unwrap();
            hit(0, bytes)
        }
    }
}

#[test]
fn whatever_is_damaged_costs_what_is_said_before_and_nothing_that_is_intact() {
    let (mut closed, mut open_ended, mut many) = (0, 0, 0);
    for seed in 0..if cfg!(feature = "soak") { 20_000 } else { 300 } {
        let disk = SimDisk::new(seed, 1 << 30);
        let (node, before) = varied(seed % 20, &disk);
        let places = places(&node.readers[&LOG]);
        let mut random = SimRandom::new(seed);
        let disk = node.disk.kill();
        let mut hit = BTreeSet::new();
        for _ in 0..=random.below(4) {
            hit.extend(harm(&disk, &places, &mut random));
        }
        let mut opened = open_all(&disk);
        let (log, ranges) = close_all(&mut opened).unwrap();
        let lost = check_closed(&log, &ranges, &before);
        assert!(lost.is_subset(&hit), "seed {seed}: {:?} was intact", &lost - &hit);
        check_goes_on(&mut opened, &log, &disk);
        closed += u32::from(!ranges.is_empty());
        many += u32::from(ranges.len() > 1);
        open_ended += u32::from(ranges.last().is_some_and(|range| range.end_offset.is_none()));
    }
    assert!(closed > 150 && open_ended > 30 && many > 50, "{closed} {open_ended} {many}");
}
