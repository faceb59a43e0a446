//! The last words of a process that touches a page of a mapped file which cannot be had: the medium
//! fails, or somebody has cut the file short.
//!
//! ```text
//!   page that is not there ─> SIGBUS ─> address ─> /proc/self/maps ─> file, byte ─> stderr, abort
//! ```
//!
//! Reads that may be cold are read in first, where that is an error ([`LogReader::populate`]). What
//! was in memory a moment ago can still be gone; then the kernel knows no other way than a signal.
//! What is wrong is found by the next start, or by whoever reads there next.
//!
//! Invariant: [`tell`] runs inside of the handler of a signal, at any moment. It allocates nothing,
//! takes no lock and calls nothing but `open`, `read`, `write` and `close`.
//!
//! Absent on purpose: going on. The instruction that was interrupted has no value to go on with.
//!
//! [`LogReader::populate`]: crate::LogReader::populate

#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "nothing calls it there"))]

use crate::sys;
use rustix::fs::{Mode, OFlags};
use std::io::{Cursor, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// More than a line of the kernel's list, whose paths have 4,096 bytes at most.
const LINE_BYTES_MAX: usize = 8192;

/// Has this process name file and position on stderr and abort, when a page of a mapped file cannot
/// be had. Without this it ends by `SIGBUS`, without a word. For the process of a node: a signal
/// has one handler.
///
/// Only on Linux; elsewhere nothing is changed.
pub fn name_unreadable_pages() {
    sys::catch_bus_errors();
}

/// Names the file that is mapped at `address`, and the position in it, once. False where no file
/// is.
pub(crate) fn tell(address: usize) -> bool {
    static TOLD: AtomicBool = AtomicBool::new(false);
    let Ok(maps) = rustix::fs::open(c"/proc/self/maps", OFlags::RDONLY, Mode::empty()) else {
        return false;
    };
    let mut read = |into: &mut [u8]| rustix::io::read(maps.as_fd(), into).unwrap_or(0);
    let address = u64::try_from(address).unwrap_or(u64::MAX);
    find(&mut read, address, |path, position| {
        // Another thread may have met the same; one line is enough.
        if !TOLD.swap(true, Ordering::AcqRel) {
            let mut line = [0; LINE_BYTES_MAX];
            let said = say(&mut line, path, position);
            let _ = rustix::io::write(std::io::stderr(), said);
        }
    })
}

/// What is said, in one piece, so that no other line comes between.
fn say<'a>(line: &'a mut [u8], path: &[u8], position: u64) -> &'a [u8] {
    let named = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let is_segment = named.ends_with(b".log");
    let what: &[u8] = if is_segment { b"segment " } else { b"mapped file " };
    let mut cursor = Cursor::new(&mut *line);
    let _ = cursor.write_all(b"error: ").and_then(|()| cursor.write_all(what));
    let _ = cursor.write_all(path);
    let _ = writeln!(
        cursor,
        ": byte {position} cannot be read: its medium fails, or another program has cut the file \
         short; the process aborts, and the next start examines the log"
    );
    let bytes = usize::try_from(cursor.position()).unwrap_or(0);
    line.get(..bytes).unwrap_or_default()
}

/// Looks for an address in a list such as `/proc/self/maps`, that comes in pieces.
fn find(
    read: &mut impl FnMut(&mut [u8]) -> usize,
    address: u64,
    found: impl FnOnce(&[u8], u64),
) -> bool {
    let mut buffer = [0; LINE_BYTES_MAX];
    let mut filled = 0;
    loop {
        let Some(rest) = buffer.get_mut(filled..) else { return false };
        let more = read(rest);
        if more == 0 {
            return false;
        }
        filled += more;
        let mut from = 0;
        while let Some(rest) = buffer.get(from..filled) {
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { break };
            let (line, _) = rest.split_at(end);
            if let Some((path, position)) = parse(line, address) {
                found(path, position);
                return true;
            }
            from += end + 1;
        }
        buffer.copy_within(from..filled, 0);
        filled -= from;
    }
}

/// Path and position, where a line of the list is about the file that is mapped at an address.
fn parse(line: &[u8], address: u64) -> Option<(&[u8], u64)> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut range = fields.next()?.splitn(2, |byte| *byte == b'-');
    let (start, end) = (hexadecimal(range.next()?)?, hexadecimal(range.next()?)?);
    let behind = address.checked_sub(start).filter(|_| address < end)?;
    // Rights, position, device, inode, and blanks before the path.
    let position = hexadecimal(fields.nth(1)?)?;
    let path = fields.nth(2)?.trim_ascii_start();
    path.starts_with(b"/").then_some((path, position.saturating_add(behind)))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, digit| {
        let value = char::from(*digit).to_digit(16)?;
        sum.checked_mul(16)?.checked_add(u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
55d1c0000000-55d1c0400000 r--p 00001000 fe:00 131     /usr/bin/bateau
7f10a0000000-7f10a0010000 rw-p 00000000 00:00 0 
7f10a0010000-7f10a0030000 r--s 00000000 fe:00 77                 /data of 1/partitions/0a/01.log
7f10a0030000-7f10a0050000 r--s 00010000 fe:00 78                 /data/02.log (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
";

    /// The list in pieces of so many bytes.
    fn found(address: u64, piece_bytes: usize) -> Option<(String, u64)> {
        let mut rest = LIST.as_bytes();
        let mut read = |into: &mut [u8]| {
            let bytes = piece_bytes.min(rest.len()).min(into.len());
            let (piece, behind) = rest.split_at(bytes);
            into[..bytes].copy_from_slice(piece);
            rest = behind;
            bytes
        };
        let mut seen = None;
        let told = find(&mut read, address, |path, position| {
            seen = Some((String::from_utf8(path.to_vec()).unwrap(), position));
        });
        assert_eq!(told, seen.is_some());
        seen
    }

    #[test]
    fn an_address_is_a_position_in_the_file_that_is_mapped_there() {
        for piece_bytes in [1, 7, 100, LINE_BYTES_MAX] {
            let segment = "/data of 1/partitions/0a/01.log".to_owned();
            assert_eq!(found(0x7f10_a001_0000, piece_bytes), Some((segment.clone(), 0)));
            assert_eq!(found(0x7f10_a002_ffff, piece_bytes), Some((segment, 0x1_ffff)));
            let deleted = "/data/02.log (deleted)".to_owned();
            assert_eq!(found(0x7f10_a003_0005, piece_bytes), Some((deleted, 0x1_0005)));
        }
    }

    #[test]
    fn memory_that_is_no_file_is_not_named() {
        for address in [0, 0x7f10_a000_0000, 0x7f10_a005_0000, 0x7ffc_0000_0010, u64::MAX] {
            assert_eq!(found(address, 64), None);
        }
    }

    #[test]
    fn the_line_names_segment_and_byte_and_fits_where_a_path_is_too_long() {
        let mut line = [0; LINE_BYTES_MAX];
        let said = say(&mut line, b"/data/02.log (deleted)", 4096);
        let said = String::from_utf8(said.to_vec()).unwrap();
        assert!(
            said.starts_with("error: segment /data/02.log (deleted): byte 4096 cannot be read")
        );
        assert!(said.ends_with("examines the log\n") && said.lines().count() == 1, "{said}");
        let said = say(&mut line, b"/lib/libc.so", 1);
        assert!(said.starts_with(b"error: mapped file /lib/libc.so: byte 1 "));
        let mut short = [0; 20];
        assert!(say(&mut short, b"/data/02.log", 4096).len() <= 20);
    }
}
