//! Disks that break: flipped bits, full disks, failing calls.

use super::harness::{Model, Node, adopt, batch, check_crashed, found, identity, open, options};
use super::model::turn;
use crate::sim_disk::{Fault, SimDisk};
use crate::{
    CorruptRange, Create, DataDir, Disk, DiskFailed, Done, HardState, LogOptions, OpenError,
    Opened, Persist, ReadError, Work, WriteError,
};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use bytes::Bytes;
use std::sync::Arc;

const LOG: u64 = 9;
const ID: Incarnation = Incarnation::new(LOG);
const PATH: &str = "partitions/0000000000000009/0000000000000001.log";

/// A directory with one log of `count` record frames, each acked by a flush of its own.
fn filled(count: u64) -> Node {
    let disk = SimDisk::new(1, 1 << 30);
    found(&disk);
    let mut node = Node::start(1, &disk);
    node.create(LOG);
    node.run().unwrap();
    for at in 0..count {
        node.append(LOG, 1, &[(FrameKind::Records, 1, batch(1, 200, at as u8))]);
        node.run().unwrap();
    }
    node
}

/// Where frame number `at` of such a log begins: behind the header and frame 1.
fn position(at: u64) -> u64 {
    4096 + 64 + 6 + at * 264
}

fn corrupt(opened: &Opened) -> &CorruptRange {
    opened.logs[0].corrupt.as_ref().expect("a corrupt range")
}

#[test]
fn a_torn_tail_is_truncated_and_counted() {
    let node = filled(5);
    let disk = node.disk.kill();
    // The frame of the very last flush, before anything said that it had returned.
    disk.flip_bit(PATH, position(4) + 100, 3).unwrap();
    let opened = open(&disk).unwrap();
    assert!(opened.report.corrupt.is_empty());
    assert_eq!(opened.report.torn.len(), 1);
    let torn = opened.report.torn[0];
    assert_eq!((torn.first_index, torn.frames, torn.bytes), (LogIndex::new(6), 1, 264));
    assert_eq!(opened.logs[0].last_index, LogIndex::new(5));
}

#[test]
fn a_flipped_bit_below_a_later_flush_is_corruption_and_is_never_truncated() {
    let node = filled(8);
    let disk = node.disk.kill();
    disk.flip_bit(PATH, position(3) + 100, 3).unwrap();
    let before = disk.contents()[PATH].clone();
    for _ in 0..3 {
        let opened = open(&disk).unwrap();
        let range = corrupt(&opened);
        assert_eq!(range.first_index, LogIndex::new(5));
        assert!(range.last_index >= LogIndex::new(7), "proven by older flushes");
        assert_eq!((range.first_offset, range.position), (Offset::new(3), position(3)));
        assert_eq!(opened.report.corrupt.len(), 1);
        assert!(opened.report.torn.is_empty());
        let reader = &opened.logs[0].reader;
        let range = reader.read(Offset::new(0), Offset::new(3), 10_000, true).unwrap();
        assert_eq!(range.batches.len(), 3, "the prefix is served");
        let hole = reader.read(Offset::new(3), Offset::new(8), 10_000, true);
        assert!(matches!(hole, Err(ReadError::Damaged { .. })), "the hole is an error: {hole:?}");
        assert_eq!(disk.contents()[PATH], before, "and nothing is written");
    }
    let kept = disk.contents().keys().filter(|path| path.starts_with("quarantine/")).count();
    assert_eq!(kept, 1);
}

#[test]
fn a_segment_that_is_cut_short_is_no_torn_tail_though_the_load_never_pauses() {
    let mut node = filled(20);
    node.cycle.check_space(&mut Vec::new()).unwrap();
    node.background().unwrap();
    let disk = node.disk.kill();
    disk.open(PATH).unwrap().set_bytes(position(3)).unwrap();
    let opened = open(&disk).unwrap();
    let range = corrupt(&opened);
    assert_eq!((range.first_index, range.last_index), (LogIndex::new(5), LogIndex::new(21)));
    assert!(opened.report.torn.is_empty());
}

