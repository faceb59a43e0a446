//! System calls that `rustix` lacks: `sync_file_range`, `mincore` and the handler of a signal; and
//! what is known of filesystems.
//!
//! Absent on purpose: anything with a safe wrapper elsewhere, and every decision.

#![allow(unsafe_code, reason = "system calls without a safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{c_int, c_uchar, c_uint, c_void};

    pub(super) const SYNC_FILE_RANGE_WRITE: c_uint = 2;
    /// Waits before, writes, waits behind.
    pub(super) const SYNC_FILE_RANGE_WRITE_AND_WAIT: c_uint = 7;
    /// `f_type` of ext4, and of its forerunners, which the same code serves.
    pub(super) const EXT4_SUPER_MAGIC: u64 = 0xEF53;

    unsafe extern "C" {
        pub(super) fn sync_file_range(
            fd: c_int,
            offset: i64,
            byte_count: i64,
            flags: c_uint,
        ) -> c_int;
        pub(super) fn mincore(address: *mut c_void, length: usize, pages: *mut c_uchar) -> c_int;
    }
}

/// Starts to write out all dirty pages of a file, without waiting for them. A hint: what it cannot
/// do, the `fdatasync` that follows does, and reports.
pub(crate) fn start_write_out(file: BorrowedFd<'_>) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the descriptor is open for as long as the borrow lives; no memory is passed.
        let _ =
            unsafe { linux::sync_file_range(file.as_raw_fd(), 0, 0, linux::SYNC_FILE_RANGE_WRITE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file.as_raw_fd();
}

/// Writes all dirty pages of a file out and waits for the device to have them.
///
/// Errors: the system's, write-back errors among them. They are reported once.
pub(crate) fn write_out(file: BorrowedFd<'_>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let flags = linux::SYNC_FILE_RANGE_WRITE_AND_WAIT;
        // SAFETY: the descriptor is open for as long as the borrow lives; no memory is passed.
        match unsafe { linux::sync_file_range(file.as_raw_fd(), 0, 0, flags) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
    #[cfg(not(target_os = "linux"))]
    Ok(rustix::fs::fdatasync(file)?)
}

/// Whether the filesystem of an open file writes over a block where that lies and never shares
/// blocks between files, so that such a write changes nothing that its journal would have to hold.
/// "No" where that is not known: of XFS, for a copy may share blocks with a file (`cp --reflink`).
pub(crate) fn writes_in_place(file: BorrowedFd<'_>) -> bool {
    #[cfg(target_os = "linux")]
    {
        let found = rustix::fs::fstatfs(file);
        found.is_ok_and(|found| u64::try_from(found.f_type) == Ok(linux::EXT4_SUPER_MAGIC))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = file;
        false
    }
}

/// Bytes of a page of memory, at least; residency is asked for in these units.
const PAGE_BYTES: usize = 4096;

/// Whether every page of `range` is in memory.
///
/// - `range`: a part of a live mapping.
///
/// Errors: the system's, which a caller may take for "no".
pub(crate) fn is_resident(range: &[u8]) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        let start = range.as_ptr() as usize / PAGE_BYTES * PAGE_BYTES;
        let bytes = range.as_ptr() as usize + range.len() - start;
        let mut pages = vec![0_u8; bytes.div_ceil(PAGE_BYTES)];
        // SAFETY: `start` is the page that holds the first byte of a live mapping, so the range
        // lies within that mapping; `pages` has a byte for each of its pages; nothing is read or
        // written through `start`.
        let result = unsafe {
            linux::mincore(std::ptr::with_exposed_provenance_mut(start), bytes, pages.as_mut_ptr())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages.iter().all(|page| page & 1 == 1))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (range, PAGE_BYTES);
        Ok(true)
    }
}

/// Lets a page of a map that cannot be had (`SIGBUS`) be told to
/// [`tell`](crate::unreadable::tell), with its address, before the process ends. What is no such
/// page keeps the signal's usual end.
pub(crate) fn catch_bus_errors() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: all zeros are a valid `sigaction`: no handler, no flags and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        let handler: extern "C" fn(_, _, _) = caught;
        action.sa_sigaction = handler as *const () as libc::sighandler_t;
        // On the thread's own stack: the one for signals is too small for a path.
        action.sa_flags = libc::SA_SIGINFO;
        // SAFETY: `caught` has the signature that SA_SIGINFO asks for, and does only what a handler
        // may do at any moment: no memory is allocated and no lock taken.
        let _ = unsafe { libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut()) };
    }
}

#[cfg(target_os = "linux")]
extern "C" fn caught(signal: i32, info: *mut libc::siginfo_t, _context: *mut std::ffi::c_void) {
    // SAFETY: the kernel calls this with a valid `info`, which is this call's alone. Codes above 0
    // are the kernel's own, of faults, which have an address.
    let address = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr()) };
    if address.is_some_and(|address| crate::unreadable::tell(address.addr())) {
        std::process::abort();
    }
    // SAFETY: both may be called in a handler, and no memory is passed. The signal that is raised
    // comes when this returns.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
