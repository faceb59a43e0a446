//! Damage to what is committed, and frames of another replica that mend it.

use super::harness::{Node, all_frames, batch, found, open};
use crate::cycle::CommitCycle;
use crate::sim_disk::{Fault, SimDisk};
use crate::{
    Disk, DiskFailed, Done, Hole, LogReader, Mend, MendError, Opened, ReadError, RecoveredLog,
    ScrubPlace, Work, WriteError,
};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, Offset, Term};
use bytes::Bytes;
use std::collections::BTreeMap;

pub(super) const LOG: u64 = 9;
pub(super) const ID: Incarnation = Incarnation::new(LOG);
/// Records behind frame 1.
pub(super) const RECORDS: u64 = 120;

/// A log of some segments, all of it committed, and what another replica has of it.
pub(super) fn node() -> (Node, Vec<Frame>) {
    let disk = SimDisk::new(1, 1 << 30);
    found(&disk);
    let mut node = Node::start(1, &disk);
    node.create(LOG);
    node.run().unwrap();
    for at in 0..RECORDS {
        let term = 1 + at / 50;
        node.append(LOG, term, &[(FrameKind::Records, 2, batch(1, 500, at as u8))]);
        node.run().unwrap();
    }
    node.push(Work::Commit { incarnation: ID, commit: LogIndex::new(RECORDS + 1) });
    node.run().unwrap();
    while node.cycle.background_step(&mut Vec::new()).unwrap() {}
    node.idle().unwrap();
    let others = node.model.lock().unwrap()[&LOG].acked.clone();
    (node, others)
}

pub(super) fn path(base: LogIndex) -> String {
    format!("partitions/{LOG:016x}/{:016x}.log", base.get())
}

/// Where frame `index` begins, by what is on the disk.
pub(super) fn place(reader: &LogReader, index: u64) -> (LogIndex, u64) {
    let index = LogIndex::new(index);
    let bases = reader.sealed().into_iter().map(|sealed| sealed.first_index);
    let base = bases.filter(|base| *base <= index).max().unwrap_or(LogIndex::new(1));
    let active = reader.sealed().last().map(|sealed| sealed.next_start.index);
    let base = active.filter(|active| *active <= index).unwrap_or(base);
    let frames = reader.frames(base, index.previous(), LogIndex::ZERO, usize::MAX).unwrap();
    (base, 4096 + frames.iter().map(|frame| frame.header.frame_bytes()).sum::<u64>())
}

fn mend(segment: LogIndex, frames: &[Frame], reopens: bool) -> Work {
    let frames = frames.to_vec();
    let accepts_loss = false;
    Work::Mend(Mend { incarnation: ID, segment, frames, reopens, accepts_loss, wall_ms: 77 })
}

/// Mends until there is an answer that ends it. What is asked for comes two frames at a time.
fn mended_by(
    cycle: &mut CommitCycle,
    segment: LogIndex,
    others: &[Frame],
    reopens: bool,
) -> Result<Done, DiskFailed> {
    let mut work = vec![mend(segment, &[], reopens)];
    let mut asked = None;
    loop {
        let mut done = Vec::new();
        cycle.run(&mut work, &mut done)?;
        while cycle.background_step(&mut done)? {}
        let wanted = done.into_iter().find_map(|answer| match answer {
            Done::MendWants { hole, is_rest, refused, .. } => {
                assert_eq!(refused, None);
                assert_eq!(is_rest, asked.replace(hole.last) == Some(hole.last), "{hole:?}");
                Some(Ok(hole))
            }
            ended @ (Done::Mended { .. } | Done::MendFailed { .. }) => Some(Err(ended)),
            _ => None,
        });
        if let Some(Err(Done::MendFailed { error: MendError::Write(error), .. })) = &wanted
            && let WriteError::Io { operation, message } = error.clone()
        {
            return Err(DiskFailed { operation, message });
        }
        match wanted.expect("an answer") {
            Ok(hole) => work.push(mend(segment, &two_of(others, hole), reopens)),
            Err(ended) => return Ok(ended),
        }
    }
}

