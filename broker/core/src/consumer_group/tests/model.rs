//! Clients that join, leave, die and come back at random, over a coordinator that crashes,
//! resigns and loses proposals; then peace, in which the groups must come to rest.
//!
//! Checked after every step: no generation falls, one owner per partition and generation (I12),
//! a position never falls behind an acknowledged commit (I13), an acknowledged commit belongs to
//! the generation it names, every ticket is answered once, counts are right, and a replay (from a
//! snapshot at a random place) gives the live state.
//!
//! Absent on purpose: several protocols per group; `joining` has them.

use super::*;

const PARTITIONS: i32 = 5;
const SEEDS: u64 = 2_000;
const STEPS: usize = 150;

/// splitmix64: the seed is the test.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

#[derive(Clone, PartialEq, Debug)]
enum Phase {
    /// Has to join.
    Out,
    Joining(Ticket),
    /// Has a generation; has to sync.
    Joined,
    Syncing(Ticket),
    /// Owns these partitions.
    Owning(Vec<i32>),
    Dead,
}

#[derive(Debug)]
struct Client {
    group: &'static str,
    name: String,
    instance_id: Option<Name>,
    is_modern: bool,
    id: Name,
    generation: i32,
    /// What to assign, where this client leads.
    members: Vec<Name>,
    skips: bool,
    phase: Phase,
    metadata: u64,
    /// Partition, offset and generation of commits on their way.
    commits: BTreeMap<Ticket, (i32, i64, i32)>,
}

impl Client {
    /// What it is called across restarts.
    fn owner(&self) -> Name {
        self.instance_id.clone().unwrap_or_else(|| self.id.clone())
    }

    fn forget(&mut self) {
        self.id = "".into();
        self.members.clear();
        self.skips = false;
        self.phase = Phase::Out;
    }
}

struct Model {
    world: World,
    random: Random,
    clients: Vec<Client>,
    /// Answers that clients have looked at.
    seen: BTreeSet<Ticket>,
    /// Tickets that went down with a coordinator.
    lost: BTreeSet<Ticket>,
    /// By group, how often it was removed, and its last generation.
    lives: BTreeMap<Name, (u32, i32)>,
    owners: BTreeMap<(Name, u32, i32, i32), Name>,
    acknowledged: BTreeMap<(&'static str, i32), i64>,
    next_offset: i64,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let delay_ms = if random.one_in(3) { 1_000 } else { 0 };
        let mut world = World::with(super::joining::delayed(delay_ms));
        world.is_prompt = false;
        let count = 2 + random.below(5);
        let clients = (0..count).map(|number| {
            let instance_id = random.one_in(3).then(|| Name::from(format!("static-{number}")));
            Client {
                group: if random.one_in(5) { "h" } else { "g" },
                name: format!("client-{number}"),
                instance_id,
                is_modern: !random.one_in(4),
                id: "".into(),
                generation: -1,
                members: Vec::new(),
                skips: false,
                phase: Phase::Out,
                metadata: 0,
                commits: BTreeMap::new(),
            }
        });
        let clients = clients.collect();
        Self {
            world,
            random,
            clients,
            seen: BTreeSet::new(),
            lost: BTreeSet::new(),
            lives: BTreeMap::new(),
            owners: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            next_offset: 1,
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..50 => {
                let client = self.random.below(self.clients.len());
                self.act(client);
            }
            50..80 => drop(self.world.apply_one()),
            80..90 => {
                let milliseconds = [1, 300, 1_500, 4_000, 9_000][self.random.below(5)];
                self.world.pass(milliseconds);
            }
            90..93 => {
                let client = self.random.below(self.clients.len());
                self.disturb(client);
            }
            93..95 => {
                let client = self.random.below(self.clients.len());
                self.retry(client);
            }
            95..97 => self.crash(),
            97..99 => self.change_leader(),
            _ => {
                if !self.world.proposed.is_empty() {
                    self.world.drop_one();
                }
            }
        }
        self.look();
    }

    /// What a well-behaved client does next.
    fn act(&mut self, number: usize) {
        let client = &self.clients[number];
        match client.phase.clone() {
            Phase::Dead | Phase::Joining(_) | Phase::Syncing(_) => {}
            Phase::Out => self.join(number),
            Phase::Joined => self.sync(number),
            Phase::Owning(partitions) => {
                let (group, generation, id) = (client.group, client.generation, client.id.clone());
                let instance_id = client.instance_id.clone();
                let outcome =
                    self.world.heartbeat_as(group, generation, &id, instance_id.as_deref());
                self.take_heartbeat(number, outcome);
                if let Some(partition) = partitions.first()
                    && self.random.one_in(2)
                {
                    self.commit(number, *partition);
                }
            }
        }
    }

