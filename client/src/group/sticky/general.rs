//! Members want different topics: then as even as possible, and partitions stay if that allows it.
//!
//! ```text
//!   1. everybody keeps what it still wants
//!   2. what is free goes to the member with the fewest, topics with few subscribers first
//!   3. partitions move from fuller to emptier members until no move helps: the newly given ones
//!      first, then all. If that makes the whole no more even, it is undone.
//! ```
//!
//! Invariants
//! - Members are looked at by (count, id), topics by (subscribers, name).
//! - Members and topics that cannot take part in any exchange are left out of step 3.
//! - The number of moves is limited, whatever the input ([`MOVES_PER_PARTITION_MAX`]).
//!
//! Absent on purpose: racks.

use std::collections::{BTreeMap, BTreeSet};

use super::movements::Movements;
use super::{Claims, Group, NO_GENERATION, Slot};

/// Most moves per partition of one assignment. Each move makes it more even, but for rare ones that
/// send back another partition than was looked at; real groups need fewer than one.
const MOVES_PER_PARTITION_MAX: usize = 100;

struct General<'a> {
    group: &'a Group<'a>,
    /// By topic: members that want it, in the order of Java's walk.
    subscribers: Vec<Vec<usize>>,
    /// By member.
    shares: Vec<Vec<Slot>>,
    owner: BTreeMap<Slot, usize>,
    /// By member and topic: how many partitions of it the member has.
    held: Vec<Vec<usize>>,
    /// Members that take part, by the size of their share and the rank of their id.
    order: BTreeSet<(usize, usize)>,
    /// By rank.
    by_rank: Vec<usize>,
    /// What members of older generations say that they had.
    before: BTreeMap<Slot, (usize, i32)>,
    movements: Movements,
    moves_left: usize,
}

/// The shares by member.
pub(super) fn assign(group: &Group<'_>, claims: Claims) -> Vec<Vec<Slot>> {
    let mut subscribers = vec![Vec::new(); group.topics.len()];
    for member in group.walk.iter().copied() {
        for topic in group.wanted.get(member).into_iter().flatten() {
            if let Some(subscribers) = subscribers.get_mut(*topic) {
                subscribers.push(member);
            }
        }
    }
    let mut by_rank: Vec<usize> = (0..group.members.len()).collect();
    by_rank.sort_by_key(|member| group.rank(*member));
    let before = older_claims(group, claims.generation_max);
    let mut general = General {
        group,
        subscribers,
        shares: claims.kept,
        owner: BTreeMap::new(),
        held: vec![vec![0; group.topics.len()]; group.members.len()],
        order: BTreeSet::new(),
        by_rank,
        before,
        movements: Movements::new(group.topics.iter().map(|topic| topic.name)),
        moves_left: group.all_slots().count().saturating_mul(MOVES_PER_PARTITION_MAX),
    };
    let revoked = general.keep_wanted();
    general.balance(revoked);
    general.shares
}

/// Claims below the highest generation; of several, the youngest. They do not count as owned, but
/// partitions move back there if somebody has to move anyway.
fn older_claims(group: &Group<'_>, generation_max: i32) -> BTreeMap<Slot, (usize, i32)> {
    let mut before: BTreeMap<Slot, (usize, i32)> = BTreeMap::new();
    for member in group.walk.iter().copied() {
        let generation = group.generation(member).unwrap_or(NO_GENERATION);
        if generation >= generation_max {
            continue;
        }
        for slot in group.owned(member) {
            let known = before.get(slot).map(|(_, generation)| *generation);
            if known.is_none_or(|known| generation > known) {
                before.insert(*slot, (member, generation));
            }
        }
    }
    before
}

