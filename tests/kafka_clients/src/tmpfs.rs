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

    /// Takes `bytes` of the room away.
    ///
    /// Panics when there are not so many.
    pub fn fill(&self, bytes: u64) {
        let filler = File::create(self.filler()).expect("a new file takes no room");
        let left = self.take(filler, bytes);
        assert_eq!(left, 0, "there was no room for {left} bytes of the filler");
    }

    /// Takes all room that is left, to the last page.
    pub fn fill_up(&self) {
        let filler = File::options().create(true).append(true).open(self.filler());
        self.take(filler.expect("a file takes no room before it is written"), u64::MAX);
    }

    /// Gives back what the filler took.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("there is a filler");
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Returns the bytes that found no room.
    fn take(&self, mut filler: File, mut bytes: u64) -> u64 {
        const PAGE: [u8; 4096] = [b'f'; 4096];
        while bytes > 0 {
            let length = usize::try_from(bytes).unwrap_or(PAGE.len()).min(PAGE.len());
            match filler.write(&PAGE[..length]) {
                Ok(written) => bytes -= u64::try_from(written).expect("a page has few bytes"),
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{}: {error}", self.filler().display()),
            }
        }
        bytes
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