#[test]
fn a_quarantined_log_takes_no_appends_and_can_be_deleted() {
    let node = filled(8);
    let disk = node.disk.kill();
    disk.flip_bit(PATH, position(3), 3).unwrap();
    let mut opened = open(&disk).unwrap();
    let entry = (Term::new(1), LogIndex::new(5));
    let frame = Frame::new(FrameKind::Noop, entry, Offset::new(3), 0, Bytes::new());
    let persist = Persist {
        incarnation: ID,
        ready: 1,
        hard_state: None,
        truncate_from: None,
        frames: vec![frame],
    };
    let mut done = Vec::new();
    opened.cycle.run(&mut vec![Work::Persist(persist)], &mut done).unwrap();
    assert!(matches!(&done[0], Done::PersistFailed { error: WriteError::Quarantined, .. }));
    done.clear();
    let delete = Work::Delete { incarnation: ID, wall_ms: 1 };
    opened.cycle.run(&mut vec![delete], &mut done).unwrap();
    assert!(matches!(&done[0], Done::Deleted { .. }));
    opened.cycle.close().unwrap();
    assert!(open(&disk).unwrap().logs.is_empty());
}

#[test]
fn a_log_that_is_replaced_is_kept_in_quarantine_and_another_one_is_made() {
    let node = filled(8);
    let disk = node.disk.kill();
    disk.flip_bit(PATH, position(3), 3).unwrap();
    let mut opened = open(&disk).unwrap();
    let mut done = Vec::new();
    let quarantine = Work::Quarantine { incarnation: ID, wall_ms: 77 };
    let create = Work::Create(Create {
        incarnation: ID,
        replica: ReplicaId::new(9),
        options: LogOptions::default(),
        hard_state: HardState::default(),
        frames: Vec::new(),
    });
    opened.cycle.run(&mut vec![quarantine, create.clone()], &mut done).unwrap();
    assert!(matches!(&done[..], [Done::CreateFailed { .. }]), "the old one is still there");
    while opened.cycle.background_step(&mut done).unwrap() {}
    done.clear();
    opened.cycle.run(&mut vec![create], &mut done).unwrap();
    assert!(matches!(&done[..], [Done::Created { .. }]), "{done:?}");
    opened.cycle.close().unwrap();
    let kept = format!("quarantine/{:016x}-{:016x}/", ID.get(), 77);
    assert!(disk.contents().keys().any(|path| path.starts_with(&kept)));
    let again = open(&disk).unwrap();
    assert_eq!(again.logs[0].replica, ReplicaId::new(9));
    assert!(again.report.corrupt.is_empty());
}

#[test]
fn a_flipped_bit_below_the_durable_mark_is_caught_when_it_is_read() {
    let mut node = filled(8);
    node.idle().unwrap();
    let disk = node.disk.kill();
    disk.flip_bit(PATH, position(2) + 90, 3).unwrap();
    let opened = open(&disk).unwrap();
    assert!(opened.report.corrupt.is_empty(), "recovery walks behind the mark only");
    assert_eq!(opened.logs[0].last_index, LogIndex::new(9));
    let reader = &opened.logs[0].reader;
    for _ in 0..2 {
        let good = reader.read(Offset::new(0), Offset::new(2), 10_000, true).unwrap();
        assert_eq!(good.batches.len(), 2);
        let bad = reader.read(Offset::new(2), Offset::new(8), 10_000, true);
        let Err(ReadError::Damaged { position: at, .. }) = bad else { panic!("{bad:?}") };
        assert_eq!(at, position(2));
        let good = reader.read(Offset::new(3), Offset::new(8), 10_000, true).unwrap();
        assert_eq!(good.batches.len(), 5);
    }
}

#[test]
fn a_log_that_lost_its_files_is_a_loss_and_not_an_empty_log() {
    let node = filled(3);
    let disk = node.disk.kill();
    crate::disk::Disk::unlink(&disk, PATH).unwrap();
    let opened = open(&disk).unwrap();
    assert_eq!(corrupt(&opened).first_index, LogIndex::new(1));
}

