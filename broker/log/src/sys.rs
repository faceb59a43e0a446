//! System calls that `rustix` lacks: `sync_file_range` and `mincore`.
//!
//! Absent on purpose: anything with a safe wrapper elsewhere, and every decision.

#![allow(unsafe_code, reason = "two system calls without a safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{c_int, c_uchar, c_uint, c_void};

    pub(super) const SYNC_FILE_RANGE_WRITE: c_uint = 2;

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
