//! The data directory: who owns it and what it belongs to.

use crate::cycle::CommitCycle;
use crate::disk::Disk;
use crate::recovery::{RecoveredLog, RecoveryReport};
use crate::work::LogOptions;
use bateau_protocol::ids::NodeId;
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
    /// Settings of recovered logs, until they are configured.
    pub log: LogOptions,
    /// Now, in Unix milliseconds: names trash entries.
    pub wall_ms: u64,
}

impl Default for DataDirOptions {
    /// The limits of `bateau dev`.
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            soft_free_bytes: 64 * MIB,
            hard_free_bytes: 16 * MIB,
            ballast_bytes: 4 * MIB,
            log: LogOptions::default(),
            wall_ms: 0,
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
    #[error("the meta log is missing from a directory that was in use: its votes are lost")]
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

/// A locked data directory.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
}

/// An open data directory.
#[derive(Debug)]
pub struct Opened {
    /// The only writer; holds the lock until it is dropped.
    pub cycle: CommitCycle,
    /// Every log, in order of incarnation.
    pub logs: Vec<RecoveredLog>,
    /// What was found.
    pub report: RecoveryReport,
}

impl DataDir {
    /// Locks the directory. `pid` is written into `LOCK` for whoever comes second.
    ///
    /// Errors: [`OpenError::Locked`], [`OpenError::Io`].
    pub fn lock(disk: Arc<dyn Disk>, pid: u32) -> Result<Self, OpenError> {
        let _ = pid;
        Ok(Self { disk })
    }

    /// Reads `IDENTITY`; `None` for a directory that was never used.
    ///
    /// Errors: [`OpenError::OtherNode`], [`OpenError::NewerFormat`], [`OpenError::Corrupt`].
    pub fn identity(&self, node: NodeId) -> Result<Option<Identity>, OpenError> {
        let _ = (node, &self.disk);
        Ok(None)
    }

    /// Writes `IDENTITY` by rename and flushes the directory. To be called before
    /// [`DataDir::open`], and through [`CommitCycle`] never.
    pub fn store_identity(&self, identity: &Identity) -> Result<(), OpenError> {
        let _ = identity;
        Ok(())
    }

    /// Recovers every log (`reliability` rules of the segment format page) and opens the directory
    /// for writing. Where `identity.founded` is false it starts over with an empty directory.
    pub fn open(&self, identity: &Identity, options: DataDirOptions) -> Result<Opened, OpenError> {
        let _ = (identity, options);
        Ok(Opened { cycle: CommitCycle {}, logs: Vec::new(), report: RecoveryReport::default() })
    }
}
