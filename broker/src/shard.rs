//! The event loop of a shard: drains its inbox and the disk's answers, calls `Shard::step`,
//! performs the effects. It decides nothing.
//!
//! ```text
//!   doors ──Ask──> inbox ─┐                        ┌─> disk queue
//!   disk  ──Done────────> ├─> Shard::step ─effects ├─> views, directory
//!   peers ──Heard───────> │   Node::step           ├─> messages to peers
//!   clock ──────────────> ┘                        └─> replies
//! ```
//!
//! Invariants
//! - Every ask is answered once, or its caller sees the channel close when the node stops.
//! - Views are published before the replies of the same turn leave, and sleepers are woken once
//!   per turn.
//!
//! Absent on purpose: any rule about what an effect means.

mod advance;
mod disk_talk;
pub(crate) mod handing_over;

use crate::clock::Clock;
use crate::cluster::{Cluster, Heard};
use crate::disk_worker::{DiskQueue, Report};
use crate::engine::refused;
use crate::exit::{Exit, Failure};
use crate::follower_reads::{FollowerReads, Wanted};
use crate::partition::PartitionView;
use crate::peers::PeerEvent;
use crate::router::{DirectoryUpdate, Router};
use crate::scrub::DamageCounters;
use crate::telemetry;
use crate::trash::Trash;
use advance::Advance;
use bateau_core::consumer_group::{GroupQuery, GroupQueryResponse, GroupRequest, GroupResponse};
use bateau_core::controller::{ControllerError, ControllerRequest, ControllerResponse};
use bateau_core::node::{NodeEffect, NodeInput};
use bateau_core::replica::{NotLeading, Produce, ProduceAck, ProduceError};
use bateau_core::shard::{Effect, Effects, Input, Reply, Shard};
use bateau_core::ticket::Ticket;
use bateau_log::Done;
use bateau_protocol::ids::{Incarnation, NodeId};
use bateau_storage::Business;
use disk_talk::{changes_a_log, report_refusal};
use handing_over::hand_over_of;
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Asks that may wait for a shard before their callers wait.
pub const INBOX_ASKS_MAX: usize = 8_192;
/// Asks that one turn takes; the rest waits for the next one.
const TURN_ASKS_MAX: usize = 256;
/// Inputs of a turn after which no more is heard of peers.
const TURN_PEERS_MAX: usize = 1_024;
/// The longest sleep, in milliseconds: a day.
const WAIT_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

/// What the controller answers.
pub type ControllerResult = Result<ControllerResponse, ControllerError>;

/// What a door asks of a shard.
#[derive(Debug)]
pub enum Ask {
    /// Append a batch; `reply` is `None` for `acks=0`.
    Produce {
        /// To this partition.
        incarnation: Incarnation,
        /// The batch, without a ticket.
        produce: Produce,
        /// Where the answer goes.
        reply: Option<oneshot::Sender<Result<ProduceAck, ProduceError>>>,
    },
    /// Ask a group's coordinator.
    Group(GroupRequest, oneshot::Sender<GroupResponse>),
    /// Read about groups.
    GroupQuery(GroupQuery, oneshot::Sender<GroupQueryResponse>),
    /// Ask a majority whether this node leads a partition, and wait until everything that was
    /// committed by then is visible here.
    Confirm(Incarnation, oneshot::Sender<Result<(), NotLeading>>),
    /// Ask the controller.
    Controller(ControllerRequest, oneshot::Sender<ControllerResult>),
    /// Ask whoever leads a partition to hand that to the replica on a node.
    Transfer(Incarnation, NodeId),
    /// Give every leadership away that another node could have.
    Leave(oneshot::Sender<()>),
    /// Say that the loop turns: answered at the end of the turn that takes it.
    Probe(oneshot::Sender<()>),
    /// Move this node's clock, and answer when what became due is done.
    Advance(Duration, oneshot::Sender<()>),
}

/// Why a shard's loop ended.
#[derive(Debug)]
pub enum Ended {
    /// Nobody can ask any more.
    Stopped,
    /// The data directory failed, the metadata partition cannot go on, or the cluster refuses this
    /// node: the process must stop.
    Failed(Failure),
}

