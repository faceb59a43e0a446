//! The broker of a test, as the test holds it.
//!
//! ```text
//!   TestBroker ── stop, join ──> thread: runtime ─> Node::start ─> Node::serve ─> Node::stop
//! ```
//!
//! Invariants: the thread ends when the handle is dropped, and the handle waits for it.
//!
//! Absent on purpose: a way to leave a broker running behind a test.

use crate::builder::{Builder, Plan};
use crate::witness::{self, Witness};
use bateau::api::Broker;
use bateau::controls::{Api, Controls, ErrorCode, SeenRequest};
use bateau::entropy::Entropy;
use bateau::node::{ControlError, DrainedRecord, Node, NodeControl, NodeSettings};
use bateau_client::codec::{Codec, CodecError};
use bateau_client::error::{BrokerError, ConnectError, RequestError};
use bateau_client::{Client, Header, Record};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::oneshot;

/// What a test broker could not do.
#[derive(Debug, Error)]
pub enum TestBrokerError {
    /// A setting is wrong.
    #[error("{0}")]
    Config(String),
    /// `BATEAU_SEED` is no number.
    #[error("BATEAU_SEED is {found:?}; expected a hexadecimal number such as 8f31")]
    Seed {
        /// What it is.
        found: String,
    },
    /// There is no temporary directory.
    #[error("no temporary directory can be made: {0}")]
    Temporary(#[source] io::Error),
    /// The system refused a thread or a runtime.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] io::Error),
    /// The node did not start.
    #[error("the broker did not start: {0}")]
    NotStarted(String),
    /// A control was refused.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A value that is not what the codec writes.
    #[error(transparent)]
    Value(CodecError),
}

/// For tests whose other errors are the client's.
impl From<TestBrokerError> for bateau_client::Error {
    fn from(error: TestBrokerError) -> Self {
        let code = match &error {
            TestBrokerError::Control(ControlError::NoTopic { .. }) => {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            }
            TestBrokerError::Value(_) => ErrorCode::CORRUPT_MESSAGE,
            _ => ErrorCode::UNKNOWN_SERVER_ERROR,
        };
        RequestError::from(BrokerError::of_code(code, error.to_string())).into()
    }
}

fn of_drained(drained: DrainedRecord) -> Record {
    let DrainedRecord { partition, record } = drained;
    let mut found = Record::default().partition(partition);
    found.key = record.key;
    found.value = record.value;
    found.timestamp_ms = (record.timestamp >= 0).then_some(record.timestamp);
    let headers = record.headers.into_iter();
    found.headers =
        headers.map(|header| Header { name: header.key, value: header.value }).collect();
    found
}

/// A broker that runs until it is dropped.
#[derive(Debug)]
pub struct TestBroker {
    control: NodeControl,
    native_url: Option<String>,
    witness: Arc<Witness>,
    thread: Option<JoinHandle<()>>,
    /// Dropping it stops the broker.
    stop: Option<oneshot::Sender<()>>,
}

impl TestBroker {
    /// A broker in memory, with a door for each protocol on a free port of 127.0.0.1.
    ///
    /// Errors: [`TestBrokerError`].
    pub async fn start() -> Result<Self, TestBrokerError> {
        Self::builder().start().await
    }

    /// A broker with other choices.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) async fn start_with(plan: Plan) -> Result<Self, TestBrokerError> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = oneshot::channel();
        let mut settings = NodeSettings::of(plan.config.clone());
        let controls = Controls::new(settings.clock.clone());
        settings.controls = Some(Arc::clone(&controls));
        settings.entropy = Entropy::seeded(plan.seed);
        settings.store = Arc::clone(&plan.store);
        let witness = Arc::new(Witness::new(plan.seed, controls, plan.memory.clone()));
        let thread = std::thread::Builder::new().name("test broker".to_owned());
        let thread = thread.spawn(move || run(settings, plan, ready, stopped));
        // Dropped before it is ready, it stops and joins as ever.
        let mut starting = Starting { stop: Some(stop), thread: None };
        starting.thread = Some(thread.map_err(TestBrokerError::Thread)?);
        let gone = || TestBrokerError::NotStarted("its thread panicked".to_owned());
        let (control, native_url) = is_ready.await.map_err(|_| gone())??;
        witness::note(&witness);
        let (thread, stop) = (starting.thread.take(), starting.stop.take());
        Ok(Self { control, native_url, witness, thread, stop })
    }