#[test]
fn a_file_cut_short_below_the_durable_mark_is_corruption() {
    let mut node = filled(8);
    node.idle().unwrap();
    let disk = node.disk.kill();
    let file = crate::disk::Disk::open(&disk, PATH).unwrap();
    file.set_bytes(position(5) + 10).unwrap();
    let opened = open(&disk).unwrap();
    let range = corrupt(&opened);
    assert_eq!((range.first_index, range.last_index), (LogIndex::new(7), LogIndex::new(9)));
}

#[test]
fn a_closed_segment_that_is_cut_short_is_corruption() {
    for (is_sealed, bytes) in [(false, 10), (true, 10), (false, 200), (true, 200)] {
        let mut node = filled(120);
        if is_sealed {
            node.background().unwrap();
        }
        node.idle().unwrap();
        let disk = node.disk.kill();
        let logs = disk.contents().keys().filter(|path| path.ends_with(".log")).count();
        assert!(logs > 1, "the first one is closed");
        disk.open(PATH).unwrap().set_bytes(position(20) + bytes).unwrap();
        let opened = open(&disk).unwrap();
        let range = corrupt(&opened);
        assert_eq!(range.first_index, LogIndex::new(22), "{is_sealed}, {bytes}");
        assert_eq!(range.last_index, LogIndex::new(121));
    }
}

#[test]
fn an_unreadable_sector_is_never_truncated() {
    let node = filled(8);
    let disk = node.disk.kill();
    disk.damage_sector(PATH, position(6)).unwrap();
    let opened = open(&disk).unwrap();
    assert!(corrupt(&opened).first_index <= LogIndex::new(8));
}

#[test]
fn flipped_bits_are_never_served_and_never_truncate_what_was_durable() {
    let mut tried = 0;
    for seed in 0..120 {
        let disk = SimDisk::new(seed, 1 << 30);
        found(&disk);
        let mut node = Node::start(seed, &disk);
        for _ in 0..12 {
            turn(&mut node).unwrap();
        }
        // Everything is older than the last two flushes, and there is a durable mark.
        node.idle().unwrap();
        let model = node.model.lock().unwrap().clone();
        for flip in 0..10 {
            let damaged = disk.kill();
            let files: Vec<(String, usize)> = disk
                .contents()
                .into_iter()
                .filter(|(path, bytes)| path.starts_with("partitions/") && !bytes.is_empty())
                .map(|(path, bytes)| (path, bytes.len()))
                .collect();
            if files.is_empty() {
                continue;
            }
            let (path, bytes) = &files[node.random.below(files.len() as u64) as usize];
            let at = node.random.below(*bytes as u64);
            damaged.flip_bit(path, at, flip as u8).unwrap();
            tried += 1;
            let opened = open(&damaged).unwrap();
            for log in &opened.logs {
                let wanted = &model[&log.incarnation.get()];
                let whole = log.last_index == wanted.last();
                assert!(whole || log.corrupt.is_some(), "seed {seed}: {path} {at}");
                serve_only_what_was_written(log, wanted);
            }
            // A bit behind the tail is no frame, and costs none.
            for torn in &opened.report.torn {
                let wanted = &model[&torn.incarnation.get()];
                assert!(torn.first_index > wanted.last(), "seed {seed}: {torn:?}");
            }
        }
    }
    assert!(tried > 1000);
}

fn serve_only_what_was_written(log: &crate::RecoveredLog, model: &super::harness::LogModel) {
    let mut from = log.start.offset;
    while let Ok(range) = log.reader.read(from, log.end_offset, 1, true) {
        if range.next_offset == from {
            break;
        }
        for batch in &range.batches {
            let base = u64::from_be_bytes(*batch.first_chunk().unwrap());
            let wanted = model
                .acked
                .iter()
                .find(|frame| frame.kind == FrameKind::Records && frame.base_offset.get() == base);
            assert_eq!(*batch, wanted.expect("a written batch").stamped_payload());
        }
        from = range.next_offset;
    }
}

