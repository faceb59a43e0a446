//! Effects and answers as lines of a script.
//!
//! Internal logs (groups, metadata) do what they do on every script's way; they are printed only
//! where a script asks for them. That one is out of service is always printed.
//!
//! Absent on purpose: anything that differs between two runs.

use crate::names::Names;
use crate::world::{Answer, Asked, Shown};
use bateau_core::consumer_group::{
    FetchedTopic, GroupDescription, GroupQueryResponse, GroupResponse, JoinGroupError, JoinedGroup,
    LeftMember,
};
use bateau_core::controller::{ControllerError, ControllerResponse};
use bateau_core::replica::{ProduceAck, ProduceError};
use bateau_core::shard::{Effect, Reply};
use bateau_protocol::frame::{Frame, FrameKind};
use bateau_protocol::ids::{Incarnation, Offset};
use std::collections::BTreeSet;
use std::fmt::Display;

pub(crate) struct Renderer<'a> {
    pub names: &'a mut Names,
    /// Internal logs that are printed.
    pub shows: &'a BTreeSet<Incarnation>,
}

impl Renderer<'_> {
    pub fn line(&mut self, shown: &Shown) -> Option<String> {
        match shown {
            Shown::Effect(effect) => self.effect(effect),
            Shown::Answer(answer) => Some(self.answer(answer)),
        }
    }

    fn effect(&self, effect: &Effect) -> Option<String> {
        let (incarnation, line) = match effect {
            Effect::Create(birth) => (birth.incarnation, self.about("create", birth.incarnation)),
            Effect::Persist { incarnation, vote, frames, .. } => {
                let vote = vote.map(|vote| format!(" term={}", vote.term)).unwrap_or_default();
                let frames: String = frames.iter().map(frame).collect();
                let line = format!("{}{vote}{frames}", self.about("write", *incarnation));
                (*incarnation, line)
            }
            Effect::StoreState { incarnation, applied, .. } => {
                let line = format!("{} applied={applied}", self.about("state-file", *incarnation));
                (*incarnation, line)
            }
            Effect::Trim { incarnation, start } => {
                let (offset, index) = (start.offset, start.index);
                let about = self.about("trim", *incarnation);
                (*incarnation, format!("{about} start={offset} index={index}"))
            }
            Effect::Assigned { incarnation, number } => {
                let about = self.about("assigned", *incarnation);
                (*incarnation, format!("{about} {number}"))
            }
            Effect::NothingLeft { incarnation } => {
                (*incarnation, self.about("nothing left", *incarnation))
            }
            Effect::Roll { incarnation } => (*incarnation, self.about("roll", *incarnation)),
            Effect::Delete { incarnation, .. } => {
                (*incarnation, self.about("delete", *incarnation))
            }
            Effect::Quarantine { incarnation } => {
                (*incarnation, self.about("quarantine", *incarnation))
            }
            Effect::Configure { incarnation, config } => {
                let (age_ms, size_bytes) = (config.retention_ms, config.retention_bytes);
                let age = age_ms.map_or("-".to_owned(), |age_ms| format!("{age_ms}ms"));
                let size = size_bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
                let about = self.about("configure", *incarnation);
                (*incarnation, format!("{about} retention={age},{size}"))
            }
            Effect::Committed { incarnation, commit, high_watermark } => {
                let about = self.about("committed", *incarnation);
                let line = format!("{about} index={commit} high_watermark={high_watermark}");
                (*incarnation, line)
            }
            Effect::Leads { incarnation, term } => {
                (*incarnation, format!("{} term={term}", self.about("leads", *incarnation)))
            }
            Effect::Deposed { incarnation, term } => {
                (*incarnation, format!("{} term={term}", self.about("deposed", *incarnation)))
            }
            Effect::Isolated { incarnation, reason, .. } => {
                return Some(format!("{}: {reason}", self.about("isolated", *incarnation)));
            }
            Effect::Send { .. }
            | Effect::SendSnapshot(_)
            | Effect::Install { .. }
            | Effect::ReadFrames { .. }
            | Effect::LeaderChanged { .. }
            | Effect::GivesWay(_)
            | Effect::Metadata(_)
            | Effect::Reply(..) => return None,
        };
        let is_shown = !self.names.is_internal(incarnation) || self.shows.contains(&incarnation);
        is_shown.then_some(line)
    }

    fn about(&self, what: &str, incarnation: Incarnation) -> String {
        format!("{what} {}", self.names.log(incarnation))
    }

    fn answer(&mut self, answer: &Answer) -> String {
        let said = match (&answer.asked, &answer.reply) {
            (Asked::Produce(incarnation, _), Reply::Produce(result)) => {
                produced(&self.names.log(*incarnation), result)
            }
            (Asked::Group(member), Reply::Group(response)) => {
                self.learn_member(member.as_deref(), response);
                grouped(response)
            }
            (Asked::GroupQuery, Reply::GroupQuery(response)) => queried(response),
            (Asked::Controller, Reply::Controller(result)) => controlled(result),
            (asked, reply) => panic!("{asked:?} got the answer of another: {reply:?}"),
        };
        self.names.with_members(&format!("#{} {said}", answer.ticket.0))
    }

    fn learn_member(&mut self, name: Option<&str>, response: &GroupResponse) {
        let id = match response {
            GroupResponse::JoinGroup(Ok(joined)) => &joined.member_id,
            GroupResponse::JoinGroup(Err(JoinGroupError::MemberIdRequired { member_id })) => {
                member_id
            }
            _ => return,
        };
        if let Some(name) = name {
            self.names.note_member(id, name);
        }
    }
}