fn two_of(others: &[Frame], hole: Hole) -> Vec<Frame> {
    let known = others.iter().find(|frame| frame.index == hole.known).expect("it is there");
    assert_eq!(known.term, hole.term, "who has that entry has those before it");
    let wanted = others.iter().filter(|frame| (hole.first..=hole.last).contains(&frame.index));
    wanted.take(2).cloned().collect()
}

fn check_same(reader: &LogReader, others: &[Frame]) {
    let found = all_frames(reader);
    assert_eq!(found.len(), others.len());
    for (found, wanted) in found.iter().zip(others) {
        assert_eq!(found.header.index, wanted.index);
        assert_eq!(found.header.term, wanted.term);
        assert_eq!(found.payload, wanted.stamped_payload());
    }
    let falls =
        found.windows(2).any(|two| two[0].header.flush_sequence > two[1].header.flush_sequence);
    assert!(!falls, "a flush sequence fell");
}

/// What is in quarantine.
fn kept(disk: &SimDisk) -> Vec<String> {
    disk.contents().into_keys().filter(|path| path.starts_with("quarantine/")).collect()
}

fn frames_mended(done: &Done) -> u64 {
    match done {
        Done::Mended { frames, .. } => *frames,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_flipped_bit_is_mended_while_the_log_is_read_and_written() {
    for index in [2, 40, 41, RECORDS - 3] {
        let (mut node, mut others) = node();
        let reader = node.readers[&LOG].clone();
        let (segment, position) = place(&reader, index);
        let before = node.disk.contents()[&path(segment)].clone();
        node.disk.flip_bit(&path(segment), position + 80, 3).unwrap();
        let lent = reader.read(Offset::ZERO, Offset::new(4), 10, true).unwrap();
        let answer = mended_by(&mut node.cycle, segment, &others, false).unwrap();
        assert_eq!(frames_mended(&answer), 1);
        check_same(&reader, &others);
        assert_eq!(kept(&node.disk).len(), 1);
        assert_eq!(lent.batches.len(), 1, "what was lent lives on");
        let after = node.disk.contents()[&path(segment)].clone();
        // The last flush sequence and the header CRC of one frame, at most.
        let differences = before.iter().zip(&after).filter(|(one, other)| one != other).count();
        assert!(differences <= 12, "{differences} bytes differ");
        node.append(LOG, 4, &[(FrameKind::Records, 1, batch(1, 500, 200))]);
        node.run().unwrap();
        others.push(node.model.lock().unwrap()[&LOG].acked.last().unwrap().clone());
        let opened = open(&node.disk.kill()).unwrap();
        assert!(opened.report.corrupt.is_empty());
        check_same(&opened.logs[0].reader, &others);
    }
}

#[test]
fn a_sector_that_cannot_be_read_costs_the_frames_in_it() {
    let (mut node, others) = node();
    let reader = node.readers[&LOG].clone();
    let (segment, position) = place(&reader, 60);
    node.disk.damage_sector(&path(segment), position + 10).unwrap();
    let answer = mended_by(&mut node.cycle, segment, &others, false).unwrap();
    assert!((1..=3).contains(&frames_mended(&answer)), "{answer:?}");
    check_same(&reader, &others);
}

#[test]
fn damage_that_was_in_memory_alone_is_mended_without_others() {
    let (mut node, others) = node();
    let (segment, _) = place(&node.readers[&LOG], 60);
    let answer = mended_by(&mut node.cycle, segment, &[], false).unwrap();
    assert_eq!(frames_mended(&answer), 0);
    check_same(&node.readers[&LOG], &others);
}

/// A directory that was closed by a crash, and then lost something.
pub(super) fn damaged(damage: impl FnOnce(&SimDisk, &LogReader)) -> (SimDisk, Vec<Frame>) {
    let (node, others) = node();
    let disk = node.disk.kill();
    damage(&disk, &node.readers[&LOG]);
    (disk, others)
}

fn only(opened: &mut Opened) -> RecoveredLog {
    opened.logs.remove(0)
}

/// Mends what a start finds until there is nothing, and returns how many frames that took.
fn mend_all(opened: &mut Opened, others: &[Frame]) -> u64 {
    let (log, frames) = try_to_mend_all(opened, others).unwrap();
    assert_eq!(log.last_index, LogIndex::new(RECORDS + 1));
    assert_eq!(log.hard_state.commit, LogIndex::new(RECORDS + 1));
    check_same(&log.reader, others);
    frames
}

fn try_to_mend_all(
    opened: &mut Opened,
    others: &[Frame],
) -> Result<(RecoveredLog, u64), DiskFailed> {
    let mut log = only(opened);
    let mut frames = 0;
    while log.corrupt.is_some() {
        let segment = log.mendable.expect("it can be mended");
        let answer = mended_by(&mut opened.cycle, segment, others, true)?;
        frames += frames_mended(&answer);
        let Done::Mended { log: Some(again), .. } = answer else { panic!("{answer:?}") };
        log = *again;
    }
    Ok((log, frames))
}

#[test]
fn a_deleted_segment_comes_back_from_others() {
    let (disk, others) = damaged(|disk, reader| {
        let (segment, _) = place(reader, 60);
        disk.unlink(&path(segment)).unwrap();
    });
    let mut opened = open(&disk).unwrap();
    assert_eq!(opened.report.corrupt.len(), 1);
    let reader = opened.logs[0].reader.clone();
    let hole = reader.read(Offset::new(120), Offset::new(200), 1_000, true);
    assert!(matches!(hole, Err(ReadError::Damaged { .. })), "{hole:?}");
    assert!(mend_all(&mut opened, &others) > 10);
    check_same(&reader, &others);
    // It is written on.
    drop(opened);
    let again = open(&disk.kill()).unwrap();
    assert!(again.report.corrupt.is_empty());
    check_same(&again.logs[0].reader, &others);
}

#[test]
fn the_header_of_a_segment_is_made_anew() {
    for index in [2, 60] {
        let (disk, others) = damaged(|disk, reader| {
            let (segment, _) = place(reader, index);
            disk.flip_bit(&path(segment), 17, 3).unwrap();
        });
        let mut opened = open(&disk).unwrap();
        assert_eq!(opened.report.corrupt.len(), 1, "{index}");
        assert_eq!(mend_all(&mut opened, &others), 0, "all frames were there");
    }
}

#[test]
fn power_fails_at_every_step_of_a_mending() {
    let (disk, others) = damaged(|disk, reader| {
        let (segment, position) = place(reader, 30);
        disk.flip_bit(&path(segment), 17, 3).unwrap();
        disk.damage_sector(&path(segment), position).unwrap();
        let (segment, _) = place(reader, 90);
        disk.unlink(&path(segment)).unwrap();
    });
    let (mut nth, mut cut) = (0, true);
    while cut {
        let disk = disk.fork();
        let mut opened = open(&disk).unwrap();
        disk.cut_power_at(nth);
        cut = try_to_mend_all(&mut opened, &others).is_err();
        drop(opened);
        for crashed in [disk.crash(nth), disk.kill()] {
            let mut opened = open(&crashed).unwrap();
            if let Some(log) = opened.logs.first().filter(|log| log.corrupt.is_some()) {
                assert!(log.mendable.is_some(), "step {nth}: {:?}", log.corrupt);
            }
            mend_all(&mut opened, &others);
        }
        nth += 1;
    }
    assert!(nth > 40, "{nth} steps");
}

#[test]
fn a_running_mending_survives_power_cuts_too() {
    let (node, others) = node();
    let disk = node.disk.kill();
    let (segment, position) = place(&node.readers[&LOG], 30);
    disk.flip_bit(&path(segment), position + 70, 1).unwrap();
    let (mut nth, mut cut) = (0, true);
    while cut {
        let disk = disk.fork();
        let mut opened = open(&disk).unwrap();
        assert!(opened.report.corrupt.is_empty(), "below the mark nobody has looked");
        disk.cut_power_at(nth);
        cut = mended_by(&mut opened.cycle, segment, &others, true).is_err();
        drop(opened);
        let mut opened = open(&disk.crash(nth)).unwrap();
        let answer = mended_by(&mut opened.cycle, segment, &others, true).unwrap();
        let Done::Mended { log: Some(log), .. } = answer else { panic!("{answer:?}") };
        check_same(&log.reader, &others);
        nth += 1;
    }
    assert!(nth > 8, "{nth} steps");
}

#[test]
fn a_mending_that_rests_holds_up_nothing_else() {
    let (mut node, _) = node();
    let (segment, position) = place(&node.readers[&LOG], 60);
    node.disk.flip_bit(&path(segment), position + 70, 1).unwrap();
    let (applied, state) = (LogIndex::new(RECORDS), Bytes::from_static(b"state"));
    let store = Work::StoreState { incarnation: ID, applied, state };
    let mut done = Vec::new();
    node.cycle.run(&mut vec![mend(segment, &[], false), store], &mut done).unwrap();
    done.clear();
    while node.cycle.background_step_beside_mending(&mut done).unwrap() {}
    assert!(matches!(done[..], [Done::StateStored { .. }]), "{done:?}");
    assert!(node.cycle.is_mending());
    while node.cycle.background_step(&mut done).unwrap() {}
    assert!(matches!(done[1..], [Done::MendWants { .. }]), "{done:?}");
    assert!(!node.cycle.is_mending(), "it waits for frames");
}

#[test]
fn frames_that_do_not_fit_both_sides_are_refused() {
    let (mut node, others) = node();
    let (segment, position) = place(&node.readers[&LOG], 60);
    node.disk.flip_bit(&path(segment), position + 70, 1).unwrap();
    let mut done = Vec::new();
    node.cycle.run(&mut vec![mend(segment, &[], false)], &mut done).unwrap();
    while node.cycle.background_step(&mut done).unwrap() {}
    let right = others.iter().find(|frame| frame.index.get() == 60).unwrap().clone();
    let other_bytes = Frame::new(
        right.kind,
        (right.term, right.index),
        right.base_offset,
        right.record_count,
        batch(1, 500, 99),
    );
    let other_term = Frame { term: Term::new(1), ..right.clone() };
    let other_offset = Frame { base_offset: Offset::new(3), ..right.clone() };
    let other_count = Frame { record_count: 3, ..right.clone() };
    let damaged = Frame { payload_crc: 1, ..right.clone() };
    for wrong in [other_bytes, other_term, other_offset, other_count, damaged] {
        done.clear();
        let wrong = [wrong];
        node.cycle.run(&mut vec![mend(segment, &wrong, false)], &mut done).unwrap();
        let [Done::MendWants { hole, refused: Some(_), .. }] = &done[..] else {
            panic!("{wrong:?}: {done:?}")
        };
        assert_eq!((hole.first.get(), hole.last.get()), (60, 60));
    }
    done.clear();
    node.cycle.run(&mut vec![mend(segment, &[right], false)], &mut done).unwrap();
    while node.cycle.background_step(&mut done).unwrap() {}
    assert_eq!(frames_mended(&done[0]), 1);
    check_same(&node.readers[&LOG], &others);
}

#[test]
fn a_hole_at_the_end_and_one_that_is_not_committed_are_not_mended() {
    let (mut node, others) = node();
    node.append(LOG, 4, &[(FrameKind::Records, 1, batch(1, 500, 1))]);
    node.append(LOG, 4, &[(FrameKind::Records, 1, batch(1, 500, 2))]);
    node.run().unwrap();
    let (segment, position) = place(&node.readers[&LOG], RECORDS + 2);
    node.disk.flip_bit(&path(segment), position + 70, 1).unwrap();
    let answer = mended_by(&mut node.cycle, segment, &others, false).unwrap();
    let Done::MendFailed { error: MendError::Uncommitted { first, commit, .. }, .. } = answer
    else {
        panic!("{answer:?}")
    };
    assert_eq!((first.get(), commit.get()), (RECORDS + 2, RECORDS + 1));
    node.disk.flip_bit(&path(segment), position + 564 + 70, 1).unwrap();
    let answer = mended_by(&mut node.cycle, segment, &others, false).unwrap();
    assert!(
        matches!(answer, Done::MendFailed { error: MendError::Unmendable { .. }, .. }),
        "{answer:?}"
    );
    let opened = open(&node.disk.kill()).unwrap();
    assert!(opened.logs.iter().all(|log| log.mendable.is_none()), "nobody knows what was there");
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was_and_the_mending_begins_again() {
    let mut failures = 0;
    for nth in 0..40 {
        let (mut node, others) = node();
        let (segment, position) = place(&node.readers[&LOG], 60);
        node.disk.flip_bit(&path(segment), position + 70, 1).unwrap();
        node.disk.inject(nth, Fault::NoSpace);
        let answer = mended_by(&mut node.cycle, segment, &others, false).unwrap();
        if let Done::MendFailed { error, .. } = &answer {
            assert_eq!(*error, MendError::Write(WriteError::NoSpace));
            failures += 1;
            let answer = mended_by(&mut node.cycle, segment, &others, false).unwrap();
            assert_eq!(frames_mended(&answer), 1);
        }
        check_same(&node.readers[&LOG], &others);
    }
    assert!(failures > 2, "{failures}");
}

#[test]
fn an_active_segment_is_mended_under_appends_and_truncations() {
    let (mut node, _) = node();
    let reader = node.readers[&LOG].clone();
    let (segment, position) = place(&reader, RECORDS - 3);
    node.disk.flip_bit(&path(segment), position + 70, 1).unwrap();
    node.append(LOG, 4, &[(FrameKind::Records, 1, batch(1, 300, 7))]);
    node.run().unwrap();
    let mut done = Vec::new();
    node.cycle.run(&mut vec![mend(segment, &[], false)], &mut done).unwrap();
    while node.cycle.background_step(&mut done).unwrap() {}
    // What was copied is dropped meanwhile, and others append something else.
    let last = LogIndex::new(RECORDS + 2);
    node.persist(LOG, 5, None, Some(last), &[(FrameKind::Records, 1, batch(1, 300, 8))]);
    node.run().unwrap();
    let others = node.model.lock().unwrap()[&LOG].acked.clone();
    let answer = loop {
        while node.cycle.background_step(&mut done).unwrap() {}
        match done.pop().expect("an answer") {
            Done::MendWants { hole, .. } => {
                done.clear();
                let mut work = vec![mend(segment, &two_of(&others, hole), false)];
                node.cycle.run(&mut work, &mut done).unwrap();
            }
            answer => break answer,
        }
    };
    assert_eq!(frames_mended(&answer), 1);
    check_same(&reader, &others);
    node.append(LOG, 5, &[(FrameKind::Records, 1, batch(1, 300, 9))]);
    node.run().unwrap();
    node.check_readable();
    let opened = open(&node.disk.kill()).unwrap();
    assert!(opened.report.corrupt.is_empty());
}

#[test]
fn the_quarantine_is_emptied_of_what_is_old_and_not_lent() {
    let (mut node, others) = node();
    let reader = node.readers[&LOG].clone();
    let (segment, position) = place(&reader, 60);
    let lent = reader.read(Offset::new(100), Offset::new(240), 10, true).unwrap();
    node.disk.flip_bit(&path(segment), position + 70, 1).unwrap();
    mended_by(&mut node.cycle, segment, &others, false).unwrap();
    let empty = |node: &mut Node, before_wall_ms: u64| {
        node.push(Work::EmptyQuarantine { before_wall_ms });
        node.run().unwrap();
        node.background().unwrap();
        kept(&node.disk).len()
    };
    assert_eq!(empty(&mut node, 77), 1, "it is not old enough");
    assert_eq!(empty(&mut node, 78), 1, "somebody has bytes of it");
    drop(lent);
    assert_eq!(empty(&mut node, 78), 0);
    let contents: BTreeMap<String, Vec<u8>> = node.disk.contents();
    assert!(contents.contains_key(&path(segment)));
}

/// Reads all of a log in slices, and returns where it met damage.
fn scrub(reader: &LogReader) -> Vec<LogIndex> {
    let (mut place, mut damaged, mut bytes) = (ScrubPlace::default(), Vec::new(), 0);
    loop {
        let slice = reader.scrub(&mut place, 3_000);
        bytes += slice.bytes;
        damaged.extend(slice.damaged);
        if slice.is_complete {
            assert!(!damaged.is_empty() || bytes == reader.size_bytes(), "all of it is read");
            return damaged;
        }
    }
}

#[test]
fn a_scrub_meets_what_nobody_has_read_and_tells_of_it() {
    let (mut node, others) = node();
    let reader = node.readers[&LOG].clone();
    assert!(scrub(&reader).is_empty());
    let (one, position) = place(&reader, 30);
    node.disk.flip_bit(&path(one), position + 100, 1).unwrap();
    let (active, position) = place(&reader, RECORDS - 2);
    node.disk.damage_sector(&path(active), position + 10).unwrap();
    assert_eq!(scrub(&reader), [one, active]);
    let mut done = Vec::new();
    node.cycle.check_space(&mut done).unwrap();
    let told = done.iter().map(|done| match done {
        Done::Damaged { incarnation: ID, segment } => *segment,
        other => panic!("{other:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>(), [one, active]);
    for segment in [one, active] {
        let answer = mended_by(&mut node.cycle, segment, &others, false).unwrap();
        assert!(frames_mended(&answer) > 0);
    }
    assert!(scrub(&reader).is_empty());
    check_same(&reader, &others);
}

#[test]
fn what_the_medium_cannot_give_a_follower_is_an_error_and_is_told() {
    let (node, others) = node();
    let (segment, position) = place(&node.readers[&LOG], 60);
    node.disk.damage_sector(&path(segment), position + 10).unwrap();
    // A sector has the ends of a few frames before.
    let [first, before, at] = [1, 55, 60].map(LogIndex::new);
    let reader = &node.readers[&LOG];
    let frames = reader.frames(first, before, before, usize::MAX).unwrap();
    assert_eq!(frames.len(), others.iter().filter(|frame| frame.index <= before).count());
    let error = reader.frames(first, at, at, usize::MAX).unwrap_err();
    let ReadError::Damaged { segment: damaged, message, .. } = error else { panic!("{error}") };
    assert_eq!(damaged, segment);
    assert!(message.contains("unreadable"), "{message}");
}

#[test]
fn a_medium_that_gives_nothing_is_asked_again_later() {
    let (mut node, others) = node();
    let (segment, _) = place(&node.readers[&LOG], 60);
    let bytes = node.disk.contents()[&path(segment)].len() as u64;
    for sector in 0..bytes.div_ceil(512) {
        node.disk.damage_sector(&path(segment), sector * 512).unwrap();
    }
    let ended = mended_by(&mut node.cycle, segment, &others, false);
    let Err(DiskFailed { message, .. }) = ended else { panic!("{ended:?}") };
    assert!(message.contains("unreadable"), "{message}");
}
