//! The world: everything that is simulated, and the loop that lets it live.
//!
//! Invariants: one thread, one queue of events; what happens follows from the plan alone.
//!
//! Absent on purpose: what single events do; that stands with whom they happen to.

use crate::checker::Checker;
use crate::clients::{self, Client};
use crate::event::{Event, Events, Micros, NodeAt};
use crate::groups::Groups;
use crate::links::Links;
use crate::membership;
use crate::network::Network;
use crate::node::Node;
use crate::plan::Plan;
use crate::report::{Broken, Outcome};
use crate::requests::Taken;
use crate::trace::Trace;
use bateau_core::controller::Metadata;
use bateau_core::shard::Input;
use bateau_log::sim_disk::SimRandom;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Events of one run, so that none goes on for ever.
const STEPS_MAX: u64 = 20_000_000;

/// See the module's description.
pub struct World {
    /// What is run.
    pub plan: Plan,
    /// Now.
    pub at: Micros,
    /// Events so far.
    pub step: u64,
    /// Events to come.
    pub events: Events,
    /// The hash of all of them.
    pub trace: Trace,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// What lies between them.
    pub network: Network,
    /// The clients; one is taken out while it acts.
    pub clients: Vec<Option<Client>>,
    /// What must hold.
    pub checker: Checker,
    /// And of groups.
    pub groups: Groups,
    /// Chance.
    pub random: SimRandom,
    /// Nodes that were stopped to be restarted, one after the other.
    pub rolled: usize,
    /// What came to pass.
    pub counts: BTreeMap<&'static str, u64>,
    /// What did not hold.
    pub broken: Option<String>,
    /// The faults are over.
    pub is_healing: bool,
    /// Clients finish what they have begun, and begin nothing.
    pub is_draining: bool,
    /// Clients do nothing any more.
    pub is_silent: bool,
    /// Requests of clients so far.
    pub operations: u64,
    /// Tickets so far.
    pub last_ticket: u64,
    /// Links between them.
    pub links: Links,
    /// Requests that controllers have taken.
    pub taken: Taken,
    /// The newest metadata that was shown.
    pub newest: Option<Arc<Metadata>>,
}

/// Runs a plan to its end, or to the first thing that does not hold.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan);
    let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
    if let Err(panic) = lived {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        world.broken.get_or_insert(text.unwrap_or_else(|| "a panic".to_owned()));
    }
    let (step, at) = (world.step, world.at);
    Outcome {
        plan: plan.clone(),
        hash: world.trace.hash(),
        simulated: world.at,
        broken: world.broken.map(|what| Broken { what, step, at }),
        counts: world.counts,
    }
}

impl World {
    fn new(plan: &Plan) -> Self {
        let count = membership::nodes(plan).len();
        let mut random = SimRandom::new(plan.seed ^ 0x0057_6F72_6C64);
        Self {
            plan: plan.clone(),
            at: 0,
            step: 0,
            events: Events::default(),
            trace: Trace::default(),
            nodes: membership::nodes(plan),
            network: Network::new(count, random.next_u64()),
            clients: clients::all(plan, &mut random),
            checker: Checker::default(),
            groups: Groups::default(),
            random,
            rolled: 0,
            counts: BTreeMap::new(),
            broken: None,
            is_healing: false,
            is_draining: false,
            is_silent: false,
            operations: 0,
            last_ticket: 0,
            links: Links::default(),
            taken: Taken::default(),
            newest: None,
        }
    }

    fn live(&mut self) {
        for n in 0..self.founders().count() {
            let is_late = self.random.chance(10);
            let begins = self.random.below(if is_late { 4_000_000 } else { 400_000 });
            self.events.put(begins, Event::Restart(n));
        }
        for client in 0..self.clients.len() {
            let begins = 1_000_000 + self.random.below(200_000);
            self.events.put(begins, Event::ClientTick(client));
        }
        self.plan_faults();
        self.live_until(self.plan.seconds * 1_000_000);
        if self.broken.is_none() {
            self.heal();
        }
        self.trace.add(self.step);
    }

    /// Lets everything happen that happens before `end`.
    pub fn live_until(&mut self, end: Micros) {
        while self.broken.is_none()
            && let Some((at, event)) = self.events.take(end)
        {
            self.at = at;
            self.step += 1;
            if self.step > STEPS_MAX {
                return self.fail(format!("I19: {STEPS_MAX} events and no end"));
            }
            self.happen(event);
        }
        if self.broken.is_none() {
            self.at = self.at.max(end);
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some((n, life)) = concerns(&event) {
            if self.nodes[n].life != life {
                return;
            }
            let paused_until = self.nodes[n].paused_until;
            if paused_until > self.at {
                return self.events.put(paused_until, event);
            }
        }
        match event {
            Event::Turn(n, _) => self.turn(n),
            Event::Wake(n, _) => self.wake(n),
            Event::CycleBegins(n, _) => self.begin_cycle(n),
            Event::CycleEnds(n, _, done) => self.end_cycle(n, done),
            Event::DiskQuiet(n, _, number) => self.quiet_disk(n, number),
            Event::SpaceCheck(n, _) => self.check_space(n),
            Event::SegmentsLook(n, _) => self.look_at_segments(n),
            Event::ReadFrames(n, _, wanted) => self.read_frames(n, wanted),
            Event::Carry { link, is_answer, sure, bytes } => {
                self.arrive(link, is_answer, sure, bytes);
            }
            Event::LinkDown(n, _, link) => self.note_link_down(n, link),
            Event::DialEnds(n, _, link) => self.end_dial(n, link),
            Event::FrameEnds(_, _, link) => self.end_frame(link),
            Event::Register(n, _) => self.register(n),
            Event::Unreachable(n, _, to) => {
                let node = self.nodes[to].id;
                self.tell(n, [Input::Unreachable { node }]);
            }
            Event::StopEnds(n, _) => self.end_in_order(n),
            Event::Restart(n) => self.start(n),
            Event::ClientTick(_) if self.is_silent => {}
            Event::ClientTick(id) => self.tick_client(id),
            Event::Ask(n, operation, ask) => self.take_ask(n, operation, *ask),
            Event::Answer(operation, answer) => self.answer_client(operation, *answer),
            Event::Fault(fault) => self.strike(fault),
        }
    }

    /// Notes what did not hold; the first one counts.
    pub fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// Counts something that came to pass.
    pub fn count(&mut self, what: &'static str) {
        self.counts_add(what, 1);
    }

    /// Counts several.
    pub fn counts_add(&mut self, what: &'static str, count: u64) {
        *self.counts.entry(what).or_default() += count;
    }
}

/// Whose process an event is meant for.
fn concerns(event: &Event) -> Option<(NodeAt, u64)> {
    match event {
        Event::Turn(n, life)
        | Event::Wake(n, life)
        | Event::CycleBegins(n, life)
        | Event::CycleEnds(n, life, _)
        | Event::DiskQuiet(n, life, _)
        | Event::ReadFrames(n, life, _)
        | Event::SpaceCheck(n, life)
        | Event::SegmentsLook(n, life)
        | Event::LinkDown(n, life, _)
        | Event::DialEnds(n, life, _)
        | Event::FrameEnds(n, life, _)
        | Event::Register(n, life)
        | Event::StopEnds(n, life)
        | Event::Unreachable(n, life, _) => Some((*n, *life)),
        _ => None,
    }
}