    fn join(&mut self, number: usize) {
        let client = &self.clients[number];
        let metadata = format!("{} {}", client.name, client.metadata);
        let base = self.world.join_request(client.group, &client.name);
        let request = JoinGroup {
            member_id: client.id.clone(),
            group_instance_id: client.instance_id.clone(),
            member_id_required: client.is_modern,
            can_skip_assignment: client.is_modern,
            session_timeout_ms: 6_000,
            rebalance_timeout_ms: 8_000,
            protocols: vec![protocol("range", &metadata)],
            ..base
        };
        let ticket = self.world.send_join(request);
        self.clients[number].phase = Phase::Joining(ticket);
    }

    fn sync(&mut self, number: usize) {
        let client = &self.clients[number];
        let mut plans = BTreeMap::<Name, Vec<String>>::new();
        if !client.members.is_empty() && !client.skips {
            // Another plan at every try: only one of them may ever be heard.
            for partition in 0..PARTITIONS {
                let member = self.random.below(client.members.len());
                let id = client.members[member].clone();
                plans.entry(id).or_default().push(partition.to_string());
            }
        }
        let assignments = plans.into_iter().map(|(member_id, partitions)| Assignment {
            member_id,
            assignment: partitions.join(" ").into(),
        });
        let ticket = self.world.send(GroupRequest::SyncGroup(SyncGroup {
            group_id: client.group.into(),
            generation: client.generation,
            member_id: client.id.clone(),
            group_instance_id: client.instance_id.clone(),
            protocol_type: client.is_modern.then(|| "consumer".into()),
            protocol_name: client.is_modern.then(|| "range".into()),
            assignments: assignments.collect(),
        }));
        self.clients[number].phase = Phase::Syncing(ticket);
    }

    fn commit(&mut self, number: usize, partition: i32) {
        let client = &self.clients[number];
        let offset = self.next_offset;
        self.next_offset += 1;
        let ticket = self.world.send(GroupRequest::OffsetCommit(OffsetCommit {
            group_id: client.group.into(),
            generation: client.generation,
            member_id: client.id.clone(),
            group_instance_id: client.instance_id.clone(),
            retention_ms: None,
            topics: vec![commit_topic("orders", &[(partition, offset)])],
        }));
        let client = &mut self.clients[number];
        client.commits.insert(ticket, (partition, offset, client.generation));
    }

    /// Leaves, restarts, changes its mind, goes silent, or comes back from the dead.
    fn disturb(&mut self, number: usize) {
        let choice = self.random.below(5);
        let client = &mut self.clients[number];
        match choice {
            0 => {
                let (group, id) = (client.group, client.id.clone());
                let instance_id = client.instance_id.clone();
                client.forget();
                self.world.send_leave(group, &[(&id, instance_id.as_deref())]);
            }
            1 => client.forget(),
            2 => {
                client.metadata += 1;
                client.phase = Phase::Out;
            }
            3 => client.phase = Phase::Dead,
            _ => {
                if client.phase == Phase::Dead {
                    client.forget();
                }
            }
        }
    }

    /// Sends again what waits, as after a time-out on the client's side.
    fn retry(&mut self, number: usize) {
        match self.clients[number].phase {
            Phase::Joining(_) => self.join(number),
            Phase::Syncing(_) => self.sync(number),
            _ => {}
        }
    }

    fn crash(&mut self) {
        // Some of what was proposed made it into the log, and nobody heard of it.
        for _ in 0..self.random.below(3) {
            self.world.apply_one();
        }
        let unheard: Vec<_> = self
            .world
            .replies
            .keys()
            .filter(|ticket| !self.seen.contains(ticket))
            .copied()
            .collect();
        let at = self.random.below(self.world.log.len() + 1);
        self.watch();
        self.world.crash(at);
        for ticket in 1..=self.world.tickets {
            if self.world.is_waiting(Ticket(ticket)) {
                self.lost.insert(Ticket(ticket));
            }
        }
        self.lost.extend(unheard.iter().copied());
        self.seen.extend(unheard);
        for client in &mut self.clients {
            client.phase = match client.phase.clone() {
                Phase::Joining(_) => Phase::Out,
                Phase::Syncing(_) => Phase::Joined,
                phase => phase,
            };
        }
    }

