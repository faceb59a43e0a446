//! The assignors by name: what a member says when it joins, and what a leader answers.
//!
//! Invariants
//! - Every member that joined gets an assignment, be it an empty one: Java members fail without.
//! - A name is what the other clients call the same algorithm, to the letter.
//!
//! Absent on purpose: choosing among assignors. The coordinator picks one that every member named.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::protocol::{Assignment, ProtocolError, Subscription, VERSION_MAX};
use super::{Member, MemberAssignment, PartitionsByTopic, TopicPartition, plain, sticky};

/// How a group's leader shares out partitions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Assignor {
    /// `range`: of every topic, each member gets a range of neighbours. Java's first choice.
    Range,
    /// `roundrobin`: all partitions of all topics, dealt one after the other.
    RoundRobin,
    /// `cooperative-sticky`: even counts, as few moves as possible, and members keep reading what
    /// they keep (KIP-429).
    CooperativeSticky,
    /// `RoundRobinAssigner` of kafkajs: the topics of the leader, dealt in the order of member ids
    /// whoever subscribed. All members must subscribe to the same topics.
    KafkaJsRoundRobin,
}

/// How a rebalance goes (KIP-429).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RebalanceProtocol {
    /// Every member gives up everything, then joins.
    Eager,
    /// Members keep what they have, and give up only what the leader takes away; then they join
    /// once more.
    Cooperative,
}

/// How a member with these assignors rebalances: cooperatively only if all of them can, because it
/// must know before it joins. Eagerly with none.
#[must_use]
pub fn rebalance_protocol(assignors: &[Assignor]) -> RebalanceProtocol {
    let all = assignors.iter().all(|assignor| *assignor == Assignor::CooperativeSticky);
    if all && !assignors.is_empty() {
        RebalanceProtocol::Cooperative
    } else {
        RebalanceProtocol::Eager
    }
}

impl Assignor {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Range, Self::RoundRobin, Self::CooperativeSticky, Self::KafkaJsRoundRobin];

    /// The name in JoinGroup.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
            Self::CooperativeSticky => "cooperative-sticky",
            Self::KafkaJsRoundRobin => "RoundRobinAssigner",
        }
    }

    /// The assignor of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// The metadata for JoinGroup, as the client that the assignor comes from would send it.
    ///
    /// - `topics`: what the member subscribes to.
    /// - `owned`: what it has and keeps while it joins: nothing where it rebalances eagerly.
    /// - `generation`: the one in which it got its last assignment.
    #[must_use]
    pub fn metadata(
        self,
        topics: &[String],
        owned: &PartitionsByTopic,
        generation: Option<i32>,
    ) -> Bytes {
        let mut subscription = Subscription { topics: topics.to_vec(), ..Subscription::default() };
        if self == Self::KafkaJsRoundRobin {
            subscription.user_data = Some(Bytes::new());
            return subscription.encode(0);
        }
        subscription.topics.sort_unstable();
        subscription.topics.dedup();
        subscription.owned = owned
            .iter()
            .flat_map(|(topic, numbers)| {
                let partition =
                    |number: &i32| TopicPartition { topic: topic.clone(), partition: *number };
                numbers.iter().map(partition)
            })
            .collect();
        subscription.generation = generation;
        if self == Self::CooperativeSticky {
            let generation = generation.unwrap_or(sticky::NO_GENERATION);
            subscription.user_data = Some(Bytes::copy_from_slice(&generation.to_be_bytes()));
        }
        subscription.encode(VERSION_MAX)
    }

    /// Shares out the partitions.
    ///
    /// - `members`: in the order in which the coordinator named them; ids are unique.
    /// - `own_topics`: the leader's own subscription, in its order. Only kafkajs' assignor looks at
    ///   it, and then at nobody else's.
    /// - `partition_counts`: of every topic that exists; topics without an entry are left out.
    ///
    /// Cost: below 1 ms for 20 members and 300 partitions. `cooperative-sticky` is the dearest
    /// where members subscribe to different topics: some 100 ms for 100 members and 10,000
    /// partitions that have to move.
    #[must_use]
    pub fn assign(
        self,
        members: &[Member],
        own_topics: &[String],
        partition_counts: &BTreeMap<String, u32>,
    ) -> Vec<MemberAssignment> {
        match self {
            Self::Range => plain::range(members, partition_counts),
            Self::RoundRobin => plain::round_robin(members, partition_counts),
            Self::KafkaJsRoundRobin => {
                plain::kafkajs_round_robin(members, own_topics, partition_counts)
            }
            Self::CooperativeSticky => sticky::cooperative(members, partition_counts),
        }
    }

    /// The version in which its leaders write assignments.
    const fn assignment_version(self) -> i16 {
        match self {
            Self::Range | Self::RoundRobin | Self::CooperativeSticky => VERSION_MAX,
            Self::KafkaJsRoundRobin => 0,
        }
    }
}

