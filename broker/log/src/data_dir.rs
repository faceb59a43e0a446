//! The data directory: who owns it and what it belongs to.
//!
//! ```text
//!   DataDir::lock ─> identity ─> (first start: store_identity, founded false)
//!                       └──────> open ─> CommitCycle, logs, report
//!                                  └─> first frames flushed ─> store_identity, founded true
//! ```
//!
//! Absent on purpose: drawing founding ids, and every decision about joining a cluster.

use crate::bytes_io::{Fields, PutFields, length, size};
use crate::cycle::{CommitCycle, CycleParts, QUARANTINE};
use crate::disk::{Disk, LockError, LockGuard};
use crate::meta::{COPIES, META_VERSION, MetaError, MetaLog};
use crate::recovery::{Reading, RecoveredLog, RecoveryProgress, RecoveryReport, recover};
use crate::recycle::RecycledFiles;
use crate::space::Space;
use crate::work::LogOptions;
use bateau_protocol::ids::NodeId;
use std::io;
use std::sync::Arc;
use thiserror::Error;

/// What a data directory says about itself, in the file `IDENTITY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The node that the directory belongs to.
    pub node: NodeId,
    /// Random number drawn when the directory was first used.
    pub founding_id: [u8; 16],
    /// Whether the first start came to its end; before it, a start begins anew.
    pub founded: bool,
    /// The founders: node id, peers address, founding id.
    pub founders: Vec<Founder>,
    /// The cluster, once known.
    pub cluster_id: Option<[u8; 16]>,
    /// The founding id that the directory had until its promises were lost
    /// ([`DataDir::renounce`]); until the cluster has taken the node in once more.
    pub former: Option<[u8; 16]>,
}

/// One founder of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Founder {
    /// Its node id.
    pub node: NodeId,
    /// Where its peers listener was at the founding.
    pub address: String,
    /// Its founding id.
    pub founding_id: [u8; 16],
}

/// Settings of a data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataDirOptions {
    /// Free bytes below which produce is refused (D20).
    pub soft_free_bytes: u64,
    /// Free bytes below which leaders append nothing (D20).
    pub hard_free_bytes: u64,
    /// Bytes set aside for what must work on a full disk (D20). Zero for none.
    pub ballast_bytes: u64,
    /// Size of a copy of the meta log, in bytes: when it is full, all of it moves to the other one.
    pub meta_copy_bytes: u64,
    /// Settings of recovered logs, until they are configured.
    pub log: LogOptions,
    /// Now, in Unix milliseconds: names trash entries.
    pub wall_ms: u64,
    /// Whether every byte of every log is read, and not only what lies behind its durable mark: a
    /// start of this kind finds all damage, and takes as long as that.
    pub reads_everything: bool,
}

impl Default for DataDirOptions {
    /// The limits of `bateau dev`.
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            soft_free_bytes: 64 * MIB,
            hard_free_bytes: 16 * MIB,
            ballast_bytes: 4 * MIB,
            meta_copy_bytes: crate::meta::COPY_BYTES,
            log: LogOptions::default(),
            wall_ms: 0,
            reads_everything: false,
        }
    }
}

/// Why a data directory is not opened. It is left untouched.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process holds it (exit code 3).
    #[error("the data directory is in use by process {pid}")]
    Locked {
        /// The holder; 0 where it did not say.
        pid: u32,
    },
    /// It belongs to another node (exit code 4).
    #[error("the data directory belongs to node {found}, this is node {expected}")]
    OtherNode {
        /// The node that the directory names.
        found: NodeId,
        /// The node that was to use it.
        expected: NodeId,
    },
    /// A newer Bateau wrote it (exit code 4).
    #[error("{file} has format {found}, this build reads up to {known}")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// The node's own memory is damaged: votes may be lost (exit code 4, D10).
    #[error("{file} is damaged at byte {position}: {reason}")]
    Corrupt {
        /// The file.
        file: String,
        /// Where, in bytes.
        position: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The directory was in use, and its meta log is gone (exit code 4, D10).
    #[error(
        "the meta log is missing from a directory that was in use: its votes are lost; where \
         cluster.voters names another member, the node asks it for new replicas"
    )]
    MetaLogLost,
    /// The system refused something.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: String,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Names of the files that say whose the directory is.
const IDENTITY: &str = "IDENTITY";
const IDENTITY_TEMPORARY: &str = "IDENTITY.tmp";
const LOCK: &str = "LOCK";

/// Format of `IDENTITY` that this build reads and writes.
pub const IDENTITY_VERSION: u32 = 1;

