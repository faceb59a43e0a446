//! The kernel's counters: CPU time in nanoseconds, resident memory, stolen time, dirty pages.
//!
//! CPU time is the scheduler's (`schedstat`), not the ticks of `stat`, which miss whatever runs
//! for less than a tick at a time, and a broker does little else.
//!
//! Absent on purpose: threads that ended before they were read. A count over living threads is
//! taken while the threads that worked still live, or compares each with itself ([`Threads`]).

use crate::failure::{Failure, Tried};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::time::{Duration, Instant};

/// Time that all living threads of a process have run, both modes together.
///
/// # Errors
/// The process is gone, or the kernel counts nothing.
pub fn process_cpu(pid: u32) -> Result<Duration, Failure> {
    Ok(threads_cpu(pid)?.0.values().sum())
}

/// Time that each living thread of a process has run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Threads(BTreeMap<OsString, Duration>);

impl Threads {
    /// What they have run since `earlier`. Over a long time threads end, and what those have run
    /// before takes nothing away from this.
    #[must_use]
    pub fn ran_since(&self, earlier: &Self) -> Duration {
        let before = |thread| earlier.0.get(thread).copied().unwrap_or_default();
        self.0.iter().map(|(thread, time)| time.saturating_sub(before(thread))).sum()
    }
}

/// Time that each living thread of a process has run, both modes together.
///
/// # Errors
/// As [`process_cpu`].
pub fn threads_cpu(pid: u32) -> Result<Threads, Failure> {
    let directory = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&directory).tried(|| directory.clone())?;
    let mut threads = Threads::default();
    for task in tasks {
        let task = task.tried(|| directory.clone())?;
        let path = task.path().join("schedstat");
        // A thread may end between being listed and being read.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        threads.0.insert(task.file_name(), running_time(&text, &path.to_string_lossy())?);
    }
    Ok(threads)
}

/// Time that the calling thread has run.
///
/// # Errors
/// The kernel counts nothing.
pub fn thread_cpu() -> Result<Duration, Failure> {
    const PATH: &str = "/proc/thread-self/schedstat";
    let text = fs::read_to_string(PATH).tried(|| PATH.to_owned())?;
    running_time(&text, PATH)
}

fn running_time(text: &str, path: &str) -> Result<Duration, Failure> {
    parse_schedstat(text)
        .ok_or_else(|| Failure::unexpected(path, text.trim(), "three numbers, nanoseconds first"))
}

/// Time on a CPU, out of the three numbers: time on a CPU, time in a queue, turns.
#[must_use]
pub fn parse_schedstat(text: &str) -> Option<Duration> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(running)), Some(Ok(_)), Some(Ok(_)), None) =
        (numbers.next(), numbers.next(), numbers.next(), numbers.next())
    else {
        return None;
    };
    Some(Duration::from_nanos(running))
}

/// Resident memory of a process, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// Everything resident.
    pub resident: u64,
    /// Of it, what belongs to no file.
    pub anonymous: u64,
    /// Of it, pages of mapped files: of the program, and of segments.
    pub of_files: u64,
}

/// Resident memory of a process now.
///
/// # Errors
/// The process is gone.
pub fn memory(pid: u32) -> Result<Memory, Failure> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).tried(|| path.clone())?;
    let line = |name| {
        let found = kibibytes(&text, name).map(|kibibytes| kibibytes * 1024);
        found.ok_or_else(|| Failure::unexpected(&path, format!("no {name}"), "its line"))
    };
    let (resident, anonymous) = (line("VmRSS")?, line("RssAnon")?);
    Ok(Memory { resident, anonymous, of_files: line("RssFile")? })
}

/// Resident memory of a process, where pages that several processes have count in shares; `None`
/// where the kernel does not say.
#[must_use]
pub fn proportional_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    Some(kibibytes(&text, "Pss")? * 1024)
}

