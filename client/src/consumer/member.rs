//! A group member's task: joins, shares out where it leads, keeps the session, and leaves.
//!
//! ```text
//!   join ──> (lead) ──> sync ──> take over ──> heartbeats, commits ──┐
//!     ▲                                                              │
//!     └── rebalance, new partitions: give up ─── lost: keep and see ─┘
//! ```
//!
//! Eager members give up everything before they join; cooperative ones keep what they have and give
//! up what the leader takes away (KIP-429). One that has missed an assignment gives up everything
//! before it joins again, for it can claim nothing. Giving up means: nothing more is delivered,
//! what is in the application's hands is waited for a moment, and what it acknowledged is stored.
//!
//! Whoever gets a partition back, and finds the position stored as it left it, goes on where it
//! was: nobody else has been there. So a broker's restart, which may cost the membership, repeats
//! nothing.
//!
//! Absent on purpose: server-side assignment (KIP-848).

use super::holding::Holding;
use super::membership;
use super::shared::{Place, Shared};
use super::slot::Slot;
use crate::cluster::{Repeat, Target, TopicView};
use crate::error::{ConsumeError, RequestError};
use crate::group::{
    Assignment, JoinedMember, Leadership, PROTOCOL_TYPE, PartitionsByTopic, RebalanceProtocol,
    rebalance_protocol,
};
use bateau_protocol::native::{
    CommittedRequest, GroupMember, GroupProtocol, HeartbeatRequest, JoinRequest, JoinResponse,
    LeaveRequest, LeavingMember, MemberAssignment, SyncRequest, TopicPartition,
};
use bateau_protocol::wire::ErrorCode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a rebalance waits for deliveries that are in the application's hands.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// How long a join may take beyond the rebalance timeout.
const JOIN_TIME_SPARE: Duration = Duration::from_secs(10);

/// The pause before another attempt where the coordinator refuses for now.
const PAUSE: Duration = Duration::from_millis(100);

/// Why a round ended.
enum Next {
    /// The group rebalances; we are still a member.
    Rejoin,
    /// The coordinator does not know us, or not in this generation.
    Lost,
    /// Never again.
    Over(ConsumeError),
}

struct Member {
    shared: Arc<Shared>,
    group: String,
    /// The generation of what is assigned.
    holding: Holding,
    /// Partitions that we had and may get back.
    kept: BTreeMap<Place, Arc<Slot>>,
    /// Counts of partitions that the assignment was made of, where we made it.
    led: Option<BTreeMap<String, u32>>,
}

/// Starts the task of a member.
pub(super) fn start(shared: &Arc<Shared>) {
    let group = shared.options.group.clone().unwrap_or_default();
    let (kept, led) = (BTreeMap::new(), None);
    let holding = Holding::default();
    let member = Member { shared: Arc::clone(shared), group, holding, kept, led };
    shared.cluster.runtime.spawn(run(member));
}

async fn run(mut member: Member) {
    let shared = Arc::clone(&member.shared);
    let error = tokio::select! {
        error = member.rounds() => Some(error),
        () = closing(&shared) => None,
        () = shared.cluster.down() => None,
    };
    if let Some(error) = error {
        shared.fail(error);
    } else {
        member.leave().await;
    }
    shared.membership.left.send_replace(true);
    shared.end();
    shared.membership.announce();
}

/// Waits until the consumer is closed or dropped.
async fn closing(shared: &Shared) {
    let mut left = shared.closing.subscribe();
    // The sender lives as long as `shared`.
    let _ = left.wait_for(|closing| *closing).await;
}

impl Member {
    async fn rounds(&mut self) -> ConsumeError {
        let mut is_lost = true;
        loop {
            match self.round(is_lost).await {
                Next::Rejoin => is_lost = false,
                Next::Lost => is_lost = true,
                Next::Over(error) => return error,
            }
        }
    }

