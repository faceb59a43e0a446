//! What figures were taken on: processor, memory, kernel, filesystem, flush time, commit.
//!
//! Absent on purpose: names and addresses of the machine, and whether its flushes are real. Only a
//! power cut shows that; read durable figures as a function of the flush time beside them.

use crate::failure::{Failure, Tried};
use crate::stats::quantile;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The machine and the build, as far as figures depend on them.
#[derive(Clone, PartialEq, Debug)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// Processors that may be used.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Type of the filesystem that data lies on.
    pub filesystem: String,
    /// Median of a 4 KiB write and its flush there, in microseconds.
    pub flush_us: u64,
    /// Runnable processes over the last minute, before the first row.
    pub load: String,
    /// Commit of the tree, with `-dirty` where files differ from it.
    pub commit: String,
}

impl Machine {
    /// Looks around.
    ///
    /// - `scratch`: where data will lie.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn look(scratch: &Path) -> Result<Self, Failure> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo");
        let processor = processor.lines().find_map(|line| line.strip_prefix("model name"));
        let memory = crate::counters::kibibytes(&read("/proc/meminfo"), "MemTotal");
        Ok(Self {
            processor: processor.unwrap_or("unknown").trim_start_matches([' ', '\t', ':']).into(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.unwrap_or_default() / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            filesystem: filesystem(&read("/proc/self/mountinfo"), scratch),
            flush_us: flush_us(scratch)?,
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            commit: commit(),
        })
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "processor": self.processor, "processors": self.processors,
            "memory_mib": self.memory_mib, "kernel": self.kernel,
            "filesystem": self.filesystem, "flush_us": self.flush_us,
            "load": self.load, "commit": self.commit,
        })
    }

    /// For people, one line.
    #[must_use]
    pub fn text(&self) -> String {
        format!(
            "machine  {} x {}, {} MiB, Linux {}, {}, flush {} us, load {}\ncommit   {}",
            self.processors,
            self.processor,
            self.memory_mib,
            self.kernel,
            self.filesystem,
            self.flush_us,
            self.load,
            self.commit
        )
    }
}

/// The root of the source tree that this program was built from.
#[must_use]
pub fn source_root() -> PathBuf {
    let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let own = own.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    own.parent().map(Path::to_owned).unwrap_or(own)
}

/// Runs a command in the source tree and gives its stdout.
///
/// # Errors
/// It cannot be started, or fails; its stderr is given.
pub fn output(program: &str, arguments: &[&str]) -> Result<String, Failure> {
    let what = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program).args(arguments).current_dir(source_root()).output();
    let output = output.tried(what)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Failure::Process { what: what(), said });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Type of the filesystem that holds `path`.
#[must_use]
pub fn filesystem_of(path: &Path) -> String {
    filesystem(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(), path)
}

fn commit() -> String {
    let Ok(commit) = output("git", &["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    let clean = changed.is_ok_and(|changed| changed.is_empty());
    format!("{}{}", commit.trim(), if clean { "" } else { "-dirty" })
}

/// Type of the filesystem that holds `path`, out of `/proc/self/mountinfo`: the mount point is
/// the fifth field, the type the first one behind a lonely hyphen.
fn filesystem(mounts: &str, path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mount = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        let kind = right.split(' ').next()?;
        path.starts_with(point).then(|| (point.len(), kind.to_owned()))
    };
    let deepest = mounts.lines().filter_map(mount).max_by_key(|(length, _)| *length);
    deepest.map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

/// Median time of a 4 KiB append and its flush into an allocated file.
fn flush_us(scratch: &Path) -> Result<u64, Failure> {
    const ROUNDS: u64 = 101;
    let path = scratch.join("flush-time");
    let what = || path.display().to_string();
    let file = File::create(&path).tried(what)?;
    let room = ROUNDS * 4096;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, room).tried(what)?;
    let bytes = crate::payload::Noise::new(5).bytes(4096);
    let mut took = Vec::new();
    for round in 0..ROUNDS {
        let start = Instant::now();
        file.write_all_at(&bytes, round * 4096).tried(what)?;
        file.sync_data().tried(what)?;
        took.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
    fs::remove_file(&path).tried(what)?;
    took.sort_unstable();
    Ok(quantile(&took, 0.5).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_mount_decides_the_filesystem() {
        let mounts = "1 0 254:0 / / rw shared:1 - ext4 /dev/vda rw\n\
                      2 1 0:5 / /proc rw - proc proc rw\n\
                      3 1 0:6 / /no-such/mount rw master:1 - tmpfs tmpfs rw\n";
        assert_eq!(filesystem(mounts, Path::new("/no-such/mount/data")), "tmpfs");
        assert_eq!(filesystem(mounts, Path::new("/no-such/mounted")), "ext4");
        assert_eq!(filesystem("", Path::new("/")), "unknown");
    }
}