const MAGIC: u32 = 0x4449_4D42;

/// A locked data directory.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    lock: Arc<dyn LockGuard>,
}

/// An open data directory.
#[derive(Debug)]
pub struct Opened {
    /// The only writer; holds the directory's lock until it is dropped.
    pub cycle: CommitCycle,
    /// Every log, in order of incarnation.
    pub logs: Vec<RecoveredLog>,
    /// What was found.
    pub report: RecoveryReport,
}

fn failed(operation: &str) -> impl FnOnce(io::Error) -> OpenError {
    let operation = operation.to_owned();
    move |source| OpenError::Io { operation, source }
}

impl DataDir {
    /// Locks the directory. `pid` is written into `LOCK` for whoever comes second.
    ///
    /// Errors: [`OpenError::Locked`], [`OpenError::Io`].
    pub fn lock(disk: Arc<dyn Disk>, pid: u32) -> Result<Self, OpenError> {
        match disk.lock(LOCK, pid) {
            Ok(lock) => Ok(Self { disk, lock: Arc::from(lock) }),
            Err(LockError::Held { pid }) => Err(OpenError::Locked { pid }),
            Err(LockError::Io(source)) => Err(failed("lock the data directory")(source)),
        }
    }

    /// Reads `IDENTITY`; `None` for a directory that was never used.
    ///
    /// Errors: [`OpenError::OtherNode`], [`OpenError::NewerFormat`], [`OpenError::Corrupt`].
    pub fn identity(&self, node: NodeId) -> Result<Option<Identity>, OpenError> {
        let entries = self.disk.list("").map_err(failed("list the data directory"))?;
        if !entries.iter().any(|entry| entry.name == IDENTITY) {
            return Ok(None);
        }
        let read = || {
            let file = self.disk.open(IDENTITY)?;
            let mut bytes = vec![0; size(file.bytes()?)];
            file.read_at(0, &mut bytes)?;
            Ok(bytes)
        };
        let bytes: Vec<u8> = read().map_err(failed("read IDENTITY"))?;
        let identity = Identity::decode(&bytes)?;
        if identity.node != node {
            return Err(OpenError::OtherNode { found: identity.node, expected: node });
        }
        Ok(Some(identity))
    }

    /// Writes `IDENTITY` by rename, flushed. What [`DataDir::open`] opened may be in use
    /// meanwhile; one caller at a time.
    pub fn store_identity(&self, identity: &Identity) -> Result<(), OpenError> {
        let store = || {
            let file = self.disk.create(IDENTITY_TEMPORARY)?;
            file.write_at(0, &[&identity.encode()])?;
            self.disk.flush(&[file], &[])?;
            self.disk.rename(IDENTITY_TEMPORARY, IDENTITY)?;
            self.disk.flush(&[], &[String::new()])
        };
        store().map_err(failed("store IDENTITY"))
    }

    /// The node's memory of its promises is lost: what it has cannot speak for it any more. From
    /// now on it is a directory with another founding id, whose first start has not come to its
    /// end, and which knows what it was. The logs go to `quarantine/` when it is opened. Returns
    /// the new identity.
    ///
    /// - `founding_id`: a random one.
    ///
    /// Errors: [`OpenError::Io`]; the directory is as it was.
    pub fn renounce(
        &self,
        identity: &Identity,
        founding_id: [u8; 16],
    ) -> Result<Identity, OpenError> {
        let former = Some(identity.founding_id);
        let identity = Identity { founding_id, founded: false, former, ..identity.clone() };
        self.store_identity(&identity)?;
        Ok(identity)
    }

    /// Recovers every log and opens the directory for writing. `IDENTITY` has been stored before.
    /// Where `identity.founded` is false, the first start never came to its end, so nothing was
    /// promised: it starts over with an empty directory.
    ///
    /// Errors: [`OpenError::MetaLogLost`], [`OpenError::Corrupt`], [`OpenError::NewerFormat`],
    /// [`OpenError::Io`]. A corrupt log is none: it is reported.
    pub fn open(&self, identity: &Identity, options: DataDirOptions) -> Result<Opened, OpenError> {
        self.open_watched(identity, options, &RecoveryProgress::default())
    }

