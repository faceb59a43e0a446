//! Who may connect: open connections of the node and of each client address, and new ones per
//! second (reliability rule S5).
//!
//! Invariant: the table of addresses holds those with an open connection and those that opened one
//! within the last second, nothing else.
//!
//! Absent on purpose: principals, and closing old connections in favour of new ones.

use crate::config::Limits;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Over which new connections are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts connections. One for all listeners of the node.
#[derive(Debug)]
pub struct Admission {
    connections_max: usize,
    per_address_max: Option<u32>,
    per_address_second_max: Option<u32>,
    open: usize,
    addresses: BTreeMap<IpAddr, Address>,
    window_start: Instant,
}

#[derive(Debug, Default)]
struct Address {
    open: u32,
    opened_in_window: u32,
}

/// Why a connection is closed as soon as it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// The node's limit.
    #[error("{0} connections are open, which is the limit")]
    Node(usize),
    /// The address's limit.
    #[error("the address has {0} open connections, which is the limit")]
    Address(u32),
    /// The address's limit for a second.
    #[error("the address has opened {0} connections within a second, which is the limit")]
    AddressRate(u32),
}

impl Admission {
    /// Nobody is connected yet.
    pub fn new(limits: &Limits, now: Instant) -> Self {
        Self {
            connections_max: usize::try_from(limits.connections_max).unwrap_or(usize::MAX),
            per_address_max: limits.connections_per_ip_max,
            per_address_second_max: limits.connections_per_ip_second_max,
            open: 0,
            addresses: BTreeMap::new(),
            window_start: now,
        }
    }

    /// Lets a connection in, or says why not.
    pub fn admit(&mut self, peer: IpAddr, now: Instant) -> Result<(), Refused> {
        if self.open >= self.connections_max {
            return Err(Refused::Node(self.open));
        }
        if let Some(key) = self.counted(peer) {
            if now.duration_since(self.window_start) >= WINDOW {
                self.window_start = now;
                self.addresses.retain(|_, address| address.open > 0);
                self.addresses.values_mut().for_each(|address| address.opened_in_window = 0);
            }
            let address = self.addresses.entry(key).or_default();
            if self.per_address_max.is_some_and(|max| address.open >= max) {
                return Err(Refused::Address(address.open));
            }
            if self.per_address_second_max.is_some_and(|max| address.opened_in_window >= max) {
                return Err(Refused::AddressRate(address.opened_in_window));
            }
            address.open += 1;
            address.opened_in_window += 1;
        }
        self.open += 1;
        Ok(())
    }

    /// A connection that was let in has ended.
    pub fn leave(&mut self, peer: IpAddr) {
        self.open = self.open.saturating_sub(1);
        if let Some(key) = self.counted(peer)
            && let Some(address) = self.addresses.get_mut(&key)
        {
            address.open = address.open.saturating_sub(1);
        }
    }

    /// The key under which an address is counted; `None` where it is not.
    fn counted(&self, peer: IpAddr) -> Option<IpAddr> {
        let has_limit = self.per_address_max.is_some() || self.per_address_second_max.is_some();
        let peer = peer.to_canonical();
        (has_limit && !peer.is_loopback()).then(|| match peer {
            IpAddr::V4(_) => peer,
            // One household or machine has a /64: its addresses are one.
            IpAddr::V6(six) => {
                let network = u128::from(six) & !u128::from(u64::MAX);
                IpAddr::V6(Ipv6Addr::from(network))
            }
        })
    }
}

/// A place among the open connections, given back when dropped.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Mutex<Admission>>,
    peer: IpAddr,
}

impl Admitted {
    /// Lets a connection in.
    ///
    /// Errors: why not.
    pub fn enter(admission: &Arc<Mutex<Admission>>, peer: IpAddr) -> Result<Self, Refused> {
        let mut counts = admission.lock().unwrap_or_else(PoisonError::into_inner);
        counts.admit(peer, Instant::now())?;
        Ok(Self { admission: Arc::clone(admission), peer })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner).leave(self.peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(node: u32, address: Option<u32>, rate: Option<u32>) -> Limits {
        Limits {
            connections_max: node,
            connections_per_ip_max: address,
            connections_per_ip_second_max: rate,
            ..Limits::default()
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("a literal address")
    }

    #[test]
    fn the_node_has_so_many_connections_and_no_more() {
        let now = Instant::now();
        let mut admission = Admission::new(&limits(2, None, None), now);
        let peer = address("127.0.0.1");
        assert_eq!(admission.admit(peer, now), Ok(()));
        assert_eq!(admission.admit(peer, now), Ok(()));
        assert_eq!(admission.admit(peer, now), Err(Refused::Node(2)));
        admission.leave(peer);
        assert_eq!(admission.admit(peer, now), Ok(()));
    }

    #[test]
    fn an_address_has_a_share_of_its_own_and_loopback_has_none() {
        let now = Instant::now();
        let mut admission = Admission::new(&limits(100, Some(1), None), now);
        assert_eq!(admission.admit(address("192.0.2.1"), now), Ok(()));
        assert_eq!(admission.admit(address("192.0.2.1"), now), Err(Refused::Address(1)));
        assert_eq!(admission.admit(address("::ffff:192.0.2.1"), now), Err(Refused::Address(1)));
        assert_eq!(admission.admit(address("192.0.2.2"), now), Ok(()));
        assert_eq!(admission.admit(address("2001:db8::1"), now), Ok(()));
        assert_eq!(admission.admit(address("2001:db8::2"), now), Err(Refused::Address(1)));
        for _ in 0..5 {
            assert_eq!(admission.admit(address("::1"), now), Ok(()));
        }
    }

    #[test]
    fn an_address_that_reconnects_in_a_storm_is_let_in_again_a_second_later() {
        let now = Instant::now();
        let mut admission = Admission::new(&limits(100, None, Some(2)), now);
        let peer = address("192.0.2.1");
        for _ in 0..2 {
            assert_eq!(admission.admit(peer, now), Ok(()));
            admission.leave(peer);
        }
        assert_eq!(admission.admit(peer, now), Err(Refused::AddressRate(2)));
        assert_eq!(admission.admit(peer, now + WINDOW), Ok(()));
        admission.leave(peer);
        assert_eq!(admission.admit(address("192.0.2.9"), now + 2 * WINDOW), Ok(()));
        assert_eq!(admission.addresses.len(), 1, "those that left are forgotten");
    }
}
