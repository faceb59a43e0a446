//! P10: a disk that fills, and is freed again.
//!
//! Invariant: the lack of room is seen at the target: the filesystem says what is free, and the
//! node refuses what is produced with the error of a full disk.
//! Absent on purpose: a full disk at a start; `full_disk.rs` of the clients has it.

use super::{LOOK_MAX, Run};
use crate::group::Group;
use crate::load;
use kafka_clients_tests::raw::code;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// What is left: below the soft limit of the nodes' files, below the hard one, nothing.
const LEFT: [u64; 3] = [40 * MIB, 8 * MIB, 0];
/// Records are taken again within so long of there being room (D20).
const RESUME_MAX: Duration = Duration::from_secs(10);
/// How long leaderships have to move away, where the form allows so much.
const MOVED_MAX: Duration = Duration::from_secs(30);

/// P10.
pub(super) fn fills(run: &mut Run) {
    for round in 0..run.form.faults() {
        run.breathe();
        let (victim, led) = run.leader();
        if !run.nodes.disk(victim).is_own() {
            println!("note: P10 needs mounts; nothing was done");
            return;
        }
        let left = LEFT[(round + run.random.usize(..2)) % LEFT.len()];
        let mut group = coordinated_by(run, victim);
        let before = run.load.refusals();
        let since = run.now();
        run.nodes.disk(victim).fill_to(left);
        let free = run.nodes.disk(victim).free_bytes();
        if free > left {
            run.problem(format!("node {victim}: {free} bytes are free and not {left}"));
        }
        let stay = match run.form {
            super::Form::Short => Duration::from_secs(3),
            super::Form::Long => MOVED_MAX,
        };
        let offset = i64::try_from(round).unwrap_or(0);
        let moved = meanwhile(run, victim, &mut group, offset, since.at + stay);
        let refusals = run.load.refusals();
        let moved_ms = moved.map_or(u64::MAX, |at| (at - since.at).as_millis() as u64);
        run.entry.measure("leaderships_left_ms", moved_ms);
        if !run.nodes.running(victim) {
            run.problem(format!("node {victim} ended on a full disk"));
        }
        let committed = group.committed("orders");
        if committed != (code::NONE, offset) {
            run.problem(format!("group: committed {offset}, found {committed:?}"));
        }
        for ((node, code), count) in refusals {
            let more = count - before.get(&(node, code)).copied().unwrap_or(0);
            if node == victim && code == code::KAFKA_STORAGE_ERROR {
                run.entry.observe("refused", more);
            }
            if more > 0 && !load::is_retriable(code) {
                run.problem(format!("node {node}: error {code} is not retriable, {more} times"));
            }
        }
        run.nodes.disk(victim).free();
        let took = run.recovers("there is room again", RESUME_MAX);
        run.entry.recoveries.push(took);
        run.fault_ended(since, &led);
    }
}

/// Commits offsets until then, each of which has to be taken. When the node had given all its
/// leaderships away, if it has.
fn meanwhile(
    run: &mut Run,
    victim: usize,
    group: &mut Group,
    offset: i64,
    until: Instant,
) -> Option<Instant> {
    let mut moved = None;
    while Instant::now() < until {
        let code = group.commit("orders", offset);
        if code != code::NONE {
            run.problem(format!("group on a full disk: a commit got error {code}"));
            return moved;
        }
        run.entry.observe("commits", 1);
        let directory = run.load.directory();
        directory.refresh(None);
        if directory.partitions().iter().all(|led| led.leader != Some(victim)) {
            moved.get_or_insert_with(Instant::now);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    moved
}

/// A group whose coordinator is this node.
fn coordinated_by(run: &Run, node: usize) -> Group {
    let deadline = Instant::now() + LOOK_MAX;
    for number in 0.. {
        let group = Group::new(node, &format!("group-{number}"));
        if group.coordinator() == node || Instant::now() > deadline {
            return group;
        }
    }
    unreachable!("there are as many names as one wants for node {node} of {:?}", run.nodes.ids())
}
