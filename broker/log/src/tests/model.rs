//! A random workload, and the log against a plain vector of frames.

use super::harness::{LogModel, Node, batch, found, options};
use crate::sim_disk::{SimDisk, SimRandom};
use crate::{DiskFailed, HardState, Install, LogReader, LogStart, Work};
use bateau_protocol::frame::FrameKind;
use bateau_protocol::ids::{Incarnation, LogIndex, Offset, ReplicaId, Term};
use bytes::Bytes;

fn random_frame(random: &mut SimRandom) -> (FrameKind, u32, Bytes) {
    let fill = random.below(256) as u8;
    match random.below(10) {
        0 => (FrameKind::Noop, 0, Bytes::new()),
        1 => (FrameKind::Command, 0, vec![fill; random.below(300) as usize].into()),
        2 if random.chance(10) => {
            (FrameKind::Records, 9, batch(random.below(1000) as i64, 30_000, fill))
        }
        _ => {
            let bytes = random.below(2500) as usize;
            (
                FrameKind::Records,
                1 + random.below(5) as u32,
                batch(random.below(1000) as i64, bytes, fill),
            )
        }
    }
}

/// One random request for one of the node's logs.
pub(super) fn random_request(node: &mut Node) {
    let known: Vec<u64> = {
        let model = node.model.lock().unwrap();
        let is_ready = |log: &LogModel| log.created && !log.deleting && log.installing.is_none();
        model.iter().filter(|(_, log)| is_ready(log)).map(|(id, _)| *id).collect()
    };
    let total = node.model.lock().unwrap().len() as u64;
    if known.is_empty() || (total < 4 && node.random.chance(5)) {
        if total < 6 {
            node.next_log += 1;
            node.create(node.next_log);
        }
        return;
    }
    let id = known[node.random.below(known.len() as u64) as usize];
    let incarnation = Incarnation::new(id);
    match node.random.below(20) {
        0 => node.push(Work::Roll { incarnation }),
        1 | 2 => commit(node, id),
        3 => store_state(node, id),
        4 => trim(node, id),
        5 => truncate(node, id),
        6 => vote(node, id),
        8 if node.random.chance(40) => install(node, id),
        7 if total >= 3 && node.random.chance(10) => {
            node.model.lock().unwrap().get_mut(&id).unwrap().deleting = true;
            node.push(Work::Delete { incarnation, wall_ms: 77 });
        }
        _ => {
            let term = current_term(node, id);
            let frames: Vec<_> =
                (0..=node.random.below(4)).map(|_| random_frame(&mut node.random)).collect();
            node.append(id, term, &frames);
        }
    }
}

fn current_term(node: &Node, id: u64) -> u64 {
    let model = node.model.lock().unwrap();
    let log = &model[&id];
    let states = log.pending_hard_states.last().unwrap_or(&log.hard_state).term;
    log.frames().last().map_or(states, |last| last.term.max(states)).get()
}

fn commit(node: &mut Node, id: u64) {
    let mut model = node.model.lock().unwrap();
    let log = model.get_mut(&id).unwrap();
    if !log.pending.is_empty() {
        return;
    }
    let commit = log.last().get() - node.random.below(4).min(log.last().get() - 1);
    log.hard_state.commit = log.hard_state.commit.max(LogIndex::new(commit));
    let commit = log.hard_state.commit;
    drop(model);
    node.push(Work::Commit { incarnation: Incarnation::new(id), commit });
}

fn vote(node: &mut Node, id: u64) {
    let term = current_term(node, id) + node.random.below(2);
    let before = {
        let model = node.model.lock().unwrap();
        *model[&id].pending_hard_states.last().unwrap_or(&model[&id].hard_state)
    };
    let vote = Some(ReplicaId::new(1 + node.random.below(3)));
    let hard_state = HardState { term: Term::new(term), vote, ..before };
    node.persist(id, term, Some(hard_state), None, &[]);
}

fn truncate(node: &mut Node, id: u64) {
    let (commit, frames) = {
        let model = node.model.lock().unwrap();
        (model[&id].hard_state.commit.get().max(1), model[&id].frames().len() as u64)
    };
    // A truncation is the first request of its cycle here: the model stays a simple one.
    let quiet = node.model.lock().unwrap()[&id].pending.is_empty();
    if frames <= commit || !quiet {
        return;
    }
    let from = commit + 1 + node.random.below(frames - commit);
    let term = current_term(node, id) + 1;
    let hard_state = {
        let model = node.model.lock().unwrap();
        HardState { term: Term::new(term), vote: None, ..model[&id].hard_state }
    };
    let frames: Vec<_> =
        (0..node.random.below(4)).map(|_| random_frame(&mut node.random)).collect();
    node.persist(id, term, Some(hard_state), Some(LogIndex::new(from)), &frames);
}