impl General<'_> {
    fn count(&self, member: usize) -> usize {
        self.shares.get(member).map_or(0, Vec::len)
    }

    fn place(&self, member: usize) -> (usize, usize) {
        (self.count(member), self.group.rank(member))
    }

    fn takes_part(&self, member: usize) -> bool {
        self.order.contains(&self.place(member))
    }

    fn subscribers(&self, topic: usize) -> &[usize] {
        self.subscribers.get(topic).map_or(&[], Vec::as_slice)
    }

    /// Drops what members no longer want, and says if there was any.
    fn keep_wanted(&mut self) -> bool {
        let mut revoked = false;
        for (share, member) in self.shares.iter_mut().zip(0..) {
            let before = share.len();
            share.retain(|slot| self.group.wants(member, slot.topic));
            revoked |= share.len() < before;
            self.owner.extend(share.iter().map(|slot| (*slot, member)));
        }
        for (slot, member) in &self.owner {
            add(&mut self.held, *member, slot.topic);
        }
        self.order = (0..self.shares.len()).map(|member| self.place(member)).collect();
        revoked
    }

    fn balance(&mut self, revoked: bool) {
        let mut topics: Vec<usize> = (0..self.group.topics.len()).collect();
        // Topics are sorted by name already, and the sort is stable.
        topics.sort_by_key(|topic| self.subscribers(*topic).len());
        let all: Vec<Slot> = topics.iter().flat_map(|topic| self.group.slots_of(*topic)).collect();
        let free: Vec<Slot> =
            all.iter().copied().filter(|slot| !self.owner.contains_key(slot)).collect();
        let nobody_had_any = self.order.last().is_none_or(|(count, _)| *count == 0);
        for slot in &free {
            self.give_to_emptiest(*slot);
        }
        let exchangeable = |slot: &Slot| self.subscribers(slot.topic).len() >= 2;
        let all: Vec<Slot> = all.into_iter().filter(exchangeable).collect();
        let free: Vec<Slot> = free.into_iter().filter(exchangeable).collect();
        for member in 0..self.shares.len() {
            if !self.can_exchange(member) {
                self.order.remove(&self.place(member));
            }
        }
        let unmoved = self.shares.clone();
        if !revoked {
            self.exchange(&free);
        }
        let moved = self.exchange(&all);
        // Members without part have the same share in both: they do not tell them apart.
        if !nobody_had_any && moved && self.unevenness(&self.shares) >= self.unevenness(&unmoved) {
            self.shares = unmoved;
        }
    }

    fn give_to_emptiest(&mut self, slot: Slot) {
        let Some(member) = self.emptiest_subscriber(slot.topic) else { return };
        self.order.remove(&self.place(member));
        if let Some(share) = self.shares.get_mut(member) {
            share.push(slot);
        }
        self.owner.insert(slot, member);
        add(&mut self.held, member, slot.topic);
        self.order.insert(self.place(member));
    }

    fn emptiest_subscriber(&self, topic: usize) -> Option<usize> {
        let members = self.order.iter().filter_map(|(_, rank)| self.by_rank.get(*rank).copied());
        members.into_iter().find(|member| self.group.wants(*member, topic))
    }

    /// Whether the member could get more, or has something that another could get.
    fn can_exchange(&self, member: usize) -> bool {
        let wanted = self.group.wanted.get(member).map_or(&[][..], Vec::as_slice);
        let most: usize = wanted.iter().map(|topic| self.group.slots_of(*topic).count()).sum();
        let share = self.shares.get(member).map_or(&[][..], Vec::as_slice);
        share.len() < most || share.iter().any(|slot| self.subscribers(slot.topic).len() >= 2)
    }

    /// Moves partitions until no move helps; says if there was any.
    fn exchange(&mut self, slots: &[Slot]) -> bool {
        let mut moved_any = false;
        let mut balanced = self.is_balanced();
        loop {
            let mut moved = false;
            for slot in slots {
                if balanced || self.moves_left == 0 {
                    break;
                }
                if let Some(new) = self.better_owner(*slot) {
                    self.move_to(*slot, new);
                    moved = true;
                    balanced = self.is_balanced();
                }
            }
            moved_any |= moved;
            if !moved || self.moves_left == 0 {
                return moved_any;
            }
        }
    }

    fn better_owner(&self, slot: Slot) -> Option<usize> {
        let owner = *self.owner.get(&slot)?;
        let helps = |other: usize| self.count(owner) > self.count(other).saturating_add(1);
        if let Some((former, _)) = self.before.get(&slot)
            && self.group.wants(*former, slot.topic)
            && self.takes_part(*former)
            && helps(*former)
        {
            return Some(*former);
        }
        let any = self.subscribers(slot.topic).iter().any(|other| helps(*other));
        if any { self.emptiest_subscriber(slot.topic) } else { None }
    }

    fn move_to(&mut self, slot: Slot, new: usize) {
        let Some(owner) = self.owner.get(&slot).copied() else { return };
        let slot = self.movements.instead_of(slot, owner, new);
        let Some(old) = self.owner.get(&slot).copied() else { return };
        self.order.remove(&self.place(old));
        self.order.remove(&self.place(new));
        self.movements.note(slot, old, new);
        if let Some(share) = self.shares.get_mut(old) {
            share.retain(|other| *other != slot);
        }
        if let Some(share) = self.shares.get_mut(new) {
            share.push(slot);
        }
        self.owner.insert(slot, new);
        if let Some(held) = self.held.get_mut(old).and_then(|held| held.get_mut(slot.topic)) {
            *held = held.saturating_sub(1);
        }
        add(&mut self.held, new, slot.topic);
        self.order.insert(self.place(new));
        self.order.insert(self.place(old));
        self.moves_left = self.moves_left.saturating_sub(1);
    }

    /// Whether no member could take one from a member that has at least two more.
    fn is_balanced(&self) -> bool {
        let (Some((least, _)), Some((most, _))) = (self.order.first(), self.order.last()) else {
            return true;
        };
        if least.saturating_add(1) >= *most {
            return true;
        }
        // Of every topic, the most that an owner of one of its partitions has.
        let mut most_by_topic = vec![0; self.group.topics.len()];
        for (held, member) in self.held.iter().zip(0..) {
            let count = self.count(member);
            for (most, held) in most_by_topic.iter_mut().zip(held) {
                if *held > 0 {
                    *most = count.max(*most);
                }
            }
        }
        !self.order.iter().any(|(count, rank)| {
            let wanted = self.by_rank.get(*rank).and_then(|member| self.group.wanted.get(*member));
            let mut most = wanted.into_iter().flatten().map(|topic| most_by_topic.get(*topic));
            most.any(|most| most.is_some_and(|most| count.saturating_add(1) < *most))
        })
    }

    /// The sum of the differences between all pairs that take part.
    fn unevenness(&self, shares: &[Vec<Slot>]) -> usize {
        let member = |(_, rank): &(usize, usize)| self.by_rank.get(*rank).copied();
        let counts: Vec<usize> = self
            .order
            .iter()
            .filter_map(member)
            .map(|member| shares.get(member).map_or(0, Vec::len))
            .collect();
        let pairs = counts.iter().enumerate().flat_map(|(index, left)| {
            counts.iter().skip(index + 1).map(|right| left.abs_diff(*right))
        });
        pairs.sum()
    }
}

fn add(held: &mut [Vec<usize>], member: usize, topic: usize) {
    if let Some(held) = held.get_mut(member).and_then(|held| held.get_mut(topic)) {
        *held += 1;
    }
}
