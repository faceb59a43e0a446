//! The controller: it holds the applied state, and on the leader it decides requests.
//!
//! The leader keeps a second state, the look-ahead: the applied one plus everything that it has
//! proposed. Requests are decided against the look-ahead, by the very code that applies commands,
//! so two requests in flight never contradict each other and a proposal is known to succeed when
//! it is made. What is still missing for an answer is only the commit: every answer waits for the
//! last proposal that was pending when it was decided.
//!
//! ```text
//!   request ── decide ──> look-ahead ── propose ──> Raft ── apply ──> applied state
//!                 └── answer, kept until ────────────────────┘
//! ```
//!
//! Invariants
//! - `I-META-5` What applying a proposal does is what the look-ahead said it would do; with no
//!   proposal pending the look-ahead equals the applied state.
//! - An answer leaves after the events of the commands that it speaks of, never before.
//! - Every ticket gets exactly one answer: at the latest at its deadline (K8).
//!
//! Absent on purpose: reading the state. An answer that needs no command is given at once, from
//! what is applied; confirming by Raft that this node still leads comes with several voters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bateau_protocol::ids::{LogIndex, NodeId};
use bytes::Bytes;

use super::broker_config::BrokerSettings;
use super::command::decode_commands;
use super::decide::Draft;
use super::entropy::Entropy;
use super::event::MetadataEvent;
use super::limits::{PENDING_REQUESTS_MAX, REQUEST_TIMEOUT_MS_MAX};
use super::metadata::{CommandOutcome, Metadata};
use super::node::{Founder, NodeRegistration};
use super::request::{ControllerError, ControllerRequest, ControllerResponse};
use crate::clock::Now;
use crate::command_frame::CommandError;
use crate::ticket::{ProposalToken, Ticket};

/// What the members of a new cluster agree to understand.
pub const FEATURE_LEVEL: u16 = 1;

/// Wait before the founding is proposed again, in milliseconds.
const FOUNDING_RETRY_MS: u64 = 100;

/// What the controller wants done, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControllerEffect {
    /// Propose a command frame (kind 6) to the metadata partition. When it is applied, say its
    /// token to [`Controller::apply`]; if it will never be, to [`Controller::handle_dropped`].
    Propose {
        /// The proposal's name.
        token: ProposalToken,
        /// The frame's payload.
        payload: Bytes,
    },
    /// Act on a consequence of an applied command.
    Event(MetadataEvent),
    /// Answer a request.
    Reply {
        /// Whose.
        ticket: Ticket,
        /// The answer.
        response: Result<ControllerResponse, ControllerError>,
    },
}

/// With what a cluster begins.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FoundingPlan {
    /// The founders. Never empty where this node may have to found.
    pub founders: Vec<Founder>,
    /// What is known of them already; at least this node itself.
    pub nodes: Vec<NodeRegistration>,
}

/// The state machine of the metadata partition on one node.
pub struct Controller {
    settings: BrokerSettings,
    founding: FoundingPlan,
    entropy: Box<dyn Entropy>,
    metadata: Metadata,
    last_token: u64,
    /// Who lives, as this node was last told.
    live: BTreeSet<NodeId>,
    leading: Option<Leading>,
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller")
            .field("applied", &self.metadata.applied())
            .field("leading", &self.leading)
            .finish_non_exhaustive()
    }
}

/// What only a leader has.
#[derive(Debug)]
struct Leading {
    ahead: Metadata,
    proposals: BTreeMap<ProposalToken, Proposal>,
    waiting: BTreeMap<Ticket, Waiting>,
    /// The waiting ones by what they wait for.
    awaited: BTreeSet<(ProposalToken, Ticket)>,
    /// The waiting ones by their deadline on the monotonic clock.
    deadlines: BTreeSet<(u64, Ticket)>,
    /// When to propose the founding again, on the monotonic clock.
    founding_retry_ms: Option<u64>,
    /// Something has changed by which it is judged where replicas should be.
    is_plan_due: bool,
}

#[derive(Debug)]
struct Proposal {
    payload: Bytes,
    outcomes: Vec<CommandOutcome>,
}

#[derive(Debug)]
struct Waiting {
    awaits: ProposalToken,
    deadline_ms: u64,
    timeout_ms: u64,
    response: ControllerResponse,
}

