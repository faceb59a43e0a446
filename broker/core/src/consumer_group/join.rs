//! JoinGroup: becoming and staying a member (G43 to G45, G48).
//!
//! ```text
//!   no id, dynamic ──► MEMBER_ID_REQUIRED ──► pending id ──┐
//!   no id, dynamic, old client ────────────────────────────┼─► member waits for the generation
//!   no id, static, new instance ───────────────────────────┘
//!   no id, static, known instance ──► new id; old one fenced; answered at once while stable
//!   known id ──► nothing changed: the running generation; else a rebalance
//! ```
//!
//! Absent on purpose: what follows once everybody joined (`rebalance`).

use bytes::Bytes;

use super::command::{Command, StaticMemberReplaced};
use super::live::{LiveGroup, LiveMember};
use super::member::{Member, protocols_bytes};
use super::subscription;
use super::timers::Timer;
use super::turn::{Turn, Waiting};
use super::{
    GROUP_METADATA_BYTES_MAX, GROUPS_PER_PARTITION_MAX, GroupResponse, GroupState, JoinGroup,
    JoinGroupError, JoinedGroup, MEMBER_METADATA_BYTES_MAX, NAME_BYTES_MAX,
    NEW_MEMBER_JOIN_WAIT_MS, Name, PENDING_MEMBERS_PER_GROUP_MAX, PROTOCOLS_PER_MEMBER_MAX,
    Protocol,
};
use crate::ticket::Ticket;

/// Bytes that names and fixed fields of a member may take in a command: id, instance id, client
/// id and host, and the 37 bytes that make an id unique.
const MEMBER_NAMES_BYTES_MAX: usize = 4 * NAME_BYTES_MAX + 37 + 40;

/// What [`LiveGroup::check_member`] finds wrong with an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stranger {
    Unknown,
    Fenced,
}

impl LiveGroup {
    /// Whether an id may act in the group (G48): an instance id must still belong to it.
    pub(super) fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&Name>,
    ) -> Result<(), Stranger> {
        if let Some(instance_id) = instance_id {
            match self.static_member(instance_id) {
                None => return Err(Stranger::Unknown),
                Some(current) if **current != *member_id => return Err(Stranger::Fenced),
                Some(_) => {}
            }
        }
        if self.member(member_id).is_some() { Ok(()) } else { Err(Stranger::Unknown) }
    }
}