/// The number of a line such as `VmRSS:     5120 kB`.
#[must_use]
pub fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Ticks of all CPUs since boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ticks {
    /// All of them.
    pub total: u64,
    /// Those that the hypervisor gave to others.
    pub stolen: u64,
}

impl Ticks {
    /// Now; zero where the kernel does not say.
    #[must_use]
    pub fn now() -> Self {
        fs::read_to_string("/proc/stat")
            .ok()
            .and_then(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    /// Out of the first line of `/proc/stat`: user, nice, system, idle, wait, interrupts twice,
    /// stolen, and two that are contained in the first two.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let numbers: Result<Vec<u64>, _> =
            line.split_whitespace().take(8).map(str::parse).collect();
        let numbers = numbers.ok()?;
        Some(Self { total: numbers.iter().sum(), stolen: *numbers.get(7)? })
    }

    /// Share of the time since `earlier` that was stolen, 0 to 1.
    #[must_use]
    pub fn stolen_since(&self, earlier: &Self) -> f64 {
        let total = self.total.saturating_sub(earlier.total).max(1);
        self.stolen.saturating_sub(earlier.stolen) as f64 / total as f64
    }
}

/// Flushes the machine's filesystems and waits until next to nothing is left to write back, at
/// most five seconds: each slice starts from the same state.
pub fn settle() {
    const LEFT_KIB_MAX: u64 = 16 * 1024;
    rustix::fs::sync();
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let left =
            ["Dirty", "Writeback"].iter().filter_map(|name| kibibytes(&text, name)).sum::<u64>();
        if left <= LEFT_KIB_MAX {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_of_schedstat_is_time_on_a_cpu() {
        assert_eq!(parse_schedstat("1234567890 42 7\n"), Some(Duration::from_nanos(1_234_567_890)));
    }

    #[test]
    fn a_schedstat_of_another_shape_is_no_number() {
        for text in ["", "12", "12 3", "12 3 x", "-1 2 3", "1 2 3 4", "1.5 2 3"] {
            assert_eq!(parse_schedstat(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_busy_thread_is_seen_to_have_run() {
        let before = thread_cpu().unwrap();
        let mut state = 1_u64;
        while thread_cpu().unwrap() == before {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
        assert_ne!(state, 0);
        assert!(process_cpu(std::process::id()).unwrap() > Duration::ZERO);
    }

    #[test]
    fn a_thread_that_has_ended_takes_nothing_away_from_what_the_others_ran() {
        let threads = |list: &[(&str, u64)]| {
            let time = |(name, ms): &(&str, u64)| ((*name).into(), Duration::from_millis(*ms));
            Threads(list.iter().map(time).collect())
        };
        let earlier = threads(&[("1", 100), ("2", 500)]);
        let later = threads(&[("1", 130), ("3", 7)]);
        assert_eq!(later.ran_since(&earlier), Duration::from_millis(37));
    }

    #[test]
    fn memory_lines_are_found_by_their_whole_name() {
        let text = "Name:\tx\nVmRSSX:\t1 kB\nVmRSS:\t    5120 kB\nRssAnon:\t 1024 kB\n";
        assert_eq!(kibibytes(text, "VmRSS"), Some(5120));
        assert_eq!(kibibytes(text, "RssAnon"), Some(1024));
        assert_eq!(kibibytes(text, "Rss"), None);
        let own = memory(std::process::id()).unwrap();
        assert!(own.anonymous > 0 && own.anonymous + own.of_files <= own.resident);
        assert!(proportional_bytes(std::process::id()).is_none_or(|bytes| bytes > 0));
    }

    #[test]
    fn stolen_time_is_a_share_of_all_ticks() {
        let earlier = Ticks::parse("cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1").unwrap();
        assert_eq!(earlier, Ticks { total: 100, stolen: 10 });
        let later = Ticks { total: 200, stolen: 15 };
        assert!((later.stolen_since(&earlier) - 0.05).abs() < 1e-9);
        assert_eq!(Ticks::parse("cpu0 1 2 3"), None);
    }
}
