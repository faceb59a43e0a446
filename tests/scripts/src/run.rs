//! Commands of a script, carried out on a world.
//!
//! | command | does |
//! |---|---|
//! | `+ command …` | puts the command into the inbox; `turn` takes a turn over the inbox |
//! | `given command …` | carries it out, flushes, and prints nothing of it |
//! | `topic`, `delete-topic`, `auto-create`, `alter`, `producer-ids` | ask the controller |
//! | `create-partitions TOPIC total=N validate=true` | asks the controller too |
//! | `produce LOG "text"` | asks a partition; `producer epoch seq count bytes timeout acks age` |
//! | `join`, `sync`, `heartbeat`, `leave`, `commit`, `fetch-offsets`, … | ask a group |
//! | `list-groups`, `describe-groups GROUP…`, `group-totals` | ask all coordinators |
//! | `flush [LOG or one]` | the disk does what it was asked to do, until it is idle |
//! | `refuse`, `accept` `LOG`, `creation` or `state-files` | how the disk answers from now on |
//! | `disk full`, `disk ok`, `advance TIME`, `wall TIME` | what the world does |
//! | `stop [keep=N votes=lost others=lost]`, `start`, `crash` (both) | the process |
//! | `roll LOG`, `retention`, `damage LOG behind=N`, `garble LOG KIND` | what happens to logs |
//! | `persisted LOG ready=N` | an answer of the disk that nobody asked for |
//! | `describe LOG`, `waiting`, `show LOG` | looks |
//!
//! Absent on purpose: conditions and loops. Random runs are written in Rust.

use crate::command::{Command, milliseconds};
use crate::disk::Survivors;
use crate::groups::Clients;
use crate::render::Renderer;
use crate::world::{Asked, NODE, Shown, World, WorldSettings};
use bateau_core::consumer_group::{GroupQuery, partition_of};
use bateau_core::controller::{
    AlterTopicConfigs, ControllerRequest, CreatePartitions, CreateTopics, NewTopic, TopicReference,
};
use bateau_core::replica::Produce;
use bateau_core::shard::{Input, Reply};
use bateau_core::ticket::Ticket;
use bateau_protocol::frame::FrameKind;
use bateau_protocol::ids::{Incarnation, LogIndex, TopicId};
use bateau_protocol::record::{BatchBuilder, BatchHeader, NewRecord, ProducerSequence};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Milliseconds that a request waits where a script says nothing.
const TIMEOUT_MS: u64 = 30_000;

pub(crate) struct Runner {
    world: Option<World>,
    settings: WorldSettings,
    clients: Clients,
    /// Batches by log, producer, epoch, sequence and text: a retry sends the same bytes.
    sent: BTreeMap<(Incarnation, String), Bytes>,
    memory: Option<crate::world::Memory>,
    /// Internal logs that are printed.
    shows: BTreeSet<Incarnation>,
    lines: Vec<String>,
}

impl Runner {
    pub fn new() -> Self {
        Self {
            world: None,
            settings: WorldSettings::default(),
            clients: Clients::default(),
            sent: BTreeMap::new(),
            memory: None,
            shows: BTreeSet::new(),
            lines: Vec::new(),
        }
    }

    /// Runs a block and returns what it printed.
    pub fn run(&mut self, commands: &[String]) -> Vec<String> {
        for line in commands {
            if !line.is_empty() && !line.starts_with('#') {
                self.run_line(line);
            }
        }
        std::mem::take(&mut self.lines)
    }

    /// A script ends with a restart that must find everything that was acknowledged.
    pub fn finish(&mut self) {
        let world = self.world();
        if world.shard.is_some() {
            world.crash(Survivors::default());
        }
    }

    fn world(&mut self) -> &mut World {
        self.world.get_or_insert_with(|| World::new(self.settings.clone()))
    }