enum Waiter {
    Produce(oneshot::Sender<Result<ProduceAck, ProduceError>>),
    Group(oneshot::Sender<GroupResponse>),
    GroupQuery(oneshot::Sender<GroupQueryResponse>),
    Confirm(oneshot::Sender<Result<(), NotLeading>>),
    Leave(oneshot::Sender<()>),
    Controller(oneshot::Sender<ControllerResult>),
    /// This node's own brain, which has asked the controller here.
    Brain {
        number: u64,
    },
    /// The brain of another node.
    Peer {
        node: NodeId,
        number: u64,
    },
}

/// What a shard's loop is made of.
pub(crate) struct ShardParts {
    /// This node.
    pub node_id: NodeId,
    /// The shard.
    pub shard: Shard,
    /// The effects of its start.
    pub effects: Effects,
    /// Views of logs that were found or made and are not in the directory yet.
    pub opened: Vec<PartitionView>,
    /// The node's brain and its links.
    pub cluster: Cluster,
    /// Where views and metadata are published.
    pub router: Arc<Router>,
    /// What is to be written.
    pub disk: DiskQueue,
    /// Who reads what followers lack.
    pub reads: FollowerReads,
    /// Deleted logs.
    pub trash: Trash,
    /// Where what is mended is counted.
    pub damage: Arc<DamageCounters>,
    /// Between two looks at what retention allows to go.
    pub retention_check: Duration,
    /// This node's time.
    pub clock: Clock,
}

/// One shard and everything that it touches.
pub struct ShardLoop {
    node_id: NodeId,
    shard: Shard,
    cluster: Cluster,
    effects: Effects,
    router: Arc<Router>,
    disk: DiskQueue,
    reads: FollowerReads,
    waiters: Slab<Waiter>,
    /// Who wants to know that this turn ends.
    probes: Vec<oneshot::Sender<()>>,
    trash: Trash,
    damage: Arc<DamageCounters>,
    retention_check: Duration,
    next_retention_check: Instant,
    /// Views of logs that were found or made and are not in the directory yet.
    opened: Vec<PartitionView>,
    failure: Option<Failure>,
    clock: Clock,
    /// Advances that are asked for; the first one is under way.
    advances: VecDeque<Advance>,
    /// The disk has done all that an advance waited for.
    has_settled: bool,
    /// Requests to the disk that change a log or a state, since the start.
    changes_count: u64,
}

impl ShardLoop {
    /// A shard that has been started.
    #[must_use]
    pub(crate) fn new(parts: ShardParts) -> Self {
        let ShardParts { node_id, shard, effects, opened, cluster, router, disk, .. } = parts;
        let ShardParts { reads, trash, damage, retention_check, clock, .. } = parts;
        Self {
            node_id,
            shard,
            cluster,
            effects,
            router,
            disk,
            reads,
            waiters: Slab::new(),
            probes: Vec::new(),
            trash,
            damage,
            retention_check,
            next_retention_check: Instant::now() + retention_check,
            opened,
            failure: None,
            clock,
            advances: VecDeque::new(),
            has_settled: false,
            changes_count: 0,
        }
    }

    /// Runs until it is told to stop, or something fails that stops the node.
    pub async fn run(
        mut self,
        mut asks: mpsc::Receiver<Ask>,
        mut disk_reports: mpsc::UnboundedReceiver<Report>,
        mut stop: oneshot::Receiver<()>,
    ) -> Ended {
        self.perform();
        let mut taken = Vec::with_capacity(TURN_ASKS_MAX);
        let mut inputs = Vec::new();
        loop {
            let next_wake = self.next_wake();
            tokio::select! {
                count = asks.recv_many(&mut taken, TURN_ASKS_MAX) => {
                    if count == 0 {
                        return Ended::Stopped;
                    }
                }
                report = disk_reports.recv() => match report {
                    Some(Report::Failed(failed)) => return broken(failed.to_string()),
                    Some(report) => self.hear(report, &mut inputs),
                    None => return broken("the disk thread has ended"),
                },
                event = self.cluster.next_event() => self.hear_peer(event, &mut inputs),
                found = self.reads.next() => inputs.push(found),
                () = tokio::time::sleep_until(next_wake) => {}
                _ = &mut stop => return Ended::Stopped,
            }
            // Whatever else has arrived meanwhile belongs to this turn.
            while let Ok(report) = disk_reports.try_recv() {
                match report {
                    Report::Failed(failed) => return broken(failed.to_string()),
                    report => self.hear(report, &mut inputs),
                }
            }
            while inputs.len() < TURN_PEERS_MAX
                && let Some(event) = self.cluster.try_next_event()
            {
                self.hear_peer(event, &mut inputs);
            }
            while taken.len() < TURN_ASKS_MAX
                && let Ok(ask) = asks.try_recv()
            {
                taken.push(ask);
            }
            for ask in taken.drain(..) {
                self.admit(ask, &mut inputs);
            }
            if Instant::now() >= self.next_retention_check {
                self.look_at_retention(&mut inputs);
            }
            self.step(&mut inputs);
            for probe in self.probes.drain(..) {
                let _ = probe.send(());
            }
            self.go_on_advancing(&mut inputs);
            if let Some(failure) = self.failure.take() {
                return Ended::Failed(failure);
            }
        }
    }

