//! The commands of the metadata partition: what the payloads of its kind-6 frames hold.
//!
//! All commands of one frame are applied together. The list around them is
//! [`command_frame`](crate::command_frame); byte by byte: `docs/formats/metadata.md`.
//!
//! Absent on purpose: whether a command makes sense in a given state; `metadata` decides that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bateau_protocol::ids::{Incarnation, NodeId, ReplicaId, TopicId};
use bytes::Bytes;

use super::cluster_id::ClusterId;
use super::members::{Permit, Standing};
use super::node::{Founder, NodeRegistration};
use super::replicas::Reassignment;
use crate::codec::{DecodeError, Reader, Writer};
use crate::command_frame::{self, CommandError};

/// Config overrides of a topic: Kafka's key to the value as the client wrote it.
pub type ConfigOverrides = BTreeMap<Arc<str>, Arc<str>>;

/// One placement: which replica lives on which node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Replica {
    /// The placement's id, and its id in Raft.
    pub id: ReplicaId,
    /// The node that holds it.
    pub node: NodeId,
}

/// One partition of a topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// Birth id.
    pub incarnation: Incarnation,
    /// How often other replicas were assigned to it since.
    pub assignment: u64,
    /// The replicas that it is to have, never empty. The first is preferred as leader.
    pub replicas: Vec<Replica>,
    /// Where these are not known to be all that it has.
    pub reassignment: Option<Reassignment>,
}

impl Partition {
    /// Whether it has a replica, and no node holds two.
    #[must_use]
    pub fn has_distinct_nodes(&self) -> bool {
        let nodes: BTreeSet<NodeId> = self.replicas.iter().map(|replica| replica.node).collect();
        !nodes.is_empty() && nodes.len() == self.replicas.len()
    }
}

/// A topic with its partitions, numbered from 0 by their place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Random, new when a name is created again.
    pub id: TopicId,
    /// Whether only we use it. Clients neither see nor reach an internal topic.
    pub internal: bool,
    /// The configs that were set for it.
    pub configs: ConfigOverrides,
    /// Its partitions; never empty.
    pub partitions: Vec<Partition>,
}

/// A change of the cluster's metadata.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataCommand {
    /// The first command of all.
    Found {
        /// The new cluster's id.
        cluster_id: ClusterId,
        /// What the cluster's members agree to understand.
        feature_level: u16,
        /// Who founded it. Never empty.
        founders: Vec<Founder>,
    },
    /// A node is known under these addresses from now on.
    RegisterNode(NodeRegistration),
    /// A topic exists.
    CreateTopic(Topic),
    /// A topic is gone; its incarnations become tombstones.
    DeleteTopic {
        /// The topic.
        topic: TopicId,
    },
    /// These are all the overrides that the topic has.
    SetTopicConfigs {
        /// The topic.
        topic: TopicId,
        /// The whole resulting map.
        configs: ConfigOverrides,
    },
    /// The next block of producer ids belongs to a node.
    AllocateProducerIds {
        /// Who asked.
        node: NodeId,
        /// Ids in the block.
        count: u32,
    },
    /// A node holds nothing of these deleted incarnations any more.
    ConfirmRemoved {
        /// The node.
        node: NodeId,
        /// What it has removed.
        incarnations: Vec<Incarnation>,
    },
    /// A topic has more partitions, numbered on from those that it had.
    CreatePartitions {
        /// The topic.
        topic: TopicId,
        /// How many it has before this command.
        partition_count_before: u32,
        /// The new ones; never empty.
        partitions: Vec<Partition>,
    },
    /// A partition is to have these replicas.
    AssignReplicas {
        /// The partition.
        incarnation: Incarnation,
        /// Those that it has keep their ids, others have new ones.
        replicas: Vec<Replica>,
    },
    /// By its leader's word a partition has the replicas that were assigned to it.
    SettleReplicas {
        /// The partition; the metadata's own for the quorum.
        incarnation: Incarnation,
        /// Which assignment.
        assignment: u64,
    },
    /// A node with an empty directory may become a member, or take the place of one.
    PermitNode {
        /// The node.
        node: NodeId,
        /// Which of both.
        permit: Permit,
    },
    /// A node may not become a member any more.
    WithdrawPermit {
        /// The node.
        node: NodeId,
    },
    /// A node with a permit has come.
    AdmitNode {
        /// Who, with which directory.
        founder: Founder,
        /// Its replica of the metadata.
        replica: ReplicaId,
    },
    /// What a member is to do from now on.
    SetStanding {
        /// The member.
        node: NodeId,
        /// What.
        standing: Standing,
    },
    /// A node that holds nothing is no member any more.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// The metadata partition is to have these replicas.
    AssignQuorum {
        /// Who votes.
        voters: Vec<Replica>,
        /// Who follows without a vote.
        learners: Vec<Replica>,
    },
}

