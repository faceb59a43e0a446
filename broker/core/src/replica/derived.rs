//! What a replica derives from its log: the one thing in which partitions differ.
//!
//! | log of | derived |
//! |---|---|
//! | a topic's partition | [`Producers`]: idempotence |
//! | an internal group partition | [`GroupCoordinator`]: consumer groups and offsets |
//! | the metadata partition | [`Controller`]: topics, nodes, producer ids |
//!
//! Invariants: derived state is a function of the applied prefix (expiry of producer ids, which is
//! each replica's own, excepted); a state machine's answers leave only after what they rest on is
//! applied.
//!
//! Absent on purpose: a trait. There are three kinds, and they share no more than what is here.

use super::{Producers, Replica};
use crate::clock::{Deadline, Now};
use crate::codec::{DecodeError, Reader, Writer};
use crate::consumer_group::{GroupCoordinator, GroupEffects, GroupRequest, GroupSettings};
use crate::controller::{
    BrokerSettings, Controller, ControllerEffect, ControllerRequest, Entropy, FoundingPlan,
    Metadata, MetadataEvent,
};
use crate::shard::{Effect, Effects, Reply};
use crate::ticket::{ProposalToken, Ticket};
use bateau_protocol::frame::FrameKind;
use bateau_protocol::ids::{LogIndex, NodeId, Offset, TopicId};
use bateau_protocol::record::{BatchHeader, ProducerSequence};
use bytes::Bytes;
use std::collections::BTreeSet;

/// Which kind of state a partition's log builds, and what an empty one needs.
pub enum DerivedStart {
    /// A topic's partition.
    Records,
    /// An internal group partition.
    Groups(GroupSettings),
    /// The metadata partition.
    Metadata(MetadataStart),
}

/// What a controller needs beside its log.
pub struct MetadataStart {
    /// What requests are decided by.
    pub settings: BrokerSettings,
    /// With what the cluster begins, if this node has to found it.
    pub founding: FoundingPlan,
    /// Where ids come from.
    pub entropy: Box<dyn Entropy>,
}

/// State derived from a log.
pub enum Derived {
    /// Idempotence of a topic's partition.
    Records(Producers),
    /// Consumer groups.
    Groups(Box<Groups>),
    /// The metadata.
    Metadata(Box<MetadataMachine>),
}

/// A coordinator and what it wants done.
pub struct Groups {
    coordinator: GroupCoordinator,
    effects: GroupEffects,
}

/// A controller, what it wants done, and what its commands mean for this node.
pub struct MetadataMachine {
    controller: Controller,
    effects: Vec<ControllerEffect>,
    events: Vec<MetadataEvent>,
}

impl MetadataMachine {
    pub(super) fn check_invariants(&self) {
        self.controller.check_invariants();
        assert!(self.effects.is_empty(), "what the controller wants done is done in its turn");
    }
}

/// A state out of a snapshot, decoded and not yet in use.
#[derive(Debug)]
pub(super) enum Restored {
    Records(Producers),
    Groups(GroupCoordinator),
    Metadata(Box<Metadata>),
}

/// A committed frame's place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Applied {
    pub index: LogIndex,
    pub kind: FrameKind,
    pub base_offset: Offset,
    /// The proposal's token, where this replica made it and still leads.
    pub token: Option<ProposalToken>,
}

impl Derived {
    /// What an empty log gives.
    pub(super) fn new(start: DerivedStart) -> Self {
        match start {
            DerivedStart::Records => Self::Records(Producers::default()),
            DerivedStart::Groups(settings) => Self::groups(GroupCoordinator::new(settings)),
            DerivedStart::Metadata(start) => Self::metadata_machine(Metadata::new(), start),
        }
    }

    /// What a state file holds.
    ///
    /// Errors: [`DecodeError`], under a valid checksum: the partition must not be opened.
    pub(super) fn decode(start: DerivedStart, state: &[u8]) -> Result<Self, DecodeError> {
        match start {
            DerivedStart::Records => {
                let mut reader = Reader::new(state);
                let producers = Producers::decode(&mut reader)?;
                reader.finish("producers")?;
                Ok(Self::Records(producers))
            }
            DerivedStart::Groups(settings) => {
                let restored = GroupCoordinator::restore(settings, state);
                let (coordinator, _) =
                    restored.map_err(|error| DecodeError::because("groups", error.to_string()))?;
                Ok(Self::groups(coordinator))
            }
            DerivedStart::Metadata(start) => {
                let restored = Metadata::restore(state);
                let metadata = restored
                    .map_err(|error| DecodeError::because("metadata", error.to_string()))?;
                Ok(Self::metadata_machine(metadata, start))
            }
        }
    }