    /// What Kafka clients connect to: `127.0.0.1:PORT`.
    ///
    /// # Panics
    /// The door was switched off by a setting.
    #[must_use]
    pub fn kafka_bootstrap(&self) -> String {
        let address = self.control.addresses().kafka;
        address.expect("the Kafka door is on unless a setting says otherwise").to_string()
    }

    /// What native clients connect to: `quic://127.0.0.1:PORT?pin=sha256:…`. `None` where a
    /// setting switched that door off.
    #[must_use]
    pub fn native_url(&self) -> Option<String> {
        self.native_url.clone()
    }

    /// A client that is connected to the native door.
    ///
    /// Errors: as of [`Client::connect`].
    ///
    /// # Panics
    /// The door was switched off by a setting.
    pub async fn client(&self) -> Result<Client, ConnectError> {
        let url = self.native_url.as_deref();
        Client::connect(url.expect("the native door is on unless a setting says otherwise")).await
    }

    /// Where the HTTP door is: `http://127.0.0.1:PORT`. `None` where a setting switched it off.
    #[must_use]
    pub fn http_url(&self) -> Option<String> {
        self.control.addresses().http.map(|address| format!("http://{address}"))
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.witness.seed
    }

    /// The engine itself, past all doors and controls. `None` while it restarts.
    #[must_use]
    pub fn engine(&self) -> Option<Broker> {
        self.control.broker()
    }

    /// The handle that the broker's own HTTP door has.
    #[must_use]
    pub fn control(&self) -> &NodeControl {
        &self.control
    }

    /// Makes a topic; when this returns, its partitions are led.
    ///
    /// Errors: it exists, its name or number of partitions is not legal, or the broker is gone.
    pub async fn seed_topic(&self, name: &str, partitions: u32) -> Result<(), TestBrokerError> {
        Ok(self.control.seed_topic(name, partitions).await?)
    }

    /// Moves the broker's clock ahead: sessions and rebalances, retention, expiry of offsets and
    /// producers, planned delays. Timers fire in the order in which they are due, and what they
    /// lead to is done and flushed when this returns. Elections, connections and the deadlines of
    /// requests keep to real time, and so do clients: one whose session has expired by then has
    /// to join anew.
    ///
    /// # Panics
    /// The broker is gone, or its clock would be more than a hundred years ahead.
    pub async fn advance(&self, by: Duration) {
        if let Err(error) = self.control.advance(by).await {
            panic!("the clock cannot be moved: {error}");
        }
    }

    /// The next request for `api` is answered with `code`, whatever door it comes through, and
    /// the broker does nothing for it. Calls add up.
    ///
    /// # Panics
    /// More faults are planned than a broker remembers.
    pub fn fail_next(&self, api: Api, code: ErrorCode) {
        self.fail_next_times(api, code, 1);
    }

    /// As [`fail_next`](Self::fail_next), for the next `times` requests.
    ///
    /// # Panics
    /// More faults are planned than a broker remembers.
    pub fn fail_next_times(&self, api: Api, code: ErrorCode, times: usize) {
        if let Err(error) = self.witness.controls.fail_next(api, code, times) {
            panic!("{error}");
        }
    }

    /// The answer to the next request for `api` leaves so much later on the broker's clock;
    /// [`advance`](Self::advance) shortens the wait. Our own consumers subscribe instead of
    /// fetching: with [`Api::Subscribe`] a subscription and its records come so much later.
    ///
    /// # Panics
    /// More faults are planned than a broker remembers.
    pub fn delay_next(&self, api: Api, by: Duration) {
        if let Err(error) = self.witness.controls.delay_next(api, by) {
            panic!("{error}");
        }
    }

    /// The next produce that is appended is flushed, and its ack is lost with the connection: the
    /// producer cannot know. One that the broker refuses is answered, and does not count.
    pub fn drop_next_ack(&self) {
        self.witness.controls.drop_next_ack();
    }

