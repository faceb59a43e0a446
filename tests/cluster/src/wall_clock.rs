//! A wall clock of one node's own, which jumps and drifts as it is told.
//!
//! ```text
//!   WallClock ── file ──shared map── wall_clock.c, loaded before the node's C library
//!                 └ offset, gain, and how often the node asked while it was another
//! ```
//!
//! Invariants
//! - Only the wall clock is another; what measures time is the system's.
//! - A node that asked is counted by the node itself.
//!
//! Absent on purpose: a library that is built ahead. A C compiler is there, or there is no clock.

use kafka_clients_tests::scratch::ScratchDirectory;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Four numbers of eight bytes, as `wall_clock.c` has them.
const FILE_BYTES: usize = 32;
const ASKED_AT: u64 = 24;

/// The library, compiled.
#[derive(Debug)]
pub struct Library {
    directory: ScratchDirectory,
}

impl Library {
    /// Compiles it; `None` where that cannot be.
    pub fn compile() -> Option<Self> {
        let library = Self { directory: ScratchDirectory::new("wall-clock") };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("wall_clock.c");
        let mut command = Command::new("cc");
        command.args(["-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
        command.arg(library.path()).arg(source);
        command.status().is_ok_and(|status| status.success()).then_some(library)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("wall_clock.so")
    }

    /// The clock of one more node.
    pub fn clock(&self, node: usize) -> WallClock {
        let path = self.directory.path().join(format!("node{node}"));
        let file = File::options().create(true).read(true).write(true).truncate(true).open(&path);
        let file = file.expect("the directory is ours");
        file.write_all_at(&[0; FILE_BYTES], 0).expect("it has room");
        WallClock { library: self.path(), path, file }
    }
}

/// A node's wall clock.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl WallClock {
    /// Lets a program have it.
    pub fn give(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("BATEAU_TEST_WALL_CLOCK", &self.path);
    }

    /// From now on it is so many seconds ahead, or behind, and gains so many milliseconds in a
    /// second, or loses them.
    pub fn set(&self, ahead_s: i64, gain_ms: i64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let since_ns = i64::try_from(now.as_nanos()).expect("it is not 2262 yet");
        let words = [ahead_s * 1_000_000_000, gain_ms * 1_000_000, since_ns];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.file.write_all_at(&bytes, 0).expect("it has room");
    }

    /// How often its node asked while it was another than the system's.
    pub fn asked(&self) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, ASKED_AT).expect("it is as long as that");
        u64::from_ne_bytes(bytes)
    }
}
