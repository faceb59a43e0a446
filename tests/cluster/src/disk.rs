//! A filesystem per node, and what makes its flushes fail.
//!
//! ```text
//!   file (sparse) ──> loop device ──> ext4 ──> node's data
//!                       └ size limit 4 KiB: every write behind it is EIO, and the page is clean
//! ```
//!
//! Invariant: the error is the kernel's own, at write-back, after which the pages look clean.
//! Absent on purpose: read errors as such. A read behind the limit fails as well.

use kafka_clients_tests::scratch::ScratchDirectory;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Size of a node's filesystem. It takes room only for what is written.
const SIZE_BYTES: u64 = 6 << 30;
/// What a failing device may still use.
const FAILING_BYTES: u64 = 4_096;

/// Where a node keeps its data.
#[derive(Debug)]
pub struct Disk {
    directory: ScratchDirectory,
    /// The loop device, where there is one.
    device: Option<String>,
}

impl Disk {
    /// An ext4 of its own where one can be mounted, and a plain directory elsewhere.
    pub fn new(node: usize) -> Self {
        let directory = ScratchDirectory::new(&format!("disk{node}"));
        let device = make(directory.path());
        if device.is_none() {
            println!("note: node {node} has a plain directory, not a filesystem of its own");
        }
        Self { directory, device }
    }

    /// The data directory, which need not exist.
    pub fn data(&self) -> PathBuf {
        self.mounted().join("data")
    }

    /// Whether the filesystem is the node's alone.
    pub fn is_own(&self) -> bool {
        self.device.is_some()
    }

    /// From now on the device refuses what is written. False where it cannot be made to.
    pub fn fail(&self) -> bool {
        self.limit(FAILING_BYTES)
    }

    /// The device works again; what it refused is gone.
    pub fn heal(&self) -> bool {
        self.limit(0)
    }

    /// Unmounts and mounts again, with no page of it left in memory.
    ///
    /// Panics where it cannot be mounted any more.
    pub fn remount(&mut self) {
        if self.device.take().is_none() {
            return;
        }
        let unmounted = Command::new("umount").arg(self.mounted()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "it is in use");
        self.device = mount(self.directory.path());
        assert!(self.is_own(), "{}: not mounted again", self.mounted().display());
    }

    /// Input and output errors of this device that the kernel has noted.
    pub fn errors(&self) -> u64 {
        let Some(device) = self.device.as_deref() else { return 0 };
        let name = device.trim_start_matches("/dev/");
        let Ok(output) = Command::new("dmesg").output() else { return 0 };
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter(|line| line.contains(name));
        lines.filter(|line| line.contains("I/O error") || line.contains("beyond end")).count()
            as u64
    }

    fn limit(&self, bytes: u64) -> bool {
        let Some(device) = &self.device else { return false };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("loop_limit.py");
        let mut command = Command::new("python3");
        command.arg(script).args([device, &bytes.to_string()]);
        command.status().is_ok_and(|status| status.success())
    }

    fn mounted(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.device.is_some() {
            self.heal();
            let unmounted = Command::new("umount").arg("--lazy").arg(self.mounted()).status();
            if !unmounted.is_ok_and(|status| status.success()) {
                eprintln!("{}: not unmounted", self.mounted().display());
            }
        }
    }
}

/// Makes an ext4 in this directory and mounts it; its device, or `None` where that cannot be.
fn make(directory: &Path) -> Option<String> {
    let file = directory.join("image");
    fs::create_dir(directory.join("mounted")).expect("the directory is new");
    File::create(&file).and_then(|file| file.set_len(SIZE_BYTES)).expect("it takes no room");
    let mut command = Command::new("mkfs.ext4");
    let lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
    command.args(["-q", "-F", "-E", lazy]).arg(&file).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success()).then_some(())?;
    mount(directory)
}

/// Mounts the filesystem that is in this directory; its device.
fn mount(directory: &Path) -> Option<String> {
    let mounted = directory.join("mounted");
    let mut command = Command::new("mount");
    command.args(["-o", "loop,errors=continue"]).arg(directory.join("image")).arg(&mounted);
    command.stderr(Stdio::null()).status().is_ok_and(|status| status.success()).then_some(())?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounted = mounted.to_str()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(mounted))?;
    line.split(' ').next().map(str::to_owned)
}