    /// The same, and says meanwhile how far it is.
    ///
    /// Errors: as of [`Self::open`].
    pub fn open_watched(
        &self,
        identity: &Identity,
        options: DataDirOptions,
        progress: &RecoveryProgress,
    ) -> Result<Opened, OpenError> {
        let disk = &self.disk;
        disk.create_dir("partitions").map_err(failed("make the data directory"))?;
        // What is of a life before is kept.
        let quarantine = identity.former.map(|_| options.wall_ms);
        if !identity.founded {
            self.start_over(quarantine).map_err(failed("start over"))?;
        }
        let mut meta = match self.meta_log(identity.founded, quarantine, options.meta_copy_bytes)? {
            Some(meta) => meta,
            None if identity.founded => return Err(OpenError::MetaLogLost),
            None => MetaLog::create(Arc::clone(disk), options.meta_copy_bytes)
                .map_err(failed("make the meta log"))?,
        };
        let mut space = Space::new(
            Arc::clone(disk),
            options.soft_free_bytes,
            options.hard_free_bytes,
            options.ballast_bytes,
        );
        let (number, is_clean) = ((meta.state.boot_epoch + 1) << 32, meta.state.clean);
        let mut recycled = RecycledFiles::open(Arc::clone(disk), number, is_clean)
            .map_err(failed("list the recycled segments"))?;
        space.look(recycled.freeable_bytes()).map_err(failed("look at the free space"))?;
        recycled.note_room(space.above_soft_bytes);
        let reading = Reading { options: options.log, everything: options.reads_everything };
        let recovered = recover(disk, &mut meta, reading, options.wall_ms, progress)?;
        let cycle = CommitCycle::new(CycleParts {
            disk: Arc::clone(disk),
            meta,
            logs: recovered.writers,
            quarantined: recovered.quarantined,
            reading,
            highest: recovered.highest,
            leftovers: recovered.leftovers,
            flush_sequence: recovered.flush_sequence,
            node: recovered.node,
            space,
            recycled,
            lock: Arc::clone(&self.lock),
        });
        Ok(Opened { cycle, logs: recovered.logs, report: recovered.report })
    }

    /// The meta log of a process before. One whose first start never came to its end has no
    /// replicas, but its starts go on being counted: others have met them.
    fn meta_log(
        &self,
        is_founded: bool,
        quarantine: Option<u64>,
        copy_bytes: u64,
    ) -> Result<Option<MetaLog>, OpenError> {
        let found = MetaLog::open(Arc::clone(&self.disk), copy_bytes);
        if is_founded {
            return found.map_err(OpenError::from);
        }
        let forgotten = match found {
            Ok(Some(mut meta)) => meta.forget_replicas().map(|()| Some(meta)),
            Ok(None) | Err(MetaError::Corrupt { .. }) => {
                self.remove_meta_log(quarantine).map(|()| None)
            }
            Err(error) => return Err(error.into()),
        };
        forgotten.map_err(failed("start over"))
    }

    fn remove_meta_log(&self, quarantine: Option<u64>) -> io::Result<()> {
        let disk = &self.disk;
        let kept = quarantine.map(|wall_ms| format!("{QUARANTINE}/meta-{wall_ms:016x}"));
        if let Some(kept) = &kept {
            disk.create_dir(QUARANTINE)?;
            disk.create_dir(kept)?;
        }
        for entry in disk.list("")? {
            match &kept {
                _ if !COPIES.contains(&entry.name.as_str()) => {}
                Some(kept) => disk.rename(&entry.name, &format!("{kept}/{}", entry.name))?,
                None => disk.unlink(&entry.name)?,
            }
        }
        let above = kept.iter().map(|_| QUARANTINE.to_owned());
        let dirs: Vec<String> = above.chain(kept.clone()).chain([String::new()]).collect();
        disk.flush(&[], &dirs)
    }

    /// Removes the logs that a first start left which never came to its end.
    ///
    /// - `quarantine`: they are of a life before and are kept, named by this Unix time in
    ///   milliseconds.
    fn start_over(&self, quarantine: Option<u64>) -> io::Result<()> {
        let disk = &self.disk;
        if quarantine.is_some() {
            disk.create_dir(QUARANTINE)?;
        }
        for log in disk.list("partitions")? {
            let dir = format!("partitions/{}", log.name);
            if let Some(wall_ms) = quarantine {
                let kept = format!("{QUARANTINE}/{}-{wall_ms:016x}", log.name);
                disk.rename(&dir, &kept)?;
                continue;
            }
            for entry in disk.list(&dir)? {
                disk.unlink(&format!("{dir}/{}", entry.name))?;
            }
            disk.remove_dir(&dir)?;
        }
        let above = quarantine.iter().map(|_| QUARANTINE.to_owned());
        let dirs: Vec<String> = above.chain(["partitions".to_owned(), String::new()]).collect();
        disk.flush(&[], &dirs)
    }
}

