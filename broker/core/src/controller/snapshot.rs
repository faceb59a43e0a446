//! The applied state as bytes, for the state file and for a replica that is behind the log.
//!
//! The file around it carries the checksum. Byte by byte: `docs/formats/metadata.md`.
//!
//! Invariants
//! - `restore(snapshot(state))` equals `state`; equal states have equal bytes.
//! - Bytes that contradict themselves are refused, never repaired.
//!
//! Absent on purpose: what follows from the topics (the indexes); it is worked out again.

use std::sync::Arc;

use bateau_protocol::ids::{Incarnation, LogIndex, NodeId, ReplicaId};
use bytes::Bytes;
use thiserror::Error;

use super::cluster_id::ClusterId;
use super::command::{Partition, Topic};
use super::entropy::is_drawable;
use super::limits::FIRST_REPLICA_ID;
use super::members::{Member, Permit, Quorum};
use super::metadata::{Founding, Metadata};
use super::node::{Founder, NodeRegistration};
use crate::codec::{DecodeError, Reader, Writer};

/// Version of the whole snapshot.
const SNAPSHOT_VERSION: u16 = 2;

/// Why bytes are no snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SnapshotError {
    /// Written by a newer Bateau.
    #[error("metadata snapshot has version {found}, this build reads {SNAPSHOT_VERSION}")]
    Version {
        /// What was there.
        found: u16,
    },
    /// A field does not decode.
    #[error("metadata snapshot: {0}")]
    Field(#[from] DecodeError),
    /// Every field decodes, but they cannot be true together.
    #[error("metadata snapshot breaks {invariant}")]
    Contradiction {
        /// What is broken.
        invariant: &'static str,
    },
}

