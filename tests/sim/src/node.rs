//! One node: its disk, its clock, and while it lives its process.
//!
//! Absent on purpose: what a process is, which is in `process`.

use crate::clock::NodeClock;
use crate::event::{Life, Micros};
use crate::process::Process;
use crate::promises::Promises;
use bateau_log::Disk;
use bateau_log::sim_disk::{SimDisk, SimRandom};
use bateau_protocol::ids::NodeId;

/// Room on a node's disk, in bytes.
pub const DISK_BYTES: u64 = 1 << 30;
/// Where a node's promises are.
const META_LOGS: [&str; 2] = ["meta.a", "meta.b"];

/// One node.
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its disk.
    pub disk: SimDisk,
    /// Its clocks.
    pub clock: NodeClock,
    /// Which process this is.
    pub life: Life,
    /// The process, while there is one.
    pub process: Option<Box<Process>>,
    /// Until then it stands still.
    pub paused_until: Micros,
    /// Until then nobody starts it.
    pub away_until: Micros,
    /// By how much its disk is slower than usual.
    pub slowness: u64,
    /// Its disk has lied: what is damaged on it may silence it.
    pub is_corrupted: bool,
    /// It does not come back: its own memory is damaged.
    pub is_silenced: bool,
    /// Nobody answers at its address, not even to say that nobody is there.
    pub is_without_power: bool,
    /// Its filesystem has hardly any room.
    pub is_full: bool,
    /// What its log has said is durable.
    pub promises: Promises,
    /// Cut the power at that call of the next cycle.
    pub cut_at: Option<u64>,
    /// Nobody runs it: it is not of the cluster, or not any more.
    pub is_out: bool,
    /// Its disk was lost, and what it had is not everywhere made good yet.
    pub is_wiped: bool,
    /// Its disk has been emptied at some time: its file names members since.
    pub was_emptied: bool,
    /// Whom its file names.
    pub names: Vec<NodeId>,
    /// Random id of its data directory, as it was last opened.
    pub directory: [u8; 16],
    /// A copy of its votes is gone, or both: the id of the directory that had them.
    pub has_lost_votes_of: Option<[u8; 16]>,
}

impl Node {
    /// A node with an empty disk.
    pub fn new(id: u64, seed: u64) -> Self {
        let mut random = SimRandom::new(seed ^ (id << 32));
        Self {
            id: NodeId::new(id),
            disk: SimDisk::new(random.next_u64(), DISK_BYTES),
            clock: NodeClock::drawn(&mut random),
            life: 0,
            process: None,
            paused_until: 0,
            away_until: 0,
            slowness: 1,
            is_corrupted: false,
            is_silenced: false,
            is_without_power: false,
            is_full: false,
            promises: Promises::default(),
            cut_at: None,
            is_out: false,
            is_wiped: false,
            was_emptied: false,
            names: Vec::new(),
            directory: [0; 16],
            has_lost_votes_of: None,
        }
    }

    /// Gives it an empty disk.
    pub fn wipe(&mut self, seed: u64) {
        self.disk = SimDisk::new(seed, DISK_BYTES);
        self.promises = Promises::default();
        self.is_full = false;
        self.slowness = 1;
        (self.is_corrupted, self.is_silenced) = (false, false);
        self.was_emptied = true;
        self.has_lost_votes_of = None;
    }

    /// Copies of its meta log are gone.
    ///
    /// - `copy`: which; `None` for both.
    pub fn lose_votes(&mut self, copy: Option<usize>) {
        let is_lost = |at: usize| copy.is_none_or(|copy| copy == at);
        for (_, name) in META_LOGS.iter().enumerate().filter(|(at, _)| is_lost(*at)) {
            // A copy that was not made yet cannot be lost.
            let _ = self.disk.unlink(name);
        }
        let _ = self.disk.flush(&[], &[String::new()]);
        let directory = std::mem::take(&mut self.directory);
        self.has_lost_votes_of.get_or_insert(directory);
    }

    /// Its directory was opened. What was promised goes with the id that the directory had then;
    /// where it keeps that id, it has to have all of it.
    pub fn note_opened(&mut self, directory: [u8; 16]) {
        self.directory = directory;
        if self.has_lost_votes_of.take().is_some_and(|before| before != directory) {
            self.promises.forget();
        }
    }

    /// Whether a process runs and does not stand still.
    pub fn is_up(&self, at: Micros) -> bool {
        self.process.is_some() && self.paused_until <= at
    }
}
