//! A filesystem with one file, whose bytes are whatever a [`Medium`] makes of them.
//!
//! ```text
//!   ext4 ── loop device ── file `image` ── /dev/fuse ── thread of the test ── Medium
//! ```
//!
//! The loop device makes a block device of it, so that what is above is the kernel's own: its
//! filesystem, its pages, its order of writes and flushes. Requests are those of `linux/fuse.h`,
//! protocol 7.31.
//!
//! # Invariants
//!
//! - Nothing of the file is kept in pages (`FOPEN_DIRECT_IO`): each block request arrives here.
//! - Requests are answered one after the other, in the order of their arrival.
//!
//! # Absent on purpose
//!
//! Other files, names, times and rights.

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;

/// Name of the file.
pub const FILE: &str = "image";

/// What is behind the file. Errors are numbers of the system, EIO for instance.
pub trait Medium: Send + 'static {
    /// Its size.
    fn size_bytes(&self) -> u64;
    /// Reads so many bytes.
    ///
    /// # Errors
    /// As the medium has them.
    fn read(&mut self, at: u64, bytes: usize) -> io::Result<Vec<u8>>;
    /// Takes bytes; they need not be durable.
    ///
    /// # Errors
    /// As the medium has them.
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes durable what was taken.
    ///
    /// # Errors
    /// As the medium has them.
    fn flush(&mut self) -> io::Result<()>;
}

const PROTOCOL: [u32; 2] = [7, 31];
const HEADER_BYTES: usize = 40;
/// Bytes of one write at most, and pages of 4 KiB of one request.
const WRITE_BYTES_MAX: u32 = 1 << 20;
const PAGES_MAX: u32 = 256;
/// `FUSE_BIG_WRITES` and `FUSE_MAX_PAGES`.
const FEATURES: u32 = 1 << 5 | 1 << 22;
const FOPEN_DIRECT_IO: u32 = 1;
/// Node ids: the directory has this one by the protocol, the file the next.
const DIRECTORY_NODE: u64 = 1;
const FILE_NODE: u64 = 2;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSYS: i32 = 38;

/// A mounted one; unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    directory: PathBuf,
}

impl Mounted {
    /// Mounts it in this directory, and serves it from a thread of its own.
    ///
    /// # Errors
    /// The system allows none.
    pub fn new(directory: &Path, medium: impl Medium) -> io::Result<Self> {
        let channel = File::options().read(true).write(true).open("/dev/fuse")?;
        let how = format!("fd={},rootmode=40000,user_id=0,group_id=0", channel.as_raw_fd());
        let how = CString::new(how)?;
        mount("test", directory, "fuse.test", MountFlags::empty(), how.as_c_str())?;
        thread::spawn(move || serve(&channel, medium));
        Ok(Self { directory: directory.to_owned() })
    }

    /// The file.
    pub fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.directory, UnmountFlags::DETACH) {
            eprintln!("{}: not unmounted: {error}", self.directory.display());
        }
    }
}

/// Answers requests until it is unmounted.
fn serve(mut channel: &File, mut medium: impl Medium) {
    let room = HEADER_BYTES + 4_096 + usize::try_from(WRITE_BYTES_MAX).expect("it is 1 MiB");
    let mut request = vec![0; room];
    loop {
        let count = match channel.read(&mut request) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // A request that was taken back.
            Err(error) if error.raw_os_error() == Some(ENOENT) => continue,
            Err(_) => return,
        };
        let Some(request) = Request::of(request.get(..count).unwrap_or_default()) else { return };
        let Some(answer) = answer(&request, &mut medium) else { continue };
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(error) => (error, Vec::new()),
        };
        let length = u32::try_from(16 + body.len()).expect("a read is small");
        let mut frame = Words::default();
        frame.u32(length).u32(error.wrapping_neg().cast_unsigned()).u64(request.unique);
        frame.bytes.extend_from_slice(&body);
        // It fails where the request was taken back, or the filesystem is gone.
        let _ = channel.write(&frame.bytes);
    }
}