/// Runs turns with a fault at call `nth`; returns whether the fault was met.
fn run_with_fault(seed: u64, nth: u64, fault: Fault) -> bool {
    let disk = SimDisk::new(seed, 1 << 30);
    found(&disk);
    let mut node = Node::start(seed, &disk);
    disk.inject(nth, fault);
    let mut failed: Option<DiskFailed> = None;
    for _ in 0..8 {
        if let Err(error) = turn(&mut node) {
            failed = Some(error);
            break;
        }
    }
    let met = !disk.fault_is_pending();
    if let Some(first) = failed {
        // For ever, whatever the disk does afterwards.
        let mut done = Vec::new();
        assert_eq!(node.cycle.run(&mut Vec::new(), &mut done), Err(first.clone()));
        assert_eq!(node.cycle.on_idle(&mut done), Err(first.clone()));
        assert_eq!(node.cycle.background_step(&mut done), Err(first));
        assert!(done.is_empty());
    }
    let model = node.model.lock().unwrap().clone();
    drop(node);
    // A failed request may yet be found, as any unanswered one: only the answers are checked.
    let survivor = disk.crash(seed + nth);
    let opened = open(&survivor).unwrap();
    for (id, log) in model.iter().filter(|(_, log)| log.created && !log.deleting) {
        let found = opened.logs.iter().find(|found| found.incarnation.get() == *id).unwrap();
        assert!(found.corrupt.is_none(), "seed {seed} call {nth}: {:?}", found.corrupt);
        let truncates = log.pending.iter().any(|(truncate, _)| truncate.is_some());
        assert!(truncates || found.last_index >= log.last(), "seed {seed} call {nth}");
        for frame in super::harness::all_frames(&found.reader) {
            if let Some(wanted) = log.acked.get(frame.header.index.get() as usize - 1) {
                let same = frame.header.payload_crc == wanted.payload_crc;
                assert!(truncates || same, "seed {seed} call {nth}: {:?}", frame.header);
            }
        }
    }
    met
}

#[test]
fn an_io_error_at_any_call_loses_nothing_that_was_answered() {
    for seed in 0..12 {
        let mut nth = 0;
        while run_with_fault(seed, nth, Fault::Io) {
            nth += 1;
        }
        assert!(nth > 30, "only {nth} calls");
    }
}

#[test]
fn a_full_disk_at_any_call_is_an_answer_and_never_a_failure() {
    for seed in 0..12 {
        let mut nth = 0;
        loop {
            let disk = SimDisk::new(seed, 1 << 30);
            found(&disk);
            let mut node = Node::start(seed, &disk);
            disk.inject(nth, Fault::NoSpace);
            for _ in 0..8 {
                // The meta log has its room from birth on; nothing else is vital here.
                match turn(&mut node) {
                    Ok(()) => {}
                    Err(failed) => assert_eq!(failed.operation, "write the meta log"),
                }
            }
            if !run_with_fault(seed, nth, Fault::NoSpace) {
                break;
            }
            nth += 1;
        }
        assert!(nth > 20, "only {nth} calls");
    }
}

#[test]
fn a_disk_that_fills_refuses_appends_and_takes_them_again_when_room_returns() {
    let disk = SimDisk::new(1, 1 << 30);
    found(&disk);
    let mut node = Node::start(1, &disk);
    node.create(LOG);
    node.run().unwrap();
    let used = (1_u64 << 30) - crate::disk::Disk::space(&disk).unwrap().free;
    disk.set_capacity(used + 60_000);
    let mut refused = 0;
    for at in 0..200_u64 {
        node.append(LOG, 1, &[(FrameKind::Records, 1, batch(1, 1000, at as u8))]);
        node.run().unwrap();
        node.background().unwrap();
        let model = node.model.lock().unwrap();
        refused += u64::from(model[&LOG].acked.len() as u64 + refused < at + 2);
    }
    assert!(refused > 100, "only {refused} refused");
    node.check_readable();
    disk.set_capacity(1 << 30);
    let before = node.model.lock().unwrap()[&LOG].acked.len();
    node.append(LOG, 1, &[(FrameKind::Records, 1, batch(1, 1000, 1))]);
    node.run().unwrap();
    assert_eq!(node.model.lock().unwrap()[&LOG].acked.len(), before + 1);
    node.check_readable();
    let model: Model = node.model.lock().unwrap().clone();
    let opened = check_crashed(&disk.crash(3), &model);
    assert_eq!(adopt(&opened, &model)[&LOG].acked.len(), before + 1);
}

