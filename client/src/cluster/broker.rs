//! One broker: its address, its breaker, and its connection while there is one.
//!
//! Invariants
//! - There is one connection to a broker at a time, and one attempt to make it.
//! - An attempt has a bounded time, which grows from attempt to attempt.
//!
//! Absent on purpose: retrying, which is under the deadline of whoever needs the broker.

use super::Cluster;
use crate::address::Address;
use crate::breaker::{Breaker, Outcome};
use crate::connection::Connection;
use crate::error::ConnectError;
use bateau_quic::Farewell;
use bateau_quic::contexts::{Contexts, config_directory};
use bateau_quic::{IdentitySource, SpkiPin, Trust, TrustError, client_config_as};
use fastrand::Rng;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first attempt's time; it doubles.
const ATTEMPT_TIME_FIRST: Duration = Duration::from_secs(1);

/// The longest attempt.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub(crate) struct Broker {
    state: Mutex<State>,
    /// Held while connecting.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    address: Address,
    /// The key that another broker of the cluster says this one has. None for a broker that the
    /// user has named: whom to trust there is the user's word.
    told_pin: Option<SpkiPin>,
    is_named: bool,
    breaker: Breaker,
    connection: Option<Arc<Connection>>,
    failures: u32,
}

impl Broker {
    /// A broker that the user has named.
    pub fn named(address: Address, breaker: Breaker) -> Arc<Self> {
        Self::new(address, breaker, true)
    }

    /// A broker that others have told of.
    pub fn told_of(address: Address, breaker: Breaker) -> Arc<Self> {
        Self::new(address, breaker, false)
    }

    fn new(address: Address, breaker: Breaker, is_named: bool) -> Arc<Self> {
        let (told_pin, connection, failures) = (None, None, 0);
        let state = State { address, told_pin, is_named, breaker, connection, failures };
        Arc::new(Self { state: Mutex::new(state), connecting: tokio::sync::Mutex::new(()) })
    }

    /// The connection, if there is one that takes requests.
    pub fn current(&self) -> Option<Arc<Connection>> {
        let state = self.lock();
        state.connection.as_ref().filter(|connection| connection.is_usable()).cloned()
    }

    /// The cluster says where the broker is now, and which key it has.
    pub fn told(&self, host: &str, port: u16, pin: Option<SpkiPin>) {
        let mut state = self.lock();
        state.told_pin = pin.filter(|_| !state.is_named);
        let is_down = state.connection.as_ref().is_none_or(|connection| !connection.is_usable());
        // An address that worked is better than one that was only told, until it fails.
        if is_down
            && state.failures > 0
            && (state.address.host != host || state.address.port != port)
        {
            host.clone_into(&mut state.address.host);
            state.address.port = port;
        }
    }

    /// The connection, made now if there is none.
    pub async fn connection(&self, cluster: &Cluster) -> Result<Arc<Connection>, ConnectError> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let (address, told_pin, permit, failures) = {
            let mut state = self.lock();
            state.connection = None;
            let permit = state.breaker.try_call(Instant::now());
            let permit = permit.map_err(|open| ConnectError::BreakerOpen {
                address: state.address.to_string(),
                reason: open.to_string(),
            })?;
            (state.address.clone(), state.told_pin, permit, state.failures)
        };
        let doubled = ATTEMPT_TIME_FIRST.saturating_mul(1 << failures.min(8));
        let time = doubled.min(ATTEMPT_TIME_MAX);
        let outcome = attempt(cluster, &address, told_pin, time).await;
        let answered = match &outcome {
            Ok(_)
            | Err(
                ConnectError::Refused { .. }
                | ConnectError::IdentityRefused { .. }
                | ConnectError::Greeting { .. },
            ) => Outcome::Answered,
            Err(_) => Outcome::Unreachable,
        };
        let mut state = self.lock();
        state.breaker.report(permit, answered, Instant::now(), &mut Rng::new());
        let connection = match outcome {
            Ok(connection) => connection,
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                return Err(error);
            }
        };
        state.failures = 0;
        state.connection = Some(Arc::clone(&connection));
        drop(state);
        Ok(connection)
    }

    /// Ends the connection, if there is one.
    pub fn close(&self) -> Option<Farewell> {
        let connection = self.lock().connection.take()?;
        Some(connection.close())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn attempt(
    cluster: &Cluster,
    address: &Address,
    told_pin: Option<SpkiPin>,
    time: Duration,
) -> Result<Arc<Connection>, ConnectError> {
    let remote = resolve(address).await?;
    let trust = trust(cluster, address, told_pin, remote)?;
    let unusable = |error: TrustError| match error {
        error @ TrustError::BadIdentity { .. } => {
            ConnectError::Identity { reason: error.to_string() }
        }
        error => ConnectError::Trust { address: address.to_string(), reason: error.to_string() },
    };
    let identity = cluster.options.identity.as_ref().map(IdentitySource::load);
    let identity = identity.transpose().map_err(unusable)?;
    let config = client_config_as(identity, trust, &cluster.options.quic).map_err(unusable)?;
    let opening = Connection::open(&cluster.endpoint, config, remote, address, &cluster.options);
    match tokio::time::timeout(time, opening).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ConnectError::Unreachable {
            address: address.to_string(),
            reason: format!("no answer within {} ms", time.as_millis()),
        }),
    }
}

async fn resolve(address: &Address) -> Result<SocketAddr, ConnectError> {
    if let Ok(ip) = address.host.parse() {
        return Ok(SocketAddr::new(ip, address.port));
    }
    let failed = |reason: String| ConnectError::Resolve { host: address.host.clone(), reason };
    let found = tokio::net::lookup_host((address.host.as_str(), address.port)).await;
    let mut found: Vec<_> = found.map_err(|error| failed(error.to_string()))?.collect();
    // Brokers of a developer listen on IPv4 first.
    found.sort_by_key(SocketAddr::is_ipv6);
    found.into_iter().next().ok_or_else(|| failed("no address".to_owned()))
}

/// Whom to trust: the address's own pin; else, where no authorities were given, the key that a
/// trusted broker of the cluster has told; else the client's pin, its authorities, or for a
/// loopback address what the user's context file says.
fn trust(
    cluster: &Cluster,
    address: &Address,
    told_pin: Option<SpkiPin>,
    remote: SocketAddr,
) -> Result<Trust, ConnectError> {
    let bad = |reason: String| ConnectError::Trust { address: address.to_string(), reason };
    let options = &cluster.options;
    // Authorities vouch for each broker by itself; no broker's word is put in their place.
    let told_pin = told_pin.filter(|_| options.authorities_pem.is_none());
    if let Some(pin) = address.pin.or(told_pin).or(options.pin) {
        return Ok(Trust::Pin(pin));
    }
    if let Some(pem) = &options.authorities_pem {
        return Trust::roots_from_pem(pem).map_err(|error| bad(error.to_string()));
    }
    let nobody = || ConnectError::NoTrust { address: address.to_string() };
    let directory = config_directory().ok_or_else(nobody)?;
    let contexts = Contexts::load(&directory).map_err(|error| bad(error.to_string()))?;
    contexts.loopback_pin(remote).map(Trust::Pin).ok_or_else(nobody)
}