fn store_state(node: &mut Node, id: u64) {
    let mut model = node.model.lock().unwrap();
    let log = model.get_mut(&id).unwrap();
    let applied = log.hard_state.commit.min(log.last());
    if log.state.as_ref().is_some_and(|(before, _)| *before >= applied)
        || !log.pending_states.is_empty()
    {
        return;
    }
    let state = Bytes::from(format!("state of {id} at {applied}"));
    log.pending_states.push((applied, state.clone()));
    drop(model);
    node.push(Work::StoreState { incarnation: Incarnation::new(id), applied, state });
}

fn trim(node: &mut Node, id: u64) {
    let mut model = node.model.lock().unwrap();
    let log = model.get_mut(&id).unwrap();
    let commit = log.hard_state.commit.min(log.last()).get();
    let before = log.start.map_or(1, |start| start.index.get());
    if commit <= before + 1 || log.pending_start.is_some() {
        return;
    }
    let index = before + 1 + node.random.below(commit - before);
    drop(model);
    trim_to(node, id, index);
}

fn trim_to(node: &mut Node, id: u64, index: u64) {
    let mut model = node.model.lock().unwrap();
    let log = model.get_mut(&id).unwrap();
    let first = &log.acked[index as usize - 2];
    let Ok(start) = node.readers[&id].start_at(first.next_coordinates().1) else { return };
    // The exact values for this index, wherever its offset also is.
    let mut start = LogStart { index: LogIndex::new(index), ..start };
    start.term = first.term;
    start.offset = first.next_coordinates().1;
    let frames = node.readers[&id].frames(
        LogIndex::new(index - 1),
        LogIndex::new(index - 1),
        LogIndex::ZERO,
        0,
    );
    let Ok(frames) = frames else { return };
    start.chain_crc = frames[0].header.chain_crc();
    log.pending_start = Some(start);
    drop(model);
    node.push(Work::Trim { incarnation: Incarnation::new(id), start });
}

/// A snapshot of a log that is far ahead of this one, or a little.
fn install(node: &mut Node, id: u64) {
    let term = current_term(node, id) + node.random.below(2);
    let mut model = node.model.lock().unwrap();
    let log = model.get_mut(&id).unwrap();
    let is_quiet = log.pending.is_empty()
        && log.pending_states.is_empty()
        && log.pending_start.is_none()
        && log.pending_hard_states.is_empty();
    if !is_quiet {
        return;
    }
    // Uncommitted entries may reach beyond the snapshot: they are not the leader's.
    let index = log.hard_state.commit.get() + 1 + node.random.below(20);
    let applied = LogIndex::new(index + node.random.below(3) * 4);
    let end = log.acked.last().unwrap().next_coordinates().1;
    let request = Install {
        incarnation: Incarnation::new(id),
        hard_state: HardState {
            term: Term::new(term),
            vote: log.hard_state.vote.filter(|_| term == log.hard_state.term.get()),
            commit: LogIndex::new(index),
        },
        start: LogStart {
            offset: Offset::new(end.get() + node.random.below(100)),
            index: LogIndex::new(index + 1),
            term: Term::new(term),
            chain_crc: 77,
        },
        applied,
        state: Bytes::from(format!("snapshot of {id} at {applied}")),
    };
    log.installing = Some(request.clone());
    drop(model);
    node.push(Work::Install(Box::new(request)));
}

/// Fills some segments of a log. Returns which; none where there is no log to be had.
pub(super) fn fill(node: &mut Node) -> Option<u64> {
    let is_ready = |log: &LogModel| log.created && !log.deleting;
    let known = |node: &Node| {
        let model = node.model.lock().unwrap();
        model.iter().find(|(_, log)| is_ready(log)).map(|(id, _)| *id)
    };
    if known(node).is_none() {
        node.next_log += 1;
        node.create(node.next_log);
        node.run().unwrap();
    }
    let id = known(node)?;
    for _ in 0..5 + node.random.below(8) {
        append_some(node, id, 9_000);
        node.run().unwrap();
    }
    node.background().unwrap();
    Some(id)
}

