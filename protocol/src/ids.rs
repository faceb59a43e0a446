//! The numbers that must not mix, each a type of its own.
//!
//! An [`Offset`] counts records, a [`LogIndex`] counts Raft entries, and a position counts bytes
//! in a file; none converts into another without saying so.
//!
//! Absent on purpose: arithmetic between different kinds, and `From<u64>`.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(u64);

        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// Wraps a plain number.
            #[must_use]
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The plain number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Position of a record in a partition, dense from 0. Kafka's offset.
    Offset
}
number! {
    /// Position of an entry in a Raft log, gapless from 1.
    LogIndex
}
number! {
    /// A Raft term. On Kafka's wire it is the leader epoch.
    Term
}
number! {
    /// Birth id of one topic partition: random, non-zero, equal on its replicas, never reused.
    /// The metadata partition has [`Incarnation::METADATA`].
    Incarnation
}
number! {
    /// One placement of one partition on one node, and its id in Raft. Never used twice.
    ReplicaId
}
number! {
    /// A node of the cluster, as operators and Kafka clients know it. Fits an `i32`.
    NodeId
}
number! {
    /// Counts the flushes of one data directory, rising for ever. A frame carries the number of
    /// the flush that made it durable.
    FlushSequence
}

impl Offset {
    /// The offset `count` records further. Saturates at the type's end, which no log reaches.
    #[must_use]
    pub const fn plus(self, count: u32) -> Self {
        Self(self.0.saturating_add(count as u64))
    }
}

impl LogIndex {
    /// The next index.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index before, or zero at the start.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl FlushSequence {
    /// The next flush.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Incarnation {
    /// The metadata partition's well-known incarnation.
    pub const METADATA: Self = Self(1);
}

/// A topic's UUID: random, new when a name is created again (KIP-516).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The all-zero id, which stands for "none" on the wire.
    pub const ZERO: Self = Self([0; 16]);
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, byte) in self.0.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_id_prints_as_a_uuid() {
        let id = TopicId([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(id.to_string(), "12345678-9abc-def0-0102-030405060708");
    }

    #[test]
    fn numbers_name_their_kind_when_debugged() {
        assert_eq!(format!("{:?}", Offset::new(7).plus(3)), "Offset(10)");
        assert_eq!(LogIndex::ZERO.previous(), LogIndex::ZERO);
    }
}
