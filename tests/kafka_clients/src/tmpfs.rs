//! A filesystem of a test's own, small enough to be filled.
//!
//! Invariant: it is mounted inside of [`crate::namespace::enter_to_mount`] alone, so no other
//! process sees it and nothing of it stays behind.
//! Absent on purpose: quotas, and filesystems that need a block device.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scratch::ScratchDirectory;

/// A mounted tmpfs.
#[derive(Debug)]
pub struct Tmpfs {
    directory: ScratchDirectory,
}

impl Tmpfs {
    /// Mounts an empty one of `bytes`.
    pub fn mount(bytes: u64) -> Self {
        let directory = ScratchDirectory::new("disk");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"]);
        let status = command.arg(directory.path()).status().expect("mount was there when probed");
        assert!(status.success(), "{command:?} failed");
        Self { directory }
    }

    /// The data directory in it, which need not exist.
    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes room away until `left_bytes` are left.
    pub fn fill_to(&self, left_bytes: u64) {
        self.take(self.free_bytes().saturating_sub(left_bytes));
    }

    /// Takes all room that is left, to the last page.
    pub fn fill_up(&self) {
        self.take(u64::MAX);
    }

    /// Gives back what the filler took.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("there is a filler");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    fn free_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(self.path()).expect("a mounted filesystem has figures");
        found.f_bavail * found.f_frsize
    }

    /// Takes so many bytes, or all that are left.
    fn take(&self, mut bytes: u64) {
        const PAGE: [u8; 4096] = [b'f'; 4096];
        let filler = File::options().create(true).append(true).open(self.filler());
        let mut filler = filler.expect("a file takes no room before it is written");
        while bytes > 0 {
            let length = usize::try_from(bytes).unwrap_or(PAGE.len()).min(PAGE.len());
            match filler.write(&PAGE[..length]) {
                Ok(written) => bytes -= u64::try_from(written).expect("a page has few bytes"),
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                Err(error) => panic!("{}: {error}", self.filler().display()),
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // The mount ends with the namespace in any case; the directory below it can go now.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{}: not unmounted", self.path().display());
        }
    }
}
