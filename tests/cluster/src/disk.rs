//! A filesystem per node, and what can be wrong with it.
//!
//! ```text
//!   Kind::Image    file (sparse) ──> loop device ──> ext4 ──> node's data
//!                                      └ size limit 4 KiB: every write behind it is EIO, and the
//!                                        page is clean
//!   Kind::Device   file ──> Device ──> loop device ──> ext4: loses, delays and refuses
//!   Kind::Memory   tmpfs
//! ```
//!
//! Invariants
//! - An error is the kernel's own, and so is what it does with its pages.
//! - After [`Disk::remount`] no page of the filesystem is left in memory.
//!
//! Absent on purpose: quotas.

use crate::TIMEOUT;
use crate::device::Device;
use kafka_clients_tests::program::wait_until;
use kafka_clients_tests::scratch::ScratchDirectory;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Size of a node's filesystem, where it is not to be filled. It takes room only for what is
/// written.
pub const SIZE_BYTES: u64 = 6 << 30;
/// What a failing device may still use.
const FAILING_BYTES: u64 = 4_096;

/// What a node's filesystem is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An ext4 of so many bytes.
    Image(u64),
    /// An ext4 of [`SIZE_BYTES`] on a device of ours.
    Device,
    /// A tmpfs of so many bytes.
    Memory(u64),
}

/// Where a node keeps its data.
#[derive(Debug)]
pub struct Disk {
    /// Goes before the directory that it is mounted in.
    device: Option<Device>,
    directory: ScratchDirectory,
    kind: Kind,
    /// What is mounted: a loop device, or a name. `None` where nothing can be.
    source: Option<String>,
}

impl Disk {
    /// A filesystem of its own where one can be mounted, and a plain directory elsewhere.
    pub fn new(node: usize, kind: Kind) -> Self {
        let directory = ScratchDirectory::new(&format!("disk{node}"));
        fs::create_dir(directory.path().join("mounted")).expect("the directory is new");
        let mut disk = Self { device: None, directory, kind, source: None };
        disk.make();
        if disk.source.is_none() {
            println!("note: node {node} has a plain directory, not a filesystem of its own");
        }
        disk
    }

    /// The data directory, which need not exist.
    pub fn data(&self) -> PathBuf {
        self.mounted().join("data")
    }

    /// Whether the filesystem is the node's alone.
    pub fn is_own(&self) -> bool {
        self.source.is_some()
    }

    /// The device of ours that it is on, if it is.
    pub fn device(&self) -> Option<&Device> {
        self.device.as_ref().filter(|_| self.is_own())
    }

    /// Removes all data of a node that does not run, as a new disk has none.
    ///
    /// Panics where that fails.
    pub fn wipe(&self) {
        fs::remove_dir_all(self.data()).expect("a node has kept something there");
    }

    /// Keeps a copy of the data of a node that does not run.
    ///
    /// Panics where that fails.
    pub fn keep_copy(&self) {
        let mut command = Command::new("cp");
        command.args(["--archive", "--sparse=always"]).args([self.data(), self.copy()]);
        let copied = command.status();
        assert!(copied.is_ok_and(|status| status.success()), "there is room for a copy");
    }

    /// Puts the copy in the place of the data, and these in the place of the copy.
    ///
    /// Panics where there is no copy.
    pub fn exchange_with_copy(&self) {
        let between = self.mounted().join("between");
        let places = [self.data(), between, self.copy()];
        for (to, from) in [(1, 0), (0, 2), (2, 1)] {
            fs::rename(&places[from], &places[to]).expect("there is a copy");
        }
    }

    /// Removes the copy.
    ///
    /// Panics where there is none.
    pub fn forget_copy(&self) {
        fs::remove_dir_all(self.copy()).expect("there is a copy");
    }

    fn copy(&self) -> PathBuf {
        self.mounted().join("copy")
    }

    /// From now on the device refuses what is written. False where it cannot be made to.
    pub fn fail(&self) -> bool {
        self.limit(FAILING_BYTES)
    }

    /// The device works again; what it refused is gone.
    pub fn heal(&self) -> bool {
        self.limit(0)
    }