struct Request<'a> {
    kind: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

impl<'a> Request<'a> {
    fn of(bytes: &'a [u8]) -> Option<Self> {
        let (kind, unique, node) = (u32_at(bytes, 4)?, u64_at(bytes, 8)?, u64_at(bytes, 16)?);
        Some(Self { kind, unique, node, body: bytes.get(HEADER_BYTES..)? })
    }

    /// Offset and length of a read or a write.
    fn range(&self) -> Result<(u64, usize), i32> {
        let at = u64_at(self.body, 8).ok_or(EIO)?;
        let bytes = u32_at(self.body, 16).and_then(|bytes| usize::try_from(bytes).ok());
        Ok((at, bytes.ok_or(EIO)?))
    }
}

/// The body of an answer or an error; `None` where none is due.
fn answer(request: &Request<'_>, medium: &mut impl Medium) -> Option<Result<Vec<u8>, i32>> {
    let mut words = Words::default();
    let done = match request.kind {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // LOOKUP
        1 if request.body.strip_suffix(b"\0") == Some(FILE.as_bytes()) => {
            // For ever: node, generation, and how long name and attributes hold.
            words.u64(FILE_NODE).u64(0).u64(u64::from(u32::MAX)).u64(u64::from(u32::MAX));
            words.u32(0).u32(0);
            attributes(&mut words, FILE_NODE, medium.size_bytes());
            Ok(())
        }
        1 => Err(ENOENT),
        // GETATTR, SETATTR
        3 | 4 => {
            words.u64(u64::from(u32::MAX)).u32(0).u32(0);
            attributes(&mut words, request.node, medium.size_bytes());
            Ok(())
        }
        // OPEN, OPENDIR
        14 | 27 => {
            words.u64(0).u32(FOPEN_DIRECT_IO).u32(0);
            Ok(())
        }
        // READ
        15 => request.range().and_then(|(at, bytes)| {
            words.bytes = medium.read(at, bytes).map_err(|error| number(&error))?;
            Ok(())
        }),
        // WRITE
        16 => request.range().and_then(|(at, bytes)| {
            let data = request.body.get(40..40 + bytes).ok_or(EIO)?;
            medium.write(at, data).map_err(|error| number(&error))?;
            words.u32(u32::try_from(bytes).map_err(|_| EIO)?).u32(0);
            Ok(())
        }),
        // STATFS
        17 => {
            words.zeros(80);
            Ok(())
        }
        // RELEASE, FLUSH, RELEASEDIR, ACCESS, DESTROY
        18 | 25 | 29 | 34 | 38 => Ok(()),
        // FSYNC
        20 => medium.flush().map_err(|error| number(&error)),
        // INIT
        26 => {
            words.u32(PROTOCOL[0]).u32(PROTOCOL[1]).u32(0).u32(FEATURES).u32(0);
            words.u32(WRITE_BYTES_MAX).u32(1).u32(PAGES_MAX).u32(0).zeros(28);
            Ok(())
        }
        _ => Err(ENOSYS),
    };
    Some(done.map(|()| words.bytes))
}

fn number(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(EIO)
}

/// `struct fuse_attr`.
fn attributes(words: &mut Words, node: u64, size_bytes: u64) {
    let is_directory = node == DIRECTORY_NODE;
    let size_bytes = if is_directory { 0 } else { size_bytes };
    let mode = if is_directory { 0o040_700 } else { 0o100_600 };
    words.u64(node).u64(size_bytes).u64(size_bytes / 512).zeros(3 * 8 + 3 * 4);
    words.u32(mode).u32(1).u32(0).u32(0).u32(0).u32(4_096).u32(0);
}

/// Numbers as the kernel of this machine has them.
#[derive(Default)]
struct Words {
    bytes: Vec<u8>,
}

impl Words {
    fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_ne_bytes());
        self
    }

    fn zeros(&mut self, count: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len() + count, 0);
        self
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}