    fn run_line(&mut self, line: &str) {
        if let Some(given) = line.strip_prefix("given ") {
            let printed = self.lines.len();
            self.run_line(given);
            self.world().flush();
            self.print();
            self.lines.truncate(printed);
            return;
        }
        let (takes_turn, line) = match line.strip_prefix("+ ") {
            Some(rest) => (false, rest),
            None => (true, line),
        };
        let mut command = Command::parse(line);
        if command.name == "settings" {
            self.set(&mut command);
        } else if let Some(input) = self.input(&mut command) {
            self.world().put(input);
            if takes_turn {
                self.world().turn();
            }
        } else {
            self.act(&mut command);
        }
        command.finish();
        self.print();
    }

    fn set(&mut self, command: &mut Command) {
        assert!(self.world.is_none(), "settings come first");
        let (groups, broker) = (&mut self.settings.groups, &mut self.settings.broker);
        if let Some(delay_ms) = command.take_ms("initial_rebalance_delay") {
            groups.initial_rebalance_delay_ms = delay_ms;
        }
        if let Some(retention_ms) = command.take_ms("offsets_retention") {
            groups.offsets_retention_ms = retention_ms;
        }
        if let Some(auto_create) = command.take("auto_create") {
            broker.auto_create = auto_create;
        }
        if let Some(count) = command.take("partitions_default") {
            broker.partitions_default = count;
        }
        if let Some(count) = command.take("min_insync_replicas") {
            broker.min_insync_replicas = Some(count);
        }
    }

    /// The input that a command stands for, if it stands for one.
    fn input(&mut self, command: &mut Command) -> Option<Input> {
        match command.name.as_str() {
            "produce" => Some(self.produce(command)),
            "topic" | "delete-topic" | "auto-create" | "alter" | "create-partitions"
            | "producer-ids" => {
                let request = controller_request(command);
                let ticket = self.world().ticket(Asked::Controller);
                Some(Input::Controller { request, ticket })
            }
            "join" | "sync" | "heartbeat" | "leave" | "commit" | "fetch-offsets"
            | "delete-group" => Some(self.group(command)),
            "list-groups" | "describe-groups" | "group-totals" => {
                let query = group_query(command);
                let ticket = self.world().ticket(Asked::GroupQuery);
                Some(Input::GroupQuery { query, ticket })
            }
            "disk" => Some(Input::DiskFull(match command.argument(0) {
                "full" => true,
                "ok" => false,
                other => panic!("the disk is full or ok, not {other}"),
            })),
            "persisted" => {
                let incarnation = self.log(command.argument(0));
                let ready = command.take("ready").expect("ready=…");
                Some(Input::Persisted { incarnation, ready })
            }
            _ => None,
        }
    }

    /// The log of a name such as `orders/0`, or the one in which a group lives: `group:NAME`.
    fn log(&mut self, name: &str) -> Incarnation {
        let home = name.strip_prefix("group:").map(|id| format!("group/{}", partition_of(id)));
        let found = self.world().log_of(home.as_deref().unwrap_or(name));
        found.unwrap_or_else(|| panic!("there is no log {name}"))
    }

    fn produce(&mut self, command: &mut Command) -> Input {
        let incarnation = self.log(command.argument(0));
        let now = self.world().now();
        let timeout_ms = command.take_ms("timeout").unwrap_or(TIMEOUT_MS);
        let wants_reply = command.take("acks") != Some(0);
        let what = format!("{command:?}");
        let built = batch(command, now.wall_ms);
        let header = BatchHeader::parse(&built).unwrap();
        let batch = if header.has_producer() {
            self.sent.entry((incarnation, what)).or_insert(built).clone()
        } else {
            built
        };
        let asked = Asked::Produce(incarnation, batch.clone());
        let produce = Produce {
            record_count: u32::try_from(header.record_count).unwrap(),
            producer: ProducerSequence::of(&header),
            ticket: wants_reply.then(|| self.world().ticket(asked)),
            deadline_ms: now.monotonic_ms + timeout_ms,
            batch,
        };
        Input::Produce { incarnation, produce }
    }

    fn group(&mut self, command: &mut Command) -> Input {
        let world = self.world.get_or_insert_with(|| World::new(self.settings.clone()));
        let id = |name: &str| {
            let topic = world.metadata().and_then(|metadata| metadata.topic(name));
            topic.map_or(TopicId::ZERO, |topic| topic.id)
        };
        let (request, member) = self.clients.request(command, id);
        let ticket = world.ticket(Asked::Group(member));
        Input::Group { request, ticket }
    }

