//! What a test may do to the requests of its clients, whatever door they come through.
//!
//! ```text
//!   request ──> Controls::before ──> Plan ── refuse: answered with a code, the broker is not asked
//!                   │ (seen)           └──── else: the broker ─> answer ─> Plan::finish
//!                   v                                                        ├ late by a delay
//!                requests()                                                  └ or lost
//! ```
//!
//! A node without controls has none of this: a door holds an `Option<Arc<Controls>>`.
//!
//! Invariants
//! - Each planned fault meets one request, the next of its kind, in the order of planning.
//! - What is kept of past requests is bounded, and so are plans.
//!
//! Absent on purpose: faults of the disk (they are its simulator's) and of the network.

use crate::clock::Clock;
use bateau_protocol::ids::NodeId;
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::watch;

pub use bateau_protocol::wire::ErrorCode;

/// Requests that are remembered; older ones are forgotten.
pub const REQUESTS_KEPT_MAX: usize = 1_024;
/// The node that is not named in what people read, for it is the only one mostly.
const FIRST_NODE: NodeId = NodeId::new(1);
/// Faults that may be planned for one API.
pub const PLANNED_PER_API_MAX: usize = 1_024;

macro_rules! apis {
    ($($name:ident),* $(,)?) => {
        /// What a request asks for, by Kafka's name where Kafka has one. All doors share them.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Api {
            $(
                #[doc = concat!("`", stringify!($name), "`.")]
                $name,
            )*
        }

        impl Api {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

apis! {
    Produce, Fetch, ListOffsets, Metadata, OffsetCommit, OffsetFetch, FindCoordinator, JoinGroup,
    Heartbeat, LeaveGroup, SyncGroup, DescribeGroups, ListGroups, ApiVersions, CreateTopics,
    DeleteTopics, DeleteRecords, InitProducerId, OffsetForLeaderEpoch, DescribeConfigs,
    AlterConfigs, IncrementalAlterConfigs, CreatePartitions, DeleteGroups, OffsetDelete,
    DescribeCluster, AlterPartitionReassignments, ListPartitionReassignments, ElectLeaders,
    DescribeNodes, AlterNode, Subscribe, Status,
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no API has.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{found:?} is no API that this broker serves; one is \"Produce\"")]
pub struct UnknownApi {
    /// What was given.
    pub found: String,
}

impl FromStr for Api {
    type Err = UnknownApi;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|api| api.name() == text);
        found.copied().ok_or_else(|| UnknownApi { found: text.to_owned() })
    }
}

/// The code of a name such as `NOT_LEADER_OR_FOLLOWER`.
#[must_use]
pub fn error_code(name: &str) -> Option<ErrorCode> {
    ErrorCode::ALL.iter().copied().find(|code| code.name() == Some(name))
}

/// Where a request came in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Door {
    /// Kafka's protocol.
    Kafka,
    /// Bateau's own.
    Native,
    /// HTTP.
    Http,
}

impl Door {
    /// Its name in listener keys.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Native => "native",
            Self::Http => "http",
        }
    }
}

/// What a request is about, as far as the door knows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subject {
    /// The first topic that it names.
    pub topic: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// What the client calls itself.
    pub client: Option<String>,
}

/// A request that the broker saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenRequest {
    /// Its number among all that were seen, from 1.
    pub number: u64,
    /// Unix milliseconds on the node's clock, what was advanced included.
    pub wall_ms: u64,
    /// The node that it came to.
    pub node: NodeId,
    /// Where it came in there.
    pub door: Door,
    /// What it asks for.
    pub api: Api,
    /// What it is about.
    pub subject: Subject,
    /// What was done to it.
    pub fault: Option<Fault>,
}

impl fmt::Display for SeenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.number, self.wall_ms, self.door.name(), self.api)?;
        let Subject { topic, group, client } = &self.subject;
        for (name, value) in [("topic", topic), ("group", group), ("client", client)] {
            if let Some(value) = value {
                write!(f, " {name}={value}")?;
            }
        }
        if self.node != FIRST_NODE {
            write!(f, " node={}", self.node)?;
        }
        match self.fault {
            Some(fault) => write!(f, " ({fault})"),
            None => Ok(()),
        }
    }
}

/// What is done to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It is answered with this code, and the broker is not asked.
    Refused(ErrorCode),
    /// It is served, and its answer comes so much later on the node's clock.
    Delayed(Duration),
    /// It is served, and its answer is lost with the connection.
    AckDropped,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(code) => match code.name() {
                Some(name) => write!(f, "refused with {name}"),
                None => write!(f, "refused with {}", code.0),
            },
            Self::Delayed(by) => write!(f, "answered {} ms late", by.as_millis()),
            Self::AckDropped => f.write_str("answer lost"),
        }
    }
}

