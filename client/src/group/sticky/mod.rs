//! `cooperative-sticky`: even counts with as few moves as possible (KIP-54, KIP-429, KIP-792).
//!
//! ```text
//!   claims: who owned what, newest generation first ──┬─ all want the same ──> uniform
//!                                                     └─ they differ ────────> general
//!   then: a partition that another member still holds is given to nobody; that member gives it
//!   up, joins again, and the next round hands it on
//! ```
//!
//! Invariants
//! - The result is that of Java's `CooperativeStickyAssignor`, which depends on the order in which
//!   Java walks over hash maps: see [`super::java`].
//! - Partitions that do not exist, and members that want nothing, take no part. Java's fails or
//!   goes astray there.
//!
//! Absent on purpose: memory from one call to the next. Java's keeps the highest generation that it
//! saw; members send theirs each time.

mod general;
mod movements;
mod uniform;

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::protocol::Subscription;
use super::{Member, MemberAssignment, PartitionsByTopic, java};

/// The generation of a member that was in none.
pub(super) const NO_GENERATION: i32 = -1;

/// A partition of one of the group's topics. Sorts by the topic's name, then by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Slot {
    /// Index into [`Group::topics`].
    topic: usize,
    number: i32,
}

struct Topic<'a> {
    name: &'a str,
    partitions: i32,
}

/// The input, with topics and members by index.
struct Group<'a> {
    members: &'a [Member],
    /// Topics that exist and that somebody wants, sorted by name.
    topics: Vec<Topic<'a>>,
    /// By member: the topics that it wants, in its order.
    wanted: Vec<Vec<usize>>,
    /// By member: the partitions that it says it has.
    owned: Vec<Vec<Slot>>,
    /// By member: its place among all ids.
    rank: Vec<usize>,
    /// Members in the order in which Java walks over them.
    walk: Vec<usize>,
}

impl<'a> Group<'a> {
    fn new(members: &'a [Member], partition_counts: &BTreeMap<String, u32>) -> Self {
        let names: BTreeSet<&str> = members
            .iter()
            .flat_map(|member| &member.subscription.topics)
            .map(String::as_str)
            .collect();
        let topics: Vec<Topic<'_>> = names
            .into_iter()
            .filter_map(|name| {
                let partitions = i32::try_from(*partition_counts.get(name)?).ok()?;
                (partitions > 0).then_some(Topic { name, partitions })
            })
            .collect();
        let index = |name: &str| topics.binary_search_by(|topic| topic.name.cmp(name)).ok();
        let wanted = members
            .iter()
            .map(|member| {
                let mut seen = BTreeSet::new();
                let topics = member.subscription.topics.iter().filter_map(|name| index(name));
                topics.filter(|topic| seen.insert(*topic)).collect()
            })
            .collect();
        let exists = |slot: &Slot| {
            topics.get(slot.topic).is_some_and(|topic| (0..topic.partitions).contains(&slot.number))
        };
        let owned = members
            .iter()
            .map(|member| {
                let owned = member.subscription.owned.iter();
                let slot = owned.filter_map(|owned| {
                    Some(Slot { topic: index(&owned.topic)?, number: owned.partition })
                });
                slot.filter(exists).collect()
            })
            .collect();
        let mut by_id: Vec<usize> = (0..members.len()).collect();
        by_id.sort_by(|left, right| match (members.get(*left), members.get(*right)) {
            (Some(left), Some(right)) => java::compare(&left.member_id, &right.member_id),
            _ => Ordering::Equal,
        });
        let mut rank = vec![0; members.len()];
        for (place, member) in by_id.into_iter().enumerate() {
            if let Some(rank) = rank.get_mut(member) {
                *rank = place;
            }
        }
        let walk = java::walk_order(members.iter().map(|member| member.member_id.as_str()));
        Self { members, topics, wanted, owned, rank, walk }
    }

    fn all_slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (0..self.topics.len()).flat_map(|topic| self.slots_of(topic))
    }

    fn slots_of(&self, topic: usize) -> impl Iterator<Item = Slot> + use<> {
        let partitions = self.topics.get(topic).map_or(0, |topic| topic.partitions);
        (0..partitions).map(move |number| Slot { topic, number })
    }

    fn wants(&self, member: usize, topic: usize) -> bool {
        self.wanted.get(member).is_some_and(|wanted| wanted.contains(&topic))
    }

    fn owned(&self, member: usize) -> &[Slot] {
        self.owned.get(member).map_or(&[], Vec::as_slice)
    }

    fn rank(&self, member: usize) -> usize {
        self.rank.get(member).copied().unwrap_or(usize::MAX)
    }

    /// The generation of what a member owns: in the field, or before version 2 of the protocol in
    /// the assignor's user data. `None` for a member that says nothing about it.
    fn generation(&self, member: usize) -> Option<i32> {
        let subscription = &self.members.get(member)?.subscription;
        subscription.generation.or_else(|| generation_in_user_data(subscription))
    }

    /// The generation in the field alone, which is all that Java compares a claim with.
    fn generation_in_field(&self, member: usize) -> i32 {
        let generation = self.members.get(member).and_then(|member| member.subscription.generation);
        generation.unwrap_or(NO_GENERATION)
    }

    /// Whether everybody wants the same topics.
    fn is_uniform(&self) -> bool {
        let mut wishes = self.members.iter().map(|member| {
            member.subscription.topics.iter().map(String::as_str).collect::<BTreeSet<_>>()
        });
        wishes.next().is_none_or(|first| wishes.all(|other| other == first))
    }
}

