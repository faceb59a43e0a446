//! Generated consumer groups: 1 to 20 members, 1 to 10 topics of 0 to 30 partitions.
//!
//! Absent on purpose: what no client sends, such as a partition that its member does not want.

use std::collections::BTreeMap;

use bateau_client::group::{
    Assignment, Assignor, JoinedMember, Leadership, PartitionsByTopic, Subscription,
};
use fastrand::Rng;

const MEMBERS_MAX: usize = 20;
const TOPICS_MAX: usize = 10;
const PARTITIONS_MAX: u32 = 30;

/// Rounds of one sticky group.
const ROUNDS: usize = 8;

/// What a leader has to answer.
#[derive(Clone, Debug)]
pub struct Question {
    pub assignor: Assignor,
    pub members: Vec<JoinedMember>,
    pub own_topics: Vec<String>,
    pub partition_counts: BTreeMap<String, u32>,
}

impl Question {
    /// As the clients' programs take it.
    pub fn to_line(&self) -> String {
        let counts: Vec<String> =
            self.partition_counts.iter().map(|(topic, count)| format!("{topic}:{count}")).collect();
        let members: Vec<String> = self
            .members
            .iter()
            .map(|member| {
                let instance = member.instance_id.as_ref();
                let instance = instance.map_or("-".to_owned(), |id| super::hex(id.as_bytes()));
                let id = super::hex(member.member_id.as_bytes());
                format!("{id}/{instance}/{}", super::hex(&member.metadata))
            })
            .collect();
        let fields = [counts.join(","), members.join(","), self.own_topics.join(",")];
        format!("assign\t{}\t{}", self.assignor.name(), fields.join("\t"))
    }
}

/// A member between two rounds.
#[derive(Clone, Debug)]
struct Member {
    id: String,
    instance: Option<String>,
    topics: Vec<String>,
    owned: PartitionsByTopic,
    generation: Option<i32>,
    /// Of the subscription that its client writes.
    version: i16,
}

impl Member {
    fn joined(&self, assignor: Assignor) -> JoinedMember {
        let metadata = assignor.metadata(&self.topics, &self.owned, self.generation);
        let metadata = match assignor {
            Assignor::KafkaJsRoundRobin => metadata,
            _ => Subscription::decode(&metadata).expect("we wrote it").encode(self.version),
        };
        JoinedMember { member_id: self.id.clone(), instance_id: self.instance.clone(), metadata }
    }
}

struct World<'a> {
    random: &'a mut Rng,
    counts: BTreeMap<String, u32>,
    members: Vec<Member>,
    /// Everybody subscribes to everything.
    uniform: bool,
    born: usize,
}

impl<'a> World<'a> {
    fn new(uniform: bool, random: &'a mut Rng) -> Self {
        let mut world =
            Self { random, counts: BTreeMap::new(), members: Vec::new(), uniform, born: 0 };
        for _ in 0..world.random.usize(1..=TOPICS_MAX) {
            world.add_topic();
        }
        for _ in 0..world.random.usize(1..=MEMBERS_MAX) {
            world.join();
        }
        world
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.random.usize(..one_in) == 0
    }

    fn add_topic(&mut self) {
        const NAMES: [&str; 6] = ["orders", "a", "b.c", "stock_levels", "Z-9", "payments.eu"];
        let name = NAMES[self.random.usize(..NAMES.len())];
        let name = format!("{name}{}", self.random.u32(..100));
        let count = self.random.u32(..=PARTITIONS_MAX);
        // Half of the empty ones do not exist at all.
        self.counts.entry(name).or_insert(count);
    }

    fn some_topics(&mut self) -> Vec<String> {
        let mut topics: Vec<String> = self.counts.keys().cloned().collect();
        if !self.uniform {
            let wanted = self.random.usize(1..=topics.len());
            self.random.shuffle(&mut topics);
            topics.truncate(wanted);
            if self.chance(20) {
                topics.push("nobody-made-this".to_owned());
            }
        }
        self.random.shuffle(&mut topics);
        topics
    }

    fn join(&mut self) {
        self.born += 1;
        let noise = self.random.u64(..);
        let id = match self.random.usize(..6) {
            0 => format!("m{}", self.born),
            1 => format!("größe-{}-😀-{noise:x}", self.born),
            2 => format!("\u{fffd}{}", self.born),
            _ => format!("consumer-{}-{noise:016x}-{:08x}", self.born, self.random.u32(..)),
        };
        let instance = self.chance(5).then(|| format!("instance-{}", self.born));
        let topics = self.some_topics();
        let version = if self.chance(6) { self.random.i16(0..=2) } else { 3 };
        let owned = PartitionsByTopic::new();
        self.members.push(Member { id, instance, topics, owned, generation: None, version });
    }