    fn change_leader(&mut self) {
        self.world.call(|coordinator, _, effects| coordinator.resign(effects));
        for _ in 0..self.random.below(4) {
            self.world.apply_one();
        }
        while !self.world.proposed.is_empty() {
            self.world.drop_one();
        }
        self.world.call(|coordinator, now, effects| coordinator.become_leader(now, effects));
    }

    /// Lets every client see its answers, and checks what is promised.
    fn look(&mut self) {
        self.watch();
        let news: Vec<_> = self
            .world
            .replies
            .iter()
            .filter(|(ticket, _)| !self.seen.contains(ticket))
            .map(|(ticket, response)| (*ticket, response.clone()))
            .collect();
        for (ticket, response) in news {
            self.seen.insert(ticket);
            for number in 0..self.clients.len() {
                let phase = self.clients[number].phase.clone();
                match &response {
                    GroupResponse::JoinGroup(outcome) if phase == Phase::Joining(ticket) => {
                        self.take_join(number, outcome.clone());
                    }
                    GroupResponse::SyncGroup(outcome) if phase == Phase::Syncing(ticket) => {
                        self.take_sync(number, outcome.clone());
                    }
                    GroupResponse::OffsetCommit(outcome) => {
                        self.take_commit(number, ticket, outcome.clone().map(|_| ()));
                    }
                    _ => {}
                }
            }
        }
        for ((group, partition), offset) in &self.acknowledged {
            let stored = &self.world.coordinator.tables.groups[*group].topics["orders"];
            let stored = stored.partitions[partition].offset;
            assert!(stored >= *offset, "I13: {group} {partition}: {stored} after {offset}");
        }
    }

    /// Generations as the tables have them.
    fn watch(&mut self) {
        for group in ["g", "h"] {
            let stored = self.world.coordinator.tables.groups.get(group);
            let life = self.lives.entry(group.into()).or_default();
            match stored {
                Some(stored) => {
                    assert!(stored.generation >= life.1, "I-GRP-1: {group} fell");
                    life.1 = stored.generation;
                }
                None if life.1 > 0 => *life = (life.0 + 1, 0),
                None => {}
            }
        }
    }

    fn take_join(&mut self, number: usize, outcome: Result<JoinedGroup, JoinGroupError>) {
        let client = &mut self.clients[number];
        client.phase = Phase::Out;
        match outcome {
            Ok(joined) => {
                let life = self.lives[client.group];
                assert!(joined.generation <= life.1, "a generation was told before it was stored");
                client.generation = joined.generation;
                client.id = joined.member_id;
                client.members = joined.members.into_iter().map(|m| m.member_id).collect();
                client.skips = joined.skip_assignment;
                assert_eq!(client.members.is_empty(), joined.leader != client.id);
                client.phase = Phase::Joined;
            }
            Err(JoinGroupError::MemberIdRequired { member_id }) => client.id = member_id,
            Err(JoinGroupError::UnknownMemberId) => client.forget(),
            Err(JoinGroupError::Coordinator(_) | JoinGroupError::RebalanceInProgress) => {}
            Err(error) => panic!("{client:?}: {error}"),
        }
    }

    fn take_sync(&mut self, number: usize, outcome: Result<SyncedGroup, SyncGroupError>) {
        let client = &mut self.clients[number];
        match outcome {
            Ok(synced) => {
                let text = std::str::from_utf8(&synced.assignment).unwrap();
                let partitions: Vec<i32> =
                    text.split_whitespace().map(|partition| partition.parse().unwrap()).collect();
                let (life, _) = self.lives[client.group];
                for partition in &partitions {
                    let key = (client.group.into(), life, client.generation, *partition);
                    let owner = self.owners.entry(key).or_insert_with(|| client.owner());
                    assert_eq!(*owner, client.owner(), "I12: {partition} has two owners");
                }
                client.phase = Phase::Owning(partitions);
            }
            Err(SyncGroupError::UnknownMemberId) => client.forget(),
            Err(SyncGroupError::IllegalGeneration { .. } | SyncGroupError::RebalanceInProgress) => {
                client.phase = Phase::Out;
            }
            Err(SyncGroupError::Coordinator(_)) => client.phase = Phase::Joined,
            Err(error) => panic!("{client:?}: {error}"),
        }
    }