    async fn round(&mut self, is_lost: bool) -> Next {
        let cooperative = self.is_cooperative();
        self.shared.membership.lock().is_member = false;
        if is_lost {
            self.holding.lost();
        }
        if !cooperative || !self.holding.may_be_claimed() {
            self.give_up(self.everything(), is_lost).await;
        }
        let joined = match self.join().await {
            Ok(joined) => joined,
            Err(next) => return next,
        };
        let assignments = match self.lead(&joined).await {
            Ok(assignments) => assignments,
            Err(next) => return next,
        };
        self.holding.sync_begins();
        let assigned = match self.sync(&joined, assignments).await {
            Ok(assigned) => assigned,
            Err(next) => return next,
        };
        self.holding.sync_completed(joined.generation);
        let taken_away: Vec<_> =
            self.everything().into_iter().filter(|place| !has(&assigned, place)).collect();
        let must_rejoin = cooperative && !taken_away.is_empty();
        self.give_up(taken_away, false).await;
        if let Err(next) = self.take_over(&assigned).await {
            return next;
        }
        self.shared.membership.lock().is_member = true;
        self.shared.membership.announce();
        if must_rejoin {
            return Next::Rejoin;
        }
        self.stay().await
    }

    fn is_cooperative(&self) -> bool {
        rebalance_protocol(&self.shared.options.assignors) == RebalanceProtocol::Cooperative
    }

    fn everything(&self) -> Vec<Place> {
        self.shared.lock().assigned.keys().cloned().collect()
    }

    /// Stops delivering; waits for what is in the application's hands; stores what it acknowledged.
    async fn give_up(&mut self, places: Vec<Place>, is_lost: bool) {
        let mut slots = Vec::new();
        for place in places {
            if let Some(slot) = self.shared.suspend(&place) {
                slots.push(Arc::clone(&slot));
                self.kept.insert(place, slot);
            }
        }
        if is_lost || self.shared.options.ack_interval().is_none() {
            return;
        }
        let limit = DRAIN_TIME_MAX.min(self.shared.options.rebalance_timeout / 4);
        let drained = async {
            loop {
                let acknowledged = self.shared.acknowledged.notified();
                tokio::pin!(acknowledged);
                acknowledged.as_mut().enable();
                if slots.iter().all(|slot| slot.progress().unacknowledged() == 0) {
                    return;
                }
                acknowledged.await;
            }
        };
        // Whatever is not acknowledged by then is delivered again, to whoever gets the partition.
        let _ = tokio::time::timeout(limit, drained).await;
        let position = |slot: &Arc<Slot>| {
            let next = slot.progress().to_store()?;
            Some((Arc::clone(slot), next))
        };
        let positions: Vec<_> = slots.iter().filter_map(position).collect();
        if let Err(error) = membership::store_once(&self.shared, &positions).await {
            tracing::warn!(group = %self.group, %error, "positions were not stored");
        }
    }

    async fn join(&mut self) -> Result<JoinResponse, Next> {
        let options = &self.shared.options;
        let mut owned = PartitionsByTopic::new();
        if self.is_cooperative() {
            for (topic, partition) in self.everything() {
                owned.entry(topic.to_string()).or_default().push(partition);
            }
        }
        let member = self.shared.membership.get();
        let generation = self.holding.generation();
        let protocol = |assignor: &crate::group::Assignor| GroupProtocol {
            name: assignor.name().into(),
            metadata: assignor.metadata(&options.topics, &owned, generation),
        };
        let mut request = JoinRequest {
            group_id: self.group.clone().into(),
            member_id: member.member_id.into(),
            group_instance_id: options.instance_id.clone().map(Into::into),
            session_timeout_ms: milliseconds(options.session_timeout),
            rebalance_timeout_ms: milliseconds(options.rebalance_timeout),
            protocol_type: PROTOCOL_TYPE.into(),
            protocols: options.assignors.iter().map(protocol).collect(),
        };
        let time = options.rebalance_timeout + JOIN_TIME_SPARE;
        loop {
            let target = Target::Coordinator(self.group.clone());
            let joined =
                self.shared.cluster.call_within(time, target, Repeat::Freely, &request).await;
            let error = match joined {
                Ok(joined) => {
                    let mut state = self.shared.membership.lock();
                    state.member_id = joined.member_id.as_str().to_owned();
                    state.generation = joined.generation;
                    return Ok(joined);
                }
                Err(error) => error,
            };
            let given = match &error {
                RequestError::Broker(answer) => answer.member_id.clone(),
                _ => None,
            };
            match (error.code(), given) {
                (Some(ErrorCode::MEMBER_ID_REQUIRED), Some(id)) => {
                    self.shared.membership.lock().member_id = id.clone();
                    request.member_id = id.into();
                }
                _ => return Err(self.failed(error).await),
            }
        }
    }

