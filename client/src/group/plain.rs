//! The assignors that remember nothing: `range`, `roundrobin` and kafkajs' `RoundRobinAssigner`.
//!
//! ```text
//!   5 partitions of a, 3 of b, members 1 and 2     range       1: a0-2 b0-1    2: a3-4 b2
//!                                                  roundrobin  1: a0 a2 a4 b1  2: a1 a3 b0 b2
//! ```
//!
//! Absent on purpose: racks, which change `range` in Java only where partitions have some.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::{Member, MemberAssignment, PartitionsByTopic, java};

/// Static members by instance id, then the others by member id.
fn by_identity(left: &Member, right: &Member) -> Ordering {
    match (&left.instance_id, &right.instance_id) {
        (Some(left), Some(right)) => java::compare(left, right),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => java::compare(&left.member_id, &right.member_id),
    }
}

/// Indices of members, in the order of [`by_identity`].
fn sorted(members: &[Member]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|left, right| match (members.get(*left), members.get(*right)) {
        (Some(left), Some(right)) => by_identity(left, right),
        _ => Ordering::Equal,
    });
    order
}

fn subscribes(member: &Member, topic: &str) -> bool {
    member.subscription.topics.iter().any(|other| other == topic)
}

/// Subscribed topics that exist, with their counts, sorted by name.
fn subscribed<'a>(
    members: &'a [Member],
    partition_counts: &BTreeMap<String, u32>,
) -> Vec<(&'a str, i32)> {
    let topics: BTreeSet<&str> =
        members.iter().flat_map(|member| &member.subscription.topics).map(String::as_str).collect();
    let count = |topic: &str| i32::try_from(*partition_counts.get(topic)?).ok();
    topics.into_iter().filter_map(|topic| Some((topic, count(topic)?))).collect()
}

/// What is shared out so far, by the members' indices.
struct Shares<'a> {
    members: &'a [Member],
    shares: Vec<PartitionsByTopic>,
}

impl<'a> Shares<'a> {
    fn new(members: &'a [Member]) -> Self {
        Self { members, shares: vec![PartitionsByTopic::new(); members.len()] }
    }

    fn give(&mut self, member: usize, topic: &str, partitions: impl Iterator<Item = i32>) {
        let Some(share) = self.shares.get_mut(member) else { return };
        let mut partitions = partitions.peekable();
        if partitions.peek().is_some() {
            share.entry(topic.to_owned()).or_default().extend(partitions);
        }
    }

    fn into_assignments(self) -> Vec<MemberAssignment> {
        let ids = self.members.iter().map(|member| member.member_id.clone());
        ids.zip(self.shares)
            .map(|(member_id, partitions)| MemberAssignment { member_id, partitions })
            .collect()
    }
}

/// Of every topic, each subscriber gets neighbours; the first ones get one more where it does not
/// come out even.
pub(super) fn range(
    members: &[Member],
    partition_counts: &BTreeMap<String, u32>,
) -> Vec<MemberAssignment> {
    let mut shares = Shares::new(members);
    let order = sorted(members);
    for (topic, partitions) in subscribed(members, partition_counts) {
        let subscribers: Vec<usize> = order
            .iter()
            .copied()
            .filter(|index| members.get(*index).is_some_and(|member| subscribes(member, topic)))
            .collect();
        let Ok(count) = i32::try_from(subscribers.len()) else { continue };
        let (each, extra) = (partitions / count.max(1), partitions % count.max(1));
        let mut next = 0;
        for (place, member) in (0..).zip(subscribers) {
            let end = next + each + i32::from(place < extra);
            shares.give(member, topic, next..end);
            next = end;
        }
    }
    shares.into_assignments()
}

/// All partitions, by topic and number, dealt to the next member that subscribes.
pub(super) fn round_robin(
    members: &[Member],
    partition_counts: &BTreeMap<String, u32>,
) -> Vec<MemberAssignment> {
    let mut shares = Shares::new(members);
    let order = sorted(members);
    // `subscribed` names only topics that somebody wants, so the search always ends.
    let mut turn = 0;
    for (topic, partitions) in subscribed(members, partition_counts) {
        for partition in 0..partitions {
            let next = (0..order.len()).map(|step| (turn + step) % order.len()).find(|place| {
                let member = order.get(*place).and_then(|index| members.get(*index));
                member.is_some_and(|member| subscribes(member, topic))
            });
            let Some(place) = next else { break };
            if let Some(member) = order.get(place) {
                shares.give(*member, topic, std::iter::once(partition));
            }
            turn = (place + 1) % order.len();
        }
    }
    shares.into_assignments()
}

/// The leader's topics in its order, dealt to all members by id, whatever they subscribed to:
/// kafkajs members drop what they did not ask for, and nobody reads it.
pub(super) fn kafkajs_round_robin(
    members: &[Member],
    own_topics: &[String],
    partition_counts: &BTreeMap<String, u32>,
) -> Vec<MemberAssignment> {
    let mut shares = Shares::new(members);
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|left, right| match (members.get(*left), members.get(*right)) {
        // JavaScript sorts strings by UTF-16 code units, as Java does.
        (Some(left), Some(right)) => java::compare(&left.member_id, &right.member_id),
        _ => Ordering::Equal,
    });
    let mut seen = BTreeSet::new();
    let topics = own_topics.iter().filter(|topic| seen.insert(topic.as_str()));
    let dealt = topics.flat_map(|topic| {
        let count = partition_counts.get(topic.as_str()).copied().unwrap_or(0);
        (0..i32::try_from(count).unwrap_or(0)).map(move |partition| (topic, partition))
    });
    for ((topic, partition), member) in dealt.zip(order.iter().cycle()) {
        shares.give(*member, topic, std::iter::once(partition));
    }
    shares.into_assignments()
}