    /// One turn of shard and brain, until neither has anything for the other.
    fn step(&mut self, inputs: &mut Vec<Input>) {
        loop {
            self.shard.step(self.clock.now(), inputs.drain(..), &mut self.effects);
            self.perform();
            if self.cluster.is_due(self.clock.now()) {
                self.let_brain_decide(inputs);
            }
            for node in self.cluster.peers().flush() {
                inputs.push(Input::Unreachable { node });
            }
            if inputs.is_empty() {
                return;
            }
        }
    }

    fn next_wake(&self) -> Instant {
        let now = self.clock.now();
        let wait_ms = self.shard.wait_ms(now).min(self.cluster.wait_ms(now)).min(WAIT_MS_MAX);
        (Instant::now() + Duration::from_millis(wait_ms)).min(self.next_retention_check)
    }

    fn hear_peer(&mut self, event: PeerEvent, inputs: &mut Vec<Input>) {
        match self.cluster.hear(event) {
            Heard::Raft { node, messages } => {
                inputs.extend(messages.into_iter().map(|message| Input::Peer { node, message }));
            }
            Heard::Shard(input) => inputs.push(input),
            Heard::Request { node, number, request } => match hand_over_of(&request) {
                Some(input) => inputs.push(input),
                None => {
                    let ticket = self.ticket(Waiter::Peer { node, number });
                    inputs.push(Input::Controller { request, ticket });
                }
            },
            Heard::Nothing => {}
        }
    }

    fn let_brain_decide(&mut self, inputs: &mut Vec<Input>) {
        let mut update = self.router.update();
        for effect in self.cluster.step(self.clock.now()) {
            match effect {
                NodeEffect::Lost { node } => inputs.push(Input::PeerLost { node }),
                NodeEffect::PeerStopped { node, stopped } => {
                    inputs.push(Input::PeerStopped { node, stopped });
                }
                NodeEffect::GiveWay(nodes) => inputs.push(Input::GiveWay(nodes)),
                NodeEffect::Decide { number, request } => {
                    let ticket = self.ticket(Waiter::Brain { number });
                    inputs.push(Input::Controller { request, ticket });
                }
                NodeEffect::Reply { ticket, response } => {
                    self.reply(ticket, Reply::Controller(response));
                }
                NodeEffect::Stop(refusal) => self.failure = Some(refused(&refusal)),
                NodeEffect::Lives(live) => {
                    update.set_live(live.clone());
                    inputs.push(Input::Lives(live));
                }
                NodeEffect::NotePeer { node, start } => {
                    self.disk.push(bateau_storage::note_peer(node, start));
                }
                NodeEffect::LeaderElsewhere { incarnation, leader } => {
                    update.set_leader_elsewhere(incarnation, leader);
                    inputs.extend(leader.map(|(node, term)| Input::Leads {
                        incarnation,
                        node,
                        term,
                    }));
                }
                // What concerns links is done, and a founding is over before there is a shard.
                NodeEffect::Dial { .. }
                | NodeEffect::HangUp { .. }
                | NodeEffect::Answer { .. }
                | NodeEffect::Close { .. }
                | NodeEffect::Send { .. }
                | NodeEffect::Request { .. }
                | NodeEffect::Announce { .. }
                | NodeEffect::Found { .. }
                | NodeEffect::Join { .. } => {}
            }
        }
        self.router.publish(update);
    }

    fn ticket(&mut self, waiter: Waiter) -> Ticket {
        Ticket(self.waiters.insert(waiter) as u64)
    }

