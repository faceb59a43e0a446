//! What is known of the cluster, and the way to each of its brokers.
//!
//! ```text
//!   call(target) ── route ──> Broker ── connection ──> answer
//!      ▲  │ retryable: again, under one deadline
//!      └──┘
//!   watcher ── Watch ──> ClusterChanged ──> View, for producers and consumers
//! ```
//!
//! Absent on purpose: balancing. Requests go where their data is.

mod broker;
mod calls;
mod view;
mod watcher;

pub(crate) use broker::Broker;
pub(crate) use view::{TopicView, View};

use crate::address::Address;
use crate::breaker::Breaker;
use crate::client::{BrokerInfo, ClientBuilder};
use crate::connection::Connection;
use crate::error::{AdminError, ConnectError, RequestError};
use crate::retry::Retry;
use bateau_protocol::ids::TopicId;
use bateau_protocol::native::{CoordinatorRequest, MetadataRequest, MetadataResponse, TopicName};
use bateau_protocol::wire::ErrorCode;
use bateau_quic::SpkiPin;
use calls::Failure;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

/// Topics that a client keeps itself informed of.
pub(crate) const TOPICS_MAX: usize = 10_000;

/// Groups whose coordinators are remembered.
const COORDINATORS_MAX: usize = 10_000;

/// Nodes of a cluster; what a broker says beyond them is not believed.
const NODES_MAX: usize = 1_000;

/// Who is to answer a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Target {
    Any,
    Node(i32),
    Controller,
    Coordinator(String),
    Leader { topic: TopicId, partition: i32 },
}

/// Whether a request may be sent again when its answer is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Repeat {
    Freely,
    UnlessDone,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub options: ClientBuilder,
    pub runtime: Handle,
    endpoint: quinn::Endpoint,
    state: Mutex<State>,
    view: watch::Sender<Arc<View>>,
    /// The set of topics to be informed of has grown.
    interest_grew: Notify,
    is_down: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    bootstrap: Vec<Arc<Broker>>,
    next_bootstrap: usize,
    nodes: BTreeMap<i32, Arc<Broker>>,
    interest: BTreeSet<Arc<str>>,
    coordinators: HashMap<String, i32>,
    info: Option<BrokerInfo>,
}

impl Cluster {
    /// Connects to one of the addresses and begins to watch the cluster.
    pub async fn connect(
        options: ClientBuilder,
        addresses: Vec<Address>,
    ) -> Result<Arc<Self>, ConnectError> {
        let socket = |reason: String| ConnectError::Socket { reason };
        let any = [
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        ];
        let mut bound = Err("no address family".to_owned());
        for address in any {
            bound = bateau_quic::bind(address, &options.quic).map_err(|error| error.to_string());
            if bound.is_ok() {
                break;
            }
        }
        let (udp, _) = bound.map_err(socket)?;
        let endpoint = bateau_quic::endpoint(udp, None, &options.quic);
        let endpoint = endpoint.map_err(|error| socket(error.to_string()))?;
        let breaker = |_: &Address| Breaker::new(options.breaker);
        let broker = |address: Address| {
            let breaker = breaker(&address);
            Broker::named(address, breaker)
        };
        let state = State {
            bootstrap: addresses.into_iter().map(broker).collect(),
            next_bootstrap: 0,
            nodes: BTreeMap::new(),
            interest: BTreeSet::new(),
            coordinators: HashMap::new(),
            info: None,
        };
        let cluster = Arc::new(Self {
            runtime: Handle::current(),
            endpoint,
            state: Mutex::new(state),
            view: watch::Sender::new(Arc::default()),
            interest_grew: Notify::new(),
            is_down: watch::Sender::new(false),
            options,
        });
        // Dropped by its caller before the end, it leaves no socket and no task behind.
        let guard = ShutDownUnlessKept { cluster: Some(Arc::clone(&cluster)) };
        cluster.first_connection().await?;
        guard.keep();
        cluster.runtime.spawn(watcher::run(Arc::clone(&cluster)));
        Ok(cluster)
    }

