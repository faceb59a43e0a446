//! A request until its answer: as many attempts as it takes, within one deadline.
//!
//! Invariants
//! - Every call has one deadline, all of its attempts included.
//! - A request that may have been done is not sent again, unless doing it twice is doing it once.
//!
//! Absent on purpose: what is known of the cluster; here is only asked and doubted.

use super::{Cluster, Repeat, Target};
use crate::error::RequestError;
use crate::retry::Retry;
use bateau_protocol::native::Call;
use bateau_protocol::wire::ErrorCode;
use fastrand::Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Cluster {
    /// Asks `target`, as often as it takes until the client's timeout.
    pub async fn call<C: Call>(
        &self,
        target: Target,
        repeat: Repeat,
        request: C,
    ) -> Result<C::Answer, RequestError> {
        self.call_within(self.options.timeout, target, repeat, &request).await
    }

    /// As [`Self::call`], with a deadline of its own.
    pub async fn call_within<C: Call>(
        &self,
        time: Duration,
        target: Target,
        repeat: Repeat,
        request: &C,
    ) -> Result<C::Answer, RequestError> {
        let attempt = async || {
            let connection = self.route(&target).await.map_err(Failure::not_sent)?;
            connection.control.call(request).await.map_err(Failure::sent)
        };
        self.retrying(time, name_of::<C>(), repeat, Some(&target), attempt).await
    }

    /// As [`Self::call`], where the answer is about one thing whose error is inside: what another
    /// attempt may mend is repeated, as for an error of the whole.
    pub async fn call_about<C: Call>(
        &self,
        target: Target,
        repeat: Repeat,
        request: &C,
        code: impl Fn(&C::Answer) -> Option<ErrorCode>,
    ) -> Result<C::Answer, RequestError> {
        let attempt = async || {
            let connection = self.route(&target).await.map_err(Failure::not_sent)?;
            let answer = connection.control.call(request).await.map_err(Failure::sent)?;
            match code(&answer).filter(|code| code.is_retriable()) {
                Some(code) => Err(Failure::sent(RequestError::of_code(code, ""))),
                None => Ok(answer),
            }
        };
        self.retrying(self.options.timeout, name_of::<C>(), repeat, Some(&target), attempt).await
    }

    pub(super) async fn retrying<T, F>(
        &self,
        time: Duration,
        name: &'static str,
        repeat: Repeat,
        target: Option<&Target>,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let started = Instant::now();
        let deadline = started + time;
        let mut retry = Retry::new(self.options.retry, started, deadline);
        let mut last = None;
        loop {
            let Ok(outcome) = tokio::time::timeout_at(deadline.into(), attempt()).await else {
                break;
            };
            let Failure { error, was_sent } = match outcome {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let may_be_done = was_sent && error.possibly_written();
            if self.is_down() {
                return Err(RequestError::Closed);
            }
            // The controller knows every topic: one that it does not know is not waited for.
            let is_missing = matches!(target, Some(Target::Controller))
                && error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            let may_repeat = !may_be_done || repeat == Repeat::Freely;
            if !error.is_retryable() || is_missing || !may_repeat {
                return Err(error);
            }
            if let Some(target) = target {
                self.doubt(target, &error).await;
            }
            last = Some(error.to_string());
            let delay = retry.delay_after_failure(Instant::now(), Duration::ZERO, &mut Rng::new());
            let Ok(delay) = delay else { break };
            tokio::time::sleep(delay).await;
        }
        let after_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Err(RequestError::TimedOut { request: name, after_ms, last })
    }

    /// The target is not where it was thought to be.
    pub async fn doubt(&self, target: &Target, error: &RequestError) {
        match target {
            Target::Coordinator(group) => {
                self.lock().coordinators.remove(group);
            }
            Target::Leader { topic, .. } => {
                let name = self.view().topic_by_id(*topic).map(|topic| Arc::clone(&topic.name));
                if let (Some(name), Some(_)) = (name, error.code()) {
                    self.refresh(&name).await;
                }
            }
            Target::Any | Target::Node(_) | Target::Controller => {}
        }
    }
}

/// An attempt that failed, and whether a broker may have seen it.
pub(super) struct Failure {
    error: RequestError,
    was_sent: bool,
}

impl Failure {
    pub const fn sent(error: RequestError) -> Self {
        Self { error, was_sent: true }
    }

    pub const fn not_sent(error: RequestError) -> Self {
        Self { error, was_sent: false }
    }
}

/// A request's name in texts.
fn name_of<C: Call>() -> &'static str {
    let all = bateau_protocol::native::Request::ALL;
    all.iter().find(|(kind, _, _)| *kind == C::KIND).map_or("request", |(_, name, _)| name)
}
