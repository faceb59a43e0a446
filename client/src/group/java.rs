//! Two orders that Java's results depend on: of strings, and of its hash maps.
//!
//! ```text
//!   String.hashCode   s[0]·31^(n-1) + … + s[n-1] over UTF-16
//!   HashMap           bucket = (h ^ h >>> 16) & (capacity - 1); in a bucket the oldest first;
//!                     from 16 buckets on the capacity doubles when 3/4 are exceeded, or when a
//!                     bucket of 8 gets another while there are fewer than 64
//! ```
//!
//! Java's sticky assignor walks over hash maps of members, and who comes first keeps more. So a
//! leader that shares out as a Java leader does has to walk in the same order. It has been the
//! same from Java 8 on.
//!
//! Absent on purpose: buckets that become trees, which takes nine members of one bucket among 64;
//! removal.

use std::cmp::Ordering;

/// `String.compareTo`: by UTF-16 code units, not by code points.
pub(super) fn compare(left: &str, right: &str) -> Ordering {
    left.encode_utf16().cmp(right.encode_utf16())
}

/// `String.hashCode`.
pub(super) fn hash_of_string(text: &str) -> i32 {
    text.encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// `TopicPartition.hashCode` of Kafka's client.
pub(super) fn hash_of_partition(topic_hash: i32, partition: i32) -> i32 {
    31_i32.wrapping_add(partition).wrapping_mul(31).wrapping_add(topic_hash)
}

/// The hashes in a `HashSet` or `HashMap` made without a capacity, in order of insertion.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    /// Spread hashes, oldest first.
    hashes: Vec<u32>,
    capacity: u32,
}

impl Buckets {
    const CAPACITY_FIRST: u32 = 16;
    /// Below this capacity a full bucket makes the table grow.
    const TREE_CAPACITY_MIN: u32 = 64;
    const BUCKET_MAX: usize = 8;

    pub(super) const fn new() -> Self {
        Self { hashes: Vec::new(), capacity: Self::CAPACITY_FIRST }
    }

    /// Adds a key that is not there yet.
    pub(super) fn insert(&mut self, hash: i32) {
        let hash = hash.cast_unsigned();
        let spread = hash ^ hash >> 16;
        let bucket = self.bucket(spread);
        let before = self.hashes.iter().filter(|other| self.bucket(**other) == bucket).count();
        self.hashes.push(spread);
        if before >= Self::BUCKET_MAX && self.capacity < Self::TREE_CAPACITY_MIN {
            self.grow();
        }
        if self.hashes.len() > self.capacity as usize / 4 * 3 {
            self.grow();
        }
    }

    /// Takes away the key that was the `index`-th to be inserted of those that are there.
    pub(super) fn remove(&mut self, index: usize) {
        self.hashes.remove(index);
    }

    /// Indices by insertion, in the order in which Java walks.
    pub(super) fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.hashes.len()).collect();
        order.sort_by_key(|index| self.hashes.get(*index).map(|hash| self.bucket(*hash)));
        order
    }

    const fn bucket(&self, spread: u32) -> u32 {
        spread & (self.capacity - 1)
    }

    const fn grow(&mut self) {
        // Java stops at 2^30, which no group reaches.
        self.capacity = self.capacity.saturating_mul(2);
    }
}

/// The order in which Java walks over a `HashMap` into which `keys` were put one after the other.
pub(super) fn walk_order<'a>(keys: impl Iterator<Item = &'a str>) -> Vec<usize> {
    let mut buckets = Buckets::new();
    for key in keys {
        buckets.insert(hash_of_string(key));
    }
    buckets.order()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_javas() {
        // jshell> "consumer-1".hashCode(), "grüße 😀".hashCode(), new TopicPartition("t", 7)
        assert_eq!(hash_of_string(""), 0);
        assert_eq!(hash_of_string("abc"), 96_354);
        assert_eq!(hash_of_string("polygenelubricants"), i32::MIN);
        assert_eq!(hash_of_partition(hash_of_string("t"), 7), 31 * 38 + 116);
    }

    #[test]
    fn strings_compare_by_utf_16() {
        // U+FFFD comes before U+1F600 as a code point, and behind its first surrogate.
        assert_eq!(compare("\u{fffd}", "\u{1f600}"), Ordering::Greater);
        assert_eq!(compare("a", "ab"), Ordering::Less);
    }

    #[test]
    fn a_map_is_walked_bucket_by_bucket() {
        // "a" is 97: bucket 1 of 16. "q" is 113: bucket 1, too. "b" is bucket 2.
        assert_eq!(walk_order(["b", "q", "a"].into_iter()), [1, 2, 0]);
        // Thirteen keys make 32 buckets: "q" moves to bucket 17.
        let keys = ["q", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
        let order = walk_order(keys.into_iter());
        assert_eq!(order, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0]);
    }

    #[test]
    fn a_bucket_that_is_full_makes_a_small_table_grow() {
        // "Aa" and "BB" have one hash; so do all strings of them with one length.
        let pairs = ["Aa", "BB"];
        let mut keys: Vec<String> = vec!["b".to_owned()];
        for number in 0..9_usize {
            let pair = |bit: usize| pairs[number >> bit & 1];
            keys.push(format!("{}{}{}{}", pair(3), pair(2), pair(1), pair(0)));
        }
        let mut buckets = Buckets::new();
        for key in &keys {
            buckets.insert(hash_of_string(key));
        }
        assert_eq!(buckets.capacity, 32);
    }
}