/// Encodes commands as one frame payload.
#[must_use]
pub fn encode_commands(commands: &[MetadataCommand]) -> Bytes {
    let mut writer = Writer::default();
    for command in commands {
        command.encode(&mut writer);
    }
    writer.into_bytes()
}

/// Decodes a frame payload.
///
/// Errors: [`CommandError`]; nothing is returned of a payload that is wrong in part.
pub fn decode_commands(payload: &[u8]) -> Result<Vec<MetadataCommand>, CommandError> {
    command_frame::decode_all(payload, MetadataCommand::decode_body)
}

impl MetadataCommand {
    const fn type_number(&self) -> u16 {
        match self {
            Self::Found { .. } => 1,
            Self::RegisterNode(_) => 2,
            Self::CreateTopic(_) => 3,
            Self::DeleteTopic { .. } => 4,
            Self::SetTopicConfigs { .. } => 5,
            Self::AllocateProducerIds { .. } => 6,
            Self::ConfirmRemoved { .. } => 7,
            Self::CreatePartitions { .. } => 8,
            Self::AssignReplicas { .. } => 9,
            Self::SettleReplicas { .. } => 10,
            Self::PermitNode { .. } => 11,
            Self::WithdrawPermit { .. } => 12,
            Self::AdmitNode { .. } => 13,
            Self::SetStanding { .. } => 14,
            Self::RemoveNode { .. } => 15,
            Self::AssignQuorum { .. } => 16,
        }
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        command_frame::encode(writer, self.type_number(), |writer| self.encode_body(writer));
    }

    fn encode_body(&self, writer: &mut Writer) {
        match self {
            Self::Found { cluster_id, feature_level, founders } => {
                writer.raw(&cluster_id.0);
                writer.u16(*feature_level);
                writer.list(founders.iter(), |writer, founder| founder.encode(writer));
            }
            Self::RegisterNode(registration) => registration.encode(writer),
            Self::CreateTopic(topic) => topic.encode(writer),
            Self::DeleteTopic { topic } => writer.raw(&topic.0),
            Self::SetTopicConfigs { topic, configs } => {
                writer.raw(&topic.0);
                encode_configs(configs, writer);
            }
            Self::AllocateProducerIds { node, count } => {
                writer.u64(node.get());
                writer.u32(*count);
            }
            Self::ConfirmRemoved { node, incarnations } => {
                writer.u64(node.get());
                writer.list(incarnations.iter(), |writer, incarnation| {
                    writer.u64(incarnation.get());
                });
            }
            Self::CreatePartitions { topic, partition_count_before, partitions } => {
                writer.raw(&topic.0);
                writer.u32(*partition_count_before);
                encode_partitions(partitions, writer);
            }
            Self::AssignReplicas { incarnation, replicas } => {
                writer.u64(incarnation.get());
                Replica::encode_all(replicas, writer);
            }
            Self::SettleReplicas { incarnation, assignment } => {
                writer.u64(incarnation.get());
                writer.u64(*assignment);
            }
            Self::PermitNode { node, permit } => {
                writer.u64(node.get());
                permit.encode(writer);
            }
            Self::WithdrawPermit { node } | Self::RemoveNode { node } => writer.u64(node.get()),
            Self::AdmitNode { founder, replica } => {
                founder.encode(writer);
                writer.u64(replica.get());
            }
            Self::SetStanding { node, standing } => {
                writer.u64(node.get());
                standing.encode(writer);
            }
            Self::AssignQuorum { voters, learners } => {
                Replica::encode_all(voters, writer);
                Replica::encode_all(learners, writer);
            }
        }
    }