impl Controller {
    /// A controller that follows.
    ///
    /// - `metadata`: [`Metadata::new`], or what the newest state file gave.
    /// - `founding`: used if this node leads before the cluster has its first command.
    /// - `entropy`: where ids come from; unpredictable outside of tests, because an incarnation
    ///   that a producer could guess would let it forge a frame.
    #[must_use]
    pub fn new(
        metadata: Metadata,
        settings: BrokerSettings,
        founding: FoundingPlan,
        entropy: Box<dyn Entropy>,
    ) -> Self {
        let (last_token, live, leading) = (0, BTreeSet::new(), None);
        Self { settings, founding, entropy, metadata, last_token, live, leading }
    }

    /// Goes on with another replica's state. Not for a leader, whose requests rest on its own.
    pub(crate) fn replace_metadata(&mut self, metadata: Metadata) {
        assert!(self.leading.is_none(), "I-META-5: the look-ahead of another state");
        self.metadata = metadata;
    }

    /// The applied state.
    #[must_use]
    pub const fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The settings that it decides by.
    #[must_use]
    pub const fn settings(&self) -> &BrokerSettings {
        &self.settings
    }

    /// Whether it decides requests.
    #[must_use]
    pub const fn is_leading(&self) -> bool {
        self.leading.is_some()
    }

    /// Begins to decide requests. To be called when this node leads the metadata partition and
    /// has applied the no-op of its term, so that nothing of earlier terms is still to come (D14).
    ///
    /// The very first leader proposes the founding.
    pub fn lead(&mut self, now: Now, effects: &mut Vec<ControllerEffect>) {
        self.resign(effects);
        let leading = Leading::new(self.metadata.clone());
        self.leading = Some(leading);
        if self.metadata.founding().is_none() {
            self.propose_founding(now, effects);
        }
    }

    /// Stops deciding. Everything that waits is answered with
    /// [`Unsettled`](ControllerError::Unsettled): it may still happen.
    pub fn resign(&mut self, effects: &mut Vec<ControllerEffect>) {
        if let Some(mut leading) = self.leading.take() {
            leading.fail_from(ProposalToken(0), effects);
        }
    }

    /// Decides a request.
    ///
    /// - `ticket`: names the request in the answer; no other waiting request has it.
    ///
    /// Errors are answers.
    pub fn handle(
        &mut self,
        now: Now,
        request: ControllerRequest,
        ticket: Ticket,
        effects: &mut Vec<ControllerEffect>,
    ) {
        let refuse = |error| ControllerEffect::Reply { ticket, response: Err(error) };
        let Some(leading) = &mut self.leading else {
            return effects.push(refuse(ControllerError::NotController));
        };
        if leading.ahead.founding().is_none() {
            return effects.push(refuse(ControllerError::NotController));
        }
        if leading.waiting.len() >= PENDING_REQUESTS_MAX {
            return effects.push(refuse(ControllerError::Busy));
        }
        let timeout_ms = request.timeout_ms().min(REQUEST_TIMEOUT_MS_MAX);
        let entropy = self.entropy.as_mut();
        let mut draft = Draft::new(&mut leading.ahead, &self.settings, &self.live, entropy);
        let response = draft.decide(request);
        let (payload, outcomes) = draft.finish();
        if !outcomes.is_empty() {
            self.last_token += 1;
            let token = ProposalToken(self.last_token);
            effects.push(leading.propose(token, payload, outcomes));
        }
        match leading.proposals.last_key_value() {
            None => effects.push(ControllerEffect::Reply { ticket, response: Ok(response) }),
            Some((&awaits, _)) => {
                let deadline_ms = now.monotonic_ms.saturating_add(timeout_ms);
                leading.wait(ticket, Waiting { awaits, deadline_ms, timeout_ms, response });
            }
        }
    }

    /// Applies a committed command frame, on the leader and everywhere else.
    ///
    /// - `token`: the proposal's name where this process proposed the frame.
    ///
    /// Errors: [`CommandError`]: this build cannot read the frame, and the node cannot go on.
    pub fn apply(
        &mut self,
        index: LogIndex,
        token: Option<ProposalToken>,
        payload: &[u8],
        effects: &mut Vec<ControllerEffect>,
    ) -> Result<(), CommandError> {
        let mut events = Vec::new();
        let outcomes = self.metadata.apply(index, payload, &mut events)?;
        effects.extend(events.into_iter().map(ControllerEffect::Event));
        if let Some(leading) = &mut self.leading
            && !outcomes.is_empty()
        {
            leading.settle(&self.metadata, token, &outcomes, effects);
        }
        self.plan_anew();
        Ok(())
    }