    /// Shares out, if we are the one who does.
    async fn lead(&mut self, joined: &JoinResponse) -> Result<Vec<MemberAssignment>, Next> {
        self.led = None;
        if joined.leader != joined.member_id || joined.skip_assignment {
            return Ok(Vec::new());
        }
        let member = |member: &GroupMember| JoinedMember {
            member_id: member.member_id.as_str().to_owned(),
            instance_id: member.group_instance_id.as_ref().map(|id| id.as_str().to_owned()),
            metadata: member.metadata.clone(),
        };
        let members = joined.members.iter().map(member).collect();
        let own_topics = self.shared.options.topics.clone();
        let leadership = Leadership::read(&joined.protocol_name, members, own_topics)
            .map_err(|error| self.over(error.to_string()))?;
        let mut counts = BTreeMap::new();
        for topic in leadership.topics() {
            match self.topic(topic).await {
                Ok(Some(view)) => {
                    counts.insert(topic.to_owned(), view.partition_count().unsigned_abs());
                }
                Ok(None) => {}
                Err(error) => return Err(self.failed(error).await),
            }
        }
        let assigned = leadership.assign(&counts);
        self.led = Some(counts);
        let assignment = |(member_id, assignment): (String, bytes::Bytes)| MemberAssignment {
            member_id: member_id.into(),
            assignment,
        };
        Ok(assigned.into_iter().map(assignment).collect())
    }