fn frame(frame: &Frame) -> String {
    let index = frame.index;
    match frame.kind {
        FrameKind::Records => {
            let (first, next) = (frame.base_offset, frame.next_coordinates().1);
            format!(" [{index} records {}]", span(first, next))
        }
        FrameKind::Noop => format!(" [{index} no-op]"),
        FrameKind::Membership => format!(" [{index} membership]"),
        FrameKind::Trim => format!(" [{index} trim]"),
        FrameKind::Gap => format!(" [{index} gap]"),
        FrameKind::Command => format!(" [{index} command]"),
    }
}

fn span(first: Offset, next: Offset) -> String {
    let last = next.get() - 1;
    if last == first.get() { first.to_string() } else { format!("{first}-{last}") }
}

fn produced(log: &str, result: &Result<ProduceAck, ProduceError>) -> String {
    match result {
        Ok(ack) => {
            let mark = if ack.is_duplicate { " (duplicate)" } else { "" };
            let start = match ack.log_start.get() {
                0 => String::new(),
                start => format!(" log_start={start}"),
            };
            assert_eq!(ack.replicas, 1, "one node commits with one replica");
            format!("ack {log} offset={}{start}{mark}", ack.base_offset)
        }
        Err(error) => format!("error {log}: {error}"),
    }
}

fn controlled(result: &Result<ControllerResponse, ControllerError>) -> String {
    let response = match result {
        Ok(response) => response,
        Err(error) => return format!("error: {error}"),
    };
    let outcome = |name: &str, result: Result<String, String>| match result {
        Ok(said) => format!("{name} {said}"),
        Err(error) => format!("{name}: {error}"),
    };
    let several = |outcomes: Vec<String>| outcomes.join(", ");
    match response {
        ControllerResponse::TopicsCreated(results) => {
            let one = results.iter().map(|one| {
                let partitions = one.result.as_ref().map(|made| made.partition_count);
                outcome(&one.name, said(partitions.map(|count| format!("partitions={count}"))))
            });
            format!("created {}", several(one.collect()))
        }
        ControllerResponse::TopicsAutoCreated(results) => {
            let one = results.iter().map(|one| {
                outcome(&one.name, said(one.result.as_ref().map(|_| "exists".to_owned())))
            });
            format!("auto-created {}", several(one.collect()))
        }
        ControllerResponse::TopicsDeleted(results) => {
            let one = results.iter().map(|one| {
                let name = one.name.as_deref().unwrap_or("?");
                outcome(name, said(one.result.map(|()| "gone".to_owned())))
            });
            format!("deleted {}", several(one.collect()))
        }
        ControllerResponse::TopicConfigsAltered(result) => match result {
            Ok(()) => "altered".to_owned(),
            Err(error) => format!("error: {error}"),
        },
        ControllerResponse::PartitionsCreated(result) => match result {
            Ok(grown) => {
                format!(
                    "partitions={} from {}",
                    grown.partition_count, grown.partition_count_before
                )
            }
            Err(error) => format!("error: {error}"),
        },
        ControllerResponse::ProducerIdsAllocated(result) => match result {
            Ok(block) => format!("producer ids from {} ({})", block.first, block.count),
            Err(error) => format!("error: {error}"),
        },
        ControllerResponse::NodeRegistered(result) => match result {
            Ok(()) => "registered".to_owned(),
            Err(error) => format!("error: {error}"),
        },
        ControllerResponse::RemovalConfirmed => "confirmed".to_owned(),
        ControllerResponse::Membership(response) => format!("{response:?}"),
    }
}