fn generation_in_user_data(subscription: &Subscription) -> Option<i32> {
    let bytes = subscription.user_data.as_ref()?;
    let generation = bytes.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes));
    Some(generation.unwrap_or(NO_GENERATION))
}

/// Who may keep what.
struct Claims {
    /// By member.
    kept: Vec<Vec<Slot>>,
    /// What two members claim in one generation: neither keeps it.
    disputed: BTreeSet<Slot>,
    /// The highest generation of all.
    generation_max: i32,
}

impl Claims {
    fn new(group: &Group<'_>) -> Self {
        let mut claims = Self {
            kept: vec![Vec::new(); group.members.len()],
            disputed: BTreeSet::new(),
            generation_max: NO_GENERATION,
        };
        let mut owners: BTreeMap<Slot, usize> = BTreeMap::new();
        for member in group.walk.iter().copied() {
            let generation = group.generation(member).unwrap_or(NO_GENERATION);
            claims.generation_max = claims.generation_max.max(generation);
            for slot in group.owned(member).iter().copied() {
                let Some(other) = owners.get(&slot).copied() else {
                    claims.keep(member, slot);
                    owners.insert(slot, member);
                    continue;
                };
                match generation.cmp(&group.generation_in_field(other)) {
                    Ordering::Less => continue,
                    Ordering::Equal => {
                        claims.disputed.insert(slot);
                    }
                    Ordering::Greater => claims.keep(member, slot),
                }
                claims.drop_first(other, slot);
                owners.insert(slot, member);
            }
        }
        claims
    }

    fn keep(&mut self, member: usize, slot: Slot) {
        if let Some(kept) = self.kept.get_mut(member) {
            kept.push(slot);
        }
    }

    fn drop_first(&mut self, member: usize, slot: Slot) {
        if let Some(kept) = self.kept.get_mut(member)
            && let Some(place) = kept.iter().position(|other| *other == slot)
        {
            kept.remove(place);
        }
    }
}

/// Shares out, and holds back what must first be given up.
pub(super) fn cooperative(
    members: &[Member],
    partition_counts: &BTreeMap<String, u32>,
) -> Vec<MemberAssignment> {
    let group = Group::new(members, partition_counts);
    let claims = Claims::new(&group);
    let mut shares = if group.is_uniform() {
        let (mut shares, in_transfer) = uniform::assign(&group, &claims);
        for (share, member) in shares.iter_mut().zip(0..) {
            share.retain(|slot| in_transfer.get(slot) != Some(&member));
        }
        shares
    } else {
        let mut shares = general::assign(&group, claims);
        hold_back(&group, &mut shares);
        shares
    };
    let ids = members.iter().map(|member| member.member_id.clone());
    ids.zip(&mut shares)
        .map(|(member_id, share)| MemberAssignment { member_id, partitions: named(&group, share) })
        .collect()
}

/// Takes from new owners what others do not know yet that they lose.
fn hold_back(group: &Group<'_>, shares: &mut [Vec<Slot>]) {
    let mut lost: BTreeSet<Slot> = BTreeSet::new();
    for (share, member) in shares.iter().zip(0..) {
        let has: BTreeSet<Slot> = share.iter().copied().collect();
        lost.extend(group.owned(member).iter().copied().filter(|slot| !has.contains(slot)));
    }
    for (share, member) in shares.iter_mut().zip(0..) {
        let had: BTreeSet<Slot> = group.owned(member).iter().copied().collect();
        share.retain(|slot| had.contains(slot) || !lost.contains(slot));
    }
}

fn named(group: &Group<'_>, share: &mut [Slot]) -> PartitionsByTopic {
    share.sort_unstable();
    let mut partitions = PartitionsByTopic::new();
    for slot in share {
        if let Some(topic) = group.topics.get(slot.topic) {
            partitions.entry(topic.name.to_owned()).or_default().push(slot.number);
        }
    }
    partitions
}
