//! What `#[bateau_testing::test]` runs.
//!
//! Absent on purpose: time limits; the test runner has its own.

use crate::broker::TestBroker;
use crate::witness;
use std::fmt::Debug;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What a test returns.
pub trait Outcome {
    /// Whether it is a failure.
    fn is_failure(&self) -> bool;
}

impl Outcome for () {
    fn is_failure(&self) -> bool {
        false
    }
}

impl<T, E: Debug> Outcome for Result<T, E> {
    fn is_failure(&self) -> bool {
        self.is_err()
    }
}

/// Runs a test that starts its own brokers, if any.
///
/// # Panics
/// As the test does; or the system refuses a runtime.
pub fn run<F, R>(test: impl FnOnce() -> F) -> R
where
    F: Future<Output = R>,
    R: Outcome,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("the test's runtime cannot be started: {error}"),
    };
    witness::begin();
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(test())));
    witness::end(ended.as_ref().map_or(true, Outcome::is_failure));
    match ended {
        Ok(outcome) => outcome,
        Err(panic) => resume_unwind(panic),
    }
}

/// Runs a test that is given a broker.
///
/// # Panics
/// As the test does; or the broker does not start.
pub fn run_with_broker<F, R>(test: impl FnOnce(TestBroker) -> F) -> R
where
    F: Future<Output = R>,
    R: Outcome,
{
    run(|| async {
        match TestBroker::start().await {
            Ok(broker) => test(broker).await,
            Err(error) => panic!("{error}"),
        }
    })
}
