//! The broker of a test, as the test holds it.
//!
//! ```text
//!   TestBroker ──owns──> LocalCluster: a thread for each node     nodes and links: see `nodes`
//! ```
//!
//! Invariants: the threads end when the handle is dropped, and the handle waits for them.
//!
//! Absent on purpose: a way to leave a broker running behind a test.

use crate::builder::{Builder, Plan};
use crate::temporary::Temporary;
use crate::witness::{self, Witness};
use bateau::api::Broker;
use bateau::controls::{Api, ErrorCode, SeenRequest};
use bateau::exit::Failure;
use bateau::local_cluster::{self, ClusterControl, LocalCluster};
use bateau::node::{ControlError, DrainedRecord, NodeControl};
use bateau_client::codec::{Codec, CodecError};
use bateau_client::error::{BrokerError, ConnectError, RequestError};
use bateau_client::{Client, Header, Record};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

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
    nodes: Vec<NodeControl>,
    native_urls: Vec<String>,
    witness: Arc<Witness>,
    /// `None` once it is stopped.
    cluster: Option<LocalCluster>,
    /// Goes when nothing of a node has a file open any more.
    _temporary: Option<Temporary>,
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
        let Plan { seed, topics, mut nodes, memories, temporary } = plan;
        let controls = local_cluster::control(&mut nodes, seed);
        let controls = controls.ok_or_else(|| not_started("it has no node"))?;
        let witness = Arc::new(Witness::new(seed, controls, memories));
        let on_failure = |failure| eprintln!("bateau: the test broker has failed: {failure}");
        let cluster = LocalCluster::start(nodes, Arc::new(on_failure)).await;
        let cluster = cluster.map_err(|failure: Failure| not_started(failure.message))?;
        let nodes = cluster.nodes();
        let native = nodes.iter().zip(cluster.native_pins()).filter_map(|(node, pin)| {
            Some(format!("quic://{}?pin={}", node.addresses().native?, pin?))
        });
        let native_urls = native.collect();
        let cluster = Some(cluster);
        let broker = Self { nodes, native_urls, witness, cluster, _temporary: temporary };
        for (name, partitions) in &topics {
            broker.seed_topic(name, *partitions).await?;
        }
        witness::note(&broker.witness);
        Ok(broker)
    }

    /// What all nodes together are asked.
    pub(crate) fn all(&self) -> &ClusterControl {
        let cluster = self.cluster.as_ref();
        cluster.expect("it is stopped by nobody but the one who drops it").control()
    }

    fn first(&self) -> &NodeControl {
        self.nodes.first().expect("a broker has a node")
    }

    /// What Kafka clients connect to: `127.0.0.1:PORT`, of several nodes with commas between them.
    ///
    /// # Panics
    /// The door was switched off by a setting.
    #[must_use]
    pub fn kafka_bootstrap(&self) -> String {
        let address = |node: &NodeControl| {
            let address = node.addresses().kafka;
            address.expect("the Kafka door is on unless a setting says otherwise").to_string()
        };
        self.nodes.iter().map(address).collect::<Vec<_>>().join(",")
    }

    /// What native clients connect to: `quic://127.0.0.1:PORT?pin=sha256:…`, of the first node.
    /// `None` where a setting switched that door off.
    #[must_use]
    pub fn native_url(&self) -> Option<String> {
        self.native_urls.first().cloned()
    }

    /// A client that is connected to the native door, and knows that of every node.
    ///
    /// Errors: as of [`Client::connect`].
    ///
    /// # Panics
    /// The door was switched off by a setting.
    pub async fn client(&self) -> Result<Client, ConnectError> {
        let urls = &self.native_urls;
        assert!(!urls.is_empty(), "the native door is on unless a setting says otherwise");
        let client = urls.iter().fold(Client::builder(), |client, url| client.address(url));
        client.connect().await
    }

    /// Where the HTTP door of the first node is: `http://127.0.0.1:PORT`. `None` where a setting
    /// switched it off.
    #[must_use]
    pub fn http_url(&self) -> Option<String> {
        self.first().addresses().http.map(|address| format!("http://{address}"))
    }

    /// The seed of this run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.witness.seed
    }

    /// The engine of the first node itself, past all doors and controls. `None` while it restarts.
    #[must_use]
    pub fn engine(&self) -> Option<Broker> {
        self.first().broker()
    }

    /// The handle that the first node's own HTTP door has.
    #[must_use]
    pub fn control(&self) -> &NodeControl {
        self.first()
    }

    /// Makes a topic; when this returns, its partitions are led, and every node knows by whom.
    ///
    /// Errors: it exists, its name or number of partitions is not legal, or the broker is gone.
    pub async fn seed_topic(&self, name: &str, partitions: u32) -> Result<(), TestBrokerError> {
        Ok(self.all().seed_topic(name, partitions).await?)
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
        if let Err(error) = self.all().advance(by).await {
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
        let drained = self.all().drain_topic(topic, usize::MAX).await?;
        Ok(drained.into_iter().map(of_drained).collect())
    }

    /// Waits until no request is being served and all that they led to is flushed. Requests that
    /// wait for what others do (fetches, subscriptions, joins and syncs of groups) are not waited
    /// for, so a consumer may be at work; planned delays are: [`advance`](Self::advance) first.
    ///
    /// Errors: the broker is gone.
    pub async fn wait_until_idle(&self) -> Result<(), TestBrokerError> {
        Ok(self.all().wait_until_idle().await?)
    }

    /// Drains the broker, stops it and starts it again. Ports, data, clock and planned faults
    /// stay. Of several nodes one goes after the other; see [`restart_node`](Self::restart_node).
    ///
    /// Errors: it did not start again, and is gone.
    pub async fn restart(&self) -> Result<(), TestBrokerError> {
        for node in &self.nodes {
            self.all().restart(node.node_id()).await?;
        }
        Ok(())
    }

    /// Cuts the power and starts the broker again: what was not flushed is lost. What a producer
    /// was told is flushed. Of several nodes all lose their power at once.
    ///
    /// Errors: the store is not in memory (the broker runs on then), or it did not start again.
    pub async fn crash(&self) -> Result<(), TestBrokerError> {
        Ok(self.all().crash_all().await?)
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
        if let Some(Err(failure)) = self.cluster.take().map(LocalCluster::stop) {
            eprintln!("bateau: the test broker did not stop in peace: {failure}");
        }
    }
}

fn not_started(reason: impl Into<String>) -> TestBrokerError {
    TestBrokerError::NotStarted(reason.into())
}