    fn decode_body(command: u16, body: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match command {
            1 => Self::Found {
                cluster_id: ClusterId(body.array("cluster id")?),
                feature_level: body.u16("feature level")?,
                founders: body.list("founders", 26, Founder::decode)?,
            },
            2 => Self::RegisterNode(NodeRegistration::decode(body)?),
            3 => Self::CreateTopic(Topic::decode(body)?),
            4 => Self::DeleteTopic { topic: TopicId(body.array("topic id")?) },
            5 => Self::SetTopicConfigs {
                topic: TopicId(body.array("topic id")?),
                configs: decode_configs(body)?,
            },
            6 => Self::AllocateProducerIds {
                node: NodeId::new(body.u64("node id")?),
                count: body.u32("producer id count")?,
            },
            7 => Self::ConfirmRemoved {
                node: NodeId::new(body.u64("node id")?),
                incarnations: body.list("incarnations", 8, |reader| {
                    reader.u64("incarnation").map(Incarnation::new)
                })?,
            },
            8 => Self::CreatePartitions {
                topic: TopicId(body.array("topic id")?),
                partition_count_before: body.u32("partition count")?,
                partitions: decode_partitions(body)?,
            },
            9 => Self::AssignReplicas {
                incarnation: Incarnation::new(body.u64("incarnation")?),
                replicas: Replica::decode_all(body)?,
            },
            10 => Self::SettleReplicas {
                incarnation: Incarnation::new(body.u64("incarnation")?),
                assignment: body.u64("assignment")?,
            },
            11 => Self::PermitNode {
                node: NodeId::new(body.u64("node id")?),
                permit: Permit::decode(body)?,
            },
            12 => Self::WithdrawPermit { node: NodeId::new(body.u64("node id")?) },
            13 => Self::AdmitNode {
                founder: Founder::decode(body)?,
                replica: ReplicaId::new(body.u64("replica id")?),
            },
            14 => Self::SetStanding {
                node: NodeId::new(body.u64("node id")?),
                standing: Standing::decode(body)?,
            },
            15 => Self::RemoveNode { node: NodeId::new(body.u64("node id")?) },
            16 => Self::AssignQuorum {
                voters: Replica::decode_all(body)?,
                learners: Replica::decode_all(body)?,
            },
            _ => return Ok(None),
        }))
    }
}

impl Topic {
    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.raw(&self.id.0);
        writer.short_text(&self.name);
        writer.flag(self.internal);
        encode_configs(&self.configs, writer);
        encode_partitions(&self.partitions, writer);
    }

    /// As it is by now, with what became of its partitions.
    pub(super) fn encode_state(&self, writer: &mut Writer) {
        let bare = Self { partitions: Vec::new(), ..self.clone() };
        bare.encode(writer);
        writer.list(self.partitions.iter(), |writer, partition| partition.encode_state(writer));
    }

    pub(super) fn decode_state(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bare = Self::decode(reader)?;
        let partitions = reader.list("partitions", 21, Partition::decode_state)?;
        Ok(Self { partitions, ..bare })
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: TopicId(reader.array("topic id")?),
            name: reader.short_text("topic name")?,
            internal: reader.flag("internal flag")?,
            configs: decode_configs(reader)?,
            partitions: decode_partitions(reader)?,
        })
    }

    /// Number of its partitions.
    #[must_use]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    /// One of its partitions by number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.get(number as usize)
    }

    /// Replicas of its first partition. All partitions are created with the same number.
    #[must_use]
    pub fn replication_factor(&self) -> u16 {
        let replicas = self.partitions.first().map_or(0, |partition| partition.replicas.len());
        u16::try_from(replicas).unwrap_or(u16::MAX)
    }
}

fn encode_partitions(partitions: &[Partition], writer: &mut Writer) {
    writer.list(partitions.iter(), |writer, partition| {
        writer.u64(partition.incarnation.get());
        Replica::encode_all(&partition.replicas, writer);
    });
}

fn decode_partitions(reader: &mut Reader<'_>) -> Result<Vec<Partition>, DecodeError> {
    reader.list("partitions", 12, |reader| {
        let incarnation = Incarnation::new(reader.u64("incarnation")?);
        Ok(Partition::born(incarnation, Replica::decode_all(reader)?))
    })
}

fn encode_configs(configs: &ConfigOverrides, writer: &mut Writer) {
    writer.list(configs.iter(), |writer, (name, value)| {
        writer.short_text(name);
        writer.short_text(value);
    });
}

fn decode_configs(reader: &mut Reader<'_>) -> Result<ConfigOverrides, DecodeError> {
    let pairs = reader.list("configs", 4, |reader| {
        Ok((reader.short_text("config name")?, reader.short_text("config value")?))
    })?;
    Ok(pairs.into_iter().collect())
}
