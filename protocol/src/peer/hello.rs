//! How a link begins: who dials, who answers, and why not.
//!
//! Both are in the form of version 1 for ever; later versions append fields. Before a cluster is
//! founded its voters learn each other's founding ids and voter lists from these two.
//!
//! Absent on purpose: which values are right. That is the receiver's to judge.

use super::error::{PeerDecodeError, PeerEncodeError};
use super::reader::Reader;
use super::writer::Writer;
use crate::ids::{LogIndex, NodeId, ReplicaId};
use crate::limits::{PEER_ADDRESS_BYTES_MAX, PEER_TEXT_BYTES_MAX, PEER_VOTERS_MAX};
use crate::wire::Text;

/// One entry of the configured `cluster.voters`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct VoterEntry {
    /// The founder.
    pub node_id: NodeId,
    /// Where its peers listener is, host and port; at most 261 bytes.
    pub address: Text,
    /// Random id of its data directory; zeros where it is not known.
    pub founding_id: [u8; 16],
}

/// The first frame of a link, from its dialler.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hello {
    /// Lowest version that the dialler speaks.
    pub version_min: u16,
    /// Highest version that the dialler speaks.
    pub version_max: u16,
    /// The dialler's cluster; `None` before it knows one.
    pub cluster_id: Option<[u8; 16]>,
    /// Who dials.
    pub node_id: NodeId,
    /// Random id of the dialler's data directory.
    pub founding_id: [u8; 16],
    /// Counts the dialler's starts that were flushed, rising for ever.
    pub boot_epoch: u64,
    /// Random id of this start of the process.
    pub start_id: u64,
    /// Whom the dialler takes the acceptor for.
    pub expected_node_id: NodeId,
    /// The acceptor's shard that the link is for.
    pub shard: u16,
    /// Whether the dialler has stored that its cluster is founded.
    pub is_founded: bool,
    /// The configured voters, as configured; of a founded node the first members of its cluster.
    /// At most 64.
    pub voters: Vec<VoterEntry>,
    /// Where the dialler's own peers listener is, host and port; at most 261 bytes.
    pub peers_address: Text,
    /// How far the dialler has applied the metadata.
    pub metadata_index: LogIndex,
    /// The dialler was a member by this founding id, until it lost what it had promised.
    pub former_founding_id: Option<[u8; 16]>,
}

/// The one frame that an acceptor sends back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HelloAnswer {
    /// The link is open; frames may follow the `Hello`.
    Welcome(Welcome),
    /// It is not; the acceptor closes it.
    Refused(Refusal),
}

/// Who has accepted a link.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Welcome {
    /// Version of all frames that follow: the highest that both speak.
    pub version: u16,
    /// The acceptor's cluster; `None` before it knows one.
    pub cluster_id: Option<[u8; 16]>,
    /// Who accepts.
    pub node_id: NodeId,
    /// Random id of the acceptor's data directory.
    pub founding_id: [u8; 16],
    /// Counts the acceptor's starts that were flushed, rising for ever.
    pub boot_epoch: u64,
    /// Random id of this start of the acceptor's process.
    pub start_id: u64,
    /// Whether the acceptor has stored that its cluster is founded.
    pub is_founded: bool,
    /// As of [`Hello::voters`], the acceptor's.
    pub voters: Vec<VoterEntry>,
    /// The dialler's replica of the metadata, where it was given one after the founding.
    pub replica_id: Option<ReplicaId>,
    /// How far the acceptor has applied the metadata.
    pub metadata_index: LogIndex,
}

/// Why a link was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What the dialler can act on.
    pub reason: RefusalReason,
    /// One line for the operator, at most 1,024 bytes: [`super::operator_text`].
    pub text: Text,
}

/// What a dialler can act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalReason {
    /// No version that both speak.
    VersionMismatch,
    /// The two belong to different clusters.
    WrongCluster,
    /// The acceptor is not who the dialler takes it for.
    WrongNode,
    /// Before the founding: the configured voters differ.
    UnequalVoters,
    /// The dialler is no node of the acceptor's cluster and has no permit.
    UnknownNode,
    /// A later start of the dialler has been seen.
    OlderBoot,
    /// The acceptor cannot say yet; dial again.
    NotReady,
    /// The dialler's founding id is not the recorded one: another data directory.
    WrongFoundingId,
    /// The acceptor has no such shard.
    WrongShard,
    /// The dialler's certificate is not that of the node that it says it is.
    WrongCertificate,
    /// The dialler was a node of the cluster and has been removed.
    Removed,
    /// A reason of a later version, by its number; the text says it.
    Other(u16),
}

impl RefusalReason {
    /// All reasons of this version.
    pub const ALL: [Self; 11] = [
        Self::VersionMismatch,
        Self::WrongCluster,
        Self::WrongNode,
        Self::UnequalVoters,
        Self::UnknownNode,
        Self::OlderBoot,
        Self::NotReady,
        Self::WrongFoundingId,
        Self::WrongShard,
        Self::WrongCertificate,
        Self::Removed,
    ];

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::VersionMismatch => 1,
            Self::WrongCluster => 2,
            Self::WrongNode => 3,
            Self::UnequalVoters => 4,
            Self::UnknownNode => 5,
            Self::OlderBoot => 6,
            Self::NotReady => 7,
            Self::WrongFoundingId => 8,
            Self::WrongShard => 9,
            Self::WrongCertificate => 10,
            Self::Removed => 11,
            Self::Other(number) => number,
        }
    }

    /// The reason with this number. A refusal is understood by its text where this is new.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        let known = Self::ALL.into_iter().find(|reason| reason.number() == number);
        known.unwrap_or(Self::Other(number))
    }
}