    fn take_heartbeat(&mut self, number: usize, outcome: Result<(), HeartbeatError>) {
        let client = &mut self.clients[number];
        match outcome {
            Ok(()) | Err(HeartbeatError::Coordinator(_)) => {}
            Err(HeartbeatError::UnknownMemberId) => client.forget(),
            Err(HeartbeatError::IllegalGeneration { .. } | HeartbeatError::RebalanceInProgress) => {
                client.phase = Phase::Out;
            }
            Err(error) => panic!("{client:?}: {error}"),
        }
    }

    fn take_commit(
        &mut self,
        number: usize,
        ticket: Ticket,
        outcome: Result<(), OffsetCommitError>,
    ) {
        let client = &mut self.clients[number];
        let Some((partition, offset, generation)) = client.commits.remove(&ticket) else {
            return;
        };
        match outcome {
            Ok(()) => {
                let stored = self.world.generations_at[&ticket][client.group];
                assert_eq!(stored, generation, "D16: a commit of another generation");
                let key = (client.group, partition);
                let before = self.acknowledged.insert(key, offset).unwrap_or(0);
                assert!(before < offset, "commits are acknowledged in order");
            }
            Err(
                OffsetCommitError::Coordinator(_)
                | OffsetCommitError::UnknownMemberId
                | OffsetCommitError::IllegalGeneration { .. }
                | OffsetCommitError::RebalanceInProgress
                | OffsetCommitError::GroupIdNotFound { .. },
            ) => {}
            // Its instance came back under another id while the commit was on its way.
            Err(OffsetCommitError::FencedInstanceId) => {}
            Err(error) => panic!("{client:?}: {error}"),
        }
    }

    /// No more faults: everybody who lives must end up in one generation and stay in it.
    fn peace(&mut self) {
        for round in 0..60 {
            for number in 0..self.clients.len() {
                self.act(number);
                self.world.settle();
                self.look();
            }
            self.world.pass(1_000);
            self.world.settle();
            self.look();
            if round == 49 {
                self.assert_rest();
            }
        }
        let before = self.lives.clone();
        self.assert_rest();
        self.watch();
        assert_eq!(before, self.lives, "G49: a rebalance out of nowhere");
        assert_eq!(self.world.coordinator.totals().parked_count, 0);
    }

    fn assert_rest(&self) {
        for group in ["g", "h"] {
            let living = || {
                let clients = self.clients.iter();
                clients.filter(|client| client.group == group && client.phase != Phase::Dead)
            };
            let Some(first) = living().next() else { continue };
            let mut owned = Vec::new();
            for client in living() {
                let Phase::Owning(partitions) = &client.phase else { panic!("{client:?}") };
                assert_eq!(client.generation, first.generation);
                owned.extend(partitions.iter().copied());
            }
            owned.sort_unstable();
            assert_eq!(owned, (0..PARTITIONS).collect::<Vec<_>>(), "{group}");
            assert_eq!(self.world.state(group), Some(GroupState::Stable));
        }
    }

    fn finish(mut self) -> u64 {
        let at = self.random.below(self.world.log.len() + 1);
        self.world.crash(at);
        self.world.call(|coordinator, _, effects| coordinator.resign(effects));
        for ticket in (1..=self.world.tickets).map(Ticket) {
            let is_settled = self.lost.contains(&ticket) || !self.world.is_waiting(ticket);
            assert!(is_settled, "I-GRP-4: {ticket:?} is never answered");
        }
        let log: Vec<u8> = self.world.log.concat();
        u64::from(crc32c::crc32c(&log)) << 32 | self.world.log.len() as u64
    }
}

fn run(seed: u64) -> u64 {
    let mut model = Model::new(seed);
    for _ in 0..STEPS {
        model.step();
    }
    model.peace();
    model.finish()
}

#[test]
fn groups_survive_whatever_clients_and_coordinators_do() {
    let mut written = 0;
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| run(seed));
        written += outcome.unwrap_or_else(|_| panic!("seed {seed}")) & 0xffff_ffff;
    }
    assert!(written > SEEDS * 10, "the model has stopped doing anything");
}

#[test]
fn the_same_seed_writes_the_same_log() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
