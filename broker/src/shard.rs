//! The event loop of a shard: drains its inbox and the disk's answers, calls `Shard::step`,
//! performs the effects. It decides nothing.
//!
//! ```text
//!   doors ──Ask──> inbox ─┐                        ┌─> disk queue
//!   disk  ──Done────────> ├─> Shard::step ─effects ├─> views, directory
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

use crate::clock::Clock;
use crate::disk_worker::{DiskQueue, Report};
use crate::partition::PartitionView;
use crate::router::{DirectoryUpdate, Router};
use crate::trash::Trash;
use advance::Advance;
use bateau_core::consumer_group::{GroupQuery, GroupQueryResponse, GroupRequest, GroupResponse};
use bateau_core::controller::{ControllerError, ControllerRequest, ControllerResponse};
use bateau_core::replica::{Produce, ProduceAck, ProduceError};
use bateau_core::shard::{Effect, Effects, Input, Reply, Shard};
use bateau_core::ticket::Ticket;
use bateau_log::{Done, Work};
use bateau_protocol::ids::Incarnation;
use bateau_storage::Business;
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
    /// Ask the controller.
    Controller(ControllerRequest, oneshot::Sender<ControllerResult>),
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
    /// The data directory failed or the metadata partition cannot go on: the process must stop.
    Failed(String),
}

enum Waiter {
    Produce(oneshot::Sender<Result<ProduceAck, ProduceError>>),
    Group(oneshot::Sender<GroupResponse>),
    GroupQuery(oneshot::Sender<GroupQueryResponse>),
    Controller(oneshot::Sender<ControllerResult>),
}

/// One shard and everything that it touches.
pub struct ShardLoop {
    shard: Shard,
    effects: Effects,
    router: Arc<Router>,
    disk: DiskQueue,
    waiters: Slab<Waiter>,
    /// Who wants to know that this turn ends.
    probes: Vec<oneshot::Sender<()>>,
    trash: Trash,
    retention_check: Duration,
    next_retention_check: Instant,
    /// Views of logs that were found or made and are not in the directory yet.
    opened: Vec<PartitionView>,
    failure: Option<String>,
    clock: Clock,
    /// Advances that are asked for; the first one is under way.
    advances: VecDeque<Advance>,
    /// The disk has done all that an advance waited for.
    has_settled: bool,
    /// Requests to the disk that change a log or a state, since the start.
    changes_count: u64,
}

