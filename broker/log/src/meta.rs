//! The node's meta log: term, vote, commit and durable mark of every replica, in one place, so
//! that ten thousand logs share one flush (D2).
//!
//! ```text
//!   meta.a   │ header │ seal │ checkpoint │ batch │ batch │ … │ superseded │
//!   meta.b   │ header │ seal │ checkpoint │ batch │ batch │ …        <- active, a generation on
//! ```
//!
//! Records are appended to the active copy, a batch per flush. When it is full, a checkpoint of
//! everything goes to the other copy and is flushed, then its seal is flushed, and it is active.
//! The older copy counts only if the newer was never sealed: falling back forgets votes.
//!
//! Invariants
//! - `I-LOG-4` A stored commit never exceeds what is flushed locally, so a stored commit above the
//!   last index proves loss.
//! - `I-LOG-5` At most one batch is unflushed: a bad batch with a good one behind it is damage, a
//!   bad last batch is a torn tail.
//!
//! Absent on purpose: a file per replica; repair of a damaged copy (D10: the node stops).

mod record;

pub(crate) use record::{Batch, MetaState, Record, ReplicaMeta, SnapshotMark, TruncateMark};

use crate::bytes_io::{Fields, PutFields, length, size};
use crate::disk::{Disk, DiskFile};
use bateau_protocol::ids::FlushSequence;
use std::io;
use std::sync::Arc;

/// Format of meta logs that this build reads and writes.
pub const META_VERSION: u32 = 1;

/// Names of the two copies.
pub(crate) const COPIES: [&str; 2] = ["meta.a", "meta.b"];

/// Size of a copy at its birth, in bytes, unless told otherwise.
pub(crate) const COPY_BYTES: u64 = 512 * 1024;

const SEAL_AT: u64 = 4096;
const BATCHES_AT: u64 = 8192;
const MAGIC: u32 = 0x4154_4D42;
const SEAL_MAGIC: u32 = 0x4C53_4D42;
const HEADER_BYTES: usize = 20;
const SEAL_BYTES: usize = 16;

/// The open meta log.
#[derive(Debug)]
pub(crate) struct MetaLog {
    disk: Arc<dyn Disk>,
    /// Which of [`COPIES`] is active.
    active: usize,
    file: Arc<dyn DiskFile>,
    generation: u64,
    /// Sequence number of the next batch.
    sequence: u64,
    position: u64,
    capacity: u64,
    /// Size of a new copy, in bytes; a checkpoint that is large makes it larger.
    copy_bytes: u64,
    /// The last batch's flush has returned.
    is_flushed: bool,
    /// Everything that was written.
    pub(crate) state: MetaState,
}

