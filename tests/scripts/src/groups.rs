//! Group commands of a script as requests.
//!
//! Members have the names that the script gives them; ids and generations are remembered from the
//! answers, as a client does it.
//!
//! Absent on purpose: subscriptions that mean something. The brain does not read them.

use crate::command::Command;
use bateau_core::consumer_group::DeleteGroup;
use bateau_core::consumer_group::{
    Assignment, CommitPartition, CommitTopic, GroupRequest, GroupResponse, Heartbeat, JoinGroup,
    JoinGroupError, LeaveGroup, LeavingMember, Name, OffsetCommit, OffsetFetch, Protocol,
    SyncGroup,
};
use bateau_protocol::ids::TopicId;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a client remembers of its membership.
#[derive(Clone, Debug)]
struct Membership {
    id: Name,
    generation: i32,
}

/// All clients of a script.
#[derive(Default, Debug)]
pub(crate) struct Clients {
    members: BTreeMap<String, Membership>,
    uuids: u8,
}

impl Clients {
    /// Remembers what a JoinGroup answer says.
    pub fn hear(&mut self, name: &str, response: &GroupResponse) {
        match response {
            GroupResponse::JoinGroup(Ok(joined)) => {
                let (id, generation) = (Arc::clone(&joined.member_id), joined.generation);
                self.members.insert(name.to_owned(), Membership { id, generation });
            }
            GroupResponse::JoinGroup(Err(JoinGroupError::MemberIdRequired { member_id })) => {
                let membership = Membership { id: Arc::clone(member_id), generation: -1 };
                self.members.insert(name.to_owned(), membership);
            }
            _ => {}
        }
    }

    /// The request of a command, and the member that asks.
    pub fn request(
        &mut self,
        command: &mut Command,
        topic_id: impl Fn(&str) -> TopicId,
    ) -> (GroupRequest, Option<String>) {
        let group_id: Name = command.take::<String>("group").expect("group=…").into();
        let member: Option<String> = command.take("member");
        let instance: Option<Name> = command.take::<String>("instance").map(Into::into);
        let request = match command.name.as_str() {
            "join" => self.join(command, group_id, member.as_deref(), instance),
            "sync" => self.sync(command, group_id, member.as_deref(), instance),
            "heartbeat" => {
                let (member_id, generation) = self.identity(command, member.as_deref());
                let group_instance_id = instance;
                let heartbeat = Heartbeat { group_id, generation, member_id, group_instance_id };
                GroupRequest::Heartbeat(heartbeat)
            }
            "leave" => {
                let (member_id, _) = self.identity(command, member.as_deref());
                let leaving = LeavingMember { member_id, group_instance_id: instance };
                GroupRequest::LeaveGroup(LeaveGroup { group_id, members: vec![leaving] })
            }
            "commit" => {
                let (member_id, generation) = self.identity(command, member.as_deref());
                let commit = OffsetCommit {
                    group_id,
                    generation,
                    member_id,
                    group_instance_id: instance,
                    retention_ms: None,
                    topics: commits(command, topic_id),
                };
                GroupRequest::OffsetCommit(commit)
            }
            "fetch-offsets" => GroupRequest::OffsetFetch(OffsetFetch {
                group_id,
                topics: None,
                require_stable: false,
            }),
            "delete-group" => GroupRequest::DeleteGroup(DeleteGroup { group_id }),
            other => panic!("{other} is no group command"),
        };
        (request, member)
    }

    /// The member's id and generation, unless the command says otherwise.
    fn identity(&self, command: &mut Command, member: Option<&str>) -> (Name, i32) {
        let known = member.and_then(|member| self.members.get(member));
        let id = known.map_or_else(|| "".into(), |known| Arc::clone(&known.id));
        let generation = command.take("generation");
        (id, generation.unwrap_or_else(|| known.map_or(-1, |known| known.generation)))
    }

    fn join(
        &mut self,
        command: &mut Command,
        group_id: Name,
        member: Option<&str>,
        group_instance_id: Option<Name>,
    ) -> GroupRequest {
        self.uuids += 1;
        let starts_anew = command.take::<bool>("anew").unwrap_or(false);
        let known = member.and_then(|member| self.members.get(member)).filter(|_| !starts_anew);
        let member_id = known.map_or_else(|| "".into(), |known| Arc::clone(&known.id));
        let protocols = command.take::<String>("protocols").unwrap_or_else(|| "range".to_owned());
        let protocol = |name: &str| Protocol { name: name.into(), metadata: Bytes::new() };
        let session_ms = command.take_ms("session").unwrap_or(10_000);
        let rebalance_ms = command.take_ms("rebalance").unwrap_or(60_000);
        GroupRequest::JoinGroup(JoinGroup {
            group_id,
            member_id,
            group_instance_id,
            client_id: "client".into(),
            client_host: "/127.0.0.1".into(),
            member_uuid: [self.uuids; 16],
            member_id_required: command.take("v4").unwrap_or(false),
            can_skip_assignment: command.take("v9").unwrap_or(false),
            session_timeout_ms: i32::try_from(session_ms).unwrap(),
            rebalance_timeout_ms: i32::try_from(rebalance_ms).unwrap(),
            protocol_type: "consumer".into(),
            protocols: protocols.split(',').map(protocol).collect(),
        })
    }

    /// `sync group=g member=a a=x b=y`: the leader hands out assignments by member name.
    fn sync(
        &mut self,
        command: &mut Command,
        group_id: Name,
        member: Option<&str>,
        group_instance_id: Option<Name>,
    ) -> GroupRequest {
        let (member_id, generation) = self.identity(command, member);
        let assignments = command.take_rest().into_iter().map(|(name, assignment)| Assignment {
            member_id: self.members.get(&name).map_or_else(|| name.as_str().into(), id_of),
            assignment: assignment.into(),
        });
        GroupRequest::SyncGroup(SyncGroup {
            group_id,
            generation,
            member_id,
            group_instance_id,
            protocol_type: None,
            protocol_name: None,
            assignments: assignments.collect(),
        })
    }
}

fn id_of(membership: &Membership) -> Name {
    Arc::clone(&membership.id)
}

/// `orders/0=5`: a position in one partition.
fn commits(command: &mut Command, topic_id: impl Fn(&str) -> TopicId) -> Vec<CommitTopic> {
    let one = command.take_rest().into_iter().map(|(place, offset)| {
        let (name, partition) = place.split_once('/').expect("topic/partition=offset");
        let partition = CommitPartition {
            partition: partition.parse().expect("a partition number"),
            offset: offset.parse().expect("an offset"),
            leader_epoch: -1,
            metadata: "".into(),
        };
        CommitTopic { name: name.into(), topic_id: topic_id(name), partitions: vec![partition] }
    });
    one.collect()
}