impl Hello {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        Ok(Self {
            version_min: reader.u16("version_min")?,
            version_max: reader.u16("version_max")?,
            cluster_id: reader.optional("cluster_id", |reader| reader.array("cluster_id"))?,
            node_id: reader.node_id("node_id")?,
            founding_id: reader.array("founding_id")?,
            boot_epoch: reader.u64("boot_epoch")?,
            start_id: reader.u64("start_id")?,
            expected_node_id: reader.node_id("expected_node_id")?,
            shard: reader.u16("shard")?,
            is_founded: reader.flag("is_founded")?,
            voters: read_voters(reader)?,
            peers_address: reader.text("peers_address", PEER_ADDRESS_BYTES_MAX)?,
            metadata_index: LogIndex::new(reader.u64("metadata_index")?),
            former_founding_id: reader
                .optional("former_founding_id", |reader| reader.array("former_founding_id"))?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        writer.u16(self.version_min);
        writer.u16(self.version_max);
        writer.optional(self.cluster_id, |writer, id| writer.put(&id));
        writer.node_id("node_id", self.node_id)?;
        writer.put(&self.founding_id);
        writer.u64(self.boot_epoch);
        writer.u64(self.start_id);
        writer.node_id("expected_node_id", self.expected_node_id)?;
        writer.u16(self.shard);
        writer.flag(self.is_founded);
        write_voters(&self.voters, writer)?;
        writer.text("peers_address", &self.peers_address, PEER_ADDRESS_BYTES_MAX)?;
        writer.u64(self.metadata_index.get());
        writer.optional(self.former_founding_id, |writer, id| writer.put(&id));
        Ok(())
    }
}

const WELCOME: u8 = 1;
const REFUSED: u8 = 2;

impl HelloAnswer {
    pub(super) fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        match reader.u8("outcome")? {
            WELCOME => Welcome::read(reader).map(Self::Welcome),
            REFUSED => Ok(Self::Refused(Refusal {
                reason: RefusalReason::from_number(reader.u16("reason")?),
                text: reader.text("text", PEER_TEXT_BYTES_MAX)?,
            })),
            found => Err(reader.value("outcome", found.into(), "1 or 2")),
        }
    }

    pub(super) fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        match self {
            Self::Welcome(welcome) => {
                writer.u8(WELCOME);
                welcome.write(writer)
            }
            Self::Refused(Refusal { reason, text }) => {
                writer.u8(REFUSED);
                writer.u16(reason.number());
                writer.text("text", text, PEER_TEXT_BYTES_MAX)
            }
        }
    }
}

impl Welcome {
    fn read(reader: &mut Reader) -> Result<Self, PeerDecodeError> {
        Ok(Self {
            version: reader.u16("version")?,
            cluster_id: reader.optional("cluster_id", |reader| reader.array("cluster_id"))?,
            node_id: reader.node_id("node_id")?,
            founding_id: reader.array("founding_id")?,
            boot_epoch: reader.u64("boot_epoch")?,
            start_id: reader.u64("start_id")?,
            is_founded: reader.flag("is_founded")?,
            voters: read_voters(reader)?,
            replica_id: reader
                .optional("replica_id", |reader| reader.u64("replica_id").map(ReplicaId::new))?,
            metadata_index: LogIndex::new(reader.u64("metadata_index")?),
        })
    }

    fn write(&self, writer: &mut Writer) -> Result<(), PeerEncodeError> {
        writer.u16(self.version);
        writer.optional(self.cluster_id, |writer, id| writer.put(&id));
        writer.node_id("node_id", self.node_id)?;
        writer.put(&self.founding_id);
        writer.u64(self.boot_epoch);
        writer.u64(self.start_id);
        writer.flag(self.is_founded);
        write_voters(&self.voters, writer)?;
        writer.optional(self.replica_id, |writer, id| writer.u64(id.get()));
        writer.u64(self.metadata_index.get());
        Ok(())
    }
}

/// Length, node id and the length of an address.
pub(super) const VOTER_BYTES_MIN: usize = 4 + 8 + 2 + 16;

fn read_voters(reader: &mut Reader) -> Result<Vec<VoterEntry>, PeerDecodeError> {
    reader.list("voters", (VOTER_BYTES_MIN, PEER_VOTERS_MAX), |reader| {
        let mut voter = reader.nested("voters")?;
        Ok(VoterEntry {
            node_id: voter.node_id("voter node_id")?,
            address: voter.text("voter address", PEER_ADDRESS_BYTES_MAX)?,
            founding_id: voter.array("voter founding_id")?,
        })
    })
}

fn write_voters(voters: &[VoterEntry], writer: &mut Writer) -> Result<(), PeerEncodeError> {
    writer.list("voters", voters, PEER_VOTERS_MAX, |writer, voter| {
        writer.nested("voters", |writer| {
            writer.node_id("voter node_id", voter.node_id)?;
            writer.text("voter address", &voter.address, PEER_ADDRESS_BYTES_MAX)?;
            writer.put(&voter.founding_id);
            Ok(())
        })
    })
}