impl Metadata {
    /// Encodes the state.
    /// Cost: linear in topics, partitions and tombstones.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u16(SNAPSHOT_VERSION);
        writer.u64(self.applied.get());
        writer.flag(self.founding.is_some());
        if let Some(founding) = &self.founding {
            writer.raw(&founding.cluster_id.0);
            writer.u16(founding.feature_level);
            writer.list(founding.founders.iter(), |writer, founder| founder.encode(writer));
        }
        writer.u64(self.next_producer_id);
        writer.u64(self.next_replica_id);
        writer.list(self.nodes.values(), |writer, node| node.encode(writer));
        writer.list(self.topics.values(), |writer, topic| topic.encode_state(writer));
        writer.list(self.tombstones.iter(), |writer, (incarnation, nodes)| {
            writer.u64(incarnation.get());
            writer.list(nodes.iter(), |writer, node| writer.u64(node.get()));
        });
        self.write_members(&mut writer);
        writer.into_bytes()
    }

    fn write_members(&self, writer: &mut Writer) {
        writer.list(self.removed_replicas.iter(), |writer, ((log, node), replica)| {
            writer.u64(log.get());
            writer.u64(node.get());
            writer.u64(replica.get());
        });
        writer.list(self.members.values(), |writer, member| member.encode(writer));
        writer.list(self.permits.iter(), |writer, (node, permit)| {
            writer.u64(node.get());
            permit.encode(writer);
        });
        writer.list(self.former_members.iter(), |writer, (node, directory)| {
            writer.u64(node.get());
            writer.raw(directory);
        });
        self.quorum.encode(writer);
    }

    fn read_members(&mut self, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let removed = reader.list("removed replicas", 24, |reader| {
            let log = Incarnation::new(reader.u64("incarnation")?);
            let node = NodeId::new(reader.u64("node id")?);
            Ok(((log, node), ReplicaId::new(reader.u64("replica id")?)))
        })?;
        let members = reader.list("members", 35, Member::decode)?;
        let permits = reader.list("permits", 9, |reader| {
            Ok((NodeId::new(reader.u64("node id")?), Permit::decode(reader)?))
        })?;
        let former = reader.list("former members", 24, |reader| {
            Ok((NodeId::new(reader.u64("node id")?), reader.array("directory")?))
        })?;
        self.removed_replicas = removed.into_iter().collect();
        let members = members.into_iter().map(|member| (member.founder.node, Arc::new(member)));
        self.members = members.collect();
        self.permits = permits.into_iter().collect();
        self.former_members = former.into_iter().collect();
        self.quorum = Quorum::decode(reader)?;
        Ok(())
    }

    /// Decodes a state.
    ///
    /// Errors: [`SnapshotError`].
    pub fn restore(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut reader = Reader::new(bytes);
        let version = reader.u16("snapshot version")?;
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::Version { found: version });
        }
        let mut state = Self::new();
        state.applied = LogIndex::new(reader.u64("applied index")?);
        if reader.flag("founding flag")? {
            state.founding = Some(Arc::new(Founding {
                cluster_id: ClusterId(reader.array("cluster id")?),
                feature_level: reader.u16("feature level")?,
                founders: reader.list("founders", 26, Founder::decode)?,
            }));
        }
        state.next_producer_id = reader.u64("next producer id")?;
        state.next_replica_id = reader.u64("next replica id")?;
        let nodes = reader.list("nodes", 45, NodeRegistration::decode)?;
        let topics = reader.list("topics", 31, Topic::decode_state)?;
        let tombstones = reader.list("tombstones", 12, |reader| {
            let incarnation = Incarnation::new(reader.u64("tombstone")?);
            let nodes = reader.list("tombstone nodes", 8, |reader| {
                reader.u64("tombstone node").map(NodeId::new)
            })?;
            Ok((incarnation, nodes))
        })?;
        state.read_members(&mut reader)?;
        reader.finish("metadata snapshot")?;
        state.fill(nodes, topics, tombstones)?;
        Ok(state)
    }

    fn fill(
        &mut self,
        nodes: Vec<NodeRegistration>,
        topics: Vec<Topic>,
        tombstones: Vec<(Incarnation, Vec<NodeId>)>,
    ) -> Result<(), SnapshotError> {
        let (node_count, topic_count) = (nodes.len(), topics.len());
        let tombstone_count = tombstones.len();
        self.nodes = nodes.into_iter().map(|node| (node.node, Arc::new(node))).collect();
        for topic in topics {
            self.index_topic(&topic);
            self.topics.insert(Arc::clone(&topic.name), Arc::new(topic));
        }
        self.tombstones = tombstones
            .into_iter()
            .map(|(incarnation, nodes)| (incarnation, nodes.into_iter().collect()))
            .collect();
        let unique = self.nodes.len() == node_count
            && self.topics.len() == topic_count
            && self.tombstones.len() == tombstone_count;
        let contradiction = match unique {
            true => self.contradiction(),
            false => Some("uniqueness of nodes, topics and tombstones"),
        };
        match contradiction {
            None => Ok(()),
            Some(invariant) => Err(SnapshotError::Contradiction { invariant }),
        }
    }

    /// Stops the process where the state contradicts itself.
    /// Cost: linear in topics, partitions and tombstones: for tests, simulation and rare moments.
    /// Invariants: I-META-2, I-META-3, I-META-4, I-META-6.
    pub fn check_invariants(&self) {
        let contradiction = self.contradiction();
        assert!(contradiction.is_none(), "metadata breaks {contradiction:?}");
    }

    /// The first invariant that the state breaks.
    fn contradiction(&self) -> Option<&'static str> {
        let partitions = || self.topics.values().flat_map(|topic| &topic.partitions);
        let distinct = are_distinct(partitions().map(|each| each.incarnation))
            && partitions()
                .map(|each| each.incarnation)
                .all(|each| is_drawable(each) && !self.tombstones.contains_key(&each));
        if !distinct {
            return Some("I-META-2");
        }
        let ids = || partitions().flat_map(Partition::holders).map(|replica| replica.id.get());
        let given = FIRST_REPLICA_ID..self.next_replica_id;
        if !are_distinct(ids()) || !ids().all(|id| given.contains(&id)) {
            return Some("I-META-3");
        }
        let holders = partitions().flat_map(Partition::holders).chain(self.quorum.replicas());
        if !holders.map(|replica| replica.node).all(|node| self.members.contains_key(&node)) {
            return Some("I-META-6");
        }
        let whole = self.topics.values().all(|topic| !topic.partitions.is_empty())
            && partitions().all(|each| each.has_distinct_nodes());
        let mut again = Self { topics: self.topics.clone(), ..Self::new() };
        self.topics.values().for_each(|topic| again.index_topic(topic));
        let agree = again.topic_names == self.topic_names
            && again.topic_names.len() == self.topics.len()
            && again.incarnations == self.incarnations
            && again.folded_names == self.folded_names
            && again.reassigned == self.reassigned
            && again.node_loads == self.node_loads;
        (!(whole && agree)).then_some("I-META-4")
    }
}

fn are_distinct<T: Ord>(all: impl Iterator<Item = T>) -> bool {
    let mut all: Vec<_> = all.collect();
    all.sort_unstable();
    all.is_sorted_by(|one, next| one < next)
}