    async fn first_connection(&self) -> Result<(), ConnectError> {
        let time = self.options.connect_timeout;
        let started = Instant::now();
        let deadline = started + time;
        let mut retry = Retry::new(self.options.retry, started, deadline);
        let mut last = String::from("none was made in time");
        loop {
            let attempt = tokio::time::timeout_at(deadline.into(), self.any()).await;
            let error = match attempt {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => break,
            };
            if !error.is_retryable() {
                return Err(error);
            }
            last = error.to_string();
            let delay = retry.delay_after_failure(Instant::now(), Duration::ZERO, &mut Rng::new());
            let Ok(delay) = delay else { break };
            tokio::time::sleep(delay).await;
        }
        let after_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Err(ConnectError::TimedOut { after_ms, reason: last })
    }

    /// Ends all connections, without waiting until anybody has been told.
    pub fn shut_down(&self) {
        drop(self.end());
    }

    /// Ends all connections and waits until the brokers have been told.
    pub async fn close(&self) {
        for farewell in self.end() {
            farewell.has_left().await;
        }
    }

    fn end(&self) -> Vec<bateau_quic::Farewell> {
        self.is_down.send_replace(true);
        let state = self.lock();
        let brokers = state.bootstrap.iter().chain(state.nodes.values());
        let ended = brokers.filter_map(|broker| broker.close()).collect();
        drop(state);
        self.endpoint.close(quinn::VarInt::from_u32(0), b"");
        ended
    }

    /// Whether [`Self::shut_down`] was called.
    pub fn is_down(&self) -> bool {
        *self.is_down.borrow()
    }

    /// Waits for [`Self::shut_down`].
    pub async fn down(&self) {
        let mut down = self.is_down.subscribe();
        // The sender lives as long as `self`.
        let _ = down.wait_for(|down| *down).await;
    }

