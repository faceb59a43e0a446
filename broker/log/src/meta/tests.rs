//! Torn batches, damage, and the turn of the two copies.

use super::*;
use crate::sim_disk::{Fault, SimDisk};
use crate::tail::Tail;
use crate::work::{HardState, LogStart};
use bateau_protocol::ids::{Incarnation, LogIndex, Offset, ReplicaId, Term};

fn replica(term: u64) -> ReplicaMeta {
    let durable = Tail {
        segment: LogIndex::new(1),
        position: 4096 + term,
        index: LogIndex::new(term),
        next_offset: Offset::new(3 * term),
        term: Term::new(term),
        chain_crc: 77,
        flush_sequence: FlushSequence::new(term),
    };
    ReplicaMeta {
        replica: ReplicaId::new(1 << 32),
        hard_state: HardState {
            term: Term::new(term),
            vote: Some(ReplicaId::new(3)),
            commit: LogIndex::new(term),
        },
        start: LogStart::BIRTH,
        durable: Some(durable),
        truncations: vec![TruncateMark {
            index: LogIndex::new(9),
            flush_sequence: FlushSequence::new(term),
        }],
        snapshot: None,
    }
}

fn put(log: &mut MetaLog, id: u64, term: u64) {
    let record = Record::Replica(Incarnation::new(id), Box::new(replica(term)));
    log.append(vec![record], FlushSequence::new(term)).unwrap();
    let file = log.file();
    log.disk.flush(&[file], &[]).unwrap();
    log.note_flushed();
}

fn open(disk: &SimDisk) -> MetaLog {
    MetaLog::open(Arc::new(disk.clone()), COPY_BYTES).unwrap().unwrap()
}

fn corrupt_file(disk: &SimDisk) -> &'static str {
    match MetaLog::open(Arc::new(disk.clone()), COPY_BYTES) {
        Err(MetaError::Corrupt { file, .. }) => file,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_flushed_is_there_after_a_crash() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = MetaLog::create(Arc::new(disk.clone()), COPY_BYTES).unwrap();
    put(&mut log, 5, 2);
    put(&mut log, 6, 4);
    put(&mut log, 5, 7);
    let found = open(&disk.crash(2));
    assert_eq!(found.state, log.state);
    assert_eq!(found.state.replicas[&Incarnation::new(5)], replica(7));
    assert_eq!(found.state.flush_sequence, FlushSequence::new(7));
}

#[test]
fn a_directory_without_a_meta_log_has_none() {
    let disk = SimDisk::new(1, 1 << 30);
    assert!(MetaLog::open(Arc::new(disk), COPY_BYTES).unwrap().is_none());
}

#[test]
fn a_torn_last_batch_is_forgotten_and_written_over() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = MetaLog::create(Arc::new(disk.clone()), COPY_BYTES).unwrap();
    put(&mut log, 5, 2);
    let before = log.state.clone();
    let end = log.position;
    put(&mut log, 5, 3);
    disk.flip_bit("meta.a", end + 50, 3).unwrap();
    let mut found = open(&disk);
    assert_eq!(found.state, before);
    put(&mut found, 5, 4);
    assert_eq!(open(&disk).state, found.state);
}

#[test]
fn a_bad_batch_with_a_good_one_behind_it_is_damage() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = MetaLog::create(Arc::new(disk.clone()), COPY_BYTES).unwrap();
    let at = log.position;
    put(&mut log, 5, 2);
    put(&mut log, 5, 3);
    disk.flip_bit("meta.a", at + 50, 3).unwrap();
    assert_eq!(corrupt_file(&disk), "meta.a");
}

#[test]
fn the_copies_alternate_and_the_newest_sealed_one_counts() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = MetaLog::create(Arc::new(disk.clone()), COPY_BYTES).unwrap();
    for term in 1..20_u64 {
        put(&mut log, 5, term);
        if term % 3 == 0 {
            log.switch().unwrap();
        }
        let found = open(&disk.crash(term));
        assert_eq!(found.state, log.state);
        assert_eq!(found.active, log.active);
    }
}

