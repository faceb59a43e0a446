//! P9: a node that is there and too slow: a twentieth of a processor, or 200 ms more for a write.
//!
//! Invariant: the fault is seen at the target: times that the kernel held the node back, or writes
//! of its device that came late.
//! Absent on purpose: a machine without control groups of the first or second version.

use super::{LOOK_MAX, PARTITIONS, Run};
use crate::ledger::percentiles;
use crate::load;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Of a processor, in microseconds of [`PERIOD_US`].
const QUOTA_US: u64 = 5_000;
const PERIOD_US: u64 = 100_000;
/// What a write takes more.
const WRITE_DELAY: Duration = Duration::from_millis(200);
/// The node has no leaderships any more within so long.
const LEFT_MAX: Duration = Duration::from_secs(30);
/// What is not led by the node waits so much longer at most.
const SLOWER_MAX: u32 = 2;
/// For how long it is measured how long batches wait.
const MEASURED: Duration = Duration::from_secs(15);

/// P9: the processor and the disk in turn.
pub(super) fn slow(run: &mut Run) {
    for round in 0..run.form.faults() / 5 {
        run.breathe();
        let (victim, led) = run.leader();
        let beside: Vec<u32> = (0..PARTITIONS).filter(|one| !led.contains(one)).collect();
        let from = run.load.now();
        std::thread::sleep(MEASURED);
        let healthy = load::waits(&run.load.acks(), &beside, from, run.load.now());
        let since = run.now();
        let Some(fault) = Fault::begin(run, victim, round % 2 == 0) else {
            println!("note: P9 needs control groups, FUSE and loop devices; nothing was done");
            return;
        };
        let left = leaves(run, victim, since.at);
        std::thread::sleep(MEASURED.saturating_sub(since.at.elapsed()));
        let (acks, now) = (run.load.acks(), run.load.now());
        let slow = load::waits(&acks, &beside, since.moment, now);
        compare(run, fault.name(), &healthy, &slow);
        let of_its_own = load::waits(&acks, &led, since.moment, now);
        run.entry.measure(fault.wait_name(), milliseconds(worst(&of_its_own)));
        match left {
            Some(left) => run.entry.leaderless.push(left),
            None => run.problem(format!("{}: leaderships stayed with it", fault.name())),
        }
        let (name, count) = fault.end(run, victim);
        run.entry.observe(name, count);
        run.fault_ended(since, &led);
        let took = run.recovers("no node is slow any more", LOOK_MAX);
        run.entry.recoveries.push(took);
    }
}

/// Waits until the node leads nothing, and returns how long that took.
fn leaves(run: &Run, victim: usize, since: Instant) -> Option<Duration> {
    let directory = run.load.directory();
    while since.elapsed() < LEFT_MAX {
        directory.refresh(Some(victim));
        if directory.partitions().iter().all(|led| led.leader.is_some_and(|by| by != victim)) {
            return Some(since.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

fn compare(run: &mut Run, name: &str, healthy: &[Duration], slow: &[Duration]) {
    let (healthy, slow) = (worst(healthy), worst(slow));
    run.entry.measure("p99_healthy_ms", milliseconds(healthy));
    run.entry.measure("p99_beside_ms", milliseconds(slow));
    if slow > healthy.saturating_mul(SLOWER_MAX) {
        run.problem(format!("{name}: p99 of other partitions {healthy:?}, then {slow:?}"));
    }
}

/// The 99th percentile; of none, longer than any.
fn worst(waits: &[Duration]) -> Duration {
    percentiles(waits).map_or(Duration::MAX, |(_, most_of_all, _)| most_of_all)
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What makes the node slow.
enum Fault {
    Processor(Quota),
    Disk { delayed_before: u64 },
}

impl Fault {
    fn begin(run: &Run, victim: usize, has_processor: bool) -> Option<Self> {
        if has_processor {
            return Quota::of(run.nodes.program(victim).id()).map(Self::Processor);
        }
        let device = run.nodes.disk(victim).device()?;
        device.delay_writes(WRITE_DELAY);
        Some(Self::Disk { delayed_before: device.counts().delayed })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Processor(_) => "processor",
            Self::Disk { .. } => "disk",
        }
    }

    /// What the wait of batches for the node is called in the ledger.
    fn wait_name(&self) -> &'static str {
        match self {
            Self::Processor(_) => "p99_led_without_processor_ms",
            Self::Disk { .. } => "p99_led_with_slow_disk_ms",
        }
    }

    /// Ends it, and says how often it was there.
    fn end(self, run: &Run, victim: usize) -> (&'static str, u64) {
        match self {
            Self::Processor(quota) => ("throttled", quota.throttled()),
            Self::Disk { delayed_before } => {
                let device = run.nodes.disk(victim).device().expect("it had one");
                device.delay_writes(Duration::ZERO);
                ("writes_delayed", device.counts().delayed - delayed_before)
            }
        }
    }
}

/// A control group of one process.
struct Quota {
    directory: PathBuf,
    process: u32,
}

impl Quota {
    /// `None` where there are no control groups, or none of ours.
    fn of(process: u32) -> Option<Self> {
        let name = format!("bateau-test-{:016x}", fastrand::u64(..));
        let (root, limit, value) = Self::hierarchy()?;
        let quota = Self { directory: root.join(name), process };
        fs::create_dir(&quota.directory).ok()?;
        fs::write(quota.directory.join(limit), value).ok()?;
        quota.enter(&quota.directory)?;
        Some(quota)
    }

    /// Where groups are made, and what limits one.
    fn hierarchy() -> Option<(&'static Path, &'static str, String)> {
        let first = Path::new("/sys/fs/cgroup/cpu");
        let second = Path::new("/sys/fs/cgroup");
        if first.join("cpu.cfs_quota_us").exists() {
            // Its period is 100 ms unless somebody says otherwise.
            return Some((first, "cpu.cfs_quota_us", QUOTA_US.to_string()));
        }
        let value = format!("{QUOTA_US} {PERIOD_US}");
        second.join("cgroup.procs").exists().then_some((second, "cpu.max", value))
    }

    fn enter(&self, directory: &Path) -> Option<()> {
        fs::write(directory.join("cgroup.procs"), self.process.to_string()).ok()
    }

    /// How often the kernel has held it back.
    fn throttled(&self) -> u64 {
        let stat = fs::read_to_string(self.directory.join("cpu.stat")).unwrap_or_default();
        let line = stat.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        line.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let Some(root) = self.directory.parent() else { return };
        if self.enter(root).is_none() || fs::remove_dir(&self.directory).is_err() {
            eprintln!("{}: not removed", self.directory.display());
        }
    }
}