    fn act(&mut self, command: &mut Command) {
        match command.name.as_str() {
            "turn" => self.world().turn(),
            "flush" => match command.arguments.first().map(String::as_str) {
                None => self.world().flush(),
                Some("one") => self.world().flush_one(),
                Some(name) => {
                    let log = self.log(name);
                    self.world().flush_log(log);
                }
            },
            "refuse" => self.refuse(command.argument(0), true),
            "accept" => self.refuse(command.argument(0), false),
            "advance" => self.world().advance(milliseconds(command.argument(0))),
            "wall" => {
                let by_ms = milliseconds(command.argument(0));
                let wall_ms = self.world().now().wall_ms;
                self.world().set_wall_ms(wall_ms + by_ms);
            }
            "crash" => {
                let survivors = survivors(command);
                self.world().crash(survivors);
            }
            "stop" => {
                let survivors = survivors(command);
                self.memory = Some(self.world().stop(survivors));
            }
            "start" => self.start(),
            "roll" => {
                let log = self.log(command.argument(0));
                self.world().disk.log_mut(log).unwrap().roll();
            }
            "retention" => self.retention(),
            "damage" => {
                let log = self.log(command.argument(0));
                let behind = LogIndex::new(command.take("behind").expect("behind=…"));
                self.world().damage(log, behind);
                self.memory = None;
            }
            "garble" => {
                let kind = match command.argument(1) {
                    "records" => FrameKind::Records,
                    "command" => FrameKind::Command,
                    "trim" => FrameKind::Trim,
                    other => panic!("{other} is not garbled"),
                };
                let log = self.log(command.argument(0));
                self.world().disk.log_mut(log).unwrap().garble(kind);
                self.memory = None;
            }
            "describe" => self.describe(command.argument(0)),
            "waiting" => {
                let waiting = self.world().waiting();
                let line: String = waiting.map(|Ticket(number)| format!(" #{number}")).collect();
                self.lines.push(format!("waiting:{line}"));
            }
            "show" => {
                let log = self.log(command.argument(0));
                self.shows.insert(log);
            }
            other => panic!("{other} is no command"),
        }
    }

    fn refuse(&mut self, what: &str, refuses: bool) {
        match what {
            "creation" => self.world().disk.set_refuses_creation(refuses),
            "state-files" => self.world().disk.set_refuses_state_files(refuses),
            name => {
                let log = self.log(name);
                self.world().disk.set_refused(log, refuses);
            }
        }
    }

    fn start(&mut self) {
        if let Err(error) = self.world().start() {
            self.lines.push(format!("refuses to start: {error}"));
        } else if let Some(memory) = self.memory.take() {
            self.world().compare(&memory);
        }
    }

    /// Offers closed segments to the replicas, as the shell does it from time to time.
    fn retention(&mut self) {
        let world = self.world();
        let offers: Vec<Input> = world
            .disk
            .logs()
            .filter_map(|(incarnation, log)| {
                let segments = log.segments();
                let has_any = !segments.sealed.is_empty() || segments.active.is_some();
                has_any.then_some(Input::Segments { incarnation, segments })
            })
            .collect();
        offers.into_iter().for_each(|offer| world.put(offer));
        world.turn();
    }

    fn describe(&mut self, name: &str) {
        let log = self.log(name);
        let world = self.world();
        let disk = world.disk.log(log);
        let flushed = disk.map_or("gone".to_owned(), |log| {
            let first = log.frames().next().map_or(LogIndex::ZERO, |frame| frame.index);
            format!("{first}-{}", log.last_index())
        });
        let line = match world.replica(log) {
            None => format!("{name} out of service, on disk {flushed}"),
            Some(replica) => {
                let role = if replica.is_leader() { "leader" } else { "no leader" };
                let (term, applied) = (replica.term(), replica.applied());
                let (start, end) = (replica.log_start().offset, replica.high_watermark());
                let producers = replica.derived().producers().map_or(0, |known| known.len());
                format!(
                    "{name} {role} term={term} applied={applied} offsets={start}..{end} \
                     producers={producers} on disk {flushed}"
                )
            }
        };
        self.lines.push(line);
    }

