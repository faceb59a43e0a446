//! The engine's loop as a task.
//!
//! Invariants: how it ended is told to everybody who asks, as often as they ask.
//!
//! Absent on purpose: starting it again; a node opens another engine.

use crate::engine::RunningEngine;
use crate::exit::{Exit, Failure};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The engine's loop as a task.
pub(super) struct EngineTask {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), Failure>>,
    /// How it ended, once that is known.
    ended: Option<Result<(), Failure>>,
}

impl EngineTask {
    pub fn spawn(running: RunningEngine) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop: Some(stop), task: tokio::spawn(running.run(stopped)), ended: None }
    }

    async fn end(&mut self) -> Result<(), Failure> {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let ended = match (&mut self.task).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(failure),
            Err(error) => Err(Failure::new(Exit::Failed, format!("the engine panicked: {error}"))),
        };
        self.ended.insert(ended).clone()
    }

    /// Resolves only when the engine fails.
    pub async fn failed(&mut self) -> Failure {
        let ended = self.end().await;
        ended.err().unwrap_or_else(|| Failure::new(Exit::Failed, "the engine ended unasked"))
    }

    pub async fn stop(&mut self) -> Result<(), Failure> {
        if let Some(stop) = self.stop.take() {
            // An engine that has ended does not listen.
            let _ = stop.send(());
        }
        self.end().await
    }
}