    pub fn rebind(&self) -> std::io::Result<()> {
        let local = self.endpoint.local_addr()?;
        let any = match local {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let (socket, _) = bateau_quic::bind(any, &self.options.quic)?;
        self.endpoint.rebind(socket)
    }

    pub fn broker_info(&self) -> BrokerInfo {
        let none = || BrokerInfo {
            cluster_id: String::new(),
            node_id: -1,
            version: String::new(),
            durability: crate::record::Durability::Ephemeral,
            protocol_version: 0,
        };
        self.lock().info.clone().unwrap_or_else(none)
    }

    /// The deadline of one request, as brokers are told it.
    pub fn timeout_ms(&self) -> i32 {
        i32::try_from(self.options.timeout.as_millis()).unwrap_or(i32::MAX)
    }

    pub fn node_ids(&self) -> Vec<i32> {
        self.lock().nodes.keys().copied().collect()
    }

    /// What is known now, and a way to wait for more.
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// The connection to a node, if there is one.
    pub fn current(&self, node: i32) -> Option<Arc<Connection>> {
        self.lock().nodes.get(&node)?.current()
    }

    /// A connection to any broker, made if need be.
    async fn any(&self) -> Result<Arc<Connection>, ConnectError> {
        let (nodes, bootstrap) = {
            let mut state = self.lock();
            let nodes: Vec<_> = state.nodes.values().cloned().collect();
            let first = state.next_bootstrap % state.bootstrap.len().max(1);
            state.next_bootstrap = first + 1;
            let mut bootstrap = state.bootstrap.clone();
            // Below the length: the remainder of a division by it.
            bootstrap.rotate_left(first);
            (nodes, bootstrap)
        };
        let there: Vec<_> =
            nodes.iter().chain(&bootstrap).filter_map(|broker| broker.current()).collect();
        if let Some(connection) = there.iter().find(|connection| !connection.is_suspect()) {
            return Ok(Arc::clone(connection));
        }
        let mut last = ConnectError::Closed;
        for broker in bootstrap.iter().chain(&nodes).filter(|broker| broker.current().is_none()) {
            if self.is_down() {
                return Err(ConnectError::Closed);
            }
            match broker.connection(self).await {
                Ok(connection) => {
                    self.greeted(broker, &connection);
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        // One that is suspect may be alive; there is no other.
        there.into_iter().find(|connection| connection.is_usable()).ok_or(last)
    }

    /// A broker of the bootstrap list has said who it is.
    fn greeted(&self, broker: &Arc<Broker>, connection: &Connection) {
        let mut state = self.lock();
        let node = connection.info.node_id;
        state.info = Some(connection.info.clone());
        // The address that works is better than the one that metadata names.
        state.nodes.insert(node, Arc::clone(broker));
    }

    /// A connection to this node, made if need be.
    pub async fn node(&self, node: i32) -> Result<Arc<Connection>, RequestError> {
        if self.is_down() {
            return Err(RequestError::Closed);
        }
        let broker = self.lock().nodes.get(&node).cloned();
        let Some(broker) = broker else {
            let message = format!("node {node} is not known yet");
            return Err(RequestError::of_code(ErrorCode::LEADER_NOT_AVAILABLE, message));
        };
        let connection = broker.connection(self).await?;
        if connection.info.node_id != node {
            // Another broker has the address now: what was asked for is not there.
            let message = format!("node {} is where node {node} was", connection.info.node_id);
            return Err(RequestError::of_code(ErrorCode::NOT_LEADER_OR_FOLLOWER, message));
        }
        Ok(connection)
    }

    async fn route(&self, target: &Target) -> Result<Arc<Connection>, RequestError> {
        match target {
            Target::Any => Ok(self.any().await?),
            Target::Node(node) => self.node(*node).await,
            Target::Controller => match self.view().controller {
                Some(node) if self.lock().nodes.contains_key(&node) => self.node(node).await,
                _ => Ok(self.any().await?),
            },
            Target::Coordinator(group) => {
                let known = self.lock().coordinators.get(group).copied();
                match known {
                    Some(node) => self.node(node).await,
                    None => self.find_coordinator(group).await,
                }
            }
            Target::Leader { topic, partition } => {
                let view = self.view();
                let leader = view.topic_by_id(*topic).and_then(|topic| topic.partition(*partition));
                let Some(leader) = leader.filter(|leader| leader.leader_id >= 0) else {
                    let message = format!("partition {partition} has no leader");
                    return Err(RequestError::of_code(ErrorCode::LEADER_NOT_AVAILABLE, message));
                };
                self.node(leader.leader_id).await
            }
        }
    }

    async fn find_coordinator(&self, group: &str) -> Result<Arc<Connection>, RequestError> {
        let any = self.any().await?;
        let request = CoordinatorRequest { group_id: group.to_owned().into() };
        let node = any.control.call(&request).await?.node_id;
        {
            let mut state = self.lock();
            if state.coordinators.len() >= COORDINATORS_MAX {
                state.coordinators.clear();
            }
            state.coordinators.insert(group.to_owned(), node);
        }
        self.node(node).await
    }

    /// Asks for a topic's leaders once more. Failing is no matter: the caller tries again.
    pub async fn refresh(&self, name: &str) {
        let request = metadata_request([name], false);
        let asked = async {
            let connection = self.any().await.ok()?;
            connection.control.call(&request).await.ok()
        };
        if let Ok(Some(metadata)) = tokio::time::timeout(Duration::from_secs(5), asked).await {
            self.learn(&metadata);
        }
    }

    /// A topic's partitions, asked for if they are not known. From now on they are watched.
    ///
    /// Errors: UNKNOWN_TOPIC_OR_PARTITION, if it does not exist and is not made either.
    pub async fn topic(
        &self,
        name: &str,
        auto_create: bool,
        time: Duration,
    ) -> Result<Arc<TopicView>, RequestError> {
        self.watch_topic(name);
        if let Some(topic) = self.view().topic(name) {
            return Ok(Arc::clone(topic));
        }
        let request = metadata_request([name], auto_create);
        let attempt = async || {
            let connection = self.any().await.map_err(|e| Failure::not_sent(e.into()))?;
            let metadata = connection.control.call(&request).await.map_err(Failure::sent)?;
            self.learn(&metadata);
            let code = metadata.topics.first().map_or(ErrorCode::NONE, |topic| topic.error_code);
            if let (ErrorCode::NONE, Some(topic)) = (code, self.view().topic(name)) {
                return Ok(Arc::clone(topic));
            }
            let mut error = RequestError::of_code(code, format!("topic `{name}`"));
            if let RequestError::Broker(error) = &mut error {
                // One that does not exist is not waited for.
                error.is_retryable &= code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
                error.is_retryable |= code.is_none();
            }
            Err(Failure::not_sent(error))
        };
        self.retrying(time, "Metadata", Repeat::Freely, None, attempt).await
    }

    /// A topic that is not made for being asked for.
    pub async fn existing_topic(&self, name: &str) -> Result<Arc<TopicView>, AdminError> {
        match self.topic(name, false, self.options.timeout).await {
            Ok(topic) => Ok(topic),
            Err(error) if error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {
                Err(AdminError::NotFound { name: name.to_owned() })
            }
            Err(error) => Err(error.into()),
        }
    }

    pub async fn all_topics(&self) -> Result<MetadataResponse, RequestError> {
        let request = MetadataRequest { topics: None, auto_create: false };
        let metadata = self.call(Target::Any, Repeat::Freely, request).await?;
        self.learn_nodes(&metadata);
        Ok(metadata)
    }

    /// Keeps informed of a topic from now on.
    pub fn watch_topic(&self, name: &str) {
        let mut state = self.lock();
        if state.interest.contains(name) || state.interest.len() >= TOPICS_MAX {
            return;
        }
        state.interest.insert(name.into());
        drop(state);
        self.interest_grew.notify_one();
    }

    /// Takes in what a broker says of the cluster.
    fn learn(&self, metadata: &MetadataResponse) {
        self.learn_nodes(metadata);
        for node in self.view().deposed_by(metadata) {
            if let Some(connection) = self.current(node) {
                connection.doubt();
            }
        }
        self.view.send_if_modified(|view| Arc::make_mut(view).learn(metadata));
    }

    fn learn_nodes(&self, metadata: &MetadataResponse) {
        let mut state = self.lock();
        for node in metadata.nodes.iter().take(NODES_MAX) {
            let Ok(port) = u16::try_from(node.port) else { continue };
            let broker = state.nodes.entry(node.node_id).or_insert_with(|| {
                let address = Address { host: node.host.as_str().to_owned(), port, pin: None };
                Broker::told_of(address, Breaker::new(self.options.breaker))
            });
            let pin = <[u8; 32]>::try_from(&*node.key_sha256).ok().map(SpkiPin::from_bytes);
            broker.told(&node.host, port, pin);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct ShutDownUnlessKept {
    cluster: Option<Arc<Cluster>>,
}

impl ShutDownUnlessKept {
    fn keep(mut self) {
        self.cluster = None;
    }
}

impl Drop for ShutDownUnlessKept {
    fn drop(&mut self) {
        if let Some(cluster) = &self.cluster {
            cluster.shut_down();
        }
    }
}

fn metadata_request<'a>(
    names: impl IntoIterator<Item = &'a str>,
    auto_create: bool,
) -> MetadataRequest {
    let name = |name: &str| TopicName { name: name.to_owned().into(), id: TopicId::ZERO };
    MetadataRequest { topics: Some(names.into_iter().map(name).collect()), auto_create }
}