    /// Offers every log's segments to its replica, which knows what may go, and looks after the
    /// trash.
    fn look_at_retention(&mut self, inputs: &mut Vec<Input>) {
        self.next_retention_check = Instant::now() + self.retention_check;
        for view in self.router.directory().views() {
            let segments = bateau_storage::segments(view.reader());
            if segments.sealed.is_empty() && segments.active.is_none() {
                continue;
            }
            inputs.push(Input::Segments { incarnation: view.incarnation(), segments });
        }
        for work in self.trash.due(self.clock.wall_ms()) {
            self.disk.push(work);
        }
    }

    fn hear(&mut self, report: Report, inputs: &mut Vec<Input>) {
        let Report::Done(done) = report else {
            self.has_settled = true;
            return;
        };
        for done in done {
            self.trash.hear(&done);
            if let Done::Space(space) = &done {
                self.router.set_space(*space);
            }
            if let Some(input) = bateau_storage::told_by_disk(&done) {
                self.cluster.tell(input);
            }
            report_refusal(&done);
            self.damage.note(&done);
            inputs.extend(bateau_storage::answer(&done));
            if let Done::Created { incarnation, reader, .. } = done {
                self.opened.push(PartitionView::new(incarnation, reader));
            }
        }
    }

    /// Performs the effects of a turn.
    fn perform(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        let mut update = self.router.update();
        for view in self.opened.drain(..) {
            update.insert(Arc::new(view));
        }
        let mut turn =
            Turn { node_id: self.node_id, update, woken: BTreeMap::new(), replies: Vec::new() };
        for effect in effects.drain() {
            self.perform_one(effect, &mut turn);
        }
        self.effects = effects;
        self.router.publish(turn.update);
        for view in turn.woken.into_values() {
            view.wake();
        }
        for (ticket, reply) in turn.replies {
            self.reply(ticket, reply);
        }
    }

    fn perform_one(&mut self, effect: Effect, turn: &mut Turn) {
        turn.note(&effect);
        if let Some(input) = bateau_storage::told_by_shard(&effect) {
            self.cluster.tell(input);
        }
        match bateau_storage::work(effect, self.clock.wall_ms()) {
            Business::Disk(work) => {
                self.changes_count += u64::from(changes_a_log(&work));
                self.disk.push(work);
            }
            Business::Other(Effect::Isolated { incarnation, reason, .. }) => {
                self.isolate(incarnation, &reason);
            }
            Business::Other(Effect::GivesWay(unfit)) => telemetry::report_fitness(unfit),
            Business::Other(Effect::Metadata(metadata)) => turn.update.set_metadata(metadata),
            Business::Other(Effect::Send { node, message }) => {
                self.cluster.peers().gather(node, message);
            }
            Business::Other(Effect::SendSnapshot(snapshot)) => {
                self.cluster.peers().send_snapshot(*snapshot);
            }
            Business::Other(Effect::ReadFrames { incarnation, fetch, first, last, bytes_max }) => {
                if let Some(view) = turn.update.view(incarnation) {
                    let reader = view.reader().clone();
                    let wanted = Wanted { incarnation, fetch, first, last, bytes_max };
                    self.reads.ask(reader, wanted);
                }
            }
            Business::Other(Effect::Reply(ticket, reply)) => turn.replies.push((ticket, reply)),
            Business::Other(other) => {
                if let Some(letter) = bateau_storage::mending_letter(other) {
                    self.cluster.peers().send(letter);
                }
            }
        }
    }

    fn isolate(&mut self, incarnation: Incarnation, reason: &str) {
        tracing::error!(incarnation = incarnation.get(), reason, "a partition is out of service");
        if incarnation == Incarnation::METADATA {
            let message = format!("the metadata partition cannot go on: {reason}");
            self.failure = Some(Failure::new(Exit::Failed, message));
        }
    }