/// Appends frames of about so many bytes together, of all sizes.
pub(super) fn append_some(node: &mut Node, id: u64, bytes: u64) {
    let term = current_term(node, id);
    let mut frames = Vec::new();
    let mut left = bytes;
    while left > 0 {
        let now = (61 + node.random.below(4_000)).min(left.max(61));
        left = left.saturating_sub(now + 64);
        let fill = node.random.below(256) as u8;
        frames.push((FrameKind::Records, 1, batch(7, now as usize, fill)));
    }
    node.append(id, term, &frames);
}

/// Drops most of what is in a log: from its end, as a conflict does, or from its beginning. The
/// files then wait to be used again.
pub(super) fn drop_most(node: &mut Node, id: u64) -> Result<(), DiskFailed> {
    if node.random.chance(50) {
        truncate(node, id);
        node.run()?;
    } else {
        drop_front(node, id)?;
    }
    node.background()
}

/// Commits everything, stores a state of it and trims all but the last frame.
pub(super) fn drop_front(node: &mut Node, id: u64) -> Result<(), DiskFailed> {
    let last = {
        let mut model = node.model.lock().unwrap();
        let log = model.get_mut(&id).unwrap();
        log.hard_state.commit = log.last();
        log.last()
    };
    node.push(Work::Commit { incarnation: Incarnation::new(id), commit: last });
    node.run()?;
    store_state(node, id);
    node.run()?;
    node.background()?;
    let before = node.model.lock().unwrap()[&id].start.map_or(1, |start| start.index.get());
    if last.get() > before + 1 {
        trim_to(node, id, last.get());
        node.run()?;
    }
    node.background()
}

/// One turn: some requests, a cycle, and now and then what follows a cycle.
pub(super) fn turn(node: &mut Node) -> Result<(), DiskFailed> {
    for _ in 0..=node.random.below(3) {
        random_request(node);
    }
    node.run()?;
    if node.random.chance(50) {
        node.background()?;
    }
    if node.random.chance(20) {
        node.idle()?;
    }
    Ok(())
}

#[test]
fn the_log_agrees_with_a_plain_vector_of_frames() {
    for seed in 0..60 {
        let disk = SimDisk::new(seed, 1 << 30);
        found(&disk);
        let mut node = Node::start(seed, &disk);
        for at in 0..60 {
            turn(&mut node).unwrap();
            if at % 10 == 9 {
                node.check_readable();
            }
        }
    }
}

fn record_node() -> (Node, LogReader) {
    let disk = SimDisk::new(1, 1 << 30);
    found(&disk);
    let mut node = Node::start(1, &disk);
    node.create(5);
    node.run().unwrap();
    let reader = node.readers[&5].clone();
    (node, reader)
}

#[test]
fn a_read_in_the_middle_of_a_batch_gets_the_whole_batch() {
    let (mut node, reader) = record_node();
    node.append(5, 1, &[(FrameKind::Records, 10, batch(1, 100, 1))]);
    node.append(5, 1, &[(FrameKind::Noop, 0, Bytes::new())]);
    node.append(5, 1, &[(FrameKind::Records, 10, batch(2, 200, 2))]);
    node.run().unwrap();
    let range = reader.read(Offset::new(7), Offset::new(20), 1000, true).unwrap();
    assert_eq!(range.batches.iter().map(Bytes::len).collect::<Vec<_>>(), [100, 200]);
    assert_eq!(range.next_offset, Offset::new(20));
    let range = reader.read(Offset::new(7), Offset::new(10), 1000, true).unwrap();
    assert_eq!(range.batches.len(), 1, "nothing above the high watermark");
    let range = reader.read(Offset::new(10), Offset::new(20), 50, false).unwrap();
    assert!(range.batches.is_empty(), "a first batch that may not exceed the limit");
    let range = reader.read(Offset::new(20), Offset::new(20), 50, true).unwrap();
    assert!(range.batches.is_empty());
    assert!(reader.read(Offset::new(21), Offset::new(20), 50, true).is_err());
}