impl Turn<'_> {
    pub(super) fn join_group(&mut self, request: JoinGroup, ticket: Ticket) {
        if let Err(error) = self.check_join(&request) {
            return self.answer(ticket, GroupResponse::JoinGroup(Err(error)));
        }
        let group = match self.take_group(&request.group_id) {
            Some(group) => Ok(group),
            None => self.create_group(&request),
        };
        let mut group = match group {
            Ok(group) => group,
            Err(error) => return self.answer(ticket, GroupResponse::JoinGroup(Err(error))),
        };
        if let Err(error) = self.admit(&mut group, request, ticket) {
            self.answer(ticket, GroupResponse::JoinGroup(Err(error)));
        }
        self.put_group(group);
    }

    /// What is wrong with a request whatever the group.
    fn check_join(&self, request: &JoinGroup) -> Result<(), JoinGroupError> {
        if request.group_id.is_empty() || request.group_id.len() > NAME_BYTES_MAX {
            return Err(JoinGroupError::InvalidGroupId);
        }
        let (min_ms, max_ms) =
            (self.settings.session_timeout_min_ms, self.settings.session_timeout_max_ms);
        let asked_ms = u64::try_from(request.session_timeout_ms).ok();
        if asked_ms.is_none_or(|asked_ms| asked_ms < min_ms || asked_ms > max_ms) {
            let found_ms = request.session_timeout_ms.into();
            return Err(JoinGroupError::InvalidSessionTimeout { found_ms, min_ms, max_ms });
        }
        let instance_id = request.group_instance_id.as_ref();
        let names = [
            ("member id bytes", request.member_id.len()),
            ("client id bytes", request.client_id.len()),
            ("client host bytes", request.client_host.len()),
            ("protocol type bytes", request.protocol_type.len()),
            ("group instance id bytes", instance_id.map_or(0, |name| name.len())),
            (
                "protocol name bytes",
                request.protocols.iter().map(|protocol| protocol.name.len()).max().unwrap_or(0),
            ),
        ];
        let sizes = [
            ("protocols", request.protocols.len(), PROTOCOLS_PER_MEMBER_MAX),
            ("metadata bytes", protocols_bytes(&request.protocols), MEMBER_METADATA_BYTES_MAX),
        ];
        let names = names.into_iter().map(|(what, found)| (what, found, NAME_BYTES_MAX));
        match names.chain(sizes).find(|(_, found, max)| found > max) {
            Some((what, found, max)) => Err(JoinGroupError::InvalidRequest { what, found, max }),
            None => Ok(()),
        }
    }

    fn create_group(&mut self, request: &JoinGroup) -> Result<LiveGroup, JoinGroupError> {
        if !request.member_id.is_empty() {
            return Err(JoinGroupError::UnknownMemberId);
        }
        let found = self.tables.groups.len().max(self.live.groups.len());
        if found >= GROUPS_PER_PARTITION_MAX {
            let max = GROUPS_PER_PARTITION_MAX;
            return Err(JoinGroupError::GroupMaxSizeReached { what: "groups", found, max });
        }
        Ok(self.new_group(&request.group_id))
    }

    fn admit(
        &mut self,
        group: &mut LiveGroup,
        request: JoinGroup,
        ticket: Ticket,
    ) -> Result<(), JoinGroupError> {
        check_room(self.settings.members_per_group_max, group, &request)?;
        if !group.supports(&request.protocol_type, &request.protocols) {
            return Err(JoinGroupError::InconsistentGroupProtocol);
        }
        if !request.member_id.is_empty() {
            return self.admit_known(group, request, ticket);
        }
        let member_id = new_member_id(&request);
        if group.member(&member_id).is_some() || group.pending.contains(&member_id) {
            // Random ids do not meet; a caller that repeats itself must not replace a member.
            return Err(super::CoordinatorError::NotAvailable.into());
        }
        let known = request.group_instance_id.as_ref().and_then(|id| group.static_member(id));
        match known.cloned() {
            Some(old_id) => self.replace_static(group, &old_id, member_id, request, ticket),
            None if request.group_instance_id.is_none() && request.member_id_required => {
                return Err(self.hand_out_id(group, member_id, &request));
            }
            None => self.add_member(group, member_id, request, ticket),
        }
        Ok(())
    }

    /// G43: a new dynamic member joins twice, so that a lost answer leaves no ghost behind.
    fn hand_out_id(
        &mut self,
        group: &mut LiveGroup,
        member_id: Name,
        request: &JoinGroup,
    ) -> JoinGroupError {
        let found = group.pending.len();
        if found >= PENDING_MEMBERS_PER_GROUP_MAX {
            let max = PENDING_MEMBERS_PER_GROUP_MAX;
            return JoinGroupError::GroupMaxSizeReached { what: "pending members", found, max };
        }
        let wait_ms = u64::try_from(request.session_timeout_ms).unwrap_or(0);
        let at = self.now.service_ms.saturating_add(wait_ms);
        self.live.timers.arm(Timer::Pending(group.id.clone(), member_id.clone()), at);
        group.pending.insert(member_id.clone());
        JoinGroupError::MemberIdRequired { member_id }
    }

    fn admit_known(
        &mut self,
        group: &mut LiveGroup,
        request: JoinGroup,
        ticket: Ticket,
    ) -> Result<(), JoinGroupError> {
        let member_id = request.member_id.clone();
        if group.pending.contains(&member_id) {
            if request.group_instance_id.is_some() {
                // A handed-out id never belongs to a static member.
                return Err(JoinGroupError::UnknownMemberId);
            }
            group.pending.remove(&member_id);
            self.live.timers.cancel(&Timer::Pending(group.id.clone(), member_id.clone()));
            self.add_member(group, member_id, request, ticket);
            return Ok(());
        }
        match group.check_member(&member_id, request.group_instance_id.as_ref()) {
            Ok(()) => {}
            Err(Stranger::Unknown) => return Err(JoinGroupError::UnknownMemberId),
            Err(Stranger::Fenced) => return Err(JoinGroupError::FencedInstanceId),
        }
        let is_same = group
            .member(&member_id)
            .is_some_and(|member| member.member.protocols == request.protocols);
        let is_current = match group.state {
            // Perhaps the first answer got lost.
            GroupState::CompletingRebalance => is_same,
            // A leader that joins again wants a rebalance, for reasons only it knows.
            GroupState::Stable => is_same && !group.is_leader(&member_id),
            GroupState::PreparingRebalance | GroupState::Empty => false,
        };
        if is_current {
            self.restart_session(group, &member_id);
            let joined = joined_group(group, &member_id, false);
            let response = GroupResponse::JoinGroup(Ok(joined));
            self.answer_member(group, &member_id, Waiting::New(ticket), response);
        } else {
            self.update_member(group, request, ticket);
        }
        Ok(())
    }

    fn add_member(
        &mut self,
        group: &mut LiveGroup,
        member_id: Name,
        request: JoinGroup,
        ticket: Ticket,
    ) {
        if group.member_count() == 0 {
            group.protocol_type = request.protocol_type.clone();
        }
        if group.leader.is_none() {
            group.leader = Some(member_id.clone());
        }
        if group.state == GroupState::PreparingRebalance && group.is_initial {
            group.has_newcomer = true;
        }
        let at = self.now.service_ms.saturating_add(NEW_MEMBER_JOIN_WAIT_MS);
        group.insert(LiveMember {
            member: member_from(member_id.clone(), request),
            join: Some(ticket),
            sync: None,
            session_deadline: at,
            is_new: true,
        });
        self.live.parked += 1;
        self.live.timers.arm_by(Timer::Session(group.id.clone(), member_id), at);
        self.rebalance_or_complete(group);
    }

    fn update_member(&mut self, group: &mut LiveGroup, request: JoinGroup, ticket: Ticket) {
        let member_id = request.member_id.clone();
        group.update(&member_id, |member| {
            let assignment = std::mem::take(&mut member.member.assignment);
            let instance_id = member.member.instance_id.take();
            member.member = member_from(member_id.clone(), request);
            member.member.assignment = assignment;
            member.member.instance_id = instance_id;
        });
        self.park_join(group, &member_id, ticket);
        self.rebalance_or_complete(group);
    }

    fn park_join(&mut self, group: &mut LiveGroup, member_id: &str, ticket: Ticket) {
        self.live.parked += 1;
        if let Some(before) = group.park_join(member_id, ticket) {
            let error = JoinGroupError::RebalanceInProgress;
            self.answer_parked(before, GroupResponse::JoinGroup(Err(error)));
        }
    }

    /// G48: a static member that restarted takes its place again, under a new id.
    fn replace_static(
        &mut self,
        group: &mut LiveGroup,
        old_id: &Name,
        member_id: Name,
        request: JoinGroup,
        ticket: Ticket,
    ) {
        let Some(mut member) = group.take(old_id) else { return };
        self.live.timers.cancel(&Timer::Session(group.id.clone(), old_id.clone()));
        self.fence(&mut member);
        let was_leader = group.is_leader(old_id);
        if was_leader {
            group.leader = Some(member_id.clone());
        }
        let can_skip = request.can_skip_assignment;
        let before = member.member.metadata(&group.protocol);
        let assignment = std::mem::take(&mut member.member.assignment);
        member.member = member_from(member_id.clone(), request);
        member.member.assignment = assignment;
        // It knows its id, so it is waited for like any other.
        member.is_new = false;
        let after = member.member.metadata(&group.protocol);
        group.insert(member);
        self.restart_session(group, &member_id);
        let keeps_place = group.state == GroupState::Stable
            && group.elect_protocol() == group.protocol
            && subscription::is_unchanged(&group.protocol_type, &before, &after);
        if !keeps_place {
            self.park_join(group, &member_id, ticket);
            return self.rebalance_or_complete(group);
        }
        let Some(member) = group.member(&member_id) else { return };
        let command = Command::StaticMemberReplaced(StaticMemberReplaced {
            group_id: group.id.clone(),
            revision: group.revision,
            old_member_id: old_id.clone(),
            member: member.member.clone(),
        });
        self.propose_change(group, &command);
        let mut joined = joined_group(group, &member_id, can_skip && was_leader);
        if was_leader && !can_skip {
            // A leader that cannot be told to keep the assignments is not told that it leads,
            // or it would hand in new ones that nobody waits for.
            joined.leader = old_id.clone();
            joined.members = Vec::new();
        }
        let response = GroupResponse::JoinGroup(Ok(joined));
        self.answer_member(group, &member_id, Waiting::New(ticket), response);
    }

    /// Answers what a replaced member still waits for.
    fn fence(&mut self, member: &mut LiveMember) {
        if let Some(ticket) = member.join.take() {
            let error = JoinGroupError::FencedInstanceId;
            self.answer_parked(ticket, GroupResponse::JoinGroup(Err(error)));
        }
        if let Some(ticket) = member.sync.take() {
            let error = super::SyncGroupError::FencedInstanceId;
            self.answer_parked(ticket, GroupResponse::SyncGroup(Err(error)));
        }
    }
}

