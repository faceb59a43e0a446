//! Records of the meta log, and the state that they add up to.
//!
//! Absent on purpose: deltas. A record holds all that is stored of one replica, about 150 bytes,
//! which keeps a checkpoint and a batch the same thing.

use crate::bytes_io::{Fields, PutFields, length, size};
use crate::tail::Tail;
use crate::work::{HardState, LogStart, NodeStart};
use bateau_protocol::ids::{FlushSequence, Incarnation, LogIndex, NodeId, Offset, ReplicaId, Term};
use std::collections::BTreeMap;

const BATCH_MAGIC: u32 = 0x4842_4D42;
const BATCH_HEADER_BYTES: usize = 36;

/// A truncated suffix: frames at or above `index` whose flush sequence is at most
/// `flush_sequence` are dead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TruncateMark {
    pub(crate) index: LogIndex,
    pub(crate) flush_sequence: FlushSequence,
}

/// A snapshot that the log began anew with. Beside this mark, and nowhere else, a state file may
/// include more than the log holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SnapshotMark {
    /// The entry that the snapshot stands for.
    pub(crate) index: LogIndex,
    /// Index that its state includes.
    pub(crate) applied: LogIndex,
}

/// All that is stored of one replica beside its frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ReplicaMeta {
    pub(crate) replica: ReplicaId,
    pub(crate) hard_state: HardState,
    pub(crate) start: LogStart,
    /// Everything up to here was durable when this was written: the mark D.
    pub(crate) durable: Option<Tail>,
    pub(crate) truncations: Vec<TruncateMark>,
    /// The snapshot that the log began anew with, until it holds all that the state includes.
    pub(crate) snapshot: Option<SnapshotMark>,
}

/// One record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Record {
    /// The replica as it is now.
    Replica(Incarnation, Box<ReplicaMeta>),
    /// The replica is gone.
    Removed(Incarnation),
    /// A start, and how many there have been.
    Boot(u64),
    /// The process ended with everything stored. Only the very last record means it.
    Clean,
    /// The other copy is sealed: this one is of no use any more.
    Superseded,
    /// The newest start of another node that was met.
    Peer(NodeId, NodeStart),
}

/// What all records add up to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct MetaState {
    pub(crate) replicas: BTreeMap<Incarnation, ReplicaMeta>,
    pub(crate) boot_epoch: u64,
    pub(crate) peers: BTreeMap<NodeId, NodeStart>,
    pub(crate) clean: bool,
    /// Highest flush sequence of any batch.
    pub(crate) flush_sequence: FlushSequence,
}

impl MetaState {
    pub(crate) fn to_records(&self) -> Vec<Record> {
        let mut records = vec![Record::Boot(self.boot_epoch)];
        records.extend(self.peers.iter().map(|(node, start)| Record::Peer(*node, *start)));
        records.extend(
            self.replicas.iter().map(|(id, meta)| Record::Replica(*id, Box::new(meta.clone()))),
        );
        if self.clean {
            records.push(Record::Clean);
        }
        records
    }
}

/// What one flush makes durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Batch {
    pub(crate) generation: u64,
    pub(crate) sequence: u64,
    pub(crate) flush_sequence: FlushSequence,
    pub(crate) records: Vec<Record>,
}

impl Batch {
    /// Bytes of the batch that marks a copy as superseded.
    pub(crate) const fn superseding_bytes() -> usize {
        BATCH_HEADER_BYTES + 1
    }

    pub(crate) fn apply(&self, state: &mut MetaState) {
        state.flush_sequence = state.flush_sequence.max(self.flush_sequence);
        for record in &self.records {
            state.clean = *record == Record::Clean;
            match record {
                Record::Replica(id, meta) => {
                    state.replicas.insert(*id, (**meta).clone());
                }
                Record::Removed(id) => {
                    state.replicas.remove(id);
                }
                Record::Boot(epoch) => state.boot_epoch = *epoch,
                Record::Peer(node, start) => {
                    state.peers.insert(*node, *start);
                }
                Record::Clean | Record::Superseded => {}
            }
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.records.iter().for_each(|record| record.encode(&mut body));
        let mut bytes = Vec::with_capacity(BATCH_HEADER_BYTES + body.len());
        bytes.put_u32(BATCH_MAGIC);
        bytes.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        bytes.put_u64(self.generation);
        bytes.put_u64(self.sequence);
        bytes.put_u64(self.flush_sequence.get());
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes);
        hasher.update(&body);
        bytes.put_u32(hasher.finalize());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// The batch at the front of `bytes` and how long it is; `None` where there is no whole one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, usize)> {
        let mut fields = Fields(bytes);
        if fields.u32()? != BATCH_MAGIC {
            return None;
        }
        let body_bytes = size(u64::from(fields.u32()?));
        let (generation, sequence) = (fields.u64()?, fields.u64()?);
        let flush_sequence = FlushSequence::new(fields.u64()?);
        let crc = fields.u32()?;
        let end = BATCH_HEADER_BYTES.checked_add(body_bytes)?;
        let body = bytes.get(BATCH_HEADER_BYTES..end)?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(bytes.get(..BATCH_HEADER_BYTES - 4)?);
        hasher.update(body);
        if hasher.finalize() != crc {
            return None;
        }
        let mut fields = Fields(body);
        let mut records = Vec::new();
        while !fields.0.is_empty() {
            records.push(Record::decode(&mut fields)?);
        }
        Some((Self { generation, sequence, flush_sequence, records }, end))
    }