#[test]
fn a_batch_that_does_not_fit_moves_to_the_other_copy() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = MetaLog::create(Arc::new(disk.clone()), COPY_BYTES).unwrap();
    for term in 1..4000 {
        put(&mut log, term % 7, term);
    }
    assert!(log.generation > 1);
    assert_eq!(open(&disk.crash(3)).state, log.state);
}

#[test]
fn a_crash_anywhere_in_a_switch_loses_nothing() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed, 1 << 30);
        let mut log = MetaLog::create(Arc::new(disk.clone()), COPY_BYTES).unwrap();
        put(&mut log, 5, 2);
        log.switch().unwrap();
        put(&mut log, 5, 3);
        let expected = log.state.clone();
        let wanted = expected.clone();
        let mut crashes = 0;
        disk.on_change(Some(Box::new(move |fork| {
            crashes += 1;
            for crash in 0..4 {
                let found = open(&fork.crash(seed * 1000 + crashes * 10 + crash));
                assert_eq!(found.state, wanted);
            }
        })));
        log.switch().unwrap();
        disk.on_change(None);
        assert_eq!(log.state, expected);
    }
}

#[test]
fn a_switch_that_finds_no_room_leaves_the_copy_in_use() {
    // A call that finds no room writes a part, which is up to the seed.
    for (call, seed) in (0..8).flat_map(|call| (0..16).map(move |seed| (call, seed))) {
        let disk = SimDisk::new(seed, 1 << 30);
        let mut log = MetaLog::create(Arc::new(disk.clone()), COPY_BYTES).unwrap();
        put(&mut log, 5, 2);
        log.switch().unwrap();
        put(&mut log, 5, 3);
        disk.inject(call, Fault::NoSpace);
        match log.switch() {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => {
                assert_eq!(open(&disk.kill()).state, log.state, "call {call}, seed {seed}");
                continue;
            }
            // Calls that need no room have not met it.
            result => assert_eq!(result.is_err(), !disk.fault_is_pending(), "call {call}"),
        }
        put(&mut log, 5, 9);
        for survivor in [disk.crash(call), disk.kill()] {
            let found = open(&survivor);
            assert_eq!(found.state, log.state, "call {call}, seed {seed}");
        }
        disk.set_capacity(1 << 30);
        while disk.fault_is_pending() {
            put(&mut log, 5, 9);
        }
        log.switch().unwrap();
        put(&mut log, 5, 10);
        assert_eq!(open(&disk.crash(call)).state, log.state, "call {call}, seed {seed}");
    }
}

#[test]
fn the_older_copy_does_not_count_once_the_newer_was_sealed() {
    let disk = SimDisk::new(1, 1 << 30);
    let mut log = MetaLog::create(Arc::new(disk.clone()), COPY_BYTES).unwrap();
    put(&mut log, 5, 2);
    log.switch().unwrap();
    put(&mut log, 5, 9);
    for position in [0, 8, SEAL_AT, SEAL_AT + 5, BATCHES_AT + 3] {
        let damaged = disk.fork();
        damaged.flip_bit("meta.b", position, 1).unwrap();
        assert_eq!(corrupt_file(&damaged), "meta.b", "byte {position}");
    }
    disk.unlink("meta.b").unwrap();
    assert_eq!(corrupt_file(&disk), "meta.b");
}

#[test]
fn a_newer_format_is_refused() {
    let disk = SimDisk::new(1, 1 << 30);
    MetaLog::create(Arc::new(disk.clone()), COPY_BYTES).unwrap();
    let mut header = Vec::new();
    header.put_u32(MAGIC);
    header.put_u32(META_VERSION + 1);
    header.put_u64(1);
    let crc = crc32fast::hash(&header);
    header.put_u32(crc);
    disk.open("meta.a").unwrap().write_at(0, &[&header]).unwrap();
    let found = MetaLog::open(Arc::new(disk), COPY_BYTES);
    assert!(matches!(found, Err(MetaError::NewerFormat { file: "meta.a", found: 2 })));
}