    /// What the broker saw, oldest first: the last 1,024 requests.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.witness.controls.requests()
    }

    /// How many requests for `api` the broker saw.
    #[must_use]
    pub fn request_count(&self, api: Api) -> u64 {
        self.witness.controls.request_count(api)
    }

    /// All records of `topic` that are committed now, as the values that `codec` reads: partition
    /// by partition, each in the order of its offsets. Null values, which no codec writes, are left
    /// out. The records stay, and [`requests`](Self::requests) has nothing of it.
    ///
    /// Errors: there is no such topic, or a value is not what the codec writes.
    pub async fn drain<T, C: Codec<T>>(
        &self,
        topic: &str,
        codec: C,
    ) -> Result<Vec<T>, TestBrokerError> {
        let records = self.drain_records(topic).await?;
        let values = records.iter().filter_map(|record| record.value.as_ref());
        values.map(|value| codec.decode(value).map_err(TestBrokerError::Value)).collect()
    }

    /// As [`drain`](Self::drain), with keys, headers, time and partition.
    ///
    /// Errors: there is no such topic, or it cannot be read.
    pub async fn drain_records(&self, topic: &str) -> Result<Vec<Record>, TestBrokerError> {
        let drained = self.control.drain_topic(topic, usize::MAX).await?;
        Ok(drained.into_iter().map(of_drained).collect())
    }

    /// Waits until no request is being served and all that they led to is flushed. Requests that
    /// wait for what others do (fetches, subscriptions, joins and syncs of groups) are not waited
    /// for, so a consumer may be at work; planned delays are: [`advance`](Self::advance) first.
    ///
    /// Errors: the broker is gone.
    pub async fn wait_until_idle(&self) -> Result<(), TestBrokerError> {
        Ok(self.control.wait_until_idle().await?)
    }

    /// Drains the broker, stops it and starts it again. Ports, data, clock and planned faults
    /// stay.
    ///
    /// Errors: it did not start again, and is gone.
    pub async fn restart(&self) -> Result<(), TestBrokerError> {
        Ok(self.control.restart().await?)
    }

    /// Cuts the power and starts the broker again: what was not flushed is lost. What a producer
    /// was told is flushed.
    ///
    /// Errors: the store is not in memory (the broker runs on then), or it did not start again.
    pub async fn crash(&self) -> Result<(), TestBrokerError> {
        Ok(self.control.crash().await?)
    }

    /// What is printed when a test fails: the last requests and the seed.
    #[must_use]
    pub fn report(&self) -> String {
        self.witness.text()
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.witness.tell();
        }
        join(&mut self.stop, &mut self.thread);
    }
}

/// A broker that is not ready yet.
struct Starting {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        join(&mut self.stop, &mut self.thread);
    }
}

fn join(stop: &mut Option<oneshot::Sender<()>>, thread: &mut Option<JoinHandle<()>>) {
    drop(stop.take());
    if let Some(thread) = thread.take()
        && thread.join().is_err()
    {
        eprintln!("bateau: the test broker's thread panicked");
    }
}

/// The broker's control, and its native address.
type Ready = oneshot::Sender<Result<(NodeControl, Option<String>), TestBrokerError>>;

/// The broker's thread.
fn run(settings: NodeSettings, plan: Plan, ready: Ready, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(settings, &plan.topics, ready, stopped)),
        Err(error) => drop(ready.send(Err(TestBrokerError::Thread(error)))),
    }
    // Nothing of the node has a file open any more.
    drop(plan.temporary);
}

async fn serve(
    settings: NodeSettings,
    topics: &[(String, u32)],
    ready: Ready,
    mut stopped: oneshot::Receiver<()>,
) {
    let mut node = match Node::start(settings).await {
        Ok(node) => node,
        Err(failure) => {
            let _ = ready.send(Err(TestBrokerError::NotStarted(failure.message)));
            return;
        }
    };
    let control = node.control();
    for (name, partitions) in topics {
        if let Err(error) = control.seed_topic(name, *partitions).await {
            let _ = node.stop().await;
            let _ = ready.send(Err(error.into()));
            return;
        }
    }
    let native = node.addresses().native.zip(node.native_pin());
    let native_url = native.map(|(address, pin)| format!("quic://{address}?pin={pin}"));
    // Whoever waited may have gone away; then `stopped` says so.
    let _ = ready.send(Ok((control, native_url)));
    tokio::select! {
        failure = node.serve() => eprintln!("bateau: the test broker has failed: {failure}"),
        _ = &mut stopped => {}
    }
    if let Err(failure) = node.stop().await {
        eprintln!("bateau: the test broker did not stop in peace: {failure}");
    }
}
