//! State files: derived state and the index that it includes, in one checksummed file (D9).
//!
//! Written under another name, flushed, renamed, and the directory flushed: a state file is whole
//! or it is not there.
//!
//! Absent on purpose: what the state means.

use crate::bytes_io::{Fields, PutFields, from_hex, hex, length, size};
use crate::disk::Disk;
use crate::recovery::StoredState;
use bateau_protocol::ids::{Incarnation, LogIndex};
use bytes::Bytes;
use std::io;

/// Format of state files that this build reads and writes.
pub const STATE_VERSION: u32 = 1;

const MAGIC: u32 = 0x5453_4D42;
const HEADER_BYTES: usize = 36;
const TEMPORARY: &str = "state.tmp";

/// A state file's name.
pub(crate) fn state_name(applied: LogIndex) -> String {
    format!("state-{}", hex(applied.get()))
}

/// The applied index that a state file's name stands for.
pub(crate) fn parse_state_name(name: &str) -> Option<LogIndex> {
    name.strip_prefix("state-").and_then(from_hex).map(LogIndex::new)
}

/// Whether a file of a log's directory is an unfinished state file.
pub(crate) fn is_temporary(name: &str) -> bool {
    name == TEMPORARY
}

/// Which step of [`store`] failed.
pub(crate) enum StoreError {
    /// Before anything was promised: the state file before still stands.
    Write(io::Error),
    /// A flush, which is never tried again (D7).
    Flush(io::Error),
}

/// Stores a state durably.
pub(crate) fn store(
    disk: &dyn Disk,
    dir: &str,
    incarnation: Incarnation,
    applied: LogIndex,
    state: &[u8],
) -> Result<(), StoreError> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.put_u32(MAGIC);
    header.put_u32(STATE_VERSION);
    header.put_u64(incarnation.get());
    header.put_u64(applied.get());
    header.put_u64(length(state.len()));
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header);
    hasher.update(state);
    header.put_u32(hasher.finalize());
    let temporary = format!("{dir}/{TEMPORARY}");
    let file = disk.create(&temporary).map_err(StoreError::Write)?;
    if let Err(error) = file.write_at(0, &[&header, state]) {
        // Gives the room back; the next start takes the name away if this cannot.
        let _ = disk.unlink(&temporary);
        return Err(StoreError::Write(error));
    }
    disk.flush(&[file], &[]).map_err(StoreError::Flush)?;
    disk.rename(&temporary, &format!("{dir}/{}", state_name(applied)))
        .map_err(StoreError::Write)?;
    disk.flush(&[], &[dir.to_owned()]).map_err(StoreError::Flush)
}

/// Reads a state file. Errors: what is wrong with it, in words.
pub(crate) fn read(
    disk: &dyn Disk,
    dir: &str,
    incarnation: Incarnation,
    applied: LogIndex,
) -> Result<StoredState, String> {
    let read = || {
        let file = disk.open(&format!("{dir}/{}", state_name(applied)))?;
        file.drop_cache(0)?;
        let mut bytes = vec![0; size(file.bytes()?)];
        file.read_at(0, &mut bytes)?;
        Ok(bytes)
    };
    let bytes: Vec<u8> = read().map_err(|error: io::Error| error.to_string())?;
    decode(bytes, incarnation, applied)
}

fn decode(
    bytes: Vec<u8>,
    incarnation: Incarnation,
    applied: LogIndex,
) -> Result<StoredState, String> {
    let short = || "the state file is cut short".to_owned();
    let mut fields = Fields(&bytes);
    let (magic, version) = (fields.u32().ok_or_else(short)?, fields.u32().ok_or_else(short)?);
    if magic != MAGIC || version != STATE_VERSION {
        return Err(format!("state file of magic {magic:#010x} and version {version}"));
    }
    let found = (fields.u64().ok_or_else(short)?, fields.u64().ok_or_else(short)?);
    let state_bytes = fields.u64().ok_or_else(short)?;
    let crc = fields.u32().ok_or_else(short)?;
    if found != (incarnation.get(), applied.get()) {
        return Err(format!("the state of log {:#x} at index {}", found.0, found.1));
    }
    let end = HEADER_BYTES.saturating_add(size(state_bytes));
    let state = bytes.get(HEADER_BYTES..end).ok_or_else(short)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..HEADER_BYTES - 4]);
    hasher.update(state);
    let computed = hasher.finalize();
    if crc != computed {
        return Err(format!("state file CRC is {crc:#010x}, computed {computed:#010x}"));
    }
    Ok(StoredState { applied, bytes: Bytes::from(bytes).slice(HEADER_BYTES..end) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::SimDisk;

    const LOG: Incarnation = Incarnation::new(7);

    fn stored(disk: &SimDisk, applied: u64, state: &[u8]) {
        let done = store(disk, "x", LOG, LogIndex::new(applied), state);
        assert!(done.is_ok());
    }

    #[test]
    fn a_state_file_survives_a_crash_once_stored() {
        let disk = SimDisk::new(1, 1 << 20);
        disk.create_dir("x").unwrap();
        disk.flush(&[], &[String::new()]).unwrap();
        stored(&disk, 9, b"what the commands built");
        let found = read(&disk.crash(1), "x", LOG, LogIndex::new(9)).unwrap();
        assert_eq!(&found.bytes[..], b"what the commands built");
    }

    #[test]
    fn every_flipped_bit_of_a_state_file_is_noticed() {
        let disk = SimDisk::new(1, 1 << 20);
        disk.create_dir("x").unwrap();
        stored(&disk, 9, b"state");
        let path = format!("x/{}", state_name(LogIndex::new(9)));
        let bytes = disk.contents()[&path].len() as u64;
        for bit in 0..bytes * 8 {
            let damaged = disk.fork();
            damaged.flip_bit(&path, bit / 8, (bit % 8) as u8).unwrap();
            assert!(read(&damaged, "x", LOG, LogIndex::new(9)).is_err(), "bit {bit}");
        }
    }
}