    /// Unmounts and mounts again, with no page of it left in memory; power that was cut is back.
    ///
    /// Panics where it cannot be mounted any more.
    pub fn remount(&mut self) {
        let Some(source) = self.source.take() else { return };
        let unmounted = Command::new("umount").arg(self.mounted()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "it is in use");
        // The mounts of a process that has just ended go a moment later.
        let backed = Path::new("/sys/block").join(source.trim_start_matches("/dev/"));
        let backed = backed.join("loop/backing_file");
        wait_until("the loop device is free", TIMEOUT, || !self.backs(&backed));
        if let Some(device) = &self.device {
            device.restore();
        }
        self.mount();
        assert!(self.is_own(), "{}: not mounted again", self.mounted().display());
    }

    fn backs(&self, backing_file: &Path) -> bool {
        let name = fs::read_to_string(backing_file).unwrap_or_default();
        Path::new(name.trim()).starts_with(self.directory.path())
    }

    /// Input and output errors of this device that the kernel has noted.
    pub fn errors(&self) -> u64 {
        let Some(source) = self.source.as_deref() else { return 0 };
        let name = source.trim_start_matches("/dev/");
        let Ok(output) = Command::new("dmesg").output() else { return 0 };
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter(|line| line.contains(name));
        lines.filter(|line| line.contains("I/O error") || line.contains("beyond end")).count()
            as u64
    }

    /// Bytes that a node may still write.
    pub fn free_bytes(&self) -> u64 {
        let found = statvfs(self.mounted()).expect("a mounted filesystem has figures");
        found.f_bavail * found.f_frsize
    }

    /// Takes room away until `left_bytes` are left at most.
    pub fn fill_to(&self, left_bytes: u64) {
        let filler = File::options().create(true).append(true).open(self.filler());
        let filler = filler.expect("a file takes no room before it is written");
        let length = || filler.metadata().expect("an open file has a length").len();
        // Bookkeeping of the filesystem takes room, too, and so does whoever writes meanwhile.
        let mut most = u64::MAX;
        while let bytes @ 1.. = self.free_bytes().saturating_sub(left_bytes).min(most) {
            if fallocate(&filler, FallocateFlags::empty(), length(), bytes).is_err() {
                most = bytes / 2;
            }
        }
    }

    /// Gives back what was taken.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("there is a filler");
    }

    fn filler(&self) -> PathBuf {
        self.mounted().join("filler")
    }

    fn limit(&self, bytes: u64) -> bool {
        let (Kind::Image(_), Some(source)) = (self.kind, &self.source) else { return false };
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("loop_limit.py");
        let mut command = Command::new("python3");
        command.arg(script).args([source, &bytes.to_string()]);
        command.status().is_ok_and(|status| status.success())
    }

    fn mounted(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// Makes the filesystem and mounts it, as far as that can be.
    fn make(&mut self) {
        let size_bytes = match self.kind {
            Kind::Image(size_bytes) => size_bytes,
            Kind::Device => SIZE_BYTES,
            Kind::Memory(_) => return self.mount(),
        };
        let image = self.image();
        File::create(&image).and_then(|file| file.set_len(size_bytes)).expect("it takes no room");
        let mut command = Command::new("mkfs.ext4");
        let lazy = "lazy_itable_init=1,lazy_journal_init=1,nodiscard";
        command.args(["-q", "-F", "-m", "0", "-E", lazy]).arg(&image).stderr(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            return;
        }
        if self.kind == Kind::Device {
            let directory = self.directory.path().join("device");
            fs::create_dir(&directory).expect("the directory is new");
            match Device::new(&image, &directory) {
                Ok(device) => self.device = Some(device),
                Err(error) => println!("note: no device of ours: {error}"),
            }
        }
        self.mount();
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Mounts what is there.
    fn mount(&mut self) {
        let mut command = Command::new("mount");
        match (self.kind, &self.device) {
            (Kind::Memory(bytes), _) => {
                command.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"])
            }
            (_, device) => {
                let image = device.as_ref().map_or_else(|| self.image(), Device::file);
                command.args(["-o", "loop,errors=continue"]).arg(image)
            }
        };
        command.arg(self.mounted()).stderr(Stdio::null());
        if command.status().is_ok_and(|status| status.success()) {
            self.source = source(&self.mounted());
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.source.is_some() {
            self.heal();
            let unmounted = Command::new("umount").arg("--lazy").arg(self.mounted()).status();
            if !unmounted.is_ok_and(|status| status.success()) {
                eprintln!("{}: not unmounted", self.mounted().display());
            }
        }
    }
}

/// What is mounted there.
fn source(mounted: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounted = mounted.to_str()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(mounted))?;
    line.split(' ').next().map(str::to_owned)
}