    /// Decodes another replica's state of this partition.
    ///
    /// Errors: [`DecodeError`]; nothing has changed.
    pub(super) fn restore(&self, state: &[u8]) -> Result<Restored, DecodeError> {
        match self {
            Self::Records(_) => {
                let mut reader = Reader::new(state);
                let producers = Producers::decode(&mut reader)?;
                reader.finish("producers")?;
                Ok(Restored::Records(producers))
            }
            Self::Groups(groups) => {
                let settings = groups.coordinator.settings().clone();
                let restored = GroupCoordinator::restore(settings, state);
                let (coordinator, _) =
                    restored.map_err(|error| DecodeError::because("groups", error.to_string()))?;
                Ok(Restored::Groups(coordinator))
            }
            Self::Metadata(_) => {
                let restored = Metadata::restore(state);
                let metadata = restored
                    .map_err(|error| DecodeError::because("metadata", error.to_string()))?;
                Ok(Restored::Metadata(Box::new(metadata)))
            }
        }
    }

    /// Takes a state of the same kind over. Nobody waits for the one that was here.
    pub(super) fn replace(&mut self, restored: Restored) {
        match (self, restored) {
            (Self::Records(producers), Restored::Records(new)) => *producers = new,
            (Self::Groups(groups), Restored::Groups(new)) => groups.coordinator = new,
            (Self::Metadata(machine), Restored::Metadata(new)) => {
                machine.controller.replace_metadata(*new);
            }
            _ => unreachable!("a state is restored by the partition that takes it over"),
        }
    }

    fn groups(coordinator: GroupCoordinator) -> Self {
        Self::Groups(Box::new(Groups { coordinator, effects: GroupEffects::default() }))
    }

    fn metadata_machine(metadata: Metadata, start: MetadataStart) -> Self {
        let MetadataStart { settings, founding, entropy } = start;
        let controller = Controller::new(metadata, settings, founding, entropy);
        let (effects, events) = (Vec::new(), Vec::new());
        Self::Metadata(Box::new(MetadataMachine { controller, effects, events }))
    }

    /// Appends the state to a state file.
    pub(super) fn encode(&self, applied: LogIndex, writer: &mut Writer) {
        match self {
            Self::Records(producers) => producers.encode(writer),
            Self::Groups(groups) => {
                writer.raw(&groups.coordinator.snapshot(applied));
            }
            Self::Metadata(machine) => {
                writer.raw(&machine.controller.metadata().snapshot());
            }
        }
    }

    /// A topic's producers.
    #[must_use]
    pub fn producers(&self) -> Option<&Producers> {
        if let Self::Records(producers) = self { Some(producers) } else { None }
    }

    pub(super) fn producers_mut(&mut self) -> Option<&mut Producers> {
        if let Self::Records(producers) = self { Some(producers) } else { None }
    }

    /// The cluster's metadata.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        if let Self::Metadata(machine) = self { Some(machine.controller.metadata()) } else { None }
    }

    /// The coordinator of a group partition.
    #[must_use]
    pub fn coordinator(&self) -> Option<&GroupCoordinator> {
        if let Self::Groups(groups) = self { Some(&groups.coordinator) } else { None }
    }

    /// When the state machine wants to be ticked.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        match self {
            Self::Records(_) => None,
            Self::Groups(groups) => groups.coordinator.next_deadline().map(Deadline::Service),
            Self::Metadata(machine) => {
                machine.controller.next_deadline_ms().map(Deadline::Monotonic)
            }
        }
    }

    /// Applies a committed batch or command.
    pub(super) fn apply(
        &mut self,
        applied: &Applied,
        payload: &Bytes,
        now: Now,
    ) -> Result<(), DecodeError> {
        let (index, token) = (applied.index, applied.token);
        match self {
            Self::Records(producers) => {
                let header = BatchHeader::parse(payload)
                    .map_err(|error| DecodeError::because("batch header", error.to_string()))?;
                if let Some(batch) = ProducerSequence::of(&header) {
                    // Not the records' own time: it may lie years back, and an id that is in use
                    // must not be forgotten.
                    producers.commit(index, &batch, applied.base_offset, now.wall_ms);
                }
                Ok(())
            }
            Self::Groups(groups) => {
                let effects = &mut groups.effects;
                let result = groups.coordinator.apply(now, index, payload, token, effects);
                result.map_err(|error| DecodeError::because("group command", error.to_string()))
            }
            Self::Metadata(machine) => {
                let effects = &mut machine.effects;
                let result = machine.controller.apply(index, token, payload, effects);
                result.map_err(|error| DecodeError::because("metadata command", error.to_string()))
            }
        }
    }

    /// This replica was elected; entries of earlier terms may still be to come.
    pub(super) fn elect(&mut self) {
        match self {
            Self::Records(_) | Self::Metadata(_) => {}
            Self::Groups(groups) => groups.coordinator.become_loading(&mut groups.effects),
        }
    }

    /// This replica leads, and everything of earlier terms is applied.
    pub(super) fn lead(&mut self, now: Now) {
        match self {
            Self::Records(_) => {}
            Self::Groups(groups) => groups.coordinator.become_leader(now, &mut groups.effects),
            Self::Metadata(machine) => machine.controller.lead(now, &mut machine.effects),
        }
    }

    /// This replica leads no more; what was appended and not committed may never be.
    pub(super) fn resign(&mut self) {
        match self {
            Self::Records(_) => {}
            Self::Groups(groups) => groups.coordinator.resign(&mut groups.effects),
            Self::Metadata(machine) => machine.controller.resign(&mut machine.effects),
        }
    }

    /// This replica is out of service for the rest of the process.
    pub(super) fn quarantine(&mut self) {
        match self {
            Self::Records(_) => {}
            Self::Groups(groups) => groups.coordinator.quarantine(&mut groups.effects),
            Self::Metadata(machine) => machine.controller.resign(&mut machine.effects),
        }
    }

    pub(super) fn tick(&mut self, now: Now) {
        match self {
            Self::Records(producers) => producers.expire(now.wall_ms),
            Self::Groups(groups) => groups.coordinator.tick(now, &mut groups.effects),
            Self::Metadata(machine) => machine.controller.tick(now, &mut machine.effects),
        }
    }
}

