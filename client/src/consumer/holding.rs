//! The generation in which a member got what it holds: what its partitions are claimed under.
//!
//! Invariant: a generation whose sync failed is never claimed. The member does not know what it
//! was to have in it, and another one may have been given its partitions (KAFKA-13406, KIP-792).
//!
//! Absent on purpose: the partitions themselves, which are those that the consumer reads.

/// Of the last completed sync, unless that is over.
#[derive(Debug, Default)]
pub(super) struct Holding {
    generation: Option<i32>,
}

impl Holding {
    /// What a join says; `None` where nothing is held.
    pub const fn generation(&self) -> Option<i32> {
        self.generation
    }

    /// Whether partitions that are read may be kept through a rebalance. Without a generation
    /// the leader does not believe that they are ours, and gives them away without asking.
    pub const fn may_be_claimed(&self) -> bool {
        self.generation.is_some()
    }

    /// The membership is over, and with it every right to a partition.
    pub const fn lost(&mut self) {
        self.generation = None;
    }

    /// The group has a new generation, in which we do not know yet what is ours.
    pub const fn sync_begins(&mut self) {
        self.generation = None;
    }

    /// The assignment of this generation is there.
    pub const fn sync_completed(&mut self, generation: i32) {
        self.generation = Some(generation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_completed_sync_is_claimed() {
        let mut holding = Holding::default();
        assert_eq!(holding.generation(), None, "a new member has nothing");
        holding.sync_begins();
        holding.sync_completed(4);
        assert_eq!(holding.generation(), Some(4));
        // Joined generation 5, and its sync failed.
        holding.sync_begins();
        assert_eq!((holding.generation(), holding.may_be_claimed()), (None, false));
        holding.sync_begins();
        holding.sync_completed(6);
        assert_eq!(holding.generation(), Some(6));
        holding.lost();
        assert_eq!((holding.generation(), holding.may_be_claimed()), (None, false));
    }
}
