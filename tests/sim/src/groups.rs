//! What must hold of consumer groups, whoever coordinates them.
//!
//! Invariants
//! - I12: a partition has one owner in a generation, as long as that one's session lasts. A group
//!   that everybody has left, and that nothing was committed for, may begin again with the first.
//! - I13: a committed position that was acknowledged is not found lower by the coordinator that
//!   leads in the newest term.
//!
//! Absent on purpose: when a group rebalances, which is the coordinator's.

use crate::clients::Asked;
use crate::event::{Micros, NodeAt};
use crate::process::Process;
use crate::world::World;
use bateau_core::consumer_group::{GroupRequest, GroupResponse, Name};
use bateau_protocol::ids::Incarnation;
use std::collections::BTreeMap;

/// A session of the members' length, less what clocks run fast, in microseconds.
const SESSION: Micros = 5_900_000;

/// What was seen of all groups.
#[derive(Debug, Default)]
pub struct Groups {
    owners: BTreeMap<(Name, i32, u8), Name>,
    /// When a coordinator last took a member for one; who has left is none.
    heard: BTreeMap<(Name, Name), Micros>,
    committed: BTreeMap<Name, BTreeMap<i32, i64>>,
}

/// Number of the command that removes a group, of which its name comes first.
const GROUP_REMOVED: u16 = 4;

impl Groups {
    /// Commands have been committed, to whatever they are: a group that is removed begins again
    /// with generation 1 when it is made anew.
    pub fn note_commands(&mut self, mut payload: &[u8]) {
        while let Some((head, rest)) = payload.split_first_chunk::<8>() {
            let [one, two, _, _, length @ ..] = *head;
            let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
            let Some((body, rest)) = rest.split_at_checked(length) else { return };
            payload = rest;
            if u16::from_le_bytes([one, two]) == GROUP_REMOVED {
                self.owners.retain(|(name, ..), _| {
                    !body.get(4..).is_some_and(|body| body.starts_with(name.as_bytes()))
                });
            }
        }
    }
}

/// A request of a group that is under way.
#[derive(Clone, Debug)]
pub struct AskedGroup {
    request: GroupRequest,
    log: Option<Incarnation>,
    /// What was committed when it was asked.
    committed: BTreeMap<i32, i64>,
}

impl World {
    pub(crate) fn remember_group(&self, n: NodeAt, request: &GroupRequest) -> Asked {
        let group_id = request.group_id();
        let committed = self.groups.committed.get(group_id).cloned().unwrap_or_default();
        let log = self.group_log(n, group_id);
        Asked::Group(Box::new(AskedGroup { request: request.clone(), log, committed }))
    }

    pub(crate) fn check_group(
        &mut self,
        n: NodeAt,
        process: &Process,
        asked: &AskedGroup,
        response: &GroupResponse,
    ) {
        match (&asked.request, response) {
            (GroupRequest::SyncGroup(request), GroupResponse::SyncGroup(Ok(synced))) => {
                self.count("assignments");
                let (group, member) = (&request.group_id, &request.member_id);
                self.groups.heard.insert((group.clone(), member.clone()), self.at);
                for number in &synced.assignment {
                    let key = (group.clone(), request.generation, *number);
                    let before = self.groups.owners.insert(key, member.clone());
                    let other = before.filter(|before| before != member);
                    if let Some(other) = other.filter(|one| self.is_member(group, one)) {
                        self.fail(format!("I12: {request:?} and {other} own partition {number}"));
                    }
                }
            }
            (GroupRequest::OffsetCommit(request), GroupResponse::OffsetCommit(Ok(topics))) => {
                let key = (request.group_id.clone(), request.member_id.clone());
                self.groups.heard.insert(key, self.at);
                let sent = request.topics.iter().flat_map(|topic| &topic.partitions);
                let outcomes = topics.iter().flat_map(|topic| &topic.partitions);
                let committed = self.groups.committed.entry(request.group_id.clone()).or_default();
                for (sent, (_, outcome)) in sent.zip(outcomes) {
                    if outcome.is_ok() {
                        let newest = committed.entry(sent.partition).or_default();
                        *newest = sent.offset.max(*newest);
                    }
                }
                self.count("positions committed");
            }
            (GroupRequest::OffsetFetch(request), GroupResponse::OffsetFetch(Ok(topics))) => {
                if !self.leads_newest(process, asked.log) {
                    return self.count("mark: a deposed coordinator answers");
                }
                self.count("positions fetched");
                let found: BTreeMap<i32, i64> = topics
                    .iter()
                    .flat_map(|topic| &topic.partitions)
                    .filter_map(|(partition, one)| Some((*partition, one.as_ref()?.offset)))
                    .collect();
                for (partition, expected) in &asked.committed {
                    let offset = found.get(partition).copied().unwrap_or(-1);
                    if offset < *expected {
                        let (name, group) = (n + 1, &request.group_id);
                        return self.fail(format!(
                            "I13: node {name} finds {offset} of {group}/{partition}, \
                             {expected} was committed"
                        ));
                    }
                }
            }
            (GroupRequest::Heartbeat(request), GroupResponse::Heartbeat(Ok(()))) => {
                let key = (request.group_id.clone(), request.member_id.clone());
                self.groups.heard.insert(key, self.at);
            }
            (GroupRequest::LeaveGroup(request), GroupResponse::LeaveGroup(Ok(_))) => {
                for member in &request.members {
                    let key = (request.group_id.clone(), member.member_id.clone());
                    self.groups.heard.remove(&key);
                }
            }
            _ => {}
        }
    }

    /// Whether no coordinator may have given this member up yet.
    fn is_member(&self, group: &Name, member: &Name) -> bool {
        let heard = self.groups.heard.get(&(group.clone(), member.clone()));
        heard.is_some_and(|heard| self.at < heard + SESSION)
    }

    fn leads_newest(&self, process: &Process, log: Option<Incarnation>) -> bool {
        let Some(log) = log else { return false };
        let newest = self.checker.logs.get(&log).and_then(|history| history.newest_term());
        let leads = process.seen.get(&log).and_then(|seen| seen.leads);
        leads.is_some() && leads == newest
    }
}