/// A plan that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum PlanError {
    /// Too many are waiting.
    #[error("{api} has {PLANNED_PER_API_MAX} planned faults already; let requests meet them first")]
    TooMany {
        /// For this API.
        api: Api,
    },
}

#[derive(Debug, Default)]
struct PerApi {
    seen_count: u64,
    refusals: VecDeque<ErrorCode>,
    delays: VecDeque<Duration>,
}

#[derive(Debug, Default)]
struct State {
    seen_count: u64,
    kept: VecDeque<SeenRequest>,
    per_api: Vec<PerApi>,
    acks_to_drop: u32,
}

impl State {
    fn forget_fault(&mut self, number: u64) {
        if let Some(seen) = self.kept.iter_mut().rev().find(|seen| seen.number == number) {
            seen.fault = None;
        }
    }

    fn of(&mut self, api: Api) -> &mut PerApi {
        let place = api as usize;
        if self.per_api.len() <= place {
            self.per_api.resize_with(place + 1, PerApi::default);
        }
        &mut self.per_api[place]
    }
}

/// The controls of one node; they outlive its restarts. The nodes of a cluster share plans and
/// what was seen.
#[derive(Debug)]
pub struct Controls {
    node: NodeId,
    clock: Clock,
    /// The node was killed: its doors end without a word.
    is_dead: AtomicBool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Requests that are being served and wait for nobody else.
    serving: watch::Sender<usize>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Controls {
    /// Controls that do nothing yet.
    #[must_use]
    pub fn new(node: NodeId, clock: Clock) -> Arc<Self> {
        let shared = Shared { state: Mutex::default(), serving: watch::Sender::new(0) };
        let is_dead = AtomicBool::new(false);
        Arc::new(Self { node, clock, is_dead, shared: Arc::new(shared) })
    }

    /// The same for another node: what is planned meets the next request, whichever node it comes
    /// to.
    #[must_use]
    pub fn beside(&self, node: NodeId, clock: Clock) -> Arc<Self> {
        let (is_dead, shared) = (AtomicBool::new(false), Arc::clone(&self.shared));
        Arc::new(Self { node, clock, is_dead, shared })
    }

    /// Whether the node was killed and has not started again. A door that ends meanwhile says no
    /// farewell.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    pub(crate) fn set_dead(&self, is_dead: bool) {
        self.is_dead.store(is_dead, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// The next `times` requests for `api` are answered with `code`; the broker does nothing for
    /// them. Behind what was planned before.
    ///
    /// Errors: more than [`PLANNED_PER_API_MAX`].
    pub fn fail_next(&self, api: Api, code: ErrorCode, times: usize) -> Result<(), PlanError> {
        let mut state = self.state();
        let refusals = &mut state.of(api).refusals;
        if times > PLANNED_PER_API_MAX.saturating_sub(refusals.len()) {
            return Err(PlanError::TooMany { api });
        }
        refusals.extend(std::iter::repeat_n(code, times));
        Ok(())
    }

    /// The answer to the next request for `api` leaves `by` later, on the node's clock: an advance
    /// shortens the wait. A subscription begins so much later, its records behind it.
    ///
    /// Errors: more than [`PLANNED_PER_API_MAX`].
    pub fn delay_next(&self, api: Api, by: Duration) -> Result<(), PlanError> {
        let mut state = self.state();
        let delays = &mut state.of(api).delays;
        if delays.len() >= PLANNED_PER_API_MAX {
            return Err(PlanError::TooMany { api });
        }
        delays.push_back(by);
        Ok(())
    }

    /// The next produce that is appended and wants an ack is flushed; its ack is lost, and the
    /// connection with it. One that the broker refuses, as a whole, is answered, and the next one
    /// meets the plan instead.
    pub fn drop_next_ack(&self) {
        let mut state = self.state();
        state.acks_to_drop = state.acks_to_drop.saturating_add(1);
    }

    /// Forgets what was planned and has not met its request.
    pub fn clear(&self) {
        let mut state = self.state();
        state.acks_to_drop = 0;
        for per_api in &mut state.per_api {
            per_api.refusals.clear();
            per_api.delays.clear();
        }
    }

    /// The last [`REQUESTS_KEPT_MAX`] requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.state().kept.iter().cloned().collect()
    }

    /// How many requests for `api` there were, all doors together.
    #[must_use]
    pub fn request_count(&self, api: Api) -> u64 {
        self.state().of(api).seen_count
    }

    /// Waits until no request is being served. Those that may wait for what others do (fetches,
    /// subscriptions, joins and syncs of groups) are not waited for; planned delays are.
    pub async fn until_idle(&self) {
        let mut serving = self.shared.serving.subscribe();
        // The sender is ours, so it does not go before the end.
        let _ = serving.wait_for(|count| *count == 0).await;
    }

    /// Whether no such request is being served now.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self.shared.serving.borrow() == 0
    }

