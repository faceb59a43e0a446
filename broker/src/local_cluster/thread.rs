//! One node on a thread of its own.
//!
//! ```text
//!   bound ──> begin, until ready ──> serve ──(Drain)──> serve ──(orders closed)──> stop
//! ```
//!
//! The runtime is the node's alone, so whoever blocks its thread makes the node stand still as
//! SIGSTOP does a process: sockets take what fits into their buffers, timers are late.
//!
//! Invariants: the thread ends when its orders are closed, unless it stands still.
//!
//! Absent on purpose: what happens to the other nodes.

use super::OnFailure;
use crate::exit::{Exit, Failure};
use crate::node::{Node, NodeControl, NodeSettings};
use bateau_quic::SpkiPin;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Orders that may wait.
const ORDERS_MAX: usize = 4;

/// What is known of a node once it is ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Introduced {
    pub native_pin: Option<SpkiPin>,
}

/// Stand still.
pub(super) struct Pause {
    /// Told when the node does.
    pub stands: oneshot::Sender<()>,
    /// Until the other end is dropped.
    pub until: std::sync::mpsc::Receiver<()>,
}

enum Order {
    Drain(Duration, oneshot::Sender<()>),
}

pub(super) struct NodeThread {
    /// Closing it stops the node.
    orders: Option<mpsc::Sender<Order>>,
    thread: JoinHandle<Result<(), Failure>>,
}

/// What a thread tells while it starts.
struct Start {
    bound: oneshot::Sender<Result<NodeControl, Failure>>,
    ready: oneshot::Sender<Result<Introduced, Failure>>,
}

impl NodeThread {
    /// Starts the thread. Whoever sends a pause makes the node stand still.
    ///
    /// Errors: the system refuses a thread.
    pub fn spawn(
        settings: NodeSettings,
        bound: oneshot::Sender<Result<NodeControl, Failure>>,
        ready: oneshot::Sender<Result<Introduced, Failure>>,
        on_failure: OnFailure,
    ) -> Result<(Self, mpsc::Sender<Pause>), Failure> {
        let (orders, told) = mpsc::channel(ORDERS_MAX);
        let (pauses, asked) = mpsc::channel(1);
        let name = format!("node-{}", settings.config.node.id);
        let helpers = name.clone();
        let run = move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            // Threads that wait for disks are told apart in logs too.
            let runtime = runtime.enable_all().thread_name(helpers).build();
            let runtime = runtime.map_err(|error| {
                Failure::new(Exit::Failed, format!("the runtime cannot be started: {error}"))
            })?;
            runtime.block_on(async {
                tokio::spawn(stand_still(asked));
                live(settings, Start { bound, ready }, told, on_failure).await
            })
        };
        let thread = std::thread::Builder::new().name(name).spawn(run).map_err(|error| {
            Failure::new(Exit::Failed, format!("a thread cannot be started: {error}"))
        })?;
        Ok((Self { orders: Some(orders), thread }, pauses))
    }

    /// Lets requests that run end, and accepts nothing more.
    pub async fn drain(&self, grace: Duration) {
        let (done, is_done) = oneshot::channel();
        if let Some(orders) = &self.orders
            && orders.send(Order::Drain(grace, done)).await.is_ok()
        {
            // It may have failed meanwhile.
            let _ = is_done.await;
        }
    }

    pub fn tell_to_stop(&mut self) {
        self.orders = None;
    }

    /// Waits for the end of a node that was told to stop.
    pub fn join(mut self) -> Result<(), Failure> {
        self.tell_to_stop();
        self.thread.join().unwrap_or_else(|_| Err(super::panicked()))
    }
}

/// Blocks the thread for as long as each pause lasts.
async fn stand_still(mut pauses: mpsc::Receiver<Pause>) {
    while let Some(Pause { stands, until }) = pauses.recv().await {
        // Whoever asked may have gone away; then nobody holds the other end either.
        let _ = stands.send(());
        let _ = until.recv();
    }
}

async fn live(
    settings: NodeSettings,
    start: Start,
    mut orders: mpsc::Receiver<Order>,
    on_failure: OnFailure,
) -> Result<(), Failure> {
    let mut node = match Node::bind(settings) {
        Ok(node) => node,
        Err(failure) => {
            let _ = start.bound.send(Err(failure));
            return Ok(());
        }
    };
    // Whoever waited may have gone away; then the orders are closed.
    let _ = start.bound.send(Ok(node.control()));
    let started = async {
        node.begin().await?;
        node.until_ready().await
    };
    let started = tokio::select! {
        started = started => started,
        _ = orders.recv() => return node.stop().await,
    };
    if let Err(failure) = started {
        // The first failure is the one to tell, when nothing of the node is left.
        let _ = node.stop().await;
        let _ = start.ready.send(Err(failure));
        return Ok(());
    }
    let _ = start.ready.send(Ok(Introduced { native_pin: node.native_pin() }));
    loop {
        let order = tokio::select! {
            failure = node.serve() => {
                on_failure(failure);
                break;
            }
            order = orders.recv() => order,
        };
        let Some(Order::Drain(grace, done)) = order else { break };
        node.refuse_clients();
        tokio::select! {
            () = node.finish_requests(Instant::now() + grace) => {}
            _ = orders.recv() => break,
        }
        let _ = done.send(());
    }
    node.stop().await
}