/// Whether the group can take the member: heads, and bytes that one command must hold.
fn check_room(
    members_max: usize,
    group: &LiveGroup,
    request: &JoinGroup,
) -> Result<(), JoinGroupError> {
    let instance_id = request.group_instance_id.as_ref();
    let replaced = instance_id.and_then(|id| group.static_member(id));
    let known = group.member(&request.member_id).or_else(|| group.member(replaced?));
    let found = group.member_count();
    if known.is_none() && found >= members_max {
        let max = members_max;
        return Err(JoinGroupError::GroupMaxSizeReached { what: "members", found, max });
    }
    let freed = known.map_or(0, |member| member.member.metadata_bytes());
    let added = protocols_bytes(&request.protocols) + MEMBER_NAMES_BYTES_MAX;
    let found = group.metadata_bytes().saturating_sub(freed).saturating_add(added);
    if found > GROUP_METADATA_BYTES_MAX {
        let max = GROUP_METADATA_BYTES_MAX;
        return Err(JoinGroupError::GroupMaxSizeReached { what: "metadata bytes", found, max });
    }
    Ok(())
}

/// What a member of the running generation is told.
pub(super) fn joined_group(
    group: &LiveGroup,
    member_id: &Name,
    skip_assignment: bool,
) -> JoinedGroup {
    let members = if group.is_leader(member_id) { group.joined_members() } else { Vec::new() };
    JoinedGroup {
        generation: group.generation,
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol.clone(),
        leader: group.leader.clone().unwrap_or_default(),
        member_id: member_id.clone(),
        skip_assignment,
        members,
    }
}

/// `<client or instance id>-<uuid>`.
fn new_member_id(request: &JoinGroup) -> Name {
    let prefix = request.group_instance_id.as_ref().unwrap_or(&request.client_id);
    let mut id = String::with_capacity(prefix.len() + 37);
    id.push_str(prefix);
    id.push('-');
    for (position, byte) in request.member_uuid.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            id.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
    }
    Name::from(id)
}

fn member_from(id: Name, request: JoinGroup) -> Member {
    let session_timeout_ms = u32::try_from(request.session_timeout_ms).unwrap_or(0);
    let rebalance_timeout_ms = u32::try_from(request.rebalance_timeout_ms);
    Member {
        id,
        instance_id: request.group_instance_id,
        client_id: request.client_id,
        client_host: request.client_host,
        session_timeout_ms,
        rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
        protocols: request.protocols.into_iter().map(owned).collect(),
        assignment: Bytes::new(),
    }
}

/// Metadata that is kept must not pin the receive buffer that it came in.
fn owned(protocol: Protocol) -> Protocol {
    Protocol { name: protocol.name, metadata: Bytes::copy_from_slice(&protocol.metadata) }
}