    /// Before a request is served: a door calls it once, in the order in which its connection
    /// brought them, and does what the plan says.
    ///
    /// - `wants_answer`: false where the client expects none (`acks=0`).
    pub fn before(&self, door: Door, api: Api, wants_answer: bool, subject: Subject) -> Plan {
        let mut state = self.state();
        state.seen_count += 1;
        let number = state.seen_count;
        let per_api = state.of(api);
        per_api.seen_count += 1;
        let serving = (!waits_for_others(api)).then(|| Serving::new(&self.shared));
        let mut plan = Plan { refusal: None, delay: None, loss: None, _serving: serving };
        if let Some(code) = per_api.refusals.pop_front() {
            plan.refusal = Some(code);
        } else if let Some(by) = per_api.delays.pop_front() {
            // From here on, so that an advance which comes next ends it, whatever the broker does.
            plan.delay =
                Some(Delay { by, until_ms: self.clock.after(by), clock: self.clock.clone() });
        } else if api == Api::Produce && wants_answer && state.acks_to_drop > 0 {
            state.acks_to_drop -= 1;
            plan.loss = Some(Loss { shared: Arc::clone(&self.shared), number, is_spent: false });
        }
        if state.kept.len() == REQUESTS_KEPT_MAX {
            state.kept.pop_front();
        }
        let (wall_ms, fault) = (self.clock.wall_ms(), plan.fault());
        let node = self.node;
        state.kept.push_back(SeenRequest { number, wall_ms, node, door, api, subject, fault });
        plan
    }
}

/// Whether a request may wait for what others do, for as long as it likes.
const fn waits_for_others(api: Api) -> bool {
    matches!(api, Api::Fetch | Api::JoinGroup | Api::SyncGroup | Api::Subscribe)
}

/// What is to be done with one request. To be kept until its answer is there.
#[derive(Debug)]
pub struct Plan {
    /// Answer with this code, and do not ask the broker.
    pub refusal: Option<ErrorCode>,
    delay: Option<Delay>,
    loss: Option<Loss>,
    _serving: Option<Serving>,
}

#[derive(Clone, Debug)]
struct Delay {
    by: Duration,
    until_ms: u64,
    clock: Clock,
}

/// An ack that is to be lost. Unless it is, the plan goes back for the next produce.
#[derive(Debug)]
struct Loss {
    shared: Arc<Shared>,
    number: u64,
    is_spent: bool,
}

impl Drop for Loss {
    fn drop(&mut self) {
        if !self.is_spent {
            let mut state = self.shared.state();
            state.acks_to_drop = state.acks_to_drop.saturating_add(1);
            state.forget_fault(self.number);
        }
    }
}

/// Counts a request while it is being served.
#[derive(Debug)]
struct Serving(Arc<Shared>);

impl Serving {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.serving.send_modify(|count| *count += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// What becomes of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Fate {
    /// It is sent.
    Sent,
    /// It is not, and the connection is closed as if the network had failed.
    Lost,
}

impl Plan {
    fn fault(&self) -> Option<Fault> {
        let refused = self.refusal.map(Fault::Refused);
        let delayed = self.delay.as_ref().map(|delay| Fault::Delayed(delay.by));
        refused.or(delayed).or(self.loss.as_ref().map(|_| Fault::AckDropped))
    }

    /// Once the answer is there (an ack: once the record is flushed): waits until it is as late as
    /// planned, counted from when the request was seen, and says what becomes of it.
    ///
    /// - `is_done`: whether the broker did what was asked; of a produce, in any partition.
    pub async fn finish(mut self, is_done: bool) -> Fate {
        if let Some(Delay { clock, until_ms, .. }) = self.delay.take() {
            clock.sleep_until(until_ms).await;
        }
        match &mut self.loss {
            Some(loss) if is_done => {
                loss.is_spent = true;
                Fate::Lost
            }
            _ => Fate::Sent,
        }
    }

    /// Whether the answer is to come later than it could.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        self.delay.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn controls() -> Arc<Controls> {
        Controls::new(FIRST_NODE, Clock::new())
    }

    fn ask(controls: &Arc<Controls>, api: Api) -> Plan {
        controls.before(Door::Kafka, api, true, Subject::default())
    }