/// Why the meta log is not opened.
#[derive(Debug)]
pub(crate) enum MetaError {
    /// A newer Bateau wrote it.
    NewerFormat { file: &'static str, found: u32 },
    /// It is damaged: votes may be lost.
    Corrupt { file: &'static str, position: u64, reason: String },
    /// The system refused a call.
    Io(io::Error),
}

impl From<io::Error> for MetaError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What is left of one copy.
#[derive(Debug, Default)]
struct Copy {
    bytes: u64,
    /// Generation by an intact header.
    generation: Option<u64>,
    /// Generation by an intact seal.
    sealed: Option<u64>,
    batches: u64,
    end: u64,
    state: MetaState,
    superseded: bool,
    /// A bad batch with a good one behind it.
    damage: Option<(u64, String)>,
}

impl Copy {
    fn is_sealed(&self) -> bool {
        self.generation.is_some() && self.sealed == self.generation && self.batches > 0
    }
}

impl MetaLog {
    /// A new meta log; flushes everything but the directory's entry of it, which `dirs` of the
    /// next flush must name.
    ///
    /// - `copy_bytes`: size of a copy.
    pub(crate) fn create(disk: Arc<dyn Disk>, copy_bytes: u64) -> io::Result<Self> {
        let file = disk.create(COPIES[0])?;
        file.allocate(copy_bytes)?;
        let mut log = Self {
            disk,
            active: 0,
            file,
            generation: 1,
            sequence: 1,
            position: 0,
            capacity: copy_bytes,
            copy_bytes,
            is_flushed: true,
            state: MetaState::default(),
        };
        let checkpoint = log.checkpoint(log.generation).encode();
        log.position = write_checkpoint(&*log.file, log.generation, &checkpoint)?;
        log.disk.flush(&[log.file()], &[String::new()])?;
        seal(&*log.file, log.generation)?;
        log.disk.flush(&[log.file()], &[])?;
        Ok(log)
    }

    /// Opens what a process before left; `None` where there is no meta log at all.
    ///
    /// - `copy_bytes`: size of a copy that is made from now on.
    pub(crate) fn open(disk: Arc<dyn Disk>, copy_bytes: u64) -> Result<Option<Self>, MetaError> {
        let names: Vec<String> = disk.list("")?.into_iter().map(|entry| entry.name).collect();
        let mut copies = Vec::new();
        for name in COPIES {
            let exists = names.iter().any(|found| found == name);
            copies.push(if exists { Some(read_copy(&*disk, name)?) } else { None });
        }
        if copies.iter().all(Option::is_none) {
            return Ok(None);
        }
        let newest = (0..COPIES.len())
            .filter(|at| copies[*at].as_ref().is_some_and(Copy::is_sealed))
            .max_by_key(|at| copies[*at].as_ref().and_then(|copy| copy.generation));
        let Some(active) = newest else { return no_sealed_copy(&copies) };
        let other = copies[1 - active].take().unwrap_or_default();
        let Some(copy) = copies[active].take() else { return Ok(None) };
        let corrupt = |file: usize, position, reason: &str| {
            Err(MetaError::Corrupt { file: COPIES[file], position, reason: reason.to_owned() })
        };
        if copy.superseded || other.sealed > copy.generation {
            return corrupt(1 - active, 0, "it was in use and cannot be read");
        }
        if let Some((position, reason)) = copy.damage {
            return corrupt(active, position, &reason);
        }
        let highest = copy.generation.max(other.generation).unwrap_or_default();
        let file = disk.open(COPIES[active])?;
        let log = Self {
            disk,
            active,
            file,
            generation: copy.generation.unwrap_or(highest),
            sequence: copy.batches,
            position: copy.end,
            capacity: copy.bytes,
            copy_bytes,
            is_flushed: true,
            state: copy.state,
        };
        Ok(Some(log))
    }

    /// Nothing was promised to any replica: from now on there are none. Flushed.
    pub(crate) fn forget_replicas(&mut self) -> io::Result<()> {
        self.state.replicas.clear();
        self.switch()
    }

    /// The active copy, for the flush of a batch.
    pub(crate) fn file(&self) -> Arc<dyn DiskFile> {
        Arc::clone(&self.file)
    }

    /// A flush that named [`MetaLog::file`] has returned.
    pub(crate) fn note_flushed(&mut self) {
        self.is_flushed = true;
    }

    /// Appends one batch, and applies it to the state. Not flushed: the caller's flush
    /// `flush_sequence` names [`MetaLog::file`], which may have changed by this call, and
    /// [`MetaLog::note_flushed`] follows it.
    pub(crate) fn append(
        &mut self,
        records: Vec<Record>,
        flush_sequence: FlushSequence,
    ) -> io::Result<()> {
        assert!(self.is_flushed, "I-LOG-5: the batch before {} is not flushed", self.sequence);
        let batch =
            Batch { generation: self.generation, sequence: self.sequence, flush_sequence, records };
        let bytes = batch.encode();
        // The superseding batch has to fit behind every other one.
        let room = length(bytes.len()) + length(Batch::superseding_bytes());
        batch.apply(&mut self.state);
        if self.position + room > self.capacity {
            return self.switch();
        }
        self.file.write_at(self.position, &[&bytes])?;
        self.position += length(bytes.len());
        self.sequence += 1;
        self.is_flushed = false;
        Ok(())
    }

    /// Whether a switch should not be put off much longer.
    pub(crate) fn is_filling(&self) -> bool {
        self.position > self.capacity / 4 * 3
    }

    /// Moves to the other copy: checkpoint, flush, seal, flush, and a note in the old one.
    ///
    /// Errors: no room, and this copy stays the one in use, to be written on; any other error is
    /// the end of this process's writing. So is every error of the seal, which may be there in
    /// spite of it: whatever were written to this copy then, a start would go by the other one.
    pub(crate) fn switch(&mut self) -> io::Result<()> {
        let other = 1 - self.active;
        let generation = self.generation + 1;
        let checkpoint = self.checkpoint(generation).encode();
        let room = (length(checkpoint.len()) * 4).next_multiple_of(4096);
        // Not emptied: should this process end before the seal, the old content of this copy is
        // of no use, but a larger allocation is.
        let file = match self.disk.open(COPIES[other]) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.create(COPIES[other])?
            }
            result => result?,
        };
        file.allocate(self.copy_bytes.max(room))?;
        let position = write_checkpoint(&*file, generation, &checkpoint)?;
        self.disk.flush(&[Arc::clone(&file)], &[String::new()]).map_err(never_again)?;
        seal(&*file, generation).map_err(never_again)?;
        self.disk.flush(&[Arc::clone(&file)], &[]).map_err(never_again)?;
        let capacity = file.bytes().map_err(never_again)?;
        let note = Batch {
            generation: self.generation,
            sequence: self.sequence,
            flush_sequence: self.state.flush_sequence,
            records: vec![Record::Superseded],
        };
        let (old, old_position) = (std::mem::replace(&mut self.file, file), self.position);
        self.active = other;
        (self.generation, self.sequence) = (generation, 1);
        (self.position, self.capacity) = (position, capacity);
        old.write_at(old_position, &[&note.encode()]).map_err(never_again)?;
        self.disk.flush(&[old], &[]).map_err(never_again)
    }