    fn question(&mut self, assignor: Assignor) -> Question {
        self.random.shuffle(&mut self.members);
        let members = self.members.iter().map(|member| member.joined(assignor)).collect();
        let own_topics = self.members[0].topics.clone();
        let counts = self.counts.iter().filter(|(_, count)| **count > 0);
        let partition_counts = counts.map(|(topic, count)| (topic.clone(), *count)).collect();
        Question { assignor, members, own_topics, partition_counts }
    }

    /// Something happens to the group.
    fn live_on(&mut self) {
        match self.random.usize(..8) {
            0 | 1 => {
                for _ in 0..self.random.usize(1..=3) {
                    if self.members.len() < MEMBERS_MAX {
                        self.join();
                    }
                }
            }
            2 | 3 => {
                let leave = self.random.usize(..self.members.len().div_ceil(2));
                self.random.shuffle(&mut self.members);
                self.members.truncate(self.members.len() - leave);
            }
            4 => {
                let grown = self.random.usize(..self.counts.len());
                if let Some(count) = self.counts.values_mut().nth(grown) {
                    *count = PARTITIONS_MAX.min(*count + self.random.u32(1..=5));
                }
            }
            5 => {
                if self.counts.len() < TOPICS_MAX {
                    self.add_topic();
                }
                if self.uniform {
                    let topics = self.some_topics();
                    self.members.iter_mut().for_each(|member| member.topics = topics.clone());
                }
            }
            6 if !self.uniform => {
                let topics = self.some_topics();
                let changed = self.random.usize(..self.members.len());
                let member = &mut self.members[changed];
                member.owned.retain(|topic, _| topics.contains(topic));
                member.topics = topics;
            }
            // The same again: what the second round of a cooperative rebalance is.
            _ => {}
        }
    }

    /// Members take what the leader gave them; some miss it, some start anew.
    fn take(&mut self, question: &Question, generation: i32) {
        let members = question.members.clone();
        let own_topics = question.own_topics.clone();
        let leadership = Leadership::read(question.assignor.name(), members, own_topics);
        let assigned = leadership.expect("our own bytes").assign(&question.partition_counts);
        for (id, bytes) in assigned {
            let fate = self.random.usize(..20);
            let member = self.members.iter_mut().find(|member| member.id == id);
            let member = member.expect("only members get assignments");
            match fate {
                0 => {}
                1 => {
                    member.owned.clear();
                    member.generation = None;
                }
                _ => {
                    member.owned = Assignment::decode(&bytes).expect("we wrote it").partitions;
                    member.generation = Some(generation);
                }
            }
        }
    }
}

/// Groups without a past.
pub fn plain(assignor: Assignor, count: usize, random: &mut Rng) -> Vec<Question> {
    let group = |number: usize| World::new(number.is_multiple_of(3), random).question(assignor);
    (0..count).map(group).collect()
}

/// Groups that live through several rounds.
pub fn sticky(uniform: bool, count: usize, random: &mut Rng) -> Vec<Question> {
    let mut questions = Vec::new();
    while questions.len() < count {
        let mut world = World::new(uniform, random);
        for generation in (1..).take(ROUNDS) {
            let question = world.question(Assignor::CooperativeSticky);
            world.take(&question, generation);
            questions.push(question);
            world.live_on();
        }
    }
    questions
}

/// Groups in which members claim what others claim too, in the same generation or in another.
pub fn claims(count: usize, random: &mut Rng) -> Vec<Question> {
    let group = |number: usize| {
        let mut world = World::new(number.is_multiple_of(2), random);
        let counts = world.counts.clone();
        let World { random, members, .. } = &mut world;
        for member in members {
            member.generation = random.bool().then(|| random.i32(..3));
            for topic in &member.topics {
                let partitions = 0..counts.get(topic).copied().unwrap_or(0).cast_signed();
                let claimed: Vec<i32> = partitions.filter(|_| random.usize(..6) == 0).collect();
                if !claimed.is_empty() {
                    member.owned.insert(topic.clone(), claimed);
                }
            }
        }
        world.question(Assignor::CooperativeSticky)
    };
    (0..count).map(group).collect()
}