    #[test]
    fn planned_refusals_meet_the_next_requests_of_their_api_in_order() {
        let controls = controls();
        controls.fail_next(Api::Produce, ErrorCode::NOT_LEADER_OR_FOLLOWER, 2).expect("room");
        controls.fail_next(Api::Produce, ErrorCode::REQUEST_TIMED_OUT, 1).expect("room");
        assert_eq!(ask(&controls, Api::Fetch).refusal, None);
        let met: Vec<_> = (0..4).map(|_| ask(&controls, Api::Produce).refusal).collect();
        let twice = Some(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        assert_eq!(met, [twice, twice, Some(ErrorCode::REQUEST_TIMED_OUT), None]);
        assert_eq!(controls.request_count(Api::Produce), 4);
    }

    #[tokio::test]
    async fn one_ack_is_lost_and_only_of_a_produce_that_wants_one() {
        let controls = controls();
        controls.drop_next_ack();
        assert_eq!(ask(&controls, Api::Fetch).finish(true).await, Fate::Sent);
        let silent = controls.before(Door::Kafka, Api::Produce, false, Subject::default());
        assert_eq!(silent.finish(true).await, Fate::Sent);
        assert_eq!(ask(&controls, Api::Produce).finish(true).await, Fate::Lost);
        assert_eq!(ask(&controls, Api::Produce).finish(true).await, Fate::Sent);
    }

    #[tokio::test]
    async fn a_refused_or_abandoned_produce_leaves_the_loss_to_the_next_one() {
        let controls = controls();
        controls.drop_next_ack();
        assert_eq!(ask(&controls, Api::Produce).finish(false).await, Fate::Sent);
        drop(ask(&controls, Api::Produce));
        let (first, second) = (ask(&controls, Api::Produce), ask(&controls, Api::Produce));
        assert_eq!(second.finish(true).await, Fate::Sent, "the first one has it");
        assert_eq!(first.finish(true).await, Fate::Lost);
        let faults: Vec<_> = controls.requests().into_iter().map(|seen| seen.fault).collect();
        assert_eq!(faults, [None, None, Some(Fault::AckDropped), None]);
    }

    #[tokio::test]
    async fn idle_is_when_nothing_is_served_but_what_waits_for_others() {
        let controls = controls();
        let (parked, served) = (ask(&controls, Api::Fetch), ask(&controls, Api::Metadata));
        assert!(!controls.is_idle());
        let waiting = tokio::spawn({
            let controls = Arc::clone(&controls);
            async move { controls.until_idle().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(served.finish(true).await, Fate::Sent);
        waiting.await.expect("it ends");
        drop(parked);
    }

    #[tokio::test]
    async fn an_advance_ends_a_delay() {
        let clock = Clock::new();
        let controls = Controls::new(FIRST_NODE, clock.clone());
        controls.delay_next(Api::Fetch, Duration::from_hours(1)).expect("room");
        let waiting = tokio::spawn(ask(&controls, Api::Fetch).finish(true));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        clock.advance_to(3_600_000);
        assert_eq!(waiting.await.expect("it ends"), Fate::Sent);
    }

    #[test]
    fn old_requests_are_forgotten_and_still_counted() {
        let controls = controls();
        for _ in 0..REQUESTS_KEPT_MAX + 3 {
            let _ = ask(&controls, Api::Metadata);
        }
        let kept = controls.requests();
        let numbers = (kept.first().map(|one| one.number), kept.last().map(|one| one.number));
        assert_eq!(kept.len(), REQUESTS_KEPT_MAX);
        assert_eq!(numbers, (Some(4), Some(REQUESTS_KEPT_MAX as u64 + 3)));
        assert_eq!(controls.request_count(Api::Metadata), REQUESTS_KEPT_MAX as u64 + 3);
    }

    #[test]
    fn plans_are_bounded() {
        let controls = controls();
        let code = ErrorCode::REQUEST_TIMED_OUT;
        assert_eq!(controls.fail_next(Api::Fetch, code, PLANNED_PER_API_MAX), Ok(()));
        let refused = Err(PlanError::TooMany { api: Api::Fetch });
        assert_eq!(controls.fail_next(Api::Fetch, code, 1), refused);
        assert_eq!(
            controls.fail_next(Api::Produce, code, usize::MAX),
            Err(PlanError::TooMany { api: Api::Produce })
        );
    }

    #[test]
    fn names_lead_to_apis_and_codes_and_back() {
        for api in Api::ALL {
            assert_eq!(api.name().parse(), Ok(*api));
        }
        assert!("produce".parse::<Api>().is_err(), "names are Kafka's, with their capitals");
        assert_eq!(error_code("NOT_LEADER_OR_FOLLOWER"), Some(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        assert_eq!(error_code("NO_SUCH_CODE"), None);
    }

    #[test]
    fn a_request_reads_as_one_line() {
        let controls = controls();
        controls.fail_next(Api::JoinGroup, ErrorCode::NOT_COORDINATOR, 1).expect("room");
        let subject = Subject { group: Some("billing".to_owned()), ..Subject::default() };
        let _ = controls.before(Door::Native, Api::JoinGroup, true, subject);
        let line = controls.requests()[0].to_string();
        let end = "native JoinGroup group=billing (refused with NOT_COORDINATOR)";
        assert!(line.starts_with("1 ") && line.ends_with(end), "{line}");
    }
}