    fn print(&mut self) {
        let Some(world) = &mut self.world else { return };
        let shown = std::mem::take(&mut world.shown);
        let mut renderer = Renderer { names: &mut world.names, shows: &self.shows };
        for shown in &shown {
            if let Shown::Answer(answer) = shown
                && let (Asked::Group(Some(name)), Reply::Group(response)) =
                    (&answer.asked, &answer.reply)
            {
                self.clients.hear(name, response);
            }
            self.lines.extend(renderer.line(shown));
        }
    }
}

fn batch(command: &mut Command, wall_ms: u64) -> Bytes {
    let age_ms = command.take_ms("age").unwrap_or(0);
    let timestamp = i64::try_from(wall_ms - age_ms).unwrap();
    let text = command.take_bytes("bytes").map(|length| "x".repeat(length));
    let text = text.unwrap_or_else(|| command.argument(1).to_owned());
    let mut builder = BatchBuilder::new();
    if let Some(id) = command.take("producer") {
        let epoch = command.take("epoch").unwrap_or(0);
        builder = builder.producer(id, epoch, command.take("seq").expect("seq=…"));
    }
    for _ in 0..command.take("count").unwrap_or(1) {
        let value = Some(text.as_bytes());
        builder.push(&NewRecord { timestamp, key: None, value, headers: &[] }).unwrap();
    }
    builder.build().unwrap()
}

fn survivors(command: &mut Command) -> Survivors {
    Survivors {
        frame_count: command.take("keep").unwrap_or(0),
        votes_are_lost: command.take::<String>("votes").is_some_and(|what| what == "lost"),
        other_work_is_lost: command.take::<String>("others").is_some_and(|what| what == "lost"),
    }
}

fn controller_request(command: &mut Command) -> ControllerRequest {
    let timeout_ms = command.take_ms("timeout").unwrap_or(TIMEOUT_MS);
    let name = command.arguments.first().cloned().unwrap_or_default();
    let configs = |command: &mut Command| {
        let rest = command.take_rest().into_iter();
        rest.map(|(key, value)| (key, Some(value))).collect()
    };
    match command.name.as_str() {
        "topic" => {
            let partition_count = command.take("partitions").unwrap_or(1);
            let configs = configs(command);
            let replication_factor = -1;
            let topic = NewTopic {
                name,
                partition_count,
                replication_factor,
                configs,
                ..NewTopic::default()
            };
            let topics = vec![topic];
            ControllerRequest::CreateTopics(CreateTopics {
                topics,
                timeout_ms,
                ..CreateTopics::default()
            })
        }
        "delete-topic" => {
            let topic = TopicReference { name: Some(name), id: TopicId::ZERO };
            ControllerRequest::DeleteTopics { topics: vec![topic], timeout_ms }
        }
        "auto-create" => {
            ControllerRequest::AutoCreateTopics { names: command.arguments.clone(), timeout_ms }
        }
        "alter" => {
            let (topic, changes) = (name, configs(command));
            let alter = AlterTopicConfigs { topic, changes, timeout_ms, ..Default::default() };
            ControllerRequest::AlterTopicConfigs(alter)
        }
        "create-partitions" => ControllerRequest::CreatePartitions(CreatePartitions {
            topic: name,
            partition_count: command.take("total").expect("total=…"),
            validate_only: command.take("validate").unwrap_or(false),
            timeout_ms,
        }),
        _ => ControllerRequest::AllocateProducerIds { node: NODE, timeout_ms },
    }
}

fn group_query(command: &Command) -> GroupQuery {
    match command.name.as_str() {
        "list-groups" => GroupQuery::List,
        "group-totals" => GroupQuery::Totals,
        _ => GroupQuery::Describe(command.arguments.iter().map(|id| id.as_str().into()).collect()),
    }
}