/// A member in the answer to JoinGroup that a leader gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinedMember {
    /// Unique in the group.
    pub member_id: String,
    /// Of a static member.
    pub instance_id: Option<String>,
    /// What it sent under the assignor that the coordinator chose.
    pub metadata: Bytes,
}

/// Why a leader cannot share out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LeadError {
    /// The coordinator chose an assignor that we did not name.
    #[error("the group uses the assignor {found:?}, which this client does not know")]
    UnknownAssignor {
        /// Its name.
        found: String,
    },
    /// A member's metadata cannot be read. Java's leader fails in this case, too.
    #[error("the subscription of member {member_id:?} {error}")]
    Subscription {
        /// The member.
        member_id: String,
        /// What is wrong.
        error: ProtocolError,
    },
}

/// One rebalance as its leader sees it, between JoinGroup and SyncGroup.
#[derive(Clone, Debug)]
pub struct Leadership {
    assignor: Assignor,
    members: Vec<Member>,
    own_topics: Vec<String>,
}

impl Leadership {
    /// Reads everybody's subscription.
    ///
    /// - `own_topics`: the leader's subscription, in its order.
    ///
    /// Errors: [`LeadError`].
    pub fn read(
        assignor: &str,
        members: Vec<JoinedMember>,
        own_topics: Vec<String>,
    ) -> Result<Self, LeadError> {
        let assignor = Assignor::from_name(assignor)
            .ok_or_else(|| LeadError::UnknownAssignor { found: assignor.to_owned() })?;
        let read = |member: JoinedMember| {
            let JoinedMember { member_id, instance_id, metadata } = member;
            match Subscription::decode(&metadata) {
                Ok(subscription) => Ok(Member { member_id, instance_id, subscription }),
                Err(error) => Err(LeadError::Subscription { member_id, error }),
            }
        };
        let members = members.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { assignor, members, own_topics })
    }

    /// The assignor in use.
    #[must_use]
    pub const fn assignor(&self) -> Assignor {
        self.assignor
    }

    /// Topics whose count of partitions must be known, and watched while this member leads.
    #[must_use]
    pub fn topics(&self) -> BTreeSet<&str> {
        match self.assignor {
            Assignor::KafkaJsRoundRobin => self.own_topics.iter().map(String::as_str).collect(),
            Assignor::Range | Assignor::RoundRobin | Assignor::CooperativeSticky => self
                .members
                .iter()
                .flat_map(|member| &member.subscription.topics)
                .map(String::as_str)
                .collect(),
        }
    }

    /// Shares out: member ids with the bytes for SyncGroup.
    ///
    /// - `partition_counts`: of those [`Leadership::topics`] that exist.
    #[must_use]
    pub fn assign(&self, partition_counts: &BTreeMap<String, u32>) -> Vec<(String, Bytes)> {
        let version = self.assignor.assignment_version();
        // kafkajs writes empty user data, Java null.
        let user_data = (self.assignor == Assignor::KafkaJsRoundRobin).then(Bytes::new);
        self.assignor
            .assign(&self.members, &self.own_topics, partition_counts)
            .into_iter()
            .map(|MemberAssignment { member_id, partitions }| {
                let assignment = Assignment { partitions, user_data: user_data.clone() };
                (member_id, assignment.encode(version))
            })
            .collect()
    }
}