#[test]
fn a_vital_log_lives_on_from_the_ballast() {
    let disk = SimDisk::new(1, 1 << 30);
    found(&disk);
    let dir = DataDir::lock(Arc::new(disk.clone()), 1).unwrap();
    let identity = dir.identity(NodeId::new(1)).unwrap().unwrap();
    let mut options = options();
    options.ballast_bytes = 1 << 20;
    let opened = dir.open(&identity, options).unwrap();
    let mut node = Node::with(1, &disk, opened, Model::default());
    for (log, vital) in [(LOG, false), (LOG + 1, true)] {
        node.create(log);
        node.run().unwrap();
        let options = LogOptions { vital, ..super::harness::options().log };
        node.push(Work::Configure { incarnation: Incarnation::new(log), options });
    }
    let free = crate::disk::Disk::space(&disk).unwrap().free;
    disk.set_capacity((1 << 30) - free);
    let mut refused = [0, 0];
    for at in 0..40_u64 {
        for (log, refused) in [LOG, LOG + 1].iter().zip(&mut refused) {
            let before = node.model.lock().unwrap()[log].acked.len();
            node.append(*log, 1, &[(FrameKind::Command, 0, vec![at as u8; 1000].into())]);
            node.run().unwrap();
            *refused += i32::from(node.model.lock().unwrap()[log].acked.len() == before);
        }
    }
    assert!(refused[0] > 0 && refused[1] == 0, "{refused:?}");
}

#[test]
fn a_damaged_meta_log_stops_the_start() {
    let mut node = filled(0);
    for at in 0..8 {
        node.append(LOG, 1, &[(FrameKind::Records, 1, batch(1, 200, at))]);
        node.run().unwrap();
        node.idle().unwrap();
    }
    let disk = node.disk.kill();
    let meta = disk.contents()["meta.a"].len() as u64;
    let mut stopped = 0;
    for at in (8192..meta - 400).step_by(37) {
        let damaged = disk.kill();
        damaged.flip_bit("meta.a", at, 3).unwrap();
        match open(&damaged) {
            Err(OpenError::Corrupt { file, .. }) => {
                assert_eq!(file, "meta.a");
                stopped += 1;
            }
            other => panic!("byte {at}: {:?}", other.map(|opened| opened.report)),
        }
    }
    assert!(stopped > 3, "{stopped} of {meta} bytes");
    assert!(identity().founded);
}

#[test]
fn a_failed_flush_is_not_believed_by_the_next_start() {
    // Pages look clean after it, and are lost: the restart drops them before it looks.
    let mut lost = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(seed, 1 << 30);
        found(&disk);
        let mut node = Node::start(seed, &disk);
        node.create(LOG);
        node.run().unwrap();
        node.append(LOG, 1, &[(FrameKind::Records, 1, batch(1, 3000, 7))]);
        disk.inject(1, Fault::Io);
        assert!(node.run().is_err());
        let restarted = disk.kill();
        let opened = open(&restarted).unwrap();
        let last = opened.logs[0].last_index;
        lost += u64::from(last == LogIndex::new(1));
        drop(opened);
        // What the restart has seen is what a power cut right after it leaves.
        let again = open(&restarted.crash(seed)).unwrap();
        assert_eq!(again.logs[0].last_index, last);
    }
    assert!(lost > 10, "only {lost} of 40");
}

#[test]
fn recovery_walks_only_what_lies_behind_the_durable_mark() {
    let mut node = filled(0);
    for at in 0..200_u64 {
        node.append(LOG, 1, &[(FrameKind::Records, 1, batch(1, 700, at as u8))]);
        node.run().unwrap();
        if at == 150 {
            node.idle().unwrap();
        }
    }
    // Full segments are not closed yet: their index comes from headers, and that is no walk.
    let disk = node.disk.kill();
    let opened = open(&disk).unwrap();
    assert_eq!(opened.report.walked_frames, 49);
    assert_eq!(opened.logs[0].last_index, LogIndex::new(201));
    drop(opened);
    assert_eq!(open(&disk).unwrap().report.walked_frames, 0);
}