impl Identity {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_u32(MAGIC);
        bytes.put_u32(IDENTITY_VERSION);
        bytes.put_u64(self.node.get());
        bytes.extend_from_slice(&self.founding_id);
        bytes.push(u8::from(self.founded));
        for id in [self.cluster_id, self.former] {
            bytes.push(u8::from(id.is_some()));
            bytes.extend_from_slice(&id.unwrap_or_default());
        }
        bytes.put_u64(length(self.founders.len()));
        for founder in &self.founders {
            bytes.put_u64(founder.node.get());
            bytes.extend_from_slice(&founder.founding_id);
            bytes.put_u64(length(founder.address.len()));
            bytes.extend_from_slice(founder.address.as_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes.put_u32(crc);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, OpenError> {
        let corrupt = |reason: &str| OpenError::Corrupt {
            file: IDENTITY.to_owned(),
            position: 0,
            reason: reason.to_owned(),
        };
        let (body, crc) =
            bytes.split_last_chunk::<4>().ok_or_else(|| corrupt("it is cut short"))?;
        if u32::from_le_bytes(*crc) != crc32fast::hash(body) {
            return Err(corrupt("its checksum does not match"));
        }
        let mut fields = Fields(body);
        if fields.u32() != Some(MAGIC) {
            return Err(corrupt("it does not begin like one"));
        }
        match fields.u32() {
            Some(IDENTITY_VERSION) => {}
            found => {
                return Err(OpenError::NewerFormat {
                    file: IDENTITY.to_owned(),
                    found: found.unwrap_or_default(),
                    known: IDENTITY_VERSION,
                });
            }
        }
        Self::decode_fields(&mut fields).ok_or_else(|| corrupt("a field is missing"))
    }

    fn decode_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let node = NodeId::new(fields.u64()?);
        let founding_id = fields.take()?;
        let founded = fields.u8()? == 1;
        let [cluster_id, former] = [fields.optional_id()?, fields.optional_id()?];
        let mut founders = Vec::new();
        for _ in 0..fields.u64()? {
            let node = NodeId::new(fields.u64()?);
            let founding_id = fields.take()?;
            let address_bytes = size(fields.u64()?);
            let address = String::from_utf8(fields.bytes(address_bytes)?.to_vec()).ok()?;
            founders.push(Founder { node, address, founding_id });
        }
        Some(Self { node, founding_id, founded, founders, cluster_id, former })
    }
}

impl From<MetaError> for OpenError {
    fn from(error: MetaError) -> Self {
        match error {
            MetaError::NewerFormat { file, found } => {
                Self::NewerFormat { file: file.to_owned(), found, known: META_VERSION }
            }
            MetaError::Corrupt { file, position, reason } => {
                Self::Corrupt { file: file.to_owned(), position, reason }
            }
            MetaError::Io(source) => failed("read the meta log")(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::SimDisk;

    fn identity() -> Identity {
        let founder = Founder {
            node: NodeId::new(1),
            address: "127.0.0.1:9644".to_owned(),
            founding_id: [3; 16],
        };
        Identity {
            node: NodeId::new(1),
            founding_id: [3; 16],
            founded: true,
            founders: vec![founder],
            cluster_id: Some([9; 16]),
            former: None,
        }
    }

    fn lock(disk: &SimDisk) -> DataDir {
        DataDir::lock(Arc::new(disk.clone()), 42).unwrap()
    }

    #[test]
    fn an_identity_survives_a_crash_and_an_empty_directory_has_none() {
        let disk = SimDisk::new(1, 1 << 30);
        assert_eq!(lock(&disk).identity(NodeId::new(1)).unwrap(), None);
        lock(&disk).store_identity(&identity()).unwrap();
        let found = lock(&disk.crash(3)).identity(NodeId::new(1)).unwrap();
        assert_eq!(found, Some(identity()));
    }

    #[test]
    fn a_held_directory_names_its_holder() {
        let disk = SimDisk::new(1, 1 << 30);
        let held = lock(&disk);
        let second = DataDir::lock(Arc::new(disk.clone()), 43);
        assert!(matches!(second, Err(OpenError::Locked { pid: 42 })));
        drop(held);
        assert!(DataDir::lock(Arc::new(disk), 43).is_ok());
    }

    #[test]
    fn another_nodes_directory_is_refused() {
        let disk = SimDisk::new(1, 1 << 30);
        lock(&disk).store_identity(&identity()).unwrap();
        let found = lock(&disk).identity(NodeId::new(2));
        let expected = NodeId::new(2);
        assert!(matches!(found, Err(OpenError::OtherNode { found, expected: other })
            if found == NodeId::new(1) && other == expected));
    }

    #[test]
    fn a_newer_format_and_a_damaged_identity_are_told_apart() {
        let disk = SimDisk::new(1, 1 << 30);
        lock(&disk).store_identity(&identity()).unwrap();
        let damaged = disk.fork();
        damaged.flip_bit(IDENTITY, 20, 1).unwrap();
        let found = lock(&damaged).identity(NodeId::new(1));
        assert!(matches!(found, Err(OpenError::Corrupt { .. })));
        let mut bytes = identity().encode();
        bytes.truncate(bytes.len() - 4);
        bytes[4] = 2;
        let crc = crc32fast::hash(&bytes);
        bytes.put_u32(crc);
        disk.open(IDENTITY).unwrap().write_at(0, &[&bytes]).unwrap();
        let found = lock(&disk).identity(NodeId::new(1));
        assert!(matches!(found, Err(OpenError::NewerFormat { found: 2, known: 1, .. })));
    }

    #[test]
    fn a_meta_log_that_is_gone_from_a_used_directory_is_a_loss() {
        let disk = SimDisk::new(1, 1 << 30);
        let dir = lock(&disk);
        dir.store_identity(&identity()).unwrap();
        let found = dir.open(&identity(), DataDirOptions::default());
        assert!(matches!(found, Err(OpenError::MetaLogLost)));
    }

    #[test]
    fn a_renounced_directory_knows_what_it_was_and_keeps_what_it_had() {
        let disk = SimDisk::new(1, 1 << 30);
        let dir = lock(&disk);
        dir.store_identity(&identity()).unwrap();
        disk.create_dir("partitions").unwrap();
        disk.create_dir("partitions/0000000000000007").unwrap();
        disk.create("partitions/0000000000000007/one.log").unwrap();
        disk.create("meta.a").unwrap().write_at(0, &[&[7; 5_000]]).unwrap();
        let options = DataDirOptions { wall_ms: 5, ..DataDirOptions::default() };
        assert!(matches!(dir.open(&identity(), options), Err(OpenError::MetaLogLost)));
        let renounced = dir.renounce(&identity(), [8; 16]).unwrap();
        assert_eq!(dir.identity(NodeId::new(1)).unwrap().as_ref(), Some(&renounced));
        assert_eq!((renounced.former, renounced.founding_id), (Some([3; 16]), [8; 16]));
        let opened = dir.open(&renounced, options).unwrap();
        assert_eq!((opened.logs.len(), opened.report.boot_epoch), (0, 1), "it begins anew");
        let kept: Vec<String> = disk.contents().into_keys().collect();
        let has = |path: &str| kept.iter().any(|one| one == path);
        assert!(has("quarantine/0000000000000007-0000000000000005/one.log"), "{kept:?}");
        assert!(has("quarantine/meta-0000000000000005/meta.a"), "{kept:?}");
    }

    #[test]
    fn a_first_start_that_did_not_end_starts_over() {
        let disk = SimDisk::new(1, 1 << 30);
        let unfounded = Identity { founded: false, ..identity() };
        for start in 1..4 {
            let dir = lock(&disk);
            let opened = dir.open(&unfounded, DataDirOptions::default()).unwrap();
            assert_eq!(opened.report.boot_epoch, start, "others have met the starts before");
            assert!(opened.logs.is_empty());
        }
    }

    #[test]
    fn starts_are_counted_wherever_a_first_start_ends() {
        let unfounded = Identity { founded: false, ..identity() };
        for nth in 0..40 {
            let disk = SimDisk::new(nth, 1 << 30);
            let opened = lock(&disk).open(&unfounded, DataDirOptions::default()).unwrap();
            assert_eq!(opened.report.boot_epoch, 1);
            drop(opened);
            disk.cut_power_at(nth);
            let second = DataDir::lock(Arc::new(disk.clone()), 1)
                .and_then(|dir| dir.open(&unfounded, DataDirOptions::default()));
            let shown = second.map_or(1, |opened| opened.report.boot_epoch);
            let disk = disk.crash(nth);
            let opened = lock(&disk).open(&unfounded, DataDirOptions::default()).unwrap();
            assert!(opened.report.boot_epoch > shown, "call {nth}");
            assert!(opened.logs.is_empty());
        }
    }
}
