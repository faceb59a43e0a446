//! P10: a disk that fills, and is freed again.
//!
//! Invariant: the lack of room is seen at the target: the node refuses what is produced with the
//! error of a full disk, or has given its leaderships away before anybody asked.
//! Absent on purpose: a full disk at a start; `full_disk.rs` of the clients has it.

use super::{Form, LOOK_MAX, Run};
use crate::group::{Group, NOT_COORDINATOR};
use crate::load::{self, RETRY_PAUSE};
use kafka_clients_tests::raw::code;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
/// What is left: below the soft limit of the nodes' files, below the hard one, nothing.
const LEFT: [u64; 3] = [40 * MIB, 8 * MIB, 0];
/// Records are taken again within so long of there being room (D20).
const RESUME_MAX: Duration = Duration::from_secs(10);
/// What is full is refused within so long, or led elsewhere.
const NOTICED_MAX: Duration = Duration::from_secs(5);
/// The node leads nothing any more within so long.
const LEFT_MAX: Duration = Duration::from_secs(10);
/// Kafka's codes of a coordinator that is loading, not there yet, or elsewhere.
const MOVING: [i16; 3] = [14, 15, NOT_COORDINATOR];
/// A coordinator that moves answers again within so long.
const COORDINATED_MAX: Duration = Duration::from_secs(5);

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
            Form::Short => Duration::from_secs(3),
            Form::Long => Duration::from_secs(15),
        };
        let offset = i64::try_from(round).unwrap_or(0);
        noticed(run, victim, since.at);
        meanwhile(run, victim, &mut group, offset, since.at + stay);
        let refusals = run.load.refusals();
        if !run.nodes.running(victim) {
            run.problem(format!("node {victim} ended on a full disk"));
        }
        let committed = settled(&mut group, |group| group.committed("orders"));
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

/// Waits until the node refuses records, or leads none.
fn noticed(run: &mut Run, victim: usize, since: Instant) {
    let refused = |run: &Run| {
        run.load.refusals().get(&(victim, code::KAFKA_STORAGE_ERROR)).copied().unwrap_or(0)
    };
    let before = refused(run);
    while refused(run) == before && led_by(run, victim) > 0 && since.elapsed() < LOOK_MAX {
        std::thread::sleep(RETRY_PAUSE);
    }
    let took = since.elapsed();
    run.entry.measure("noticed_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    if took > NOTICED_MAX {
        run.problem(format!("node {victim} refused nothing for {took:?} on a full disk"));
    }
}

fn led_by(run: &Run, node: usize) -> usize {
    let directory = run.load.directory();
    directory.refresh(None);
    directory.partitions().iter().filter(|led| led.leader == Some(node)).count()
}

/// Commits offsets until then, each of which has to be taken, and waits until the node leads
/// nothing.
fn meanwhile(run: &mut Run, victim: usize, group: &mut Group, offset: i64, until: Instant) {
    let (since, mut left) = (Instant::now(), None);
    while Instant::now() < until || (left.is_none() && since.elapsed() < LEFT_MAX) {
        let (code, ()) = settled(group, |group| (group.commit("orders", offset), ()));
        if code != code::NONE {
            return run.problem(format!("group on a full disk: a commit got error {code}"));
        }
        if left.is_none() && led_by(run, victim) == 0 {
            left = Some(since.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    match left {
        Some(took) => {
            run.entry.observe("left", 1);
            run.entry.measure("left_ms", u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
        None => run.problem(format!("node {victim} leads on a full disk after {LEFT_MAX:?}")),
    }
}

/// What the group's coordinator says, wherever it is; the last word where it moves for too long.
fn settled<T>(group: &mut Group, mut ask: impl FnMut(&mut Group) -> (i16, T)) -> (i16, T) {
    let since = Instant::now();
    loop {
        let answer = ask(group);
        if !MOVING.contains(&answer.0) || since.elapsed() > COORDINATED_MAX {
            return answer;
        }
        group.follow();
        std::thread::sleep(RETRY_PAUSE);
    }
}

/// A group whose coordinator is this node.
fn coordinated_by(run: &mut Run, node: usize) -> Group {
    let deadline = Instant::now() + LOOK_MAX;
    loop {
        let group = Group::new(node, &format!("group-{:04x}", run.random.u16(..)));
        if group.coordinator() == node {
            return group;
        }
        assert!(Instant::now() < deadline, "node {node} coordinates no group");
    }
}