    /// A proposal will never be applied, though this node may still lead. Requests that were
    /// decided upon it are answered with [`Unsettled`](ControllerError::Unsettled).
    pub fn handle_dropped(
        &mut self,
        now: Now,
        token: ProposalToken,
        effects: &mut Vec<ControllerEffect>,
    ) {
        let Some(leading) = &mut self.leading else { return };
        if leading.proposals.remove(&token).is_none() {
            return;
        }
        leading.fail_from(token, effects);
        leading.look_ahead_again(&self.metadata);
        leading.is_plan_due = true;
        if leading.ahead.founding().is_none() {
            let retry_ms = now.monotonic_ms.saturating_add(FOUNDING_RETRY_MS);
            leading.founding_retry_ms = Some(retry_ms);
        }
    }

    /// When [`tick`](Self::tick) has something to do, on the monotonic clock in milliseconds.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let leading = self.leading.as_ref()?;
        let request = leading.deadlines.first().map(|(deadline_ms, _)| *deadline_ms);
        let plan = (leading.is_plan_due && leading.may_plan()).then_some(0);
        request.into_iter().chain(leading.founding_retry_ms).chain(plan).min()
    }

    /// Answers what has waited too long. Cheap where nothing is due.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<ControllerEffect>) {
        let Some(leading) = &mut self.leading else { return };
        leading.expire(now.monotonic_ms, effects);
        if leading.founding_retry_ms.is_some_and(|retry_ms| retry_ms <= now.monotonic_ms) {
            leading.founding_retry_ms = None;
            self.propose_founding(now, effects);
        }
        self.plan_if_due(effects);
    }

    /// Who lives, this node included.
    pub fn note_live(&mut self, live: BTreeSet<NodeId>) {
        self.live = live;
        self.plan_anew();
    }

    /// Something has changed by which it is judged where replicas should be.
    fn plan_anew(&mut self) {
        if let Some(leading) = &mut self.leading {
            leading.is_plan_due = true;
        }
    }

    /// Looks at where replicas should be. What is on its way comes first: it says so when it is
    /// applied.
    fn plan_if_due(&mut self, effects: &mut Vec<ControllerEffect>) {
        let Some(leading) = &mut self.leading else { return };
        if !leading.is_plan_due || !leading.may_plan() {
            return;
        }
        leading.is_plan_due = false;
        let entropy = self.entropy.as_mut();
        let mut draft = Draft::new(&mut leading.ahead, &self.settings, &self.live, entropy);
        draft.plan();
        let (payload, outcomes) = draft.finish();
        if !outcomes.is_empty() {
            self.last_token += 1;
            effects.push(leading.propose(ProposalToken(self.last_token), payload, outcomes));
        }
    }

    fn propose_founding(&mut self, now: Now, effects: &mut Vec<ControllerEffect>) {
        let Some(leading) = &mut self.leading else { return };
        let entropy = self.entropy.as_mut();
        let mut draft = Draft::new(&mut leading.ahead, &self.settings, &self.live, entropy);
        let founded = draft.found(&self.founding);
        let (payload, outcomes) = draft.finish();
        if founded {
            self.last_token += 1;
            effects.push(leading.propose(ProposalToken(self.last_token), payload, outcomes));
        } else {
            leading.look_ahead_again(&self.metadata);
            let retry_ms = now.monotonic_ms.saturating_add(FOUNDING_RETRY_MS);
            leading.founding_retry_ms = Some(retry_ms);
        }
    }

    /// Stops the process where the state contradicts itself. For tests and simulation.
    /// Invariants: I-META-2 to I-META-5.
    pub fn check_invariants(&self) {
        self.metadata.check_invariants();
        if let Some(leading) = &self.leading {
            leading.check_invariants(&self.metadata);
        }
    }
}

impl Leading {
    fn new(ahead: Metadata) -> Self {
        Self {
            ahead,
            proposals: BTreeMap::new(),
            waiting: BTreeMap::new(),
            awaited: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            founding_retry_ms: None,
            is_plan_due: true,
        }
    }