fn said<E: Display>(result: Result<String, E>) -> Result<String, String> {
    result.map_err(|error| error.to_string())
}

fn grouped(response: &GroupResponse) -> String {
    match response {
        GroupResponse::JoinGroup(result) => or_error("join", result, joined),
        GroupResponse::SyncGroup(result) => or_error("sync", result, |synced| {
            format!("assignment=\"{}\"", String::from_utf8_lossy(&synced.assignment))
        }),
        GroupResponse::Heartbeat(result) => or_error("heartbeat", result, |()| "ok".to_owned()),
        GroupResponse::LeaveGroup(result) => or_error("leave", result, |left| {
            left.iter().map(left_member).collect::<Vec<_>>().join(", ")
        }),
        GroupResponse::OffsetCommit(result) => or_error("commit", result, |topics| {
            let one = topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |(partition, result)| match result {
                    Ok(()) => format!("{}/{partition} ok", topic.name),
                    Err(error) => format!("{}/{partition}: {error}", topic.name),
                })
            });
            one.collect::<Vec<_>>().join(", ")
        }),
        GroupResponse::OffsetFetch(result) => or_error("offsets", result, |topics| fetched(topics)),
        GroupResponse::DeleteGroup(result) => or_error("delete", result, |()| "gone".to_owned()),
    }
}

fn queried(response: &GroupQueryResponse) -> String {
    match response {
        GroupQueryResponse::Listed(list) => {
            let one = list.groups.iter();
            let one = one.map(|group| format!(" {}={}", group.group_id, group.state.name()));
            let groups: String = one.collect();
            let missing = match list.partitions_missing {
                0 => String::new(),
                count => format!(" (without {count} partitions)"),
            };
            format!("{} groups{groups}{missing}", list.groups.len())
        }
        GroupQueryResponse::Described(groups) => {
            let one = groups.iter().map(|group| match &group.result {
                Ok(found) => described(found),
                Err(error) => format!("{}: {error}", group.group_id),
            });
            one.collect::<Vec<_>>().join("; ")
        }
        GroupQueryResponse::Totals(totals) => format!(
            "totals groups={} offsets={} parked={} inflight={}",
            totals.group_count, totals.offset_count, totals.parked_count, totals.inflight_count
        ),
    }
}

fn described(group: &GroupDescription) -> String {
    let members: Vec<String> = group
        .members
        .iter()
        .map(|member| {
            let assignment = String::from_utf8_lossy(&member.assignment);
            format!("{}=\"{assignment}\"", member.member_id)
        })
        .collect();
    let (name, state, generation) = (&group.group_id, group.state.name(), group.generation);
    format!("{name} {state} generation={generation} members={}", members.join(","))
}

fn or_error<T, E: Display>(
    what: &str,
    result: &Result<T, E>,
    print: impl FnOnce(&T) -> String,
) -> String {
    match result {
        Ok(value) => format!("{what} {}", print(value)),
        Err(error) => format!("{what} error: {error}"),
    }
}

fn joined(joined: &JoinedGroup) -> String {
    let mut line = format!(
        "generation={} member={} leader={} protocol={}",
        joined.generation, joined.member_id, joined.leader, joined.protocol_name
    );
    if !joined.members.is_empty() {
        let ids: Vec<&str> = joined.members.iter().map(|member| &*member.member_id).collect();
        line.push_str(&format!(" members={}", ids.join(",")));
    }
    if joined.skip_assignment {
        line.push_str(" (keeps its assignment)");
    }
    line
}

fn left_member(left: &LeftMember) -> String {
    match &left.outcome {
        Ok(()) => format!("{} left", left.member_id),
        Err(error) => format!("{}: {error}", left.member_id),
    }
}

fn fetched(topics: &[FetchedTopic]) -> String {
    let one = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(move |(partition, stored)| match stored {
            Some(stored) => format!("{}/{partition}={}", topic.name, stored.offset),
            None => format!("{}/{partition}=none", topic.name),
        })
    });
    one.collect::<Vec<_>>().join(" ")
}