impl ShardLoop {
    /// A shard that has been started, with the effects of its start and the views of its logs.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "one call, in the engine")]
    pub fn new(
        shard: Shard,
        effects: Effects,
        opened: Vec<PartitionView>,
        router: Arc<Router>,
        disk: DiskQueue,
        trash: Trash,
        retention_check: Duration,
        clock: Clock,
    ) -> Self {
        Self {
            shard,
            effects,
            router,
            disk,
            waiters: Slab::new(),
            probes: Vec::new(),
            trash,
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
            tokio::select! {
                count = asks.recv_many(&mut taken, TURN_ASKS_MAX) => {
                    if count == 0 {
                        return Ended::Stopped;
                    }
                }
                report = disk_reports.recv() => match report {
                    Some(Report::Failed(failed)) => return Ended::Failed(failed.to_string()),
                    Some(report) => self.hear(report, &mut inputs),
                    None => return Ended::Failed("the disk thread has ended".to_owned()),
                },
                () = tokio::time::sleep_until(self.next_wake()) => {}
                _ = &mut stop => return Ended::Stopped,
            }
            // Whatever else has arrived meanwhile belongs to this turn.
            while let Ok(report) = disk_reports.try_recv() {
                match report {
                    Report::Failed(failed) => return Ended::Failed(failed.to_string()),
                    report => self.hear(report, &mut inputs),
                }
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
            if let Some(reason) = self.failure.take() {
                return Ended::Failed(reason);
            }
        }
    }

    fn step(&mut self, inputs: &mut Vec<Input>) {
        self.shard.step(self.clock.now(), inputs.drain(..), &mut self.effects);
        self.perform();
    }

    fn next_wake(&self) -> Instant {
        let wait_ms = self.shard.wait_ms(self.clock.now());
        (Instant::now() + Duration::from_millis(wait_ms)).min(self.next_retention_check)
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
        if let Some(request) = self.trash.confirmation() {
            // Nobody waits for the answer.
            let (sender, _) = oneshot::channel();
            self.admit(Ask::Controller(request, sender), inputs);
        }
        if let Some(work) = self.trash.due(self.clock.wall_ms()) {
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
            report_refusal(&done);
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
        let mut turn = Turn { update, woken: BTreeMap::new(), replies: Vec::new() };
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
        match bateau_storage::work(effect, self.clock.wall_ms()) {
            Business::Disk(work) => {
                self.changes_count += u64::from(changes_a_log(&work));
                self.disk.push(work);
            }
            Business::Other(Effect::Isolated { incarnation, reason }) => {
                self.isolate(incarnation, &reason);
            }
            Business::Other(Effect::Metadata(metadata)) => turn.update.set_metadata(metadata),
            Business::Other(Effect::Reply(ticket, reply)) => turn.replies.push((ticket, reply)),
            Business::Other(_) => {}
        }
    }

    fn isolate(&mut self, incarnation: Incarnation, reason: &str) {
        tracing::error!(incarnation = incarnation.get(), reason, "a partition is out of service");
        if incarnation == Incarnation::METADATA {
            self.failure = Some(format!("the metadata partition cannot go on: {reason}"));
        }
    }

    /// Gives an ask its ticket; a probe needs none.
    fn admit(&mut self, ask: Ask, inputs: &mut Vec<Input>) {
        let mut ticket = |waiter| Ticket(self.waiters.insert(waiter) as u64);
        inputs.push(match ask {
            Ask::Produce { incarnation, produce, reply } => {
                let ticket = reply.map(|sender| ticket(Waiter::Produce(sender)));
                Input::Produce { incarnation, produce: Produce { ticket, ..produce } }
            }
            Ask::Group(request, sender) => {
                Input::Group { request, ticket: ticket(Waiter::Group(sender)) }
            }
            Ask::GroupQuery(query, sender) => {
                Input::GroupQuery { query, ticket: ticket(Waiter::GroupQuery(sender)) }
            }
            Ask::Controller(request, sender) => {
                Input::Controller { request, ticket: ticket(Waiter::Controller(sender)) }
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
            (Waiter::Controller(sender), Reply::Controller(reply)) => drop(sender.send(reply)),
            (_, reply) => unreachable!("ticket {ticket:?} got the answer of another: {reply:?}"),
        }
    }
}

/// What one turn has changed outside the shard.
struct Turn {
    update: DirectoryUpdate,
    woken: BTreeMap<Incarnation, Arc<PartitionView>>,
    replies: Vec<(Ticket, Reply)>,
}

impl Turn {
    /// Shows readers what an effect means to them.
    fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::Delete { incarnation } => {
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
            Effect::Committed { incarnation, high_watermark, .. } => {
                self.change(*incarnation, |view| view.set_high_watermark(*high_watermark));
            }
            Effect::Leads { incarnation, term } => {
                self.change(*incarnation, |view| view.set_leader_term(Some(*term)));
                self.update.touch();
            }
            Effect::Deposed { incarnation, .. } => {
                self.change(*incarnation, |view| view.set_leader_term(None));
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

/// Tells the operator what the disk refused.
fn report_refusal(done: &Done) {
    match done {
        Done::CreateFailed { request, error } => {
            let incarnation = request.incarnation.get();
            tracing::warn!(incarnation, %error, "a log could not be made");
        }
        Done::PersistFailed { request, error } => {
            let incarnation = request.incarnation.get();
            tracing::warn!(incarnation, %error, "an append was refused");
        }
        Done::StateFailed { incarnation, error, .. } => {
            let incarnation = incarnation.get();
            tracing::warn!(incarnation, %error, "no state file was written");
        }
        _ => {}
    }
}

/// Whether this work changes what a log or a state file holds.
fn changes_a_log(work: &Work) -> bool {
    match work {
        Work::Create(_)
        | Work::Persist(_)
        | Work::StoreState { .. }
        | Work::Trim { .. }
        | Work::Delete { .. } => true,
        Work::Commit { .. }
        | Work::Roll { .. }
        | Work::Configure { .. }
        | Work::EmptyTrash { .. } => false,
    }
}