    /// Whether the look-ahead is what is applied, of a cluster that there is.
    fn may_plan(&self) -> bool {
        self.proposals.is_empty() && self.ahead.founding().is_some()
    }

    fn propose(
        &mut self,
        token: ProposalToken,
        payload: Bytes,
        outcomes: Vec<CommandOutcome>,
    ) -> ControllerEffect {
        self.proposals.insert(token, Proposal { payload: payload.clone(), outcomes });
        ControllerEffect::Propose { token, payload }
    }

    fn wait(&mut self, ticket: Ticket, waiting: Waiting) {
        self.awaited.insert((waiting.awaits, ticket));
        self.deadlines.insert((waiting.deadline_ms, ticket));
        let before = self.waiting.insert(ticket, waiting);
        assert!(before.is_none(), "{ticket:?} waits already");
    }

    fn stop_waiting(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.awaited.remove(&(waiting.awaits, ticket));
        self.deadlines.remove(&(waiting.deadline_ms, ticket));
        Some(waiting)
    }

    /// A command frame was applied: answers what waited for it.
    fn settle(
        &mut self,
        metadata: &Metadata,
        token: Option<ProposalToken>,
        outcomes: &[CommandOutcome],
        effects: &mut Vec<ControllerEffect>,
    ) {
        let next = self.proposals.first_key_value().map(|(token, _)| *token);
        if token.is_none() || token != next {
            // Not what the look-ahead was built upon: another leader's command, or earlier
            // proposals that were lost without a word. Nothing that was promised may be kept.
            self.proposals.retain(|pending, _| Some(*pending) > token);
            self.fail_from(ProposalToken(0), effects);
            return self.look_ahead_again(metadata);
        }
        if let Some((token, proposal)) = self.proposals.pop_first() {
            assert_eq!(proposal.outcomes, outcomes, "I-META-5: {token:?} did something else");
            self.answer_until(token, effects);
        }
    }

    fn answer_until(&mut self, token: ProposalToken, effects: &mut Vec<ControllerEffect>) {
        while let Some((awaits, ticket)) = self.awaited.first().copied()
            && awaits <= token
        {
            if let Some(waiting) = self.stop_waiting(ticket) {
                effects.push(ControllerEffect::Reply { ticket, response: Ok(waiting.response) });
            }
        }
    }

    /// Fails what waits for `token` or a later one.
    fn fail_from(&mut self, token: ProposalToken, effects: &mut Vec<ControllerEffect>) {
        let failed: Vec<Ticket> =
            self.awaited.range((token, Ticket(0))..).map(|(_, ticket)| *ticket).collect();
        for ticket in failed {
            self.stop_waiting(ticket);
            let response = Err(ControllerError::Unsettled);
            effects.push(ControllerEffect::Reply { ticket, response });
        }
    }

    fn expire(&mut self, now_ms: u64, effects: &mut Vec<ControllerEffect>) {
        while let Some((deadline_ms, ticket)) = self.deadlines.first().copied()
            && deadline_ms <= now_ms
        {
            if let Some(Waiting { timeout_ms, .. }) = self.stop_waiting(ticket) {
                let response = Err(ControllerError::TimedOut { timeout_ms });
                effects.push(ControllerEffect::Reply { ticket, response });
            }
        }
    }

    /// Builds the look-ahead from the applied state and what is still pending.
    fn look_ahead_again(&mut self, metadata: &Metadata) {
        self.ahead = metadata.clone();
        let mut unseen = Vec::new();
        for proposal in self.proposals.values_mut() {
            let commands = decode_commands(&proposal.payload).expect("we encoded it ourselves");
            proposal.outcomes = commands
                .into_iter()
                .map(|command| self.ahead.execute(command, &mut unseen))
                .collect();
        }
    }

    fn check_invariants(&self, metadata: &Metadata) {
        if self.proposals.is_empty() {
            let ahead = Metadata { applied: metadata.applied, ..self.ahead.clone() };
            assert!(ahead == *metadata, "I-META-5: the look-ahead is not the applied state");
            assert!(self.waiting.is_empty(), "something waits for nothing");
        } else {
            self.ahead.check_invariants();
        }
        assert_eq!(self.waiting.len(), self.awaited.len());
        assert_eq!(self.waiting.len(), self.deadlines.len());
    }
}