    /// Gives an ask its ticket; a probe needs none.
    fn admit(&mut self, ask: Ask, inputs: &mut Vec<Input>) {
        inputs.push(match ask {
            Ask::Produce { incarnation, produce, reply } => {
                let ticket = reply.map(|sender| self.ticket(Waiter::Produce(sender)));
                Input::Produce { incarnation, produce: Produce { ticket, ..produce } }
            }
            Ask::Group(request, sender) => {
                Input::Group { request, ticket: self.ticket(Waiter::Group(sender)) }
            }
            Ask::GroupQuery(query, sender) => {
                Input::GroupQuery { query, ticket: self.ticket(Waiter::GroupQuery(sender)) }
            }
            Ask::Confirm(incarnation, sender) => {
                Input::Confirm { incarnation, ticket: self.ticket(Waiter::Confirm(sender)) }
            }
            Ask::Transfer(incarnation, node) => {
                return self.ask_to_hand_over(incarnation, node, inputs);
            }
            Ask::Leave(sender) => Input::Leave { ticket: self.ticket(Waiter::Leave(sender)) },
            Ask::Controller(request, sender) => {
                let ticket = self.ticket(Waiter::Controller(sender));
                return self.cluster.tell(NodeInput::Ask { request, ticket });
            }
            Ask::Probe(sender) => return self.probes.push(sender),
            Ask::Advance(by, reply) => return self.queue_advance(by, reply),
        });
    }

    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        let key = usize::try_from(ticket.0).unwrap_or(usize::MAX);
        let Some(waiter) = self.waiters.try_remove(key) else { return };
        // A caller that has gone away does not want its answer.
        match (waiter, reply) {
            (Waiter::Produce(sender), Reply::Produce(reply)) => drop(sender.send(reply)),
            (Waiter::Group(sender), Reply::Group(reply)) => drop(sender.send(reply)),
            (Waiter::GroupQuery(sender), Reply::GroupQuery(reply)) => drop(sender.send(reply)),
            (Waiter::Confirm(sender), Reply::Confirmed(reply)) => drop(sender.send(reply)),
            (Waiter::Leave(sender), Reply::Left) => drop(sender.send(())),
            (Waiter::Controller(sender), Reply::Controller(reply)) => drop(sender.send(reply)),
            (Waiter::Brain { number }, Reply::Controller(response)) => {
                self.cluster.tell(NodeInput::Answered { number, response });
            }
            (Waiter::Peer { node, number }, Reply::Controller(reply)) => {
                self.cluster.peers().answer(node, number, &reply);
            }
            (_, reply) => unreachable!("ticket {ticket:?} got the answer of another: {reply:?}"),
        }
    }
}

/// What one turn has changed outside the shard.
struct Turn {
    node_id: NodeId,
    update: DirectoryUpdate,
    woken: BTreeMap<Incarnation, Arc<PartitionView>>,
    replies: Vec<(Ticket, Reply)>,
}

impl Turn {
    /// Shows readers what an effect means to them.
    fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::Delete { incarnation, .. } | Effect::Quarantine { incarnation } => {
                if let Some(view) = self.update.remove(*incarnation) {
                    view.set_unavailable();
                    self.woken.insert(*incarnation, view);
                }
            }
            Effect::Configure { incarnation, config } => {
                if let Some(view) = self.update.view(*incarnation) {
                    view.set_config(config.clone());
                }
            }
            Effect::Committed { incarnation, commit, high_watermark } => {
                self.change(*incarnation, |view| view.set_committed(*commit, *high_watermark));
            }
            Effect::Leads { incarnation, term } => {
                let leader = (self.node_id, *term);
                self.change(*incarnation, |view| {
                    view.set_leader_term(Some(*term));
                    view.set_leader(Some(leader));
                });
                self.update.touch();
            }
            // This node is named once it admits requests.
            Effect::LeaderChanged { leader, .. } if *leader == Some(self.node_id) => {}
            Effect::LeaderChanged { incarnation, leader, term } => {
                let leader = leader.map(|node| (node, *term));
                self.change(*incarnation, |view| view.set_leader(leader));
                self.update.touch();
            }
            Effect::Deposed { incarnation, .. } => {
                self.change(*incarnation, |view| {
                    view.set_leader_term(None);
                    view.set_leader(None);
                });
                self.update.touch();
            }
            Effect::Isolated { incarnation, .. } => {
                self.change(*incarnation, PartitionView::set_unavailable);
                self.update.touch();
            }
            _ => {}
        }
    }

    fn change(&mut self, incarnation: Incarnation, change: impl FnOnce(&PartitionView)) {
        if let Some(view) = self.update.view(incarnation) {
            change(view);
            self.woken.insert(incarnation, Arc::clone(view));
        }
    }
}

fn broken(reason: impl Into<String>) -> Ended {
    Ended::Failed(Failure::new(Exit::Failed, reason))
}