    /// Where the next bytes are that could begin a batch.
    pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
        let magic = BATCH_MAGIC.to_le_bytes();
        let mut at = 0;
        loop {
            at += bytes.get(at..)?.iter().position(|byte| *byte == magic[0])?;
            if bytes.get(at..)?.starts_with(&magic) {
                return Some(at);
            }
            at += 1;
        }
    }
}

impl Record {
    fn encode(&self, into: &mut Vec<u8>) {
        match self {
            Self::Replica(id, meta) => {
                into.push(if meta.snapshot.is_some() { 8 } else { 1 });
                into.put_u64(id.get());
                if let Some(mark) = &meta.snapshot {
                    into.put_u64(mark.index.get());
                    into.put_u64(mark.applied.get());
                }
                meta.encode(into);
            }
            Self::Removed(id) => {
                into.push(2);
                into.put_u64(id.get());
            }
            Self::Boot(epoch) => {
                into.push(3);
                into.put_u64(*epoch);
            }
            Self::Clean => into.push(4),
            Self::Superseded => into.push(5),
            Self::Peer(node, start) => {
                into.push(6);
                into.put_u64(node.get());
                into.extend_from_slice(&start.directory);
                into.put_u64(start.boot_epoch);
                into.put_u64(start.start_id);
            }
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(match fields.u8()? {
            1 => {
                let id = Incarnation::new(fields.u64()?);
                Self::Replica(id, Box::new(ReplicaMeta::decode(fields)?))
            }
            8 => {
                let id = Incarnation::new(fields.u64()?);
                let index = LogIndex::new(fields.u64()?);
                let mark = SnapshotMark { index, applied: LogIndex::new(fields.u64()?) };
                let meta = ReplicaMeta::decode(fields)?;
                Self::Replica(id, Box::new(ReplicaMeta { snapshot: Some(mark), ..meta }))
            }
            2 => Self::Removed(Incarnation::new(fields.u64()?)),
            3 => Self::Boot(fields.u64()?),
            4 => Self::Clean,
            5 => Self::Superseded,
            6 => {
                let node = NodeId::new(fields.u64()?);
                let directory = fields.take()?;
                let (boot_epoch, start_id) = (fields.u64()?, fields.u64()?);
                Self::Peer(node, NodeStart { directory, boot_epoch, start_id })
            }
            _ => return None,
        })
    }
}

impl ReplicaMeta {
    fn encode(&self, into: &mut Vec<u8>) {
        into.put_u64(self.replica.get());
        into.put_u64(self.hard_state.term.get());
        into.put_u64(self.hard_state.vote.map_or(0, ReplicaId::get));
        into.put_u64(self.hard_state.commit.get());
        into.put_u64(self.start.offset.get());
        into.put_u64(self.start.index.get());
        into.put_u64(self.start.term.get());
        into.put_u32(self.start.chain_crc);
        match &self.durable {
            Some(tail) => {
                into.push(1);
                tail.encode(into);
            }
            None => into.push(0),
        }
        into.put_u32(u32::try_from(length(self.truncations.len())).unwrap_or(u32::MAX));
        for mark in &self.truncations {
            into.put_u64(mark.index.get());
            into.put_u64(mark.flush_sequence.get());
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let replica = ReplicaId::new(fields.u64()?);
        let hard_state = HardState {
            term: Term::new(fields.u64()?),
            vote: Some(fields.u64()?).filter(|vote| *vote != 0).map(ReplicaId::new),
            commit: LogIndex::new(fields.u64()?),
        };
        let start = LogStart {
            offset: Offset::new(fields.u64()?),
            index: LogIndex::new(fields.u64()?),
            term: Term::new(fields.u64()?),
            chain_crc: fields.u32()?,
        };
        let durable = match fields.u8()? {
            0 => None,
            1 => Some(Tail::decode(fields)?),
            _ => return None,
        };
        let mut truncations = Vec::new();
        for _ in 0..fields.u32()? {
            truncations.push(TruncateMark {
                index: LogIndex::new(fields.u64()?),
                flush_sequence: FlushSequence::new(fields.u64()?),
            });
        }
        Some(Self { replica, hard_state, start, durable, truncations, snapshot: None })
    }
}