    fn checkpoint(&self, generation: u64) -> Batch {
        Batch {
            generation,
            sequence: 0,
            flush_sequence: self.state.flush_sequence,
            records: self.state.to_records(),
        }
    }
}

/// Writes header, an empty seal and the checkpoint of a generation in one piece; where that ends.
fn write_checkpoint(file: &dyn DiskFile, generation: u64, checkpoint: &[u8]) -> io::Result<u64> {
    let mut bytes = Vec::new();
    bytes.put_u32(MAGIC);
    bytes.put_u32(META_VERSION);
    bytes.put_u64(generation);
    let crc = crc32fast::hash(&bytes);
    bytes.put_u32(crc);
    bytes.resize(size(BATCHES_AT), 0);
    bytes.extend_from_slice(checkpoint);
    file.write_at(0, &[&bytes])?;
    Ok(length(bytes.len()))
}

fn seal(file: &dyn DiskFile, generation: u64) -> io::Result<()> {
    let mut bytes = Vec::new();
    bytes.put_u32(SEAL_MAGIC);
    bytes.put_u64(generation);
    let crc = crc32fast::hash(&bytes);
    bytes.put_u32(crc);
    file.write_at(SEAL_AT, &[&bytes])
}

/// An error behind which nobody knows what the medium has (D7): room does not help.
fn never_again(error: io::Error) -> io::Error {
    io::Error::other(error)
}

/// No copy is sealed: either the very first start ended before its seal, or both are damaged.
fn no_sealed_copy(copies: &[Option<Copy>]) -> Result<Option<MetaLog>, MetaError> {
    for (at, copy) in copies.iter().enumerate() {
        let Some(copy) = copy else { continue };
        if copy.sealed.is_some() || copy.batches > 1 || copy.generation > Some(1) {
            return Err(MetaError::Corrupt {
                file: COPIES[at],
                position: 0,
                reason: "it was in use and cannot be read".to_owned(),
            });
        }
    }
    Ok(None)
}

fn read_copy(disk: &dyn Disk, name: &'static str) -> Result<Copy, MetaError> {
    let file = disk.open(name)?;
    let length = file.bytes()?;
    file.drop_cache(0)?;
    let mut bytes = vec![0; size(written_bytes(&*file)?)];
    file.read_at(0, &mut bytes)?;
    let mut copy = Copy { bytes: length, ..Copy::default() };
    copy.sealed = bytes.get(size(SEAL_AT)..).and_then(decode_seal);
    if let Some((version, generation)) = decode_header(&bytes) {
        if version > META_VERSION {
            return Err(MetaError::NewerFormat { file: name, found: version });
        }
        copy.generation = Some(generation);
        read_batches(&mut copy, generation, &bytes);
    }
    Ok(copy)
}

/// Bytes of a file up to the last that was ever written.
fn written_bytes(file: &dyn DiskFile) -> io::Result<u64> {
    let mut end = 0;
    while let Some((_, found)) = file.next_data(end)? {
        end = found;
    }
    Ok(end)
}

fn decode_header(bytes: &[u8]) -> Option<(u32, u64)> {
    let mut fields = Fields(bytes.get(..HEADER_BYTES)?);
    let (magic, version, generation) = (fields.u32()?, fields.u32()?, fields.u64()?);
    let intact = magic == MAGIC && fields.u32()? == crc32fast::hash(bytes.get(..HEADER_BYTES - 4)?);
    intact.then_some((version, generation))
}

fn decode_seal(bytes: &[u8]) -> Option<u64> {
    let mut fields = Fields(bytes.get(..SEAL_BYTES)?);
    let (magic, generation) = (fields.u32()?, fields.u64()?);
    let crc = crc32fast::hash(bytes.get(..SEAL_BYTES - 4)?);
    (magic == SEAL_MAGIC && fields.u32()? == crc).then_some(generation)
}

fn read_batches(copy: &mut Copy, generation: u64, bytes: &[u8]) {
    let mut at = size(BATCHES_AT);
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some((batch, used)) = Batch::decode(rest) else { break };
        if batch.generation != generation || batch.sequence != copy.batches {
            break;
        }
        copy.superseded |= batch.records.contains(&Record::Superseded);
        batch.apply(&mut copy.state);
        copy.batches += 1;
        at += used;
    }
    copy.end = length(at);
    // I-LOG-5: the batch behind a bad one was written after the bad one's flush returned.
    let mut behind = at + 1;
    while let Some(rest) = bytes.get(behind..).filter(|rest| !rest.is_empty()) {
        let Some(found) = Batch::find(rest) else { break };
        if let Some((batch, _)) = bytes.get(behind + found..).and_then(Batch::decode)
            && batch.generation == generation
            && batch.sequence > copy.batches
        {
            let reason = format!(
                "batch {} is damaged, batch {} behind it is not",
                copy.batches, batch.sequence
            );
            copy.damage = Some((length(at), reason));
            return;
        }
        behind += found + 1;
    }
}

#[cfg(test)]
mod tests;