#[test]
fn timestamps_are_found_through_segments_and_a_lying_header_is_passed() {
    let (mut node, reader) = record_node();
    for at in 0..200_i64 {
        let timestamp = if at == 50 { 10_000 } else { at };
        node.append(5, 1, &[(FrameKind::Records, 1, batch(timestamp, 700, 3))]);
        node.run().unwrap();
    }
    assert!(reader.sealed().len() > 3);
    let end = Offset::new(200);
    let find = |timestamp, from| {
        reader
            .locate_timestamp(timestamp, Offset::new(from), end)
            .unwrap()
            .map(|found| (found.base_offset.get(), found.timestamp_max))
    };
    assert_eq!(find(0, 0), Some((0, 0)));
    assert_eq!(find(33, 0), Some((33, 33)));
    assert_eq!(find(60, 0), Some((50, 10_000)), "the first that claims to be late enough");
    assert_eq!(find(60, 51), Some((60, 60)), "and on, when it lied");
    assert_eq!(find(199, 51), Some((199, 199)));
    assert_eq!(find(20_000, 0), None);
    let max = reader.max_timestamp(end).unwrap().unwrap();
    assert_eq!((max.base_offset, max.timestamp_max), (Offset::new(50), 10_000));
    let max = reader.max_timestamp(Offset::new(40)).unwrap().unwrap();
    assert_eq!((max.base_offset, max.timestamp_max), (Offset::new(39), 39));
    assert!(reader.locate_timestamp(0, end, end).unwrap().is_none());
}

#[test]
fn sealed_segments_say_what_a_trim_behind_them_is() {
    let (mut node, reader) = record_node();
    for at in 0..120_i64 {
        node.append(5, 1, &[(FrameKind::Records, 2, batch(at, 700, 3))]);
        node.run().unwrap();
    }
    node.background().unwrap();
    let sealed = reader.sealed();
    assert!(sealed.len() > 2);
    for segment in &sealed {
        let at = reader.start_at(segment.next_start.offset).unwrap();
        assert_eq!(at, segment.next_start);
        assert!(segment.bytes > 10_000 && segment.timestamp_max.is_some());
    }
    let (incarnation, start) = (Incarnation::new(5), sealed[1].next_start);
    let size = reader.size_bytes();
    node.push(Work::Trim { incarnation, start });
    node.model.lock().unwrap().get_mut(&5).unwrap().pending_start = Some(start);
    node.run().unwrap();
    node.background().unwrap();
    assert_eq!(reader.sealed().len(), sealed.len(), "no state file, no removal");
    assert_eq!(reader.bounds().start, start);
    let held = reader.read(start.offset, Offset::new(240), 5000, true).unwrap();
    let lost = reader.read(Offset::new(0), Offset::new(240), 5000, true);
    assert!(matches!(lost, Err(crate::ReadError::OutOfRange { .. })));
    let applied = start.index;
    let state = Bytes::from_static(b"state");
    let mut model = node.model.lock().unwrap();
    model.get_mut(&5).unwrap().pending_states.push((applied, state.clone()));
    drop(model);
    node.push(Work::StoreState { incarnation, applied, state });
    node.run().unwrap();
    node.background().unwrap();
    assert_eq!(reader.sealed().len(), sealed.len() - 2);
    assert!(reader.size_bytes() < size);
    drop(held);
    assert_eq!(options().log.segment_bytes, 20 * 1024);
}

#[test]
fn a_reader_that_holds_lent_bytes_over_a_trim_finishes_unharmed() {
    let (mut node, reader) = record_node();
    for at in 0..120_u8 {
        node.append(5, 1, &[(FrameKind::Records, 1, batch(1, 700, at))]);
        node.run().unwrap();
    }
    let lent = reader.read(Offset::new(0), Offset::new(120), 2000, true).unwrap();
    let sealed = reader.sealed();
    let (incarnation, start) = (Incarnation::new(5), sealed[1].next_start);
    let applied = start.index;
    let state = Bytes::from_static(b"state");
    node.model.lock().unwrap().get_mut(&5).unwrap().pending_states.push((applied, state.clone()));
    node.push(Work::StoreState { incarnation, applied, state });
    node.push(Work::Trim { incarnation, start });
    node.run().unwrap();
    node.background().unwrap();
    let removed =
        |node: &Node| node.disk.contents().keys().filter(|path| path.ends_with(".del")).count();
    // The simulated disk panics where a file is shortened under lent bytes.
    assert_eq!(removed(&node), 1, "the lent segment waits");
    assert_eq!(lent.batches[1][16], 1);
    drop(lent);
    node.background().unwrap();
    assert_eq!(removed(&node), 0);
}