    /// A topic; `None` where it does not exist.
    async fn topic(&self, name: &str) -> Result<Option<Arc<TopicView>>, RequestError> {
        let cluster = &self.shared.cluster;
        match cluster.topic(name, false, cluster.options.timeout).await {
            Ok(view) => Ok(Some(view)),
            Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn sync(
        &self,
        joined: &JoinResponse,
        assignments: Vec<MemberAssignment>,
    ) -> Result<PartitionsByTopic, Next> {
        let request = SyncRequest {
            group_id: self.group.clone().into(),
            generation: joined.generation,
            member_id: joined.member_id.clone(),
            group_instance_id: self.shared.options.instance_id.clone().map(Into::into),
            protocol_type: joined.protocol_type.clone(),
            protocol_name: joined.protocol_name.clone(),
            assignments,
        };
        let time = self.shared.options.rebalance_timeout + JOIN_TIME_SPARE;
        let target = Target::Coordinator(self.group.clone());
        let synced = self.shared.cluster.call_within(time, target, Repeat::Freely, &request).await;
        let assignment = match synced {
            Ok(synced) => synced.assignment,
            Err(error) => return Err(self.failed(error).await),
        };
        if assignment.is_empty() {
            return Ok(PartitionsByTopic::new());
        }
        let assigned = Assignment::decode(&assignment);
        assigned.map(|one| one.partitions).map_err(|error| self.over(error.to_string()))
    }

    /// Begins to read what is new, where the group left it.
    async fn take_over(&mut self, assigned: &PartitionsByTopic) -> Result<(), Next> {
        let running: BTreeSet<_> = self.everything().into_iter().collect();
        let mut slots = Vec::new();
        for (name, partitions) in assigned {
            let view = match self.topic(name).await {
                Ok(Some(view)) => view,
                Ok(None) => {
                    tracing::warn!(group = %self.group, topic = %name, "assigned, and unknown");
                    continue;
                }
                Err(error) => return Err(self.failed(error).await),
            };
            for partition in partitions {
                let place = (Arc::clone(&view.name), *partition);
                if running.contains(&place) {
                    continue;
                }
                let kept = self.kept.remove(&place).filter(|slot| slot.topic_id == view.id);
                let new = || Slot::new(Arc::clone(&view.name), view.id, *partition);
                slots.push(kept.unwrap_or_else(new));
            }
        }
        // What we do not get back is somebody else's.
        for (_, slot) in std::mem::take(&mut self.kept) {
            slot.progress().revoke();
        }
        let stored = match self.stored(&slots).await {
            Ok(stored) => stored,
            Err(error) => {
                self.keep(slots);
                return Err(self.failed(error).await);
            }
        };
        for slot in slots {
            let stored = stored.get(&(slot.topic_id.0, slot.partition)).copied();
            self.begin(slot, stored);
        }
        Ok(())
    }

    fn keep(&mut self, slots: Vec<Arc<Slot>>) {
        let place = |slot: Arc<Slot>| ((Arc::clone(&slot.topic), slot.partition), slot);
        self.kept.extend(slots.into_iter().map(place));
    }

    fn begin(&self, slot: Arc<Slot>, stored: Option<i64>) {
        let options = &self.shared.options;
        let start = {
            let mut progress = slot.progress();
            let is_untouched = progress.position.is_some() && progress.stored == stored;
            if !is_untouched {
                progress.stored = stored;
                if let Some(offset) = stored {
                    progress.jump(offset);
                } else {
                    progress.position = None;
                }
            }
            progress.position.is_none().then_some(options.start)
        };
        self.shared.assign(slot, start);
    }

    /// The stored positions of these partitions.
    async fn stored(
        &self,
        slots: &[Arc<Slot>],
    ) -> Result<BTreeMap<([u8; 16], i32), i64>, RequestError> {
        if slots.is_empty() {
            return Ok(BTreeMap::new());
        }
        let partition = |slot: &Arc<Slot>| TopicPartition {
            topic_id: slot.topic_id,
            partition: slot.partition,
        };
        let request = CommittedRequest {
            group_id: self.group.clone().into(),
            partitions: Some(slots.iter().map(partition).collect()),
        };
        let target = Target::Coordinator(self.group.clone());
        let answer = self.shared.cluster.call(target, Repeat::Freely, request).await?;
        let mut stored = BTreeMap::new();
        for position in answer.positions {
            if !position.error_code.is_none() {
                let name = format!("{}[{}]", position.topic, position.partition);
                return Err(RequestError::of_code(position.error_code, name));
            }
            if position.offset >= 0 {
                stored.insert((position.topic_id.0, position.partition), position.offset);
            }
        }
        Ok(stored)
    }

    /// Keeps the session and stores positions, until the group changes.
    async fn stay(&mut self) -> Next {
        let options = &self.shared.options;
        let interval = options.ack_interval().filter(|interval| !interval.is_zero());
        let mut commits = interval.map(|interval| {
            let first = tokio::time::Instant::now() + interval;
            tokio::time::interval_at(first, interval)
        });
        let mut beat = Instant::now() + options.heartbeat_interval;
        let mut views = self.shared.cluster.views();
        loop {
            let commit = async {
                match &mut commits {
                    Some(commits) => drop(commits.tick().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(beat.into()) => {}
                () = self.shared.membership.alarm.notified() => {}
                () = commit => {
                    let positions = membership::acknowledged(&self.shared);
                    if let Err(error) = membership::store_once(&self.shared, &positions).await {
                        tracing::debug!(group = %self.group, %error, "positions were not stored");
                    }
                    continue;
                }
                changed = views.changed() => {
                    if changed.is_ok() && self.has_more_partitions() {
                        return Next::Rejoin;
                    }
                    if changed.is_err() {
                        return Next::Over(ConsumeError::Closed);
                    }
                    continue;
                }
            }
            if let Err(next) = self.heartbeat().await {
                return next;
            }
            beat = Instant::now() + self.shared.options.heartbeat_interval;
        }
    }

    /// Whether the assignment that we made is not of all partitions any more.
    fn has_more_partitions(&self) -> bool {
        let Some(led) = &self.led else { return false };
        let view = self.shared.cluster.view();
        let count = |name: &str| view.topic(name).map(|one| one.partition_count().unsigned_abs());
        let known = led.iter().any(|(name, known)| count(name).is_some_and(|now| now != *known));
        let new = |name: &String| !led.contains_key(name) && count(name).is_some();
        known || self.shared.options.topics.iter().any(new)
    }

    async fn heartbeat(&self) -> Result<(), Next> {
        let member = self.shared.membership.get();
        let request = HeartbeatRequest {
            group_id: self.group.clone().into(),
            generation: member.generation,
            member_id: member.member_id.into(),
            group_instance_id: self.shared.options.instance_id.clone().map(Into::into),
        };
        let (time, target) =
            (self.shared.options.session_timeout, Target::Coordinator(self.group.clone()));
        let beat = self.shared.cluster.call_within(time, target, Repeat::Freely, &request).await;
        match beat {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed(error).await),
        }
    }

    /// What an error of the coordinator means.
    async fn failed(&self, error: RequestError) -> Next {
        tracing::debug!(group = %self.group, %error, "the group goes on without us, or anew");
        match error.code() {
            Some(ErrorCode::REBALANCE_IN_PROGRESS) => Next::Rejoin,
            Some(ErrorCode::ILLEGAL_GENERATION) => {
                self.shared.membership.lock().generation = -1;
                Next::Lost
            }
            Some(ErrorCode::UNKNOWN_MEMBER_ID) => {
                let mut state = self.shared.membership.lock();
                state.generation = -1;
                state.member_id.clear();
                Next::Lost
            }
            Some(ErrorCode::FENCED_INSTANCE_ID) => {
                let instance_id = self.shared.options.instance_id.clone().unwrap_or_default();
                Next::Over(ConsumeError::Fenced { group: self.group.clone(), instance_id })
            }
            Some(
                ErrorCode::INCONSISTENT_GROUP_PROTOCOL
                | ErrorCode::INVALID_SESSION_TIMEOUT
                | ErrorCode::INVALID_GROUP_ID
                | ErrorCode::GROUP_AUTHORIZATION_FAILED
                | ErrorCode::GROUP_MAX_SIZE_REACHED
                | ErrorCode::UNSUPPORTED_ASSIGNOR,
            ) => self.over(error.to_string()),
            _ if matches!(error, RequestError::Closed) => Next::Over(ConsumeError::Closed),
            _ if error.is_retryable() => {
                // The session may have ended meanwhile; the coordinator knows.
                tokio::time::sleep(PAUSE).await;
                Next::Lost
            }
            _ => Next::Over(error.into()),
        }
    }

    fn over(&self, reason: String) -> Next {
        Next::Over(ConsumeError::Group { group: self.group.clone(), reason })
    }

    /// Says good-bye. A static member does not: it is expected back.
    async fn leave(&self) {
        let member = self.shared.membership.get();
        if member.member_id.is_empty()
            || self.shared.options.instance_id.is_some()
            || self.shared.cluster.is_down()
        {
            return;
        }
        let member = LeavingMember { member_id: member.member_id.into(), group_instance_id: None };
        let request = LeaveRequest { group_id: self.group.clone().into(), members: vec![member] };
        let target = Target::Coordinator(self.group.clone());
        let time = Duration::from_secs(3);
        // One who is not heard of is out by the end of its session.
        let left = self.shared.cluster.call_within(time, target, Repeat::Freely, &request).await;
        if let Err(error) = left {
            tracing::debug!(group = %self.group, %error, "the group was not left in order");
        }
    }
}

fn has(assigned: &PartitionsByTopic, (topic, partition): &Place) -> bool {
    assigned.get(&**topic).is_some_and(|numbers| numbers.contains(partition))
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}
