//! Everybody wants the same topics: then counts differ by at most one, and nearly all stay.
//!
//! ```text
//!   7 partitions, 3 members: two with 2 (the low quota), one with 3 (the high quota)
//!   1. owners keep up to the high quota while places for it are left, else up to the low one
//!   2. what nobody keeps is dealt: first to those below the low quota, in turn, by id;
//!      then one each to those at the low quota
//! ```
//!
//! Absent on purpose: racks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Claims, Group, Slot};

struct Uniform<'a> {
    group: &'a Group<'a>,
    claims: &'a Claims,
    low: usize,
    high: usize,
    /// Members that may still get to the high quota.
    high_places: usize,
    shares: Vec<Vec<Slot>>,
    /// Given up, and by whom.
    given_up: BTreeMap<Slot, usize>,
    /// Below the low quota.
    below: Vec<usize>,
    /// At the low quota, with a chance for one more.
    at_low: VecDeque<usize>,
    in_transfer: BTreeMap<Slot, usize>,
}

/// The shares by member, and the partitions whose new owner has to wait for the old one.
pub(super) fn assign(
    group: &Group<'_>,
    claims: &Claims,
) -> (Vec<Vec<Slot>>, BTreeMap<Slot, usize>) {
    let member_count = group.members.len();
    let slots: Vec<Slot> = group.all_slots().collect();
    if member_count == 0 {
        return (Vec::new(), BTreeMap::new());
    }
    let mut uniform = Uniform {
        group,
        claims,
        low: slots.len() / member_count,
        high: slots.len().div_ceil(member_count),
        high_places: slots.len() % member_count,
        shares: vec![Vec::new(); member_count],
        given_up: BTreeMap::new(),
        below: Vec::new(),
        at_low: VecDeque::new(),
        in_transfer: BTreeMap::new(),
    };
    uniform.keep_owned();
    let kept: BTreeSet<Slot> = uniform.shares.iter().flatten().copied().collect();
    uniform.deal(slots.into_iter().filter(|slot| !kept.contains(slot)));
    (uniform.shares, uniform.in_transfer)
}

impl Uniform<'_> {
    fn keep_owned(&mut self) {
        for member in self.group.walk.iter().copied() {
            let kept = self.claims.kept.get(member).map_or(&[][..], Vec::as_slice);
            let mut owned: Vec<Slot> =
                kept.iter().copied().filter(|slot| !self.claims.disputed.contains(slot)).collect();
            // By number, then by topic: so of every topic the low numbers stay.
            owned.sort_by_key(|slot| (slot.number, slot.topic));
            let quota = if owned.len() < self.low {
                self.below.push(member);
                owned.len()
            } else if owned.len() >= self.high && self.high_places > 0 {
                self.high_places -= 1;
                if self.high_places == 0 {
                    self.at_low.clear();
                }
                self.high
            } else {
                if self.high_places > 0 {
                    self.at_low.push_back(member);
                }
                self.low
            };
            let too_many = owned.split_off(quota.min(owned.len()));
            self.given_up.extend(too_many.into_iter().map(|slot| (slot, member)));
            if let Some(share) = self.shares.get_mut(member) {
                *share = owned;
            }
        }
    }

    fn deal(&mut self, free: impl Iterator<Item = Slot>) {
        self.below.sort_by_key(|member| self.group.rank(*member));
        self.at_low.make_contiguous().sort_by_key(|member| self.group.rank(*member));
        let mut turn = 0;
        for slot in free {
            if turn >= self.below.len() {
                turn = 0;
            }
            let next = match self.below.get(turn) {
                Some(member) => Some(*member),
                None => self.at_low.pop_front(),
            };
            // The quotas add up to the number of partitions, so somebody is always left.
            let Some(member) = next else { break };
            let count = self.give(slot, member);
            if self.below.get(turn) == Some(&member) {
                if count == self.low {
                    self.below.remove(turn);
                    self.at_low.push_back(member);
                } else {
                    turn += 1;
                }
            }
        }
    }

    /// Returns how many the member has now.
    fn give(&mut self, slot: Slot, member: usize) -> usize {
        let from_another = self.given_up.get(&slot).is_some_and(|owner| *owner != member);
        if from_another || self.claims.disputed.contains(&slot) {
            self.in_transfer.insert(slot, member);
        }
        let Some(share) = self.shares.get_mut(member) else { return 0 };
        share.push(slot);
        share.len()
    }
}