impl Replica {
    /// Hands a request to the coordinator.
    pub(super) fn coordinate(&mut self, request: GroupRequest, ticket: Ticket, now: Now) {
        if let Derived::Groups(groups) = &mut self.derived {
            groups.coordinator.handle(now, request, ticket, &mut groups.effects);
        }
    }

    /// Drops what groups hold for a deleted topic.
    pub fn forget_topic(&mut self, name: &str, id: TopicId, now: Now) {
        if let Derived::Groups(groups) = &mut self.derived {
            groups.coordinator.topic_deleted(now, name, id, &mut groups.effects);
        }
    }

    /// Asks the controller.
    pub fn ask_controller(&mut self, request: ControllerRequest, ticket: Ticket, now: Now) {
        if let Derived::Metadata(machine) = &mut self.derived {
            machine.controller.handle(now, request, ticket, &mut machine.effects);
        }
    }

    /// Who lives, for the controller.
    pub fn note_live(&mut self, live: BTreeSet<NodeId>) {
        if let Derived::Metadata(machine) = &mut self.derived {
            machine.controller.note_live(live);
        }
    }

    /// What applied metadata commands mean for this node, in order.
    pub fn take_metadata_events(&mut self) -> Vec<MetadataEvent> {
        match &mut self.derived {
            Derived::Metadata(machine) => std::mem::take(&mut machine.events),
            Derived::Records(_) | Derived::Groups(_) => Vec::new(),
        }
    }

    /// Makes the events of the whole metadata anew, for a node that starts.
    pub fn announce_metadata(&mut self) {
        if let Derived::Metadata(machine) = &mut self.derived {
            machine.effects.clear();
            machine.events.clear();
            machine.controller.metadata().replay_events(&mut machine.events);
        }
    }

    /// Moves what the state machine wants done to where it is done.
    pub(super) fn take_machine_effects(&mut self, effects: &mut Effects) {
        match &mut self.derived {
            Derived::Records(_) => {}
            Derived::Groups(groups) => {
                let wanted = std::mem::take(&mut groups.effects);
                for (ticket, response) in wanted.replies {
                    effects.push(Effect::Reply(ticket, Reply::Group(response)));
                }
                for proposal in wanted.proposals {
                    self.gather_command(proposal.payload, proposal.token);
                }
            }
            Derived::Metadata(machine) => {
                for effect in std::mem::take(&mut machine.effects) {
                    match effect {
                        ControllerEffect::Propose { token, payload } => {
                            self.gather_command(payload, token);
                        }
                        ControllerEffect::Event(event) => self.note_event(event),
                        ControllerEffect::Reply { ticket, response } => {
                            effects.push(Effect::Reply(ticket, Reply::Controller(response)));
                        }
                    }
                }
            }
        }
    }

    fn note_event(&mut self, event: MetadataEvent) {
        if let Derived::Metadata(machine) = &mut self.derived {
            machine.events.push(event);
        }
    }
}
